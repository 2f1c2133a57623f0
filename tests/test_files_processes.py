"""File databases of many processes: races, group commit, forks, ends; what goes on in the background."""
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import counters
import pytest
from files_children import Child, lose_region, region_name, space
from files_shared import LEVELS, image, reopen, nothing_left, path  # noqa: F401  (also fixtures)

from memora.engine import identity
from memora.engine import places as regions


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
