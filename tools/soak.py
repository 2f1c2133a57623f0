"""Loads a region and a database with files for a long time, kills and stops what runs, and checks all along what must always hold.

Roles, each a process of its own, started again when it was killed: ledger (transfers), orders (rows in two tables, an index, a message and a
job in one transaction), jobs (claim, record, acknowledge), cache, ddl (tables made, filled and dropped), blobs (large values, growth and
shrinking), subscriber, follower (a replica by the change feed), reader (one snapshot, read again and again; it is the one that is stopped for
long), auditor (what must hold in every snapshot), files (a database with files, durability "normal").

Every writer keeps a number in what it commits and, outside, in a file that survives it: what it is about to commit, and what was
acknowledged. After a kill the number in the database must be one of the two. A broken promise ends the soak with status 1. SIGTERM ends it
early, with its result.
"""
from __future__ import annotations

import argparse
import contextlib
import itertools
import mmap
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import memora  # noqa: E402
from memora import errors  # noqa: E402

ACCOUNTS, START = 200, 1000
ORDERS_KEPT, QUEUE_FULL, BLOBS, CACHE_BYTES, DDL_ROWS, FILE_ROWS = 2000, 400, 40, 2 << 20, 200, 300
MAX_BYTES = "192MB"
TIMEOUT_S = 120
CHECK_S = 20
SLOTS = ("intent", "acked", "work", "conflicts", "full", "lagged", "too old")
ROLES = ("ledger", "ledger", "orders", "orders", "jobs", "jobs", "cache", "ddl", "blobs", "subscriber", "follower", "reader", "auditor", "files", "files")


def must(holds, *what):
    if not holds:
        raise AssertionError(" ".join(map(str, what)))


class Notes:
    """A worker's numbers, in a file that outlives it. Eight-byte stores: a kill leaves the old number or the new one."""

    def __init__(self, folder, index):
        path = Path(folder, f"notes-{index}")
        if not path.exists():
            path.write_bytes(bytes(4096))
        with path.open("r+b") as f:
            self._map = mmap.mmap(f.fileno(), 4096)
        self._words = memoryview(self._map).cast("Q")

    def __getitem__(self, name):
        return self._words[SLOTS.index(name)]

    def __setitem__(self, name, n):
        self._words[SLOTS.index(name)] = n


class Worker:
    def __init__(self, index, name, folder, seed):
        self.index, self.folder = index, folder
        self.notes = Notes(folder, index)
        self.rng = random.Random(seed)
        self.db = memora.open(name, timeout=TIMEOUT_S)

    def resume(self, number):
        """The number that the database holds: acknowledged, or what was under way."""
        must(number in (self.notes["acked"], self.notes["intent"]),
             f"worker {self.index}: the database says {number}; acknowledged {self.notes['acked']}, under way {self.notes['intent']}")
        self.notes["acked"] = self.notes["intent"] = number
        return number

    def commit(self, number, change, db=None):
        """change(tx) as commit `number`; whether there was room, and the snapshot lasted."""
        self.notes["intent"] = number
        try:
            (db or self.db).run(change)
        except (errors.RegionFull, errors.SnapshotTooOld) as error:
            self.notes["full" if isinstance(error, errors.RegionFull) else "too old"] += 1
            self.notes["intent"] = self.notes["acked"]
            return False
        self.notes["acked"] = number
        self.notes["work"] += 1
        return True

    def pause(self):
        if self.rng.random() < 0.2:
            time.sleep(self.rng.random() * 0.004)


# ---------------------------------------------------------------- the roles

def ledger(w):
    mine = f"seq/{w.index}"
    n = w.resume(w.db.kv("ledger").get(mine, 0))
    while True:
        a, b = w.rng.sample(range(ACCOUNTS), 2)
        amount = w.rng.randrange(50)

        def change(tx, n=n + 1):
            kv = tx.kv("ledger")
            kv[a] -= amount
            kv[b] += amount
            kv[mine] = n
        n += w.commit(n + 1, change)
        w.pause()


