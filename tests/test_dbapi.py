"""The DB-API: one set of expectations, held against sqlite3 itself, against the layer over a session that sqlite3 plays, and
against the real one."""
import datetime
import gc
import importlib.util
import sqlite3
import sys
import threading
from collections.abc import Sequence

import pytest
from played import PlayedDatabase

import memora.dbapi
from memora import errors

REAL = importlib.util.find_spec("memora.database") is not None


class Maker:
    """`maker.db` is the module, `maker(**options)` a connection."""

    def __init__(self, kind):
        self.kind = kind
        self.db = sqlite3 if kind == "sqlite3" else memora.dbapi
        self.made = []

    def __call__(self, **options):
        connection = self.db.connect(PlayedDatabase() if self.kind == "played" else ":memory:", **options)
        self.made.append(connection)
        return connection


@pytest.fixture(params=["sqlite3", "played", pytest.param("real", marks=pytest.mark.skipif(
    not REAL, reason="memora.database is not there"))])
def make(request):
    maker = Maker(request.param)
    yield maker
    for connection in maker.made:
        connection.close()


@pytest.fixture
def con(make):
    return make()


@pytest.fixture
def played():
    """A connection whose session tells what reached it."""
    database = PlayedDatabase()
    connection = memora.dbapi.connect(database)
    yield connection, database.last
    connection.close()


def test_module(make):
    db = make.db
    assert (db.apilevel, db.paramstyle) == ("2.0", "qmark") and db.threadsafety in (0, 1, 3)
    assert issubclass(db.Error, Exception) and issubclass(db.DatabaseError, db.Error) and issubclass(db.InterfaceError, db.Error)
    for name in ("DataError", "OperationalError", "IntegrityError", "InternalError", "ProgrammingError", "NotSupportedError"):
        assert issubclass(getattr(db, name), db.DatabaseError)
        assert getattr(make(), name) is getattr(db, name)
    assert issubclass(db.Warning, Exception) and not issubclass(db.Warning, db.Error)
    assert db.Binary(b"x") == b"x" and db.Date(2020, 1, 2) == datetime.date(2020, 1, 2)
    assert db.DateFromTicks(86400 * 10).year == 1970 and db.TimestampFromTicks(0).year in (1969, 1970)
    assert db.TimeFromTicks(0).second == 0 and db.PARSE_DECLTYPES == 1 and db.PARSE_COLNAMES == 2
    assert db.complete_statement("SELECT 1;") and not db.complete_statement("SELECT 1")


def test_rows_and_description(con):
    cur = con.cursor()
    assert cur.description is None and cur.rowcount == -1 and cur.lastrowid is None and cur.arraysize == 1
    assert cur.connection is con
    assert cur.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)") is cur
    assert cur.description is None and cur.rowcount == -1
    cur.execute("INSERT INTO t(b) VALUES ('x'), ('y'), ('z')")
    assert cur.rowcount == 3 and cur.lastrowid == 3 and cur.description is None
    cur.execute("SELECT a, b AS c FROM t ORDER BY a")
    assert cur.description == (("a",) + (None,) * 6, ("c",) + (None,) * 6) and cur.rowcount == -1
    assert cur.fetchone() == (1, "x") and cur.fetchmany() == [(2, "y")] and cur.fetchmany(5) == [(3, "z")]
    assert cur.fetchone() is None and cur.fetchall() == [] and cur.fetchmany(2) == []
    cur.arraysize = 2
    cur.execute("SELECT a FROM t ORDER BY a")
    assert cur.fetchmany() == [(1,), (2,)] and list(cur) == [(3,)] and cur.fetchone() is None
    assert [row for row in con.execute("SELECT a FROM t WHERE a < 3 ORDER BY a")] == [(1,), (2,)]
    cur.execute("UPDATE t SET b = 'w' WHERE a > 1")
    assert cur.rowcount == 2 and cur.lastrowid == 3
    cur.execute("DELETE FROM t WHERE a = 99")
    assert cur.rowcount == 0 and con.total_changes == 5
    cur.execute("SELECT a FROM t WHERE a = 99")
    assert cur.description[0][0] == "a" and cur.fetchone() is None


