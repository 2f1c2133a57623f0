"""ALTER TABLE: columns added, dropped and renamed, tables renamed.

A table is its CREATE statement, so ALTER edits texts: the table's own, those of its indexes, of views that read it, and of foreign keys that
point to it. Where a name stands is known from the syntax tree (own texts) or from binding the text (views). What was changed is
bound again before the statement ends, so a view that would not survive makes it fail.
"""
from __future__ import annotations

from ..engine import catalog as engine_catalog
from ..errors import Error, NotSupportedError, OperationalError
from . import ast, bound, dml, sequence
from .binder import Scope
from .catalog import View, fold, index_of, names_in, nodes_in, table_of
from .changes import tree_items
from .ddl import always_quoted, check_expression, check_name, quoted
from .lexer import unquote
from .parser import parse, scanned, tables
from .queries import QueryBinder
from .record import decode, encode


class Text:
    """A statement of the catalog that is being edited: its tokens, and the replacements made so far."""

    def __init__(self, sql):
        self.sql = sql
        work = scanned(sql)
        self.kinds, self.starts, self.ends = work.kinds, work.starts, work.ends
        self.at = {start: n for n, start in enumerate(self.starts)}
        self.number = tables().lexer.number
        self.edits = {}

    def token(self, n):
        return self.sql[self.starts[n]:self.ends[n]]

    def named(self, n, name):
        """Whether token n is that name."""
        text = self.token(n)
        return bool(text) and fold(unquote(text)) == fold(name)

    def replace(self, n, new):
        self.edits[self.starts[n], self.ends[n]] = new

    def closing(self, n):
        """The token that closes the parenthesis at token n."""
        depth = 0
        while True:
            depth += (self.kinds[n] == self.number["LPAR"]) - (self.kinds[n] == self.number["RPAR"])
            if depth == 0:
                return n
            n += 1

    def inside(self, n, name, new):
        """Replaces a name everywhere in the parenthesis at token n."""
        for k in range(n + 1, self.closing(n)):
            if self.named(k, name):
                self.replace(k, new)

    def result(self):
        sql = self.sql
        for (start, end), new in sorted(self.edits.items(), reverse=True):
            sql = sql[:start] + new + sql[end:]
        return sql


def store(change, name, **values):
    """Changes a row of the catalog."""
    row = dict(change.schema.rows[fold(name)])
    row.update(values)
    engine_catalog.put(change.transaction, row["name"], row)


def no_triggers(change, what):
    for row in change.schema.rows.values():
        if row["kind"] == "trigger":
            raise NotSupportedError(f"{what} while there are triggers ({row['name']})")


# -------------------------------------------------------------------------------------------------------- ADD COLUMN

def add_column(change, node):
    """ALTER TABLE ADD COLUMN: only the catalog changes; older records have the default."""
    table = dml.target(change.environment, node.table)
    column = node.column
    for constraint in column.constraints:
        if isinstance(constraint, ast.PrimaryKeyConstraint):
            raise OperationalError("Cannot add a PRIMARY KEY column")
        if isinstance(constraint, ast.UniqueConstraint):
            raise OperationalError("Cannot add a UNIQUE column")
    sql = insert_column(table, node.sql)
    new = table_of(parse(sql))
    added = new.columns[-1]
    if added.generated == "stored":
        raise OperationalError("cannot add a STORED column")
    if added.generated:
        check_expression(change, new, added.expression, "generated columns")
    elif added.not_null and new.defaults[-1] is None and change.session.has_rows(table):
        raise OperationalError("Cannot add a NOT NULL column with default value NULL")
    if change.session.foreign_keys and new.defaults[-1] is not None and any(columns == (added.name,) for _, columns in new.foreign_keys):
        raise OperationalError("Cannot add a REFERENCES column with non-NULL default value")
    if added.default is not None and new.defaults[-1] is None and not is_null(added.default):
        raise OperationalError("Cannot add a column with non-constant default")
    row = dict(change.schema.rows[fold(table.name)])
    row["sql"] = sql
    engine_catalog.put(change.transaction, table.name, row)
    change.session.schema_changed()
    return 0


