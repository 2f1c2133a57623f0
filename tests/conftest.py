"""What holds for the whole run: counters at the end, a watchdog per test, nothing of ours left in /dev/shm."""
import faulthandler
import os
import time
from pathlib import Path

import counters
import pytest

ALL = os.environ.get("MEMORA_TEST_ALL") == "1"
WATCHDOG_S = 120
SHM = Path("/dev/shm")

_stderr = None          # the real one; a test's own is captured, and lost when the watchdog ends the run
_before = set()
_left = []


def pytest_configure(config):
    global _stderr
    _stderr = os.dup(2)
    config.addinivalue_line("markers", "long: runs with `tools/test --all` only")
    config.addinivalue_line("markers", f"watchdog(seconds): the run ends if the test takes longer (default {WATCHDOG_S})")


def pytest_collection_modifyitems(config, items):
    long = [] if ALL else [item for item in items if item.get_closest_marker("long")]
    if long:
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    marker = item.get_closest_marker("watchdog")
    if not item.config.getoption("usepdb"):
        faulthandler.dump_traceback_later(marker.args[0] if marker else WATCHDOG_S, exit=True, file=_stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _in_shm():
    """Paths below /dev/shm that are ours by name and owner."""
    found = set()
    for top in SHM.glob("*memora*"):
        for path in (top, *top.rglob("*")):
            try:
                if path.lstat().st_uid == os.getuid():
                    found.add(str(path))
            except FileNotFoundError:
                continue                        # another run's, just removed
    return found


def _of_other_sessions(paths):
    """Those that a process outside this run has mapped or open: another run's business."""
    theirs = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == os.getsid(0):
                continue
            held = (process / "maps").read_text() + "".join(f"{os.readlink(fd)}\n" for fd in (process / "fd").iterdir())
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue                            # gone, or not ours to look at
        theirs.update(path for path in paths if path in held)
    return theirs


def pytest_sessionstart():
    _before.update(_in_shm())


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    left = _in_shm() - _before
    deadline = time.monotonic() + 2
    while left and time.monotonic() < deadline:         # another run, or a process that is just ending, gets the time to tidy up
        time.sleep(0.1)
        left &= _in_shm()
    left -= _of_other_sessions(left)
    _left.extend(sorted(left))
    if _left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if _left:
        terminalreporter.section("left in /dev/shm", red=True)
        for path in _left:
            terminalreporter.line(path)
    terminalreporter.section("what was run")
    for line in counters.lines():
        terminalreporter.line(line)
