"""A second process comes: how long until it is attached beside one that is there, after its imports, and until it has read its first key."""
from __future__ import annotations

import os
import statistics
import subprocess
import sys
import uuid
from pathlib import Path

from bench import contest

TITLE = "a second process attaches and reads a key, milliseconds of wall time"
BAR_MS = 5.0
CHILD = """
import sys, time
begun = time.perf_counter()
{imports}
imported = time.perf_counter()
{attach}
attached = time.perf_counter()
{read}
print((imported - begun) * 1e3, (attached - imported) * 1e3, (time.perf_counter() - attached) * 1e3)
"""


class Memora:
    """Its names are loaded at first use: that is import."""

    name = "memora"
    child = CHILD.format(imports="import memora; memora.open; memora.KeySpace", attach="db = memora.open(sys.argv[1]); kv = db.kv('bench')", read="assert kv.get(b'k') == b'v'")

    def __init__(self, directory):
        import memora
        self.address = f"shm:bench-{uuid.uuid4().hex[:12]}"
        self.db = memora.open(self.address)
        self.db.kv("bench").put(b"k", b"v")

    def close(self):
        import memora
        self.db.close()
        memora.remove(self.address)


class Lmdb:
    name = "lmdb"
    child = CHILD.format(imports="import lmdb", attach="env = lmdb.open(sys.argv[1], map_size=4 << 30)",
                         read="with env.begin() as txn: assert txn.get(b'k') == b'v'")

    def __init__(self, directory):
        import lmdb
        self.address = os.path.join(directory, "lmdb")
        self.env = lmdb.open(self.address, map_size=4 << 30)
        with self.env.begin(write=True) as txn:
            txn.put(b"k", b"v")

    def close(self):
        self.env.close()


CONTENDERS = (Memora, Lmdb)


def run(settings, stack, say):
    """Yields lines."""
    yield ["", TITLE]
    contenders = contest.entered(CONTENDERS, stack, say)
    found = {c.name: [] for c in contenders}
    root = Path(__file__).parent.parent
    for r in range(settings.rounds + 1):
        for c in contenders[r % len(contenders):] + contenders[:r % len(contenders)]:
            said = subprocess.run([sys.executable, "-c", c.child, c.address], cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout
            if r:
                found[c.name].append([float(ms) for ms in said.split()])
    for name, rounds in found.items():
        imports, attach, read = [statistics.median(column) for column in zip(*rounds)]
        line = f"  attach        {name:<14}{len(rounds):>9} ops   {attach:>9.3f} ms   first read {read:.3f} ms   import {imports:.1f} ms"
        if name == "memora":
            line += f" (to reach {BAR_MS}: {'reached' if attach <= BAR_MS else 'missed'})"
        yield [line]
