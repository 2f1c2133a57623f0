"""The parser: every production's tree, SQLite's precedence, its errors, its texts, and hostile input."""
import gzip
import logging
import os
import random
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import counters
import pytest
from sqlcorpus import OWN, SCHEMA, STATEMENTS, spoil, tokens

from memora import errors
from memora.sql import ast
from memora.sql.ast import (Analyze, Assignment, Attach, Begin, Between, Binary, Case, Cast, CheckConstraint, Collate,
                            CollateConstraint, Column, ColumnDef, Commit, CommonTable, Compound, CreateIndex,
                            CreateQueue, CreateTable, CreateTopic, CreateTrigger, CreateView, CreateVirtualTable,
                            CurrentTime, DefaultConstraint, Delete, Detach, Drop, Exists, Explain,
                            ForeignKeyConstraint, Frame, FrameBound, Function, GeneratedConstraint, In, IndexedColumn,
                            Insert, IsNull, Join, Like, Literal, NamedWindow, NotNullConstraint, Option, OrderTerm,
                            Param, Pragma, PrimaryKeyConstraint, Raise, Reindex, Release, ResultColumn, Rollback,
                            RowValue, Savepoint, ScalarSubquery, Select, SelectCore, Star, SubquerySource,
                            TableFunction, TableName, TableRef, Unary, UniqueConstraint, Update, Upsert, Vacuum,
                            Values, Watch, Window, With)
from memora.sql.node import fields
from memora.sql.parser import complete_statement, is_blank, parse, parse_script, scanned

ALL = os.environ.get("MEMORA_TEST_ALL") == "1"
SLT = Path(os.environ.get("MEMORA_SLT_DIR", Path(__file__).parent.parent.parent / "shared" / "slt"))

a, b, c = Column("a"), Column("b"), Column("c")
one, two, three = Literal(1), Literal(2), Literal(3)
t, u = TableName("t"), TableName("u")


def of(expr, alias=None):
    return ResultColumn(expr, alias)


def query(*columns, source=None, **rest):
    outer = {name: rest.pop(name) for name in ("compounds", "order_by", "limit", "offset", "with_") if name in rest}
    return Select(SelectCore(tuple(column if isinstance(column, ResultColumn) else of(column) for column in columns),
                             source=source, **rest), **outer)


def expression(text):
    return parse(f"SELECT {text}").core.columns[0].expr


