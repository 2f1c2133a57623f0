"""Topics: messages that everybody gets who listens.

A topic is a ring of the engine. A publish is a commit, so messages have one order for everybody, and one that is published in a
transaction appears together with the rows and keys of that transaction or not at all. Messages are numbered from 1 on; the
newest are kept, as many as fit into `retain` bytes, and each subscription reads them at a position of its own: nobody waits
for a subscriber, and one that was too slow is told what it missed (`Lagged`), then goes on at the oldest message kept.
"""
from __future__ import annotations

import time
from typing import Any, NamedTuple

from memora import errors, forks
from memora.durations import seconds
from memora.engine.codec import decode_value, encode_value

BEGINNING = "beginning"
HEADER_BYTES = 32                           # of a message in the ring
SLICE_S = 0.5                               # how soon a waiting reader notices that another thread closed it


class Message(NamedTuple):
    """One message: its number in the topic, what was published, the number of the commit, the time (seconds since the epoch)."""

    seq: int
    value: Any
    commit: int
    time: float


def create(txn, retain: int) -> dict:
    """The ring of a new topic; what its catalog row says of it."""
    return {"tree": txn.create_topic(retain), "retain": retain}


def message(seq: int, commit: int, time_ns: int, payload: bytes) -> Message:
    """What a reader of the ring returned, decoded."""
    return Message(seq, decode_value(payload), commit, time_ns / 1e9)


def reader(store, tree: int, position):
    """A reader of a topic's ring. position: None = from now on, 0 or "beginning" = from the oldest message kept, n = message n."""
    from memora.engine.feed import TopicReader
    if position == BEGINNING:
        position = 0
    elif position is not None and (isinstance(position, bool) or not isinstance(position, int)):
        raise TypeError(f"position must be None, {BEGINNING!r} or the number of a message, not {position!r}")
    elif position is not None and position < 0:
        raise ValueError(f"position must not be negative, but is {position}")
    return TopicReader(store.region, tree, position)


class Topic:
    """A topic. From db.topic(name), or tx.topic(name): then what is published becomes visible when the transaction commits."""

    def __init__(self, store, name: str, row: dict, txn=None):
        self.name = name
        self.retain = row["retain"]
        self._store = store
        self._tree = row["tree"]
        self._txn = txn

    def publish(self, value: Any) -> int | None:
        """Send a message and return the number of its commit; in a transaction None, because there is none yet.

        DataError: the message is larger than the topic. Nobody needs to listen.
        """
        payload = encode_value(value)
        if HEADER_BYTES + len(payload) > self.retain:
            raise errors.DataError(f"a message of {len(payload)} bytes (and {HEADER_BYTES} of its own) for topic {self.name!r}, which keeps {self.retain}")
        if self._txn is not None:
            self._txn.publish(self._tree, payload)
            return None
        from memora.engine.feed import topic_publish
        return topic_publish(self._store.region, self._tree, payload, self._store.timeout_s)

    def subscribe(self, position: int | str | None = None) -> Subscription:
        """Read the topic. position: None = what is published from now on, 0 or "beginning" = from the oldest message kept on,
        n = from message n on."""
        if self._txn is not None:
            raise errors.ProgrammingError(f"topic {self.name!r}: subscribe outside a transaction; it would only see what was committed before")
        return Subscription(self.name, reader(self._store, self._tree, position))

    def __repr__(self):
        return f"<memora.Topic {self.name!r}, retain {self.retain}>"


class Subscription:
    """The messages of one topic, in order, each once. An iterator that waits; `get` waits as long as it is told.

    Threads may share one: each message goes to one of them. Lagged is raised once when messages are gone that were not read
    yet; reading on continues at the oldest message kept.
    """

    def __init__(self, name: str, reader):
        self.name = name
        self._reader = reader
        self._lock = forks.Lock()       # a reader is one position: threads take turns

    @property
    def position(self) -> int:
        """The number of the message that comes next; subscribe(position) goes on there."""
        return self._open().position

    def _open(self):
        if self._reader is None:
            raise errors.ProgrammingError(f"the subscription to {self.name!r} is closed")
        return self._reader

    def get(self, timeout: float | str | None = None) -> Message | None:
        """The next message, or None when there is none within `timeout` (seconds or "30s"; None: wait for it; 0: only look).

        Lagged: messages were dropped before they were read; `missed` says how many, `first_available` what comes next.
        """
        timeout = None if timeout is None else seconds(timeout, "timeout")
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while True:
                # in slices, so that close() by another thread is noticed
                got = self._open().read(SLICE_S if timeout is None else min(timeout, SLICE_S))
                if got is not None:
                    return message(*got)
                if deadline is not None:
                    timeout = deadline - time.monotonic()
                    if timeout <= 0:
                        return None

    def __iter__(self):
        return self

    def __next__(self) -> Message:
        return self.get()

    def close(self):
        """End it. Idempotent."""
        self._reader = None

    @property
    def closed(self) -> bool:
        return self._reader is None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __repr__(self):
        return f"<memora.Subscription to {self.name!r}{', closed' if self._reader is None else ''}>"
