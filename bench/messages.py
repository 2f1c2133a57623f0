"""Topics beside pyzmq (ipc sockets): a message there and back between two processes, and messages one way.

The partner is a process of its own. Wall time: these workloads wait. On a machine that is busy, or has fewer cores than processes, they
measure the scheduler above all.
"""
from __future__ import annotations

import multiprocessing
import statistics
import time
import uuid

from bench import contest

MESSAGE = b"m" * 100
SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 60.0


class Memora:
    """A topic each way, in one region. Every publish is a commit."""

    name = "memora"

    def __init__(self, directory):
        import memora
        self.region = f"shm:bench-{uuid.uuid4().hex[:12]}"
        self.owner = memora.open(self.region)
        self.join(self.region, "there", "back")
        self.partner = SPAWN.Process(target=partner, args=("Memora", self.region))
        self.partner.start()
        self.receive()

    def join(self, region, out, back):
        import memora
        self.db = memora.open(region)
        self.topic = self.db.topic(out, retain="64MB")
        self.subscription = self.db.topic(back, retain="64MB").subscribe("beginning")
        self.send = self.topic.publish

    def receive(self):
        message = self.subscription.get(PATIENCE_S)
        if message is None:
            raise TimeoutError(f"no message within {PATIENCE_S} s")
        return message.value

    @classmethod
    def joined(cls, address):
        other = cls.__new__(cls)
        other.join(address, "back", "there")
        return other

    def close(self):
        import memora
        stop(self)
        self.db.close()
        self.owner.close()
        memora.remove(self.region)


class Zmq:
    """A pair of sockets over ipc, without a limit of waiting messages."""

    name = "pyzmq"

    def __init__(self, directory):
        import zmq
        address = f"ipc://{directory}/socket"
        self.open(zmq).bind(address)
        self.partner = SPAWN.Process(target=partner, args=("Zmq", address))
        self.partner.start()
        self.receive()

    def open(self, zmq):
        socket = zmq.Context.instance().socket(zmq.PAIR)
        socket.set_hwm(0)
        socket.linger = 0
        socket.rcvtimeo = int(PATIENCE_S * 1000)
        self.socket, self.send, self.receive = socket, socket.send, socket.recv
        return socket

    @classmethod
    def joined(cls, address):
        import zmq
        other = cls.__new__(cls)
        other.open(zmq).connect(address)
        return other

    def close(self):
        stop(self)
        self.socket.close()


CONTENDERS = (Memora, Zmq)
TITLE = "messages of 100 B between two processes (wall time)"


def partner(kind, address):
    """The other process: sends back what says so, counts the rest, and answers "?" with "!"."""
    side = {"Memora": Memora, "Zmq": Zmq}[kind].joined(address)
    side.send(b"ready")
    while True:
        message = side.receive()
        if message[:1] == b"p":
            side.send(message)
        elif message == b"?":
            side.send(b"!")
        elif message == b"stop":
            break
    (side.db if kind == "Memora" else side.socket).close()


def stop(side):
    side.send(b"stop")
    side.partner.join(PATIENCE_S)
    if side.partner.exitcode != 0:
        side.partner.kill()
        raise RuntimeError(f"the partner of {side.name} ended with {side.partner.exitcode}")


def there_and_back(side, n) -> list[float]:
    """Seconds of each of n messages a -> b -> a."""
    clock, send, receive, times = time.perf_counter, side.send, side.receive, []
    for i in range(n):
        begun = clock()
        send(b"p%099d" % i)
        receive()
        times.append(clock() - begun)
    return times


def one_way(side, n) -> float:
    """Seconds a message, from the first send until the partner says that it has all."""
    send = side.send
    begun = time.perf_counter()
    for _ in range(n):
        send(MESSAGE)
    send(b"?")
    side.receive()
    return (time.perf_counter() - begun) / n


def run(settings, stack, say):
    """Yields lines, a workload at a time."""
    batch, rounds = settings.batch, settings.rounds
    yield ["", TITLE]
    contenders = contest.entered(CONTENDERS, stack, say)
    times = {c.name: [] for c in contenders}
    rates = {c.name: [] for c in contenders}
    for r in range(rounds + 1):
        for c in contenders[r % len(contenders):] + contenders[:r % len(contenders)]:
            found, rate = there_and_back(c, max(1, batch // 10)), one_way(c, batch)
            if r:
                times[c.name].append(found)
                rates[c.name].append(rate)
    for quantile, workload in ((50, "a->b->a p50"), (99, "a->b->a p99")):
        yield contest.table([contest.Result(name, workload, sum(map(len, found)), [percentile(t, quantile) for t in found])
                             for name, found in times.items()], {})
    yield contest.table([contest.Result(name, "one way", batch * len(found), found) for name, found in rates.items()], {})


def percentile(values, q) -> float:
    return statistics.quantiles(values, n=100)[q - 1] if len(values) > 1 else values[0]
