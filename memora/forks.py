"""What a fork finds half done by another thread, which is not there in the child to end it.

MODULES  A module that is being imported is locked by the importing thread, and in a child of fork() for ever: whoever imports it there
         waits without end. So before the first fork of a process with threads all modules are imported that Memora imports late.
         memora.aio is among them where asyncio is in use.
LOCKS    Those made here are free in the child. What they guard (a position, a cache) is as whoever held them left it for others to see.
"""
import _thread
import importlib
import os
import sys
import weakref

#: What is imported inside of functions, and by `memora.__getattr__`; with what these import, it is all.
LATE = (
    "memora.database", "memora.dbapi", "memora.transaction", "memora.kv", "memora.cache.cache", "memora.changes", "memora.ipc.topics", "memora.ipc.queues",
    "memora.sessions", "memora.virtual", "memora.engine.files", "memora.engine.feed", "memora.engine.image", "memora.sql.session", "memora.sql.copying",
    "memora.sql.dates", "memora.sql.functions",
)

_locks = weakref.WeakSet()
_complete = False


def Lock():
    """A threading.Lock() that is free in every child of fork()."""
    lock = _thread.allocate_lock()
    _locks.add(lock)
    return lock


def _before():
    global _complete
    if _complete or _thread._count() < 1:
        return
    for name in LATE:
        importlib.import_module(name)
    _complete = "asyncio" in sys.modules
    if _complete:
        importlib.import_module("memora.aio")


def _after_in_child():
    for lock in list(_locks):
        lock._at_fork_reinit()


os.register_at_fork(before=_before, after_in_child=_after_in_child)
