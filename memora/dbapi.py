"""PEP 249 (DB-API 2.0) over a Memora session, with the standard library's `sqlite3` as the model of every signature.

A program that does `import memora.dbapi as sqlite3` should work: same names, same defaults, same implicit transactions,
same Row, adapters, converters. What sqlite3 has and Memora has not yet raises NotSupportedError.

TRANSACTIONS
`autocommit=LEGACY_TRANSACTION_CONTROL` (default): outside a transaction, INSERT, UPDATE, DELETE and REPLACE begin one, of the
kind that `isolation_level` names; `isolation_level=None` begins none. `autocommit=True`: nothing is begun, commit and rollback do
nothing. `autocommit=False`: a transaction is always open. All three work on every Python version.

DIFFERENCES
A COMMIT may raise SerializationError: another process changed what this transaction had read; run it again.
`lastrowid` is set by INSERT and REPLACE only. `cached_statements` is taken and has no use: plans are kept by the session.
"""
from __future__ import annotations

import datetime
import os
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from urllib.parse import parse_qs, unquote, urlsplit

from .cursors import ConnectionBase, CursorBase, plain
from .errors import (DatabaseError, DataError, Error, IntegrityError, InterfaceError, InternalError,
                     NotSupportedError, OperationalError, ProgrammingError, Warning)

__all__ = [
    "apilevel", "paramstyle", "threadsafety", "sqlite_version", "sqlite_version_info",
    "connect", "Connection", "Cursor", "Row", "PrepareProtocol",
    "Warning", "Error", "InterfaceError", "DatabaseError", "DataError", "OperationalError", "IntegrityError",
    "InternalError", "ProgrammingError", "NotSupportedError",
    "Binary", "Date", "Time", "Timestamp", "DateFromTicks", "TimeFromTicks", "TimestampFromTicks",
    "PARSE_DECLTYPES", "PARSE_COLNAMES", "LEGACY_TRANSACTION_CONTROL",
    "register_adapter", "register_converter", "adapt", "adapters", "converters", "complete_statement",
    "enable_callback_tracebacks",
]

apilevel = "2.0"
paramstyle = "qmark"
#: Threads may share the module, not a connection (unless check_same_thread=False and they take turns).
threadsafety = 1
#: The SQLite whose dialect Memora speaks, for programs that ask before they use a feature.
sqlite_version = "3.40.1"
sqlite_version_info = (3, 40, 1)

PARSE_DECLTYPES = 1
PARSE_COLNAMES = 2
LEGACY_TRANSACTION_CONTROL = -1

Binary = memoryview
Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime


def DateFromTicks(ticks):
    """The local date of a time in seconds since the epoch."""
    return Date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks):
    """The local time of day of a time in seconds since the epoch."""
    return Time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks):
    """The local date and time of a time in seconds since the epoch."""
    return Timestamp(*time.localtime(ticks)[:6])


# --------------------------------------------------------------------------------------------- adapters, converters

class PrepareProtocol:
    """The protocol that an object's `__conform__` is asked for when it is bound to a parameter."""


#: (type, protocol) -> function, and upper-case type name -> function of bytes.
adapters = {}
converters = {}


def register_adapter(type, adapter, /):  # noqa: A002  (the name that sqlite3 documents)
    """Bind objects of exactly this type as `adapter(object)`."""
    adapters[type, PrepareProtocol] = adapter


def register_converter(typename, converter, /):
    """Read columns of this declared type through `converter(bytes)`, where detect_types asks for it."""
    converters[typename.upper()] = converter


_NO_DEFAULT = object()


def adapt(obj, proto=PrepareProtocol, alt=_NO_DEFAULT, /):
    """`obj` adapted to a protocol: by a registered adapter, `proto.__adapt__` or `obj.__conform__`."""
    adapter = adapters.get((type(obj), proto))
    if adapter is not None:
        return adapter(obj)
    for owner, method in ((proto, "__adapt__"), (obj, "__conform__")):
        function = getattr(owner, method, None)
        if function is not None:
            adapted = function(obj if owner is proto else proto)
            if adapted is not None:
                return adapted
    if alt is not _NO_DEFAULT:
        return alt
    raise ProgrammingError("can't adapt")


