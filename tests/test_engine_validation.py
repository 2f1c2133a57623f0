"""What a transaction read is validated by key: a change of anything that it read is a conflict, and nothing else is."""
import itertools
import random
import time

import counters
import pytest
from regions import db, shm  # noqa: F401  (fixtures)
from sortedcontainers import SortedDict

from memora import errors
from memora.engine.cursor import Cursor


def filled(store, pairs):
    txn = store.begin()
    tree, other = txn.create_tree(), txn.create_tree()
    for key, value in pairs:
        txn.put(tree, key, value)
    txn.commit()
    return tree, other


def change(store, work):
    txn = store.begin()
    work(txn)
    txn.commit()


def keys(cursor, more, step, limit=10**9):
    found = []
    while more and len(found) < limit:
        found.append(cursor.key)
        more = getattr(cursor, step)() if len(found) < limit else False
    return found


PAIRS = [(b"k%03d" % i, b"v%d" % i) for i in range(0, 60, 2)]


def read_point(txn, tree):
    assert txn.get(tree, b"k020") == b"v20"


def read_absent(txn, tree):
    assert txn.get(tree, b"k021") is None


def read_up(txn, tree):
    cursor = Cursor(txn, tree)
    assert keys(cursor, cursor.seek(b"k019"), "next", 3) == [b"k020", b"k022", b"k024"]


def read_down(txn, tree):
    cursor = Cursor(txn, tree)
    assert keys(cursor, cursor.seek_before(b"k025"), "prev", 3) == [b"k024", b"k022", b"k020"]


def read_to_limit(txn, tree):
    cursor = Cursor(txn, tree)
    cursor.limit(b"k025")
    assert keys(cursor, cursor.seek(b"k019"), "next") == [b"k020", b"k022", b"k024"]


def read_empty_range(txn, tree):
    cursor = Cursor(txn, tree)
    cursor.limit(b"k022")
    assert not cursor.seek(b"k021")


def read_to_end(txn, tree):
    cursor = Cursor(txn, tree)
    assert len(keys(cursor, cursor.seek(b"k050"), "next")) == 5


def read_to_start(txn, tree):
    cursor = Cursor(txn, tree)
    assert len(keys(cursor, cursor.seek_before(b"k010"), "prev")) == 5


# reader, keys whose change it must notice, keys whose change it must not notice
CASES = [
    (read_point, [b"k020"], [b"k018", b"k019", b"k021", b"k022"]),
    (read_absent, [b"k021"], [b"k020", b"k022", b"k0205", b"k0215"]),
    (read_up, [b"k019", b"k020", b"k021", b"k022", b"k023", b"k024"], [b"k018", b"k0185", b"k025", b"k026"]),
    (read_down, [b"k020", b"k021", b"k0249", b"k023"], [b"k018", b"k019", b"k025", b"k026"]),
    (read_to_limit, [b"k019", b"k020", b"k0241", b"k0249"], [b"k018", b"k025", b"k026"]),
    (read_empty_range, [b"k021", b"k0215"], [b"k020", b"k022", b"k0205"]),
    (read_to_end, [b"k050", b"k058", b"k059", b"zzz"], [b"k048", b"k049"]),
    (read_to_start, [b"a", b"k000", b"k001", b"k008", b"k0099"], [b"k010", b"k012", b"k011"]),
]


@pytest.mark.parametrize(("read", "noticed", "others"), CASES, ids=[case[0].__name__ for case in CASES])
@pytest.mark.parametrize("how", ["put", "delete_or_insert", "with_splits"])
def test_exactly_what_was_read_is_validated(stores, read, noticed, others, how):
    for key, expected in [(key, True) for key in noticed] + [(key, False) for key in others]:
        store = stores(max_bytes=8 << 20)
        tree, other = filled(store, PAIRS)
        txn = store.begin()
        read(txn, tree)
        txn.put(other, b"written", b"1")

        def work(their, key=key):
            if how == "with_splits":                # the leaf falls apart around what was read
                for i in range(0, 60, 2):
                    if b"k%03d" % i != key:
                        their.put(tree, b"k%03d" % i, b"v%d" % i)
                for i in range(200):
                    their.put(tree, b"m%03d" % i + b"x" * 100, b"filler" * 10) if read is not read_to_end else None
            if how == "delete_or_insert" and their.get(tree, key) is not None:
                their.delete(tree, key)
            else:
                their.put(tree, key, b"theirs")
        change(store, work)
        if expected:
            with pytest.raises(errors.SerializationError):
                txn.commit()
        else:
            txn.commit()
        store.close()


