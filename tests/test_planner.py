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
    on = "SELECT u.id, t.id FROM t u LEFT JOIN t ON t.a = u.a AND t.state = 'open' WHERE u.id = 5"
    assert any("open_a" in line for line in plan(parts, on))
    where = "SELECT u.id, t.id FROM t u LEFT JOIN t ON t.a = u.a WHERE u.id < 5 AND (t.state = 'open' OR t.id IS NULL)"
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


# --- statistics --------------------------------------------------------------------------------------------------

STATISTICS = "SELECT tbl, idx, stat FROM sqlite_stat1 ORDER BY tbl, idx"


def both(*statements):
    """A Pair on which the statements have run."""
    pair = sql_support.Pair()
    for sql in statements:
        pair.same(sql)
    return pair


def tables_to_analyze():
    pair = both("CREATE TABLE t(a, b, c TEXT COLLATE NOCASE)", "CREATE INDEX ab ON t(a, b DESC)", "CREATE UNIQUE INDEX u ON t(c)",
                "CREATE INDEX part ON t(b) WHERE b > 5", "CREATE INDEX e ON t(a + b)", "CREATE TABLE plain(q)", "CREATE TABLE nothing(q)",
                "CREATE INDEX n ON nothing(q)", "CREATE TABLE w(k, l, m, PRIMARY KEY(k, l)) WITHOUT ROWID", "CREATE INDEX wm ON w(m)",
                "INSERT INTO plain VALUES (1), (2)")
    for i in range(40):
        pair.same("INSERT INTO t VALUES (?, ?, ?)", (i % 3 if i % 4 else None, i % 5 if i % 6 else 10, None if i < 3 else str(i)))
        pair.same("INSERT INTO w VALUES (?, ?, ?)", (i % 4, i, i % 2))
    return pair


def test_analyze_writes_what_sqlite_writes():
    pair = tables_to_analyze()
    try:
        pair.same("ANALYZE")
        assert len(pair.same(STATISTICS)) == 7
        pair.same("DELETE FROM t WHERE a = 1")
        for statement in ("ANALYZE ab", "ANALYZE plain", "ANALYZE main.w", "ANALYZE main", "ANALYZE nowhere", "ANALYZE main.nowhere"):
            pair.same(statement)
            pair.same(STATISTICS)
        pair.same("DROP INDEX ab")
        pair.same(STATISTICS)
        pair.same("DROP TABLE w")
        pair.same(STATISTICS)
        pair.same("UPDATE sqlite_stat1 SET stat = '1000 1' WHERE idx = 'e'")
        pair.same("ANALYZE sqlite_schema")
        pair.same(STATISTICS)
        pair.same("DROP TABLE sqlite_stat1")
        pair.same("ANALYZE")
        pair.same(STATISTICS)
    finally:
        pair.close()


def test_statistics_decide_between_indexes_and_plans_follow_them(session):
    session.execute("CREATE TABLE t(a, b, c)")
    session.execute("CREATE INDEX by_a ON t(a)")
    session.execute("CREATE INDEX by_b ON t(b)")
    session.execute("INSERT INTO t SELECT value % 2, value, value FROM generate_series(1, 400)")
    sql = "SELECT c FROM t WHERE a = 1 AND b = 7"
    assert plan(session, sql) == ["SEARCH t USING INDEX by_a (a=?)"]
    session.execute("ANALYZE")
    assert plan(session, sql) == ["SEARCH t USING INDEX by_b (b=?)"]
    session.execute("UPDATE sqlite_stat1 SET stat = CASE idx WHEN 'by_a' THEN '400 1' ELSE '400 300' END")
    assert plan(session, sql) == ["SEARCH t USING INDEX by_b (b=?)"]       # as in SQLite: it was read before
    session.execute("ANALYZE sqlite_schema")
    assert plan(session, sql) == ["SEARCH t USING INDEX by_a (a=?)"]
    session.execute("BEGIN")
    session.execute("DELETE FROM sqlite_stat1")
    session.execute("ANALYZE t")
    assert plan(session, sql) == ["SEARCH t USING INDEX by_b (b=?)"]
    session.execute("ROLLBACK")
    assert plan(session, sql) == ["SEARCH t USING INDEX by_a (a=?)"]


