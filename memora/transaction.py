"""A transaction as users hold it: SQL, keys, caches, topics and queues, one snapshot and one commit for all of them."""
from __future__ import annotations

import contextlib
from typing import Any

from memora import errors, spaces
from memora.cache.cache import Cache
from memora.ipc.queues import Queue
from memora.ipc.topics import Topic
from memora.kv import KeySpace


class Rows:
    """The outcome of a statement: an iterator of tuples, read as it goes, with the fetch methods of a cursor.

    columns: names, () for a statement without rows; rowcount: rows changed, -1 where that means nothing; lastrowid: of the last
    row inserted, or None.
    """

    __slots__ = ("_result",)

    def __init__(self, result):
        self._result = result

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._result.columns or ())

    @property
    def rowcount(self) -> int:
        return self._result.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._result.lastrowid

    def __iter__(self):
        return self

    def __next__(self) -> tuple:
        return next(self._result)

    def fetchone(self) -> tuple | None:
        """The next row, or None."""
        return next(self._result, None)

    def fetchmany(self, size: int = 1) -> list[tuple]:
        """At most `size` further rows."""
        rows = []
        while len(rows) < size and (row := next(self._result, None)) is not None:
            rows.append(row)
        return rows

    def fetchall(self) -> list[tuple]:
        """All further rows."""
        return list(self._result)

    def close(self):
        """Give up the rows that are left, and the snapshot they are read from."""
        self._result.close()

    def __repr__(self):
        return f"<memora.Rows {', '.join(self.columns) or 'without columns'}>"


class Tx:
    """A transaction. From db.transaction() or db.snapshot(); `with` commits it at the end, or rolls it back if the block raises.

    It reads the commit `snapshot`, and its own writes; nobody else sees these before commit(). What another commit changed under
    what it has read makes commit() raise SerializationError, and nothing was written: `db.run` does that again by itself. SnapshotTooOld, from
    any call: it kept too much, or stood too long (snapshot_bytes=, snapshot_age= of open()).
    One thread at a time may use it; after fork() it stays with the parent.
    """

    def __init__(self, database, isolation: str = "serializable", read_only: bool = False, immediate: bool = False, wait: bool = True):
        self._database = database
        database._store.hold()
        self._txn = database._store.begin(read_only=read_only, isolation=isolation, immediate=immediate, wait=wait)
        self._session = None
        self._committed = None

    # ---- faces

    def execute(self, sql: str, params: Any = ()) -> Rows:
        """Run one SQL statement in this transaction.

        Its rows are taken into memory, because the transaction may write before they are read; those of a read-only transaction
        are read as they are asked for.
        """
        self._check()
        if self._session is None:
            self._session = self._database._transaction_session(self._txn)
        result = self._session.execute(sql, params)
        if not self._txn.read_only:
            result.settle()
        return Rows(result)

    def kv(self, name: str, pickle: bool = False, index: str | None = None) -> KeySpace:
        """A key space in this transaction; made in it when the name is free."""
        return KeySpace(self._database._store, name, self._row(name, spaces.kv(pickle, index)), pickle, self._txn)

    def cache(self, name: str, ttl=None, max_bytes=None, evict=None, index=None) -> Cache:
        """A cache in this transaction; made in it when the name is free."""
        return Cache(self._database._store, name, self._row(name, spaces.cached(ttl, max_bytes, evict, index)), False, self._txn)

    def topic(self, name: str, retain=None) -> Topic:
        """A topic; what is published becomes visible with the commit."""
        return Topic(self._database._store, name, self._row(name, spaces.topic(retain)), self._txn)

    def queue(self, name: str) -> Queue:
        """A queue; put, claim, ack and nack are parts of this transaction, and claim never waits."""
        return Queue(self._database._store, name, self._row(name, spaces.queue()), self._txn)

    def _row(self, name, wanted):
        self._check()
        # A space that was looked up under this very catalog needs no second look, and no page of the catalog in the read set.
        version = self._txn.schema_version()
        known = self._database._known_rows(version) if version >= 0 else {}
        row = known.get((wanted.kind, name))
        if row is not None:
            return wanted.checked(name, row)
        row = spaces.in_transaction(self._txn, name, wanted)
        if self._txn.schema_version() == version:
            known[wanted.kind, name] = row
        elif self._session is not None:
            self._session.refresh()         # a new name in this transaction, for SQL as well
        return row

    # ---- life

    @contextlib.contextmanager
    def savepoint(self):
        """`with tx.savepoint():` undoes what the block wrote if it raises; the transaction goes on."""
        self._check()
        mark = self._txn.savepoint()
        deferred = 0 if self._session is None else self._session.watch.deferred
        try:
            yield self
        except BaseException:
            if not self._txn.closed:
                self._txn.rollback_to(mark)
                self._txn.release(mark)
                if self._session is not None:
                    self._session.refresh()
                    self._session.watch.deferred = deferred
            raise
        if not self._txn.closed:
            self._txn.release(mark)

    def commit(self) -> int:
        """Make the writes one commit and return its number; the snapshot's, if nothing was written. The transaction is closed.

        SerializationError: what it read has changed; LockTimeout; RegionFull; DataError: a message or cache entry is larger than
        its space. Nothing was written then. IntegrityError: a deferred foreign key is violated; the transaction stays open.
        DurabilityError: it is committed, but not as durable as was asked.
        """
        self._check()
        if self._session is not None:
            self._session.watch.check()         # a deferred foreign key that is violated: the transaction stays open
        try:
            self._committed = self._txn.commit()
        except errors.DurabilityError as error:
            self._committed = error.commit
            raise
        finally:
            self._end()
        return self._committed

    def rollback(self):
        """Drop the writes. Idempotent; ProgrammingError after a commit."""
        if self._committed is not None:
            raise errors.ProgrammingError(f"the transaction is committed, as number {self._committed}")
        self._end()

    def _end(self):
        self._txn.rollback()
        session, self._session = self._session, None
        if session is not None:
            self._database._give_back(session)

    def _check(self):
        if self._txn.closed:
            raise errors.ProgrammingError("the transaction is closed" if self._committed is None else
                                          f"the transaction is committed, as number {self._committed}")

    @property
    def snapshot(self) -> int:
        """The number of the commit that this transaction reads; changes(since=snapshot) goes on from there without a gap."""
        return self._txn.snapshot

    @property
    def commit_number(self) -> int | None:
        """The number of its commit; None before it, and after a rollback."""
        return self._committed

    @property
    def read_only(self) -> bool:
        return self._txn.read_only

    @property
    def ticket_held(self) -> bool:
        """Whether it keeps other commits waiting: begun with immediate=True, and not lost since."""
        return not self._txn.closed and self._txn.ticket_held

    @property
    def closed(self) -> bool:
        return self._txn.closed

    def __enter__(self):
        self._check()
        return self

    def __exit__(self, kind, error, traceback):
        if self._txn.closed:
            return
        try:
            if kind is None:
                self.commit()
        finally:
            if not self._txn.closed:
                self._end()

    def __repr__(self):
        state = "open" if not self._txn.closed else "rolled back" if self._committed is None else f"commit {self._committed}"
        return f"<memora.Tx at commit {self._txn.snapshot}, {state}>"
