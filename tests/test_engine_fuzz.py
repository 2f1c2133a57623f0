"""Regions with random bytes flipped: reading, writing and checking them raises typed errors or returns; it never crashes, never hangs."""
import os
import random
import signal
import time
from pathlib import Path

import pytest

from memora import errors
from memora.engine import feed, superblock
from memora.engine.store import Store
from memora.engine.cursor import Cursor

SIZES = {"max_bytes": 700 << 10, "ring_bytes": 16 << 10, "initial_bytes": 300 << 10, "slots": 8, "snaps": 16}
ALLOWED = (errors.Error, MemoryError)
PATIENCE_S = 20


def read_all(base, trees, out):
    """What a client does, on a region that cannot be trusted."""
    try:
        store = Store.open("shm:copy", region_dir=base, create=False, timeout_s=0.2)
    except ALLOWED:
        return
    for tree in trees:
        try:
            txn = store.begin(read_only=True)
            cursor = Cursor(txn, tree)
            more, n = cursor.first(), 0
            while more and n < 2000:
                txn.get(tree, cursor.key)
                more, n = cursor.next(), n + 1
            more, n = cursor.last(), 0          # a hash index refuses that
            while more and n < 2000:
                more, n = cursor.prev(), n + 1
            txn.rollback()
        except ALLOWED:
            pass
    for look in (lambda: read_rings(store, trees), store.check):
        try:
            look()
        except ALLOWED:
            pass
    store.close()


def read_rings(store, trees):
    reader, n = feed.Feed(store.region, 1), 0
    while n < 500:
        try:
            if reader.read(0) is None:
                break
        except errors.Lagged:
            pass
        n += 1
    reader = feed.TopicReader(store.region, trees[-1], 0)
    while n < 1000 and reader.read(0) is not None:
        n += 1


def commit_some(base, trees, out):
    """What a writer does, on a region that cannot be trusted."""
    rng = random.Random(1)
    try:
        store = Store.open("shm:copy", region_dir=base, create=False, timeout_s=0.2)
    except ALLOWED:
        return
    made = []
    for n in range(40):
        try:
            txn = store.begin(immediate=n % 10 == 9, isolation="snapshot" if n % 3 == 2 else "serializable")
            for _ in range(rng.choice((1, 3, 20))):
                tree = rng.choice(trees[:5])
                key = rng.choice((b"key-%03d" % rng.randrange(130), b"new-%d" % rng.randrange(50), b"long" * 150 + b"%d" % rng.randrange(9)))
                kind = rng.random()
                if kind < 0.2:
                    txn.delete(tree, key)
                elif kind < 0.3:
                    txn.insert(tree, key, b"i" * rng.randrange(100))
                elif kind < 0.4:
                    txn.get(tree, key)
                else:
                    txn.put(tree, key, b"p" * rng.choice((0, 30, 900, 3000)))
            if n % 7 == 3:
                txn.publish(trees[-1], b"m" * rng.randrange(300))
            if n % 10 == 5:
                made.append(txn.create_hash() if n % 20 == 5 else txn.create_tree())
                txn.put(made[-1], b"first", b"1" * 2000)
            if n % 20 == 19 and made:
                txn.drop_tree(made[0])
            txn.commit()
        except ALLOWED:
            pass
    try:
        store.check()
    except ALLOWED:
        pass
    store.close()


def fuzz(stores, spawn, tmp_path, rounds, seed, client=read_all):
    print("seed", seed)
    rng = random.Random(seed)
    store = stores(**SIZES)
    txn = store.begin()
    trees = [txn.create_tree(), txn.create_tree(), txn.create_bounded(8000), txn.create_hash(), txn.create_bounded(6000, hashed=True),
             txn.create_topic(4096)]
    for i in range(120):
        for tree in trees:
            txn.put(tree, b"key-%03d" % i, b"v" * (i % 90))
    for i in range(8):
        for tree in (trees[0], trees[3]):
            txn.put(tree, b"long" * 150 + b"%d" % i, b"w" * 3000)
    txn.commit()
    for n in range(30):
        txn = store.begin()
        txn.put(trees[n % 5], b"key-%03d" % n, b"x" * n * 9)
        txn.delete(trees[0], b"key-%03d" % (60 + n))
        txn.publish(trees[-1], b"message" * n)
        txn.commit()
    geometry = superblock.geometry(SIZES["max_bytes"], SIZES["ring_bytes"], SIZES["slots"], SIZES["snaps"])
    used = geometry["off_data"] + store.stats()["bytes"]
    files = [Path(store.region.directory, name).read_bytes() for name in ("region", "slots")]
    user = tmp_path / f"memora-{os.getuid()}"
    (user / "copy").mkdir(parents=True, mode=0o700)
    areas = [(4096, 4096 + 1024), (8192, 8192 + 1200), (geometry["off_ring"], geometry["off_pt"]), (geometry["off_pt"], geometry["off_data"]),
             (geometry["off_data"], used), (geometry["off_data"] + 4096, geometry["off_data"] + 40 * 4096)]
    for n in range(rounds):
        region, slots = map(bytearray, files)
        lo, hi = rng.choice(areas)
        changed = []
        for _ in range(rng.choice((1, 1, 3, 30))):
            at = rng.randrange(lo, hi)
            if lo == areas[-1][0] and rng.random() < 0.7:
                at = at // 4096 * 4096 + rng.randrange(200)         # heads and slots of frames
            region[at] = rng.choice((0, 255, rng.randrange(256), region[at] ^ 1 << rng.randrange(8)))
            changed.append((at, region[at]))
        if rng.random() < 0.1:
            slots[rng.randrange(4096, len(slots))] ^= 1 << rng.randrange(8)
        for name, content in zip(("region", "slots"), (region, slots)):
            (user / "copy" / name).write_bytes(content)
        child = spawn(client, str(tmp_path), trees)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                child.status = status
                break
            if time.monotonic() > deadline:
                os.kill(child.pid, signal.SIGABRT)
                pytest.fail(f"round {n}: hangs with bytes {changed}")
            time.sleep(0.001)
        child.out.close()
        assert child.status == 0, f"round {n}: ended with status {child.status} with bytes {changed}"


