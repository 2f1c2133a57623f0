"""Functions of Python in SQL: create_function, after sqlite3."""
import sys

import pytest

import memora.dbapi as dbapi


@pytest.fixture
def con():
    con = dbapi.connect(":memory:")
    con.execute("CREATE TABLE t(a)")
    con.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(10)])
    yield con
    con.close()


def test_arguments_and_results(con):
    seen = []
    con.create_function("f", -1, lambda *args: seen.append(args) or args[-1])
    values = (1, 2.5, "é", b"\x00\xff", None)
    for n in range(1, 6):
        assert con.execute(f"SELECT f({', '.join('?' * n)})", values[:n]).fetchone() == (values[n - 1],)
    assert seen == [values[:n] for n in range(1, 6)]


def test_everywhere_in_a_statement(con):
    con.create_function("half", 1, lambda n: n // 2)
    assert con.execute("SELECT a FROM t WHERE HALF(a) = 2 ORDER BY -half(a), a").fetchall() == [(4,), (5,)]
    assert con.execute("SELECT half(a), count(*) FROM t GROUP BY half(a) HAVING half(a) > 3").fetchall() == [(4, 2)]
    assert con.execute("SELECT sum(half(a)) FROM t").fetchone() == (20,)
    con.execute("UPDATE t SET a = half(a) WHERE half(a) > 3")
    assert con.execute("SELECT a FROM t ORDER BY a DESC LIMIT 2").fetchall() == [(7,), (6,)]


def test_index_expressions_want_determinism(con):
    con.create_function("square", 1, lambda n: n * n)
    with pytest.raises(dbapi.OperationalError, match="non-deterministic functions prohibited"):
        con.execute("CREATE INDEX i ON t(square(a))")
    con.create_function("square", 1, lambda n: n * n, deterministic=True)
    con.execute("CREATE INDEX i ON t(square(a))")
    con.execute("INSERT INTO t VALUES (12)")
    assert con.execute("SELECT a FROM t WHERE square(a) = 144").fetchall() == [(12,)]


def test_replaced_removed_and_counted(con):
    query = "SELECT f(3)"
    con.create_function("f", 1, lambda n: n + 1)
    assert con.execute(query).fetchone() == (4,)
    con.create_function("F", 1, lambda n: n + 2)
    assert con.execute(query).fetchone() == (5,)
    with pytest.raises(dbapi.OperationalError, match=r"wrong number of arguments to function f\(\)"):
        con.execute("SELECT f(1, 2)")
    con.create_function("f", 1, None)
    with pytest.raises(dbapi.OperationalError, match="no such function: f"):
        con.execute(query)
    con.create_function("upper", 1, lambda text: "mine")
    assert con.execute("SELECT upper('a')").fetchone() == ("mine",)
    con.create_function("upper", 1, None)
    assert con.execute("SELECT upper('a')").fetchone() == ("A",)
    with pytest.raises(dbapi.OperationalError, match="Error creating function"):
        con.create_function("f", 128, None)
    con.create_function("sum", 1, abs)
    assert con.execute("SELECT sum(-3)").fetchone() == (3,)


@pytest.mark.parametrize("function, kind, message", [
    (lambda: 1 / 0, dbapi.OperationalError, "user-defined function raised exception"),
    (lambda: object(), dbapi.OperationalError, "user-defined function raised exception"),
    (lambda: "\ud800", dbapi.OperationalError, "user-defined function raised exception"),
    (lambda: 2**63, dbapi.DataError, "string or blob too big"),
])
def test_errors(con, function, kind, message, monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: shown.append(type(found.exc_value)))
    con.create_function("f", 0, function)
    with pytest.raises(kind, match=message) as caught:
        con.execute("SELECT f()")
    assert shown == []
    dbapi.enable_callback_tracebacks(True)
    try:
        with pytest.raises(kind):
            con.execute("SELECT f()")
    finally:
        dbapi.enable_callback_tracebacks(False)
    assert shown == [type(caught.value.__cause__)]
    # an error in the middle of a change undoes the change
    con.create_function("g", 1, lambda n: n if n < 5 else function())
    with pytest.raises(kind):
        con.execute("UPDATE t SET a = -g(a)")
    assert con.execute("SELECT min(a) FROM t").fetchone() == (0,)


def test_a_function_may_query(con):
    con.create_function("deep", 1, lambda n: 0 if n == 0 else 1 + con.execute("SELECT deep(?)", (n - 1,)).fetchone()[0])
    assert con.execute("SELECT deep(5)").fetchone() == (5,)
    con.create_function("whole", 0, lambda: con.execute("SELECT sum(a) FROM t").fetchone()[0])
    assert con.execute("SELECT DISTINCT whole() FROM t").fetchall() == [(45,)]
