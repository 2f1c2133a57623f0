"""File databases: what is in the files after every kind of end."""
import contextlib
import os
import random
import threading
import time

import pytest
from files_children import Child, killed, ledger, lose_region, messages, random_life, region_name, space, topic
from files_shared import LEVELS, image, last_of, reopen, nothing_left, path  # noqa: F401  (also fixtures)

from memora import errors
from memora.engine import places as regions
from memora.engine.feed import topic_publish
from memora.engine.files import open_file


# ---------------------------------------------------------------------------------------------- clean life

@pytest.mark.parametrize("level", LEVELS)
def test_empty_database_comes_back(path, level):
    for _ in range(3):
        s = reopen(path, durability=level)
        assert space(s).get("nothing") is None if level == "full" else True
        assert s.check() == []
        s.close()
        s.close()
        assert os.listdir(path + "-wal") == []
        assert region_name(path) not in regions.names()


@pytest.mark.parametrize("how", ("close", "kill", "lose"))
def test_everything_a_database_can_hold_comes_back(path, how):
    """Many trees, dropped trees, large values, one commit larger than a quarter of the ring, bounds, topics, expiry; three ways to end."""
    soon = time.time_ns() + 400_000_000
    late = time.time_ns() + 3600_000_000_000
    big = os.urandom(5 << 20)
    long_key = "K" * 70_000

    def work(say):
        s = reopen(path, durability="full")
        s.region.after_commit = None
        for n in range(60):
            space(s, f"tree{n}")[n] = n
        doomed = space(s, "doomed")
        doomed.put_many({i: "x" * 100 for i in range(300)})
        tree = s.space("doomed", "kv", None)["tree"]
        s.run(lambda txn: txn.drop_tree(tree))
        k = space(s)
        k["big"] = big
        k[long_key] = "long"
        k.put_many({("many" + str(i)): "v" * 50 for i in range(2000)})          # > a quarter of the ring: .big
        k.put("soon", 1, soon)
        k.put("late", 2, late)
        t = topic(s, "t", 2048)
        for i in range(100):
            topic_publish(s.region, t, b"m%04d" % i * 10)
        e = topic(s, "empty", 2048)
        b = s.space("b", "kv", lambda txn: {"tree": txn.create_bounded(20_000)})
        bounded = space(s, "b")
        for i in range(500):
            bounded[i] = "y" * 100
        s.flush()
        assert [n for n in os.listdir(path + "-wal") if n.endswith(".big")]
        say({"messages": messages(s, t), "bounded": s.control(b["tree"]), "keys": sorted(bounded), "empty": messages(s, e), "tree": tree})
        if how == "close":
            s.close()

    (was,) = killed(work)
    assert len(was["messages"]) > 10 and was["messages"][0][0] > 50 and was["empty"] == []
    if how == "lose":
        lose_region(path)
    for _ in range(2):
        s = reopen(path)
        k = space(s)
        assert [space(s, f"tree{n}")[n] for n in range(60)] == list(range(60))
        assert k["big"] == big and k[long_key] == "long" and k["many1999"] == "v" * 50
        time.sleep(max(0, soon - time.time_ns()) / 1e9 + 0.001)
        assert "soon" not in k and k["late"] == 2
        t, b = topic(s), s.space("b", "kv", None)["tree"]
        assert messages(s, t) == was["messages"] and messages(s, topic(s, "empty")) == []
        assert sorted(space(s, "b")) == was["keys"]
        now = s.control(b)
        assert [now[n] for n in ("bytes", "entries", "max_bytes")] == [was["bounded"][n] for n in ("bytes", "entries", "max_bytes")]
        with pytest.raises(errors.OperationalError):
            txn = s.begin()
            try:
                txn.get(was["tree"], b"x")
            finally:
                txn.rollback()
        assert s.check() == []
        s.close()
    s = reopen(path)
    assert topic_publish(s.region, topic(s), b"next") and messages(s, topic(s))[-1][0] == was["messages"][-1][0] + 1
    bounded = space(s, "b")
    for i in range(300):
        bounded[-i] = "z" * 100
        assert s.control(s.space("b", "kv", None)["tree"])["bytes"] <= 20_000
    s.close()


def test_topic_numbers_survive_a_checkpoint_that_finds_all_messages_overwritten(path):
    def work(say):
        s = reopen(path, durability="full")
        t = topic(s, "t", 1024)
        stop = threading.Event()

        def publish():
            while not stop.is_set():
                topic_publish(s.region, t, b"p" * 200)
        thread = threading.Thread(target=publish)
        s.region.after_commit = None
        thread.start()
        for _ in range(8):
            s.checkpoint()
        stop.set()
        thread.join()
        s.flush()
        say(messages(s, t))
    (was,) = killed(work)
    lose_region(path)
    s = reopen(path)
    assert messages(s, topic(s)) == was
    s.close()


