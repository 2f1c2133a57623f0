"""Golden files: tests/sql/*.test, one topic a file, in sqllogictest's format with SQLite's answers. Every record must pass."""
import sys
from pathlib import Path

import counters
import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tools"))
import slt  # noqa: E402


@pytest.mark.parametrize("path", sorted((HERE / "sql").glob("*.test")), ids=lambda p: p.stem)
def test_golden(path):
    run = slt.Run("memora")
    run.run(path)
    counters.count("SQL records", run.passed)
    assert run.passed > 0
    assert not run.problems, "\n".join(f"line {r.line}: {p}\n    {r.sql}" for r, p in run.problems)
