"""Deltas: counters that nobody conflicts on, in key spaces, caches and rows, beside savepoints, deaths and whatever else they may hold."""
import math
import os
import random
import struct
import time

import pytest

import memora
from memora import errors


@pytest.fixture
def db():
    with memora.open(":memory:") as db:
        yield db
        assert db.check() == []


NUMBERS = [0, 1, -1, 63, 64, -32, -33, 127, 128, -128, -129, 2 ** 15, -2 ** 15 - 1, 2 ** 31, -2 ** 31 - 1, 2 ** 53 + 1, 2 ** 63 - 1, -2 ** 63,
           2 ** 63, 10 ** 30, 0.1, -0.0, 1e300, math.inf, 2.5]


def same(a, b):
    return type(a) is type(b) and (a == b or a != a and b != b) and math.copysign(1, a) == math.copysign(1, b)


@pytest.mark.parametrize("start", NUMBERS)
def test_incr_is_pythons_addition(db, start):
    k = db.kv("k")
    for by in NUMBERS:
        for initial in (start, None):
            k.delete("n")
            if initial is not None:
                k["n"] = start
            assert same(k.incr("n", by, initial=start), start + by), (start, by)
            assert same(k["n"], start + by)
        with db.transaction() as tx:
            tx.kv("k").bump("n", by)
            tx.kv("k").bump("n", by)
        assert same(k["n"], start + by + by + by) and db.check() == []


def test_what_is_no_number_is_a_type_error_and_stays(db):
    k = db.kv("k")
    for value in ("text", b"bytes", None, True, [1], {"a": 1}):
        k["n"] = value
        for add in (k.incr, k.bump):
            with pytest.raises(TypeError, match="not a number"):
                add("n")
        with db.transaction() as tx, pytest.raises(TypeError, match="not a number"):
            tx.kv("k").bump("n")
        assert k["n"] == value and type(k["n"]) is type(value)
    with pytest.raises(TypeError):
        k.incr("fresh", "1")
    with pytest.raises(TypeError):
        k.bump(1.5)
    assert "fresh" not in k


def test_incr_is_one_commit_in_the_feed_with_its_outcome(db):
    k = db.kv("k")
    k["n"] = 5
    feed = db.changes("k")
    assert k.incr("n", 3) == 8
    assert k.bump("n") is None
    assert [tuple(c) for _ in range(2) for c in next(feed).changes] == [("k", "update", "n", 8, 5), ("k", "update", "n", 9, 8)]


def test_bumps_do_not_conflict_and_incr_in_a_transaction_does(db):
    k = db.kv("k")
    k["n"] = 1
    one, two = db.transaction(), db.transaction()
    for tx in (one, two):
        tx.kv("k").bump("n", 10)
        tx.kv("k").bump("fresh", 1, initial=100)
        tx.kv("k").bump("fresh")
    k.incr("n")
    one.commit()
    two.commit()
    assert (k["n"], k["fresh"]) == (22, 104)
    one, two = db.transaction(), db.transaction()
    assert one.kv("k").incr("n") == two.kv("k").incr("n") == 23
    one.commit()
    with pytest.raises(errors.SerializationError):
        two.commit()


@pytest.mark.parametrize("look", [
    lambda k: k.get("n"), lambda k: "n" in k, lambda k: list(k.scan()), lambda k: list(k.scan(reverse=True)), lambda k: k.get_many(["n"]),
    lambda k: k.add("n", 1), lambda k: k.pop("n"), lambda k: k.delete("n"), lambda k: len(k), lambda k: k.incr("n")])
def test_a_number_that_was_bumped_and_looked_at_is_read(db, look):
    k = db.kv("k")
    k["n"] = 1
    tx = db.transaction()
    tx.kv("k").bump("n", 10)
    look(tx.kv("k"))
    k["n"] = 50
    with pytest.raises(errors.SerializationError):
        tx.commit()
    assert k["n"] == 50


