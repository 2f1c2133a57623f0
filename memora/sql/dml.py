"""INSERT, UPDATE and DELETE: from the syntax tree to a program that writes."""
from __future__ import annotations

from ..errors import NotSupportedError, OperationalError
from . import ast, bound, plan, sequence, triggers
from .binder import Scope
from .bound import JoinNode, Leaf, Rel
from .catalog import SCHEMA_NAMES, Table, View, fold
from .changes import Delete, IndexBuild, Insert, Instead, Update, Upsert
from .compile import Compiler
from .delta import TERMS, Count
from .indexforms import bare
from .planner import Planner
from .program import WriteProgram
from .queries import QueryBinder
from .record import SlotSource
from .runtime import Context
from .types import TEXT
from .writer import IndexWriter, TableWriter


def target(environment, name, event=None, columns=()):
    """The table that a statement may change; or the view, if triggers stand for the event. columns: the names that an UPDATE sets."""
    found = environment.schema.get(name.name, None if name.schema is None else fold(name.schema))
    if isinstance(found, View):
        if event is not None and triggers.set_off(environment, found, event, {fold(column) for column in columns}):
            return found
        raise OperationalError(f"cannot modify {found.name} because it is a view")
    if fold(name.name) in SCHEMA_NAMES:
        raise OperationalError(f"table {name.name} may not be modified")
    if not isinstance(found, Table):
        if found is not None and found["kind"] != "index":
            raise NotSupportedError(f"{name.name} is a {found['kind']}: SQL cannot change it yet")
        raise OperationalError(f"no such table: {environment.shown(name)}")
    return found


def make_writer(c, binder, table):
    """The TableWriter of a table, with its indexes and checks compiled."""
    none = Scope()
    columns = []
    for i, column in enumerate(table.columns):
        default = c.expr(binder.expr(column.default, none)) if column.default is not None else None
        type_ = (column.decltype or "").upper() if table.strict else None
        columns.append((column.name, column.affinity, column.not_null or None, default, type_))
    writer = TableWriter(c.context_of(table), table.name, table.tree, table.version, columns, table.rowid_column, table.has_rowid,
                         table.rowid_conflict, table.defaults)
    rel = QueryBinder.own_rel(table)
    c.sources[rel] = (writer.row, None)
    scope = Scope()
    scope.rels.append(rel)
    indexes = [index_writer(c, binder, index, scope) for index in table.indexes]
    checks = [(c.expr(binder.expr(check.expr, scope)), check.name or check.text) for check in table.checks]
    primary = None if table.has_rowid else index_writer(c, binder, table.primary_key, scope)
    counter = sequence.Counter(sequence.schema_of(c.environment.schema, table), table) if table.autoincrement else None
    virtual = [n for n in table.generated if table.columns[n].generated == "virtual"]
    writer.complete(indexes, checks, primary, counter, c.generated(table, writer.row, table.generated) if table.generated else None,
                    virtual)
    c.compute(table, writer.old)
    return writer


def index_writer(c, binder, index, scope):
    numbers, exprs = [], []
    for column in index.columns:
        if isinstance(column, int):
            numbers.append(column)
            exprs.append(None)
        else:
            numbers.append(None)
            exprs.append(c.expr(binder.expr(column, scope)))
    where = None if index.where is None else c.expr(binder.expr(index.where, scope))
    if None in numbers:
        message = f"UNIQUE constraint failed: index '{index.name}'"
    else:
        message = "UNIQUE constraint failed: " + ", ".join(
            f"{index.table.name}.{plan.column_name(index.table, n)}" for n in numbers)
    return IndexWriter(index.tree, numbers, exprs, list(index.collations), [bool(d) for d in index.descending], index.unique,
                       where, index.conflict, message)


def start(environment, statement):
    binder = QueryBinder(environment)
    planner = Planner(environment)
    c = Compiler(Context(0 if statement is None else len(statement.params)), planner)
    c.context.control = environment.session.control
    c.environment = environment
    return binder, planner, c


