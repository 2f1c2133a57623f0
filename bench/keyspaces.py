"""Keys: Memora's key space beside py-lmdb, rocksdict and a plain dict, one transaction an operation and many keys at once.

    readrandom, readmissing, overwrite      single keys that are there, or not
    fillseq, insert                         keys that are not there yet, in order and in none
    scan100, get100, put1000                pairs of a scan, keys of one read and of one write transaction; microseconds for all of them
"""
from __future__ import annotations

import contextlib
import itertools
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

    fillseq = insert = overwrite

    def scan100(self, keys):
        scan = self.kv.scan
        for k in keys:
            list(scan(k, limit=100))

    def get100(self, groups):
        get_many = self.kv.get_many
        for group in groups:
            get_many(group)

    def put1000(self, groups):
        put_many = self.kv.put_many
        for group in groups:
            put_many(group)


class MemoraHash(Memora):
    """The same with the hash index, which has no order."""

    name = "memora-hash"
    _index = "hash"
    scan100 = None


class MemoraHuge(Memora):
    """The same in huge pages, for which it asks once, when it is filled."""

    name = "memora-huge"

    def fill(self, keys, value):
        super().fill(keys, value)
        self.db.huge_pages()


class MemoraHashHuge(MemoraHuge):
    name = "memora-both"
    _index = "hash"
    scan100 = None


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

    fillseq = insert = overwrite

    def scan100(self, keys):
        begin, islice = self.env.begin, itertools.islice
        for k in keys:
            with begin() as txn:
                cursor = txn.cursor()
                if cursor.set_range(k):
                    list(islice(cursor, 100))

    def get100(self, groups):
        begin = self.env.begin
        for group in groups:
            with begin() as txn:
                get = txn.get
                [get(k) for k in group]             # its getmulti is slower

    def put1000(self, groups):
        begin = self.env.begin
        for group in groups:
            with begin(write=True) as txn:
                txn.cursor().putmulti(group)


class LmdbOne(Lmdb):
    """All reads of a round in one transaction."""

    name = "lmdb-one"
    overwrite = fillseq = insert = scan100 = get100 = put1000 = None

    def readrandom(self, keys):
        with self.env.begin() as txn:
            get = txn.get
            for k in keys:
                get(k)

    readmissing = readrandom


class Rocksdict:
    """Without a write-ahead log."""

    name = "rocksdict"

    def __init__(self, directory):
        import rocksdict
        self.db = rocksdict.Rdict(os.path.join(directory, "rocks"), rocksdict.Options(raw_mode=True))
        self.batch = rocksdict.WriteBatch
        options = rocksdict.WriteOptions()
        options.disable_wal = True
        self.db.set_write_options(options)

    def close(self):
        self.db.close()

    def fill(self, keys, value):
        for k in keys:
            self.db[k] = value
        self.db.flush()
        self.db.compact_range(None, None)       # else it goes on in the background of everybody

    def readrandom(self, keys):
        get = self.db.get
        for k in keys:
            get(k)

    readmissing = readrandom

    def overwrite(self, keys, value):
        db = self.db
        for k in keys:
            db[k] = value

    fillseq = insert = overwrite

    def scan100(self, keys):
        items, islice = self.db.items, itertools.islice
        for k in keys:
            list(islice(items(from_key=k), 100))

    def get100(self, groups):
        get = self.db.get
        for group in groups:
            get(group)

    def put1000(self, groups):
        for group in groups:
            batch = self.batch(raw_mode=True)
            for k, v in group:
                batch.put(k, v)
            self.db.write(batch)


class Dict:
    """Of this process alone, and without an order."""

    name = "dict"
    scan100 = None

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

    fillseq = insert = overwrite

    def get100(self, groups):
        kv = self.kv
        for group in groups:
            {k: kv[k] for k in group if k in kv}

    def put1000(self, groups):
        for group in groups:
            self.kv.update(group)


CONTENDERS = (Memora, MemoraHash, MemoraHuge, MemoraHashHuge, Lmdb, LmdbOne, Rocksdict, Dict)
TITLE = "key space, {n} keys of 16 B with values of 100 B, on tmpfs, nothing synced"
# Ratios that Memora has to reach, or stay below.
BARS = {"readrandom": {"lmdb": 0.65, "dict": 1.5, "memora-hash/lmdb": 0.45, "memora-huge/lmdb": 0.45, "memora-both/lmdb": 0.45}, "overwrite": {"lmdb": 0.6}, "insert": {"lmdb": 0.6}, "scan100": {"lmdb": 0.5}, "get100": {"lmdb": 0.6},
        "put1000": {"lmdb": 0.4}}


def run(settings, stack, say):
    """Yields lines, a workload at a time."""
    for n in settings.keys:
        with contextlib.ExitStack() as own:
            yield ["", TITLE.format(n=n)]
            for results in workloads(n, settings.batch, settings.rounds, own, say):
                yield contest.table(results, BARS.get(results[0].workload, {}))


def workloads(n, batch, rounds, stack, say):
    """Yields the results of each workload on n keys."""
    rng = random.Random(20260101)
    value = b"v" * VALUE_BYTES
    contenders = contest.entered(CONTENDERS, stack, say)
    order = list(range(n))
    rng.shuffle(order)
    for contender in contenders:
        contender.fill([key(i) for i in order], value)
    scans, groups, large = max(1, batch // 20), max(1, batch // 100), max(1, batch // 1000)
    fresh = rng.sample(range(n), min(n, batch * (rounds + 1)))

    def some(count, suffix=b""):
        return [key(i) + suffix for i in rng.choices(range(n), k=count)]

    def present():
        for _ in range(rounds + 1):
            yield (some(batch),)

    def missing():
        for _ in range(rounds + 1):
            yield (some(batch, b"x"),)

    def changed():
        for r in range(rounds + 1):
            yield some(batch), b"%0100d" % r

    def starts():
        for _ in range(rounds + 1):
            yield (some(scans),)

    def grouped():
        for _ in range(rounds + 1):
            yield ([some(100) for _ in range(groups)],)

    def written():
        for r in range(rounds + 1):
            yield ([[(k, b"%0100d" % r) for k in some(1000)] for _ in range(large)],)

    def appended():
        for r in range(rounds + 1):
            yield [key(n + r * batch + i) for i in range(batch)], value

    def strewn():
        for r in range(rounds + 1):
            yield [key(fresh[i % len(fresh)]) + b"%d" % i for i in range(r * batch, (r + 1) * batch)], value

    for workload, batches, operations in (
            ("readrandom", present, batch), ("readmissing", missing, batch), ("scan100", starts, scans), ("get100", grouped, groups),
            ("overwrite", changed, batch), ("fillseq", appended, batch), ("insert", strewn, batch), ("put1000", written, large)):
        # put1000 comes last: it leaves lmdb a long free list
        yield contest.in_turns(contenders, workload, batches, operations)
