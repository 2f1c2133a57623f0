"""What is not a table, asked by SQL."""
import os

import pytest
from regions import db, shm  # noqa: F401


def rows(db, sql, params=()):
    return db.execute(sql, params).fetchall()


def test_key_spaces(db):
    db.kv("k").put_many({1: 1.5, -3: None, "a": "text", "b": True, b"c": b"\0", "list": [1, b"\xff", {"x": None}], "dict": {b"k": 2.0, 3: "ü"},
                         2 ** 70: 2 ** 70, "big": -2 ** 63})
    result = db.execute("SELECT * FROM k")
    assert result.columns == ("key", "value")
    assert result.fetchall() == [
        (-3, None), (1, 1.5), (str(2 ** 70), str(2 ** 70)), ("a", "text"), ("b", 1), ("big", -2 ** 63), ("dict", '{"6b": 2.0, "3": "ü"}'),
        ("list", '[1, "ff", {"x": null}]'), (b"c", b"\0")]
    assert rows(db, "SELECT count(*), sum(value) FROM k WHERE typeof(value) = 'real'") == [(1, 1.5)]
    db.kv("p", pickle=True)["x"] = {1}
    assert isinstance(rows(db, "SELECT value FROM p")[0][0], bytes)


def test_keys_of_a_space_are_looked_up(db):
    """One key, or some, are read by themselves; what is compared is what SQL shows, whatever the key's type."""
    kv = db.kv("k")
    kv.put_many({1: "one", "1": "text", b"1": "blob", "a": 1, "B": 2, 2 ** 70: "big", "long" * 500: 3, **{f"x{n}": n for n in range(1000)}})
    plan = "EXPLAIN QUERY PLAN SELECT value FROM k WHERE key"
    for condition in ("= ?", "= 'a'", "IN ('a', ?)", "= ? AND value > 1"):
        assert "SEARCH k VIRTUAL TABLE (key=?)" in str(rows(db, f"{plan} {condition}", ("a",) * condition.count("?")))
    for condition in ("< 'a'", "= 'a' COLLATE NOCASE", "= value", "IN (SELECT 'a')", "= 'a' OR value = 1", "<> 'a'"):
        assert "SCAN k VIRTUAL TABLE" in str(rows(db, f"{plan} {condition}"))
    for value, found in ((1, "one"), (1.0, "one"), ("1", "text"), (b"1", "blob"), (str(2 ** 70), "big"), ("long" * 500, 3)):
        assert rows(db, "SELECT value FROM k WHERE key = ?", (value,)) == [(found,)]
        assert rows(db, "SELECT value FROM k WHERE ? = k.key AND 1", (value,)) == [(found,)]
    for value in (None, 1.5, float("inf"), "b", b"a", 2 ** 62, "\ud7ff", "9" * 5000, "1_0"):
        assert rows(db, "SELECT value FROM k WHERE key = ?", (value,)) == []
    assert rows(db, "SELECT value FROM k WHERE key IN ('a', 'a', 'B', NULL, 1, 1.0) ORDER BY 1") == [(1,), (2,), ("one",)]
    assert rows(db, "SELECT value FROM k WHERE key IN ('a', 'B') AND key <> 'a'") == [(2,)]
    assert rows(db, "SELECT value FROM k WHERE key = 'b' COLLATE NOCASE") == [(2,)]
    assert rows(db, "SELECT a.value, b.value FROM k a JOIN k b ON a.key = b.value AND b.key = 'a' WHERE a.key = 1") == [("one", 1)]
    db.execute("CREATE TABLE t (id)")
    db.execute("INSERT INTO t VALUES ('a'), (1), ('none'), (NULL)")
    assert rows(db, "SELECT id, (SELECT value FROM k WHERE key = t.id) FROM t") == [("a", 1), (1, "one"), ("none", None), (None, None)]
    assert rows(db, "SELECT t.id, value FROM t LEFT JOIN k ON key = t.id AND key = 'a' ORDER BY t.rowid") == [
        ("a", 1), (1, None), ("none", None), (None, None)]
    db.cache("c").set("x", 5)
    assert rows(db, "SELECT value, expires FROM c WHERE key = 'x'") == [(5, None)]
    with db.transaction() as tx:                            # what the transaction wrote itself, and hash indexes
        tx.kv("k")["new"] = 7
        assert tx.execute("SELECT value FROM k WHERE key = 'new'").fetchall() == [(7,)]
    db.kv("h", index="hash")["y"] = 8
    assert rows(db, "SELECT * FROM h WHERE key = 'y'") == [("y", 8)]


