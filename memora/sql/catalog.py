"""What SQL knows of tables, indexes and views: rows of the engine's catalog, read back as objects.

A row of the catalog holds the CREATE statement, and a table is what parsing it again gives; so there is one truth, and
`sqlite_schema.sql` is it. Rows of SQL, beside the engine's {"kind", "name", "tree", "sql"}:

    table   seq (order of creation), version (column layout that new records carry)
    index   seq, table; sql is None for the index of a UNIQUE or PRIMARY KEY constraint ("sqlite_autoindex_t_1")
    view    seq
    trigger seq, table

A `Schema` is a catalog at one version and never changes; a session takes the next one when the version moves, and objects
whose rows are as before are taken over from the old one.
"""
from __future__ import annotations

from ..engine import catalog as engine_catalog
from ..errors import DatabaseError, NotSupportedError, OperationalError
from . import ast
from .node import fields
from .parser import parse
from .types import BLOB, COLLATIONS, INTEGER, affinity_of, convert

SCHEMA_NAMES = ("sqlite_schema", "sqlite_master")
SCHEMA_COLUMNS = ("type", "name", "tbl_name", "rootpage", "sql")
NO_ROWID = object()


def fold(name):
    """The form in which names are equal: ASCII letters without case."""
    return name.lower() if name.isascii() else "".join(c.lower() if c.isascii() else c for c in name)


class Column:
    """One column of a table.

    affinity, collation: as in `types`; default: an expression of the syntax tree, or None; primary: its place in the primary
    key from 1, or 0; not_null: False, or the conflict action ("ABORT" if none is said); generated: None, "virtual" or "stored";
    expression: of a generated column; needs: numbers of all columns that it reads, at once or through others.
    """

    __slots__ = ("name", "decltype", "affinity", "collation", "not_null", "default", "default_text", "primary", "generated",
                 "expression", "needs")

    def __init__(self, name, decltype=None, affinity=BLOB, collation=0):
        self.name, self.decltype, self.affinity, self.collation = name, decltype, affinity, collation
        self.not_null, self.default, self.default_text, self.primary, self.generated = False, None, None, 0, None
        self.expression, self.needs = None, ()


class Index:
    """An index: by position `columns` (column number; -1 the rowid; an expression of the syntax tree), `collations`,
    `descending`. origin: "c" CREATE INDEX, "u" UNIQUE, "pk" PRIMARY KEY; conflict: the constraint's action or None."""

    __slots__ = ("name", "table", "tree", "columns", "collations", "descending", "unique", "origin", "where", "sql", "conflict")

    def __init__(self, name, table, tree, columns, collations, descending, unique, origin, where=None, sql=None, conflict=None):
        self.name, self.table, self.tree, self.columns = name, table, tree, columns
        self.collations, self.descending, self.unique, self.origin = collations, descending, unique, origin
        self.where, self.sql, self.conflict = where, sql, conflict


class Table:
    """A table. rowid_column: the INTEGER PRIMARY KEY, or -1; primary_key: an Index without a tree in a table WITHOUT ROWID,
    whose own tree is in that order; keys: what the constraints ask indexes for, as Index without tree; generated: numbers of the
    generated columns, each behind those that it reads; database: "main", "temp" or the name of an attached one."""

    __slots__ = ("name", "tree", "sql", "columns", "by_name", "rowid_column", "rowid_conflict", "has_rowid", "primary_key",
                 "indexes", "keys", "checks", "foreign_keys", "autoincrement", "strict", "version", "defaults", "seq",
                 "generated", "database")

    def find(self, name):
        """Number of a column, -1 for the rowid's names, None for no column."""
        name = fold(name)
        found = self.by_name.get(name)
        if found is None and self.has_rowid and name in ("rowid", "oid", "_rowid_"):
            return -1
        return found


class Trigger:
    """A trigger. table_database: that of its table, which for a temporary one may be another; time: "BEFORE", "AFTER" or "INSTEAD OF";
    event: "INSERT", "UPDATE" or "DELETE"; columns: folded names of UPDATE OF; statement: the syntax tree."""

    __slots__ = ("name", "database", "table_database", "time", "event", "columns", "statement")

    def __init__(self, row, database):
        self.name, self.database, self.statement = row["name"], database, parse(row["sql"])
        self.table_database = row.get("database", database)
        self.time, self.event = self.statement.time or "BEFORE", self.statement.event
        self.columns = {fold(name) for name in self.statement.columns}


class View:
    __slots__ = ("name", "sql", "statement", "seq", "database")


