"""SQL by its table of figures: Memora's DB-API module beside apsw (in memory; WAL on tmpfs), sqlite3 (the same WAL) and duckdb, in turns.

synchronous=OFF everywhere; every change outside of BEGIN commits by itself. duckdb runs in one thread, since processor time of one
thread is what is measured, and takes part where whole tables are read. Statements reuse one cursor, as each engine likes it best.
"""
from __future__ import annotations

import multiprocessing
import os
import random
import time
import uuid

from bench import contest

GROUPS = 1000
SCHEMA = (
    "CREATE TABLE facts (id INTEGER PRIMARY KEY, k INTEGER, grp INTEGER, dim INTEGER, amount REAL, name TEXT)",
    "CREATE INDEX facts_k ON facts (k)",
    "CREATE TABLE dims (id INTEGER PRIMARY KEY, w INTEGER)",
    "CREATE TABLE plain (did INTEGER, w INTEGER)",
    "CREATE TABLE work (id INTEGER PRIMARY KEY, v INTEGER, s TEXT)",
    "CREATE TABLE many (id INTEGER PRIMARY KEY, v INTEGER, s TEXT)",
    "CREATE TABLE branches (bid INTEGER PRIMARY KEY, balance INTEGER)",
    "CREATE TABLE tellers (tid INTEGER PRIMARY KEY, bid INTEGER, balance INTEGER)",
    "CREATE TABLE accounts (aid INTEGER PRIMARY KEY, bid INTEGER, balance INTEGER, filler TEXT)",
    "CREATE TABLE history (tid INTEGER, bid INTEGER, aid INTEGER, delta INTEGER, noted INTEGER)",
)
BRANCHES, TELLERS, ACCOUNTS = 10, 100, 100_000
TPC_B = ("UPDATE accounts SET balance = balance + ? WHERE aid = ?", "SELECT balance FROM accounts WHERE aid = ?",
         "UPDATE tellers SET balance = balance + ? WHERE tid = ?", "UPDATE branches SET balance = balance + ? WHERE bid = ?",
         "INSERT INTO history VALUES (?, ?, ?, ?, ?)")
JOIN = "SELECT count(*), sum(w) FROM facts JOIN {} ON {} = facts.dim"


