"""The database: what memora.open returns. One region and all its faces.

It may be used from any thread, and after fork() in the child, too: the child joins the region as a process of its own at first
use. Statements of execute() and single calls of keys, caches, topics and queues are each one commit, tried again inside when
another commit was faster; `transaction()` makes many of them one.
"""
from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from memora import errors, spaces
from memora.cache.cache import Cache
from memora.changes import Changes
from memora.durations import seconds, size
from memora.engine import places
from memora.engine.retries import TRIES, Retries
from memora.engine.store import Store
from memora.ipc.queues import Queue
from memora.ipc.topics import Topic
from memora.kv import KeySpace
from memora.transaction import Rows, Tx

IDLE_SESSIONS = 8
OF_A_FILE = re.compile("db-[0-9a-f]+-[0-9a-f]+")        # what engine/files.pyx calls the region of a file
NAMED = tuple(kind + ":" for kind in places.KINDS)
FILE_OPTIONS = ("durability", "recover")


def open(name: str | os.PathLike, *, timeout: float | str = 5.0, max_bytes: int | str | None = None, ring_bytes: int | str | None = None,  # noqa: A001
         region_dir: str | os.PathLike | None = None, create: bool = True, read_only: bool = False, owner: str | int | None = None,
         mode: int | None = None, group: str | int | None = None, snapshot_bytes: int | str | None = None, snapshot_age: float | str | None = None,
         statement_timeout: float | str | None = None, foreign_keys: bool = False, **file_options) -> Database:
    """Open a database, creating it if there is none.

    name: ":memory:" (this process and its forks), "shm:NAME" (shared memory under a name, until memora.remove), "sysv:NAME" (the same in a
    System V segment of fixed size), or the path of a file. timeout: how long a commit waits for its turn. statement_timeout: how long a SQL statement may run before it raises
    StatementTimeout, for sessions and connections made from here (None: for ever). region_dir: another tmpfs directory
    than /dev/shm. create=False: RegionError when there is no such region.

    What counts when the region is made: max_bytes, its cap (half of its file system, or of the container's memory if that is less; 256 MB
    for sysv:); ring_bytes, the size of the log that change feeds read (8 MB); mode and group, who else may attach (0o600: nobody);
    snapshot_bytes, how much of what is no longer current may be kept for open snapshots before the oldest is revoked (SnapshotTooOld; a
    quarter of the cap); snapshot_age, how long a snapshot may stand while others commit ("10m"; for ever).
    owner: whose region to open, by name or number; it is never created. read_only=True maps the region without the right to write: what
    would write raises OperationalError. foreign_keys=True: SQL through this handle, in its transactions and (unless they say otherwise by
    PRAGMA foreign_keys) its connections, enforces foreign keys.

    For files, mode and group count when the lock file is made, and are those of all files; owner is the lock file's, too; read_only=True writes
    nothing beside the file, and reads a private copy, as of now, where no process has it open. Also: durability ("off", "normal", "full") and recover=True, to go on from the files when the live region of a container is
    out of reach.

    RegionError: what was found is no region, damaged, or too new; RegionFull: no room for it.
    """
    name = os.fsdecode(name)
    timeout_s = seconds(timeout, "timeout")
    limit_s = None if statement_timeout is None else seconds(statement_timeout, "statement_timeout")
    sizes = {key: size(value, key) for key, value in (("max_bytes", max_bytes), ("ring_bytes", ring_bytes), ("snapshot_bytes", snapshot_bytes))
             if value is not None}
    if snapshot_age is not None:
        sizes["snapshot_age_s"] = seconds(snapshot_age, "snapshot_age")
    region_dir = None if region_dir is None else os.fsdecode(region_dir)
    unknown = [key for key in file_options if key not in FILE_OPTIONS]
    if unknown:
        raise TypeError(f"open() has no argument {unknown[0]!r}")
    given = {key: value for key, value in file_options.items() if value is not None}
    access = {key: value for key, value in (("read_only", read_only or None), ("owner", owner), ("mode", mode), ("group", group)) if value is not None}
    if access and name == ":memory:":
        raise errors.NotSupportedError(f"{next(iter(access))}= is for databases that others can find, not for ':memory:'")
    if name != ":memory:" and not name.startswith(NAMED):
        if not name:
            raise errors.ProgrammingError("a database needs a name: ':memory:', 'shm:NAME', 'sysv:NAME' or the path of a file")
        from memora.engine.files import open_file
        return Database(open_file(name, timeout_s=timeout_s, region_dir=region_dir, create=create, **sizes, **given, **access), name,
                        limit_s, foreign_keys)
    if given:
        raise errors.ProgrammingError(f"{next(iter(given))}= is for databases with a file; {name!r} has none")
    return Database(Store.open(name, region_dir=region_dir, timeout_s=timeout_s, create=create, **sizes, **access), name, limit_s, foreign_keys)