def orders(w):
    mine = f"put/{w.index}"
    n = w.resume(w.db.kv("counts").get(mine, 0))
    for turn in itertools.count():
        lines = [w.rng.randrange(1000) for _ in range(w.rng.randrange(1, 8))]

        def change(tx, n=n + 1, lines=lines):
            row = tx.execute("INSERT INTO orders (customer, total) VALUES (?, ?)", (f"c{w.index}", sum(lines)))
            for i, amount in enumerate(lines):
                tx.execute("INSERT INTO lines VALUES (?, ?, ?, ?)", (row.lastrowid, i, amount, "n" * w.rng.randrange(200)))
            old = tx.execute("SELECT id FROM orders ORDER BY id LIMIT 2").fetchall()
            if old and row.lastrowid - old[0][0] > ORDERS_KEPT:
                for id_, in old:
                    tx.execute("DELETE FROM lines WHERE order_id = ?", (id_,))
                    tx.execute("DELETE FROM orders WHERE id = ?", (id_,))
            tx.topic("news").publish({"order": row.lastrowid, "total": sum(lines)})
            tx.queue("jobs").put({"order": row.lastrowid, "by": [w.index, n]})
            tx.kv("counts")[mine] = n
        n += w.commit(n + 1, change)
        waiting = QUEUE_FULL + 1 if turn % 20 == 0 else 0
        while waiting > QUEUE_FULL:
            time.sleep(0.01)
            with room(w):
                waiting = sum(w.db.queue("jobs").stats().values())
        w.pause()


def jobs(w):
    mine = f"done/{w.index}"
    n = w.resume(w.db.kv("counts").get(mine, 0))
    while True:
        job = None
        with room(w):
            job = w.db.queue("jobs").claim(timeout=1)
        if job is None:
            continue
        if w.rng.random() < 0.03:
            while job is not None:
                with room(w):
                    w.db.queue("jobs").nack(job, w.rng.choice((0, 0.05)))
                    job = None
            continue

        def change(tx, n=n + 1, job=job):
            # twice done would be an IntegrityError
            tx.execute("INSERT INTO done (worker, n, job) VALUES (?, ?, ?)", (*job.value["by"], job.id))
            tx.execute("DELETE FROM done WHERE worker = ? AND n < ?", (job.value["by"][0], job.value["by"][1] - 5 * QUEUE_FULL))
            tx.queue("jobs").ack(job)
            tx.kv("counts")[mine] = n
        while not w.commit(n + 1, change):
            time.sleep(0.1)
        n += 1


def cache(w):
    space = w.db.cache("pages")
    while True:
        key = w.rng.randrange(4000)
        found = space.get(key)
        if found is not None:
            must(found["k"] == key and found["text"] == str(key) * found["n"], f"cache: {key} holds {str(found)[:80]}")
        else:
            n = w.rng.choice((1, 10, 100, 1000))
            with room(w):
                space.set(key, {"k": key, "n": n, "text": str(key) * n}, ttl=w.rng.choice((None, 0.5, 5)))
        must(space.stats()["bytes"] <= CACHE_BYTES, f"cache: {space.stats()}")
        w.notes["work"] += 1
        w.pause()


def ddl(w):
    def drop(name):
        gone = False
        while not gone:
            with room(w):
                w.db.execute(f"DROP TABLE IF EXISTS {name}")
                gone = True

    for n in range(3):
        drop(f"made_{w.index}_{n}")
    for n in itertools.count():
        name = f"made_{w.index}_{n % 3}"

        def fill(tx, name=name):
            # one whose commit was sealed by a killed predecessor may have come to light since the drop
            tx.execute(f"DROP TABLE IF EXISTS {name}")
            tx.execute(f"CREATE TABLE {name} (a INTEGER PRIMARY KEY, b TEXT, c INT)")
            for i in range(DDL_ROWS):
                tx.execute(f"INSERT INTO {name} VALUES (?, ?, ?)", (i, "text" * (i % 30), i % 7))
        with room(w):
            w.db.run(fill)
            w.db.execute(f"CREATE INDEX {name}_c ON {name} (c)")
            found = w.db.execute(f"SELECT count(*) FROM {name} WHERE c = 3").fetchone()[0]
            must(found == len(range(3, DDL_ROWS, 7)), f"ddl: {found} rows by the new index")
        drop(name)
        w.notes["work"] += 1
        time.sleep(w.rng.random() * 0.1)


@contextlib.contextmanager
def room(w):
    """A full region, and a snapshot that was revoked to make room in it, are answers like any other here; what was committed stays."""
    try:
        yield
    except errors.RegionFull:
        w.notes["full"] += 1
    except errors.SnapshotTooOld:
        w.notes["too old"] += 1


