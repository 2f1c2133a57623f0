"""Commits single-stepped on the real extension: each crash image can be read without recovery, recovers, and goes on."""
import os
import signal
import struct
from pathlib import Path

import pytest
from counters import absent, count
from stepping import DESC, U64, Stepper, dump

from memora.engine.store import Store

SIZES = {"max_bytes": 600 << 10, "ring_bytes": 16 << 10, "initial_bytes": 300 << 10, "slots": 8, "snaps": 16}


class Scene:
    """Two filled trees, a topic and a bounded tree in a tiny region."""

    def __init__(self, store, sizes):
        self.store = store
        self.sizes = sizes
        txn = store.begin()
        self.a, self.b = txn.create_tree(), txn.create_tree()
        self.topic, self.bounded = txn.create_topic(2048), txn.create_bounded(4096)
        for i in range(20):
            txn.put(self.a, b"key-%04d" % (i * 10), b"a%d" % i * 30)
            txn.put(self.b, b"common prefix/key-%04d" % (i * 10), b"b%d" % i * 60)
        txn.put(self.a, b"big", b"B" * 5000)
        txn.put(self.a, b"long" * 120, b"of the long key")
        txn.commit()

    @property
    def trees(self):
        return [self.a, self.b, self.topic, self.bounded, self.bounded + 1]         # the last: what a scene creates

    def touch(self, n=1):
        for i in range(n):
            txn = self.store.begin()
            txn.put(self.a, b"key-0050", b"touch %d" % i)
            txn.commit()


def put(scene):
    return lambda txn: txn.put(scene.a, b"key-0100", b"changed")


def split_of_two_trees(scene):
    def change(txn):
        for i in range(12):
            txn.put(scene.a, b"key-%04d" % (i * 10 + 5), b"n" * 300)
            txn.put(scene.b, b"common prefix/key-%04d" % (i * 10 + 5), b"m" * 200)
    return change


def deletes_that_merge(scene):
    txn = scene.store.begin()
    for i in range(40):
        txn.put(scene.a, b"key-%04d" % (i * 10 + 3), b"fill" * 60)
    txn.commit()

    def change(txn):
        for i in range(36):
            assert txn.delete(scene.a, b"key-%04d" % (i * 10 + 3))
        assert txn.delete(scene.a, b"long" * 120)
    return change


def peak_of(scene, what):
    """Touches until that number stands where it last stood before it went down: the next commit lowers it."""
    for _ in range(2):                      # the first lap has other records in it
        peak = 0
        for _ in range(500):
            now = scene.store.stats()[what]
            if now < peak:
                break
            peak = now
            scene.touch()
    for _ in range(500):
        if scene.store.stats()[what] >= peak:
            return put(scene)
        scene.touch()
    raise AssertionError(f"no {what} of {peak} again: {scene.store.stats()}")


def collection(scene):
    return peak_of(scene, "limbo_frames")


def log_trim(scene):
    return peak_of(scene, "log_bytes")


def growth(scene):
    n = 0
    while scene.store.stats()["free_frames"] > 24:
        txn = scene.store.begin()
        txn.put(scene.b, b"fill-%04d" % n, b"f" * 900)
        txn.commit()
        n += 1

    def change(txn):
        for i in range(40):
            txn.put(scene.b, b"more-%04d" % i, b"g" * 900)
    return change


def large_value(scene):
    def change(txn):
        txn.put(scene.a, b"big", b"C" * 12000)
        txn.put(scene.a, b"long" * 120 + b"er", b"D" * 3000)
    return change


def reserved_value(scene):
    """A value that is reserved and filled before the commit; sealed on its own, so the first image of a new commit comes late."""
    def change(txn):
        txn.put(scene.a, b"big", b"R" * 40000)
        txn.put(scene.a, b"key-0100", b"with it")
    return change


def collection_of_extents(scene):
    for i in range(17):
        txn = scene.store.begin()
        txn.put(scene.a, b"big", b"E" * (2000 + i))
        txn.commit()
    return large_value(scene)


def publish_and_trim(scene):
    for _ in range(7):
        txn = scene.store.begin()
        txn.publish(scene.topic, b"m" * 250)
        txn.commit()

    def change(txn):
        txn.publish(scene.topic, b"n" * 600)
        txn.put(scene.a, b"key-0000", b"with a message")
    return change


