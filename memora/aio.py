"""Awaitable twins: the same faces for asyncio, as separate classes.

    async with memora.aio.open("shm:shop") as db:
        async for message in db.topic("news").subscribe():
            ...

WAITS       (a message, a commit, a job, a later try) are driven by one descriptor for each open database, which becomes readable after
            commits (engine/feed.pyx, Waiter): the event loop watches it while somebody waits, and never otherwise. Each waiter then looks
            without blocking at what it waits for. No thread is used per wait. Taking an entry and returning it is one step without an
            await in between, so a cancelled wait has taken nothing, and the handle goes on where it was.
TICKETS     While somebody's ticket is in its way, a call that commits waits here, in sleeps of 2 ms, and the loop goes on.
THE REST    does not wait: reads and single writes take microseconds, and are called through on the loop's thread. A commit waits for
            the commit lock at most `timeout`; a long SELECT takes as long as it takes: asyncio.to_thread(db.sync.execute, ...)
            keeps the loop free of it.
LOOPS       A database belongs to the event loop in which it first waits.
"""
from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from memora import database, errors
from memora.cache.cache import Cache
from memora.changes import Changes, Commit
from memora.durations import seconds
from memora.engine.feed import Waiter
from memora.engine.retries import TRIES, Retries
from memora.ipc.queues import Job, Queue, Wait
from memora.ipc.topics import Message, Subscription, Topic
from memora.kv import KeySpace
from memora.transaction import Rows, Tx

TICKET_LOOK_S = 0.002                       # between two looks at somebody's ticket
BREATH = 256                                # entries of a scan between two chances for the loop's other tasks


def open(name: str | os.PathLike, **options) -> AsyncDatabase:  # noqa: A001
    """Open a database with the arguments of memora.open. Use the result at once, `await` it, or `async with` it: then it closes at the end."""
    return AsyncDatabase(database.open(name, **options))


# ---------------------------------------------------------------------------------------------- waiting

class _Bell:
    """Wakes the tasks of one event loop that wait, after commits of the region."""

    def __init__(self, region):
        self._region = region
        self._waiter = None
        self._pid = None
        self._loop = None
        self._futures = set()

    async def wait(self, look: Callable[[], tuple[Any, float | None]], timeout: float | None):
        """Call look() now and after commits until it finds something, and return that; None when `timeout` seconds are over.

        look() -> (what it found or None, seconds after which to call it again without a commit or None). It must not block.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            future = self._listen()         # first listen, then look: a commit in between rings
            try:
                found, pause = look()
                if found is not None:
                    return found
                if deadline is not None:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return None
                    pause = left if pause is None else min(left, pause)
                await asyncio.wait((future,), timeout=pause)
            finally:
                future.cancel()
                self._futures.discard(future)
                if not self._futures:
                    self._unwatch()

    def _listen(self):
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._futures and not self._loop.is_closed():
                raise errors.ProgrammingError("tasks of another event loop wait on this AsyncDatabase; open one for each loop")
            self._futures.clear()
            self._loop = loop
        if self._waiter is None or self._pid != os.getpid():
            self._waiter = Waiter(self._region)
            self._pid = os.getpid()         # a forked child does not have the thread that writes to the descriptor
        if not self._futures:
            self._waiter.clear()
            loop.add_reader(self._waiter.fileno(), self._rung)
        future = loop.create_future()
        self._futures.add(future)
        return future

    def _rung(self):
        self._waiter.clear()
        self._wake()

    def _wake(self):
        for future in self._futures:
            if not future.done():
                future.set_result(None)

    def _unwatch(self):
        if self._waiter is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._waiter.fileno())

    async def close(self):
        """Wake all who wait, so that they find the database closed, and end the thread behind the descriptor."""
        waiter, self._waiter = self._waiter, None
        if waiter is None or self._pid != os.getpid():
            return
        if self._futures:
            self._loop.remove_reader(waiter.fileno())
        self._wake()
        await asyncio.to_thread(waiter.close)       # it joins a thread that may be in the middle of a futex wait


def _calls(sync: type, *names: str, commits: tuple[str, ...] = ()):
    """A class decorator: methods that call `self.sync`'s of the same name through, as coroutines; `commits` let a ticket go first."""
    def decorate(cls):
        for name in names + commits:
            setattr(cls, name, _coroutine(getattr(sync, name), name, name in commits))
        return cls
    return decorate


