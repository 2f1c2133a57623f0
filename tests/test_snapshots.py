"""The budget of snapshots: a reader that sleeps for ever does not fill the region; who is revoked hears of it and reads nothing wrong."""
import gc
import os
import signal
import struct
import time

import pytest
from regions import db, shm  # noqa: F401

import memora
from memora import errors
from memora.engine.cursor import Cursor
from memora.engine.store import Store

KEYS = 200
BUDGET = 60 << 10


def fill(store, n, keys=KEYS, size=400):
    """One commit: all keys have n."""
    txn = store.begin(timeout_s=60)
    for i in range(keys):
        txn.put(16, b"key-%04d" % i, b"%08d" % n + b"." * size)
    return txn.commit()


def put(store, key, n):
    txn = store.begin(timeout_s=60)
    txn.put(16, key, b"%08d" % n + b"." * 400)
    return txn.commit()


@pytest.fixture
def small(stores):
    """A region of 4 MB, of which snapshots may keep 60 KB, two thirds of the rows once."""
    store = stores(max_bytes=5 << 20, ring_bytes=1 << 20, snapshot_bytes=BUDGET)
    txn = store.begin()
    assert txn.create_tree() == 16
    txn.commit()
    fill(store, 0)
    return store


def read_and_stop(name, how, out):
    """Read a part, say so, be stopped, read on."""
    store = Store.open(name, create=False)
    txn = store.begin(read_only=how != "write")
    cursor = Cursor(txn, 16)
    assert cursor.first()
    for _ in range(20):
        value = cursor.value[:8]
        assert value == b"%08d" % 0 and cursor.next()
    os.write(out, b"read")
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        if how == "scan":
            while cursor.next():
                assert cursor.value[:8] == b"%08d" % 0
        elif how == "get":
            assert txn.get(16, b"key-0199")[:8] == b"%08d" % 0
        else:
            txn.put(16, b"other", b"x")
            txn.commit()
        os.write(out, b"no error")
    except errors.SnapshotTooOld as e:
        os.write(out, str(e).encode())
    txn.rollback()
    txn = store.begin(read_only=True)           # and may begin again
    assert int(txn.get(16, b"key-0199")[:8]) > 0
    txn.rollback()
    store.close()


@pytest.mark.parametrize("how", ["scan", "get", "write"])
def test_a_stopped_reader_does_not_fill_the_region(small, spawn, how):
    reader = spawn(read_and_stop, "shm:" + small.region.name, how)
    reader.wait_stopped()
    assert [s["pid"] for s in small.snapshots()] == [reader.pid]
    kept = 0
    for n in range(1, 200):
        fill(small, n)
        kept = max(kept, small.stats()["pinned_frames"])
    assert reader.state() == "T"
    assert small.stats()["snapshots_revoked"] == 1
    assert kept * 4096 <= BUDGET + KEYS * 500       # at most the budget and what one commit adds
    assert small.stats()["pinned_frames"] == 0
    snapshot, = small.snapshots()
    assert snapshot["state"] == "revoked" and snapshot["pid"] == reader.pid
    assert reader.wait_going_on() == 0
    assert reader.out.read().endswith(b"this snapshot was revoked; begin again")


def test_within_the_budget_nobody_is_revoked(stores):
    store = stores(max_bytes=8 << 20, ring_bytes=64 << 10)
    store.begin().create_tree()
    txn = store.begin()
    txn.create_tree()
    txn.commit()
    tree = txn.snapshot and 17
    txn = store.begin()
    for i in range(KEYS):
        txn.put(tree, b"key-%04d" % i, b"%08d" % 0)
    txn.commit()
    old = store.begin(read_only=True)
    for n in range(1, 400):
        txn = store.begin()
        for i in range(KEYS):
            txn.put(tree, b"key-%04d" % i, b"%08d" % n)
        txn.commit()
    for i in range(KEYS):
        assert old.get(tree, b"key-%04d" % i) == b"%08d" % 0
    assert store.stats()["snapshots_revoked"] == 0
    old.rollback()


