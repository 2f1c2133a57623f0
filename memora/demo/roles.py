"""The four programs of the demo. Each is a process of its own that opens the same database; nothing else connects them.

    loader      writes rows by SQL and names as keys, 200 characters a commit
    querier     asks by SQL while it loads, and asks the server over a queue
    follower    counts by category from the change feed alone
    server      answers questions from keys and a cache, and publishes on a topic

A role is a function of (db, options, curtain). The curtain is an event that is set when the stage closes our standard input, or has
died: a role that is still running then returns, so that `with memora.open` leaves the region in order.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import random
import threading
import time
from collections import Counter, deque
from itertools import islice

import memora
from memora.demo.characters import CATEGORIES, describe, named

CHARACTERS_A_COMMIT = 200
POPULAR = 0x3ff                     # the server is asked for characters up to this one, and so for some again and again
TELL_S = 0.1                        # how often a role writes down how far it is

SCHEMA = (
    "CREATE TABLE chars (code INTEGER PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL, bidi TEXT NOT NULL, number REAL)",
    "CREATE UNIQUE INDEX chars_name ON chars (name)",
    "CREATE INDEX chars_category ON chars (category)",
    "CREATE TABLE rows (number INTEGER PRIMARY KEY, first TEXT NOT NULL)",     # a row of Unicode: 256 codes
)
INSERT = "INSERT INTO chars (code, name, category, bidi, number) VALUES (?, ?, ?, ?, ?)"
COUNT = "SELECT category, count(*) FROM chars GROUP BY category"


def loader(db, options, curtain):
    """Insert what is not there yet. Its standard output names the last code of each commit that was acknowledged."""
    start = db.execute("SELECT max(code) FROM chars").fetchone()[0]
    characters = named(0 if start is None else start + 1, options.stop)

    def insert(tx):
        names, row = tx.kv("names"), None
        for character in chunk:
            tx.execute(INSERT, character)
            names[character.name] = character.code
            if row != character.code >> 8:
                row = character.code >> 8
                tx.execute("INSERT OR IGNORE INTO rows VALUES (?, ?)", (row, character.name))

    loaded = 0
    while not curtain.is_set() and (chunk := list(islice(characters, CHARACTERS_A_COMMIT))):
        db.run(insert)
        os.write(1, b"%d\n" % chunk[-1].code)
        loaded += len(chunk)
        if start is None and options.expected * 3 <= loaded * 4 < options.expected * 4:
            curtain.wait()          # the first one is killed when the follower has seen half, and does not finish before it has


def querier(db, options, curtain):
    """Ask, and check every answer against unicodedata or against another answer from the same snapshot."""
    tell = Progress(db, "querier")
    questions, answers = db.queue("questions"), db.topic("answers").subscribe()
    waited = deque(maxlen=10000)
    done = Counter()
    while not curtain.is_set():
        with db.snapshot() as tx:
            total, newest = tx.execute("SELECT count(*), max(code) FROM chars").fetchone()
            if not total:
                continue
            groups = dict(tx.execute(COUNT))
            expect(sum(groups.values()) == total, f"count(*) is {total}, but the groups add up to {sum(groups.values())}")
            done["groups"] += 1
            category = random.choice(list(groups))
            joined = tx.execute("SELECT r.first, count(*) FROM rows AS r JOIN chars AS c ON r.number = c.code >> 8 "
                                "WHERE c.category = ? GROUP BY r.number ORDER BY count(*) DESC", (category,)).fetchall()
            expect(sum(n for _, n in joined) == groups[category], f"{category}: {groups[category]} characters, {joined} by row")
            done["joins"] += 1
        for _ in range(20):
            name = a_name(newest)
            found = db.execute("SELECT code FROM chars WHERE name = ?", (name,)).fetchone()
            expect(found is not None and describe(found[0]).name == name, f"{name!r} is found at {found}")
            done["lookups"] += 1
        for _ in range(10):
            name = a_name(min(newest, POPULAR))
            asked = time.perf_counter()
            number = questions.put({"name": name})
            while (message := answers.get(timeout=0.2)) is None or message.value["question"] != number:
                if curtain.is_set():
                    return
            expect(describe(message.value["code"]).name == name, f"the server says that {name!r} is {message.value}")
            waited.append(time.perf_counter() - asked)
            done["answers"] += 1
        if total < options.expected:
            done["meanwhile"] = min(done["groups"], done["joins"], done["lookups"], done["answers"])
        tell(**done, answer_ms=sorted(waited)[len(waited) // 2] * 1e3)


def follower(db, options, curtain):
    """Count by category from nothing but the feed. Says on a topic when half of all characters were seen, and what it counted."""
    tell = Progress(db, "follower")
    milestones = db.topic("milestones")
    totals, seen, half_told, lag = Counter(), 0, False, deque([0.0], maxlen=10000)
    changes = db.changes("chars", since=options.since)
    while seen < options.expected and not curtain.is_set():
        commit = changes.get(timeout=0.2)
        if commit is None:
            continue
        lag.append(time.time() - commit.time)
        for change in commit.changes:
            if change.old is not None:
                totals[change.old["category"]] -= 1
                seen -= 1
            if change.new is not None:
                totals[change.new["category"]] += 1
                seen += 1
        if not half_told and seen * 2 >= options.expected:
            half_told = True
            milestones.publish("half")
        tell(seen=seen, commit=commit.number, lag_ms=sorted(lag)[len(lag) // 2] * 1e3)
    tell(now=True, seen=seen, totals=dict(totals), lag_ms=sorted(lag)[len(lag) // 2] * 1e3)
    if seen == options.expected:
        milestones.publish("all")


def server(db, options, curtain):
    """Answer questions: a name's code comes from the key space, the rest from SQL, and from the cache when it was asked before."""
    tell = Progress(db, "server")
    names, cards, questions = db.kv("names"), db.cache("cards", max_bytes="256KB", ttl="60s"), db.queue("questions")
    answered = computed = 0

    def card(name):
        nonlocal computed
        computed += 1
        code = names[name]
        category, row = db.execute("SELECT c.category, r.first FROM chars AS c JOIN rows AS r ON r.number = c.code >> 8 WHERE c.code = ?",
                                   (code,)).fetchone()
        return {"name": name, "code": code, "kind": CATEGORIES[category], "beside": row}

    while not curtain.is_set():
        job = questions.claim(timeout=0.2)
        if job is None:
            continue
        name = job.value["name"]
        found = cards.get_or_set(name, lambda: card(name))

        def answer(tx):                         # told and done in one commit: killed before it, another server would answer
            tx.topic("answers").publish({"question": job.id, **found})
            tx.queue("questions").ack(job)

        db.run(answer)
        answered += 1
        tell(answered=answered, cached=answered - computed)