def _parse_date(value):
    return datetime.date(*map(int, value.split(b"-")))


def _parse_timestamp(value):
    day, _, moment = value.partition(b" ")
    zone = None
    clock, sign, offset = re.fullmatch(rb"([^+-]*)([+-]?)(.*)", moment).groups()
    if sign:
        hours, _, minutes = offset.partition(b":")
        delta = datetime.timedelta(hours=int(hours), minutes=int(minutes or 0))
        zone = datetime.timezone(-delta if sign == b"-" else delta)
    whole, _, fraction = clock.partition(b".")
    microseconds = int(f"{fraction.decode():0<6.6}") if fraction else 0
    return datetime.datetime(*map(int, day.split(b"-")), *map(int, whole.split(b":")), microseconds, zone)


register_adapter(datetime.date, lambda value: value.isoformat())
register_adapter(datetime.datetime, lambda value: value.isoformat(" "))
register_converter("date", _parse_date)
register_converter("timestamp", _parse_timestamp)

_PLAIN = frozenset((int, float, str, bytes, type(None)))


def _bindable(value, where):
    """A value as the session takes it: None, int of 64 bits, float, str, bytes."""
    kind = value.__class__
    if kind not in _PLAIN:
        if kind is not bytearray and kind is not memoryview:
            value = adapt(value, PrepareProtocol, value)
        if isinstance(value, int):
            value = int(value)
        elif isinstance(value, float):
            value = float(value)
        elif isinstance(value, str):
            value = str(value)
        elif value is not None:
            try:
                view = memoryview(value)
            except TypeError:
                raise ProgrammingError(
                    f"Error binding parameter {where}: type '{type(value).__name__}' is not supported") from None
            if not view.c_contiguous:
                raise BufferError("underlying buffer is not C-contiguous")
            return bytes(view)
    if value.__class__ is int and not -(2**63) <= value < 2**63:
        raise OverflowError("Python int too large to convert to SQLite INTEGER")
    return value


class _Named(Mapping):
    """Named parameters, each adapted when it is asked for: those that no statement names may be anything."""

    __slots__ = ("_given",)

    def __init__(self, given):
        self._given = given

    def __getitem__(self, name):
        return _bindable(self._given[name], f":{name}")

    def __iter__(self):
        return iter(self._given)

    def __len__(self):
        return len(self._given)


def _parameters(given):
    """Parameters as the session takes them: a tuple, or a mapping."""
    if plain(given):
        return given
    kind = given.__class__
    if kind is tuple or kind is list or (not isinstance(given, Mapping) and isinstance(given, Sequence)):
        return tuple([_bindable(value, place) for place, value in enumerate(given, 1)])
    if kind is dict or isinstance(given, Mapping) or hasattr(kind, "__missing__"):
        return _Named(given)
    if hasattr(kind, "__getitem__") and hasattr(kind, "__len__"):
        return tuple([_bindable(given[place], place + 1) for place in range(len(given))])
    raise ProgrammingError("parameters are of unsupported type")


# --------------------------------------------------------------------------------------------------------------- Row

class Row(Sequence):
    """A row that is also addressed by column name, without regard to case: `row["name"]`, `row[0]`, `row.keys()`."""

    __slots__ = ("_names", "_values")

    def __new__(cls, cursor, data, /):
        if not isinstance(cursor, Cursor):
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


# ------------------------------------------------------------------------------------------------------------ cursor

_FIRST_WORD = re.compile(r"(?:[\s;]|--[^\n]*(?:\n|\Z)|/\*(?s:.*?)\*/)*([A-Za-z]*)")
_CHANGES = ("INSERT", "UPDATE", "DELETE", "REPLACE")
_NOTHING = object()


