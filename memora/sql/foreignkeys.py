"""Foreign keys: which rows of two tables they bind, and the programs that hold them.

A `ForeignKey` is one constraint of a child table. Parent and child are always of one database. Probes and actions are statements
about the other table, made as syntax trees and compiled like any other, so that the planner finds the index for them.
"""
from __future__ import annotations

from ..errors import OperationalError
from . import ast
from .catalog import Table, fold
from .effects import VIOLATED, ChildKey, ParentKey

OTHER = "other"         # what the table that is asked is called in probes and actions


class ForeignKey:
    """child: a Table; number: as PRAGMA foreign_key_list tells; columns: numbers in the child; parent: a name; on_delete, on_update:
    None or the action's words; deferred: checked at the commit."""

    __slots__ = ("child", "number", "columns", "parent", "parent_columns", "on_delete", "on_update", "deferred")

    def __init__(self, child, number, constraint, names):
        self.child, self.number, self.parent = child, number, constraint.parent
        self.columns = [child.by_name[fold(name)] for name in names]
        self.parent_columns, self.deferred = constraint.parent_columns, constraint.deferred
        self.on_delete, self.on_update = (None if action == "NO ACTION" else action
                                          for action in (constraint.on_delete, constraint.on_update))

    @property
    def to_itself(self):
        return fold(self.parent) == fold(self.child.name)

    def resolve(self, parent):
        """The numbers of the parent's columns that the key's columns name, in their order. OperationalError: they are no key of it."""
        names = [fold(name) for name in self.parent_columns]
        if parent.rowid_column >= 0 and len(self.columns) == 1 and names in (
                [], [fold(parent.columns[parent.rowid_column].name)]):
            return [parent.rowid_column]
        for index in (*parent.indexes, *(() if parent.has_rowid else (parent.primary_key,))):
            if not index.unique or index.where is not None or len(index.columns) != len(self.columns):
                continue
            if not names:
                if index.origin == "pk":
                    return list(index.columns)
            elif all(isinstance(c, int) and c >= 0 and index.collations[n] == parent.columns[c].collation
                     for n, c in enumerate(index.columns)):
                found = {fold(parent.columns[c].name): c for c in index.columns}
                if all(name in found for name in names) and len(set(names)) == len(names):
                    return [found[name] for name in names]
        raise OperationalError(f'foreign key mismatch - "{self.child.name}" referencing "{self.parent}"')


def keys_of(table):
    """The foreign keys of a table, the last one first, as SQLite numbers them."""
    return [ForeignKey(table, n, *key) for n, key in enumerate(reversed(table.foreign_keys))]


def check_definition(table):
    """OperationalError if a constraint of a new table names columns that do not exist, or not as many as it should."""
    for constraint, names in table.foreign_keys:
        for name in names:
            if fold(name) not in table.by_name:
                raise OperationalError(f'unknown column "{name}" in foreign key definition')
        if constraint.parent_columns and len(constraint.parent_columns) != len(names):
            if constraint.columns:
                raise OperationalError("number of columns in foreign key does not match the number of columns in the referenced table")
            raise OperationalError(f"foreign key on {names[0]} should reference only one column of table {constraint.parent}")


def naming(schema, name):
    """The foreign keys of all tables of a schema that name a table."""
    if schema.parents is None:
        schema.parents = {}
        for row in sorted(schema.rows.values(), key=lambda r: r.get("seq", 0)):
            if row["kind"] == "table":
                for key in keys_of(schema.get(row["name"])):
                    schema.parents.setdefault(fold(key.parent), []).append(key)
    return schema.parents.get(fold(name), [])


# ------------------------------------------------------------------------------------------------------------ syntax

def column_of(table, number, row=OTHER):
    return ast.Column(table.columns[number].name, row, quote='"')


def equal(left, right, op="="):
    return ast.Binary(op, left, right)


def all_of(terms):
    made = terms[0]
    for term in terms[1:]:
        made = ast.Binary("AND", made, term)
    return made


def reference(table):
    return ast.TableRef(ast.TableName(table.name), OTHER)


def rows(table, where, result=ast.Literal(1)):
    """SELECT result FROM table AS other WHERE ..."""
    return ast.Select(ast.SelectCore((ast.ResultColumn(result),), source=reference(table), where=where))


def parent_rows(key, parent, numbers, row="new"):
    """The row that a child names. Its values get the affinity and the collation of the parent's columns."""
    return rows(parent, all_of([equal(column_of(parent, to), ast.Unary("+", column_of(key.child, at, row)))
                                for at, to in zip(key.columns, numbers)]))


def children(key, parent, numbers, row):
    """The condition that a child names a row of the parent."""
    return all_of([equal(column_of(parent, to, row), column_of(key.child, at)) for at, to in zip(key.columns, numbers)])


def rowid_name(table):
    """A name of the rowid that no other column has."""
    if table.rowid_column >= 0:
        return table.columns[table.rowid_column].name
    return next(name for name in ("rowid", "_rowid_", "oid") if name not in table.by_name)


