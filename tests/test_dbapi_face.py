"""What memora.dbapi has of sqlite3 beside statements and rows: blobs, dumps, limits, URIs, error codes, the authorizer, traces."""
import gc
import os
import sqlite3
import threading

import pytest

import memora
import memora.dbapi


@pytest.fixture
def con():
    con = memora.dbapi.connect(":memory:", isolation_level=None)
    yield con
    con.close()


# ---------------------------------------------------------------- names

def test_every_name_of_sqlite3_is_there():
    unknown = {"collections", "sqlite_version", "sqlite_version_info"} | {name for name in dir(sqlite3) if name.startswith("_")}
    for name in set(dir(sqlite3)) - unknown:
        if name in ("version", "version_info"):
            continue
        assert hasattr(memora.dbapi, name), name
        if name.startswith("SQLITE_"):
            assert getattr(memora.dbapi, name) == getattr(sqlite3, name), name
    for kind in ("Connection", "Cursor", "Row", "Blob"):
        theirs, ours = getattr(sqlite3, kind, None), getattr(memora.dbapi, kind)
        assert {name for name in dir(theirs) if not name.startswith("_")} <= set(dir(ours)), kind


def test_deprecated_names_warn():
    with pytest.warns(DeprecationWarning, match="version_info is deprecated"):
        assert memora.dbapi.version_info == (2, 6, 0)
    with pytest.warns(DeprecationWarning):
        memora.dbapi.enable_shared_cache(True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        memora.dbapi.nothing


# ---------------------------------------------------------------- errors

@pytest.mark.parametrize("sql, name", [
    ("INSERT INTO t VALUES (1, 1, 1)", "SQLITE_CONSTRAINT_UNIQUE"),
    ("INSERT INTO t VALUES (2, NULL, 1)", "SQLITE_CONSTRAINT_NOTNULL"),
    ("INSERT INTO t VALUES (3, 1, -1)", "SQLITE_CONSTRAINT_CHECK"),
    ("INSERT INTO t VALUES ('x', 1, 1)", "SQLITE_MISMATCH"),
    ("SELECT * FROM nothing", "SQLITE_ERROR"),
    ("SELEC", "SQLITE_ERROR"),
    ("SELECT zeroblob(2000000000)", "SQLITE_TOOBIG"),
])
def test_errors_have_sqlites_codes(con, sql, name):
    con.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a NOT NULL, b CHECK (b > 0))")
    con.execute("INSERT INTO t VALUES (1, 1, 1)")
    with pytest.raises(memora.Error) as error:
        con.execute(sql)
    assert error.value.sqlite_errorname == name
    assert error.value.sqlite_errorcode == getattr(memora.dbapi, name)


def test_conflicts_and_files_have_sqlites_codes(tmp_path):
    assert memora.SerializationError("x").sqlite_errorcode & 255 == memora.dbapi.SQLITE_BUSY
    assert memora.LockTimeout("x").sqlite_errorcode == memora.dbapi.SQLITE_BUSY
    with pytest.raises(memora.CannotOpen) as error:
        memora.dbapi.connect(tmp_path)
    assert error.value.sqlite_errorname == "SQLITE_CANTOPEN"


def test_text_that_is_not_utf8_names_its_column_and_is_read_as_bytes(con):
    con.execute("CREATE TABLE t(a, b)")
    con.execute("INSERT INTO t VALUES (1, CAST(x'61ff62' AS TEXT))")
    with pytest.raises(memora.NotText, match="column 'b' with text 'a") as error:
        con.execute("SELECT a, b FROM t").fetchall()
    assert error.value.data == b"a\xffb"
    con.text_factory = bytes
    assert con.execute("SELECT a, b FROM t").fetchall() == [(1, b"a\xffb")]
    con.text_factory = lambda data: data.decode(errors="replace")
    assert con.execute("SELECT b FROM t").fetchone() == ("a\ufffdb",)
    con.text_factory = str
    with pytest.raises(memora.NotText):
        con.execute("SELECT a, b FROM t").fetchall()


