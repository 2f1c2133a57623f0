"""The same bytes in many ways: what C takes, what Python's ways to them take, and what Memora's safe ones take beside that.

    block       256 ints (1 KiB) are moved: the price of the bytes
    record      one 64-bit counter in one of 256 records of 32 bytes (28 where they are packed) goes up by one: the price of a look
    batch       256 counters, or keys, at once; nanoseconds for one of them
    ... by two  two threads, and two processes, at once, each on memory or keys of its own; wall time, nanoseconds an iteration of either

Every row is as many iterations as asked, 1 000 000 by default, in rounds that take turns with the other rows of its table; the median round
counts. The floor is C, compiled for this run by the interpreter's compiler with -O3 (floor.c); a ratio is a row's time to that of its table's
first row. Only Memora's rows are transactions.
"""
from __future__ import annotations

import array
import contextlib
import ctypes
import importlib.util
import itertools
import json
import mmap
import multiprocessing
import os
import shlex
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import uuid
from multiprocessing import shared_memory
from pathlib import Path

from bench import contest

HERE = Path(__file__).parent
TITLE = "seeds, {n} iterations each, nanoseconds an iteration and times the floor"
RECORDS = 256
WIDE, TIGHT, BLOCK_BYTES = 32, 28, 1024
COUNT_WIDE, COUNT_TIGHT = 8, 4          # offsets of the counter
SIZE = 16384
SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 120.0
ROUNDS = 5


# ---- what is compiled

def compiled_floor(directory) -> str:
    """The path of floor.c as a shared library."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    library = os.path.join(directory, "floor.so")
    subprocess.run([*compiler, "-O3", "-shared", "-fPIC", "-o", library, str(HERE / "floor.c")], check=True)
    return library


def loaded_floor(library):
    floor = ctypes.CDLL(library)
    for name in ("private_bytes", "mapped_bytes", "sysv_bytes"):
        getattr(floor, name).restype = ctypes.c_void_p
    floor.private_bytes.argtypes = floor.sysv_bytes.argtypes = [ctypes.c_size_t]
    floor.mapped_bytes.argtypes = [ctypes.c_int, ctypes.c_size_t]
    floor.free_private.argtypes = floor.free_sysv.argtypes = [ctypes.c_void_p]
    floor.free_mapped.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    floor.copy_ints.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long]
    for name in ("count_records", "count_tight", "count_all"):
        getattr(floor, name).argtypes = [ctypes.c_void_p, ctypes.c_long]
    return floor


def compiled_typed(directory):
    """typed.pyx as a module. ModuleNotFoundError: there is no Cython."""
    import Cython  # noqa: F401
    shutil.copy(HERE / "typed.pyx", directory)
    done = subprocess.run([sys.executable, "-m", "Cython.Build.Cythonize", "-i", "-q", "typed.pyx"], cwd=directory, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"typed.pyx cannot be compiled:\n{done.stdout}{done.stderr}")
    spec = importlib.util.spec_from_file_location("typed", next(Path(directory).glob("typed.*.so")))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Place:
    """Where the rows' bytes are: made once, used by all ways of a run."""

    def __init__(self, stack, library, directory):
        self.stack, self.directory, self.library, self.module = stack, directory, library, None
        self.floor = floor = loaded_floor(library)
        self.private = self.address(floor.private_bytes(SIZE), floor.free_private)
        self.source = self.address(floor.private_bytes(SIZE), floor.free_private)
        with open(os.path.join(directory, "mapped"), "w+b") as file:
            self.mapped = self.address(floor.mapped_bytes(file.fileno(), SIZE), floor.free_mapped, SIZE)
        self.sysv = self.address(floor.sysv_bytes(SIZE), floor.free_sysv)
        self.ints = array.array("i", range(256))
        self.block = self.ints.tobytes()

    def address(self, found, free, *more):
        if not found:
            raise OSError("no memory for the floor")
        self.stack.callback(free, found, *more)
        return found

    def mmap(self):
        with open(os.path.join(self.directory, uuid.uuid4().hex), "w+b") as file:
            file.truncate(SIZE)
            found = mmap.mmap(file.fileno(), SIZE)
        return found

    def typed(self):
        if self.module is None:
            self.module = compiled_typed(self.directory)
        return self.module

    def shared(self):
        made = shared_memory.SharedMemory(create=True, size=SIZE, name=f"{contest.PREFIX}-{os.getpid()}-{uuid.uuid4().hex[:12]}")
        self.stack.callback(made.unlink)
        self.stack.callback(made.close)
        return made


