"""The commit lock's holder has a name; the ticket keeps others out, and is lost when it must be; nobody starves."""
import os
import re
import signal
import struct
import threading
import time

import pytest
from regions import db, shm  # noqa: F401

import memora
from memora import errors
from memora.engine.store import Store


def trees(store, n=1):
    txn = store.begin()
    made = [txn.create_tree() for _ in range(n)]
    txn.commit()
    return made


def put(store, tree, key, value, timeout_s=None):
    txn = store.begin(timeout_s=timeout_s)
    txn.put(tree, key, value)
    return txn.commit()


# ---------------------------------------------------------------------------------------------- who holds it

def stopped_in(name, point, what, out):
    store = Store.open(name, create=False)
    store.region.failpoint(point, signal.SIGSTOP)
    txn = store.begin()
    txn.say(what)
    txn.put(16, b"a", b"1")
    txn.put(16, b"b", b"2")
    txn.commit()
    store.close()


def test_lock_timeout_names_pid_age_statement_and_operation(store, spawn):
    trees(store)
    holder = spawn(stopped_in, "shm:" + store.region.name, "logged", b"UPDATE everything SET x = 1")
    holder.wait_stopped()
    with pytest.raises(errors.LockTimeout, match="not free within 0.2 s") as first:
        put(store, 16, b"c", b"3", timeout_s=0.2)
    with pytest.raises(errors.LockTimeout) as second:
        put(store, 16, b"c", b"3", timeout_s=0.3)
    ages = []
    for caught in (first, second):
        found = re.search(rf"held by process {holder.pid} \(slot \d+\) for (\S+) s in 'UPDATE everything SET x = 1' "
                          r"\(a transaction of 2 changes in tree 16\)", str(caught.value))
        assert found, caught.value
        ages.append(float(found[1]))
    assert ages[0] > 0 and ages[1] >= ages[0] + 0.29        # since the first waiter slept through a whole wait
    lock, = store.locks()
    assert lock["lock"] == "commit" and lock["pid"] == holder.pid and lock["alive"] and lock["age"] >= ages[1] - 0.005
    assert lock["what"] == "UPDATE everything SET x = 1 (a transaction of 2 changes in tree 16)"
    assert [p["what"] for p in store.processes() if p["pid"] == holder.pid] == ["UPDATE everything SET x = 1"]
    assert holder.wait_going_on() == 0
    assert store.locks() == []


def stopped_in_single_writes(name, space, out):
    db = memora.open(name, create=False)
    db._store.region.failpoint("logged", signal.SIGSTOP)
    if space:
        db.kv(space)["n"] = 1
    else:
        db._store.put(16, b"a", b"1")
    db.close()


def test_a_lock_timeout_names_the_space_that_is_written(shm, spawn):
    with memora.open(shm, timeout=0.2) as db:
        db.kv("first")
        db.kv("sessions")["n"] = 0
        holder = spawn(stopped_in_single_writes, shm, "sessions")
        holder.wait_stopped()
        with pytest.raises(errors.LockTimeout, match=r"\(a put in kv 'sessions'\)"):
            db.kv("first")["n"] = 1
        assert [lock["what"] for lock in db.locks()] == ["(a put in kv 'sessions')"]
        assert holder.wait_going_on() == 0


def stopped_in_a_transaction(name, spaces, out):
    db = memora.open(name, create=False)
    db._store.region.failpoint("logged", signal.SIGSTOP)
    with db.transaction() as tx:
        for space in spaces:
            tx.kv(space)["n"] = 1
        tx.execute("INSERT INTO visits VALUES (1, 'monday')")
        tx.topic("news").publish("said")
    db.close()


@pytest.mark.parametrize("spaces, told", [
    (["a"], "a transaction of 4 changes in kv 'a', table 'visits', index 'by_day' of 'visits', topic 'news', ..."),
    ([], "a transaction of 3 changes in table 'visits', index 'by_day' of 'visits', topic 'news'"),
    (["a", "b", "c", "d"], "a transaction of 7 changes in kv 'a', kv 'b', kv 'c', kv 'd', ...")])