def collation_of(name):
    """The number of a collation."""
    try:
        return COLLATIONS[name.upper()]
    except KeyError:
        raise OperationalError(f"no such collation sequence: {name}") from None


STRICT_TYPES = {"INT": INTEGER, "INTEGER": INTEGER, "REAL": 4, "TEXT": 1, "BLOB": 0, "ANY": 0}


def table_of(statement, tree=0):
    """The Table that a CREATE TABLE statement describes; indexes are not yet known."""
    t = Table()
    t.name, t.tree, t.sql = statement.table.name, tree, statement.sql
    t.columns, t.by_name, t.keys, t.checks, t.foreign_keys, t.indexes = [], {}, [], [], [], []
    t.rowid_column, t.rowid_conflict, t.autoincrement = -1, None, False
    t.has_rowid, t.strict, t.primary_key = not statement.without_rowid, statement.strict, None
    t.version = t.seq = 0
    t.database = "main"
    primary = None
    for definition in statement.columns:
        c = _column(t, definition)
        for constraint in definition.constraints:
            if isinstance(constraint, ast.PrimaryKeyConstraint):
                primary = _one_key(t, primary, constraint, (ast.IndexedColumn(
                    ast.Column(definition.name), None, constraint.descending),), definition)
            elif isinstance(constraint, ast.UniqueConstraint):
                _key(t, (ast.IndexedColumn(ast.Column(definition.name)),), "u", constraint.on_conflict)
            elif isinstance(constraint, ast.ForeignKeyConstraint):
                t.foreign_keys.append((constraint, (definition.name,)))
            elif isinstance(constraint, ast.CheckConstraint):
                t.checks.append(constraint)
        del c
    for constraint in statement.constraints:
        if isinstance(constraint, ast.PrimaryKeyConstraint):
            primary = _one_key(t, primary, constraint, constraint.columns, None)
        elif isinstance(constraint, ast.UniqueConstraint):
            _key(t, constraint.columns, "u", constraint.on_conflict)
        elif isinstance(constraint, ast.ForeignKeyConstraint):
            t.foreign_keys.append((constraint, constraint.columns))
        elif isinstance(constraint, ast.CheckConstraint):
            t.checks.append(constraint)
        else:
            raise NotSupportedError(f"constraint {type(constraint).__name__} on a table")
    if not t.has_rowid and t.primary_key is None:
        raise OperationalError(f"PRIMARY KEY missing on table {t.name}")
    if all(c.generated for c in t.columns):
        raise OperationalError("must have at least one non-generated column")
    t.generated = []
    for number, c in enumerate(t.columns):
        if c.generated:
            if c.primary:
                raise OperationalError("generated columns cannot be part of the PRIMARY KEY")
            if c.default is not None:
                raise OperationalError("cannot use DEFAULT on a generated column")
            _order_generated(t, number, [])
    t.defaults = [_constant(c) for c in t.columns]
    return t


def _order_generated(t, number, above):
    """Enters a generated column, and those that it reads before it, into t.generated."""
    c = t.columns[number]
    if number in above:
        raise OperationalError(f'generated column loop on "{c.name}"')
    if number in t.generated:
        return
    needs = set()
    for node in names_in(c.expression):
        other = t.by_name.get(fold(node.name))
        if other is not None:
            needs.add(other)
            if t.columns[other].generated:
                _order_generated(t, other, [*above, number])
                needs.update(t.columns[other].needs)
    c.needs = needs
    t.generated.append(number)


def nodes_in(tree, kind):
    """All nodes of a class below a node of the syntax tree, itself included."""
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple):
            stack.extend(item)
        elif isinstance(item, ast.Node):
            if isinstance(item, kind):
                yield item
            stack.extend(getattr(item, name) for name in fields(type(item)))


def names_in(tree):
    """All Column nodes below a node of the syntax tree."""
    return nodes_in(tree, ast.Column)


