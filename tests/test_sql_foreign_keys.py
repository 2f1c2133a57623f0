"""Foreign keys between connections and processes, and through Database: no schedule leaves an orphan."""
import os
import random

import pytest

import memora
from memora.errors import IntegrityError, NotSupportedError, OperationalError, SerializationError

SCHEMA = ("CREATE TABLE parent(id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INT)",
          "CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent, c REFERENCES parent(code) ON DELETE CASCADE)",
          "INSERT INTO parent VALUES (1, 'one', 0), (2, 'two', 0)")


@pytest.fixture
def db():
    made = memora.open(":memory:", foreign_keys=True)
    for sql in SCHEMA:
        made.execute(sql)
    yield made
    assert orphans(made) == []
    made.close()


def orphans(db):
    return list(db.execute("SELECT id FROM child WHERE (p IS NOT NULL AND p NOT IN (SELECT id FROM parent)) "
                           "OR (c IS NOT NULL AND c NOT IN (SELECT code FROM parent))"))


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
@pytest.mark.parametrize("child", ["INSERT INTO child(p) VALUES (2)", "INSERT INTO child(c) VALUES ('two')"])
@pytest.mark.parametrize("parent", ["DELETE FROM parent WHERE id = 2", "UPDATE parent SET id = 5, code = 'five' WHERE id = 2"])
def test_parent_that_goes_while_a_child_comes_is_a_conflict(db, isolation, child, parent):
    if "UPDATE" in parent and "c)" in child:
        db.execute("INSERT INTO parent VALUES (7, 'seven', 0)")
    for first, second in ((child, parent), (parent, child)):
        with pytest.raises(SerializationError):
            with db.transaction(isolation=isolation) as tx:
                tx.execute(first)
                with db.transaction(isolation=isolation) as other:
                    other.execute(second)
        db.execute("DELETE FROM child")
        db.execute("INSERT OR IGNORE INTO parent VALUES (2, 'two', 0)")
        db.execute("DELETE FROM parent WHERE id = 5")


def test_snapshot_isolation_validates_nothing_but_what_keys_rest_on(db):
    with db.transaction(isolation="snapshot") as tx:
        assert list(tx.execute("SELECT n FROM parent WHERE id = 1")) == [(0,)]
        tx.execute("INSERT INTO child(p) VALUES (2)")
        db.execute("UPDATE parent SET n = 1 WHERE id = 1")
    assert list(db.execute("SELECT p FROM child")) == [(2,)]


def test_cascade_to_a_child_that_comes_meanwhile_is_a_conflict(db):
    db.execute("INSERT INTO child VALUES (1, NULL, 'two')")
    with pytest.raises(SerializationError):
        with db.transaction(isolation="snapshot") as tx:
            tx.execute("DELETE FROM parent WHERE id = 2")
            db.execute("INSERT INTO child VALUES (2, NULL, 'two')")
    assert len(list(db.execute("SELECT * FROM child"))) == 2