def is_null(expr):
    return isinstance(expr, ast.Literal) and expr.value is None


def insert_column(table, definition):
    """The table's SQL with a column definition added behind the last column, before table constraints and options."""
    text = Text(table.sql)
    at = text.ends[definition_end(text, parse(table.sql).columns[-1]) - 1]
    return f"{table.sql[:at]}, {definition}{table.sql[at:]}"


def definition_end(text, definition):
    """The comma or parenthesis behind a column definition, as a token's number."""
    depth, n = 0, text.at[definition.pos]
    left, right = text.number["LPAR"], text.number["RPAR"]
    while depth or text.kinds[n] not in (text.number["COMMA"], right):
        depth += (text.kinds[n] == left) - (text.kinds[n] == right)
        n += 1
    return n


# ------------------------------------------------------------------------------------------------------- DROP COLUMN

def drop_column(change, node):
    """ALTER TABLE DROP COLUMN: rows are written anew without it."""
    table = dml.target(change.environment, node.table)
    place = table.by_name.get(fold(node.column))
    if place is None:
        raise OperationalError(f'no such column: "{node.column}"')
    column = table.columns[place]
    if column.primary:
        raise OperationalError(f'cannot drop PRIMARY KEY column: "{node.column}"')
    if any(key.columns == [place] for key in table.keys):
        raise OperationalError(f'cannot drop UNIQUE column: "{node.column}"')
    if len(table.columns) == 1:
        raise OperationalError(f'cannot drop column "{node.column}": no other columns exist')
    no_triggers(change, "ALTER TABLE DROP COLUMN")
    sound = sound_views(change.environment)
    sql = without_column(table, place)
    new = after(f"table {table.name}", "drop column", lambda: table_of(parse(sql), table.tree))
    for expr, where in own_expressions(new):
        after(f"table {table.name}", "drop column", lambda: check_expression(change, new, expr, where))
    for constraint, columns in new.foreign_keys:
        for name in columns:
            if fold(name) not in new.by_name:
                raise OperationalError(f'error in table {table.name} after drop column: unknown column "{name}" in foreign key definition')
    for row in change.schema.indexes.get(fold(table.name), ()):
        if row["sql"] is not None:
            after(f"index {row['name']}", "drop column", lambda: check_index(change, row["sql"], new))
    store(change, table.name, sql=sql)
    for key, record in tree_items(change.transaction, table.tree):
        values = list(decode(record, len(table.columns), 0, table.rowid_column, table.defaults))
        if table.rowid_column >= 0:
            values[table.rowid_column] = None
        del values[place]
        change.transaction.put(table.tree, key, encode(values, table.version))
    change.session.schema_changed()
    check_views(change, sound, "drop column")
    return 0


def own_expressions(table):
    for check in table.checks:
        yield check.expr, "CHECK constraints"
    for number in table.generated:
        yield table.columns[number].expression, "generated columns"


def check_index(change, sql, table):
    index = index_of(parse(sql), table)
    for column in index.columns:
        if not isinstance(column, int):
            check_expression(change, table, column, "index expressions")
    if index.where is not None:
        check_expression(change, table, index.where, "partial index WHERE clauses")


def after(what, change, work):
    """work(), whose errors are told as what ALTER would break."""
    try:
        return work()
    except OperationalError as error:
        raise OperationalError(f"error in {what} after {change}: {error}") from None


def without_column(table, place):
    """The table's SQL without a column: with the comma behind it, or else the one before it."""
    text = Text(table.sql)
    definitions = parse(table.sql).columns
    first = text.at[definitions[place].pos]
    n = definition_end(text, definitions[place])
    if text.kinds[n] == text.number["COMMA"] and place + 1 < len(definitions):
        start, end = text.starts[first], text.starts[n + 1]
    else:
        start, end = text.starts[first - 1], text.starts[n]
    return table.sql[:start] + table.sql[end:]


# ------------------------------------------------------------------------------------------------------------- views

def bound_view(environment, view):
    """Binds a view's query; OperationalError if it cannot be."""
    return QueryBinder(environment).select(view.statement.select, Scope())