def test_snapshot_isolation(db):
    k = db.kv("k")
    k["n"] = 1
    one, two, three = (db.transaction(isolation="snapshot") for _ in range(3))
    one.kv("k").bump("n", 10)
    two.kv("k").bump("n", 20)
    three.kv("k").bump("n", 40)
    assert three.kv("k").get("n") == 41     # seen, so it is a write of what was seen
    one.commit()
    two.commit()
    with pytest.raises(errors.SerializationError):
        three.commit()
    assert k["n"] == 31


def test_what_a_transaction_sees_of_its_bumps(db):
    k = db.kv("k")
    k["b"] = 1
    with db.transaction() as tx:
        t = tx.kv("k")
        t.bump("a", 5)
        t.bump("b", 5)
        t.bump("b", 0.5)
        t["c"] = 7
        t.bump("c")                         # of its own value
        assert list(t.scan()) == [("a", 5), ("b", 6.5), ("c", 8)] and t["b"] == 6.5
        t.delete("a")
        t.bump("a", 2, initial=1)
        t["b"] = 3
        t.bump("b")
    assert dict(k) == {"a": 3, "b": 4, "c": 8}


def test_savepoints(db):
    k = db.kv("k")
    k["n"] = 1
    tx = db.transaction()
    t = tx.kv("k")
    t.bump("n", 10)
    with pytest.raises(KeyError), tx.savepoint():
        t.bump("n", 100)
        t.bump("m")
        t["n"] = 0
        t.bump("n")
        raise KeyError
    t.bump("n", 1000)
    assert t["n"] == 1011 and "m" not in t
    tx.commit()
    assert dict(k) == {"n": 1011}


def test_what_does_not_fit_when_it_is_applied_is_a_conflict_and_the_next_try_goes_through(db):
    k = db.kv("k")
    for start, then, end in ((1, "text", TypeError), (2 ** 62, 2 ** 63 - 1, 2 ** 63)):
        k["n"] = start
        tx = db.transaction()
        tx.kv("k").bump("n")
        k["n"] = then
        with pytest.raises(errors.SerializationError):
            tx.commit()
        assert k["n"] == then
        if end is TypeError:
            with pytest.raises(TypeError):
                db.run(lambda tx: tx.kv("k").bump("n"))
        else:
            db.run(lambda tx: tx.kv("k").bump("n"))
            assert k["n"] == end


def test_cache_counters_keep_their_time_and_their_bound(db):
    cache = db.cache("c", max_bytes=4096)
    assert cache.incr("n", ttl=60) == 1
    until = cache.expires("n")
    assert cache.incr("n", ttl=600) == 2 and cache.expires("n") == until
    cache.bump("n", ttl=600)
    with db.transaction() as tx:
        tx.cache("c").bump("n", ttl=600)
        tx.cache("c").bump("m", 2, ttl=60)
        assert tx.cache("c").expires("m") > time.time() + 50
    assert cache.get("n") == 4 and cache.expires("n") == until and cache.get("m") == 2
    assert time.time() + 50 < cache.expires("m") < time.time() + 70
    cache.incr("gone", ttl=0.001)
    time.sleep(0.01)
    assert cache.incr("gone", initial=10, ttl=60) == 11 and cache.expires("gone") > time.time() + 50
    for i in range(400):
        cache.incr(f"key {i}")
        with db.transaction() as tx:
            tx.cache("c").bump(f"other {i}", 0.5)
    assert cache.stats()["bytes"] <= 4096 and cache.get("other 399") == 0.5
    k = db.kv("k")
    k.put("t", 1, time.time_ns() + 60 * 10 ** 9)
    assert k.incr("t") == 2 and len(list(k.scan())) == 1


# ---- processes

def bump_many(name, seed, n, out):
    rng = random.Random(seed)
    with memora.open(name) as db:
        k = db.kv("k")
        for _ in range(n):
            a, b, by = rng.randrange(20), rng.randrange(20), rng.randrange(-9, 10)
            with db.transaction() as tx:
                tx.kv("k").bump(a, by)
                tx.kv("k").bump(b, -by)
                tx.kv("k").bump("all")
            k.incr("incr")
            os.write(out, struct.pack("<q", by))


