"""SELECT by topic: joins, grouping, compounds, subqueries, common tables, views, ordering; each query also run by sqlite3."""
import pytest
from sql_support import Pair

SETUP = """
CREATE TABLE dept(id INTEGER PRIMARY KEY, name TEXT, city TEXT COLLATE NOCASE);
CREATE TABLE emp(id INTEGER PRIMARY KEY, name TEXT, dept INT, pay REAL, boss INT);
CREATE INDEX emp_dept ON emp(dept, pay DESC);
CREATE TABLE tag(emp INT, tag TEXT, PRIMARY KEY(emp, tag)) WITHOUT ROWID;
INSERT INTO dept VALUES (1, 'dev', 'Rome'), (2, 'ops', 'rome'), (3, 'hr', 'Oslo'), (4, 'void', NULL);
INSERT INTO emp VALUES (1, 'ann', 1, 10, NULL), (2, 'bob', 1, 8.5, 1), (3, 'cid', 2, 8.5, 1), (4, 'dan', 2, NULL, 3), (5, 'eve', 3, 7, 1),
                       (6, 'fay', NULL, 5, 5);
INSERT INTO tag VALUES (1, 'x'), (1, 'y'), (2, 'x'), (3, 'z'), (9, 'x');
CREATE VIEW paid AS SELECT id, name, dept, pay FROM emp WHERE pay IS NOT NULL;
CREATE VIEW totals(dept, total) AS SELECT dept, sum(pay) FROM paid GROUP BY dept
"""