def test_analyze_of_attached_and_temporary_tables(session):
    session.execute("ATTACH ':memory:' AS other")
    session.execute("CREATE TABLE t(a)")
    session.execute("CREATE TABLE other.u(a)")
    session.execute("CREATE TEMP TABLE v(a)")
    for table in ("t", "other.u", "v"):
        session.execute(f"INSERT INTO {table} VALUES (1), (2)")
    session.execute("ANALYZE")
    assert sql_support.rows(session, "SELECT * FROM main.sqlite_stat1") == [("t", None, "2")]
    assert sql_support.rows(session, "SELECT * FROM other.sqlite_stat1") == [("u", None, "2")]
    session.execute("INSERT INTO u VALUES (3)")
    session.execute("ANALYZE other")
    assert sql_support.rows(session, "SELECT * FROM other.sqlite_stat1") == [("u", None, "3")]
    session.execute("ANALYZE v")
    assert sql_support.rows(session, "SELECT * FROM temp.sqlite_stat1") == [("v", None, "2")]


# --- joins -------------------------------------------------------------------------------------------------------

def test_the_sizes_of_tables_decide_on_the_order_of_a_join(session):
    session.execute("CREATE TABLE large(id INTEGER PRIMARY KEY, k)")
    session.execute("CREATE TABLE small(id INTEGER PRIMARY KEY, k)")
    session.execute("INSERT INTO large SELECT value, value FROM generate_series(1, 20000)")
    session.execute("INSERT INTO small SELECT value, value FROM generate_series(1, 10)")
    for tables in ("large, small", "small, large"):
        assert plan(session, f"SELECT count(*) FROM {tables} WHERE large.id = small.k") == [
            "SCAN small", "SEARCH large USING INTEGER PRIMARY KEY (rowid=?)"]
        # without an index, and where all rows are asked for, the smaller one is entered into a hash
        assert plan(session, f"SELECT count(*) FROM {tables} WHERE large.k = small.k") == [
            "SCAN large", "SEARCH small USING AUTOMATIC COVERING INDEX (k=?)"]
        assert plan(session, f"SELECT count(*) FROM {tables} WHERE large.k = small.id") == [
            "SCAN large", "SEARCH small USING AUTOMATIC COVERING INDEX (id=?)"]
    assert plan(session, "SELECT count(*) FROM large CROSS JOIN small WHERE large.id = small.k")[0] == "SCAN large"
    assert plan(session, "SELECT count(*) FROM large LEFT JOIN small ON large.id = small.k")[0] == "SCAN large"


def test_a_join_is_planned_anew_when_a_table_has_grown(session):
    session.execute("CREATE TABLE a(id INTEGER PRIMARY KEY, k)")
    session.execute("CREATE TABLE b(id INTEGER PRIMARY KEY, k)")
    sql = "SELECT count(*) FROM a, b WHERE a.k = b.id"
    assert sql_support.rows(session, sql) == [(0,)]
    first = session._cache[sql].programs[0]
    assert sql_support.rows(session, sql) == [(0,)]
    assert session._cache[sql].programs[0] is first
    session.execute("INSERT INTO a SELECT value, value FROM generate_series(1, 20000)")
    session.execute("INSERT INTO b VALUES (7, 7)")
    assert sql_support.rows(session, sql) == [(1,)]
    assert session._cache[sql].programs[0] is not first


def test_a_limit_makes_no_hash(session):
    session.execute("CREATE TABLE large(id INTEGER PRIMARY KEY, k)")
    session.execute("INSERT INTO large SELECT value, value FROM generate_series(1, 20000)")
    assert plan(session, "SELECT a.id FROM large a, large b WHERE a.k = b.id LIMIT 3")[1] == "SEARCH b USING INTEGER PRIMARY KEY (rowid=?)"


def test_the_size_of_a_tree_is_guessed():
    store = sql_support.Store.open(":memory:")
    try:
        transaction = store.begin()
        tree = transaction.create_tree()
        assert transaction.entries_about(tree) == -1            # nothing of it is in the region yet
        transaction.put(tree, b"k", b"v")
        transaction.commit()
        for n in (100, 5000, 60000):
            transaction = store.begin()
            for i in range(n):
                transaction.put(tree, i.to_bytes(8, "big"), b"value")
            transaction.commit()
            transaction = store.begin(read_only=True)
            assert n / 2 <= transaction.entries_about(tree) <= n * 2
            transaction.rollback()
    finally:
        store.close()


@pytest.mark.parametrize("keys", [range(100), range(-50, 50), [i * 3 for i in range(100)], [i * 1000 for i in range(100)],
                                  [-2**63, 2**63 - 1, *range(40)], [5] * 100, [*range(50), *range(50), None, 1.0, 2.5, "7"]])