def test_a_lock_timeout_names_what_a_transaction_writes(shm, spawn, spaces, told):
    with memora.open(shm, timeout=0.1) as db:
        for space in ("a", "b", "c", "d"):
            db.kv(space)["n"] = 0
        db.execute("CREATE TABLE visits (id INTEGER PRIMARY KEY, day TEXT)")
        db.execute("CREATE INDEX by_day ON visits (day)")
        db.topic("news")
        holder = spawn(stopped_in_a_transaction, shm, spaces)
        holder.wait_stopped()
        with pytest.raises(errors.LockTimeout) as caught:
            db.kv("a")["n"] = 1
        assert f"({told})" in str(caught.value) and f"process {holder.pid}" in str(caught.value)
        assert [lock["what"].endswith(f"({told})") for lock in db.locks()] == [True]
        assert holder.wait_going_on() == 0


def test_the_age_of_a_lock_is_not_that_of_its_owner_before(store, spawn):
    trees(store)
    for _ in range(2):
        holder = spawn(stopped_in, "shm:" + store.region.name, "sealed", b"")
        holder.wait_stopped()
        before = time.monotonic()
        with pytest.raises(errors.LockTimeout) as caught:
            put(store, 16, b"c", b"3", timeout_s=0.3)
        assert 0 < float(re.search(r"for (\S+) s", str(caught.value))[1]) <= time.monotonic() - before + 0.005
        assert "UPDATE" not in str(caught.value)
        assert holder.wait_going_on() == 0


def test_what_a_process_does_is_said_while_it_does_it(db):
    db.execute("CREATE TABLE t (a)")
    me = [p for p in db.processes() if p["pid"] == os.getpid()]
    assert me[0]["what"] == ""
    with db.transaction() as tx:
        tx.execute("INSERT INTO t VALUES (17)")
        assert db.execute("SELECT what FROM memora_processes WHERE pid = ?", (os.getpid(),)).fetchone()[0].startswith("SELECT what")
    rows = db.execute("SELECT a, ? FROM t", ("x" * 300,))
    assert db.processes()[0]["what"] == "SELECT a, ? FROM t"
    rows.close()
    db.execute("INSERT INTO t VALUES ('" + "ü" * 300 + "')")
    assert db.processes()[0]["what"] == ""


# ---------------------------------------------------------------------------------------------- the ticket

def test_others_wait_for_the_ticket_and_then_go_on(store, stores):
    tree, = trees(store)
    other = stores.again(store)
    txn = store.begin(immediate=True, timeout_s=30)
    assert txn.ticket_held
    done = []
    thread = threading.Thread(target=lambda: done.append(put(other, tree, b"k", b"other")))
    thread.start()
    time.sleep(0.1)
    assert done == []
    ticket, = [lock for lock in store.locks() if lock["lock"] == "ticket"]
    assert ticket["pid"] == os.getpid() and ticket["alive"] and ticket["age"] >= 0.1 and 14 < ticket["remaining"] < 15 and ticket["waiters"]
    assert txn.get(tree, b"k") is None
    txn.put(tree, b"k", b"mine")
    number = txn.commit()
    thread.join()
    assert done == [number + 1]
    assert store.locks() == []
    other.close()


@pytest.mark.parametrize("end", ["rollback", "del", "commit without writes", "release by close"])
def test_the_ticket_is_given_back(store, stores, end):
    tree, = trees(store)
    other = stores.again(store)
    txn = other.begin(immediate=True, timeout_s=60)
    if end == "rollback":
        txn.rollback()
    elif end == "commit without writes":
        txn.commit()
    elif end == "release by close":
        other.close()
    del txn
    put(store, tree, b"k", b"v", timeout_s=0)
    other.close()


def test_readers_and_empty_commits_do_not_wait(store, stores):
    tree, = trees(store)
    put(store, tree, b"k", b"v")
    other = stores.again(store)
    with_ticket = store.begin(immediate=True, timeout_s=60)
    txn = other.begin(timeout_s=0)
    assert txn.get(tree, b"k") == b"v"
    txn.commit()
    with_ticket.rollback()
    other.close()


def test_a_thread_does_not_wait_for_its_own_ticket(store):
    tree, = trees(store)
    txn = store.begin(immediate=True, timeout_s=60)
    before = time.monotonic()
    with pytest.raises(errors.LockTimeout, match=f"held by this very thread.*process {os.getpid()}"):
        put(store, tree, b"k", b"v")
    with pytest.raises(errors.LockTimeout, match="this very thread"):
        store.begin(immediate=True)
    txn.rollback()
    assert put(store, tree, b"k", b"v")