QUERIES = """
SELECT * FROM dept
SELECT rowid, oid, name FROM dept WHERE _rowid_ = 2
SELECT e.name, d.name FROM emp e JOIN dept d ON d.id = e.dept ORDER BY e.id
SELECT e.name, d.name FROM emp e, dept d WHERE d.id = e.dept AND d.city = 'ROME' ORDER BY 1
SELECT d.name, e.name FROM dept d LEFT JOIN emp e ON e.dept = d.id AND e.pay > 8 ORDER BY d.id, e.id
SELECT d.name, e.name FROM dept d LEFT JOIN emp e ON e.dept = d.id WHERE e.pay > 8 ORDER BY d.id, e.id
SELECT d.name, e.name FROM emp e RIGHT JOIN dept d ON e.dept = d.id ORDER BY d.id, e.id
SELECT d.name, e.name FROM emp e FULL JOIN dept d ON e.dept = d.id ORDER BY e.id, d.id
SELECT * FROM emp NATURAL JOIN (SELECT id, name FROM emp WHERE id < 3) ORDER BY id
SELECT id, a.name, b.city FROM dept a JOIN dept b USING (id) ORDER BY id
SELECT * FROM dept a JOIN dept b USING (id, name) WHERE id = 1
SELECT a.id, b.id FROM dept a CROSS JOIN dept b WHERE a.id < b.id ORDER BY 1, 2
SELECT a.name, b.name, c.name FROM emp a LEFT JOIN emp b ON a.boss = b.id LEFT JOIN emp c ON b.boss = c.id ORDER BY a.id
SELECT a.id FROM dept a JOIN (dept b LEFT JOIN emp c ON c.dept = b.id) ON a.id = b.id ORDER BY 1, c.id
SELECT count(*), count(pay), sum(pay), avg(pay), total(pay), min(pay), max(pay), group_concat(name) FROM emp
SELECT dept, count(*), max(pay) FROM emp GROUP BY dept
SELECT dept, count(*) AS n FROM emp GROUP BY dept HAVING n > 1 ORDER BY n DESC, dept
SELECT dept, name, max(pay) FROM emp GROUP BY dept
SELECT dept, name, min(pay) FROM emp WHERE dept IS NOT NULL GROUP BY dept
SELECT city, count(*) FROM dept GROUP BY city
SELECT count(DISTINCT pay), sum(DISTINCT pay), group_concat(DISTINCT dept) FROM emp
SELECT count(*) FILTER (WHERE pay > 8), sum(pay) FILTER (WHERE dept = 1) FROM emp
SELECT group_concat(name, '-') FROM (SELECT name FROM emp ORDER BY name DESC)
SELECT dept % 2 AS odd, sum(pay) FROM emp GROUP BY odd
SELECT pay > 8, count(*) FROM emp GROUP BY pay > 8 HAVING count(*) > 0 ORDER BY 1
SELECT count(*) FROM emp WHERE 0
SELECT sum(pay), name FROM emp WHERE 0
SELECT dept FROM emp WHERE 0 GROUP BY dept
SELECT max(pay), min(id) FROM emp
SELECT min(id) FROM emp WHERE id > 3
SELECT max(dept) FROM emp
SELECT DISTINCT dept FROM emp ORDER BY dept DESC
SELECT DISTINCT city FROM dept
SELECT DISTINCT dept, pay > 8 FROM emp ORDER BY 1, 2
SELECT name FROM emp ORDER BY pay DESC, name LIMIT 2 OFFSET 1
SELECT name FROM emp ORDER BY pay NULLS LAST, name
SELECT name FROM emp ORDER BY pay DESC NULLS FIRST, name
SELECT name AS n FROM emp ORDER BY length(n), n DESC LIMIT -1 OFFSET 3
SELECT name FROM emp ORDER BY -id LIMIT 0
SELECT name FROM dept ORDER BY city COLLATE BINARY, id
SELECT id FROM dept UNION SELECT dept FROM emp
SELECT id FROM dept UNION ALL SELECT dept FROM emp ORDER BY 1 DESC
SELECT id FROM dept INTERSECT SELECT dept FROM emp
SELECT id FROM dept EXCEPT SELECT dept FROM emp
SELECT 1 UNION ALL SELECT 2 UNION SELECT 2 UNION ALL SELECT 3 LIMIT 3
SELECT name FROM dept UNION SELECT name FROM emp ORDER BY name LIMIT 3
SELECT * FROM (VALUES (3, 'c'), (1, 'a'), (2, 'b')) ORDER BY 1
SELECT * FROM (VALUES (1, 2), (3, 4)) WHERE column1 > 1
SELECT name FROM emp WHERE dept IN (SELECT id FROM dept WHERE city = 'rome') ORDER BY 1
SELECT name FROM emp WHERE (dept, pay) IN (SELECT dept, max(pay) FROM emp GROUP BY dept) ORDER BY 1
SELECT name FROM emp WHERE dept NOT IN (SELECT dept FROM emp WHERE dept > 2)
SELECT name FROM dept d WHERE EXISTS (SELECT 1 FROM emp WHERE dept = d.id AND pay > 8) ORDER BY 1
SELECT name FROM dept d WHERE NOT EXISTS (SELECT 1 FROM emp WHERE dept = d.id)
SELECT name, (SELECT count(*) FROM emp WHERE dept = d.id) FROM dept d ORDER BY id
SELECT name FROM emp e WHERE pay > (SELECT avg(pay) FROM emp WHERE dept = e.dept)
SELECT (SELECT name FROM emp WHERE id = 99), (SELECT 1 WHERE 0)
SELECT d.name, (SELECT sum(pay) FROM emp WHERE dept = d.id GROUP BY dept HAVING count(*) > 1) FROM dept d ORDER BY 1
SELECT dept, (SELECT name FROM dept WHERE id = emp.dept) AS d, sum(pay) FROM emp GROUP BY dept
SELECT dept, sum(pay) FROM emp GROUP BY dept HAVING sum(pay) > (SELECT avg(pay) FROM emp) ORDER BY 1
SELECT a.n FROM (SELECT dept AS n, count(*) AS c FROM emp GROUP BY dept) a WHERE a.c = 2 ORDER BY 1
SELECT * FROM (SELECT name, pay * 2 AS twice FROM emp) WHERE twice > 15 ORDER BY name
SELECT x.id, y.c FROM dept x LEFT JOIN (SELECT dept, count(*) c FROM emp GROUP BY dept) y ON y.dept = x.id ORDER BY 1
SELECT * FROM paid WHERE id = 2
SELECT p.name, d.name FROM paid p JOIN dept d ON d.id = p.dept ORDER BY p.id
SELECT * FROM totals ORDER BY dept
SELECT t.total, d.name FROM totals t, dept d WHERE t.dept = d.id ORDER BY 2
WITH rich AS (SELECT * FROM emp WHERE pay > 8) SELECT count(*), (SELECT max(pay) FROM rich) FROM rich
WITH a(x) AS (SELECT 1), b(y) AS (SELECT x + 1 FROM a) SELECT x, y FROM a, b
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 10) SELECT sum(n), max(n) FROM c
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c LIMIT 5
WITH RECURSIVE c(n, m) AS (SELECT 0, 1 UNION SELECT (n + 1) % 3, m FROM c) SELECT * FROM c
WITH RECURSIVE up(id, boss, depth) AS (SELECT id, boss, 0 FROM emp WHERE id = 6 UNION ALL SELECT e.id, e.boss, depth + 1 FROM emp e JOIN up ON e.id = up.boss) SELECT * FROM up
SELECT emp, tag FROM tag WHERE emp = 1 ORDER BY tag DESC
SELECT tag, count(*) FROM tag GROUP BY tag ORDER BY 2 DESC, 1
SELECT e.name, t.tag FROM emp e JOIN tag t ON t.emp = e.id WHERE t.tag = 'x' ORDER BY 1
SELECT * FROM tag WHERE emp IN (1, 9) AND tag > 'w'
SELECT name FROM emp WHERE id IN (3, 1, 77, 1) ORDER BY id DESC
SELECT name FROM emp WHERE dept = 1 AND pay BETWEEN 8 AND 9
SELECT name FROM emp WHERE dept IN (1, 2) AND pay = 8.5 ORDER BY 1
SELECT name FROM emp WHERE dept = 1 ORDER BY pay
SELECT name FROM emp WHERE dept = 1 ORDER BY pay DESC LIMIT 1
SELECT name FROM emp WHERE id > 2.5 AND id < '5'
SELECT name FROM emp WHERE id >= 'a'
SELECT name FROM emp WHERE id < 'a' AND id > 4
SELECT name FROM emp WHERE dept IS NULL
SELECT "name", 'name', [name], `name`, "nosuch" FROM emp WHERE id = 1
SELECT emp.*, 1 FROM emp WHERE id = 1
SELECT id+1, id + 1, pay AS "the pay", (id) FROM emp WHERE id = 1
SELECT e.id FROM emp AS e WHERE e.name LIKE 'A%' OR e.name GLOB '*y'
SELECT 1 WHERE 1 = 0 OR EXISTS (SELECT 1)
SELECT type, name, tbl_name FROM sqlite_schema ORDER BY rowid
SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name
SELECT * FROM pragma_table_info('emp')
""".strip().splitlines()