EXPRESSIONS = [
    ("1", one), ("1.0", Literal(1.0)), (".5", Literal(0.5)), ("5.", Literal(5.0)), ("1e3", Literal(1000.0)),
    ("0x1F", Literal(31)), ("0xffffffffffffffff", Literal(-1)), ("1_000", Literal(1000)),
    ("9223372036854775807", Literal(2**63 - 1)), ("9223372036854775808", Literal(2.0**63)),
    ("-9223372036854775808", Literal(-2**63)), ("-9223372036854775809", Unary("-", Literal(2.0**63))),
    ("- -9223372036854775808", Unary("-", Literal(-2**63))), ("9" * 5000, Literal(float("inf"))),
    ("'it''s'", Literal("it's")), ("x'00Ff'", Literal(b"\0\xff")), ("NULL", Literal(None)),
    ("current_time", CurrentTime("CURRENT_TIME")),
    ("a", a), ('"a""b"', Column('a"b')), ("[a b]", Column("a b")), ("`a```", Column("a`")), ("t.a", Column("a", "t")),
    ("main.t.a", Column("a", "t", "main")), ("'t'.a", Column("a", "t")), ("true", Column("true")), ("é", Column("é")),
    ("key", Column("key")), ("left", Column("left")), ("replace", Column("replace")), ("window", Column("window")),
    ("?", Param(1)), ("?3", Param(3, "?3")), (":x", Param(1, ":x")), ("@x", Param(1, "@x")), ("$x", Param(1, "$x")),
    ("-a", Unary("-", a)), ("+a", Unary("+", a)), ("~a", Unary("~", a)), ("NOT a", Unary("NOT", a)),
    ("a == b", Binary("=", a, b)), ("a != b", Binary("<>", a, b)), ("a IS b", Binary("IS", a, b)),
    ("a IS NOT b", Binary("IS NOT", a, b)), ("a IS NOT DISTINCT FROM b", Binary("IS", a, b)),
    ("a IS DISTINCT FROM b", Binary("IS NOT", a, b)), ("a IS NULL", IsNull(a)), ("a IS NOT NULL", IsNull(a, True)),
    ("a ISNULL", IsNull(a)), ("a NOTNULL", IsNull(a, True)), ("a NOT NULL", IsNull(a, True)),
    ("a -> 'x' ->> b", Binary("->>", Binary("->", a, Literal("x")), b)),
    ("a OR b AND c", Binary("OR", a, Binary("AND", b, c))), ("NOT a = b", Unary("NOT", Binary("=", a, b))),
    ("a = b < c", Binary("=", a, Binary("<", b, c))), ("a < b & c", Binary("<", a, Binary("&", b, c))),
    ("a << b + c", Binary("<<", a, Binary("+", b, c))), ("a + b * c", Binary("+", a, Binary("*", b, c))),
    ("a % b || c", Binary("%", a, Binary("||", b, c))), ("a - b - c", Binary("-", Binary("-", a, b), c)),
    ("a || b COLLATE x", Binary("||", a, Collate(b, "x"))), ("-a COLLATE x", Collate(Unary("-", a), "x")),
    ("a = NOT b = c", Binary("=", a, Unary("NOT", Binary("=", b, c)))),
    ("a + NOT b AND c", Binary("AND", Binary("+", a, Unary("NOT", b)), c)),
    ("a + b ISNULL + c", Binary("+", IsNull(Binary("+", a, b)), c)),
    ("a IN (1) || b", Binary("||", In(a, (one,)), b)),
    ("a LIKE b", Like("LIKE", a, b)), ("a NOT GLOB b", Like("GLOB", a, b, None, True)),
    ("a LIKE b ESCAPE c", Like("LIKE", a, b, c)), ("a REGEXP b", Like("REGEXP", a, b)),
    ("a MATCH b", Like("MATCH", a, b)), ("a BETWEEN b AND c", Between(a, b, c)),
    ("a NOT BETWEEN 1 AND 2 AND 3", Binary("AND", Between(a, one, two, True), three)),
    ("a IN ()", In(a, ())), ("a IN (1, 2)", In(a, (one, two))), ("a NOT IN (SELECT 1)", In(a, None, query(one), None, True)),
    ("a IN t", In(a, None, None, TableRef(t))), ("a IN main.t(1)", In(a, table=TableFunction(TableName("t", "main"), (one,)))),
    ("(a, b) = (1, 2)", Binary("=", RowValue((a, b)), RowValue((one, two)))), ("((a))", a),
    ("(SELECT 1)", ScalarSubquery(query(one))), ("EXISTS (SELECT 1)", Exists(query(one))),
    ("CASE a WHEN 1 THEN 2 ELSE 3 END", Case(a, ((one, two),), three)),
    ("CASE WHEN a THEN 1 WHEN b THEN 2 END", Case(None, ((a, one), (b, two)))),
    ("CAST(a AS decimal (10, -2))", Cast(a, "decimal (10, -2)")), ("CAST(a AS)", Cast(a, "")),
    ("RAISE(IGNORE)", Raise("IGNORE")), ("raise(abort, 'x')", Raise("ABORT", Literal("x"))),
    ("f()", Function("f")), ("count(*)", Function("count", star=True)), ("f(DISTINCT a, b)", Function("f", (a, b), True)),
    ("f(a ORDER BY b DESC) FILTER (WHERE c)", Function("f", (a,), order_by=(OrderTerm(b, True),), filter=c)),
    ("f(a) OVER w", Function("f", (a,), over="w")),
    ("f(a) OVER (w PARTITION BY a, b ORDER BY c)", Function("f", (a,), over=Window("w", (a, b), (OrderTerm(c),)))),
    ("f(a) OVER (ROWS 1 PRECEDING)", Function("f", (a,), over=Window(
        frame=Frame("ROWS", FrameBound("PRECEDING", one), FrameBound("CURRENT ROW"))))),
    ("f(a) OVER (GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING EXCLUDE TIES)", Function("f", (a,), over=Window(
        frame=Frame("GROUPS", FrameBound("UNBOUNDED PRECEDING"), FrameBound("FOLLOWING", one), "TIES")))),
    ("replace(a, b, c)", Function("replace", (a, b, c))), ("like(a, b)", Function("like", (a, b))),
]


@pytest.mark.parametrize("text, expected", EXPRESSIONS, ids=[text[:60] for text, _ in EXPRESSIONS])
def test_expressions(text, expected):
    assert expression(text) == expected


def test_literal_types_differ():
    assert Literal(1) != Literal(1.0) and Literal("1") != Literal(1) and Literal(1) == Literal(1, pos=9)
    assert len({Literal(1), Literal(1.0), Literal(1, pos=3)}) == 2


