"""Histories of concurrent transactions, checked for serializability (histories.py), and the checker checked on histories that are known.

Processes run random transactions over key spaces and SQL rows, and write down what they read and wrote: first what they are about to
commit, then what they were told. Each transaction writes its id under a key of its own, so the change feed says of each, also of those
whose process was killed, whether it was committed, and as which number. Messages and jobs are sent in the same transactions.
"""
import json
import os
import random
import time

import pytest
from counters import count
from histories import History, Txn
from regions import shm  # noqa: F401

import memora
from memora import errors

KEYS = 50
COUNTERS = 4


# ---------------------------------------------------------------- the checker itself

def history(*txns, final=None):
    """Txns as (name, commit or None or "aborted", *ops), written in the order of the histories in the papers."""
    made = []
    for name, commit, *ops in txns:
        made.append(Txn(name, ops, commit if commit != "aborted" else None, aborted=commit == "aborted"))
    return History(made, final)


def r(key, *content):
    return ("r", key, content or None)


def w(key, *content):
    return ("w", key, content or None)


START = ("T0", 1, w("x", "x0"), w("y", "y0"))
BAD = {
    "dirty write: two interleave": (
        "G0", [START, ("T1", 2, w("x", "x0", "x1"), w("y", "y0", "y2", "y1")), ("T2", 3, w("x", "x0", "x1", "x2"), w("y", "y0", "y2"))]),
    "aborted read": ("G1a", [START, ("T1", "aborted", w("x", "x1")), ("T2", 2, r("x", "x1"))]),
    "intermediate read": ("G1b", [START, ("T1", 2, w("x", "x1"), w("x", "x2")), ("T2", 3, r("x", "x1"))]),
    "garbled read": ("garbled", [START, ("T1", 2, r("x", "zzz"))]),
    "own write not seen": ("internal", [START, ("T1", 2, w("x", "x1"), r("x", "x0"))]),
    "circular information flow": (
        "G1c", [START, ("T1", 2, w("x", "x1"), r("y", "y1")), ("T2", 3, w("y", "y1"), r("x", "x1"))]),
    "lost update": (
        "lost update", [START, ("T1", 2, r("x", "x0"), w("x", "x0", "x1")), ("T2", 3, r("x", "x0"), w("x", "x0", "x2"))]),
    "read skew": ("G-single", [START, ("T1", 2, w("x", "x1"), w("y", "y1")), ("T2", None, r("x", "x0"), r("y", "y1"))]),
    "write skew": (
        "G2", [START, ("T1", 2, r("x", "x0"), r("y", "y0"), w("x", "x1")), ("T2", 3, r("x", "x0"), r("y", "y0"), w("y", "y1"))]),
    "phantom in a scan": (
        "G2 phantom", [("T1", 2, ("scan", ["a", "b", "c"], {}), w("p", "p1")), ("T2", 3, ("scan", ["p", "q"], {}), w("b", "b1"))]),
    "long fork": (
        "G-nonadjacent", [START, ("T1", 2, w("x", "x1")), ("T2", 3, w("y", "y1")), ("T3", None, r("x", "x1"), r("y", "y0")),
                          ("T4", None, r("x", "x0"), r("y", "y1"))]),
}
GOOD = {
    "serial": [START, ("T1", 2, r("x", "x0"), w("x", "x0", "x1")), ("T2", 3, r("x", "x0", "x1"), w("x", "x1", "x2")), ("T3", None, r("x", "x1", "x2"))],
    "blind writes": [START, ("T1", 2, w("x", "x1"), w("y", "y1")), ("T2", 3, w("x", "x2"), w("y", "y2")), ("T3", None, r("x", "x2"), r("y", "y2"))],
    "own writes are seen": [START, ("T1", 2, w("x", "x1"), r("x", "x1"), w("x"), r("x"), w("x", "x3"))],
    "deleted and made again": [START, ("T1", 2, r("x", "x0"), w("x")), ("T2", 3, w("x", "x2")), ("T3", None, r("x", "x2"))],
    "a rolled back one's reads are its own affair": [START, ("T1", "aborted", r("x", "x0"), w("x", "x1")), ("T2", 2, r("x", "x0"), w("x", "x0", "x2"))],
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_named(name):
    anomaly, txns = BAD[name]
    found = history(*txns).check()
    assert found and found[0].startswith(anomaly + ":"), found
    if anomaly in ("G2", "G2 phantom"):
        assert history(*txns).check("snapshot") == []
    else:
        assert history(*txns).check("snapshot")[0].startswith(anomaly + ":")


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_passes(name):
    assert history(*GOOD[name]).check() == []


def test_the_shortest_cycle_is_told():
    links = [("T%d" % i, i + 1, r("k%d" % i, "v%d" % i), w("k%d" % ((i + 1) % 6), "v%d" % ((i + 1) % 6))) for i in range(6)]
    found, = history(*links, ("T9", 9, w("x", "x0"), r("y", "y0")), ("T10", 10, w("y", "y0"), r("x", "x0"))).check()
    assert found.startswith("G1c:") and found.count("->") == 2 and "T9" in found


def test_absence_is_judged_by_the_snapshot():
    made, gone = Txn("T1", [w("x", "x1")], 5), Txn("T2", [w("x")], 7)
    for snapshot, ok in ((4, True), (5, False), (6, False), (7, True)):
        found = History([made, gone, Txn("T3", [r("x")], snapshot=snapshot)]).check()
        assert (found == []) == ok and all(line.startswith("snapshot:") for line in found), (snapshot, found)
    for n, ok in ((0, False), (1, True), (2, False)):
        found = History([made, gone, Txn("T3", [("count", ["x", "z"], n)], snapshot=6)]).check()
        assert (found == []) == ok, (n, found)


def test_a_stale_snapshot_of_the_same_process_is_an_anomaly():
    txns = [Txn("T0", [w("x", "x0")], 1), Txn("T1", [w("x", "x1")], 2, 1, process=1), Txn("T2", [r("x", "x0")], None, 1, process=1)]
    assert History(txns).check(order=False) == []
    assert History(txns).check()[0].startswith("G-single-order:")


# ---------------------------------------------------------------- histories of the engine

class Face:
    """How a transaction reads and writes; keys of the history are (name, number)."""

    def __init__(self, tx):
        self.tx = tx


class Keys(Face):
    name = "kv"

    def get(self, n):
        return content(self.tx.kv("rows").get(n))

    def put(self, n, value):
        self.tx.kv("rows")[n] = value

    def delete(self, n):
        return self.tx.kv("rows").delete(n)

    def scan(self, lo, hi):
        return {n: content(v) for n, v in self.tx.kv("rows").scan(lo, hi)}

    def count(self, lo, hi):
        return sum(1 for _ in self.tx.kv("rows").scan(lo, hi, reverse=True))


class Rows(Face):
    name = "sql"

    def get(self, n):
        row = self.tx.execute("SELECT v FROM rows_ WHERE k = ?", (n,)).fetchone()
        return content(row and row[0])

    def put(self, n, value):
        self.tx.execute("INSERT OR REPLACE INTO rows_ (k, class, v) VALUES (?, ?, ?)", (n, n % 5, value))

    def delete(self, n):
        return self.tx.execute("DELETE FROM rows_ WHERE k = ?", (n,)).rowcount == 1

    def scan(self, lo, hi):
        return {n: content(v) for n, v in self.tx.execute("SELECT k, v FROM rows_ WHERE k >= ? AND k < ?", (lo, hi))}

    def count(self, lo, hi):
        return self.tx.execute("SELECT count(*) FROM rows_ WHERE k >= ? AND k < ?", (lo, hi)).fetchone()[0]


class Classes(Rows):
    """The same rows, scanned by a secondary index: lo chooses a class."""

    def scan(self, lo, hi):
        return {n: content(v) for n, v in self.tx.execute("SELECT k, v FROM rows_ WHERE class = ?", (lo % 5,))}

    def count(self, lo, hi):
        return self.tx.execute("SELECT count(*) FROM rows_ WHERE class = ?", (lo % 5,)).fetchone()[0]


FACES = {"kv": (Keys,), "sql": (Rows,), "mixed": (Keys, Rows, Classes)}


def content(value):
    """What is stored is the tokens and some padding, so that leaves split and merge."""
    return None if value is None else tuple(json.loads(value.rstrip("."))) if isinstance(value, str) else tuple(value)


def stored(tokens, rng):
    return json.dumps(tokens) + "." * rng.choice((0, 10, 200, 600))


def covered(face, lo, hi):
    if face is Classes:
        return [("sql", n) for n in range(KEYS) if n % 5 == lo % 5]
    return [(face.name, n) for n in range(lo, hi)]


def script(tx, rng, faces, token, read_only):
    """A random transaction, done as it goes; returns what it read and wrote."""
    ops, own = [], {}
    for step in range(rng.randrange(1, 6)):
        if rng.random() < 0.2:
            time.sleep(rng.random() * 0.001)            # let others commit meanwhile
        face = rng.choice(faces)
        doing = face(tx)
        n = rng.randrange(KEYS)
        key = (face.name, n)
        kind = rng.random() * (0.45 if read_only else 1)
        lo, hi = sorted((n, rng.randrange(KEYS)))
        hi = min(hi, lo + rng.choice((3, 10, KEYS)))
        if kind < 0.2:
            ops.append(("r", key, doing.get(n)))
        elif kind < 0.35:
            ops.append(("scan", covered(face, lo, hi), [((face.name, k), v) for k, v in doing.scan(lo, hi).items()]))
        elif kind < 0.45:
            ops.append(("count", covered(face, lo, hi), doing.count(lo, hi)))
        elif kind < 0.75:
            old = doing.get(n)
            ops.append(("r", key, old))
            new = [*(old or ()), f"{token}.{step}"][-4:]
            doing.put(n, stored(new, rng))
            ops.append(("w", key, new))
        elif kind < 0.85:
            doing.put(n, stored([f"{token}.{step}"], rng))
            ops.append(("w", key, [f"{token}.{step}"]))
        else:
            if rng.random() < 0.5:
                ops.append(("r", key, doing.get(n)))
            # deleting what is not there is a read
            ops.append(("w" if doing.delete(n) else "r", key, None))
    return ops


def work(name, path, process, seed, faces, isolation, until, out):
    """Transactions until `until` of them are done; what happened goes to the journal, intents first."""
    rng = random.Random(seed)
    db = memora.open(name, create=False, timeout=30)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(**what):
        os.write(fd, json.dumps(what).encode() + b"\n")
    for number in range(until):
        token = f"{process}-{number}"
        read_only = rng.random() < 0.25
        tx = db.snapshot() if read_only else db.transaction(isolation)
        ops = script(tx, rng, faces, token, read_only)
        sent = {}
        if read_only:
            note(id=token, process=process, snapshot=tx.snapshot, ops=ops, read_only=True)
            tx.commit()                                     # never fails: an exception here fails the test
            continue
        tx.kv("log")[token] = process
        if rng.random() < 0.2:
            tx.topic("messages").publish(token)
            sent["message"] = 1
        if rng.random() < 0.2:
            tx.queue("jobs").put(token)
            sent["job"] = 1
        if rng.random() < 0.2:
            sent["counter"] = rng.randrange(COUNTERS)
            tx.kv("counters").incr(sent["counter"])
        note(id=token, process=process, snapshot=tx.snapshot, ops=ops, sent=sent)
        if rng.random() < 0.05:
            tx.rollback()
            note(id=token, aborted="rollback")
            continue
        try:
            note(id=token, commit=tx.commit())
        except errors.SerializationError:
            note(id=token, aborted="conflict")
    db.close()


def journal(paths):
    """Transactions by id, in the order in which each process began them."""
    found = {}
    for path in paths:
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                continue                                    # killed while it wrote
            entry = json.loads(line)
            found.setdefault(entry["id"], {}).update(entry)
    return found


def thawed(op):
    def key(k):
        return (k[0], k[1])
    if op[0] in "rw":
        return (op[0], key(op[1]), None if op[2] is None else tuple(op[2]))
    keys = [key(k) for k in op[1]]
    return (op[0], keys, op[2] if op[0] == "count" else {key(k): tuple(v) for k, v in op[2]})


def run(shm, spawn, tmp_path, faces, isolation, workers, until, kills, seed):
    print("seed", seed)
    rng = random.Random(seed)
    faces = FACES[faces]
    with memora.open(shm, max_bytes="256MB", ring_bytes="32MB") as db:
        db.execute("CREATE TABLE rows_ (k INTEGER PRIMARY KEY, class INT, v TEXT)")
        db.execute("CREATE INDEX by_class ON rows_ (class)")
        for space in ("rows", "log", "counters"):
            db.kv(space)
        topic, queue = db.topic("messages", retain="8MB"), db.queue("jobs")
        since = db.commit_number
        messages = topic.subscribe()
        paths, running, process = [], [], 0

        def start():
            nonlocal process
            process += 1
            paths.append(tmp_path / f"{process}")
            paths[-1].touch()
            running.append(spawn(work, shm, str(paths[-1]), process, rng.random(), faces, isolation, until))
        for _ in range(workers):
            start()
        for _ in range(kills):
            time.sleep(rng.random() * 0.2)
            victim = running.pop(rng.randrange(len(running)))
            if victim.status is None:
                victim.kill()
            start()
        assert [child.wait() for child in running] == [0] * workers
        db.kv("log")["end"] = 0             # takes the lock over from a dead owner, if there is one

        commits = {}
        for commit in db.changes("log", since=since):
            for change in commit.changes:
                assert change.kind == "insert", change
                commits[change.key] = commit.number
            if "end" in commits:
                break
        del commits["end"]
        txns, known = [], journal(paths)
        assert set(commits) <= set(known), "a commit that nobody intended"
        for token, entry in known.items():
            number = commits.get(token)
            if "commit" in entry:
                assert number == entry["commit"], f"{token}: acknowledged as {entry['commit']}, in the feed as {number}"
            if "aborted" in entry:
                assert number is None, f"{token}: {entry['aborted']}, but in the feed as {number}"
            txns.append(Txn(token, [thawed(op) for op in entry["ops"]], number, entry["snapshot"],
                            aborted=number is None and not entry.get("read_only"), process=entry["process"]))
        with db.snapshot() as tx:
            final = {(face.name, n): face(tx).get(n) for face in {Keys, Rows} for n in range(KEYS)}
            counters = [tx.kv("counters").get(n, 0) for n in range(COUNTERS)]
        found = History(txns, final).check("serializable" if isolation == "serializable" else "snapshot")
        assert found == [], "\n".join(found[:20])

        sent = {t: known[t].get("sent", {}) for t in sorted(commits, key=commits.get)}
        received = []
        while (message := messages.get(0)) is not None:
            received.append((message.value, message.commit))
        assert received == [(t, commits[t]) for t in sent if "message" in sent[t]]      # all, once, in the order of the commits
        jobs = []
        while (job := queue.claim(0)) is not None:
            jobs.append(job.value)
            queue.ack(job)
        assert sorted(jobs) == sorted(t for t in sent if "job" in sent[t])
        assert counters == [sum(s.get("counter") == n for s in sent.values()) for n in range(COUNTERS)]
        count("model steps", len(txns))
        aborted = sum("aborted" in entry for entry in known.values())
        print(f"{len(txns)} transactions, {len(commits)} commits, {aborted} given up, {sum('commit' in e for e in known.values())} acknowledged")
        assert len(commits) > len(txns) // 4 and aborted
        return txns


def test_histories_of_isolation_snapshot_lose_no_update(shm, spawn, tmp_path):
    """Write skew is allowed there and nothing else."""
    run(shm, spawn, tmp_path, "mixed", "snapshot", 4, 150, 4, random.randrange(1 << 30))


@pytest.mark.parametrize("faces", FACES)
def test_histories_are_serializable(shm, spawn, tmp_path, faces):
    run(shm, spawn, tmp_path, faces, "serializable", 3, 250, 0, random.randrange(1 << 30))


def test_histories_with_killed_processes_are_serializable(shm, spawn, tmp_path):
    run(shm, spawn, tmp_path, "mixed", "serializable", 4, 150, 6, random.randrange(1 << 30))


@pytest.mark.long
@pytest.mark.watchdog(900)
@pytest.mark.parametrize("faces", FACES)
def test_long_histories_are_serializable(shm, spawn, tmp_path, faces):
    run(shm, spawn, tmp_path, faces, "serializable", 6, 300, 15, random.randrange(1 << 30))