def eviction(scene):
    for i in range(3):
        txn = scene.store.begin()
        txn.put(scene.bounded, b"entry-%d" % i, b"c" * 1000)
        txn.commit()

    def change(txn):
        txn.put(scene.bounded, b"entry-9", b"c" * 1500)
    return change


def creation_and_drop(scene):
    def change(txn):
        tree = txn.create_tree()
        for i in range(20):
            txn.put(tree, b"%d" % i, b"in the new tree" * 20)
        txn.put(scene.a, b"new", b"%d" % tree)
        txn.drop_tree(scene.b)
    return change


def many_stores(scene):
    """Hundreds of stores."""
    def change(txn):
        for i in range(60):
            txn.put(scene.a, b"k%04d" % i + b"." * 390, b"v" * 10)       # long keys: an extent each
    return change


def hash_index(scene, entries):
    """A hash index beside the others, in the place of what a scene creates."""
    txn = scene.store.begin()
    scene.hash = txn.create_hash()
    assert scene.hash in scene.trees
    for key, value in entries:
        txn.put(scene.hash, key, value)
    txn.commit()


def hash_put(scene):
    hash_index(scene, [(b"%d" % i, b"v" * 60) for i in range(20)] + [(b"long" * 120, b"w")])

    def change(txn):
        txn.put(scene.hash, b"3", b"w" * 60)
        txn.put(scene.hash, b"4", b"longer" * 20)
        txn.put(scene.hash, b"new", b"n" * 60)
        txn.put(scene.hash, b"long" * 120, b"B" * 3000)
    return change


def hash_split(scene):
    hash_index(scene, [(b"%d" % i, b"v" * 250) for i in range(10)])

    def change(txn):
        for i in range(10, 24):
            txn.put(scene.hash, b"%d" % i, b"s" * 250)
    return change


def hash_overflow(scene):
    """Four entries a page: the chains of buckets that are not yet split grow, and are divided."""
    hash_index(scene, [(b"%d" % i, b"v" * 900) for i in range(3)])

    def change(txn):
        for i in range(3, 24):
            txn.put(scene.hash, b"%d" % i, b"o" * 900)
    return change


def hash_delete(scene):
    hash_index(scene, [(b"%d" % i, b"v" * 900) for i in range(30)] + [(b"long" * 120, b"B" * 3000)])

    def change(txn):
        for i in range(27):
            assert txn.delete(scene.hash, b"%d" % i)
        assert txn.delete(scene.hash, b"long" * 120)
    return change


def hash_creation(scene):
    def change(txn):
        tree = txn.create_hash()
        for i in range(30):
            txn.put(tree, b"%d" % i, b"in the new index" * 20)
        txn.drop_tree(scene.b)
    return change


def hash_drop(scene):
    hash_index(scene, [(b"%d" % i, b"v" * 900) for i in range(20)] + [(b"long" * 120, b"B" * 3000)])
    return lambda txn: txn.drop_tree(scene.hash)


QUICK = [put, split_of_two_trees, hash_split]
LONG = [deletes_that_merge, collection, log_trim, growth, large_value, reserved_value, collection_of_extents, publish_and_trim, eviction, creation_and_drop,
        many_stores, hash_put, hash_overflow, hash_delete, hash_creation, hash_drop]


def step(stores, spawn, scene_of, check_bad=True, **options):
    sizes = {**SIZES, "initial_bytes": 440 << 10} if scene_of is collection else SIZES
    store = stores(**sizes)
    scene = Scene(store, sizes)
    change = scene_of(scene)
    commit, before = dump(store, scene.trees)
    models = {commit: before}
    expected = Plain(before)
    change(expected)
    models[commit + 1] = expected.result(scene)
    stepper = Stepper(store, sizes, scene.trees, models, topic=scene.topic, **options)
    try:
        def work(store):
            txn = store.begin()
            change(txn)
            return txn.commit
        permitted(stepper.run(spawn, work))
    finally:
        stepper.close()
    print(f"{stepper.steps} steps, {stepper.images} images, {stepper.bodies} of bodies only; states {sorted(stepper.states)}")
    print(*stepper.bad, sep="\n")
    if check_bad:
        assert stepper.bad == []
        assert {(False, commit), (True, commit), (True, commit + 1), (False, commit + 1)} <= stepper.states
        assert dump(store, scene.trees) == (commit + 1, models[commit + 1])
    return stepper


