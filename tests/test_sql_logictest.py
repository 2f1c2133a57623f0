"""sqllogictest: a part of each file in the quick run, all of it in the long one; every record must pass."""
import sys
from pathlib import Path

import counters
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import slt  # noqa: E402

FOLDER = slt.default_folder()
FILES = slt.files([FOLDER]) if FOLDER.is_dir() else []


def play(path, limit):
    run = slt.Run("memora")
    run.run(path, limit)
    counters.count("SQL records", run.passed)
    assert not run.problems, [(p, r.line, r.sql[:300]) for r, p in run.problems[:5]]


def test_data_is_there():
    if not FILES:
        counters.absent("SQL records", f"no sqllogictest files in {FOLDER}")
        pytest.skip(f"no sqllogictest files in {FOLDER}")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_first_records(path):
    play(path, 60)


@pytest.mark.long
@pytest.mark.watchdog(600)
@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_whole_files(path):
    play(path, None)
