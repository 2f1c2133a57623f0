"""Large values: reserved outside the lock, named by the log, freed when neither snapshot nor pin nor log needs them."""
import os
import random
import shutil
import signal
import time

import pytest
from regions import Child, db, shm  # noqa: F401

import memora
from memora.engine.files import open_file

KB = 1 << 10
SIZES = (900, 1100, 5 * KB, 32 * KB - 5, 32 * KB - 4, 32 * KB, 33 * KB, 300 * KB, 700 * KB)     # 32 KB: from there on reserved; 256 KB: a quarter of the ring


def reserved(db):
    return db.stats()["reserved_extents"]


@pytest.mark.parametrize("kind", ["kv", "transaction", "add"])
@pytest.mark.parametrize("size", SIZES)
def test_values_come_back_and_the_feed_tells_both(db, size, kind):
    kv, feed = db.kv("a"), db.changes("a")
    rng = random.Random(size)
    was = None
    for _ in range(5):
        value = rng.randbytes(size)
        if kind == "kv":
            kv["k"] = value
        elif kind == "add":
            kv.delete("k")
            assert kv.add("k", value) and not kv.add("k", b"other" * size)
        else:
            with db.transaction() as tx:
                tx.kv("a")["k"] = value
        assert kv["k"] == value and reserved(db) == 0
        changes = []
        while not changes or changes[len(changes) - 1].new is None:
            changes += feed.get(timeout=10).changes
        assert changes[len(changes) - 1].new == value
        assert changes[0].old == was
        was = value
    assert kv.delete("k")
    assert feed.get(timeout=10).changes[0].old == value


@pytest.mark.parametrize("seed", range(4))
def test_model_of_large_values(db, seed):
    """Random values by single commits and transactions; the feed leads from one state to the next."""
    rng = random.Random(seed)
    kv, model, told, feed = db.kv("a"), {}, {}, db.changes("a")
    for step in range(250):
        keys = rng.sample("abcdefgh", rng.choice((1, 1, 1, 3)))
        with db.transaction() as tx:
            space = tx.kv("a") if len(keys) > 1 else kv
            for key in keys:
                if rng.random() < 0.25:
                    space.delete(key)
                    model.pop(key, None)
                else:
                    space[key] = model[key] = rng.randbytes(rng.choice(SIZES))
        while (commit := feed.get(timeout=0)) is not None:
            for change in commit.changes:
                assert told.get(change.key) == change.old, f"step {step}"
                told[change.key] = change.new
                if change.new is None:
                    del told[change.key]
        assert told == model
        if step % 50 == 0:
            assert db.check() == [] and dict(kv.items()) == model
    assert dict(kv.items()) == model and reserved(db) == 0


def test_what_the_log_keeps_is_given_up_for_room(db):
    """Nearly all of the region overwritten and deleted, again and again: old values go, whatever the log still says of them."""
    kv = db.kv("a")
    for round_ in range(6):
        for i in range(45):
            kv[i] = bytes([round_]) * 900 * KB
        assert kv[44] == bytes([round_]) * 900 * KB
        kv.clear()
    assert db.stats()["bytes"] <= db.stats()["max_bytes"]


def test_conflicts_and_errors_give_reservations_back(db):
    kv = db.kv("a")
    kv["k"] = 1
    with pytest.raises(memora.SerializationError):
        with db.transaction() as tx:
            tx.kv("a")["large"] = bytes(100 * KB)
            tx.kv("a")["more"] = bytes(tx.kv("a")["k"] * 100 * KB)
            kv["k"] = 2
    assert reserved(db) == 0
    small = db.cache("c", max_bytes="64KB")
    with pytest.raises(memora.DataError):
        small.set("k", bytes(100 * KB))
    assert reserved(db) == 0
    with pytest.raises(memora.RegionFull):
        for i in range(1000):
            kv[i] = bytes(900 * KB)
    assert reserved(db) == 0 and db.check() == []


@pytest.mark.parametrize("point", ["reserved", "stored", "locked", "applied", "logged", "sealed", "rolled"])
@pytest.mark.parametrize("how", ["kv['k'] = bytes(200000)", "\nwith db.transaction() as tx: tx.kv('a')['k'] = bytes(200000); tx.kv('a')['l'] = bytes(100000)"])
def test_killed_with_a_reservation(db, point, how):
    """Whoever is killed before his commit leaves reserved extents; they are freed when room is wanted."""
    kv = db.kv("a")
    kv["k"] = b"before" * 10000
    child = Child(f"""
        import signal
        db = memora.open(name)
        kv = db.kv("a")
        db._store.region.failpoint({point!r}, signal.SIGKILL)
        {how.strip()}
        say("survived")
        """, db.name)
    assert child.process.wait(60) == -signal.SIGKILL
    assert db.check() == []                     # takes the lock over
    assert reserved(db) == 1 + ("tx" in how and point not in ("reserved", "sealed", "rolled"))
    assert kv["k"] == b"before" * 10000         # sealed and rolled: it was the reservation's descriptor
    with pytest.raises(memora.RegionFull):
        for i in range(1000):
            kv[i] = bytes(900 * KB)
    assert reserved(db) == 0 and db.check() == []


def test_commits_go_on_while_a_holder_of_reservations_is_stopped(db):
    child = Child("""
        import signal
        db = memora.open(name)
        db._store.region.failpoint("stored", signal.SIGSTOP)
        db.kv("a")["k"] = bytes([7]) * 3000000
        say("stored")
        """, db.name)
    kv = db.kv("a")
    deadline = time.monotonic() + 60
    while not reserved(db):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for i in range(100):
        kv[i % 7] = bytes([i]) * 400 * KB
    assert reserved(db) == 1 and db.check() == []
    child.process.send_signal(signal.SIGCONT)
    assert child.line() == "stored"
    assert kv["k"] == bytes([7]) * 3000000 and reserved(db) == 0
    child.process.stdin.close()
    assert child.process.wait(60) == 0


@pytest.mark.parametrize("ring", [64 * KB, 1 << 20])
def test_files_hold_large_values(tmp_path, ring):
    """The log's file is complete in itself: rebuilt from it alone, the values are there."""
    sizes = {"max_bytes": 64 << 20, "ring_bytes": ring, "durability": "normal"}
    path = str(tmp_path / "x.db")
    rng = random.Random(1)
    model = {}
    store = open_file(path, **sizes)
    database = memora.Database(store, path)
    kv = database.kv("a")
    for step in range(60):
        key = rng.choice("abcdef")
        kv[key] = model[key] = rng.randbytes(rng.choice(SIZES))
        if step % 7 == 0 and len(model) > 2:
            with database.transaction() as tx:
                gone = rng.choice(sorted(model))
                tx.kv("a").delete(gone)
                del model[gone]
                tx.kv("a")["t"] = model["t"] = rng.randbytes(rng.choice(SIZES))
    store.flush(True)
    os.makedirs(tmp_path / "copy")
    if os.path.exists(path):
        shutil.copy(path, tmp_path / "copy")
    shutil.copytree(path + "-wal", tmp_path / "copy" / "x.db-wal")
    database.close()
    with memora.open(tmp_path / "copy" / "x.db", max_bytes="64MB") as again:
        assert dict(again.kv("a").items()) == model and again.check() == []
