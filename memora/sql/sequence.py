"""AUTOINCREMENT: the table sqlite_sequence(name, seq), one row a table, with the largest rowid that it ever used."""
from __future__ import annotations

from memora.engine.rowids import next_rowid

from .catalog import fold
from .record import decode, encode
from .writer import tree_items

NAME = "sqlite_sequence"
SQL = "CREATE TABLE sqlite_sequence(name,seq)"


def schema_of(schema, table):
    """The schema of a table's database."""
    return schema if table.database == "main" else schema.named(table.database)


class Counter:
    """The counter of one table during one statement."""

    def __init__(self, schema, table):
        self.tree = schema.table(NAME).tree
        self.name = table.name
        self.rowid = self.value = self.start = None

    def rows(self, transaction):
        for key, value in tree_items(transaction, self.tree):
            name, value = decode(value, 2)
            yield int.from_bytes(key, "big") - (1 << 63), name, value

    def begin(self, transaction):
        self.rowid, self.value = None, 0
        for rowid, name, value in self.rows(transaction):
            if isinstance(name, str) and fold(name) == fold(self.name):
                self.rowid, self.value = rowid, value if isinstance(value, int) else 0
        self.start = self.value

    def next(self, transaction, free):
        """The rowid for a new row, `free` being what the engine offers."""
        self.value = max(free, self.value + 1)
        return self.value

    def used(self, rowid):
        self.value = max(self.value, rowid)

    def end(self, transaction):
        if self.value != self.start or self.rowid is None:
            if self.rowid is None:
                self.rowid = next_rowid(transaction, self.tree)
            transaction.put(self.tree, (self.rowid + (1 << 63)).to_bytes(8, "big"), encode([self.name, self.value]))


def forget(schema, transaction, name):
    """DROP TABLE: the table's row goes."""
    if schema.get(NAME) is not None:
        tree = schema.table(NAME).tree
        for key, value in tree_items(transaction, tree):
            if fold(str(decode(value, 2)[0])) == fold(name):
                transaction.delete(tree, key)


def rename(schema, transaction, name, new):
    """ALTER TABLE RENAME: the table's row gets the new name."""
    if schema.get(NAME) is not None:
        tree = schema.table(NAME).tree
        for key, value in tree_items(transaction, tree):
            found, number = decode(value, 2)
            if fold(str(found)) == fold(name):
                transaction.put(tree, key, encode([new, number]))
