"""What happens at the edges: full regions, dead readers, growth, forks, threads, closed handles, foreign files, races to create."""
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memora import errors
from memora.engine import places
from memora.engine.store import Store
from memora.engine.cursor import Cursor
from memora.engine.transaction import Transaction


def tree_of(store):
    txn = store.begin()
    tree = txn.create_tree()
    txn.commit()
    return tree


def put(store, tree, key, value):
    txn = store.begin()
    txn.put(tree, key, value)
    return txn.commit()


def get(store, tree, key):
    txn = store.begin(read_only=True)
    try:
        return txn.get(tree, key)
    finally:
        txn.rollback()


# ---------------------------------------------------------------- space

def update(store, updates):
    tree = tree_of(store)
    before = store.stats()["commit"]
    newest = {}
    for n in range(updates):
        row, value = b"row-%d" % (n * 7 % 1000), b"%d" % n * 10
        put(store, tree, row, value)
        newest[row] = value
    assert store.stats()["commit"] == before + updates
    assert store.stats()["bytes"] < 64 << 20
    assert len(newest) == 1000
    for row, value in newest.items():
        assert get(store, tree, row) == value
    return store.stats()


@pytest.mark.everywhere
def test_updates_reuse_their_room(stores):
    stats = update(stores(max_bytes=1 << 30), 50_000)
    assert stats["bytes"] < 4 << 20 and stats["limbo_frames"] + stats["pinned_frames"] < 100


@pytest.mark.long
@pytest.mark.watchdog(300)
def test_a_million_updates_stay_below_64_mib(stores):
    update(stores(max_bytes=1 << 30), 1_000_000)


@pytest.mark.everywhere
def test_open_snapshot_keeps_only_what_it_sees(store):
    """Versions between the snapshot and now are pruned: memory does not grow with the updates."""
    tree = tree_of(store)
    for i in range(1000):
        put(store, tree, b"row-%d" % i, b"old")
    old = store.begin(read_only=True)
    for n in range(20_000):
        put(store, tree, b"row-%d" % (n % 1000), b"%d" % n)
    stats = store.stats()
    assert stats["pinned_frames"] < 200 and stats["bytes"] < 8 << 20, stats
    for i in range(1000):
        assert old.get(tree, b"row-%d" % i) == b"old"
    old.rollback()


def test_killed_readers_snapshot_is_released(stores, spawn):
    store = stores(max_bytes=32 << 20)
    tree = tree_of(store)

    def hold(out):
        own = stores.again(store)
        txn = own.begin(read_only=True)
        assert txn.get(tree, b"row-0") is not None
        os.write(out, b"!")
        time.sleep(600)

    for i in range(1500):
        put(store, tree, b"row-%d" % i, b"x" * 900)
    for _ in range(4):
        child = spawn(hold)
        assert child.out.read(1) == b"!"
        for i in range(1500):
            put(store, tree, b"row-%d" % i, b"y" * 900)
        child.kill()
    pinned = store.stats()["pinned_frames"]
    assert pinned > 256
    for _ in range(3):
        for i in range(1500):
            put(store, tree, b"row-%d" % i, b"z" * 900)
    assert store.stats()["pinned_frames"] < pinned // 2