def _coroutine(method, name, commits):
    @functools.wraps(method, updated=())
    async def call(self, *args, **kwargs):
        if commits:
            await _turn(self.sync)
        return getattr(self.sync, name)(*args, **kwargs)
    return call


async def _turn(sync):
    """Wait while somebody's ticket would keep this object's commit waiting, at most as long as the commit itself would."""
    if isinstance(sync, Job):
        sync = sync._queue
    if isinstance(sync, Tx):
        if sync.closed or sync.read_only or sync.ticket_held:
            return
        store = sync._database._store
    elif isinstance(sync, (KeySpace, Cache)):
        if sync.transaction is not None:
            return                          # a write of a transaction is private
        store = sync.store
    else:
        if getattr(sync, "_txn", None) is not None:
            return
        store = sync._store
    if not store.closed and store.ticket_stands() is not None:
        end = time.monotonic() + store.timeout_s
        while time.monotonic() < end and not store.closed and store.ticket_stands() is not None:
            await asyncio.sleep(TICKET_LOOK_S)


async def _slowly(iterable: Iterable):
    """The items of an iterator, letting other tasks run now and then."""
    for n, item in enumerate(iterable, 1):
        yield item
        if n % BREATH == 0:
            await asyncio.sleep(0)


class _Twin:
    """`sync` is the object whose awaitable twin this is."""

    def __init__(self, sync):
        self.sync = sync

    def __repr__(self):
        return f"<memora.aio.{type(self).__name__} of {self.sync!r}>"


# ---------------------------------------------------------------------------------------------- spaces

@_calls(KeySpace, "get", "get_many",
        commits=("put", "add", "delete", "put_many", "delete_many", "incr", "bump", "pop", "popitem", "setdefault", "update", "clear"))
class AsyncKeySpace(_Twin):
    """The awaitable twin of KeySpace."""

    def scan(self, start=None, stop=None, **options):
        """`async for key, value in kv.scan(...)`, with the arguments of KeySpace.scan."""
        return _slowly(self.sync.scan(start, stop, **options))

    def __aiter__(self):
        return _slowly(iter(self.sync))


@_calls(Cache, "get", "expires", "get_many", "stats",
        commits=("set", "add", "delete", "incr", "bump", "touch", "set_many", "delete_many", "clear"))
class AsyncCache(_Twin):
    """The awaitable twin of Cache."""

    async def get_or_set(self, key, value: Any, ttl: float | str | None = None) -> Any:
        """The value of a key; if it is absent, `value`, or what `value()` returns, is stored and returned. `value` may be a coroutine
        function. Callers that miss at the same time may each call it; all get what was stored first."""
        absent = object()
        found = self.sync.get(key, absent)
        if found is not absent:
            return found
        if callable(value):
            value = value()
            if isinstance(value, Awaitable):
                value = await value
        await _turn(self.sync)
        return self.sync.get_or_set(key, value, ttl)


class AsyncSubscription(_Twin):
    """The awaitable twin of Subscription: `async for message in subscription`."""

    def __init__(self, sync: Subscription, bell: _Bell):
        super().__init__(sync)
        self._bell = bell

    @property
    def position(self) -> int:
        """The number of the message that comes next."""
        return self.sync.position

    async def get(self, timeout: float | str | None = None) -> Message | None:
        """The next message, or None when there is none within `timeout`. Lagged: messages were dropped before they were read."""
        timeout = None if timeout is None else seconds(timeout, "timeout")
        return await self._bell.wait(lambda: (self.sync.get(0), None), timeout)

    def __aiter__(self):
        return self

    async def __anext__(self) -> Message:
        return await self.get()

    async def close(self):
        """End it. Idempotent."""
        self.sync.close()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        self.sync.close()


@_calls(Topic, commits=("publish",))
class AsyncTopic(_Twin):
    """The awaitable twin of Topic."""

    def __init__(self, sync: Topic, bell: _Bell):
        super().__init__(sync)
        self._bell = bell

    def subscribe(self, position: int | str | None = None) -> AsyncSubscription:
        """Read the topic, from now on, or from a position, as Topic.subscribe."""
        return AsyncSubscription(self.sync.subscribe(position), self._bell)


@_calls(Job, commits=("ack", "nack"))
class AsyncJob(_Twin):
    """The awaitable twin of Job: `async with job:` acknowledges it at the end, or gives it back if the block raises."""

    id = property(lambda self: self.sync.id, doc="Its number in the queue.")
    value = property(lambda self: self.sync.value, doc="What was put.")
    attempts = property(lambda self: self.sync.attempts, doc="How often it was claimed, this time included.")
    priority = property(lambda self: self.sync.priority, doc="As it was put.")
    enqueued = property(lambda self: self.sync.enqueued, doc="When it was put, seconds since the epoch.")

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, traceback):
        await _turn(self.sync)
        return self.sync.__exit__(kind, error, traceback)


