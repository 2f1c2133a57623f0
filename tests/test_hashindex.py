"""The hash index: against a dict, in every transaction and in snapshots held open meanwhile; colliding keys, chains, splits, eviction, files."""
import random

import pytest
from counters import count
from regions import db, shm  # noqa: F401

import memora
from memora import errors
from memora.changes import Change
from memora.engine.cursor import Cursor
from memora.engine.hashindex import hash_bytes


# ---------------------------------------------------------------- the hash

def siphash13(k0, k1, data):
    """SipHash-1-3, written plainly after the paper."""
    mask = 2**64 - 1
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]

    def turn(x, bits):
        return (x << bits | x >> 64 - bits) & mask

    def rounds(n):
        for _ in range(n):
            v[0] = v[0] + v[1] & mask
            v[2] = v[2] + v[3] & mask
            v[1] = turn(v[1], 13) ^ v[0]
            v[3] = turn(v[3], 16) ^ v[2]
            v[0] = turn(v[0], 32)
            v[2] = v[2] + v[1] & mask
            v[0] = v[0] + v[3] & mask
            v[1] = turn(v[1], 17) ^ v[2]
            v[3] = turn(v[3], 21) ^ v[0]
            v[2] = turn(v[2], 32)

    data += bytes(-(len(data) + 1) % 8) + bytes([len(data) & 255])
    for at in range(0, len(data), 8):
        word = int.from_bytes(data[at:at + 8], "little")
        v[3] ^= word
        rounds(1)
        v[0] ^= word
    v[2] ^= 0xff
    rounds(3)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_the_hash_is_siphash_1_3():
    rng = random.Random(7)
    for n in (*range(40), 383, 384, 1000):
        k0, k1, data = rng.getrandbits(64), rng.getrandbits(64), rng.randbytes(n)
        assert hash_bytes(k0, k1, data) == siphash13(k0, k1, data), n


# ---------------------------------------------------------------- the model

LONG = b"/a/path/that/many/keys/begin/with" * 13        # 429 bytes: more than a page keeps of a key


def short(rng):
    return b"%x" % rng.randrange(3000)


def alike_and_long(rng):
    return LONG[:rng.choice((383, 384, 385, 429))] + b"-" * rng.choice((0, 0, 700, 3000)) + b"%d" % rng.randrange(60)


def mixed(rng):
    return rng.choice((short, alike_and_long, lambda r: r.randbytes(r.randrange(12)), lambda r: b"k" * r.randrange(400)))(rng)


