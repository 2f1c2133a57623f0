"""Several processes on one region: totals hold in every snapshot, no update is lost, no skew, commit numbers only grow."""
import os
import random
import struct

import pytest
from regions import shm  # noqa: F401

from memora import errors

ACCOUNTS = 40
START = 1000


def key(account):
    return b"account-%03d" % account


def transfer(again, tree, seed, n, out):
    store = again()
    rng = random.Random(seed)
    newest = conflicts = 0
    while n:
        a, b = rng.sample(range(ACCOUNTS), 2)
        txn = store.begin()
        amount = rng.randrange(50)
        x, y = int(txn.get(tree, key(a))), int(txn.get(tree, key(b)))
        txn.put(tree, key(a), b"%d" % (x - amount) + b" " * rng.randrange(300))
        txn.put(tree, key(b), b"%d" % (y + amount))
        try:
            commit = txn.commit()
        except errors.SerializationError:
            conflicts += 1
            continue
        assert commit > newest and commit > txn.snapshot
        newest = commit
        n -= 1
    store.close()
    os.write(out, struct.pack("<Q", conflicts))


def audit(again, tree, n, out):
    store = again()
    newest = 0
    for _ in range(n):
        txn = store.begin(read_only=True)
        assert txn.snapshot >= newest
        newest = txn.snapshot
        balances = [int(txn.get(tree, key(a))) for a in range(ACCOUNTS)]
        assert sum(balances) == ACCOUNTS * START, f"commit {newest}: total {sum(balances)}"
        assert [int(txn.get(tree, key(a))) for a in range(ACCOUNTS)] == balances        # repeatable
        assert txn.commit() == newest                                                   # read-only never conflicts
    store.close()


@pytest.mark.everywhere
@pytest.mark.parametrize("scale", [1, pytest.param(40, marks=[pytest.mark.long, pytest.mark.watchdog(600)])])
def test_transfers(stores, spawn, scale):
    store = stores()
    txn = store.begin()
    tree = txn.create_tree()
    for a in range(ACCOUNTS):
        txn.put(tree, key(a), b"%d" % START + b" " * 250)       # several leaves
    txn.commit()
    seed = random.randrange(1 << 30)
    print("seed", seed)
    children = [spawn(transfer, lambda: stores.again(store), tree, seed + i, 400 * scale) for i in range(3)] + [spawn(audit, lambda: stores.again(store), tree, 500 * scale) for _ in range(2)]
    assert [child.wait() for child in children] == [0] * 5
    txn = store.begin(read_only=True)
    assert sum(int(txn.get(tree, key(a))) for a in range(ACCOUNTS)) == ACCOUNTS * START
    txn.rollback()


@pytest.mark.everywhere
def test_no_update_is_lost(stores, spawn):
    store = stores()
    txn = store.begin()
    tree = txn.create_tree()
    txn.put(tree, b"n", b"0")
    txn.commit()

    def count_up(out):
        own = stores.again(store)

        def add(txn):
            txn.put(tree, b"n", b"%d" % (int(txn.get(tree, b"n")) + 1))
        for _ in range(150):
            own.run(add)
        own.close()

    assert [child.wait() for child in [spawn(count_up) for _ in range(4)]] == [0] * 4
    txn = store.begin()
    assert txn.get(tree, b"n") == b"600"
    txn.rollback()


def test_blind_puts_never_conflict(stores, spawn):
    store = stores()
    txn = store.begin()
    tree = txn.create_tree()
    txn.commit()

    def write(worker, out):
        own = stores.again(store)
        for n in range(300):
            txn = own.begin()
            txn.put(tree, b"%d-%d" % (worker, n), b"own")
            txn.put(tree, b"shared", b"%d" % worker)
            txn.commit()                                # SerializationError would end the child
        own.close()

    assert [child.wait() for child in [spawn(write, i) for i in range(4)]] == [0] * 4
    txn = store.begin()
    assert all(txn.get(tree, b"%d-%d" % (w, n)) == b"own" for w in range(4) for n in range(300))
    txn.rollback()


@pytest.fixture
def two(store):
    """Two rows in two trees: no page in common."""
    txn = store.begin()
    trees = txn.create_tree(), txn.create_tree()
    for tree in trees:
        txn.put(tree, b"on duty", b"yes")
    txn.commit()
    return store, trees


def test_write_skew_is_a_conflict_when_serializable(two):
    store, (a, b) = two
    for isolation, skew in (("serializable", False), ("snapshot", True)):
        first, second = store.begin(isolation=isolation), store.begin(isolation=isolation)
        assert first.get(b, b"on duty") == second.get(a, b"on duty") == b"yes"
        first.put(a, b"on duty", b"no")
        second.put(b, b"on duty", b"no")
        first.commit()
        if skew:
            second.commit()
        else:
            with pytest.raises(errors.SerializationError):
                second.commit()
        txn = store.begin()
        assert txn.get(b, b"on duty") == (b"no" if skew else b"yes")
        for tree in (a, b):
            txn.put(tree, b"on duty", b"yes")
        txn.commit()


