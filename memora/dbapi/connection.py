"""Connections: a session on a database, its transaction, and what it was told to do."""
from __future__ import annotations

import sys
import threading
import warnings

from memora.codes import SETTINGS
from memora.database import Database
from memora.dbapi.adapters import parameters as adapted
from memora.dbapi.backup import backup
from memora.dbapi.blob import Blob
from memora.dbapi.cursor import CHANGES, LEGACY_TRANSACTION_CONTROL, Cursor
from memora.dbapi.cursors import ConnectionBase
from memora.dbapi.dump import dump
from memora.dbapi.names import opened
from memora.dbapi.tracing import expanded
from memora.durations import seconds
from memora.errors import (DatabaseError, DataError, Error, IntegrityError, InterfaceError, InternalError,
                           NotSupportedError, OperationalError, ProgrammingError, Warning)  # noqa: A004

_LENGTH, _SQL_LENGTH = 0, 1             # categories of limits
MOST_ARGUMENTS = 127
_LEVELS = ("", "DEFERRED", "IMMEDIATE", "EXCLUSIVE")


def _checked_level(level):
    if level is None:
        return None
    if not isinstance(level, str):
        raise TypeError(f"isolation_level must be str or None, not {type(level).__name__}")
    upper = str.upper(level)
    if upper not in _LEVELS:
        raise ValueError("isolation_level string must be '', 'DEFERRED', 'IMMEDIATE', or 'EXCLUSIVE'")
    return upper


def _checked_autocommit(value):
    if value not in (True, False, LEGACY_TRANSACTION_CONTROL):
        raise ValueError("autocommit must be True, False, or LEGACY_TRANSACTION_CONTROL")
    return value if value == LEGACY_TRANSACTION_CONTROL else bool(value)