ROLES = {"loader": loader, "querier": querier, "follower": follower, "server": server}


class Progress:
    """How far a role is, in the key space `progress`, for everybody to read; written ten times a second at most."""

    def __init__(self, db, role):
        self._space, self._role, self._told = db.kv("progress"), role, 0.0

    def __call__(self, now=False, **numbers):
        if now or time.monotonic() - self._told >= TELL_S:
            self._space[self._role] = numbers
            self._told = time.monotonic()


def a_name(newest: int) -> str:
    """The name of some character up to `newest`."""
    while (character := describe(random.randint(0, newest))) is None:
        pass
    return character.name


def expect(true: bool, otherwise: str):
    """What a role finds wrong ends it, and with it the demo."""
    if not true:
        raise SystemExit(otherwise)


def watch(curtain):
    """Set the curtain when the stage closes our standard input: it wants us to end, or has died."""
    os.read(0, 1)
    curtain.set()


def main(argv: list[str]) -> int:
    """`python -m memora.demo ROLE DATABASE ...`: one process of the demo. Started by stage.py."""
    parser = argparse.ArgumentParser(prog="python -m memora.demo")
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("database")
    parser.add_argument("--stop", type=int, required=True, help="load codes below this one")
    parser.add_argument("--expected", type=int, required=True, help="characters there will be")
    parser.add_argument("--since", type=int, required=True, help="follow what was committed after this commit")
    options = parser.parse_args(argv)
    curtain = threading.Event()
    threading.Thread(target=watch, args=(curtain,), daemon=True).start()
    with memora.open(options.database, create=False) as db, contextlib.suppress(BrokenPipeError):   # the stage is gone: the curtain is, too
        ROLES[options.role](db, options, curtain)
    return 0
