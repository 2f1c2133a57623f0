"""Topics: order, positions, replay, Lagged, transactions, several publishers and subscribers."""
import itertools
import threading
import time

import counters
import pytest
from regions import Child, db, shm  # noqa: F401

from memora import errors


def rest(subscription):
    found = []
    while (message := subscription.get(0)) is not None:
        found.append(message)
    return found


def test_publish_and_subscribe(db):
    topic = db.topic("t")
    topic.publish("unheard")
    one, two = topic.subscribe(), topic.subscribe()
    before = time.time()
    commits = [topic.publish(value) for value in (None, 1, "x", b"\0" * 2000, [1, {"a": 2.5}])]
    assert commits == sorted(set(commits)) and commits[-1] == db.commit_number
    for subscription in (one, two):
        messages = rest(subscription)
        assert [message.value for message in messages] == [None, 1, "x", b"\0" * 2000, [1, {"a": 2.5}]]
        assert [message.seq for message in messages] == [2, 3, 4, 5, 6]
        assert [message.commit for message in messages] == commits
        assert all(before - 1 < message.time < time.time() + 1 for message in messages)
    assert one.get(0.05) is None and one.position == 7
    with pytest.raises(TypeError, match="set"):
        topic.publish({1})


def test_positions(db):
    topic = db.topic("t")
    for n in range(1, 11):
        topic.publish(n)
    assert [m.value for m in rest(topic.subscribe(0))] == list(range(1, 11))
    assert [m.value for m in rest(topic.subscribe("beginning"))] == list(range(1, 11))
    assert [m.value for m in rest(topic.subscribe(8))] == [8, 9, 10]
    assert rest(topic.subscribe(11)) == [] == rest(topic.subscribe())
    again = topic.subscribe(5)
    assert again.get(0).value == 5
    assert [m.value for m in rest(topic.subscribe(again.position))] == [6, 7, 8, 9, 10]
    for wrong, error in ((-1, ValueError), ("end", TypeError), (1.0, TypeError), (True, TypeError), (12, errors.ProgrammingError)):
        with pytest.raises(error):
            topic.subscribe(wrong)


def test_lapped_subscriber_is_told_and_goes_on(db):
    topic = db.topic("t", retain=4096)
    subscription = topic.subscribe()
    for n in range(1, 201):
        topic.publish("x" * 100 + str(n))
    with pytest.raises(errors.Lagged) as info:
        subscription.get(0)
    first = info.value.first_available
    assert info.value.missed == first - 1 and first > 100
    assert f"{first - 1} messages" in str(info.value)
    messages = rest(subscription)
    assert [m.seq for m in messages] == list(range(first, 201))
    assert messages[-1].value.endswith("200")
    with pytest.raises(errors.Lagged) as info:
        topic.subscribe(1).get(0)
    assert info.value.first_available == first
    assert topic.subscribe(0).get(0).seq == first


def test_every_message_is_read_or_counted(db, shm):
    """A slow reader of a small ring: what it got and what it was told it missed is everything, once, in order."""
    code = """
    topic = memora.open(name).topic("t")
    say("ready")
    sys.stdin.readline()
    for n in range(1, 3001):
        topic.publish("y" * 100)
    say("done")
    """
    topic = db.topic("t", retain=8192)
    subscription = topic.subscribe()
    following, missed = 1, 0
    with Child(code, shm) as child:
        child.line()
        child.tell()
        while following <= 3000:
            try:
                message = subscription.get(30)
            except errors.Lagged as lagged:
                assert lagged.first_available == following + lagged.missed
                following = lagged.first_available
                missed += lagged.missed
                continue
            assert message.seq == following
            following += 1
            if following % 50 == 0:
                time.sleep(0.002)
        assert child.line() == "done"
    print("missed", missed)
    assert topic.subscribe().position == 3001


def test_message_larger_than_the_topic(db):
    topic = db.topic("t", retain="4KB")
    with pytest.raises(errors.DataError, match="message of 5003 bytes .* keeps 4096"):
        topic.publish("x" * 5000)
    topic.publish("x" * 4000)
    assert topic.subscribe(0).get(0).value == "x" * 4000


