"""pytest-benchmark: messages between two processes."""
import pytest

from bench.messages import CONTENDERS, one_way, there_and_back

BATCH = 500


@pytest.fixture(params=CONTENDERS, ids=lambda c: c.name)
def side(request, entered):
    return entered(request.param)


def test_there_and_back(benchmark, side):
    benchmark.group = f"a->b->a, {BATCH} times"
    benchmark.pedantic(there_and_back, args=(side, BATCH), rounds=10, warmup_rounds=1)


def test_one_way(benchmark, side):
    benchmark.group = f"one way, {BATCH} messages"
    benchmark.pedantic(one_way, args=(side, BATCH), rounds=10, warmup_rounds=1)