def remove(name: str | os.PathLike, *, region_dir: str | os.PathLike | None = None):
    """Take a named region away. Processes that have it open keep it until they close it; the name is free at once.

    RegionError: there is none. A database with files is removed by removing its files when nobody has it open.
    """
    name = os.fsdecode(name)
    if not name.startswith(NAMED):
        raise errors.NotSupportedError(f"{name!r}: remove() takes 'shm:NAME' and 'sysv:NAME' away; "
                                       "a region without a name ends with its last process, a database with files by removing them")
    kind, short = places.split(name)
    places.remove(short, None if region_dir is None else os.fsdecode(region_dir), kind)


def regions(*, region_dir: str | os.PathLike | None = None) -> list[str]:
    """The names of this user's shared regions, as open() takes them, sorted. Those that belong to files are not named."""
    region_dir = None if region_dir is None else os.fsdecode(region_dir)
    return [f"{kind}:{name}" for kind in places.KINDS for name in places.names(region_dir, kind)
            if kind != "shm" or not OF_A_FILE.fullmatch(name)]


def connect(database: str | os.PathLike | Database, *args, **kwargs):
    """A PEP 249 connection with sqlite3's signatures; see memora.dbapi.connect."""
    from memora import dbapi
    return dbapi.connect(database, *args, **kwargs)