def test_parameters(con, make):
    one = con.execute("SELECT ?, ?, ?, ?, ?", (1, 2.5, "x", b"y", None)).fetchone()
    assert one == (1, 2.5, "x", b"y", None)
    assert con.execute("SELECT :a, :b", {"a": 1, "b": 2, "other": object()}).fetchone() == (1, 2)
    assert con.execute("SELECT ?, ?", [True, bytearray(b"z")]).fetchone() == (1, b"z")
    assert con.execute("SELECT ?", (memoryview(b"abc"),)).fetchone() == (b"abc",)
    assert con.execute("SELECT ?", range(5, 6)).fetchone() == (5,)
    assert con.execute("SELECT ?", "x").fetchone() == ("x",)

    class Word(str):
        pass

    class Pair:
        def __len__(self):
            return 2

        def __getitem__(self, place):
            return [7, 8][place]

    class Default(dict):
        def __missing__(self, name):
            return "missing " + name

    assert con.execute("SELECT ?, ?", Pair()).fetchone() == (7, 8)
    assert con.execute("SELECT :q", Default()).fetchone() == ("missing q",)
    assert con.execute("SELECT ?", (Word("w"),)).fetchone() == ("w",)
    assert con.execute("SELECT ?, ?", (2**63 - 1, -(2**63))).fetchone() == (2**63 - 1, -(2**63))
    with pytest.raises(OverflowError):
        con.execute("SELECT ?", (2**63,))
    for wrong in ((object(),), (1 + 2j,), ([],)):
        with pytest.raises((make.db.InterfaceError, make.db.ProgrammingError)):
            con.execute("SELECT ?", wrong)
    for wrong in (5, {1, 2}, iter([1])):
        with pytest.raises((make.db.ProgrammingError, ValueError)):
            con.execute("SELECT ?", wrong)
    for wrong in ((), (1, 2)):
        with pytest.raises(make.db.ProgrammingError):
            con.execute("SELECT ?", wrong)
    with pytest.raises(make.db.ProgrammingError):
        con.execute("SELECT :a", {"b": 1})


def test_executemany(con, make):
    con.execute("CREATE TABLE t(a, b)")
    cur = con.executemany("INSERT INTO t VALUES (?, ?)", ((n, str(n)) for n in range(5)))
    assert cur.rowcount == 5 and con.in_transaction
    assert con.execute("SELECT count(*), sum(a) FROM t").fetchone() == (5, 10)
    cur.executemany("UPDATE t SET b = :b WHERE a = :a", [{"a": 1, "b": "x"}, {"a": 9, "b": "y"}])
    assert cur.rowcount == 1
    cur.executemany("DELETE FROM t WHERE a = ?", [])
    assert cur.rowcount in (0, -1)
    with pytest.raises(make.db.ProgrammingError):
        con.executemany("SELECT ?", [(1,)])
    with pytest.raises(TypeError):
        con.executemany("INSERT INTO t VALUES (?, ?)", 5)


def test_executescript(con, make):
    con.execute("CREATE TABLE t(a)")
    con.execute("INSERT INTO t VALUES (1)")
    cur = con.cursor()
    assert cur.executescript("-- two\nINSERT INTO t VALUES (2); INSERT INTO t VALUES (';');; SELECT * FROM t;") is cur
    assert not con.in_transaction and cur.fetchone() is None
    con.rollback()
    assert con.execute("SELECT count(*) FROM t").fetchone() == (3,)
    with pytest.raises(make.db.OperationalError):
        con.executescript("INSERT INTO t VALUES (4); SELEC; INSERT INTO t VALUES (5)")
    assert con.execute("SELECT count(*) FROM t").fetchone() == (4,)
    with pytest.raises((TypeError, ValueError)):
        con.executescript(b"SELECT 1")


def test_odd_texts(con, make):
    cur = con.cursor()
    assert cur.execute("").fetchall() == [] and cur.execute(" -- only this\n;").description is None
    with pytest.raises(TypeError):
        cur.execute(5)
    with pytest.raises((make.db.ProgrammingError, ValueError)):
        cur.execute("SELECT 1\0")
    with pytest.raises((make.db.ProgrammingError, make.db.Warning)):
        cur.execute("SELECT 1; SELECT 2")
    assert cur.execute("SELECT 1; -- fine").fetchone() == (1,)
    with pytest.raises(make.db.OperationalError, match='near "SELEC": syntax error'):
        cur.execute("SELEC 1")
    with pytest.raises(make.db.OperationalError, match="no such table: missing"):
        cur.execute("SELECT * FROM missing")


