"""interrupt(), statement timeouts and progress handlers end any statement: whatever works long looks up now and then."""
import threading
import time

import pytest

import memora
import memora.dbapi

ROWS = 3000

#: Statements that would take minutes, hours, or for ever.
ENDLESS = {
    "recursion": "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT count(*) FROM x",
    "distinct recursion": "WITH RECURSIVE x(n) AS (SELECT 1 UNION SELECT n + 1 FROM x) SELECT n FROM x ORDER BY n",
    "nested loops": "SELECT count(*) FROM t a, t b, t c WHERE a.c || b.c > c.c",
    "hash joins": "SELECT count(*) FROM t a JOIN t b ON a.b = b.b JOIN t c ON c.b = a.b JOIN t d ON d.b = a.b",
    "outer joins": "SELECT count(*) FROM t a LEFT JOIN t b ON a.b <> b.b LEFT JOIN t c ON c.b <> b.b",
    "full join": "SELECT count(*) FROM t a FULL JOIN t b ON a.b <> b.b JOIN t c",
    "rows of VALUES": f"WITH v(x) AS (VALUES (1){', (1)' * 9}) SELECT count(*) FROM {', '.join(f'v v{n}' for n in range(9))}",
    "subquery": "SELECT sum((SELECT count(*) FROM t b, t c WHERE b.b <> a.b)) FROM t a",
    "IN": "SELECT count(*) FROM t a WHERE a.c NOT IN (SELECT b.c || 'x' FROM t b, t c WHERE b.b >= a.b)",
    "ORDER BY": "SELECT a.c || b.c FROM t a, t b, t c ORDER BY 1",
    "GROUP BY": "SELECT a.c || b.c, count(*) FROM t a, t b, t c GROUP BY 1",
    "DISTINCT": "SELECT DISTINCT a.b FROM t a, t b, t c",
    "EXCEPT": "SELECT 1 EXCEPT SELECT a.a * 20000 + b.a FROM t a, t b, t c",
    "window with EXCLUDE": "SELECT sum(a.a) OVER (ORDER BY a.a ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW) FROM t a, t b "
                           "WHERE b.a < 100",
    "LIKE": "SELECT 1 WHERE hex(zeroblob(5000000)) LIKE '%' || hex(zeroblob(20000)) || 'x%'",
    "GLOB": "SELECT 1 WHERE hex(zeroblob(5000000)) GLOB '*' || hex(zeroblob(20000)) || 'x*'",
    "instr": "SELECT instr(hex(zeroblob(5000000)), hex(zeroblob(1000000)) || '1')",
    "replace": "SELECT length(replace(hex(zeroblob(5000000)), hex(zeroblob(1000000)) || '1', 'x'))",
    "trim": "SELECT length(trim(hex(zeroblob(5000000)), replace(hex(zeroblob(20000)), '00', 'xy') || '0'))",
    "randomblob": "SELECT sum(length(randomblob(10000000))) FROM t",
    "zeroblob": "SELECT sum(length(hex(zeroblob(10000000)))) FROM t",
    "concatenation": "SELECT sum(length(x || x || a)) FROM (SELECT hex(zeroblob(10000000)) AS x), t",
    "printf": "SELECT sum(length(printf('%*d', 10000000, a))) FROM t",
    "a function of Python": "SELECT sum(slow(a)) FROM t, generate_series(1, 1000)",
    "table-valued function": "SELECT count(*) FROM generate_series(1, 1000000000000)",
    "OFFSET": "SELECT 1 FROM t a, t b, t c LIMIT 1 OFFSET 1000000000000",
    "UPDATE": "UPDATE t SET b = (SELECT count(*) FROM t x, t y WHERE x.b <> t.b)",
    "DELETE": "DELETE FROM t WHERE (SELECT count(*) FROM t x, t y WHERE x.b <> t.b) < 0",
    "INSERT": "INSERT INTO t(b) SELECT a.a FROM t a, t b, t c",
    "CREATE TABLE AS": "CREATE TABLE u AS SELECT a.a FROM t a, t b, t c",
    "CREATE INDEX": "CREATE INDEX ti ON t((replace(hex(zeroblob(10000000)), '00', a)))",
}


