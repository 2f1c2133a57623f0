"""Sessions: parameters, transactions, savepoints, snapshots, the statement cache, virtual tables, conflicts."""
import gc

import pytest
from memora.errors import IntegrityError, NotSupportedError, OperationalError, ProgrammingError, SerializationError
from memora.engine.store import Store
from memora.sql.callbacks import UserFunction
from memora.sql.session import Session
from sql_support import rows


@pytest.fixture
def store():
    made = Store.open(":memory:")
    yield made
    gc.collect()
    assert made.check() == []
    made.close()


@pytest.fixture
def session(store):
    made = Session(store)
    made.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    yield made
    made.close()


def test_explain_analyze_counts_what_each_operator_did(session):
    session.executemany("INSERT INTO t VALUES (?, ?)", [(n, n % 3) for n in range(30)])
    told = rows(session, "EXPLAIN ANALYZE SELECT x.a FROM t x JOIN t y ON y.a = x.b WHERE x.a < ?", (10,))
    counts = {operator: (loops, found) for _, operator, _, loops, found, _ in told}
    assert counts["TableScan"] == (1, 10) and counts["RowLookup"] == (10, 10) and counts["Result"] == (1, 10)
    assert all(spent is None or spent >= 0 for *_, spent in told)
    with pytest.raises(NotSupportedError, match="DELETE"):
        session.execute("EXPLAIN ANALYZE DELETE FROM t")
    assert rows(session, "SELECT count(*) FROM t") == [(30,)]


def test_parameters(session):
    assert rows(session, "SELECT ?, ?2, ?", (1, 2, 3)) == [(1, 2, 3)]
    assert rows(session, "SELECT :a, @b, $c, :a", {"a": 1, "b": 2, "c": 3}) == [(1, 2, 3, 1)]
    assert rows(session, "SELECT :a, :b", (1, 2)) == [(1, 2)]
    with pytest.raises(ProgrammingError, match="uses 1, and there are 2 supplied"):
        session.execute("SELECT ?", (1, 2))
    with pytest.raises(ProgrammingError, match="did not supply a value for binding parameter :b"):
        session.execute("SELECT :a, :b", {"a": 1})
    with pytest.raises(ProgrammingError, match="no name"):
        session.execute("SELECT ?", {"a": 1})
    with pytest.raises(ProgrammingError, match="one statement"):
        session.execute("SELECT 1; SELECT 2")
    assert rows(session, "SELECT 1;") == [(1,)]
    assert session.execute(" -- nothing\n").columns is None


def test_results(session):
    result = session.execute("INSERT INTO t(b) VALUES (5), (6)")
    assert (result.kind, result.rowcount, result.lastrowid, result.columns, list(result)) == ("insert", 2, 2, None, [])
    result = session.execute("SELECT a, b AS x FROM t")
    assert (result.kind, result.columns, result.decltypes, result.rowcount) == ("select", ("a", "x"), ("INTEGER", None), -1)
    assert next(result) == (1, 5)
    result.close()
    assert list(result) == []
    result.close()
    assert session.executemany("INSERT INTO t(b) VALUES (?)", [(1,), (2,), (3,)]).rowcount == 3
    assert session.total_changes == 5
    with pytest.raises(ProgrammingError):
        session.executemany("SELECT ?", [(1,)])
    session.execute("CREATE UNIQUE INDEX i ON t(b)")
    with pytest.raises(IntegrityError):
        session.executemany("INSERT INTO t(b) VALUES (?)", [(10,), (1,)])
    assert rows(session, "SELECT count(*) FROM t") == [(5,)]


def test_transactions(session):
    assert not session.in_transaction
    session.execute("BEGIN")
    assert session.in_transaction
    session.execute("INSERT INTO t VALUES (1, 'x')")
    assert rows(session, "SELECT * FROM t") == [(1, "x")]
    session.execute("ROLLBACK")
    assert rows(session, "SELECT * FROM t") == []
    session.begin()
    session.execute("INSERT INTO t VALUES (1, 'y')")
    assert isinstance(session.commit(), int)
    assert session.commit() is None
    session.rollback()
    for sql in ("COMMIT", "ROLLBACK", "RELEASE x"):
        with pytest.raises(OperationalError):
            session.execute(sql)
    session.execute("BEGIN")
    with pytest.raises(OperationalError, match="within a transaction"):
        session.execute("BEGIN")
    session.rollback()


def test_savepoints(session):
    session.execute("SAVEPOINT one")
    session.execute("INSERT INTO t VALUES (1, 1)")
    session.execute("SAVEPOINT two")
    session.execute("INSERT INTO t VALUES (2, 2)")
    session.execute("CREATE TABLE u(x)")
    session.execute("ROLLBACK TO two")
    assert rows(session, "SELECT a FROM t") == [(1,)]
    with pytest.raises(OperationalError, match="no such table: u"):
        session.execute("SELECT * FROM u")
    session.execute("INSERT INTO t VALUES (3, 3)")
    session.execute("RELEASE two")
    with pytest.raises(OperationalError, match="no such savepoint: two"):
        session.execute("ROLLBACK TO two")
    session.execute("RELEASE SAVEPOINT one")
    assert not session.in_transaction
    assert rows(session, "SELECT a FROM t") == [(1,), (3,)]