# ---------------------------------------------------------------- blobs

def test_blob_of_text_stays_text(con):
    con.execute("CREATE TABLE t(a TEXT)")
    con.execute("INSERT INTO t VALUES ('hello')")
    with con.blobopen("t", "a", 1) as blob:
        blob[0] = ord("J")
        assert blob.read() == b"Jello"
    assert con.execute("SELECT a, typeof(a) FROM t").fetchone() == ("Jello", "text")


def test_blob_writes_belong_to_the_transaction_and_do_not_count(con):
    con.execute("CREATE TABLE t(a)")
    con.execute("INSERT INTO t VALUES (zeroblob(4))")
    changes = con.total_changes
    con.execute("BEGIN")
    blob = con.blobopen("t", "a", 1)
    blob.write(b"ab")
    assert con.total_changes == changes
    assert con.execute("SELECT a FROM t").fetchone() == (b"ab\0\0",)
    con.rollback()
    assert blob[:] == bytes(4)
    blob.write(b"cd")
    assert not con.in_transaction
    assert con.execute("SELECT a FROM t").fetchone() == (b"\0\0cd",)


def test_blob_of_many_pages(con):
    data = os.urandom(300_000)
    con.execute("CREATE TABLE t(a)")
    con.execute("INSERT INTO t(rowid, a) VALUES (7, ?)", (data,))
    with con.blobopen("t", "a", 7) as blob:
        assert len(blob) == len(data)
        blob.seek(100_000)
        assert blob.read(1000) == data[100_000:101_000] and blob.tell() == 101_000
        assert blob[10:300_000:999] == data[10:300_000:999] and blob[50:10:-3] == data[50:10:-3]
        blob[200_000:200_010] = b"0123456789"
    assert con.execute("SELECT substr(a, 200000, 12) FROM t").fetchone()[0] == data[199_999:200_000] + b"0123456789" + data[200_010:200_011]


@pytest.mark.parametrize("sql, place, message", [
    ("CREATE TABLE t(a PRIMARY KEY, b) WITHOUT ROWID", ("t", "b", 1), "without rowid: t"),
    ("CREATE VIEW t AS SELECT 1 AS a", ("t", "a", 1), "cannot open view: t"),
    ("CREATE TABLE t(a UNIQUE, b)", ("t", "a", 1), "indexed column for writing"),
    ("CREATE TABLE t(a, b)", ("t", "b", 1), "cannot open value of type null"),
    ("CREATE TABLE t(a, b)", ("t", "b", 9), "no such rowid: 9"),
])
def test_what_has_no_blob_says_why(con, sql, place, message):
    con.execute(sql)
    if sql == "CREATE TABLE t(a, b)":
        con.execute("INSERT INTO t(a) VALUES (1)")
    with pytest.raises(memora.OperationalError, match=message):
        con.blobopen(*place)


def test_blob_says_that_its_row_is_gone(con):
    con.execute("CREATE TABLE t(rowid, a)")
    con.execute("INSERT INTO t VALUES ('x', x'0102')")
    blob = con.blobopen("t", "a", 1)
    con.execute("DELETE FROM t")
    with pytest.raises(memora.OperationalError, match="was 2 bytes of blob, and is gone"):
        blob.read()


# ---------------------------------------------------------------- dumps

SCHEMA = """
    CREATE TABLE "odd ""name"(a, "b c" TEXT, d BLOB, e REAL);
    INSERT INTO "odd ""name" VALUES (1, 'it''s', x'00ff', 1.5), (NULL, '', x'', 1e100);
    CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, a);
    INSERT INTO counted(a) VALUES (7), (8);
    CREATE TABLE w(a, b, PRIMARY KEY (b)) WITHOUT ROWID;
    INSERT INTO w VALUES (1, 2);
    CREATE INDEX i ON counted(a);
    CREATE VIEW v AS SELECT a FROM counted;
"""


