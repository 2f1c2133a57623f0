"""UPDATE t SET n = n + ? of one row by its key: never a conflict on the number, and SQLite's arithmetic."""
import math
import random
import sqlite3

import pytest

import memora
from memora import errors

VALUES = [0, 1, -1, 2, 127, 128, -129, 2 ** 15, 2 ** 23, -2 ** 31, 2 ** 47, 2 ** 53 + 1, 2 ** 62, 2 ** 63 - 1, -2 ** 63, -2 ** 63 + 1, 0.5, -0.0, 1e18, 2.0 ** 63,
          -2.0 ** 63, 1e308, math.inf, -math.inf, None, "7", "7.5", "x", "", b"8", b"\xff"]
TYPES = ["", "INTEGER", "INT NOT NULL DEFAULT 0", "REAL", "NUMERIC", "TEXT", "BLOB"]


@pytest.fixture
def db():
    with memora.open(":memory:") as db:
        yield db
        assert db.check() == []


def both(pair, sql, params=()):
    """Run in both; they fail together, or change as many rows."""
    outcomes = []
    for connection, error in zip(pair, (errors.Error, sqlite3.Error)):
        try:
            outcomes.append(connection.execute(sql, params).rowcount)
        except error as e:
            outcomes.append(str(e))
    assert outcomes[0] == outcomes[1], (sql, params, outcomes)


def same_rows(pair, sql):
    mine, theirs = ([[(type(v), v) for v in row] for row in connection.execute(sql)] for connection in pair)
    assert mine == theirs


@pytest.mark.parametrize("tail", ["", " WITHOUT ROWID", " STRICT"])
def test_arithmetic_and_affinity_are_sqlites(db, tail):
    rng = random.Random(5)
    pair = db.connect(), sqlite3.connect(":memory:", isolation_level=None)
    types = TYPES if not tail.endswith("STRICT") else ["INT", "INTEGER", "REAL", "ANY", "TEXT", "BLOB"]
    columns = ", ".join(f"c{i} {t}" for i, t in enumerate(types))
    both(pair, f"CREATE TABLE t (k {'TEXT' if 'WITHOUT' in tail else 'INTEGER'} PRIMARY KEY, {columns}, long TEXT){tail}")
    keys = ["a", "b", "c"] if "WITHOUT" in tail else [1, 2, 3]
    for _ in range(3000):
        key, i = rng.choice([*keys, *keys, *keys, 9, "1", 1.0, 1.5, None]), rng.randrange(len(types))
        step = rng.random()
        if step < 0.25:
            row = [rng.choice(VALUES) for _ in types]
            both(pair, f"INSERT OR REPLACE INTO t VALUES (?{', ?' * len(types)}, ?)", (rng.choice(keys), *row, "x" * rng.choice([0, 1, 300, 2000])))
        elif step < 0.9:
            op = rng.choice(["+", "-"])
            expr = rng.choice([f"c{i} {op} ?", f"c{i} {op} ?", f"? + c{i}", f"c{i} {op} (? + 1)", f"c{i} {op} -?"])
            both(pair, f"UPDATE t SET c{i} = {expr} WHERE k = ?", (rng.choice(VALUES), key))
        else:
            j = (i + 1) % len(types)
            both(pair, f"UPDATE t SET c{i} = c{i} + ?, c{j} = c{j} - ? WHERE ? = k", (rng.choice(VALUES), rng.choice(VALUES), key))
        if rng.random() < 0.05:
            same_rows(pair, "SELECT *, length(long) FROM t ORDER BY k")
    same_rows(pair, "SELECT * FROM t ORDER BY k")
    for connection in pair:
        connection.close()


def counting(db, sql, params=(), change="UPDATE t SET n = n + 100 WHERE id = 1"):
    """Whether the statement goes through although its row changes before its transaction is committed."""
    tx = db.transaction()
    tx.execute(sql, params)
    db.execute(change)
    try:
        tx.commit()
        return True
    except errors.SerializationError:
        return False


def test_which_statements_are_deltas(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INT, m REAL DEFAULT 0, u INT, c INT DEFAULT 1 CHECK (c > 0), s TEXT DEFAULT 0,"
               "g INT DEFAULT 0, v AS (g * 2) STORED)")
    db.execute("CREATE INDEX t_u ON t (u) WHERE s <> 'never'")
    db.execute("INSERT INTO t (id, n, u) VALUES (1, 0, 0), (2, 0, 0)")
    for sql, params in (("UPDATE t SET n = n + 1 WHERE id = 1", ()), ("UPDATE t SET n = n - ?, m = m + 0.5 WHERE rowid = ?", (3, 1)),
                        ("UPDATE t SET n = ? + n WHERE ? = id", (3, 1)), ("UPDATE t AS x SET n = x.n + 1 WHERE x.id = 1", ()),
                        ("UPDATE OR IGNORE t SET n = n + 2 * 3 WHERE id = 1", ())):
        assert counting(db, sql, params), sql
    for sql in ("UPDATE t SET n = n + m WHERE id = 1", "UPDATE t SET n = m + 1 WHERE id = 1", "UPDATE t SET n = n * 2 WHERE id = 1",
                "UPDATE t SET n = n + 1 WHERE id = 1 AND n >= 0", "UPDATE t SET n = n + 1 WHERE id <= 1", "UPDATE t SET n = n + 1 WHERE id = '1'",
                "UPDATE t SET n = n + 1 WHERE id = 1 RETURNING n", "UPDATE t SET u = u + 1 WHERE id = 1", "UPDATE t SET c = c + 1 WHERE id = 1",
                "UPDATE t SET s = s + 1 WHERE id = 1", "UPDATE t SET g = g + 1 WHERE id = 1", "UPDATE t SET n = n + '1' WHERE id = 1", "UPDATE t SET id = id + 0 WHERE id = 1",
                "UPDATE t SET n = n + (SELECT max(n) FROM t) WHERE id = 1", "UPDATE t SET n = n + 1, n = n + 2 WHERE id = 1"):
        assert not counting(db, sql), sql
    assert db.execute("SELECT n, m FROM t WHERE id = 1").fetchone() == (1 - 3 + 3 + 1 + 6 + 100 * 20, 0.5)
    assert db.execute("SELECT g, v FROM t WHERE id = 1").fetchone() == (0, 0)