def test_messages_larger_than_a_topic_of_the_same_transaction(db):
    with pytest.raises(errors.DataError), db.transaction() as tx:
        topic = tx.topic("new", retain=4096)
        for _ in range(3):
            topic.publish("x" * 3000)
    assert db.check() == []


def test_in_a_transaction(db):
    topic = db.topic("t")
    subscription = topic.subscribe()
    with db.transaction() as tx:
        inner = tx.topic("t")
        assert inner.publish(1) is None and inner.publish(2) is None
        tx.kv("k")["a"] = 1
        assert subscription.get(0) is None
        with pytest.raises(errors.ProgrammingError, match="outside"):
            inner.subscribe()
    one, two = rest(subscription)
    assert (one.value, two.value) == (1, 2) and one.commit == two.commit == tx.commit_number
    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        tx.topic("t").publish(3)
        1 / 0  # noqa: B018
    assert subscription.get(0) is None


def test_iterating_and_closing(db):
    topic = db.topic("t")
    with topic.subscribe() as subscription:
        for n in range(3):
            topic.publish(n)
        assert [m.value for m in itertools.islice(subscription, 3)] == [0, 1, 2]
    subscription.close()
    assert subscription.closed and "closed" in repr(subscription)
    for use in (lambda: subscription.get(0), lambda: next(subscription), lambda: subscription.position):
        with pytest.raises(errors.ProgrammingError, match="closed"):
            use()
    with pytest.raises(ValueError):
        topic.subscribe().get(-1)


def test_waiting_wakes_at_once(db, shm):
    """A subscriber that sleeps in another process gets each message; far sooner than by polling once a second."""
    code = """
    db = memora.open(name)
    there = db.topic("there")
    back = db.topic("back").subscribe
    subscription = db.topic("back").subscribe()
    say("ready")
    for n in range(20):
        there.publish(n)
        assert subscription.get(30).value == n
    say("done")
    """
    there, back = db.topic("there").subscribe(), db.topic("back")
    with Child(code, shm) as child:
        assert child.line() == "ready"
        for n in range(20):
            time.sleep(0.01)
            message = there.get(30)
            back.publish(message.value)
        assert child.line() == "done"


def test_many_publishers_one_order(db, shm):
    """Three processes publish; everybody sees one order, in which nobody's messages are out of theirs, none twice, none lost."""
    code = """
    topic = memora.open(name).topic("t")
    say("ready")
    me = int(sys.stdin.readline())
    for n in range(300):
        topic.publish([me, n])
    """
    topic = db.topic("t")
    subscriptions = [topic.subscribe() for _ in range(2)]
    children = [Child(code, shm) for _ in range(3)]
    for number, child in enumerate(children):
        child.line()
        child.tell(str(number))
    seen = [[subscription.get(30) for _ in range(900)] for subscription in subscriptions]
    for child in children:
        with child:
            assert child.wait()[0] == 0
    assert seen[0] == seen[1]
    assert [m.seq for m in seen[0]] == list(range(1, 901))
    assert [m.commit for m in seen[0]] == sorted({m.commit for m in seen[0]})
    for number in range(3):
        assert [m.value[1] for m in seen[0] if m.value[0] == number] == list(range(300))


def test_threads_share_a_subscription(db):
    topic = db.topic("t")
    subscription = topic.subscribe()
    got = []

    def work():
        while (message := subscription.get(5)).value is not None:
            got.append(message.value)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(200):
        topic.publish(n)
    for _ in threads:
        topic.publish(None)
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(200))


def test_killed_publishers(db, shm):
    code = """
    topic = memora.open(name).topic("t")
    n = int(sys.stdin.readline())
    while True:
        topic.publish(n)
        say(n)
        n += 1
    """
    topic = db.topic("t")
    subscription = topic.subscribe()
    following = 0
    for _ in range(5):
        with Child(code, shm) as child:
            child.tell(str(following))
            for _ in range(30):
                acknowledged = int(child.line())
            child.kill()
            left = child.process.stdout.read().split()
            acknowledged = int(left[-1]) if left else acknowledged
        counters.count("kills")
        values = [m.value for m in rest(subscription)]
        assert values == list(range(following, values[-1] + 1))
        assert values[-1] in (acknowledged, acknowledged + 1)
        following = values[-1] + 1
