"""Queues: order, delays, leases that live with their process, transactions, crowds of workers, kills."""
import random
import threading
import time

import counters
import pytest
from regions import Child, db, shm  # noqa: F401

from memora import errors

HOLDER = """
db = memora.open(name)
job = db.queue("q").claim(30)
say(job.id)
sys.stdin.readline()
job.ack()
say("done")
"""


def drain(queue):
    values = []
    while (job := queue.claim(0)) is not None:
        values.append(job.value)
        job.ack()
    return values


def test_put_claim_ack(db):
    queue = db.queue("q")
    before = time.time()
    assert [queue.put(value) for value in ("a", {"b": [1, None]}, None)] == [1, 2, 3]
    assert len(queue) == 3 and bool(queue)
    job = queue.claim(0)
    assert (job.id, job.value, job.attempts, job.priority) == (1, "a", 1, 0)
    assert before - 1 < job.enqueued <= time.time()
    assert repr(job) == "<memora.Job 1 of 'q', attempt 1>" and repr(queue) == "<memora.Queue 'q'>"
    assert queue.stats() == {"ready": 2, "delayed": 0, "leased": 1}
    job.ack()
    assert queue.stats() == {"ready": 2, "delayed": 0, "leased": 0}
    assert drain(queue) == [{"b": [1, None]}, None]
    assert queue.claim(0) is None and queue.claim(0.05) is None and len(queue) == 0
    assert queue.put("later") == 4                      # an id is never used again
    with pytest.raises(TypeError, match="set"):
        queue.put({1})


def test_first_in_first_out_within_priority(db):
    queue = db.queue("q")
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    put = []
    for n in range(200):
        priority = rng.choice((-0x7fffffff, -1, 0, 1, 5, 0x7fffffff))
        put.append((-priority, queue.put(n, priority=priority)))
    claimed = []
    while (job := queue.claim(0)) is not None:
        claimed.append((-job.priority, job.id))
    assert claimed == sorted(put)
    for wrong, error in ((1 << 31, ValueError), (1.0, TypeError), (True, TypeError), ("high", TypeError)):
        with pytest.raises(error):
            queue.put(1, priority=wrong)


def test_nack_keeps_the_place(db):
    queue = db.queue("q")
    queue.put("a")
    queue.put("b")
    job = queue.claim(0)
    job.nack()
    again = queue.claim(0)
    assert (again.id, again.value, again.attempts) == (job.id, "a", 2)
    again.nack(delay="50ms")
    assert queue.claim(0).value == "b"
    assert queue.claim(0) is None and queue.stats()["delayed"] == 1
    assert queue.claim(5).attempts == 3


def test_delay(db):
    queue = db.queue("q")
    begun = time.monotonic()
    queue.put("slow", delay=0.2)
    queue.put("slower", delay="0.3s", priority=9)
    queue.put("now")
    assert queue.stats() == {"ready": 1, "delayed": 2, "leased": 0}
    assert queue.claim(0).value == "now" and queue.claim(0) is None
    assert queue.claim(10).value == "slow" and time.monotonic() - begun >= 0.2
    assert queue.claim().value == "slower" and time.monotonic() - begun >= 0.3
    for wrong, error in ((-1, ValueError), (2e9, ValueError), (None, TypeError)):
        with pytest.raises(error):
            queue.put(1, delay=wrong)


def test_many_that_are_due_at_once(db):
    queue = db.queue("q")
    for n in range(200):
        queue.put(n, delay=0.001)
    time.sleep(0.01)
    assert drain(queue) == list(range(200))


def test_what_is_not_held_cannot_be_acknowledged(db):
    queue = db.queue("q")
    queue.put("a")
    job = queue.claim(0)
    job.nack()
    for act in (job.ack, job.nack, lambda: queue.ack(job)):
        with pytest.raises(errors.OperationalError, match="job 1 of queue 'q' is not held"):
            act()
    again = queue.claim(0)
    with pytest.raises(errors.OperationalError, match="attempt 1"):
        job.ack()                                       # the same process holds it again, but by another claim
    again.ack()
    with pytest.raises(errors.OperationalError):
        again.ack()
    db.queue("other").put("b")
    with pytest.raises(errors.ProgrammingError, match="'other', not of 'q'"):
        queue.ack(db.queue("other").claim(0))


