"""Statements that differ in literals only share a plan, and nothing else about them may change."""
import random
import sqlite3

import pytest
from sql_support import open_session

from memora import errors
from memora.sql.parser import tables

LIFTED = [
    ("SELECT a FROM t WHERE id = 17", "SELECT a FROM t WHERE id = ?", (17,)),
    ("SELECT a = 5 FROM t WHERE b < -1.5 ORDER BY 1 LIMIT 2", "SELECT a = 5 FROM t WHERE b < -? ORDER BY 1 LIMIT 2", (1.5,)),
    ("SELECT a FROM t WHERE b IN (1, -2, 'it''s') OR c BETWEEN 3 AND 4;", "SELECT a FROM t WHERE b IN (?, -?, ?) OR c BETWEEN ? AND ?;", (1, 2, "it's", 3, 4)),
    ("INSERT INTO t VALUES (1, 'a', 2 + 3, NULL)", "INSERT INTO t VALUES (?, ?, 2 + 3, NULL)", (1, "a")),
    ("UPDATE t SET a = 5, b = b + 1 WHERE id = 7", "UPDATE t SET a = ?, b = b + 1 WHERE id = ?", (5, 7)),
    ("DELETE FROM t WHERE a <> 'x' RETURNING a = 5", "DELETE FROM t WHERE a <> ? RETURNING a = 5", ("x",)),
]
KEPT = [
    "SELECT 5", "SELECT a FROM t", "SELECT a FROM t LIMIT 5", "SELECT a FROM t WHERE a LIKE 'x%'", "SELECT a FROM t WHERE a IS NULL",
    "SELECT a FROM t WHERE a = ? AND b = 5", "SELECT a FROM t WHERE a = 0x10", "SELECT a FROM t WHERE a = 1_0", "SELECT a FROM t WHERE a = 9223372036854775808",
    "SELECT a FROM t WHERE a + 1 > b", "SELECT a FROM t WHERE a = 5 COLLATE nocase", "SELECT a FROM t GROUP BY a = 5 HAVING a = 6",
    "SELECT a FROM t WHERE a = (SELECT b FROM u WHERE c = 5) AND d = 7", "INSERT INTO t VALUES (1) ON CONFLICT (a) WHERE a = 5 DO NOTHING",
    "CREATE TABLE t(a CHECK (a = 5))", "EXPLAIN SELECT a FROM t WHERE a = 5", "SELECT a FROM t WHERE a = 5; SELECT 1", "SELECT a FROM t WHERE a = 'x",
    "CREATE VIEW v AS SELECT a FROM t WHERE a = 5", "", ";", "WITH w AS (SELECT 1) SELECT * FROM w WHERE 1 = 5",
]


@pytest.fixture
def session():
    made = open_session()
    yield made
    made.close()


@pytest.mark.parametrize("text, shape, values", LIFTED, ids=lambda v: str(v)[:30])
def test_literals_are_lifted(text, shape, values):
    assert tables().lift(text) == (shape, values)
    assert [type(v) for v in tables().lift(text)[1]] == [type(v) for v in values]


@pytest.mark.parametrize("text", KEPT)
def test_literals_stay(text):
    assert tables().lift(text) is None


def test_a_plan_is_shared(session):
    session.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a)")
    for i in range(500):
        session.execute(f"INSERT INTO t VALUES ({i}, 'row {i}')")
    for i in range(500):
        assert list(session.execute(f"SELECT a FROM t WHERE id = {i}")) == [(f"row {i}",)]
    assert len(session._cache) == 3


def test_a_mistake_is_shown_as_it_was_written(session):
    session.execute("CREATE TABLE t(a)")
    with pytest.raises(errors.SQLSyntaxError) as raised:
        session.execute("SELECT a FROM t WHERE a = 5 AND b = = 7")
    assert "a = 5 AND b = = 7" in str(raised.value)
    with pytest.raises(errors.OperationalError, match="no such column: b"):
        session.execute("SELECT a FROM t WHERE b = 5")
    with pytest.raises(errors.ProgrammingError, match="uses 0, and there are 1|0"):
        session.execute("SELECT a FROM t WHERE a = 5", (1,))


def test_names_and_types_of_results_stay(session):
    session.execute("CREATE TABLE t(a INTEGER, b TEXT)")
    result = session.execute("SELECT a = 5, a, 'x' FROM t WHERE a = 5")
    assert result.columns == ("a = 5", "a", "'x'") and result.decltypes == (None, "INTEGER", None)


def test_same_answers_as_sqlite(session):
    """Each shape with many literals, of all types, one session against one sqlite3."""
    lite = sqlite3.connect(":memory:", isolation_level=None)
    rnd = random.Random(24)
    literals = ["0", "1", "2", "7", "1.0", "2.5", "'1'", "'a'", "'A'", "''", "x'61'", "NULL", "1e0", "922337203685477580", "92233720368547758080", "'7 '"]
    for text in ("CREATE TABLE t(id INTEGER PRIMARY KEY, i INTEGER, r REAL, s TEXT COLLATE NOCASE, x)", "CREATE INDEX ti ON t(i, s)", "CREATE INDEX tx ON t(x)",
                 "CREATE UNIQUE INDEX tp ON t(x) WHERE i = 7"):
        session.execute(text)
        lite.execute(text)
    shapes = ["SELECT id, i, x FROM t WHERE i = {} ORDER BY id", "SELECT id FROM t WHERE s = {} AND x <> -{} ORDER BY 1", "SELECT count(*), max(r) FROM t WHERE x < {}",
              "SELECT id FROM t WHERE x IN ({}, {}, {}) ORDER BY id", "SELECT id FROM t WHERE r BETWEEN {} AND {} OR i >= {} ORDER BY id DESC LIMIT 3",
              "SELECT i = 1, count(*) FROM t WHERE x > {} GROUP BY i = 1 ORDER BY 1", "UPDATE t SET x = {}, i = i + 1 WHERE id = {}",
              "UPDATE t SET s = {} WHERE i = {} AND x = {}", "DELETE FROM t WHERE id = {} AND s = {}", "SELECT typeof(x), x FROM t WHERE id > {} ORDER BY id",
              "INSERT INTO t(i, r, s, x) VALUES ({}, {}, {}, {})", "INSERT OR IGNORE INTO t VALUES (1 + {}, {}, {}, {}, {})",
              "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM t AS u WHERE u.i = t.x AND u.r = {}) AND i <> {} ORDER BY id"]
    for _ in range(1500):
        shape = rnd.choice(shapes)
        text = shape.format(*[rnd.choice(literals) for _ in range(shape.count("{}"))])
        outcome = []
        for execute in (session.execute, lite.execute):
            try:
                outcome.append(list(execute(text)))
            except (errors.Error, sqlite3.Error) as error:
                outcome.append(type(error).__name__)
        assert outcome[0] == outcome[1], text
    lite.close()
