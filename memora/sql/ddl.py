"""CREATE, DROP and ALTER: changes of the catalog. Each is part of the transaction like any other write."""
from __future__ import annotations

from ..engine import catalog as engine_catalog
from ..errors import NotSupportedError, OperationalError
from . import ast, bound, dml, foreignkeys, sequence, statistics, triggers
from .catalog import SCHEMA_NAMES, Table, View, fold, index_of, table_of
from .parser import parse
from .queries import QueryBinder


class Change:
    """One statement's work on the catalog of one database; environment: what expressions and queries in it may name."""

    def __init__(self, session, transaction, environment, schema):
        self.session, self.transaction, self.environment, self.schema = session, transaction, environment, schema
        self.seq = self.schema.next_seq()

    def put(self, kind, name, tree, sql, **more):
        engine_catalog.put(self.transaction, name, {"kind": kind, "name": name, "tree": tree, "sql": sql, "seq": self.seq,
                                                    **more})
        self.seq += 1

    def replace(self, row):
        """Writes a row of the catalog once more: whoever looked at the catalog looks again."""
        engine_catalog.put(self.transaction, row["name"], row)

    def exists(self, name, kind):
        """Raises if the name is taken; the words depend on what is to be made."""
        found = self.schema.rows.get(fold(name))
        if found is None:
            return
        if kind == "index" and found["kind"] == "index":
            raise OperationalError(f"index {name} already exists")
        if found["kind"] == "index":
            raise OperationalError(f"there is already an index named {name}")
        if kind == "index":
            raise OperationalError(f"there is already a table named {name}")
        if kind == "trigger":
            raise OperationalError(f"trigger {name} already exists")
        raise OperationalError(f"{'view' if found['kind'] == 'view' else 'table'} {name} already exists")


def check_name(name):
    if fold(name.name).startswith("sqlite_"):
        raise OperationalError(f"object name reserved for internal use: {name.name}")


def create_table(change, node):
    name = node.table
    check_name(name)
    if node.options:
        raise NotSupportedError("CREATE TABLE ... WITH (options)")
    if node.if_not_exists and fold(name.name) in change.schema.rows:
        return 0
    change.exists(name.name, "table")
    rows = None
    if node.select is not None:
        node, rows = as_select(change, node)
    table = table_of(node)
    foreignkeys.check_definition(table)
    for constraint in table.checks:
        check_expression(change, table, constraint.expr, "CHECK constraints")
    for number in table.generated:
        check_expression(change, table, table.columns[number].expression, "generated columns")
    if table.autoincrement and change.schema.get(sequence.NAME) is None:
        change.put("table", sequence.NAME, change.transaction.create_tree(), sequence.SQL)
    table.tree = change.transaction.create_tree()
    change.put("table", name.name, table.tree, node.sql)
    for n, key in enumerate(table.keys):
        change.put("index", f"sqlite_autoindex_{name.name}_{n + 1}", change.transaction.create_tree(), None, table=name.name)
    change.session.schema_changed()
    if rows:
        change.session.insert_rows(name.name, rows)
    return 0


def as_select(change, node):
    """CREATE TABLE AS: the table that the result columns describe, and its rows."""
    result = change.session.select_rows(node.select)
    types = {None: "", 0: "", 1: "TEXT", 2: "NUM", 3: "INT", 4: "REAL"}
    columns = []
    for name, affinity in result.shape:
        columns.append(f"{quoted(name)} {types[affinity]}".rstrip())
    sql = f"CREATE TABLE {quoted(node.table.name)}(" + ",".join(columns) + ")"
    made = parse(sql)
    return made, result.rows


def quoted(name):
    """An identifier as SQL text, in quotes if it needs them."""
    if name.isidentifier() and name.isascii() and not is_keyword(name):
        return name
    return '"' + name.replace('"', '""') + '"'


def is_keyword(name):
    try:
        parse(f"SELECT 1 AS {name}")
        parse(f"SELECT {name} FROM t")
        parse(f"CREATE TABLE t({name})")
    except OperationalError:
        return True
    return False


def check_expression(change, table, expr, where):
    """Binds an expression of a table, which must give the same for the same row: `where` says what it is for."""
    scope = dml.Scope()
    scope.rels.append(QueryBinder.own_rel(table))
    bound_expr = QueryBinder(change.environment).expr(expr, scope)
    for part in bound.walk(bound_expr):
        if bound.query_of(part) is not None:
            raise OperationalError(f"subqueries prohibited in {where}")
        if type(part) is bound.Param:
            raise OperationalError(f"parameters prohibited in {where}")
        if bound.volatile(part):
            raise OperationalError(f"non-deterministic functions prohibited in {where}")


def create_index(change, node):
    check_name(node.index)
    if node.if_not_exists and fold(node.index.name) in change.schema.rows:
        return 0
    found = change.schema.get(node.table.name)
    if fold(node.table.name) in SCHEMA_NAMES:
        raise OperationalError(f"table {node.table.name} may not be indexed")
    if isinstance(found, View):
        raise OperationalError("views may not be indexed")
    if not isinstance(found, Table):
        raise OperationalError(f"no such table: main.{node.table.name}")
    change.exists(node.index.name, "index")
    index = index_of(node, found)
    for column in index.columns:
        if not isinstance(column, int):
            check_expression(change, found, column, "index expressions")
    if index.where is not None:
        check_expression(change, found, index.where, "partial index WHERE clauses")
    index.tree = change.transaction.create_tree()
    change.put("index", index.name, index.tree, node.sql, table=found.name)
    dml.build_index(change.environment, change.transaction, found, index)
    change.session.schema_changed()
    return 0


