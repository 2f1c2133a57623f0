"""What holds for the whole run: counters at the end, a watchdog per test, nothing of ours left in /dev/shm."""
import ctypes
import faulthandler
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import counters
import pytest

ALL = os.environ.get("MEMORA_TEST_ALL") == "1"
WATCHDOG_S = 120
TIDY_S = float(os.environ.get("MEMORA_TEST_TIDY_S", 2))        # how long others may take to remove what is left in /dev/shm
SHM = Path("/dev/shm")

_stderr = None          # the real one; a test's own is captured, and lost when the watchdog ends the run
_before = set()
_left = []


def pytest_configure(config):
    global _stderr
    _stderr = os.dup(2)
    config.addinivalue_line("markers", "long: runs with `tools/test --all` only")
    config.addinivalue_line("markers", "everywhere: runs on a region of each kind: shm:, sysv:, :memory:, and on another tmpfs")
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
        # os.walk passes over a directory that another run has just removed
        for path in (top, *(Path(folder, name) for folder, folders, files in os.walk(top) for name in (*folders, *files))):
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
    deadline = time.monotonic() + TIDY_S
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


# ---------------------------------------------------------------- regions and processes

_numbers = itertools.count()


class Child:
    """A forked process that runs work(*args); it ends with this one, and its stdout pipe is `self.out`."""

    def __init__(self, work, args):
        read, write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)      # PR_SET_PDEATHSIG
                os.close(read)
                work(*args, out=write)
                code = 0
            except BaseException:
                os.write(_stderr, traceback.format_exc().encode())
            finally:
                os._exit(code)
        os.close(write)
        self.out = os.fdopen(read, "rb")
        self.status = None

    def wait(self):
        """Its wait status: 0, an exit code << 8, or the signal that ended it."""
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
        return self.status

    def kill(self, number=signal.SIGKILL):
        """Send a signal; SIGKILL is waited for and counted."""
        if self.status is None:
            os.kill(self.pid, number)
            if number == signal.SIGKILL:
                self.wait()
                counters.count("kills")

    def state(self):
        """One letter, as /proc says it: R, S, T (stopped), Z, ..."""
        with open(f"/proc/{self.pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0]

    def wait_going_on(self):
        """Its wait status, after SIGCONT as often as it stops."""
        while self.status is None:
            os.kill(self.pid, signal.SIGCONT)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
            else:
                time.sleep(0.001)
        return self.status

    def wait_stopped(self):
        while self.state() != "T":
            if self.state() == "Z":
                raise AssertionError(f"process {self.pid} ended with status {self.wait()} before it stopped")
            time.sleep(0.0005)


@pytest.fixture
def spawn():
    """spawn(work, *args) -> Child running work(*args, out=descriptor of its pipe). None outlives the test."""
    made = []

    def spawn(work, *args):
        made.append(Child(work, args))
        return made[-1]
    yield spawn
    for child in made:
        if child.status is None:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        child.out.close()


PLACES = ("shm", "sysv", "memory", "other")


def pytest_generate_tests(metafunc):
    if metafunc.definition.get_closest_marker("everywhere"):
        metafunc.parametrize("place", PLACES, indirect=True)


@pytest.fixture
def place(request):
    """Where `stores` makes its regions: /dev/shm, unless the test is marked `everywhere`."""
    return getattr(request, "param", "shm")


@pytest.fixture(scope="session")
def tmpfs():
    """tmpfs(bytes) -> the directory of a tmpfs of that size. Skips where nobody may mount one: nothing else has a size of its own."""
    mounted = []

    def tmpfs(size):
        where = tempfile.mkdtemp(prefix="memora-tmpfs-")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", where], capture_output=True, text=True)
        if done.returncode:
            os.rmdir(where)
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
        mounted.append(where)
        return where
    yield tmpfs
    for where in mounted:
        subprocess.run(["umount", where], check=True)
        os.rmdir(where)


@pytest.fixture(scope="session")
def another_tmpfs(tmpfs):
    return tmpfs(1 << 30)


@pytest.fixture
def stores(request, place):
    """stores(**sizes) -> a Store on a new region; stores.again(store) attaches once more. All are checked at the end."""
    from memora.engine import places
    from memora.engine.store import Store
    made = []
    kind = "sysv" if place == "sysv" else "shm"
    region_dir = request.getfixturevalue("another_tmpfs") if place == "other" else None
    creator = os.getpid()

    def stores(**sizes):
        sizes = {"max_bytes": 64 << 20, "ring_bytes": 256 << 10, "slots": 64, "snaps": 256, **sizes}
        name = ":memory:" if place == "memory" else f"{kind}:test-{os.getpid()}-{next(_numbers)}"
        made.append(Store.open(name, region_dir=region_dir, **sizes))
        return made[-1]

    def again(store):
        if place == "memory":
            assert os.getpid() != creator, "a region without a name is shared with forked children only"
            return store
        return Store.open(f"{kind}:{store.region.name}", region_dir=region_dir, create=False)
    stores.again = again
    try:
        yield stores
        for store in made:
            if not store.closed:
                assert store.check() == []
    finally:
        for store in made:
            store.close()
            if store.region.name in places.names(region_dir, kind):
                places.remove(store.region.name, region_dir, kind)


@pytest.fixture
def store(stores):
    """A store on a region of its own; the checker runs over it after the test."""
    return stores()
