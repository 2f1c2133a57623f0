"""AUTOINCREMENT: the table sqlite_sequence(name, seq), one row a table, with the largest rowid that it ever used."""
from __future__ import annotations

from memora.engine.rowids import newest, next_rowid

from ..errors import OperationalError
from .catalog import fold
from .changes import tree_items
from .delta import raise_column, unread_items
from .record import decode, encode

NAME = "sqlite_sequence"
LARGEST = (1 << 63) - 1
SQL = "CREATE TABLE sqlite_sequence(name,seq)"


def schema_of(schema, table):
    """The schema of a table's database."""
    return schema if getattr(schema, "database", None) == table.database else schema.named(table.database)


class Counter:
    """The counter of one table during one statement.

    It is neither read nor written as a whole: the commit raises it to the largest rowid used (`delta.raise_column`), and a number is
    compared with the newest counter after it was reserved, so that nobody can have used it and deleted its row before. Only the first
    rowid of a table, which makes the counter's row, is an ordinary change.
    """

    def __init__(self, schema, table):
        self.tree = schema.table(NAME).tree
        self.table_tree = table.tree
        self.name = table.name
        self.key = self.value = self.start = self.checked = None

    def begin(self, transaction):
        self.key, self.value, self.checked = None, 0, None
        # a row that is not there is read: two transactions must not make it both
        for items in (unread_items, tree_items):
            for key, value in items(transaction, self.tree):
                name, number = decode(value, 2)
                if isinstance(name, str) and fold(name) == fold(self.name):
                    self.key, self.value = key, number if isinstance(number, int) else 0
            if self.key is not None:
                break
        self.start = self.value

    def next(self, transaction):
        """The rowid for a new row."""
        if self.value >= LARGEST:
            raise OperationalError("database or disk is full: the largest rowid of an AUTOINCREMENT table was used")
        while True:
            number = next_rowid(transaction, self.table_tree, self.value + 1)
            if number <= self.value:
                raise OperationalError("database or disk is full: the largest rowid of an AUTOINCREMENT table is taken")
            if transaction.reservations == self.checked or self.key is None:
                break
            self.checked = transaction.reservations
            row = newest(transaction, self.tree, self.key)
            used = decode(row, 2)[1] if row is not None else 0
            if not isinstance(used, int) or used < number:
                break
            self.value = used
        self.value = number
        return number

    def used(self, rowid):
        self.value = max(self.value, rowid)

    def end(self, transaction):
        if self.key is None:
            self.key = (next_rowid(transaction, self.tree) + (1 << 63)).to_bytes(8, "big")
        elif self.value == self.start or raise_column(transaction, self.tree, self.key, 1, self.value):
            return
        transaction.put(self.tree, self.key, encode([self.name, self.value]))


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