def test_what_is_kept_for_a_snapshot_that_is_gone_costs_nobody_his(small):
    """The list of kept versions is long when the next reader comes; it is looked at again before anybody is revoked."""
    old = small.begin(read_only=True)
    n = 1
    while small.stats()["pinned_frames"] * 4096 < BUDGET * 2 // 3:
        fill(small, n, keys=10 * n)
        n += 1
    assert old.get(16, b"key-0000") and small.stats()["pinned_frames"] * 4096 < BUDGET
    young = small.begin(read_only=True)
    old.rollback()
    for i in range(20):
        fill(small, n + i, keys=80)
        assert young.get(16, b"key-0000")[:8] == b"%08d" % (n - 1)
    assert small.stats()["snapshots_revoked"] == 0
    young.rollback()


def test_the_oldest_is_revoked_and_the_younger_stays(small):
    """The old one keeps a version of every page, the younger one of a single page."""
    old = small.begin(read_only=True)
    fill(small, 1, keys=80)
    young = small.begin(read_only=True)
    n = 2
    while small.stats()["snapshots_revoked"] == 0:
        for i in range(80, KEYS):           # what the younger one keeps is no more than half
            put(small, b"key-%04d" % i, n)
        n += 1
        assert n < 100
    with pytest.raises(errors.SnapshotTooOld):
        old.get(16, b"key-0000")
    assert young.get(16, b"key-0000")[:8] == b"%08d" % 1
    old.rollback()
    young.rollback()


def test_large_values_count(stores):
    store = stores(max_bytes=16 << 20, ring_bytes=64 << 10, snapshot_bytes=2 << 20)
    txn = store.begin()
    txn.create_tree()
    txn.commit()

    def write(n):
        txn = store.begin()
        for i in range(10):
            txn.put(16, b"large-%d" % i, b"%08d" % n * 8192)
        return txn.commit()
    write(0)
    for budget in (1, 2):                       # 640 KiB kept, then begun again
        old = store.begin(read_only=True)
        for n in range(1, 30):
            write(n)
        assert old.get(16, b"large-0") is not None
        assert store.stats()["snapshots_revoked"] == 0
        old.rollback()
    olds = []
    for n in range(100, 120):
        olds.append(store.begin(read_only=True))
        write(n)
        for _ in range(20):                     # small commits collect, too
            txn = store.begin()
            txn.put(16, b"small", b"x")
            txn.commit()
    assert store.stats()["snapshots_revoked"] >= 10
    with pytest.raises(errors.SnapshotTooOld):
        olds[0].get(16, b"large-0")
    assert olds[-1].get(16, b"large-0") == b"%08d" % 118 * 8192
    for old in olds:
        old.rollback()


def test_age(stores):
    store = stores(max_bytes=8 << 20, ring_bytes=64 << 10, snapshot_age_s=0.5)
    txn = store.begin()
    assert txn.create_tree() == 16
    txn.commit()
    fill(store, 0)
    idle, old = store.begin(read_only=True), store.begin(read_only=True)
    time.sleep(0.7)
    assert idle.get(16, b"key-0000")[:8] == b"%08d" % 0       # nobody commits: it keeps nothing
    age, = {round(s["age"]) for s in store.snapshots()}
    assert age == 1
    idle.rollback()
    for n in range(1, 40):
        fill(store, n)
    with pytest.raises(errors.SnapshotTooOld):
        old.get(16, b"key-0000")
    young = store.begin(read_only=True)
    for n in range(40, 60):
        fill(store, n)
    assert young.get(16, b"key-0000")[:8] == b"%08d" % 39
    young.rollback()
    old.rollback()


