"""The store: the one class of the engine that the layers above call. One open region, its transactions, its life."""
import contextlib
import os
import time

from memora import errors
from memora.engine import catalog, places, turns
from memora.engine.check import check as check_region
from memora.engine.region import Region
from memora.engine.retries import TRIES, Retries
from memora.engine.transaction import Transaction

OVERTAKEN = 1000


def tree_name(region: Region, tree: int) -> str | None:
    """What a tree is to its users: "kv 'sessions'", "index 'by_day' of 'visits'". None: it cannot be told now."""
    try:
        txn = Transaction(region, read_only=True)
    except errors.Error:
        return None
    try:
        for row in catalog.items(txn):
            if row.get("tree") == tree:
                return f"{row['kind']} {row['name']!r}" + (f" of {row['table']!r}" if row["kind"] == "index" else "")
    except errors.Error:
        pass
    finally:
        txn.rollback()
    return None


class Store:
    """An open region of this process. Made by `Store.open`; threads may share it; forked children may go on using it."""

    def __init__(self, region: Region, timeout_s: float = 5.0):
        self.region = region
        region.tree_name = tree_name
        self.timeout_s = timeout_s

    @classmethod
    def open(cls, name: str = ":memory:", *, region_dir=None, timeout_s: float = 5.0, create: bool = True, read_only: bool = False, owner=None,
             **made) -> "Store":
        """Open ":memory:", "shm:NAME" or "sysv:NAME", creating it when it does not exist (made: max_bytes, ring_bytes, slots, snaps,
        initial_bytes, snapshot_bytes, snapshot_age_s, mode, group). Another user's region (owner), and one that is only read, is never created.

        RegionError: it cannot be used, or does not exist and is not created. RegionFull: no memory for it.
        """
        if name == ":memory:":
            return cls(Region.memory(**made), timeout_s)
        kind, short = places.split(name)
        mine = places.user_id(owner) == os.getuid()
        if mine and not read_only:
            places.sweep(region_dir)
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError):
                return cls(Region.attach(short, region_dir, kind=kind, owner=owner, read_only=read_only), timeout_s)
            if not create or read_only or not mine:
                raise errors.RegionError(f"there is no region {name!r} in {places.user_directory(region_dir, owner=owner)!r}")
            with contextlib.suppress(FileExistsError):
                return cls(Region.create(short, region_dir, kind=kind, **made), timeout_s)
        raise errors.RegionError(f"{name!r} is created and removed all the time by others")

    def begin(self, read_only: bool = False, isolation: str = "serializable", timeout_s: float | None = None, immediate: bool = False,
              wait: bool = True) -> Transaction:
        """A transaction at the newest commit. isolation: "serializable", or "snapshot" (writes are not validated against reads).

        immediate: it takes the ticket first; until it ends, or half the timeout has passed and others wait, nobody else commits.
        LockTimeout: somebody else has it (wait=False: and is not waited for), or the caller's own thread.
        """
        if isolation not in ("serializable", "snapshot"):
            raise ValueError(f"isolation must be 'serializable' or 'snapshot', not {isolation!r}")
        if timeout_s is None:
            timeout_s = self.timeout_s
        if not immediate:
            return Transaction(self.region, read_only=read_only, snapshot=isolation == "snapshot", timeout_s=timeout_s)
        if read_only:
            raise ValueError("a read-only transaction needs no ticket: immediate and read_only exclude each other")
        return Transaction(self.region, snapshot=isolation == "snapshot", timeout_s=timeout_s, immediate=True, wait=wait)

    @property
    def read_only(self) -> bool:
        """Attached without the right to write."""
        return self.region.read_only

    @property
    def patience(self) -> int:
        """How often a reader begins again that was overtaken before it handed anything out: only who announces nothing is."""
        return OVERTAKEN if self.region.unregistered else 1

    def reading(self, work):
        """work(read-only transaction), and what it returned; again at a newer commit where a writer overtook it (patience)."""
        for left in range(self.patience - 1, -1, -1):
            txn = self.begin(read_only=True)
            try:
                return work(txn)
            except errors.SnapshotTooOld:
                if not left:
                    raise
            finally:
                txn.rollback()

    def hold(self):
        """Before a transaction that users hold open: OperationalError where nobody would know of its snapshot."""
        if self.region.unregistered:
            raise errors.OperationalError(f"region {self.region.name!r} is attached read-only and its slots file cannot be written: "
                                          "there are single statements only, no transactions and snapshots")

    def run(self, work, tries: int = TRIES):
        """work(transaction), committed, and what it returned; again as Retries says after a conflict, or where its snapshot was overtaken."""
        if self.region.unregistered:
            return self.reading(work)
        retries = Retries(tries)
        while True:
            txn = self.begin(immediate=retries.immediate)
            try:
                result = work(txn)
                txn.commit()
                return result
            except (errors.SerializationError, errors.SnapshotTooOld) as error:
                txn.rollback()
                time.sleep(retries.after(error))
            finally:
                txn.rollback()

    def schema_version(self, txn: Transaction) -> int:
        """Changes with every committed change of the catalog; the same number means the same catalog. Who asks rests on it."""
        txn.rest_on_schema()
        return txn.schema_version()

    def space(self, name: str, kind: str, create) -> dict:
        """The catalog row of a space, created by create(transaction) -> row when the name is free."""
        def work(txn):
            row = catalog.want(txn, name, kind)
            if row is None:
                row = {"kind": kind, "name": name, **create(txn)}
                catalog.put(txn, name, row)
            return row
        return self.run(work)

    def control(self, tree: int) -> dict:
        """The counters of a bounded tree (bytes, entries, max_bytes, evicted) or a topic (first, next, bytes, max_bytes), as of now."""
        return self.reading(lambda txn: txn.control(tree))

    def stats(self) -> dict:
        return self.region.stats()

    def processes(self) -> list:
        return self.region.processes()

    def locks(self) -> list:
        """Who has the commit lock or the ticket at this moment."""
        return turns.locks(self.region)

    def snapshots(self) -> list:
        """The open snapshots, oldest first."""
        return turns.snapshots(self.region)

    def ticket_stands(self) -> float | None:
        """None, or the seconds for which somebody's ticket may keep commits waiting."""
        return turns.blocked(self.region)

    def check(self) -> list:
        """Every broken invariant of the region; empty = clean."""
        return check_region(self.region)

    def close(self):
        """Leave the region. Idempotent."""
        self.region.close()

    @property
    def closed(self) -> bool:
        return self.region.closed

