"""Read-only attach: nothing is written, every read face works, and who cannot announce snapshots says so when it is overtaken."""
import contextlib
import os
import re
import subprocess
import threading
import time

import pytest

import memora
from memora import errors

NOBODY = 54321
READONLY = "attempt to write a readonly database"


@pytest.fixture(params=["shm", "sysv"])
def public(request):
    """(kind, options, db): a database that others may read; its owner has it open."""
    name = f"{request.param}:test-public-{os.getpid()}"
    with memora.open(name, mode=0o644, max_bytes="32MB", ring_bytes="1MB") as db:
        try:
            fill(db)
            yield name, db
            assert db.check() == []
        finally:
            memora.remove(name)


def fill(db):
    kv = db.kv("k")
    kv.put_many({n: "x" * n for n in range(300)})
    kv["large"] = b"v" * 100_000
    kv["k" * 5000] = "a long key"
    db.cache("c").set("a", [1, 2])
    db.queue("q").put("job")
    db.topic("t").publish("hello")
    db.execute("CREATE TABLE t1 (id INTEGER PRIMARY KEY, word TEXT)")
    db.execute("CREATE INDEX by_word ON t1 (word)")
    for n in range(200):
        db.execute("INSERT INTO t1 (word) VALUES (?)", (f"word {n}",))


def read_all(db):
    """Every face that reads."""
    kv = db.kv("k")
    assert kv[7] == "x" * 7 and kv["large"] == b"v" * 100_000 and kv["k" * 5000] == "a long key" and "nothing" not in kv
    assert len(kv) == 302 and len(list(kv)) == 302 and list(kv.scan(5, 8)) == [(n, "x" * n) for n in (5, 6, 7)]
    assert [key for key, _ in kv.scan(reverse=True, limit=2)] == ["large", "k" * 5000]
    assert kv.get_many([1, 2, "no"]) == {1: "x", 2: "xx"}
    assert db.cache("c").get("a") == [1, 2] and db.cache("c").stats()["entries"] == 1
    assert db.queue("q").stats() == {"ready": 1, "delayed": 0, "leased": 0}
    assert db.topic("t").subscribe("beginning").get(0).value == "hello"
    assert db.topic("t").subscribe().get(0.05) is None
    changes = db.changes(["k", "t1"], since=1)
    assert changes.get(1).changes
    assert db.execute("SELECT count(*), max(word) FROM t1").fetchall() == [(200, "word 99")]
    assert db.execute("SELECT id FROM t1 WHERE word = 'word 50'").fetchall() == [(51,)]
    assert db.execute("SELECT key FROM k WHERE key < 3").fetchall() == [(0,), (1,), (2,)]
    assert len(db.execute("PRAGMA table_info(t1)").fetchall()) == 2
    assert [row[0] for row in db.execute("SELECT state FROM q")] == ["ready"]
    assert db.execute("SELECT a.id FROM t1 a JOIN t1 b ON a.id = b.id + 1 WHERE b.id = 5").fetchall() == [(6,)]
    with db.connect() as connection:
        assert connection.execute("SELECT word FROM t1 ORDER BY id LIMIT 1").fetchone() == ("word 0",)
    connection.close()
    assert db.stats()["commit"] == db.commit_number
    assert db.check() == []


def refuse_all(db):
    """Every face that writes."""
    kv, queue = db.kv("k"), db.queue("q")
    for write in (lambda: kv.put("a", 1), lambda: kv.delete(1), lambda: kv.delete("absent"), lambda: kv.incr("n"), lambda: kv.put_many({"a": 1}),
                  lambda: kv.add("b", 1), kv.clear, lambda: db.kv("new"), lambda: db.cache("c").set("b", 1), lambda: queue.put("x"),
                  lambda: queue.claim(0), lambda: db.topic("t").publish("m"), lambda: db.execute("INSERT INTO t1 (word) VALUES ('x')"),
                  lambda: db.execute("DELETE FROM t1 WHERE id = -1"), lambda: db.execute("UPDATE t1 SET word = ''"),
                  lambda: db.execute("CREATE TABLE t2 (a)"), lambda: db.execute("DROP TABLE t1"), lambda: db.topic("new")):
        with pytest.raises(errors.OperationalError, match=READONLY):
            write()


def rights(name):
    """How this process has the region and its slots mapped, as the kernel says it: sets of "r--s", "rw-s"."""
    short = name.partition(":")[2]
    regions, slots = set(), set()
    with open("/proc/self/maps") as maps:
        for line in maps:
            if re.search(rf"{re.escape(short)}/region\b|SYSV", line):
                regions.add(line.split()[1])
            elif f"{short}/slots" in line and line.split()[1] != "---s":         # that one is the life lock
                slots.add(line.split()[1])
    return regions, slots


