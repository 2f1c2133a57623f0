"""What the demo shows: a line of progress while it runs, and a result at its end."""
from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import dataclass

from memora.demo.characters import CATEGORIES

BAR = 24


@dataclass
class Killing:
    """The loader's end: its pid, how many rows were there, and the seconds from the first loader's start to it and to the end."""

    pid: int
    loaded: int
    at_s: float
    end_s: float = 0.0


def opening(path: str, n: int) -> str:
    return (f"{path}: {n:,} characters have a name. One process loads them by SQL, one asks meanwhile, one follows the change feed,\n"
            "one serves answers; at half of it the loader is killed with SIGKILL and another one goes on.\n")


class Progress:
    """One line, written over on a terminal and every second elsewhere."""

    def __init__(self, n: int, say):
        self._n, self._say, self._terminal, self._begun, self._shown = n, say, sys.stdout.isatty(), time.monotonic(), 0.0

    def __call__(self, db):
        now = time.monotonic()
        if now - self._shown < (0.1 if self._terminal else 1.0):
            return
        self._shown = now
        self._say("\r" + self._line(db) if self._terminal else self._line(db), end="" if self._terminal else "\n")

    def _line(self, db) -> str:
        progress = dict(db.kv("progress"))
        seen, querier = progress.get("follower", {}).get("seen", 0), progress.get("querier", {})
        bar = "#" * (BAR * seen // self._n)
        queries = sum(querier.get(kind, 0) for kind in ("groups", "joins", "lookups"))
        return (f"{time.monotonic() - self._begun:5.1f} s  [{bar:.<{BAR}}] {seen:>7,} followed  {queries:>6,} queries  "
                f"{progress.get('server', {}).get('answered', 0):>5,} answers")

    def end(self, db):
        self._shown = 0.0
        self(db)
        self._say("\n" if self._terminal else "")


def result(db, killing: Killing, progress: dict, n: int) -> list[str]:
    """The lines at the end."""
    querier, follower, server = progress["querier"], progress["follower"], progress["server"]
    queries = querier["groups"] + querier["joins"] + querier["lookups"]
    lines = [
        f"loader    {n:,} rows and as many keys in {killing.end_s:.1f} s ({n / killing.end_s:,.0f} rows/s, 200 a commit); process {killing.pid} was killed",
        f"          at {killing.at_s:.1f} s with {killing.loaded:,} rows; the next one went on there, and nothing is missing or twice",
        f"querier   {queries:,} queries while it ran ({queries / killing.end_s:,.0f}/s): {querier['groups']:,} GROUP BY, {querier['joins']:,} joins, "
        f"{querier['lookups']:,} index look-ups",
        f"follower  {follower['seen']:,} rows from the change feed, {follower['lag_ms']:.1f} ms behind the commits (median)",
        f"server    {server['answered']:,} answers over queue and topic, {server['cached']:,} of them cached; "
        f"{querier['answer_ms']:.1f} ms from question to answer (median)",
        "",
        "Follower, GROUP BY and unicodedata agree (bars: logarithm):",
    ]
    counts = db.execute("SELECT category, count(*) FROM chars GROUP BY category ORDER BY count(*) DESC LIMIT 8").fetchall()
    for category, count in counts:
        lines.append(f"  {count:>8,}  {category}  {CATEGORIES[category]:<22}{'#' * round(8 * math.log10(count))}")
    rest = n - sum(count for _, count in counts)
    lines += [f"  {rest:>8,}  in {len(follower['totals']) - len(counts)} smaller categories", "", *curious(db)]
    return lines


def curious(db) -> list[str]:
    """Three answers to questions that nobody asked."""
    longest = db.execute("SELECT code, name FROM chars ORDER BY length(name) DESC, code LIMIT 1").fetchone()
    largest = db.execute("SELECT code, name, number FROM chars WHERE number IS NOT NULL ORDER BY number DESC, code LIMIT 1").fetchone()
    mixed = db.execute("SELECT r.first, count(DISTINCT c.category) FROM chars AS c JOIN rows AS r ON r.number = c.code >> 8 "
                       "GROUP BY r.number ORDER BY count(DISTINCT c.category) DESC, r.number LIMIT 1").fetchone()
    return [f"The longest name:    {chr(longest[0])}  {longest[1]}",
            f"The largest number:  {chr(largest[0])}  {largest[1]}, {largest[2]:,.0f}",
            f"The most mixed row:  {mixed[1]} categories, where {mixed[0]} is the first"]


def size_of(path: str) -> str:
    return f"{os.path.getsize(path) / 1e6:.1f} MB"
