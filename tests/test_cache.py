"""Caches: values, time to live, the hard bound, eviction, transactions, several processes."""
import random
import time

import counters
import pytest
from regions import Child, db, shm  # noqa: F401

from memora import errors


def test_get_set_delete(db):
    cache = db.cache("c")
    assert cache.get("a") is None and cache.get("a", 7) == 7 and "a" not in cache
    for key in ("a", 1, b"a"):
        for value in (None, True, 0, -1.5, "x", b"\0", [1, {"a": [None]}], 10 ** 30):
            cache.set(key, value)
            assert cache.get(key, "absent") == value and key in cache and cache[key] == value
    cache["b"] = 2
    assert list(cache) == [1, "a", "b", b"a"] and len(cache) == 4 and bool(cache)
    assert cache.delete("a") is True and cache.delete("a") is False
    del cache["b"]
    with pytest.raises(KeyError):
        del cache["b"]
    with pytest.raises(KeyError):
        cache["b"]
    cache.clear()
    assert len(cache) == 0 and bool(cache)
    assert repr(cache) == "<memora.Cache 'c', max_bytes 67108864>"


@pytest.mark.parametrize("key", [1.5, None, True, (1,)])
def test_keys_that_are_none(db, key):
    with pytest.raises(TypeError):
        db.cache("c").set(key, 1)


def test_values_that_are_none(db):
    with pytest.raises(TypeError, match="set"):
        db.cache("c").set("a", {1})
    assert "a" not in db.cache("c")


def test_time_to_live(db):
    cache = db.cache("c")
    before = time.time()
    cache.set("short", 1, ttl=0.05)
    cache.set("long", 2, ttl="1h")
    cache.set("for good", 3)
    assert before + 3600 <= cache.expires("long") <= time.time() + 3600
    assert cache.expires("for good") is None
    time.sleep(0.06)
    assert cache.get("short") is None and "short" not in cache and cache.get_many(["short", "long"]) == {"long": 2}
    assert list(cache) == ["for good", "long"]
    with pytest.raises(KeyError):
        cache.expires("short")
    assert cache.add("short", 4)
    assert cache.get("short") == 4
    for wrong, error in ((-1, ValueError), ("soon", ValueError), (b"1", TypeError)):
        with pytest.raises(error):
            cache.set("a", 1, ttl=wrong)


def test_time_to_live_of_the_cache(db):
    cache = db.cache("c", ttl=0.05)
    cache.set("a", 1)
    cache["b"] = 2
    cache.set_many({"c": 3})
    cache.add("d", 4)
    cache.incr("e")
    cache.set("stays", 5, ttl=0)
    cache.set("longer", 6, ttl=60)
    assert cache.ttl == 0.05
    time.sleep(0.06)
    assert list(cache) == ["longer", "stays"]
    assert db.cache("other").ttl is None


def test_touch(db):
    cache = db.cache("c")
    cache.set("a", 1, ttl=0.1)
    assert cache.touch("a", 60) and not cache.touch("b", 60)
    time.sleep(0.11)
    assert cache.get("a") == 1
    assert cache.touch("a") and cache.expires("a") is None


def test_add(db):
    cache = db.cache("c")
    assert cache.add("a", 1) and not cache.add("a", 2) and cache.get("a") == 1
    assert cache.add("b", 1, ttl=0.02) and not cache.add("b", 2)
    time.sleep(0.03)
    assert cache.add("b", 3, ttl=60) and cache.get("b") == 3


def test_incr(db):
    cache = db.cache("c")
    assert [cache.incr("n"), cache.incr("n", 5), cache.incr("n", -2)] == [1, 6, 4]
    assert cache.incr("m", initial=10) == 11
    assert cache.incr("f", 0.5) == 0.5
    cache.incr("window", ttl=60)
    until = cache.expires("window")
    cache.incr("window", ttl=600)
    assert cache.expires("window") == until and cache.get("window") == 2
    cache.set("s", "text")
    with pytest.raises(TypeError, match="'s' holds str"):
        cache.incr("s")
    assert cache.get("s") == "text"


def test_get_or_set(db):
    cache = db.cache("c")
    calls = []

    def compute():
        calls.append(1)
        return "made"
    assert [cache.get_or_set("a", compute), cache.get_or_set("a", compute), cache.get_or_set("b", 5)] == ["made", "made", 5]
    assert len(calls) == 1
    assert cache.get_or_set("none", lambda: None) is None
    assert cache.get_or_set("none", 1) is None
    # somebody else was first while it was computed: everybody goes on with what is stored
    assert cache.get_or_set("race", lambda: (cache.set("race", "theirs"), "mine")[1]) == "theirs"
    assert cache.get_or_set("t", 1, ttl=0.02) == 1
    time.sleep(0.03)
    assert cache.get_or_set("t", 2) == 2


