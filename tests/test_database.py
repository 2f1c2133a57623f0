"""The database: opening, spaces, transactions over all faces, conflicts, forks, threads, closed handles."""
import os
import signal
import subprocess
import sys
import threading
import time

import counters
import pytest
from regions import ROOT, Child, db, shm  # noqa: F401

import memora
from memora import durations, errors


# ------------------------------------------------------------------------------------------------ words

@pytest.mark.parametrize("text, expected", [
    ("30s", 30), ("250ms", 0.25), ("1.5m", 90), ("2h", 7200), ("1d", 86400), (" 7 S ", 7), ("3", 3), (2, 2.0), (0.5, 0.5), (0, 0)])
def test_durations(text, expected):
    assert durations.seconds(text) == expected


@pytest.mark.parametrize("text, expected", [
    ("64MB", 64 << 20), ("64MiB", 64 << 20), ("4k", 4096), ("1.5KB", 1536), ("1 gb", 1 << 30), ("100B", 100), ("7", 7), (5, 5)])
def test_sizes(text, expected):
    assert durations.size(text) == expected


@pytest.mark.parametrize("wrong", ["", "s", "1 s s", "-1s", "1x", "1e3s", "nan", "٣s", float("nan"), float("inf"), -1])
def test_durations_that_are_none(wrong):
    with pytest.raises(ValueError):
        durations.seconds(wrong)


@pytest.mark.parametrize("wrong", ["", "MB", "0", "1PB", "-5", 0, -1])
def test_sizes_that_are_none(wrong):
    with pytest.raises(ValueError):
        durations.size(wrong)


@pytest.mark.parametrize("wrong", [None, True, b"1s", [1]])
def test_durations_and_sizes_of_a_wrong_type(wrong):
    with pytest.raises(TypeError):
        durations.seconds(wrong)
    with pytest.raises(TypeError):
        durations.size(wrong)


# ------------------------------------------------------------------------------------------------ opening

def test_import_is_cheap():
    """`import memora` and a key space load neither SQL nor asyncio."""
    code = ("import sys, memora; db = memora.open(':memory:'); db.kv('k')['a'] = 1; "
            "print(sorted(m for m in sys.modules if m in ('lark', 'asyncio', 'memora.sql', 'memora.dbapi', 'memora.aio', 'sqlite3')))")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (out.stdout, out.stderr) == ("[]\n", "")


def test_public_names():
    for name in memora.__all__:
        assert getattr(memora, name) is not None
    assert memora.aio.open and memora.dbapi.connect
    assert set(memora.__all__) <= set(dir(memora))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        memora.nothing  # noqa: B018


def test_open_shared_by_name(shm):
    with memora.open(shm) as one, memora.open(shm) as two:
        one.kv("k")["a"] = [1, "x"]
        assert two.kv("k")["a"] == [1, "x"]
        assert shm in memora.regions()
        assert repr(one) == f"<memora.Database {shm!r}>"
        assert len(one.processes()) == 2
    with memora.open(shm, create=False) as again:
        assert again.kv("k")["a"] == [1, "x"]


def test_remove(shm):
    memora.open(shm).close()
    memora.remove(shm)
    assert shm not in memora.regions()
    with pytest.raises(errors.RegionError, match="no region"):
        memora.remove(shm)
    with pytest.raises(errors.RegionError, match="no region"):
        memora.open(shm, create=False)


def test_refusals_at_open(tmp_path):
    with pytest.raises(errors.NotSupportedError, match="read_only="):
        memora.open(":memory:", read_only=True)
    with pytest.raises(errors.NotSupportedError, match="mode="):
        memora.open(":memory:", mode=0o660)
    for mode in (0o400, 0o700, 0o622, 0o602):
        with pytest.raises(errors.ProgrammingError, match="mode="):
            memora.open("shm:test-never", mode=mode)
    with pytest.raises(errors.ProgrammingError, match="no such group"):
        memora.open("shm:test-never", group="there is no such group")
    with pytest.raises(errors.ProgrammingError, match="no such user"):
        memora.open("shm:test-never", owner="there is no such user")
    assert "shm:test-never" not in memora.regions()
    with pytest.raises(errors.ProgrammingError, match="durability"):
        memora.open(":memory:", durability="full")
    with pytest.raises(TypeError, match="colour"):
        memora.open(":memory:", colour="red")
    with pytest.raises(errors.ProgrammingError, match="name"):
        memora.open("")
    with pytest.raises(errors.ProgrammingError, match="name of a region"):
        memora.open("shm:../x")
    with pytest.raises(ValueError, match="max_bytes"):
        memora.open(":memory:", max_bytes="lots")
    for name in (":memory:", "app.db"):
        with pytest.raises(errors.NotSupportedError, match="remove"):
            memora.remove(name)


