"""YCSB A to F, zipfian 0.99, on one process and on two at once: Memora, py-lmdb, UltraDict, and rocksdict in one process.

    A  half reads, half updates         D  95 % reads of the latest, 5 % inserts
    B  95 % reads, 5 % updates          E  95 % scans of 1 to 100 pairs, 5 % inserts
    C  reads                            F  half reads, half read-modify-writes

Every operation is a transaction of its own, except that lmdb reads and writes back in one write transaction, which is cheaper for it
than two. UltraDict has shared_lock=True, which its manual wants where processes are not forked from each other; it has no order, so no E.

Each contender has a worker process a core, pinned to it, that waits on a pipe between rounds. A worker makes its operations first, then all
workers of a round spin until the same moment. Two processes: wall time, from that moment to the end of the last one. One process: processor
time; its wall time is what two processes are compared with. The rounds of all contenders, with one process and with two, take turns.
"""
from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import os
import random
import statistics
import time
import uuid

from bench import contest

VALUE_BYTES = 100
THETA = 0.99
ITEMS, ZETA = 10_000_000_000, 26.46902820178302      # of YCSB's scrambled zipfian, whatever the number of keys
READ, UPDATE, INSERT, SCAN, CHANGE = range(5)
MIX = {"A": ((READ, 50), (UPDATE, 50)), "B": ((READ, 95), (UPDATE, 5)), "C": ((READ, 100),), "D": ((READ, 95), (INSERT, 5)),
       "E": ((SCAN, 95), (INSERT, 5)), "F": ((READ, 50), (CHANGE, 50))}
LONGEST_SCAN = 100
SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 300.0
TITLE = "YCSB, {n} keys of 16 B with values of 100 B, zipfian 0.99, on tmpfs, nothing synced; k operations a second"
BAR, WANTED, SCALING = 1.5, 2.0, 1.6        # times a rival's rate; two processes against one on B and C


# ---- which keys

def zeta(n: int) -> float:
    return sum(i ** -THETA for i in range(1, n + 1))


class Zipfian:
    """0 .. n-1, the smaller the likelier (Gray and others, as in YCSB)."""

    def __init__(self, rng: random.Random, n: int, total: float):
        self.random, self.n, self.total = rng.random, n, total
        self.alpha = 1 / (1 - THETA)
        self.eta = (1 - (2 / n) ** (1 - THETA)) / (1 - (1 + 0.5 ** THETA) / total)

    def next(self) -> int:
        u = self.random()
        scaled = u * self.total
        if scaled < 1:
            return 0
        if scaled < 1 + 0.5 ** THETA:
            return 1
        return int(self.n * (self.eta * u - self.eta + 1) ** self.alpha)


def scatter(n: int) -> int:
    """64 bits of FNV-1a over the eight bytes of n."""
    found = 0xcbf29ce484222325
    for _ in range(8):
        found = (found ^ (n & 0xff)) * 0x100000001b3 & 0xffffffffffffffff
        n >>= 8
    return found


def key(number: int) -> bytes:
    """16 bytes in no order, as YCSB's keys come with insertorder=hashed."""
    return b"%016x" % scatter(number)


class Operations:
    """What one worker of a contender is asked to do; the same for all contenders."""

    def __init__(self, keys: int, worker: int):
        self.keys, self.worker = keys, worker
        self.mine = 0                   # inserted by this worker
        self.rng = random.Random(20260104 + worker)
        self.zipfian = Zipfian(self.rng, ITEMS, ZETA)
        self.latest = Zipfian(self.rng, keys, zeta(keys))

    def number(self, at: int) -> int:
        """The key that is at this place for this worker: the loaded ones, then its own."""
        return at if at < self.keys else self.keys + 2 * (at - self.keys) + self.worker

    def make(self, workload: str, count: int) -> list[tuple[int, bytes, int]]:
        kinds, weights = zip(*MIX[workload])
        made = []
        for kind in self.rng.choices(kinds, weights, k=count):
            length = 0
            if kind == INSERT:
                number = self.number(self.keys + self.mine)
                self.mine += 1
            elif workload == "D":
                number = self.number(self.keys + self.mine - 1 - self.latest.next())
            else:
                number = scatter(self.zipfian.next()) % self.keys
            if kind == SCAN:
                length = self.rng.randint(1, LONGEST_SCAN)
            made.append((kind, key(number), length))
        return made


# ---- the contenders: made by the parent, joined by each worker

class Memora:
    name, able, processes = "memora", "ABCDEF", 2
    _index = "btree"

    def __init__(self, directory):
        import memora
        self.address = f"shm:bench-{uuid.uuid4().hex[:12]}"
        self.db = memora.open(self.address)
        self.kv = self.db.kv("bench", index=self._index)

    @classmethod
    def joined(cls, address):
        import memora
        self = cls.__new__(cls)
        self.db = memora.open(address)
        self.kv = self.db.kv("bench")
        return self

    def leave(self):
        self.db.close()

    def close(self):
        import memora
        self.db.close()
        memora.remove(self.address)

    def load(self, keys, value):
        while batch := list(itertools.islice(keys, 1000)):
            self.kv.put_many([(k, value) for k in batch])

    def play(self, operations, value):
        get, put, scan = self.kv.get, self.kv.put, self.kv.scan
        for kind, k, n in operations:
            if kind == READ:
                get(k)
            elif kind == SCAN:
                list(scan(k, limit=n))
            elif kind == CHANGE:
                put(k, get(k)[::-1])
            else:
                put(k, value)


