"""Database files that others may use: mode, group, owner, and read_only, which writes nothing beside the file."""
import os
import shutil
import signal
import stat
import subprocess
import tempfile

import pytest
from files_children import region_name

import memora
from memora import errors
from memora.engine import places

NOBODY = 54321
SMALL = {"max_bytes": "16MB", "ring_bytes": "256KB"}


@pytest.fixture
def path():
    """A database's path in a folder that everybody may enter; its region goes with it."""
    folder = tempfile.mkdtemp(prefix="memora-access-")
    os.chmod(folder, 0o755)
    path = os.path.join(folder, "app.db")
    yield path
    if os.path.exists(path + "-lock") and (name := region_name(path)) in places.names():
        places.remove(name)
    shutil.rmtree(folder)


def fill(path, **options):
    with memora.open(path, **SMALL, **options) as db:
        db.kv("k").put_many({n: n for n in range(100)})
        db.execute("CREATE TABLE t (a)")
        db.execute("INSERT INTO t VALUES (1), (2)")


def read(db, more=0):
    assert len(db.kv("k")) == 100 + more and db.kv("k")[7] == 7
    assert db.execute("SELECT sum(a) FROM t").fetchall() == [(3,)]
    assert db.check() == []
    for write in (lambda: db.kv("k").put(1, 2), lambda: db.execute("DELETE FROM t"), lambda: db.kv("new"), db._store.checkpoint):
        with pytest.raises(errors.OperationalError, match="attempt to write a readonly database"):
            write()


def seen(path):
    """What is in the folder of a database, to the nanosecond."""
    found = {}
    for folder, folders, files in os.walk(os.path.dirname(path)):
        for name in (".", *folders, *files):
            st = os.lstat(os.path.join(folder, name))
            found[folder, name] = (st.st_ino, st.st_size, st.st_mtime_ns, st.st_mode)
    return found


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def modes(path):
    """{mode: names} of the database's files and its region's, and the groups that they have."""
    region = os.path.join(places.user_directory(), region_name(path))
    files = [path, path + "-lock", *(os.path.join(path + "-wal", n) for n in os.listdir(path + "-wal")), *(os.path.join(region, n) for n in ("region", "slots"))]
    return {stat.S_IMODE(os.stat(f).st_mode) for f in files}, {os.stat(f).st_gid for f in files}, stat.S_IMODE(os.stat(path + "-wal").st_mode)


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
@pytest.mark.parametrize("mode, folder", [(None, 0o700), (0o640, 0o750), (0o660, 0o770), (0o644, 0o755), (0o666, 0o777)])
def test_all_files_have_the_mode_whatever_the_umask(path, umask, mode, folder):
    before = os.umask(umask)
    try:
        with memora.open(path, **SMALL, mode=mode) as db:
            db.kv("k")[1] = 1
            db._store.flush()
            db._store.checkpoint()
            db.kv("k")[2] = 2
            db._store.flush()
            assert modes(path) == ({mode or 0o600}, {os.getgid()}, folder)
        with memora.open(path, **SMALL, mode=0o600) as db:          # what exists keeps what it has
            db.kv("k")[3] = 3
            db._store.flush()
            assert modes(path) == ({mode or 0o600}, {os.getgid()}, folder)
    finally:
        os.umask(before)


def test_all_files_have_the_group(path):
    if os.getuid() != 0:
        pytest.skip("only root can give files to any group")
    with memora.open(path, **SMALL, mode=0o660, group=NOBODY) as db:
        db.kv("k")[1] = 1
        db._store.flush()
        assert modes(path) == ({0o660}, {NOBODY}, 0o770) and os.stat(path + "-wal").st_gid == NOBODY
    with pytest.raises(errors.ProgrammingError, match="no such group"):
        memora.open(path, group="nobody-has-this-group")
    with pytest.raises(errors.ProgrammingError, match="mode=0o622"):
        memora.open(path, mode=0o622)


def test_a_reader_sees_the_live_region_and_writes_nothing(path, spawn):
    fill(path)
    with memora.open(path, **SMALL) as db:
        db.kv("k")["new"] = 1
        db._store.flush()
        before = seen(path)

        def reader(out):
            with memora.open(path, read_only=True) as mine:
                read(mine, 1)
                os.write(out, b"!")
                os.kill(os.getpid(), signal.SIGSTOP)
                assert mine.kv("k")["newer"] == 2 and mine._store.durable()["newest"] == mine.commit_number
        child = spawn(reader)
        child.wait_stopped()
        assert seen(path) == before
        db.kv("k")["newer"] = 2
    with memora.open(path, **SMALL) as db:          # the region stayed, since the reader has it open
        assert db.kv("k")["newer"] == 2 and [p["alive"] for p in db.processes()] == [True, True]
        assert child.wait_going_on() == 0