def test_file(tmp_path):
    path = tmp_path / "app.db"
    with memora.open(path) as db:
        db.kv("k")["a"] = 1
        db.queue("q").put("job")
        db.topic("t").publish("hello")
        db.cache("c").set("x", 2, ttl="1h")
        assert not any(name.startswith("shm:db-") for name in memora.regions())
    with memora.open(path, durability="full") as db:
        assert db.kv("k")["a"] == 1
        assert db.cache("c").get("x") == 2
        assert db.topic("t").subscribe(0).get(0).value == "hello"
        assert db.queue("q").claim(0).value == "job"
        assert db.check() == []


def test_lease_ends_with_the_incarnation_of_a_file(tmp_path):
    """Slots are numbered anew when a region is built from its files: a lease of the old one must not look alive."""
    path = str(tmp_path / "app.db")
    code = "db = memora.open(name)\ndb.queue('q').put('job')\nassert db.queue('q').claim(0)\ndb.close()\n"
    with Child(code, path) as child:
        assert child.wait()[0] == 0
    with memora.open(path) as db:
        job = db.queue("q").claim(0)
        assert (job.value, job.attempts) == ("job", 2)


def test_not_yet(db):
    for call in (lambda: db.signal("s"), lambda: db.serve("s", len), lambda: db.call("s"), lambda: db.memoize(len), lambda: db.backup("x")):
        with pytest.raises(errors.NotSupportedError, match="later"):
            call()


# ------------------------------------------------------------------------------------------------ spaces

def test_one_name_is_one_thing(db):
    db.kv("a")
    for other in (db.cache, db.topic, db.queue):
        with pytest.raises(errors.ProgrammingError, match="'A' is a kv, not a"):
            other("A")
    with db.transaction() as tx, pytest.raises(errors.ProgrammingError, match="is a kv, not a queue"):
        tx.queue("a")


def test_options_are_those_of_the_first(db):
    db.cache("c", ttl="30s", max_bytes="1MB")
    assert (db.cache("c").ttl, db.cache("C", ttl=30, max_bytes=1 << 20).max_bytes) == (30, 1 << 20)
    with pytest.raises(errors.ProgrammingError, match="ttl=30.0, not ttl=5.0"):
        db.cache("c", ttl=5)
    with pytest.raises(errors.ProgrammingError, match="max_bytes=1048576, not max_bytes=2097152"):
        db.cache("c", max_bytes="2MB")
    with pytest.raises(errors.NotSupportedError, match="sieve"):
        db.cache("d", evict="sieve")
    db.topic("t", retain="64KB")
    with pytest.raises(errors.ProgrammingError, match="retain=65536, not retain=1024"):
        db.topic("t", retain=1024)
    db.kv("p", pickle=True)["x"] = {1, 2}
    with pytest.raises(errors.ProgrammingError, match="pickle=True, not pickle=False"):
        db.kv("p")
    assert db.kv("p", pickle=True)["x"] == {1, 2}


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 201])
def test_names_that_are_none(db, name):
    for make in (db.kv, db.cache, db.topic, db.queue):
        with pytest.raises(errors.ProgrammingError, match="cannot be a name"):
            make(name)


# ------------------------------------------------------------------------------------------------ transactions

def touch_all(tx, n):
    tx.kv("k")["n"] = n
    tx.cache("c").set("n", n)
    tx.topic("t").publish(n)
    tx.queue("q").put(n)


def look_at_all(db):
    subscription = db.topic("t").subscribe(0)
    messages = []
    while (message := subscription.get(0)) is not None:
        messages.append(message.value)
    jobs = []
    while (job := db.queue("q").claim(0)) is not None:
        jobs.append(job.value)
    return db.kv("k").get("n"), db.cache("c").get("n"), messages, jobs


def test_one_commit_for_everything(db):
    changes = db.changes()
    with db.transaction() as tx:
        touch_all(tx, 1)
        assert db.commit_number == tx.snapshot
        assert tx.kv("k")["n"] == 1 and tx.queue("q").stats()["ready"] == 1
    assert tx.commit_number == tx.snapshot + 1 == db.commit_number
    commit = changes.get(0)
    assert commit.number == tx.commit_number
    assert sorted(change.space for change in commit.changes) == ["c", "k", "q", "t"]
    assert changes.get(0) is None
    assert look_at_all(db) == (1, 1, [1], [1])