def test_two_inserts_into_one_leaf_do_not_conflict(store):
    tree, _ = filled(store, PAIRS)
    one, two = store.begin(), store.begin()
    for txn, key in ((one, b"k021"), (two, b"k023")):
        assert txn.get(tree, key) is None
        txn.put(tree, key, b"new")
    one.commit()
    two.commit()
    assert store.begin(read_only=True).get(tree, b"k021") == b"new"


def test_a_value_that_came_back_is_no_conflict(store):
    tree, other = filled(store, PAIRS)
    txn = store.begin()
    read_point(txn, tree)
    txn.put(other, b"x", b"1")
    change(store, lambda their: their.put(tree, b"k020", b"else"))
    change(store, lambda their: their.put(tree, b"k020", b"v20"))
    txn.commit()


def test_rows_that_merge_away_are_noticed(store):
    """The leaf that was read, and found empty where it matters, is freed by a merge: the phantom must not hide in its neighbour."""
    tree, other = filled(store, [(b"k%04d" % i, b"v" * 200) for i in range(200)])
    for emptied in (range(60, 100), range(0, 200)):
        txn = store.begin()
        cursor = Cursor(txn, tree)
        cursor.limit(b"k0079x")
        before = keys(cursor, cursor.seek(b"k0070"), "next")
        txn.put(other, b"x", b"1")

        def merge(their, emptied=emptied):
            for i in emptied:
                their.delete(tree, b"k%04d" % i)
        change(store, merge)
        if before:
            with pytest.raises(errors.SerializationError):
                txn.commit()
        else:
            txn.commit()
    txn = store.begin()
    cursor = Cursor(txn, tree)
    assert not cursor.first()
    txn.put(other, b"x", b"2")
    change(store, lambda their: their.put(tree, b"anything", b"1"))
    with pytest.raises(errors.SerializationError):
        txn.commit()


@pytest.mark.parametrize("size", [10, 3000])
def test_large_values_and_long_keys(store, size):
    tree, other = filled(store, [(b"big", b"B" * size), (b"L" * 500, b"long"), (b"a", b"1")])
    for changes, conflict in ((b"a", False), (b"big", True), (b"L" * 500, True)):
        txn = store.begin()
        assert txn.get(tree, b"big") == b"B" * size or size == 10
        assert txn.get(tree, b"L" * 500) is not None
        txn.put(other, b"x", b"1")
        change(store, lambda their, key=changes: their.put(tree, key, b"C" * size + key[:1]))
        if conflict:
            with pytest.raises(errors.SerializationError):
                txn.commit()
        elif txn.get(tree, b"a") == b"1":           # a long key in the same leaf is compared by page: may conflict, must not be wrong
            txn.rollback()
        else:
            pytest.fail("the snapshot moved")
        change(store, lambda their: their.put(tree, b"big", b"B" * size))


def test_expired_is_absent_to_both_sides(store):
    tree, other = filled(store, PAIRS)
    change(store, lambda their: their.put(tree, b"k021", b"soon", time.time_ns() + 20_000_000))
    time.sleep(0.03)
    txn = store.begin()
    assert txn.get(tree, b"k021") is None
    txn.put(other, b"x", b"1")
    change(store, lambda their: their.put(tree, b"k020", b"touched"))
    change(store, lambda their: their.delete(tree, b"k021"))
    txn.commit()