def finished(planner, program):
    program.guesses = planner.guesses()
    return program


def returning(binder, c, nodes, rel, source):
    """(result expressions, column names) of RETURNING, or (None, None)."""
    if nodes is None:
        return None, None
    scope = Scope()
    scope.rels.append(rel)
    columns = binder.result_columns(nodes, scope, None)
    c.sources[rel] = (source, None)
    return [c.expr(e) for _, e in columns], tuple(name for name, _ in columns)


# --- INSERT ------------------------------------------------------------------------------------------------------

def insert(environment, node):
    """The WriteProgram of an INSERT or REPLACE."""
    binder, planner, c = start(environment, node)
    table = target(environment, node.table, "INSERT")
    environment.ask("INSERT", table)
    scope = environment.scope()
    if node.with_ is not None:
        scope = binder.with_scope(node.with_, scope)
    if isinstance(table, View):
        return insert_view(environment, node, binder, planner, c, table, scope)
    if node.columns is None:
        places = [i for i, column in enumerate(table.columns) if not column.generated]
    else:
        places = [insert_place(table, name) for name in node.columns]
    action = environment.conflict or node.or_action
    writer = make_writer(c, binder, table)
    triggers.attach(environment, writer, table, "INSERT", None, action, bool(node.upserts))
    op, values, places = insert_values(binder, planner, c, node, scope, table, places)
    sources, rowid = [None] * len(table.columns), None
    for place, e in zip(places, values):
        if place < 0:
            if table.rowid_column >= 0:
                sources[table.rowid_column] = sources[table.rowid_column] or e
            else:
                rowid = rowid or e
        elif sources[place] is None:
            # a column that is named twice takes the first value, as in SQLite
            sources[place] = e
    none = Scope()
    for i, column in enumerate(table.columns):
        if sources[i] is None:
            sources[i] = c.expr(binder.expr(column.default, none) if column.default is not None else bound.Const(None))
    rel = QueryBinder.own_rel(table)
    rel.alias = node.alias
    upsert = make_upsert(binder, c, node, table, rel, writer) if node.upserts else None
    results, columns = returning(binder, c, node.returning, rel, writer.new)
    work = Insert(op, writer, sources, rowid, action, results, upsert)
    return finished(planner, WriteProgram(c.context, work, writer, c.ops, columns, True, table.database, writer.watch))


def insert_values(binder, planner, c, node, scope, table, places):
    """(operator, expressions, the columns that they are for) of the rows to insert."""
    if node.source is None:
        return plan.SingleRow().build(c), [], []
    op, values = insert_source(binder, planner, c, node, scope)
    if len(values) != len(places):
        if node.columns is None:
            raise OperationalError(f"table {table.name} has {len(places)} columns but {len(values)} values were supplied")
        raise OperationalError(f"{len(values)} values for {len(places)} columns")
    return op, values, places


def insert_view(environment, node, binder, planner, c, view, scope):
    """INSERT into a view: its triggers do the rest."""
    if node.upserts:
        raise OperationalError("cannot UPSERT a view")
    rel = Rel("rows", view.name, node.alias, QueryBinder(environment).columns_of(view))
    names = [fold(column.name) for column in rel.columns]
    places = range(len(names))
    if node.columns is not None:
        for name in node.columns:
            if fold(name) not in names:
                raise OperationalError(f"table {view.name} has no column named {name}")
        places = [names.index(fold(name)) for name in node.columns]
    op, values, places = insert_values(binder, planner, c, node, scope, view, places)
    news = [None] * len(names)
    for place, e in zip(places, values):
        news[place] = news[place] or e
    news = [c.expr(bound.Const(None)) if e is None else e for e in news]
    effects = triggers.effects(environment, view, "INSERT", None, environment.conflict or node.or_action)
    new = SlotSource()
    results, columns = returning(binder, c, node.returning, rel, new)
    work = Instead(op, None, news, True, SlotSource(), new, effects, results)
    return finished(planner, WriteProgram(c.context, work, None, c.ops, columns, True, view.database, effects.watch))