def test_nothing_of_a_block_that_raises(db):
    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        touch_all(tx, 1)
        1 / 0  # noqa: B018
    assert tx.closed and tx.commit_number is None
    assert look_at_all(db) == (None, None, [], [])


def test_explicit_ends(db):
    tx = db.transaction()
    touch_all(tx, 1)
    assert tx.commit() == tx.commit_number == db.commit_number
    for act in (tx.commit, tx.rollback, lambda: tx.kv("k"), tx.__enter__):
        with pytest.raises(errors.ProgrammingError, match=f"committed, as number {tx.commit_number}"):
            act()
    with db.transaction() as tx:
        tx.kv("k")["n"] = 2
        tx.rollback()
        tx.rollback()
        with pytest.raises(errors.ProgrammingError, match="closed"):
            tx.kv("k")
    assert db.kv("k")["n"] == 1
    with db.transaction() as tx:
        tx.kv("k")["n"] = 3
        tx.commit()
    assert db.kv("k")["n"] == 3


def test_savepoints(db):
    with db.transaction() as tx:
        k = tx.kv("k")
        k["a"] = 1
        with pytest.raises(ZeroDivisionError), tx.savepoint():
            k["a"] = 2
            touch_all(tx, 7)
            with tx.savepoint():
                k["b"] = 3
            1 / 0  # noqa: B018
        assert dict(k.scan()) == {"a": 1}
        with tx.savepoint():
            k["c"] = 4
    assert dict(db.kv("k").scan()) == {"a": 1, "c": 4}
    assert look_at_all(db)[2:] == ([], [])


def test_snapshot_stands_still(db):
    k = db.kv("k")
    k["a"] = 1
    with db.snapshot() as tx:
        k["a"] = 2
        assert tx.kv("k")["a"] == 1
        with pytest.raises(errors.OperationalError, match="read-only"):
            tx.kv("k")["a"] = 3
        with pytest.raises(errors.ProgrammingError, match="there is no key space 'new'"):
            tx.kv("new")
    assert k["a"] == 2


def test_snapshot_then_follow_without_a_gap(db):
    k = db.kv("k")
    k["a"] = 1
    with db.snapshot() as tx:
        state = dict(tx.kv("k").scan())
        k["a"] = 2
        k["b"] = 3
        changes = db.changes("k", since=tx.snapshot)
    while (commit := changes.get(0)) is not None:
        for change in commit.changes:
            state[change.key] = change.new
    assert state == {"a": 2, "b": 3}


def test_conflict_and_run(db):
    k = db.kv("k")
    k["n"] = 0
    with pytest.raises(errors.SerializationError), db.transaction() as tx:
        n = tx.kv("k")["n"]
        k["n"] = 10
        tx.kv("k")["n"] = n + 1
    assert k["n"] == 10 and tx.closed
    tries = []

    def work(tx):
        n = tx.kv("k")["n"]
        tries.append(n)
        if len(tries) < 3:
            k["n"] = n + 10
        tx.kv("k")["n"] = n + 1
        return "done"
    assert db.run(work) == "done"
    assert tries == [10, 20, 30] and k["n"] == 31
    with pytest.raises(errors.SerializationError):
        db.run(lambda tx: (tx.kv("k")["n"], k.put("n", k["n"] + 1), tx.kv("k").put("n", 1)), tries=2)
    with pytest.raises(ValueError):
        db.run(work, tries=0)


def test_write_skew_is_refused_and_snapshot_isolation_allows_it(db):
    k = db.kv("k")
    for isolation, outcome in (("serializable", errors.SerializationError), ("snapshot", None)):
        k["a"], k["b"] = 1, 1
        one, two = db.transaction(isolation), db.transaction(isolation)
        assert one.kv("k")["a"] + one.kv("k")["b"] == two.kv("k")["a"] + two.kv("k")["b"] == 2
        one.kv("k")["a"] = 0
        two.kv("k")["b"] = 0
        one.commit()
        if outcome:
            with pytest.raises(outcome):
                two.commit()
        else:
            two.commit()
            assert (k["a"], k["b"]) == (0, 0)
    with pytest.raises(ValueError, match="isolation"):
        db.transaction("chaos")


