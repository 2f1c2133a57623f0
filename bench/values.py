"""Large values: 4 KiB and 1 MiB, got as a copy, seen in place and put, one transaction each.

Few enough of them that a processor's cache holds much: what is measured is the way to the bytes more than the memory.
"""
from __future__ import annotations

import os
import random
import uuid

from bench import contest

SMALL, LARGE = 4 << 10, 1 << 20
SMALL_KEYS, LARGE_KEYS = 1000, 16


def key(size: int, i: int) -> bytes:
    return b"%d:%08d" % (size, i)


class Memora:
    name = "memora"

    def __init__(self, directory):
        import memora
        self.region = f"shm:bench-{uuid.uuid4().hex[:12]}"
        self.db = memora.open(self.region)
        self.kv = self.db.kv("bench")

    def close(self):
        import memora
        self.db.close()
        memora.remove(self.region)

    def get_4k(self, keys):
        get = self.kv.get
        for k in keys:
            get(k)

    def put_4k(self, keys, value):
        put = self.kv.put
        for k in keys:
            put(k, value)

    def view_1m(self, keys):
        view = self.kv.view
        for k in keys:
            with view(k) as v:
                v[-1]

    get_1m, put_1m = get_4k, put_4k


class Lmdb:
    """With writemap=True, as for small values."""

    name = "lmdb"

    def __init__(self, directory):
        import lmdb
        self.env = lmdb.open(os.path.join(directory, "lmdb"), map_size=4 << 30, writemap=True, sync=False, metasync=False)

    def close(self):
        self.env.close()

    def get_4k(self, keys):
        begin = self.env.begin
        for k in keys:
            with begin() as txn:
                txn.get(k)

    def put_4k(self, keys, value):
        begin = self.env.begin
        for k in keys:
            with begin(write=True) as txn:
                txn.put(k, value)

    def view_1m(self, keys):
        begin = self.env.begin
        for k in keys:
            with begin(buffers=True) as txn:
                txn.get(k)[-1]

    get_1m, put_1m = get_4k, put_4k


class UltraDict:
    """A get is a look into a dict of this process. Its stream of changes would be full of large values soon."""

    name = "ultradict"
    get_1m = view_1m = put_1m = None

    def __init__(self, directory):
        from UltraDict import UltraDict
        self.kv = UltraDict(name=f"{contest.PREFIX}-{os.getpid()}-{uuid.uuid4().hex[:12]}", create=True, buffer_size=1 << 30, shared_lock=True)

    def close(self):
        self.kv.close(unlink=True)

    def get_4k(self, keys):
        kv = self.kv
        for k in keys:
            kv[k]

    def put_4k(self, keys, value):
        kv = self.kv
        for k in keys:
            kv[k] = value


CONTENDERS = (Memora, Lmdb, UltraDict)
TITLE = "values of 4 KiB ({small} keys) and 1 MiB ({large} keys), one transaction each, on tmpfs, nothing synced"
BARS = {"get_4k": {"ultradict": 1.2}, "put_4k": {"lmdb": 0.6}, "get_1m": {"lmdb": 1.1}, "put_1m": {"lmdb": 1.1}}
VIEW_US = 2.0          # to reach, whatever the others take


def run(settings, stack, say):
    """Yields lines, a workload at a time."""
    yield ["", TITLE.format(small=SMALL_KEYS, large=LARGE_KEYS)]
    rng = random.Random(20260105)
    contenders = contest.entered(CONTENDERS, stack, say)
    for c in contenders:
        c.put_4k([key(SMALL, i) for i in range(SMALL_KEYS)], bytes(SMALL))
        if c.put_1m is not None:
            c.put_1m([key(LARGE, i) for i in range(LARGE_KEYS)], bytes(LARGE))
    for workload, size, n, count in (("get_4k", SMALL, SMALL_KEYS, settings.batch), ("put_4k", SMALL, SMALL_KEYS, max(1, settings.batch // 4)),
                                     ("get_1m", LARGE, LARGE_KEYS, max(1, settings.batch // 50)),
                                     ("view_1m", LARGE, LARGE_KEYS, settings.batch), ("put_1m", LARGE, LARGE_KEYS, max(1, settings.batch // 50))):
        def batches(workload=workload, size=size, n=n, count=count):
            for r in range(settings.rounds + 1):
                keys = [key(size, i) for i in rng.choices(range(n), k=count)]
                yield (keys, (b"%08d" % r) * (size // 8)) if workload.startswith("put") else (keys,)
        results = contest.in_turns(contenders, workload, batches, count)
        lines = contest.table(results, BARS.get(workload, {}))
        if workload == "view_1m":
            lines[0] += f"   (to reach {VIEW_US} us: {'reached' if results[0].median_us <= VIEW_US else 'missed'})"
        yield lines
