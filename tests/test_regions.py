"""Regions at their edges: a tmpfs that is full, a region that is full, creators killed at random, formats of other times, default caps."""
import os
import random
import re
import signal
import struct
import subprocess
import time
from pathlib import Path

import counters
import pytest
from test_engine_limits import copy, get, header  # noqa: F401

import memora
from memora import errors
from memora.engine import places
from memora.engine.store import Store

CONTAINER = r"{} needed, \d+ free on the file system of .*--shm-size.*--ipc=host"


# ---------------------------------------------------------------- no room

def leave(where, free):
    """Fill a tmpfs until about `free` bytes are left."""
    room = os.statvfs(where)
    with open(os.path.join(where, "ballast"), "ab") as f:
        os.posix_fallocate(f.fileno(), 0, os.fstat(f.fileno()).st_size + room.f_bavail * room.f_frsize - free)


def test_full_tmpfs_refuses_a_region(tmpfs):
    where = tmpfs(8 << 20)
    leave(where, 2 << 20)
    with pytest.raises(errors.RegionFull, match=CONTAINER.format("create region: 8[0-9]{6} bytes")):
        memora.open("shm:full", region_dir=where)               # the log alone has 8 MB
    with pytest.raises(errors.RegionFull, match=CONTAINER.format("grow region: [0-9]+ bytes")):
        memora.open("shm:full", region_dir=where, ring_bytes="1MB")
    assert os.listdir(where) == ["ballast"]                     # nothing is left of either
    with memora.open("shm:full", region_dir=where, ring_bytes="64KB", max_bytes="700KB") as db:
        db.kv("k")["a"] = 1
        assert db.check() == []
    memora.remove("shm:full", region_dir=where)


FILLS = {"pages": 700, "large values": 60_000, "SQL": 500, "messages and rows": 700}


