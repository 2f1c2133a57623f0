"""Caches: a key space that may forget, and never takes more than its bound.

A cache is a bounded tree of the engine: keys, values and 32 bytes an entry together stay within `max_bytes` in every commit; what was
not read lately is evicted for what is new (a CLOCK over the leaves: a hit sets one bit, and nothing else is written by a read).
An entry may have a time to live. Once it is over the entry is absent to every reader, whoever removes it and when.
A removal by the bound or by time is an operation of the commit that did it, so the change feed shows it ("evict", "expire").

Keys are int, str and bytes, values what the value codec takes; pickle is never used.

NOT DONE    One computation for many callers that miss one key at once (get_or_set may compute it several times, and keeps the
            first result that is stored), tags, counted hits.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from memora import errors
from memora.durations import seconds
from memora.kv import Space

POLICIES = ("clock",)
_ABSENT = object()


def create(txn, max_bytes: int, ttl: float, evict: str, index: str) -> dict:
    """The tree of a new cache; what its catalog row says of it."""
    return {"tree": txn.create_bounded(max_bytes, index == "hash"), "max_bytes": max_bytes, "ttl": ttl, "evict": evict, "index": index}


def expiry(ttl: float | str | None, default_s: float) -> int:
    """The wall clock in ns at which an entry written now is gone; 0 = never. ttl None: the default; 0: never."""
    ttl = default_s if ttl is None else seconds(ttl, "ttl")
    return time.time_ns() + max(1, int(ttl * 1e9)) if ttl else 0


class Cache(Space):
    """A cache. From db.cache(name), or tx.cache(name): then it reads and writes in that transaction.

    Each call is atomic and, outside a transaction, a commit of its own. `ttl` is in seconds or text like "30s"; None means the
    cache's own, 0 that the entry does not expire. `cache[key]`, `key in cache`, `del cache[key]` and iteration over keys work.
    """

    def __init__(self, store, name, row, pickle=False, transaction=None):
        self._ttl = row["ttl"]

    @property
    def ttl(self) -> float | None:
        """Seconds that an entry lives when nothing else is said, or None: for good."""
        return self._ttl or None

    @property
    def max_bytes(self) -> int:
        """The bound of keys and values, and 32 bytes an entry."""
        return self.row["max_bytes"]

    # get(key, default=None) is inherited: the fast path is in Space

    def set(self, key, value: Any, ttl: float | str | None = None):
        """Set a key. DataError: the entry alone is larger than the bound."""
        if ttl is None and not self._ttl:
            self.put(key, value)
        else:
            self.put(key, value, expiry(ttl, self._ttl))

    def __setitem__(self, key, value):
        self.set(key, value)

    def add(self, key, value: Any, ttl: float | str | None = None) -> bool:
        """Set a key only if it is absent. False: it was there, nothing changed."""
        return Space.add(self, key, value, expiry(ttl, self._ttl))

    def incr(self, key, by: float = 1, initial: float = 0, ttl: float | str | None = None) -> float:
        """Add to a number and return the new value. An absent key counts as `initial` and lives for `ttl`; one that is there
        keeps the time it has. TypeError: the value is no number. Outside a transaction it never conflicts."""
        return self._incr(key, by, initial, expiry(ttl, self._ttl))

    def bump(self, key, by: float = 1, initial: float = 0, ttl: float | str | None = None):
        """The same without looking at the number, which is not returned: in a transaction, never in conflict with others that do the same."""
        self._bump(key, by, initial, expiry(ttl, self._ttl))

    def touch(self, key, ttl: float | str | None = None) -> bool:
        """Give an entry a new time to live, from now on. False: the key is absent."""
        def work(cache):
            found = cache._found(key)
            if found is not None:
                cache.put(key, found[0], expiry(ttl, self._ttl))
            return found is not None
        return self.atomically(work)

    def get_or_set(self, key, value: Any | Callable[[], Any], ttl: float | str | None = None) -> Any:
        """The value of a key; if it is absent, `value`, or what `value()` returns, is stored and returned.

        Callers that miss at the same time may each call it; all get what was stored first.
        """
        found = self.get(key, _ABSENT)
        if found is not _ABSENT:
            return found
        new = value() if callable(value) else value
        if self.add(key, new, ttl):
            return new
        return self.get(key, new)

    def set_many(self, pairs: Mapping | Iterable[tuple], ttl: float | str | None = None):
        """Set all keys of a mapping, or of (key, value) pairs, in one commit."""
        self.put_many(pairs, expiry(ttl, self._ttl))

    def expires(self, key) -> float | None:
        """When an entry expires, in seconds since the epoch, or None: never. KeyError: the key is absent."""
        found = self.atomically(lambda cache: cache._found(key))
        if found is None:
            raise KeyError(key)
        _, until = found
        return until / 1e9 if until else None

    def stats(self) -> dict:
        """{"entries", "bytes", "max_bytes", "evicted"}: as committed by now; expired entries count until they are removed.

        Hits are not counted: a read writes nothing.
        """
        return self.store.control(self.row["tree"])

    def __bool__(self):
        return True                         # a handle, also when the cache is empty

    def __repr__(self):
        return f"<memora.Cache {self.name!r}, max_bytes {self.max_bytes}>"


def policy(name: str) -> str:
    """The name of an eviction policy, checked."""
    if name not in POLICIES:
        raise errors.NotSupportedError(f"evict={name!r}: there is {', '.join(map(repr, POLICIES))}; others come later")
    return name
