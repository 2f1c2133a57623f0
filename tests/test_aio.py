"""Awaitable twins: the same answers, waits that cost nothing, cancellation that leaves everything good."""
import asyncio
import contextlib
import functools
import inspect
import os
import signal
import threading
import time

import pytest
from regions import Child, db, shm  # noqa: F401

import memora
from memora import aio, errors


def run(test):
    """A test that is a coroutine function of (AsyncDatabase, region's name)."""
    @functools.wraps(test)
    def sync(shm):
        async def main():
            async with aio.open(shm, max_bytes="64MB") as db:
                await asyncio.wait_for(test(db, shm), 60)
                assert db.sync.check() == []
                assert not db._bell._futures
        asyncio.run(main(), debug=True)
    sync.__signature__ = inspect.Signature([inspect.Parameter("shm", inspect.Parameter.POSITIONAL_OR_KEYWORD)])
    del sync.__wrapped__
    return sync


@run
async def test_open_in_each_way(db, shm):
    other = await aio.open(shm)
    assert other.name == shm and not other.closed
    await other.close()
    await other.close()
    assert other.closed
    with pytest.raises(errors.ProgrammingError, match="closed"):
        other.kv("k")
    with pytest.raises(errors.RegionError):
        aio.open(shm + "-not", create=False)


@run
async def test_keys_and_caches(db, shm):
    k, cache = db.kv("k"), db.cache("c", ttl="1h")
    await k.put("a", 1)
    await k.put_many({n: n for n in range(600)})
    assert await k.get("a") == 1 and await k.incr("a") == 2 and await k.pop("a") == 2 and await k.get("a", 7) == 7
    assert [key async for key in k] == list(range(600))
    assert [pair async for pair in k.scan(590, limit=3)] == [(590, 590), (591, 591), (592, 592)]
    await cache.set("x", 1)
    assert await cache.get("x") == 1 and await cache.incr("n") == 1 and await cache.expires("x") > time.time()
    assert (await cache.stats())["entries"] == 2

    async def compute():
        await asyncio.sleep(0)
        return "made"
    assert [await cache.get_or_set("y", compute), await cache.get_or_set("y", None), await cache.get_or_set("z", lambda: 3)] == ["made", "made", 3]
    assert await cache.delete("y") and not await cache.delete("y")
    assert inspect.iscoroutinefunction(k.get) and k.get.__doc__ == memora.KeySpace.get.__doc__


@run
async def test_sql(db, shm):
    await db.execute("CREATE TABLE t (a, b)")
    rows = await db.execute("INSERT INTO t VALUES (1, 2), (3, 4)")
    assert (rows.rowcount, rows.lastrowid) == (2, 2)
    rows = await db.execute("SELECT * FROM t WHERE a > ?", (0,))
    assert rows.columns == ("a", "b") and [row async for row in rows] == [(1, 2), (3, 4)]
    assert await (await db.execute("SELECT 5")).fetchone() == (5,)
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO t VALUES (5, 6)")
        await tx.kv("k").put("a", 1)
        with pytest.raises(ZeroDivisionError), tx.savepoint():
            await tx.execute("DELETE FROM t")
            1 / 0  # noqa: B018
    assert await (await db.execute("SELECT count(*) FROM t")).fetchall() == [(3,)]
    assert tx.closed and tx.commit_number == db.commit_number


@run
async def test_transactions(db, shm):
    subscription = db.topic("t").subscribe()
    async with db.transaction() as tx:
        await tx.kv("k").put("n", 1)
        await tx.cache("c").set("n", 1)
        await tx.topic("t").publish(1)
        await tx.queue("q").put(1)
        assert tx.commit_number is None
    assert (await subscription.get()).commit == tx.commit_number
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.kv("k").put("n", 2)
            1 / 0  # noqa: B018
    assert await db.kv("k").get("n") == 1

    async def count(tx):
        k = tx.kv("k")
        n = await k.get("n")
        await asyncio.sleep(0.001)                      # the others come in between
        await k.put("n", n + 1)
        return n
    assert sorted(await asyncio.gather(*(db.run(count) for _ in range(8)))) == list(range(1, 9))
    with pytest.raises(errors.SerializationError):
        async with db.transaction() as tx:
            await count(tx)
            await db.kv("k").put("n", 0)
    async with db.snapshot() as tx:
        assert await tx.kv("k").get("n") == 0