class Database:
    """An open database. From memora.open(); `with` closes it at the end."""

    def __init__(self, store: Store, name: str, statement_timeout: float | None = None, foreign_keys: bool = False):
        self.name = name
        self._statement_timeout, self._foreign_keys = statement_timeout, foreign_keys
        self._store = store
        self._local = threading.local()     # one SQL session a thread
        self._known = (-1, {})              # rows of the catalog at one version of it: (kind, name) -> row
        self._registry = None
        self._idle = []                     # sessions of transactions that have ended

    # ---- SQL

    def execute(self, sql: str, params: Any = ()) -> Rows:
        """Run one SQL statement; a change is committed when this returns. Rows come as they are read, from one snapshot.

        BEGIN and the like are refused: use transaction(), or connect().
        """
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = self.session()
            session.one_of_many = True
        result = session.execute(sql, params)
        if session.in_transaction:
            session.rollback()
            raise errors.ProgrammingError("execute() commits every statement: use db.transaction(), or BEGIN on db.connect()")
        return Rows(result)

    def session(self):
        """A SQL session of its own: the layer under connections and the shell."""
        self._check()
        from memora.sql.session import Session
        return self._set_up(Session(self._store, virtual=self._virtual()))

    def _set_up(self, session):
        session.control.timeout_s = self._statement_timeout
        session.foreign_keys = self._foreign_keys
        return session

    def _transaction_session(self, txn):
        """A SQL session that works in an engine transaction; to be given back when that has ended."""
        try:
            session = self._idle.pop()
        except IndexError:
            from memora.sessions import TransactionSession
            return self._set_up(TransactionSession(self._store, virtual=self._virtual(), transaction=txn))
        session.join(txn)
        return session

    def _give_back(self, session):
        if len(self._idle) < IDLE_SESSIONS:
            self._idle.append(session)

    def connect(self, **options):
        """A PEP 249 connection to this database, with the options of memora.connect; it does not close the database."""
        from memora import dbapi
        return dbapi.connect(self, **options)

    def _virtual(self):
        if self._registry is None:
            from memora.virtual import registry
            self._registry = registry(self._store)
        return self._registry

    # ---- transactions

    def transaction(self, isolation: str = "serializable", read_only: bool = False, immediate: bool = False) -> Tx:
        """`with db.transaction() as tx:` reads one snapshot and commits at the end, or rolls back if the block raises.

        The commit raises SerializationError if another one changed what was read (isolation "snapshot": does not look at that);
        nothing was written then. Nothing is locked in between.

        immediate: take the ticket first. Until it ends no other commit comes before its own, so it does not conflict; others wait. Past
        half the timeout it is lost to whoever waits, and the transaction goes on like any other. LockTimeout: somebody else has it.
        """
        self._check()
        return Tx(self, isolation, read_only, immediate)

    def run(self, fn: Callable[[Tx], Any], tries: int = TRIES) -> Any:
        """fn(tx) in a transaction, committed, and again on a conflict; returns what fn returned. After three conflicts it takes the ticket.

        Where writers overtook its snapshot (SnapshotTooOld), it runs once more, with the ticket: then nobody commits before it.

        fn may run several times: what it does beside the transaction should bear that. SerializationError after `tries`; SnapshotTooOld when
        it kept others waiting for half the timeout, lost the ticket, and was overtaken again.
        """
        retries = Retries(tries)
        while True:
            try:
                with self.transaction(immediate=retries.immediate) as tx:
                    result = fn(tx)
                return result
            except (errors.SerializationError, errors.SnapshotTooOld) as error:
                pause = retries.after(error)
            time.sleep(pause)

    def snapshot(self) -> Tx:
        """A read-only transaction: one commit, held still. Never fails for a conflict."""
        self._check()
        return Tx(self, read_only=True)

    # ---- spaces

    def kv(self, name: str, pickle: bool = False, index: str | None = None) -> KeySpace:
        """A key space: a mapping that every process shares. Made when the name is free.

        index="btree" keeps the keys in order, and is what is made if nothing is said; index="hash" is faster for single keys and has no
        order: scan() takes no range there. When the space exists, what is given must be what it was made with; None takes what is stored.

        pickle=True lets it hold what the value codec refuses, and unpickle what others wrote into it: only where you trust them.
        ProgrammingError: the name is something else, or the space was made with another `pickle`.
        """
        return KeySpace(self._store, name, self._row(name, spaces.kv(pickle, index)), pickle)

    def cache(self, name: str, ttl: float | str | None = None, max_bytes: int | str | None = None, evict: str | None = None,
              index: str | None = None) -> Cache:
        """A cache, made when the name is free: with 64 MB, no time to live, and evict="clock", if nothing is said.

        When it exists, what is given must be what it was made with; None takes what is stored.
        """
        return Cache(self._store, name, self._row(name, spaces.cached(ttl, max_bytes, evict, index)))

    def topic(self, name: str, retain: int | str | None = None) -> Topic:
        """A topic, made when the name is free; it keeps the newest messages that fit into `retain` bytes (4 MB)."""
        return Topic(self._store, name, self._row(name, spaces.topic(retain)))

    def queue(self, name: str) -> Queue:
        """A queue, made when the name is free."""
        return Queue(self._store, name, self._row(name, spaces.queue()))

    def changes(self, name: str | Iterable[str] | None = None, since: int | None = None, pickle: bool = False) -> Changes:
        """Follow what is committed: to one table or space, to several, or to all (None), in commit order.

        since: the number of the last commit already known (Tx.commit_number, Tx.snapshot); None: from now on.
        pickle: unpickle what is in key spaces made with pickle=True; else these values come as the bytes of the pickle.
        """
        self._check()
        return Changes(self._store, name, since, pickle)

    def _row(self, name, wanted):
        self._check()
        return spaces.in_store(self._store, name, wanted)

    def _known_rows(self, version):
        known = self._known
        if known[0] != version:
            known = self._known = (version, {})
        return known[1]

    # ---- looking, and the end

    @property
    def commit_number(self) -> int:
        """The number of the newest commit."""
        return self._store.stats()["commit"]

    def huge_pages(self) -> int:
        """Have the kernel gather what the region uses into pages of 2 MiB, now; returns the bytes that lie in such pages in this process.

        Reads of a region beyond the processor's reach of small pages become a fifth faster. It copies all that memory once, and each process
        asks for itself; what the region grows by later is not in them. 0: the kernel cannot (Linux before 6.1).
        """
        self._check()
        return self._store.region.huge_pages()

    def stats(self) -> dict:
        """Numbers of the region: bytes, pages, the log, commits."""
        return self._store.stats()

    def processes(self) -> list[dict]:
        """The attached processes: slot, generation, pid, alive, since, commits, conflicts, what."""
        return self._store.processes()

    def locks(self) -> list[dict]:
        """Who keeps commits waiting now: lock ("commit" or "ticket"), slot, pid, alive, what, age, remaining, waiters. Empty: nobody."""
        return self._store.locks()

    def snapshots(self) -> list[dict]:
        """The open snapshots, oldest first: entry, state ("active" or "revoked"), commit, behind, age, checkpoint, slot, pid, alive, what."""
        return self._store.snapshots()

    def check(self) -> list[str]:
        """Walk the whole region and name every broken invariant; empty = clean."""
        self._check()
        return self._store.check()

    def close(self):
        """Leave the region; every handle made from here raises ProgrammingError from now on. Idempotent."""
        self._store.close()

    @property
    def closed(self) -> bool:
        return self._store.closed

    def _check(self):
        if self._store.closed:
            raise errors.ProgrammingError(f"database {self.name!r} is closed")

    def __enter__(self):
        self._check()
        return self

    def __exit__(self, *exception):
        self.close()

    def __repr__(self):
        return f"<memora.Database {self.name!r}{', closed' if self.closed else ''}>"

    # ---- not yet

    def signal(self, name: str):
        """Signals, locks, counters to wait for."""
        raise errors.NotSupportedError("db.signal() comes later; wait on a topic or a queue meanwhile")

    def serve(self, name: str, fn: Callable):
        """Answer requests."""
        raise errors.NotSupportedError("db.serve() comes later; a queue for requests and a topic for answers do it meanwhile")

    def call(self, name: str, *args, **kwargs):
        """Ask who serves."""
        raise errors.NotSupportedError("db.call() comes later; a queue for requests and a topic for answers do it meanwhile")

    def memoize(self, *args, **kwargs):
        """Keep a function's results while what it read is unchanged."""
        raise errors.NotSupportedError("db.memoize comes later; cache.get_or_set() does a part of it meanwhile")

    def backup(self, path: str | os.PathLike):
        """Write a copy."""
        raise errors.NotSupportedError("db.backup() comes later")