def test_deletes_in_a_full_region_find_the_reserve(stores):
    """The budget allows all; the region is full, and a snapshot keeps what the deletes retire: it goes before the reserve does."""
    store = stores(max_bytes=2 << 20, ring_bytes=64 << 10, snapshot_bytes=1 << 40)
    txn = store.begin()
    assert txn.create_tree() == 16
    txn.commit()
    n = 0
    with pytest.raises(errors.RegionFull):
        while True:
            txn = store.begin()
            for _ in range(10):
                txn.put(16, b"key-%06d" % n, b"x" * 300)
                n += 1
            txn.commit()
    old = store.begin(read_only=True)
    for i in range(0, n - 10, 8):           # one of each leaf: each keeps the leaf as it was, and empties none
        txn = store.begin()
        assert txn.delete(16, b"key-%06d" % i)
        txn.commit()
    assert store.stats()["snapshots_revoked"] == 1
    with pytest.raises(errors.SnapshotTooOld):
        old.get(16, b"key-000000")
    old.rollback()


def test_a_full_region_takes_the_snapshot_before_it_refuses_a_write(stores):
    def rows(store, i, n):
        txn = store.begin()
        for j in range(i, i + 20):
            txn.put(16, b"key-%04d" % j, b"%08d" % n + b"." * 900)
        txn.commit()

    store = stores(max_bytes=3 << 20, ring_bytes=64 << 10, snapshot_bytes=1 << 40)
    txn = store.begin()
    assert txn.create_tree() == 16
    txn.commit()
    for i in range(0, 2000, 20):
        rows(store, i, 0)
    old = store.begin(read_only=True)
    for n in range(1, 4):
        for i in range(0, 2000, 20):
            rows(store, i, n)
    assert store.stats()["snapshots_revoked"] >= 1
    with pytest.raises(errors.SnapshotTooOld):
        old.get(16, b"key-0000")
    old.rollback()


def test_a_transaction_too_large_says_so_and_keeps_its_snapshot_to_the_end(stores):
    store = stores(max_bytes=2 << 20, ring_bytes=64 << 10)
    txn = store.begin()
    assert txn.create_tree() == 16
    txn.commit()
    fill(store, 0)
    txn = store.begin()
    for i in range(3000):
        txn.put(16, b"big-%06d" % i, b"x" * 1000)
    with pytest.raises(errors.RegionFull):
        txn.commit()
    assert store.stats()["snapshots_revoked"] == 0


def scan_all_the_time(name, seconds, out):
    """Whole scans, slowly; each is one commit's or ends in SnapshotTooOld."""
    store = Store.open(name, create=False)
    whole = revoked = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        txn = store.begin(read_only=True)
        cursor = Cursor(txn, 16)
        try:
            more, seen, rows = cursor.first(), set(), 0
            while more:
                seen.add(cursor.value[:8])
                assert cursor.key == b"key-%04d" % rows, (cursor.key, rows)
                assert len(seen) == 1, seen
                rows += 1
                if rows % 10 == 0:
                    time.sleep(0.002)
                more = cursor.next()
            assert rows == KEYS
            whole += 1
        except errors.SnapshotTooOld:
            revoked += 1
        txn.rollback()
    store.close()
    os.write(out, struct.pack("<QQ", whole, revoked))


def test_scans_that_are_revoked_return_no_wrong_row(stores, spawn):
    store = stores(max_bytes=5 << 20, ring_bytes=1 << 20, snapshot_bytes=BUDGET)
    txn = store.begin()
    assert txn.create_tree() == 16
    txn.commit()
    fill(store, 0)
    readers = [spawn(scan_all_the_time, "shm:" + store.region.name, 1.5) for _ in range(2)]
    n = 1
    while any(os.path.exists(f"/proc/{r.pid}") and r.state() != "Z" for r in readers):
        fill(store, n)
        n += 1
    revoked = 0
    for reader in readers:
        assert reader.wait() == 0
        revoked += struct.unpack("<QQ", reader.out.read())[1]
    assert revoked > 10 and n > 100


