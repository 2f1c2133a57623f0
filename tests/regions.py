"""What the tests of the faces share: a database that is checked at the end, and children that are real processes."""
import contextlib
import os
import secrets
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import memora

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60


@pytest.fixture
def shm():
    """The name of a shared region that does not exist yet; afterwards it is checked and removed."""
    name = f"shm:test-{os.getpid()}-{secrets.token_hex(4)}"
    yield name
    with contextlib.suppress(memora.RegionError):
        with memora.open(name, create=False) as db:
            broken = db.check()
        memora.remove(name)
        assert broken == []


@pytest.fixture
def db(shm):
    """An open database in shared memory, checked at the end."""
    with memora.open(shm, max_bytes="64MB", ring_bytes="1MB") as database:
        yield database
        if not database.closed:
            assert database.check() == []


class Child:
    """A Python process that runs `code`; `name` in it is the region's. It talks by lines."""

    def __init__(self, code, name):
        source = "import memora, sys, time\nname = sys.argv[1]\ndef say(*what):\n    print(*what, flush=True)\n" + textwrap.dedent(code)
        self.process = subprocess.Popen([sys.executable, "-c", source, name], stdout=subprocess.PIPE, stdin=subprocess.PIPE,
                                        env={**os.environ, "PYTHONPATH": str(ROOT)})

    def line(self):
        """The next line that it says."""
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert ready, "the child says nothing"
        return self.process.stdout.readline().decode().rstrip("\n")

    def tell(self, text=""):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def interrupt(self, after_s=0.3):
        """SIGINT, when it had the time to fall asleep."""
        time.sleep(after_s)
        self.process.send_signal(signal.SIGINT)

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def wait(self):
        """Its exit code, and what it said last."""
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out.decode()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