class Connection(ConnectionBase):
    """A connection: one session on a database, and its transaction.

    `database` is a name as for `memora.open` ("": a private one, as ":memory:"), with `uri` also "file:..." (names.py), or an open
    `memora.Database`, which then stays open and keeps its own timeout. `timeout` (seconds) is how long a statement waits for a lock or
    ticket. With `check_same_thread`, use from another thread raises ProgrammingError. `statement_timeout` (seconds, or text like "500ms";
    None for none): a statement that runs longer raises StatementTimeout.
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

    _database = None
    _owned = False

    def __init__(self, database, timeout=5.0, detect_types=0, isolation_level="", check_same_thread=True, factory=None,
                 cached_statements=128, uri=False, *, autocommit=LEGACY_TRANSACTION_CONTROL, statement_timeout=None):
        isolation_level, autocommit = _checked_level(isolation_level), _checked_autocommit(autocommit)
        if self._session is not None:                   # again: what cursors still read is kept
            self._session.settle()
            self._end()
        self._database = None
        self._thread = threading.get_ident() if check_same_thread else None
        self._detect_types = detect_types
        self._isolation_level = isolation_level
        self._autocommit = autocommit
        self._tracer = self._limits = None
        self.row_factory = None
        self.text_factory = str
        database, owned, query_only = opened(database, uri, timeout)
        try:
            session = database.session()
            session.query_only = session.read_only = query_only
            if statement_timeout is not None:
                session.control.timeout_s = seconds(statement_timeout, "statement_timeout")
        except BaseException:
            if owned:
                database.close()
            raise
        self._database, self._owned, self._session = database, owned, session
        if self._autocommit is False:
            self._session.begin()

    def _check(self):
        if self._thread is not None and threading.get_ident() != self._thread:
            raise ProgrammingError(
                "Memora objects created in a thread can only be used in that same thread. The object was created in "
                f"thread id {self._thread} and this is thread id {threading.get_ident()}.")
        if self._session is None:
            self._absent()

    def _absent(self):
        raise ProgrammingError("Base Connection.__init__ not called." if self._database is None else "Cannot operate on a closed database.")

    # -- what cursors ask for

    def _checked_text(self, sql, what="sql"):
        if not isinstance(sql, str):
            raise TypeError(f"{what} must be str, not {type(sql).__name__}")
        if "\0" in sql:
            raise ProgrammingError("the query contains a null character")
        size = len(sql.encode())                        # UnicodeEncodeError: half a surrogate pair
        if self._limits is not None and size > self._limits[_SQL_LENGTH]:
            raise DataError("query string is too large")
        return sql if sql.__class__ is str else str.__str__(sql)

    def _prepared(self, parameters):
        """Parameters as the session takes them."""
        limits = self._limits
        if limits is None:
            return () if parameters == () else adapted(parameters)
        values = adapted(parameters)
        if isinstance(values, tuple):
            for value in values:
                self._bounded(value)
            return list(values)                         # not (): literals would count as variables
        return values

    def _bounded(self, value):
        if self._limits is not None and value.__class__ in (str, bytes) and (
                len(value.encode(errors="surrogateescape") if value.__class__ is str else value) > self._limits[_LENGTH]):
            raise DataError("string or blob too big")
        return value

    def _begin_for(self, word):
        if (self._autocommit == LEGACY_TRANSACTION_CONTROL and self._isolation_level is not None and word in CHANGES
                and not self._session.in_transaction):
            self._begin(f"BEGIN {self._isolation_level}", self._isolation_level or "DEFERRED")

    def _begin(self, shown="BEGIN", mode="DEFERRED"):
        self._trace(shown)
        self._session.begin(mode)

    def _commit(self):
        self._trace("COMMIT")
        self._session.commit()

    def _rollback(self):
        self._trace("ROLLBACK")
        self._session.rollback()

    def _trace(self, sql, values=None):
        """Tells the trace callback of a statement, with its values in place. What the callback raises ends nothing."""
        if self._tracer is None:
            return
        if values:
            limit = None if self._limits is None else self._limits[_LENGTH]
            text = expanded(sql, values)
            if limit is not None and len(text.encode()) > limit:
                self._show(DataError("Expanded SQL string exceeds the maximum string length"), self)
            else:
                sql = text
        try:
            self._tracer(sql)
        except Exception as error:
            self._show(error, self._tracer)

    def _traced(self, sql, sets):
        for values in sets:
            self._trace(sql, values)
            yield values

    @staticmethod
    def _show(error, source):
        from memora.sql.callbacks import Callbacks
        if Callbacks.tracebacks:
            from memora.sql.functions import show_error
            show_error(error, source)

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
            self._commit()
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
            self._commit()
        elif value is False and not self._session.in_transaction:
            self._begin()
        self._autocommit = value

    @property
    def statement_timeout(self):
        """How long a statement may run, in seconds ("500ms" is taken, too), or None; then it raises StatementTimeout."""
        self._check()
        return self._session.control.timeout_s

    @statement_timeout.setter
    def statement_timeout(self, value):
        self._check()
        self._session.control.timeout_s = None if value is None else seconds(value, "statement_timeout")

    def cursor(self, factory=Cursor):
        """A new cursor; `factory` is a subclass of Cursor or a callable that makes one from the connection."""
        self._check()
        cursor = factory(self)
        if not issubclass(type(cursor), Cursor):
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
            self._commit()
        if self._autocommit is False:
            self._begin()

    def rollback(self):
        """Undo the open transaction, if there is one."""
        self._check()
        if self._autocommit is True:
            return
        if self._session.in_transaction:
            self._rollback()
        if self._autocommit is False:
            self._begin()

    def close(self):
        """End the connection; an open transaction is rolled back. Closing twice is fine."""
        if self._session is None and self._database is not None:
            return
        self._check()
        if self._autocommit is False and self._session.in_transaction:
            self._rollback()
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
            if sys.version_info >= (3, 13):             # since then sqlite3 warns
                warnings.warn(f"unclosed database in {self!r}", ResourceWarning, source=self)
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

    def __call__(self, sql=None, /):
        """What sqlite3 has for its own use: a statement, checked and parsed, that can do nothing by itself."""
        self._check()
        from memora.sql.parser import is_blank, parse
        sql = self._checked_text(sql)
        if not is_blank(sql):
            parse(sql)
        return Statement._of(sql)

    def set_trace_callback(self, trace_callback):
        """Call `trace_callback(sql)` for each statement that runs, with the values of its parameters in their places; None ends it."""
        self._check()
        self._tracer = trace_callback

    def interrupt(self):
        """End the statement that runs on this connection, from any thread: it raises OperationalError("interrupted")."""
        if self._session is None:
            self._absent()
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
        if not -1 <= num_params <= MOST_ARGUMENTS:
            raise ProgrammingError("Error creating window function")
        self._session.create_function(name, num_params, aggregate_class, kind="window")

    def create_collation(self, name, callable, /):  # noqa: A002
        """An order of texts for expressions and ORDER BY; None removes it."""
        self._check()
        if callable is not None and not hasattr(callable, "__call__"):
            raise TypeError("parameter must be callable")
        if not isinstance(name, str):
            raise TypeError(f"name must be str, not {type(name).__name__}")
        name.encode()                   # UnicodeEncodeError: half a surrogate pair
        self._session.create_collation(str.upper(name), callable)

    def getlimit(self, category, /):
        """A limit of this connection: SQLITE_LIMIT_LENGTH (bytes of parameters and result values), _SQL_LENGTH and others.

        ProgrammingError: no such category; NotSupportedError: one that has no meaning here."""
        self._check()
        return self._session.limits.get(category)

    def setlimit(self, category, limit, /):
        """Lower a limit, or raise it again, to its default at most; a negative one changes nothing. Returns what held before."""
        self._check()
        session = self._session
        before = session.set_limit(category, limit)
        self._limits = session.limits if session.limits.lowered else None
        return before

    def getconfig(self, op, /):
        """A setting: SQLITE_DBCONFIG_..., where Memora has it."""
        self._check()
        name = _setting(op)
        return self._session.foreign_keys if name == _FOREIGN_KEYS else _SETTINGS[name]

    def setconfig(self, op, enable=True, /):
        """Sets SQLITE_DBCONFIG_ENABLE_FKEY, or another setting to what it is; NotSupportedError: it cannot be changed."""
        self._check()
        name = _setting(op)
        if name == _FOREIGN_KEYS:
            self._session.set_foreign_keys(bool(enable))
        elif bool(enable) != _SETTINGS[name]:
            raise NotSupportedError(f"{name} is {'on' if _SETTINGS[name] else 'off'} and cannot be changed")

    def set_authorizer(self, authorizer_callback):
        """Have `authorizer_callback(action, first, second, database, trigger or view)` asked, when a statement is prepared, what it may do.

        It answers SQLITE_OK, SQLITE_DENY or SQLITE_IGNORE (a column is read as NULL); None ends it. NotAuthorized: it denied."""
        self._check()
        self._session.set_authorizer(authorizer_callback)

    def set_progress_handler(self, progress_handler, n):
        """Call `progress_handler()` every `n` rows that are read or made; what it returns ends the statement if it is true."""
        self._check()
        self._session.control.watch(progress_handler, n)

    def enable_load_extension(self, enable, /):
        """SQLite's extensions are for SQLite's engine."""
        self._check()
        if enable:
            raise NotSupportedError("extensions of SQLite are made for its own engine and cannot be loaded")

    def load_extension(self, path, /, *, entrypoint=None):
        """SQLite's extensions are for SQLite's engine."""
        self._check()
        raise NotSupportedError(f"cannot load {path!r}: extensions of SQLite are made for its own engine")

    def iterdump(self, *, filter=None):  # noqa: A002
        """The database as SQL, statement by statement. filter: a LIKE pattern of names of tables, views, indexes and triggers."""
        self._check()
        return dump(self, filter)

    def blobopen(self, table, column, row, /, *, readonly=False, name="main"):
        """A Blob: the bytes of one value, read and written in parts."""
        self._check()
        return Blob._of(self, table, column, row, readonly, name)


    def backup(self, target, *, pages=-1, progress=None, name="main", sleep=0.250):
        """Copy the tables, indexes, views and triggers of a database into that of another connection, whose own ones go, in one commit.

        After each `pages` pages (4096 bytes of entries; -1: all) `progress(status, remaining, total)` is called. Of a source that this
        connection changes meanwhile, the copy begins again. `sleep` (seconds): between attempts where the target is busy."""
        self._check()
        if not issubclass(type(target), Connection):
            raise TypeError(f"backup() argument 1 must be memora.dbapi.Connection, not {type(target).__name__}")
        backup(self, target, pages, progress, name, sleep)

    def serialize(self, *, name="main"):
        """A database as bytes: those of a file that memora.open opens. All spaces are in it, not only tables."""
        self._check()
        from memora.engine.image import serialize
        store = self._session.store_of(name)
        return b"" if store is None else serialize(store)

    def deserialize(self, data, /, *, name="main"):
        """Go on with a private database in memory, with the content of serialize(), or empty for no bytes.

        DatabaseError: these are no database's bytes. OperationalError: a transaction is open."""
        self._check()
        from memora.engine.image import deserialize
        with memoryview(data) as view:
            if not view.c_contiguous:
                raise BufferError("underlying buffer is not C-contiguous")
            data = view.tobytes()
        session = self._session
        if session.in_transaction:
            raise OperationalError("cannot deserialize within a transaction")
        if session.store_of(name) is None:
            raise NotSupportedError(f"deserialize(name={name!r}): temporary tables are made by CREATE TEMP TABLE")
        store = deserialize(data, session.store.timeout_s)
        if name.lower() != "main":
            session.move_part(name, store)
            return
        database = Database(store, ":memory:")
        session.move(store, database._virtual())
        if self._owned:
            self._database.close()
        self._database, self._owned = database, True


