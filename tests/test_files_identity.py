"""Which files are one database: copies, links, replaced and removed files, and what cannot be opened."""
import contextlib
import errno
import os
import shutil
import tempfile
import time

import pytest
from files_children import killed, ledger, ledger_state, region_name, space
from files_shared import image, last_of, reopen, segments, torn, nothing_left, path  # noqa: F401  (also fixtures)

from memora import errors
from memora.engine.recovery import SEGMENT_HEAD


@pytest.mark.parametrize("with_lock", (False, True))
def test_a_copy_is_a_database_of_its_own(path, tmp_path, with_lock):
    s = reopen(path, durability="full")
    ledger(s, lambda what: None, 1, 25)
    copy = image(path, str(tmp_path / "elsewhere"))
    if with_lock:
        shutil.copy(path + "-lock", copy + "-lock")
    c = reopen(copy)
    assert c.region.uuid != s.region.uuid and region_name(copy) != region_name(path)
    assert ledger_state(c) == 25
    ledger(c, lambda what: None, 26, 5)
    ledger(s, lambda what: None, 26, 10)
    assert (ledger_state(c), ledger_state(s)) == (30, 35)
    s.checkpoint()
    c.close()
    s.close()
    assert (last_of(copy), last_of(path)) == (30, 35)


def test_a_symbolic_link_is_the_same_database_and_a_hard_link_is_a_copy(path, tmp_path):
    os.makedirs(tmp_path / "links")
    s = reopen(path)
    space(s)["x"] = 1
    os.symlink(path, tmp_path / "links" / "soft.db")
    os.symlink(tmp_path / "links", tmp_path / "folder")
    for name in (tmp_path / "links" / "soft.db", tmp_path / "folder" / "soft.db"):
        other = reopen(name)
        assert other.path == os.path.realpath(path) and other.region.uuid == s.region.uuid
        space(other)["x"] += 1
        other.close()
    assert space(s)["x"] == 3
    s.checkpoint()
    os.link(path, tmp_path / "links" / "hard.db")
    hard = reopen(tmp_path / "links" / "hard.db")
    assert hard.region.uuid != s.region.uuid and space(hard)["x"] == 3
    space(hard)["x"] = 100
    hard.close()
    assert space(s)["x"] == 3
    s.close()
    s = reopen(path)
    assert space(s)["x"] == 3
    s.close()
    assert not os.path.exists(tmp_path / "links" / "soft.db-lock")


def test_what_cannot_be_opened(path, tmp_path):
    def refused(name, kind, text, **options):
        with pytest.raises(kind) as e:
            reopen(name, **options)
        assert str(name) in str(e.value) and text in str(e.value)
        return e.value
    refused(tmp_path / "nowhere" / "app.db", errors.OperationalError, "no directory")
    refused(tmp_path, errors.OperationalError, "is a directory")
    refused(tmp_path / "none.db", errors.OperationalError, "does not exist", create=False)
    with pytest.raises(ValueError, match="durability"):
        reopen(path, durability="extra")
    foreign = tmp_path / "foreign.db"
    for content in (b"SQLite format 3\0" * 64, b"x", b"\0" * 5000, os.urandom(300)):
        foreign.write_bytes(content)
        refused(foreign, errors.RegionError, "no Memora database")
        assert foreign.read_bytes() == content and not os.path.exists(f"{foreign}-lock") and not os.path.exists(f"{foreign}-wal")
    (tmp_path / "occupied.db-wal").write_bytes(b"a file")
    refused(tmp_path / "occupied.db", errors.OperationalError, "File exists")
    (tmp_path / "empty.db").write_bytes(b"")
    s = reopen(tmp_path / "empty.db")
    space(s)["x"] = 1
    s.close()
    s = reopen(tmp_path / "empty.db")
    assert space(s)["x"] == 1
    s.close()


def test_a_newer_log_is_refused(path):
    segment = torn(path, 3)
    with open(segment, "r+b") as f:
        head = bytearray(f.read(SEGMENT_HEAD))
        head[8:12] = (7).to_bytes(4, "little")
        from memora.engine.checkpoint import crc32c
        head[48:52] = crc32c(bytes(head[:48])).to_bytes(4, "little")
        f.seek(0)
        f.write(head)
    with pytest.raises(errors.RegionError, match="log format 7"):
        reopen(path)


def test_a_read_only_directory(tmp_path):
    """As a user without rights: a typed error, and nothing is made."""
    folder = tmp_path / "locked"
    folder.mkdir()
    os.chmod(tmp_path, 0o755)
    os.chmod(folder, 0o555)

    def work(say):
        if os.getuid() == 0:
            for parent in list(folder.parents)[:3]:
                if os.stat(parent).st_uid == 0 and str(parent).startswith(tempfile.gettempdir() + "/"):
                    os.chmod(parent, 0o755)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            reopen(folder / "app.db")
        except errors.OperationalError as e:
            say((type(e).__name__, str(e)))
    ((kind, text),) = killed(work)
    assert kind == "CannotOpen" and str(folder / "app.db") in text and os.strerror(errno.EACCES) in text
    assert os.listdir(folder) == []