def test_with_job(db):
    queue = db.queue("q")
    queue.put("a")
    with queue.claim(0) as job:
        assert job.value == "a"
    assert len(queue) == 0
    queue.put("b")
    with pytest.raises(ZeroDivisionError), queue.claim(0):
        1 / 0  # noqa: B018
    with queue.claim(0) as job:
        assert (job.value, job.attempts) == ("b", 2)
        job.nack(delay=30)
    assert queue.stats() == {"ready": 0, "delayed": 1, "leased": 0}
    queue.put("c")
    with pytest.raises(ZeroDivisionError), queue.claim(0) as job:
        job.ack()
        1 / 0  # noqa: B018
    assert len(queue) == 1


def test_in_a_transaction(db):
    queue, k = db.queue("q"), db.kv("k")
    with db.transaction() as tx:
        inner = tx.queue("q")
        assert [inner.put("a"), inner.put("b")] == [1, 2]
        assert len(inner) == 2 and len(queue) == 0
    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        job = tx.queue("q").claim()
        assert job.value == "a"
        job.ack()
        tx.kv("k")["done"] = job.value
        1 / 0  # noqa: B018
    assert "done" not in k and queue.stats()["ready"] == 2
    with db.transaction() as tx:                        # claimed, worked on and acknowledged in one commit
        with tx.queue("q").claim() as job:
            tx.kv("k")["done"] = job.value
        assert tx.queue("empty").claim() is None        # never waits
    assert k["done"] == "a" and queue.stats() == {"ready": 1, "delayed": 0, "leased": 0}
    job = queue.claim(0)
    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        tx.queue("q").ack(job)
        1 / 0  # noqa: B018
    with db.transaction() as tx:                        # claimed before, acknowledged with the work's own writes
        tx.queue("q").ack(job)
        tx.kv("k")["done"] = job.value
        tx.queue("next").put(job.value)
    assert k["done"] == "b" and len(queue) == 0 and db.queue("next").claim(0).value == "b"
    with pytest.raises(errors.OperationalError, match="not held"):
        job.ack()


def test_a_job_comes_back_at_once_when_its_worker_is_killed(db, shm):
    queue = db.queue("q")
    queue.put("a")
    queue.put("b")
    with Child(HOLDER, shm) as child:
        assert child.line() == "1"
        assert queue.claim(0).value == "b"
        assert queue.claim(0.3) is None                 # while the worker lives nobody gets it
        assert queue.stats()["leased"] == 2
        begun = time.monotonic()
        child.kill()
        counters.count("kills")
        job = queue.claim(30)
        print("came back after", time.monotonic() - begun)
    assert (job.id, job.value, job.attempts) == (1, "a", 2)
    job.ack()


def test_a_waiting_worker_takes_over(db, shm):
    """One that is asleep in claim() gets the job of a worker that is killed meanwhile, ahead of nothing else."""
    queue = db.queue("q")
    queue.put("a")
    with Child(HOLDER, shm) as child, Child(HOLDER, shm) as heir:
        first, second = (child, heir) if child_is_first(child, heir) else (heir, child)
        first.kill()
        counters.count("kills")
        assert second.line() == "1"
        second.tell()
        assert second.line() == "done"
    assert len(queue) == 0


def child_is_first(child, heir):
    import select
    ready, _, _ = select.select([child.process.stdout, heir.process.stdout], [], [], 60)
    first = child if child.process.stdout in ready else heir
    assert first.line() == "1"
    return first is child


def test_a_stopped_worker_keeps_its_job(db, shm):
    import signal
    queue = db.queue("q")
    queue.put("a")
    with Child(HOLDER, shm) as child:
        child.line()
        child.process.send_signal(signal.SIGSTOP)
        assert queue.claim(0.5) is None
        child.process.send_signal(signal.SIGCONT)
        child.tell()
        assert child.line() == "done"
    assert len(queue) == 0


def test_a_worker_that_leaves_gives_up_its_jobs(db, shm):
    with Child("db = memora.open(name)\nassert db.queue('q').claim(30)\ndb.close()\nsay('left')\nsys.stdin.readline()", shm) as child:
        db.queue("q").put("a")
        assert child.line() == "left"
        assert db.queue("q").claim(30).attempts == 2