def insert_place(table, name):
    place = table.find(name)
    if place is None:
        raise OperationalError(f"table {table.name} has no column named {name}")
    if place >= 0 and table.columns[place].generated:
        raise OperationalError(f'cannot INSERT into generated column "{name}"')
    return place


def insert_source(binder, planner, c, node, scope):
    query = binder.select(node.source, scope)
    found = planner.query(query)
    if type(query) is bound.ValuesQuery:
        root = found.root.build(c)
        return root, c.exprs(found.exprs)
    # The rows are taken whole before the first is written: cursors do not outlive a write, and the source may be the target.
    rel = QueryBinder.query_rel(query, None, None)
    columns = [bound.Col(rel, i) for i in range(len(query.exprs))]
    root = plan.Materialize(rel, found, query).build(c)
    return root, c.exprs(columns)


def make_upsert(binder, c, node, table, rel, writer):
    """The chain of a statement's ON CONFLICT clauses; of several, the first one whose key is taken acts."""
    made = [one_upsert(binder, c, clause, table, rel, writer, clause is node.upserts[-1]) for clause in node.upserts]
    for (upsert, _), (other, _) in zip(made, made[1:]):
        upsert.other = other
    if len(made) > 1:
        first = [target for _, targets in made if targets is not None for target in targets]
        writer.order = [*dict.fromkeys(first), *(i for i in writer.order if i not in first)]
    return made[0][0]


def one_upsert(binder, c, clause, table, rel, writer, last):
    targets = None
    if clause.target:
        targets = [upsert_target(binder, table, clause)]
    elif not last:
        raise OperationalError("only the last ON CONFLICT clause may omit its target")
    if clause.assignments is None:
        return Upsert(targets, [], None, None, None, len(table.columns)), targets
    excluded = Rel("rows", "excluded", "excluded", rel.columns)
    source = SlotSource()
    scope = Scope(c.environment.scope())
    scope.rels += [rel, excluded]
    scope.hidden.update((id(excluded), i) for i in range(len(excluded.columns)))     # only by its name
    c.sources[rel] = (writer.old, None)
    c.sources[excluded] = (source, None)
    columns, exprs = assignments(binder, c, table, clause.assignments, scope)
    where = None if clause.where is None else c.expr(binder.expr(clause.where, scope))
    effects = None
    if c.environment.watches(table):
        effects = triggers.effects(c.environment, table, "UPDATE", set(columns), "ABORT")
    return Upsert(targets, columns, exprs, where, source, len(table.columns), effects), targets


def upsert_target(binder, table, clause):
    """The position in table.indexes of the key that ON CONFLICT (...) names; -1 is the row's own key.

    Columns and expressions count, their order and collations do not; a partial index also wants its own condition behind the target."""
    rel = QueryBinder.own_rel(table)
    scope = Scope()
    scope.rels.append(rel)

    def key(node):
        return bare(binder.expr(node, scope)).key()

    def keys(index):
        return {bound.Col(rel, column).key() if isinstance(column, int) else key(column) for column in index.columns}
    wanted = {key(item.expr) for item in clause.target}
    if table.has_rowid and wanted == {bound.Col(rel, -1).key()}:
        return -1
    if not table.has_rowid and wanted == keys(table.primary_key):
        return -1
    where = None if clause.target_where is None else binder.expr(clause.target_where, scope).key()
    for i, index in enumerate(table.indexes):
        if index.unique and len(index.columns) == len(clause.target) and keys(index) == wanted and (
                index.where is None or binder.expr(index.where, scope).key() == where):
            return i
    raise OperationalError("ON CONFLICT clause does not match any PRIMARY KEY or UNIQUE constraint")


