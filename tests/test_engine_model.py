"""Random operations on the engine and on a sorted dict: the same answers, in every transaction and in snapshots held open meanwhile."""
import random

import pytest
from counters import count
from sortedcontainers import SortedDict

from memora.engine.cursor import Cursor

LONG = b"/a/path/that/many/keys/begin/with" * 13        # 429 bytes: more than a page keeps of a key


def sequential(rng):
    return rng.randrange(4000).to_bytes(8, "big")


def scattered(rng):
    return rng.randbytes(rng.choice((0, 1, 2, 3, 8, 16, 40)))[:rng.randrange(42)] if rng.random() < 0.5 else b"%x" % rng.randrange(3000)


def prefixed(rng):
    return b"tenant-%d/table-%d/row-" % (rng.randrange(3), rng.randrange(4)) + b"%d" % rng.randrange(400)


def long_alike(rng):
    """Equal in more bytes than a page keeps, or in some of them."""
    return LONG[:rng.choice((383, 384, 385, 429))] + b"-" * rng.choice((0, 0, 700, 3000)) + b"%d" % rng.randrange(60)


def zeros_and_ones(rng):
    """Prefixes of each other, and bytes at both ends of the order."""
    return bytes(rng.choice((0, 255)) for _ in range(rng.randrange(12)))


def mixed(rng):
    return rng.choice((sequential, scattered, prefixed, long_alike, zeros_and_ones))(rng)


SHAPES = [sequential, scattered, prefixed, long_alike, zeros_and_ones, mixed]


