"""Pages whose prefix is what their keys happen to share: keys that do not share it come before, behind, and go again."""
import random

import pytest
from sortedcontainers import SortedDict

import memora

SHAPES = {
    "numbers in text": lambda rng: b"user:%012d" % rng.randrange(4000),
    "long and alike": lambda rng: b"p" * 340 + b"%04d" % rng.randrange(2000),
    "longer than a page holds": lambda rng: b"q" * 380 + b"%08d" % rng.randrange(400),
    "alike, a few apart": lambda rng: rng.choice([b"m" * 200 + b"%05d" % rng.randrange(3000)] * 30 + [b"", b"a", b"z" * 300, b"m", b"m" * 100, b"m" * 201]),
    "small integers": lambda rng: rng.randrange(5000),
    "prefixes of each other": lambda rng: b"k" * rng.randrange(400),
    "anything": lambda rng: rng.randbytes(rng.choice([0, 1, 2, 3, 8, 50, 383, 384, 385])),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_against_a_sorted_dict(shape):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    model = SortedDict()
    with memora.open(":memory:") as db:
        kv = db.kv("k")
        for step in range(12):
            removing = step % 4 == 3
            batch = {}
            for _ in range(400):
                key = SHAPES[shape](rng)
                if removing or rng.random() < 0.1:
                    batch[key] = None
                else:
                    batch[key] = rng.randbytes(rng.choice([0, 5, 60, 600]))
            with db.transaction() as tx:
                inside = tx.kv("k")
                for key, value in batch.items():
                    if value is None:
                        assert inside.delete(key) == (model.pop(key, None) is not None)
                    else:
                        inside[key] = model[key] = value
            assert db.check() == []
            assert list(kv.scan()) == list(model.items())
            for _ in range(50):
                key = SHAPES[shape](rng)
                assert kv.get(key) == model.get(key)
                assert list(kv.scan(key, limit=2)) == [(k, model[k]) for k in list(model.irange(key))[:2]]
        kv.clear()
        assert db.check() == [] and len(kv) == 0


def test_appended_in_order_then_all_before():
    """The rightmost page's prefix shrinks at each carry; then keys before all others come to the leftmost ones."""
    with memora.open(":memory:") as db:
        kv = db.kv("k")
        kv.put_many([(b"%020d" % i, b"v" * 20) for i in range(5000, 9000)])
        assert db.check() == []
        kv.put_many([(b"%020d" % i, b"v" * 20) for i in reversed(range(5000))])
        kv[b"!"] = kv[b"~"] = b"ends"
        assert db.check() == [] and len(kv) == 9002
        assert [k for k, _ in kv.scan(limit=2)] == [b"!", b"%020d" % 0] and next(kv.scan(reverse=True))[0] == b"~"
        assert all(kv[b"%020d" % i] == b"v" * 20 for i in range(0, 9000, 7))


def test_rows_by_rowid():
    """Rowids share seven of eight bytes at first, and fewer later."""
    with memora.open(":memory:") as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER)")
        with db.transaction() as tx:
            for i in range(200):
                tx.execute("INSERT INTO t VALUES (?, ?)", (i, i))
        assert db.check() == []
        assert db.execute("SELECT count(*), sum(x) FROM t WHERE id >= 50").fetchone() == (150, sum(range(50, 200)))


def pages(db):
    return db.stats()["pages"]


def test_emptied_leaves_are_given_back():
    """As a queue does: added at one end, removed at the other. Some page numbers wait for the versions in limbo."""
    with memora.open(":memory:") as db:
        kv = db.kv("k")
        kv.put_many([(i, b"v" * 200) for i in range(8000)])
        full = pages(db)
        for start in range(0, 8000, 400):
            kv.delete_many(range(start, start + 400))
            assert db.check() == []
        assert len(kv) == 0
        assert pages(db) < full // 4


def test_rows_added_in_order_fill_their_pages_also_in_the_middle():
    with memora.open(":memory:") as db:
        kv = db.kv("k")
        kv.put_many([(("a", "z")[i % 2] + "%05d" % i, b"v" * 900) for i in range(400)])
        before = pages(db)
        for i in range(400):
            kv["m%05d" % i] = b"v" * 900    # four of them fit into a page
        assert db.check() == []
        assert pages(db) - before <= 110
