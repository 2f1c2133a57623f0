"""Runs sqllogictest files, plain or gzipped, on Memora or on the standard library's sqlite3.

Each file gets a fresh, empty database. A line per file says how many records passed, failed and were skipped, and nanoseconds a
statement (running it and fetching its rows, nothing else); the last line is the total. Exit status 1 if a record failed.
"""
from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "sqlite"                 # what skipif and onlyif call an engine of this dialect


class Record:
    """One record: kind is "statement" or "query"; expected: None, or the list of values, or (count, md5)."""

    __slots__ = ("kind", "line", "sql", "fails", "types", "sort", "label", "expected")


def records(text):
    """All records of a file that apply here, in order; None stands for one that is to be skipped."""
    lines = text.split("\n")
    at, end = 0, len(lines)
    while at < end:
        line = lines[at]
        if not line.strip() or line.startswith("#"):
            at += 1
            continue
        skip = False
        while line.startswith(("skipif ", "onlyif ")):
            word, engine = line.split()[:2]
            skip = skip or (engine == NAME) == (word == "skipif")
            at += 1
            line = lines[at]
        words = line.split()
        if words[0] == "hash-threshold":
            at += 1
            continue
        if words[0] == "halt":
            if skip:
                at += 1
                continue
            return
        record = Record()
        record.kind, record.line = words[0], at + 1
        at += 1
        body = []
        while at < end and lines[at].strip() and lines[at] != "----":
            body.append(lines[at])
            at += 1
        record.sql = "\n".join(body)
        record.expected = None
        if record.kind == "statement":
            record.fails = words[1] == "error"
        elif record.kind == "query":
            record.types = words[1]
            record.sort = words[2] if len(words) > 2 else "nosort"
            record.label = words[3] if len(words) > 3 else None
            if at < end and lines[at] == "----":
                at += 1
                values = []
                while at < end and lines[at] != "":
                    values.append(lines[at])
                    at += 1
                match = len(values) == 1 and re.fullmatch(r"(\d+) values hashing to ([0-9a-f]{32})", values[0])
                record.expected = (int(match[1]), match[2]) if match else values
        else:
            raise SystemExit(f"line {record.line}: unknown record {line!r}")
        yield None if skip else record


def shown(value, type_):
    """A value as the corpus writes it."""
    if value is None:
        return "NULL"
    if type_ == "I":
        if isinstance(value, (str, bytes)):
            match = re.match(rb"\s*[+-]?\d+" if isinstance(value, bytes) else r"\s*[+-]?\d+", value)
            return str(int(match[0])) if match else "0"
        return str(int(value))
    if type_ == "R":
        if isinstance(value, (str, bytes)):
            match = re.match(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value if isinstance(value, str) else value.decode())
            value = float(match[0]) if match else 0.0
        text = f"{value:.3f}"
        if len(text) - 4 > 16:
            # the original program prints no more than 16 significant digits
            text = f"{int(Decimal(f'{value:.15e}'))}.000"
        return text
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    elif isinstance(value, float):
        value = f"{value:.15g}"
        value = value if any(c in value for c in ".en") else value + ".0"
    text = str(value)
    return "".join(c if " " <= c <= "~" else "@" for c in text) if text else "(empty)"


def digest(values):
    return hashlib.md5("".join(v + "\n" for v in values).encode()).hexdigest()


class Memora:
    """One empty database of ours."""

    def __init__(self):
        from memora.engine.store import Store
        from memora.sql.session import Session
        self.store = Store.open(":memory:")
        self.session = Session(self.store)
        self.execute = self.session.execute

    def close(self):
        self.session.close()


class Sqlite:
    def __init__(self):
        import sqlite3
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.execute = self.connection.execute

    def close(self):
        self.connection.close()


ENGINES = {"memora": Memora, "sqlite3": Sqlite}