@pytest.mark.everywhere
@pytest.mark.parametrize("size", [100, 900, 5000])
def test_full_region(stores, size):
    store = stores(max_bytes=1 << 20, ring_bytes=64 << 10)
    tree = tree_of(store)
    n = 0
    with pytest.raises(errors.RegionFull, match=r"\d+ bytes.* needed, \d+ free of \d+ .*max_bytes"):
        while True:
            put(store, tree, b"row-%06d" % n, b"v" * size)
            n += 1
    assert store.check() == []
    assert n * size > 300 << 10
    txn = store.begin(read_only=True)
    for i in range(n):
        assert txn.get(tree, b"row-%06d" % i) == b"v" * size        # nothing is lost, reads work
    assert txn.get(tree, b"row-%06d" % n) is None
    txn.rollback()
    with pytest.raises(errors.RegionFull):                          # still full
        put(store, tree, b"row-%06d" % n, b"v" * 200_000)
    for i in range(n // 2):                                         # deletes work
        txn = store.begin()
        assert txn.delete(tree, b"row-%06d" % i)
        txn.commit()
    for i in range(n // 4):                                         # and give room
        put(store, tree, b"row-%06d" % i, b"w" * size)
    assert get(store, tree, b"row-%06d" % (n - 1)) == b"v" * size


def test_no_memory_for_growth(stores, monkeypatch):
    store = stores(max_bytes=16 << 20)
    tree = tree_of(store)
    real = os.posix_fallocate

    def full(fd, offset, length):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "posix_fallocate", full)
    n = 0
    with pytest.raises(errors.RegionFull, match=r"\d+ bytes needed, \d+ free on the file system.*--shm-size"):
        while True:
            put(store, tree, b"row-%06d" % n, b"v" * 1000)
            n += 1
    assert get(store, tree, b"row-%06d" % (n - 1)) == b"v" * 1000
    with pytest.raises(errors.RegionFull):
        Store.open("shm:test-no-room", max_bytes=1 << 20)
    assert "test-no-room" not in places.names()
    monkeypatch.setattr(os, "posix_fallocate", real)
    put(store, tree, b"row-%06d" % n, b"v" * 1000)


@pytest.mark.everywhere
def test_two_processes_grow_at_once(stores, spawn):
    store = stores(max_bytes=64 << 20, initial_bytes=1 << 20)
    tree = tree_of(store)

    def fill(worker, out):
        own = stores.again(store)
        for n in range(300):
            txn = own.begin()
            for i in range(20):
                txn.put(tree, b"%d/%d/%d" % (worker, n, i), b"v" * (800 if n % 3 else 3000))
            txn.commit()
        own.close()

    children = [spawn(fill, worker) for worker in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    for worker in range(3):
        for n in range(300):
            assert get(store, tree, b"%d/%d/19" % (worker, n)) == b"v" * (800 if n % 3 else 3000)
    assert store.stats()["bytes"] > 16 << 20


def test_all_slots_taken(stores):
    store = stores(slots=3)
    others = [stores.again(store) for _ in range(2)]
    with pytest.raises(errors.OperationalError, match="all 3 process slots are taken"):
        stores.again(store)
    others.pop().close()
    others.append(stores.again(store))
    for other in others:
        other.close()


def test_all_snapshots_open(stores):
    store = stores(snaps=16)
    held = [store.begin(read_only=True) for _ in range(16)]
    with pytest.raises(errors.OperationalError, match="all 16 snapshots are open"):
        store.begin()
    held.pop().rollback()
    store.begin().rollback()
    for txn in held:
        txn.rollback()


# ---------------------------------------------------------------- processes and threads

@pytest.mark.everywhere
def test_fork_with_an_open_handle(stores, spawn):
    store = stores()
    tree = tree_of(store)
    txn = store.begin()
    txn.put(tree, b"parent", b"1")
    cursor = Cursor(txn, tree)
    assert cursor.first()

    def child(out):
        for call in (lambda: txn.get(tree, b"parent"), txn.commit, lambda: txn.put(tree, b"x", b""), cursor.next):
            with pytest.raises(errors.ProgrammingError, match="fork"):
                call()
        txn.rollback()
        for n in range(200):
            put(store, tree, b"child-%d" % n, b"c" * n * 20)
        assert store.region.me[0] != me[0]
        store.close()

    me = store.region.me
    pids = [spawn(child) for _ in range(3)]
    assert [pid.wait() for pid in pids] == [0, 0, 0]
    txn.rollback()
    assert get(store, tree, b"child-199") == b"c" * 199 * 20
    assert store.region.me == me
    assert get(store, tree, b"parent") is None


@pytest.mark.everywhere
def test_fork_in_another_threads_commit(stores, spawn):
    store = stores(max_bytes=32 << 20)
    tree = tree_of(store)
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            put(store, tree, b"thread", bytes([n & 255]) * 300_000)
            n += 1

    def child(out):
        for n in range(10):
            put(store, tree, b"child", b"c" * n)
        value = get(store, tree, b"thread")
        assert value is None or value == value[:1] * len(value)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(10):
            assert spawn(child).wait() == 0
    finally:
        stop.set()
        thread.join()


@pytest.mark.everywhere
def test_threads_share_a_store(stores):
    store = stores(max_bytes=128 << 20)
    trees = [tree_of(store), tree_of(store)]
    failures = []

    def work(me):
        try:
            for n in range(250):
                def add(txn):
                    for tree in trees:
                        old = txn.get(tree, b"counter")
                        txn.put(tree, b"counter", b"%d" % (int(old or 0) + 1))
                    txn.put(trees[0], b"%d-%d" % (me, n), b"x" * (n % 7 * 20_000))
                store.run(add)
                txn = store.begin(read_only=True)
                assert txn.get(trees[0], b"counter") == txn.get(trees[1], b"counter")
                txn.rollback()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert get(store, trees[1], b"counter") == b"1000"


def test_close_while_other_threads_commit(stores):
    """They end with ProgrammingError; nothing is taken from under them."""
    keeper = stores(max_bytes=64 << 20)
    tree = tree_of(keeper)
    for _ in range(5):
        store = stores.again(keeper)
        ends = []

        def work(store=store):
            try:
                while True:
                    put(store, tree, b"key-%d" % threading.get_ident(), b"v" * 400_000)
            except errors.ProgrammingError as e:
                ends.append(e)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.03)
        store.close()
        for thread in threads:
            thread.join()
        assert len(ends) == 3
        assert keeper.check() == []


def test_closed_handles(store):
    tree = tree_of(store)
    txn = store.begin()
    txn.put(tree, b"k", b"v")
    cursor = Cursor(txn, tree)
    assert cursor.first()
    again = Store.open("shm:" + store.region.name, create=False)
    other = again.begin()
    there = Cursor(other, tree)
    assert not there.first()
    again.close()
    again.close()
    for call in (again.begin, again.stats, again.check, again.processes, lambda: other.get(tree, b"k"), other.commit, lambda: other.put(tree, b"", b""),
                 there.first, there.next, lambda: Cursor(other, tree)):
        with pytest.raises(errors.ProgrammingError):
            call()
    other.rollback()
    txn.commit()
    for call in (txn.commit, lambda: txn.get(tree, b"k"), lambda: txn.put(tree, b"k", b""), lambda: txn.delete(tree, b"k"), txn.savepoint,
                 lambda: txn.rollback_to(0), txn.create_tree, lambda: txn.drop_tree(tree), cursor.next, cursor.first):
        with pytest.raises(errors.ProgrammingError):
            call()
    txn.rollback()


def test_exit_with_open_handles_is_silent(stores):
    store = stores()
    done = subprocess.run(
        [sys.executable, "-c", f"""
from memora.engine.store import Store
from memora.engine.cursor import Cursor
store = Store.open("shm:{store.region.name}", create=False)
txn = store.begin()
tree = txn.create_tree()
txn.put(tree, b"k", b"v")
cursor = Cursor(txn, tree)
cursor.first()
"""], cwd=Path(__file__).parent.parent, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_publish_to_a_topic_that_was_dropped(store):
    """The room of its ring may hold somebody else's value by now."""
    txn = store.begin()
    topic = txn.create_topic(4096)
    tree = txn.create_tree()
    txn.commit()
    late = store.begin()
    late.publish(topic, b"m" * 3000)
    txn = store.begin()
    txn.drop_tree(topic)
    txn.commit()
    for n in range(40):
        put(store, tree, b"large-%d" % n, b"v" * 3000)
    with pytest.raises(errors.OperationalError, match="dropped"):
        late.commit()
    for n in range(40):
        assert get(store, tree, b"large-%d" % n) == b"v" * 3000


# ---------------------------------------------------------------- files

@pytest.fixture
def copy(stores, tmp_path):
    """copy(change) -> opening a copy of a region whose bytes change(region, slots: bytearray) altered."""
    store = stores(max_bytes=1 << 20, ring_bytes=16 << 10, slots=8, snaps=16)
    tree = tree_of(store)
    for i in range(50):
        put(store, tree, b"row-%d" % i, b"v" * 100)
    user = tmp_path / f"memora-{os.getuid()}"

    def copy(change):
        shutil.rmtree(user, ignore_errors=True)
        (user / "copy").mkdir(parents=True, mode=0o700)
        files = [bytearray(Path(store.region.directory, name).read_bytes()) for name in ("region", "slots")]
        change(*files)
        for name, content in zip(("region", "slots"), files):
            (user / "copy" / name).write_bytes(content)
        own = Store.open("shm:copy", region_dir=str(tmp_path), create=False)
        assert get(own, tree, b"row-49") == b"v" * 100
        own.close()
    copy.user = user
    return copy


def crc32c(data):
    """Bit by bit, as RFC 3720 defines it."""
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def header(change):
    """A change of the header with its checksum made good."""
    def changed(region, slots):
        change(region)
        struct.pack_into("<I", region, 184, crc32c(region[:184]))
    return changed


FOREIGN = {
    "no region": (lambda region, slots: region.__setitem__(slice(0, 8), b"SQLite f"), "is no region: it begins with"),
    "empty": (lambda region, slots: region.clear(), "is no region: 0 bytes"),
    "header cut": (lambda region, slots: region.__delitem__(slice(100, None)), "is no region: 100 bytes"),
    "cut": (lambda region, slots: region.__delitem__(slice(len(region) // 2, None)), "truncated"),
    "last unit cut": (lambda region, slots: region.__delitem__(slice(-4096, None)), "truncated"),
    "too new": (header(lambda region: struct.pack_into("<H", region, 8, 9)), "format 9.0; this Memora reads 2.x"),
    "unknown features": (header(lambda region: struct.pack_into("<I", region, 12, 64)), "features 0x40"),
    "damaged header": (lambda region, slots: region.__setitem__(70, 77), "checksum is wrong"),
    "another boot": (header(lambda region: region.__setitem__(slice(44, 60), b"x" * 16)), "before the last boot"),
    "wrong offsets": (header(lambda region: struct.pack_into("<Q", region, 120, 8192)), "do not fit together"),
    "huge": (header(lambda region: struct.pack_into("<I", region, 128, 0x3fffffff)), "do not fit together|truncated"),
    "slots of another": (lambda region, slots: slots.__setitem__(slice(8, 24), b"y" * 16), "slots file is not of this region"),
    "slots cut": (lambda region, slots: slots.__delitem__(slice(5000, None)), "slots file is truncated"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_refused_by_name(copy, what):
    change, message = FOREIGN[what]
    copy(lambda region, slots: None)            # the copy itself is good
    with pytest.raises(errors.RegionError, match=message) as caught:
        copy(change)
    assert str(copy.user / "copy") in str(caught.value)


def test_missing_and_linked_files_are_refused(copy, tmp_path):
    copy(lambda region, slots: None)
    own = copy.user / "copy"
    (own / "slots").rename(own / "other")
    with pytest.raises(errors.RegionError, match="'slots' is missing"):
        Store.open("shm:copy", region_dir=str(tmp_path), create=False)
    (own / "slots").symlink_to(own / "other")
    with pytest.raises((errors.RegionError, OSError)):
        Store.open("shm:copy", region_dir=str(tmp_path), create=False)
    shutil.rmtree(own)
    own.write_text("a file")
    with pytest.raises(errors.RegionError, match="is no region"):
        Store.open("shm:copy", region_dir=str(tmp_path), create=False)
    shutil.rmtree(copy.user)
    copy.user.symlink_to(tmp_path)
    with pytest.raises(errors.RegionError, match="refused"):
        Store.open("shm:copy", region_dir=str(tmp_path), create=False)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_another_users_region_is_refused(copy, tmp_path):
    copy(lambda region, slots: None)
    os.chown(copy.user / "copy" / "region", 12345, -1)
    with pytest.raises(errors.RegionError, match="belongs to user 12345"):
        Store.open("shm:copy", region_dir=str(tmp_path), create=False)
    os.chown(copy.user, 12345, -1)
    with pytest.raises(errors.RegionError, match="refused"):
        Store.open("shm:copy", region_dir=str(tmp_path), create=False)


def test_missing_region_and_bad_names():
    with pytest.raises(errors.RegionError, match="there is no region 'shm:test-nowhere'"):
        Store.open("shm:test-nowhere", create=False)
    with pytest.raises(errors.RegionError, match="there is no region"):
        places.remove("test-nowhere")
    for name in ("shm:", "shm:a/b", "shm:..", "shm:.hidden", "shm:\0", "shm:" + "x" * 101, "shm:\u00e9"):
        with pytest.raises(errors.ProgrammingError, match="cannot be the name"):
            Store.open(name)


def test_leftovers_of_killed_creators_are_swept(tmp_path, spawn):
    """Of dead ones only, and not at once: a creator may be between two steps."""
    def create(out):
        from memora.engine.region import Region

        def stop(region):
            os.kill(os.getpid(), signal.SIGSTOP)
        Region.create("half", str(tmp_path), max_bytes=1 << 20, fill=stop)

    living, dead = spawn(create), spawn(create)
    living.wait_stopped()
    dead.wait_stopped()
    dead.kill()
    user = tmp_path / f"memora-{os.getuid()}"
    left = sorted(user.iterdir())
    assert len(left) == 2 and places.names(str(tmp_path)) == []
    places.sweep(str(tmp_path))
    assert sorted(user.iterdir()) == left           # both are too young
    for path in left:
        os.utime(path, (1, 1))
    (user / ".dead-1-x").mkdir()
    os.utime(user / ".dead-1-x", (1, 1))
    places.sweep(str(tmp_path))
    kept, = user.iterdir()
    assert f"-{living.pid}-" in kept.name
    living.wait_going_on()
    assert places.names(str(tmp_path)) == ["half"]


def test_race_to_create(tmp_path, spawn):
    """Eight processes open the same name at once, again and again, while it is removed: each time one region, whole."""
    def race(worker, rounds, out):
        for n in range(rounds):
            store = Store.open("shm:raced", region_dir=str(tmp_path), max_bytes=1 << 20, ring_bytes=16 << 10, slots=16, snaps=16)
            store.run(lambda txn: txn.put(txn.create_tree(), b"worker-%d" % worker, b"%d" % n))
            if worker == 0:
                places.remove("raced", str(tmp_path))
            store.close()

    children = [spawn(race, worker, 25) for worker in range(8)]
    assert [child.wait() for child in children] == [0] * 8
    for name in places.names(str(tmp_path)):
        store = Store.open("shm:" + name, region_dir=str(tmp_path), create=False)
        assert store.check() == []
        store.close()


def test_removed_while_attached(stores):
    store = stores()
    tree = tree_of(store)
    places.remove(store.region.name)
    put(store, tree, b"still", b"here")
    assert get(store, tree, b"still") == b"here"
    with pytest.raises(errors.RegionError, match="there is no region"):
        stores.again(store)
    new = Store.open("shm:" + store.region.name, max_bytes=1 << 20)
    assert new.region.uuid != store.region.uuid
    assert new.stats()["trees"] == 2
    new.close()
    assert store.check() == []


def test_transaction_refuses_what_is_no_region():
    with pytest.raises(TypeError):
        Transaction(None)