# ---- the ways; each is asked once and gives run(n), which does n iterations in the plainest loop

def block_ways(place):
    """(name, run) pairs; ModuleNotFoundError at the first use of what is not installed."""
    floor, block, ints = place.floor, place.block, place.ints

    def native(to):
        return lambda n: floor.copy_ints(to, place.source, n)

    yield "C memcpy, private", lambda: native(place.private)
    yield "C memcpy, mmap", lambda: native(place.mapped)
    yield "C memcpy, shmget", lambda: native(place.sysv)

    def typed():
        copy, to = place.typed().copy_ints, array.array("i", ints)

        def run(n):
            for _ in range(n):
                copy(to, ints)
        return run
    yield "Cython typed memoryviews", typed

    def array_copy():
        to = array.array("i", ints)

        def run(n):
            for _ in range(n):
                to[:] = ints
        return run
    yield "array slice", array_copy

    def sliced(to):
        def run(n):
            for _ in range(n):
                to[:BLOCK_BYTES] = block
        return run
    yield "bytearray slice", lambda: sliced(bytearray(SIZE))
    yield "memoryview slice", lambda: sliced(memoryview(bytearray(SIZE)))
    yield "mmap slice", lambda: sliced(place.mmap())
    yield "shared_memory slice", lambda: sliced(place.shared().buf)

    def packed(layout):
        into, to, values = struct.Struct(layout).pack_into, memoryview(bytearray(SIZE)), tuple(ints)

        def run(n):
            for _ in range(n):
                into(to, 0, *values)
        return run
    yield "struct pack_into, 256 ints", lambda: packed("@256i")

    def moved():
        to, source, move = (ctypes.c_int * 256)(), (ctypes.c_int * 256)(*ints), ctypes.memmove

        def run(n):
            for _ in range(n):
                move(to, source, BLOCK_BYTES)
        return run
    yield "ctypes memmove", moved

    def foreign():
        import cffi
        ffi = cffi.FFI()
        to, source, move = ffi.new("int[256]"), ffi.new("int[256]", list(ints)), ffi.memmove

        def run(n):
            for _ in range(n):
                move(to, source, BLOCK_BYTES)
        return run
    yield "cffi memmove", foreign

    def vector():
        import numpy
        to, source = numpy.zeros(256, "i4"), numpy.arange(256, dtype="i4")

        def run(n):
            for _ in range(n):
                to[:] = source
        return run
    yield "numpy slice", vector


def record_ways(place):
    floor = place.floor

    def native(work, at):
        return lambda n: work(at, n)

    yield "C struct, private", lambda: native(floor.count_records, place.private)
    yield "C struct packed, private", lambda: native(floor.count_tight, place.private)
    yield "C struct, mmap", lambda: native(floor.count_records, place.mapped)
    yield "C struct, shmget", lambda: native(floor.count_records, place.sysv)
    yield "Cython, loop in Cython", lambda: place.typed().Records(bytearray(SIZE)).loop

    def called(name):
        count = getattr(place.typed().Records(bytearray(SIZE)), name)

        def run(n):
            for i in range(n):
                count(i & 255)
        return run
    yield "Cython struct, called", lambda: called("count")
    yield "Cython packed struct, called", lambda: called("count_tight")

    def viewed():
        count, counts = place.typed().count_one, array.array("q", bytes(8 * RECORDS))

        def run(n):
            for i in range(n):
                count(counts, i & 255)
        return run
    yield "Cython memoryview, called", viewed

    def indexed(counts):
        def run(n):
            for i in range(n):
                counts[i & 255] += 1
        return run
    yield "array element", lambda: indexed(array.array("q", bytes(8 * RECORDS)))
    yield "memoryview cast element", lambda: indexed(memoryview(bytearray(8 * RECORDS)).cast("q"))

    def unpacked(to, step, offset):
        one = struct.Struct("q")
        read, write = one.unpack_from, one.pack_into

        def run(n):
            for i in range(n):
                at = (i & 255) * step + offset
                write(to, at, read(to, at)[0] + 1)
        return run
    yield "struct aligned, memoryview", lambda: unpacked(memoryview(bytearray(SIZE)), WIDE, COUNT_WIDE)
    yield "struct unaligned, memoryview", lambda: unpacked(memoryview(bytearray(SIZE)), TIGHT, COUNT_TIGHT)
    yield "struct aligned, mmap", lambda: unpacked(place.mmap(), WIDE, COUNT_WIDE)
    yield "struct aligned, shared_memory", lambda: unpacked(place.shared().buf, WIDE, COUNT_WIDE)

    def structure(packed):
        class Record(ctypes.Structure):
            _fields_ = (("id", ctypes.c_int32), ("count", ctypes.c_int64), ("price", ctypes.c_double), ("name", ctypes.c_char * 8))
            if packed:
                _pack_ = 1
                _layout_ = "ms"
        records = (Record * RECORDS)()

        def run(n):
            for i in range(n):
                records[i & 255].count += 1
        return run
    yield "ctypes Structure", lambda: structure(False)
    yield "ctypes Structure packed", lambda: structure(True)

    def foreign():
        import cffi
        ffi = cffi.FFI()
        ffi.cdef("struct record { int32_t id; int64_t count; double price; char name[8]; };")
        records = ffi.new("struct record[256]")

        def run(n):
            for i in range(n):
                records[i & 255].count += 1
        return run
    yield "cffi struct", foreign

    def vector():
        import numpy
        records = numpy.zeros(RECORDS, numpy.dtype("i4, i8, f8, S8", align=True))
        return indexed(records["f1"])
    yield "numpy element", vector