def bind_assignments(binder, table, nodes, scope):
    """[(column, bound expression)] of SET."""
    found = []
    for node in nodes:
        places = [assigned_place(table, name) for name in node.columns]
        value = binder.any(node.value, scope)
        if len(places) == 1:
            values = [value]
            if type(value) is bound.Row:
                raise OperationalError(f"1 columns assigned {len(value.items)} values")
        elif type(value) is bound.Row:
            values = value.items
        elif type(value) is bound.Scalar:
            values = binder.spread(value)
        else:
            values = [value]
        if len(values) != len(places):
            raise OperationalError(f"{len(places)} columns assigned {len(values)} values")
        found.extend(zip(places, values))
    return found            # in order, so that the last assignment of a column counts


def assigned_place(table, name):
    """The number of a column that SET names; table: a Table, or the Rel of a view."""
    if isinstance(table, Rel):
        place = next((i for i, column in enumerate(table.columns) if fold(column.name) == fold(name)), None)
        if place is None:
            raise OperationalError(f"no such column: {name}")
        return place
    place = table.find(name)
    if place == -1 and table.rowid_column >= 0:
        place = table.rowid_column
    if place is None:
        raise OperationalError(f"no such column: {name}")
    if place >= 0 and table.columns[place].generated:
        raise OperationalError(f'cannot UPDATE generated column "{name}"')
    return place            # -1: the rowid of a table without INTEGER PRIMARY KEY


def assignments(binder, c, table, nodes, scope):
    pairs = bind_assignments(binder, table, nodes, scope)
    return [place for place, _ in pairs], [c.expr(e) for _, e in pairs]


# --- UPDATE and DELETE -------------------------------------------------------------------------------------------

def change_query(binder, environment, node, table):
    """(query, scope, rel): the rows that UPDATE or DELETE is about, as a query without result columns."""
    base = environment.scope()
    if node.with_ is not None:
        base = binder.with_scope(node.with_, base)
    query = bound.Select()
    scope = Scope(base, query)
    rel = binder.view(table, node.table, query) if isinstance(table, View) else binder.table_rel(table, node.table)
    rel.changed = True
    scope.rels.append(rel)
    query.from_ = Leaf(rel)
    if getattr(node, "source", None) is not None:
        query.from_ = JoinNode(query.from_, binder.source(node.source, scope, query), "INNER", [])
    if node.where is not None:
        scope.clause = "where"
        query.where.extend(bound.conjuncts(binder.expr(node.where, scope)))
    for n, term in enumerate(node.order_by):
        query.order_by.append(binder.order_term(term, n, query, scope))
    return binder.limits(query, node, base), scope, rel


def key_columns(table, rel):
    if table.has_rowid:
        return [bound.Col(rel, -1)]
    return [bound.Col(rel, i) for i in table.primary_key.columns]


def update(environment, node):
    """The WriteProgram of an UPDATE."""
    binder, planner, c = start(environment, node)
    names = [name for assignment in node.assignments for name in assignment.columns]
    table = target(environment, node.table.table, "UPDATE", names)
    for name in names:
        environment.ask("UPDATE", table, name)
    if isinstance(table, View):
        return change_view(environment, node, binder, planner, c, table, "UPDATE")
    query, scope, rel = change_query(binder, environment, node, table)
    pairs = bind_assignments(binder, table, node.assignments, scope)
    keys = key_columns(table, rel)
    joined = node.source is not None
    query.exprs = keys + ([e for _, e in pairs] if joined else [])
    action = environment.conflict or node.or_action
    columns = [place for place, _ in pairs]
    writer = make_writer(c, binder, table)
    triggers.attach(environment, writer, table, "UPDATE", set(columns) - {-1}, action)
    found = planner.query(query)
    root = found.root.build(c)
    exprs = c.exprs(found.exprs)
    if joined:
        work = Update(root, writer, exprs[:len(keys)], exprs[len(keys):])
        values = []
    else:
        work = Update(root, writer, exprs, None)
        c.sources[rel] = (writer.old, None)
        values = c.exprs([e for _, e in pairs])
    counter = None if joined or writer.updating is not None else counts(binder, c, table, rel, node, query, pairs)
    results, names = returning(binder, c, node.returning, rel, writer.new)
    work.setup(columns, values, action, results)
    if counter is not None:
        work = Count(writer, work, *counter)
    return finished(planner, WriteProgram(c.context, work, writer, c.ops, names, False, table.database, writer.watch))


