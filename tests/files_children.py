"""Children of the file tests: processes that work on a database and end in every way. Used by test_files*.py."""
import contextlib
import os
import pickle
import random
import select
import signal
import struct
import sys
import time
import traceback

import counters
from memora import errors
from memora.engine import places as regions
from memora.engine.feed import TopicReader, topic_publish
from memora.engine.files import open_file
from memora.kv import KeySpace

SMALL = {"max_bytes": 32 << 20, "ring_bytes": 64 << 10}
KEYS = 40               # keys that the ledger goes round


def space(store, name="k"):
    return KeySpace(store, name, store.space(name, "kv", lambda t: {"tree": t.create_tree()}))


def topic(store, name="t", size=4096):
    return store.space(name, "topic", lambda t: {"tree": t.create_topic(size)})["tree"]


def messages(store, tree):
    """(number, payload) of what a topic keeps."""
    reader, found = TopicReader(store.region, tree, 0), []
    while reader.ready():
        with contextlib.suppress(errors.Lagged):
            seq, _, _, payload = reader.read(1)
            found.append((seq, payload))
    return found


def region_name(path):
    st = os.stat(os.path.realpath(path) + "-lock")
    return f"db-{st.st_dev:x}-{st.st_ino:x}"


def lose_region(path):
    """What a reboot does to a region."""
    regions.remove(region_name(path))


class Child:
    """A forked process that runs work(say), where say(object) sends something to the parent. It ends by SIGKILL of itself, unless
    work returns "exit": then as an interpreter does."""

    def __init__(self, work, *arguments):
        self.read_end, write_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.read_end)

            def say(what):
                data = pickle.dumps(what)
                os.write(write_end, struct.pack("<I", len(data)) + data)
            try:
                how = work(say, *arguments)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(3)
            if how == "exit":
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        os.close(write_end)
        self.buffer = b""
        self.status = None

    def _fill(self, timeout_s):
        if not select.select([self.read_end], [], [], timeout_s)[0]:
            return False
        data = os.read(self.read_end, 1 << 16)
        self.buffer += data
        return bool(data)

    def hear(self, timeout_s=60):
        """The next thing said; EOFError when the child has ended."""
        while True:
            if len(self.buffer) >= 4:
                n, = struct.unpack_from("<I", self.buffer)
                if len(self.buffer) >= 4 + n:
                    data, self.buffer = self.buffer[4:4 + n], self.buffer[4 + n:]
                    return pickle.loads(data)
            if not self._fill(timeout_s):
                raise EOFError

    def all(self):
        """Everything said until the end."""
        said = []
        with contextlib.suppress(EOFError):
            while True:
                said.append(self.hear())
        return said

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def end(self, expect=-signal.SIGKILL):
        """Wait for the end, and close the pipe."""
        if self.status is None:
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
            if self.status == -signal.SIGKILL:
                counters.count("kills")
        with contextlib.suppress(OSError):
            os.close(self.read_end)
        assert self.status == expect, f"the child ended with {self.status}"


def killed(work, *arguments):
    """Run work(say) in a child that kills itself at the end; what it said."""
    child = Child(work, *arguments)
    said = child.all()
    child.end()
    return said


# ---------------------------------------------------------------------------------------------- the ledger

# Commit i of a ledger sets key i % KEYS to (i, ballast) and "last" to i, in one transaction. So the state after i is known.

def ballast(i):
    return "x" * (i * 7919 % 300)


def ledger(store, say, first, count=10**9, durable=False):
    """Commits first, first + 1, ...; says each number after its commit, and (rarely) how far is synced."""
    k = space(store)
    for i in range(first, first + count):
        with_transaction(store, k, i)
        say(("done", i))
        if durable and i % 16 == 0:
            d = store.durable()
            say(("synced", i - (d["newest"] - d["synced"])))


def with_transaction(store, k, i):
    def work(txn):
        bound = k.bound(txn)
        bound.put(i % KEYS, [i, ballast(i)])
        bound.put("last", i)
    store.run(work)


def ledger_state(store):
    """The number of the last commit of a ledger; the state is asserted to be exactly the one after it."""
    k = space(store)
    found = dict(k.scan())
    last = found.pop("last", 0)
    expect = {i % KEYS: [i, ballast(i)] for i in range(max(1, last - KEYS + 1), last + 1)}
    assert found == expect
    assert store.check() == []
    return last


def random_life(say, path, durability, seed):
    """A ledger that goes on from where it stands, with checkpoints in between, until somebody kills it."""
    rng = random.Random(seed)
    store = open_file(path, durability=durability, **SMALL)
    k = space(store)
    say(("open", k.get("last", 0)))
    i = k.get("last", 0)
    while True:
        i += 1
        with_transaction(store, k, i)
        say(("done", i))
        if rng.random() < 0.1:
            d = store.durable()
            say(("synced", i - (d["newest"] - d["synced"])))
        if rng.random() < 0.01:
            store.checkpoint()
            say(("synced", i))
        if rng.random() < 0.02:
            store.flush()
            say(("synced", i))
        if rng.random() < 0.3:
            time.sleep(rng.random() * 0.002)