def batch_ways(place):
    floor = place.floor

    yield "C loop", lambda: lambda n: floor.count_all(place.private, n)

    def typed():
        count, counts = place.typed().count_all, array.array("q", bytes(8 * RECORDS))

        def run(n):
            for _ in range(n // RECORDS):
                count(counts)
        return run
    yield "Cython loop", typed

    def vector():
        import numpy
        counts = numpy.zeros(RECORDS, "i8")

        def run(n):
            for _ in range(n // RECORDS):
                counts.__iadd__(1)
        return run
    yield "numpy vector", vector

    def rebuilt(counts):
        def run(n):
            for _ in range(n // RECORDS):
                counts[:] = array.array("q", [c + 1 for c in counts])
        return run
    yield "array rebuilt", lambda: rebuilt(array.array("q", bytes(8 * RECORDS)))
    yield "memoryview cast rebuilt", lambda: rebuilt(memoryview(bytearray(8 * RECORDS)).cast("q"))

    def unpacked(to):
        many = struct.Struct(f"{RECORDS}q")
        read, write = many.unpack_from, many.pack_into

        def run(n):
            for _ in range(n // RECORDS):
                write(to, 0, *[c + 1 for c in read(to, 0)])
        return run
    yield "struct, memoryview", lambda: unpacked(memoryview(bytearray(SIZE)))
    yield "struct, mmap", lambda: unpacked(place.mmap())
    yield "struct, shared_memory", lambda: unpacked(place.shared().buf)

    def foreign_array():
        counts = (ctypes.c_int64 * RECORDS)()

        def run(n):
            for _ in range(n // RECORDS):
                counts[:] = [c + 1 for c in counts]
        return run
    yield "ctypes array", foreign_array

    def foreign():
        import cffi
        ffi = cffi.FFI()
        counts = ffi.new("int64_t[256]")

        def run(n):
            for _ in range(n // RECORDS):
                counts[0:RECORDS] = [c + 1 for c in ffi.unpack(counts, RECORDS)]
        return run
    yield "cffi array", foreign


class Memora:
    """A region with a key space and a topic; keys are apart for each of two users."""

    def __init__(self, address, user=0):
        import memora
        self.db = memora.open(address)
        self.kv = self.db.kv("seeds")
        self.topic = self.db.topic(f"seeds{user}", retain="16MB")
        self.keys = [b"%d:%d" % (user, i) for i in range(RECORDS)]

    def ready(self, value):
        self.kv.put_many({k: value for k in self.keys})
        return self

    def get(self, value):
        get, keys = self.ready(value).kv.get, self.keys

        def run(n):
            for i in range(n):
                get(keys[i & 255])
        return run

    def view(self, value):
        keys = [b"view " + k for k in self.keys]
        self.kv.put_many(dict.fromkeys(keys, value))
        view = self.kv.view

        def run(n):
            for i in range(n):
                view(keys[i & 255])
        return run

    def put(self, value):
        put, keys = self.ready(value).kv.put, self.keys

        def run(n):
            for i in range(n):
                put(keys[i & 255], value)
        return run

    def incr(self):
        incr, keys = self.kv.incr, [b"count " + k for k in self.keys]

        def run(n):
            for i in range(n):
                incr(keys[i & 255])
        return run

    def publish(self, value):
        publish = self.topic.publish

        def run(n):
            for _ in range(n):
                publish(value)
        return run

    def get_many(self, value):
        get_many, keys = self.ready(value).kv.get_many, self.keys

        def run(n):
            for _ in range(n // RECORDS):
                get_many(keys)
        return run

    def put_many(self, value):
        put_many, pairs = self.ready(value).kv.put_many, dict.fromkeys(self.keys, value)

        def run(n):
            for _ in range(n // RECORDS):
                put_many(pairs)
        return run


def memora_ways(table, memora, block):
    """The rows of a table that are Memora's."""
    record = bytes(WIDE)
    if table == "block":
        yield "memora get, 1 KiB", lambda: memora.get(block)
        yield "memora view, 4 KiB", lambda: memora.view(4 * block)
        yield "memora put, 1 KiB", lambda: memora.put(block)
        yield "memora publish, 1 KiB", lambda: memora.publish(block)
    elif table == "record":
        yield "memora get, 32 B", lambda: memora.get(record)
        yield "memora put, 32 B", lambda: memora.put(record)
        yield "memora publish, 32 B", lambda: memora.publish(record)
        yield "memora incr", memora.incr
    elif table == "batch":
        yield "memora get_many, 32 B", lambda: memora.get_many(record)
        yield "memora put_many, 32 B", lambda: memora.put_many(record)


WAYS = {"block": block_ways, "record": record_ways, "batch": batch_ways}


def in_turns(table, rows, iterations):
    """Results of (name, run) pairs, where run(n) says how many seconds n iterations took."""
    step = RECORDS if table == "batch" else 1
    n = max(step, iterations // ROUNDS // step * step)
    results = [contest.Result(name, table, 0, []) for name, _ in rows]
    for turn in range(ROUNDS + 1):
        for result, (_, run) in zip(results, rows):
            seconds = run(n if turn else max(step, n // 20 // step * step))         # the first only warms
            if turn:
                result.rounds.append(seconds / n)
                result.count += n
    return results


def made(ways, say):
    """(name, run) of the ways whose library is installed; says which are not."""
    found = []
    for name, way in ways:
        try:
            found.append((name, way()))
        except ModuleNotFoundError as missing:
            say(f"{name}: not installed ({missing.name})")
    return found


# ---- two at once

class Side:
    """One of two users, in a thread or a process: the ways by which both work at once, each on its half of the shared memory."""

    def __init__(self, stack, library, shared, region, user):
        self.floor = loaded_floor(library)
        self.memory = shared_memory.SharedMemory(name=shared)
        stack.callback(self.memory.close)
        self.memora = Memora(region, user)
        stack.callback(self.memora.db.close)
        self.at = user * SIZE // 2
        # The number, not the object: that would keep the mapping from being closed.
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory.buf, self.at))
        self.source = (ctypes.c_int * 256)(*range(256))
        self.block = bytes(self.source)

    def ways(self, table):
        if table == "block":
            to, source = self.address, ctypes.addressof(self.source)
            yield "C memcpy", lambda: lambda n: self.floor.copy_ints(to, source, n)
            yield "shared_memory slice", self.sliced
        else:
            yield "C struct", lambda: lambda n: self.floor.count_records(self.address, n)
            yield "struct, shared_memory", self.counted
        yield from memora_ways(table, self.memora, self.block)

    def sliced(self):
        to, begin, end, block = self.memory.buf, self.at, self.at + BLOCK_BYTES, self.block

        def run(n):
            for _ in range(n):
                to[begin:end] = block
        return run

    def counted(self):
        one, to, begin = struct.Struct("q"), self.memory.buf, self.at + COUNT_WIDE
        read, write = one.unpack_from, one.pack_into

        def run(n):
            for i in range(n):
                at = begin + (i & 255) * WIDE
                write(to, at, read(to, at)[0] + 1)
        return run


def partner(library, shared, region, user, core, pipe):
    """A process: (table, name, n), then a moment; answers "ready", then seconds from that moment. None ends it."""
    os.sched_setaffinity(0, {core})
    with contextlib.ExitStack() as stack:
        side = Side(stack, library, shared, region, user)
        runs = {table: {} for table in ("block", "record")}
        pipe.send("joined")
        while (asked := pipe.recv()) is not None:
            table, name, n = asked
            if not runs[table]:
                runs[table].update((name, way()) for name, way in side.ways(table))
            pipe.send("ready")
            moment = pipe.recv()
            while time.perf_counter() < moment:
                pass
            runs[table][name](n)
            pipe.send(time.perf_counter() - moment)


class Processes:
    """Two processes, each on a core of its own if there are two."""

    def __init__(self, stack, library, shared, region):
        cores = sorted(os.sched_getaffinity(0))
        self.members = []
        stack.callback(self.close)
        for user in range(2):
            ours, theirs = SPAWN.Pipe()
            process = SPAWN.Process(target=partner, args=(library, shared, region, user, cores[user % len(cores)], theirs))
            process.start()
            theirs.close()
            self.members.append((process, ours))
        for _, pipe in self.members:
            self.answer(pipe)

    def answer(self, pipe):
        if not pipe.poll(PATIENCE_S):
            raise TimeoutError(f"a process says nothing for {PATIENCE_S} s")
        return pipe.recv()

    def run(self, *asked):
        for _, pipe in self.members:
            pipe.send(asked)
        for _, pipe in self.members:
            self.answer(pipe)
        moment = time.perf_counter() + 0.005
        for _, pipe in self.members:
            pipe.send(moment)
        return max([self.answer(pipe) for _, pipe in self.members])

    def close(self):
        for process, pipe in self.members:
            with contextlib.suppress(BrokenPipeError):
                pipe.send(None)
            process.join(PATIENCE_S)
            pipe.close()
            if process.exitcode != 0:
                process.kill()
                raise RuntimeError(f"a process of seeds ended with {process.exitcode}")


def by_threads(runs, n):
    """Seconds until both of two threads have done n iterations."""
    barrier = threading.Barrier(3)

    def work(run):
        barrier.wait()
        run(n)
    threads = [threading.Thread(target=work, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    barrier.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def rows_of_two(table, sides, processes):
    """(name, run) of each way by two threads, then by two processes; an iteration is one of either side."""
    pairs = [(name, (a(), b())) for (name, a), (_, b) in zip(*[side.ways(table) for side in sides])]
    return ([(f"{name}, two threads", lambda n, runs=runs: by_threads(runs, n) / 2) for name, runs in pairs]
            + [(f"{name}, two processes", lambda n, name=name: processes.run(table, name, n) / 2) for name, _ in pairs])


# ---- the tables

def lines(title, results):
    floor = results[0].median_us
    yield f"  {title}"
    for r in results:
        yield f"    {r.contender:<38}{r.count:>9}  {r.median_us * 1e3:>10.2f} ns  +-{r.spread:>4.0%}  {r.median_us / floor:>9.1f} x"


def run(settings, stack, say):
    """Yields lines, a table at a time; writes settings.json, if it names a file."""
    import memora
    directory = tempfile.mkdtemp(prefix=f"{contest.PREFIX}-{os.getpid()}-", dir=contest.TMPFS)
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    library = compiled_floor(directory)
    place = Place(stack, library, directory)
    address = f"shm:bench-{uuid.uuid4().hex[:12]}"
    stack.callback(memora.remove, address)
    one = Memora(address)
    stack.callback(one.db.close)
    n = settings.iterations
    yield ["", TITLE.format(n=n)]
    found = {}
    for table, ways in WAYS.items():
        rows = [(name, lambda n, run=run: contest.timed(run, n))
                for name, run in made(itertools.chain(ways(place), memora_ways(table, one, place.block)), say)]
        found[table] = in_turns(table, rows, n)
        yield list(lines(table, found[table]))
    shared = place.shared()
    sides = [Side(stack, library, shared.name, address, user) for user in range(2)]
    processes = Processes(stack, library, shared.name, address)
    for table in ("block", "record"):
        title = f"{table} by two"
        found[title] = in_turns(table, rows_of_two(table, sides, processes), n)
        yield list(lines(title, found[title]))
    if settings.json:
        tables = {title: [{"way": r.contender, "iterations": r.count, "ns": r.median_us * 1e3, "spread": r.spread,
                           "times_floor": r.median_us / results[0].median_us} for r in results] for title, results in found.items()}
        Path(settings.json).write_text(json.dumps({"machine": contest.machine(), "iterations": n, "tables": tables}, indent=1) + "\n")
        yield [f"  written as JSON: {settings.json}"]