def sound_views(environment):
    """The names of the views that can be read."""
    found = []
    for row in environment.schema.rows.values():
        if row["kind"] == "view":
            try:
                bound_view(environment, environment.schema.get(row["name"]))
            except Error:
                continue
            found.append(row["name"])
    return found


def check_views(change, names, what):
    """Raises if one of these views cannot be read any more."""
    environment = change.session.environment()
    for name in names:
        view = environment.schema.get(name)
        after(f"view {name}", what, lambda: bound_view(environment, view))


class Spots(QueryBinder):
    """Binds a view and collects the Column nodes of its own text that mean a table's column (or any, for place None)."""

    def __init__(self, environment, table, place):
        super().__init__(environment)
        self.table_, self.place, self.spots, self.inner = table, place, [], 0

    def view(self, view, node, query):
        self.inner += 1
        try:
            return super().view(view, node, query)
        finally:
            self.inner -= 1

    def column(self, node, scope):
        found = super().column(node, scope)
        if not self.inner and type(found) is bound.Col and self.means(found):
            self.spots.append((node, found.rel))
        return found

    def means(self, found):
        rel = found.rel
        if rel.kind == "table":
            return rel.table is self.table_ and (self.place is None or found.index == self.place)
        if rel.kind == "query" and self.place is not None and 0 <= found.index < len(rel.columns):
            # a nested query's column that has its name from the table's
            below = rel.query.exprs[found.index]
            return (type(below) is bound.Col and self.means(below)
                    and fold(rel.columns[found.index].name) == fold(self.table_.columns[self.place].name))
        return False


# ----------------------------------------------------------------------------------------------------- RENAME COLUMN

def rename_column(change, node):
    """ALTER TABLE RENAME COLUMN: in the table, its indexes, views, and foreign keys that point to it."""
    table = dml.target(change.environment, node.table)
    place = table.by_name.get(fold(node.column))
    if place is None:
        raise OperationalError(f'no such column: "{node.column}"')
    if fold(node.name) != fold(node.column) and fold(node.name) in table.by_name:
        raise OperationalError(f"error in table {table.name} after rename: duplicate column name: {node.name}")
    no_triggers(change, "ALTER TABLE RENAME COLUMN")
    sound = sound_views(change.environment)
    old, new = table.columns[place].name, quoted(node.name)
    text = Text(table.sql)
    statement = parse(table.sql)
    text.replace(text.at[statement.columns[place].pos], new)
    rename_names(text, statement, table.name, old, new)
    for constraint in statement.constraints:
        if isinstance(constraint, ast.ForeignKeyConstraint):
            text.inside(next(n for n in range(text.at[constraint.pos], len(text.kinds)) if text.token(n) == "("), old, new)
    rename_parents(text, table.name, old, new)
    store(change, table.name, sql=text.result())
    for row in change.schema.indexes.get(fold(table.name), ()):
        if row["sql"] is not None:
            text = Text(row["sql"])
            rename_names(text, parse(row["sql"]), table.name, old, new)
            store(change, row["name"], sql=text.result())
    for row in change.schema.rows.values():
        if row["kind"] == "table" and fold(row["name"]) != fold(table.name) and row["sql"]:
            text = Text(row["sql"])
            rename_parents(text, table.name, old, new)
            if text.edits:
                store(change, row["name"], sql=text.result())
        elif row["kind"] == "view" and row["name"] in sound:
            view = change.schema.get(row["name"])
            spots = Spots(change.environment, table, place)
            spots.select(view.statement.select, Scope())
            text = Text(view.sql)
            for column, _ in spots.spots:
                if column.pos >= 0 and fold(column.name) == fold(old):
                    text.replace(name_token(text, column), new)
            if text.edits:
                put_view(change, row, text.result())
    change.session.schema_changed()
    check_views(change, sound, "rename")
    return 0


def put_view(change, row, sql):
    if row.get("temporary"):
        change.session.temporary[fold(row["name"])] = {**row, "sql": sql}
    else:
        store(change, row["name"], sql=sql)


def name_token(text, column):
    """The token of a Column node's own name, behind its qualifiers."""
    return text.at[column.pos] + 2 * ((column.table is not None) + (column.schema is not None))


