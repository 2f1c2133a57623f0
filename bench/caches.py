"""Caches: Memora's beside diskcache on tmpfs."""
from __future__ import annotations

import random
import uuid

from bench import contest

VALUE = b"v" * 100


def key(i: int) -> str:
    return f"user:{i}"


class Memora:
    name = "memora"

    def __init__(self, directory):
        import memora
        self.region = f"shm:bench-{uuid.uuid4().hex[:12]}"
        self.db = memora.open(self.region)
        self.cache = self.db.cache("bench", max_bytes="1GB", ttl=600)

    def close(self):
        import memora
        self.db.close()
        memora.remove(self.region)

    def fill(self, keys, value):
        self.cache.set_many([(k, value) for k in keys])

    def get(self, keys):
        get = self.cache.get
        for k in keys:
            get(k)

    get_missing = get

    def set(self, keys, value):
        put = self.cache.set
        for k in keys:
            put(k, value)

    def incr(self, keys):
        incr = self.cache.incr
        for k in keys:
            incr(k)


class Diskcache:
    """sqlite_synchronous=0: it syncs nothing, as Memora in shared memory; statistics are off, as they come."""

    name = "diskcache"

    def __init__(self, directory):
        import diskcache
        self.cache = diskcache.Cache(directory, size_limit=1 << 30, sqlite_synchronous=0)

    def close(self):
        self.cache.close()

    def fill(self, keys, value):
        with self.cache.transact():
            for k in keys:
                self.cache.set(k, value, expire=600)

    def get(self, keys):
        get = self.cache.get
        for k in keys:
            get(k)

    get_missing = get

    def set(self, keys, value):
        put = self.cache.set
        for k in keys:
            put(k, value, expire=600)

    def incr(self, keys):
        incr = self.cache.incr
        for k in keys:
            incr(k)


CONTENDERS = (Memora, Diskcache)
TITLE = "cache, {n} entries of 100 B that live 600 s, each call by itself, on tmpfs, nothing synced"


def run(settings, stack, say):
    """Yields lines, a workload at a time."""
    n, batch, rounds = settings.keys[0], settings.batch, settings.rounds
    yield ["", TITLE.format(n=n)]
    rng = random.Random(20260103)
    contenders = contest.entered(CONTENDERS, stack, say)
    for contender in contenders:
        contender.fill([key(i) for i in range(n)], VALUE)

    def present():
        for _ in range(rounds + 1):
            yield ([key(i) for i in rng.choices(range(n), k=batch)],)

    def missing():
        for _ in range(rounds + 1):
            yield ([f"nobody:{i}" for i in rng.choices(range(n), k=batch)],)

    def changed():
        for r in range(rounds + 1):
            yield [key(i) for i in rng.choices(range(n), k=batch)], b"%0100d" % r

    def counters():
        for _ in range(rounds + 1):
            yield ([f"counter:{i % 100}" for i in range(batch)],)

    for workload, batches in (("get", present), ("get_missing", missing), ("set", changed), ("incr", counters)):
        yield contest.table(contest.in_turns(contenders, workload, batches, batch), {})
