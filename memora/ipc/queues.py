"""Queues: jobs that are put once and done once, whoever dies on the way.

A queue is an ordinary tree, and everything that happens to a job is an ordinary commit: it is in the feed, it can stand in a
transaction with rows and keys, and a process that is killed leaves a queue as one of its commits made it.

LAYOUT      Two trees: `tree` holds the jobs, `ids` one counter (key b"id", 8 bytes big-endian: the number of the newest job).
            Putting a job reads nothing, so it never conflicts. A job's key says its state and its turn:

                01 | 4: 0x7fffffff - priority | 8: id             ready: the first of them is claimed next
                02 | 8: available, ns         | 8: id             delayed: the first of them is due first
                03 | 8: incarnation | 4: slot | 4: generation | 8: id    leased by the process with this slot and generation,
                                                                         in this incarnation of the region

            All numbers big-endian. Value, little-endian: 4 priority (signed), 4 attempts (times claimed), 8 enqueued (wall clock,
            ns), then the job's value by the value codec.
INVARIANTS  (1) A job has exactly one key; it changes its state by one commit that removes one key and adds another.
            (2) Ids are never used again, and a lone producer's ascend by one; of producers whose transactions overlap each gets
                others (engine/rowids.pyx). A job that comes back keeps its id and priority, and so its place.
            (3) A lease names (slot, generation) of a process, and the kernel knows whether that process lives: it ends with
                the process or by ack and nack, never by time. A region built again from its files has another incarnation:
                nobody of the old one lives, and its slot numbers mean nothing.
CLAIM       One transaction: delayed jobs that are due become ready; a leased job of a dead process is taken first, else the
            first ready one; its key becomes a lease of this process. Who loses the race for a job just tries again.
WAITING     follows the feed of the tree. While jobs are delayed or leased it also looks by itself: when the first delay ends,
            and ten times a second whether a process with a lease has died, which is no commit.
CRASH       Killed before the commit of a claim: the job is ready. Killed after it: the lease is a dead process's.
NOT DONE    Retries with backoff, dead letters, dedupe keys, claims of several jobs at once.
"""
from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from memora import errors
from memora.durations import seconds
from memora.engine.codec import decode_value, encode_value
from memora.engine.cursor import Cursor
from memora.engine.rowids import next_number

READY, DELAYED, LEASED = b"\x01", b"\x02", b"\x03"
STATES = {READY: "ready", DELAYED: "delayed", LEASED: "leased"}
COUNTER = b"id"
HEAD = struct.Struct("<iIQ")                # priority, attempts, enqueued
READY_KEY = struct.Struct(">cIQ")           # 0x7fffffff - priority, id
DELAYED_KEY = struct.Struct(">cQQ")         # available, id
LEASED_KEY = struct.Struct(">cQIIQ")        # incarnation, slot, generation, id
DUE_AT_ONCE = 64                            # delayed jobs that one claim makes ready
LONGEST_DELAY_S = 10 ** 9
LOOK_S = 0.1                                # how often a waiting claim asks whether lease holders live


class Record(NamedTuple):
    """A job as it stands in the tree."""

    id: int
    state: str                              # "ready", "delayed", "leased"
    priority: int
    attempts: int
    enqueued_ns: int                        # wall clock
    available_ns: int | None                # of a delayed one
    slot: int | None                        # of a leased one: the process that has it
    generation: int | None
    payload: bytes                          # the value, encoded


def create(txn) -> dict:
    """The trees of a new queue; what its catalog row says of them."""
    return {"tree": txn.create_tree(), "ids": txn.create_tree()}


def parse(key: bytes, value: bytes) -> Record:
    """A job from its key and value. CorruptionError: they are no job."""
    try:
        priority, attempts, enqueued = HEAD.unpack_from(value)
        state, available, slot, generation = key[:1], None, None, None
        if state == READY:
            _, _, number = READY_KEY.unpack(key)
        elif state == DELAYED:
            _, available, number = DELAYED_KEY.unpack(key)
        else:
            _, _, slot, generation, number = LEASED_KEY.unpack(key)
        return Record(number, STATES[state], priority, attempts, enqueued, available, slot, generation, value[HEAD.size:])
    except (struct.error, KeyError):
        raise errors.CorruptionError(f"queue: key {key[:32].hex()} with {len(value)} bytes is no job") from None


def records(txn, tree: int) -> Iterator[Record]:
    """Every job of a queue as a transaction sees it: ready, then delayed, then leased."""
    cursor = Cursor(txn, tree)
    more = cursor.first()
    while more:
        yield parse(cursor.key, cursor.value)
        more = cursor.next()