def test_caches(db):
    cache = db.cache("c")
    cache.set("a", "x" * 10, ttl=60)
    cache.set("b", 1)
    cache.set("gone", 1, ttl=0.001)
    result = db.execute("SELECT key, value, expires, size FROM c WHERE key <> 'gone' ORDER BY key")
    (a, value, expires, size), second = result.fetchall()
    assert (a, value, second) == ("a", "x" * 10, ("b", 1, None, 4)) and expires == cache.expires("a") and size == 3 + 11
    with db.transaction() as tx:
        assert tx.execute("SELECT count(*) FROM c WHERE expires IS NULL").fetchall() == [(1,)]


def test_queues(db):
    queue = db.queue("q")
    for value, delay in (("a", 0), ({"n": 1}, 60), ("c", 0)):
        queue.put(value, delay=delay, priority=len(str(value)))
    queue.claim(0)
    assert rows(db, "SELECT id, state, payload, priority, attempts, worker, pid FROM q ORDER BY id") == [
        (1, "leased", "a", 1, 1, db.processes()[0]["slot"], os.getpid()), (2, "delayed", '{"n": 1}', 8, 0, None, None),
        (3, "ready", "c", 1, 0, None, None)]
    assert rows(db, "SELECT available - enqueued > 59 FROM q WHERE available IS NOT NULL") == [(1,)]
    assert rows(db, "SELECT state, count(*) FROM q GROUP BY state ORDER BY 1") == [("delayed", 1), ("leased", 1), ("ready", 1)]


def test_topics(db):
    topic = db.topic("t", retain=4096)
    commits = [topic.publish(n) for n in range(3)]
    assert rows(db, "SELECT seq, commit_number, payload FROM t") == list(zip((1, 2, 3), commits, (0, 1, 2)))
    with db.snapshot() as tx:
        topic.publish("later")
        assert tx.execute("SELECT count(*) FROM t").fetchall() == [(3,)]        # nothing newer than the snapshot
    for n in range(200):
        topic.publish(n)
    (first, last, count), = rows(db, "SELECT min(seq), max(seq), count(*) FROM t")
    assert last == 204 and count == last - first + 1 < 204


def test_joined_with_tables(db):
    db.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name)")
    db.execute("INSERT INTO users VALUES (1, 'ann'), (2, 'bob')")
    db.kv("seen").put_many({2: "today", 3: "never"})
    assert rows(db, "SELECT name, value FROM users LEFT JOIN seen ON seen.key = users.id ORDER BY id") == [("ann", None), ("bob", "today")]


def test_processes_spaces_and_numbers(db):
    db.kv("k"), db.queue("q")
    assert rows(db, "SELECT pid, alive FROM memora_processes") == [(os.getpid(), 1)]
    assert rows(db, "SELECT commits > 0, since < strftime('%s', 'now') + 1 FROM memora_processes") == [(1, 1)]
    assert [row[:2] for row in rows(db, "SELECT name, kind, tree FROM memora_spaces")] == [("k", "kv"), ("q", "queue")]
    assert rows(db, "SELECT value FROM memora_stats WHERE name = 'commit'") == [(db.commit_number,)]


def test_own_writes_are_seen(db):
    db.kv("k")["a"] = 1
    with db.transaction() as tx:
        tx.kv("k")["b"] = 2
        tx.queue("new").put("job")
        assert tx.execute("SELECT key FROM k ORDER BY key").fetchall() == [("a",), ("b",)]
        assert tx.execute("SELECT payload FROM new").fetchall() == [("job",)]
        assert rows(db, "SELECT key FROM k") == [("a",)]


@pytest.mark.parametrize("sql", ["INSERT INTO k VALUES (1, 2)", "DELETE FROM k", "UPDATE k SET value = 1", "DELETE FROM memora_stats"])
def test_they_are_not_written_by_sql(db, sql):
    from memora import errors
    db.kv("k")["a"] = 1
    with pytest.raises(errors.DatabaseError):
        db.execute(sql)
    assert dict(db.kv("k").scan()) == {"a": 1}
