"""The change feed: images, kinds, order, commit boundaries, since, Lagged, spaces that come and go."""
import random

import counters
import pytest
from regions import Child, db, shm  # noqa: F401

import memora
from memora import errors
from memora.changes import Change


def rest(changes):
    found = []
    while (commit := changes.get(0)) is not None:
        found.append(commit)
    return found


def only(changes):
    """The changes of the one commit that is there."""
    commit, = rest(changes)
    return commit.changes


def test_keys(db):
    k = db.kv("k")
    changes = db.changes("k")
    k["a"] = 1
    k["a"] = [2]
    del k["a"]
    k.delete("a")
    k.put_many({1: "x", b"y": None})
    commits = rest(changes)
    assert [c.changes for c in commits] == [
        [Change("k", "insert", "a", 1, None)], [Change("k", "update", "a", [2], 1)], [Change("k", "delete", "a", None, [2])],
        [Change("k", "insert", 1, "x", None), Change("k", "insert", b"y", None, None)]]
    assert [c.number for c in commits] == sorted(c.number for c in commits)
    assert commits[-1].number == db.commit_number == changes.position
    assert commits[0].time <= commits[-1].time
    assert changes.get(0.02) is None


def test_tables(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, x)")
    db.execute("CREATE INDEX by_name ON t (name)")
    db.execute("CREATE TABLE w (a, b, c, PRIMARY KEY (b, a)) WITHOUT ROWID")
    db.execute("CREATE TABLE plain (x)")
    changes = db.changes(["t", "W", "plain"])
    db.execute("INSERT INTO t (name, x) VALUES ('a', 1.5), ('b', NULL)")
    db.execute("UPDATE t SET x = x'00' WHERE name = 'a'")
    db.execute("DELETE FROM t WHERE id = 2")
    db.execute("INSERT INTO w VALUES (1, 2, 3)")
    db.execute("INSERT INTO plain VALUES (-5)")
    assert [c.changes for c in rest(changes)] == [
        [Change("t", "insert", 1, {"id": 1, "name": "a", "x": 1.5}, None), Change("t", "insert", 2, {"id": 2, "name": "b", "x": None}, None)],
        [Change("t", "update", 1, {"id": 1, "name": "a", "x": b"\0"}, {"id": 1, "name": "a", "x": 1.5})],
        [Change("t", "delete", 2, None, {"id": 2, "name": "b", "x": None})],
        [Change("w", "insert", (2, 1), {"a": 1, "b": 2, "c": 3}, None)],
        [Change("plain", "insert", 1, {"x": -5}, None)]]


def test_a_table_that_is_altered(db):
    db.execute("CREATE TABLE t (a)")
    start = db.commit_number
    changes = db.changes("t")
    db.execute("INSERT INTO t VALUES (1)")
    db.execute("ALTER TABLE t ADD COLUMN b DEFAULT 7")
    db.execute("UPDATE t SET a = 2")
    expected = [
        [Change("t", "insert", 1, {"a": 1}, None)],
        [Change("t", "update", 1, {"a": 2, "b": 7}, {"a": 1, "b": 7})]]
    assert [c.changes for c in rest(changes)] == expected
    # from the past: each commit is read by the table of its own time
    assert [c.changes for c in rest(db.changes("t", since=start))] == expected


def test_jobs(db):
    queue = db.queue("q")
    changes = db.changes("q")
    queue.put("a", priority=3)
    put, = only(changes)
    assert (put.space, put.kind, put.key, put.old) == ("q", "insert", 1, None)
    assert {k: put.new[k] for k in ("id", "state", "value", "attempts", "priority", "available", "worker")} == {
        "id": 1, "state": "ready", "value": "a", "attempts": 0, "priority": 3, "available": None, "worker": None}
    job = queue.claim(0)
    claimed, = only(changes)
    assert (claimed.kind, claimed.key, claimed.old) == ("update", 1, put.new)
    assert (claimed.new["state"], claimed.new["attempts"], claimed.new["worker"]) == ("leased", 1, db.processes()[0]["slot"])
    job.nack(delay=60)
    back, = only(changes)
    assert (back.kind, back.old, back.new["state"]) == ("update", claimed.new, "delayed") and back.new["available"] > put.new["enqueued"] + 50
    queue.put("b")
    rest(changes)
    queue.claim(0).ack()
    assert [c.changes[0].kind for c in rest(changes)] == ["update", "delete"]


