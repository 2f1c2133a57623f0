"""SQL: Memora beside the standard library's sqlite3 and apsw, both with WAL on tmpfs and synchronous=OFF, every statement by itself."""
from __future__ import annotations

import os
import random
import uuid

from bench import contest

SCHEMA = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, visits INTEGER NOT NULL, about TEXT)"
INSERT = "INSERT INTO users (id, name, visits, about) VALUES (?, ?, ?, ?)"
SELECT = "SELECT name, visits, about FROM users WHERE id = ?"
UPDATE = "UPDATE users SET visits = ?, about = ? WHERE id = ?"
ABOUT = "a" * 80


def row(i: int):
    return i, f"user {i}", 0, ABOUT


class Memora:
    name = "memora"

    def __init__(self, directory):
        import memora
        self.region = f"shm:bench-{uuid.uuid4().hex[:12]}"
        self.db = memora.open(self.region)
        self.db.execute(SCHEMA)

    def close(self):
        import memora
        self.db.close()
        memora.remove(self.region)

    def fill(self, ids):
        for at in range(0, len(ids), 10000):
            with self.db.transaction() as tx:
                for i in ids[at:at + 10000]:
                    tx.execute(INSERT, row(i))

    def point_select(self, ids):
        execute = self.db.execute
        for i in ids:
            execute(SELECT, (i,)).fetchone()

    def point_update(self, ids, visits):
        execute = self.db.execute
        for i in ids:
            execute(UPDATE, (visits, ABOUT, i))

    def point_insert(self, ids):
        execute = self.db.execute
        for i in ids:
            execute(INSERT, row(i))

    def group_by(self, modulus):
        self.db.execute("SELECT id % ?, count(*), max(visits) FROM users GROUP BY 1", (modulus,)).fetchall()


class Sqlite3:
    """isolation_level=None: each statement commits by itself, as Memora's execute does."""

    name = "sqlite3"

    def __init__(self, directory):
        import sqlite3
        self.db = sqlite3.connect(os.path.join(directory, "sqlite3.db"), isolation_level=None)
        self.setup()

    def setup(self):
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = OFF")
        self.db.execute(SCHEMA)

    def close(self):
        self.db.close()

    def fill(self, ids):
        self.db.execute("BEGIN")
        self.db.executemany(INSERT, map(row, ids))
        self.db.execute("COMMIT")

    def point_select(self, ids):
        execute = self.db.execute
        for i in ids:
            execute(SELECT, (i,)).fetchone()

    def point_update(self, ids, visits):
        execute = self.db.execute
        for i in ids:
            execute(UPDATE, (visits, ABOUT, i))

    def point_insert(self, ids):
        execute = self.db.execute
        for i in ids:
            execute(INSERT, row(i))

    def group_by(self, modulus):
        self.db.execute("SELECT id % ?, count(*), max(visits) FROM users GROUP BY 1", (modulus,)).fetchall()


class Apsw(Sqlite3):
    name = "apsw"

    def __init__(self, directory):
        import apsw
        self.db = apsw.Connection(os.path.join(directory, "apsw.db"))
        self.setup()


CONTENDERS = (Memora, Sqlite3, Apsw)
TITLE = "SQL, {n} rows of about 100 B, each statement a transaction, on tmpfs, nothing synced"


def run(settings, stack, say):
    """Yields lines, a workload at a time."""
    n, batch, rounds = settings.keys[0], settings.batch, settings.rounds
    yield ["", TITLE.format(n=n)]
    rng = random.Random(20260102)
    contenders = contest.entered(CONTENDERS, stack, say)
    for contender in contenders:
        contender.fill(list(range(n)))

    def present():
        for _ in range(rounds + 1):
            yield (rng.choices(range(n), k=batch),)

    def changed():
        for r in range(rounds + 1):
            yield rng.choices(range(n), k=batch), r + 1

    def appended():
        for r in range(rounds + 1):
            yield (range(n + r * batch, n + (r + 1) * batch),)

    def whole():
        for r in range(min(rounds, 3) + 1):
            yield (7 + r,)

    yield contest.table(contest.in_turns(contenders, "point_select", present, batch), {})
    yield contest.table(contest.in_turns(contenders, "point_update", changed, batch), {})
    yield contest.table(contest.in_turns(contenders, "group_by", whole, n, unit="rows"), {})
    yield contest.table(contest.in_turns(contenders, "point_insert", appended, batch), {})