def _ready_key(number, priority):
    return READY_KEY.pack(READY, 0x7fffffff - priority, number)


def _priority(value):
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"priority must be int, not {type(value).__name__}")
    if not -0x7fffffff <= value <= 0x7fffffff:
        raise ValueError(f"priority must be within +-{0x7fffffff}, not {value}")
    return value


def _delay_ns(delay):
    delay = seconds(delay, "delay")
    if delay > LONGEST_DELAY_S:
        raise ValueError(f"delay must be at most {LONGEST_DELAY_S} s, not {delay:g}")
    return int(delay * 1e9)


class Job:
    """A claimed job. `with job:` acknowledges it at the end, or gives it back if the block raises.

    id: its number in the queue; value: what was put; attempts: how often it was claimed, this time included; priority;
    enqueued: when it was put, seconds since the epoch.
    """

    __slots__ = ("id", "value", "attempts", "priority", "enqueued", "_queue", "_lease", "_settled")

    def __init__(self, queue: Queue, record: Record, lease: bytes):
        self.id = record.id
        self.value = decode_value(record.payload)
        self.attempts = record.attempts
        self.priority = record.priority
        self.enqueued = record.enqueued_ns / 1e9
        self._queue = queue
        self._lease = lease
        self._settled = False

    def ack(self):
        """It is done: remove it. OperationalError: this claim does not hold it any more."""
        self._queue.ack(self)

    def nack(self, delay: float | str = 0):
        """Give it back, to be claimed again at once or after `delay`. OperationalError: this claim does not hold it any more."""
        self._queue.nack(self, delay)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if self._settled:
            return
        if kind is None:
            self.ack()
            return
        # What the block raised is told, not that the job was lost besides.
        with contextlib.suppress(errors.Error):
            self.nack()

    def __repr__(self):
        return f"<memora.Job {self.id} of {self._queue.name!r}, attempt {self.attempts}>"