def change_view(environment, node, binder, planner, c, view, event):
    """UPDATE or DELETE of a view: all its columns are read, and its triggers do the rest."""
    query, scope, rel = change_query(binder, environment, node, view)
    width = len(rel.columns)
    query.exprs = [bound.Col(rel, i) for i in range(width)]
    row = Rel("rows", view.name, node.table.alias, rel.columns)
    joined = getattr(node, "source", None) is not None
    pairs, action = (), None
    if event == "UPDATE":
        inner = Scope(environment.scope())
        inner.rels.append(row)
        pairs = bind_assignments(binder, rel, node.assignments, scope if joined else inner)
        action = environment.conflict or node.or_action
        if joined:
            query.exprs += [e for _, e in pairs]
    effects = triggers.effects(environment, view, event, {rel.columns[place].name for place, _ in pairs}, action)
    found = planner.query(query)
    root = found.root.build(c)
    olds = c.exprs(found.exprs)
    old, new = SlotSource(), SlotSource()
    c.sources[row] = (old, None)
    news = None
    if event == "UPDATE":
        news = olds[:width] if joined else [c.expr(bound.Col(row, i)) for i in range(width)]
        for n, (place, e) in enumerate(pairs):
            news[place] = olds[width + n] if joined else c.expr(e)
    results, names = returning(binder, c, node.returning, row, old if news is None else new)
    work = Instead(root, olds[:width], news, joined, old, new, effects, results)
    return finished(planner, WriteProgram(c.context, work, None, c.ops, names, False, view.database, effects.watch))


def counts(binder, c, table, rel, node, query, pairs):
    """The arguments of a Count, if an UPDATE adds to numbers of one row that its whole key names, in columns that nothing else looks at
    (no index, CHECK, key, foreign key); else None."""
    if node.returning or node.order_by or node.limit is not None or node.with_ is not None or len(pairs) > TERMS:
        return None
    keys = key_values(table, rel, query.where)
    if keys is None or len({column for column, _ in pairs}) != len(pairs):
        return None
    watched = watched_columns(binder, table)
    terms = []
    for column, e in pairs:
        found = addition(rel, column, e)
        type_ = (table.columns[column].decltype or "").upper() if table.strict else None
        if found is None or column in watched or table.columns[column].affinity == TEXT or type_ == "BLOB":
            return None
        op, by = found
        terms.append((column, table.columns[column].affinity, op, c.expr(by), type_ in ("INT", "INTEGER")))
    return [c.expr(e) for e, _ in keys], [text for _, text in keys], terms


def key_values(table, rel, where):
    """[(value, whether it has to be text)] for each column of the key that WHERE compares with a constant, and nothing else; or None."""
    wanted = [table.rowid_column] if table.has_rowid else table.primary_key.columns
    found = {}
    for term in where:
        if type(term) is not bound.Cmp or term.op != "=" or term.collate:
            return None
        column, value = (term.left, term.right) if type(term.left) is bound.Col else (term.right, term.left)
        if type(column) is not bound.Col or column.rel is not rel or not constant(value):
            return None
        index = column.index if column.index >= 0 else table.rowid_column
        if index in found or index not in wanted:
            return None
        found[index] = value
    if len(found) != len(wanted) or not table.has_rowid and any(table.primary_key.collations):
        return None
    return [(found[i], i >= 0 and table.columns[i].affinity == TEXT) for i in wanted]


def constant(e):
    """Whether a value is made of literals and parameters alone."""
    return type(e) in (bound.Const, bound.Param, bound.Given, bound.Negate, bound.Plus, bound.Arith) and all(
        constant(kid) for kid in e.children())