def test_deferred_keys_in_a_transaction_of_the_database(db):
    db.execute("CREATE TABLE later(x REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
    tx = db.transaction()
    tx.execute("INSERT INTO later VALUES (9)")
    with pytest.raises(IntegrityError, match="FOREIGN KEY constraint failed"):
        tx.commit()
    tx.execute("INSERT INTO parent(id) VALUES (9)")
    tx.commit()
    with pytest.raises(IntegrityError):
        with db.transaction() as tx:
            tx.execute("INSERT INTO later VALUES (10)")
    assert list(db.execute("SELECT x FROM later")) == [(9,)]
    with db.transaction() as tx:
        with pytest.raises(IntegrityError):
            tx.execute("INSERT INTO child(p) VALUES (10)")
        with pytest.raises(ZeroDivisionError):
            with tx.savepoint():
                tx.execute("INSERT INTO later VALUES (11)")
                raise ZeroDivisionError
        tx.execute("INSERT INTO later VALUES (9)")
    assert list(db.execute("SELECT x FROM later")) == [(9,), (9,)]


def test_one_of_many_sessions_says_where_the_setting_is():
    with memora.open(":memory:") as db:
        with pytest.raises(NotSupportedError, match="foreign_keys=True"):
            db.execute("PRAGMA foreign_keys = ON")
        assert list(db.execute("PRAGMA foreign_keys")) == [(0,)]
        with db.connect() as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            assert connection.execute("PRAGMA foreign_keys").fetchall() == [(1,)]


def test_triggers_run_for_every_row_of_executemany_and_of_a_transaction(db):
    db.execute("CREATE TABLE log(what)")
    db.execute("CREATE TRIGGER t AFTER INSERT ON child BEGIN INSERT INTO log VALUES (new.p); END")
    connection = db.connect(isolation_level=None)
    connection.executemany("INSERT INTO child(p) VALUES (?)", [(1,), (2,), (1,)])
    with pytest.raises(IntegrityError):
        connection.executemany("INSERT INTO child(p) VALUES (?)", [(1,), (3,)])
    assert connection.execute("SELECT changes()").fetchone() == (0,)
    with db.transaction() as tx:
        tx.execute("INSERT INTO child(p) VALUES (2)")
    connection.close()
    assert list(db.execute("SELECT what FROM log")) == [(1,), (2,), (1,), (2,)]


def test_new_triggers_of_others_are_seen_and_compiled_programs_dropped(db):
    first, second = db.connect(isolation_level=None), db.connect(isolation_level=None)
    first.execute("CREATE TABLE log(what)")
    second.execute("INSERT INTO child(p) VALUES (1)")
    first.execute("CREATE TRIGGER t AFTER INSERT ON child BEGIN INSERT INTO log VALUES (new.p); END")
    second.execute("INSERT INTO child(p) VALUES (1)")
    first.execute("DROP TRIGGER t")
    first.execute("CREATE TRIGGER t AFTER INSERT ON child BEGIN INSERT INTO log VALUES (-new.p); END")
    second.execute("INSERT INTO child(p) VALUES (1)")
    first.execute("DROP TABLE log")
    with pytest.raises(OperationalError, match="no such table: main.log"):
        second.execute("INSERT INTO child(p) VALUES (1)")
    first.execute("DROP TRIGGER t")
    second.execute("INSERT INTO child(p) VALUES (1)")
    assert first.execute("SELECT count(*) FROM child").fetchone() == (4,)
    first.close()
    second.close()


def change_at_random(name, seed, rounds, isolation, out):
    """A child process: parents come and go, children too; in each transaction two changes."""
    r = random.Random(seed)
    with memora.open(name, foreign_keys=True) as db:
        for _ in range(rounds):
            try:
                with db.transaction(isolation=isolation) as tx:
                    for _ in range(2):
                        k = r.randint(1, 6)
                        tx.execute(*r.choice([("INSERT OR IGNORE INTO parent VALUES (?, ?, 0)", (k, f"code {k}")),
                                              ("DELETE FROM parent WHERE id = ?", (k,)),
                                              ("INSERT INTO child(p) SELECT id FROM parent WHERE id = ?", (k,)),
                                              ("INSERT INTO child(c) SELECT code FROM parent WHERE id = ?", (k,)),
                                              ("INSERT INTO child(p) VALUES (?)", (k,)),
                                              ("UPDATE child SET p = ? WHERE id % 3 = 0", (k,)),
                                              ("DELETE FROM child WHERE id % 4 = ?", (k,))]))
            except (IntegrityError, SerializationError):
                pass


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_processes_that_change_parents_and_children_leave_no_orphan(spawn, isolation):
    name = f"shm:test-foreign-keys-{os.getpid()}"
    with memora.open(name, foreign_keys=True) as db:
        try:
            for sql in SCHEMA:
                db.execute(sql)
            children = [spawn(change_at_random, name, n, 60, isolation) for n in range(3)]
            assert [child.wait() for child in children] == [0, 0, 0]
            assert orphans(db) == []
        finally:
            memora.remove(name)
