"""Eight processes that are killed all the time, each transaction over tables, key spaces, counters and a queue: all of it or nothing.

A worker says outside the region what it is about to do, that it commits now, and what was acknowledged. Everything that the region
holds in the end must follow from the tokens in the key space `log`, whose commits the change feed tells; and these from what was said.
"""
import json
import os
import random
import signal
import time

import counters
import pytest
from regions import shm  # noqa: F401  (fixture)

import memora
from memora import errors

WORKERS = 8
ACCOUNTS = 12
START = 1000
COUNTERS = 4


def transfer(tx, rng, token, what):
    """One transaction: moves money, counts by SQL and in a key space, puts a job, writes its token."""
    a, b = rng.sample(range(ACCOUNTS), 2)
    paid, = tx.execute("SELECT balance FROM accounts WHERE id = ?", (a,)).fetchone()
    tx.execute("UPDATE accounts SET balance = ? WHERE id = ?", (paid - what["amount"], a))
    tx.execute("UPDATE accounts SET balance = balance + ? WHERE id = ?", (what["amount"], b))
    count_only(tx, rng, token, what)
    if what["job"]:
        tx.queue("jobs").put(token)


def count_only(tx, rng, token, what):
    """Deltas alone: no conflict."""
    assert tx.execute("UPDATE counts SET n = n + ?, x = x + 0.5 WHERE id = ?", (what["amount"], what["counter"])).rowcount == 1
    tx.kv("counters").bump(what["counter"])
    tx.kv("log")[token] = what


def work(name, path, worker, seed, out):
    rng = random.Random(seed)
    db = memora.open(name, create=False, timeout=30)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(**what):
        os.write(fd, json.dumps(what).encode() + b"\n")
    number = 0
    while True:
        time.sleep(rng.random() * 0.002)        # what is done in the end is read back, and not to be endless
        number += 1
        token = f"{worker}-{number}"
        what = {"amount": rng.randrange(1, 50), "counter": rng.randrange(COUNTERS), "job": rng.random() < 0.3}
        change = transfer if rng.random() < 0.5 else count_only
        what["job"] = what["job"] and change is transfer
        note(id=token, what=what)
        while True:
            tx = db.transaction(immediate=rng.random() < 0.05)
            try:
                change(tx, rng, token, what)
                note(id=token, committing=True)
                note(id=token, commit=tx.commit())
                break
            except errors.SerializationError:
                continue


def told(paths):
    """What the workers said, by token; and the tokens whose commit was begun and not heard of again."""
    found, inside = {}, set()
    for path in paths:
        last = None
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):            # else killed while it wrote
                last = json.loads(line)
                found.setdefault(last["id"], {}).update(last)
        if last is not None and "committing" in last:
            inside.add(last["id"])
    return found, inside


def verify(db, since, paths):
    """Everything follows from the tokens that the feed tells. Returns how many there are, and how many died inside a commit: of these, whose is there."""
    db.kv("log")["end"] = None                  # takes the lock over from a dead owner, if there is one
    known, inside = told(paths)
    commits, told_counts = {}, [0] * COUNTERS
    for commit in db.changes(since=since):
        for change in commit.changes:
            if change.space == "counters":
                told_counts[change.key] = change.new
            elif change.space == "log":
                assert change.kind == "insert", change
                commits[change.key] = (commit.number, change.new)
        if "end" in commits:
            break
    del commits["end"]
    for token, (number, what) in commits.items():
        assert known[token]["what"] == what
        assert known[token].get("commit", number) == number
        assert known[token].get("committing"), f"{token} is committed before it was asked for"
    for token, entry in known.items():
        assert "commit" not in entry or token in commits, f"{token} was acknowledged as commit {entry['commit']}, and is not there"
    with db.snapshot() as tx:
        assert tx.execute("SELECT sum(balance), count(*) FROM accounts").fetchone() == (ACCOUNTS * START, ACCOUNTS)
        assert {k for k, _ in tx.kv("log").items()} == {*commits, "end"}
        done = [what for _, what in commits.values()]
        for counter in range(COUNTERS):
            mine = [what["amount"] for what in done if what["counter"] == counter]
            assert tx.execute("SELECT n, x FROM counts WHERE id = ?", (counter,)).fetchone() == (sum(mine), 0.5 * len(mine))
            assert tx.kv("counters").get(counter, 0) == told_counts[counter] == len(mine)
    jobs = []
    queue = db.queue("jobs")
    while (job := queue.claim(0)) is not None:
        jobs.append(job.value)
        queue.ack(job)
    assert sorted(jobs) == sorted(token for token, (_, what) in commits.items() if what["job"])
    return len(commits), inside, inside & set(commits)


def aimed(db, rng, running):
    """A worker that was stopped while it had the commit lock, if one is met."""
    for _ in range(100):
        child = rng.choice(running)
        child.kill(signal.SIGSTOP)
        child.wait_stopped()
        if any(row["lock"] == "commit" and row["pid"] == child.pid for row in db.locks()):
            return child
        child.kill(signal.SIGCONT)
    return None


def run(shm, spawn, tmp_path, kills, seed):
    print("seed", seed)
    rng = random.Random(seed)
    with memora.open(shm, max_bytes="512MB", ring_bytes="128MB") as db:
        db.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INT)")
        db.execute("CREATE TABLE counts (id INTEGER PRIMARY KEY, n INT, x REAL)")
        for i in range(ACCOUNTS):
            db.execute("INSERT INTO accounts VALUES (?, ?)", (i, START))
        for i in range(COUNTERS):
            db.execute("INSERT INTO counts VALUES (?, 0, 0.0)", (i,))
        for space in ("log", "counters"):
            db.kv(space)
        db.queue("jobs")
        since = db.commit_number
        paths, running = [], []

        def start():
            paths.append(tmp_path / f"{len(paths)}")
            paths[-1].touch()
            running.append(spawn(work, shm, str(paths[-1]), len(paths), rng.random()))
        for _ in range(WORKERS):
            start()
        done = owners = 0
        while done < kills or not owners or not told(paths)[1]:     # until a writer was seen to die with the lock, and one inside its commit
            time.sleep(rng.random() * 0.03)
            victim = aimed(db, rng, running) if rng.random() < 0.5 else None
            if victim is None:
                victim = rng.choice(running)
            running.remove(victim)
            assert os.waitpid(victim.pid, os.WNOHANG) == (0, 0), "a writer ended by itself"
            victim.kill()
            owners += any(row["lock"] == "commit" and row["pid"] == victim.pid and not row["alive"] for row in db.locks())
            done += 1
            if done % 20 == 0:
                assert db.check() == []
            start()
        for victim in running:
            victim.kill()
        there, inside, sealed = verify(db, since, paths)
        counters.count("model steps", there)
        print(f"{done + WORKERS} writers killed, {owners} seen holding the commit lock, {len(inside)} inside a commit, of which {len(sealed)} are there; {there} commits")
        assert db.check() == []


@pytest.mark.watchdog(300)
def test_eight_killed_writers_over_all_faces(shm, spawn, tmp_path):
    run(shm, spawn, tmp_path, 30, 20261125)


@pytest.mark.long
@pytest.mark.watchdog(900)
def test_many_kills_over_all_faces(shm, spawn, tmp_path):
    run(shm, spawn, tmp_path, 150, 20261126)
