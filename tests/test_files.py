"""File databases, from the outside and with ill will: what is in the files after every kind of end, and what is said of damage."""
import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import counters
import pytest
from files_children import (KEYS, SMALL, Child, killed, ledger, ledger_state, lose_region, messages, random_life, region_name, space, topic,
                            with_transaction)

from memora import errors
from memora.engine import identity
from memora.engine import places as regions
from memora.engine.feed import topic_publish
from memora.engine.files import open_file
from memora.engine.recovery import SEGMENT_HEAD

LEVELS = ("off", "normal", "full")
RECORD_HEAD = 40


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "app.db")


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    """No test leaves the region of one of its files behind. (Other runs have regions there, too.)"""
    yield
    ours = {region_name(str(lock)[:-5]) for lock in tmp_path.rglob("*-lock")}
    left = sorted(ours.intersection(regions.names()))
    for n in left:
        regions.remove(n)
    assert left == []


@pytest.fixture
def quick_folder():
    """A folder where fsync costs nothing, for many images."""
    folder = tempfile.mkdtemp(prefix="images-", dir="/dev/shm")
    yield folder
    shutil.rmtree(folder)


def reopen(path, **options):
    return open_file(path, **{**SMALL, **options})


def image(path, folder):
    """A copy of the files as they are, in a folder of its own: what a power cut would leave, had all pages been written."""
    os.makedirs(folder, exist_ok=True)
    to = os.path.join(folder, "app.db")
    if os.path.exists(path):
        shutil.copy(path, to)
    shutil.rmtree(to + "-wal", ignore_errors=True)
    shutil.copytree(path + "-wal", to + "-wal")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(to + "-lock")
    counters.count("crash images")
    return to


def segments(path):
    return sorted(os.path.join(path + "-wal", n) for n in os.listdir(path + "-wal") if n.endswith(".wal"))


def records(segment):
    """(byte, length) of the records of a segment."""
    with open(segment, "rb") as f:
        data = f.read()
    at, found = SEGMENT_HEAD, []
    while at + RECORD_HEAD <= len(data):
        n = int.from_bytes(data[at:at + 4], "little")
        if n < RECORD_HEAD or at + n > len(data):
            break
        found.append((at, n))
        at += n
    return found


def last_of(path, **options):
    """The ledger's last commit, from files alone; the state must be exactly the one after it."""
    with contextlib.closing(reopen(path, **options)) as s:
        return ledger_state(s)


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


# ---------------------------------------------------------------------------------------------- torn tails and damage

def torn(path, count):
    """A database that was killed with `count` ledger commits in the log only, and lost its region."""
    def work(say):
        s = reopen(path, durability="full")
        s.region.after_commit = None
        ledger(s, say, 1, count)
        s.flush()
    killed(work)
    lose_region(path)
    (segment,) = segments(path)
    return segment


def whole_before(path_of_segment, size):
    """Ledger commits whose record ends at or before a byte. The first two records create the key space."""
    return sum(1 for at, n in records(path_of_segment)[1:] if at + n <= size)


def cut_everywhere(path, folder, places):
    (segment,) = segments(path)
    for place in places:
        copy = image(path, folder)
        os.truncate(segments(copy)[0], place)
        assert last_of(copy) == max(0, whole_before(segment, place)), place


def test_a_log_cut_at_every_byte_gives_the_longest_whole_prefix(path, quick_folder):
    segment = torn(path, 38)
    found = records(segment)
    size = os.path.getsize(segment)
    assert len(found) == 39 and found[-1][0] + found[-1][1] == size and found[-1][1] < 300
    cut_everywhere(path, quick_folder, [*range(found[-1][0] - 9, size), 0, 1, SEGMENT_HEAD - 1, SEGMENT_HEAD])
    cut_everywhere(path, quick_folder, range(SEGMENT_HEAD + 1, size, 1301))


@pytest.mark.long
@pytest.mark.watchdog(600)
def test_a_log_cut_at_every_byte_of_many_records(path, quick_folder):
    segment = torn(path, 60)
    found = records(segment)
    cut_everywhere(path, quick_folder, range(found[-4][0], os.path.getsize(segment)))