def create_view(change, node):
    check_name(node.view)
    name = node.view.name
    temporary = node.temporary or (node.view.schema is not None and fold(node.view.schema) == "temp")
    if node.if_not_exists and fold(name) in change.schema.rows:
        return 0
    change.exists(name, "view")
    if node.params:
        raise OperationalError("parameters are not allowed in views")
    if temporary:
        # only this session knows it, so it is no row of the catalog
        change.session.temporary[fold(name)] = {"kind": "view", "name": name, "tree": 0, "sql": node.sql, "seq": change.seq,
                                                "temporary": True}
    else:
        change.put("view", name, 0, node.sql)
    change.session.schema_changed()
    return 0


def create_trigger(change, node):
    check_name(node.trigger)
    if node.if_not_exists and fold(node.trigger.name) in change.schema.rows:
        return 0
    found, database = triggered(change, node)
    change.exists(node.trigger.name, "trigger")
    triggers.check_definition(node, found)
    more = {"table": found.name} if database == change.schema.database else {"table": found.name, "database": database}
    change.put("trigger", node.trigger.name, 0, node.sql, **more)
    change.session.schema_changed()
    return 0


def triggered(change, node):
    """(Table or View that a trigger is to be on, its database). A temporary trigger may be on a table of any database."""
    schema = change.environment.schema if change.schema.database == "temp" else change.schema
    name = node.table.name
    found = schema.get(name, None if node.table.schema is None else fold(node.table.schema))
    if fold(name) in SCHEMA_NAMES or fold(name).startswith("sqlite_"):
        raise OperationalError("cannot create trigger on system table")
    if not isinstance(found, (Table, View)):
        raise OperationalError(f"no such table: {node.table.schema or change.schema.database}.{name}")
    return found, found.database


def drop(change, node):
    name = node.name.name
    row = change.schema.rows.get(fold(name))
    kind = node.kind.lower()
    if kind not in ("table", "index", "view", "trigger"):
        raise NotSupportedError(f"DROP {node.kind}")
    if row is None or (row["kind"] != kind and not {row["kind"], kind} <= {"table", "view"}):
        if node.if_exists:
            return 0
        shown = name if node.name.schema is None else f"{node.name.schema}.{name}"
        raise OperationalError(f"no such {kind}: {shown}")
    if row["kind"] != kind:
        raise OperationalError(f"use DROP {row['kind'].upper()} to delete {row['kind']} {row['name']}")
    if fold(name).startswith("sqlite_") and fold(name) != statistics.NAME:
        raise OperationalError(f"table {name} may not be dropped" if kind == "table" else
                               "index associated with UNIQUE or PRIMARY KEY constraint cannot be dropped")
    transaction = change.transaction
    if kind in ("table", "view"):
        change.session.drop_temporary_triggers(name, change.schema.database)
    if row.get("temporary"):
        del change.session.temporary[fold(name)]
        change.session.schema_changed()
        return 0
    if kind == "table":
        if change.session.foreign_keys:
            change.session.empty_table(change, change.schema.get(name))
        for other in list(change.schema.indexes.get(fold(name), ())):
            transaction.drop_tree(other["tree"])
            engine_catalog.delete(transaction, other["name"])
        sequence.forget(change.schema, transaction, name)
        statistics.forget(change.schema, transaction, table=name)
    elif kind == "index":
        statistics.forget(change.schema, transaction, index=name)
    if kind in ("table", "view"):
        for other in change.schema.triggers.get(fold(name), ()):
            engine_catalog.delete(transaction, other["name"])
    if kind in ("table", "index"):
        transaction.drop_tree(row["tree"])
    engine_catalog.delete(transaction, row["name"])
    change.session.schema_changed()
    return 0


def reindex(change, node):
    """REINDEX: builds the named index, those of the named table, of a collation, or all, once more."""
    target = node.target
    tables = [change.schema.get(row["name"]) for row in change.schema.rows.values() if row["kind"] == "table"]
    chosen = [(t, i) for t in tables for i in t.indexes]
    if target is not None:
        name = fold(target.name)
        named = [(t, i) for t, i in chosen if name in (fold(i.name), fold(t.name))]
        if not named and change.schema.rows.get(name, {}).get("kind") != "table":
            if name.upper() not in ("BINARY", "NOCASE", "RTRIM"):
                raise OperationalError("unable to identify the object to be reindexed")
            named = chosen
        chosen = named
    for table, index in chosen:
        row = dict(change.schema.rows[fold(index.name)])
        change.transaction.drop_tree(index.tree)
        row["tree"] = change.transaction.create_tree()
        engine_catalog.put(change.transaction, index.name, row)
        fresh = type(index)(index.name, table, row["tree"], index.columns, index.collations, index.descending,
                            index.unique, index.origin, index.where, index.sql, index.conflict)
        dml.build_index(change.environment, change.transaction, table, fresh)
    if chosen:
        change.session.schema_changed()
    return 0


def always_quoted(name):
    return '"' + name.replace('"', '""') + '"'