QUERIES = [
    ("SELECT a AS x, b y, c 'z', t.*, * FROM t",
     query(of(a, "x"), of(b, "y"), of(c, "z"), Star("t"), Star(), source=TableRef(t))),
    ("SELECT DISTINCT a FROM t AS x WHERE b GROUP BY a, b HAVING c ORDER BY a DESC NULLS LAST, 2 LIMIT 1 OFFSET 2",
     query(a, distinct=True, source=TableRef(t, "x"), where=b, group_by=(a, b), having=c,
           order_by=(OrderTerm(a, True, "LAST"), OrderTerm(two)), limit=one, offset=two)),
    ("SELECT 1 LIMIT 2, 3", query(one, limit=three, offset=two)),
    ("VALUES (1, a), (2, b)", Select(Values(((one, a), (two, b))))),
    ("SELECT 1 UNION ALL VALUES (2) EXCEPT SELECT 3 ORDER BY 1",
     query(one, compounds=(Compound("UNION ALL", Values(((two,),))),
                           Compound("EXCEPT", SelectCore((of(three),)))), order_by=(OrderTerm(one),))),
    ("SELECT 1 FROM t, u", query(one, source=Join(TableRef(t), TableRef(u)))),
    ("SELECT 1 FROM t x NATURAL LEFT OUTER JOIN u", query(one, source=Join(TableRef(t, "x"), TableRef(u), "LEFT", True))),
    ("SELECT 1 FROM t CROSS JOIN u ON a", query(one, source=Join(TableRef(t), TableRef(u), "CROSS", on=a))),
    ("SELECT 1 FROM t FULL JOIN u USING (a, b) RIGHT JOIN t ON b", query(one, source=Join(
        Join(TableRef(t), TableRef(u), "FULL", using=("a", "b")), TableRef(t), "RIGHT", on=b))),
    ("SELECT 1 FROM (t JOIN u)", query(one, source=Join(TableRef(t), TableRef(u)))),
    ("SELECT 1 FROM (t) AS x", query(one, source=SubquerySource(query(Star(), source=TableRef(t)), "x"))),
    ("SELECT 1 FROM (SELECT 2) x", query(one, source=SubquerySource(query(two), "x"))),
    ("SELECT 1 FROM main.f(1, 2) AS x", query(one, source=TableFunction(TableName("f", "main"), (one, two), "x"))),
    ("SELECT 1 FROM t INDEXED BY i, u NOT INDEXED",
     query(one, source=Join(TableRef(t, indexed_by="i"), TableRef(u, not_indexed=True)))),
    ("SELECT 1 WINDOW w AS (ORDER BY a)", query(one, windows=(NamedWindow("w", Window(order_by=(OrderTerm(a),))),))),
    ("WITH RECURSIVE x(p, q) AS NOT MATERIALIZED (SELECT 1) SELECT 2", query(two, with_=With(
        (CommonTable("x", ("p", "q"), query(one), False),), True))),
    ("INSERT INTO t VALUES (1)", Insert(t, None, Select(Values(((one,),))))),
    ("INSERT OR IGNORE INTO main.t AS x (a, b) DEFAULT VALUES RETURNING *",
     Insert(TableName("t", "main"), ("a", "b"), None, "IGNORE", "x", (), (of(Star()),))),
    ("REPLACE INTO t SELECT 1", Insert(t, None, query(one), "REPLACE")),
    ("INSERT INTO t SELECT 1 ON CONFLICT (a COLLATE x) WHERE b DO UPDATE SET a = 1, (b, c) = (1, 2) WHERE c ON CONFLICT DO NOTHING",
     Insert(t, None, query(one), upserts=(
         Upsert((IndexedColumn(a, "x"),), b, (Assignment(("a",), one), Assignment(("b", "c"), RowValue((one, two)))), c),
         Upsert()))),
    ("WITH x AS (SELECT 1) UPDATE OR FAIL t AS y INDEXED BY i SET a = 1 FROM u WHERE b RETURNING a ORDER BY c LIMIT 1",
     Update(TableRef(t, "y", "i"), (Assignment(("a",), one),), TableRef(u), b, (OrderTerm(c),), one, None, "FAIL", (of(a),),
            With((CommonTable("x", (), query(one)),)))),
    ("DELETE FROM t WHERE a RETURNING b LIMIT 1 OFFSET 2", Delete(TableRef(t), a, (), one, two, (of(b),))),
    ("CREATE TEMP TABLE IF NOT EXISTS t AS SELECT 1", CreateTable(t, select=query(one), if_not_exists=True, temporary=True)),
    ("CREATE TABLE main.t(a integer PRIMARY KEY DESC ON CONFLICT FAIL AUTOINCREMENT, b CONSTRAINT k NOT NULL UNIQUE DEFAULT -1) "
     "STRICT, WITHOUT ROWID", CreateTable(TableName("t", "main"), (
         ColumnDef("a", "integer", (PrimaryKeyConstraint((), True, True, "FAIL"),)),
         ColumnDef("b", None, (NotNullConstraint(name="k"), UniqueConstraint(), DefaultConstraint(Unary("-", one))))),
         strict=True, without_rowid=True)),
    ("CREATE TABLE t(a DEFAULT (1 + 2) CHECK (a > 1) COLLATE x, b AS (1) STORED, c DEFAULT x REFERENCES u(a) ON DELETE CASCADE "
     "ON UPDATE SET NULL MATCH y DEFERRABLE INITIALLY DEFERRED)", CreateTable(t, (
         ColumnDef("a", None, (DefaultConstraint(Binary("+", one, two)), CheckConstraint(Binary(">", a, one)),
                               CollateConstraint("x"))),
         ColumnDef("b", None, (GeneratedConstraint(one, True),)),
         ColumnDef("c", None, (DefaultConstraint(Literal("x")), ForeignKeyConstraint(
             "u", ("a",), (), "CASCADE", "SET NULL", "y", True)))))),
    ("CREATE TABLE t(a, CONSTRAINT k PRIMARY KEY (a DESC, b), UNIQUE (a COLLATE x) ON CONFLICT IGNORE, CHECK (a), "
     "FOREIGN KEY (a, b) REFERENCES u NOT DEFERRABLE) WITH (ttl = '30s', n = -5, w = sieve, x = NULL)",
     CreateTable(t, (ColumnDef("a"),), (
         PrimaryKeyConstraint((IndexedColumn(a, None, True), IndexedColumn(b)), name="k"),
         UniqueConstraint((IndexedColumn(a, "x"),), "IGNORE"), CheckConstraint(a),
         ForeignKeyConstraint("u", (), ("a", "b"))),
         options=(Option("ttl", "30s"), Option("n", -5), Option("w", "sieve"), Option("x", None)))),
    ("CREATE UNIQUE INDEX IF NOT EXISTS main.i ON t(a COLLATE x DESC, b + 1) WHERE c", CreateIndex(
        TableName("i", "main"), TableName("t", "main"),
        (IndexedColumn(a, "x", True), IndexedColumn(Binary("+", b, one))), True, True, c)),
    ("CREATE VIEW t(x) AS SELECT 1", CreateView(t, query(one), ("x",))),
    ("CREATE TRIGGER t INSTEAD OF UPDATE OF a, b ON u FOR EACH ROW WHEN a BEGIN SELECT 1; DELETE FROM u; END", CreateTrigger(
        t, u, "UPDATE", (query(one), Delete(TableRef(u))), "INSTEAD OF", ("a", "b"), a)),
    ("CREATE TRIGGER t DELETE ON u BEGIN SELECT 1; END", CreateTrigger(t, u, "DELETE", (query(one),))),
    ("CREATE VIRTUAL TABLE t USING fts5(a, b = 'x,(' , c(1, 2))", CreateVirtualTable(t, "fts5", ("a", "b = 'x,('", "c(1, 2)"))),
    ("CREATE TOPIC IF NOT EXISTS t WITH (retain = 5)", CreateTopic(t, (Option("retain", 5),), True)),
    ("CREATE QUEUE t", CreateQueue(t)),
    ("DROP TABLE IF EXISTS main.t", Drop("TABLE", TableName("t", "main"), True)), ("DROP QUEUE t", Drop("QUEUE", t)),
    ("ALTER TABLE t RENAME TO x", ast.RenameTable(t, "x")), ("ALTER TABLE t RENAME a TO x", ast.RenameColumn(t, "a", "x")),
    ("ALTER TABLE t ADD COLUMN a INT DEFAULT 1", ast.AddColumn(t, ColumnDef("a", "INT", (DefaultConstraint(one),)))),
    ("ALTER TABLE t DROP a", ast.DropColumn(t, "a")),
    ("BEGIN", Begin()), ("BEGIN IMMEDIATE TRANSACTION", Begin("IMMEDIATE")), ("COMMIT", Commit()), ("END", Commit()),
    ("ROLLBACK", Rollback()), ("ROLLBACK TO SAVEPOINT x", Rollback("x")), ("SAVEPOINT x", Savepoint("x")),
    ("RELEASE x", Release("x")), ("PRAGMA x", Pragma("x")), ("PRAGMA main.x = -5", Pragma("x", "main", -5, True)),
    ("PRAGMA x(on)", Pragma("x", None, "on", True)), ("ATTACH 'x' AS a", Attach(Literal("x"), a)), ("DETACH a", Detach(a)),
    ("ANALYZE", Analyze()), ("REINDEX t", Reindex(t)), ("VACUUM main INTO 'x'", Vacuum("main", Literal("x"))),
    ("EXPLAIN SELECT 1", Explain(query(one))), ("EXPLAIN QUERY PLAN SELECT 1", Explain(query(one), "QUERY PLAN")),
    ("EXPLAIN ANALYZE SELECT 1", Explain(query(one), "ANALYZE")), ("EXPLAIN ANALYZE", Explain(Analyze())),
    ("WATCH SELECT 1", Watch(query(one))),
]