def not_this_row(table):
    """The condition that a row is not NEW itself."""
    if table.has_rowid:
        return equal(ast.Column(rowid_name(table), OTHER), ast.Column(rowid_name(table), "new"), "<>")
    return ast.Unary("NOT", all_of([equal(column_of(table, c), column_of(table, c, "new")) for c in table.primary_key.columns]))


def action_of(key, parent, numbers, event):
    """(WHEN, the statement) of what happens to children when their parent's row is deleted or changed; None for no action."""
    action = key.on_delete if event == "DELETE" else key.on_update
    if action is None:
        return None
    where = children(key, parent, numbers, "old")
    when = None
    if event == "UPDATE":
        when = ast.Unary("NOT", all_of([equal(column_of(parent, to, "old"), column_of(parent, to, "new"), "IS") for to in numbers]))
    if action == "RESTRICT":
        return when, rows(key.child, where, ast.Raise("ABORT", ast.Literal(VIOLATED)))
    if action == "CASCADE" and event == "DELETE":
        return when, ast.Delete(reference(key.child), where)
    assignments = []
    for at, to in zip(key.columns, numbers):
        column = key.child.columns[at]
        value = (column_of(parent, to, "new") if action == "CASCADE" else
                 column.default if action == "SET DEFAULT" and column.default is not None else ast.Literal(None))
        assignments.append(ast.Assignment((column.name,), value))
    return when, ast.Update(reference(key.child), tuple(assignments), where=where)


# ----------------------------------------------------------------------------------------------------------- programs

def effects(environment, table, event, columns):
    """(of ChildKey, of ParentKey, whether an UPDATE takes its rows out): what foreign keys make of a change. columns: the numbers of those
    that an UPDATE sets."""
    schema = environment.schema_of(table)
    inside = environment.within(schema)
    own, named, taken_out = [], [], False
    for key in keys_of(table):
        if event != "UPDATE" or key.to_itself or columns.intersection(key.columns):
            found = child_key(inside, schema, key)
            if found is not None:
                own.append(found)
                taken_out = taken_out or key.to_itself and event == "UPDATE" and bool(columns.intersection(key.columns))
    for key in naming(schema, table.name):
        numbers = resolved(inside, key, table)
        if numbers is None or event == "UPDATE" and not columns.intersection(numbers):
            continue
        found, acts = parent_key(inside, key, table, numbers, event)
        named.append(found)
        taken_out = taken_out or acts
    return own, named, taken_out


def resolved(environment, key, parent):
    try:
        return key.resolve(parent)
    except OperationalError:
        if environment.lenient:
            return None
        raise


def child_key(environment, schema, key):
    parent = schema.get(key.parent)
    if not isinstance(parent, Table):
        if not environment.lenient:
            raise OperationalError(f"no such table: {schema.database}.{key.parent}")
        return ChildKey(key.columns, None, None, False, key.deferred)
    numbers = resolved(environment, key, parent)
    if numbers is None:
        return None
    probe = environment.probe(("parent", schema.database, fold(key.child.name), key.number), key.child,
                              lambda: parent_rows(key, parent, numbers), True)
    return ChildKey(key.columns, probe, numbers if key.to_itself else None, numbers == [parent.rowid_column], key.deferred)


def parent_key(environment, key, parent, numbers, event):
    """(ParentKey, whether it has an action)"""
    name = (environment.schema.database, fold(key.child.name), key.number)
    every = environment.probe(("children", *name), parent, lambda: rows(key.child, children(key, parent, numbers, "new")), False)
    others = every
    if key.to_itself:
        others = environment.probe(("others", *name), parent, lambda: rows(key.child, ast.Binary(
            "AND", children(key, parent, numbers, "new"), not_this_row(parent))), False)
    program, restrict = None, False
    if event != "INSERT":
        made = action_of(key, parent, numbers, event)
        if made is not None:
            when, statement = made
            restrict = isinstance(statement, ast.Select)
            program = environment.row_program((event, *name), parent, when, (statement,), "ABORT", event, action=True)
    return ParentKey(numbers, others, every, program, restrict, key.deferred), program is not None


# ------------------------------------------------------------------------------------------------------------- PRAGMA

def violations(environment, schema, tables):
    """Rows of PRAGMA foreign_key_check: (child, rowid or None, parent, number) for each child without its parent."""
    found = []
    for table in tables:
        keys = keys_of(table)
        if keys:
            results = [ast.Column(rowid_name(table), "child") if table.has_rowid else ast.Literal(None)]
            results += [orphaned(key, schema) for key in keys]
            query = ast.Select(ast.SelectCore(tuple(ast.ResultColumn(e) for e in results),
                                              source=ast.TableRef(ast.TableName(table.name), "child", not_indexed=True)))
            for rowid, *wrong in environment.within(schema).run(query):
                found += [(table.name, rowid, key.parent, key.number) for key, is_wrong in zip(keys, wrong) if is_wrong]
    return found


def orphaned(key, schema):
    """The condition that a row of the child, as `child`, has no parent."""
    parent = schema.get(key.parent)
    where = all_of([ast.IsNull(column_of(key.child, at, "child"), True) for at in key.columns])
    if isinstance(parent, Table):
        where = ast.Binary("AND", where, ast.Unary("NOT", ast.Exists(parent_rows(key, parent, key.resolve(parent), "child"))))
    return where
