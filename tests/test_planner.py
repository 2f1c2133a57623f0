"""Which way a query takes: EXPLAIN QUERY PLAN beside SQLite's rules, and that the way changes no result."""
import pytest
import sql_support


@pytest.fixture
def session():
    s = sql_support.open_session()
    yield s
    s.close()
    assert s.store.check() == []
    s.store.close()


def plan(session, sql, params=()):
    """The lines of EXPLAIN QUERY PLAN."""
    return [row[3] for row in session.execute("EXPLAIN QUERY PLAN " + sql, params)]


# --- partial indexes ---------------------------------------------------------------------------------------------

@pytest.fixture
def parts(session):
    session.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, state TEXT)")
    session.execute("INSERT INTO t SELECT value, value % 7, CASE WHEN value % 3 THEN value END, "
                    "CASE value % 10 WHEN 0 THEN 'open' ELSE 'done' END FROM generate_series(1, 200)")
    session.execute("CREATE INDEX open_a ON t(a) WHERE state = 'open'")
    session.execute("CREATE INDEX has_b ON t(b) WHERE b IS NOT NULL")
    session.execute("CREATE INDEX either ON t(id, a) WHERE a = 1 OR a = 2")
    return session


@pytest.mark.parametrize("where, index", [
    ("state = 'open' AND a = 3", "open_a"),
    ("a = 3 AND state = 'done'", None),
    ("a = 3", None),
    ("state = ?1 AND a = 3", None),                 # what a parameter will be is not known
    ("b = 5", "has_b"),                             # b = 5 implies b IS NOT NULL
    ("b > 190", "has_b"),
    ("b IN (5, 7)", "has_b"),
    ("b IS 5", None),                               # IS is no comparison that NULL fails, to SQLite's rule
    ("a = 1 AND id > 190", "either"),               # a term of the OR
])
def test_partial_indexes_are_read_where_where_implies_their_condition(parts, where, index):
    arguments = ("open",) if "?" in where else ()
    lines = plan(parts, f"SELECT count(state) FROM t WHERE {where}", arguments)
    assert any(index in line for line in lines) if index and index != "either" else not any(
        name in line for name in ("open_a", "has_b") for line in lines)
    with_index = sql_support.rows(parts, f"SELECT * FROM t WHERE {where} ORDER BY id", arguments)
    assert with_index == sql_support.rows(parts, f"SELECT * FROM t NOT INDEXED WHERE {where} ORDER BY id", arguments)


def test_a_left_join_uses_a_partial_index_by_its_on_only(parts):
    on = "SELECT u.id, t.id FROM t u LEFT JOIN t ON t.a = u.a AND t.state = 'open'"
    assert any("open_a" in line for line in plan(parts, on))
    where = "SELECT u.id, t.id FROM t u LEFT JOIN t ON t.a = u.a WHERE t.state = 'open' OR t.id IS NULL"
    assert not any("open_a" in line for line in plan(parts, where))


def test_statements_that_differ_in_literals_use_partial_indexes(parts):
    """Literals become parameters of a shared plan, except where an index depends on what they are."""
    for state in ("open", "done", "open"):
        for a in (0, 3):
            sql = f"SELECT id FROM t WHERE a = {a} AND state = '{state}' ORDER BY id"
            assert sql_support.rows(parts, sql) == sql_support.rows(parts, sql.replace(" WHERE", " NOT INDEXED WHERE"))
    cached = [text for text in parts._cache if "state = 'open'" in text and "ORDER" in text and "INDEXED" not in text]
    assert cached
    parts.execute("UPDATE t SET b = 0 WHERE a = 3 AND state = 'open'")
    assert sql_support.rows(parts, "SELECT count(*) FROM t WHERE b = 0") == sql_support.rows(
        parts, "SELECT count(*) FROM t NOT INDEXED WHERE a = 3 AND state = 'open'")


def test_indexed_by_a_partial_index(parts):
    assert "open_a" in plan(parts, "SELECT * FROM t INDEXED BY open_a WHERE state = 'open'")[0]
    with pytest.raises(Exception, match="no query solution"):
        parts.execute("SELECT * FROM t INDEXED BY open_a WHERE a = 3")


# --- expression indexes ------------------------------------------------------------------------------------------

@pytest.fixture
def names(session):
    session.execute("CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT, doc TEXT, x INTEGER, y INTEGER)")
    session.execute("INSERT INTO people SELECT value, CASE value % 2 WHEN 0 THEN 'Name' ELSE 'name' END || value, "
                    "json_object('n', value % 9), value, -value FROM generate_series(1, 200)")
    session.execute("CREATE INDEX lowered ON people(lower(name))")
    session.execute("CREATE INDEX n_of_doc ON people(doc ->> '$.n', x)")
    session.execute("CREATE INDEX sums ON people(x + y, x) WHERE x > 10")
    return session