def test_processes_count_the_same_keys_without_a_conflict(stores, spawn):
    name = "shm:" + stores().region.name
    with memora.open(name) as db:
        k = db.kv("k")
        children = [spawn(bump_many, name, i, 500) for i in range(4)]
        for child in children:
            child.out.read()
        assert [child.wait() for child in children] == [0] * 4          # a SerializationError would have ended one
        assert k["all"] == k["incr"] == 2000 and sum(k.get(i, 0) for i in range(20)) == 0


def count_up(name, who, out):
    with memora.open(name) as db:
        k = db.kv("k")
        while True:
            k.incr(who)
            os.write(out, b"i")
            with db.transaction() as tx:
                tx.kv("k").bump("all")
                tx.kv("k").bump(who)
            os.write(out, b"t")


def test_no_acknowledged_count_is_lost_or_doubled_by_kills(stores, spawn):
    name = "shm:" + stores(ring_bytes=64 << 10).region.name
    with memora.open(name) as db:
        k = db.kv("k")
        counted = [0] * 3
        for n in range(14):
            children = [spawn(count_up, name, w) for w in range(3)]
            time.sleep(random.random() * 0.05)
            for w in random.sample(range(3), 3):
                children[w].kill()
            for w, child in enumerate(children):
                told = len(child.out.read())
                assert told <= k.get(w, 0) - counted[w] <= told + 1
                counted[w] = k.get(w, 0)
        assert db.check() == [] and sum(counted) > 100


# ---- a model

@pytest.mark.parametrize("seed", range(8))
def test_model_with_savepoints(db, seed):
    """What a transaction sees, and what its commit leaves, is what a dict has; ROLLBACK TO takes back what was counted since."""
    rng = random.Random(seed)
    k = db.kv("k", index=("btree", "hash")[seed % 2])
    truth = {}
    for _ in range(60):
        tx = db.transaction()
        t = tx.kv("k")
        own, marks = dict(truth), []
        for _ in range(rng.randrange(1, 30)):
            key, step = rng.randrange(6), rng.random()
            if step < 0.5:
                by = rng.choice([1, 7, -300, 0.5, 2 ** 40])
                t.bump(key, by)
                own[key] = own.get(key, 0) + by
            elif step < 0.6:
                t[key] = own[key] = rng.randrange(100)
            elif step < 0.7:
                assert t.delete(key) == (key in own)
                own.pop(key, None)
            elif step < 0.8:
                marks.append((tx._txn.savepoint(), dict(own)))
            elif step < 0.9 and marks:
                mark, own = rng.choice(marks)
                own = dict(own)
                tx._txn.rollback_to(mark)
                marks = [m for m in marks if m[0] <= mark]
            else:
                assert t.get(key) == own.get(key)
        assert dict(t.scan()) == own
        tx.commit()
        truth = own
        assert dict(k.scan()) == truth
        if rng.random() < 0.2:
            truth = {}
            k.clear()


@pytest.mark.parametrize("seed", range(6))
def test_blind_counts_of_interleaved_transactions_add_up(db, seed):
    rng = random.Random(seed)
    k = db.kv("k")
    total = dict.fromkeys(range(5), 0)
    open_ = []
    for _ in range(400):
        step = rng.random()
        if step < 0.2 or not open_:
            open_.append((db.transaction(), []))
        tx, added = rng.choice(open_)
        if step < 0.7:
            key, by = rng.randrange(5), rng.choice([1, 5, -3, 1000, -70000])
            tx.kv("k").bump(key, by)
            added.append((key, by))
        elif step < 0.8:
            with pytest.raises(KeyError), tx.savepoint():
                tx.kv("k").bump(rng.randrange(5), 12345)
                tx.kv("k").bump("never")
                raise KeyError
        else:
            open_.remove((tx, added))
            if step < 0.95 and added:
                tx.commit()
                for key, by in added:
                    total[key] += by
            else:
                tx.rollback()
    for tx, _ in open_:
        tx.rollback()
    assert {key: k.get(key, 0) for key in range(5)} == total and "never" not in k