class Queue:
    """The jobs of one queue. From db.queue(name), or tx.queue(name): then everything is a part of that transaction."""

    def __init__(self, store, name: str, row: dict, txn=None):
        self.name = name
        self._store = store
        self._tree = row["tree"]
        self._ids = row["ids"]
        self._txn = txn

    def _do(self, work):
        return self._store.run(work) if self._txn is None else work(self._txn)

    def put(self, value: Any, delay: float | str = 0, priority: int = 0) -> int:
        """Add a job and return its id. It can be claimed after `delay` (seconds or "30s"); higher priorities come first."""
        payload = encode_value(value)
        _priority(priority)
        delay_ns = _delay_ns(delay)

        def work(txn):
            now = time.time_ns()
            number = next_number(txn, self._ids, COUNTER)
            key = DELAYED_KEY.pack(DELAYED, now + delay_ns, number) if delay_ns else _ready_key(number, priority)
            txn.put(self._tree, key, HEAD.pack(priority, 0, now) + payload)
            return number
        return self._do(work)

    def claim(self, timeout: float | str | None = None) -> Job | None:
        """The next job, leased to this process until it acknowledges it, gives it back, or dies.

        timeout (seconds or "30s"): how long to wait for one; None waits as long as it takes, 0 only looks. None is returned when
        the time is over. In a transaction it never waits.
        """
        if timeout is not None:
            timeout = seconds(timeout, "timeout")
        job, _, _ = self._try_claim()
        if job is not None or timeout == 0 or self._txn is not None:
            return job
        deadline = None if timeout is None else time.monotonic() + timeout
        wait = Wait(self)
        while True:
            job, pause = wait.look()
            if job is not None:
                return job
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            wait.sleep(left if pause is None else pause if left is None else min(left, pause))

    def _try_claim(self):
        """(job or None, snapshot it was looked for in, seconds until it makes sense to look again or None)."""
        region = self._store.region
        me = region.me
        found = {}

        def work(txn):
            found["at"] = txn.snapshot
            cursor = Cursor(txn, self._tree)
            pause = self._wake_delayed(txn, cursor)
            found["pause"] = pause
            key, value, leases = self._next(cursor)
            if key is None:
                found["pause"] = pause if not leases else LOOK_S if pause is None else min(pause, LOOK_S)
                return None
            record = parse(key, value)
            lease = LEASED_KEY.pack(LEASED, region.incarnation, *me, record.id)
            txn.delete(self._tree, key)
            txn.put(self._tree, lease, HEAD.pack(record.priority, record.attempts + 1, record.enqueued_ns) + record.payload)
            return record._replace(attempts=record.attempts + 1, state="leased", slot=me[0], generation=me[1]), lease
        claimed = self._do(work)
        if claimed is None:
            return None, found["at"], found["pause"]
        return Job(self, *claimed), found["at"], None

    def _wake_delayed(self, txn, cursor):
        """Make delayed jobs ready that are due. Seconds until the first of the others is due, or None."""
        if not cursor.seek(DELAYED) or cursor.key[:1] != DELAYED:
            return None
        now = time.time_ns()
        due = []
        pause = None
        more = True
        while more and (key := cursor.key)[:1] == DELAYED:
            _, available, number = DELAYED_KEY.unpack(key)
            if available > now or len(due) == DUE_AT_ONCE:
                pause = max(0.0, (available - now) / 1e9)
                break
            due.append((number, key, cursor.value))
            more = cursor.next()
        for number, key, value in due:
            txn.delete(self._tree, key)
            txn.put(self._tree, _ready_key(number, HEAD.unpack_from(value)[0]), value)
        return pause

    def _next(self, cursor):
        """(key, value, whether others hold leases) of the job to claim; key None: there is none."""
        region = self._store.region
        leases = False
        more = cursor.seek(LEASED)
        while more:
            key = cursor.key
            _, incarnation, slot, generation, _ = LEASED_KEY.unpack(key)
            if incarnation != region.incarnation or not region.alive(slot, generation):
                return key, cursor.value, True
            leases = True
            # behind all leases of this process: one question for each process, however many jobs it has
            more = cursor.seek(LEASED_KEY.pack(LEASED, incarnation, slot, generation, 0xffffffffffffffff))
        if cursor.seek(READY) and (key := cursor.key)[:1] == READY:
            return key, cursor.value, leases
        return None, None, leases

    def ack(self, job: Job):
        """The job is done: remove it. OperationalError: the claim does not hold it any more."""
        self._do(lambda txn: (self._held(txn, job), txn.delete(self._tree, job._lease)))
        job._settled = True

    def nack(self, job: Job, delay: float | str = 0):
        """Give the job back, to be claimed again at once or after `delay`. OperationalError: the claim does not hold it any more."""
        delay_ns = _delay_ns(delay)

        def work(txn):
            value = self._held(txn, job)
            txn.delete(self._tree, job._lease)
            key = DELAYED_KEY.pack(DELAYED, time.time_ns() + delay_ns, job.id) if delay_ns else _ready_key(job.id, job.priority)
            txn.put(self._tree, key, value)
        self._do(work)
        job._settled = True

    def _held(self, txn, job):
        if job._queue._tree != self._tree:
            raise errors.ProgrammingError(f"job {job.id} is of queue {job._queue.name!r}, not of {self.name!r}")
        value = txn.get(self._tree, job._lease)
        if value is None or HEAD.unpack_from(value)[1] != job.attempts:
            raise errors.OperationalError(f"job {job.id} of queue {self.name!r} is not held by this claim (attempt {job.attempts}) any more: "
                                          "it was acknowledged, given back, or the process that claimed it ended")
        return value

    def __len__(self):
        """Jobs that are not done: ready, delayed and leased. Counts them one by one."""
        return sum(self.stats().values())

    def __bool__(self):
        return True                         # a handle, also when there are no jobs

    def stats(self) -> dict:
        """How many jobs are "ready", "delayed" and "leased". Counts them one by one."""
        def count(txn):
            counts = dict.fromkeys(STATES.values(), 0)
            cursor = Cursor(txn, self._tree)
            more = cursor.first()
            while more:
                counts[STATES[cursor.key[:1]]] += 1
                more = cursor.next()
            return counts
        return count(self._txn) if self._txn is not None else self._store.reading(count)

    def __repr__(self):
        return f"<memora.Queue {self.name!r}>"


class Wait:
    """Waiting for a job: looks, and says how long there is nothing to look for. Shared by claim() and its awaitable twin."""

    def __init__(self, queue: Queue):
        from memora.engine.feed import Feed
        self._queue = queue
        self._feed = Feed(queue._store.region, None, {queue._tree})
        self._seen = 0                      # the commit that was looked at last

    def look(self):
        """(job or None, seconds after which to look again without a commit, or None)."""
        job, self._seen, pause = self._queue._try_claim()
        return job, pause

    def sleep(self, timeout: float | None) -> bool:
        """Wait for a commit of this queue that was not looked at. False: the time is over."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                entry = self._feed.read(timeout)
            except errors.Lagged:
                return True                 # commits were passed over: look
            if entry is None:
                return False
            if entry[0] > self._seen:
                return True
            if deadline is not None:
                timeout = max(0.0, deadline - time.monotonic())
