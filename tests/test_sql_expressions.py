"""Expressions and functions, one by one, against sqlite3."""
import pytest
from sql_support import Pair

EXPRESSIONS = """
1+1, 1.0+1, 9223372036854775807+1, -9223372036854775807-2, 4611686018427387904*2, 7/2, -7/2, 7/2.0, 7%3, -7%3, 7.9%3.2, 1/0, 1%0, 1/0.0
'12abc'+1, 'abc'+1, '1e2'+0, '1.5'*2, x'31'+1, NULL+1, -'5x', -'', - -3, ~5, ~NULL, ~'7', 5&6, 5|6, 1<<3, 1<<64, -1>>70, 1<<-1, 8>>1, 8>>-1
'a'||'b', 'a'||1, 1||2, 1.0||'', NULL||'a', x'61'||'b', typeof(x'61'||x'62')
1='1', '1'=1, 1=1.0, 'a'='A', 'a'='A' COLLATE NOCASE, 'a '='a' COLLATE RTRIM, x'61'='a', NULL=NULL, NULL IS NULL, 1 IS 1.0, 1 IS NOT NULL, 'a'<x'61'
1<2, 'b'>'a', 2>'10', '2'>'10', 1 BETWEEN 0 AND 2, 1 NOT BETWEEN 2 AND 3, NULL BETWEEN 1 AND 2, 2 BETWEEN NULL AND 1
1 AND NULL, 0 AND NULL, 1 OR NULL, 0 OR NULL, NOT NULL, NOT 0, NOT 'a', NOT '1', 'a' AND 1, 0.4 AND 1, '0.4' OR 0
1 IN (1,2), 3 IN (1,2), NULL IN (1), 1 IN (NULL,1), 3 IN (NULL,1), 1 IN (), NULL IN (), '1' IN (1), 1 NOT IN (2), 1.0 IN (1)
(1,2)=(1,2), (1,2)<(1,3), (1,NULL)=(1,2), (2,NULL)=(1,2), (1,2) IN ((1,2),(3,4)), (1,2) IS (1,2), (NULL,1) IS (NULL,1)
1 IS TRUE, 0 IS FALSE, NULL IS TRUE, NULL IS NOT TRUE, 2 IS TRUE, '' IS FALSE, TRUE, FALSE, TRUE+TRUE
CASE 1 WHEN 1 THEN 'a' END, CASE NULL WHEN NULL THEN 1 ELSE 2 END, CASE WHEN 0 THEN 1 WHEN 2 THEN 3 END, CASE 'a' WHEN 'A' COLLATE NOCASE THEN 1 END
CAST('12abc' AS INTEGER), CAST('9999999999999999999' AS INTEGER), CAST(-1.9 AS INTEGER), CAST(1e30 AS INTEGER), CAST('1e3' AS INTEGER), CAST('abc' AS REAL)
CAST(5 AS TEXT), CAST(5.0 AS TEXT), CAST('5' AS BLOB), CAST(x'35' AS INTEGER), CAST(' 1.0 ' AS NUMERIC), CAST('1.5x' AS NUMERIC), CAST(NULL AS INTEGER), CAST(2.0 AS NUMERIC)
'abc' LIKE 'A%', 'abc' LIKE '_b_', 'abc' LIKE 'b', 'a%c' LIKE 'a\\%c' ESCAPE '\\', 'é' LIKE '_', NULL LIKE 'a', 12 LIKE '1%', '' LIKE '', '' LIKE '%', 'aXbX' LIKE '%X%X'
'abc' GLOB 'a*', 'abc' GLOB 'A*', 'abc' GLOB '[a-c]?[!d]', 'a]c' GLOB 'a[]]c', 'abc' GLOB '*[b]*', '-' GLOB '[a-]', 'é' GLOB '[à-ü]', 'abc' NOT GLOB 'x'
abs(-5), abs('x'), abs(NULL), abs(-2.5), sign(-3), sign('a'), sign('2.5'), round(2.5), round(-2.5), round(1.256,2), round(5), round('2.567',1), round(NULL), round(1,-3)
length('héllo'), length(x'0011'), length(123), length(1.5), length(NULL), length(''), length('a'||char(0)||'b')
upper('aé'), lower('AÉ'), trim('  a '), trim('xxaxx','x'), ltrim('abca','ab'), rtrim('abcc','bc'), trim('abc',''), trim(NULL), trim('éaé','é')
substr('hello',2), substr('hello',2,3), substr('hello',-3), substr('hello',-3,2), substr('hello',0), substr('hello',0,3), substr('hello',2,-1), substr('hello',-10,7), substr('héllo',2,2), substr(x'010203',2,1), substr('abc',2.7), substring('abc',2,1)
replace('aXbX','X','yy'), replace('abc','','x'), replace(NULL,'a','b'), replace('a1',1,2), instr('hello','l'), instr('hello','z'), instr('hello',''), instr(x'0102',x'02'), instr('héllo','l'), instr(NULL,'a')
hex('abc'), hex(x'0a'), hex(12), hex(NULL), quote('it''s'), quote(NULL), quote(1.5), quote(x'0aff'), quote(0.1), quote(1e100), unicode('é'), unicode(''), char(72,105), char(), zeroblob(3)
coalesce(NULL,NULL,3), ifnull(NULL,2), nullif(1,1), nullif(1,2), nullif('a','A'), iif(1,2,3), iif(NULL,2,3), max(1,2.5,'a'), min(1,2.5,'a'), max(1,NULL), min('b','A'), typeof(max(1,1.0)), typeof(min(1,1.0)), typeof(min(1.0,1))
typeof(1), typeof(1.0), typeof('a'), typeof(x''), typeof(NULL), likely(5), unlikely(0), likelihood(3,0.5)
printf('%d|%5d|%-5d|%05d|%+d|%,d',1,2,3,4,5,1234567), printf('%s|%10s|%-10s|%.2s','a','b','c','defg'), printf('%f|%.2f|%e|%g',1.5,2.345,12345.678,0.0001), printf('%x|%X|%o|%c|%%|%q|%Q|%w',255,255,8,'z','it''s','it''s','a"b'), printf('%s',NULL), printf(NULL), printf('%d','12abc'), format('%5.1f|',3.14159)
date('2024-02-29'), date('2024-02-29','+1 year'), date('2023-01-31','+1 month'), datetime('2024-03-10 12:34:56','-1 day','start of month'), time('12:00','+90 minutes'), julianday('2000-01-01'), strftime('%Y-%m-%d %H:%M:%S %j %w %s %W','2024-12-31 23:59:59'), date(0,'unixepoch'), date('now') = date(CURRENT_DATE), date('2024-01-01','weekday 0'), date('x'), datetime(1092941466,'unixepoch'), strftime('%f','2024-01-01 00:00:01.5'), unixepoch('2024-01-01'), date('2024-01-01T05:00:00+09:00'), time('25:00'), date(2460000.5)
1 COLLATE NOCASE = 1, 'a' || 'B' COLLATE NOCASE = 'ab', +'1' = 1, CAST('1' AS TEXT) = 1, CAST(1 AS INTEGER) = '1', 0x10, 1e3, .5, 9223372036854775808, -9223372036854775808, 0xffffffffffffffff
""".strip().splitlines()


