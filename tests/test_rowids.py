"""Numbers that are given once: a lone writer gets SQLite's, concurrent ones get others, and nobody conflicts on a number alone."""
import os
import random
import sqlite3
import struct

import pytest

import memora
from memora import errors


@pytest.fixture
def db():
    with memora.open(":memory:") as db:
        yield db
        assert db.check() == []


def ids(db, table="t"):
    return [i for (i,) in db.execute(f"SELECT id FROM {table} ORDER BY id")]


class Pair:
    """One statement to sqlite3 and to Memora; the rowids that they choose are compared."""

    def __init__(self, ours):
        self.ours = ours
        self.theirs = sqlite3.connect(":memory:", isolation_level=None)

    def __call__(self, sql, *params):
        mine, other = self.ours.execute(sql, params), self.theirs.execute(sql, params)
        if sql.startswith("INSERT"):
            assert mine.lastrowid == other.lastrowid, sql

    def same(self, sql):
        assert self.ours.execute(sql).fetchall() == self.theirs.execute(sql).fetchall(), sql


@pytest.mark.parametrize("kind", ["", " AUTOINCREMENT"])
@pytest.mark.parametrize("seed", range(6))
def test_a_lone_writer_gets_the_numbers_of_sqlite(seed, kind):
    rng = random.Random(seed)
    connection = memora.connect(":memory:", isolation_level=None)
    pair = Pair(connection)
    pair(f"CREATE TABLE t (id INTEGER PRIMARY KEY{kind}, v)")
    depth, open_ = 0, False
    for _ in range(600):
        step = rng.random()
        if step < 0.45:
            pair("INSERT INTO t (v) VALUES (?)", step)
        elif step < 0.5:
            pair("INSERT INTO t (v) SELECT v FROM t LIMIT 7")
        elif step < 0.55:
            pair("INSERT OR IGNORE INTO t VALUES (?, 1)", rng.choice([-7, 3, 1000, rng.randrange(3000)]))
        elif step < 0.7:
            pair("DELETE FROM t WHERE id > (SELECT max(id) FROM t) - ?", rng.choice([1, 2, 10, 10 ** 6]))
        elif step < 0.75:
            pair("UPDATE OR IGNORE t SET id = id + ? WHERE id = (SELECT max(id) FROM t)", rng.choice([-2, -1, 1, 50]))
        elif step < 0.82 and not open_:
            pair("BEGIN")
            open_, depth = True, 0
        elif step < 0.88 and open_:
            pair(rng.choice(["COMMIT", "ROLLBACK"]))
            open_ = False
        elif step < 0.94 and open_:
            depth += 1
            pair(f"SAVEPOINT s{depth}")
        elif open_ and depth:
            pair(f"ROLLBACK TO s{depth}")
            if rng.random() < 0.5:
                pair(f"RELEASE s{depth}")
                depth -= 1
        if rng.random() < 0.1:
            pair.same("SELECT * FROM t ORDER BY id")
    pair.same("SELECT * FROM t ORDER BY id")
    if kind:
        pair.same("SELECT * FROM sqlite_sequence")
    connection.close()