def test_a_checkpoint_is_revoked_last(stores):
    from memora.engine.transaction import Transaction
    store = stores(max_bytes=5 << 20, ring_bytes=1 << 20, snapshot_bytes=BUDGET)
    txn = store.begin()
    assert txn.create_tree() == 16
    txn.commit()
    fill(store, 0)
    checkpoint = Transaction(store.region, read_only=True, checkpoint=True)
    assert [s["checkpoint"] for s in store.snapshots()] == [True]
    fill(store, 1)
    reader = store.begin(read_only=True)
    for n in range(2, 50):
        fill(store, n)
    assert checkpoint.get(16, b"key-0000")[:8] == b"%08d" % 0
    with pytest.raises(errors.SnapshotTooOld):
        reader.get(16, b"key-0000")
    reader.rollback()
    checkpoint.rollback()


def test_what_views_keep_costs_no_snapshot(shm):
    with memora.open(shm, max_bytes="32MB", ring_bytes="256KB", snapshot_bytes="1MB") as db:
        kv = db.kv("k")
        for n in range(4):
            kv[n] = b"x" * (1 << 20)
        views = [kv.view(n) for n in range(4)]
        for n in range(4):
            kv[n] = b"y" * (1 << 20)
        with db.snapshot() as tx:
            for n in range(3000):               # until the log has left behind what it says of the old values
                kv["small"] = n
            assert db.stats()["kept_bytes"] > 2 << 20 and db.stats()["snapshots_revoked"] == 0
            assert tx.kv("k")[0][:1] == b"y"
        for view in views:
            assert view[:1] == b"x"
            view.release()


def test_dead_owners_go_first(small, spawn):
    def leave(name, out):
        store = Store.open(name, create=False)
        held = store.begin(read_only=True)
        os.write(out, b"%d" % held.snapshot)
        os.kill(os.getpid(), signal.SIGSTOP)

    dead = spawn(leave, "shm:" + small.region.name)
    dead.wait_stopped()
    fill(small, 1)
    young = small.begin(read_only=True)
    dead.kill()
    for n in range(2, 5):
        fill(small, n, keys=80)
    assert len(small.snapshots()) <= 2
    for n in range(5, 12):
        fill(small, n, keys=80)
    assert young.get(16, b"key-0000")[:8] == b"%08d" % 1
    assert small.stats()["snapshots_revoked"] == 0
    young.rollback()


def test_a_snapshot_that_is_garbage_in_a_cycle_is_given_back(small):
    for _ in range(3):
        txn = small.begin(immediate=True)
        cycle = [txn]
        cycle.append(cycle)
        assert len(small.snapshots()) == 1
        del txn, cycle
        gc.collect()
        assert small.snapshots() == [] and small.locks() == []


def test_in_sql_and_by_name(shm):
    with memora.open(shm, max_bytes="4MB", ring_bytes="256KB", snapshot_bytes="256KB", snapshot_age="10m") as db:
        assert db.stats()["snapshot_bytes"] == 256 << 10
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)")
        with db.transaction() as tx:
            for i in range(400):
                tx.execute("INSERT INTO t VALUES (?, ?)", (i, "x" * 500))
        tx = db.snapshot()
        assert tx.execute("SELECT count(*) FROM t").fetchone() == (400,)
        rows = db.execute("SELECT id, s FROM t")
        assert rows.fetchone() == (0, "x" * 500)
        assert {s["state"] for s in db.snapshots()} == {"active"}
        columns = "state, commit_number, behind, checkpoint, pid, alive"
        assert (("active", tx.snapshot, 0, 0, os.getpid(), 1),) * 2 == tuple(db.execute(
            f"SELECT {columns} FROM memora_snapshots WHERE commit_number = ? LIMIT 2", (tx.snapshot,)).fetchall())
        for n in range(40):
            db.execute("UPDATE t SET s = ?", ("y" * 500,))
        with pytest.raises(memora.SnapshotTooOld):
            tx.execute("SELECT count(*) FROM t").fetchall()
        with pytest.raises(memora.SnapshotTooOld):
            rows.fetchall()
        assert db.execute("SELECT count(*) FROM memora_snapshots WHERE state = 'revoked'").fetchone()[0] >= 1
        rows.close()
        tx.rollback()
    for bad in ({"snapshot_bytes": "much"}, {"snapshot_age": "-1s"}, {"snapshot_bytes": 0}):
        with pytest.raises(ValueError):
            memora.open(shm, **bad)


