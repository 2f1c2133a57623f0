"""Statements that between them use every production of the grammar, and ways to spoil them."""
import re

SCHEMA = """
CREATE TABLE t(a, b, c);
CREATE TABLE u(a, b, x);
CREATE INDEX i ON t(a);
CREATE VIEW v AS SELECT a, b FROM t;
"""

STATEMENTS = r"""
SELECT 1
SELECT a, b AS x, c y, t.*, main.t.a, "a", [b], `c` FROM t
SELECT * FROM t, u WHERE t.a = u.a
SELECT DISTINCT a FROM t WHERE b IS NOT NULL
SELECT ALL a 'x' FROM t AS 'y'
SELECT t.a FROM t LEFT JOIN u ON t.a = u.a
SELECT t.a FROM t LEFT OUTER JOIN u USING (a, b)
SELECT t.a FROM t NATURAL INNER JOIN u
SELECT t.a FROM t CROSS JOIN u
SELECT t.a FROM t FULL OUTER JOIN u ON t.b = u.b RIGHT JOIN v ON v.a = u.a
SELECT 1 FROM (SELECT a FROM t) AS s JOIN (t JOIN u ON t.a = u.a) ON 1
SELECT 1 FROM ((t)), (u) AS w
SELECT * FROM t INDEXED BY i WHERE a = 1
SELECT * FROM t NOT INDEXED
SELECT value FROM json_each('[1]') AS j WHERE j.key = 0
SELECT a, count(*), sum(b) FROM t GROUP BY a, b HAVING count(*) > 1 ORDER BY a DESC NULLS LAST, 2 ASC NULLS FIRST LIMIT 5 OFFSET 2
SELECT a FROM t ORDER BY a COLLATE nocase LIMIT 1, 2
SELECT a FROM t UNION SELECT a FROM u UNION ALL SELECT 1 INTERSECT SELECT 2 EXCEPT SELECT 3 ORDER BY 1 LIMIT 1
VALUES (1, 2), (3, 4)
SELECT 1 UNION ALL VALUES (2)
WITH w AS (SELECT 1 AS a), z(p, q) AS NOT MATERIALIZED (VALUES (1, 2)) SELECT * FROM w, z
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i FROM n
WITH w AS MATERIALIZED (SELECT 1) SELECT * FROM w
SELECT sum(a) OVER (PARTITION BY b ORDER BY c ROWS BETWEEN 1 PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE TIES) FROM t
SELECT sum(a) FILTER (WHERE a > 1) OVER w, row_number() OVER (w RANGE CURRENT ROW) FROM t WINDOW w AS (ORDER BY a), k AS (w)
SELECT sum(a) OVER (ORDER BY a GROUPS BETWEEN CURRENT ROW AND 2 FOLLOWING EXCLUDE NO OTHERS) FROM t
SELECT sum(a) OVER (RANGE UNBOUNDED PRECEDING EXCLUDE CURRENT ROW), count(b) FILTER (WHERE b) FROM t
SELECT sum(a) OVER (ORDER BY a ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP) FROM t
SELECT count(DISTINCT a), total(ALL b), max() FROM t
SELECT 1 + 2 * 3 - 4 / 5 % 6 || 7 << 8 >> 9 & 10 | 11
SELECT a < b, a <= b, a > b, a >= b, a = b, a == b, a <> b, a != b, a IS b, a IS NOT b FROM t
SELECT a IS DISTINCT FROM b, a IS NOT DISTINCT FROM b FROM t
SELECT NOT a, - b, + c, ~ a, - - a, NOT NOT b FROM t
SELECT a ISNULL, b NOTNULL, c NOT NULL, a IS NULL FROM t
SELECT a AND b OR NOT c AND a FROM t
SELECT a LIKE 'x%', b NOT LIKE c ESCAPE '\', a GLOB '*', b NOT GLOB 'c' FROM t
SELECT a REGEXP b FROM t
SELECT a MATCH b FROM t
SELECT a BETWEEN 1 AND 2, b NOT BETWEEN a AND c AND 1 FROM t
SELECT a IN (1, 2), b NOT IN (SELECT a FROM u), c IN t, a IN (), a IN main.u FROM t
SELECT (1, 2) = (3, 4), (a, b, c) IN (SELECT 1, 2, 3) FROM t
SELECT CASE a WHEN 1 THEN 'x' WHEN 2 THEN 'y' ELSE 'z' END, CASE WHEN a THEN b END FROM t
SELECT CAST(a AS INTEGER), CAST(b AS VARCHAR(10)), CAST(c AS DECIMAL(10, -2)), cast(1 as unsigned big int) FROM t
SELECT a COLLATE nocase || b COLLATE 'rtrim' FROM t
SELECT EXISTS (SELECT 1), NOT EXISTS (SELECT a FROM t), (SELECT max(a) FROM u)
SELECT 'it''s', x'00ff', X'', 0x1F, 1e5, 1.5e-3, .5, 5., 12, NULL, TRUE, false
SELECT CURRENT_TIME, CURRENT_DATE, CURRENT_TIMESTAMP
SELECT ?, ?5, :name, @name, $name
SELECT a -> '$.x', a ->> 1 FROM t
SELECT replace('a', 'b', 'c'), like('a', 'b'), glob('a', 'b'), if(1, 2, 3)
SELECT 1 = NOT 2 = 3, 1 + NOT 2, - NOT 3 IS NULL
SELECT /* comment */ 1 -- another
INSERT INTO t VALUES (1, 2, 3), (4, 5, 6)
INSERT INTO main.t(a, b) SELECT a, b FROM u
INSERT INTO t DEFAULT VALUES
INSERT OR IGNORE INTO t AS k (a) VALUES (1) ON CONFLICT (a) DO NOTHING
INSERT OR REPLACE INTO t VALUES (1, 2, 3) RETURNING a, b AS z, *
REPLACE INTO t(a) VALUES (1)
INSERT OR ABORT INTO t(a) VALUES (1) ON CONFLICT DO NOTHING
INSERT OR FAIL INTO t(a) VALUES (1)
INSERT OR ROLLBACK INTO t(a) VALUES (1)
INSERT INTO t(a, b) VALUES (1, 2) ON CONFLICT (a, b COLLATE nocase) WHERE a > 1 DO UPDATE SET a = excluded.a, (b, c) = (1, 2) WHERE b IS NULL RETURNING *
INSERT INTO t(a) VALUES (1) ON CONFLICT DO UPDATE SET a = 1
WITH w AS (SELECT 1) INSERT INTO t(a) SELECT * FROM w
INSERT INTO t SELECT * FROM u WHERE true ON CONFLICT (a) DO NOTHING
UPDATE t SET a = 1, b = b + 1 WHERE c = 2
UPDATE OR IGNORE t AS k SET (a, b) = (1, 2) FROM u WHERE k.a = u.a RETURNING a
WITH w AS (SELECT 1) UPDATE main.t INDEXED BY i SET a = (SELECT * FROM w) WHERE a = 1
UPDATE t NOT INDEXED SET a = 1
DELETE FROM t
DELETE FROM t AS k WHERE k.a = 1 RETURNING *
WITH w AS (SELECT 1) DELETE FROM t WHERE a IN w
CREATE TABLE n(a)
CREATE TABLE IF NOT EXISTS main.n(a INTEGER PRIMARY KEY AUTOINCREMENT, b TEXT NOT NULL ON CONFLICT FAIL DEFAULT 'x', c VARCHAR(10, 2) UNIQUE ON CONFLICT IGNORE)
CREATE TEMP TABLE n(a INT DEFAULT -1, b DEFAULT +2.5, c DEFAULT (1 + 2), d DEFAULT NULL, e DEFAULT CURRENT_TIMESTAMP, f DEFAULT word, g DEFAULT x'00')
CREATE TEMPORARY TABLE n AS SELECT * FROM t
CREATE TABLE n(a CONSTRAINT k CHECK (a > 0), b COLLATE nocase, c NULL, d REFERENCES t(a) ON DELETE CASCADE ON UPDATE SET NULL MATCH full DEFERRABLE INITIALLY DEFERRED)
CREATE TABLE n(a INT, b INT GENERATED ALWAYS AS (a + 1) STORED, c AS (a * 2) VIRTUAL, d INT AS (a) NOT NULL)
CREATE TABLE n(a, b, CONSTRAINT k PRIMARY KEY (a, b DESC) ON CONFLICT ROLLBACK, UNIQUE (b COLLATE nocase), CHECK (a < b), FOREIGN KEY (a, b) REFERENCES u(a, b) ON DELETE SET DEFAULT ON UPDATE RESTRICT NOT DEFERRABLE)
CREATE TABLE n(a PRIMARY KEY DESC, b REFERENCES u ON DELETE NO ACTION ON INSERT RESTRICT) WITHOUT ROWID
CREATE TABLE n(a INT PRIMARY KEY, b ANY) STRICT, WITHOUT ROWID
CREATE TABLE n(a, FOREIGN KEY (a) REFERENCES u DEFERRABLE INITIALLY IMMEDIATE CHECK (a) UNIQUE (a))
CREATE INDEX k ON t(a)
CREATE UNIQUE INDEX IF NOT EXISTS main.k ON t(a COLLATE nocase DESC, lower(b), c + 1) WHERE a IS NOT NULL
CREATE VIEW w AS SELECT * FROM t
CREATE TEMP VIEW IF NOT EXISTS w(p, q) AS SELECT a, b FROM t
CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END
CREATE TEMP TRIGGER IF NOT EXISTS r BEFORE UPDATE OF a, b ON t FOR EACH ROW WHEN new.a > old.a BEGIN UPDATE t SET a = 1; DELETE FROM u WHERE a = old.a; INSERT INTO u(a) VALUES (new.a); SELECT raise(ABORT, 'no'), RAISE(IGNORE); END
CREATE TRIGGER r INSTEAD OF DELETE ON v BEGIN INSERT OR REPLACE INTO t(a) SELECT 1 UNION SELECT 2; REPLACE INTO t(a) VALUES (1); END
CREATE TRIGGER r DELETE ON t BEGIN WITH w AS (SELECT 1) SELECT raise(ROLLBACK, 'a'), raise(FAIL, 'b') FROM w; END
CREATE VIRTUAL TABLE IF NOT EXISTS k USING fts5(a, b UNINDEXED, tokenize = 'x (y)')
CREATE VIRTUAL TABLE k USING dbstat
DROP TABLE t
DROP TABLE IF EXISTS main.n
DROP INDEX i
DROP VIEW IF EXISTS v
DROP TRIGGER IF EXISTS r
ALTER TABLE t RENAME TO n
ALTER TABLE t RENAME COLUMN a TO z
ALTER TABLE main.t RENAME b TO z
ALTER TABLE t ADD COLUMN d INT DEFAULT 5
ALTER TABLE t ADD e
ALTER TABLE t DROP COLUMN c
ALTER TABLE t DROP c
BEGIN
BEGIN TRANSACTION
BEGIN DEFERRED
BEGIN IMMEDIATE TRANSACTION x
BEGIN EXCLUSIVE
COMMIT
COMMIT TRANSACTION
END
END TRANSACTION x
ROLLBACK
ROLLBACK TRANSACTION
ROLLBACK TO s
ROLLBACK TRANSACTION TO SAVEPOINT s
SAVEPOINT s
RELEASE s
RELEASE SAVEPOINT s
PRAGMA user_version
PRAGMA main.user_version
PRAGMA user_version = 5
PRAGMA cache_size = -200
PRAGMA foreign_keys = ON
PRAGMA foreign_keys(off)
PRAGMA table_info('t')
PRAGMA journal_mode = DELETE
PRAGMA temp_store = DEFAULT
ATTACH 'x' AS y
ATTACH DATABASE ':memory:' AS 'y'
DETACH y
DETACH DATABASE 'y'
ANALYZE
ANALYZE t
ANALYZE main.t
REINDEX
REINDEX t
REINDEX main.i
VACUUM
VACUUM main
VACUUM INTO 'x'
VACUUM main INTO 'x'
""".strip().splitlines()