def test_sql_in_a_transaction(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
    db.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    with db.transaction() as tx:
        rows = tx.execute("SELECT id, x FROM t ORDER BY id")
        assert rows.columns == ("id", "x") and rows.fetchone() == (1, "a")
        for number, x in rows:                          # writes between the rows of a result
            tx.kv("k")[number] = x
            tx.execute("DELETE FROM t WHERE id = ?", (number,))
        assert tx.execute("SELECT count(*) FROM t").fetchall() == [(1,)]
        result = tx.execute("INSERT INTO t (x) VALUES (?)", ("d",))
        assert (result.rowcount, result.lastrowid, result.columns, result.fetchmany(5)) == (1, 2, (), [])
        for wrong in ("BEGIN", "COMMIT", "ROLLBACK"):
            with pytest.raises(errors.DatabaseError):
                tx.execute(wrong)
    assert db.execute("SELECT * FROM t").fetchall() == [(1, "a"), (2, "d")]
    assert dict(db.kv("k").scan()) == {2: "b", 3: "c"}
    with pytest.raises(errors.ProgrammingError, match="committed"):
        tx.execute("SELECT 1")
    with db.snapshot() as tx:
        assert tx.execute("SELECT id FROM t").fetchmany(1) == [(1,)]
        with pytest.raises(errors.OperationalError, match="read-only"):
            tx.execute("DELETE FROM t")


def test_schema_changes_that_are_rolled_back(db):
    """What SQL knows of the catalog follows savepoints, rollbacks and spaces that are made beside it, also in the next transaction."""
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), db.transaction() as tx:
            with pytest.raises(ZeroDivisionError), tx.savepoint():
                tx.execute("CREATE TABLE t (a)")
                tx.execute("INSERT INTO t VALUES (1)")
                1 / 0  # noqa: B018
            with pytest.raises(errors.OperationalError, match="no such table"):
                tx.execute("SELECT * FROM t")
            tx.execute("CREATE TABLE t (b)")
            tx.kv("k")["a"] = 1
            assert tx.execute("SELECT key, (SELECT count(b) FROM t) FROM k").fetchall() == [("a", 0)]
            1 / 0  # noqa: B018
    with pytest.raises(errors.OperationalError, match="no such table"):
        db.execute("SELECT * FROM t")
    assert db.check() == []


def test_execute_commits(db):
    db.execute("CREATE TABLE t (a)")
    assert db.execute("INSERT INTO t VALUES (1)").rowcount == 1
    with pytest.raises(errors.ProgrammingError, match="use db.transaction"):
        db.execute("BEGIN")
    assert db.execute("SELECT a FROM t").fetchall() == [(1,)]
    with db.connect() as connection:
        connection.execute("INSERT INTO t VALUES (2)")
    connection.close()
    assert memora.connect(db).execute("SELECT sum(a) FROM t").fetchall() == [(3,)]
    rows = db.execute("SELECT a FROM t")
    rows.close()
    assert list(rows) == [] and repr(rows) == "<memora.Rows a>"


def test_space_made_in_a_transaction_is_gone_with_it(db):
    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        tx.topic("x").publish(1)
        1 / 0  # noqa: B018
    db.kv("x")["a"] = 1
    with db.transaction() as tx:
        assert tx.kv("x")["a"] == 1


def test_message_larger_than_its_topic_is_refused(db):
    with pytest.raises(errors.DataError):
        db.topic("t", retain=4096).publish("x" * 5000)
    with pytest.raises(errors.DataError), db.transaction() as tx:
        tx.kv("k")["a"] = 1
        tx.topic("new", retain=4096).publish("x" * 5000)
    assert "a" not in db.kv("k")


WORKER = """
db = memora.open(name)
for n in range(int(sys.stdin.readline()), 10**9):
    with db.transaction() as tx:
        tx.kv("k")["n"] = n
        tx.cache("c").set("n", n)
        tx.topic("t").publish(n)
        tx.queue("q").put(n)
    say(n)
"""


def test_whole_or_absent_after_sigkill(db, shm):
    """A worker is killed again and again while it commits; what its four faces show always agrees, and nothing acknowledged is lost."""
    db.kv("k"), db.cache("c"), db.topic("t"), db.queue("q")
    done = []
    following = 0
    subscription = db.topic("t").subscribe()
    for _ in range(6):
        with Child(WORKER, shm) as child:
            child.tell(str(following))
            for _ in range(20):
                acknowledged = int(child.line())
            child.kill()
            rest = child.process.stdout.read().split()
            if rest:
                acknowledged = int(rest[-1])
        counters.count("kills")
        assert db.check() == []         # takes the lock over: a commit that was sealed by the dead child counts from here on
        with db.snapshot() as tx:
            k = tx.kv("k")["n"]
            jobs = tx.queue("q").stats()["ready"]
            assert tx.cache("c").get("n") == k
        done = []
        while (message := subscription.get(0)) is not None:
            done.append(message.value)
        assert done == list(range(following, k + 1))
        assert jobs == k + 1
        assert k in (acknowledged, acknowledged + 1)
        following = k + 1