def test_implicit_transactions(con):
    con.execute("CREATE TABLE t(a)")
    assert not con.in_transaction
    con.execute("SELECT * FROM t")
    assert not con.in_transaction
    con.execute("/* x */ -- y\n insert into t values (1)")
    assert con.in_transaction
    con.rollback()
    assert not con.in_transaction and con.execute("SELECT * FROM t").fetchall() == []
    con.rollback()
    con.commit()
    con.execute("INSERT INTO t VALUES (1)")
    con.commit()
    assert not con.in_transaction and con.execute("SELECT * FROM t").fetchall() == [(1,)]
    for text in ("UPDATE t SET a = 2", "DELETE FROM t", "REPLACE INTO t VALUES (5)"):
        con.execute(text)
        assert con.in_transaction
        con.rollback()
    con.execute("BEGIN")
    con.execute("DELETE FROM t")
    con.execute("ROLLBACK")
    assert con.execute("SELECT * FROM t").fetchall() == [(1,)]


def test_isolation_level_none(make):
    con = make(isolation_level=None)
    con.execute("CREATE TABLE t(a)")
    con.execute("INSERT INTO t VALUES (1)")
    assert not con.in_transaction and con.isolation_level is None
    con.isolation_level = "immediate"
    con.execute("INSERT INTO t VALUES (2)")
    assert con.in_transaction
    con.isolation_level = None
    assert not con.in_transaction and con.execute("SELECT count(*) FROM t").fetchone() == (2,)
    with pytest.raises(ValueError):
        con.isolation_level = "sometimes"
    with pytest.raises(TypeError):
        con.isolation_level = 5
    with pytest.raises(ValueError):
        make(isolation_level="sometimes")


def test_context_manager(con, make):
    con.execute("CREATE TABLE t(a UNIQUE)")
    with con as same:
        assert same is con
        con.execute("INSERT INTO t VALUES (1)")
    assert not con.in_transaction
    with pytest.raises(ZeroDivisionError), con:
        con.execute("INSERT INTO t VALUES (2)")
        raise ZeroDivisionError
    assert not con.in_transaction and con.execute("SELECT * FROM t").fetchall() == [(1,)]
    with pytest.raises(make.db.IntegrityError), con:
        con.execute("INSERT INTO t VALUES (1)")
    assert con.execute("SELECT * FROM t").fetchall() == [(1,)]


def test_begin_follows_the_level(played):
    con, session = played
    con.execute("CREATE TABLE t(a)")
    for level, mode in (("", "DEFERRED"), ("DEFERRED", "DEFERRED"), ("immediate", "IMMEDIATE"), ("EXCLUSIVE", "EXCLUSIVE")):
        con.isolation_level = level
        con.execute("INSERT INTO t VALUES (1)")
        con.execute("INSERT INTO t VALUES (2)")
        con.commit()
        assert session.log[-4:] == [f"BEGIN {mode}", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)", "COMMIT"]


def test_autocommit_true_and_false():
    database = PlayedDatabase()
    con = memora.dbapi.connect(database, autocommit=True)
    assert con.autocommit is True
    con.execute("CREATE TABLE t(a)")
    con.execute("INSERT INTO t VALUES (1)")
    assert not con.in_transaction
    con.execute("BEGIN")
    con.commit()
    con.rollback()
    with con:
        pass
    assert con.in_transaction
    con.autocommit = False
    assert con.in_transaction and con.autocommit is False
    con.execute("INSERT INTO t VALUES (2)")
    con.commit()
    assert con.in_transaction
    con.execute("INSERT INTO t VALUES (3)")
    con.rollback()
    assert con.in_transaction and con.execute("SELECT count(*) FROM t").fetchone() == (2,)
    with pytest.raises(ZeroDivisionError), con:
        con.execute("INSERT INTO t VALUES (4)")
        raise ZeroDivisionError
    con.executescript("INSERT INTO t VALUES (5)")
    con.rollback()
    assert con.execute("SELECT count(*) FROM t").fetchone() == (2,)
    con.autocommit = memora.dbapi.LEGACY_TRANSACTION_CONTROL
    assert con.autocommit == -1
    con.autocommit = True
    assert not con.in_transaction
    with pytest.raises(ValueError):
        con.autocommit = 5
    con.close()
    assert database.last.closed and not database.closed
    con = memora.dbapi.connect(database, autocommit=False)
    assert con.in_transaction
    con.close()
    assert database.last.log[-1] == "ROLLBACK"


