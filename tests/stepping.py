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
            build.library.step_child.restype = build.library.step_some.restype = build.library.step_places.restype = ctypes.c_long
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
            try:
                cursor.seek(b"")
            except errors.NotSupportedError:
                rows.sort()                     # a hash index, which has no order
        found[tree] = rows
    if own:
        txn.rollback()
    return txn.snapshot, found


class Stepper:
    """Steps one commit of a child and judges the images. `bad` collects what was wrong, as text.

    trees: what dump() reads. models: {commit number: what dump() must find there}; filled by the caller before run().
    An image that differs only in bodies of pages is judged every `body_every` times. After recovery, each `go_on_every`th commits once more.
    """

    def __init__(self, store, sizes, trees, models, body_every=8, go_on_every=4, stop_at=10, region_dir=None, topic=None):
        from memora.engine import superblock
        self.trees, self.models, self.topic = trees, models, topic
        self.name, self.region_dir = store.region.name, region_dir
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
        self.keep = None                # called with each image and the slots file beside it
        self.last = ctypes.create_string_buffer(self.size)

    def close(self):
        shutil.rmtree(self.base)

    def run(self, spawn, work):
        """work(store) returns a function that makes one commit; that function is stepped. False: this system forbids tracing."""
        library = build()

        def traced(out):
            from memora.engine.store import Store
            store = Store.open("shm:" + self.name, region_dir=self.region_dir, create=False)
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
            slots = self.slots_path.read_bytes()
            self.judge(step, image, slots)
            if self.keep is not None:
                self.keep(image, slots)
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
                rows = self.models[sealed or commit]
                tree = next((t for t in self.trees if t > 1 and rows.get(t) is not None), None) or txn.create_tree()
                txn.put(tree, b"\0 goes on", b"x" * 2000)
                txn.commit()
                broken = store.check()
                if broken:
                    self.bad.append(f"step {step}: after one more commit: {broken}")
                _, found = dump(store, [tree])
                wanted = sorted({*(rows.get(tree) or ()), (b"\0 goes on", b"x" * 2000)})
                if found[tree] != wanted:
                    self.bad.append(f"step {step}: one more commit changed other rows")
        finally:
            store.close()

    def expect(self, step, what, store, commits):
        commit, found = dump(store, self.trees)
        if commit in commits:
            self.models.setdefault(commit, found)
        self.read_rings(step, what, store, commit, found)
        if commit not in commits or found != self.models.get(commit):
            self.bad.append(f"step {step}: {what}: commit {commit} (expected {commits}) shows " + difference(found, self.models.get(commit)))


    def read_rings(self, step, what, store, commit, found):
        """The log and the topic can be read from the oldest kept on, without a hole, and the log's last record tells what is in the trees."""
        from memora import errors
        from memora.engine import feed
        try:
            seen, last, reader = 1, None, feed.Feed(store.region, 1)
            while True:
                try:
                    record = reader.read(0)
                except errors.Lagged as lag:
                    assert seen == 1, lag
                    seen = lag.first_available - 1
                    continue
                if record is None:
                    break
                if record[0] != seen + 1:
                    self.bad.append(f"step {step}: {what}: the feed goes from commit {seen} to {record[0]}")
                seen, _, last = record
            if seen != commit:
                self.bad.append(f"step {step}: {what}: the feed ends at {seen}, the newest commit is {commit}")
            elif last is not None:
                told = {(tree, key): new for tree, op, key, new, _, _ in last if op == feed.PUT}
                wrong = [k for (tree, k), new in told.items() if found.get(tree) is not None and dict(found[tree]).get(k) != new]
                if wrong:
                    self.bad.append(f"step {step}: {what}: the record of commit {commit} differs in {wrong[:3]}")
            if self.topic is not None:
                messages = feed.TopicReader(store.region, self.topic, 0)
                number = messages.position
                while (message := messages.read(0)) is not None:
                    if message[0] != number or message[1] > commit or message[3] != message[3][:1] * len(message[3]):
                        self.bad.append(f"step {step}: {what}: message {message[0]} of commit {message[1]} where {number} was expected, {message[3][:30]}")
                    number += 1
                head = store.control(self.topic)["next"]
                if number not in (head, head - 1):      # one less: sent by a commit that is not published yet
                    self.bad.append(f"step {step}: {what}: messages up to {number} where {head} is the next one")
        except Exception as e:
            self.bad.append(f"step {step}: {what}: reading the rings: {type(e).__name__}: {e}")


