"""The benchmarks: they run, measure what they say, and tell the truth about what is missing. No time is asserted."""
import collections
import contextlib
import ctypes
import importlib.util
import json
import os
import re
import struct
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

import memora

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from bench import caches, contest, keyspaces, messages, rows, seeds, ycsb  # noqa: E402


def run(*arguments, **environment):
    """What it prints; it leaves nothing behind on tmpfs."""
    with subprocess.Popen([sys.executable, "-m", "bench", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), **environment}) as child:
        output, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    assert [n for n in os.listdir(contest.TMPFS) if n.startswith(f"{contest.PREFIX}-{child.pid}-")] == []
    return output


def test_each_part_prints_memora_and_ratios():
    output = run("kv", "rows", "cache", "topic", "--keys", "500", "--batch", "50", "--rounds", "2")
    assert "cores, load" in output and "Python 3" in output and "commit" in output
    assert {(m[1], m[2]) for m in re.finditer(r"^  (\S+) +memora +(\d+) ops +[\d.]+ us", output, re.M)} >= {
        ("readrandom", "100"), ("readmissing", "100"), ("overwrite", "100"), ("fillseq", "100"), ("insert", "100"),
        ("scan100", "4"), ("get100", "2"), ("put1000", "2"),
        ("point_select", "100"), ("point_update", "100"), ("point_insert", "100"), ("get", "100"), ("set", "100"), ("incr", "100")}
    assert re.search(r"^  a->b->a p99 +memora +10 ops", output, re.M) and re.search(r"^  one way +memora +100 ops", output, re.M)
    assert "memora / dict = " in output and "memora / sqlite3 = " in output


def test_a_rival_that_is_not_installed_is_named():
    class Absent:
        name = "absent"

        def __init__(self, directory):
            import memora_rival_that_nobody_has  # noqa: F401

    with contextlib.ExitStack() as stack:
        said = []
        assert contest.entered([Absent, keyspaces.Dict], stack, said.append)[0].name == "dict"
    assert said == ["absent: not installed (memora_rival_that_nobody_has)"]