@pytest.mark.parametrize("text, expected", QUERIES, ids=[text[:60] for text, _ in QUERIES])
def test_statements(text, expected):
    assert parse(text + " ; ") == expected
    assert parse(text.replace(" ", "\n\t/* x */ ") if "'" not in text else text) == expected


@pytest.mark.parametrize("text", STATEMENTS + OWN)
def test_corpus_parses(text):
    assert isinstance(parse(text), ast.Statement)


def test_parameters_are_numbered_as_sqlite_does():
    found = parse("SELECT ?, :a, ?5, ?, :a, @a, $b, ?2")
    assert [column.expr.index for column in found.core.columns] == [1, 2, 5, 6, 2, 7, 8, 2]
    assert found.params == (None, ":a", None, None, "?5", None, "@a", "$b")
    assert parse("SELECT 1").params == ()
    with pytest.raises(errors.SQLSyntaxError, match="variable number must be between"):
        parse("SELECT ?0")


def test_positions():
    text = "SELECT a, t.b\nFROM main.t WHERE f(x) = 1"
    found = parse(text)
    assert text[found.core.columns[1].expr.pos:].startswith("t.b")
    assert text[found.core.source.table.pos:].startswith("t WHERE")
    assert text[found.core.where.left.pos:].startswith("f(x)") and text[found.core.where.pos] == "="


