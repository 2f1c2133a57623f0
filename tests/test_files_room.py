"""Writes that fail, and disks that are full."""
import contextlib
import errno
import os
import resource
import subprocess
import time

import pytest
from files_children import space
from files_shared import LEVELS, image, reopen, segments, nothing_left, path  # noqa: F401  (also fixtures)

from memora import errors


@contextlib.contextmanager
def file_size_limit(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_is_told_and_a_checkpoint_mends_it(path):
    s = reopen(path, durability="full")
    k = space(s)
    k.put_many({i: os.urandom(300) for i in range(40)})
    size = os.path.getsize(segments(path)[0])
    with file_size_limit(size):
        with pytest.raises(errors.DurabilityError) as e:
            k["first"] = 1
        newest = s.durable()["newest"]
        assert (e.value.commit, e.value.reached) == (newest, "memory") and os.strerror(errno.EFBIG) in str(e.value)
        with pytest.raises(errors.DurabilityError) as e:
            k["second"] = 2
        assert (e.value.commit, e.value.reached) == (newest + 1, "memory")
        with pytest.raises(errors.DurabilityError):
            s.flush()
        with file_size_limit(100), pytest.raises(errors.OperationalError, match="checkpoint could not be written"):
            s.checkpoint()
        assert not [n for n in os.listdir(os.path.dirname(path)) if n.endswith(".tmp")]
        assert k["first"] == 1 and k["second"] == 2             # visible all the same
    s.checkpoint()
    k["third"] = 3
    d = s.durable()
    assert d["synced"] == d["newest"]
    copy = reopen(image(path, path + ".copy"))
    assert [space(copy)[n] for n in ("first", "second", "third")] == [1, 2, 3]
    copy.close()
    s.close()


def test_the_flusher_mends_by_itself_when_there_is_room_again(path):
    s = reopen(path, durability="full")
    k = space(s)
    with file_size_limit(os.path.getsize(segments(path)[0])), pytest.raises(errors.DurabilityError):
        k["x"] = 1
    deadline = time.monotonic() + 60
    while s.durable()["synced"] < s.durable()["newest"] and time.monotonic() < deadline:
        time.sleep(0.02)
    k["y"] = 2
    s.close()


@pytest.mark.parametrize("level", LEVELS)
def test_a_full_disk(tmp_path, level):
    """Nothing is lost, and with room again everything goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        path = str(disk / "app.db")
        s = reopen(path, durability=level)
        k = space(s)
        filler = disk / "filler"
        filler.write_bytes(b"x" * (400 << 10))
        n = 0
        kinds = set()
        while not kinds or n < 2000:
            try:
                k[n % 500] = [n, "v" * 200]
                n += 1
                if level == "off" and n % 500 == 0:
                    s.checkpoint()
                if level == "off" and n > 3000:
                    k.put_many({i: "w" * 1000 for i in range(1000)})
                    s.checkpoint()
            except errors.OperationalError as e:
                kinds.add(type(e))
                if type(e) is errors.DurabilityError:
                    n += 1                      # it happened
                if n > 100:
                    break
        assert kinds <= {errors.DurabilityError, errors.RegionFull, errors.OperationalError} and kinds
        expect = dict(k.scan())
        assert len(expect) >= 100
        with pytest.raises(errors.OperationalError, match="checkpoint could not be written.*bytes are free"):
            fill_up = disk / "more"
            with contextlib.suppress(OSError), open(fill_up, "wb") as f:
                while True:
                    f.write(b"x" * 4096)
                    f.flush()
            s.checkpoint()
        assert not [m for m in os.listdir(disk) if m.endswith(".tmp")]
        fill_up.unlink()
        filler.unlink()
        if level == "off":
            k.clear()
            k.put_many(expect := {i: i for i in range(10)})
        s.checkpoint()
        k["after"] = 1
        s.close()
        s = reopen(path)
        assert dict(space(s).scan()) == {**expect, "after": 1}
        s.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