@run
async def test_subscriptions(db, shm):
    topic = db.topic("t")
    await topic.publish("early")
    subscription, replay = topic.subscribe(), topic.subscribe("beginning")

    async def read(count):
        found = []
        async for message in subscription:
            found.append(message.value)
            if len(found) == count:
                return found
    reader = asyncio.create_task(read(3))
    for n in range(3):
        await asyncio.sleep(0.02)
        await topic.publish(n)
    assert await reader == [0, 1, 2]
    assert [(await replay.get()).value for _ in range(4)] == ["early", 0, 1, 2]
    begun = time.monotonic()
    assert await subscription.get(0.1) is None and await subscription.get("50ms") is None
    assert time.monotonic() - begun >= 0.14
    assert await subscription.get(0) is None and subscription.position == 5
    small = db.topic("small", retain=4096)
    lapped = small.subscribe()
    for _ in range(100):
        await small.publish("x" * 100)
    with pytest.raises(errors.Lagged):
        await lapped.get()
    assert (await lapped.get()).seq == 101 - 4096 // 136
    async with small.subscribe() as closed:
        pass
    with pytest.raises(errors.ProgrammingError, match="closed"):
        await closed.get()


@run
async def test_queues(db, shm):
    queue = db.queue("q")
    waiting = asyncio.create_task(queue.claim())
    await asyncio.sleep(0.02)
    assert await queue.put("a") == 1
    async with await waiting as job:
        assert (job.id, job.value, job.attempts, job.priority) == (1, "a", 1, 0)
    begun = time.monotonic()
    await queue.put("b", delay=0.15)
    assert await queue.claim(0) is None and await queue.claim(0.05) is None
    job = await queue.claim()
    assert job.value == "b" and time.monotonic() - begun >= 0.15
    await job.nack()
    with pytest.raises(ZeroDivisionError):
        async with await queue.claim(1):
            1 / 0  # noqa: B018
    job = await queue.claim(1)
    assert job.attempts == 3
    async with db.transaction() as tx:
        await tx.queue("q").ack(job)
    with pytest.raises(errors.OperationalError, match="not held"):
        await queue.ack(job)
    assert await queue.stats() == {"ready": 0, "delayed": 0, "leased": 0}


@run
async def test_a_job_comes_back_when_its_worker_dies(db, shm):
    queue = db.queue("q")
    await queue.put("a")
    with Child("db = memora.open(name)\njob = db.queue('q').claim(30)\nsay('held')\nsys.stdin.readline()", shm) as child:
        assert await asyncio.to_thread(child.line) == "held"
        heir = asyncio.create_task(queue.claim())
        await asyncio.sleep(0.25)
        assert not heir.done()
        child.kill()
        assert (await heir).attempts == 2


@run
async def test_changes(db, shm):
    k = db.kv("k")
    changes = db.changes("k")

    async def first():
        async for commit in changes:
            return commit
    waiting = asyncio.create_task(first())
    await asyncio.sleep(0.02)
    await db.kv("other").put("x", 0)                    # of no interest
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await k.put("a", 1)
    assert (await waiting).changes == [("k", "insert", "a", 1, None)]
    assert await changes.get(0.05) is None and changes.position == db.commit_number
    assert (await db.changes("k", since=0).get()).changes[0].new == 1


@run
async def test_cancelled_waits_take_nothing(db, shm):
    """Redis clients give the next caller the answer of the cancelled one. Here the handle goes on where it was."""
    topic, queue, k = db.topic("t"), db.queue("q"), db.kv("k")
    subscription, changes = topic.subscribe(), db.changes("k")
    for rounds in range(20):
        waits = [asyncio.create_task(wait) for wait in (subscription.get(), queue.claim(), changes.get())]
        await asyncio.sleep(0.002 * (rounds % 3))
        if rounds % 2:
            await topic.publish(rounds), await queue.put(rounds), await k.put("n", rounds)
        for wait in waits:
            wait.cancel()
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        if rounds % 2:
            seen = [outcome for outcome in outcomes if not isinstance(outcome, asyncio.CancelledError)]
            assert len(seen) in (0, 1, 2, 3)
            message, job, commit = (None if isinstance(outcome, asyncio.CancelledError) else outcome for outcome in outcomes)
            assert (message or await subscription.get(5)).value == rounds
            job = job or await queue.claim(5)
            assert job.value == rounds
            await job.ack()
            assert (commit or await changes.get(5)).changes[0].new == rounds
    assert await subscription.get(0) is None and await queue.claim(0) is None and await changes.get(0) is None