# ------------------------------------------------------------------------------------------------ processes, threads, handles

def test_many_processes_count(db, shm):
    code = """
    db = memora.open(name)
    def step(tx):
        k = tx.kv("k")
        k["n"] = k.get("n", 0) + 1
    for _ in range(50):
        db.run(step)
        db.kv("k").incr("m")
    """
    children = [Child(code, shm) for _ in range(3)]
    for child in children:
        with child:
            assert child.wait()[0] == 0
    assert (db.kv("k")["n"], db.kv("k")["m"]) == (150, 150)


def test_threads_share_a_database(db):
    k, q = db.kv("k"), db.queue("q")

    def work():
        for _ in range(50):
            db.run(lambda tx: tx.kv("k").incr("n"))
            k.incr("m")
            q.put(1)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (k["n"], k["m"], len(q)) == (200, 200, 200)


def test_fork_with_open_handles(db):
    k, cache, topic, queue = db.kv("k"), db.cache("c"), db.topic("t"), db.queue("q")
    k["a"] = 1
    queue.put("before")
    tx = db.transaction()
    tx.kv("k")["a"] = 2
    subscription, changes = topic.subscribe(), db.changes("k")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert k["a"] == 1
            k["b"] = 2
            cache.set("x", 3)
            topic.publish("from the child")
            assert queue.claim(0).value == "before"     # leased by the child, which now ends
            try:
                tx.kv("k").get("a")
            except errors.ProgrammingError as error:
                assert "fork" in str(error)
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (k["b"], cache.get("x"), subscription.get(1).value) == (2, 3, "from the child")
    assert changes.get(1).changes[0][:4] == ("k", "insert", "b", 2)
    assert queue.claim(5).attempts == 2
    tx.rollback()


def test_closed_handles(db):
    k, cache, topic, queue = db.kv("k"), db.cache("c"), db.topic("t"), db.queue("q")
    subscription, changes, tx = topic.subscribe(), db.changes(), db.transaction()
    inner = tx.kv("k")
    db.close()
    db.close()
    assert db.closed and repr(db).endswith("closed>")
    for use in (lambda: k["a"], lambda: k.put("a", 1), lambda: cache.get("a"), lambda: cache.set("a", 1),
                lambda: topic.publish(1), topic.subscribe, lambda: queue.claim(0), lambda: subscription.get(0), lambda: changes.get(0), lambda: inner.get("a"), tx.commit, lambda: tx.kv("k"),
                lambda: db.kv("k"), lambda: db.cache("c"), lambda: db.topic("t"), lambda: db.queue("q"), db.changes, db.transaction,
                db.snapshot, lambda: db.run(lambda tx: 0), db.stats, db.processes, db.check, lambda: db.commit_number, db.__enter__):
        with pytest.raises(errors.ProgrammingError, match="closed"):
            use()
    tx.rollback()
    subscription.close()
    changes.close()


def test_closed_handles_that_begin_transactions(db):
    k, cache, queue = db.kv("k"), db.cache("c"), db.queue("q")
    queue.put(1)
    job = queue.claim(0)
    db.close()
    for use in (lambda: list(k.scan()), lambda: len(k), lambda: k.get_many(["a"]), cache.stats, lambda: cache.incr("n"), lambda: queue.put(1),
                queue.stats, job.ack):
        with pytest.raises(errors.ProgrammingError, match="closed"):
            use()