@pytest.fixture(scope="module")
def pair():
    made = Pair()
    for sql in SETUP.split(";"):
        made.same(sql)
    yield made
    made.close()


@pytest.mark.parametrize("sql", QUERIES, ids=range(len(QUERIES)))
def test_rows(pair, sql):
    rows = pair.same(sql, ordered="ORDER BY" in sql or "GROUP BY" in sql or "LIMIT" in sql)
    assert rows is not None, f"both fail: {sql}"


@pytest.mark.parametrize("sql", [q for q in QUERIES if "UNION" not in q], ids=str)
def test_names_of_result_columns(pair, sql):
    theirs = pair.theirs.execute(sql)
    assert pair.ours.execute(sql).columns == tuple(c[0] for c in theirs.description)


@pytest.mark.parametrize("sql", ["SELECT id FROM emp, dept", "SELECT emp.x FROM emp", "SELECT * FROM emp e WHERE emp.id = 1",
                                 "SELECT nosuch.* FROM emp", "SELECT a.id FROM emp a JOIN dept b USING (pay)",
                                 "SELECT count(*) FROM emp WHERE count(*) > 1", "SELECT id FROM emp UNION SELECT 1 ORDER BY pay",
                                 "SELECT id FROM emp HAVING id > 1", "WITH a AS (SELECT * FROM a) SELECT * FROM a",
                                 "SELECT id FROM emp GROUP BY max(id)", "SELECT * FROM (SELECT 1 AS a, 2 AS a) WHERE b = 1"])
