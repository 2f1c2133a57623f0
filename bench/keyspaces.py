"""Keys: Memora's key space beside py-lmdb (a transaction each) and a plain dict."""
from __future__ import annotations

import os
import random
import uuid

from bench import contest

VALUE_BYTES = 100


def key(n: int) -> bytes:
    """16 bytes, as most benchmarks of stores have them."""
    return b"%016d" % n


class Memora:
    name = "memora"
    _index = "btree"

    def __init__(self, directory):
        import memora
        self.region = f"shm:bench-{uuid.uuid4().hex[:12]}"
        self.db = memora.open(self.region)
        self.kv = self.db.kv("bench", index=self._index)

    def close(self):
        import memora
        self.db.close()
        memora.remove(self.region)

    def fill(self, keys, value):
        for at in range(0, len(keys), 1000):
            self.kv.put_many([(k, value) for k in keys[at:at + 1000]])

    def readrandom(self, keys):
        get = self.kv.get
        for k in keys:
            get(k)

    readmissing = readrandom

    def overwrite(self, keys, value):
        put = self.kv.put
        for k in keys:
            put(k, value)

    fillseq = overwrite


class MemoraHash(Memora):
    name = "memora-hash"
    _index = "hash"


class Lmdb:
    """With writemap=True, its fastest way and the one like ours: without it each commit is some system calls, five times slower."""

    name = "lmdb"

    def __init__(self, directory):
        import lmdb
        self.env = lmdb.open(os.path.join(directory, "lmdb"), map_size=4 << 30, writemap=True, sync=False, metasync=False)

    def close(self):
        self.env.close()

    def fill(self, keys, value):
        with self.env.begin(write=True) as txn:         # in one transaction: many leave a long free list, which makes each commit 3 us slower
            for k in keys:
                txn.put(k, value)

    def readrandom(self, keys):
        begin = self.env.begin
        for k in keys:
            with begin() as txn:
                txn.get(k)

    readmissing = readrandom

    def overwrite(self, keys, value):
        begin = self.env.begin
        for k in keys:
            with begin(write=True) as txn:
                txn.put(k, value)

    fillseq = overwrite


class Dict:
    name = "dict"

    def __init__(self, directory):
        self.kv = {}

    def close(self):
        self.kv.clear()

    def fill(self, keys, value):
        for k in keys:
            self.kv[k] = bytes(bytearray(value))        # an object of its own each, as the others give

    def readrandom(self, keys):
        get = self.kv.get
        for k in keys:
            get(k)

    readmissing = readrandom

    def overwrite(self, keys, value):
        kv = self.kv
        for k in keys:
            kv[k] = value

    fillseq = overwrite


CONTENDERS = (Memora, MemoraHash, Lmdb, Dict)
TITLE = "key space, {n} keys of 16 B with values of 100 B, one transaction an operation, on tmpfs, nothing synced"
# Ratios that Memora has to reach, or stay below.
BARS = {"readrandom": {"lmdb": 0.6, "dict": 2.0}, "overwrite": {"lmdb": 0.7}}


def run(n: int, batch: int, rounds: int, stack, say):
    """Workloads on n keys, in batches; yields (workload, results)."""
    rng = random.Random(20260101)
    value = b"v" * VALUE_BYTES
    contenders = contest.entered(CONTENDERS, stack, say)
    order = list(range(n))
    rng.shuffle(order)
    for contender in contenders:
        contender.fill([key(i) for i in order], value)

    def present():
        for _ in range(rounds + 1):
            yield ([key(i) for i in rng.choices(range(n), k=batch)],)

    def missing():
        for _ in range(rounds + 1):
            yield ([key(i) + b"x" for i in rng.choices(range(n), k=batch)],)

    def changed():
        for r in range(rounds + 1):
            yield [key(i) for i in rng.choices(range(n), k=batch)], b"%0100d" % r

    def appended():
        for r in range(rounds + 1):
            yield [key(n + r * batch + i) for i in range(batch)], value

    for workload, batches in (("readrandom", present), ("readmissing", missing), ("overwrite", changed), ("fillseq", appended)):
        yield workload, contest.in_turns(contenders, workload, batches, batch)