def test_exit_with_open_handles_is_silent(shm):
    code = """
    import threading
    db = memora.open(name)
    tx = db.transaction()
    tx.kv("k")["a"] = 1
    sub = db.topic("t").subscribe(); q = db.queue("q"); ch = db.changes()
    q.put(1); job = q.claim(0); scan = db.kv("j").scan()
    threading.Thread(target=sub.get, daemon=True).start()
    """
    source = "import memora, sys\nname = sys.argv[1]\n" + "\n".join(line.strip() for line in code.splitlines())
    out = subprocess.run([sys.executable, "-X", "dev", "-c", source, shm], capture_output=True, text=True, timeout=60,
                         env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (out.returncode, out.stdout, out.stderr) == (0, "", "")


WAITS = {
    "subscription": "sub.get()",
    "subscription-iterator": "next(sub)",
    "changes": "changes.get()",
    "claim": "queue.claim()",
    "claim-beside-a-lease": "(held := other.claim(0), other.claim())",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_in_each_wait(db, shm, wait):
    """KeyboardInterrupt comes out, and the same handles go on."""
    code = f"""
    db = memora.open(name)
    topic, queue, other, k = db.topic("t"), db.queue("q"), db.queue("o"), db.kv("k")
    other.put(0)
    sub, changes = topic.subscribe(), db.changes("k")
    try:
        say("ready")
        {WAITS[wait]}
    except KeyboardInterrupt:
        say("interrupted")
    db.kv("k")["a"] = 1
    topic.publish("m")
    queue.put("j")
    other.put("o")
    say(sub.get(5).value, changes.get(5).changes[0].key, queue.claim(5).value, other.claim(5).value is not None)
    """
    with Child(code, shm) as child:
        assert child.line() == "ready"
        child.interrupt()
        assert child.line() == "interrupted"
        assert child.line() == "m a j True"
        assert child.wait()[0] == 0


def test_waiting_costs_no_cpu(shm):
    """Each in a region of its own: what the others do at the start would be news."""
    codes = [f"""
    db = memora.open(":memory:")
    sub, changes, queue, held = db.topic("t").subscribe(), db.changes(), db.queue("q"), db.queue("h")
    held.put(1); job = held.claim(0)
    while changes.get(0): pass
    before = time.process_time(), time.monotonic()
    assert {wait} is None
    say(time.process_time() - before[0], time.monotonic() - before[1])
    """ for wait in ("changes.get(1)", "sub.get(1)", "queue.claim(1)", "held.claim(1)")]
    children = [Child(code, shm) for code in codes]
    for code, child in zip(codes, children):
        with child:
            cpu, waited = map(float, child.line().split())
        assert waited >= 0.95, code
        assert cpu < 0.01 * waited, code


def test_closing_ends_a_wait_of_another_thread(db):
    for make in (lambda: db.topic("t").subscribe(), lambda: db.changes("k")):
        db.kv("k")
        reader = make()
        seen = []

        def wait(reader=reader, seen=seen):
            try:
                reader.get()
            except errors.ProgrammingError as error:
                seen.append(str(error))
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        reader.close()
        thread.join(30)
        assert seen and "closed" in seen[0]


def test_stopped_client_between_begin_and_commit_delays_nobody(db, shm):
    code = """
    db = memora.open(name)
    with db.transaction() as tx:
        tx.kv("k")["a"] = "stopped"
        say("begun")
        sys.stdin.readline()
    """
    db.kv("k")
    with Child(code, shm) as child:
        child.line()
        child.process.send_signal(signal.SIGSTOP)
        for n in range(100):
            db.kv("k")["b"] = n
            db.queue("q").put(n)
        assert db.queue("q").claim(0).value == 0
        child.process.send_signal(signal.SIGCONT)
        child.tell()
        child.wait()
    assert db.kv("k")["b"] == 99


@pytest.mark.parametrize("query", [
    "SELECT count(*) FROM t x, t y, t z WHERE x.b || y.b || z.b = '-'",
    "SELECT count(*) FROM t x JOIN t y ON x.b = y.b JOIN t z ON z.b = y.b JOIN t w ON w.b = z.b WHERE w.b || x.b = '-'",
    "SELECT count(*) FROM k x, k y, k z WHERE x.value + y.value + z.value = -1",
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c, t",
])
def test_closing_ends_a_query_of_another_thread(shm, query):
    """Statements let other threads in: one that closes the database takes the region away, and the query says so."""
    db = memora.open(shm)
    db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    with db.transaction() as tx:
        for n in range(500):
            tx.execute("INSERT INTO t VALUES (?, ?)", (n, f"x{n % 3}"))
    db.execute("CREATE INDEX by_b ON t (b)")
    db.kv("k").put_many([(n, n) for n in range(500)])
    ended = []

    def run():
        try:
            ended.append(db.execute(query).fetchone())
        except errors.Error as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.1)
    assert ended == []
    db.close()
    thread.join(60)
    assert isinstance(ended[0], errors.ProgrammingError) and "closed" in str(ended[0])