def test_errors(pair, sql):
    mine, theirs = pair.run(sql)
    assert mine[0] == theirs[0] == "error" and mine[1] == theirs[1], (mine, theirs)


PLANS = {
    "SELECT * FROM emp": "SCAN emp",
    "SELECT * FROM emp WHERE id = 1": "SEARCH emp USING INTEGER PRIMARY KEY (rowid=?)",
    "SELECT * FROM emp WHERE id BETWEEN 1 AND 3": "SEARCH emp USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "SELECT * FROM emp WHERE dept = 1": "SEARCH emp USING INDEX emp_dept (dept=?)",
    "SELECT * FROM emp WHERE dept = 1 AND pay > 5": "SEARCH emp USING INDEX emp_dept (dept=? AND pay>?)",
    "SELECT dept, pay FROM emp WHERE dept > 1": "SEARCH emp USING COVERING INDEX emp_dept (dept>?)",
    "SELECT * FROM emp WHERE dept = 1 ORDER BY pay DESC": "SEARCH emp USING INDEX emp_dept (dept=?)",
    "SELECT * FROM emp WHERE dept = '1'": "SEARCH emp USING INDEX emp_dept (dept=?)",
    "SELECT * FROM emp WHERE dept IN (1, 2)": "SEARCH emp USING INDEX emp_dept (dept=?)",
    "SELECT * FROM tag WHERE emp = 1 AND tag = 'x'": "SEARCH tag USING PRIMARY KEY (emp=? AND tag=?)",
    "SELECT max(dept) FROM emp": "SCAN emp USING COVERING INDEX emp_dept",
    "SELECT id FROM emp ORDER BY id DESC": "SCAN emp",
    "SELECT * FROM paid WHERE id = 2": "SEARCH emp USING INTEGER PRIMARY KEY (rowid=?)",
    "SELECT * FROM emp NOT INDEXED WHERE dept = 1": "SCAN emp",
}


@pytest.mark.parametrize("sql", PLANS)
def test_plans(pair, sql):
    rows = list(pair.ours.execute("EXPLAIN QUERY PLAN " + sql))
    assert [row[3] for row in rows] == [PLANS[sql]]


def test_plan_of_a_join_starts_where_few_rows_are(pair):
    rows = [row[3] for row in pair.ours.execute("EXPLAIN QUERY PLAN SELECT * FROM emp e, dept d WHERE e.dept = d.id AND d.id = 2")]
    assert rows == ["SEARCH d USING INTEGER PRIMARY KEY (rowid=?)", "SEARCH e USING INDEX emp_dept (dept=?)"]


def test_no_index_where_affinity_or_collation_differ(pair):
    pair.same("CREATE TABLE odd(a TEXT, b INT, c TEXT COLLATE NOCASE)")
    for column in "abc":
        pair.same(f"CREATE INDEX odd_{column} ON odd({column} COLLATE BINARY)")
    pair.same("INSERT INTO odd VALUES ('1', 1, 'A'), ('01', '1', 'a'), (1, 'x', 'b')")
    for sql in ("SELECT * FROM odd WHERE a = 1", "SELECT * FROM odd WHERE c = 'a'", "SELECT x.a FROM odd x JOIN odd y ON x.a = y.b"):
        pair.same(sql, ordered=False)
    assert "odd_c" not in str(list(pair.ours.execute("EXPLAIN QUERY PLAN SELECT * FROM odd WHERE c = 'a'")))


def test_explain_tells_operators(pair):
    result = pair.ours.execute("EXPLAIN SELECT dept, count(*) FROM emp WHERE pay > 1 GROUP BY dept ORDER BY 2")
    assert result.columns[:2] == ("addr", "opcode")
    assert [row[1] for row in result] == ["Sort", "GroupBy", "Filter", "IndexScan"]
