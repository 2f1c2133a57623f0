"""Whole tables are read by blocks of rows: filters, groups, hash joins and bounded sorts say what sqlite3 says, whatever the rows are made of."""
import random

import pytest
import sql_support

N = 700

QUERIES = (
    "SELECT count(*), count(a), count(b), sum(a), total(b), avg(a), min(t), max(t), min(b), max(a) FROM big",
    "SELECT count(*), sum(a) FROM big WHERE a < 50",
    "SELECT count(*), sum(a) FROM big WHERE a < 50 AND b > 3.5 AND t IS NOT NULL",
    "SELECT count(*) FROM big WHERE a IS NULL",
    "SELECT count(*) FROM big WHERE t = 'T7' COLLATE NOCASE",
    "SELECT count(*) FROM big WHERE a > '40'",
    "SELECT count(*), sum(length(long)) FROM big WHERE long > 'm'",
    "SELECT count(*) FROM big WHERE id > 100 AND late = 5",
    "SELECT count(late), sum(late) FROM big WHERE twice >= 100",
    "SELECT a, count(*), sum(b), min(id), max(t) FROM big GROUP BY a",
    "SELECT t, count(*), count(DISTINCT a), sum(a) FILTER (WHERE b > 2) FROM big GROUP BY t",
    "SELECT a % 3, b > 4, count(*), group_concat(id) FROM big GROUP BY 1, 2",
    "SELECT max(b), id, t FROM big WHERE b NOT IN (SELECT b FROM big WHERE b IS NOT NULL GROUP BY b HAVING count(*) > 1)",
    "SELECT a, min(id), t FROM big GROUP BY a",
    "SELECT any, count(*) FROM big GROUP BY any",
    "SELECT id, b FROM big ORDER BY b DESC, id LIMIT 10",
    "SELECT id, a, b FROM big WHERE a > 10 ORDER BY a LIMIT 5 OFFSET 3",
    "SELECT twice FROM big ORDER BY twice DESC LIMIT 7",
    "SELECT count(*), sum(w), sum(big.a) FROM big JOIN dim ON dim.k = big.a",
    "SELECT big.a, count(*), sum(w), count(w) FROM big LEFT JOIN dim ON dim.k = big.a GROUP BY big.a",
    "SELECT count(*), sum(w) FROM big JOIN dim ON dim.k = big.any",
    "SELECT count(*), sum(w) FROM big JOIN dim ON dim.name = big.t",
    "SELECT count(*), sum(w) FROM big JOIN dim ON dim.k = big.a AND dim.w = big.id",
    "SELECT count(*), sum(dim.w), sum(d2.w) FROM big JOIN dim ON dim.k = big.a LEFT JOIN dim AS d2 ON d2.k = dim.w WHERE big.b > 3",
    "SELECT w, count(*) FROM big JOIN dim ON dim.k = big.a WHERE w > 2 AND big.b < 8 GROUP BY w",
    "SELECT count(*), sum(n) FROM (SELECT a AS n FROM big WHERE b < 5) WHERE n > 3",
    "SELECT a, (SELECT count(*) FROM big AS inner WHERE inner.a = outer.a) FROM big AS outer WHERE id < 20 ORDER BY id",
)


def filled(pair):
    rng = random.Random(20261125)
    pair.same("CREATE TABLE big (id INTEGER PRIMARY KEY, a INTEGER, b REAL, t TEXT, long TEXT, any, twice AS (2 * a))")
    pair.same("CREATE TABLE dim (k, w INTEGER, name TEXT COLLATE NOCASE)")
    anything = (None, 3, 3.0, "3", b"3", 2.5, -9223372036854775808, -9223372036854775808.0, 9223372036854775807, "text")
    for i in range(N):
        values = (i * 3 - 90, rng.choice((None, *range(60))), rng.choice((None, rng.random() * 10, float(rng.randrange(10)))),
                  rng.choice((None, f"t{rng.randrange(12)}")), rng.choice("az") * rng.choice((1, 70, 70, 9000 if i % 50 == 0 else 7)), rng.choice(anything))
        pair.same("INSERT INTO big VALUES (?, ?, ?, ?, ?, ?)", values)
    for i in range(300):
        pair.same("INSERT INTO dim VALUES (?, ?, ?)", (rng.choice((None, *range(30), *anything, 7, 7, 7, 7)), rng.randrange(9), f"T{rng.randrange(15)}"))
    for i in range(200):
        pair.same("INSERT INTO dim VALUES (11, ?, NULL)", (i,))
    pair.same("ALTER TABLE big ADD COLUMN late INTEGER DEFAULT 5")
    pair.same("INSERT INTO big VALUES (100000, 1, 1.5, 't1', 'x', 3, 6)")


def asked(pair):
    for query in QUERIES:
        pair.same(query, ordered=False)


@pytest.fixture
def pair():
    pair = sql_support.Pair()
    filled(pair)
    yield pair
    pair.close()


def test_blocks_of_every_kind_of_row(pair):
    asked(pair)


def test_blocks_beside_rows_of_the_same_transaction(pair):
    """What the transaction wrote lies between the blocks."""
    pair.same("BEGIN")
    for change in ("UPDATE big SET a = 44, b = 1.25 WHERE id % 7 = 0", "DELETE FROM big WHERE id BETWEEN 200 AND 260", "INSERT INTO big (id, a, t) VALUES (1, 7, 'new')",
                   "INSERT INTO big (id, a, long) VALUES (200, 11, 'zzz')", "UPDATE dim SET w = 8 WHERE k = 7"):
        pair.same(change)
        asked(pair)
    pair.same("ROLLBACK")
    asked(pair)


def test_a_limit_does_not_make_a_join_read_on(pair):
    """The rows behind the one that the LIMIT ends with would be errors."""
    pair.same("UPDATE big SET a = 11 WHERE id = -90")
    condition = "CASE WHEN big.id > -90 THEN json_extract('{}', 'bad') ELSE 1 END"
    assert list(pair.ours.execute(f"SELECT 1 FROM big JOIN dim ON dim.k = big.a WHERE {condition} LIMIT 3")) == [(1,)] * 3
    mine, theirs = pair.run(f"SELECT count(*) FROM big WHERE {condition}")
    assert mine[0] == theirs[0] == "error"


def test_left_rows_of_a_join_that_match_twice_or_not_at_all_are_not_taken_for_their_neighbours(pair):
    """As many pairs as left rows are not yet one pair for each."""
    pair.same("CREATE TABLE one (v INTEGER, k INTEGER)")
    pair.same("CREATE TABLE two (k INTEGER, w INTEGER)")
    for n in range(60):
        pair.same("INSERT INTO one VALUES (?, ?)", (n, n))
        for _ in range((2, 0, 1)[n % 3]):
            pair.same("INSERT INTO two VALUES (?, ?)", (n, n * 100))
    for join in ("JOIN", "LEFT JOIN"):
        pair.same(f"SELECT v, count(*), sum(w), sum(v) FROM one {join} two ON two.k = one.k GROUP BY v", ordered=False)
        pair.same(f"SELECT count(*), sum(w), sum(v) FROM one {join} two ON two.k = one.k WHERE v >= 0", ordered=False)
        pair.same(f"SELECT v, w FROM one {join} two ON two.k = one.k ORDER BY v DESC, w LIMIT 9")