def test_dump_is_that_of_sqlite3(con):
    lite = sqlite3.connect(":memory:")
    con.executescript(SCHEMA)
    lite.executescript(SCHEMA)
    ours, theirs = list(con.iterdump()), list(lite.iterdump())
    assert sorted(ours) == sorted(theirs)       # Python 3.10 has sqlite_sequence in another place
    assert ours[0] == theirs[0] and ours[-1] == theirs[-1]
    again = memora.dbapi.connect(":memory:")
    again.executescript("\n".join(ours))
    assert list(again.iterdump()) == ours
    lite.close()
    again.close()


def test_dump_of_what_a_pattern_names(con):
    con.executescript(SCHEMA)
    assert list(con.iterdump(filter="w%")) == [
        "BEGIN TRANSACTION;", "CREATE TABLE w(a, b, PRIMARY KEY (b)) WITHOUT ROWID;", 'INSERT INTO "w" VALUES(1,2);', "COMMIT;"]


def test_dump_of_orphans_can_be_read_back(con):
    con.executescript("CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(a REFERENCES p); INSERT INTO c VALUES (1)")
    dump = list(con.iterdump())
    assert dump[:2] == ["PRAGMA foreign_keys=OFF;", "BEGIN TRANSACTION;"]
    again = memora.dbapi.connect(":memory:")
    again.execute("PRAGMA foreign_keys=ON")
    again.executescript("".join(dump))
    assert list(again.iterdump()) == dump
    again.close()


# ---------------------------------------------------------------- copies

