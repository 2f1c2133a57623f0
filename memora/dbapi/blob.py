"""Blobs: the bytes of one value, read and written in parts as those of a file that cannot change its length.

READING   reads the part that is asked for, as the connection's transaction sees it, or outside of one as it is committed.
WRITING   is an UPDATE of the value, in the open transaction or in one of its own; so it copies the value, fires triggers, and one write
          of much is better than many of little. It does not count as a change of rows.
EXPIRY    A blob is at its end when the row is gone, or holds something of another length or type: OperationalError. (SQLite ends it at
          any change of the row.)
"""
from __future__ import annotations

import operator
import os
import sys

from memora.dbapi.dump import quoted
from memora.errors import OperationalError, ProgrammingError, ReadOnly

LONGEST = 2**31 - 1


class Blob:
    """Made by Connection.blobopen: read, write, seek, tell, len, single bytes and slices; `with` closes it."""

    __slots__ = ("_connection", "_place", "_readonly", "_kind", "_size", "_offset", "_closed", "__weakref__")

    def __new__(cls, *args, **kwargs):
        raise TypeError(f"cannot create '{cls.__module__}.{cls.__name__}' instances")

    @classmethod
    def _of(cls, connection, table, column, row, readonly, name):
        blob = object.__new__(cls)
        blob._connection, blob._readonly, blob._offset, blob._closed = connection, bool(readonly), 0, False
        blob._place = *connection._session.place_of_value(name, table, column, not readonly), operator.index(row)
        found = blob._look()
        if found is None:
            raise OperationalError(f"no such rowid: {row}")
        blob._kind, blob._size = found
        if blob._kind not in ("blob", "text"):
            raise OperationalError(f"cannot open value of type {blob._kind}")
        return blob

    def _look(self):
        return self._row("typeof({column}), length(CAST({column} AS BLOB))")

    def _row(self, what, *values):
        table, column, rowid, row = self._place
        result = self._connection._session.execute(f"SELECT {what.format(column=column)} FROM {table} WHERE {rowid} = ?", (*values, row))
        try:
            return next(result, None)
        finally:
            result.close()

    def _check(self):
        self._connection._check()
        if self._closed:
            raise ProgrammingError("Cannot operate on a closed blob.")

    def _bytes(self, offset, length):
        found = self._row("typeof({column}), length(CAST({column} AS BLOB)), substr(CAST({column} AS BLOB), ?, ?)", offset + 1, length)
        if found is None or found[:2] != (self._kind, self._size):
            raise OperationalError(f"the blob has expired: its value was {self._size} bytes of {self._kind}, and is "
                                   f"{'gone' if found is None else f'{found[1]} of {found[0]}'}")
        return found[2]

    def _put(self, offset, data):
        if self._readonly:
            raise ReadOnly("attempt to write a readonly database: this blob was opened with readonly=True")
        session = self._connection._session
        own, counted = not session.in_transaction, (session.changes, session.total_changes)
        if own:
            session.begin("IMMEDIATE")
        try:
            whole = self._bytes(0, self._size)
            whole = whole[:offset] + data + whole[offset + len(data):]
            table, column, rowid, row = self._place
            value = "CAST(? AS TEXT)" if self._kind == "text" else "?"
            session.execute(f"UPDATE {table} SET {column} = {value} WHERE {rowid} = ?", (whole, row)).close()
        except BaseException:
            if own:
                session.rollback()
            raise
        finally:
            session.changes, session.total_changes = counted
        if own:
            session.commit()

    def read(self, length=-1, /):
        """The next `length` bytes, or all that are left, and moves behind them."""
        self._check()
        left = self._size - self._offset
        length = left if length < 0 else min(length, left)
        data = self._bytes(self._offset, length)
        self._offset += length
        return data

    def write(self, data, /):
        """Overwrites what lies at the position, and moves behind it. ValueError: the blob ends before."""
        self._check()
        data = _buffer(data)
        if len(data) > self._size - self._offset:
            raise ValueError("data longer than blob")
        self._put(self._offset, data)
        self._offset += len(data)

    def seek(self, offset, origin=os.SEEK_SET, /):
        """Moves to `offset` from the beginning, the position (os.SEEK_CUR) or the end (os.SEEK_END)."""
        self._check()
        if origin not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise ValueError("'origin' should be os.SEEK_SET, os.SEEK_CUR, or os.SEEK_END")
        base = (0, self._offset, self._size)[origin]
        if offset > LONGEST - base:
            raise OverflowError("seek offset results in overflow")
        if not 0 <= base + offset <= self._size:
            raise ValueError("offset out of blob range")
        self._offset = base + offset

    def tell(self):
        """The position."""
        self._check()
        return self._offset

    def close(self):
        """Ends the blob; it may be closed twice."""
        self._connection._check()
        self._closed = True

    def __enter__(self):
        self._check()
        return self

    def __exit__(self, kind, error, traceback):
        self._check()
        self.close()

    def __len__(self):
        self._check()
        return self._size

    __iter__ = None                     # as in sqlite3: a mapping of places, no sequence

    def _index(self, key):
        try:
            place = operator.index(key)
        except TypeError:
            raise TypeError("Blob indices must be integers") from None
        if not -sys.maxsize - 1 <= place <= sys.maxsize:
            raise IndexError("cannot fit 'int' into an index-sized integer")
        place += self._size if place < 0 else 0
        if not 0 <= place < self._size:
            raise IndexError("Blob index out of range")
        return place

    def __getitem__(self, key):
        self._check()
        if not isinstance(key, slice):
            return self._bytes(self._index(key), 1)[0]
        places = range(*key.indices(self._size))
        if not places:
            return b""
        low, high = sorted((places[0], places[-1]))
        data = self._bytes(low, high + 1 - low)
        return data if places.step == 1 else data[::places.step]

    def __setitem__(self, key, value):
        self._check()
        if not isinstance(key, slice):
            place = self._index(key)
            if not hasattr(type(value), "__index__"):
                raise TypeError(f"'{type(value).__name__}' object cannot be interpreted as an integer")
            if not 0 <= operator.index(value) <= 255:
                raise ValueError("byte must be in range(0, 256)")
            self._put(place, bytes((value,)))
            return
        places = range(*key.indices(self._size))
        data = _buffer(value)
        if len(data) != len(places):
            raise IndexError("Blob slice assignment is wrong size")
        if places:
            low, high = sorted((places[0], places[-1]))
            part = bytearray(self._bytes(low, high + 1 - low))
            part[::places.step] = data
            self._put(low, bytes(part))

    def __delitem__(self, key):
        self._check()
        raise TypeError(f"Blob object doesn't support {'slice' if isinstance(key, slice) else 'item'} deletion")


def _buffer(data):
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("underlying buffer is not C-contiguous")
    return view.tobytes()