@pytest.mark.parametrize("how", ["closed", "closed, no lock file", "killed", "killed, region kept"])
def test_a_reader_without_a_live_region_reads_the_files(path, spawn, how):
    fill(path)
    if "killed" in how:
        def die(out):
            db = memora.open(path, **SMALL)
            db.kv("k")["late"] = 1
            db._store.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        assert spawn(die).wait() == signal.SIGKILL
        if how == "killed":
            places.remove(region_name(path))
    if how.endswith("no lock file"):
        os.unlink(path + "-lock")
    before, regions = seen(path), places.names()
    with memora.open(path, read_only=True) as db:
        read(db, "killed" in how)
        assert db._store.region.kind == ("shm" if how.endswith("kept") else "memory")
        if os.fork() == 0:
            code = 1
            try:
                read(db, "killed" in how)
                code = 0
            finally:
                os._exit(code)
        assert os.wait()[1] == 0
    assert seen(path) == before and places.names() == regions
    if how != "closed, no lock file":
        with memora.open(path, **SMALL) as db:
            assert ("late" in db.kv("k")) == ("killed" in how)


def test_a_reader_creates_nothing(path):
    with pytest.raises(errors.OperationalError, match="does not exist"):
        memora.open(path, read_only=True)
    fill(path)
    with pytest.raises(errors.ProgrammingError, match="not with read_only=True"):
        memora.open(path, read_only=True, durability="full")
    with pytest.raises(errors.NotSupportedError, match="that others can find"):
        memora.open(":memory:", read_only=True)
    other = os.path.join(os.path.dirname(path), "empty.db")
    open(other, "w").close()
    with memora.open(other, read_only=True) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    assert not os.path.exists(other + "-lock")


def test_a_mount_that_nobody_may_write(path, spawn, tmp_path):
    fill(path)
    there = tmp_path / "mount"
    there.mkdir()
    done = subprocess.run(["mount", "--bind", "-o", "ro", os.path.dirname(path), there], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        with pytest.raises(errors.OperationalError, match="Read-only file system"):
            memora.open(there / "app.db", **SMALL)
        with memora.open(there / "app.db", read_only=True) as db:
            read(db)
        with memora.open(path, **SMALL) as writer, memora.open(there / "app.db", read_only=True) as db:
            writer.kv("k")["live"] = 1
            read(db, 1)
    finally:
        subprocess.run(["umount", there], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_reads(path, spawn):
    def reader(out):
        become_nobody()
        with pytest.raises(errors.RegionElsewhere, match="belongs to user 0: give owner=0"):
            memora.open(path, read_only=True)
        with pytest.raises(errors.RegionError, match=f"belongs to user 0, not to {NOBODY}"):
            memora.open(path, read_only=True, owner=NOBODY)
        with memora.open(path, read_only=True, owner=0) as db:
            read(db)
            assert db._store.region.kind == "shm"
        with pytest.raises(errors.OperationalError, match="Permission denied"):
            memora.open(path, owner=0)

    def later(out):
        become_nobody()
        with memora.open(path, read_only=True) as db:           # closed: the files say all
            read(db)
            assert db._store.region.kind == "memory"
    fill(path, mode=0o644)
    with memora.open(path, **SMALL):
        assert spawn(reader).wait() == 0
    before = seen(path)
    assert spawn(later).wait() == 0
    assert seen(path) == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_kept_out_of_a_private_file(path, spawn):
    def reader(out):
        become_nobody()
        for options in ({}, {"owner": 0}, {"read_only": True}, {"read_only": True, "owner": 0}):
            with pytest.raises(errors.OperationalError, match="Permission denied"):
                memora.open(path, **options)
        assert not os.path.exists(places.user_directory())
    fill(path)
    assert spawn(reader).wait() == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_writes_where_the_mode_lets_him(path, spawn):
    os.chmod(os.path.dirname(path), 0o777)
    fill(path, mode=0o666)

    def without(out):
        become_nobody()
        with pytest.raises(errors.RegionError, match="user 0 has no region of it now, and only he makes one"):
            memora.open(path, owner=0)

    def writer(out):
        become_nobody()
        with memora.open(path, owner=0, durability="full") as db:
            db.kv("k")["his"] = 1
            assert db._store.durable()["synced"] == db.commit_number
            db._store.checkpoint()
            db.kv("k")["his too"] = 2
    assert spawn(without).wait() == 0
    with memora.open(path, **SMALL) as db:
        assert spawn(writer).wait() == 0
        assert db.kv("k")["his"] == 1 and db.kv("k")["his too"] == 2
        db._store.flush()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    with memora.open(path, **SMALL) as db:
        assert len(db.kv("k")) == 102