def blobs(w):
    while True:
        key = w.rng.randrange(BLOBS)
        kind = w.rng.random()
        if kind < 0.3:
            with room(w), w.db.snapshot() as tx:
                must_fit(key, tx.kv("blobs").get(key), tx.kv("blob facts").get(key))
        else:
            value = w.rng.randbytes(w.rng.choice((10, 2000, 30_000, 200_000, 1_000_000))) if kind < 0.8 else None

            def change(tx, key=key, value=value):
                if value is None:
                    tx.kv("blobs").delete(key)
                    tx.kv("blob facts").delete(key)
                else:
                    tx.kv("blobs")[key] = value
                    tx.kv("blob facts")[key] = [len(value), zlib.crc32(value)]
            with room(w):
                w.db.run(change)
        w.notes["work"] += 1
        time.sleep(w.rng.random() * 0.02)


def must_fit(key, value, facts):
    must((value is None) == (facts is None) and (value is None or [len(value), zlib.crc32(value)] == facts), f"blob {key}: {facts}")


def subscriber(w):
    subscription, newest = w.db.topic("news").subscribe(), 0
    while True:
        try:
            message = subscription.get(timeout=1)
        except errors.Lagged:
            w.notes["lagged"] += 1
            continue
        if message is not None:
            must(message.commit > newest, f"topic: commit {message.commit} after {newest}")
            must(set(message.value) == {"order", "total"}, message.value)
            newest = message.commit
            w.notes["work"] += 1


def follower(w):
    while True:
        replica = None
        with room(w), w.db.snapshot() as tx:
            replica = dict(tx.kv("ledger").items())
            since = tx.snapshot
        if replica is None:
            continue
        changes = w.db.changes("ledger", since=since)
        try:
            for commit in changes:
                must(commit.number > since, f"feed: commit {commit.number} after {since}")
                since = commit.number
                for change in commit.changes:
                    must(replica.get(change.key) == change.old, f"feed: {change} in commit {since}; the replica has {replica.get(change.key)}")
                    replica[change.key] = change.new
                w.notes["work"] += 1
                if w.notes["work"] % 64 == 0:
                    must(sum(replica[a] for a in range(ACCOUNTS)) == ACCOUNTS * START, f"feed: the replica's total at {since}")
        except errors.Lagged:
            w.notes["lagged"] += 1


def reader(w):
    while True:
        with w.db.snapshot() as tx:
            until = time.monotonic() + w.rng.random() * 10
            first = None
            try:
                while time.monotonic() < until:
                    now = [tx.kv("ledger")[a] for a in range(ACCOUNTS)], tx.execute("SELECT count(*), sum(total) FROM orders").fetchone()
                    must(first is None or now == first, f"a snapshot moved: {tx.snapshot}")
                    must(sum(now[0]) == ACCOUNTS * START, f"total {sum(now[0])} at {tx.snapshot}")
                    first = now
                    w.notes["work"] += 1
                    time.sleep(0.05)
            except errors.SnapshotTooOld:
                w.notes["too old"] += 1


def audit(db, notes=None):
    with db.snapshot() as tx:
        at = tx.snapshot
        total = sum(tx.kv("ledger")[a] for a in range(ACCOUNTS))
        must(total == ACCOUNTS * START, f"ledger: total {total} at {at}")
        total = tx.execute("SELECT sum(total) FROM orders").fetchone()[0]
        lines = tx.execute("SELECT sum(amount), count(*) FROM lines").fetchone()
        must(total == lines[0], f"orders: {total}, their lines: {lines[0]} at {at}")
        by_index = tx.execute("SELECT count(*) FROM lines WHERE amount >= 0").fetchone()[0]
        must(by_index == lines[1], f"lines: {lines[1]} rows, {by_index} by the index at {at}")
        counts = dict(tx.kv("counts").items())
        put, done = (sum(n for key, n in counts.items() if key.startswith(which)) for which in ("put/", "done/"))
        waiting = len(tx.queue("jobs"))
        must(put == done + waiting, f"jobs: {put} put, {done} done, {waiting} waiting at {at}")
        for name, in tx.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'made_%'").fetchall():
            found = tx.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            must(found == DDL_ROWS, f"ddl: {name} with {found} rows at {at}")
        for key in range(0, BLOBS, 7):
            must_fit(key, tx.kv("blobs").get(key), tx.kv("blob facts").get(key))