def test_snapshot_isolation_lets_the_first_writer_win(store):
    tree, other = filled(store, PAIRS)
    for write, theirs, conflict in (
            (b"k020", b"k020", True), (b"k020", b"k022", False), (b"k021", b"k021", True), (b"k021", b"k023", False)):
        txn = store.begin(isolation="snapshot")
        txn.get(tree, b"k022")
        txn.put(tree, write, b"mine")
        change(store, lambda their, key=theirs: their.put(tree, key, b"theirs %d" % next(_numbers)))
        if conflict:
            with pytest.raises(errors.SerializationError):
                txn.commit()
        else:
            txn.commit()
    txn = store.begin(isolation="snapshot")
    assert txn.delete(tree, b"k030")
    change(store, lambda their: their.put(tree, b"k030", b"again"))
    with pytest.raises(errors.SerializationError):
        txn.commit()


def put_and_restore(their, tree, key):
    """Two commits, after which everything is as it was."""
    old = their.begin().get(tree, key)
    change(their, lambda txn: txn.put(tree, key, b"between"))
    change(their, lambda txn: txn.delete(tree, key) if old is None else txn.put(tree, key, old))


@pytest.mark.parametrize("hashed", [False, True])
def test_snapshot_isolation_notices_what_came_and_went_again(store, hashed):
    txn = store.begin()
    tree = txn.create_hash() if hashed else txn.create_tree()
    for key, value in PAIRS:
        txn.put(tree, key, value)
    txn.commit()
    writes = {"put": lambda txn, key: txn.put(tree, key, b"mine"), "insert": lambda txn, key: txn.insert(tree, key, b"mine"),
              "delete": lambda txn, key: txn.delete(tree, key),
              "insert and delete": lambda txn, key: txn.insert(tree, key, b"mine") and txn.delete(tree, key)}
    for name, key in (("put", b"k020"), ("put", b"k021"), ("insert", b"k021"), ("delete", b"k020"), ("insert and delete", b"k021")):
        for theirs, conflict in ((key, True), (b"k024", False), (b"k025", False)):
            txn = store.begin(isolation="snapshot")
            assert writes[name](txn, key) in (None, True)
            put_and_restore(store, tree, theirs)
            if conflict:
                with pytest.raises(errors.SerializationError):
                    txn.commit()
            else:
                txn.commit()
                change(store, lambda txn: [txn.put(tree, k, v) for k, v in PAIRS] and txn.delete(tree, b"k021"))


