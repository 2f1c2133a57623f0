"""fork() while another thread is in the middle of something of ours: an import, a lock."""
import ast
import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import memora
from memora import forks

ROOT = Path(__file__).parent.parent

# One thread imports what SQL needs, another forks after a while; the child needs the same modules.
RACE = """
import os, signal, sys, threading, time
import memora
delay = float(sys.argv[1])
started = threading.Event()
def work():
    started.set()
    with memora.open(":memory:") as db:
        assert list(db.execute("SELECT 1")) == [(1,)]
thread = threading.Thread(target=work)
thread.start()
started.wait()
time.sleep(delay)
pid = os.fork()
if pid == 0:
    signal.alarm(20)            # the default action ends a child that hangs
    with memora.open(":memory:") as db:
        assert list(db.execute("SELECT 2")) == [(2,)]
    os._exit(0)
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 6, 10, 15, 25, 40])
def test_fork_while_another_thread_imports(milliseconds):
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", RACE, str(milliseconds / 1000)], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")


def imported_late():
    """Modules of Memora that its code imports inside of functions."""
    found = set(memora._LAZY.values())
    for path in ROOT.glob("memora/**/*.py"):
        package = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        package = package.removesuffix(".__init__") if path.name == "__init__.py" else package.rpartition(".")[0]
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom):
                    name = importlib.util.resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
                    found |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
                elif isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
    for path in ROOT.glob("memora/**/*.pyx"):
        for name in re.findall(r"^ +(?:from (memora[\w.]*) import|import (memora[\w.]*))", path.read_text(), re.MULTILINE):
            found |= set(name) - {""}
    return {name for name in found if name.startswith("memora")}


def test_everything_that_is_imported_late_is_known_to_forks():
    known = subprocess.run(
        [sys.executable, "-c", "import sys; from memora import forks; import importlib; [importlib.import_module(n) for n in forks.LATE];"
                               "print(*(n for n in sys.modules if n.startswith('memora')))"],
        capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout.split()
    of_programs = {"memora.shell", "memora.demo", "memora._version", "memora.aio"}        # the shell and the demonstration do not fork
    missing = set()
    for name in imported_late() - set(known) - of_programs:
        try:
            missing |= {name} if importlib.util.find_spec(name) else set()
        except ModuleNotFoundError:     # a name in a module
            continue
    assert not missing


def in_child(work):
    """Runs work() in a forked child and waits for it, 20 seconds at most; its exit code."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("kind", ["topic", "changes"])
def test_reader_that_another_thread_waits_in_is_free_in_the_child(kind):
    with memora.open(":memory:") as db:
        topic = db.topic("news")
        reader = topic.subscribe() if kind == "topic" else db.changes()
        got = []
        thread = threading.Thread(target=lambda: got.append(reader.get()))
        thread.start()
        while not reader._lock.locked():
            time.sleep(0.001)

        def child():
            assert reader.get(0) is None
        assert in_child(child) == 0
        topic.publish(1)
        thread.join()
        assert len(got) == 1


def test_locks_are_forgotten_with_their_owners():
    before = len(forks._locks)
    lock = forks.Lock()
    assert len(forks._locks) == before + 1
    with lock:
        assert in_child(lambda: lock.acquire(timeout=5) or 1 / 0) == 0
    del lock
    assert len(forks._locks) == before