@pytest.mark.parametrize("sql, line", [
    ("SELECT id FROM people WHERE lower(name) = 'name7'", "SEARCH people USING INDEX lowered (<expr>=?)"),
    ("SELECT id FROM people WHERE 'name7' = lower(people.name)", "SEARCH people USING INDEX lowered (<expr>=?)"),
    ("SELECT id FROM people WHERE lower(name) BETWEEN 'name1' AND 'name12'", "SEARCH people USING INDEX lowered (<expr>>? AND <expr><?)"),
    ("SELECT id FROM people WHERE doc ->> '$.n' = 4 AND x > 50", "SEARCH people USING INDEX n_of_doc (<expr>=? AND x>?)"),
    ("SELECT id FROM people WHERE doc ->> '$.m' = 4", "SCAN people"),
    ("SELECT id FROM people WHERE y + x = 0 AND x > 10", "SCAN people"),            # another expression to SQLite, too
    ("SELECT id FROM people WHERE x + y = 0 AND x > 10", "SEARCH people USING INDEX sums (<expr>=? AND x>?)"),
    ("SELECT id FROM people WHERE x + y IN (0, 1) AND x > 10", "SEARCH people USING INDEX sums (<expr>=?)"),
    ("SELECT id FROM people WHERE lower(name) COLLATE NOCASE = 'name7'", "SCAN people"),
    ("SELECT id FROM (SELECT id, lower(name) AS n FROM people) WHERE n = 'name7'", "SEARCH people USING INDEX lowered (<expr>=?)"),
])
def test_expression_indexes_are_searched(names, sql, line):
    lines = plan(names, sql)
    assert lines[-1].startswith(line.removesuffix(")")), lines
    assert sorted(sql_support.rows(names, sql)) == sorted(sql_support.rows(names, sql.replace("FROM people", "FROM people NOT INDEXED")))


def test_an_expression_index_gives_the_order_and_serves_joins(names):
    ordered = "SELECT name FROM people ORDER BY lower(name) LIMIT 5"
    assert plan(names, ordered) == ["SCAN people USING INDEX lowered"]
    assert sql_support.rows(names, ordered) == sql_support.rows(names, ordered.replace("people", "people NOT INDEXED"))
    joined = "SELECT count(*) FROM people p CROSS JOIN people ON lower(people.name) = lower(p.name) WHERE p.id < 10"
    assert plan(names, joined)[1] == "SEARCH people USING INDEX lowered (<expr>=?)"
    assert sql_support.rows(names, joined) == [(9,)]


def test_an_index_with_a_function_that_the_session_lacks_is_not_read(session):
    session.create_function("twice", 1, lambda x: x * 2, deterministic=True)
    session.execute("CREATE TABLE t(a)")
    session.execute("CREATE INDEX i ON t(twice(a))")
    session.execute("INSERT INTO t VALUES (1), (2), (3)")
    assert plan(session, "SELECT a FROM t WHERE twice(a) = 4") == ["SEARCH t USING INDEX i (<expr>=?)"]
    assert sql_support.rows(session, "SELECT a FROM t WHERE twice(a) = 4") == [(2,)]
    session.create_function("twice", 1, None)
    assert sql_support.rows(session, "SELECT a FROM t WHERE a > 1") == [(2,), (3,)]


def test_an_index_with_a_clock_is_not_read(session):
    session.execute("CREATE TABLE t(a)")
    session.execute("CREATE INDEX i ON t(date(a))")
    session.execute("INSERT INTO t VALUES ('2024-01-01 10:00')")
    assert plan(session, "SELECT a FROM t WHERE date(a) = '2024-01-01'") == ["SCAN t"]


# --- conflict targets --------------------------------------------------------------------------------------------

def test_conflict_targets_of_partial_and_expression_indexes():
    pair = sql_support.Pair()
    try:
        pair.same("CREATE TABLE t(a, b, c)")
        pair.same("CREATE UNIQUE INDEX u ON t(b) WHERE a > 0")
        pair.same("CREATE UNIQUE INDEX v ON t(lower(c), b)")
        pair.same("INSERT INTO t VALUES (1, 1, 'X')")
        for target in ("(b)", "(b) WHERE a > 0", "(b) WHERE a > 1", "(lower(c), b)", "(b, lower(c))", "(lower(c))", "(upper(c), b)",
                       "(b, lower(c)) WHERE a > 0"):
            pair.same(f"INSERT INTO t VALUES (1, 1, 'x') ON CONFLICT {target} DO UPDATE SET c = c || '.'")
            pair.same("SELECT * FROM t ORDER BY a, b, c")
    finally:
        pair.close()
