"""PEP 249 (DB-API 2.0) over a Memora session, with the standard library's `sqlite3` as the model of every signature.

A program that does `import memora.dbapi as sqlite3` should work: same names, same defaults, same implicit transactions,
same Row, adapters, converters, blobs. What sqlite3 has and Memora has not raises NotSupportedError; docs/sql.md lists it.

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
import sys
import time
import warnings

from memora.codes import NAMES
from memora.dbapi.adapters import PrepareProtocol, adapt, adapters, converters, register_adapter, register_converter
from memora.dbapi.blob import Blob
from memora.dbapi.connection import LEGACY_TRANSACTION_CONTROL, Connection
from memora.dbapi.cursor import PARSE_COLNAMES, PARSE_DECLTYPES, Cursor
from memora.dbapi.row import Row
from memora.errors import (DatabaseError, DataError, Error, IntegrityError, InterfaceError, InternalError,
                           NotSupportedError, OperationalError, ProgrammingError, Warning)  # noqa: A004

__all__ = [
    "apilevel", "paramstyle", "threadsafety", "sqlite_version", "sqlite_version_info",
    "connect", "Connection", "Cursor", "Row", "Blob", "PrepareProtocol",
    "Warning", "Error", "InterfaceError", "DatabaseError", "DataError", "OperationalError", "IntegrityError",
    "InternalError", "ProgrammingError", "NotSupportedError",
    "Binary", "Date", "Time", "Timestamp", "DateFromTicks", "TimeFromTicks", "TimestampFromTicks",
    "PARSE_DECLTYPES", "PARSE_COLNAMES", "LEGACY_TRANSACTION_CONTROL",
    "register_adapter", "register_converter", "adapt", "adapters", "converters", "complete_statement",
    "enable_callback_tracebacks", "enable_shared_cache", *NAMES,
]

apilevel = "2.0"
paramstyle = "qmark"
#: Threads may share the module, not a connection (unless check_same_thread=False and they take turns).
threadsafety = 1
#: The SQLite whose dialect Memora speaks, for programs that ask before they use a feature.
sqlite_version = "3.40.1"
sqlite_version_info = (3, 40, 1)

Binary = memoryview
Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime

globals().update(NAMES)
#: Some import the module by its longer name, `from sqlite3 import dbapi2`.
dbapi2 = sys.modules[__name__]
for _type in (Blob, Connection, Cursor, PrepareProtocol, Row):
    _type.__module__ = __name__

_DEPRECATED = {"version": ("2.6.0", "3.14"), "version_info": ((2, 6, 0), "3.14"), "OptimizedUnicode": (str, "3.12")}


def __getattr__(name):
    if name not in _DEPRECATED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value, end = _DEPRECATED[name]
    warnings.warn(f"{name} is deprecated and will be removed in Python {end}", DeprecationWarning, stacklevel=2)
    return value


def DateFromTicks(ticks):
    """The local date of a time in seconds since the epoch."""
    return Date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks):
    """The local time of day of a time in seconds since the epoch."""
    return Time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks):
    """The local date and time of a time in seconds since the epoch."""
    return Timestamp(*time.localtime(ticks)[:6])


def connect(database, *args, **kwargs):
    """Open a database and return a Connection, or what `factory` makes of the same arguments.

    connect(database, timeout=5.0, detect_types=0, isolation_level="", check_same_thread=True, factory=Connection,
    cached_statements=128, uri=False, *, autocommit=LEGACY_TRANSACTION_CONTROL, statement_timeout=None): see Connection.
    """
    factory = kwargs.get("factory") or (args[4] if len(args) > 4 else None) or Connection
    return factory(database, *args, **kwargs)


def complete_statement(statement):
    """Whether a text ends with a complete SQL statement."""
    from memora.sql.parser import complete_statement as complete
    return complete(statement)


def enable_callback_tracebacks(enable, /):
    """Show the errors of functions of Python in SQL by sys.unraisablehook, of all connections."""
    from memora.sql.functions import show_tracebacks
    show_tracebacks(enable)


def enable_shared_cache(enable):
    """Does nothing: all connections to a database share its region. Deprecated in sqlite3, and gone from it in Python 3.12."""
    warnings.warn("enable_shared_cache is deprecated: connections always share", DeprecationWarning, stacklevel=2)
