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