class Statement:
    """A text that was found to be one statement."""

    __slots__ = ("sql",)

    def __new__(cls, *args, **kwargs):
        raise TypeError(f"cannot create '{cls.__module__}.{cls.__name__}' instances")

    @classmethod
    def _of(cls, sql):
        statement = object.__new__(cls)
        statement.sql = sql
        return statement


#: Settings of sqlite3_db_config that say something here, as they are; foreign keys alone can be turned on and off.
_FOREIGN_KEYS = "SQLITE_DBCONFIG_ENABLE_FKEY"
_SETTINGS = {_FOREIGN_KEYS: False, "SQLITE_DBCONFIG_ENABLE_TRIGGER": True, "SQLITE_DBCONFIG_ENABLE_VIEW": True, "SQLITE_DBCONFIG_DQS_DML": True,
             "SQLITE_DBCONFIG_DQS_DDL": True, "SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION": False, "SQLITE_DBCONFIG_WRITABLE_SCHEMA": False,
             "SQLITE_DBCONFIG_DEFENSIVE": True, "SQLITE_DBCONFIG_LEGACY_ALTER_TABLE": False, "SQLITE_DBCONFIG_TRUSTED_SCHEMA": True}


def _setting(op):
    name = next((name for name, number in SETTINGS.items() if number == op), None)
    if name is None:
        raise ValueError(f"unknown config 'op': {op}")
    if name not in _SETTINGS:
        raise NotSupportedError(f"{name} has no meaning here")
    return name