@run
async def test_many_waiters_and_a_timeout(db, shm):
    topic = db.topic("t")
    waits = [asyncio.create_task(topic.subscribe().get(30)) for _ in range(50)]
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(db.topic("silent").subscribe().get(), 0.05)
    await topic.publish("all")
    assert {message.value for message in await asyncio.gather(*waits)} == {"all"}
    # one thread for each open database, none for each wait
    assert threading.active_count() <= 3


@run
async def test_the_loop_is_free_while_others_commit(db, shm):
    code = """
    topic, k = memora.open(name).topic("t"), memora.open(name).kv("noise")
    say("ready")
    for n in range(200):
        k["n"] = n
        topic.publish(n)
    """
    subscription = db.topic("t").subscribe()
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1
    ticking = asyncio.create_task(tick())
    with Child(code, shm) as child:
        assert await asyncio.to_thread(child.line) == "ready"
        assert [(await subscription.get(30)).value for _ in range(200)] == list(range(200))
        await asyncio.sleep(0.05)
    ticking.cancel()
    assert ticks > 3


@run
async def test_closing_ends_waits(db, shm):
    other = aio.open(shm)
    waits = [asyncio.create_task(wait) for wait in (other.topic("t").subscribe().get(), other.queue("q").claim(), other.changes("t").get())]
    await asyncio.sleep(0.02)
    await other.close()
    for outcome in await asyncio.gather(*waits, return_exceptions=True):
        assert isinstance(outcome, errors.ProgrammingError) and "closed" in str(outcome)


def test_one_loop_after_the_other(shm):
    db = aio.open(shm)
    subscription = db.topic("t").subscribe()

    async def once(n):
        waiting = asyncio.create_task(subscription.get(30))
        await asyncio.sleep(0.01)
        await db.topic("t").publish(n)
        return (await waiting).value
    assert [asyncio.run(once(n)) for n in range(3)] == [0, 1, 2]
    asyncio.run(db.close())


def test_loops_of_two_threads_are_told_apart(shm):
    db = aio.open(shm)
    started, release = threading.Event(), threading.Event()

    async def first():
        waiting = asyncio.create_task(db.topic("t").subscribe().get(30))
        await asyncio.sleep(0.01)
        started.set()
        await asyncio.to_thread(release.wait)
        waiting.cancel()
    thread = threading.Thread(target=asyncio.run, args=(first(),))
    thread.start()
    started.wait(30)
    with pytest.raises(errors.ProgrammingError, match="another event loop"):
        asyncio.run(db.topic("t").subscribe().get(1))
    release.set()
    thread.join()
    asyncio.run(db.close())


@pytest.mark.parametrize("wait", ["sub.get()", "queue.claim()", "changes.get()"])
def test_ctrl_c_in_each_wait(db, shm, wait):
    code = f"""
    import asyncio
    from memora import aio
    db = aio.open(name)
    sub, queue, k = db.topic("t").subscribe(), db.queue("q"), db.kv("k")
    changes = db.changes("k")
    async def waits():
        say("ready")
        await {wait}
    try:
        asyncio.run(waits())
    except KeyboardInterrupt:
        say("interrupted")
    async def after():
        await db.topic("t").publish("m"), await queue.put("j"), await k.put("a", 1)
        say((await sub.get(5)).value, (await queue.claim(5)).value, (await changes.get(5)).changes[0].key)
        await db.close()
    asyncio.run(after())
    """
    with Child(code, shm) as child:
        assert child.line() == "ready"
        child.interrupt()
        assert child.line() == "interrupted"
        assert child.line() == "m j a"
        assert child.wait()[0] == 0