def test_row(con, make):
    con.row_factory = make.db.Row
    row = con.execute("SELECT 1 AS a, 'x' AS Bee, 3 AS a").fetchone()
    assert isinstance(row, make.db.Row) and isinstance(row, Sequence)
    assert row["a"] == 1 and row["bee"] == "x" and row["BEE"] == "x" and row[1] == "x" and row[-1] == 3 and row[0:2] == (1, "x")
    assert row.keys() == ["a", "Bee", "a"] and len(row) == 3 and tuple(row) == (1, "x", 3) and list(reversed(row)) == [3, "x", 1]
    assert dict(row) == {"a": 1, "Bee": "x"} and "x" in row
    same = con.execute("SELECT 1 AS a, 'x' AS Bee, 3 AS a").fetchone()
    other = con.execute("SELECT 1 AS z, 'x' AS Bee, 3 AS a").fetchone()
    assert row == same and hash(row) == hash(same) and row != other and row != (1, "x", 3) and (row == 5) is False
    for wrong in ("c", 3, -4, 1.5, None):
        with pytest.raises(IndexError):
            row[wrong]
    cur = con.cursor()
    with pytest.raises(TypeError):
        make.db.Row(cur)
    with pytest.raises(TypeError):
        make.db.Row((), ())
    with pytest.raises(TypeError):
        make.db.Row(cur, [1])
    assert len(make.db.Row(cur, ())) == 0


def test_row_factory(con):
    con.row_factory = lambda cursor, row: {entry[0]: value for entry, value in zip(cursor.description, row)}
    assert con.execute("SELECT 1 AS a").fetchall() == [{"a": 1}]
    cur = con.cursor()
    cur.row_factory = lambda cursor, row: list(row)
    assert cur.execute("SELECT 1, 2").fetchone() == [1, 2] and list(cur.execute("SELECT 3")) == [[3]]
    con.executescript("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2), (3)")
    assert cur.execute("SELECT a FROM t ORDER BY a").fetchmany(2) == [[1], [2]]


def test_text_factory(con):
    con.text_factory = bytes
    assert con.execute("SELECT 'é', 1, x'00', NULL").fetchone() == ("é".encode(), 1, b"\0", None)
    con.text_factory = lambda raw: raw.decode() + "!"
    assert con.execute("SELECT 'x'").fetchone() == ("x!",)
    con.text_factory = bytearray
    assert con.execute("SELECT 'x'").fetchall() == [(bytearray(b"x"),)]


@pytest.mark.filterwarnings("ignore:The default:DeprecationWarning")
def test_converters(make):
    db = make.db
    con = make(detect_types=db.PARSE_DECLTYPES | db.PARSE_COLNAMES)
    db.register_converter("Upper", lambda raw: raw.upper())
    con.execute("CREATE TABLE t(d date, s timestamp, u upper(10), n integer)")
    day, moment = datetime.date(2020, 2, 3), datetime.datetime(2020, 2, 3, 4, 5, 6, 7000)
    con.execute("INSERT INTO t VALUES (?, ?, 'abc', 5)", (day, moment))
    con.execute("INSERT INTO t VALUES (NULL, NULL, 12, NULL)")
    assert con.execute("SELECT d, s, u, n FROM t").fetchall() == [(day, moment, b"ABC", 5), (None, None, b"12", None)]
    cur = con.execute("SELECT u AS 'x [date]', '2021-01-02' AS 'd [date]', 5 AS 'e [nothing]' FROM t WHERE 0")
    assert [entry[0] for entry in cur.description] == ["x", "d", "e"]
    assert con.execute("SELECT '2021-01-02' AS 'd [date]', 5 AS 'e [nothing]'").fetchone() == (datetime.date(2021, 1, 2), 5)
    assert con.execute("SELECT '2021-01-02 03:04:05' AS 'd [timestamp]'").fetchone() == (
        datetime.datetime(2021, 1, 2, 3, 4, 5),)
    plain = make()
    assert plain.execute("SELECT '2021-01-02' AS 'd [date]'").description[0][0] == "d [date]"


def test_timestamp_with_zone():
    read = memora.dbapi.converters["TIMESTAMP"]
    assert read(b"2021-01-02 03:04:05.25-01:30") == datetime.datetime(
        2021, 1, 2, 3, 4, 5, 250000, datetime.timezone(-datetime.timedelta(hours=1, minutes=30)))


@pytest.mark.filterwarnings("ignore:The default:DeprecationWarning")
def test_adapters(con, make):
    class Point:
        def __init__(self, x, y):
            self.x, self.y = x, y

    class Own:
        def __conform__(self, protocol):
            return "own" if protocol is make.db.PrepareProtocol else None

    make.db.register_adapter(Point, lambda point: f"{point.x};{point.y}")
    assert con.execute("SELECT ?, ?", (Point(1, 2), Own())).fetchone() == ("1;2", "own")
    assert con.execute("SELECT ?", (datetime.date(2020, 1, 2),)).fetchone() == ("2020-01-02",)
    assert con.execute("SELECT :p", {"p": Point(3, 4)}).fetchone() == ("3;4",)
    con.execute("CREATE TABLE t(a)")
    con.executemany("INSERT INTO t VALUES (?)", [(Point(5, 6),)])
    assert con.execute("SELECT a FROM t").fetchone() == ("5;6",)
    assert make.db.adapt(Point(1, 2)) == "1;2" and make.db.adapt(5, make.db.PrepareProtocol, "alt") in (5, "alt")
    with pytest.raises(make.db.ProgrammingError):
        make.db.adapt(object())


