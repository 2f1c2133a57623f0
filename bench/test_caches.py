"""pytest-benchmark: single calls on a cache that holds them all."""
import random

import pytest

from bench.caches import CONTENDERS, VALUE, key

ENTRIES = 100_000
BATCH = 200


@pytest.fixture(params=CONTENDERS, ids=lambda c: c.name)
def filled(request, entered):
    contender = entered(request.param)
    contender.fill([key(i) for i in range(ENTRIES)], VALUE)
    return contender


def keys():
    return [key(i) for i in random.choices(range(ENTRIES), k=BATCH)]


def test_get(benchmark, filled):
    benchmark.group = f"get, {BATCH} calls"
    benchmark.pedantic(filled.get, setup=lambda: ((keys(),), {}), rounds=50, warmup_rounds=5)


def test_set(benchmark, filled):
    benchmark.group = f"set, {BATCH} calls"
    benchmark.pedantic(filled.set, setup=lambda: ((keys(), VALUE), {}), rounds=50, warmup_rounds=5)


def test_incr(benchmark, filled):
    benchmark.group = f"incr, {BATCH} calls"
    benchmark.pedantic(filled.incr, setup=lambda: (([f"counter:{i % 10}" for i in range(BATCH)],), {}), rounds=50, warmup_rounds=5)
