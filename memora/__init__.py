"""Memora: an embedded SQL and key-value database, a cache and messaging in one shared memory region.

    import memora
    with memora.open("shm:shop") as db:             # any process of this user may open it, too
        db.kv("prices")["tea"] = 3.5
        with db.transaction() as tx:                # one commit for everything in it
            tx.kv("prices")["tea"] = 4.0
            tx.topic("news").publish({"tea": 4.0})

`memora.errors` has the exceptions, which are also here by their names; `memora.dbapi` is PEP 249, `memora.aio` the awaitable twins.
"""
import importlib

from memora import forks  # noqa: F401  (registers what happens at fork)
from memora._version import __version__
from memora.errors import (CannotOpen, CorruptionError, DataError, DatabaseError, DurabilityError, Error, FileReplaced, IntegrityError,
                           InterfaceError, InternalError, Interrupted, Lagged, LockTimeout, NotAuthorized, NotSupportedError, NotText,
                           OperationalError, PinLimit, ProgrammingError, ReadOnly, RegionElsewhere, RegionError, RegionFull,
                           SQLSyntaxError, SerializationError, SnapshotTooOld, StatementTimeout, ViewsOut, Warning)  # noqa: A004

TYPE_CHECKING = False
if TYPE_CHECKING:                       # what _LAZY says, for tools that read and do not run
    from memora import aio, dbapi
    from memora.cache.cache import Cache
    from memora.changes import Change, Changes, Commit
    from memora.database import Database, connect, open, regions, remove  # noqa: A004
    from memora.ipc.queues import Job, Queue
    from memora.ipc.topics import Message, Subscription, Topic
    from memora.kv import KeySpace
    from memora.transaction import Rows, Tx

# Loaded at first use: a program that opens a key space should not pay for SQL, asyncio or the DB-API.
_LAZY = {
    "open": "memora.database", "remove": "memora.database", "regions": "memora.database", "connect": "memora.database",
    "Database": "memora.database", "Tx": "memora.transaction", "Rows": "memora.transaction",
    "KeySpace": "memora.kv", "Cache": "memora.cache.cache",
    "Topic": "memora.ipc.topics", "Subscription": "memora.ipc.topics", "Message": "memora.ipc.topics",
    "Queue": "memora.ipc.queues", "Job": "memora.ipc.queues",
    "Changes": "memora.changes", "Change": "memora.changes", "Commit": "memora.changes",
}
_MODULES = ("aio", "dbapi")

__all__ = [
    "__version__", *_LAZY,
    "CannotOpen", "CorruptionError", "DataError", "DatabaseError", "DurabilityError", "Error", "FileReplaced", "IntegrityError",
    "InterfaceError", "InternalError", "Interrupted", "Lagged", "LockTimeout", "NotAuthorized", "NotSupportedError", "NotText",
    "OperationalError", "PinLimit", "ProgrammingError", "ReadOnly", "RegionElsewhere", "RegionError", "RegionFull", "SQLSyntaxError",
    "SerializationError", "SnapshotTooOld", "StatementTimeout", "ViewsOut", "Warning",
]


def __getattr__(name):
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module("memora." + name)
    raise AttributeError(f"module 'memora' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_LAZY, *_MODULES})
