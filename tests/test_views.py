"""Views: they show one value's bytes for as long as they are held, whatever others do, and nothing they can do breaks the region."""
import ctypes
import gc
import os
import random
import signal
import struct
import subprocess
import sys
import textwrap

import pytest
from regions import Child, db, shm  # noqa: F401

import memora

KB = 1 << 10
SIZES = (0, 1, 31, 32, 900, 1000, 1100, 4 * KB, 40 * KB, 200 * KB)


def payload(rng, size):
    return rng.randbytes(size)


def rewrite(kv, times=60, size=60 * KB):
    """Work that would reuse every extent that is free to be used."""
    for i in range(times):
        kv["scratch"] = bytes([i % 251]) * size


# ---------------------------------------------------------------- what a view is

@pytest.mark.parametrize("size", SIZES)
def test_view_shows_the_bytes_read_only(db, size):
    kv = db.kv("a")
    kv["k"] = data = payload(random.Random(size), size)
    with kv.view("k") as view:
        assert view == data and view.nbytes == size and view.readonly and view.format == "B" and view.contiguous
        with pytest.raises(TypeError):
            view[0:1] = b"x"


def test_large_values_are_not_copied(db):
    kv = db.kv("a")
    kv["k"] = bytes(500 * KB)
    a, b = kv.view("k"), kv.view("k")
    assert _address(a) == _address(b)           # the same bytes of the region, twice
    kv["s"] = b"small"
    c, d = kv.view("s"), kv.view("s")
    assert c == d == b"small" and _address(c) != _address(d)


def _address(view):
    class Buffer(ctypes.Structure):
        _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.py_object), ("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t),
                    ("readonly", ctypes.c_int), ("ndim", ctypes.c_int), ("format", ctypes.c_char_p), ("shape", ctypes.c_void_p),
                    ("strides", ctypes.c_void_p), ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p)]
    buffer = Buffer()
    api = ctypes.pythonapi
    assert api.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0) == 0
    try:
        return buffer.buf
    finally:
        api.PyBuffer_Release(ctypes.byref(buffer))


@pytest.mark.parametrize("value", [None, 7, "text", "long text " * 500, [b"bytes"], [b"x" * 5000], {"k": b"v" * 5000}])
def test_values_that_are_not_bytes_have_no_view(db, value):
    kv = db.kv("a")
    kv["k"] = value
    with pytest.raises(memora.DataError, match="view of 'k': its value is not bytes"):
        kv.view("k")
    with db.transaction() as tx, pytest.raises(memora.DataError, match="view of 'k'"):
        tx.kv("a").view("k")


def test_absent_and_expired_keys_have_no_view(db):
    kv = db.kv("a")
    kv.put("gone", bytes(5000), expiry_ns=1)
    for key in ("never", "gone"):
        with pytest.raises(KeyError, match=key):
            kv.view(key)
        with db.transaction() as tx, pytest.raises(KeyError, match=key):
            tx.kv("a").view(key)


def test_view_of_a_dropped_or_cleared_space(db):
    kv = db.kv("a")
    kv["k"] = data = os.urandom(100 * KB)
    view = kv.view("k")
    kv.clear()
    rewrite(kv)
    assert view == data and "k" not in kv
    view.release()


def test_views_in_transactions_show_the_snapshot_and_ones_own_writes(db):
    kv = db.kv("a")
    kv["k"] = before = os.urandom(50 * KB)
    with db.snapshot() as snap:
        kv["k"] = after = os.urandom(50 * KB)
        rewrite(kv)
        old = snap.kv("a").view("k")
    new = kv.view("k")
    rewrite(kv)
    assert old == before and new == after
    with db.transaction() as tx:
        tx.kv("a")["mine"] = mine = os.urandom(50 * KB)
        own = tx.kv("a").view("mine")
        tx.kv("a")["mine"] = b"other"
        assert own == mine
    with pytest.raises(memora.SerializationError):
        with db.transaction() as tx:
            tx.kv("a").view("k").release()      # a view is a read
            kv["k"] = b"changed"
            tx.kv("a")["z"] = 1
    old.release()
    new.release()


def test_views_are_read_by_threads_and_numpy(db):
    numpy = pytest.importorskip("numpy")
    kv = db.kv("a")
    kv["k"] = data = os.urandom(64 * KB)
    array = numpy.frombuffer(kv.view("k"), dtype="u4")
    rewrite(kv)
    kv["k"] = b""
    rewrite(kv)
    assert array.tobytes() == data and not array.flags.writeable
    with pytest.raises(memora.ViewsOut):
        db.close()
    del array
    gc.collect()


# ---------------------------------------------------------------- model

