"""What is known of the sizes of tables and of the columns of indexes, and ANALYZE, which finds it out.

`sqlite_stat1(tbl, idx, stat)` is an ordinary table with SQLite's contents: for each index "ROWS A B ...", A being the rows that one value
of the first column has on average, B those of one pair of the first two, and so on; for a table without a whole index idx is NULL and
stat "ROWS". It is read again when the schema moves, so who changes it by hand says `ANALYZE sqlite_schema` behind it, as in SQLite. A
table that it does not mention counts as many rows as its tree seems to have (`Transaction.entries_about`).
"""
from __future__ import annotations

from memora.engine.rowids import next_rowid

from ..errors import OperationalError
from .analyze import count_entries, distinct_prefixes
from .catalog import SCHEMA_NAMES, Table, fold
from .changes import tree_items
from .delta import unread_items
from .record import decode, encode

NAME = "sqlite_stat1"
SQL = "CREATE TABLE sqlite_stat1(tbl,idx,stat)"


class Statistics:
    """What a schema's sqlite_stat1 says: {(table, index or table): [rows, averages...]}, names folded."""

    def __init__(self, schema, transaction):
        self.lines = {}
        table = schema.get(NAME)
        if not isinstance(table, Table) or not table.has_rowid or len(table.columns) < 3:
            return
        for _, value in unread_items(transaction, table.tree):
            name, index, text = decode(value, len(table.columns))[:3]
            numbers = numbers_of(text)
            if isinstance(name, str) and numbers:
                self.lines[fold(name), fold(index if isinstance(index, str) else name)] = numbers

    def rows(self, table):
        """Rows of a table, or None."""
        if not self.lines:
            return None
        for name in (table.name, *(index.name for index in table.indexes if index.where is None)):
            found = self.lines.get((fold(table.name), fold(name)))
            if found is not None:
                return float(found[0])
        return None

    def index(self, index):
        """[entries, averages...] of an index, or None."""
        if not self.lines:
            return None
        table = fold(index.table.name)
        return self.lines.get((table, table if index is index.table.primary_key else fold(index.name)))


def numbers_of(text):
    """The leading numbers of a line; what comes behind them ("unordered", "sz=...") says nothing here."""
    numbers = []
    for word in str(text).split():
        if not word.isdigit():
            break
        numbers.append(max(int(word), 1))
    return numbers


def averages(entries, distinct):
    """The numbers of a line of an index, rounded as SQLite rounds them."""
    numbers = [entries]
    for n in distinct:
        average = (entries + n - 1) // n
        numbers.append(1 if average == 2 and entries * 10 <= n * 11 else average)
    return " ".join(map(str, numbers))


def lines_of(transaction, table, only=None):
    """The rows of sqlite_stat1 for a table, or for one index of it."""
    counted = False
    if only is None and not table.has_rowid:
        entries, distinct = distinct_prefixes(transaction, table.tree, [bool(d) for d in table.primary_key.descending])
        counted = True
        if entries:
            yield table.name, table.name, averages(entries, distinct)
    for index in reversed(table.indexes):
        if only is not None and index is not only:
            continue
        entries, distinct = distinct_prefixes(transaction, index.tree, [bool(d) for d in index.descending])
        counted = counted or index.where is None
        if entries:
            yield table.name, index.name, averages(entries, distinct)
    if not counted and only is None:
        entries = count_entries(transaction, table.tree)
        if entries:
            yield table.name, None, str(entries)


def analyze(change, node):
    """ANALYZE: of all tables of a database, of one table, or of one index."""
    schema, name = change.schema, None if node.target is None else node.target.name
    if name is not None and node.target.schema is None and fold(name) == schema.database:
        name = None                     # ANALYZE main
    if name is not None and fold(name) in SCHEMA_NAMES:
        again(change)
        return 0
    only = None
    if name is None:
        tables = [schema.get(row["name"]) for row in schema.rows.values() if row["kind"] == "table"]
    else:
        found = schema.get(name)
        only = None if isinstance(found, Table) else schema.index(name)
        if not isinstance(found, Table) and only is None:
            raise OperationalError(f"no such table: {name}")
        tables = [only.table if only is not None else found]
    tables = [table for table in tables if not fold(table.name).startswith("sqlite_")]
    if not isinstance(schema.get(NAME), Table):
        tree = change.transaction.create_tree()
        change.put("table", NAME, tree, SQL)
    else:
        tree = schema.get(NAME).tree
        remove(change.transaction, tree, None if name is None else tables[0].name if only is None else None, only and only.name)
    for table in tables:
        for line in lines_of(change.transaction, table, only):
            key = (next_rowid(change.transaction, tree) + (1 << 63)).to_bytes(8, "big")
            change.transaction.put(tree, key, encode(list(line)))
    again(change)
    return 0


def again(change):
    """Makes everybody plan anew."""
    row = change.schema.rows.get(NAME)
    if row is not None:
        change.replace(row)
    change.session.schema_changed()


def remove(transaction, tree, table, index):
    """Takes the lines of a table, of an index, or, if both are None, all out of sqlite_stat1."""
    for key, value in tree_items(transaction, tree):
        name, other, _ = decode(value, 3)
        if table is None and index is None or table is not None and isinstance(name, str) and fold(name) == fold(table) or (
                index is not None and isinstance(other, str) and fold(other) == fold(index)):
            transaction.delete(tree, key)


def forget(schema, transaction, table=None, index=None):
    """DROP TABLE and DROP INDEX: their lines go."""
    found = schema.get(NAME)
    if isinstance(found, Table) and fold(table or index) != NAME:
        remove(transaction, found.tree, table, index)
