"""What the file tests share: their database, copies of its files, what is in its log, and that nothing is left."""
import contextlib
import os
import shutil
import tempfile

import counters
import pytest
from files_children import SMALL, killed, ledger, ledger_state, lose_region, region_name

from memora.engine import places as regions
from memora.engine.files import open_file
from memora.engine.recovery import SEGMENT_HEAD

LEVELS = ("off", "normal", "full")
RECORD_HEAD = 40


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "app.db")


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    """No test leaves the region of one of its files behind. (Other runs have regions there, too.)"""
    yield
    ours = {region_name(str(lock)[:-5]) for lock in tmp_path.rglob("*-lock")}
    left = sorted(ours.intersection(regions.names()))
    for n in left:
        regions.remove(n)
    assert left == []


@pytest.fixture
def quick_folder():
    """A folder where fsync costs nothing, for many images."""
    folder = tempfile.mkdtemp(prefix="images-", dir="/dev/shm")
    yield folder
    shutil.rmtree(folder)


def reopen(path, **options):
    return open_file(path, **{**SMALL, **options})


def image(path, folder):
    """A copy of the files as they are, in a folder of its own: what a power cut would leave, had all pages been written."""
    os.makedirs(folder, exist_ok=True)
    to = os.path.join(folder, "app.db")
    if os.path.exists(path):
        shutil.copy(path, to)
    shutil.rmtree(to + "-wal", ignore_errors=True)
    shutil.copytree(path + "-wal", to + "-wal")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(to + "-lock")
    counters.count("crash images")
    return to


def segments(path):
    return sorted(os.path.join(path + "-wal", n) for n in os.listdir(path + "-wal") if n.endswith(".wal"))


def records(segment):
    """(byte, length) of the records of a segment."""
    with open(segment, "rb") as f:
        data = f.read()
    at, found = SEGMENT_HEAD, []
    while at + RECORD_HEAD <= len(data):
        n = int.from_bytes(data[at:at + 4], "little")
        if n < RECORD_HEAD or at + n > len(data):
            break
        found.append((at, n))
        at += n
    return found


def last_of(path, **options):
    """The ledger's last commit, from files alone; the state must be exactly the one after it."""
    with contextlib.closing(reopen(path, **options)) as s:
        return ledger_state(s)


def torn(path, count):
    """A database that was killed with `count` ledger commits in the log only, and lost its region."""
    def work(say):
        s = reopen(path, durability="full")
        s.region.after_commit = None
        ledger(s, say, 1, count)
        s.flush()
    killed(work)
    lose_region(path)
    (segment,) = segments(path)
    return segment