def _first_word(sql):
    return _FIRST_WORD.match(sql)[1].upper()


def _text_of(value):
    """A value as the bytes that a converter or a text factory gets."""
    if value.__class__ is str:
        return value.encode("utf-8", "surrogatepass")
    return value if value.__class__ is bytes else str(value).encode()


class Cursor(CursorBase):
    """The rows of one statement. Made by `Connection.cursor()`.

    `description`: None or a 7-tuple a column, of which only the name is set. `rowcount`: rows changed by the last INSERT,
    UPDATE, DELETE or REPLACE, else -1. `lastrowid`: rowid of the last row that `execute` inserted, None before. `arraysize`: what
    fetchmany takes without a size, 1. `row_factory`: None, or a callable of (cursor, tuple).
    """

    def __init__(self, connection, /):
        if not isinstance(connection, Connection):
            raise TypeError(f"Cursor() argument must be memora.dbapi.Connection, not {type(connection).__name__}")
        connection._check()
        self.connection = connection
        self.arraysize = 1
        self._changed = -1

    @property
    def rowcount(self):
        """Rows changed; counted on while the rows of RETURNING are fetched."""
        result = self._result
        return self._changed if result is None or self._changed < 0 else result.rowcount

    def _check(self):
        if self._closed:
            raise ProgrammingError("Cannot operate on a closed cursor.")
        self.connection._check()
        if self._busy:
            raise ProgrammingError("Recursive use of cursors not allowed.")

    def _execute(self, sql, parameters):
        """Run one statement in whatever way it needs; cursors.pyx has the straight way of those that need nothing."""
        self._check()
        _check_text(sql)
        self._busy = True
        try:
            self._reset()
            connection = self.connection
            word = _first_word(sql)
            if not word and _blank(sql):
                return self
            values = () if parameters == () else _parameters(parameters)
            connection._begin_for(word)
            connection._trace(sql)
            self._take(connection._session.execute(sql, values))
        finally:
            self._busy = False
        return self

    def executemany(self, sql, parameters, /):
        """Run one INSERT, UPDATE, DELETE or REPLACE for each item of `parameters`. Returns the cursor."""
        self._check()
        _check_text(sql)
        word = _first_word(sql)
        if word not in _CHANGES and word != "WITH":
            raise ProgrammingError("executemany() can only execute DML statements.")
        self._busy = True
        try:
            self._reset()
            connection = self.connection
            connection._begin_for(word)
            connection._trace(sql)
            rows = iter(parameters)
            result = connection._session.executemany(sql, map(_parameters, rows))
            self._changed = result.rowcount
            result.close()
        finally:
            self._busy = False
        return self

    def executescript(self, sql_script, /):
        """Run all statements of a text, after committing what is open (not where autocommit=False). Returns the cursor."""
        self._check()
        _check_text(sql_script, "script")
        from .sql.parser import iterate_script
        self._reset()
        connection = self.connection
        if connection._autocommit == LEGACY_TRANSACTION_CONTROL and connection._session.in_transaction:
            connection._session.commit()
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
        # Like sqlite3, go to the first row now: what fails there fails in execute().
        head = next(rows, _NOTHING)
        rows = iter(()) if head is _NOTHING else chain((head,), rows)
        readers = self._readers(result)
        self._rows = rows if readers is None else _read(rows, readers)

    def _readers(self, result):
        """One function a column, or None where rows can be handed out as they are."""
        connection = self.connection
        detect, factory = connection._detect_types, connection.text_factory
        plain = None if factory is str else _text_reader(factory)
        found = [plain] * len(result.columns)
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
        return found if any(found) else None

    def _row_names(self):
        return () if self.description is None else self._names

    def fetchmany(self, size=None):
        """The next `size` (default `arraysize`) rows, as a list; fewer at the end."""
        self._check()
        size = self.arraysize if size is None else size
        return list(islice(self, size)) if size >= 0 else self.fetchall()

    def close(self):
        """End the cursor; using it afterwards raises ProgrammingError."""
        if self._busy:
            raise ProgrammingError("Recursive use of cursors not allowed.")
        self.connection._check()
        changed = self.rowcount
        self._reset()
        self._changed = changed         # it may be asked for after the end, as in sqlite3
        self._closed = True

    def setinputsizes(self, sizes, /):
        """Required by PEP 249; does nothing."""

    def setoutputsize(self, size, column=None, /):
        """Required by PEP 249; does nothing."""