def test_hash_joins_find_integers_that_lie_close_together_and_others(keys):
    pair = both("CREATE TABLE a(k)", "CREATE TABLE b(k, v)")
    try:
        for n, key in enumerate(keys):
            pair.run("INSERT INTO b VALUES (?, ?)", (key, n))
            pair.run("INSERT INTO a VALUES (?), (?)", (key, n - 3))
        for extreme in (-2**63, 2**63 - 1, 1.5, None, "x"):
            pair.run("INSERT INTO a VALUES (?)", (extreme,))
        assert any("AUTOMATIC" in line for line in plan(pair.ours, "SELECT * FROM a CROSS JOIN b ON a.k = b.k"))
        pair.same("SELECT * FROM a JOIN b ON a.k = b.k", ordered=False)
        pair.same("SELECT * FROM a LEFT JOIN b ON a.k = b.k", ordered=False)
        pair.same("SELECT count(*), sum(v) FROM a JOIN b ON a.k = b.k")
    finally:
        pair.close()


# --- pragmas, rowids ---------------------------------------------------------------------------------------------

def test_update_of_a_rowid_that_is_no_column():
    pair = both("CREATE TABLE t(a, b)", "CREATE INDEX i ON t(a)", "CREATE UNIQUE INDEX u ON t(b)", "INSERT INTO t VALUES (1, 2), (3, 4), (5, 6)")
    try:
        for sql in ("UPDATE t SET rowid = rowid + 10", "UPDATE t SET rowid = 11 WHERE a = 3", "UPDATE OR REPLACE t SET rowid = 11 WHERE a = 3",
                    "UPDATE t SET rowid = 'x'", "UPDATE t SET rowid = NULL", "UPDATE t SET rowid = 2.5", "UPDATE t SET rowid = '7' WHERE a = 5",
                    "UPDATE t SET oid = 5, _rowid_ = 6 WHERE b = 6", "UPDATE t SET (rowid, a) = (9, 8) WHERE b = 4 RETURNING rowid, a",
                    "INSERT INTO t(rowid, a, b) VALUES (9, 5, 5) ON CONFLICT (rowid) DO UPDATE SET rowid = rowid + 1, a = excluded.a",
                    "UPDATE t SET rowid = v.y FROM (SELECT 10 AS x, 20 AS y) v WHERE t.rowid = v.x", "UPDATE OR IGNORE t SET rowid = 6",
                    "UPDATE t SET a = 1 WHERE rowid = 20"):
            pair.same(sql)
            pair.same("SELECT rowid, * FROM t ORDER BY rowid")
            pair.same("SELECT rowid, a FROM t INDEXED BY i WHERE a > 0 ORDER BY a, rowid")
    finally:
        pair.close()


def test_pragmas_of_the_schema_and_of_indexes():
    pair = both("CREATE TABLE t(a, b)", "CREATE INDEX i ON t(a + b, b DESC) WHERE a > 1",
                "CREATE TABLE w(a, b COLLATE NOCASE, c, PRIMARY KEY(b DESC)) WITHOUT ROWID", "CREATE INDEX wi ON w(a)")
    try:
        for pragma in ("table_info(sqlite_schema)", "table_xinfo(sqlite_master)", "index_list(sqlite_master)", "index_xinfo(i)", "index_info(i)",
                       "index_list(w)", "index_xinfo(wi)", "index_xinfo(sqlite_autoindex_w_1)", "index_info(w)", "index_list(t)"):
            pair.same(f"PRAGMA {pragma}")
    finally:
        pair.close()


def test_case_sensitive_like():
    pair = sql_support.Pair()
    query = "SELECT 'A' LIKE 'a', 'a' LIKE 'a', like('A%', 'abc'), 'xAb' LIKE '%Ab', 'A%' LIKE 'AX%' ESCAPE 'X', 'a' GLOB 'A'"
    try:
        for on in (1, 0, "ON", "off", "true"):
            pair.same(f"PRAGMA case_sensitive_like = {on}")
            pair.same(query)
        pair.same("PRAGMA case_sensitive_like")
    finally:
        pair.close()


def test_data_version_tells_of_commits_of_others():
    from memora.engine.store import Store
    from memora.sql.session import Session
    store = Store.open(":memory:")
    one, other = Session(store), Session(store)
    try:
        def version(session=one):
            return sql_support.rows(session, "PRAGMA data_version")[0][0]
        one.execute("CREATE TABLE t(a)")
        first = version()
        one.execute("INSERT INTO t VALUES (1)")
        one.execute("BEGIN")
        one.execute("INSERT INTO t VALUES (1)")
        assert version() == first
        one.execute("COMMIT")
        assert version() == first
        other.execute("INSERT INTO t VALUES (2)")
        second = version()
        assert second != first
        one.execute("BEGIN")
        list(one.execute("SELECT * FROM t"))
        other.execute("INSERT INTO t VALUES (3)")
        assert version() == second              # of what the transaction sees
        one.execute("ROLLBACK")
        assert version() not in (first, second)
    finally:
        one.close()
        other.close()
        store.close()