@pytest.mark.parametrize("what", ("lock removed", "lock replaced", "lock overwritten", "database replaced", "database older", "all removed"))
@pytest.mark.parametrize("level", ("normal", "full"))
def test_files_replaced_under_a_running_process(path, tmp_path, what, level):
    """Nothing more is written to them, and the process is told."""
    other = str(tmp_path / "other.db")
    o = reopen(other)
    space(o)["other"] = 1
    o.close()
    s = reopen(path, durability=level)
    k = space(s)
    k["x"] = 1
    s.checkpoint()
    old = str(tmp_path / "old")
    shutil.copy(path, old)
    k["y"] = 2
    s.checkpoint()
    if what == "lock removed":
        os.unlink(path + "-lock")
    elif what == "lock replaced":
        os.replace(other + "-lock", path + "-lock")
    elif what == "lock overwritten":
        shutil.copy(other + "-lock", path + "-lock")
    elif what == "database replaced":
        os.replace(other, path)
    elif what == "database older":
        os.replace(old, path)
    else:
        for n in (path, path + "-lock"):
            os.unlink(n)
        shutil.rmtree(path + "-wal")
        os.mkdir(path + "-wal")
    before = os.path.exists(path) and open(path, "rb").read()
    if level == "full":
        with pytest.raises(errors.FileReplaced):
            k["z"] = 3
    else:
        k["z"] = 3
        with pytest.raises(errors.FileReplaced):
            s.flush()
    with pytest.raises(errors.FileReplaced):
        s.checkpoint()
    deadline = time.monotonic() + 30
    with pytest.raises(errors.FileReplaced, match="memory only|nothing more is written"):
        while time.monotonic() < deadline:          # normal: as soon as the flusher has noticed
            k["w"] = 4
            time.sleep(0.02)
    assert k["z"] == 3
    with contextlib.suppress(errors.FileReplaced):
        s.close()
    assert s.closed
    assert (os.path.exists(path) and open(path, "rb").read()) == before


def test_the_lock_file_emptied_under_a_running_process(path):
    s = reopen(path)
    space(s)["x"] = 1
    os.truncate(path + "-lock", 0)
    with pytest.raises(errors.RegionElsewhere, match="emptied or overwritten"):
        reopen(path)
    assert space(s)["x"] == 1
    s.close()


def test_a_damaged_lock_file(path):
    reopen(path).close()
    with open(path + "-lock", "r+b") as f:
        f.seek(20)
        f.write(b"\xff\xfe")
    with pytest.raises(errors.CorruptionError, match="app.db-lock.*checksum"):
        reopen(path)
    os.unlink(path + "-lock")
    reopen(path).close()


def test_a_live_region_elsewhere(path, tmp_path):
    there = str(tmp_path / "shm")
    os.mkdir(there)

    def work(say):
        ledger(reopen(path, durability="full", region_dir=there), say, 1, 12)
    killed(work)                                    # not held by anybody, but not clean, and not here
    with pytest.raises(errors.RegionElsewhere, match="recover=True"):
        reopen(path)
    assert last_of(path, region_dir=there) == 12    # a clean close ends the tie
    s = reopen(path)
    ledger(s, lambda what: None, 13, 3)
    with pytest.raises(errors.RegionElsewhere):
        reopen(path, region_dir=there)
    s.flush()
    r = reopen(path, region_dir=there, recover=True)
    assert ledger_state(r) == 15
    ledger(s, lambda what: None, 16, 2)             # the old life goes on for itself, and may not write
    with pytest.raises(errors.FileReplaced):
        s.flush()
    with pytest.raises(errors.FileReplaced):
        s.checkpoint()
    ledger(r, lambda what: None, 16, 5)
    s.close()
    r.close()
    assert last_of(path) == 20


def test_log_of_a_life_that_was_given_up_is_not_read(path, tmp_path):
    """A process of a life that recover=True ended wrote its tail afterwards: it is not mixed into the new life."""
    there = str(tmp_path / "shm")
    os.mkdir(there)
    s = reopen(path, durability="normal", region_dir=there)
    ledger(s, lambda what: None, 1, 5)
    s.flush()
    name = segments(path)[0]
    r = reopen(path, recover=True, durability="full")
    ledger(s, lambda what: None, 6, 30)
    with pytest.raises(errors.FileReplaced):
        s.flush()
    assert not os.path.exists(name) or os.path.getsize(name) > 64
    ledger(r, lambda what: None, 6, 2)
    assert last_of(image(path, path + ".copy")) == 7
    s.close()
    r.close()
    assert last_of(path) == 7