def test_the_first_rowid_and_the_ends_of_the_range(db):
    pair = Pair(db)
    pair("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    for first in (-(1 << 63), -5, 0, 7, (1 << 63) - 3):
        pair("INSERT INTO t VALUES (?, 1)", first)
        pair("INSERT INTO t (v) VALUES (2)")
    pair("INSERT INTO t (v) VALUES (3)")
    assert ids(db)[-1] == (1 << 63) - 1
    chosen = db.execute("INSERT INTO t (v) VALUES (3)").lastrowid           # a random one
    assert chosen not in ids(db)[:0] and ids(db).count(chosen) == 1
    with db.transaction() as tx:
        few = [tx.execute("INSERT INTO t (v) VALUES (4)").lastrowid for _ in range(5)]
    assert len({chosen, *few}) == 6 and set(few) < set(ids(db))


def test_a_bulk_insert_asks_seldom(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    with db.transaction() as tx:
        for i in range(20000):
            tx.execute("INSERT INTO t (v) VALUES (?)", (i,))
        assert 12 <= tx._txn.reservations < 20
        assert tx.execute("INSERT INTO t (v) VALUES (0)").lastrowid == 20001
    assert db.execute("INSERT INTO t (v) VALUES (0)").lastrowid == 20002        # what was left of the last range is free again


def test_open_transactions_get_different_numbers_and_all_commit(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v UNIQUE)")
    db.execute("INSERT INTO t VALUES (10, 'x')")
    open_ = [db.transaction() for _ in range(5)]
    taken = []
    for n, tx in enumerate(open_):
        for i in range(9):
            taken.append(tx.execute("INSERT INTO t (v) VALUES (?)", (f"{n}-{i}",)).lastrowid)
    assert db.execute("INSERT INTO t (v) VALUES ('y')").lastrowid not in taken
    for tx in open_[::-1]:
        tx.commit()
    assert len(set(taken)) == 45 and set(taken) < set(ids(db))
    assert min(taken) == 11


def test_what_a_transaction_did_not_use_is_given_back(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    one, two = db.transaction(), db.transaction()
    assert one.execute("INSERT INTO t (v) VALUES (1)").lastrowid == 1
    assert two.execute("INSERT INTO t (v) VALUES (1)").lastrowid == 2
    two.rollback()
    assert one.execute("INSERT INTO t (v) VALUES (1)").lastrowid == 2
    one.rollback()
    assert db.execute("INSERT INTO t (v) VALUES (1)").lastrowid == 1


def test_a_row_deleted_by_another_commit_is_not_in_the_way(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    db.execute("INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)")
    tx = db.transaction()
    db.execute("DELETE FROM t WHERE id = 3")
    assert tx.execute("INSERT INTO t (v) VALUES (1)").lastrowid == 4        # 3 is still there at its snapshot
    tx.commit()
    assert ids(db) == [1, 2, 4]


def test_a_number_that_somebody_chose_himself_is_a_conflict(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    tx = db.transaction()
    assert tx.execute("INSERT INTO t (v) VALUES ('mine')").lastrowid == 1
    db.execute("INSERT INTO t VALUES (1, 'theirs')")
    with pytest.raises(errors.SerializationError):
        tx.commit()
    assert db.execute("SELECT * FROM t").fetchall() == [(1, "theirs")]


def insert_some(name, seed, n, out):
    rng = random.Random(seed)
    with memora.open(name) as db:
        while n:
            with db.transaction() as tx:
                for _ in range(rng.choice([1, 1, 2, 30])):
                    if n:
                        a = tx.execute("INSERT INTO t (v) VALUES (?)", (seed,)).lastrowid
                        b = tx.execute("INSERT INTO a (v) VALUES (?)", (a,)).lastrowid
                        j = tx.queue("q").put(a)
                        os.write(out, struct.pack("<qqq", a, b, j))
                        n -= 1


def test_processes_insert_side_by_side_without_a_conflict(stores, spawn):
    name = "shm:" + stores().region.name
    with memora.open(name) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        db.execute("CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, v)")
        db.execute("INSERT INTO a VALUES (5, 0)")
        db.queue("q")
        children = [spawn(insert_some, name, i, 400) for i in range(4)]
        taken = [row for child in children for row in struct.iter_unpack("<qqq", child.out.read())]
        assert [child.wait() for child in children] == [0] * 4              # a SerializationError would have ended one
        rows, counted, jobs = (sorted(column) for column in zip(*taken))
        assert len(set(rows)) == 1600 and rows == ids(db)
        assert counted == ids(db, "a")[1:] and db.execute("SELECT seq FROM sqlite_sequence").fetchall() == [(counted[-1],)]
        assert len(set(jobs)) == 1600 and sorted(id for (id,) in db.execute("SELECT id FROM q")) == jobs


def hold_numbers(name, out):
    db = memora.open(name)
    tx = db.transaction()
    for _ in range(3):
        tx.execute("INSERT INTO t (v) VALUES (1)")
    os.write(out, b".")
    os.read(os.pipe()[0], 1)


def test_a_dead_owners_numbers_come_back(stores, spawn):
    name = "shm:" + stores().region.name
    with memora.open(name) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        child = spawn(hold_numbers, name)
        assert child.out.read(1) == b"."
        tx = db.transaction()
        assert tx.execute("INSERT INTO t (v) VALUES (1)").lastrowid > 3
        tx.rollback()
        child.kill()
        memora.open(name).close()               # opening reaps
        assert db.execute("INSERT INTO t (v) VALUES (1)").lastrowid == 1


def test_autoincrement_never_takes_a_number_that_was_used_and_deleted(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v)")
    db.execute("INSERT INTO t (v) VALUES (1), (2)")
    tx = db.transaction()
    assert db.execute("INSERT INTO t (v) VALUES (3)").lastrowid == 3
    db.execute("DELETE FROM t WHERE id = 3")
    assert tx.execute("INSERT INTO t (v) VALUES (4)").lastrowid == 4
    other = db.transaction()
    assert other.execute("INSERT INTO t (v) VALUES (5)").lastrowid == 6      # tx holds 4 and 5
    other.commit()
    db.execute("DELETE FROM t WHERE id = 6")
    assert [tx.execute("INSERT INTO t (v) VALUES (6)").lastrowid for _ in range(2)] == [7, 8]
    tx.commit()
    assert ids(db) == [1, 2, 4, 7, 8] and db.execute("SELECT seq FROM sqlite_sequence").fetchall() == [(8,)]


def test_job_ids(db):
    queue = db.queue("q")
    assert [queue.put(n) for n in range(3)] == [1, 2, 3]
    with db.transaction() as tx:
        assert tx.queue("q").put(3) == 4
        with pytest.raises(KeyError), tx.savepoint():
            assert tx.queue("q").put(4) == 5
            raise KeyError
        assert tx.queue("q").put(5) == 5
        assert tx.queue("new").put(0) == 1 and tx.queue("new").put(0) == 2
    one, two = db.transaction(), db.transaction()
    assert (one.queue("q").put(6), two.queue("q").put(7), one.queue("q").put(8)) == (6, 7, 8)
    two.commit()
    one.rollback()
    assert queue.put(9) == 8                # 6 was given and taken back, and stays unused
    while (job := queue.claim(timeout=0)) is not None:
        job.ack()
    assert queue.put(10) == 9 and db.queue("new").put(0) == 3