def test_definitions_are_transactional(store, session):
    other = Session(store)
    session.execute("BEGIN")
    session.execute("CREATE TABLE u(x)")
    session.execute("INSERT INTO u VALUES (1)")
    session.execute("ALTER TABLE u ADD COLUMN y DEFAULT 2")
    assert rows(session, "SELECT * FROM u") == [(1, 2)]
    with pytest.raises(OperationalError):
        other.execute("SELECT * FROM u")
    session.execute("ROLLBACK")
    with pytest.raises(OperationalError):
        session.execute("SELECT * FROM u")
    session.execute("BEGIN")
    session.execute("DROP TABLE t")
    assert rows(other, "SELECT * FROM t") == []
    session.execute("COMMIT")
    with pytest.raises(OperationalError):
        other.execute("SELECT * FROM t")
    session.execute("CREATE TABLE t(z)")
    assert other.execute("SELECT * FROM t").columns == ("z",)
    other.close()


def test_a_select_keeps_its_snapshot(store, session):
    session.executemany("INSERT INTO t VALUES (?, 0)", [(i,) for i in range(1, 1001)])
    result = session.execute("SELECT a FROM t")
    assert next(result) == (1,)
    session.execute("DELETE FROM t")
    assert len(list(result)) == 999
    assert rows(session, "SELECT * FROM t") == []


def test_a_select_is_settled_before_its_transaction_writes_or_ends(session):
    session.executemany("INSERT INTO t VALUES (?, 0)", [(i,) for i in range(1, 101)])
    session.begin()
    result = session.execute("SELECT a FROM t ORDER BY a")
    assert next(result) == (1,)
    session.execute("DELETE FROM t WHERE a > 50")
    second = session.execute("SELECT a FROM t")
    next(second)
    session.commit()
    assert len(list(result)) == 99
    assert len(list(second)) == 49


def test_one_statement_read_twice_at_once(session):
    session.executemany("INSERT INTO t VALUES (?, 0)", [(i,) for i in range(1, 6)])
    first, second = session.execute("SELECT a FROM t"), session.execute("SELECT a FROM t")
    assert [(next(first), next(second)) for _ in range(5)] == [((i,), (i,)) for i in range(1, 6)]


def test_results_that_are_dropped_let_their_snapshot_go(store, session):
    session.execute("INSERT INTO t VALUES (1, 1), (2, 2)")
    for _ in range(2000):
        next(session.execute("SELECT a FROM t"))
    gc.collect()
    assert rows(session, "SELECT count(*) FROM t") == [(2,)]


def test_conflicts(store, session):
    session.execute("INSERT INTO t VALUES (1, 0)")
    other = Session(store)
    session.begin()
    value = rows(session, "SELECT b FROM t WHERE a = 1")[0][0]
    other.execute("UPDATE t SET b = 100 WHERE a = 1")
    session.execute("UPDATE t SET b = ? WHERE a = 1", (value + 1,))
    with pytest.raises(SerializationError):
        session.commit()
    assert not session.in_transaction
    assert rows(session, "SELECT b FROM t") == [(100,)]
    other.close()


def test_unique_keys_hold_between_transactions(store, session):
    session.execute("CREATE UNIQUE INDEX tb ON t(b)")
    other = Session(store)
    session.begin()
    session.execute("INSERT INTO t VALUES (1, 'same')")
    other.execute("INSERT INTO t VALUES (2, 'same')")
    with pytest.raises((SerializationError, IntegrityError)):
        session.commit()
    assert rows(session, "SELECT * FROM t") == [(2, "same")]
    other.close()


def test_a_session_in_a_given_transaction(store, session):
    transaction = store.begin()
    inner = Session(store, transaction=transaction)
    inner.execute("INSERT INTO t VALUES (7, 7)")
    for sql in ("BEGIN", "COMMIT", "ROLLBACK"):
        with pytest.raises(ProgrammingError):
            inner.execute(sql)
    assert rows(session, "SELECT * FROM t") == []
    inner.close()
    transaction.commit()
    assert rows(session, "SELECT * FROM t") == [(7, 7)]


def test_virtual_tables(store):
    seen = []

    def processes(session, row):
        seen.append(row)
        return ["pid", "name"], lambda transaction: iter([(1, "a"), (2, "b"), (3, None)])

    session = Session(store, virtual={"name:memora_processes": processes})
    assert rows(session, "SELECT name FROM memora_processes WHERE pid = 2") == [("b",)]
    assert rows(session, "SELECT count(name), p.pid > 1 FROM memora_processes p GROUP BY 2") == [(1, 0), (1, 1)]
    assert rows(session, "SELECT a.pid FROM memora_processes a JOIN memora_processes b ON a.pid = b.pid + 1") == [(2,), (3,)]
    session.close()


def test_closed_session(session):
    session.close()
    session.close()
    with pytest.raises(ProgrammingError):
        session.execute("SELECT 1")


def test_functions_of_python(session):
    session.functions[("twice", 1)] = UserFunction("twice", "scalar", lambda x: x * 2, True)
    assert rows(session, "SELECT twice(21), twice('ab')") == [(42, "abab")]

    def fails(*args):
        raise ValueError("no")
    session.functions[("fails", -1)] = UserFunction("fails", "scalar", fails)
    with pytest.raises(OperationalError, match="user-defined function raised exception"):
        list(session.execute("SELECT fails(1, 2)"))
