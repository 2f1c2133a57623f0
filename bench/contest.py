"""A contest: the same workload on several engines in one run, in turns, so that a busy machine slows all of them.

A contender is a class with a `name`, made in a fresh directory on tmpfs, and with one method a workload, None where it cannot do it. The
method performs one batch of operations in the plainest loop that a user of that engine would write, and returns nothing; only it is
timed. What the batch needs (fresh key objects, as they come from outside a program) is made before the clock starts.
"""
from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

TMPFS = "/dev/shm"
PREFIX = "memora-bench"          # of all that a run has there; its pid follows


@dataclasses.dataclass
class Result:
    """What a contender did in a workload: seconds an operation, one number a round."""

    contender: str
    workload: str
    count: int                      # operations in all rounds
    rounds: list[float]
    unit: str = "ops"

    @property
    def median_us(self) -> float:
        return statistics.median(self.rounds) * 1e6

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a part of the median: how far the rounds disagree."""
        if len(self.rounds) < 4:
            return (max(self.rounds) - min(self.rounds)) / 2 / statistics.median(self.rounds)
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return (high - low) / 2 / statistics.median(self.rounds)


def entered(constructors: Iterable[Callable], stack: contextlib.ExitStack, say: Callable[[str], None]) -> list:
    """The contenders that are installed, each made in a directory of its own that goes at the end; says which are not."""
    made = []
    for constructor in constructors:
        directory = tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-", dir=TMPFS)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            contender = constructor(directory)
        except ModuleNotFoundError as missing:
            say(f"{constructor.name}: not installed ({missing.name})")
            continue
        stack.callback(contender.close)
        made.append(contender)
    return made


def timed(work: Callable, *args) -> float:
    """Seconds of processor time that work(*args) takes, without a garbage collection in it.

    Processor time, because these workloads run in one thread and wait for nothing: on a machine that others use, too, wall time
    would count their turns. What waits for another process measures wall time by itself.
    """
    gc.collect()
    gc.disable()
    try:
        begun = time.thread_time()
        work(*args)
        return time.thread_time() - begun
    finally:
        gc.enable()


def in_turns(contenders: list, workload: str, batches: Callable[[], Iterator[tuple]], operations: int,
             unit: str = "ops") -> list[Result]:
    """Run the workload on each contender in turns, a round for every tuple of arguments that batches() yields.

    The one who begins changes from round to round; the first round warms caches and is not counted.
    """
    results = {c.name: Result(c.name, workload, 0, [], unit) for c in contenders if getattr(c, workload, None) is not None}
    able = [c for c in contenders if c.name in results]
    for n, args in enumerate(batches()):
        for contender in able[n % len(able):] + able[:n % len(able)]:
            seconds = timed(getattr(contender, workload), *args)
            if n:
                results[contender.name].rounds.append(seconds / operations)
                results[contender.name].count += operations
    return list(results.values())


def machine() -> str:
    """One line: processor, cores, Python, commit."""
    model = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=Path(__file__).parent, capture_output=True, text=True)
    return (f"{model}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, Linux {platform.release().split('-')[0]}, "
            f"Python {platform.python_version()}, commit {commit.stdout.strip() or 'unknown'}")


def table(results: list[Result], bars: dict[str, float]) -> list[str]:
    """Lines of one workload: each contender, its median, and how Memora's compares to it.

    bars: the ratio to reach, by contender; "variant/contender": that of another way to use Memora, whose name begins with "memora-".
    """
    medians = {r.contender: r.median_us for r in results}
    lines = []
    for r in results:
        line = f"  {r.workload:<15}{r.contender:<14}{r.count:>9} {r.unit:<4} {r.median_us:>10.3f} us  +-{r.spread:>4.0%}"
        pairs = [("memora", r.contender)] if "memora" in medians and r.contender != "memora" else []
        pairs += [(r.contender, bar.partition("/")[2]) for bar in bars if bar.startswith(f"{r.contender}/")]
        for one, other in pairs:
            if other not in medians:
                continue
            ratio = medians[one] / medians[other]
            line += f"   {one} / {other} = {ratio:.2f}"
            bar = bars.get(other if one == "memora" else f"{one}/{other}")
            if bar is not None:
                line += f" (to reach {bar:.2f}: {'reached' if ratio <= bar else 'missed'})"
        lines.append(line)
    return lines
