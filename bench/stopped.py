"""Commits while a reader stands still: it has a snapshot and gets SIGSTOP; the region must stay bounded and the writer fast.

Two regions that are filled alike get the same commits in turns, a slice of time each; only one of them has the reader. So both feel the
same busy machine, and the reader is stopped without a break.
"""
from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
import uuid

from bench import contest

TITLE = "puts of 100 B to {n} keys while a reader with a snapshot is stopped for {seconds:g} s, each a commit"
BAR = 0.9
SLICE_S = 0.25
VALUE = b"v" * 100
SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 60.0


def reader(address, pipe):
    """Takes a snapshot, reads in it, and says so; then it is stopped. Afterwards says what it meets."""
    import memora
    from memora import errors
    db = memora.open(address)
    snapshot = db.snapshot()
    seen = snapshot.kv("bench").get(b"%016d" % 0)
    pipe.send("ready")
    pipe.recv()
    try:
        pipe.send("still reads its snapshot" if snapshot.kv("bench").get(b"%016d" % 0) == seen else "READS SOMETHING ELSE")
    except errors.SnapshotTooOld:
        pipe.send("is told SnapshotTooOld")
    snapshot.rollback()
    db.close()


class Region:
    """One of the two; rates: commits a second of each slice, by processor time."""

    def __init__(self, name, keys, stack):
        import memora
        self.name, self.rates, self.count = name, [], 0
        self.address = f"shm:bench-{uuid.uuid4().hex[:12]}"
        self.db = memora.open(self.address)
        stack.callback(memora.remove, self.address)
        stack.callback(self.db.close)
        self.kv = self.db.kv("bench")
        for at in range(0, keys, 1000):
            self.kv.put_many([(b"%016d" % i, VALUE) for i in range(at, min(keys, at + 1000))])

    def slice(self, keys):
        """Puts in groups of 1000 until the slice is over."""
        end, put, done, busy = time.perf_counter() + SLICE_S, self.kv.put, 0, 0.0
        while time.perf_counter() < end:
            group = [b"%016d" % i for i in random.choices(range(keys), k=1000)]
            busy += contest.timed(put_all, put, group)
            done += len(group)
        self.rates.append(busy / done)
        self.count += done


def put_all(put, keys):
    for k in keys:
        put(k, VALUE)


def run(settings, stack, say):
    """Yields lines."""
    n, seconds = settings.keys[0], settings.stopped
    yield ["", TITLE.format(n=n, seconds=seconds)]
    free, held = Region("no reader", n, stack), Region("reader stopped", n, stack)
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=reader, args=(held.address, theirs))
    for region in (free, held):             # warm, and as large as the same commits make it alone
        region.slice(n)
        region.rates.clear()
        region.count = 0
    process.start()
    theirs.close()
    try:
        if not ours.poll(PATIENCE_S):
            raise TimeoutError(f"the reader says nothing for {PATIENCE_S} s")
        ours.recv()
        os.kill(process.pid, signal.SIGSTOP)
        before = [region.db.stats()["bytes"] for region in (free, held)]
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for region in (free, held):
                region.slice(n)
        after = [region.db.stats()["bytes"] for region in (free, held)]
        os.kill(process.pid, signal.SIGCONT)
        ours.send("go on")
        told = ours.recv() if ours.poll(PATIENCE_S) else "says nothing"
        process.join(PATIENCE_S)
    finally:
        if process.is_alive():
            process.kill()
            process.join()
    results = [contest.Result(region.name, "put", region.count, region.rates) for region in (free, held)]
    for r, at_first, at_last in zip(results, before, after):
        yield [f"  {r.workload:<14}{r.contender:<14}{r.count:>9} {r.unit:<4} {1e-3 / (r.median_us * 1e-6):>8.0f} k/s  +-{r.spread:>4.0%}"
               f"   region {at_first / 2**20:.1f} -> {at_last / 2**20:.1f} MiB"]
    ratio = results[0].median_us / results[1].median_us
    yield [f"  with / without the reader = {ratio:.2f} (to reach {BAR}: {'reached' if ratio >= BAR else 'missed'}); afterwards it {told}"]