def facts(n):
    rng = random.Random(20260103)
    for i in range(n):
        yield i, rng.randrange(n), rng.randrange(GROUPS), rng.randrange(max(n // 10, 1)), rng.random() * 1000, f"name {i}"


class Common:
    """The workloads, in statements that all of them take."""

    points = True

    def setup(self, n):
        for statement in SCHEMA:
            self.execute(statement)
        self.load("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?)", facts(n))
        self.load("INSERT INTO dims VALUES (?, ?)", ((i, i % 97) for i in range(n // 10)))
        self.load("INSERT INTO plain VALUES (?, ?)", ((i, i % 97) for i in range(n // 10)))
        if self.points:
            self.load("INSERT INTO work VALUES (?, ?, ?)", ((i, 0, "w" * 40) for i in range(n // 10)))
            self.load_accounts()

    def load_accounts(self):
        self.load("INSERT INTO branches VALUES (?, 0)", ((i,) for i in range(BRANCHES)))
        self.load("INSERT INTO tellers VALUES (?, ?, 0)", ((i, i % BRANCHES) for i in range(TELLERS)))
        self.load("INSERT INTO accounts VALUES (?, ?, 0, ?)", ((i, i % BRANCHES, "f" * 84) for i in range(ACCOUNTS)))

    def load(self, statement, rows):
        self.execute("BEGIN")
        self.cursor.executemany(statement, rows)
        self.execute("COMMIT")

    def close(self):
        self.connection.close()

    # One batch each.

    def point(self, ids):
        execute = self.cursor.execute
        for i in ids:
            execute("SELECT amount, name FROM facts WHERE id = ?", (i,)).fetchone()

    def literal(self, texts):
        execute = self.cursor.execute
        for text in texts:
            execute(text).fetchone()

    def secondary(self, ids):
        execute = self.cursor.execute
        for i in ids:
            execute("SELECT id, amount FROM facts WHERE k = ?", (i,)).fetchone()

    def insert(self, ids):
        execute = self.cursor.execute
        for i in ids:
            execute("INSERT INTO work VALUES (?, ?, ?)", (i, 0, "new"))

    def update(self, ids):
        execute = self.cursor.execute
        for i in ids:
            execute("UPDATE work SET v = v + 1, s = ? WHERE id = ?", ("updated", i))

    def delete(self, ids):
        execute = self.cursor.execute
        for i in ids:
            execute("DELETE FROM work WHERE id = ?", (i,))

    def executemany(self, rows):
        self.load("INSERT INTO many VALUES (?, ?, ?)", rows)

    def range1000(self, starts):
        execute = self.cursor.execute
        for i in starts:
            execute("SELECT id, amount, name FROM facts WHERE id BETWEEN ? AND ?", (i, i + 999)).fetchall()

    def tpcb(self, choices):
        for choice in choices:
            self.transaction(*choice)

    def transaction(self, aid, tid, bid, delta):
        account, balance, teller, branch, history = TPC_B
        execute = self.cursor.execute
        execute("BEGIN IMMEDIATE")
        execute(account, (delta, aid))
        execute(balance, (aid,)).fetchone()
        execute(teller, (delta, tid))
        execute(branch, (delta, bid))
        execute(history, (tid, bid, aid, delta, 1))
        execute("COMMIT")

    together = transaction

    def query(self, text, *values):
        return self.execute(text, values).fetchall()

    def filter_count(self):
        self.query("SELECT count(*) FROM facts WHERE amount < ?", 500.0)

    def group_by(self):
        self.query("SELECT grp, count(*), sum(amount) FROM facts GROUP BY grp")

    def join_index(self):
        self.query(JOIN.format("dims", "dims.id"))

    def join_plain(self):
        self.query(JOIN.format("plain", "plain.did"))

    def order_limit(self):
        self.query("SELECT id, amount FROM facts ORDER BY amount DESC LIMIT 10")

    def connect_select(self, times):
        for _ in range(times):
            connection = self.connect()
            connection.cursor().execute("SELECT 1").fetchall()
            connection.close()


class Memora(Common):
    name = "memora"

    def __init__(self, directory):
        self.place = f"shm:bench-{uuid.uuid4().hex[:12]}"
        self.join()

    def join(self):
        import memora.dbapi
        self.db = memora.open(self.place)
        self.connection = memora.dbapi.connect(self.place, isolation_level=None)
        self.connect = lambda: memora.dbapi.connect(self.place, isolation_level=None)
        self.cursor = self.connection.cursor()
        self.execute = self.cursor.execute

    def together(self, aid, tid, bid, delta):
        """The transaction as Memora wants it where others write, too: nobody waits, and a conflict runs it again."""
        account, balance, teller, branch, history = TPC_B

        def work(tx):
            tx.execute(account, (delta, aid))
            tx.execute(balance, (aid,)).fetchone()
            tx.execute(teller, (delta, tid))
            tx.execute(branch, (delta, bid))
            tx.execute(history, (tid, bid, aid, delta, 1))
        self.db.run(work)

    def close(self):
        import memora
        self.connection.close()
        self.db.close()
        memora.remove(self.place)


class ApswMemory(Common):
    name = "apsw memory"

    def __init__(self, directory):
        import apsw
        self.apsw, self.place = apsw, ":memory:"
        self.begin()

    def begin(self):
        self.connection = self.connect()
        self.cursor = self.connection.cursor()
        self.execute = self.cursor.execute

    def connect(self):
        return self.apsw.Connection(self.place)


class ApswWal(ApswMemory):
    name = "apsw wal"

    def __init__(self, directory):
        import apsw
        self.apsw, self.place = apsw, os.path.join(directory, "apsw.db")
        self.begin()

    def begin(self):
        super().begin()
        self.execute("PRAGMA journal_mode = WAL").fetchall()
        self.execute("PRAGMA synchronous = OFF")


class Sqlite3(Common):
    name = "sqlite3 wal"

    def __init__(self, directory):
        self.place = os.path.join(directory, "sqlite3.db")
        self.join()

    def join(self):
        self.connection = self.connect()
        self.cursor = self.connection.cursor()
        self.execute = self.cursor.execute
        self.execute("PRAGMA journal_mode = WAL").fetchall()
        self.execute("PRAGMA synchronous = OFF")

    def connect(self):
        import sqlite3
        return sqlite3.connect(self.place, timeout=60, isolation_level=None)


class Duckdb(Common):
    name = "duckdb"
    points = False
    point = literal = secondary = insert = update = delete = executemany = range1000 = tpcb = connect_select = None

    def __init__(self, directory):
        import duckdb
        self.connection = duckdb.connect(":memory:", config={"threads": 1})
        self.cursor = self.connection
        self.execute = self.connection.execute

    def load(self, statement, rows):
        # Its executemany takes a millisecond a row; literals are read faster.
        head, rows = statement.partition("(?")[0], list(rows)
        for at in range(0, len(rows), 20000):
            self.execute(head + ", ".join(str(row) for row in rows[at:at + 20000]))


CONTENDERS = (Memora, ApswMemory, ApswWal, Sqlite3, Duckdb)
#: The rival that each figure is held against, and the ratio to reach.
BARS = {
    "point": {"apsw memory": 0.7}, "literal": {"apsw memory": 0.8}, "secondary": {"apsw memory": 0.7},
    "insert": {"apsw wal": 0.25}, "update": {"apsw wal": 0.25}, "delete": {"apsw wal": 0.25}, "executemany": {"apsw wal": 1.0},
    "range1000": {"apsw memory": 0.8}, "filter_count": {"apsw memory": 0.4}, "group_by": {"apsw memory": 0.15},
    "join_index": {"apsw memory": 0.6}, "join_plain": {"apsw memory": 0.4}, "order_limit": {"apsw memory": 0.4},
    "tpcb": {"apsw wal": 0.4}, "connect_select": {"apsw wal": 0.5},
}
TITLE = "SQL, {n} rows, through memora.dbapi; processor time of one thread"


def run(settings, stack, say):
    """Yields lines, a workload at a time."""
    n, rounds = settings.rows, settings.rounds
    batch = max(min(settings.batch, n // 20), 1)
    yield ["", TITLE.format(n=n)]
    contenders = contest.entered(CONTENDERS, stack, say)
    for contender in contenders:
        contender.setup(n)
    rng = random.Random(20260104)
    few = min(rounds, 5)

    def chosen(count, top):
        return lambda: ((rng.choices(range(top), k=count),) for _ in range(rounds + 1))

    def texts():
        return (([f"SELECT amount, name FROM facts WHERE id = {i}" for i in rng.choices(range(n), k=batch)],) for _ in range(rounds + 1))

    def fresh():
        for r in range(rounds + 1):
            yield (range(n + r * batch, n + (r + 1) * batch),)

    def choices():
        for _ in range(rounds + 1):
            yield ([(rng.randrange(ACCOUNTS), rng.randrange(TELLERS), rng.randrange(BRANCHES), rng.randrange(-5000, 5000))
                    for _ in range(batch // 5 or 1)],)

    def loads():
        for r in range(few + 1):
            yield ([(i, i * 7, f"row {i}") for i in range(r * (n // 10), (r + 1) * (n // 10))],)

    def told(workload, batches, operations, unit="ops"):
        return contest.table(contest.in_turns(contenders, workload, batches, operations, unit), BARS.get(workload, {}))

    def whole():
        return ((),) * (few + 1)

    yield told("point", chosen(batch, n), batch)
    yield told("literal", texts, batch)
    yield told("secondary", chosen(batch, n), batch)
    yield told("range1000", chosen(max(batch // 200, 1), max(n - 1000, 1)), max(batch // 200, 1))
    yield told("insert", fresh, batch)
    yield told("update", chosen(batch, n // 10), batch)
    yield told("delete", fresh, batch)
    yield told("executemany", loads, n // 10, "rows")
    yield told("tpcb", choices, batch // 5 or 1)
    for workload in ("filter_count", "group_by", "join_index", "join_plain", "order_limit"):
        yield told(workload, whole, 1, "runs")
    yield told("connect_select", lambda: ((20,),) * (few + 1), 20)
    yield two_processes([c for c in contenders if c.name in ("memora", "sqlite3 wal")], settings.seconds, few)


# ------------------------------------------------------------------------------------------------------- two at once

def two_processes(contenders, seconds, rounds):
    """TPC-B-like transactions of two processes at once, in wall time; lines. Memora's as it wants them, and with BEGIN IMMEDIATE as sqlite3's are."""
    ours, *others = contenders
    ways = [(ours, "together"), (ours, "transaction"), *((other, "transaction") for other in others)]
    found = {(c.name, way): [] for c, way in ways}
    for _ in range(min(rounds, 3)):
        for c, way in ways:
            found[c.name, way].append(_together(type(c), c.place, way, seconds))
    lines, rates = [], []
    for (name, way), rounds_of in found.items():
        rates.append(sorted(total for total, _ in rounds_of)[len(rounds_of) // 2])
        errors = sum(errors for _, errors in rounds_of)
        line = f"  {'tpcb, 2 proc.':<15}{name + (', immediate' if name == ours.name and way == 'transaction' else ''):<18}{rates[-1]:>12.0f} a second in sum, {errors} errors"
        lines.append(line if name == ours.name else
                     line + f"   memora / {name} = {rates[0] / rates[-1]:.2f} (to reach 5.00), immediate {rates[1] / rates[-1]:.2f}")
    return lines


def _together(kind, place, way, seconds):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_worker, args=(kind, place, way, seconds, seed, barrier, answers)) for seed in (1, 2)]
    for worker in workers:
        worker.start()
    got = [answers.get(timeout=seconds + 120) for _ in workers]
    for worker in workers:
        worker.join()
    return sum(rate for rate, _ in got), sum(errors for _, errors in got)


def _worker(kind, place, way, seconds, seed, barrier, answers):
    contender = object.__new__(kind)
    contender.place = place
    contender.join()
    transaction = getattr(contender, way)
    rng = random.Random(seed)
    barrier.wait()
    done = errors = 0
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        try:
            transaction(rng.randrange(ACCOUNTS), rng.randrange(TELLERS), rng.randrange(BRANCHES), rng.randrange(-5000, 5000))
            done += 1
        except Exception:  # noqa: BLE001  (counted: none should come)
            errors += 1
            if contender.connection.in_transaction:
                contender.execute("ROLLBACK")
    answers.put((done / (time.perf_counter() - begun), errors))
    contender.connection.close()