def test_a_flipped_byte_in_the_log(path, quick_folder):
    """In the middle: named. In the last record: cut. Never anything else."""
    segment = torn(path, 12)
    found = records(segment)
    rng = random.Random(5)
    last_begins = found[-1][0]
    places = [*range(0, SEGMENT_HEAD, 3), *(rng.randrange(SEGMENT_HEAD, last_begins) for _ in range(60)), *range(last_begins, os.path.getsize(segment), 5)]
    for place in places:
        copy = image(path, quick_folder)
        name = segments(copy)[0]
        with open(name, "r+b") as f:
            f.seek(place)
            old = f.read(1)[0]
            f.seek(place)
            f.write(bytes([old ^ (1 << rng.randrange(8))]))
        if place >= last_begins:
            assert last_of(copy) == 11, place
            continue
        with pytest.raises(errors.DatabaseError) as e:
            last_of(copy)
        if place < SEGMENT_HEAD:
            assert type(e.value) in (errors.CorruptionError, errors.RegionError) and name in str(e.value), place
            continue
        assert type(e.value) is errors.CorruptionError
        begins = max(at for at, n in found if at <= place)
        assert name in str(e.value) and f"byte {begins} " in str(e.value), place


def test_pages_of_an_unsynced_tail_may_be_missing_in_any_order(path, quick_folder):
    """A power cut writes what was not synced in any order: a hole behind the last sync is a torn tail, before it it is damage."""
    def work(say):
        s = reopen(path, durability="full")
        s.region.after_commit = None
        ledger(s, say, 1, 6)
        s.flush()
        ledger(s, say, 7, 6)
        s.flush(False)
    killed(work)
    lose_region(path)
    (segment,) = segments(path)
    found = records(segment)
    for n, (at, size) in enumerate(found):
        copy = image(path, quick_folder)
        with open(segments(copy)[0], "r+b") as f:
            f.seek(at)
            f.write(b"\0" * size)
        if n > 6 or n == len(found) - 1:
            assert last_of(copy) == n - 1
        else:
            with pytest.raises(errors.CorruptionError, match=f"byte {at} "):
                last_of(copy)


