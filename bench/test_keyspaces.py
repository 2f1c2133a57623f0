"""pytest-benchmark: single calls on a filled key space, by contender and number of keys."""
import itertools
import random

import pytest

from bench.keyspaces import CONTENDERS, VALUE_BYTES, key

BATCH = 1000


@pytest.fixture(params=[c for c in CONTENDERS if c.overwrite is not None], ids=lambda c: c.name)
def filled(request, entered, size):
    contender = entered(request.param)
    order = list(range(size))
    random.Random(20260101).shuffle(order)
    contender.fill([key(i) for i in order], b"v" * VALUE_BYTES)
    return contender


@pytest.fixture(params=[100_000, 1_000_000])
def size(request):
    return request.param


def batches(benchmark, size, work, *more):
    rng = random.Random(20260102)
    benchmark.group = f"{work.__name__}, {size} keys, {BATCH} operations"
    benchmark.pedantic(work, setup=lambda: (([key(i) for i in rng.choices(range(size), k=BATCH)], *more), {}), rounds=50, warmup_rounds=5)


def test_readrandom(benchmark, filled, size):
    batches(benchmark, size, filled.readrandom)


def test_overwrite(benchmark, filled, size):
    batches(benchmark, size, filled.overwrite, b"w" * VALUE_BYTES)


def test_fillseq(benchmark, filled, size):
    numbers = itertools.count(size)
    benchmark.group = f"fillseq, {size} keys, {BATCH} operations"
    benchmark.pedantic(filled.fillseq, setup=lambda: (([key(next(numbers)) for _ in range(BATCH)], b"w" * VALUE_BYTES), {}), rounds=50, warmup_rounds=5)