def test_unknown_part_is_refused():
    found = subprocess.run([sys.executable, "-m", "bench", "nothing"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2 and "there is no part 'nothing'" in found.stderr


@pytest.mark.parametrize("module", [keyspaces, rows, caches], ids=lambda m: m.__name__)
def test_contenders_can_do_the_same(module):
    """Or say with a None that they cannot."""
    methods = [{n for n in dir(c) if not n.startswith("_")} - {"setup"} for c in module.CONTENDERS]
    assert all(m == methods[0] for m in methods)
    assert all(value is not None for n, value in vars(module.Memora).items() if not n.startswith("_"))


def test_contenders_do_what_is_measured():
    """A benchmark of a loop that does nothing would be fast: afterwards everything is where it was put."""
    with contextlib.ExitStack() as stack:
        for c in contest.entered(keyspaces.CONTENDERS, stack, print):
            c.fill([keyspaces.key(i) for i in range(10)], b"old")
            expected = [b"old", b"old", None]
            if c.overwrite is not None:
                c.overwrite([keyspaces.key(3)], b"new")
                c.put1000([[(keyspaces.key(i), b"many") for i in (4, 5)]])
                expected = [b"new", b"many", None]
            if hasattr(c, "env"):
                with c.env.begin() as txn:
                    found = [txn.get(keyspaces.key(i)) for i in (3, 4, 11)]
            else:
                found = [(c.db if c.name == "rocksdict" else c.kv).get(keyspaces.key(i)) for i in (3, 4, 11)]
            assert found == expected, c.name
        for c in contest.entered(rows.CONTENDERS, stack, print):
            c.fill(range(10))
            c.point_update([3], 17)
            c.point_insert([10])
            assert list(c.db.execute("SELECT id, visits FROM users WHERE id IN (3, 4, 10) ORDER BY id")) == [(3, 17), (4, 0), (10, 0)], c.name
        for c in contest.entered(caches.CONTENDERS, stack, print):
            c.fill(["a", "b"], b"old")
            c.set(["a"], b"new")
            c.incr(["n", "n"])
            assert [c.cache.get(k) for k in ("a", "b", "n", "x")] == [b"new", b"old", 2, None], c.name
        for c in contest.entered(messages.CONTENDERS, stack, print):
            assert len(messages.there_and_back(c, 3)) == 3
            assert messages.one_way(c, 10) > 0


def test_percentiles_and_spread():
    assert messages.percentile([float(i) for i in range(1, 100)], 50) == 50
    assert messages.percentile([2.0], 99) == 2.0
    result = contest.Result("x", "y", 4, [1e-6, 2e-6, 3e-6, 2e-6])
    assert result.median_us == pytest.approx(2.0) and 0 < result.spread < 1


def installed(module):
    """Rivals are an extra: what is compared depends on which are there."""
    return importlib.util.find_spec(module) is not None


def test_ycsb_prints_rates_of_one_process_and_of_two():
    names = ["memora", "lmdb"] if installed("lmdb") else ["memora"]
    output = run("ycsb", "--keys", "300", "--batch", "60", "--rounds", "2", "--workloads", "BE")
    assert {(m[1], m[2], m[3]) for m in re.finditer(r"^  ([A-F])  (\d) process(?:es|  )  (memora|lmdb) +\d+ k/s", output, re.M)} == {
        (w, n, name) for w in "BE" for n in "12" for name in names}
    assert re.search(r"B  1 process    memora .*k/s", output) and re.search(r"B  2 processes  memora .*two = [\d.]+ x one \(to reach 1.6: ", output)
    assert "lmdb" not in names or re.search(r"E  2 processes  lmdb .*memora = [\d.]+ x the best peer, lmdb \(to reach 1.5: ", output)


def test_ycsb_operations_are_as_skewed_and_as_mixed_as_they_say():
    operations = ycsb.Operations(1000, 1)
    kinds = collections.Counter(kind for kind, _, _ in operations.make("B", 4000))
    assert 3650 < kinds[ycsb.READ] < 3950 and kinds[ycsb.READ] + kinds[ycsb.UPDATE] == 4000
    hottest = collections.Counter(k for _, k, _ in operations.make("C", 4000)).most_common(1)[0]
    assert hottest[0] == ycsb.key(ycsb.scatter(0) % 1000) and 100 < hottest[1] < 250         # 1 / 26.5 of them, and what else falls on this key
    inserted = [k for kind, k, _ in operations.make("E", 400) if kind == ycsb.INSERT]
    assert inserted == [ycsb.key(1000 + 2 * i + 1) for i in range(len(inserted))] != []     # worker 1's own: nobody else inserts them
    latest = collections.Counter(k for kind, k, _ in operations.make("D", 4000) if kind == ycsb.READ)
    assert latest[ycsb.key(1001)] < 200 < sum(latest[k] for k in map(ycsb.key, range(1001, 2000, 2)))
    assert {n for kind, _, n in operations.make("E", 4000) if kind == ycsb.SCAN} == set(range(1, 101))


@pytest.mark.parametrize("constructor", ycsb.CONTENDERS, ids=lambda c: c.name)
def test_ycsb_contenders_do_what_is_measured(constructor):
    keys = sorted(ycsb.key(i) for i in range(20))
    with contextlib.ExitStack() as stack:
        for c in contest.entered([constructor], stack, print):
            side = c
            if c.processes == 1:
                side = c.joined(c.address)
                stack.callback(side.leave)
            side.load(iter(keys), b"ab")
            scans = [(ycsb.SCAN, keys[4], 7)] if "E" in c.able else []
            side.play([(ycsb.READ, keys[0], 0), (ycsb.UPDATE, keys[1], 0), (ycsb.INSERT, b"new", 0), (ycsb.CHANGE, keys[3], 0), *scans], b"written")

            def value(k):
                if c.name == "lmdb":
                    with side.env.begin() as txn:
                        return txn.get(k)
                return (side.db if c.name == "rocksdict" else side.kv)[k]
            assert [value(k) for k in (keys[0], keys[1], b"new", keys[3])] == [b"ab", b"written", b"written", b"ba"]


def test_seeds_prints_its_tables_beside_the_floor_and_writes_them(tmp_path):
    output = run("seeds", "--iterations", "1300", "--json", str(tmp_path / "seeds.json"), CFLAGS="-O0 -g0")
    found = json.loads((tmp_path / "seeds.json").read_text())
    assert list(found["tables"]) == ["block", "record", "batch", "block by two", "record by two"]
    for title, rows in found["tables"].items():
        assert rows[0]["way"].startswith("C ") and rows[0]["times_floor"] == 1
        assert len({row["way"] for row in rows}) == len(rows) and any(row["way"].startswith("memora ") for row in rows)
        for row in rows:
            assert row["iterations"] == (1280 if title == "batch" else 1300) and row["ns"] > 0
            assert re.search(rf"^    {re.escape(row['way'])} +{row['iterations']} +{row['ns']:.2f} ns ", output, re.M)


def test_seeds_change_the_same_bytes(tmp_path):
    """A way that counts nothing would be fast: each is run once over all records and looked at."""
    with contextlib.ExitStack() as stack:
        place = seeds.Place(stack, seeds.compiled_floor(tmp_path), tmp_path)
        for address, step in ((place.private, seeds.WIDE), (place.mapped, seeds.WIDE), (place.sysv, seeds.WIDE)):
            place.floor.count_records(address, 3 * seeds.RECORDS)
            held = (ctypes.c_char * seeds.SIZE).from_address(address).raw
            assert [struct.unpack_from("q", held, i * step + seeds.COUNT_WIDE) for i in range(seeds.RECORDS)] == [(3,)] * seeds.RECORDS
            place.floor.copy_ints(address, (ctypes.c_int * 256)(*place.ints), 1)
            assert ctypes.string_at(address, seeds.BLOCK_BYTES) == place.block
        side = seeds.Side(stack, place.library, place.shared().name, stack.enter_context(region()), 1)
        for name, way in side.ways("record"):
            way()(2 * seeds.RECORDS)
        counts = [struct.unpack_from("q", side.memory.buf, seeds.SIZE // 2 + i * seeds.WIDE + seeds.COUNT_WIDE) for i in range(seeds.RECORDS)]
        assert counts == [(4,)] * seeds.RECORDS                                 # C's two and Python's two
        assert side.memora.kv.get(b"count 1:255") == 2 and side.memora.kv.get(b"1:0") == bytes(seeds.WIDE)


@contextlib.contextmanager
def region():
    name = f"shm:bench-{uuid.uuid4().hex[:12]}"
    yield name
    memora.remove(name)


def test_values_attach_and_stopped_say_what_was_reached():
    output = run("values", "attach", "stopped", "--keys", "500", "--batch", "60", "--rounds", "2", "--stopped", "0.5")
    for workload, count, rival in (("get_4k", 120, "UltraDict"), ("put_4k", 30, "lmdb"), ("get_1m", 2, "lmdb"), ("view_1m", 120, None),
                                   ("put_1m", 2, "lmdb")):
        assert re.search(rf"^  {workload} +memora +{count} ops +[\d.]+ us", output, re.M)
        assert bool(re.search(rf"^  {workload} .*\(to reach ", output, re.M)) == (rival is None or installed(rival))
    assert re.search(r"^  attach +memora +2 ops +[\d.]+ ms .*\(to reach 5.0: ", output, re.M)
    rows = re.findall(r"^  put +(no reader|reader stopped) +(\d+) ops .*region ([\d.]+) -> ([\d.]+) MiB", output, re.M)
    assert [name for name, *_ in rows] == ["no reader", "reader stopped"] and all(int(count) >= 1000 for _, count, *_ in rows)
    assert re.search(r"with / without the reader = [\d.]+ \(to reach 0.9: \w+\); afterwards it (still reads its snapshot|is told SnapshotTooOld)", output)