# ----------------------------------------------------------------------------------------------------------- errors

ERRORS = [
    ("SELEC 1", 'near "SELEC": syntax error\n  SELEC 1\n  ^'),
    ("SELECT a FRM t", 'near "t": syntax error\n  SELECT a FRM t\n               ^'),
    ("SELECT a\nFROM t\n WERE a = 1", 'near "a": syntax error\nline 3:  WERE a = 1\n              ^'),
    ("SELECT (1", "incomplete input\n  SELECT (1\n           ^"),
    ("SELECT 1,;", 'near ";": syntax error\n  SELECT 1,;\n           ^'),
    ("SELECT 'abc", "unrecognized token: \"'abc\"\n  SELECT 'abc\n         ^"),
    ("SELECT 12ab", 'unrecognized token: "12ab"\n  SELECT 12ab\n         ^'),
    ("SELECT x'0'", "unrecognized token: \"x'0'\"\n  SELECT x'0'\n         ^"),
    ("SELECT # FROM", 'unrecognized token: "#"\n  SELECT # FROM\n         ^'),
    ("SELECT 1 \0", 'unrecognized token: "\0"\n  SELECT 1  \n           ^'),
    ("SELECT 1 ORDER BY 1 UNION SELECT 2",
     "ORDER BY clause should come after UNION not before\n  SELECT 1 ORDER BY 1 UNION SELECT 2\n                      ^"),
    ("SELECT 1 FROM t LEFT INNER JOIN u", "unknown join type: LEFT INNER\n  SELECT 1 FROM t LEFT INNER JOIN u\n                  ^"),
    ("CREATE TABLE t(a) FOO", "unknown table option: FOO\n  CREATE TABLE t(a) FOO\n                    ^"),
    ("SELECT 0x10000000000000000", "hex literal too big: 0x10000000000000000\n  SELECT 0x10000000000000000\n         ^"),
    ("", "incomplete input"), (" -- x", "incomplete input"),
]


@pytest.mark.parametrize("text, message", ERRORS)
def test_syntax_errors(text, message):
    with pytest.raises(errors.SQLSyntaxError) as caught:
        parse(text)
    assert str(caught.value) == message
    assert caught.value.sqlstate == "42601"


def test_long_lines_are_cut_around_the_caret():
    with pytest.raises(errors.SQLSyntaxError) as caught:
        parse("SELECT " + "1, " * 500 + "FROM" + ", 1" * 500)
    _, line, caret = str(caught.value).split("\n")
    assert len(line) < 120 and line[len(caret) - 1:].startswith("FROM")


def test_second_statement():
    with pytest.raises(errors.ProgrammingError, match="one statement at a time"):
        parse("SELECT 1; SELECT 2")
    assert parse("SELECT 1;; -- x\n ;") == query(one)


def test_script():
    text = "; SELECT 1; CREATE TRIGGER t DELETE ON u BEGIN SELECT 1; END; -- x\nSELECT ':;' -- y"
    assert [(type(tree).__name__, part) for tree, part in parse_script(text)] == [
        ("Select", "SELECT 1"), ("CreateTrigger", "CREATE TRIGGER t DELETE ON u BEGIN SELECT 1; END"), ("Select", "SELECT ':;'")]
    assert parse_script(" ; -- x") == []
    assert is_blank(" ;/* x") and not is_blank("SELECT")


# ---------------------------------------------------------------------------------------------------- hostile input

@pytest.mark.parametrize("text", [
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "SELECT " + "- " * 5000 + "1",
    "SELECT " + "NOT " * 5000 + "1",
    "SELECT 1" + " + 1" * 5000,
    "SELECT 1" + " OR a = 1" * 5000,
    "SELECT " + "(SELECT " * 5000 + "1" + ")" * 5000,
    "SELECT * FROM " + "(SELECT * FROM " * 5000 + "t" + ")" * 5000,
    "SELECT " + "CASE WHEN 1 THEN " * 5000 + "1" + " END" * 5000,
    "SELECT " + "f(" * 5000 + "1" + ")" * 5000,
    "SELECT a" + " COLLATE x" * 5000,
    "SELECT a" + " ISNULL" * 5000,
], ids=lambda text: text[:20])
def test_deep_nesting(text):
    if text.startswith("SELECT ((((1") or text.startswith("SELECT (((("):
        assert parse(text) == query(one)
    else:
        with pytest.raises(errors.OperationalError, match="maximum depth 1000"):
            parse(text)
    with pytest.raises(errors.SQLSyntaxError):
        parse(text + ")")


def test_deep_unclosed_input():
    for opening in ("(", "f(", "CASE ", "(SELECT ", "x IN (", "- ", "'' BETWEEN "):
        with pytest.raises(errors.SQLSyntaxError, match="incomplete input"):
            parse("SELECT " + opening * 20000)


