"""A writer stopped anywhere in a commit keeps no reader waiting; a client stopped between begin and commit keeps nobody waiting."""
import os
import random
import signal
import struct
import time

import pytest

from memora import errors
from memora.engine.region import FAILPOINTS

ROWS = 64
READS = 10_000


def fill(store, n):
    """One transaction: every row carries n, in two trees, with old sizes and new ones."""
    txn = store.begin()
    for i in range(ROWS):
        for tree in (16, 17):
            txn.put(tree, b"row-%03d" % i, b"%08d" % n + b"." * (n * 37 % 500))
    if n % 2:
        txn.put(16, b"large", b"%08d" % n * 1000)
    else:
        txn.put(16, b"large", b"%08d" % n)
    return txn.commit()


def write(name, point, commits, out):
    from memora.engine.store import Store
    store = Store.open(name, create=False)
    if point is not None:
        store.region.failpoint(point, signal.SIGSTOP)
    for n in range(1, commits + 1):
        os.write(out, struct.pack("<Q", fill(store, n)))
    store.close()


def read(name, reads, out):
    """`reads` values, each snapshot one n in all rows, never an older one than before; then how many were read."""
    from memora.engine.store import Store
    from memora.engine.cursor import Cursor
    store = Store.open(name, create=False)
    done, newest, snapshot = 0, 0, 0
    while done < reads:
        txn = store.begin(read_only=True)
        assert txn.snapshot >= snapshot
        snapshot = txn.snapshot
        n = txn.get(16, b"large")[:8]
        assert int(n) >= newest, f"{n} after {newest}"
        newest = int(n)
        for i in range(0, ROWS, 3):
            for tree in (16, 17):
                value = txn.get(tree, b"row-%03d" % i)
                assert value == n + b"." * (newest * 37 % 500), f"row {i} of tree {tree} at commit {snapshot}: {value[:20]}, not {n}"
                done += 1
        cursor = Cursor(txn, 17)
        more = cursor.first()
        while more:
            assert cursor.value[:8] == n
            done += 1
            more = cursor.next()
        txn.rollback()
    os.write(out, struct.pack("<QQ", done, snapshot))
    store.close()


@pytest.fixture
def rows(stores):
    store = stores(initial_bytes=600 << 10)
    txn = store.begin()
    assert (txn.create_tree(), txn.create_tree()) == (16, 17)
    txn.commit()
    fill(store, 0)
    return store


@pytest.mark.parametrize("point", FAILPOINTS)
def test_stopped_writer_delays_no_reader(rows, spawn, point):
    name = "shm:" + rows.region.name
    if point == "growing":
        writer = spawn(write_until_growth, name)
    elif point in ("reserved", "stored"):
        writer = spawn(write_large, name, point)
    else:
        writer = spawn(write, name, point, 100 if point == "collecting" else 1)
    writer.wait_stopped()
    before = rows.stats()["commit"]
    reader = spawn(read, name, READS)
    assert reader.wait() == 0
    done, snapshot = struct.unpack("<QQ", reader.out.read())
    assert done >= READS
    assert writer.state() == "T" and rows.stats()["commit"] == before       # it was stopped all the while
    assert snapshot == before
    assert writer.wait_going_on() == 0
    assert fill(rows, 10_000) > before                                      # and everything is whole
    again = spawn(read, name, 500)
    assert again.wait() == 0


def write_until_growth(name, out):
    from memora.engine.store import Store
    store = Store.open(name, create=False)
    store.region.failpoint("growing", signal.SIGSTOP)
    size = store.stats()["bytes"]
    n = 0
    while store.stats()["bytes"] == size:
        txn = store.begin()
        for i in range(40):
            txn.put(16, b"zz-%06d" % (n * 40 + i), b"g" * 900)
        txn.commit()
        n += 1
    store.close()


def write_large(name, point, out):
    """A value that gets its place before the commit, in a key space beside the rows."""
    import memora
    with memora.open(name, create=False) as db:
        kv = db.kv("large")
        db._store.region.failpoint(point, signal.SIGSTOP)
        kv["a"] = b"L" * 100_000


@pytest.mark.parametrize("point", ["applied", "filled"])
def test_stopped_between_versions(rows, spawn, point):
    """The same, with old versions pinned by a snapshot that is open all the while."""
    name = "shm:" + rows.region.name
    old = rows.begin(read_only=True)
    writer = spawn(write, name, None, 40)
    assert writer.wait() == 0
    writer = spawn(write, name, point, 1)
    writer.wait_stopped()
    for i in range(ROWS):
        assert old.get(16, b"row-%03d" % i) == b"%08d" % 0
    assert writer.wait_going_on() == 0
    for i in range(ROWS):
        assert old.get(17, b"row-%03d" % i) == b"%08d" % 0
    old.rollback()


