"""The demo, as users run it: python -m memora demo, on a part of Unicode."""
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import memora
from memora.demo import characters, stage

WATCHDOG_S = 120


def start(tmp_path, *arguments):
    """The demo in a process group of its own, with its temporary directory under tmp_path."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, "-m", "memora", "demo", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, env=environment)


def ended(process):
    """(exit code, output, errors) once it has ended."""
    try:
        output, errors = process.communicate(timeout=WATCHDOG_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, output, errors


def roles_of(tmp_path):
    """Processes whose command line names a file under tmp_path."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(tmp_path).encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            pass        # it has ended meanwhile
    return found


def region_of(tmp_path):
    """Where the region of the demo's database lies, while its lock file is there."""
    lock = next(tmp_path.rglob("unicode.db-lock"))
    return Path(f"/dev/shm/memora-{os.getuid()}", f"db-{lock.stat().st_dev:x}-{lock.stat().st_ino:x}")


def wait_until(true):
    deadline = time.monotonic() + WATCHDOG_S
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def until_rows_are_followed(process):
    for line in process.stdout:
        if re.search(r"\] +[1-9][0-9,]* followed", line):
            return
    raise AssertionError(process.stderr.read())


def test_demo_shows_that_all_agree_and_keeps_the_file(tmp_path):
    code, output, errors = ended(start(tmp_path, "--stop", "20000", "--directory", str(tmp_path / "kept")))
    assert (code, errors) == (0, ""), output
    n = sum(characters.count_by_category(20000).values())
    assert re.search(rf"loader +{n:,} rows and as many keys.* was killed", output)
    assert re.search(rf"follower +{n:,} rows from the change feed", output)
    assert re.search(r"querier +[1-9]", output) and re.search(r"server +[1-9]", output)
    assert "Follower, GROUP BY and unicodedata agree" in output and "the checker finds nothing" in output
    assert not region_of(tmp_path).exists() and roles_of(tmp_path) == []
    with memora.open(tmp_path / "kept" / "unicode.db", create=False) as db:
        assert db.execute("SELECT count(*), max(code) FROM chars").fetchone() == (n, max(c.code for c in characters.named(19000, 20000)))
        assert db.kv("names")["LATIN SMALL LETTER A"] == ord("a")


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 130, marks=pytest.mark.long)])
def test_demo_interrupted_leaves_nothing(tmp_path, number, code):
    process = start(tmp_path)
    until_rows_are_followed(process)
    region = region_of(tmp_path)
    assert region.exists() and len(roles_of(tmp_path)) >= 3
    os.killpg(process.pid, number)
    found, output, errors = ended(process)
    assert found == code and "interrupted" in output and "Traceback" not in errors
    assert roles_of(tmp_path) == [] and list(tmp_path.iterdir()) == [] and not region.exists()


def test_roles_end_with_a_stage_that_was_killed(tmp_path):
    process = start(tmp_path)
    until_rows_are_followed(process)
    region = region_of(tmp_path)
    process.kill()
    ended(process)
    wait_until(lambda: not roles_of(tmp_path))
    assert not region.exists()


def test_demo_fails_if_the_loader_had_finished_before_the_kill(tmp_path):
    code, _, errors = ended(start(tmp_path, "--stop", "200"))       # all of it is one commit
    assert code == 1 and "the loader had finished before the follower had seen half" in errors
    assert roles_of(tmp_path) == [] and list(tmp_path.iterdir()) == []


def test_wrong_totals_are_named():
    with memora.open(":memory:") as db:
        db.execute(stage.SCHEMA[0])
        for character in characters.named(65, 70):
            db.execute("INSERT INTO chars VALUES (?, ?, ?, ?, ?)", character)
        db.kv("progress")["follower"] = {"totals": {"Lu": 5, "Ll": 0}}
        stage.compare(db, {"Lu": 5})
        with pytest.raises(stage.Failed, match=r"follower.*'Lu': \(5, 6\)"):
            stage.compare(db, {"Lu": 6})
        db.execute("DELETE FROM chars WHERE code = 65")
        with pytest.raises(stage.Failed, match=r"GROUP BY.*'Lu': \(4, 5\)"):
            stage.compare(db, {"Lu": 5})


def test_silent_readers_are_named():
    stage.check_readers({"querier": {"meanwhile": 1}, "server": {"answered": 1}})
    with pytest.raises(stage.Failed, match="querier"):
        stage.check_readers({"querier": {"meanwhile": 0, "groups": 9}, "server": {"answered": 1}})
    with pytest.raises(stage.Failed, match="server"):
        stage.check_readers({"querier": {"meanwhile": 1}})