def full_then_goes_on(db, match, what):
    """Fill; after RegionFull reads, deletes and the next commit work. (Room for pages never becomes room for large values, nor back.)"""
    kv, size, n = db.kv("k"), FILLS[what], 0
    topic = db.topic("t", retain="64KB")
    db.execute("CREATE TABLE big (id INTEGER PRIMARY KEY, word TEXT)")
    db.execute("INSERT INTO big VALUES (1, 'kept')")
    kv["kept"] = "kept"

    def write(n):
        if what == "SQL":
            db.execute("INSERT INTO big (word) VALUES (?)", ("w" * size,))
        elif what == "messages and rows":
            with db.transaction() as tx:
                tx.kv("k")[n] = bytes(size)
                tx.topic("t").publish(n)
                tx.queue("q").put(n)
        else:
            kv[n] = bytes(size)

    with pytest.raises(errors.RegionFull, match=match):
        while n < 100_000:
            write(n)
            n += 1
    assert n > 10 and db.check() == []
    assert kv["kept"] == "kept" and db.execute("SELECT word FROM big WHERE id = 1").fetchall() == [("kept",)]
    if what == "messages and rows":
        assert len(db.queue("q")) == n and kv[n - 1] == bytes(size) and n not in kv        # whole or not at all
        last = None
        subscription = topic.subscribe("beginning")
        while (message := subscription.get(0)) is not None:
            last = message.value
        assert last == n - 1
    if what == "SQL":
        assert db.execute("SELECT count(*) FROM big").fetchone() == (n + 1,)
        with pytest.raises(errors.RegionFull, match=r"this commit only removes.*remove fewer rows at once") as caught:
            db.execute("DELETE FROM big WHERE id > 1")
        fit, changes = map(int, re.search(r"room for some (\d+) of its (\d+) changes", str(caught.value)).groups())
        assert changes == n and 20 < fit < n
        assert db.execute("DELETE FROM big WHERE id BETWEEN 2 AND ?", (fit + 1,)).rowcount == fit       # and so it is
        for low in range(fit + 2, n // 2, 50):
            assert db.execute("DELETE FROM big WHERE id BETWEEN ? AND ?", (low, low + 49)).rowcount == 50
        assert db.execute("SELECT word FROM big WHERE id = 1").fetchall() == [("kept",)]
    else:
        for m in range(n // 2 + 1):
            assert kv.get(m) == bytes(size)
            assert kv.delete(m)
    for _ in range(3):
        n += 1
        write(n)
    assert what == "SQL" or kv[n] == bytes(size)
    assert db.check() == []


@pytest.mark.parametrize("what", FILLS)
def test_full_tmpfs_under_a_region(tmpfs, what):
    """The file system ends before the region's cap."""
    where = tmpfs(8 << 20)
    with memora.open("shm:full", region_dir=where, ring_bytes="256KB", max_bytes="64MB") as db:
        full_then_goes_on(db, CONTAINER.format("grow region: [0-9]+ bytes"), what)
    memora.remove("shm:full", region_dir=where)


def test_room_made_by_somebody_else_is_used(tmpfs):
    where = tmpfs(8 << 20)
    with memora.open("shm:full", region_dir=where, ring_bytes="256KB", max_bytes="64MB") as db:
        leave(where, 1 << 20)
        kv, n = db.kv("k"), 0
        with pytest.raises(errors.RegionFull, match="--shm-size"):
            while n < 100_000:
                kv[n] = bytes(700)
                n += 1
        os.unlink(os.path.join(where, "ballast"))
        for more in range(n, n + 2000):
            kv[more] = bytes(700)
        assert len(kv) == n + 2000 and db.check() == []
    memora.remove("shm:full", region_dir=where)


@pytest.mark.parametrize("what", FILLS)
@pytest.mark.parametrize("kind", ["shm", "sysv"])
def test_full_region_of_each_kind(kind, what):
    name = f"{kind}:test-full-{os.getpid()}"
    with memora.open(name, max_bytes="3MB", ring_bytes="256KB") as db:
        try:
            means = "fixed size" if kind == "sysv" else "half of the file system"
            full_then_goes_on(db, rf"\d+ bytes.* needed, \d+ free of \d+ \(max_bytes; .*{means}.*reads and deletes still work", what)
        finally:
            memora.remove(name)


def test_as_many_removals_fit_as_the_error_says(stores):
    """One key of each leaf: every removal copies a page, and only so many pages are kept for that."""
    store = stores(max_bytes=4 << 20, ring_bytes=2 << 20)
    txn = store.begin()
    tree = txn.create_tree()
    txn.commit()
    n = 0
    with pytest.raises(errors.RegionFull):
        while True:
            txn = store.begin()
            for _ in range(20):
                txn.put(tree, b"%06d" % n, b"v" * 400)
                n += 1
            txn.commit()

    def remove(count):
        txn = store.begin()
        for i in range(count):
            assert txn.delete(tree, b"%06d" % (i * 12))
        txn.commit()
    with pytest.raises(errors.RegionFull, match="only removes.* pages that are kept for that") as caught:
        remove(n // 12 - 2)
    fit, changes = map(int, re.search(r"room for some (\d+) of its (\d+) changes", str(caught.value)).groups())
    assert changes == n // 12 - 2 and 10 < fit < changes
    remove(fit)
    assert store.check() == []


@pytest.mark.parametrize("what", FILLS)
def test_full_tmpfs_under_a_file(tmpfs, tmp_path, what):
    """Its region is full; what was committed is in the files, and a larger tmpfs takes it up again."""
    where = tmpfs(8 << 20)
    path = tmp_path / "app.db"
    with memora.open(path, region_dir=where, ring_bytes="256KB", max_bytes="64MB", durability="normal") as db:
        full_then_goes_on(db, CONTAINER.format("grow region: [0-9]+ bytes"), what)
        rows = list(db.kv("k").scan()), db.execute("SELECT * FROM big").fetchall(), len(db.queue("q"))
    with memora.open(path, max_bytes="64MB", ring_bytes="256KB") as db:
        assert rows == (list(db.kv("k").scan()), db.execute("SELECT * FROM big").fetchall(), len(db.queue("q")))
        assert db.check() == []


def test_full_disk_under_the_log(tmpfs):
    """The files' disk is full: DurabilityError or nothing, reads work, and after there is room again everything is durable."""
    where = tmpfs(8 << 20)
    path = Path(where, "app.db")
    with memora.open(path, ring_bytes="256KB", max_bytes="64MB", durability="full") as db:
        kv, n = db.kv("k"), 0
        kv["kept"] = 1
        leave(where, 256 << 10)
        with pytest.raises(errors.DurabilityError):
            while n < 10_000:
                kv[n] = bytes(3000)
                n += 1
        assert kv["kept"] == 1 and db.check() == []
        os.unlink(os.path.join(where, "ballast"))
        deadline = time.monotonic() + 60
        while True:
            try:
                kv["again"] = 2
                break
            except errors.DurabilityError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert kv.delete(0)
    with memora.open(path) as db:
        assert db.kv("k")["again"] == 2 and len(db.kv("k")) == n + 2      # the last put is visible, and durable by now
        assert db.check() == []


# ---------------------------------------------------------------- killed creators

@pytest.mark.parametrize("kind", ["shm", "sysv"])
def test_nothing_is_left_of_killed_creators(tmp_path, spawn, kind):
    """Creators are killed at random points, again and again; the next open sweeps all of it, and leaves what lives alone."""
    rng = random.Random(7)
    options = {"region_dir": str(tmp_path), "max_bytes": 2 << 20, "ring_bytes": 64 << 10, "slots": 16, "snaps": 16}
    alive = Store.open(f"{kind}:alive", **options)
    segments = set(of_mine())

    def create(out):
        os.write(out, b"!")
        for n in range(1000):
            Store.open(f"{kind}:made-{os.getpid()}-{n}", **options)

    user = tmp_path / f"memora-{os.getuid()}"
    half = 0
    for _ in range(40):
        child = spawn(create)
        child.out.read(1)
        time.sleep(rng.random() * 0.02)
        child.kill()
        half += len([n for n in os.listdir(user) if n.startswith(".")])
        Store.open(f"{kind}:alive", create=False, **{"region_dir": str(tmp_path)}).close()
        assert [n for n in os.listdir(user) if n.startswith(".")] == []
    assert half > 0, "no creator was killed in the middle"
    for name in places.names(str(tmp_path), kind):
        store = Store.open(f"{kind}:{name}", region_dir=str(tmp_path), create=False)
        assert store.check() == []
        store.close()
        if name != "alive":
            places.remove(name, str(tmp_path), kind)
    assert set(of_mine()) == segments                           # no segment without a region
    alive.run(lambda txn: txn.put(txn.create_tree(), b"k", b"v"))
    assert alive.check() == []
    alive.close()
    places.remove("alive", str(tmp_path), kind)
    assert not user.exists()
    assert len(set(of_mine()) & segments) == len(segments) - (kind == "sysv")


def of_mine():
    """Ids of this user's System V segments that are not only waiting for their last process."""
    with open("/proc/sysvipc/shm") as f:
        rows = [line.split() for line in f][1:]
    return [row[1] for row in rows if int(row[7]) == os.getuid() and int(row[0]) != 0]


def test_removed_segment_goes_with_its_last_process():
    name = f"sysv:test-removed-{os.getpid()}"
    with memora.open(name, max_bytes="1MB", ring_bytes="64KB") as db:
        db.kv("k")["a"] = 1
        assert name in memora.regions()
        memora.remove(name)
        assert name not in memora.regions()
        assert db.kv("k")["a"] == 1                             # who is attached keeps it
        with memora.open(name, max_bytes="1MB", ring_bytes="64KB") as new:
            assert "a" not in new.kv("k")
        memora.remove(name)
    with pytest.raises(errors.RegionError, match="no region"):
        memora.remove(name)


def test_segment_of_somebody_else_is_not_removed(tmp_path):
    """A damaged file `segment` that names another segment: refused at open, and not taken away by remove."""
    region = memora.open("sysv:one", region_dir=tmp_path, max_bytes="1MB", ring_bytes="64KB")
    victim = memora.open("sysv:two", region_dir=tmp_path, max_bytes="1MB", ring_bytes="64KB")
    path = Path(region._store.region.directory, "segment")
    kept = path.read_bytes()
    magic, key, _, size = struct.unpack("<8siiQ", kept)
    path.write_bytes(struct.pack("<8siiQ", magic, key, victim._store.region.backing.id, size))
    with pytest.raises(errors.RegionError, match="does not exist"):
        memora.open("sysv:one", region_dir=tmp_path)
    path.write_bytes(b"x" * 24)
    with pytest.raises(errors.RegionError, match="is no region"):
        memora.open("sysv:one", region_dir=tmp_path)
    path.write_bytes(struct.pack("<8siiQ", magic, key, victim._store.region.backing.id, size))
    region.close()
    memora.remove("sysv:one", region_dir=tmp_path)
    with memora.open("sysv:two", region_dir=tmp_path) as again:
        assert again.check() == []
    victim.close()
    memora.remove("sysv:two", region_dir=tmp_path)
    subprocess.run(["ipcrm", "-M", hex(key)], check=True)       # ours to tidy up: its file told a lie


# ---------------------------------------------------------------- other versions

def test_features_of_other_versions(copy, tmp_path):  # noqa: F811
    """An unknown incompatible bit is refused, an unknown bit that only matters to writers refuses writers."""
    copy(header(lambda region: struct.pack_into("<H", region, 10, 7)))          # a newer minor version refuses nobody
    with pytest.raises(errors.RegionError, match="format 0.0; this Memora reads 2.x: it is too old"):
        copy(header(lambda region: struct.pack_into("<H", region, 8, 0)))
    with pytest.raises(errors.RegionError, match="format 9.0.*too new"):
        copy(header(lambda region: struct.pack_into("<H", region, 8, 9)))
    with pytest.raises(errors.RegionError, match="features 0x8 that this Memora can read, but not write: open it with read_only=True"):
        copy(header(lambda region: struct.pack_into("<I", region, 16, 8)))
    store = Store.open("shm:copy", region_dir=str(tmp_path), read_only=True)
    assert get(store, 16, b"row-49") == b"v" * 100
    with pytest.raises(errors.OperationalError, match="attempt to write a readonly database"):
        store.run(lambda txn: txn.put(16, b"a", b"b"))
    store.close()
    with pytest.raises(errors.RegionError, match="features 0x40"):
        copy(header(lambda region: struct.pack_into("<I", region, 12, 0x40)))
    with pytest.raises(errors.RegionError, match="features 0x40"):
        Store.open("shm:copy", region_dir=str(tmp_path), read_only=True)


# ---------------------------------------------------------------- caps

def test_default_cap_is_half_of_the_tmpfs_and_is_said(tmpfs):
    where = tmpfs(16 << 20)
    with memora.open("shm:half", region_dir=where, ring_bytes="64KB") as db:
        assert 7 << 20 < db.stats()["max_bytes"] <= 8 << 20
        kv, n = db.kv("k"), 0
        with pytest.raises(errors.RegionFull, match=r"free of \d{7} \(max_bytes; half of the file system, or of the container's memory, where nothing"):
            while n < 100_000:
                kv[n] = bytes(900)
                n += 1
        assert n > 4000
    memora.remove("shm:half", region_dir=where)


@pytest.mark.parametrize("groups, limits, expected", [
    ("0::/a/b\n", {"a/memory.max": "1000000", "a/b/memory.max": "max"}, 1000000),
    ("0::/a/b\n", {"a/memory.max": "5000", "a/b/memory.max": "7000", "memory.max": "max"}, 5000),
    ("0::/\n", {"memory.max": "4096"}, 4096),
    ("0::/a\n", {}, None),
    ("5:cpu:/x\n4:memory:/docker/1\n", {"memory/docker/1/memory.limit_in_bytes": "3000"}, 3000),
    ("4:memory:/docker/1\n", {"memory/docker/1/memory.limit_in_bytes": str(2**63 - 4096)}, None)])
def test_memory_limit_of_the_container(tmp_path, groups, limits, expected):
    (tmp_path / "cgroup").write_text(groups)
    for name, text in limits.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert places.memory_limit(str(tmp_path / "cgroup"), str(tmp_path / "fs")) == expected


def test_smaller_of_tmpfs_and_container(monkeypatch):
    monkeypatch.setattr(places, "memory_limit", lambda: 64 << 20)
    assert places.default_cap(24 << 30) == 32 << 20
    assert places.default_cap(16 << 20) == 8 << 20
    monkeypatch.setattr(places, "memory_limit", lambda: None)
    assert places.default_cap(24 << 30) == 12 << 30


def test_names_of_both_kinds(tmp_path):
    """shm: and sysv: of one name are two regions; what belongs to neither is not listed."""
    with memora.open("shm:a", region_dir=tmp_path, max_bytes="1MB", ring_bytes="64KB") as one, \
         memora.open("sysv:a", region_dir=tmp_path, max_bytes="1MB", ring_bytes="64KB") as two:
        one.kv("k")["a"] = "shm"
        assert "a" not in two.kv("k")
        assert memora.regions(region_dir=tmp_path) == ["shm:a", "sysv:a"]
    memora.remove("shm:a", region_dir=tmp_path)
    assert memora.regions(region_dir=tmp_path) == ["sysv:a"]
    memora.remove("sysv:a", region_dir=tmp_path)
    assert memora.regions(region_dir=tmp_path) == []
    for name in ("posix:a", ":a", "sysv:", "sysv:a/b", "sysv:.a"):
        with pytest.raises((errors.NotSupportedError, errors.ProgrammingError)):
            memora.remove(name, region_dir=tmp_path)


def test_stopped_sweeper_keeps_nobody_from_creating(tmp_path, spawn):
    """It may hold the user's directory for as long as it likes."""
    memora.open("shm:first", region_dir=tmp_path, max_bytes="1MB", ring_bytes="64KB").close()

    def hold(out):
        import fcntl
        fd = os.open(tmp_path / f"memora-{os.getuid()}", os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(out, b"!")
        os.kill(os.getpid(), signal.SIGSTOP)

    child = spawn(hold)
    child.out.read(1)
    child.wait_stopped()
    with memora.open("shm:second", region_dir=tmp_path, max_bytes="1MB", ring_bytes="64KB") as db:
        db.kv("k")["a"] = 1
    child.kill()
    counters.count("kills", 0)
    for name in ("shm:first", "shm:second"):
        memora.remove(name, region_dir=tmp_path)
    assert re.fullmatch("", "".join(memora.regions(region_dir=tmp_path)))
