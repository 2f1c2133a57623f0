"""The stage of the demo: makes the database, starts the roles, kills one of them, checks what they say, and cleans up.

The roles are sessions of their own, so Ctrl-C reaches only the stage; it then closes their standard inputs, and they leave the database
in order. When the stage itself is killed, the kernel closes them.
"""
from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import memora
from memora.demo import report
from memora.demo.characters import CODES, count_by_category, describe
from memora.demo.roles import COUNT, SCHEMA

PATIENCE_S = 300                    # a demo that takes longer has failed
LEAVE_S = 20                        # how long a role may take to leave


class Failed(Exception):
    """The demo did not show what it has to show."""


class Cast:
    """The processes of the roles."""

    def __init__(self, database: str, expected: int, stop: int, since: int):
        self._arguments = [database, "--stop", str(stop), "--expected", str(expected), "--since", str(since)]
        self._processes: list[tuple[str, subprocess.Popen]] = []

    def start(self, role: str) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-m", "memora.demo", role, *self._arguments], text=True, start_new_session=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE if role == "loader" else None)
        self._processes.append((role, process))
        return process

    def check(self):
        """Failed: a role has ended with an error. The loader that the stage kills is not asked about again."""
        for role, process in self._processes:
            if process.poll():
                raise Failed(f"the {role} ended with code {process.returncode}; what it said stands above")

    def kill(self, process: subprocess.Popen) -> int:
        """SIGKILL. Returns the last code whose commit the process was told of."""
        process.kill()
        acknowledged, _ = process.communicate()
        self._processes = [(role, p) for role, p in self._processes if p is not process]
        return int(acknowledged.splitlines()[-1])

    def dismiss(self):
        """Let everybody end, and wait for it; SIGKILL who does not. A second Ctrl-C does not hinder that."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for _, process in self._processes:
            process.stdin.close()
        late = []
        deadline = time.monotonic() + LEAVE_S
        for role, process in self._processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                late.append(role)
            if process.stdout is not None:
                process.stdout.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if late:
            raise Failed(f"the {' and the '.join(late)} did not end within {LEAVE_S} s")
        self.check()


def load(db, cast: Cast, expected: int, show: report.Progress) -> report.Killing:
    """Until the follower has seen everything, with the loader killed and replaced at half of it."""
    milestones = db.topic("milestones").subscribe()
    for role in ("follower", "server", "querier"):
        cast.start(role)
    while sum(process["alive"] for process in db.processes()) < 4:      # the stage and three readers, before the first row is there
        cast.check()
        time.sleep(0.01)
    begun = time.monotonic()
    loader = cast.start("loader")
    killing = None
    while True:
        message = milestones.get(timeout=0.1)
        cast.check()
        show(db)
        if time.monotonic() - begun > PATIENCE_S:
            raise Failed(f"not done after {PATIENCE_S} s: {dict(db.kv('progress'))}")
        if message is None:
            continue
        if message.value == "half":
            finished = loader.poll() is not None
            acknowledged = cast.kill(loader)
            loaded = db.execute("SELECT count(*) FROM chars").fetchone()[0]
            if finished or loaded >= expected:
                raise Failed("the loader had finished before the follower had seen half")
            if db.execute("SELECT count(*) FROM chars WHERE code = ?", (acknowledged,)).fetchone()[0] != 1:
                raise Failed(f"the commit with code {acknowledged} was acknowledged to the killed loader, and is lost")
            killing = report.Killing(loader.pid, loaded, time.monotonic() - begun)
            loader = cast.start("loader")
        elif message.value == "all":
            if killing is None:
                raise Failed("nobody was killed")
            killing.end_s = time.monotonic() - begun
            return killing


def compare(db, expected: dict[str, int]):
    """Failed, unless the follower, SQL and unicodedata have the same numbers."""
    by_follower = {category: n for category, n in db.kv("progress")["follower"]["totals"].items() if n}
    by_sql = dict(db.execute(COUNT))
    for who, totals in (("the follower of the feed", by_follower), ("SQL's GROUP BY", by_sql)):
        if totals != expected:
            wrong = {c: (totals.get(c), expected.get(c)) for c in {*totals, *expected} if totals.get(c) != expected.get(c)}
            raise Failed(f"{who} disagrees with unicodedata, {{category: (found, expected)}}: {wrong}")


def check_readers(progress: dict):
    """Failed, if a reader had nothing to say while the rows were loaded."""
    querier, server = progress.get("querier", {}), progress.get("server", {})
    if not querier.get("meanwhile"):
        raise Failed(f"the querier had no answer of each kind while the rows were loaded: {querier}")
    if not server.get("answered"):
        raise Failed("the server answered nothing")


def reopen(path: str, expected: dict[str, int]) -> float:
    """Open the file again, when nobody has it open any more, and find everything. Returns the seconds that opening took."""
    begun = time.monotonic()
    with memora.open(path, create=False) as db:
        seconds = time.monotonic() - begun
        found = dict(db.execute(COUNT))
        if found != expected:
            raise Failed(f"after opening the file again GROUP BY gives {found}")
        last, name = db.execute("SELECT code, name FROM chars ORDER BY code DESC LIMIT 1").fetchone()
        if describe(last).name != name or db.kv("names")[name] != last:
            raise Failed(f"after opening the file again code {last} has name {name!r} and key {db.kv('names').get(name)}")
        broken = db.check()
        if broken:
            raise Failed(f"the checker finds: {broken}")
    return seconds


@contextlib.contextmanager
def directory(given: str | None) -> Iterator[Path]:
    """Where the file lives: a temporary directory that goes at the end, or one that the user named, which stays."""
    if given is not None:
        Path(given).mkdir(parents=True, exist_ok=True)
        yield Path(given)
        return
    made = tempfile.mkdtemp(prefix="memora-demo-")
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made)


def perform(path: str, stop: int, say) -> None:
    """The whole demo on a new file."""
    expected = count_by_category(stop)
    n = sum(expected.values())
    with contextlib.ExitStack() as stack:
        db = stack.enter_context(memora.open(path, ring_bytes="16MB"))
        for statement in SCHEMA:
            db.execute(statement)
        # made here, so that nobody waits for anybody
        for make, name in ((db.kv, "names"), (db.kv, "progress"), (db.queue, "questions"), (db.topic, "answers"), (db.topic, "milestones")):
            make(name)
        cast = Cast(path, n, stop, db.commit_number)
        say(report.opening(path, n))
        try:
            show = report.Progress(n, say)
            killing = load(db, cast, n, show)
            show.end(db)
        finally:
            cast.dismiss()
        progress = dict(db.kv("progress"))
        check_readers(progress)
        compare(db, expected)
        for line in report.result(db, killing, progress, n):
            say(line)
    seconds = reopen(path, expected)
    say(f"\nClosed by all, opened again from {report.size_of(path)} of file in {seconds:.2f} s: everything is there, and the checker finds nothing.")


def main(argv: list[str] | None = None) -> int:
    """Run the demo. 0: all numbers agree; 1: they do not, or something failed; 130: Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m memora demo", description="Loads all of Unicode's names while others query, follow and serve them.")
    parser.add_argument("--directory", help="keep the database in this directory; default: a temporary one")
    parser.add_argument("--stop", type=int, default=CODES, help="only codes below this one; default: all")
    options = parser.parse_args(argv)

    def say(line: str = "", end: str = "\n"):
        print(line, end=end, flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):      # also where a shell has set SIGINT aside for a job in the background
        signal.signal(number, signal.default_int_handler)
    try:
        with directory(options.directory) as where:
            perform(str(where / "unicode.db"), options.stop, say)
    except KeyboardInterrupt:
        say("\ninterrupted; everything is put away")
        return 130
    except (Failed, memora.Error) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0