def test_many(db):
    cache = db.cache("c")
    cache.set_many({n: str(n) for n in range(100)}, ttl=60)
    cache.set_many([("x", 1), ("y", 2)])
    assert cache.get_many([5, 50, "x", "absent"]) == {5: "5", 50: "50", "x": 1}
    assert cache.delete_many(range(90, 110)) == 10
    assert len(cache) == 92


def test_bound_is_hard(db):
    """After every commit keys, values and 32 bytes an entry are within the bound, whatever is written in whatever order."""
    bound = 64 << 10
    cache = db.cache("c", max_bytes=bound)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    for n in range(1500):
        cache.set(rng.choice((rng.randrange(500), f"key-{rng.randrange(500)}")), b"x" * rng.choice((0, 10, 100, 1000, 3000)))
        stats = cache.stats()
        assert stats["bytes"] <= bound
        if n % 100 == 0:
            assert stats["entries"] == len(cache)
    assert stats["evicted"] > 100 and stats["max_bytes"] == bound
    assert stats["bytes"] > bound // 2
    counters.count("model steps", 1500)


def test_what_is_used_stays(db):
    """Among many that are written once, the few that are read all the time survive more often than not."""
    cache = db.cache("c", max_bytes=256 << 10)
    used = [f"used-{n}" for n in range(20)]
    for key in used:
        cache.set(key, b"x" * 100)
    for n in range(5000):
        cache.set(f"once-{n:05}", b"x" * 200)
        cache.get(used[n % len(used)])
    left = sum(key in cache for key in used)
    assert cache.stats()["evicted"] > 3000
    assert left >= 15


def test_entry_larger_than_the_bound_is_refused(db):
    cache = db.cache("c", max_bytes=4096)
    cache.set("a", 1)
    with pytest.raises(errors.DataError):
        cache.set("big", b"x" * 5000)
    assert "big" not in cache
    with pytest.raises(errors.DataError), db.transaction() as tx:
        tx.kv("k")["a"] = 1
        tx.cache("c").set("big", b"x" * 5000)
    assert "a" not in db.kv("k")


def test_evictions_and_expiries_are_in_the_feed(db):
    cache = db.cache("c", max_bytes=8192)
    changes = db.changes("c")
    model, seen = {}, set()
    cache.set("dies", 1, ttl=0.02)
    time.sleep(0.03)
    cache.delete("dies")
    for n in range(200):
        cache.set(n, b"x" * 100)
    cache.delete(199)
    while (commit := changes.get(0)) is not None:
        for change in commit.changes:
            seen.add(change.kind)
            if change.new is None:
                assert model.pop(change.key) == change.old
            else:
                assert (change.kind == "insert") == (change.key not in model)
                model[change.key] = change.new
    assert model == {key: cache.get(key) for key in cache}
    assert {"insert", "evict", "expire", "delete"} <= seen


def test_in_a_transaction(db):
    cache = db.cache("c")
    cache.set("n", 1, ttl=60)
    until = cache.expires("n")
    with db.transaction() as tx:
        inner = tx.cache("c")
        assert inner.incr("n") == 2 and inner.get("n") == 2 and inner.expires("n") == until
        assert inner.add("a", 1, ttl=60) and not inner.add("a", 2, ttl=60) and inner.expires("a") is not None
        assert inner.get_or_set("b", lambda: 3) == 3
        inner.set_many({"x": 1})
        assert inner.touch("x", 60) and inner.delete("x")
        assert cache.get("n") == 1 and cache.get("a") is None
    assert (cache.get("n"), cache.get("a"), cache.get("b"), cache.get("x")) == (2, 1, 3, None)
    assert cache.expires("n") == until


def test_counters_of_several_processes(db, shm):
    code = """
    cache = memora.open(name).cache("c")
    for n in range(100):
        cache.incr("n")
        if cache.add(f"first-{n}", 1):
            cache.incr("firsts")
    """
    children = [Child(code, shm) for _ in range(3)]
    for child in children:
        with child:
            assert child.wait()[0] == 0
    cache = db.cache("c")
    assert (cache.get("n"), cache.get("firsts")) == (300, 100)


def test_bound_holds_while_writers_are_killed(db, shm):
    code = """
    cache = memora.open(name).cache("c")
    n = 0
    while True:
        n += 1
        cache.set(f"{time.time_ns()}", b"x" * (n % 700))
        if n % 50 == 0:
            say(n)
    """
    cache = db.cache("c", max_bytes="128KB")
    for _ in range(4):
        with Child(code, shm) as one, Child(code, shm) as two:
            for _ in range(10):
                one.line()
                assert cache.stats()["bytes"] <= 128 << 10
            two.line()
            one.kill()
            two.kill()
            counters.count("kills", 2)
        assert db.check() == []
    assert cache.stats()["evicted"] > 0
    assert cache.stats()["entries"] == len(cache)