class MemoraHash(Memora):
    """With the hash index, which has no order, in huge pages, for which each process asks."""

    name, able = "memora-hash", "ABCDF"
    _index = "hash"

    def load(self, keys, value):
        super().load(keys, value)
        self.db.huge_pages()

    @classmethod
    def joined(cls, address):
        self = super().joined(address)
        self.db.huge_pages()
        return self


class Lmdb:
    """With writemap=True, its fastest way."""

    name, able, processes = "lmdb", "ABCDEF", 2

    def __init__(self, directory):
        self.address = os.path.join(directory, "lmdb")
        self.open(self.address)

    def open(self, address):
        import lmdb
        self.env = lmdb.open(address, map_size=4 << 30, writemap=True, sync=False, metasync=False)

    @classmethod
    def joined(cls, address):
        self = cls.__new__(cls)
        self.open(address)
        return self

    def leave(self):
        self.env.close()

    close = leave

    def load(self, keys, value):
        with self.env.begin(write=True) as txn:
            for k in keys:
                txn.put(k, value)

    def play(self, operations, value):
        begin, islice = self.env.begin, itertools.islice
        for kind, k, n in operations:
            if kind == READ:
                with begin() as txn:
                    txn.get(k)
            elif kind == SCAN:
                with begin() as txn:
                    cursor = txn.cursor()
                    if cursor.set_range(k):
                        list(islice(cursor, n))
            elif kind == CHANGE:
                with begin(write=True) as txn:
                    txn.put(k, txn.get(k)[::-1])
            else:
                with begin(write=True) as txn:
                    txn.put(k, value)


class UltraDict:
    """Each process has a dict of its own and replays the others' writes before a read."""

    name, able, processes = "ultradict", "ABCDF", 2

    def __init__(self, directory):
        from UltraDict import UltraDict
        self.kv = UltraDict(name=f"{contest.PREFIX}-{os.getpid()}-{uuid.uuid4().hex[:12]}", create=True, buffer_size=1 << 30, shared_lock=True)
        self.address = self.kv.name

    @classmethod
    def joined(cls, address):
        from UltraDict import UltraDict
        self = cls.__new__(cls)
        self.kv = UltraDict(name=address, create=False, buffer_size=1 << 30, shared_lock=True, auto_unlink=False)
        len(self.kv)                    # replays what was loaded
        return self

    def leave(self):
        self.kv.close(unlink=False)

    def close(self):
        self.kv.close(unlink=True)

    def load(self, keys, value):
        with self.kv.lock:              # once: it may be taken again
            for k in keys:
                self.kv[k] = value

    def play(self, operations, value):
        kv = self.kv
        for kind, k, _ in operations:
            if kind == READ:
                kv[k]
            elif kind == CHANGE:
                kv[k] = kv[k][::-1]
            else:
                kv[k] = value


class Rocksdict:
    """Without a write-ahead log. Its files belong to one process."""

    name, able, processes = "rocksdict", "ABCDEF", 1

    def __init__(self, directory):
        import rocksdict  # noqa: F401
        self.address = os.path.join(directory, "rocks")

    @classmethod
    def joined(cls, address):
        import rocksdict
        self = cls.__new__(cls)
        self.db = rocksdict.Rdict(address, rocksdict.Options(raw_mode=True))
        options = rocksdict.WriteOptions()
        options.disable_wal = True
        self.db.set_write_options(options)
        return self

    def leave(self):
        self.db.close()

    def close(self):
        pass

    def load(self, keys, value):
        for k in keys:
            self.db[k] = value
        self.db.flush()
        self.db.compact_range(None, None)       # else it goes on in the background of everybody

    def play(self, operations, value):
        db = self.db
        for kind, k, n in operations:
            if kind == READ:
                db[k]
            elif kind == SCAN:
                found = db.iter()
                found.seek(k)
                while n and found.valid():
                    found.key(), found.value()
                    found.next()
                    n -= 1
            elif kind == CHANGE:
                db[k] = db[k][::-1]
            else:
                db[k] = value


CONTENDERS = (Memora, MemoraHash, Lmdb, UltraDict, Rocksdict)


# ---- workers

def worker(kind, address, keys, number, core, pipe):
    """Answers (workload, count) with "made", then a moment with (end of wall time, seconds of processor time); None ends it."""
    os.sched_setaffinity(0, {core})
    side = {c.__name__: c for c in CONTENDERS}[kind].joined(address)
    if side.processes == 1:
        side.load(map(key, range(keys)), b"v" * VALUE_BYTES)
    operations = Operations(keys, number)
    pipe.send("joined")
    while (asked := pipe.recv()) is not None:
        made = operations.make(*asked)
        value = b"%0100d" % random.randrange(10**9)
        gc.collect()
        gc.disable()
        pipe.send("made")
        moment = pipe.recv()
        while time.perf_counter() < moment:
            pass
        begun = time.thread_time()
        side.play(made, value)
        busy = time.thread_time() - begun
        pipe.send((time.perf_counter() - moment, busy))
        gc.enable()
    side.leave()