def auditor(w):
    while True:
        try:
            audit(w.db)
        except errors.SnapshotTooOld:
            w.notes["too old"] += 1
        w.notes["work"] += 1
        time.sleep(w.rng.random() * 0.3)


def files(w):
    path = str(Path(w.folder, "soak.db"))
    w.db.close()
    n = None
    while True:
        with memora.open(path, timeout=TIMEOUT_S, max_bytes="64MB") as db:
            number = db.kv("numbers").get(w.index, 0)
            n = w.resume(number)
            for _ in range(w.rng.randrange(2000)):
                def change(tx, n=n + 1):
                    tx.execute("INSERT INTO entries VALUES (?, ?, ?)", (w.index, n, "e" * w.rng.randrange(600)))
                    tx.execute("DELETE FROM entries WHERE worker = ? AND n <= ?", (w.index, n - FILE_ROWS))
                    tx.kv("numbers")[w.index] = n
                n += w.commit(n + 1, change, db)
                w.pause()


def set_up(name, folder):
    db = memora.open(name, max_bytes=MAX_BYTES, ring_bytes="2MB", timeout=TIMEOUT_S)
    db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total INT)")
    db.execute("CREATE TABLE lines (order_id INT, n INT, amount INT, note TEXT, PRIMARY KEY (order_id, n))")
    db.execute("CREATE INDEX by_amount ON lines (amount)")
    db.execute("CREATE TABLE done (worker INT, n INT, job INT UNIQUE, PRIMARY KEY (worker, n))")
    db.kv("ledger").put_many((a, START) for a in range(ACCOUNTS))
    for space in ("counts", "blobs", "blob facts"):
        db.kv(space)
    db.cache("pages", max_bytes=CACHE_BYTES)
    db.topic("news", retain="256KB")
    db.queue("jobs")
    with memora.open(str(Path(folder, "soak.db")), max_bytes="64MB") as file_db:
        file_db.execute("CREATE TABLE entries (worker INT, n INT, pad TEXT, PRIMARY KEY (worker, n))")
        file_db.kv("numbers")
    return db


# ---------------------------------------------------------------- the one who kills