def _column(t, definition):
    if fold(definition.name) in t.by_name:
        raise OperationalError(f"duplicate column name: {definition.name}")
    c = Column(definition.name, definition.type_name, affinity_of(definition.type_name))
    if t.strict:
        if definition.type_name is None:
            raise OperationalError(f"missing datatype for {t.name}.{c.name}")
        if definition.type_name.upper() not in STRICT_TYPES:
            raise OperationalError(f"unknown datatype for {t.name}.{c.name}: \"{definition.type_name}\"")
        c.affinity = STRICT_TYPES[definition.type_name.upper()]
    for constraint in definition.constraints:
        if isinstance(constraint, ast.NotNullConstraint):
            c.not_null = constraint.on_conflict or "ABORT"
        elif isinstance(constraint, ast.DefaultConstraint):
            c.default, c.default_text = constraint.expr, constraint.text
        elif isinstance(constraint, ast.CollateConstraint):
            c.collation = collation_of(constraint.collation)
        elif isinstance(constraint, ast.GeneratedConstraint):
            c.generated, c.expression = "stored" if constraint.stored else "virtual", constraint.expr
    t.by_name[fold(c.name)] = len(t.columns)
    t.columns.append(c)
    return c


def _one_key(t, primary, constraint, columns, definition):
    if primary is not None:
        raise OperationalError(f'table "{t.name}" has more than one primary key')
    positions = _positions(t, columns)
    if (t.has_rowid and len(columns) == 1
            and (t.columns[positions[0]].decltype or "").upper() == "INTEGER"
            and not (definition is not None and constraint.descending)):
        t.rowid_column, t.rowid_conflict = positions[0], constraint.on_conflict
        t.autoincrement = constraint.autoincrement
        t.columns[positions[0]].primary = 1
        return constraint
    if constraint.autoincrement:
        raise OperationalError("AUTOINCREMENT is only allowed on an INTEGER PRIMARY KEY" if t.has_rowid
                               else "AUTOINCREMENT not allowed on WITHOUT ROWID tables")
    key = _key(t, columns, "pk", constraint.on_conflict)
    for n, position in enumerate(key.columns):
        t.columns[position].primary = t.columns[position].primary or n + 1
    if not t.has_rowid:
        t.keys.remove(key)
        t.primary_key = key
        seen = {}
        for n, position in enumerate(key.columns):
            seen.setdefault((position, key.collations[n]), n)
        kept = list(seen.values())
        key.columns = [key.columns[n] for n in kept]
        key.collations = [key.collations[n] for n in kept]
        key.descending = [key.descending[n] for n in kept]
        for position in key.columns:
            t.columns[position].not_null = t.columns[position].not_null or "ABORT"
    return constraint


def _positions(t, columns):
    found = []
    for item in columns:
        expr = item.expr.operand if isinstance(item.expr, ast.Collate) else item.expr
        if isinstance(expr, ast.Literal) and isinstance(expr.value, str):
            expr = ast.Column(expr.value)
        if not isinstance(expr, ast.Column):
            raise OperationalError("expressions prohibited in PRIMARY KEY and UNIQUE constraints")
        position = t.by_name.get(fold(expr.name))
        if position is None:
            raise OperationalError(f"table {t.name} has no column named {expr.name}")
        found.append(position)
    return found


def _key(t, columns, origin, conflict):
    positions = _positions(t, columns)
    collations = [_collation(t, item, position) for item, position in zip(columns, positions)]
    descending = [item.descending for item in columns]
    for key in t.keys:
        if key.columns == positions and key.collations == collations:
            # SQLite makes one index for constraints that say the same; the primary key's name for it wins.
            if origin == "pk":
                key.origin = "pk"
            key.conflict = key.conflict or conflict
            return key
    key = Index(None, t, 0, positions, collations, descending, True, origin, conflict=conflict)
    t.keys.append(key)
    return key


def _collation(t, item, position):
    if item.collation:
        return collation_of(item.collation)
    if isinstance(item.expr, ast.Collate):
        return collation_of(item.expr.collation)
    return t.columns[position].collation if position >= 0 else 0


def _constant(column):
    """The default as a value for records older than the column; only constants can be one."""
    expr = column.default
    sign = 1
    while isinstance(expr, ast.Unary) and expr.op in "+-":
        sign = -sign if expr.op == "-" else sign
        expr = expr.operand
    if isinstance(expr, ast.Literal):
        value = expr.value
        if sign < 0 and isinstance(value, (int, float)):
            value = -value
        return convert(value, column.affinity)
    if isinstance(expr, ast.Column) and expr.table is None and expr.name.upper() in ("TRUE", "FALSE"):
        return int(expr.name.upper() == "TRUE")
    return None