def test_errors_come_from_execute(con, make):
    """What fails in the first row fails in execute, as in sqlite3."""
    with pytest.raises(make.db.Error):
        con.execute("SELECT abs(-9223372036854775807 - 1)")


def test_closed(con, make):
    cur = con.cursor()
    cur.close()
    for use in (lambda: cur.execute("SELECT 1"), cur.fetchone, cur.fetchall, lambda: next(cur)):
        with pytest.raises(make.db.ProgrammingError):
            use()
    cur = con.execute("SELECT 1")
    con.close()
    con.close()
    for use in (con.cursor, con.commit, con.rollback, lambda: con.execute("SELECT 1"), lambda: con.in_transaction, cur.fetchone,
                lambda: con.total_changes, lambda: con.executescript("SELECT 1")):
        with pytest.raises(make.db.ProgrammingError):
            use()


def test_closed_connection_cannot_be_entered(played):
    con, _ = played
    con.close()
    with pytest.raises(errors.ProgrammingError), con:
        pytest.fail("entered")


def test_threads(make):
    con = make()
    cur = con.execute("SELECT 1")
    found = []

    def use():
        for work in (con.cursor, con.commit, cur.fetchone, con.close):
            try:
                work()
            except make.db.ProgrammingError as error:
                found.append("thread" in str(error))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(30)
    assert found == [True] * 4 and cur.fetchone() == (1,)
    shared = make(check_same_thread=False)
    thread = threading.Thread(target=lambda: shared.execute("CREATE TABLE t(a)"))
    thread.start()
    thread.join(30)
    assert shared.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_recursive_use(con, make):
    con.execute("CREATE TABLE t(a)")
    cur = con.cursor()

    def rows():
        yield 1,
        cur.execute("SELECT 1")

    with pytest.raises(make.db.ProgrammingError, match="Recursive use"):
        cur.executemany("INSERT INTO t VALUES (?)", rows())
    assert cur.execute("SELECT 1").fetchone() == (1,)


def test_factories(make):
    class MyConnection(make.db.Connection):
        def cursor(self, factory=None):
            return super().cursor(factory or MyCursor)

    class MyCursor(make.db.Cursor):
        pass

    con = make(factory=MyConnection)
    assert type(con) is MyConnection and type(con.cursor()) is MyCursor
    assert type(con.cursor(MyCursor)) is MyCursor
    with pytest.raises(TypeError):
        con.cursor(lambda connection: 5)


def test_trace(con):
    seen = []
    con.set_trace_callback(seen.append)
    con.execute("SELECT 1")
    con.set_trace_callback(None)
    con.execute("SELECT 2")
    assert seen == ["SELECT 1"]


def test_two_cursors(con):
    con.executescript("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2), (3)")
    first, second = con.execute("SELECT a FROM t ORDER BY a"), con.execute("SELECT a FROM t ORDER BY a DESC")
    assert [next(first), next(second), next(first), next(second)] == [(1,), (3,), (2,), (2,)]


def test_not_supported_says_so(played):
    con, _ = played
    for use in (lambda: con.load_extension("x"), lambda: con.enable_load_extension(True), lambda: con.setconfig(1003, False)):
        with pytest.raises(errors.NotSupportedError):
            use()
    with pytest.raises(errors.NotSupportedError, match="vfs="):
        memora.dbapi.connect("file:x?vfs=unix", uri=True)


def test_dropped_connection_closes_its_session():
    database = PlayedDatabase()
    con = memora.dbapi.connect(database)
    con.execute("CREATE TABLE t(a)")
    con.execute("INSERT INTO t VALUES (1)")
    del con
    gc.collect()
    assert database.last.closed and database.last.log[-1] == "ROLLBACK"


def test_failed_session_closes_the_database(monkeypatch):
    opened = []

    class Failing(PlayedDatabase):
        def session(self):
            opened.append(self)
            raise errors.RegionFull("no room")

    monkeypatch.setattr(memora.database, "open", lambda name, **options: Failing())
    with pytest.raises(errors.RegionFull):
        memora.dbapi.connect("x")
    assert opened[0].closed