class Team:
    """A contender and its workers."""

    def __init__(self, contender, keys: int, cores: list[int]):
        self.contender, self.name = contender, contender.name
        if contender.processes > 1:
            contender.load(map(key, range(keys)), b"v" * VALUE_BYTES)
        self.members = []
        for number in range(contender.processes):
            ours, theirs = SPAWN.Pipe()
            process = SPAWN.Process(target=worker, args=(type(contender).__name__, contender.address, keys, number, cores[number % len(cores)], theirs))
            process.start()
            theirs.close()
            self.members.append((process, ours))
        for process, pipe in self.members:
            self.answer(process, pipe)

    def answer(self, process, pipe):
        if not pipe.poll(PATIENCE_S):
            raise TimeoutError(f"a worker of {self.name} says nothing for {PATIENCE_S} s")
        return pipe.recv()

    def round(self, workload: str, count: int, processes: int) -> tuple[float, float]:
        """Seconds of wall time until the last one ended; seconds of processor time of the first."""
        members = self.members[:processes]
        for _, pipe in members:
            pipe.send((workload, count))
        for member in members:
            self.answer(*member)
        moment = time.perf_counter() + 0.005
        for _, pipe in members:
            pipe.send(moment)
        answers = [self.answer(*member) for member in members]
        return max(wall for wall, _ in answers), answers[0][1]

    def close(self):
        for process, pipe in self.members:
            with contextlib.suppress(BrokenPipeError):
                pipe.send(None)
        for process, pipe in self.members:
            process.join(PATIENCE_S)
            pipe.close()
            if process.exitcode != 0:
                process.kill()
                raise RuntimeError(f"a worker of {self.name} ended with {process.exitcode}")


def play(teams, workload: str, batch: int, rounds: int):
    """{(contender, processes): Result}, and the wall times of one process: {contender: [seconds an operation]}."""
    count = max(1, batch // 4) if workload == "E" else batch
    found, walls = {}, {}
    able = [(team, n) for n in (1, 2) for team in teams if workload in team.contender.able and n <= team.contender.processes]
    for team, n in able:
        found[team.name, n] = contest.Result(team.name, workload, 0, [])
        walls.setdefault(team.name, [])
    for r in range(rounds + 1):
        for team, n in able[r % len(able):] + able[:r % len(able)]:
            wall, busy = team.round(workload, count, n)
            if r:
                found[team.name, n].rounds.append((busy if n == 1 else wall / n) / count)
                found[team.name, n].count += n * count
                if n == 1:
                    walls[team.name].append(wall / count)
    return found, walls


def lines(workload: str, found, walls) -> list[str]:
    """What play() found, with Memora's rate against lmdb's and against the best of the others."""
    out = []
    rate = {who: 1e3 / result.median_us for who, result in found.items()}
    for n in (1, 2):
        ours = rate.get(("memora", n))
        rivals = {name: r for (name, m), r in rate.items() if m == n and not name.startswith("memora")}
        best = max(rivals, key=rivals.get, default=None)
        for (name, m), result in found.items():
            if m != n:
                continue
            line = f"  {workload}  {n} process{'es' if n > 1 else '  '}  {name:<11} {rate[name, n]:>8.0f} k/s  +-{result.spread:>4.0%}"
            if ours and (name == "lmdb" or name == best):
                times, asked = ours / rivals[name], name == best if n > 1 else name == "lmdb"
                line += f"   memora = {times:.2f} x {'the best peer, ' if name == best else ''}{name}"
                if asked:
                    line += f" (to reach {BAR}: {'reached' if times >= BAR else 'missed'}{', and 2' if times >= WANTED else ''})"
            if name == "memora-hash" and best:
                line += f"   memora-hash = {rate[name, n] / rivals[best]:.2f} x the best peer, {best}"
            if n == 2:
                scaled = statistics.median(walls[name]) * 1e6 / result.median_us
                line += f"   two = {scaled:.2f} x one"
                if name == "memora" and workload in "BC":
                    line += f" (to reach {SCALING}: {'reached' if scaled >= SCALING else 'missed'})"
            out.append(line)
    return out


def run(settings, stack, say):
    """Yields lines, some at a time."""
    keys = settings.keys[-1]
    cores = sorted(os.sched_getaffinity(0))
    yield ["", TITLE.format(n=keys)]
    if len(cores) < 2:
        yield ["  one core: two processes share it"]
    teams = []
    for contender in contest.entered(CONTENDERS, stack, say):
        teams.append(Team(contender, keys, cores))
        stack.callback(teams[-1].close)
    for workload in MIX:
        if workload in settings.workloads:
            yield lines(workload, *play(teams, workload, settings.batch, settings.rounds))
