"""Processes of every kind on one database: fork, spawn and forkserver, preload, daemons, exec, threads, pid namespaces, a thousand deaths."""
import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import counters
import pytest
from regions import ROOT, Child, db, shm  # noqa: F401

import memora
from memora import errors


def in_child(spawn, work, *args):
    """Run work(*args) in a forked child; it must end well."""
    assert spawn(lambda *a, out: work(*a), *args).wait() == 0


# ---------------------------------------------------------------- fork

def test_what_is_open_stays_with_the_parent(db, spawn):  # noqa: F811
    """Cursors, rows, iterators, transactions raise in the child, in every face; the parent's go on."""
    k = db.kv("k")
    k.put_many({n: n for n in range(500)})
    db.execute("CREATE TABLE t (a)")
    db.execute("CREATE TABLE u (a)")
    db.execute("INSERT INTO t SELECT key FROM k")
    scan, keys, rows = k.scan(), iter(k), db.execute("SELECT a FROM t")
    tx, snapshot, connection = db.transaction(), db.snapshot(), db.connect()
    tx.kv("k")["mine"] = 1
    connection.execute("INSERT INTO t VALUES (-1)")             # begins a transaction
    reading = connection.cursor().execute("SELECT a FROM t")
    assert (next(scan), next(keys), next(rows), next(reading)) == ((0, 0), 0, (0,), (0,))

    def child():
        inherited = {"scan": lambda: next(scan), "keys": lambda: next(keys), "rows": lambda: list(rows), "reading": reading.fetchall,
                     "get": lambda: tx.kv("k").get(1), "put": lambda: tx.kv("k").put(1, 1), "commit": tx.commit,
                     "snapshot": lambda: snapshot.kv("k").get(1), "sql": lambda: snapshot.execute("SELECT 1 FROM t").fetchall(),
                     "connection": lambda: connection.execute("INSERT INTO t VALUES (-2)"), "end": connection.commit}
        for name, use in inherited.items():
            try:
                use()
            except errors.ProgrammingError as error:
                assert "fork" in str(error), (name, error)
            else:
                raise AssertionError(f"{name} went on in the child")
        # and all begins anew
        assert k[499] == 499 and len(list(k.scan(0, 500))) == 500
        assert db.execute("SELECT count(*) FROM t WHERE a BETWEEN 0 AND 499").fetchall() == [(500,)]
        with db.transaction() as own:
            own.kv("k")["child"] = os.getpid()
        with db.connect() as other:
            other.execute("INSERT INTO u VALUES (1000)")

    for _ in range(3):
        in_child(spawn, child)
    assert len(list(scan)) == 499 and len(list(keys)) == 499 and len(list(rows)) == 499
    assert len(reading.fetchall()) >= 499
    connection.commit()
    connection.close()
    tx.commit()
    assert snapshot.kv("k").get("child") is None and "child" in k
    snapshot.rollback()
    assert db.execute("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u)").fetchall() == [(501, 3)]