def test_messages(db):
    topic = db.topic("t")
    changes = db.changes("t")
    topic.publish([1])
    assert only(changes) == [Change("t", "message", None, [1], None)]


def test_pickles(db):
    k = db.kv("p", pickle=True)
    plain, trusting = db.changes("p"), db.changes("p", pickle=True)
    k["a"] = {1, 2}
    k["b"] = 3
    seen = [c.changes[0].new for c in rest(plain)]
    assert isinstance(seen[0], bytes) and seen[1] == 3      # nothing is unpickled without being asked for
    assert [c.changes[0].new for c in rest(trusting)] == [{1, 2}, 3]


def test_only_what_is_followed(db):
    a, b = db.kv("a"), db.kv("b")
    one, both, everything = db.changes("A"), db.changes(["a", "b"]), db.changes()
    a["x"] = 1
    b["x"] = 2
    with db.transaction() as tx:
        tx.kv("a")["x"] = 3
        tx.kv("b")["x"] = 4
    assert [[c.space for c in commit.changes] for commit in rest(one)] == [["a"], ["a"]]
    for changes in (both, everything):
        assert [[c.space for c in commit.changes] for commit in rest(changes)] == [["a"], ["b"], ["a", "b"]]
    with pytest.raises(errors.ProgrammingError, match="no table or space 'nothing'"):
        db.changes(["a", "nothing"])