def test_backup_takes_all_that_sql_has_and_leaves_the_rest(con):
    con.executescript(SCHEMA)
    con.execute("INSERT INTO counted(a) VALUES ('x'), (zeroblob(100000))")
    with memora.open(":memory:") as db:
        db.kv("prices")["tea"] = 3
        target = db.connect(isolation_level=None)
        target.executescript("CREATE TABLE old(a); CREATE INDEX old_i ON old(a); INSERT INTO old VALUES (1)")
        steps = []
        con.backup(target, pages=2, progress=lambda *step: steps.append(step))
        assert list(target.iterdump()) == list(con.iterdump())
        assert target.execute("INSERT INTO counted(a) VALUES (1)").lastrowid == 5
        assert target.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.kv("prices")["tea"] == 3
        total = steps[0][2]
        assert [status for status, _, _ in steps] == [0] * (len(steps) - 1) + [101] and len(steps) == -(-total // 2)
        assert [remaining for _, remaining, _ in steps] == [max(0, total - 2 * n) for n in range(1, len(steps) + 1)]
        con.execute("CREATE TABLE prices(a)")
        with pytest.raises(memora.OperationalError, match="cannot copy table prices: the target has a kv of that name"):
            con.backup(target)
        assert db.check() == []
        target.close()


def test_backup_of_an_open_transaction_has_its_changes(con):
    con.executescript("CREATE TABLE t(a); BEGIN; INSERT INTO t VALUES (1)")
    target = memora.dbapi.connect(":memory:")
    con.backup(target)
    assert target.execute("SELECT a FROM t").fetchall() == [(1,)] and con.in_transaction
    con.rollback()
    target.close()


def test_serialized_database_is_a_file_and_comes_back(con, tmp_path):
    con.executescript(SCHEMA)
    data, dump = con.serialize(), list(con.iterdump())
    con.create_function("twice", 1, lambda value: 2 * value)
    con.execute("DROP TABLE w")
    con.deserialize(memoryview(data))
    assert list(con.iterdump()) == dump
    assert con.execute("SELECT twice(a) FROM w").fetchone() == (2,)
    (tmp_path / "app.db").write_bytes(data)
    other = memora.dbapi.connect(tmp_path / "app.db")
    assert list(other.iterdump()) == dump
    other.close()
    con.deserialize(b"")
    assert list(con.iterdump()) == ["BEGIN TRANSACTION;", "COMMIT;"]


def test_serialize_knows_the_other_databases(con):
    con.executescript("ATTACH ':memory:' AS other; CREATE TABLE other.t(a); INSERT INTO other.t VALUES (5)")
    data = con.serialize(name="other")
    con.execute("DELETE FROM other.t")
    con.deserialize(data, name="other")
    assert con.execute("SELECT a FROM other.t").fetchall() == [(5,)]
    assert con.serialize(name="temp") == b""
    with pytest.raises(memora.OperationalError, match="unknown database nothing"):
        con.serialize(name="nothing")


def test_damaged_image_changes_nothing(con):
    con.executescript(SCHEMA)
    data = bytearray(con.serialize())
    data[len(data) // 2] ^= 1
    with pytest.raises(memora.CorruptionError):
        con.deserialize(data)
    with pytest.raises(memora.DatabaseError, match="file is not a database"):
        con.deserialize(b"SQLite format 3\0")
    con.execute("BEGIN")
    with pytest.raises(memora.OperationalError, match="within a transaction"):
        con.deserialize(b"")
    con.execute("COMMIT")
    assert con.execute("SELECT count(*) FROM w").fetchone() == (1,)


# ---------------------------------------------------------------- limits and settings

def test_limits_are_sqlites_and_are_given_back(con):
    lite = sqlite3.connect(":memory:")
    for category in (0, 1, 3, 4, 6, 7, 8, 9, 10, 11):
        if hasattr(lite, "getlimit") and category not in (9,):          # the number of variables is a build option
            assert con.getlimit(category) == lite.getlimit(category), category
    lite.close()
    assert con.setlimit(memora.dbapi.SQLITE_LIMIT_COLUMN, 10**9) == 2000
    assert con.setlimit(memora.dbapi.SQLITE_LIMIT_COLUMN, -1) == 2000 and con.getlimit(memora.dbapi.SQLITE_LIMIT_COLUMN) == 2000
    with pytest.raises(memora.NotSupportedError, match="SQLITE_LIMIT_VDBE_OP"):
        con.getlimit(memora.dbapi.SQLITE_LIMIT_VDBE_OP)
    with pytest.raises(memora.NotSupportedError, match="SQLITE_LIMIT_TRIGGER_DEPTH is 1000"):
        con.setlimit(memora.dbapi.SQLITE_LIMIT_TRIGGER_DEPTH, 5)


@pytest.mark.parametrize("limit, most, fits, too_much, message", [
    ("SQL_LENGTH", 8, "SELECT 1", "SELECT 10", "query string is too large"),
    ("COLUMN", 2, "SELECT 1, 2", "SELECT 1, 2, 3", "too many columns in result set"),
    ("COLUMN", 2, "CREATE TABLE t(a, b)", "CREATE TABLE u(a, b, c)", "too many columns on u"),
    ("EXPR_DEPTH", 3, "SELECT 1 + 1 + 1", "SELECT 1 + 1 + 1 + 1", "Expression tree is too large .maximum depth 3"),
    ("COMPOUND_SELECT", 2, "SELECT 1 UNION SELECT 2", "SELECT 1 UNION SELECT 2 UNION SELECT 3", "too many terms in compound SELECT"),
    ("FUNCTION_ARG", 2, "SELECT max(1, 2)", "SELECT max(1, 2, 3)", "too many arguments on function max"),
    ("ATTACHED", 1, "ATTACH ':memory:' AS a", "ATTACH ':memory:' AS b", "too many attached databases - max 1"),
    ("LENGTH", 4, "SELECT 'abcd'", "SELECT 'abcde'", "string or blob too big"),
])
def test_lowered_limits_hold(con, limit, most, fits, too_much, message):
    category = getattr(memora.dbapi, "SQLITE_LIMIT_" + limit)
    before = con.setlimit(category, most)
    con.execute(fits)
    for _ in range(2):                  # also where the text is known
        with pytest.raises((memora.OperationalError, memora.DataError), match=message):
            con.execute(too_much).fetchall()
    con.setlimit(category, before)
    con.execute(too_much).fetchall()


def test_literals_are_no_variables(con):
    con.setlimit(memora.dbapi.SQLITE_LIMIT_VARIABLE_NUMBER, 1)
    con.execute("CREATE TABLE t(a)")
    con.execute("SELECT a FROM t WHERE a = 1 AND a = 2")
    with pytest.raises(memora.OperationalError, match="too many SQL variables"):
        con.execute("SELECT ?, ?", (1, 2))


def test_settings_that_cannot_be_changed_say_so(con):
    assert con.getconfig(memora.dbapi.SQLITE_DBCONFIG_ENABLE_VIEW) is True
    con.setconfig(memora.dbapi.SQLITE_DBCONFIG_ENABLE_VIEW)
    with pytest.raises(memora.NotSupportedError, match="ENABLE_VIEW is on"):
        con.setconfig(memora.dbapi.SQLITE_DBCONFIG_ENABLE_VIEW, False)
    with pytest.raises(ValueError, match="unknown config 'op': -1"):
        con.getconfig(-1)


# ---------------------------------------------------------------- names of databases

def test_uri_modes(tmp_path):
    path = tmp_path / "a b.db"
    uri = f"file:{tmp_path}/a%20b.db"
    for mode in ("ro", "rw"):
        with pytest.raises(memora.CannotOpen, match="does not exist"):
            memora.dbapi.connect(f"{uri}?mode={mode}", uri=True)
    con = memora.dbapi.connect(uri, uri=True)
    con.execute("CREATE TABLE t(a)")
    assert path.exists()
    reader = memora.dbapi.connect(f"file://localhost{tmp_path}/a%20b.db?mode=ro#part", uri=True)
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
    reader.execute("PRAGMA query_only = OFF")
    with pytest.raises(memora.ReadOnly, match="readonly") as error:
        reader.execute("INSERT INTO t VALUES (1)")
    assert error.value.sqlite_errorname == "SQLITE_READONLY"
    reader.close()
    con.close()


@pytest.mark.parametrize("uri, message", [("file:x?mode=wild", "no such access mode: wild"), ("file:x?cache=big", "no such cache mode: big"),
                                          ("file://far/x", "invalid uri authority: far"), ("file:x?immutable=1", "option immutable=")])
def test_uris_that_mean_nothing_here(uri, message):
    with pytest.raises(memora.DatabaseError, match=message):
        memora.dbapi.connect(uri, uri=True)


def test_shared_memory_of_one_process():
    uri = "file:shared_by_name?mode=memory&cache=shared"
    one, two = (memora.dbapi.connect(uri, uri=True, isolation_level=None) for _ in range(2))
    one.execute("CREATE TABLE t(a)")
    assert two.execute("SELECT count(*) FROM t").fetchone() == (0,)
    alone = memora.dbapi.connect("file:shared_by_name?mode=memory", uri=True)
    with pytest.raises(memora.OperationalError, match="no such table"):
        alone.execute("SELECT * FROM t")
    for con in (one, two, alone):
        con.close()
    fresh = memora.dbapi.connect(uri, uri=True)
    with pytest.raises(memora.OperationalError, match="no such table"):
        fresh.execute("SELECT * FROM t")
    fresh.close()


def test_empty_name_is_a_private_database():
    con = memora.dbapi.connect("")
    con.execute("CREATE TABLE t(a)")
    con.close()


# ---------------------------------------------------------------- authorizer and traces

def test_authorizer_is_asked_as_by_sqlite3(con):
    lite = sqlite3.connect(":memory:", isolation_level=None)
    asked = {}
    for each in (lite, con):
        each.executescript("CREATE TABLE t(a, b); INSERT INTO t VALUES (1, 2); CREATE INDEX i ON t(b)")
        said = asked[each] = []
        each.set_authorizer(lambda *what, said=said: said.append(what) or 0)
        for sql in ("SELECT a, count(*) FROM t WHERE b > 1 GROUP BY a", "INSERT INTO t VALUES (1, 3)", "DELETE FROM t WHERE a = 7", "BEGIN", "COMMIT",
                    "PRAGMA table_info(t)", "SAVEPOINT s", "RELEASE s", "SELECT max(b) FROM (SELECT b FROM t)"):
            said.append(sql)
            each.execute(sql).fetchall()
    assert asked[con][:18] == asked[lite][:18]
    lite.close()


def test_authorizer_hides_a_column_and_refuses_statements(con):
    con.executescript("CREATE TABLE t(a, b); INSERT INTO t VALUES (1, 2); CREATE VIEW v AS SELECT a, b FROM t")
    assert con.execute("SELECT * FROM t").fetchall() == [(1, 2)]
    d = memora.dbapi
    con.set_authorizer(lambda action, first, second, *_: d.SQLITE_IGNORE if (action, second) == (d.SQLITE_READ, "b") else d.SQLITE_OK)
    assert con.execute("SELECT * FROM t").fetchall() == [(1, None)]
    assert con.execute("SELECT b, a FROM v").fetchall() == [(None, 1)]
    for action, sql, message in ((d.SQLITE_UPDATE, "UPDATE t SET a = 1", "not authorized"), (d.SQLITE_DROP_TABLE, "DROP TABLE t", "not authorized"),
                                 (d.SQLITE_FUNCTION, "SELECT abs(1)", "not authorized to use function: abs"),
                                 (d.SQLITE_READ, "SELECT a FROM t", "access to t.a is prohibited")):
        con.set_authorizer(lambda asked, *_, action=action: d.SQLITE_DENY if asked == action else d.SQLITE_OK)
        with pytest.raises(memora.NotAuthorized, match=message) as error:
            con.execute(sql)
        assert error.value.sqlite_errorcode == d.SQLITE_AUTH
    con.set_authorizer(lambda *_: 77)
    with pytest.raises(memora.NotAuthorized, match="authorizer malfunction"):
        con.execute("SELECT 1")
    con.set_authorizer(None)
    assert con.execute("SELECT * FROM t").fetchall() == [(1, 2)]


def test_trace_has_the_values_in_their_places(con):
    seen = []
    con.set_trace_callback(seen.append)
    con.execute("CREATE TABLE t(a)")
    con.execute("SELECT ?, '?', ?3, :a, ? -- ?", (1, "it's", None, b"\1", 2.5))
    con.execute("SELECT :a, :b", {"a": 1, "b": "x"})
    assert seen == ["CREATE TABLE t(a)", "SELECT 1, '?', NULL, x'01', 2.5 -- ?", "SELECT 1, 'x'"]


# ---------------------------------------------------------------- the rest

def test_made_again_it_is_another_connection(con):
    cursor = con.execute("VALUES (1), (2)")
    con.__init__(":memory:")
    with pytest.raises(memora.OperationalError, match="no such table"):
        con.execute("SELECT * FROM t")
    cursor.close()


def test_number_of_a_row_that_was_left_out_is_given_again(con):
    con.executescript("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE); INSERT INTO t(a) VALUES (1); BEGIN")
    con.execute("INSERT OR IGNORE INTO t(a) VALUES (1)")
    with pytest.raises(memora.IntegrityError):
        con.execute("INSERT OR FAIL INTO t(a) VALUES (1)")
    con.execute("INSERT INTO t(a) VALUES (1) ON CONFLICT DO UPDATE SET a = 5")
    assert con.execute("INSERT INTO t(a) VALUES (2)").lastrowid == 2
    con.execute("COMMIT")


def test_timeout_is_that_of_the_database(tmp_path):
    con = memora.dbapi.connect(tmp_path / "a.db", timeout=0.25)
    assert con._database._store.timeout_s == 0.25
    con.close()


def test_connections_that_are_forgotten_end_in_their_thread(con):
    def work():
        other = memora.dbapi.connect(":memory:")
        other.execute("CREATE TABLE t(a)")
        del other
        gc.collect()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