def test_fork_while_threads_commit(db, spawn):  # noqa: F811
    """Children that are forked in the middle of other threads' commits use the handle at once, and nothing is half."""
    db.kv("k"), db.kv("l")
    db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    stop, failures = threading.Event(), []

    def write(me):
        try:
            n = 0
            while not stop.is_set():
                n += 1

                def both(tx, n=n):
                    tx.kv("k")[me] = n
                    tx.kv("l")[me] = n
                    tx.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (me, n))
                db.run(both)
                db.queue("q").put((me, n).__repr__())
        except BaseException as error:
            failures.append(error)

    def child():
        for n in range(5):
            with db.snapshot() as tx:
                k, rows = dict(tx.kv("k").items()), dict(tx.execute("SELECT a, b FROM t"))
                assert {key: value for key, value in k.items() if isinstance(key, int)} == rows
                assert {key: value for key, value in tx.kv("l").items() if isinstance(key, int)} == rows
            db.kv("k")[f"child {os.getpid()}"] = n
            db.execute("SELECT count(*) FROM t").fetchall()

    # what the threads import is loaded before: a module that another thread imports at a fork stays locked in the child (CPython)
    with db.transaction() as tx:
        tx.kv("k"), tx.execute("SELECT count(*) FROM t").fetchall()
    db.queue("q")
    threads = [threading.Thread(target=write, args=(me,)) for me in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(12):
            in_child(spawn, child)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len([key for key in db.kv("k") if isinstance(key, str)]) == 12
    assert len([p for p in db.processes() if p["alive"]]) == 1


def test_memory_database_is_shared_with_forks_of_forks(spawn):
    with memora.open(":memory:", max_bytes="16MB", ring_bytes="1MB") as db:
        k = db.kv("k")

        def grandchild():
            k["grandchild"] = 1

        def child():
            k["child"] = 1
            assert os.waitstatus_to_exitcode(os.waitpid(fork_and(grandchild), 0)[1]) == 0
            assert k["grandchild"] == 1
        in_child(spawn, child)
        assert sorted(k) == ["child", "grandchild"] and db.check() == []


def fork_and(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


# ---------------------------------------------------------------- multiprocessing

def worker(name, me):
    with memora.open(name) as db:
        for _ in range(20):
            db.run(lambda tx: tx.kv("k").incr("n"))
        db.kv("k")[f"worker {me}"] = os.getpid()


inherited = None


def inheritor(me):
    """By fork alone: the parent's own handle."""
    for _ in range(20):
        inherited.run(lambda tx: tx.kv("k").incr("n"))
    inherited.kv("k")[f"worker {me}"] = os.getpid()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(db, shm, method):  # noqa: F811
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=worker, args=(shm, me)) for me in range(2)]
    if method == "fork":
        global inherited
        inherited = db
        workers += [context.Process(target=inheritor, args=(2,))]
    for process in workers:
        process.start()
    for process in workers:
        process.join(100)
        assert process.exitcode == 0
    assert db.kv("k")["n"] == 20 * len(workers)
    assert len({db.kv("k")[f"worker {me}"] for me in range(len(workers))}) == len(workers)
    if method == "forkserver":                      # it outlives the test otherwise
        from multiprocessing import forkserver
        forkserver._forkserver._stop()
    inherited = None
    gc.collect()


# ---------------------------------------------------------------- servers that fork

@pytest.mark.parametrize("kind", ["shm", "sysv", "file"])
def test_preload(tmp_path, spawn, kind):
    """As gunicorn --preload: the master opens and never uses it again, workers serve, are killed and forked anew."""
    name = str(tmp_path / "app.db") if kind == "file" else f"{kind}:test-preload-{os.getpid()}"
    db = memora.open(name, max_bytes="32MB", ring_bytes="1MB")
    try:
        requests, done = db.queue("requests"), db.kv("done")
        db.execute("CREATE TABLE served (request INTEGER PRIMARY KEY, pid)")

        def serve(out):
            while True:
                job = requests.claim(timeout=0.5)
                if job is None:
                    continue
                with db.transaction() as tx:
                    tx.execute("INSERT INTO served VALUES (?, ?)", (job.value, os.getpid()))
                    tx.kv("done")[job.value] = os.getpid()
                job.ack()

        rng = random.Random(3)
        for n in range(200):
            requests.put(n)
        workers = [spawn(serve) for _ in range(3)]
        for _ in range(10):
            time.sleep(rng.random() * 0.05)
            victim = rng.randrange(3)
            workers[victim].kill()
            workers[victim] = spawn(serve)
        deadline = time.monotonic() + 100
        while len(done) < 200:
            assert time.monotonic() < deadline, len(done)
            time.sleep(0.02)
        for process in workers:
            process.kill()
        assert db.execute("SELECT count(*) FROM served").fetchone() == (200,)
        assert dict(db.execute("SELECT request, pid FROM served")) == dict(done.items())
        assert db.check() == []
        assert [p["pid"] for p in db.processes() if p["alive"]] == [os.getpid()]
    finally:
        db.close()
        if kind != "file":
            memora.remove(name)


@pytest.mark.parametrize("kind", ["shm", "sysv"])
def test_daemon_that_closes_all_descriptors(spawn, kind):
    """The holder, and a child, close every descriptor that they do not know, as daemons do; neither is taken for dead, both go on."""
    name = f"{kind}:test-daemon-{os.getpid()}"
    with memora.open(name, max_bytes="32MB", ring_bytes="1MB") as db:
        try:
            def daemon(first, out):
                if first:
                    db.kv("k")["before"] = 1
                keep = os.dup2(out, 200)
                os.closerange(3, 200)
                os.closerange(201, 1000)
                os.setsid()
                for n in range(50):
                    db.kv("k")[f"{first}-{n}"] = bytes(40_000)          # growth, too
                os.write(keep, b"!")
                time.sleep(600)

            children = [spawn(daemon, True), spawn(daemon, False)]
            for child in children:
                assert child.out.read(1) == b"!"
            assert len([p for p in db.processes() if p["alive"]]) == 3
            assert len(db.kv("k")) == 101
            for child in children:
                child.kill()
            assert [p["pid"] for p in db.processes() if p["alive"]] == [os.getpid()]
            assert db.check() == []
        finally:
            memora.remove(name)