def _check_text(sql, what="sql"):
    if not isinstance(sql, str):
        raise TypeError(f"{what} must be str, not {type(sql).__name__}")
    if "\0" in sql:
        raise ProgrammingError("the query contains a null character")


def _blank(sql):
    from .sql.parser import is_blank
    return is_blank(sql)


def _read(rows, readers):
    for row in rows:
        yield tuple([value if reader is None else reader(value) for reader, value in zip(readers, row)])


def _text_reader(factory):
    return lambda value: factory(_text_of(value)) if value.__class__ is str else value


def _converting(converter):
    return lambda value: None if value is None else converter(_text_of(value))


# -------------------------------------------------------------------------------------------------------- connection

_LEVELS = ("", "DEFERRED", "IMMEDIATE", "EXCLUSIVE")


def _checked_level(level):
    if level is None:
        return None
    if not isinstance(level, str):
        raise TypeError(f"isolation_level must be str or None, not {type(level).__name__}")
    if level.upper() not in _LEVELS:
        raise ValueError("isolation_level string must be '', 'DEFERRED', 'IMMEDIATE', or 'EXCLUSIVE'")
    return level


def _checked_autocommit(value):
    if value not in (True, False, LEGACY_TRANSACTION_CONTROL):
        raise ValueError("autocommit must be True, False, or LEGACY_TRANSACTION_CONTROL")
    return value if value == LEGACY_TRANSACTION_CONTROL else bool(value)