def test_every_face_with_a_slot(public, spawn):
    """The same user: the region is mapped without the right to write, the slots with it."""
    name, owner = public

    def reader(out):
        owner.close()
        with memora.open(name, read_only=True) as db:
            assert rights(name) == ({"r--s"}, {"rw-s"})
            read_all(db)
            refuse_all(db)
            assert len([p for p in db.processes() if p["alive"]]) == 2
            with db.snapshot() as tx:
                assert tx.kv("k")[1] == "x"
                os.write(out, b"!")
                time.sleep(0.3)
                assert tx.kv("k")[1] == "x"             # the owner has changed it, and more than was kept
            with pytest.raises(errors.OperationalError, match=READONLY), db.transaction() as tx:
                tx.kv("k")[1] = "y"

    child = spawn(reader)
    assert child.out.read(1) == b"!"
    for n in range(3000):
        owner.kv("k")[1] = f"y{n}"
    owner.kv("k")[1] = "x"
    assert child.wait() == 0


def test_every_face_without_a_slot(public, spawn):
    """Another user, and files that he may only read."""
    name, owner = public
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    uid = os.getuid()

    def reader(out):
        owner.close()
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with pytest.raises(errors.RegionError, match="may not write it .*read_only=True"):
            memora.open(name, owner=uid)
        with pytest.raises(errors.RegionError, match="there is no region"):
            memora.open(name, read_only=True)           # not his
        with memora.open(name, owner=uid, read_only=True) as db:
            assert rights(name) == ({"r--s"}, {"r--s"})
            read_all(db)
            refuse_all(db)
            assert [p["alive"] for p in db.processes()] == [True]
            for held in (db.transaction, db.snapshot, lambda: db.connect().execute("BEGIN")):
                with pytest.raises(errors.OperationalError, match="single statements only"):
                    held()
            if os.fork() == 0:                          # and after fork
                read_all(db)
                os._exit(0)
            assert os.wait()[1] == 0

    before = owner.processes()
    child = spawn(reader)
    assert child.wait() == 0
    assert owner.processes() == before


def test_overtaken_without_a_slot(public, spawn):
    """Single statements come through while a writer commits; a scan that goes on behind the first row is refused, not wrong."""
    name, owner = public
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    uid = os.getuid()
    kv = owner.kv("pairs")
    kv.put_many({n: 0 for n in range(2000)})

    def reader(out):
        owner.close()
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with memora.open(name, owner=uid, read_only=True) as db:
            pairs = db.kv("pairs")
            os.write(out, b"!")
            seen, old = set(), 0
            end = time.monotonic() + 1
            while time.monotonic() < end or len(seen) <= 10:
                both = pairs.get_many([0, 1999])
                assert both[0] == both[1999] >= old        # one commit, and never an older one
                old = both[0]
                seen.add(old)
                row, = db.execute("SELECT count(*) FROM pairs WHERE key IN (0, 1999) AND value = (SELECT value FROM pairs WHERE key = 0)")
                assert row == (2,)
            scan = pairs.scan()
            first = next(scan)
            rows = db.execute("SELECT key, value FROM pairs")
            assert next(rows)[0] == 0
            os.write(out, b"!")
            end = time.monotonic() + 30
            while pairs[0] < first[1] + 3000:
                assert time.monotonic() < end
            for rest in (scan, rows):
                with pytest.raises(errors.SnapshotTooOld, match="overtaken"):
                    list(rest)
            os.write(out, b"!")

    child = spawn(reader)
    stop, pause = threading.Event(), threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            n += 1
            # every leaf changes, now and then; the two ends always, together
            kv.put_many({0: n, 1999: n, n * 7 % 2000: n} if n * 7 % 2000 not in (0, 1999) else {0: n, 1999: n})
            # a statement that reads all 2000 entries needs some milliseconds in which it is not overtaken
            pause.wait(0.001)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert child.out.read(2) == b"!!"
        pause.set()                                     # from now on as fast as it can
        assert child.out.read(1) == b"!"
        assert child.wait() == 0
    finally:
        stop.set()
        thread.join()


def test_missing_region_is_not_created():
    for name in ("shm:test-never", "sysv:test-never"):
        with pytest.raises(errors.RegionError, match="there is no region"):
            memora.open(name, read_only=True)
        with pytest.raises(errors.RegionError, match="there is no region"):
            memora.open(name, owner=NOBODY)
        assert name not in memora.regions()


def test_check_gives_up_where_a_commit_was_left_half_done(public, spawn):
    """A read-only process cannot take the lock over; it reads on, and says that it cannot check."""
    import signal
    name, owner = public

    def die(out):
        owner.close()
        with memora.open(name) as db:
            db._store.region.failpoint("sealed", signal.SIGKILL)
            db.kv("k")["half"] = 1

    def reader(out):
        owner.close()
        with memora.open(name, read_only=True) as db:
            assert "half" not in db.kv("k")
            with pytest.raises(errors.OperationalError, match="cannot take the commit lock"):
                db.check()

    assert spawn(die).wait() == signal.SIGKILL
    assert spawn(reader).wait() == 0
    assert owner.check() == []
    assert owner.kv("k")["half"] == 1