@pytest.mark.parametrize("seed", range(4))
def test_model_with_views(db, seed):
    """Random writes by two handles beside views held and released in any order: every view shows what it showed at first."""
    rng = random.Random(seed)
    kv, model, views = db.kv("a"), {}, []
    other = memora.open(db.name)
    spaces = (kv, other.kv("a"))
    try:
        for step in range(600):
            key = rng.choice("abcdef")
            what = rng.random()
            if what < 0.5:
                model[key] = payload(rng, rng.choice(SIZES))
                rng.choice(spaces)[key] = model[key]
            elif what < 0.6 and key in model:
                rng.choice(spaces).delete(key)
                del model[key]
            elif what < 0.85:
                space = rng.choice(spaces)
                if key in model:
                    views.append((space.view(key), model[key]))
                else:
                    with pytest.raises(KeyError):
                        space.view(key)
            elif views:
                view, data = views.pop(rng.randrange(len(views)))
                assert view == data
                view.release()
            if step % 50 == 0:
                assert all([view == data for view, data in views])
                assert db.check() == [] and other.check() == []
        assert all([view == data for view, data in views])
    finally:
        for view, _ in views:
            view.release()
        other.close()
    kv.clear()
    rewrite(kv)
    assert dict(kv) == {"scratch": kv["scratch"]}


# ---------------------------------------------------------------- closing, ends

def test_close_says_who_holds_what(db):
    kv = db.kv("a")
    kv["photo"], kv[b"b"] = bytes(100 * KB), bytes(5 * KB)
    views = [kv.view("photo"), kv.view("photo"), kv.view(b"b")]
    with pytest.raises(memora.ViewsOut, match=r"'photo' \(\d{6} bytes, 2 views\), b'b' \(\d{4} bytes, 1 view\)"):
        db.close()
    assert not db.closed and kv["photo"] == views[0]
    for view in views[:2]:
        view.release()
    with pytest.raises(memora.ViewsOut, match=r"use: b'b' \(\d{4} bytes, 1 view\); release"):
        db.close()
    views[2].release()
    db.close()
    assert db.closed
    with pytest.raises(ValueError, match="released"):
        views[2].tobytes()


def test_mapping_stays_as_long_as_a_view(shm):
    db = memora.open(shm)
    db.kv("a")["k"] = data = os.urandom(100 * KB)
    view = db.kv("a").view("k")
    del db
    gc.collect()
    assert view == data
    part = view[10:20]
    del view
    gc.collect()
    assert part == data[10:20]