def test_client_stopped_between_begin_and_commit_delays_nobody(rows, spawn):
    def dawdle(name, out):
        from memora.engine.store import Store
        store = Store.open(name, create=False)
        txn = store.begin()
        assert txn.get(16, b"row-000") is not None
        txn.put(16, b"row-000", b"from the stopped one")
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            txn.commit()
        except errors.SerializationError:
            os.write(out, b"conflict")
        store.close()

    name = "shm:" + rows.region.name
    stopped = spawn(dawdle, name)
    stopped.wait_stopped()
    writer = spawn(write, name, None, 300)
    assert writer.wait() == 0
    assert len(writer.out.read()) == 300 * 8
    assert stopped.state() == "T"
    reader = spawn(read, name, READS)
    assert reader.wait() == 0
    assert stopped.wait_going_on() == 0
    assert stopped.out.read() == b"conflict"    # what it had read has changed: nothing was written
    txn = rows.begin(read_only=True)
    assert txn.get(16, b"row-000")[:8] == b"%08d" % 300
    txn.rollback()


def test_stopped_owner_of_the_lock_is_named_and_keeps_it(rows, spawn):
    """It lives, so nobody takes the lock away; who waits is told whom for."""
    writer = spawn(write, "shm:" + rows.region.name, "logged", 1)
    writer.wait_stopped()
    txn = rows.begin(timeout_s=0.3)
    txn.put(16, b"row-001", b"x")
    with pytest.raises(errors.LockTimeout, match=f"process {writer.pid}"):
        txn.commit()
    assert writer.wait_going_on() == 0
    txn = rows.begin()
    assert txn.get(16, b"row-001")[:8] == b"%08d" % 1
    txn.rollback()


def test_a_waiter_that_cannot_ask_takes_nothing(rows, spawn):
    """Its descriptors were closed behind its back: it cannot ask whether the owner lives, and "unknown" is not "dead"."""
    name = "shm:" + rows.region.name
    writer = spawn(write, name, "logged", 1)
    writer.wait_stopped()

    def wait(out):
        from memora.engine.store import Store
        store = Store.open(name, create=False)
        txn = store.begin(timeout_s=0.5)
        txn.put(16, b"row-001", b"stolen")
        os.closerange(3, out)
        os.closerange(out + 1, 1024)
        try:
            txn.commit()
        except errors.LockTimeout:
            os.write(out, b"timeout")
        os._exit(0)
    waiter = spawn(wait)
    assert waiter.wait() == 0
    assert waiter.out.read() == b"timeout"
    assert writer.wait_going_on() == 0
    txn = rows.begin()
    assert txn.get(16, b"row-001")[:8] == b"%08d" % 1
    txn.rollback()


@pytest.mark.long
@pytest.mark.watchdog(600)
def test_owner_stopped_for_long_at_each_point_keeps_the_lock(rows, spawn):
    """Ten seconds and more are no death: readers go on, writers are told whom they wait for, and afterwards everything is whole."""
    name = "shm:" + rows.region.name
    without_it = ("growing", "collecting", "unlocked", "reserved", "stored")
    for n, point in enumerate(point for point in FAILPOINTS if point not in without_it):
        writer = spawn(write, name, point, 1)
        writer.wait_stopped()
        before = rows.stats()["commit"]
        until = time.monotonic() + (10 if point in ("applied", "sealed") else 1)
        told = reads = 0
        while time.monotonic() < until:
            txn = rows.begin(timeout_s=0.3)
            txn.put(17, b"row-001", b"stolen")
            with pytest.raises(errors.LockTimeout, match=f"process {writer.pid}"):
                txn.commit()
            told += 1
            reader = spawn(read, name, 100)
            assert reader.wait() == 0
            reads += 1
        assert writer.state() == "T" and rows.stats()["commit"] in (before, before + 1) and told and reads
        assert writer.wait_going_on() == 0
        assert fill(rows, 100 + n) > before
        assert rows.check() == []


def test_waiters_killed_in_a_loop_never_let_two_writers_in(stores, spawn):
    """The lock's word is taken, marked and handed on by processes that are killed at any time. Two inside at once would lose an increment."""
    store = stores()
    txn = store.begin()
    tree = txn.create_tree()
    txn.put(tree, b"n", b"0")
    txn.commit()
    def work(out):
        own = stores.again(store)
        while True:
            own.run(lambda txn: txn.put(tree, b"n", b"%d" % (int(txn.get(tree, b"n")) + 1)))
            os.write(out, b".")
    children = [spawn(work) for _ in range(4)]
    done = [0] * 4
    for n in range(36):
        time.sleep(random.random() * 0.01)
        i = n % 4
        children[i].kill()
        done[i] += len(children[i].out.read())
        children[i] = spawn(work)
    for i, child in enumerate(children):
        child.kill()
        done[i] += len(child.out.read())
    txn = store.begin()
    total = int(txn.get(tree, b"n"))
    txn.rollback()
    # each kill may have hit between a commit and its word to us
    assert sum(done) <= total <= sum(done) + 64
