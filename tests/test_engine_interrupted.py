"""Readers interrupted at instructions of our choice while commits recycle what they look at: they read one commit, or start again, or say so.

The reader is a traced child, stopped at an instruction; the commits that are made meanwhile replace every page, free their old versions and
use these again, and overrun the rings. A reader that trusts what it should have looked at once more reads torn bytes, a mixture, or nothing.
"""
import random
import struct

import pytest
from counters import absent
from stepping import Interrupted

from memora import errors
from memora.engine.codec import encode_key, encode_value

ROWS = 48
SIZES = {"max_bytes": 8 << 20, "initial_bytes": 1 << 20, "ring_bytes": 16 << 10, "slots": 8, "snaps": 16}


def value(n, row):
    return b"%08d" % n + bytes([65 + n % 26]) * (150 + (n * 37 + row * 11) % 400)


def number(found, row):
    """The n of a value that is whole."""
    n = int(found[:8])
    assert found == value(n, row), f"row {row}: torn value {found[:20]}...{found[-20:]}, {len(found)} bytes"
    return n


class Writer:
    """Rewrites every row in one commit, again and again. few: small commits, many at a time, to overrun the rings."""

    def __init__(self, store, few):
        self.store = store
        self.rows, self.at_once = (4, 30) if few else (ROWS, 0)
        txn = store.begin()
        self.trees = [txn.create_tree() for _ in range(2)]
        self.topic = txn.create_topic(8 << 10)
        self.points = txn.create_tree()
        txn.commit()
        self.n = 0
        self.commits = {}               # commit number -> n
        self.write(3)

    def write(self, times=1):
        for _ in range(times + (self.at_once if times > 2 else 0)):
            self.n += 1
            txn = self.store.begin()
            for tree in self.trees:
                for row in range(self.rows):
                    txn.put(tree, b"row-%04d" % row, value(self.n, row))
            txn.put(self.trees[0], b"large", value(self.n, 0) * 5)
            for row in range(self.rows if self.rows == ROWS else 0):
                txn.put(self.points, encode_key(row), encode_value(value(self.n, row)))
            for i in range(3):
                txn.publish(self.topic, value(self.n, i))
            self.commits[txn.commit()] = self.n

    def number_at(self, commit):
        return max((n for c, n in self.commits.items() if c <= commit), default=0)


def point_reads(writer):
    """Without a snapshot, as a key space's get does it."""
    def read(store):
        from memora.kv import Space
        space = Space(store, "points", {"tree": writer.points})
        return lambda: b"".join(space.get(row) for row in (3, 30))

    def judge(found, least):
        n = int(found[:8])
        first = value(n, 3)
        assert found[:len(first)] == first, f"torn value {found[:20]}"
        assert number(found[len(first):], 30) >= n >= 0
        assert writer.number_at(least) <= n
    return read, judge


def snapshot_reads(writer):
    """A snapshot is announced, then rows are read by key, by cursor, and a large value."""
    def read(store):
        from memora.engine.cursor import Cursor

        def once():
            txn = store.begin(read_only=True)
            found = [txn.get(writer.trees[0], b"row-0007"), txn.get(writer.trees[1], b"row-0040")]
            cursor = Cursor(txn, writer.trees[1])
            cursor.seek(b"row-0020")
            found.append(cursor.value)
            found.append(txn.get(writer.trees[0], b"large"))
            txn.rollback()
            return struct.pack("<Q4I", txn.snapshot, *map(len, found)) + b"".join(found)
        return once

    def judge(found, least):
        snapshot, *sizes = struct.unpack_from("<Q4I", found)
        at, values = struct.calcsize("<Q4I"), []
        for size in sizes:
            values.append(found[at:at + size])
            at += size
        n = writer.commits[snapshot]
        assert snapshot >= least
        assert values[3] == value(n, 0) * 5, f"the large value of commit {snapshot}: {values[3][:20]}"
        assert [number(v, row) for v, row in zip(values, (7, 40, 20))] == [n] * 3, f"commit {snapshot}"
    return read, judge


