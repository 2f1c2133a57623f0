"""Named spaces that are made by first use: what they are made with, and what is said when that does not fit.

The catalog has one row a space (engine/catalog.py). Its options are fixed when it is created; whoever opens it again may leave
them out, or give the same ones.

    kv      tree, pickle, index
    cache   tree, max_bytes, ttl (seconds, 0 = for good), evict, index
    topic   tree, retain (bytes)
    queue   tree, ids (ipc/queues.py)
"""
from __future__ import annotations

from memora import errors
from memora.cache import cache
from memora.durations import seconds, size
from memora.engine import catalog
from memora.ipc import queues, topics

CACHE_BYTES = 64 << 20
TOPIC_BYTES = 4 << 20
INDEXES = ("btree", "hash")
WORDS = {"kv": "key space", "cache": "cache", "topic": "topic", "queue": "queue"}


class Wanted:
    """A space that somebody opens: its kind, the options given (None: not given), and what makes it."""

    __slots__ = ("kind", "given", "_create")

    def __init__(self, kind, given, create):
        self.kind, self.given, self._create = kind, given, create

    def create(self, txn) -> dict:
        return self._create(txn)

    def checked(self, name, row) -> dict:
        """The row; ProgrammingError: an option was given that is not the stored one."""
        for option, given in self.given.items():
            stored = row.get(option, "btree") if option == "index" else row[option]         # spaces older than the choice have no index in their row
            if given is not None and given != stored:
                raise errors.ProgrammingError(f"{WORDS[self.kind]} {name!r} was created with {option}={stored!r}, not {option}={given!r}; "
                                              "leave it out to take what is stored")
        return row


def _index(name):
    if name is not None and name not in INDEXES:
        raise errors.ProgrammingError(f"index={name!r}: there are {' and '.join(map(repr, INDEXES))}")
    return name


def kv(pickle: bool, index=None) -> Wanted:
    hashed = _index(index) == "hash"
    return Wanted("kv", {"pickle": bool(pickle), "index": index},
                  lambda txn: {"tree": txn.create_hash() if hashed else txn.create_tree(), "pickle": bool(pickle), "index": index or "btree"})


def cached(ttl, max_bytes, evict, index=None) -> Wanted:
    _index(index)
    ttl = None if ttl is None else seconds(ttl, "ttl")
    max_bytes = None if max_bytes is None else size(max_bytes, "max_bytes")
    evict = None if evict is None else cache.policy(evict)
    return Wanted("cache", {"ttl": ttl, "max_bytes": max_bytes, "evict": evict, "index": index},
                  lambda txn: cache.create(txn, max_bytes or CACHE_BYTES, ttl or 0.0, evict or "clock", index or "btree"))


def topic(retain) -> Wanted:
    retain = None if retain is None else size(retain, "retain")
    return Wanted("topic", {"retain": retain}, lambda txn: topics.create(txn, retain or TOPIC_BYTES))


def queue() -> Wanted:
    return Wanted("queue", {}, queues.create)


def in_store(store, name: str, wanted: Wanted) -> dict:
    """The row of a space, created in a transaction of its own if the name is free."""
    return wanted.checked(name, store.space(name, wanted.kind, wanted.create))


def in_transaction(txn, name: str, wanted: Wanted) -> dict:
    """The row of a space as a transaction sees it, created in that transaction if the name is free."""
    row = catalog.want(txn, name, wanted.kind)
    if row is None:
        if txn.read_only:
            raise errors.ProgrammingError(f"there is no {WORDS[wanted.kind]} {name!r} at commit {txn.snapshot}, and a read-only transaction cannot create it")
        row = {"kind": wanted.kind, "name": name, **wanted.create(txn)}
        catalog.put(txn, name, row)
    return wanted.checked(name, row)
