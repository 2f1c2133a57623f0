"""Cursors: statements in, rows out."""
from __future__ import annotations

import re
from itertools import chain, islice

from memora.dbapi.adapters import converters
from memora.dbapi.cursors import ConnectionBase, CursorBase
from memora.errors import NotText, ProgrammingError

PARSE_DECLTYPES = 1
PARSE_COLNAMES = 2
LEGACY_TRANSACTION_CONTROL = -1

_FIRST_WORD = re.compile(r"(?:[\s;]|--[^\n]*(?:\n|\Z)|/\*(?s:.*?)\*/)*([A-Za-z]*)")
CHANGES = ("INSERT", "UPDATE", "DELETE", "REPLACE")
_NOTHING = object()


def _first_word(sql):
    return _FIRST_WORD.match(sql)[1].upper()


def _text_of(value):
    """A value as the bytes that a converter or a text factory gets: those in the database, even if they are not UTF-8."""
    if value.__class__ is str:
        return value.encode("utf-8", "surrogateescape")
    return value if value.__class__ is bytes else str(value).encode()


class Cursor(CursorBase):
    """The rows of one statement. Made by `Connection.cursor()`.

    `description`: None or a 7-tuple a column, of which only the name is set. `rowcount`: rows changed by the last INSERT,
    UPDATE, DELETE or REPLACE, else -1. `lastrowid`: rowid of the last row that `execute` inserted, None before. `arraysize`: what
    fetchmany takes without a size, 1. `row_factory`: None, or a callable of (cursor, tuple).
    """

    def __init__(self, connection, /):
        if not issubclass(type(connection), ConnectionBase):
            raise TypeError(f"Cursor() argument must be memora.dbapi.Connection, not {type(connection).__name__}")
        connection._check()
        if self._busy:
            raise ProgrammingError("Recursive use of cursors not allowed.")
        if self.connection is not None:
            self._reset()
        self.connection = connection
        self.arraysize = 1
        self._changed = -1

    @property
    def rowcount(self):
        """Rows changed; counted on while the rows of RETURNING are fetched."""
        result = self._result
        return self._changed if result is None or self._changed < 0 else result.rowcount

    def _check(self):
        if self.connection is None:
            raise ProgrammingError("Base Cursor.__init__ not called.")
        if self._closed:
            raise ProgrammingError("Cannot operate on a closed cursor.")
        self.connection._check()
        if self._busy:
            raise ProgrammingError("Recursive use of cursors not allowed.")

    def _execute(self, sql, parameters):
        """Run one statement in whatever way it needs; cursors.pyx has the straight way of those that need nothing."""
        self._check()
        connection = self.connection
        sql = connection._checked_text(sql)
        self._busy = True
        try:
            self._reset()
            word = _first_word(sql)
            if not word and _blank(sql):
                return self
            values = connection._prepared(parameters)
            connection._begin_for(word)
            connection._trace(sql, values)
            self._take(connection._session.execute(sql, values))
        finally:
            self._busy = False
        return self

    def executemany(self, sql, parameters, /):
        """Run one INSERT, UPDATE, DELETE or REPLACE for each item of `parameters`. Returns the cursor."""
        self._check()
        connection = self.connection
        sql = connection._checked_text(sql)
        word = _first_word(sql)
        if word not in CHANGES and word != "WITH":
            raise ProgrammingError("executemany() can only execute DML statements.")
        self._busy = True
        try:
            self._reset()
            rows = iter(parameters)
            connection._begin_for(word)
            sets = connection._all_prepared(rows)
            if connection._tracer is not None:
                sets = connection._traced(sql, sets)
            result = connection._session.executemany(sql, sets)
            self._changed = result.rowcount
            result.close()
        finally:
            self._busy = False
        return self

    def executescript(self, sql_script, /):
        """Run all statements of a text, after committing what is open (not where autocommit=False). Returns the cursor."""
        self._check()
        connection = self.connection
        if isinstance(sql_script, str) and "\0" in sql_script:
            raise ValueError("embedded null character")
        sql_script = connection._checked_text(sql_script, "script")
        from memora.sql.parser import iterate_script
        self._reset()
        if connection._autocommit == LEGACY_TRANSACTION_CONTROL:
            connection.commit()
        for _, text in iterate_script(sql_script):
            connection._trace(text)
            result = connection._session.execute(text, ())
            if result.columns is not None:
                for _ in result:
                    pass
            result.close()
        return self

    def _reset(self):
        result, self._result = self._result, None
        self._rows = self._names = self.description = None
        self._changed = -1
        if result is not None:
            result.close()

    def _take(self, result):
        if result.kind in ("insert", "replace", "update", "delete"):
            self._changed = result.rowcount
            if result.kind in ("insert", "replace") and result.lastrowid is not None:
                self.lastrowid = result.lastrowid
        if result.columns is None:
            result.close()
            return
        self._result = result
        names = result.columns
        if self.connection._detect_types & PARSE_COLNAMES:
            names = tuple([name.partition("[")[0].rstrip(" ") if "[" in name else name for name in names])
        self.description = tuple([(name, None, None, None, None, None, None) for name in names])
        self._names = names
        rows = iter(result)
        readers = self._readers(result)
        if readers is not None:
            result.escape()
        # Like sqlite3, go to the first row now: what fails there fails in execute().
        head = next(rows, _NOTHING)
        rows = iter(()) if head is _NOTHING else chain((head,), rows)
        self._rows = rows if readers is None else self._read(rows, readers)

    def _read(self, rows, readers):
        for row in rows:
            self._busy = True
            try:
                row = tuple([reader(value) for reader, value in zip(readers, row)])
            finally:
                self._busy = False
            yield row

    def _readers(self, result):
        """One function a column, or None where rows can be handed out as they are."""
        connection = self.connection
        detect = connection._detect_types
        if not detect and connection.text_factory is str and connection._limits is None:
            return None
        found = [_text_reader(connection, name) for name in result.columns]
        if detect:
            decltypes = result.decltypes or [None] * len(found)
            for place, name in enumerate(result.columns):
                converter = None
                if detect & PARSE_COLNAMES and "[" in name:
                    converter = converters.get(name.partition("[")[2].partition("]")[0].upper())
                if converter is None and detect & PARSE_DECLTYPES and decltypes[place]:
                    converter = converters.get(re.split(r"[ (]", decltypes[place], maxsplit=1)[0].upper())
                if converter is not None:
                    found[place] = _converting(converter)
        return found

    def _row_names(self):
        return () if self.description is None else self._names

    def fetchmany(self, size=None):
        """The next `size` (default `arraysize`) rows, as a list; fewer at the end."""
        self._check()
        size = self.arraysize if size is None else size
        return list(islice(self, size)) if size >= 0 else self.fetchall()

    def close(self):
        """End the cursor; using it afterwards raises ProgrammingError."""
        if not self._closed:
            self._check()
        self.connection._check()
        changed = self.rowcount
        self._reset()
        self._changed = changed         # it may be asked for after the end, as in sqlite3
        self._closed = True

    def setinputsizes(self, sizes, /):
        """Required by PEP 249; does nothing."""

    def setoutputsize(self, size, column=None, /):
        """Required by PEP 249; does nothing."""


def _blank(sql):
    from memora.sql.parser import is_blank
    return is_blank(sql)


def _text_reader(connection, column):
    def read(value):
        connection._bounded(value)
        factory = connection.text_factory           # as it is now, like sqlite3
        if value.__class__ is not str:
            return value
        if factory is not str:
            return factory(_text_of(value))
        if not value.isascii() and not value.isprintable():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise NotText(_text_of(value), column) from None
        return value
    return read


def _converting(converter):
    return lambda value: None if value is None or value == b"" else converter(_text_of(value))