def test_counting_and_other_changes_of_a_row_go_together(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INT, name TEXT)")
    db.execute("INSERT INTO t VALUES (1, 5, 'a')")
    assert counting(db, "UPDATE t SET n = n + 1 WHERE id = 1", change="UPDATE t SET name = 'b', n = 0 WHERE id = 1")
    assert db.execute("SELECT * FROM t").fetchall() == [(1, 1, "b")]
    assert not counting(db, "UPDATE t SET n = n + 1 WHERE id = 1", change="DELETE FROM t")
    db.execute("INSERT INTO t VALUES (1, 1, 'c')")
    assert not counting(db, "UPDATE t SET n = n + 1 WHERE id = 1", change="UPDATE t SET n = 'text' WHERE id = 1")
    assert not counting(db, "UPDATE t SET n = n + 1 WHERE id = 1", change="ALTER TABLE t ADD COLUMN more")


def test_a_row_without_the_column_is_counted_all_the_same(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
    db.execute("INSERT INTO t VALUES (1, 1)")
    db.execute("ALTER TABLE t ADD COLUMN n INT DEFAULT 10")
    db.execute("UPDATE t SET n = n + 1 WHERE id = 1")
    assert counting(db, "UPDATE t SET n = n + 1 WHERE id = 1")
    assert db.execute("SELECT * FROM t").fetchall() == [(1, 1, 112)]


def test_what_a_transaction_sees_of_its_counts_is_read(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INT)")
    db.execute("INSERT INTO t VALUES (1, 5)")
    tx = db.transaction()
    for by in (1, 10):
        assert tx.execute("UPDATE t SET n = n + ? WHERE id = 1", (by,)).rowcount == 1
    assert tx.execute("UPDATE t SET n = n + 1 WHERE id = 7").rowcount == 0
    assert tx.execute("SELECT n FROM t").fetchall() == [(16,)]
    db.execute("UPDATE t SET n = n + 1 WHERE id = 1")
    with pytest.raises(errors.SerializationError):
        tx.commit()
    tx = db.transaction()
    tx.execute("UPDATE t SET n = n + 1 WHERE id = 1")
    tx.execute("DELETE FROM t WHERE id = 1")
    tx.execute("INSERT INTO t VALUES (1, 0)")
    tx.execute("UPDATE t SET n = n + 1 WHERE id = 1")
    tx.commit()
    assert db.execute("SELECT n FROM t").fetchall() == [(1,)]


def test_savepoints(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INT)")
    db.execute("INSERT INTO t VALUES (1, 5)")
    c = db.connect()
    c.isolation_level = None
    for sql in ("BEGIN", "UPDATE t SET n = n + 1 WHERE id = 1", "SAVEPOINT a", "UPDATE t SET n = n + 10 WHERE id = 1", "SAVEPOINT b",
                "UPDATE t SET n = n * 2 WHERE id = 1", "UPDATE t SET n = n + 1 WHERE id = 1", "ROLLBACK TO b", "UPDATE t SET n = n + 100 WHERE id = 1",
                "ROLLBACK TO a", "UPDATE t SET n = n + 1000 WHERE id = 1", "COMMIT"):
        c.execute(sql)
    assert db.execute("SELECT n FROM t").fetchall() == [(1006,)]
    c.close()


def transfers(name, seed, n, out):
    rng = random.Random(seed)
    with memora.open(name) as db:
        for _ in range(n):
            a, b, by = rng.randrange(20), rng.randrange(20), rng.choice([1, 2, 0.5, -3])
            with db.transaction() as tx:
                tx.execute("UPDATE t SET n = n - ?, moves = moves + 1 WHERE id = ?", (by, a))
                tx.execute("UPDATE t SET n = n + ?, moves = moves + 1 WHERE id = ?", (by, b))
                tx.execute("UPDATE w SET n = n + 1 WHERE a = 'all' AND b = 1")
            db.execute("UPDATE w SET n = n + 1 WHERE b = ? AND a = ?", (1, "alone"))


def test_processes_count_the_same_rows_without_a_conflict(stores, spawn):
    name = "shm:" + stores().region.name
    with memora.open(name) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n NUMERIC, moves INT DEFAULT 0)")
        db.execute("CREATE TABLE w (a TEXT, b INT, n INT, PRIMARY KEY (a, b)) WITHOUT ROWID")
        db.execute("INSERT INTO w VALUES ('all', 1, 0), ('alone', 1, 0)")
        for i in range(20):
            db.execute("INSERT INTO t (id, n) VALUES (?, 100)", (i,))
        children = [spawn(transfers, name, i, 300) for i in range(4)]
        assert [child.wait() for child in children] == [0] * 4          # a SerializationError would have ended one
        assert db.execute("SELECT sum(n), sum(moves) FROM t").fetchone() == (2000, 2400)
        assert db.execute("SELECT n FROM w").fetchall() == [(1200,), (1200,)]