@pytest.mark.watchdog(300)
def test_flipped_bytes(stores, spawn, tmp_path):
    fuzz(stores, spawn, tmp_path, 60, random.randrange(1 << 30))


@pytest.mark.long
@pytest.mark.watchdog(1200)
def test_many_flipped_bytes(stores, spawn, tmp_path):
    fuzz(stores, spawn, tmp_path, 2000, random.randrange(1 << 30))


@pytest.mark.watchdog(300)
def test_flipped_bytes_under_a_writer(stores, spawn, tmp_path):
    fuzz(stores, spawn, tmp_path, 70, 20261125, commit_some)


@pytest.mark.long
@pytest.mark.watchdog(1200)
def test_many_flipped_bytes_under_a_writer(stores, spawn, tmp_path):
    fuzz(stores, spawn, tmp_path, 1200, 10, commit_some)


def test_numbers_that_lead_out_of_the_region(stores, spawn, tmp_path):
    """Page table, heads of frames, cells, extents and control words, each word in turn all ones or just too large: no read follows it."""
    store = stores(**SIZES)
    txn = store.begin()
    trees = [txn.create_tree(), txn.create_bounded(8000), txn.create_topic(4096)]
    for i in range(60):
        txn.put(trees[0], b"key-%03d" % i, b"v" * (i % 90))
        txn.put(trees[1], b"key-%03d" % i, b"v" * 20)
    txn.put(trees[0], b"large", b"L" * 3000)
    txn.put(trees[0], b"long" * 150, b"w" * 3000)
    txn.publish(trees[2], b"message")
    txn.commit()
    geometry = superblock.geometry(SIZES["max_bytes"], SIZES["ring_bytes"], SIZES["slots"], SIZES["snaps"])
    used = geometry["off_data"] + store.stats()["bytes"]
    region, slots = [Path(store.region.directory, name).read_bytes() for name in ("region", "slots")]
    user = tmp_path / f"memora-{os.getuid()}"
    (user / "copy").mkdir(parents=True, mode=0o700)
    (user / "copy" / "slots").write_bytes(slots)
    table = [geometry["off_pt"] + 4 * page for page in range(1, store.stats()["pages"] + 1)]
    places = []
    for at in range(geometry["off_data"], used, 4096):
        if any(region[at:at + 4096]):
            places += [at + n for n in range(8, 64, 4)] + [at + n for n in range(64, 4096, 4) if any(region[at + n:at + n + 4])][::3]
    rng = random.Random(7)
    places = [*table, *sorted(rng.sample(places, min(len(places), 500)))]

    def follow(out):
        for at in places:
            for lie in (b"\xff\xff\xff\xff", b"\xff\xff\xff\x3f", b"\x00\x10\x00\x00"):
                os.write(out, at.to_bytes(8, "little") + lie)
                wrong = bytearray(region)
                wrong[at:at + 4] = lie
                (user / "copy" / "region").write_bytes(wrong)
                read_all(str(tmp_path), trees, out)
    child = spawn(follow)
    told = child.out.read()
    assert child.wait() == 0, f"ended with status {child.status} with {told[-12:-8][::-1].hex()} set to {told[-4:].hex()}"


@pytest.mark.parametrize("word, at, count", [("limbo_count", 928, 1 << 60), ("pinned_count", 952, 1 << 55), ("xlimbo_count", 1032, 1 << 50)])
def test_a_count_of_a_list_that_is_kept_under_a_snapshot_is_not_believed(stores, spawn, word, at, count):
    """What a snapshot still needs goes to its list's end again: the commit that collects never ended."""
    store = stores(max_bytes=8 << 20, ring_bytes=64 << 10)
    txn = store.begin()
    tree = txn.create_tree()
    txn.commit()

    def write(store, n):
        txn = store.begin()
        for i in range(100):
            txn.put(tree, b"%03d" % i, b"%d" % n * (40000 if i == 0 else 50))
        txn.commit()
    write(store, 1)
    region = Path(store.region.directory, "region")
    whole = region.read_bytes()

    def commit(out):
        mine = stores.again(store)
        snapshot = mine.begin(read_only=True)
        for n in range(2, 40):
            write(mine, n)
        with open(region, "r+b") as f:
            f.seek(4096 + at)
            f.write(count.to_bytes(8, "little"))
        with pytest.raises(errors.CorruptionError, match="more (retired|pinned) (frames|extents) than"):
            for n in range(40, 400):
                write(mine, n)
        snapshot.rollback()
    try:
        ended_in_time(spawn(commit))
    finally:
        with open(region, "r+b") as f:
            f.write(whole)


def ended_in_time(child):
    deadline = time.monotonic() + PATIENCE_S
    while child.state() != "Z":
        if time.monotonic() > deadline:
            child.kill(signal.SIGABRT)
            pytest.fail("it hangs")
        time.sleep(0.005)
    assert child.wait() == 0