def test_since(db):
    k = db.kv("k")
    numbers = []
    for n in range(10):
        k["n"] = n
        numbers.append(db.commit_number)
    assert [c.changes[0].new for c in rest(db.changes("k", since=numbers[6]))] == [7, 8, 9]
    assert [c.changes[0].new for c in rest(db.changes("k", since=0))] == list(range(10))
    assert rest(db.changes("k", since=numbers[9])) == [] == rest(db.changes("k"))
    for wrong, error in ((-1, errors.ProgrammingError), (numbers[9] + 1, errors.ProgrammingError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(error):
            db.changes("k", since=wrong)


def test_spaces_that_come_and_go(db):
    start = db.commit_number
    everything = db.changes()
    db.execute("CREATE TABLE t (a)")
    named = db.changes("t")
    db.execute("INSERT INTO t VALUES (1)")
    db.execute("DROP TABLE t")
    db.kv("t")["a"] = 1                         # the name is another thing now
    with db.transaction() as tx:                # made and filled in one commit
        tx.queue("new").put("job")
    expected = [
        [Change("t", "insert", 1, {"a": 1}, None)], [Change("t", "drop", None, None, None)], [Change("t", "insert", "a", 1, None)]]
    assert [c.changes for c in rest(named)] == expected
    found = rest(everything)
    assert [c.changes for c in found[:3]] == expected
    assert [(c.space, c.kind, c.key) for c in found[3].changes] == [("new", "insert", 1)]
    assert rest(db.changes(since=start)) == found
    assert [c.changes for c in rest(db.changes("t", since=start))] == expected


def test_space_made_and_filled_in_one_commit_under_a_followed_name(db):
    db.execute("CREATE TABLE t (a)")
    changes = db.changes("t")
    with db.transaction() as tx:
        tx.execute("DROP TABLE t")
        tx.kv("t")["a"] = 1
    with db.transaction() as tx:
        tx.kv("t")["b"] = 2
    assert [c.changes for c in rest(changes)] == [
        [Change("t", "drop", None, None, None), Change("t", "insert", "a", 1, None)], [Change("t", "insert", "b", 2, None)]]


def test_lapped_follower_is_told_and_goes_on(shm):
    with memora.open(shm, max_bytes="16MB", ring_bytes="64KB") as db:
        k = db.kv("k")
        changes = db.changes("k")
        first = db.commit_number + 1
        for n in range(2000):
            k["n"] = "x" * 100 + str(n)
        with pytest.raises(errors.Lagged) as info:
            changes.get(0)
        lagged = info.value
        assert lagged.missed == lagged.first_available - first and lagged.missed > 1000
        assert str(lagged.first_available) in str(lagged)
        commits = rest(changes)
        assert [c.number for c in commits] == list(range(lagged.first_available, db.commit_number + 1))
        assert commits[-1].changes[0].new.endswith("1999")
        with pytest.raises(errors.Lagged):
            db.changes("k", since=first).get(0)


def test_lapped_past_a_change_of_the_catalog(shm):
    """After Lagged the catalog is read again: what was made in the gap is decoded rightly."""
    with memora.open(shm, max_bytes="16MB", ring_bytes="64KB") as db:
        db.kv("k")
        changes = db.changes()
        db.execute("CREATE TABLE t (a)")
        for n in range(1000):
            db.kv("k")["n"] = "x" * 200
        db.execute("INSERT INTO t VALUES (5)")
        with pytest.raises(errors.Lagged):
            changes.get(0)
        assert rest(changes)[-1].changes == [Change("t", "insert", 1, {"a": 5}, None)]


def test_closing(db):
    k = db.kv("k")
    with db.changes("k") as changes:
        k["a"] = 1
        assert next(iter(changes)).changes[0].new == 1
    changes.close()
    assert changes.closed and "closed" in repr(changes)
    with pytest.raises(errors.ProgrammingError, match="closed"):
        changes.get(0)
    with pytest.raises(ValueError):
        db.changes("k").get(-1)


def test_replay_equals_the_spaces(db, shm):
    """Four processes write for a while, some are killed: what the feed says, applied to nothing, is what is there."""
    code = """
    import random
    db = memora.open(name)
    seed = int(sys.stdin.readline())
    rng = random.Random(seed)
    def step(tx):
        for _ in range(rng.randrange(1, 4)):
            act = rng.randrange(4)
            if act == 0:
                tx.kv("k")[rng.randrange(40)] = rng.randrange(1000)
            elif act == 1:
                tx.kv("k").delete(rng.randrange(40))
            elif act == 2:
                tx.cache("c").set(rng.randrange(300), "v" * rng.randrange(200))
            else:
                tx.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (rng.randrange(40), rng.randrange(1000)))
    while True:
        for _ in range(60):
            db.run(step)
        say("paused")                       # the log keeps only so much: go on when it was read
        sys.stdin.readline()
    """
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
    db.kv("k"), db.cache("c", max_bytes="16KB")
    changes = db.changes()
    seed = random.randrange(1 << 30)
    print("seed", seed)
    children = [Child(code, shm) for _ in range(3)]
    for number, child in enumerate(children):
        child.tell(str(seed + number))
    commits = []
    for _ in range(4):
        for child in children:
            child.line()
        commits += rest(changes)
        for child in children:
            child.tell()
    for child in children:
        with child:
            child.kill()
        counters.count("kills")
    commits += rest(changes)
    model, last = {}, 0
    for commit in commits:
        assert commit.number > last
        last = commit.number
        for space, kind, key, new, old in commit.changes:
            assert model.get((space, key)) == old, (commit.number, space, kind, key)
            assert kind in ("delete", "evict", "expire") if new is None else kind == ("insert" if old is None else "update")
            if new is None:
                del model[space, key]
            else:
                model[space, key] = new
    there = {("k", key): value for key, value in db.kv("k").scan()}
    there.update({("c", key): value for key, value in db.cache("c").scan()})
    there.update({("t", row[0]): {"id": row[0], "x": row[1]} for row in db.execute("SELECT * FROM t")})
    assert model == there
    assert db.check() == []
