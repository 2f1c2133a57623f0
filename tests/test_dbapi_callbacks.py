"""Functions, aggregates, window functions and collations in Python, and the ending of statements, beside `sqlite3`."""
import sqlite3
import threading

import pytest

from memora import dbapi


class Sum:
    def __init__(self):
        self.total = 0

    def step(self, value):
        self.total += value or 0

    def inverse(self, value):
        self.total -= value or 0

    def value(self):
        return self.total

    finalize = value


def prepared(connection):
    connection.create_function("twice", 1, lambda value: None if value is None else value * 2, deterministic=True)
    connection.create_function("count_of", -1, lambda *args: len(args))
    connection.create_aggregate("my_sum", 1, Sum)
    connection.create_collation("backwards", lambda a, b: (a < b) - (a > b))
    if connection.__class__ is dbapi.Connection or hasattr(connection, "create_window_function"):
        connection.create_window_function("win_sum", 1, Sum)
    connection.execute("CREATE TABLE t(a TEXT, b INTEGER)")
    connection.executemany("INSERT INTO t VALUES(?, ?)", [(str(n % 7), n if n % 5 else None) for n in range(40)])
    return connection


@pytest.fixture
def both():
    ours, theirs = prepared(dbapi.connect(":memory:")), prepared(sqlite3.connect(":memory:"))
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("sql", [
    "SELECT twice(b), count_of(), count_of(1, 2, 3) FROM t WHERE twice(b) > 20 ORDER BY b",
    "SELECT DISTINCT a FROM t ORDER BY a COLLATE backwards",
    "SELECT a, b FROM t ORDER BY a COLLATE backwards DESC, b",
    "SELECT 'a' < 'b' COLLATE backwards, max(a COLLATE backwards), min(a COLLATE backwards) FROM t",
    "SELECT my_sum(b), my_sum(DISTINCT b % 3), my_sum(b) FILTER (WHERE b > 9) FROM t",
    "SELECT my_sum(b) FROM t WHERE b > 1000",
    "SELECT a, my_sum(b) FROM t GROUP BY a HAVING my_sum(b) > 60 ORDER BY a",
])
def test_same_as_sqlite3(both, sql):
    ours, theirs = both
    assert ours.execute(sql).fetchall() == theirs.execute(sql).fetchall()


@pytest.mark.parametrize("frame", [
    "ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING", "ROWS BETWEEN 2 FOLLOWING AND 4 FOLLOWING", "RANGE UNBOUNDED PRECEDING",
    "GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE TIES"])
def test_window_function_is_the_built_in_sum(both, frame):
    ours = both[0]
    rows = ours.execute(f"SELECT win_sum(b) OVER w, sum(b) OVER w FROM t WINDOW w AS (PARTITION BY b % 3 ORDER BY a {frame})").fetchall()
    assert len(rows) == 40 and any(own for own, _ in rows)
    assert [own or 0 for own, _ in rows] == [built_in or 0 for _, built_in in rows]


def test_errors_in_callbacks(both):
    ours = both[0]
    ours.create_function("wrong", 0, lambda: 1 / 0)
    with pytest.raises(dbapi.OperationalError, match="user-defined function raised exception") as caught:
        ours.execute("SELECT wrong()")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    ours.create_function("large", 0, lambda: 2**63)
    with pytest.raises(dbapi.DataError, match="string or blob too big"):
        ours.execute("SELECT large()")
    with pytest.raises(dbapi.OperationalError, match="wrong number of arguments to function twice"):
        ours.execute("SELECT twice(1, 2)")
    with pytest.raises(dbapi.OperationalError, match="may not be used as a window function"):
        ours.execute("SELECT my_sum(b) OVER () FROM t")


def test_none_removes(both):
    ours = both[0]
    ours.create_function("twice", 1, None)
    with pytest.raises(dbapi.OperationalError, match="no such function: twice"):
        ours.execute("SELECT twice(1)")
    ours.create_collation("backwards", None)
    with pytest.raises(dbapi.OperationalError, match="no such collation sequence: backwards"):
        ours.execute("SELECT a FROM t ORDER BY a COLLATE backwards")


def test_only_deterministic_functions_in_indexes(both):
    ours = both[0]
    ours.execute("CREATE INDEX i ON t(twice(b))")
    assert ours.execute("SELECT b FROM t WHERE twice(b) = 22").fetchall() == [(11,)]
    with pytest.raises(dbapi.OperationalError, match="non-deterministic"):
        ours.execute("CREATE INDEX j ON t(count_of(b))")


@pytest.mark.parametrize("sql", [
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
    "SELECT count(*) FROM t a, t b, t c, t d, t e, t f, t g, t h",
    "SELECT count(*) FROM generate_series(1, 1000000000000)"])
def test_interrupt_ends_what_runs(both, sql):
    ours = both[0]
    timer = threading.Timer(0.05, ours.interrupt)
    timer.start()
    with pytest.raises(dbapi.OperationalError, match="interrupted"):
        ours.execute(sql).fetchall()
    timer.join()
    assert ours.execute("SELECT 1").fetchall() == [(1,)]


def test_progress_handler_ends_what_runs(both):
    ours = both[0]
    calls = []
    ours.set_progress_handler(lambda: calls.append(1) or len(calls) > 3, 100)
    with pytest.raises(dbapi.OperationalError, match="interrupted"):
        ours.execute("SELECT count(*) FROM t a, t b, t c, t d, t e, t f").fetchall()
    assert len(calls) == 4
    ours.set_progress_handler(None, 1)
    assert ours.execute("SELECT count(*) FROM t a, t b").fetchall() == [(1600,)]