def rename_names(text, statement, table, old, new):
    """Renames the columns that expressions of a table or index statement name."""
    for column in names_in(statement):
        if fold(column.name) == fold(old) and (column.table is None or fold(column.table) == fold(table)) and column.pos in text.at:
            n = name_token(text, column)
            if text.named(n, old):
                text.replace(n, new)


def rename_parents(text, table, old, new):
    """Renames columns in REFERENCES table(...)."""
    for n, kind in enumerate(text.kinds):
        if kind == text.number["REFERENCES"] and text.named(n + 1, table) and text.token(n + 2) == "(":
            text.inside(n + 2, old, new)


# ----------------------------------------------------------------------------------------------------------- RENAME TO

def rename_table(change, node):
    """ALTER TABLE RENAME TO: also in its indexes, in views, and in foreign keys that point to it."""
    table = dml.target(change.environment, node.table)
    check_name(ast.TableName(node.name))
    if fold(node.name) != fold(table.name) and fold(node.name) in change.schema.rows:
        raise OperationalError(f"there is already another table or index with this name: {node.name}")
    no_triggers(change, "ALTER TABLE RENAME TO")
    sound = sound_views(change.environment)
    transaction = change.transaction
    new = always_quoted(node.name)
    text = Text(table.sql)
    statement = parse(table.sql)
    text.replace(text.at[statement.table.pos], new)
    rename_qualifiers(text, statement, table.name, new)
    rename_references(text, table.name, new)
    row = dict(change.schema.rows[fold(table.name)])
    engine_catalog.delete(transaction, row["name"])
    row["name"], row["sql"] = node.name, text.result()
    engine_catalog.put(transaction, node.name, row)
    for index_row in change.schema.indexes.get(fold(table.name), ()):
        index_row = dict(index_row)
        engine_catalog.delete(transaction, index_row["name"])
        index_row["table"] = node.name
        if index_row["sql"] is None:
            number = index_row["name"].rpartition("_")[2]
            index_row["name"] = f"sqlite_autoindex_{node.name}_{number}"
        else:
            text = Text(index_row["sql"])
            statement = parse(index_row["sql"])
            text.replace(text.at[statement.table.pos], new)
            rename_qualifiers(text, statement, table.name, new)
            index_row["sql"] = text.result()
        engine_catalog.put(transaction, index_row["name"], index_row)
    for other in change.schema.rows.values():
        if other["kind"] == "table" and fold(other["name"]) != fold(table.name) and other["sql"]:
            text = Text(other["sql"])
            rename_references(text, table.name, new)
            if text.edits:
                store(change, other["name"], sql=text.result())
        elif other["kind"] == "view" and other["name"] in sound:
            rename_in_view(change, other, table, new)
    sequence.rename(change.schema, transaction, table.name, node.name)
    change.session.schema_changed()
    check_views(change, sound, "rename")
    return 0


def rename_in_view(change, row, table, new):
    view = change.schema.get(row["name"])
    if not isinstance(view, View):
        return
    text = Text(view.sql)
    hidden = {fold(common.name) for common in nodes_in(view.statement, ast.CommonTable)}
    for reference in nodes_in(view.statement, ast.TableRef):
        name = reference.table
        if fold(name.name) == fold(table.name) and fold(name.name) not in hidden:
            text.replace(text.at[name.pos], new)
    spots = Spots(change.environment, table, None)
    spots.select(view.statement.select, Scope())
    for column, rel in spots.spots:
        if column.pos >= 0 and column.table is not None and rel.alias is None:
            text.replace(name_token(text, column) - 2, new)
    if text.edits:
        put_view(change, row, text.result())


def rename_qualifiers(text, statement, old, new):
    for column in names_in(statement):
        if column.table is not None and fold(column.table) == fold(old) and column.pos in text.at:
            text.replace(name_token(text, column) - 2, new)


def rename_references(text, old, new):
    for n, kind in enumerate(text.kinds):
        if kind == text.number["REFERENCES"] and text.named(n + 1, old):
            text.replace(n + 1, new)
