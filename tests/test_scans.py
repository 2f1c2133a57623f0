"""Scans and batch reads of key spaces against a plain dict: every kind of cell, both ways, writes in between, pages that move."""
import itertools
import random
import threading

import pytest

import memora
from regions import db, shm  # noqa: F401


def order(key):
    return [int, str, bytes].index(type(key)), key


def mixed(rng, n):
    """Keys and values of all sizes: in their cell, with the rest of the key in an extent, with the value in one."""
    pairs = {}
    for _ in range(n):
        i = rng.randrange(10 * n)
        key = rng.choice([i, f"k{i}", b"k%d" % i, "long" * rng.choice([1, 100, 400]) + str(i)])
        pairs[key] = rng.choice([i, None, "v" * rng.randrange(40), bytes(rng.choice([10, 900, 3000])), [i, {"i": i}]])
    return pairs


def test_scans_give_what_a_sorted_dict_has(db):
    rng = random.Random(7)
    pairs = mixed(rng, 1500)
    k = db.kv("k")
    k.put_many(pairs)
    k.put("gone", 1, expiry_ns=1)                   # expired: nobody sees it
    k.put("later", 2, expiry_ns=2**62)
    pairs["later"] = 2
    keys = sorted(pairs, key=order)
    assert list(k) == keys and list(reversed(k)) == keys[::-1] and len(k) == len(keys)
    assert list(k.scan()) == [(key, pairs[key]) for key in keys]
    for _ in range(200):
        a, b = sorted(rng.choices(range(len(keys)), k=2))
        limit, reverse = rng.choice([None, 0, 1, rng.randrange(100)]), rng.random() < 0.5
        expected = keys[a:b][::-1] if reverse else keys[a:b]
        assert list(k.scan(keys[a], keys[b], reverse=reverse, limit=limit)) == [(key, pairs[key]) for key in expected[:limit]], (a, b, limit, reverse)
    for prefix in ("k1", b"k2", "longlong", "nothing"):
        expected = [key for key in keys if type(key) is type(prefix) and key.startswith(prefix)]
        assert [key for key, _ in k.scan(prefix=prefix)] == expected
        assert [key for key, _ in k.scan(prefix=prefix, reverse=True)] == expected[::-1]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_in_a_transaction_goes_on_after_writes(db, reverse):
    """Each step sees what was written ahead of it, and nothing twice."""
    k = db.kv("k")
    k.put_many({i: "old" for i in range(0, 600, 2)})
    ahead = -1 if reverse else 1
    with db.transaction() as tx:
        seen = []
        for key, value in tx.kv("k").scan(reverse=reverse):
            seen.append((key, value))
            if value == "old" and key % 4 == 0:
                tx.kv("k").put(key + ahead, "new")
            if value == "old" and key % 6 == 0:
                tx.kv("k").delete(key + 2 * ahead)
    model = {}
    state = {i: "old" for i in range(0, 600, 2)}
    at = 598 if reverse else 0
    while any((key <= at if reverse else key >= at) for key in state):
        at = max(key for key in state if key <= at) if reverse else min(key for key in state if key >= at)
        model[at] = state[at]
        if state[at] == "old" and at % 4 == 0:
            state[at + ahead] = "new"
        if state[at] == "old" and at % 6 == 0:
            state.pop(at + 2 * ahead, None)
        at += ahead
    assert seen == list(model.items())
    assert dict(k.scan()) == state


def test_a_scan_holds_its_snapshot_until_it_ends_or_is_closed(db):
    k = db.kv("k")
    k.put_many({i: i for i in range(500)})
    scan = k.scan()
    assert next(scan) == (0, 0)
    k.clear()
    assert [key for key, _ in itertools.islice(scan, 100)] == list(range(1, 101))
    scan.close()
    scan.close()
    assert list(scan) == [] and list(k.scan()) == []
    for bad in (lambda: k.scan(prefix="a", start=1), lambda: k.scan(prefix="a", stop=1)):
        with pytest.raises(ValueError, match="prefix goes without start and stop"):
            bad()
    with pytest.raises(TypeError):
        k.scan(1.5)
    with db.snapshot() as snapshot:
        left = snapshot.kv("k").scan()
    with pytest.raises(memora.ProgrammingError, match="closed"):
        next(left)


def test_get_many_gives_what_is_there(db):
    rng = random.Random(8)
    pairs = mixed(rng, 800)
    k = db.kv("k")
    k.put_many(pairs)
    k.put("gone", 1, expiry_ns=1)
    wanted = rng.choices(list(pairs), k=100) + ["gone", "nobody", 10**9, b""] + ["long" * 300]
    expected = {key: pairs[key] for key in wanted if key in pairs}
    assert k.get_many(wanted) == expected == k.get_many(iter(wanted))
    assert k.get_many([]) == {} == db.kv("empty").get_many(wanted)
    with db.transaction() as tx:                # over an overlay
        tx.kv("k").put(wanted[0], "mine")
        tx.kv("k").delete(wanted[1])
        expected[wanted[0]] = "mine"
        expected.pop(wanted[1], None)
        assert tx.kv("k").get_many(wanted) == expected
    with pytest.raises(TypeError):
        k.get_many([1, None])


def test_get_many_is_of_one_commit_while_pages_split_and_merge(db):
    """A writer moves all keys at once, and the tree's pages with them; every batch must be of one generation."""
    k = db.kv("k")
    k.put_many({i: 0 for i in range(300)})
    stop = threading.Event()

    def write():
        generation = 0
        while not stop.is_set():
            generation += 1
            with db.transaction() as tx:
                for i in range(300):
                    tx.kv("k").put(i, generation)
                    if generation % 2:
                        tx.kv("k").put(f"{i:0100}", bytes(60))
                    else:
                        tx.kv("k").delete(f"{i:0100}")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(150):
            found = k.get_many(random.sample(range(300), 120))
            assert len(found) == 120 and len(set(found.values())) == 1
            assert len(set(dict(k.scan(stop=300)).values())) == 1
    finally:
        stop.set()
        writer.join()
