"""Processes killed at every named point of a commit and at random: nothing acknowledged is lost, nothing half is seen, nothing leaks.

Each worker writes groups of related keys, whole in one transaction, and says outside the region what it is about to do ("intent") and what
was acknowledged. The parent knows from that what must be there: every acknowledged change, and of the last intent all or nothing.
"""
import json
import os
import random
import signal
import time

import pytest
from counters import count

from memora import errors
from memora.engine.region import FAILPOINTS

GROUPS = 12
MEMBERS = 5
KINDS = ("put", "delete", "big", "tree", "topic", "wide")


def key(worker, group, member):
    return b"worker-%d/group-%03d/member-%d" % (worker, group, member)


def private(worker):
    return b"private-tree-of-%d" % worker


class World:
    """The trees that all workers share, and what they were told to hold."""

    def __init__(self, stores, store, directory, workers):
        self.store, self.again = store, stores.again
        self.directory = directory
        txn = store.begin()
        self.trees = [txn.create_tree(), txn.create_tree(), txn.create_hash()]
        self.names = txn.create_tree()
        self.topic = txn.create_topic(8 << 10)
        self.bounded = [txn.create_bounded(32 << 10), txn.create_bounded(32 << 10, hashed=True)]
        txn.commit()
        self.groups = {w: {} for w in range(workers)}       # worker -> group -> sequence number of what is in it
        self.private = dict.fromkeys(range(workers), 0)     # worker -> sequence number of its private tree
        self.done = dict.fromkeys(range(workers), 0)        # worker -> bytes of its journal that were applied
        self.pending = dict.fromkeys(range(workers))        # worker -> intent without an acknowledgement
        self.sequence = dict.fromkeys(range(workers), 0)

    # ---- in a worker

    def change(self, store, intent):
        """One transaction, whole."""
        kind, worker, group, n = intent["kind"], intent["worker"], intent["group"], intent["n"]
        txn = store.begin()
        try:
            if kind == "delete":
                for member in range(MEMBERS):
                    txn.delete(self.trees[member % 3], key(worker, group, member))
            elif kind == "tree":
                old = txn.get(self.names, private(worker))
                if old is not None:
                    txn.drop_tree(json.loads(old)["tree"])
                tree = txn.create_hash() if n % 2 else txn.create_tree()
                for i in range(150):
                    txn.put(tree, b"%05d" % i, b"%d" % n * 12)
                txn.put(tree, b"large", b"%d" % n * 3000)
                txn.put(tree, b"long" * 200, b"%d" % n)
                txn.put(self.names, private(worker), json.dumps({"tree": tree, "n": n}).encode())
            else:
                size = {"put": 20, "big": random.Random(n).randrange(2000, 40000), "topic": 300, "wide": 700}[kind]
                for member in range(MEMBERS):
                    txn.put(self.trees[member % 3], key(worker, group, member), b"%d " % n + bytes([n & 255]) * size)
                if kind == "topic":
                    txn.publish(self.topic, b"%d %d" % (worker, n) + b"." * 500)
                if kind == "wide":
                    txn.put(self.bounded[n % 2], b"%d/%d" % (worker, n), b"b" * 1500)
            return txn.commit()
        finally:
            txn.rollback()

    def work(self, worker, seed, failpoint, kinds, steps, out):
        rng = random.Random(seed)
        store = self.again(self.store)
        journal = os.open(self.directory / f"{worker}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        n = self.sequence[worker]
        for step in range(steps):
            n += 1
            intent = {"kind": rng.choice(kinds), "worker": worker, "group": rng.randrange(GROUPS), "n": n}
            os.write(journal, json.dumps(intent).encode() + b"\n")
            if failpoint and step == 0:
                store.region.failpoint(failpoint, signal.SIGKILL)
            while True:
                try:
                    commit = self.change(store, intent)
                    break
                except errors.SerializationError:
                    continue
            os.write(journal, b'{"commit": %d}\n' % commit)
        store.close()

    def spawn(self, spawn, worker, seed, failpoint=None, kinds=KINDS, steps=1 << 30):
        return spawn(self.work, worker, seed, failpoint, kinds, steps)

    # ---- in the parent

    def apply(self, intent):
        if intent["kind"] == "delete":
            self.groups[intent["worker"]].pop(intent["group"], None)
        elif intent["kind"] == "tree":
            self.private[intent["worker"]] = intent["n"]
        else:
            self.groups[intent["worker"]][intent["group"]] = intent["n"]

    def read_journal(self, worker):
        """Apply what the dead worker was told to be committed; its last intent may be left over."""
        path = self.directory / f"{worker}"
        if not path.exists():
            return
        with path.open("rb") as journal:
            journal.seek(self.done[worker])
            lines = journal.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):     # killed inside write(): what it began to say was not said
            os.truncate(path, self.done[worker] + sum(map(len, lines[:-1])))
            lines.pop()
        for line in lines:
            self.done[worker] += len(line)
            entry = json.loads(line)
            if "commit" in entry:
                self.apply(self.pending[worker])
                self.pending[worker] = None
            else:
                self.pending[worker] = entry
                self.sequence[worker] = entry["n"]

    def group_in(self, txn, worker, group):
        """The sequence number that all members of a group carry, or None when all are absent."""
        found = set()
        for member in range(MEMBERS):
            value = txn.get(self.trees[member % 3], key(worker, group, member))
            if value is not None:
                number, _, rest = value.partition(b" ")
                assert rest == rest[:1] * len(rest) and rest[0] == int(number) & 255, f"torn value {value[:60]!r}"
            found.add(None if value is None else int(number))
        assert len(found) == 1, f"half of a commit: worker {worker}, group {group}: {found}"
        return found.pop()

    def private_in(self, txn, worker):
        row = txn.get(self.names, private(worker))
        if row is None:
            return 0
        row = json.loads(row)
        n = row["n"]
        for i in range(150):
            assert txn.get(row["tree"], b"%05d" % i) == b"%d" % n * 12
        assert txn.get(row["tree"], b"large") == b"%d" % n * 3000
        assert txn.get(row["tree"], b"long" * 200) == b"%d" % n
        return n

    def whole(self, txn):
        for worker in self.groups:
            for group in range(GROUPS):
                self.group_in(txn, worker, group)
            self.private_in(txn, worker)

    def verify(self, worker, happened=None):
        """The dead worker's keys are as acknowledged; its last intent is there whole or not at all. happened: which of the two, if known."""
        self.read_journal(worker)
        # a commit that the dead worker sealed is visible when somebody has taken the lock over from it: be that somebody
        taker = self.store.begin()
        taker.create_tree()
        taker.rollback()
        txn = self.store.begin(read_only=True)
        intent = self.pending[worker]
        if intent is not None:
            if intent["kind"] == "tree":
                there = self.private_in(txn, worker) == intent["n"]
            else:
                now = self.group_in(txn, worker, intent["group"])
                wanted = None if intent["kind"] == "delete" else intent["n"]
                there = now == wanted
            assert happened is None or there == happened, f"{intent} at commit {txn.snapshot}: visible {there}, expected {happened}"
            if there:
                self.apply(intent)
            self.pending[worker] = None
        for group in range(GROUPS):
            assert self.group_in(txn, worker, group) == self.groups[worker].get(group), f"worker {worker}, group {group}"
        assert self.private_in(txn, worker) == self.private[worker]
        txn.rollback()