class Plain:
    """The writing half of a transaction on plain dicts: what a change must lead to."""

    def __init__(self, trees):
        self.trees = {tree: None if rows is None else dict(rows) for tree, rows in trees.items()}
        self.created = max(trees)

    def put(self, tree, key, value):
        self.trees.setdefault(tree, {})[key] = value

    def delete(self, tree, key):
        return self.trees[tree].pop(key, None) is not None

    def publish(self, tree, payload):
        pass

    def create_tree(self):
        self.trees[self.created] = {}
        return self.created

    create_hash = create_tree

    def drop_tree(self, tree):
        self.trees[tree] = None

    def result(self, scene):
        for tree, rows in self.trees.items():
            if tree == scene.bounded and rows:
                # evicted in key order, oldest hand first: from the beginning here
                for key in sorted(rows):
                    if sum(len(k) + len(v) + 32 for k, v in rows.items()) > 4096 and key != b"entry-9":
                        del rows[key]
        return {tree: None if rows is None else sorted(rows.items()) for tree, rows in self.trees.items() if tree in scene.trees}


@pytest.mark.parametrize("scene", QUICK)
def test_every_image_of_a_commit(stores, spawn, scene):
    step(stores, spawn, scene, body_every=32, go_on_every=8)


@pytest.mark.long
@pytest.mark.watchdog(600)
@pytest.mark.parametrize("scene", LONG)
def test_every_image_of_more_commits(stores, spawn, scene):
    # what overwrites a ring is seen in bodies only
    step(stores, spawn, scene, body_every=1 if scene in (log_trim, publish_and_trim) else 8)


# ---------------------------------------------------------------- SQL

TABLE = ["CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT UNIQUE, c INT)", "CREATE INDEX t_c ON t (c)",
         *(f"INSERT INTO t VALUES ({i}, 'text {i}', {i % 7})" for i in range(40))]
STATEMENTS = {
    "create table": [[], TABLE[:1]],
    "create table and fill it": [[], TABLE[:20]],
    "insert": [TABLE, ["INSERT INTO t VALUES (100, 'text 100', 3)"]],
    "insert with a rowid": [TABLE, ["INSERT INTO t (b, c) VALUES ('one', 1), ('two', 2)"]],
    "autoincrement": [["CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT, b TEXT)", "INSERT INTO t (b) VALUES ('x')"], ["INSERT INTO t (b) VALUES ('y')"]],
    "create index": [TABLE, ["CREATE INDEX t_bc ON t (c, b)"]],
    "update indexed": [TABLE, ["UPDATE t SET c = c + 1 WHERE a < 20"]],
    "delete all": [TABLE, ["DELETE FROM t"]],
    "add column": [TABLE, ["ALTER TABLE t ADD COLUMN d TEXT DEFAULT 'd'"]],
    "drop index": [TABLE, ["DROP INDEX t_c"]],
    "drop table": [TABLE, ["DROP TABLE t"]],
}


def step_database(stores, spawn, name, before, change, immediate=False, hold=None):
    """before(db), then each image of the commit of a transaction that did change(tx). hold(db): open views, which stand all the while."""
    from memora.database import Database
    sizes = {**SIZES, "max_bytes": 900 << 10, "initial_bytes": 440 << 10}
    store = stores(**sizes)
    db = Database(store, "test")
    before(db)
    views = [] if hold is None else hold(db)
    shown = [bytes(view) for view in views]
    trees = [1, *range(16, 26)]
    commit, found = dump(store, trees)
    models = {commit: found}
    stepper = Stepper(store, sizes, trees, models, body_every=16, go_on_every=8)

    def work(store):
        tx = Database(store, "test").transaction(immediate=immediate)
        change(tx)
        return tx._txn.commit
    try:
        permitted(stepper.run(spawn, work))
    finally:
        stepper.close()
    print(f"{name}: {stepper.steps} steps, {stepper.images} images; states {sorted(stepper.states)}")
    print(*stepper.bad, sep="\n")
    assert stepper.bad == []
    assert {(False, commit), (True, commit), (True, commit + 1), (False, commit + 1)} <= stepper.states
    assert dump(store, trees) == (commit + 1, models[commit + 1])
    assert models[commit + 1] != models[commit]
    assert [bytes(view) for view in views] == shown
    for view in views:
        view.release()
    return db


