"""Connection.backup: a copy into another connection's database, step by step."""
from __future__ import annotations

import time

from memora.codes import RESULTS
from memora.errors import LockTimeout, OperationalError

OK, BUSY, DONE = RESULTS["SQLITE_OK"], RESULTS["SQLITE_BUSY"], RESULTS["SQLITE_DONE"]


def backup(source, target, pages, progress, name, sleep):
    """See Connection.backup."""
    if source is target:
        raise ValueError("target cannot be the same connection instance")
    target._check()
    if progress is not None and not callable(progress):
        raise TypeError("progress argument must be a callable")
    if target._session.in_transaction:
        raise OperationalError("target is in transaction")
    store = source._session.store_of(name)
    while not _copied(source._session, store, name, target._session.store, pages or -1, progress, sleep):
        pass


def _copied(session, store, name, target, pages, progress, sleep):
    """Whether a copy came to its end; else the source has changed."""
    to = _begin(target, progress, sleep)
    try:
        own = session.in_transaction and name.lower() == "main"
        at = None if store is None else session._transaction if own else store.begin(read_only=True)
        try:
            if not _steps(session, at, to, pages, progress):
                return False
        finally:
            if at is not None and not own:
                at.rollback()
        to.commit()
        return True
    finally:
        if not to.closed:
            to.rollback()


def _begin(store, progress, sleep):
    while True:
        try:
            return store.begin(immediate=True)
        except LockTimeout:
            if progress is not None:
                progress(BUSY, 0, 0)
            time.sleep(sleep)


def _steps(session, source, target, pages, progress):
    from memora.sql import copying
    known = session._last_commit
    total = 1 if source is None or progress is None else copying.size(source)
    done = 0
    for _ in copying.copy(source, target):
        done += 1
        if progress is not None and 0 < pages and done % pages == 0 and done < total:
            progress(OK, total - done, total)
            if session._last_commit != known:
                return False
    if progress is not None:
        progress(DONE, 0, total)
    return True