def test_claim_waits_for_a_put(db, shm):
    queue = db.queue("q")
    with Child("db = memora.open(name)\nsay('ready')\nsys.stdin.readline()\ntime.sleep(0.2)\ndb.queue('q').put('late')", shm) as child:
        child.line()
        child.tell()
        begun = time.monotonic()
        assert queue.claim(30).value == "late"
        assert time.monotonic() - begun > 0.1


WORKER = """
db = memora.open(name)
queue, done = db.queue("q"), db.topic("done")
say("ready")
while (job := queue.claim(5)) is not None:
    if job.value is None:
        job.ack()
        break
    db.run(lambda tx: (tx.queue("q").ack(job), tx.topic("done").publish([job.id, job.value])))
"""


def test_crowd_of_workers_does_everything_once(db, shm):
    queue, done = db.queue("q"), db.topic("done").subscribe()
    children = [Child(WORKER, shm) for _ in range(3)]
    for child in children:
        child.line()
    for n in range(300):
        queue.put(n)
    for _ in children:
        queue.put(None)
    seen = [done.get(30).value for _ in range(300)]
    for child in children:
        with child:
            assert child.wait()[0] == 0
    assert sorted(value for _, value in seen) == list(range(300))
    assert done.get(0) is None and len(queue) == 0


def test_workers_that_are_killed_lose_and_repeat_nothing(db, shm):
    """Acknowledging and the work's own write are one commit: whenever a worker is killed, each job's result is there once."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    queue, done = db.queue("q"), db.topic("done").subscribe()
    for n in range(400):
        queue.put(n)
    for _ in range(8):
        with Child(WORKER, shm) as child:
            child.line()
            time.sleep(rng.random() * 0.02)
            child.kill()
        counters.count("kills")
    queue.put(None)
    with Child(WORKER, shm) as child:
        assert child.wait()[0] == 0
    seen = []
    while (message := done.get(0)) is not None:
        seen.append(message.value[1])
    assert sorted(seen) == list(range(400))
    assert db.check() == []


def test_ids_are_given_once_and_leave_no_gap(db, shm):
    """They are reserved before the commit, so two processes may commit in another order; jobs are claimed in the order of their ids."""
    code = """
    queue = memora.open(name).queue("q")
    say("ready")
    sys.stdin.readline()
    for n in range(100):
        queue.put(n)
    """
    queue, changes = db.queue("q"), db.changes("q")
    children = [Child(code, shm) for _ in range(3)]
    for child in children:
        child.line()
    for child in children:
        child.tell()
    ids = []
    while len(ids) < 300:
        ids.extend(change.key for change in changes.get(30).changes)
    for child in children:
        with child:
            assert child.wait()[0] == 0
    assert sorted(ids) == list(range(1, 301))
    assert [queue.claim(0).id for _ in range(300)] == sorted(ids)


def test_threads_share_a_queue(db):
    queue = db.queue("q")
    got = []

    def work():
        while (job := queue.claim(5)).value is not None:
            got.append(job.value)
            job.ack()
        job.ack()
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(100):
        queue.put(n)
    for _ in threads:
        queue.put(None, priority=-1)
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(100)) and len(queue) == 0


def test_model(db):
    """Random steps of one worker on a queue and on a list."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    queue = db.queue("q")
    ready, leased, delayed = [], {}, set()
    number = 0
    for _ in range(1500):
        step = rng.choice("ppcccakn")
        if step == "p":
            number += 1
            priority = rng.randrange(3)
            later = rng.random() < 0.1
            assert queue.put(number, priority=priority, delay=1000 if later else 0) == number
            delayed.add(number) if later else ready.append((-priority, number))
        elif step == "c":
            job = queue.claim(0)
            assert (None if job is None else (-job.priority, job.id)) == min(ready, default=None)
            if job is not None:
                ready.remove((-job.priority, job.id))
                leased[job.id] = job
        elif leased:
            job = leased.pop(rng.choice(list(leased)))
            if step == "a":
                job.ack()
            elif step == "n":
                job.nack(delay=1000)
                delayed.add(job.id)
            else:
                job.nack()
                ready.append((-job.priority, job.id))
        assert queue.stats() == {"ready": len(ready), "delayed": len(delayed), "leased": len(leased)}
    counters.count("model steps", 1500)
