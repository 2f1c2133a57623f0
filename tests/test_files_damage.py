"""Files with ill will: torn tails, flipped bytes, damaged checkpoints, crashes while they are written; and what is said of it."""
import contextlib
import os
import random
import shutil
import signal

import counters
import pytest
from files_children import Child, killed, ledger, ledger_state, lose_region, messages, space, topic
from files_shared import image, last_of, records, reopen, segments, torn, nothing_left, path, quick_folder  # noqa: F401  (also fixtures)

from memora import errors
from memora.engine import identity
from memora.engine import places as regions
from memora.engine.feed import topic_publish
from memora.engine.recovery import SEGMENT_HEAD


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
    cut_everywhere(path, quick_folder, range(SEGMENT_HEAD + 1, size, 3001))


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