def feed_reads(writer):
    """The next commit of the log, which is overrun meanwhile."""
    def read(store):
        from memora.engine import feed
        reader = feed.Feed(store.region, None, [writer.trees[1]])

        def once():
            try:
                record = reader.read(0)
            except errors.Lagged as lag:
                return struct.pack("<QQ", 0, lag.first_available)
            if record is None:
                return struct.pack("<QQ", 0, reader.position)
            commit, _, ops = record
            put = [(key, new) for _, _, key, new, _, _ in ops]
            return struct.pack("<QQ", commit, len(put)) + b"".join(key + struct.pack("<I", len(new)) + new for key, new in put)
        return once

    def judge(found, least):
        commit, count = struct.unpack_from("<QQ", found)
        if commit == 0:
            assert count in writer.commits
            return
        n, at = writer.commits[commit], 16
        assert count == writer.rows
        for row in range(count):
            assert found[at:at + 8] == b"row-%04d" % row
            size, = struct.unpack_from("<I", found, at + 8)
            assert number(found[at + 12:at + 12 + size], row) == n
            at += 12 + size
    return read, judge


def topic_reads(writer):
    """The oldest message of a topic, which is overrun meanwhile."""
    def read(store):
        from memora.engine import feed
        reader = feed.TopicReader(store.region, writer.topic)

        def once():
            try:
                found = reader.read(0)
            except errors.Lagged:
                return struct.pack("<QQ", 0, 0)
            if found is None:
                return struct.pack("<QQ", 0, 0)
            return struct.pack("<QQ", found[0], found[1]) + found[3]
        return once

    def judge(found, least):
        message, commit = struct.unpack_from("<QQ", found)
        if message:
            n = writer.commits[commit]
            assert (message - 1) // 3 + 1 == n
            assert number(found[16:], (message - 1) % 3) == n
    return read, judge


def interrupted(store, spawn, make, runs, seed):
    print("seed", seed)
    rng = random.Random(seed)
    writer = Writer(store, make in (feed_reads, topic_reads))
    writer.write(20)
    read, judge = make(writer)
    reader = Interrupted(spawn, store, read)
    if not reader.permitted:
        absent("crash images", "tracing is not permitted here")
        pytest.skip("tracing is not permitted here")
    judge(reader.finish(), 0)               # everything is imported and looked up
    writer.write(2)
    inside, total = reader.inside(MODULES[make])
    judge(reader.finish(), 0)
    announcing = []                         # instructions of procs.pyx, counted from where it is entered first
    if make is snapshot_reads:
        announcing, _ = reader.inside(("procs",))
        announcing = [n - announcing[0] for n in announcing]
        judge(reader.finish(), 0)
    print(f"{total} instructions a read, {len(inside)} of them in {', '.join(MODULES[make])}, {len(announcing)} about snapshots")
    met, outcomes = 0, [0, 0]
    step = max(1, 2 * len(announcing) // runs)      # all of them, or some all over
    for run in range(5 * runs):
        if run >= runs and outcomes[0] > runs // 10:        # so many, and more where readers are mostly lapped
            break
        least = store.stats()["commit"]
        if make is snapshot_reads and run % 2:      # at each instruction of announcing a snapshot, one after the other
            reader.into("procs", announcing[run // 2 * step % len(announcing)])
            writer.write(8)
            met += 1
        else:
            at = 0
            for place in sorted(rng.choice(inside) for _ in range(rng.randrange(1, 3))):
                at += reader.steps(place - at) if place > at else 0
                if reader.over:
                    break
                writer.write(rng.choice((1, 8) if writer.rows == ROWS else (1, 1, 1, 8)))
                met += 1
        found = reader.finish()
        judge(found, least)
        outcomes[found[:8] == bytes(8)] += 1
    assert met > runs // 2
    print(f"{outcomes[0]} read, {outcomes[1]} lagged or nothing new")
    assert outcomes[0] > runs // 10


MODULES = {point_reads: ("kv", "btree", "page", "frames"), snapshot_reads: ("transaction", "cursor", "btree", "page", "frames", "procs"),
           feed_reads: ("feed", "wal"), topic_reads: ("feed", "wal")}


@pytest.mark.parametrize("make, runs", [(point_reads, 24), (snapshot_reads, 40)], ids=["point_reads", "snapshot_reads"])
def test_interrupted_reader(stores, spawn, make, runs):
    store = stores(**SIZES)
    interrupted(store, spawn, make, runs, random.randrange(1 << 30))


@pytest.mark.long
@pytest.mark.watchdog(600)
@pytest.mark.parametrize("make, runs", [(point_reads, 100), (snapshot_reads, 240), (feed_reads, 40), (topic_reads, 40)],
                         ids=["points", "snapshots", "feed", "topic"])
def test_reader_interrupted_more_often(stores, spawn, make, runs):
    store = stores(**SIZES)
    interrupted(store, spawn, make, runs, random.randrange(1 << 30))
