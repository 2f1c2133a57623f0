"""pytest-benchmark: SQL statements by primary key, and one that reads the whole table."""
import itertools
import random

import pytest

from bench.rows import CONTENDERS

ROWS = 100_000
BATCH = 200


@pytest.fixture(params=CONTENDERS, ids=lambda c: c.name)
def filled(request, entered):
    contender = entered(request.param)
    contender.fill(list(range(ROWS)))
    return contender


def ids():
    return random.choices(range(ROWS), k=BATCH)


def test_point_select(benchmark, filled):
    benchmark.group = f"point_select, {BATCH} statements"
    benchmark.pedantic(filled.point_select, setup=lambda: ((ids(),), {}), rounds=50, warmup_rounds=5)


def test_point_update(benchmark, filled):
    benchmark.group = f"point_update, {BATCH} statements"
    benchmark.pedantic(filled.point_update, setup=lambda: ((ids(), random.randrange(10**6)), {}), rounds=50, warmup_rounds=5)


def test_point_insert(benchmark, filled):
    numbers = itertools.count(ROWS)
    benchmark.group = f"point_insert, {BATCH} statements"
    benchmark.pedantic(filled.point_insert, setup=lambda: (([next(numbers) for _ in range(BATCH)],), {}), rounds=50, warmup_rounds=5)


def test_group_by(benchmark, filled):
    benchmark.group = f"group_by, {ROWS} rows"
    benchmark.pedantic(filled.group_by, args=(7,), rounds=5, warmup_rounds=1)