def test_wide_input_is_not_deep():
    rows = ", ".join(f"({n}, 'x{n}')" for n in range(3000))
    found = parse(f"INSERT INTO t VALUES {rows}")
    assert len(found.source.core.rows) == 3000 and found.source.core.rows[2999] == (Literal(2999), Literal("x2999"))
    assert len(parse("SELECT a IN (" + ", ".join("?" * 3000) + ")").params) == 3000
    assert isinstance(parse("SELECT 1" + " AND 1" * 900), Select)


@pytest.mark.parametrize("text", [
    " " * 200_000, "/*" + "*" * 200_000, "--" * 100_000, "'" * 100_001, '"' * 100_001, "[" * 100_000, "`" * 100_001,
    "1" * 100_000 + "x", "1e" * 50_000, "." * 100_000, "x'" + "0" * 100_001, "/* " * 60_000, "\n" * 100_000 + "x",
    ":" * 100_000, "a" * 100_000, "1_" * 50_000, " /**/" * 50_000,
], ids=lambda text: repr(text[:4]))
def test_long_tokens_take_linear_time(text):
    """A pattern that backtracks would take hours here."""
    with pytest.raises(errors.SQLSyntaxError):
        parse(text)


def test_random_text():
    seed = int(os.environ.get("MEMORA_SEED", time.time_ns() % 1_000_000))
    print(f"seed {seed}")
    rnd = random.Random(seed)
    alphabet = "aSELCT'\"`[](),.;:?@$#*+-/<>=!|&~%0123456789xeE_ \t\n\0é\ud800\U0001f600"
    for _ in range(3000):
        text = "".join(rnd.choice(alphabet) for _ in range(rnd.randrange(30)))
        try:
            parse(text)
        except errors.Error as error:
            assert str(error)
        complete_statement(text)


# ------------------------------------------------------------------------------------------------- beside sqlite3

@pytest.fixture
def lite():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    yield connection
    connection.close()


def _is_syntax(message):
    return "syntax error" in message or message == "incomplete input" or message.startswith("unrecognized token")


def test_same_syntax_errors_as_sqlite(lite):
    """Spoiled statements: both call it a syntax error, or neither does. A few differences are known and counted."""
    seed = int(os.environ.get("MEMORA_SEED", time.time_ns() % 1_000_000))
    rnd = random.Random(seed)
    lists = [tokens(text) for text in STATEMENTS]
    pool = [token for parts in lists for token in parts]
    unique = sorted(set(pool))
    count = accepted = 0
    different = []
    for _ in range(100_000 if ALL else 6_000):
        if rnd.random() < 0.9:
            parts = spoil(rnd, rnd.choice(lists), pool if rnd.random() < 0.5 else unique)
        else:
            parts = [rnd.choice(pool) for _ in range(rnd.randrange(1, 12))]
        if not parts or parts[0].upper() in ("EXPLAIN", ";"):
            continue
        text = " ".join(parts)
        count += 1
        ours = theirs = ""
        try:
            parse(text)
        except errors.Error as error:
            ours = str(error).split("\n")[0]
        try:
            lite.execute("EXPLAIN " + text)
        except (sqlite3.Error, sqlite3.Warning) as error:
            theirs = str(error)
        accepted += not ours
        # What SQLite refuses for its meaning it may refuse before it has read the text to its end.
        if _is_syntax(ours) != _is_syntax(theirs) and (not theirs or _is_syntax(theirs) or "one statement" in theirs):
            different.append((ours, theirs, text))
    for entry in different:
        print(*entry, sep=" | ")
    print(f"seed {seed}: {count} texts, {accepted} accepted, {len(different)} judged differently than by "
          f"SQLite {sqlite3.sqlite_version}: {len(different) / count:.3%}")
    assert accepted > count / 20
    assert len(different) <= count / 500


def render(node):
    """An expression's text with every parenthesis written."""
    if isinstance(node, Literal):
        return "NULL" if node.value is None else repr(node.value)
    if isinstance(node, Column):
        return node.name
    if isinstance(node, Unary):
        return f"({node.op} {render(node.operand)})"
    if isinstance(node, Binary):
        return f"({render(node.left)} {node.op} {render(node.right)})"
    if isinstance(node, IsNull):
        return f"({render(node.operand)} {'NOTNULL' if node.negated else 'ISNULL'})"
    negation = "NOT " if node.negated else ""
    if isinstance(node, Between):
        return f"({render(node.operand)} {negation}BETWEEN {render(node.low)} AND {render(node.high)})"
    if isinstance(node, Like):
        escape = f" ESCAPE {render(node.escape)}" if node.escape else ""
        return f"({render(node.left)} {negation}{node.op} {render(node.right)}{escape})"
    return f"({render(node.operand)} {negation}IN ({', '.join(map(render, node.items))}))"