@pytest.fixture(scope="module")
def con():
    con = memora.dbapi.connect(":memory:", isolation_level=None, check_same_thread=False)
    con.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b, c)")
    con.execute("INSERT INTO t SELECT value, value % 7, 'text ' || value FROM generate_series(1, ?)", (ROWS,))
    con.create_function("slow", 1, lambda value: (time.sleep(0.001), value)[1])
    yield con
    con.close()


@pytest.mark.parametrize("what", ENDLESS)
def test_timeout_ends(con, what):
    con.statement_timeout = 0.02
    try:
        with pytest.raises(memora.StatementTimeout, match="timeout of 0.02 s"):
            con.execute(ENDLESS[what]).fetchall()
    finally:
        con.statement_timeout = None
    assert not con.in_transaction
    assert con.execute("SELECT count(*), sum(b) FROM t").fetchone() == (ROWS, sum(n % 7 for n in range(1, ROWS + 1)))


def test_what_a_timeout_ended_in_a_transaction_undid_itself_only(con):
    con.execute("BEGIN")
    con.execute("INSERT INTO t(b) VALUES (1)")
    con.statement_timeout = "20ms"
    with pytest.raises(memora.StatementTimeout) as error:
        con.execute(ENDLESS["UPDATE"])
    con.statement_timeout = None
    assert (error.value.sqlite_errorname, error.value.sqlstate) == ("SQLITE_INTERRUPT", "57014")
    assert con.in_transaction and con.execute("SELECT count(*) FROM t").fetchone() == (ROWS + 1,)
    con.rollback()


def test_interrupt_from_another_thread(con):
    over = threading.Event()

    def interrupt():
        while not over.wait(0.02):
            con.interrupt()             # the first may come before the statement
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(memora.Interrupted, match="^interrupted$"):
        con.execute(ENDLESS["nested loops"])
    over.set()
    thread.join()


def test_timeout_begins_with_each_statement_and_is_each_statements_own(con):
    con.statement_timeout = 60
    older = iter(con.execute("SELECT a.a FROM t a, t b"))
    next(older)
    con.statement_timeout = 0.02
    with pytest.raises(memora.StatementTimeout):
        con.execute(ENDLESS["recursion"])
    assert sum(1 for _ in zip(range(10_000), older)) == 10_000
    con.statement_timeout = None


def test_timeout_has_many_faces():
    assert memora.dbapi.connect(":memory:").statement_timeout is None
    con = memora.dbapi.connect(":memory:", statement_timeout="1.5s")
    assert con.statement_timeout == 1.5
    assert con.execute("PRAGMA statement_timeout").fetchone() == (1.5,)
    assert con.execute("PRAGMA statement_timeout = '20ms'").fetchone() == (0.02,)
    assert con.statement_timeout == 0.02
    con.execute("PRAGMA statement_timeout = 0")
    assert con.statement_timeout is None
    for wrong in (-1, "soon", float("inf")):
        with pytest.raises(ValueError, match="statement_timeout|is not a"):
            con.statement_timeout = wrong
    con.close()
    with memora.open(":memory:", statement_timeout=0.02) as db:
        with pytest.raises(memora.StatementTimeout):
            list(db.execute(ENDLESS["recursion"]))
        with pytest.raises(memora.StatementTimeout), db.transaction() as tx:
            list(tx.execute(ENDLESS["recursion"]))
        con = db.connect()
        assert con.statement_timeout == 0.02
        con.close()


def test_progress_handler_is_called_for_definitions_too():
    con = memora.dbapi.connect(":memory:")
    calls = []
    con.set_progress_handler(lambda: calls.append(1), 1)
    con.execute("CREATE TABLE t(a)")
    assert calls
    con.set_progress_handler(lambda: True, 1)
    with pytest.raises(memora.Interrupted, match="progress handler"):
        con.execute("DROP TABLE t")
    con.set_progress_handler(None, 1)
    con.execute("SELECT * FROM t")
    con.close()


def test_query_only_refuses_changes():
    con = memora.dbapi.connect(":memory:", isolation_level=None)
    con.execute("CREATE TABLE t(a)")
    con.execute("PRAGMA query_only = ON")
    assert con.execute("PRAGMA query_only").fetchone() == (1,)
    for sql in ("INSERT INTO t VALUES (1)", "DROP TABLE t"):
        with pytest.raises(memora.ReadOnly):
            con.execute(sql)
    con.execute("PRAGMA query_only = 0")
    con.execute("INSERT INTO t VALUES (1)")
    con.close()