def value(rng):
    size = rng.choice((0, 1, 8, 40, 300, 1000, 1024, 1025, 4000, 20000) if rng.random() < 0.3 else (8, 16, 100))
    return rng.randbytes(4) * (size // 4) + b"." * (size % 4)


class Model:
    """One committed index and its dict; at each step random operations in a transaction, committed, rolled back, or back to a savepoint."""

    def __init__(self, store, shape, seed):
        print("seed", seed, "shape", shape.__name__)
        self.rng, self.shape, self.store = random.Random(seed), shape, store
        txn = store.begin()
        self.tree = txn.create_hash()
        self.rows = {}
        if self.rng.random() < 0.5:
            self.operate(txn, self.rows, 20)            # before the index is anywhere
        txn.commit()
        self.snapshots = []

    def same(self, txn, rows):
        cursor = Cursor(txn, self.tree)
        found = {}
        more = cursor.first()
        while more:
            assert cursor.key not in found, cursor.key
            found[cursor.key] = cursor.value
            more = cursor.next()
        assert found == rows
        for key in [self.shape(self.rng) for _ in range(20)]:
            assert txn.get(self.tree, key) == rows.get(key)

    def operate(self, txn, rows, n):
        rng = self.rng
        for _ in range(n):
            key = rng.choice(list(rows)) if rows and rng.random() < 0.4 else self.shape(rng)
            kind = rng.random()
            if kind < 0.35:
                assert txn.delete(self.tree, key) == (rows.pop(key, None) is not None)
            elif kind < 0.5:
                new = value(rng)
                assert txn.insert(self.tree, key, new) == (key not in rows)
                rows.setdefault(key, new)
            else:
                rows[key] = value(rng)
                txn.put(self.tree, key, rows[key])

    def step(self):
        rng = self.rng
        txn = self.store.begin()
        rows = dict(self.rows)
        self.operate(txn, rows, rng.choice((1, 3, 30, 200)))
        if rng.random() < 0.2:
            mark, kept = txn.savepoint(), dict(rows)
            self.operate(txn, rows, 30)
            txn.rollback_to(mark)
            rows = kept
        if rng.random() < 0.3:
            self.same(txn, rows)
        if rng.random() < 0.15:
            txn.rollback()
        else:
            txn.commit()
            self.rows = rows
        if rng.random() < 0.2:
            self.snapshots.append((self.store.begin(read_only=True), dict(self.rows)))
        if len(self.snapshots) > 3:
            old, seen = self.snapshots.pop(rng.randrange(4))
            self.same(old, seen)
            old.rollback()

    def run(self, steps):
        for _ in range(steps):
            self.step()
        for old, seen in self.snapshots:
            self.same(old, seen)
            old.rollback()
        txn = self.store.begin(read_only=True)
        self.same(txn, self.rows)
        txn.rollback()
        assert self.store.check() == []
        count("model steps", steps)


@pytest.mark.parametrize("bits", [32, 6, 2, 0], ids=lambda bits: f"{bits} bits")
@pytest.mark.parametrize("shape", [short, alike_and_long, mixed])
def test_against_a_dict(stores, shape, bits):
    """With few bits of the hash most keys collide: chains of many pages, which no split makes shorter."""
    store = stores(initial_bytes=500 << 10, ring_bytes=64 << 10, max_bytes=256 << 20)
    store.region.narrow_hashes(bits)
    Model(store, shape, random.randrange(1 << 30)).run(50 if bits > 2 else 15)


@pytest.mark.long
@pytest.mark.watchdog(900)
@pytest.mark.parametrize("bits", [32, 6, 2])
@pytest.mark.parametrize("shape", [short, alike_and_long, mixed])
def test_against_a_dict_for_long(stores, shape, bits):
    store = stores(initial_bytes=500 << 10, ring_bytes=64 << 10, max_bytes=512 << 20)
    store.region.narrow_hashes(bits)
    Model(store, shape, random.randrange(1 << 30)).run(1500 if bits > 2 else 400)


def test_directories_of_more_than_one_page(stores):
    """Entries of a fifth of a page each: the directory of 1004 buckets fills, and grows a level above itself."""
    store = stores(max_bytes=256 << 20, ring_bytes=1 << 20)
    txn = store.begin()
    tree = txn.create_hash()
    txn.commit()
    for start in range(0, 6000, 500):
        txn = store.begin()
        for i in range(start, start + 500):
            txn.put(tree, b"%d" % i, b"%d" % i * 200)
        txn.commit()
    txn = store.begin()
    assert all(txn.get(tree, b"%d" % i) == b"%d" % i * 200 for i in range(6000))
    assert txn.get(tree, b"6000") is None
    for i in range(0, 6000, 2):
        assert txn.delete(tree, b"%d" % i)
    txn.commit()
    assert store.check() == []
    before = store.stats()
    txn = store.begin()
    txn.drop_tree(tree)
    txn.commit()
    assert store.check() == []
    assert before["pages"] > 1100
    for n in range(500):                        # the freed versions are collected by what comes later
        if store.stats()["pages"] < 100:
            break
        txn = store.begin()
        txn.put(1, b"filler", b"%d" % n)
        txn.commit()
    assert store.stats()["pages"] < 100


# ---------------------------------------------------------------- transactions

def test_absence_is_validated(stores):
    """A key that a transaction found absent, and that another commit made: the first may not commit. Also where a split came between."""
    store = stores()
    store.region.narrow_hashes(1)
    txn = store.begin()
    tree, other = txn.create_hash(), txn.create_tree()
    txn.put(tree, b"a", b"1")
    txn.commit()
    mine = store.begin()
    assert mine.get(tree, b"missing") is None
    theirs = store.begin()
    for i in range(300):                        # overflow pages and splits, the key is among what comes last
        theirs.put(tree, b"%d" % i * 10, b"v" * 100)
    theirs.put(tree, b"missing", b"here")
    theirs.commit()
    mine.put(other, b"x", b"y")
    with pytest.raises(errors.SerializationError):
        mine.commit()


def test_every_change_of_a_bucket_is_seen_by_a_scan(stores):
    store = stores()
    store.region.narrow_hashes(0)               # one chain
    txn = store.begin()
    tree, other = txn.create_hash(), txn.create_tree()
    for i in range(100):
        txn.put(tree, b"%03d" % i, b"v" * 200)
    txn.commit()
    for change in (lambda t: t.put(tree, b"099", b"w" * 200), lambda t: t.delete(tree, b"099"), lambda t: t.put(tree, b"new", b"")):
        mine = store.begin()
        cursor = Cursor(mine, tree)
        more = cursor.first()
        while more:
            more = cursor.next()
        theirs = store.begin()
        change(theirs)
        theirs.commit()
        mine.put(other, b"x", b"y")
        with pytest.raises(errors.SerializationError):
            mine.commit()


def test_writes_during_a_scan(db):
    """No key twice, none left out that stays: whatever is written while the scan goes on."""
    kv = db.kv("k", index="hash")
    kv.put_many([(i, "old") for i in range(500)])
    with db.transaction() as tx:
        inside = tx.kv("k", index="hash")
        inside[1000] = "mine"
        seen = []
        for key, word in inside.scan():
            seen.append(key)
            assert word == ("mine" if key >= 1000 else "old")
            if key % 3 == 0 and key < 500:
                del inside[key]
            elif key < 500:
                inside[key] = "again"
        assert sorted(seen) == [*range(500), 1000]
        assert len(inside) == 500 - 167 + 1
    assert len(kv) == 334 and kv[1] == "again"


# ---------------------------------------------------------------- spaces

def test_a_key_space_without_order(db):
    kv = db.kv("k", index="hash")
    kv.put_many([(i, i) for i in range(300)])
    assert kv[7] == 7 and kv.get(300) is None and 299 in kv and len(kv) == 300
    assert sorted(kv) == list(range(300)) and dict(kv.scan()) == {i: i for i in range(300)}
    assert len(list(kv.scan(limit=5))) == 5
    for scan in ({"start": 3}, {"stop": 3}, {"prefix": "a"}, {"reverse": True}):
        with pytest.raises(errors.NotSupportedError, match="index='hash'"):
            list(kv.scan(**scan))
    with pytest.raises(errors.NotSupportedError, match="index='hash'"):
        list(reversed(kv))
    assert kv.pop(7) == 7 and kv.incr("n", 5) == 5 and kv.setdefault("n", 1) == 5
    key, word = kv.popitem()
    assert key == word or key == "n"
    assert db.execute("SELECT count(*), max(value) FROM k WHERE typeof(key) = 'integer'").fetchone()[0] in (298, 299)
    kv.clear()
    assert len(kv) == 0 and not list(kv)


def test_an_index_is_chosen_once(db):
    db.kv("h", index="hash")
    db.kv("t")
    assert db.kv("h").row["index"] == "hash" and db.kv("t", index="btree").row["index"] == "btree"
    with pytest.raises(errors.ProgrammingError, match="key space 'h' was created with index='hash', not index='btree'"):
        db.kv("h", index="btree")
    with pytest.raises(errors.ProgrammingError, match="key space 't' was created with index='btree', not index='hash'"):
        db.kv("t", index="hash")
    with pytest.raises(errors.ProgrammingError, match="index='bitmap': there are 'btree' and 'hash'"):
        db.kv("x", index="bitmap")
    with db.transaction() as tx:
        assert tx.cache("c", index="hash").row["index"] == "hash"
    with pytest.raises(errors.ProgrammingError, match="cache 'c' was created with index='hash'"):
        db.cache("c", index="btree")


@pytest.mark.parametrize("index", ["btree", "hash"])
def test_a_cache_keeps_its_bound_and_what_is_read(db, index):
    cache = db.cache("c", max_bytes=200_000, index=index)
    for i in range(3000):
        cache.set(i, b"v" * 100)
        if i % 10 == 0:
            assert i < 50 or sum([cache.get(hot) is not None for hot in range(50)]) >= 40
        assert cache.stats()["bytes"] <= 200_000
    assert cache.stats()["entries"] == len(list(cache)) > 1000
    cache.set("short", 1, ttl=0.001)
    cache.set("long", b"x" * 80_000)
    assert cache.get("long") == b"x" * 80_000 and cache.stats()["bytes"] <= 200_000
    with pytest.raises(errors.DataError):
        cache.set("too long", b"x" * 200_000)


@pytest.mark.parametrize("index", ["btree", "hash"])
def test_a_cache_of_few_large_entries_after_many_small_ones(db, index):
    """Most buckets are empty then: the hand must pass them."""
    cache = db.cache("c", max_bytes=1 << 20, index=index)
    cache.set_many([(i, b"s") for i in range(20000)])
    for i in range(60):
        cache.set(100000 + i, bytes([i]) * 60000)
    assert cache.stats()["bytes"] <= 1 << 20
    assert cache.get(100059) == bytes([59]) * 60000


def test_expiry(db):
    cache = db.cache("c", index="hash")
    cache.set("gone", 1, ttl=0.02)
    cache.set("stays", 2, ttl=60)
    assert cache.expires("stays") > 0 and cache.touch("stays", 90)
    while cache.get("gone") is not None:
        pass
    assert list(cache) == ["stays"] and cache.incr("gone", 3) == 3


def test_files_bring_it_back(tmp_path):
    path = str(tmp_path / "app.db")
    with memora.open(path) as db:
        kv, cache = db.kv("k", index="hash"), db.cache("c", index="hash", max_bytes=100_000)
        kv.put_many([(i, b"%d" % i * (i % 500)) for i in range(3000)])
        kv[b"long" * 300] = b"w" * 5000
    with memora.open(path) as db:                       # from the checkpoint
        kv, cache = db.kv("k"), db.cache("c")
        assert kv.row["index"] == cache.row["index"] == "hash"
        assert dict(kv.scan()) == {**{i: b"%d" % i * (i % 500) for i in range(3000)}, b"long" * 300: b"w" * 5000}
        del kv[5]
        for i in range(2000):
            cache.set(i, b"c" * 50)
        left = dict(cache.scan())
        assert db.check() == []
    with memora.open(path) as db:
        assert 5 not in db.kv("k") and len(db.kv("k")) == 3000
        assert dict(db.cache("c").scan()) == left
        assert db.check() == []


def test_the_feed_tells_of_it(db):
    kv = db.kv("k", index="hash")
    changes = db.changes("k")
    kv["a"] = 1
    del kv["a"]
    assert changes.get(0).changes == [Change("k", "insert", "a", 1, None)]
    assert changes.get(0).changes == [Change("k", "delete", "a", None, 1)]


# ---------------------------------------------------------------- huge pages

def test_huge_pages_change_nothing(shm):
    """The mapping is moved under everybody's feet: what is there stays, in this process and in another one."""
    with memora.open(shm, max_bytes="256MB") as db, memora.open(shm) as other:
        kv = db.kv("k", index="hash")
        kv.put_many([(i, b"%d" % i * 100) for i in range(30000)])
        gathered = db.huge_pages()
        assert gathered % (2 << 20) == 0 and gathered <= db.stats()["bytes"]
        kv.put_many([(i, b"new") for i in range(0, 30000, 3)])
        for view in (kv, other.kv("k")):
            assert all(view[i] == (b"new" if i % 3 == 0 else b"%d" % i * 100) for i in range(30000))
        assert db.check() == []
