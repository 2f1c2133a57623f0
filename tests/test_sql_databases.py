"""Temporary tables and attached databases: who sees them, what a transaction over them promises. Their SQL is in tests/sql/databases.test."""
import os
import uuid

import memora
import pytest
from memora.engine.store import Store
from memora.errors import NotSupportedError, OperationalError
from memora.sql.session import Session
from sql_support import rows


@pytest.fixture
def session(store):
    made = Session(store)
    made.execute("CREATE TABLE m(a INTEGER PRIMARY KEY, b)")
    made.execute("INSERT INTO m VALUES (1, 'one')")
    yield made
    made.close()


def test_temporary_tables_belong_to_one_session(session, store):
    session.execute("CREATE TEMP TABLE t(x)")
    session.execute("INSERT INTO t SELECT a FROM m")
    other = Session(store)
    with pytest.raises(OperationalError, match="no such table: t"):
        other.execute("SELECT * FROM t")
    other.execute("CREATE TEMP TABLE t(y)")
    assert rows(session, "SELECT * FROM t") == [(1,)] and rows(other, "SELECT * FROM t") == []
    other.close()
    assert rows(session, "SELECT x, b FROM t JOIN m ON a = x") == [(1, "one")]


def test_a_conflict_undoes_what_was_written_to_temporary_tables(session, store):
    session.execute("CREATE TEMP TABLE t(x)")
    session.execute("BEGIN")
    session.execute("INSERT INTO t SELECT a FROM m")
    session.execute("UPDATE m SET b = 'mine'")
    other = Session(store)
    other.execute("UPDATE m SET b = 'theirs'")
    other.close()
    with pytest.raises(memora.SerializationError):
        session.execute("COMMIT")
    assert rows(session, "SELECT * FROM t") == [] and rows(session, "SELECT b FROM m") == [("theirs",)]


def test_failed_statement_undoes_itself_in_a_temporary_table(session):
    session.execute("CREATE TEMP TABLE t(x UNIQUE)")
    session.execute("BEGIN")
    session.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(memora.IntegrityError):
        session.execute("INSERT INTO t VALUES (2), (1)")
    assert rows(session, "SELECT * FROM t") == [(1,)]
    session.execute("COMMIT")
    assert rows(session, "SELECT * FROM t") == [(1,)]


def test_rows_read_lazily_keep_their_snapshot(session):
    session.execute("CREATE TEMP TABLE t(x)")
    session.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1000)])
    result = session.execute("SELECT x FROM t")
    first = next(result)
    session.execute("DELETE FROM t")
    assert [first, *result] == [(n,) for n in range(1000)]
    assert rows(session, "SELECT count(*) FROM t") == [(0,)]


def test_a_transaction_writes_one_region(session):
    session.execute("ATTACH ':memory:' AS other")
    session.execute("CREATE TABLE other.o(x)")
    session.execute("BEGIN")
    session.execute("INSERT INTO o SELECT a FROM m")
    with pytest.raises(NotSupportedError, match="writes two regions: other and main"):
        session.execute("INSERT INTO m VALUES (2, 'two')")
    session.execute("COMMIT")
    assert rows(session, "SELECT o.x, m.b FROM o JOIN m ON m.a = o.x") == [(1, "one")]
    session.execute("INSERT INTO m VALUES (2, 'two')")
    session.execute("INSERT INTO o VALUES (2)")
    assert rows(session, "SELECT count(*) FROM o, m WHERE m.a = o.x") == [(2,)]


def test_attached_region_is_shared_with_its_other_users(session):
    name = f"shm:test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    theirs = Store.open(name)
    try:
        other = Session(theirs)
        other.execute("CREATE TABLE o(x)")
        other.execute("INSERT INTO o VALUES (1)")
        session.execute("ATTACH ? AS peer", (name,))
        assert rows(session, "SELECT x, b FROM peer.o JOIN m ON a = x") == [(1, "one")]
        other.execute("ALTER TABLE o ADD COLUMN y DEFAULT 5")
        assert rows(session, "SELECT * FROM o") == [(1, 5)]
        session.execute("INSERT INTO peer.o VALUES (2, 6)")
        assert rows(other, "SELECT * FROM o") == [(1, 5), (2, 6)]
        session.execute("DETACH peer")
        with pytest.raises(OperationalError, match="no such table"):
            session.execute("SELECT * FROM peer.o")
        other.close()
        assert theirs.check() == []
    finally:
        theirs.close()
        memora.remove(name)


def test_attached_file(session, tmp_path):
    path = str(tmp_path / "other.db")
    with memora.open(path) as db:
        db.execute("CREATE TABLE o(x)")
        db.execute("INSERT INTO o VALUES (7)")
    session.execute(f"ATTACH '{path}' AS file")
    assert rows(session, "SELECT * FROM file.o") == [(7,)]
    session.execute("INSERT INTO file.o VALUES (8)")
    session.execute("DETACH file")
    with memora.open(path) as db:
        assert db.execute("SELECT * FROM o").fetchall() == [(7,), (8,)]


def test_transactions_of_a_database_have_no_temporary_tables():
    with memora.open(":memory:") as db, pytest.raises(NotSupportedError, match="temporary tables"), db.transaction() as tx:
        tx.execute("CREATE TEMP TABLE t(x)")