def test_waiting_reader_is_not_woken_and_looks_by_itself(public, spawn):
    name, owner = public

    def reader(out):
        owner.close()
        with memora.open(name, read_only=True) as db:
            subscription, changes = db.topic("t").subscribe(), db.changes("k")
            os.write(out, b"!")
            assert subscription.get(30).value == "news"
            assert changes.get(30).changes[0].new == "news"

    child = spawn(reader)
    child.out.read(1)
    time.sleep(0.2)
    owner.topic("t").publish("news")
    time.sleep(0.2)
    owner.kv("k")["a"] = "news"
    assert child.wait() == 0


def test_asyncio_reader(public):
    import asyncio
    name, owner = public

    async def main():
        async with memora.aio.open(name, read_only=True) as db:
            subscription = db.topic("t").subscribe()
            threading.Timer(0.1, lambda: owner.topic("t").publish("news")).start()
            assert (await subscription.get(timeout=30)).value == "news"

    asyncio.run(main())


def test_group_may_write(spawn):
    """mode and group, whatever the umask says; nobody else comes in."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    for kind in ("shm", "sysv"):
        name, uid = f"{kind}:test-group-{os.getpid()}", os.getuid()
        old = os.umask(0o777)
        try:
            owner = memora.open(name, mode=0o660, group=NOBODY, max_bytes="8MB", ring_bytes="1MB")
        finally:
            os.umask(old)
        with owner:
            directory = owner._store.region.directory
            assert os.stat(directory).st_mode & 0o777 == 0o750 and os.stat(os.path.dirname(directory)).st_mode & 0o777 == 0o711
            for file in os.listdir(directory):
                st = os.stat(os.path.join(directory, file))
                assert (st.st_mode & 0o777, st.st_gid) == ((0o660, NOBODY) if file != "segment" else (0o640, NOBODY)), file

            def member(groups, works, out):
                owner.close()
                os.setgroups(groups)
                os.setgid(NOBODY + 1)
                os.setuid(NOBODY + 1)
                with contextlib.ExitStack() as stack:
                    if not works:
                        stack.enter_context(pytest.raises(errors.RegionError, match="may not"))
                    with memora.open(name, owner=uid) as db:
                        for n in range(3000):
                            db.kv("k")[n] = "from the group" * 20          # growth, too
                with pytest.raises((errors.RegionError, PermissionError)):
                    memora.open(name, owner=uid + 1)

            assert spawn(member, [NOBODY], True).wait() == 0
            assert spawn(member, [], False).wait() == 0
            assert owner.kv("k")[2999] == "from the group" * 20
            assert owner.check() == []
        memora.remove(name)


def test_directory_that_others_may_write_is_refused(tmp_path):
    user = tmp_path / f"memora-{os.getuid()}"
    memora.open("shm:x", region_dir=tmp_path, max_bytes="1MB", ring_bytes="64KB").close()
    user.chmod(0o777)
    with pytest.raises(errors.RegionError, match="others can write in it"):
        memora.open("shm:x", region_dir=tmp_path)
    user.chmod(0o700)
    memora.remove("shm:x", region_dir=tmp_path)
    assert not user.exists()


def test_system_v_limits_are_named(tmp_path):
    """In an IPC namespace of its own with a small kernel.shmmax."""
    code = """
import memora, os
with open("/proc/sys/kernel/shmmax", "w") as f:
    f.write("1000000")
try:
    memora.open("sysv:big", region_dir=os.environ["WHERE"], max_bytes="8MB")
except memora.RegionFull as error:
    print(error)
print(os.listdir(os.environ["WHERE"]), open("/proc/sysvipc/shm").read().count("\\n"))
"""
    import sys
    from pathlib import Path
    done = subprocess.run(["unshare", "-i", sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "WHERE": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent)})
    if done.returncode and "unshare" in done.stderr:
        pytest.skip(f"no IPC namespace can be made here: {done.stderr.strip()}")
    said, left = done.stdout.splitlines()
    assert re.search(r"System V segment of \d{7} bytes needed .*shmmax allows 1000000 bytes .*sysctl", said), done
    assert left == "[] 1"


def test_system_v_region_of_another_namespace(stores):
    """Its directory is seen, its segment is not: the message says what is shared and what is not."""
    import sys
    from pathlib import Path
    name = f"sysv:test-elsewhere-{os.getpid()}"
    with memora.open(name, max_bytes="1MB", ring_bytes="64KB"):
        try:
            done = subprocess.run(["unshare", "-i", sys.executable, "-c", f"import memora; memora.open({name!r})"], capture_output=True, text=True,
                                  timeout=60, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)})
            if "unshare:" in done.stderr:
                pytest.skip(f"no IPC namespace can be made here: {done.stderr.strip()}")
            assert "RegionError" in done.stderr and "another IPC namespace" in done.stderr and "--ipc=host" in done.stderr
        finally:
            memora.remove(name)