def test_phantom_is_a_conflict(two):
    """A range that was read as empty gets a row; also when the leaf that held the range was merged away meanwhile."""
    from memora.engine.cursor import Cursor
    store, (a, b) = two
    for thin in (False, True):
        txn = store.begin()
        for i in range(300):
            txn.put(a, b"row-%05d" % (i * 10), b"v" * 60)
        txn.commit()
        reader = store.begin()
        cursor = Cursor(reader, a)
        assert cursor.seek(b"row-01501") and cursor.key == b"row-01510"
        reader.put(b, b"seen", b"nothing between 1501 and 1510")
        txn = store.begin()
        if thin:
            for i in range(140, 160):
                txn.delete(a, b"row-%05d" % (i * 10))
        txn.put(a, b"row-01505", b"phantom")
        txn.commit()
        with pytest.raises(errors.SerializationError):
            reader.commit()
        txn = store.begin()
        txn.delete(a, b"row-01505")
        txn.commit()


def test_insert_of_the_same_key_is_a_conflict(two):
    store, (a, _) = two
    first, second = store.begin(), store.begin()
    assert first.insert(a, b"new", b"1") and second.insert(a, b"new", b"2")
    first.commit()
    with pytest.raises(errors.SerializationError):
        second.commit()
    third, fourth = store.begin(), store.begin()
    assert third.insert(a, b"newer", b"3") and fourth.insert(a, b"newest", b"4")        # one leaf, two keys: no conflict
    third.commit()
    fourth.commit()
    txn = store.begin()
    assert not txn.insert(a, b"new", b"5")
    assert (txn.get(a, b"new"), txn.get(a, b"newer"), txn.get(a, b"newest")) == (b"1", b"3", b"4")
    txn.rollback()


def test_absence_seen_by_an_insert_that_was_undone(two):
    """insert() said "absent" and was taken back: what was decided by that answer must not outlive it."""
    store, (a, b) = two
    for undo in ("delete", "rollback_to"):
        first = store.begin()
        mark = first.savepoint()
        assert first.insert(a, b"claim", b"1")
        if undo == "delete":
            assert first.delete(a, b"claim")
        else:
            first.rollback_to(mark)
        first.put(b, b"decided", b"nobody claims it")
        second = store.begin()
        assert second.get(b, b"decided") is None
        second.put(a, b"claim", b"2")
        second.commit()
        with pytest.raises(errors.SerializationError):
            first.commit()
        txn = store.begin()
        txn.delete(a, b"claim")
        txn.commit()


def test_dropped_tree_is_a_conflict_or_says_so(two):
    store, (a, b) = two
    reader, writer = store.begin(), store.begin()
    assert reader.get(a, b"on duty") == b"yes"
    reader.put(b, b"x", b"y")
    writer.put(a, b"x", b"y")
    txn = store.begin()
    txn.drop_tree(a)
    txn.commit()
    assert reader.get(a, b"on duty") == b"yes"              # its snapshot stands
    with pytest.raises(errors.SerializationError):
        reader.commit()
    with pytest.raises(errors.OperationalError, match="dropped"):
        writer.commit()
    with pytest.raises(errors.OperationalError, match="dropped"):
        store.begin().get(a, b"on duty")


def test_phantom_in_a_leaf_that_its_neighbour_took_over(two):
    """The rows before what was read go, so that its leaf is freed and its rows move to the leaf before; the phantom is put there."""
    store, (a, b) = two
    rows = [b"row-%04d" % i for i in range(200)]
    for start in range(40, 200, 7):
        txn = store.begin()
        for k in rows:
            txn.put(a, k, b"v" * 200)
        txn.commit()
        reader = store.begin()
        assert reader.get(a, rows[start] + b"!") is None
        reader.put(b, b"seen", b"no phantom")
        txn = store.begin()
        for k in rows[start - 40:start]:
            txn.delete(a, k)
        txn.put(a, rows[start] + b"!", b"phantom")
        txn.commit()
        with pytest.raises(errors.SerializationError):
            reader.commit()
        txn = store.begin()
        txn.delete(a, rows[start] + b"!")
        txn.commit()


def test_a_snapshot_keeps_its_large_values(store):
    """Extents that were replaced or removed stay as long as a snapshot sees them, and not longer."""
    txn = store.begin()
    tree = txn.create_tree()
    for i in range(4):
        txn.put(tree, b"%d" % i, b"first %d" % i * 700)
    txn.commit()
    old = store.begin(read_only=True)
    for n in range(60):
        txn = store.begin()
        txn.put(tree, b"%d" % (n % 3), b"later %d" % n * 700)
        if n == 30:
            txn.delete(tree, b"3")
        txn.commit()
        assert [old.get(tree, b"%d" % i) for i in range(4)] == [b"first %d" % i * 700 for i in range(4)], n
    old.rollback()
    for n in range(200):
        txn = store.begin()
        txn.put(tree, b"%d" % (n % 3), b"latest %d" % n * 700)
        txn.commit()
    stats = store.stats()
    assert stats["extent_bytes"] - stats["extent_free_bytes"] < 60 * 6000, stats


def test_a_change_of_the_schema_is_a_conflict(shm):
    """A statement was planned for a table as it was: its commit must not come after the table has changed."""
    import memora
    changes = ("CREATE UNIQUE INDEX t_b ON t (b)", "DROP INDEX t_b", "ALTER TABLE t ADD COLUMN c", "DROP TABLE t")
    with memora.open(shm) as db:
        db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
        for n, change in enumerate(changes):
            with db.transaction() as tx:            # the next one finds the catalog in memory, and reads none of it
                tx.execute("INSERT INTO t (a, b) VALUES (?, ?)", (n + 10, n + 10))
            tx = db.transaction()
            tx.execute("INSERT INTO t (a, b) VALUES (?, ?)", (n, n))
            db.execute(change)
            with pytest.raises(errors.SerializationError):
                tx.commit()
            assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 't'").fetchone()[0] == (n < 3)