def test_same_precedence_as_sqlite(lite):
    """Random operators without parentheses: SQLite computes the same from our tree, fully parenthesised."""
    seed = int(os.environ.get("MEMORA_SEED", time.time_ns() % 1_000_000))
    rnd = random.Random(seed)
    infix = ["+", "-", "*", "/", "%", "||", "<<", ">>", "&", "|", "<", "<=", ">", ">=", "=", "==", "<>", "!=", "IS", "IS NOT",
             "AND", "OR", "LIKE", "NOT LIKE", "GLOB", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]
    prefix = ["", "", "", "", "-", "+", "~", "NOT", "- -"]
    operands = ["0", "1", "2", "3", "7", "-5", "NULL", "'a'", "'1'", "2.5"]
    suffix = [""] * 12 + ["ISNULL", "NOTNULL", "NOT NULL", "IN (1, 2)", "NOT IN (0)", "BETWEEN 0 AND 2", "NOT BETWEEN 1 AND 3",
                          "LIKE '1' ESCAPE '!'"]
    compared = 0
    for _ in range(60_000 if ALL else 4_000):
        parts = []
        for n in range(rnd.randrange(2, 7)):
            if n:
                parts.append(rnd.choice(infix))
            parts += [rnd.choice(prefix), rnd.choice(operands), rnd.choice(suffix)]
        text = " ".join(filter(None, parts))
        try:
            expected = lite.execute(f"SELECT {text}").fetchone()
        except sqlite3.OperationalError as error:
            assert _is_syntax(str(error)) or "ESCAPE" in str(error) or "LIKE" in str(error), (text, error)
            if _is_syntax(str(error)):
                with pytest.raises(errors.SQLSyntaxError):
                    expression(text)
            continue
        shown = render(expression(text))
        got = lite.execute(f"SELECT {shown}").fetchone()
        assert [(type(v), v) for v in got] == [(type(v), v) for v in expected], (seed, text, shown)
        compared += 1
    print(f"seed {seed}: {compared} compared")
    assert compared > 1000


def test_names_of_result_columns(lite):
    texts = ["SELECT a+1, b  ||  c , count( * ), (a), 'x', -1, a b, a AS 'z' FROM t", "SELECT\n1 /* x */ + 2, f.a+0 FROM t f;",
             "SELECT CASE WHEN a THEN b END, a IN (1,2), max(a) over (order by b) FROM t -- x"]
    for text in texts:
        names = [column.alias or (column.expr.name if isinstance(column.expr, Column) else column.text)
                 for column in parse(text).core.columns]
        assert names == [entry[0] for entry in lite.execute(text).description]


def test_text_for_the_schema(lite):
    checked = 0
    for text in STATEMENTS:
        if not text.startswith("CREATE") or "VIRTUAL TABLE" in text or "TABLE n AS" in text:
            continue
        lite.execute("SAVEPOINT x")
        lite.execute(text.replace("CREATE", " create\n ", 1) + " ; ")
        stored, = lite.execute("SELECT sql FROM sqlite_schema WHERE name IN ('n', 'k', 'w', 'r') UNION ALL SELECT sql FROM "
                               "sqlite_temp_schema WHERE name IN ('n', 'k', 'w', 'r')").fetchone()
        assert parse(text.replace("CREATE", " create\n ", 1) + " ; ").sql == stored.rstrip()
        for column in getattr(parse(text), "columns", ()):
            for constraint in getattr(column, "constraints", ()):
                if isinstance(constraint, DefaultConstraint):
                    shown = dict(lite.execute("SELECT name, dflt_value FROM pragma_table_info('n')"))
                    assert constraint.text == shown[column.name]
            if isinstance(column, ColumnDef):
                types = dict(lite.execute("SELECT name, type FROM pragma_table_xinfo('n')"))
                assert (column.type_name or "").lower() == types[column.name].lower()
        lite.execute("ROLLBACK TO x")
        checked += 1
    assert checked >= 15


def test_complete_statement_as_sqlite():
    texts = ["", ";", "SELECT 1", "SELECT 1;", "SELECT 1; --x", "SELECT 1; /* x", "SELECT ';", "CREATE TRIGGER x BEGIN SELECT 1;",
             "CREATE TRIGGER x BEGIN SELECT 1; END;", "CREATE TEMP TRIGGER x; END", "EXPLAIN CREATE TRIGGER x; ;END;", "x; y",
             "SELECT 1; -- x\n", "SELECT 1; /* x */ /*y*/ ", "CREATE TABLE t; END;", "SELECT 'a;", 'SELECT "a";', "SELECT [a;"]
    seed = int(os.environ.get("MEMORA_SEED", time.time_ns() % 1_000_000))
    rnd = random.Random(seed)
    words = ["CREATE", "TRIGGER", "TEMP", "EXPLAIN", "END", "SELECT", "x", ";", ";", ";", "/* c */", "-- c\n", "'s;'", "TEMPORARY"]
    texts += [" ".join(rnd.choices(words, k=rnd.randrange(1, 9))) for _ in range(3000)]
    for text in texts:
        assert complete_statement(text) == sqlite3.complete_statement(text), (seed, text)


# ----------------------------------------------------------------------------------------------- sqllogictest, house