def value(rng):
    size = rng.choice((0, 1, 8, 8, 40, 100, 300, 1000, 1024, 1025, 4000, 20000) if rng.random() < 0.3 else (8, 16, 100))
    return rng.randbytes(4) * (size // 4) + b"." * (size % 4)


class Model:
    """Committed contents of each tree by commit number, and one open transaction's view over them."""

    def __init__(self, stores, shape, seed, checker_every):
        print("seed", seed, "shape", shape.__name__)
        self.rng = random.Random(seed)
        self.shape = shape
        self.checker_every = checker_every
        self.store = stores(initial_bytes=500 << 10, ring_bytes=64 << 10, max_bytes=256 << 20)
        self.trees = SortedDict()           # committed: tree -> SortedDict
        self.snapshots = []                 # (transaction, trees as they were)
        self.steps = 0

    def copy(self, trees):
        return {tree: SortedDict(rows) for tree, rows in trees.items()}

    def key(self, rows):
        """One that is there as often as not."""
        if rows and self.rng.random() < 0.5:
            return rows.peekitem(self.rng.randrange(len(rows)))[0]
        return self.shape(self.rng)

    def walk(self, txn, tree, rows, limit=30):
        """Both directions from a random place, with turns."""
        rng = self.rng
        cursor = Cursor(txn, tree)
        start = rng.randrange(4)
        k = self.key(rows)
        keys = rows.keys()
        if start == 0:
            there, at = cursor.first(), 0
        elif start == 1:
            there, at = cursor.last(), len(rows) - 1
        elif start == 2:
            there, at = cursor.seek(k), rows.bisect_left(k)
        else:
            there, at = cursor.seek_before(k), rows.bisect_left(k) - 1
        direction = rng.choice((1, -1))
        for _ in range(rng.randrange(limit)):
            assert there == (0 <= at < len(keys)), f"walk of tree {tree} from {k[:50]!r}: {there} at {at} of {len(keys)}"
            if not there:
                return
            assert cursor.key == keys[at]
            assert cursor.value == rows[keys[at]]
            if rng.random() < 0.1:
                direction = -direction
            there = cursor.next() if direction > 0 else cursor.prev()
            at += direction

    def same(self, txn, trees):
        """Everything in the trees, both directions."""
        for tree, rows in trees.items():
            cursor = Cursor(txn, tree)
            found = []
            more = cursor.first()
            while more:
                found.append((cursor.key, cursor.value))
                more = cursor.next()
            assert found == list(rows.items()), f"tree {tree} at commit {txn.snapshot}: {len(found)} rows, expected {len(rows)}"
            found = []
            more = cursor.last()
            while more:
                found.append(cursor.key)
                more = cursor.prev()
            assert found == list(reversed(rows))

    def operation(self, txn, trees):
        rng = self.rng
        kind = rng.random()
        if not trees or kind < 0.005:
            if len(trees) < 5:
                trees[txn.create_tree()] = SortedDict()
            return
        tree = rng.choice(list(trees))
        rows = trees[tree]
        k = self.key(rows)
        if kind < 0.40:
            v = value(rng)
            txn.put(tree, k, v)
            rows[k] = v
        elif kind < 0.50:
            v = value(rng)
            assert txn.insert(tree, k, v) == (k not in rows)
            rows.setdefault(k, v)
        elif kind < 0.70:
            assert txn.delete(tree, k) == (rows.pop(k, None) is not None)
        elif kind < 0.72:
            for k in list(rows.irange(k))[:rng.randrange(300)]:
                assert txn.delete(tree, k)
                del rows[k]
        elif kind < 0.725 and len(trees) > 1:
            txn.drop_tree(tree)
            del trees[tree]
        elif kind < 0.9:
            assert txn.get(tree, k) == rows.get(k)
        else:
            self.walk(txn, tree, rows)

    def transaction(self):
        rng = self.rng
        trees = self.copy(self.trees)
        txn = self.store.begin()
        marks = []
        for _ in range(rng.choice((1, 1, 3, 10, 60))):
            self.steps += 1
            r = rng.random()
            if r < 0.04:
                marks.append((txn.savepoint(), self.copy(trees)))
                assert marks[-1][0] == len(marks) - 1
            elif r < 0.06 and marks:
                n = rng.randrange(len(marks))
                del marks[n + 1:]
                txn.rollback_to(marks[n][0])
                trees = self.copy(marks[n][1])
            else:
                self.operation(txn, trees)
        if rng.random() < 0.1:
            self.same(txn, trees)
        if rng.random() < 0.15:
            txn.rollback()
        else:
            before = txn.snapshot
            wrote = txn.has_writes()
            assert txn.commit() == before + wrote
            self.trees = trees

    def run(self, steps):
        rng = self.rng
        n = 0
        while self.steps < steps:
            n += 1
            self.transaction()
            if rng.random() < 0.1 and len(self.snapshots) < 6:
                self.snapshots.append((self.store.begin(read_only=True), self.copy(self.trees)))
            if rng.random() < 0.1 and self.snapshots:
                i = rng.randrange(len(self.snapshots))
                txn, trees = self.snapshots[i]
                self.same(txn, trees)
                if rng.random() < 0.5:
                    txn.rollback()
                    del self.snapshots[i]
            if n % self.checker_every == 0:
                assert self.store.check() == []
        for txn, trees in self.snapshots:
            self.same(txn, trees)
            txn.rollback()
        txn = self.store.begin(read_only=True)
        self.same(txn, self.trees)
        txn.rollback()
        count("model steps", self.steps)


@pytest.mark.everywhere
@pytest.mark.parametrize("shape", SHAPES)
def test_model(stores, shape):
    Model(stores, shape, random.randrange(1 << 30), 100).run(8000)


@pytest.mark.long
@pytest.mark.watchdog(900)
@pytest.mark.parametrize("shape", SHAPES)
def test_long_model(stores, shape):
    for seed in (1, 2, random.randrange(1 << 30)):
        Model(stores, shape, seed, 200).run(20_000)


def test_key_of_a_mebibyte_and_the_empty_key(store):
    from memora import errors
    txn = store.begin()
    tree = txn.create_tree()
    longest = b"k" * (1 << 20)
    keys = [b"", b"\0", longest[:-1], longest, b"k" * 384, b"k" * 385, b"k" * 384 + b"\0"]
    for k in keys:
        txn.put(tree, k, b"value of %d" % len(k))
    with pytest.raises(errors.DataError, match="1048577"):
        txn.put(tree, longest + b"k", b"")
    txn.commit()
    assert store.check() == []
    txn = store.begin()
    for k in keys:
        assert txn.get(tree, k) == b"value of %d" % len(k)
    cursor = Cursor(txn, tree)
    found = []
    more = cursor.first()
    while more:
        found.append(cursor.key)
        more = cursor.next()
    assert found == sorted(keys)
    for k in keys:
        assert txn.delete(tree, k)
    txn.commit()
    assert store.check() == []


def test_values_around_every_limit(store):
    """Where a cell becomes an extent, where the log record becomes one, where granules and units begin."""
    txn = store.begin()
    tree = txn.create_tree()
    txn.commit()
    sizes = [0, 1, *range(1008, 1030), 4000, 4095, 4096, 4097, 65535, 65536, 65537, 300_000, 1_000_000]
    for round_ in range(2):
        for size in sizes:
            txn = store.begin()
            txn.put(tree, b"key-%d" % size, bytes([65 + round_]) * size)
            txn.commit()
        txn = store.begin(read_only=True)
        for size in sizes:
            assert txn.get(tree, b"key-%d" % size) == bytes([65 + round_]) * size
        txn.rollback()
        assert store.check() == []