class Run:
    """The records of one file on one database."""

    def __init__(self, engine):
        self.database = ENGINES[engine]()
        self.passed = self.failed = self.skipped = self.statements = self.spent_ns = 0
        self.labels = {}
        self.problems = []

    def run(self, path, limit=None):
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            text = file.read()
        for record in records(text):
            if limit is not None and self.passed + self.failed >= limit:
                break
            if record is None:
                self.skipped += 1
                continue
            problem = self.record(record)
            if problem is None:
                self.passed += 1
            else:
                self.failed += 1
                self.problems.append((record, problem))
        self.database.close()

    def timed(self, sql):
        begin = time.perf_counter_ns()
        try:
            return list(self.database.execute(sql))
        finally:
            self.spent_ns += time.perf_counter_ns() - begin
            self.statements += 1

    def script(self, sql):
        """A record of several statements: each by itself."""
        import sqlite3
        rest, part = sql.split(";"), ""
        for piece in rest:
            part += piece + ";"
            if sqlite3.complete_statement(part):
                if part.strip(" \n;"):
                    self.timed(part)
                part = ""

    def record(self, record):
        """None if it passed, else what was wrong."""
        try:
            try:
                rows = self.timed(record.sql)
            except Exception as error:
                if "one statement" not in str(error):
                    raise
                rows = self.script(record.sql)
        except Exception as error:                      # whatever the engine raises is the record's result
            if record.kind == "statement":
                return None if record.fails else f"{type(error).__name__}: {error}"
            if record.expected == [] and "overflow" in str(error):
                return None                             # how the original program wrote down an error of sum()
            return f"{type(error).__name__}: {error}"
        if record.kind == "statement":
            return "it should fail" if record.fails else None
        if rows and len(rows[0]) != len(record.types):
            return f"{len(rows[0])} columns, expected {len(record.types)}"
        table = [[shown(v, t) for v, t in zip(row, record.types)] for row in rows]
        if record.sort == "rowsort":
            table.sort()
        values = [v for row in table for v in row]
        if record.sort == "valuesort":
            values.sort()
        return self.compare(record, values)

    def compare(self, record, values):
        if record.label is not None:
            mine = digest(values)
            if self.labels.setdefault(record.label, mine) != mine:
                return f"differs from the other queries labelled {record.label}"
        if isinstance(record.expected, tuple):
            if (len(values), digest(values)) != record.expected:
                return f"{len(values)} values, digest {digest(values)}; expected {record.expected}"
        elif record.expected is not None and values != record.expected:
            return f"got {values[:12]}, expected {record.expected[:12]}"
        return None


def files(arguments):
    """All test files below the arguments, sorted."""
    found = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found.extend(p for p in path.rglob("*") if p.name.endswith((".test", ".test.gz")))
        else:
            found.append(path)
    return sorted(found)


def default_folder():
    return Path(os.environ.get("MEMORA_SLT_DIR") or ROOT.parent / "shared" / "slt")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="files or folders; default: $MEMORA_SLT_DIR, or ../shared/slt")
    parser.add_argument("--engine", choices=ENGINES, default="memora")
    parser.add_argument("--limit", type=int, help="no more than so many records of each file")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="show failures: the first of each file, -vv all")
    parser.add_argument("--errors", type=int, default=0, metavar="N", help="the N most frequent problems at the end")
    options = parser.parse_args()
    os.chdir(os.environ.get("MEMORA_SLT_CALLER", "."))
    sys.path.insert(0, str(ROOT))
    folder = default_folder()
    chosen = files(options.paths or [folder])
    if not chosen:
        print(f"no test files in {options.paths or folder}")
        return 2
    total = Counter()
    frequent = Counter()
    for path in chosen:
        run = Run(options.engine)
        run.run(path, options.limit)
        name = path.relative_to(folder) if folder in path.parents else path
        per = run.spent_ns // max(run.statements, 1)
        print(f"{str(name):55} {run.passed:6} passed {run.failed:6} failed {run.skipped:6} skipped {per:9} ns/statement",
              flush=True)
        for record, problem in run.problems[:None if options.verbose > 1 else options.verbose]:
            print(f"    line {record.line}: {problem}\n        " + record.sql.replace("\n", "\n        "))
        frequent.update(re.sub(r"\d+", "N", problem)[:100] for _, problem in run.problems)
        total.update(passed=run.passed, failed=run.failed, skipped=run.skipped, statements=run.statements, ns=run.spent_ns)
    for problem, count in frequent.most_common(options.errors):
        print(f"{count:7} x {problem}")
    per = total["ns"] // max(total["statements"], 1)
    rate = 100.0 * total["passed"] / max(total["passed"] + total["failed"], 1)
    print(f"total on {options.engine}: {total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped "
          f"in {len(chosen)} files ({rate:.3f} %), {per} ns/statement")
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