class Connection(ConnectionBase):
    """A connection: one session on a database, and its transaction.

    `database` is a name as for `memora.open`, or an open `memora.Database`, which then stays open. `timeout` (seconds) is how long a
    statement waits for a lock or ticket. With `check_same_thread`, use from another thread raises ProgrammingError.
    """

    Warning = Warning
    Error = Error
    InterfaceError = InterfaceError
    DatabaseError = DatabaseError
    DataError = DataError
    OperationalError = OperationalError
    IntegrityError = IntegrityError
    InternalError = InternalError
    ProgrammingError = ProgrammingError
    NotSupportedError = NotSupportedError

    def __init__(self, database, timeout=5.0, detect_types=0, isolation_level="DEFERRED", check_same_thread=True,
                 factory=None, cached_statements=128, uri=False, *, autocommit=LEGACY_TRANSACTION_CONTROL):
        self._thread = threading.get_ident() if check_same_thread else None
        self._detect_types = detect_types
        self._isolation_level = _checked_level(isolation_level)
        self._autocommit = _checked_autocommit(autocommit)
        self._tracer = None
        self.row_factory = None
        self.text_factory = str
        self._database, self._owned = _opened(database, uri)
        try:
            self._session = self._database.session()
        except BaseException:
            if self._owned:
                self._database.close()
            raise
        if self._autocommit is False:
            self._session.begin()

    def _check(self):
        if self._thread is not None and threading.get_ident() != self._thread:
            raise ProgrammingError(
                "Memora objects created in a thread can only be used in that same thread. The object was created in "
                f"thread id {self._thread} and this is thread id {threading.get_ident()}.")
        if self._session is None:
            raise ProgrammingError("Cannot operate on a closed database.")

    def _begin_for(self, word):
        if (self._autocommit == LEGACY_TRANSACTION_CONTROL and self._isolation_level is not None and word in _CHANGES
                and not self._session.in_transaction):
            self._session.begin(self._isolation_level.upper() or "DEFERRED")

    def _trace(self, sql):
        if self._tracer is not None:
            self._tracer(sql)

    @property
    def in_transaction(self):
        """Whether a transaction is open."""
        self._check()
        return self._session.in_transaction

    @property
    def total_changes(self):
        """Rows changed since the connection was opened."""
        self._check()
        return self._session.total_changes

    @property
    def isolation_level(self):
        """How implicit transactions begin: "", DEFERRED, IMMEDIATE, EXCLUSIVE; None for not at all."""
        self._check()
        return self._isolation_level

    @isolation_level.setter
    def isolation_level(self, level):
        self._check()
        level = _checked_level(level)
        if level is None and self._session.in_transaction:
            self._session.commit()
        self._isolation_level = level

    @property
    def autocommit(self):
        """True, False or LEGACY_TRANSACTION_CONTROL. Setting False begins a transaction, setting True commits one."""
        self._check()
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value):
        self._check()
        value = _checked_autocommit(value)
        if value is True and self._session.in_transaction:
            self._session.commit()
        elif value is False and not self._session.in_transaction:
            self._session.begin()
        self._autocommit = value

    def cursor(self, factory=None):
        """A new cursor; `factory` is a subclass of Cursor or a callable that makes one from the connection."""
        self._check()
        cursor = Cursor(self) if factory is None else factory(self)
        if not isinstance(cursor, Cursor):
            raise TypeError(f"factory must return a cursor, not {type(cursor).__name__}")
        if self.row_factory is not None:
            cursor.row_factory = self.row_factory
        return cursor

    def execute(self, sql, parameters=(), /):
        """A new cursor with the statement run."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql, parameters, /):
        """A new cursor with the statement run for each item."""
        return self.cursor().executemany(sql, parameters)

    def executescript(self, sql_script, /):
        """A new cursor with the script run."""
        return self.cursor().executescript(sql_script)

    def commit(self):
        """Commit the open transaction, if there is one.

        Raises SerializationError if another commit changed what it had read: nothing was written, run it again.
        """
        self._check()
        if self._autocommit is True:
            return
        if self._session.in_transaction:
            self._session.commit()
        if self._autocommit is False:
            self._session.begin()

    def rollback(self):
        """Undo the open transaction, if there is one."""
        self._check()
        if self._autocommit is True:
            return
        if self._session.in_transaction:
            self._session.rollback()
        if self._autocommit is False:
            self._session.begin()

    def close(self):
        """End the connection; an open transaction is rolled back. Closing twice is fine."""
        if self._session is None:
            return
        self._check()
        self._end()

    def _end(self):
        session, self._session = self._session, None
        try:
            if session.in_transaction:
                session.rollback()
            session.close()
        finally:
            if self._owned:
                self._database.close()

    def __del__(self):
        if self._session is not None and not sys.is_finalizing():
            self._end()

    def __enter__(self):
        self._check()
        return self

    def __exit__(self, kind, error, traceback):
        if self._autocommit is True:
            return False
        if kind is not None:
            self.rollback()
            return False
        try:
            self.commit()
        except BaseException:
            # As in sqlite3: a commit that failed leaves no transaction behind.
            if self._session is not None and self._session.in_transaction:
                self.rollback()
            raise
        return False

    def __call__(self, sql, /):
        raise NotSupportedError("a connection cannot be called for a prepared statement: use execute()")

    def set_trace_callback(self, trace_callback):
        """Call `trace_callback(sql)` for each statement that runs; None ends it."""
        self._check()
        self._tracer = trace_callback

    def interrupt(self):
        """End the statement that runs on this connection, from any thread: it raises OperationalError("interrupted")."""
        if self._session is None:
            raise ProgrammingError("Cannot operate on a closed database.")
        self._session.control.interrupted = True

    def create_function(self, name, narg, func, *, deterministic=False):
        """Let SQL on this connection call `func` as `name` with `narg` arguments, -1 for any; None as `func` takes it away.

        Only a deterministic function may stand in index expressions and generated columns.
        """
        self._check()
        self._session.create_function(name, narg, func, deterministic)

    def create_aggregate(self, name, n_arg, aggregate_class):
        """An aggregate: a class with step and finalize; None removes it."""
        self._check()
        self._session.create_function(name, n_arg, aggregate_class, kind="aggregate")

    def create_window_function(self, name, num_params, aggregate_class, /):
        """An aggregate that can also be a window function: a class with step, inverse, value and finalize; None removes it."""
        self._check()
        self._session.create_function(name, num_params, aggregate_class, kind="window")

    def create_collation(self, name, callable, /):  # noqa: A002
        """An order of texts for expressions and ORDER BY; None removes it."""
        self._check()
        if callable is not None and not hasattr(callable, "__call__"):
            raise TypeError("parameter must be callable")
        self._session.create_collation(str.upper(name), callable)

    def set_authorizer(self, authorizer_callback):
        """A callback that allows or denies."""
        raise _missing("Connection.set_authorizer")

    def set_progress_handler(self, progress_handler, n):
        """Call `progress_handler()` every `n` rows that are read or made; what it returns ends the statement if it is true."""
        self._check()
        control = self._session.control
        control.handler, control.n, control.left = progress_handler, n, n

    def enable_load_extension(self, enable, /):
        """SQLite's extensions are for SQLite's engine."""
        raise _missing("Connection.enable_load_extension")

    def load_extension(self, path, /, *, entrypoint=None):
        """SQLite's extensions are for SQLite's engine."""
        raise _missing("Connection.load_extension")

    def iterdump(self, *, filter=None):  # noqa: A002
        """The database as SQL."""
        raise _missing("Connection.iterdump")

    def backup(self, target, *, pages=-1, progress=None, name="main", sleep=0.250):
        """A copy; `memora.Database.backup` is the one that Memora has."""
        raise _missing("Connection.backup")

    def blobopen(self, table, column, row, /, *, readonly=False, name="main"):
        """Reading and writing parts of a blob."""
        raise _missing("Connection.blobopen")

    def serialize(self, *, name="main"):
        """The database as bytes."""
        raise _missing("Connection.serialize")

    def deserialize(self, data, /, *, name="main"):
        """A database from bytes."""
        raise _missing("Connection.deserialize")


def _missing(what):
    return NotSupportedError(f"{what} is not a part of this version of Memora")


def _opened(database, uri):
    """(the database, whether it is ours to close)."""
    if hasattr(database, "session"):
        return database, False
    name = os.fsdecode(database)
    if uri and name.startswith("file:"):
        name = _name_of_uri(name)
    from . import database as module
    return module.open(name), True


def _name_of_uri(uri):
    parts = urlsplit(uri)
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    mode = options.pop("mode", "rwc")
    if options or mode not in ("rwc", "memory"):
        raise NotSupportedError(f"options of {uri!r}: only mode=rwc and mode=memory are known")
    return ":memory:" if mode == "memory" else unquote(parts.path)


def connect(database, timeout=5.0, detect_types=0, isolation_level="DEFERRED", check_same_thread=True, factory=None,
            cached_statements=128, uri=False, *, autocommit=LEGACY_TRANSACTION_CONTROL):
    """Open a database and return a Connection, or what `factory` makes of the same arguments."""
    return (factory or Connection)(database, timeout, detect_types, isolation_level, check_same_thread, factory,
                                   cached_statements, uri, autocommit=autocommit)


def complete_statement(statement):
    """Whether a text ends with a complete SQL statement."""
    from .sql.parser import complete_statement as complete
    return complete(statement)


def enable_callback_tracebacks(enable, /):
    """Show the errors of functions of Python in SQL by sys.unraisablehook, of all connections."""
    from .sql.functions import show_tracebacks
    show_tracebacks(enable)