def test_holder_that_closes_all_descriptors(shm):  # noqa: F811
    code = """
    import os
    db = memora.open(name, max_bytes="32MB", ring_bytes="1MB")
    k = db.kv("k")
    tx = db.transaction()
    tx.kv("k")["t"] = 1
    os.closerange(3, 1000)
    k["a"] = 1
    tx.commit()
    for n in range(300):
        k[n] = bytes(20000)
    say(len(k), len([p for p in db.processes() if p["alive"]]))
    sys.stdin.readline()
    db.close()
    """
    with Child(code, shm) as child:
        assert child.line() == "302 1"
        with memora.open(shm) as other:
            assert len([p for p in other.processes() if p["alive"]]) == 2       # alive, by what the mapping holds
        child.tell()
        assert child.wait() == (0, "")


def test_exec_ends_a_process(db, shm, spawn):  # noqa: F811
    """exec takes the address space away, and with it the slot; the program behind it is another process of the database, or none."""
    def execs(out):
        own = memora.open(shm)
        own.queue("q").claim(0)
        os.write(out, b"!")
        os.set_inheritable(out, True)
        os.execv("/bin/sleep", ["sleep", "600"])

    db.queue("q").put("job")
    child = spawn(execs)
    assert child.out.read(1) == b"!"
    deadline = time.monotonic() + 60
    while len([p for p in db.processes() if p["alive"]]) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n"        # it runs on
    assert db.queue("q").claim(30).attempts == 2


# ---------------------------------------------------------------- threads

def test_threads_share_every_face(db):  # noqa: F811
    """One handle, eight threads, all faces at once; totals agree."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
    failures, each = [], 40

    def work(me):
        try:
            for n in range(each):
                def step(tx):
                    tx.kv("k").incr("n")
                    tx.execute("INSERT INTO t (a) VALUES (?)", (me,))
                    tx.topic("messages").publish(n)
                    tx.queue("q").put(n)
                db.run(step)
                db.execute("SELECT count(*) FROM t WHERE a = ?", (me,)).fetchall()
                db.cache("c").set((f"{me}-{n}"), n)
                assert db.cache("c").get(f"{me}-{n}") == n
                for _ in zip(range(5), db.kv("k").scan()):
                    pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
    subscription = db.topic("messages").subscribe("beginning")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    total = 8 * each
    messages = 0
    while subscription.get(0) is not None:
        messages += 1
    assert (db.kv("k")["n"], db.execute("SELECT count(*) FROM t").fetchone()[0], len(db.queue("q")), messages) == (total,) * 4
    assert len(db.processes()) == 1


# ---------------------------------------------------------------- pid namespaces

IN_A_NAMESPACE = """
import os, signal, sys
sys.path.insert(0, {root!r})
import memora
while os.getpid() < 5:                  # both get the same pid: a container's first processes have small ones
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 255)
db = memora.open({name!r}, timeout=30)
print(os.getpid(), flush=True)
for line in sys.stdin:
    if line == "hold\\n":
        db._store.region.failpoint("logged", signal.SIGSTOP)
    if line == "die\\n":
        db._store.region.failpoint("logged", signal.SIGKILL)
    db.kv("k").incr("n")
    print("done", flush=True)