@pytest.mark.everywhere
@pytest.mark.parametrize("name", FAILPOINTS)
def test_killed_at_each_point(stores, spawn, tmp_path, name):
    store = stores(initial_bytes=400 << 10)
    world = World(stores, store, tmp_path, 1)
    for seed, kind in enumerate(KINDS):
        world.spawn(spawn, 0, seed, None, ("put",), GROUPS).wait()       # something to delete and to replace
        world.read_journal(0)
        child = world.spawn(spawn, 0, seed, name, (kind,) if name not in ("growing", "collecting", "reserved", "stored") else ("put", "big", kind), 20000)
        assert child.wait() == signal.SIGKILL, f"{name} was not reached by {kind}"
        count("kills")
        # A reader before anybody took the lock over: as acknowledged, and never blocked.
        txn = store.begin(read_only=True)
        world.whole(txn)
        txn.rollback()
        before = txn.snapshot
        happened = None
        if kind in ("put", "big") and name not in ("growing", "collecting", "reserved", "stored"):
            happened = FAILPOINTS.index(name) >= FAILPOINTS.index("sealed")
        assert store.check() == []
        if happened:
            assert store.stats()["commit"] == before + (name in ("sealed", "rolling"))
        world.verify(0, happened)


def run_random_kills(stores, spawn, tmp_path, kills, seed):
    print("seed", seed)
    rng = random.Random(seed)
    store = stores(initial_bytes=600 << 10, ring_bytes=64 << 10)
    world = World(stores, store, tmp_path, 4)
    workers = {w: world.spawn(spawn, w, rng.random()) for w in range(4)}
    for n in range(kills):
        time.sleep(rng.random() * 0.02)
        w = rng.randrange(4)
        workers[w].kill()
        workers[w].out.close()
        world.verify(w)
        txn = store.begin(read_only=True)
        world.whole(txn)
        txn.rollback()
        if n % 20 == 19:
            assert store.check() == []
        workers[w] = world.spawn(spawn, w, rng.random())
    for child in workers.values():
        os.kill(child.pid, signal.SIGKILL)
    for w, child in workers.items():
        child.wait()
        count("kills")
        world.verify(w)
    assert store.check() == []
    done = sum(world.sequence.values())
    assert done > kills, f"only {done} transactions were tried between {kills} kills"
    # the region goes on: room that the dead had taken comes back
    world.work(0, 1, None, KINDS, 50, out=None)
    world.read_journal(0)
    world.verify(0)
    stats = store.stats()
    assert stats["pinned_frames"] + stats["limbo_frames"] < 200, stats