# ---------------------------------------------------------------------------------------------- run again

SMALL = {"max_bytes": "4MB", "ring_bytes": "256KB", "snapshot_bytes": "64KB"}


def overtake(kv):
    """Write until the budget takes the oldest snapshot; LockTimeout where somebody's ticket keeps that from happening."""
    for n in range(40):
        kv.put_many((i, b"%08d" % n + b"." * 500) for i in range(KEYS))


def overtaken_at_first(db, kv, held):
    """work(tx) for db.run: overtaken whenever others can commit while it reads."""
    def work(tx):
        mine = tx.kv("k")
        held.append(tx.ticket_held)
        first = mine[0]
        try:
            overtake(kv)
        except errors.LockTimeout as e:
            assert "this very thread" in str(e) or "ticket" in str(e), e
        assert mine[KEYS - 1] == first
        mine["seen"] = first
        return first
    return work


def test_run_begins_again_once_with_the_ticket_where_it_was_overtaken(shm):
    with memora.open(shm, **SMALL) as db, memora.open(shm, timeout=0.05) as other:
        kv = other.kv("k")
        overtake(kv)
        held = []
        assert db.run(overtaken_at_first(db, kv, held)) == kv["seen"] == b"%08d" % 39 + b"." * 500
        assert held == [False, True] and db.locks() == [] and db.stats()["snapshots_revoked"] == 1


def test_run_with_one_try_tells_that_it_was_overtaken(shm):
    with memora.open(shm, **SMALL) as db:
        kv = db.kv("k")
        overtake(kv)
        held = []
        with pytest.raises(memora.SnapshotTooOld):
            db.run(overtaken_at_first(db, kv, held), tries=1)
        assert held == [False]


def test_who_lost_the_ticket_and_is_overtaken_again_is_told(shm):
    with memora.open(shm, **SMALL, timeout=0.1) as db, memora.open(shm, timeout=60) as other:
        kv = other.kv("k")
        overtake(kv)
        held = []

        def work(tx):
            held.append(tx.ticket_held)
            tx.kv("k")["mine"] = tx.kv("k")[0]
            overtake(kv)                    # waits for the deadline, half of 0.1 s, and then nobody is in its way
            return tx.kv("k")[1]
        with pytest.raises(memora.SnapshotTooOld):
            db.run(work)
        assert held == [False, True] and "mine" not in kv and db.locks() == []


def test_a_statement_that_was_overtaken_runs_again(shm):
    """Its own transaction reads with a function that lets others write in between."""
    with memora.open(shm, **SMALL) as db, memora.open(shm, timeout=0.05) as other:
        kv = other.kv("k")
        overtake(kv)
        calls = []

        def meanwhile(value):
            if value == KEYS - 1:
                try:
                    overtake(kv)
                    calls.append("overtaken")
                except errors.LockTimeout:
                    calls.append("kept out")
            return value
        connection = db.connect(isolation_level=None)
        connection.create_function("meanwhile", 1, meanwhile)
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(KEYS)])
        connection.execute("UPDATE t SET a = a + 1000 WHERE meanwhile(a) >= 0")
        assert calls == ["overtaken", "kept out"]
        assert connection.execute("SELECT min(a), max(a), count(*) FROM t").fetchone() == (1000, 1000 + KEYS - 1, KEYS)
        connection.close()