class Interrupted:
    """A traced child that reads once each time it is asked, and is interrupted at instructions of the reader's choice.

    read(store) returns a function; what that returns (bytes) is the outcome of one read. permitted: False where tracing is forbidden.
    """

    def __init__(self, spawn, store, read):
        self.library = build()
        name = "shm:" + store.region.name

        def traced(out):
            from memora.engine.store import Store
            once = read(Store.open(name, create=False))
            libc = ctypes.CDLL(None)
            if libc.ptrace(0, 0, 0, 0):         # PTRACE_TRACEME
                os._exit(77)
            stop, me, kill = signal.SIGSTOP, os.getpid(), os.kill
            while True:
                kill(me, stop)
                found = once()
                kill(me, stop)
                os.write(out, len(found).to_bytes(4, "little") + found)
        self.child = spawn(traced)
        _, status = os.waitpid(self.child.pid, 0)
        self.permitted = not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == 77)
        if not self.permitted:
            self.child.status = status
            return
        assert os.WIFSTOPPED(status), f"the child ended with status {status} before it read"
        self.status = ctypes.c_int()

    def steps(self, n):
        """Up to n instructions; fewer if the read is done."""
        done = self.library.step_some(self.child.pid, ctypes.c_long(n), ctypes.byref(self.status))
        assert done >= 0, f"the traced child ended with status {self.status.value}"
        return done

    def ranges(self, modules):
        """Where the code of modules of the engine lies in the child."""
        found = []
        with open(f"/proc/{self.child.pid}/maps") as maps:
            for line in maps:
                words = line.split()
                if len(words) > 5 and "x" in words[1] and any(f"/engine/{m}." in words[5] or f"/memora/{m}." in words[5] for m in modules):
                    found.append(tuple(int(end, 16) for end in words[0].split("-")))
        assert found, modules
        return found

    def into(self, module, k):
        """Steps until a module of the engine is entered, and k instructions further."""
        (lo, hi), = self.ranges([module])
        done = self.library.step_into(self.child.pid, ctypes.c_uint64(lo), ctypes.c_uint64(hi), ctypes.c_long(k), ctypes.byref(self.status))
        assert done == 0, f"{module} was not entered: {done}, status {self.status.value}"

    def inside(self, modules, most=200_000):
        """Steps once through a read; the numbers of the instructions that lie in these modules, and how many there were in all."""
        ranges = self.ranges(modules)
        places = (ctypes.c_uint64 * most)()
        total = self.library.step_places(self.child.pid, places, ctypes.c_long(most), ctypes.byref(self.status))
        assert total > 0, f"the traced child ended with status {self.status.value}"
        return [n + 1 for n in range(min(total, most)) if any(lo <= places[n] < hi for lo, hi in ranges)], total

    @property
    def over(self):
        """The read is done."""
        return os.WSTOPSIG(self.status.value) == signal.SIGSTOP

    def finish(self):
        """Let the read end; its outcome. The next one may be begun."""
        for _ in range(1 + (not self.over)):
            assert self.library.run_on(self.child.pid, ctypes.byref(self.status)) == 0, f"the traced child ended with status {self.status.value}"
        size = int.from_bytes(self.child.out.read(4), "little")
        self.status.value = 0
        return self.child.out.read(size)


def difference(found, wanted):
    if wanted is None:
        return "a commit that never was"
    for tree in wanted:
        if found[tree] != wanted[tree]:
            a, b = dict(found[tree] or ()), dict(wanted[tree] or ())
            keys = [k for k in {*a, *b} if a.get(k) != b.get(k)]
            return f"tree {tree}: {len(keys)} keys differ, as {sorted(keys)[:3]}"
    return "what it should"