@pytest.mark.parametrize("path", ["shm", "file"])
@pytest.mark.parametrize("code", [
    "v = kv.view('k')",                                                     # the module's names go at exit
    "import atexit\nv = kv.view('k')\natexit.register(lambda: v[:] == data or sys.exit('other bytes'))",
    "class Late:\n    def __init__(self): self.v = kv.view('k')\n    def __del__(self): assert self.v == data\nlate = Late()\ndel db, kv",
    "import threading, time\nv = kv.view('k')\nthreading.Thread(target=lambda: (time.sleep(0.2), bytes(v)), daemon=True).start()",
])
def test_exit_with_views_is_silent(shm, tmp_path, path, code):
    name = shm if path == "shm" else str(tmp_path / "x.db")
    source = f"import memora, os, sys\ndb = memora.open({name!r})\nkv = db.kv('a')\nkv['k'] = data = os.urandom(100000)\n"
    done = subprocess.run([sys.executable, "-c", source + textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with memora.open(name) as db:
        assert len(db.kv("a")["k"]) == 100000 and db.check() == []


# ---------------------------------------------------------------- the budget

def test_views_hold_at_most_a_quarter_of_the_region(db):
    kv = db.kv("a")
    budget = db.stats()["max_bytes"] // 4
    views = []
    with pytest.raises(memora.PinLimit, match=rf"a quarter of max_bytes.*process {os.getpid()} \(slot \d+\): \d+ values, \d+ bytes"):
        for i in range(100):
            kv[i] = bytes(500 * KB)
            views.append(kv.view(i))
    assert budget - 2 * 501 * KB < sum(v.nbytes for v in views) <= budget
    again = kv.view(0)                          # one more view of what is pinned anyhow
    for view in views[1:]:
        view.release()
    views[1] = kv.view(1)
    assert bytes(500 * KB) == again == views[1]
    for view in (again, views[0], views[1]):
        view.release()


def test_stopped_holder_bounds_itself_and_is_named(db):
    holder = Child("""
        kv = memora.open(name).kv("a")
        views = []
        try:
            for i in range(1000):
                kv[i] = bytes([i % 256]) * 400000
                views.append(kv.view(i))
        except memora.PinLimit:
            say("full", len(views))
        sys.stdin.readline()
        for i, view in enumerate(views):
            assert view == bytes([i % 256]) * 400000, i
        say("good")
        """, db.name)
    kv = db.kv("a")
    word, n = holder.line().split()
    assert word == "full"
    holder.process.send_signal(signal.SIGSTOP)
    for i in range(int(n) + 1):
        kv.delete(i)
    kv["k"] = bytes(400000)
    with pytest.raises(memora.PinLimit, match=rf"process {holder.process.pid} \(slot \d+\): {n} values"):
        kv.view("k")
    rewrite(kv, 100, 400000)                    # the rest of the region goes round
    assert db.stats()["bytes"] <= db.stats()["max_bytes"] and db.check() == []
    holder.process.send_signal(signal.SIGCONT)
    holder.tell()
    assert holder.line() == "good"
    holder.process.stdin.close()
    assert holder.process.wait(60) == 0
    kv.view("k").release()


def test_pins_of_a_killed_process_are_freed(db):
    holder = Child("""
        kv = memora.open(name).kv("a")
        views = []
        try:
            for i in range(1000):
                kv[i] = bytes(400000)
                views.append(kv.view(i))
        except memora.PinLimit:
            say("full", len(views))
        sys.stdin.readline()
        """, db.name)
    kv = db.kv("a")
    assert holder.line().startswith("full")
    kv["k"] = bytes(400000)
    with pytest.raises(memora.PinLimit):
        kv.view("k")
    holder.process.kill()
    holder.process.wait()
    for i in range(100):
        kv.delete(i)
    kv["k"] = bytes(400000)
    kv.view("k").release()                      # the dead one's pins are noticed here
    used = db.stats()["extent_bytes"]
    rewrite(kv, 100, 400000)
    assert db.stats()["extent_bytes"] <= used + (2 << 20)


# ---------------------------------------------------------------- fork

def test_fork_keeps_views_valid_in_both(db, spawn):
    kv = db.kv("a")
    kv["k"] = data = os.urandom(100 * KB)
    view = kv.view("k")
    ready, go = os.pipe(), os.pipe()

    def child(out):
        os.read(go[0], 1)                       # meanwhile the parent has let go and overwritten
        assert view == data
        rewrite(kv, 30)
        assert view == data
        with pytest.raises(memora.ViewsOut):
            db.close()
        view.release()
        rewrite(kv, 30)
        assert db.check() == []
        db.close()

    made = spawn(child)
    view.release()
    kv["k"] = b""
    rewrite(kv, 100)
    assert {p["slot"] for p in db.processes() if p["alive"]} == {0, 1}
    os.write(go[1], b"x")
    assert made.wait() == 0
    for fd in (*ready, *go):
        os.close(fd)
    rewrite(kv, 30)


def test_child_of_a_killed_parent_keeps_its_views(db):
    parent = Child("""
        import os, signal
        db = memora.open(name)
        kv = db.kv("a")
        kv["k"] = data = bytes(range(250)) * 800
        view = kv.view("k")
        if os.fork() == 0:
            sys.stdin.readline()
            say(view == data, db.kv("a")["k"])
            os._exit(0)
        say("forked")
        signal.pause()
        """, db.name)
    kv = db.kv("a")
    assert parent.line() == "forked"
    parent.process.kill()
    parent.process.wait()
    kv["k"] = b"new"
    rewrite(kv, 100, 200 * KB)
    parent.tell()
    assert parent.line() == "True b'new'"


def test_forks_without_use_leave_nothing(db, spawn):
    kv = db.kv("a")
    kv["k"] = bytes(100 * KB)
    with kv.view("k"):
        for _ in range(20):
            assert spawn(lambda out: None).wait() == 0
    assert kv.view("k") == bytes(100 * KB)
    gc.collect()
    with memora.open(db.name):                  # an opener reaps
        assert len([p for p in db.processes() if p["alive"]]) == len(db.processes()) == 2


# ---------------------------------------------------------------- damage

@pytest.mark.parametrize("seed", range(3))
def test_fuzzed_pins_harm_nobody(db, seed):
    """Any words in the pin table: commits go on, views show their bytes or say PinLimit, and the region stays whole."""
    rng = random.Random(seed)
    kv = db.kv("a")
    kv["k"] = data = os.urandom(100 * KB)
    view = kv.view("k")
    with open(f"/dev/shm/memora-{os.getuid()}/{db.name[4:]}/slots", "r+b", buffering=0) as f:
        head = f.read(48)
        slots, snaps, = struct.unpack_from("<II", head, 24)
        pins = 4096 + 256 * slots + (16 + 32) * snaps
        for _ in range(40):
            n = rng.randrange(1, snaps - 1)
            f.seek(pins + 8 * n)
            f.write(rng.choice((rng.randbytes(8), struct.pack("<II", rng.randrange(70000), rng.randrange(1 << 32)), b"\xff" * 8, bytes(8))))
            f.seek(44)
            f.write(struct.pack("<I", rng.choice((1, 2, snaps, 0xffffffff))))
            rewrite(kv, 5)
            kv["k"] = other = os.urandom(50 * KB)
            try:
                with kv.view("k") as fresh:
                    assert fresh == other
            except memora.PinLimit:
                pass
        f.seek(44)
        f.write(struct.pack("<I", snaps))
        rewrite(kv)
        assert view == data
        for n in range(1, snaps):
            f.seek(pins + 8 * n)
            f.write(bytes(8))
    view.release()