def step_statements(stores, spawn, name):
    before, statements = STATEMENTS[name]
    step_database(stores, spawn, name, lambda db: [db.execute(sql) for sql in before], lambda tx: [tx.execute(sql) for sql in statements])


def permitted(traced):
    if not traced:
        absent("crash images", "tracing is not permitted here")
        pytest.skip("tracing is not permitted here")


@pytest.mark.parametrize("name", ["create table"])
def test_every_image_of_a_statement(stores, spawn, name):
    step_statements(stores, spawn, name)


@pytest.mark.long
@pytest.mark.watchdog(600)
@pytest.mark.parametrize("name", STATEMENTS)
def test_every_image_of_more_statements(stores, spawn, name):
    step_statements(stores, spawn, name)


# ---------------------------------------------------------------- the ticket, deltas, views

def fill(db):
    db.execute("CREATE TABLE counted (k INTEGER PRIMARY KEY, n INT, x REAL)")
    db.execute("INSERT INTO counted VALUES (1, 10, 0.5), (2, 20, 1.5)")
    db.kv("values").update({"large": b"L" * 12000, "larger": b"M" * 40000, "small": 1, "count": 5})


def count_some(tx):
    for _ in range(3):
        tx.kv("values").bump("count", 2)
    tx.kv("values").bump("fresh", 1.5, initial=1)
    assert tx.execute("UPDATE counted SET n = n + 7, x = x + 0.25 WHERE k = 2").rowcount == 1


def counted(db):
    assert db.kv("values")["count"] == 11 and db.kv("values")["fresh"] == 2.5
    assert db.execute("SELECT * FROM counted ORDER BY k").fetchall() == [(1, 10, 0.5), (2, 27, 1.75)]


def replace_some(tx):
    tx.kv("values")["large"] = b"N" * 9000
    del tx.kv("values")["larger"]


def large_ones(db):
    return [db.kv("values").view("large"), db.kv("values").view("larger")]


#: name -> change(tx), immediate, hold(db), what must be true at the end
COMMITS = {
    "under the ticket": (lambda tx: tx.kv("values").update({"small": 2, "new": b"n" * 500}), True, None, None),
    "of deltas": (count_some, False, None, counted),
    "of deltas under the ticket": (count_some, True, None, counted),
    "while views stand": (replace_some, False, large_ones, None),
}


@pytest.mark.parametrize("name", ["of deltas"])
def test_every_image_of_a_commit_of_deltas(stores, spawn, name):
    step_commits(stores, spawn, name)


@pytest.mark.long
@pytest.mark.watchdog(600)
@pytest.mark.parametrize("name", COMMITS)
def test_every_image_of_a_commit_that_others_feel(stores, spawn, name):
    step_commits(stores, spawn, name)


def step_commits(stores, spawn, name):
    change, immediate, hold, then = COMMITS[name]
    db = step_database(stores, spawn, name, fill, change, immediate, hold)
    if then is not None:
        then(db)


# ---------------------------------------------------------------- taking over

def take_over(store):
    """Whoever takes a tree's number takes the lock, and so rolls forward what a dead owner sealed."""
    return store.begin().create_tree


def step_take_over(spawn, store, sizes, trees, models, commit, keep=None, region_dir=None):
    """Every image of the take-over from an owner that died with commit + 1 sealed."""
    stepper = Stepper(store, sizes, trees, models, body_every=16, go_on_every=4, region_dir=region_dir)
    stepper.keep = keep
    try:
        permitted(stepper.run(spawn, take_over))
    finally:
        stepper.close()
    print(f"{stepper.steps} steps, {stepper.images} images; states {sorted(stepper.states)}")
    print(*stepper.bad, sep="\n")
    assert stepper.bad == []
    assert (False, commit + 1) in stepper.states
    assert dump(store, trees) == (commit + 1, models[commit + 1])
    return stepper