@pytest.fixture(scope="module")
def pair():
    made = Pair()
    yield made
    made.close()


def pieces(line):
    """Expressions of one line: split at commas outside of parentheses and strings."""
    found, depth, quoted, start = [], 0, False, 0
    for i, c in enumerate(line):
        if c == "'":
            quoted = not quoted
        elif not quoted:
            depth += (c == "(") - (c == ")")
            if c == "," and depth == 0:
                found.append(line[start:i].strip())
                start = i + 1
    return [*found, line[start:].strip()]


@pytest.mark.parametrize("line", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_expressions(pair, line):
    for piece in pieces(line):
        pair.same(f"SELECT {piece}")


@pytest.mark.parametrize("sql", [
    "SELECT abs(-9223372036854775807-1)", "SELECT nosuch(1)", "SELECT abs()", "SELECT abs(1,2)", "SELECT x", "SELECT t.x", "SELECT * FROM nosuch",
    "SELECT (1,2)", "SELECT 1 IN (SELECT 1, 2)", "SELECT (SELECT 1, 2)", "SELECT sum(sum(1))", "SELECT 1 WHERE count(*)", "SELECT 1 ORDER BY 2",
    "SELECT 1 GROUP BY 5", "SELECT 1 UNION SELECT 1, 2", "SELECT 'a' LIKE 'a' ESCAPE 'xx'", "SELECT sum(DISTINCT 1, 2)",
    "SELECT 1 LIMIT 'a'", "VALUES (1), (2, 3)", "SELECT *", "SELECT 1 HAVING 1",
])
def test_errors_are_those_of_sqlite3(pair, sql):
    mine, theirs = pair.run(sql)
    assert mine[0] == theirs[0] == "error" and mine[1] == theirs[1], (mine, theirs)


def test_messages_name_what_is_wrong(pair):
    for sql in ("SELECT * FROM nosuch", "SELECT nosuch FROM (SELECT 1)", "SELECT a.b FROM (SELECT 1) a", "SELECT nosuch(1)",
                "SELECT abs(-9223372036854775807-1)", "SELECT 1 UNION SELECT 1, 2", "SELECT 1 ORDER BY 2"):
        mine, theirs = pair.run(sql)
        assert mine[2] == theirs[2]
