"""INSERT, UPDATE, DELETE, constraints and definitions, statement by statement beside sqlite3."""
import pytest
from memora.errors import IntegrityError, NotSupportedError, OperationalError
from sql_support import Pair, open_session, rows

#: Each script runs on both; after each statement all tables are compared.
SCRIPTS = {
    "insert": """
        CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT DEFAULT 'd', c REAL DEFAULT (1+1), d DEFAULT CURRENT_DATE)
        INSERT INTO t(b) VALUES ('x')
        INSERT INTO t(c, a) VALUES ('7', 10)
        INSERT INTO t DEFAULT VALUES
        INSERT INTO t(rowid, b) VALUES (20, 'r')
        INSERT INTO t(a, b) VALUES (NULL, 1), ('30', 2), (40.0, 3)
        INSERT INTO t(a) VALUES ('x')
        INSERT INTO t(a) VALUES (1.5)
        INSERT INTO t(b, b) VALUES (1, 2)
        INSERT INTO t VALUES (1, 2)
        INSERT INTO t(a, b) VALUES (50)
        INSERT INTO t(nosuch) VALUES (50)
        INSERT INTO nosuch VALUES (50)
        INSERT INTO t(b) SELECT b FROM t WHERE a > 10
        INSERT INTO t(a, b) SELECT a + 1000, 'copy' FROM t
        INSERT INTO t(a, b) VALUES (1, 'dup')
        INSERT INTO t(a, b) VALUES (500, 'before'), (1, 'dup')
        REPLACE INTO t(a, b) VALUES (1, 'replaced')
        INSERT OR IGNORE INTO t(a, b) VALUES (1, 'ignored'), (501, 'kept')
        INSERT INTO t(b) VALUES ((SELECT max(a) FROM t))
        DELETE FROM t
        INSERT INTO t(b) VALUES ('first again')""",
    "unique": """
        CREATE TABLE t(a INT UNIQUE, b TEXT COLLATE NOCASE UNIQUE, c, UNIQUE(b, c))
        INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1), (NULL, 'c', 1), (NULL, NULL, 1), (NULL, NULL, 1)
        INSERT INTO t VALUES (1, 'x', 9)
        INSERT INTO t VALUES ('1', 'x', 9)
        INSERT INTO t VALUES (1.0, 'x', 9)
        INSERT INTO t VALUES (5, 'A', 9)
        INSERT OR REPLACE INTO t VALUES (1, 'B', 7)
        INSERT OR IGNORE INTO t VALUES (1, 'q', 1), (7, 'q', 1)
        UPDATE t SET a = a + 10
        UPDATE t SET a = 11
        UPDATE OR REPLACE t SET a = 11 WHERE b = 'q'
        UPDATE OR IGNORE t SET b = 'q'
        UPDATE t SET b = lower(b) WHERE a = 11
        DELETE FROM t WHERE b IS NULL
        CREATE UNIQUE INDEX ta ON t(a)
        CREATE UNIQUE INDEX tc ON t(c)
        INSERT INTO t VALUES (100, 'z', 1), (101, 'zz', 2), (100, 'zzz', 3)""",
    "not null and check": """
        CREATE TABLE t(a NOT NULL, b NOT NULL DEFAULT 5, c CHECK (c > 0), CHECK (a <> b), CONSTRAINT named CHECK (a < 100))
        INSERT INTO t VALUES (1, 2, 3)
        INSERT INTO t VALUES (NULL, 2, 3)
        INSERT INTO t(a) VALUES (1)
        INSERT INTO t(a, b) VALUES (1, NULL)
        INSERT OR REPLACE INTO t(a, b) VALUES (1, NULL)
        INSERT OR REPLACE INTO t(a, b) VALUES (NULL, 1)
        INSERT OR IGNORE INTO t VALUES (NULL, 2, 3), (9, 8, 7)
        INSERT INTO t VALUES (1, 2, -3)
        INSERT INTO t VALUES (1, 2, NULL)
        INSERT INTO t VALUES (2, 2, 1)
        INSERT INTO t VALUES (200, 2, 1)
        INSERT OR IGNORE INTO t VALUES (200, 2, 1)
        UPDATE t SET a = NULL
        UPDATE t SET c = 0 WHERE a = 9
        UPDATE OR IGNORE t SET b = a""",
    "conflict clauses": """
        CREATE TABLE t(a INTEGER PRIMARY KEY ON CONFLICT REPLACE, b UNIQUE ON CONFLICT IGNORE, c NOT NULL ON CONFLICT REPLACE DEFAULT 0)
        INSERT INTO t VALUES (1, 'x', 1)
        INSERT INTO t VALUES (1, 'y', 2)
        INSERT INTO t VALUES (2, 'y', 3)
        INSERT INTO t VALUES (3, 'z', NULL)
        INSERT OR ABORT INTO t VALUES (3, 'q', 1)
        INSERT OR FAIL INTO t VALUES (9, 'q', 1), (3, 'r', 1), (10, 's', 1)
        UPDATE t SET b = 'q' WHERE a = 1
        UPDATE OR FAIL t SET b = 'all'""",
    "upsert": """
        CREATE TABLE t(k TEXT PRIMARY KEY, n INT DEFAULT 1, m INT UNIQUE)
        INSERT INTO t(k) VALUES ('a') ON CONFLICT DO NOTHING
        INSERT INTO t(k) VALUES ('a') ON CONFLICT DO NOTHING
        INSERT INTO t(k) VALUES ('a'), ('b') ON CONFLICT(k) DO UPDATE SET n = n + 1
        INSERT INTO t(k, n, m) VALUES ('a', 10, 5) ON CONFLICT(k) DO UPDATE SET n = excluded.n + t.n, m = excluded.m
        INSERT INTO t(k, n) VALUES ('a', 10) ON CONFLICT(k) DO UPDATE SET n = 0 WHERE excluded.n > 50
        INSERT INTO t(k, m) VALUES ('z', 5) ON CONFLICT(k) DO UPDATE SET n = 0
        INSERT INTO t(k, m) VALUES ('z', 5) ON CONFLICT(m) DO UPDATE SET n = -1
        INSERT INTO t(k, m) VALUES ('z', 5) ON CONFLICT(n) DO NOTHING""",
    "update": """
        CREATE TABLE t(a INTEGER PRIMARY KEY, b, c)
        CREATE INDEX tb ON t(b)
        INSERT INTO t VALUES (1, 10, 'x'), (2, 20, 'y'), (3, 30, 'z')
        UPDATE t SET b = b + 1
        UPDATE t SET b = b + 100 WHERE b > 15
        UPDATE t SET b = c, c = b WHERE a = 1
        UPDATE t SET (b, c) = (1, 2) WHERE a = 2
        UPDATE t SET (b, c) = (SELECT a, 'sub' FROM t WHERE a = 3) WHERE a = 1
        UPDATE t SET a = a + 10
        UPDATE t SET a = a + 1
        UPDATE t SET a = 13 WHERE a = 14
        UPDATE t SET rowid = 99 WHERE a = 14
        UPDATE t SET b = (SELECT count(*) FROM t x WHERE x.a <= t.a)
        UPDATE t SET c = u.n FROM (SELECT 12 AS k, 'joined' AS n) AS u WHERE u.k = t.a
        UPDATE t SET b = 1, b = 2
        UPDATE t SET nosuch = 1
        UPDATE t SET a = 'text'
        UPDATE t SET b = NULL WHERE a IN (SELECT a FROM t WHERE a > 12)
        DELETE FROM t WHERE b IS NULL
        DELETE FROM t WHERE nosuch = 1
        DELETE FROM t WHERE a = (SELECT min(a) FROM t)""",
    "without rowid": """
        CREATE TABLE t(a TEXT, b INT, c, PRIMARY KEY(b DESC, a)) WITHOUT ROWID
        CREATE INDEX tc ON t(c)
        INSERT INTO t VALUES ('x', 1, 'c1'), ('y', 1, 'c2'), ('x', 2, 'c3')
        INSERT INTO t VALUES ('x', 1, 'dup')
        INSERT OR REPLACE INTO t VALUES ('x', 1, 'new')
        INSERT INTO t VALUES (NULL, 1, 'n')
        UPDATE t SET b = b + 1
        UPDATE t SET a = 'x'
        UPDATE t SET c = NULL WHERE b = 2
        SELECT a FROM t WHERE c IS NULL
        SELECT rowid FROM t
        DELETE FROM t WHERE c = 'c3'""",
    "definitions": """
        CREATE TABLE t(a, b)
        CREATE TABLE t(a)
        CREATE TABLE IF NOT EXISTS t(a)
        CREATE INDEX i ON t(a)
        CREATE INDEX i ON t(b)
        CREATE INDEX IF NOT EXISTS i ON t(b)
        CREATE INDEX j ON t(nosuch)
        CREATE INDEX j ON nosuch(a)
        CREATE TABLE i(a)
        CREATE TABLE bad(a, A)
        CREATE TABLE bad(a PRIMARY KEY, b PRIMARY KEY)
        CREATE TABLE bad(a) WITHOUT ROWID
        CREATE TABLE sqlite_bad(a)
        CREATE VIEW v AS SELECT a FROM t
        INSERT INTO v VALUES (1)
        INSERT INTO t VALUES (1, 2), (3, 4)
        SELECT * FROM v
        CREATE TABLE c AS SELECT a, b + 1 AS n, 'x' FROM t
        ALTER TABLE t ADD COLUMN n INT DEFAULT 7
        INSERT INTO t(a) VALUES (9)
        ALTER TABLE t ADD COLUMN m NOT NULL
        ALTER TABLE t ADD COLUMN a
        ALTER TABLE c RENAME TO renamed
        SELECT * FROM renamed
        CREATE UNIQUE INDEX u ON t(n)
        REINDEX
        REINDEX i
        DROP INDEX i
        DROP INDEX i
        DROP INDEX IF EXISTS i
        DROP TABLE v
        DROP VIEW t
        DROP VIEW v
        DROP TABLE t
        SELECT * FROM t
        DROP TABLE IF EXISTS t""",
    "autoincrement": """
        CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b)
        INSERT INTO t(b) VALUES (1), (2)
        DELETE FROM t
        INSERT INTO t(b) VALUES (3)
        INSERT INTO t(a, b) VALUES (100, 4)
        INSERT INTO t(b) VALUES (5)
        SELECT * FROM sqlite_sequence
        DROP TABLE t
        SELECT * FROM sqlite_sequence""",
    "expression and partial indexes": """
        CREATE TABLE t(a, b)
        CREATE UNIQUE INDEX low ON t(lower(a))
        CREATE UNIQUE INDEX part ON t(b) WHERE b > 10
        INSERT INTO t VALUES ('x', 1), ('y', 1), ('z', 11)
        INSERT INTO t VALUES ('X', 2)
        INSERT INTO t VALUES ('w', 11)
        UPDATE t SET b = 12 WHERE b = 1
        UPDATE t SET b = 10 + rowid
        SELECT * FROM t WHERE lower(a) = 'x'
        SELECT * FROM t WHERE b > 10 AND b = 12""",
    "strict": """
        CREATE TABLE t(a INT, b TEXT, c REAL, d BLOB, e ANY) STRICT
        INSERT INTO t VALUES ('1', 2, 3, x'00', 'x')
        INSERT INTO t(a) VALUES ('x')
        INSERT INTO t(d) VALUES ('x')
        INSERT INTO t(c) VALUES ('x')
        CREATE TABLE bad(a VARCHAR) STRICT
        CREATE TABLE bad(a) STRICT""",
    "returning": """
        CREATE TABLE t(a INTEGER PRIMARY KEY, b)
        INSERT INTO t(b) VALUES (1), (2) RETURNING a, b + 1 AS c
        UPDATE t SET b = b * 10 RETURNING *
        INSERT INTO t VALUES (1, 5) ON CONFLICT(a) DO UPDATE SET b = excluded.b RETURNING a, b
        DELETE FROM t WHERE a = 1 RETURNING a""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(name):
    pair = Pair()
    try:
        for sql in SCRIPTS[name].strip().splitlines():
            pair.same(sql.strip(), ordered=False)
            tables = [r[0] for r in pair.theirs.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            mine = [r[0] for r in pair.ours.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            assert sorted(tables) == sorted(mine), sql
            for table in tables:
                pair.same(f"SELECT * FROM {table}", ordered=False)
    finally:
        pair.close()


def test_messages_of_violations_are_those_of_sqlite3():
    pair = Pair()
    for sql in ("CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE, c NOT NULL, d CHECK (d > 0), UNIQUE(c, d))",
                "INSERT INTO t VALUES (1, 1, 1, 1)"):
        pair.same(sql)
    for sql in ("INSERT INTO t VALUES (1, 2, 2, 2)", "INSERT INTO t VALUES (2, 1, 2, 2)", "INSERT INTO t VALUES (2, 2, NULL, 2)",
                "INSERT INTO t VALUES (2, 2, 2, -2)", "INSERT INTO t VALUES (2, 2, 1, 1)", "INSERT INTO t VALUES ('x', 2, 2, 2)",
                "INSERT INTO t VALUES (1, 2)", "INSERT INTO t(a, b) VALUES (1)", "INSERT INTO t(x) VALUES (1)", "DROP TABLE u",
                "CREATE TABLE t(x)", "UPDATE t SET x = 1", "CREATE INDEX i ON t(x)", "DELETE FROM u", "DROP INDEX i"):
        mine, theirs = pair.run(sql)
        assert mine[1:] == theirs[1:]
    pair.close()


def test_counts_and_last_rowid():
    pair = Pair()
    for sql in ("CREATE TABLE t(a INTEGER PRIMARY KEY, b)", "INSERT INTO t(b) VALUES (1), (2), (3)", "UPDATE t SET b = 0 WHERE a > 1",
                "INSERT OR IGNORE INTO t VALUES (1, 1), (9, 9)", "INSERT OR REPLACE INTO t VALUES (1, 1)", "DELETE FROM t WHERE a = 77", "DELETE FROM t"):
        mine, theirs = pair.ours.execute(sql), pair.theirs.execute(sql)
        assert mine.rowcount == theirs.rowcount
        assert mine.kind != "insert" or mine.lastrowid == theirs.lastrowid
        assert pair.ours.total_changes == pair.theirs.total_changes
        pair.same("SELECT changes(), total_changes(), last_insert_rowid()")
    pair.close()


def test_schema_rows_and_pragmas():
    pair = Pair()
    for sql in ("CREATE TABLE p(a INTEGER PRIMARY KEY)", "CREATE  TABLE t( a INT , b TEXT NOT NULL DEFAULT 'x''y' COLLATE NOCASE, c REAL DEFAULT (1+1) REFERENCES p, UNIQUE(a, b))",
                "create unique index i on t(c desc) where c > 0", "CREATE VIEW v AS SELECT a, b FROM t"):
        pair.same(sql)
    pair.same("SELECT type, name, tbl_name, sql FROM sqlite_schema")
    for pragma in ("table_info(t)", "table_info(v)", "index_list(t)", "index_info(i)", "index_xinfo(i)", "foreign_key_list(t)",
                   "index_info(sqlite_autoindex_t_1)", "table_info(nosuch)", "encoding", "no_such_pragma", "foreign_keys", "table_xinfo(t)"):
        pair.same(f"PRAGMA {pragma}")
    pair.close()


def test_a_failed_statement_undoes_only_itself():
    session = open_session()
    session.execute("CREATE TABLE t(a UNIQUE)")
    session.execute("BEGIN")
    session.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(IntegrityError):
        session.execute("INSERT INTO t VALUES (2), (3), (1)")
    assert rows(session, "SELECT a FROM t") == [(1,)]
    session.execute("INSERT INTO t VALUES (2)")
    session.execute("COMMIT")
    assert rows(session, "SELECT a FROM t ORDER BY a") == [(1,), (2,)]
    with pytest.raises(IntegrityError):
        session.execute("INSERT INTO t VALUES (5), (1)")
    assert rows(session, "SELECT count(*) FROM t") == [(2,)]


def test_or_rollback_ends_the_transaction():
    session = open_session()
    session.execute("CREATE TABLE t(a UNIQUE)")
    session.execute("BEGIN")
    session.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(IntegrityError):
        session.execute("INSERT OR ROLLBACK INTO t VALUES (1)")
    assert not session.in_transaction
    assert rows(session, "SELECT * FROM t") == []


def test_what_does_not_run_yet_says_so():
    session = open_session()
    session.execute("CREATE TABLE t(a)")
    for sql, word in [("ATTACH 'x' AS y KEY 'z'", "encryption"), ("SELECT jsonb('{}')", "JSON"),
                      ("WATCH SELECT 1", "Watch")]:
        with pytest.raises(NotSupportedError, match=word):
            session.execute(sql)
    with pytest.raises(OperationalError):
        session.execute("SELECT * FROM")
