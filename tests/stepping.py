"""Single-stepping the real engine: every image of a region that a crash could leave is read as it is, recovered, checked, gone on with.

The commit runs in a forked child; step.c (compiled here) steps it. An image is put under another name (directory, region file, slots file)
and attached: its lock and slots belong to a process that is dead there, because nobody holds that file's bytes.
"""
import ctypes
import mmap
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import counters

HOT, DESC = 4096, 8192
U64 = struct.Struct("<Q")
SEEN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_long, ctypes.c_int)


def build():
    """The stepping loop as a library, compiled once a run."""
    if build.library is None:
        directory = tempfile.mkdtemp()
        try:
            compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
            path = Path(directory, "step.so")
            subprocess.run([*compiler, "-O2", "-shared", "-fPIC", "-o", path, Path(__file__).with_name("step.c")], check=True, timeout=100)
            build.library = ctypes.CDLL(str(path), use_errno=True)
            build.library.step_child.restype = ctypes.c_long
        finally:
            shutil.rmtree(directory)
    return build.library


build.library = None


def dump(store, trees, txn=None):
    """{tree: [(key, value), ...]} at the newest commit, or None for a tree that is not there; read by cursor and by get."""
    from memora import errors
    from memora.engine.cursor import Cursor
    own = txn is None
    txn = txn or store.begin(read_only=True)
    found = {}
    for tree in trees:
        try:
            cursor = Cursor(txn, tree)
            rows = []
            more = cursor.first()
            while more:
                rows.append((cursor.key, cursor.value))
                more = cursor.next()
        except errors.OperationalError as e:
            if "dropped" not in str(e):
                raise
            rows = None
        else:
            for k, v in rows:
                assert txn.get(tree, k) == v
        found[tree] = rows
    if own:
        txn.rollback()
    return txn.snapshot, found


class Stepper:
    """Steps one commit of a child and judges the images. `bad` collects what was wrong, as text.

    trees: what dump() reads. models: {commit number: what dump() must find there}; filled by the caller before run().
    An image that differs only in bodies of pages is judged every `body_every` times. After recovery, each `go_on_every`th commits once more.
    """

    def __init__(self, store, sizes, trees, models, body_every=8, go_on_every=4, stop_at=10):
        from memora.engine import superblock
        self.trees, self.models = trees, models
        self.name = store.region.name
        self.geometry = superblock.geometry(sizes["max_bytes"], sizes["ring_bytes"], sizes["slots"], sizes["snaps"])
        self.frames = sizes["initial_bytes"] // 4096        # units below are frames; those above are compared whole
        self.base = tempfile.mkdtemp(dir="/dev/shm", prefix="memora-step-")
        self.user = Path(self.base, f"memora-{os.getuid()}")
        Path(self.user, "copy").mkdir(parents=True, mode=0o700)
        self.region_path = Path(store.region.directory, "region")
        self.slots_path = Path(store.region.directory, "slots")
        self.size = self.geometry["map_bytes"]
        self.body_every, self.go_on_every, self.stop_at = body_every, go_on_every, stop_at
        self.bodies = 0
        self.seen = set()
        self.images = self.steps = 0
        self.states = set()             # (descriptor sealed, commit number) of the images
        self.bad = []
        self.last = ctypes.create_string_buffer(self.size)

    def close(self):
        shutil.rmtree(self.base)

    def run(self, spawn, work):
        """work(store) returns a function that makes one commit; that function is stepped. False: this system forbids tracing."""
        library = build()

        def traced(out):
            from memora.engine.store import Store
            store = Store.open("shm:" + self.name, create=False)
            commit = work(store)
            libc = ctypes.CDLL(None)
            if libc.ptrace(0, 0, 0, 0):         # PTRACE_TRACEME
                os._exit(77)
            stop, me, kill = signal.SIGSTOP, os.getpid(), os.kill
            kill(me, stop)
            commit()
            kill(me, stop)
        child = spawn(traced)
        _, status = os.waitpid(child.pid, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 77:
            child.status = status
            return False
        assert os.WIFSTOPPED(status), f"the child ended with status {status} before its commit"
        with open(self.region_path, "r+b") as f:
            shared = mmap.mmap(f.fileno(), self.size)
        first = ctypes.c_char.from_buffer(shared)
        try:
            ctypes.memmove(self.last, ctypes.addressof(first), self.size)
            data = self.geometry["off_data"]
            whole = (ctypes.c_uint8 * ((self.size - data) // 4096))(*[u >= self.frames for u in range((self.size - data) // 4096)])
            ended = ctypes.c_int()
            steps = library.step_child(
                child.pid, ctypes.c_void_p(ctypes.addressof(first)), self.last, ctypes.c_size_t(self.size),
                ctypes.c_size_t(self.geometry["off_pt"]), ctypes.c_size_t(data), whole,
                SEEN(self.image), ctypes.byref(ended))
        finally:
            del first
            shared.close()
        assert steps >= 0, f"the traced child ended with status {ended.value}"
        self.steps += steps
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        return True

    def image(self, step, body_only):
        """Called by the stepping loop: self.last holds a new image. Nonzero: stop."""
        try:
            if body_only:
                self.bodies += 1
                if self.bodies % self.body_every:
                    return 0
            image = self.last.raw
            fingerprint = hash(image)
            if fingerprint in self.seen:
                return 0
            self.seen.add(fingerprint)
            self.images += 1
            counters.count("crash images")
            self.judge(step, image, self.slots_path.read_bytes())
        except BaseException as e:
            self.bad.append(f"step {step}: {type(e).__name__}: {e}")
        return len(self.bad) >= self.stop_at

    def judge(self, step, image, slots):
        from memora.engine.store import Store
        commit, = U64.unpack_from(image, HOT)
        sealed, = U64.unpack_from(image, DESC)
        self.states.add((sealed != 0, commit))
        for name, content in (("region", image), ("slots", slots)):
            with open(Path(self.user, "copy", name), "wb") as f:
                f.write(content)
        store = Store.open("shm:copy", region_dir=self.base, create=False)
        try:
            self.expect(step, "not recovered", store, (commit,))
            broken = store.check()              # takes the lock over and rolls forward
            if broken:
                self.bad.append(f"step {step}: recovered: {broken}")
            self.expect(step, "recovered", store, (sealed or commit,))
            if self.images % self.go_on_every == 0:
                txn = store.begin()
                tree = next(t for t in self.trees if t in self.models[sealed or commit] and self.models[sealed or commit][t] is not None)
                txn.put(tree, b"\0 goes on", b"x" * 2000)
                txn.commit()
                broken = store.check()
                if broken:
                    self.bad.append(f"step {step}: after one more commit: {broken}")
                _, found = dump(store, [tree])
                wanted = sorted(dict(self.models[sealed or commit][tree], **{}).items() | {(b"\0 goes on", b"x" * 2000)})
                if found[tree] != wanted:
                    self.bad.append(f"step {step}: one more commit changed other rows")
        finally:
            store.close()

    def expect(self, step, what, store, commits):
        commit, found = dump(store, self.trees)
        if commit not in commits or found != self.models.get(commit):
            self.bad.append(f"step {step}: {what}: commit {commit} (expected {commits}) shows " + difference(found, self.models.get(commit)))


def difference(found, wanted):
    if wanted is None:
        return "a commit that never was"
    for tree in wanted:
        if found[tree] != wanted[tree]:
            a, b = dict(found[tree] or ()), dict(wanted[tree] or ())
            keys = [k for k in {*a, *b} if a.get(k) != b.get(k)]
            return f"tree {tree}: {len(keys)} keys differ, as {sorted(keys)[:3]}"
    return "what it should"
