"""Contenders for the pytest-benchmark suite: `pytest bench`, or `pytest bench --benchmark-group-by=group` to see them side by side."""
import contextlib

import pytest

from bench import contest


@pytest.fixture
def entered():
    """entered(constructor) -> the contender, made in a fresh directory; skips the test if it is not installed."""
    with contextlib.ExitStack() as stack:
        def enter(constructor):
            missing = []
            made = contest.entered([constructor], stack, missing.append)
            if not made:
                pytest.skip(missing[0])
            return made[0]
        yield enter