def hold_ticket(name, timeout_s, out):
    store = Store.open(name, create=False)
    txn = store.begin(immediate=True, timeout_s=timeout_s)
    txn.say(b"holding on")
    value = txn.get(16, b"k")
    os.write(out, b"held")
    os.kill(os.getpid(), signal.SIGSTOP)
    txn.put(16, b"k", b"mine")
    try:
        txn.commit()
        os.write(out, b"committed")
    except errors.SerializationError as e:
        os.write(out, str(e).encode())
    assert value is None
    store.close()


def test_a_dead_holder_keeps_nobody_out(store, spawn):
    tree, = trees(store)
    holder = spawn(hold_ticket, "shm:" + store.region.name, 1000.0)
    holder.wait_stopped()
    with pytest.raises(errors.LockTimeout, match=rf"the ticket of .* was not free within 0.1 s; held by process {holder.pid} .* in 'holding on'"):
        put(store, tree, b"k", b"v", timeout_s=0.1)
    holder.kill()
    assert put(store, tree, b"k", b"v", timeout_s=100)
    assert store.locks() == []


def test_a_stopped_holder_loses_the_ticket_at_its_deadline_and_is_told(store, spawn):
    tree, = trees(store)
    holder = spawn(hold_ticket, "shm:" + store.region.name, 1.0)
    holder.wait_stopped()
    ticket, = store.locks()
    assert ticket["lock"] == "ticket" and ticket["what"] == "holding on"
    before = time.monotonic()
    put(store, tree, b"k", b"v", timeout_s=60)
    assert time.monotonic() - before >= ticket["remaining"] - 0.05
    assert holder.wait_going_on() == 0
    assert re.search(r"another commit changed.*ticket was lost: 0.5 s", holder.out.read().decode())


def test_past_the_deadline_without_waiters_the_ticket_stands(store):
    tree, = trees(store)
    txn = store.begin(immediate=True, timeout_s=0.1)
    time.sleep(0.2)
    assert txn.ticket_held
    txn.put(tree, b"k", b"v")
    assert txn.commit()


def test_a_lost_ticket_is_no_harm_without_a_conflict(store, stores):
    tree, = trees(store)
    put(store, tree, b"a", b"0")
    second, = trees(store)
    other = stores.again(store)
    txn = store.begin(immediate=True, timeout_s=0.1)
    assert txn.get(tree, b"a") == b"0"
    txn.put(tree, b"a", b"1")
    thread = threading.Thread(target=put, args=(other, second, b"b", b"2"))
    thread.start()
    thread.join()
    assert not txn.ticket_held
    txn.commit()
    other.close()


def test_immediate_and_exclusive_in_sql(db, shm):
    db.execute("CREATE TABLE t (n INTEGER)")
    db.execute("INSERT INTO t VALUES (0)")
    for mode in ("IMMEDIATE", "EXCLUSIVE", "immediate"):
        connection = db.connect(isolation_level=None)
        connection.execute(f"BEGIN {mode}")
        assert db.execute("SELECT lock, pid, what FROM memora_locks WHERE lock = 'ticket'").fetchall()[0][:2] == ("ticket", os.getpid())
        with pytest.raises(memora.OperationalError, match="this very thread"):
            db.execute("UPDATE t SET n = n + 1")
        connection.execute("UPDATE t SET n = n + 1")
        connection.execute("COMMIT")
        assert db.locks() == []
        connection.close()
    connection = db.connect(isolation_level="IMMEDIATE")
    connection.execute("UPDATE t SET n = n + 1")
    assert [lock["lock"] for lock in db.locks()] == ["ticket"]
    connection.rollback()
    assert db.execute("SELECT n FROM t").fetchone() == (3,)
    with db.transaction(immediate=True) as tx:
        assert tx.ticket_held
        tx.execute("UPDATE t SET n = 10")
    assert not tx.ticket_held
    with pytest.raises(ValueError, match="exclude each other"):
        db.transaction(immediate=True, read_only=True)


def test_a_ticket_does_not_pass_to_a_child(db):
    tx = db.transaction(immediate=True)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            tx.rollback()               # the parent's: nothing happens
            code = 0 if [lock["lock"] for lock in db.locks()] == ["ticket"] else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert tx.ticket_held
    tx.rollback()


# ---------------------------------------------------------------------------------------------- nobody starves

def hammer(name, seconds, out):
    """Change four keys all the time, until the time is over or somebody says stop."""
    with memora.open(name, create=False) as db:
        end, n = time.monotonic() + seconds, 0
        kv = db.kv("k")
        while time.monotonic() < end and "stop" not in kv:
            kv[n % 4] = n
            n += 1
        os.write(out, struct.pack("<Q", n))