def test_a_different_ring_size_replays_large_commits(path):
    def work(say, ring):
        s = reopen(path, durability="full", ring_bytes=ring)
        k = space(s)
        k.put_many({i: "v" * 100 for i in range(300)})          # .big in a ring of 64 KiB, in line in one of 8 MiB
        k[ring] = ring
    for ring in (64 << 10, 8 << 20, 64 << 10):
        killed(work, ring)
        lose_region(path)
    s = reopen(path)
    assert len(space(s)) == 300 + 2
    s.close()


def test_a_checkpoint_of_thousands_of_pages_is_loaded_in_batches_that_do_not_run_out_of_frames(path):
    store = open_file(path, initial_bytes=1 << 20)
    rows = random.Random(7)
    keys = [space(store, name) for name in ("one", "two")]
    for tree in keys:
        for start in range(0, 20_000, 2000):
            tree.put_many([(rows.randrange(1 << 60), b"%d" % i * 40) for i in range(start, start + 2000)], 0)
    before = [list(tree.scan()) for tree in keys]
    assert store.stats()["pages"] > 2500
    store.close()
    store = open_file(path, initial_bytes=1 << 20)
    assert [list(space(store, name).scan()) for name in ("one", "two")] == before
    assert store.check() == []
    store.close()


def test_a_region_filled_to_its_cap_can_be_rebuilt_at_the_same_cap(path):
    rng = random.Random(11)
    s = reopen(path, durability="off", max_bytes=4 << 20)
    k = space(s)
    n = 0
    with pytest.raises(errors.RegionFull):
        while True:
            k[rng.randrange(10**9)] = "x" * 100
            n += 1
    s.close()
    s = reopen(path, max_bytes=4 << 20)
    assert len(space(s)) == n
    assert s.check() == []
    s.close()


# ---------------------------------------------------------------------------------------------- kills

@pytest.mark.parametrize("level", LEVELS)
def test_the_region_is_adopted_after_a_kill_and_nothing_is_lost(path, level):
    def work(say):
        ledger(reopen(path, durability=level), say, 1, 150)
    assert killed(work)[-1] == ("done", 150)
    assert last_of(path, durability=level) == 150


@pytest.mark.parametrize("level", LEVELS)
def test_without_the_region_the_files_hold_what_was_promised(path, level):
    def work(say):
        s = reopen(path, durability=level)
        ledger(s, say, 1, 50)
        s.checkpoint()
        ledger(s, say, 51, 50)
        if level == "normal":
            s.flush()
        ledger(s, say, 101, 50)
    assert killed(work)[-1] == ("done", 150)
    lose_region(path)
    last = last_of(path)
    assert {"off": last == 50, "normal": 100 <= last <= 150, "full": last == 150}[level], last


def random_kills(path, rounds, seed, levels):
    print("seed", seed)
    rng = random.Random(seed)
    done = synced = 0
    for n in range(rounds):
        level = rng.choice(levels)
        child = Child(random_life, path, level, rng.random())
        assert child.hear()[1] <= done + 1
        alive_until = time.monotonic() + rng.random() * 0.12
        while time.monotonic() < alive_until:
            with contextlib.suppress(EOFError):
                what, i = child.hear(max(0.001, alive_until - time.monotonic()))
                done, synced = (i, synced) if what == "done" else (done, i) if what == "synced" else (done, synced)
        child.kill()
        for what, i in child.all():
            done, synced = (i, synced) if what == "done" else (done, i) if what == "synced" else (done, synced)
        child.end()
        if rng.random() < 0.5:
            lose_region(path)
            promised = done if level == "full" else synced
        else:
            promised = done
        if rng.random() < 0.3:
            copy = image(path, os.path.dirname(path) + "/copy")
            assert (done if level == "full" else synced) <= last_of(copy) <= done + 1
        last = last_of(path)
        assert promised <= last <= done + 1, (n, level)
        done = synced = last            # last_of closed cleanly


def test_random_kills(path):
    random_kills(path, 12, random.randrange(10**9), ("normal", "full"))


@pytest.mark.long
@pytest.mark.watchdog(600)
def test_many_random_kills(path):
    random_kills(path, 250, random.randrange(10**9), ("normal", "normal", "full"))


def test_an_off_process_that_overwrites_unwritten_log_costs_a_checkpoint_not_a_hole(path):
    a = reopen(path, durability="full")
    k = space(a)
    k["first"] = 1

    def work(say):
        other = space(reopen(path, durability="off"))
        for i in range(3000):
            other[i % 10] = "v" * 100
    before = a.durable()["checkpoint"]
    child = Child(work)
    child.end()
    k["last"] = 1
    d = a.durable()
    assert d["synced"] == d["newest"] and d["checkpoint"] >= before
    copy = reopen(image(path, path + ".copy"))
    assert dict(space(copy).scan()) == dict(k.scan())
    copy.close()
    a.close()