def index_of(statement, table, tree=0):
    """The Index that a CREATE INDEX statement describes."""
    columns, collations = [], []
    for item in statement.columns:
        expr = item.expr.operand if isinstance(item.expr, ast.Collate) else item.expr
        if isinstance(expr, ast.Literal) and isinstance(expr.value, str) and expr.value in table.by_name:
            expr = ast.Column(expr.value)
        if not isinstance(expr, ast.Column):
            columns.append(item.expr)
            collations.append(collation_of(item.collation) if item.collation else
                              collation_of(item.expr.collation) if isinstance(item.expr, ast.Collate) else 0)
            continue
        position = table.find(expr.name)
        if position is None:
            raise OperationalError(f"no such column: {expr.name}")
        columns.append(position)
        collations.append(_collation(table, item, position))
    return Index(statement.index.name, table, tree, columns, collations, [c.descending for c in statement.columns],
                 statement.unique, "c", statement.where, statement.sql)


class Schema:
    """All names at one version of the catalog. temporary: rows of the session's own views, which come before the others."""

    def __init__(self, transaction, old=None, temporary=(), database="main"):
        self.rows = {}
        self.database = database
        self.indexes = {}
        self.triggers = {}              # rows, by the folded name of their table
        self.parents = None             # made by foreignkeys.naming
        for row in engine_catalog.items(transaction):
            self.rows[fold(row["name"])] = row
        for row in temporary:
            self.rows[fold(row["name"])] = row
        for name, row in self.rows.items():
            if row["kind"] == "index":
                self.indexes.setdefault(fold(row["table"]), []).append(row)
            elif row["kind"] == "trigger":
                self.triggers.setdefault(fold(row["table"]), []).append(row)
        self._objects = {}
        self.statistics = None          # statistics.Statistics, once somebody asked
        self._triggers = {}
        self._old = old
        if old is not None:
            old._old = None

    def get(self, name, database=None):
        """The Table, View, or other row (a dict) of that name, or None."""
        name = fold(name)
        if database is not None and database != self.database:
            row = self.rows.get(name)
            if database != "temp" or row is None or not row.get("temporary"):
                return None
        found = self._objects.get(name)
        if found is None:
            row = self.rows.get(name)
            if row is None:
                return None
            found = self._objects[name] = self._load(name, row)
        return found

    def _load(self, name, row):
        kind = row["kind"]
        if kind not in ("table", "view"):
            return row
        if self._old is not None and self._old.rows.get(name) == row and name in self._old._objects and (
                self._old.indexes.get(name) == self.indexes.get(name)):
            return self._old._objects[name]
        if kind == "view":
            view = View()
            view.name, view.sql, view.statement, view.seq = row["name"], row["sql"], parse(row["sql"]), row.get("seq", 0)
            view.database = self.database
            return view
        table = table_of(parse(row["sql"]), row["tree"])
        table.name, table.sql, table.database = row["name"], row["sql"], self.database
        table.version, table.seq = row.get("version", 0), row.get("seq", 0)
        keys = iter(table.keys)
        for index_row in sorted(self.indexes.get(name, ()), key=lambda r: r["seq"]):
            if index_row["sql"] is None:
                key = next(keys, None)
                if key is None:
                    raise DatabaseError(f"malformed database schema ({index_row['name']})")
                key.name, key.tree = index_row["name"], index_row["tree"]
                table.indexes.append(key)
            else:
                index = index_of(parse(index_row["sql"]), table, index_row["tree"])
                index.name = index_row["name"]
                table.indexes.append(index)
        return table

    def triggers_on(self, name):
        """The triggers on a table or view, as Trigger, the oldest first."""
        name = fold(name)
        found = self._triggers.get(name)
        if found is None:
            rows = sorted(self.triggers.get(name, ()), key=lambda row: row["seq"])
            found = self._triggers[name] = [Trigger(row, self.database) for row in rows]
        return found

    def table(self, name):
        """The Table of that name; raises "no such table"."""
        found = self.get(name)
        if not isinstance(found, Table):
            raise OperationalError(f"no such table: {name}")
        return found

    def index(self, name):
        """The Index of that name, or None."""
        row = self.rows.get(fold(name))
        if row is None or row["kind"] != "index":
            return None
        for index in self.table(row["table"]).indexes:
            if fold(index.name) == fold(name):
                return index
        return None

    def next_seq(self):
        return 1 + max((row.get("seq", 0) for row in self.rows.values()), default=0)

    def schema_rows(self, temporary=False):
        """The rows of sqlite_schema, or of sqlite_temp_schema."""
        found = []
        for row in sorted(self.rows.values(), key=lambda r: r.get("seq", 0)):
            if row.get("temporary", False) == temporary and row["kind"] in ("table", "index", "view", "trigger"):
                found.append((row["kind"], row["name"], row.get("table", row["name"]), row["tree"], row["sql"]))
        return found