def addition(rel, column, e):
    """("+" or "-", what is added to the column or taken from it), or None."""
    if type(e) is not bound.Arith or e.op not in ("+", "-"):
        return None
    left, right = (e.right, e.left) if e.op == "+" and type(e.left) is not bound.Col else (e.left, e.right)
    if type(left) is bound.Col and left.rel is rel and left.index == column and constant(right):
        return e.op, right
    return None


def watched_columns(binder, table):
    """Numbers of the columns that a key, an index, a CHECK, a generated column or a foreign key of the table has."""
    rel = QueryBinder.own_rel(table)
    scope = Scope()
    scope.rels.append(rel)
    watched = {table.rowid_column, *(table.primary_key.columns if not table.has_rowid else ())}
    for index in table.indexes:
        watched.update(column for column in index.columns if isinstance(column, int))
        for e in (*(column for column in index.columns if not isinstance(column, int)), index.where):
            if e is not None:
                binder.expr(e, scope)
    for check in table.checks:
        binder.expr(check.expr, scope)
    for number in table.generated:
        watched.update((number, *table.columns[number].needs))
    for _, columns in table.foreign_keys:
        watched.update(table.find(getattr(column, "name", column)) for column in columns)
    return watched.union(column.index for column in rel.refs)


def delete(environment, node):
    """The WriteProgram of a DELETE."""
    binder, planner, c = start(environment, node)
    table = target(environment, node.table.table, "DELETE")
    environment.ask("DELETE", table)
    if isinstance(table, View):
        return change_view(environment, node, binder, planner, c, table, "DELETE")
    query, scope, rel = change_query(binder, environment, node, table)
    query.exprs = key_columns(table, rel)
    writer = make_writer(c, binder, table)
    triggers.attach(environment, writer, table, "DELETE")
    found = planner.query(query)
    root = found.root.build(c)
    exprs = c.exprs(found.exprs)
    work = Delete(root, writer, exprs, None)
    results, names = returning(binder, c, node.returning, rel, writer.old)
    work.setup(results)
    return finished(planner, WriteProgram(c.context, work, writer, c.ops, names, False, table.database, writer.watch))


def query_plan(environment, node):
    """The plan of the rows that a statement reads, for EXPLAIN; None if it reads none."""
    binder, planner = QueryBinder(environment), Planner(environment)
    if isinstance(node, ast.Select):
        return planner.query(binder.select(node, None)).root
    if isinstance(node, (ast.Update, ast.Delete)):
        table = target(environment, node.table.table, type(node).__name__.upper(),
                       [name for a in getattr(node, "assignments", ()) for name in a.columns])
        query, scope, rel = change_query(binder, environment, node, table)
        if isinstance(table, View):
            query.exprs = [bound.Col(rel, i) for i in range(len(rel.columns))]
            return planner.query(query).root
        query.exprs = key_columns(table, rel)
        if isinstance(node, ast.Update):
            bind_assignments(binder, table, node.assignments, scope)
        return planner.query(query).root
    if isinstance(node, ast.Insert) and node.source is not None:
        scope = Scope()
        if node.with_ is not None:
            scope = binder.with_scope(node.with_, scope)
        return planner.query(binder.select(node.source, scope)).root
    return None


def build_index(environment, transaction, table, index):
    """Enters all rows of a table into a new index."""
    binder = QueryBinder(environment)
    c = Compiler(Context(0), Planner(environment))
    c.context.control = environment.session.control
    c.environment = environment
    writer = make_writer(c, binder, table)
    rel = QueryBinder.own_rel(table)
    c.sources[rel] = (writer.row, None)
    scope = Scope()
    scope.rels.append(rel)
    work = IndexBuild(writer, index_writer(c, binder, index, scope))
    c.context.start(transaction, ())
    try:
        work.run()
    finally:
        c.context.stop(c.ops)