def test_waiting_costs_no_cpu(shm):
    """Each in a region of its own: what the others do at the start would be news."""
    codes = [f"""
    import asyncio
    from memora import aio
    async def main():
        db = aio.open(":memory:")
        sub, queue, changes = db.topic("t").subscribe(), db.queue("q"), db.changes()
        while await changes.get(0.05): pass
        before = time.process_time(), time.monotonic()
        assert await {wait} is None
        say(time.process_time() - before[0], time.monotonic() - before[1])
        await db.close()
    asyncio.run(main())
    """ for wait in ("sub.get(1)", "queue.claim(1)", "changes.get(1)")]
    children = [Child(code, shm) for code in codes]
    for code, child in zip(codes, children):
        with child:
            cpu, waited = map(float, child.line().split())
        assert waited >= 0.95, code
        assert cpu < 0.01 * waited, code


def test_fork_with_a_waiter(shm):
    """The thread behind the descriptor is not inherited: a forked child makes its own."""
    db = aio.open(shm)
    topic = db.topic("t")

    async def once(value):
        subscription = topic.subscribe()
        waiting = asyncio.create_task(subscription.get(10))
        await asyncio.sleep(0.01)
        await topic.publish(value)
        return (await waiting).value
    assert asyncio.run(once(1)) == 1
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(30)
            code = 0 if asyncio.run(once(2)) == 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asyncio.run(once(3)) == 3
    asyncio.run(db.close())


@run
async def test_an_immediate_transaction_waits_without_keeping_the_loop(db, shm):
    kv = db.kv("k")
    await kv.put("n", 0)
    order, ticks = [], 0

    async def change(name, pause):
        async with db.transaction(immediate=True) as tx:
            assert tx.ticket_held
            order.append(name)
            value = await tx.kv("k").get("n")
            await asyncio.sleep(pause)
            await tx.kv("k").put("n", value + 1)

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.005)

    async def single():
        order.append("put")
        await kv.put("other", 1)
        await db.execute("CREATE TABLE IF NOT EXISTS t (a)")
        order.append("put done")

    ticking = asyncio.create_task(tick())
    first = asyncio.create_task(change("first", 0.2))
    await asyncio.sleep(0.02)
    await asyncio.gather(first, change("second", 0.1), change("third", 0.1), single())
    ticking.cancel()
    assert order[0] == "first" and set(order) == {"first", "second", "third", "put", "put done"} and order.index("put done") > 1
    assert await kv.get("n") == 3
    assert ticks > 20
    tx = db.transaction(immediate=True)
    with pytest.raises(errors.ProgrammingError, match="ticket yet"):
        await tx.execute("SELECT 1")
    assert await tx is tx and tx.ticket_held
    await tx.rollback()
    assert db.sync.locks() == []


@run
async def test_a_ticket_of_this_thread_is_waited_for_until_the_timeout(db, shm):
    async with aio.open(shm, timeout=0.3) as other:
        async with db.transaction(immediate=True):
            with pytest.raises(errors.LockTimeout, match="is taken; held by process"):
                await other.transaction(immediate=True)
            with pytest.raises(errors.LockTimeout, match="not free within 0.3 s|this very thread"):
                await other.kv("k").put(1, 1)


@run
async def test_run_takes_the_ticket_after_three_conflicts(db, shm):
    kv = db.kv("k")
    held = []

    async def work(tx):
        held.append(tx.ticket_held)
        value = await tx.kv("k").get("n")
        if not tx.ticket_held:
            await kv.put("n", len(held))
        await tx.kv("k").put("m", value)

    await db.run(work)
    assert held == [False, False, False, True]


@run
async def test_run_begins_again_once_with_the_ticket_where_it_was_overtaken(db, shm):
    async with aio.open(shm + "-small", max_bytes="4MB", ring_bytes="256KB", snapshot_bytes="64KB") as small, aio.open(shm + "-small", timeout=0.05) as other:
        kv = other.kv("k")

        async def overtake():
            for n in range(40):
                await kv.put_many([(i, b"%08d" % n + b"." * 500) for i in range(200)])
        await overtake()
        held = []

        async def work(tx):
            held.append(tx.ticket_held)
            first = await tx.kv("k").get(0)
            with contextlib.suppress(errors.LockTimeout):
                await overtake()
            assert await tx.kv("k").get(199) == first
            await tx.kv("k").put("seen", first)
        await small.run(work)
        assert held == [False, True] and await kv.get("seen") == await kv.get(0)
    memora.remove(shm + "-small")