def long_work(name, out):
    """A transaction that reads what all others change, and takes its time: it can never win by luck."""
    tries = 0
    with memora.open(name, create=False) as db:
        def work(tx):
            nonlocal tries
            tries += 1
            kv = tx.kv("k")
            total = sum(kv.get(i, 0) for i in range(4))
            time.sleep(0.05)
            kv["total"] = total
            return total
        for _ in range(3):
            db.run(work, tries=10)
    os.write(out, struct.pack("<Q", tries))


def test_a_long_transaction_finishes_against_a_crowd(db, shm, spawn):
    db.kv("k")[0] = 0
    crowd = [spawn(hammer, shm, 60.0) for _ in range(3)]
    time.sleep(0.3)
    slow = spawn(long_work, shm)
    assert slow.wait() == 0
    tries, = struct.unpack("<Q", slow.out.read())
    assert 3 <= tries <= 12             # three runs, each at the latest by its fourth try
    db.kv("k")["stop"] = 1
    for child in crowd:
        assert child.wait() == 0
        assert struct.unpack("<Q", child.out.read())[0] > 100


def add_one(name, how, seconds, out):
    with memora.open(name, create=False) as db:
        connection = db.connect(isolation_level=None)
        end, n, longest = time.monotonic() + seconds, 0, 0.0
        while time.monotonic() < end:
            begun = time.monotonic()
            if how == "immediate":
                connection.execute("BEGIN IMMEDIATE")
                (value,), = connection.execute("SELECT n FROM t").fetchall()
                connection.execute("UPDATE t SET n = ?", (value + 1,))
                connection.execute("COMMIT")
            elif how == "autocommit":
                db.execute("UPDATE t SET n = n + 1")
            else:
                db.run(lambda tx: tx.execute("UPDATE t SET n = n + 1"))
            longest = max(longest, time.monotonic() - begun)
            n += 1
        os.write(out, struct.pack("<Qd", n, longest))


@pytest.mark.parametrize("crowd", [["immediate"] * 4, ["immediate", "immediate", "autocommit", "run"], ["autocommit"] * 4])
def test_every_process_makes_progress(db, shm, spawn, crowd):
    db.execute("CREATE TABLE t (n INTEGER)")
    db.execute("INSERT INTO t VALUES (0)")
    children = [spawn(add_one, shm, how, 1.2) for how in crowd]
    done = []
    for child in children:
        assert child.wait() == 0
        done.append(struct.unpack("<Qd", child.out.read()))
    counts = [n for n, longest in done]
    assert db.execute("SELECT n FROM t").fetchone() == (sum(counts),)       # and no increment was lost
    assert min(counts) >= 10, done


def add_with_the_ticket(name, out):
    """One more each time, acknowledged by a byte."""
    with memora.open(name, create=False) as db:
        while True:
            with db.transaction(immediate=True) as tx:
                kv = tx.kv("k")
                kv["n"] = kv["n"] + 1
            os.write(out, b".")


def test_the_ticket_survives_holders_and_waiters_that_are_killed(db, shm, spawn):
    """Killed with the ticket, in a nap, asleep for it, or woken for it: nothing that was acknowledged is lost, and nobody waits for the dead."""
    db.kv("k")["n"] = 0
    children = [spawn(add_with_the_ticket, shm) for _ in range(4)]
    told = 0
    for n in range(24):
        time.sleep(0.01)
        children[n % 4].kill()
        told += len(children[n % 4].out.read())
        children[n % 4] = spawn(add_with_the_ticket, shm)
    for child in children:
        before = db.kv("k")["n"]
        while db.kv("k")["n"] == before:            # the watchdog ends this if they all wait
            time.sleep(0.001)
        child.kill()
        told += len(child.out.read())
    assert told <= db.kv("k")["n"] <= told + 28     # each kill may have hit between a commit and its byte
    with db.transaction(immediate=True) as tx:
        assert tx.ticket_held


def test_single_puts_of_many_processes_take_turns(db, shm, spawn):
    db.kv("k")
    children = [spawn(hammer, shm, 1.5) for _ in range(5)]
    counts = []
    for child in children:
        assert child.wait() == 0
        counts.append(struct.unpack("<Q", child.out.read())[0])
    assert min(counts) > max(1000, sum(counts) / 100), counts