class Soak:
    def __init__(self, minutes, seed, folder):
        self.until = time.monotonic() + minutes * 60
        self.begun = time.monotonic()
        self.rng = random.Random(seed)
        self.folder = folder
        self.name = f"shm:soak-{os.getpid()}"
        self.db = set_up(self.name, folder)
        self.running = {}
        self.stopped = {}                   # index -> when it goes on
        self.kills = self.stops = self.checks = 0
        self.peak = dict.fromkeys(("bytes", "frames", "pinned_frames", "limbo_frames", "log_bytes", "extent_bytes"), 0)

    def end_early(self, *_):
        self.until = time.monotonic()

    def start(self, index):
        with open(Path(self.folder, f"errors-{index}"), "ab") as stderr:
            self.running[index] = subprocess.Popen(
                [sys.executable, __file__, "--role", ROLES[index], "--index", str(index), "--region", self.name, "--folder", self.folder,
                 "--seed", str(self.rng.randrange(1 << 30))], stderr=stderr)

    def look(self):
        """Nobody has ended by himself, and the region is within its bounds."""
        for index, process in self.running.items():
            if process.poll() is not None:
                said = Path(self.folder, f"errors-{index}").read_text()
                raise AssertionError(f"{ROLES[index]} {index} ended with status {process.returncode}:\n{said[-4000:]}")
        stats = self.db.stats()
        for key in self.peak:
            self.peak[key] = max(self.peak[key], stats[key])
        must(stats["bytes"] <= stats["max_bytes"], stats)

    def go_on(self, until):
        """Wake who was stopped and whose time is over."""
        for index in [i for i, then in self.stopped.items() if then <= until]:
            self.running[index].send_signal(signal.SIGCONT)
            del self.stopped[index]

    def check(self):
        self.go_on(float("inf"))            # one of them may hold the lock that the check waits for
        found = self.db.check()
        with memora.open(str(Path(self.folder, "soak.db")), max_bytes="64MB", timeout=TIMEOUT_S) as db:
            found += db.check()
        must(found == [], "check:", found)
        self.checks += 1
        waiting = [f"{key} {value >> 10} KiB" if "bytes" in key else f"{key} {value}" for key, value in self.db.stats().items() if key in self.peak]
        say(f"{(time.monotonic() - self.begun) / 60:6.1f} min  commit {self.db.commit_number}  {self.kills} kills  {self.stops} stops  " + "  ".join(waiting))

    def disturb(self):
        now = time.monotonic()
        self.go_on(now)
        kind = self.rng.random()
        index = self.rng.randrange(len(ROLES))
        if index in self.stopped:
            return
        if kind < 0.4:
            self.running[index].kill()
            self.running[index].wait()
            self.kills += 1
            self.start(index)
        elif kind < 0.7:
            self.running[index].send_signal(signal.SIGSTOP)
            self.stops += 1
            self.stopped[index] = now + (self.rng.random() * 40 if ROLES[index] == "reader" else self.rng.random() ** 4 * 8)

    def run(self):
        for index in range(len(ROLES)):
            self.start(index)
        checked = time.monotonic()
        while time.monotonic() < self.until:
            time.sleep(self.rng.random() * 0.8)
            self.look()
            self.disturb()
            if time.monotonic() - checked > CHECK_S:
                self.check()
                checked = time.monotonic()
        self.look()

    def end(self):
        """Kill all, then everything must be as it was acknowledged."""
        for process in self.running.values():
            process.kill()
            process.wait()
        self.stopped.clear()
        self.kills += len(self.running)
        audit(self.db)
        self.check()
        counts, numbers = dict(self.db.kv("counts").items()), dict(self.db.kv("ledger").items())
        with memora.open(str(Path(self.folder, "soak.db")), timeout=TIMEOUT_S) as file_db:
            of_files = dict(file_db.kv("numbers").items())
            rows = file_db.execute("SELECT worker, max(n), count(*) FROM entries GROUP BY worker").fetchall()
        for index, role in enumerate(ROLES):
            number = {"ledger": numbers.get(f"seq/{index}"), "orders": counts.get(f"put/{index}"), "jobs": counts.get(f"done/{index}"),
                      "files": of_files.get(index)}.get(role)
            if number is not None:
                notes = Notes(self.folder, index)
                must(number in (notes["acked"], notes["intent"]), f"{role} {index}: {number}, acknowledged {notes['acked']}")
        for worker, last, n in rows:
            must(last == of_files[worker] and n == min(last, FILE_ROWS), f"files: worker {worker} has {n} rows up to {last}, expected {of_files[worker]}")

    def result(self):
        notes = [Notes(self.folder, index) for index in range(len(ROLES))]
        minutes = (time.monotonic() - self.begun) / 60
        commits = self.db.commit_number
        say(f"{minutes:.1f} minutes, {len(ROLES)} processes, {os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}")
        say(f"commits          {commits} ({commits / minutes / 60:.0f} a second)")
        say(f"kills, stops     {self.kills}, {self.stops}")
        for key, value in self.peak.items():
            say(f"peak {key:<14}" + (f"{value / (1 << 20):.1f} MiB" if "bytes" in key else str(value)))
        work = {}
        for role, n in zip(ROLES, notes):
            work[role] = work.get(role, 0) + n["work"]
        say("done by role     " + ", ".join(f"{role} {n}" for role, n in work.items()))
        for name in ("lagged", "too old", "full"):
            say(f"{name:<17}{sum(n[name] for n in notes)}")
        say(f"check() == []    {self.checks} times, of both databases")

    def close(self):
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        self.db.close()
        memora.remove(self.name)


def say(line):
    print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", default=None, help="where the files lie (a temporary directory)")
    for hidden in ("--role", "--index", "--region"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    seed = random.randrange(1 << 30) if given.seed is None else given.seed
    if given.role:
        worker = Worker(int(given.index), given.region, given.folder, seed)
        while True:
            try:
                globals()[given.role](worker)
            except errors.SnapshotTooOld:       # stopped in the middle of a look-up: nothing was written, begin again
                worker.notes["too old"] += 1
    folder = given.folder or tempfile.mkdtemp(prefix="memora-soak-")
    say(f"seed {seed}")
    soak = Soak(given.minutes, seed, folder)
    signal.signal(signal.SIGTERM, soak.end_early)
    try:
        soak.run()
        soak.end()
        soak.result()
        say("result           ok")
        return 0
    except AssertionError as broken:
        say(f"result           BROKEN: {broken}")
        return 1
    finally:
        soak.close()
        if given.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