class Replica:
    """What the change feed alone says is in every tree."""

    def __init__(self, store):
        from memora.engine import feed
        self.ops = feed
        self.feed = feed.Feed(store.region, store.stats()["commit"])
        self.trees = {}

    def catch_up(self):
        while (found := self.feed.read(0)) is not None:
            number, _, ops = found
            for tree, op, k, new, old, _ in ops:
                if op == self.ops.CREATE:
                    assert tree not in self.trees
                    self.trees[tree] = {}
                elif op == self.ops.DROP:
                    del self.trees[tree]
                elif op == self.ops.PUT:
                    rows = self.trees.setdefault(tree, {})
                    assert rows.get(k) == old, f"commit {number}: tree {tree}, key {k}: the image before is not what was there"
                    rows[k] = new
                elif op != self.ops.MESSAGE:
                    assert self.trees[tree].pop(k) == old


def test_the_feed_replayed_equals_the_tables_after_kills(stores, spawn, tmp_path):
    from memora.engine.cursor import Cursor
    # the log must outlast a busy machine: the replica is one process of five
    store = stores(initial_bytes=600 << 10, ring_bytes=1 << 30, max_bytes=2 << 30)
    world = World(stores, store, tmp_path, 4)
    replica = Replica(store)
    workers = {w: world.spawn(spawn, w, w) for w in range(4)}
    for n in range(18):
        time.sleep(random.random() * 0.02)
        w = random.randrange(4)
        workers[w].kill()
        workers[w].out.close()
        world.verify(w)
        replica.catch_up()
        workers[w] = world.spawn(spawn, w, n)
    for w, child in workers.items():
        child.kill()
        world.verify(w)
    replica.catch_up()
    assert replica.feed.position == store.stats()["commit"]
    txn = store.begin(read_only=True)
    assert any(len(rows) > 10 for rows in replica.trees.values())
    for tree, rows in replica.trees.items():
        cursor, there = Cursor(txn, tree), {}
        more = cursor.first()
        while more:
            there[cursor.key] = cursor.value
            more = cursor.next()
        assert there == rows, f"tree {tree}"
    txn.rollback()


@pytest.mark.watchdog(300)
def test_random_kills(stores, spawn, tmp_path):
    run_random_kills(stores, spawn, tmp_path, 30, random.randrange(1 << 30))


@pytest.mark.long
@pytest.mark.watchdog(900)
def test_a_thousand_random_kills(stores, spawn, tmp_path):
    run_random_kills(stores, spawn, tmp_path, 1000, random.randrange(1 << 30))