#: What SQLite does not know, or the stdlib's SQLite is not built with.
OWN = r"""
EXPLAIN SELECT 1
EXPLAIN QUERY PLAN SELECT * FROM t
EXPLAIN ANALYZE SELECT * FROM t
EXPLAIN ANALYZE t
UPDATE t SET a = 1 WHERE b RETURNING a ORDER BY a LIMIT 1 OFFSET 2
DELETE FROM t WHERE b ORDER BY a DESC LIMIT 1
SELECT group_concat(a, ',' ORDER BY b DESC) FROM t
CREATE TABLE n(a) WITH (ttl = '30s', max_bytes = 1000, evict = sieve, fast = ON, other = NULL)
CREATE TABLE n(a INT) STRICT WITH (ttl = -1.5), WITHOUT ROWID
CREATE TOPIC IF NOT EXISTS main.news WITH (retain = '1MB')
CREATE TOPIC news
CREATE QUEUE jobs
CREATE QUEUE IF NOT EXISTS jobs WITH (lease = 30)
DROP TOPIC IF EXISTS news
DROP QUEUE jobs
WATCH SELECT * FROM t WHERE a > 5
SELECT 1_000, 0x1_F, 1_0.5_0e1_0
""".strip().splitlines()

TOKEN = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|`[^`]*`|\[[^\]]*\]|[xX]'[^']*'|[\w$]+|[:@?]\w*|->>|->|\|\||<<|>>|<=|>=|<>|==|!=|.""")


def tokens(sql):
    """A statement's tokens, by a scanner that is not the one under test."""
    return [token for token in TOKEN.findall(sql) if token.strip()]


def spoil(random, parts, pool):
    """Change a list of tokens in one to three places."""
    parts = list(parts)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        at = random.randrange(len(parts) + 1)
        how = random.randrange(6)
        if how == 0 or not parts:
            parts.insert(at, random.choice(pool))
        elif how == 1:
            del parts[min(at, len(parts) - 1)]
        elif how == 2:
            parts[min(at, len(parts) - 1)] = random.choice(pool)
        elif how == 3:
            other = random.randrange(len(parts))
            at = min(at, len(parts) - 1)
            parts[at], parts[other] = parts[other], parts[at]
        elif how == 4:
            at = min(at, len(parts) - 1)
            parts.insert(at, parts[at])
        else:
            del parts[at:]
    return parts