def test_a_damaged_or_cut_checkpoint_is_named(path, quick_folder):
    s = reopen(path)
    k = space(s)
    rng = random.Random(3)
    k.put_many({i: rng.randbytes(300) for i in range(600)})
    tree = topic(s)
    topic_publish(s.region, tree, b"message")
    expect = dict(k.scan())
    s.close()
    with open(path, "rb") as f:
        good = f.read()
    assert len(good) > 3 * 65536
    spots = [*range(0, 140), *(rng.randrange(len(good)) for _ in range(40)), *range(len(good) - 40, len(good))]
    cuts = [*range(1, 100, 7), *(rng.randrange(100, len(good)) for _ in range(25)), len(good) - 1]
    work = os.path.join(quick_folder, "bad.db")

    def attempt(data, what):
        with open(work, "wb") as f:
            f.write(data)
        counters.count("crash images")
        shutil.rmtree(work + "-wal", ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(work + "-lock")
        with pytest.raises((errors.CorruptionError, errors.RegionError)) as e:
            reopen(work).close()
        assert work in str(e.value), what
        assert not os.path.exists(work + "-wal") or os.listdir(work + "-wal") == []
    for spot in spots:
        attempt(good[:spot] + bytes([good[spot] ^ (1 << rng.randrange(8))]) + good[spot + 1:], spot)
    for cut in cuts:
        attempt(good[:cut], cut)
    attempt(good + b"\0", "a byte more")
    attempt(good + good[-60:], "a block more")
    newer = good[:8] + (99).to_bytes(4, "little") + good[12:]
    attempt(newer, "newer")
    with open(work, "wb") as f:
        f.write(good)
    s = reopen(work)
    assert dict(space(s).scan()) == expect
    s.close()


def test_a_damaged_file_of_operations(path):
    def work(say):
        s = reopen(path, durability="full")
        k = space(s)
        k.put_many({i: "v" * 100 for i in range(400)})
        say(s.durable())
        k["after"] = 1
    killed(work)
    lose_region(path)
    (big,) = [n for n in os.listdir(path + "-wal") if n.endswith(".big")]
    name = os.path.join(path + "-wal", big)
    with open(name, "r+b") as f:
        f.seek(1000)
        f.write(b"\xff")
    with pytest.raises(errors.CorruptionError, match=big):
        reopen(path)
    os.unlink(name)
    with pytest.raises(errors.CorruptionError, match="0 bytes of"):
        reopen(path)
    # as the log's last record it is a torn tail
    (segment,) = segments(path)
    os.truncate(segment, records(segment)[-1][0])
    s = reopen(path)
    assert len(space(s)) == 0
    s.close()


def several_segments(path):
    """30 MB of log, too little for a checkpoint of its own accord; the last commit's number."""
    def work(say):
        s = reopen(path, ring_bytes=8 << 20, max_bytes=64 << 20)
        k = space(s)
        for i in range(32):
            k[i % 4] = [i, "x" * 1_000_000]
        s.flush()
    killed(work)
    assert len(segments(path)) == 2
    return 31


def test_a_log_of_several_segments(path, tmp_path):
    """Replayed over its borders; a missing or cut one in the middle is named."""
    i = several_segments(path)
    lose_region(path)
    found = segments(path)
    copy = image(path, str(tmp_path / "missing"))
    os.unlink(segments(copy)[0])
    with pytest.raises(errors.CorruptionError, match="missing or cut off") as e:
        reopen(copy)
    assert os.path.basename(found[1]) in str(e.value)
    copy = image(path, str(tmp_path / "short"))
    os.truncate(segments(copy)[0], os.path.getsize(found[0]) - 100)
    with pytest.raises(errors.CorruptionError, match="more segments follow"):
        reopen(copy)
    s = reopen(path, max_bytes=64 << 20)
    assert space(s)[i % 4] == [i, "x" * 1_000_000]
    s.close()


def test_a_crash_between_the_checkpoint_and_the_removal_of_segments(path, tmp_path):
    """Old segments, of this life and of lives before, lie beside a newer checkpoint: they are passed over."""
    def work(say):
        ledger(reopen(path, durability="full"), say, 1, 40)
    killed(work)
    lose_region(path)
    old = image(path, str(tmp_path / "old"))
    s = reopen(path, durability="full")
    assert ledger_state(s) == 40
    ledger(s, lambda what: None, 41, 20)
    for name in segments(old):                                  # what an interrupted opening leaves
        shutil.copy(name, path + "-wal")
    mixed = image(path, str(tmp_path / "mixed"))
    assert len(segments(mixed)) == 2
    assert last_of(mixed) == 60
    s.checkpoint()
    assert len(segments(path)) == 1                             # a checkpoint tidies up
    here = image(path, str(tmp_path / "same"))
    ledger(s, lambda what: None, 61, 5)
    s.close()
    assert last_of(here) == 60
    assert last_of(path) == 65


@pytest.mark.parametrize("again", (0, 1, 2))
def test_a_crash_while_a_region_is_built(path, again):
    """Killed at each step of an opening that replays a log; then opened by somebody else."""
    def work(say):
        ledger(reopen(path, durability="full"), say, 1, 30)
    killed(work)
    lose_region(path)

    def dies_before(function):
        def die(*arguments, **named):
            os.kill(os.getpid(), signal.SIGKILL)
        return die

    def work_2(say, step):
        import memora.engine.checkpoint as checkpoints
        import memora.engine.files as files
        if step == 0:
            files.write_checkpoint = dies_before(files.write_checkpoint)
        elif step == 1:
            checkpoints.os.rename = dies_before(os.rename)
        else:
            files.os.unlink = dies_before(os.unlink)
        reopen(path)
        say("not killed")
    assert killed(work_2, again) == []
    tmp = [n for n in os.listdir(os.path.dirname(path)) if n.endswith(".tmp")]
    assert len(tmp) == (1 if again == 1 else 0)
    assert last_of(path) == 30
    assert not [n for n in os.listdir(os.path.dirname(path)) if n.endswith(".tmp")]
    user = regions.user_directory()
    left = []
    for n in os.listdir(user) if os.path.isdir(user) else []:   # what the killed builder left is swept, when it is old enough
        if n.startswith(".new-"):
            with contextlib.suppress(FileNotFoundError):        # another run's, which has just got its name
                os.utime(os.path.join(user, n), (1, 1))
                left.append(n)
    assert last_of(path) == 30
    assert not os.path.isdir(user) or not set(left).intersection(os.listdir(user))


def test_a_checkpoint_with_topics_behind_entries_loads_whole(path):
    """The region has to grow for each topic's ring: the entries restored just before must stand."""
    s = reopen(path)
    for n in range(6):
        space(s, f"k{n}").put_many({i: "v" * 30 for i in range(100)})
        topic_publish(s.region, topic(s, f"t{n}", 256 << 10), b"message %d" % n)
    s.close()
    s = reopen(path)
    for n in range(6):
        assert dict(space(s, f"k{n}").scan()) == {i: "v" * 30 for i in range(100)}
        assert messages(s, topic(s, f"t{n}")) == [(1, b"message %d" % n)]
    assert s.check() == []
    s.close()


def test_killed_during_a_checkpoint(path):
    """The temporary file is removed by the next checkpoint, and by the next opening; foreign files are not."""
    def work(say, level):
        import memora.engine.checkpoint as checkpoints
        s = reopen(path, durability=level)
        ledger(s, say, space(s).get("last", 0) + 1, 20)
        checkpoints.os.rename = lambda a, b: os.kill(os.getpid(), signal.SIGKILL)
        s.checkpoint()
    folder = os.path.dirname(path)
    with open(path + ".mine.tmp", "w") as f:
        f.write("not Memora's")
    killed(work, "full")
    assert len([n for n in os.listdir(folder) if n.endswith(".tmp")]) == 2
    s = reopen(path)                            # adopted
    assert ledger_state(s) == 20
    s.checkpoint()
    assert [n for n in os.listdir(folder) if n.endswith(".tmp")] == ["app.db.mine.tmp"]
    s.close()
    killed(work, "full")
    lose_region(path)
    assert last_of(path) == 40
    assert [n for n in os.listdir(folder) if n.endswith(".tmp")] == ["app.db.mine.tmp"]


def test_two_checkpoints_at_a_time_never_go_back(path, monkeypatch):
    """A checkpointer that is stopped is passed by, and its older checkpoint does not replace the newer one."""
    def work(say):
        import memora.engine.checkpoint as checkpoints
        s = reopen(path, durability="full")
        ledger(s, say, 1, 10)
        rename = os.rename

        def stop(a, b):
            checkpoints.os.rename = rename
            say("stopping")
            os.kill(os.getpid(), signal.SIGSTOP)
            rename(a, b)
        checkpoints.os.rename = stop
        say(("checkpoint", s.checkpoint()))
    child = Child(work)
    while child.hear() != "stopping":
        continue
    monkeypatch.setattr(identity, "STALL_S", 0.2)
    s = reopen(path, durability="full")
    ledger(s, lambda what: None, 11, 10)
    done = s.checkpoint()
    assert done == s.durable()["newest"] == s.durable()["checkpoint"]
    os.kill(child.pid, signal.SIGCONT)
    assert child.hear() == ("checkpoint", done)
    child.end()
    assert last_of(image(path, path + ".copy")) == 20
    s.close()


# ---------------------------------------------------------------------------------------------- identity

@pytest.mark.parametrize("with_lock", (False, True))
def test_a_copy_is_a_database_of_its_own(path, tmp_path, with_lock):
    s = reopen(path, durability="full")
    ledger(s, lambda what: None, 1, 25)
    copy = image(path, str(tmp_path / "elsewhere"))
    if with_lock:
        shutil.copy(path + "-lock", copy + "-lock")
    c = reopen(copy)
    assert c.region.uuid != s.region.uuid and region_name(copy) != region_name(path)
    assert ledger_state(c) == 25
    ledger(c, lambda what: None, 26, 5)
    ledger(s, lambda what: None, 26, 10)
    assert (ledger_state(c), ledger_state(s)) == (30, 35)
    s.checkpoint()
    c.close()
    s.close()
    assert (last_of(copy), last_of(path)) == (30, 35)


def test_a_symbolic_link_is_the_same_database_and_a_hard_link_is_a_copy(path, tmp_path):
    os.makedirs(tmp_path / "links")
    s = reopen(path)
    space(s)["x"] = 1
    os.symlink(path, tmp_path / "links" / "soft.db")
    os.symlink(tmp_path / "links", tmp_path / "folder")
    for name in (tmp_path / "links" / "soft.db", tmp_path / "folder" / "soft.db"):
        other = reopen(name)
        assert other.path == os.path.realpath(path) and other.region.uuid == s.region.uuid
        space(other)["x"] += 1
        other.close()
    assert space(s)["x"] == 3
    s.checkpoint()
    os.link(path, tmp_path / "links" / "hard.db")
    hard = reopen(tmp_path / "links" / "hard.db")
    assert hard.region.uuid != s.region.uuid and space(hard)["x"] == 3
    space(hard)["x"] = 100
    hard.close()
    assert space(s)["x"] == 3
    s.close()
    s = reopen(path)
    assert space(s)["x"] == 3
    s.close()
    assert not os.path.exists(tmp_path / "links" / "soft.db-lock")


def test_what_cannot_be_opened(path, tmp_path):
    def refused(name, kind, text, **options):
        with pytest.raises(kind) as e:
            reopen(name, **options)
        assert str(name) in str(e.value) and text in str(e.value)
        return e.value
    refused(tmp_path / "nowhere" / "app.db", errors.OperationalError, "no directory")
    refused(tmp_path, errors.OperationalError, "is a directory")
    refused(tmp_path / "none.db", errors.OperationalError, "does not exist", create=False)
    with pytest.raises(ValueError, match="durability"):
        reopen(path, durability="extra")
    foreign = tmp_path / "foreign.db"
    for content in (b"SQLite format 3\0" * 64, b"x", b"\0" * 5000, os.urandom(300)):
        foreign.write_bytes(content)
        refused(foreign, errors.RegionError, "no Memora database")
        assert foreign.read_bytes() == content and not os.path.exists(f"{foreign}-lock") and not os.path.exists(f"{foreign}-wal")
    (tmp_path / "occupied.db-wal").write_bytes(b"a file")
    refused(tmp_path / "occupied.db", errors.OperationalError, "File exists")
    (tmp_path / "empty.db").write_bytes(b"")
    s = reopen(tmp_path / "empty.db")
    space(s)["x"] = 1
    s.close()
    s = reopen(tmp_path / "empty.db")
    assert space(s)["x"] == 1
    s.close()


def test_a_newer_log_is_refused(path):
    segment = torn(path, 3)
    with open(segment, "r+b") as f:
        head = bytearray(f.read(SEGMENT_HEAD))
        head[8:12] = (7).to_bytes(4, "little")
        from memora.engine.checkpoint import crc32c
        head[48:52] = crc32c(bytes(head[:48])).to_bytes(4, "little")
        f.seek(0)
        f.write(head)
    with pytest.raises(errors.RegionError, match="log format 7"):
        reopen(path)


def test_a_read_only_directory(tmp_path):
    """As a user without rights: a typed error, and nothing is made."""
    folder = tmp_path / "locked"
    folder.mkdir()
    os.chmod(tmp_path, 0o755)
    os.chmod(folder, 0o555)

    def work(say):
        if os.getuid() == 0:
            for parent in list(folder.parents)[:3]:
                if os.stat(parent).st_uid == 0 and str(parent).startswith(tempfile.gettempdir() + "/"):
                    os.chmod(parent, 0o755)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            reopen(folder / "app.db")
        except errors.OperationalError as e:
            say((type(e).__name__, str(e)))
    ((kind, text),) = killed(work)
    assert kind == "OperationalError" and str(folder / "app.db") in text and os.strerror(errno.EACCES) in text
    assert os.listdir(folder) == []


@pytest.mark.parametrize("what", ("lock removed", "lock replaced", "lock overwritten", "database replaced", "database older", "all removed"))
@pytest.mark.parametrize("level", ("normal", "full"))
def test_files_replaced_under_a_running_process(path, tmp_path, what, level):
    """Nothing more is written to them, and the process is told."""
    other = str(tmp_path / "other.db")
    o = reopen(other)
    space(o)["other"] = 1
    o.close()
    s = reopen(path, durability=level)
    k = space(s)
    k["x"] = 1
    s.checkpoint()
    old = str(tmp_path / "old")
    shutil.copy(path, old)
    k["y"] = 2
    s.checkpoint()
    if what == "lock removed":
        os.unlink(path + "-lock")
    elif what == "lock replaced":
        os.replace(other + "-lock", path + "-lock")
    elif what == "lock overwritten":
        shutil.copy(other + "-lock", path + "-lock")
    elif what == "database replaced":
        os.replace(other, path)
    elif what == "database older":
        os.replace(old, path)
    else:
        for n in (path, path + "-lock"):
            os.unlink(n)
        shutil.rmtree(path + "-wal")
        os.mkdir(path + "-wal")
    before = os.path.exists(path) and open(path, "rb").read()
    if level == "full":
        with pytest.raises(errors.FileReplaced):
            k["z"] = 3
    else:
        k["z"] = 3
        with pytest.raises(errors.FileReplaced):
            s.flush()
    with pytest.raises(errors.FileReplaced):
        s.checkpoint()
    deadline = time.monotonic() + 30
    with pytest.raises(errors.FileReplaced, match="memory only|nothing more is written"):
        while time.monotonic() < deadline:          # normal: as soon as the flusher has noticed
            k["w"] = 4
            time.sleep(0.02)
    assert k["z"] == 3
    with contextlib.suppress(errors.FileReplaced):
        s.close()
    assert s.closed
    assert (os.path.exists(path) and open(path, "rb").read()) == before


def test_the_lock_file_emptied_under_a_running_process(path):
    s = reopen(path)
    space(s)["x"] = 1
    os.truncate(path + "-lock", 0)
    with pytest.raises(errors.RegionElsewhere, match="emptied or overwritten"):
        reopen(path)
    assert space(s)["x"] == 1
    s.close()


def test_a_damaged_lock_file(path):
    reopen(path).close()
    with open(path + "-lock", "r+b") as f:
        f.seek(20)
        f.write(b"\xff\xfe")
    with pytest.raises(errors.CorruptionError, match="app.db-lock.*checksum"):
        reopen(path)
    os.unlink(path + "-lock")
    reopen(path).close()


def test_a_live_region_elsewhere(path, tmp_path):
    there = str(tmp_path / "shm")
    os.mkdir(there)

    def work(say):
        ledger(reopen(path, durability="full", region_dir=there), say, 1, 12)
    killed(work)                                    # not held by anybody, but not clean, and not here
    with pytest.raises(errors.RegionElsewhere, match="recover=True"):
        reopen(path)
    assert last_of(path, region_dir=there) == 12    # a clean close ends the tie
    s = reopen(path)
    ledger(s, lambda what: None, 13, 3)
    with pytest.raises(errors.RegionElsewhere):
        reopen(path, region_dir=there)
    s.flush()
    r = reopen(path, region_dir=there, recover=True)
    assert ledger_state(r) == 15
    ledger(s, lambda what: None, 16, 2)             # the old life goes on for itself, and may not write
    with pytest.raises(errors.FileReplaced):
        s.flush()
    with pytest.raises(errors.FileReplaced):
        s.checkpoint()
    ledger(r, lambda what: None, 16, 5)
    s.close()
    r.close()
    assert last_of(path) == 20


def test_log_of_a_life_that_was_given_up_is_not_read(path, tmp_path):
    """A process of a life that recover=True ended wrote its tail afterwards: it is not mixed into the new life."""
    there = str(tmp_path / "shm")
    os.mkdir(there)
    s = reopen(path, durability="normal", region_dir=there)
    ledger(s, lambda what: None, 1, 5)
    s.flush()
    name = segments(path)[0]
    r = reopen(path, recover=True, durability="full")
    ledger(s, lambda what: None, 6, 30)
    with pytest.raises(errors.FileReplaced):
        s.flush()
    assert not os.path.exists(name) or os.path.getsize(name) > 64
    ledger(r, lambda what: None, 6, 2)
    assert last_of(image(path, path + ".copy")) == 7
    s.close()
    r.close()
    assert last_of(path) == 7


# ---------------------------------------------------------------------------------------------- many processes

def race(path, processes, rounds):
    def work(say, me):
        rng = random.Random(me)
        for n in range(rounds):
            s = reopen(path, durability=rng.choice(LEVELS))
            space(s).incr("n")
            space(s)[me] = n
            s.close()
        say("done")
        return "exit"
    children = [Child(work, me) for me in range(processes)]
    for child in children:
        assert child.all() == ["done"]
        child.end(0)
    s = reopen(path)
    assert space(s)["n"] == processes * rounds
    assert [space(s)[me] for me in range(processes)] == [rounds - 1] * processes
    assert s.check() == []
    s.close()


def test_two_processes_open_and_close_in_a_race(path):
    race(path, 2, 50)


@pytest.mark.long
def test_four_processes_open_and_close_in_a_race(path):
    race(path, 4, 150)


def test_group_commit(path):
    """Four processes that wait for each commit share syncs."""
    s = reopen(path, durability="full")
    space(s)["go"] = 0

    def work(say, me):
        mine = reopen(path, durability="full")
        k = space(mine)
        say("ready")
        while not k["go"]:
            time.sleep(0.001)
        for i in range(60):
            k[f"{me}-{i}"] = i
            assert mine.durable()["synced"] >= i
        say(mine.durable()["syncs"])
    children = [Child(work, me) for me in range(4)]
    for child in children:
        assert child.hear() == "ready"
    before = s.durable()
    space(s)["go"] = 1
    syncs = s.durable()["syncs"] - before["syncs"]
    for child in children:
        syncs += child.hear()
        child.end()
    commits = s.durable()["newest"] - before["newest"]
    assert commits == 241
    print(f"{commits} commits, {syncs} syncs")
    assert commits > syncs
    copy = reopen(image(path, path + ".copy"))
    assert len(space(copy)) == 241
    copy.close()
    s.close()


def test_writers_of_all_levels_while_one_is_stopped_in_the_flush(path):
    """A process stopped while it holds the lease to write: another one takes over, nothing is lost or written twice."""
    def work(say):
        s = reopen(path, durability="full")
        k = space(s)
        pwrite = os.pwrite
        n = 0

        def stops(fd, data, at):
            nonlocal n
            n += 1
            if n == 8:
                say("stopping")
                os.kill(os.getpid(), signal.SIGSTOP)
            return pwrite(fd, data, at)
        import memora.engine.files as files
        files.os.pwrite = stops
        for i in range(40):
            k[f"child{i}"] = i
        say("done")
    s = reopen(path, durability="full")
    k = space(s)
    child = Child(work)
    assert child.hear() == "stopping"
    for i in range(20):
        k[f"mine{i}"] = i
    os.kill(child.pid, signal.SIGCONT)
    assert child.hear() == "done"
    child.end()
    expect = dict(k.scan())
    assert len(expect) == 60
    copy = reopen(image(path, path + ".copy"))
    assert dict(space(copy).scan()) == expect
    copy.close()
    s.close()


def test_a_forked_child_writes_on_after_its_parent(path):
    """The child has a flusher of its own: what it commits reaches the files though the parent is gone."""
    def parent(say):
        s = reopen(path, durability="normal")
        k = space(s)
        k["parent"] = 1
        if os.fork() == 0:
            while os.getppid() == mother:
                time.sleep(0.001)
            for i in range(20):
                k[f"child{i}"] = i
            deadline = time.monotonic() + 20
            while s.durable()["written"] < s.durable()["newest"] and time.monotonic() < deadline:
                time.sleep(0.005)
            d = s.durable()
            say((d["written"], d["newest"]))
    mother = None

    def middle(say):
        nonlocal mother
        mother = os.getpid()
        parent(say)
    child = Child(middle)
    written, newest = child.hear()
    child.all()                                     # both are gone when the pipe is closed
    child.end()
    assert written == newest
    with identity.opening(path) as lock:
        while lock.others():                        # an orphan's end is nobody's to wait for
            time.sleep(0.001)
    lose_region(path)
    s = reopen(path)
    assert space(s)["parent"] == 1 and space(s)["child19"] == 19
    s.close()


def test_a_forked_child_at_full_durability(path):
    s = reopen(path, durability="full")
    k = space(s)
    k["parent"] = 1

    def work(say):
        k["child"] = 2
        say(s.durable())
        s.close()
        return "exit"
    child = Child(work)
    d = child.hear()
    assert d["synced"] == d["newest"]
    child.all()
    child.end(0)
    k["again"] = 3
    copy = reopen(image(path, path + ".copy"))
    assert dict(space(copy).scan()) == {"parent": 1, "child": 2, "again": 3}
    copy.close()
    s.close()


EXIT = """
import sys
from memora.engine.files import open_file
from memora.kv import KeySpace
s = open_file(sys.argv[1], durability=sys.argv[2])
k = KeySpace(s, "k", s.space("k", "kv", lambda t: {"tree": t.create_tree()}))
for i in range(10):
    k[i] = i
exec(sys.argv[3])
"""


@pytest.mark.parametrize("level, how", [
    *[(level, how) for level in LEVELS for how in ("pass", "import os; os._exit(0)")], ("normal", "raise SystemExit(0)"), ("off", "del s, k")])
def test_exit_with_an_open_database(path, level, how):
    """A clean exit closes; another one leaves a region that is adopted. Silent both."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", EXIT, path, level, how], capture_output=True, text=True, timeout=60,
                          cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    there = region_name(path) in regions.names()
    assert there == ("_exit" in how)
    s = reopen(path)
    assert dict(space(s).scan()) == {i: i for i in range(10)}
    s.close()


# ---------------------------------------------------------------------------------------------- writes that fail

@contextlib.contextmanager
def file_size_limit(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_is_told_and_a_checkpoint_mends_it(path):
    s = reopen(path, durability="full")
    k = space(s)
    k.put_many({i: os.urandom(300) for i in range(40)})
    size = os.path.getsize(segments(path)[0])
    with file_size_limit(size):
        with pytest.raises(errors.DurabilityError) as e:
            k["first"] = 1
        newest = s.durable()["newest"]
        assert (e.value.commit, e.value.reached) == (newest, "memory") and os.strerror(errno.EFBIG) in str(e.value)
        with pytest.raises(errors.DurabilityError) as e:
            k["second"] = 2
        assert (e.value.commit, e.value.reached) == (newest + 1, "memory")
        with pytest.raises(errors.DurabilityError):
            s.flush()
        with file_size_limit(100), pytest.raises(errors.OperationalError, match="checkpoint could not be written"):
            s.checkpoint()
        assert not [n for n in os.listdir(os.path.dirname(path)) if n.endswith(".tmp")]
        assert k["first"] == 1 and k["second"] == 2             # visible all the same
    s.checkpoint()
    k["third"] = 3
    d = s.durable()
    assert d["synced"] == d["newest"]
    copy = reopen(image(path, path + ".copy"))
    assert [space(copy)[n] for n in ("first", "second", "third")] == [1, 2, 3]
    copy.close()
    s.close()


def test_the_flusher_mends_by_itself_when_there_is_room_again(path):
    s = reopen(path, durability="full")
    k = space(s)
    with file_size_limit(os.path.getsize(segments(path)[0])), pytest.raises(errors.DurabilityError):
        k["x"] = 1
    deadline = time.monotonic() + 60
    while s.durable()["synced"] < s.durable()["newest"] and time.monotonic() < deadline:
        time.sleep(0.02)
    k["y"] = 2
    s.close()


@pytest.mark.parametrize("level", LEVELS)
def test_a_full_disk(tmp_path, level):
    """Nothing is lost, and with room again everything goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        path = str(disk / "app.db")
        s = reopen(path, durability=level)
        k = space(s)
        filler = disk / "filler"
        filler.write_bytes(b"x" * (400 << 10))
        n = 0
        kinds = set()
        while not kinds or n < 2000:
            try:
                k[n % 500] = [n, "v" * 200]
                n += 1
                if level == "off" and n % 500 == 0:
                    s.checkpoint()
                if level == "off" and n > 3000:
                    k.put_many({i: "w" * 1000 for i in range(1000)})
                    s.checkpoint()
            except errors.OperationalError as e:
                kinds.add(type(e))
                if type(e) is errors.DurabilityError:
                    n += 1                      # it happened
                if n > 100:
                    break
        assert kinds <= {errors.DurabilityError, errors.RegionFull, errors.OperationalError} and kinds
        expect = dict(k.scan())
        assert len(expect) >= 100
        with pytest.raises(errors.OperationalError, match="checkpoint could not be written.*bytes are free"):
            fill_up = disk / "more"
            with contextlib.suppress(OSError), open(fill_up, "wb") as f:
                while True:
                    f.write(b"x" * 4096)
                    f.flush()
            s.checkpoint()
        assert not [m for m in os.listdir(disk) if m.endswith(".tmp")]
        fill_up.unlink()
        filler.unlink()
        if level == "off":
            k.clear()
            k.put_many(expect := {i: i for i in range(10)})
        s.checkpoint()
        k["after"] = 1
        s.close()
        s = reopen(path)
        assert dict(space(s).scan()) == {**expect, "after": 1}
        s.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# ---------------------------------------------------------------------------------------------- background

def test_normal_is_written_and_synced_without_being_asked(path):
    s = reopen(path)
    k = space(s)
    for i in range(50):
        k[i] = i
    newest = s.durable()["newest"]
    deadline = time.monotonic() + 60
    while s.durable()["synced"] < newest and time.monotonic() < deadline:
        time.sleep(0.01)
    assert s.durable()["synced"] >= newest and s.durable()["written"] >= newest
    s.close()


def test_commits_go_on_while_a_checkpoint_is_written(path):
    """A checkpoint of one commit, of a store that changes all the time: whole, and of one moment."""
    s = reopen(path, durability="normal")
    k = space(s)
    k.put_many({i: [0, "x" * 200] for i in range(2000)})
    stop = threading.Event()
    count = 0

    def write():
        nonlocal count
        while not stop.is_set():
            count += 1
            k.put_many({i: [count, "x" * 200] for i in range(0, 2000, 500)})
    thread = threading.Thread(target=write)
    thread.start()
    images = []
    for n in range(4):
        before = count
        s.checkpoint()
        images.append((before, shutil.copy(path, f"{path}.{n}")))
    stop.set()
    thread.join()
    s.close()
    assert count > 4
    for before, name in images:
        counters.count("crash images")
        c = reopen(name)
        values = {v[0] for i, v in space(c).scan() if i % 500 == 0}
        assert len(values) == 1 and values.pop() >= before - 1
        assert len(space(c)) == 2000 and c.check() == []
        c.close()


def test_two_handles_in_one_process(path):
    a = reopen(path)
    b = reopen(path, durability="full")
    space(a)["x"] = 1
    assert space(b)["x"] == 1
    space(b)["y"] = 2
    a.close()
    assert space(b)["y"] == 2
    b.close()
    assert os.listdir(path + "-wal") == []
    s = reopen(path)
    assert dict(space(s).scan()) == {"x": 1, "y": 2}
    s.close()