@_calls(Queue, "stats", commits=("put",))
class AsyncQueue(_Twin):
    """The awaitable twin of Queue."""

    def __init__(self, sync: Queue, bell: _Bell):
        super().__init__(sync)
        self._bell = bell

    async def claim(self, timeout: float | str | None = None) -> AsyncJob | None:
        """The next job, or None when there is none within `timeout` (None: wait for it; 0: only look), as Queue.claim.

        Cancelled while it waits, it has claimed nothing.
        """
        timeout = None if timeout is None else seconds(timeout, "timeout")
        if timeout != 0:
            await _turn(self.sync)
        job = self.sync.claim(0)
        if job is None and timeout != 0 and self.sync._txn is None:
            job = await self._bell.wait(self._look(), timeout)
        return None if job is None else AsyncJob(job)

    def _look(self):
        wait = Wait(self.sync)
        again = 0.0                         # when to look without a commit of this queue; 0 = now, None = never

        def look():
            nonlocal again
            now = time.monotonic()
            if not wait.sleep(0) and (again is None or now < again):
                return None, None if again is None else again - now
            if self.sync._store.ticket_stands() is not None:
                again = now
                return None, TICKET_LOOK_S
            job, pause = wait.look()
            again = None if pause is None else now + pause
            return job, pause
        return look

    async def ack(self, job: AsyncJob):
        """The job is done: remove it. OperationalError: the claim does not hold it any more."""
        await _turn(self.sync)
        self.sync.ack(job.sync)

    async def nack(self, job: AsyncJob, delay: float | str = 0):
        """Give the job back, to be claimed again at once or after `delay`."""
        await _turn(self.sync)
        self.sync.nack(job.sync, delay)


class AsyncChanges(_Twin):
    """The awaitable twin of Changes: `async for commit in changes`."""

    def __init__(self, sync: Changes, bell: _Bell):
        super().__init__(sync)
        self._bell = bell

    @property
    def position(self) -> int:
        """The last commit read or passed over."""
        return self.sync.position

    async def get(self, timeout: float | str | None = None) -> Commit | None:
        """The next commit, or None when there is none within `timeout`. Lagged: commits left the log before they were read."""
        timeout = None if timeout is None else seconds(timeout, "timeout")
        return await self._bell.wait(lambda: (self.sync.get(0), None), timeout)

    def __aiter__(self):
        return self

    async def __anext__(self) -> Commit:
        return await self.get()

    async def close(self):
        """End it. Idempotent."""
        self.sync.close()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        self.sync.close()


# ---------------------------------------------------------------------------------------------- transactions, the database

@_calls(Rows, "fetchone", "fetchmany", "fetchall", "close")
class AsyncRows(_Twin):
    """The awaitable twin of Rows: `async for row in rows`."""

    columns = property(lambda self: self.sync.columns, doc="Names, () for a statement without rows.")
    rowcount = property(lambda self: self.sync.rowcount, doc="Rows changed, -1 where that means nothing.")
    lastrowid = property(lambda self: self.sync.lastrowid, doc="Of the last row inserted, or None.")

    def __aiter__(self):
        return _slowly(self.sync)


class _Spaces(_Twin):
    """The faces that a database and a transaction share."""

    def __init__(self, sync, bell: _Bell):
        super().__init__(sync)
        self._bell = bell

    async def execute(self, sql: str, params: Any = ()) -> AsyncRows:
        """Run one SQL statement."""
        if isinstance(self.sync, database.Database) and not sql.lstrip()[:6].upper() == "SELECT":
            await _turn(self.sync)
        return AsyncRows(self.sync.execute(sql, params))

    def kv(self, name: str, pickle: bool = False) -> AsyncKeySpace:
        """A key space, made when the name is free."""
        return AsyncKeySpace(self.sync.kv(name, pickle))

    def cache(self, name: str, ttl=None, max_bytes=None, evict=None) -> AsyncCache:
        """A cache, made when the name is free."""
        return AsyncCache(self.sync.cache(name, ttl, max_bytes, evict))

    def topic(self, name: str, retain=None) -> AsyncTopic:
        """A topic, made when the name is free."""
        return AsyncTopic(self.sync.topic(name, retain), self._bell)

    def queue(self, name: str) -> AsyncQueue:
        """A queue, made when the name is free."""
        return AsyncQueue(self.sync.queue(name), self._bell)