def killed_when_sealed(stores, spawn, scene_of, sizes=SIZES):
    store = stores(**sizes)
    scene = Scene(store, sizes)
    change = scene_of(scene)
    for grown in (True, False):             # room at hand, and nothing to recycle: the commit's own seal is the only one
        txn = store.begin()
        for i in range(60):
            txn.put(scene.b, b"room-%04d" % i + b"." * 390, b"r" * 10) if grown else txn.delete(scene.b, b"room-%04d" % i + b"." * 390)
        txn.commit()
    scene.touch(40)
    commit, before = dump(store, scene.trees)
    expected = Plain(before)
    change(expected)

    def die(out):
        own = stores.again(store)
        txn = own.begin()
        change(txn)
        own.region.failpoint("sealed", signal.SIGKILL)
        txn.commit()
    assert spawn(die).wait() == signal.SIGKILL
    count("kills")
    assert dump(store, scene.trees) == (commit, before)     # nobody has taken over yet
    return store, scene, commit, {commit: before, commit + 1: expected.result(scene)}


@pytest.mark.parametrize("scene", [put, pytest.param(split_of_two_trees, marks=pytest.mark.long), pytest.param(large_value, marks=pytest.mark.long),
                                   pytest.param(creation_and_drop, marks=pytest.mark.long)])
@pytest.mark.watchdog(600)
def test_every_image_of_a_take_over_that_is_killed_and_taken_over(stores, spawn, tmp_path, scene):
    """Killed in the commit, killed in the take-over, killed in the take-over of that: each image of both is judged."""
    store, scene, commit, models = killed_when_sealed(stores, spawn, scene)
    half = []

    def keep(image, slots):
        if U64.unpack_from(image, DESC)[0]:
            half.append((image, slots))
    first = step_take_over(spawn, store, SIZES, scene.trees, models, commit, keep)
    assert {(True, commit), (True, commit + 1)} <= first.states
    assert half, "no image of a take-over under way"
    for n, (image, slots) in enumerate(half[::max(1, len(half) // 3)]):
        folder = tmp_path / f"{n}" / f"memora-{os.getuid()}" / "copy"
        folder.mkdir(parents=True, mode=0o700)
        (folder / "region").write_bytes(image)
        (folder / "slots").write_bytes(slots)
        os.chmod(folder.parent, 0o700)
        again = Store.open("shm:copy", region_dir=str(tmp_path / f"{n}"), create=False)
        try:
            step_take_over(spawn, again, SIZES, scene.trees, models, commit, region_dir=str(tmp_path / f"{n}"))
            assert again.check() == []
        finally:
            again.close()


def test_a_chained_descriptor_is_taken_over(stores, spawn):
    """More stores than the descriptor holds: it goes on in chained frames, and whoever takes over performs these, too."""
    store = stores(max_bytes=8 << 20, initial_bytes=4 << 20)
    txn = store.begin()
    tree = txn.create_tree()
    txn.commit()
    rows = [(b"k%04d" % i + b"." * 390, b"v%d" % i) for i in range(400)]

    def change(own, point):
        txn = own.begin()
        for k, v in rows:
            txn.put(tree, k, v)
        if point:
            own.region.failpoint(point, signal.SIGKILL)
        txn.commit()

    def die(out):
        change(stores.again(store), "sealed")
    change(store, None)                     # the room is there afterwards
    txn = store.begin()
    for k, _ in rows:
        txn.delete(tree, k)
    txn.commit()
    for n in range(60):
        txn = store.begin()
        txn.put(tree, b"k", b"%d" % n)
        txn.delete(tree, b"k")
        txn.put(tree, b"j", b"%d" % n)
        txn.commit()
    n = 0
    while n < 1000:                         # the first to be sealed may be a collection
        assert spawn(die).wait() == signal.SIGKILL
        count("kills")
        with open(Path(store.region.directory, "region"), "rb") as f:
            f.seek(DESC)
            state, n, chain = struct.unpack("<QII", f.read(16))
        assert state and dump(store, [tree])[1][tree] == [(b"j", b"59")]
        assert store.check() == []          # takes over
    assert n == 1000 and chain
    assert dump(store, [tree])[1][tree] == [(b"j", b"59"), *rows]