def records(path):
    """(kind, SQL) of each record of a file that concerns SQLite."""
    for record in gzip.open(path, "rt", encoding="utf-8", newline="\n").read().split("\n\n"):
        lines = [line for line in record.split("\n") if not line.startswith("#")]
        ours = True
        while lines and (not lines[0].strip() or lines[0].startswith(("skipif", "onlyif"))):
            words = lines.pop(0).split()
            if words and (words[1] == "sqlite") == (words[0] == "skipif"):
                ours = False
        if not lines or not ours:
            continue
        head = lines[0].split()
        if head[0] == "halt":
            return
        if head[0] == "statement":
            yield head[1], "\n".join(lines[1:])
        elif head[0] == "query":
            yield "ok", "\n".join(lines[1:lines.index("----") if "----" in lines else None])


def test_sqllogictest_parses(lite):
    if not SLT.is_dir():
        counters.absent("SQL records", "sqllogictest")
        pytest.skip("the sqllogictest data is not present")
    rnd = random.Random(20)
    count = refused = 0
    for path in sorted(SLT.rglob("*.gz")):
        for kind, text in records(path):
            if not ALL and rnd.random() > 0.02:
                continue
            count += 1
            try:
                assert parse_script(text)
            except errors.SQLSyntaxError as error:
                assert kind == "error", f"{path.name}: {text}\n{error}"
                with pytest.raises(sqlite3.Error, match="syntax error|incomplete|unrecognized"):
                    lite.execute(text)
                refused += 1
    counters.count("SQL records", count)
    print(f"{count} SQL records parsed, {refused} of them refused as they must be")
    assert count > 1000


# ------------------------------------------------------------------------------------------------------- beside lark

def ours(text):
    """The first statement's tree with its parameters and every position, or the error's kind and text."""
    work = scanned(text)
    try:
        statement = work.statement()
    except errors.Error as error:
        return type(error), str(error)
    return everything(statement), getattr(statement, "params", None)


def larks(reference, text):
    try:
        statement = reference.parse(text)
    except errors.Error as error:
        return type(error), str(error)
    return everything(statement), getattr(statement, "params", None)


def same(reference, texts):
    for text in texts:
        text = text.lstrip("; \n")
        if text:
            assert ours(text) == larks(reference, text), text


def everything(part):
    """A tree as nested tuples, the fields that equality passes over among them."""
    if isinstance(part, ast.Node):
        return (type(part).__name__, *(everything(getattr(part, name)) for name in fields(type(part)) if name != "params"))
    if isinstance(part, (tuple, list)):
        return tuple(everything(one) for one in part)
    return type(part), repr(part)


@pytest.fixture(scope="module")
def reference():
    from sql_reference import Reference
    return Reference()


def test_same_as_lark_on_the_corpus(reference):
    texts = [*STATEMENTS, *OWN]
    texts += [part for path in sorted((Path(__file__).parent / "sql").glob("*.test")) for part in path.read_text().split("\n\n")]
    if SLT.is_dir():
        rnd = random.Random(21)
        for path in sorted(SLT.rglob("*.gz")):
            texts += [text for _, text in records(path) if rnd.random() < (0.02 if ALL else 0.001)]
    same(reference, texts)


def test_same_as_lark_on_spoilt_text(reference):
    rnd = random.Random(22)
    lists = [tokens(text) for text in STATEMENTS + OWN]
    pool = sorted({token for parts in lists for token in parts})
    same(reference, (" ".join(spoil(rnd, rnd.choice(lists), pool)) for _ in range(6000 if ALL else 1500)))


def test_same_tokens_as_the_regular_expressions(reference):
    rnd = random.Random(23)
    alphabet = "aexX_$09..''\"\"`[]();?@:#*+-/<>=!|&~% \t\n\x0b\0é\ud800\U0001f600\ufeff"
    pieces = ["0x1F", "1_0", "1.5e3", "1e+", "x'0a'", "/*", "*/", "/**/", "--", "->>", "window", "OVER", "filter (", "ſelect", "a" * 25]
    for _ in range(30000 if ALL else 5000):
        text = "".join(rnd.choice(pieces if rnd.random() < 0.2 else alphabet) for _ in range(rnd.randrange(12)))
        work = scanned(text)
        assert (work.kinds, work.starts, work.ends) == reference.tokens(text), repr(text)


def test_shortest_comment_ends_where_sqlites_does(lite):
    for text in ("SELECT 1 /**/ + 2", "SELECT 1 /***/ + 2", "SELECT 1 /*/ + 2 */ + 3"):
        assert parse(text) == parse(re.sub(r"/\*.*\*/", " ", text)), text


def test_conflicts_of_the_grammar():
    """lark takes a shift in a conflict: only where that is meant (a dangling ON, a dangling ESCAPE)."""
    import lark

    from memora.sql import tables

    found = []

    class Listener(logging.Handler):
        def emit(self, record):
            found.append(record.getMessage())

    logger = lark.logger
    level, listener = logger.level, Listener()
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    try:
        tables.compile_grammar()
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
    rules = sorted(message.strip(" *") for message in found if message.startswith(" *"))
    assert rules == ["<eq_expr : eq_expr like rel_expr>", "<eq_tail : eq_expr like rel_open>", "<join_on : >"]


def test_import_is_light():
    code = "import sys, memora.sql.parser; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, timeout=60).returncode == 0