@_calls(Tx, "rollback", commits=("commit",))
class AsyncTx(_Spaces):
    """The awaitable twin of Tx: `async with db.transaction() as tx:` commits at the end, or rolls back if the block raises."""

    ticket_held = property(lambda self: self.sync.ticket_held, doc="Whether it keeps other commits waiting, as Tx.ticket_held.")

    snapshot = property(lambda self: self.sync.snapshot, doc="The number of the commit that it reads.")
    commit_number = property(lambda self: self.sync.commit_number, doc="The number of its commit; None before it, and after a rollback.")
    closed = property(lambda self: self.sync.closed, doc="Whether it is committed or rolled back.")

    def savepoint(self):
        """`with tx.savepoint():` (nothing in it waits) undoes what the block wrote if it raises."""
        return self.sync.savepoint()

    async def __aenter__(self):
        self.sync.__enter__()
        return self

    async def __aexit__(self, kind, error, traceback):
        if kind is None:
            await _turn(self.sync)
        return self.sync.__exit__(kind, error, traceback)


class _Unbegun:
    """In the place of a Tx that does not have its ticket yet."""

    def __getattr__(self, name):
        raise errors.ProgrammingError("the transaction does not have its ticket yet: use `async with`, or await it")


class _Immediate(AsyncTx):
    """A transaction that waits for the ticket when it is entered, or awaited. The ticket's deadline counts from there."""

    def __init__(self, db: database.Database, isolation: str, bell: _Bell):
        super().__init__(_Unbegun(), bell)
        self._db, self._isolation = db, isolation

    def __await__(self):
        return self._begun().__await__()

    async def _begun(self):
        store = self._db._store
        end = time.monotonic() + store.timeout_s
        while isinstance(self.sync, _Unbegun):
            try:
                self.sync = Tx(self._db, self._isolation, immediate=True, wait=False)
            except errors.LockTimeout:
                if time.monotonic() >= end:
                    raise
                await asyncio.sleep(TICKET_LOOK_S)
        return self

    async def __aenter__(self):
        await self._begun()
        return await super().__aenter__()


class AsyncDatabase(_Spaces):
    """The awaitable twin of Database. `sync` is that database, for what does not wait: stats, processes, check."""

    def __init__(self, sync: database.Database):
        super().__init__(sync, _Bell(sync._store.region))

    name = property(lambda self: self.sync.name, doc="As it was opened.")
    closed = property(lambda self: self.sync.closed, doc="Whether it was closed.")
    commit_number = property(lambda self: self.sync.commit_number, doc="The number of the newest commit.")

    def transaction(self, isolation: str = "serializable", read_only: bool = False, immediate: bool = False) -> AsyncTx:
        """A transaction, as Database.transaction. An immediate one waits for its ticket in `async with`, or when it is awaited."""
        if immediate and not read_only:
            return _Immediate(self.sync, isolation, self._bell)
        return AsyncTx(self.sync.transaction(isolation, read_only, immediate), self._bell)

    def snapshot(self) -> AsyncTx:
        """A read-only transaction."""
        return AsyncTx(self.sync.snapshot(), self._bell)

    async def run(self, fn: Callable[[AsyncTx], Awaitable], tries: int = TRIES) -> Any:
        """await fn(tx) in a transaction, committed, and again on a conflict or where it was overtaken, as Database.run; what fn returned."""
        retries = Retries(tries)
        while True:
            try:
                async with self.transaction(immediate=retries.immediate) as tx:
                    result = await fn(tx)
                return result
            except (errors.SerializationError, errors.SnapshotTooOld) as error:
                pause = retries.after(error)
            await asyncio.sleep(pause)

    def changes(self, name: str | Iterable[str] | None = None, since: int | None = None, pickle: bool = False) -> AsyncChanges:
        """Follow what is committed, as Database.changes."""
        return AsyncChanges(self.sync.changes(name, since, pickle), self._bell)

    async def close(self):
        """Leave the region; waits that are under way raise ProgrammingError. Idempotent."""
        self.sync.close()
        await self._bell.close()

    def __await__(self):
        return self._itself().__await__()

    async def _itself(self):
        return self

    async def __aenter__(self):
        self.sync.__enter__()
        return self

    async def __aexit__(self, *exception):
        await self.close()