"""


def namespace(name):
    flags = ["-p", "-f", "--mount-proc"] if os.getuid() == 0 else ["-Urpf", "--mount-proc"]
    code = IN_A_NAMESPACE.format(root=str(ROOT), name=name)
    return subprocess.Popen(["unshare", "--kill-child", *flags, sys.executable, "-u", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def inner(process):
    """The pid, here, of the process at the bottom of an unshare."""
    pid = process.pid
    while True:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return pid
        pid = int(children[0])


@pytest.mark.parametrize("kind", ["shm", "sysv"])
def test_equal_pids_in_two_namespaces(kind):
    """Two containers on one /dev/shm: nobody is told by its pid. One is stopped in a commit, then another killed in one."""
    probe = subprocess.run(["unshare", "-p", "-f", "--mount-proc", "true"] if os.getuid() == 0 else ["unshare", "-Urpf", "--mount-proc", "true"],
                           capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no pid namespace can be made here: {probe.stderr.strip()}")
    name = f"{kind}:test-namespaces-{os.getpid()}"
    with memora.open(name, max_bytes="8MB", ring_bytes="256KB", timeout=60) as db:
        db.kv("k")
        both = [namespace(name) for _ in range(2)]
        try:
            pids = [process.stdout.readline() for process in both]
            assert pids[0] == pids[1] != "", [process.stderr.read() for process in both if process.poll() is not None]
            alive = [p for p in db.processes() if p["alive"]]
            assert sorted(p["pid"] for p in alive) == sorted([int(pids[0])] * 2 + [os.getpid()])

            def say(process, what):
                process.stdin.write(what + "\n")
                process.stdin.flush()

            for _ in range(50):                         # both commit
                for process in both:
                    say(process, "go")
            for process in both:
                assert [process.stdout.readline() for _ in range(50)] == ["done\n"] * 50
            assert db.kv("k")["n"] == 100

            # one is stopped while it holds the commit lock: the other waits, and takes nothing from the living
            say(both[0], "hold")
            stopped = inner(both[0])
            deadline = time.monotonic() + 60
            while Path(f"/proc/{stopped}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                assert time.monotonic() < deadline
                time.sleep(0.001)
            say(both[1], "go")
            time.sleep(0.5)
            with pytest.raises(errors.LockTimeout, match=f"held by process {int(pids[0])} "):
                with memora.open(name, timeout=0.2) as impatient:
                    impatient.kv("k")["x"] = 1
            assert db.kv("k")["n"] == 100               # readers do not wait
            os.kill(stopped, signal.SIGCONT)
            assert [process.stdout.readline() for process in both] == ["done\n"] * 2
            assert db.kv("k")["n"] == 102

            # one is killed while it holds it: the other, of the same pid, takes over
            victim = inner(both[0])
            say(both[0], "die")
            deadline = time.monotonic() + 60
            while os.path.exists(f"/proc/{victim}"):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            counters.count("kills")
            say(both[1], "go")
            assert both[1].stdout.readline() == "done\n"
            assert db.kv("k")["n"] == 103               # "logged" is before the seal: that commit never was
            assert sorted(p["pid"] for p in db.processes() if p["alive"]) == sorted([int(pids[0]), os.getpid()])
            assert db.check() == []
        finally:
            for process in both:
                process.kill()
                process.communicate()
            memora.remove(name)


# ---------------------------------------------------------------- a thousand deaths

def die_with_all_open(db, out):
    """What a worker has when it is killed: a slot, snapshots, a lease, an open transaction."""
    k = db.kv("k")
    held = [db.snapshot(), db.transaction(), k.scan(), db.queue("q").claim(0)]
    next(held[2])
    os.write(out, b"!")
    time.sleep(600)


def deaths(db, spawn, rounds, at_once):
    db.kv("k").put_many({n: n for n in range(100)})
    for _ in range(at_once):
        db.queue("q").put("job")
    slots = set()
    for _ in range(rounds):
        children = [spawn(lambda out: die_with_all_open(db, out)) for _ in range(at_once)]
        for child in children:
            assert child.out.read(1) == b"!"
        slots |= {p["slot"] for p in db.processes()}
        for child in children:
            child.kill()
            child.out.close()
        db.kv("k")["n"] = 1
    assert len(slots) <= at_once + 1, slots             # slots are used again: none leaks
    held = [db.snapshot() for _ in range(4096 - 64)]       # and no snapshot word
    for tx in held:
        tx.rollback()
    deadline = time.monotonic() + 60
    for n in range(at_once):
        assert db.queue("q").claim(60).attempts >= 2 and time.monotonic() < deadline
    with memora.open(db.name) as other:                 # who opens reaps
        assert [p["alive"] for p in other.processes()] == [True, True]
    assert db.check() == []


def test_deaths(shm, spawn):  # noqa: F811
    with memora.open(shm, max_bytes="32MB", ring_bytes="256KB") as db:
        deaths(db, spawn, 15, 4)


@pytest.mark.long
@pytest.mark.watchdog(900)
def test_a_thousand_deaths(shm, spawn):  # noqa: F811
    with memora.open(shm, max_bytes="32MB", ring_bytes="256KB") as db:
        deaths(db, spawn, 250, 4)