def test_snapshot_isolation_finds_keys_in_every_kind_of_record(store):
    """Large records lie in an extent, large values are named, records and keys go around the end of the ring."""
    tree, other = filled(store, PAIRS)
    rng = random.Random(7)
    ring = 256 << 10                    # of the fixture
    for n in range(60):
        size = rng.choice([10, 1000, 40000, 200000])
        filling = rng.choice([0, 1, ring // 3000])
        txn, free = store.begin(isolation="snapshot"), store.begin(isolation="snapshot")
        key = b"key" * rng.randrange(1, 300) + b"%d" % n
        txn.insert(tree, key, b"mine")
        free.insert(tree, key + b"-", b"mine")

        def work(their, key=key, size=size, filling=filling):
            for i in range(filling):
                their.put(other, b"%d" % i, b"x" * 1000)
            their.put(tree, key, b"x" * size)
        change(store, work)
        change(store, lambda their, key=key: their.delete(tree, key))
        with pytest.raises(errors.SerializationError):
            txn.commit()
        free.commit()


def test_snapshot_isolation_takes_what_left_the_log_for_a_conflict(store):
    tree, other = filled(store, PAIRS)
    txn, lone = store.begin(isolation="snapshot"), store.begin(isolation="snapshot")
    txn.put(tree, b"k020", b"mine")
    lone.put(other, b"alone", b"mine")
    ring = 256 << 10                    # of the fixture
    for i in range(2 * ring // 10000 + 1):
        change(store, lambda their, i=i: their.put(tree, b"k%03d" % (i % 10), b"x" * 10000))
    with pytest.raises(errors.SerializationError):
        txn.commit()
    lone.commit()                       # its leaf has not changed: nobody asks the log


_numbers = itertools.count()


class Reader:
    """A transaction that reads at random and remembers which keys and ranges, as a model sees them."""

    def __init__(self, store, tree, other, model, rng):
        self.txn, self.tree, self.model, self.rng = store.begin(), tree, SortedDict(model), rng
        self.intervals = []             # (low, high, high included); None: no end
        self.txn.put(other, b"mine", b"%d" % rng.random().__hash__())

    def key(self):
        return b"k%04d" % self.rng.randrange(400) + self.rng.choice([b"", b"", b"+", b"-tail" * 5])

    def read(self):
        if self.rng.random() < 0.4:
            key = self.key()
            assert self.txn.get(self.tree, key) == self.model.get(key)
            self.intervals.append((key, key, True))
            return
        low, high, up = self.key(), self.key(), self.rng.random() < 0.5
        if high < low:
            low, high = high, low
        bounded, steps = self.rng.random() < 0.6, self.rng.choice([1, 2, 5, 40, 1000])
        cursor = Cursor(self.txn, self.tree)
        if bounded:
            cursor.limit(high if up else low)
        if up:
            found = keys(cursor, cursor.seek(low), "next", steps)
            expected = list(self.model.irange(low, high if bounded else None, (True, False)))[:steps]
        else:
            found = keys(cursor, cursor.seek_before(high), "prev", steps)
            expected = list(self.model.irange(low if bounded else None, high, (True, False), reverse=True))[:steps]
        assert found == expected
        if len(found) == steps:
            self.intervals.append((low, found[-1], True) if up else (found[-1], high, False))
        elif up:
            self.intervals.append((low, high if bounded else None, False))
        else:
            self.intervals.append((low if bounded else None, high, False))

    def must_conflict(self, now):
        return any(list(old.irange(low, high, (True, closed))) != list(now.irange(low, high, (True, closed)))
                   or any(old[k] != now[k] for k in old.irange(low, high, (True, closed)))
                   for old in [self.model] for low, high, closed in self.intervals)


@pytest.mark.parametrize("seed", range(6))
def test_conflicts_are_exactly_the_models(store, seed):
    """Random readers against random writers: a commit fails if and only if something that it read is not as it was."""
    rng = random.Random(seed)
    tree, other = filled(store, [])
    model = SortedDict()
    outcomes = [0, 0]
    for _ in range(250):
        reader = Reader(store, tree, other, model, rng)
        for _ in range(rng.choice([1, 2, 6])):
            reader.read()
        for _ in range(rng.choice([0, 1, 1, 3])):
            txn = store.begin()
            wide = rng.random() < 0.15
            start = rng.randrange(400)
            for i in range(rng.choice([1, 1, 2]) if not wide else 120):
                key = b"k%04d" % (start + i // 2 if wide else rng.randrange(400)) + rng.choice([b"", b"+", b"-tail" * 5])
                if rng.random() < (0.5 if seed % 2 else 0.35):
                    txn.delete(tree, key)
                    model.pop(key, None)
                else:
                    value = rng.choice([b"s%d" % rng.randrange(3), b"medium" * 20, b"L" * 1500 + b"%d" % next(_numbers)])
                    txn.put(tree, key, value)
                    model[key] = value
            txn.commit()
        conflict = reader.must_conflict(model)
        outcomes[conflict] += 1
        if conflict:
            with pytest.raises(errors.SerializationError):
                reader.txn.commit()
        else:
            reader.txn.commit()
        counters.count("model steps")
    assert min(outcomes) > 10


def test_a_new_space_is_no_conflict_unless_sql_rests_on_the_schema(db):
    k = db.kv("k")
    with db.transaction() as tx:
        tx.kv("k")["a"] = 1
        db.kv("another")
    assert k["a"] == 1
    db.execute("CREATE TABLE t (a)")
    with pytest.raises(errors.SerializationError), db.transaction() as tx:
        tx.execute("INSERT INTO t VALUES (1)")
        db.execute("CREATE INDEX i ON t (a)")
    assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_dropped_space_takes_no_blind_write(store):
    tree, other = filled(store, PAIRS)
    txn = store.begin()
    txn.put(tree, b"k020", b"blind")
    txn.put(other, b"x", b"1")
    change(store, lambda their: their.drop_tree(tree))
    with pytest.raises(errors.OperationalError, match="dropped"):
        txn.commit()
    assert store.begin(read_only=True).get(other, b"x") is None
