"""The rows that `row_factory = Row` makes."""
from __future__ import annotations

from collections.abc import Sequence

from memora.dbapi.cursors import CursorBase


class Row(Sequence):
    """A row that is also addressed by column name, without regard to case: `row["name"]`, `row[0]`, `row.keys()`."""

    __slots__ = ("_names", "_values")

    def __new__(cls, cursor, data, /):
        if not issubclass(type(cursor), CursorBase):
            raise TypeError(f"Row() argument 1 must be memora.dbapi.Cursor, not {type(cursor).__name__}")
        if not isinstance(data, tuple):
            raise TypeError(f"Row() argument 2 must be tuple, not {type(data).__name__}")
        row = super().__new__(cls)
        row._names = cursor._row_names()
        row._values = data
        return row

    def __init__(self, cursor, data, /):
        pass

    def keys(self):
        """The column names, as a list."""
        return list(self._names)

    def __getitem__(self, key):
        if isinstance(key, str):
            names = self._names
            if key in names:
                return self._values[names.index(key)]
            folded = _fold(key)
            for place, name in enumerate(names):
                if _fold(name) == folded:
                    return self._values[place]
            raise IndexError("No item with that key")
        if isinstance(key, (int, slice)):
            return self._values[key]
        raise IndexError("Index must be int or string")

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return iter(self._values)

    def __hash__(self):
        return hash((self._names, self._values))

    def __eq__(self, other):
        if not isinstance(other, Row):
            return NotImplemented
        return self._names == other._names and self._values == other._values

    def __repr__(self):
        return f"<memora.dbapi.Row {dict(zip(self._names, self._values))!r}>"


_LOWER = {upper: upper + 32 for upper in range(65, 91)}


def _fold(name):
    """A name with its ASCII letters in lower case: SQL's notion of the same name."""
    return name.translate(_LOWER)
