"""Tables that are no tables: key spaces, caches, queues and topics in FROM, and the processes of the region.

A provider takes the session's environment and the catalog's row, and returns (column names, rows), where rows(transaction) gives
tuples. `rows` of key spaces and caches also has at(transaction, values), for single keys. Entries of a key space, cache or queue are those of the statement's snapshot; a topic shows the messages that its ring holds
now, up to that snapshot; memora_processes, _locks, _snapshots and _stats show this moment.

    key space         key, value
    cache             key, value, expires (seconds since the epoch, NULL = never), size (bytes of key and value)
    queue             id, state, payload, priority, attempts, worker (slot of the process that has it), pid, enqueued, available
    topic             seq, commit_number, published, payload
    memora_processes  slot, pid, alive, since, commits, conflicts, what
    memora_locks      lock, slot, pid, alive, what, age, remaining, waiters
    memora_snapshots  entry, state, commit_number, behind, age, checkpoint, slot, pid, alive, what
    memora_spaces     name, kind, tree
    memora_stats      name, value

A value that SQL does not have (a list, a dict, an int beyond 64 bits) is shown as JSON text; bytes within it as hexadecimal text. A pickled
one is shown as the bytes of the pickle.
"""
from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

from memora import errors
from memora.engine import catalog
from memora.engine.codec import decode_key, decode_value, encode_key
from memora.engine.cursor import Cursor
from memora.ipc import queues, topics

PICKLED = b"\xcd"                           # the codec's tag of a pickled value


def shown(value):
    """A value of the codec as SQL has it."""
    if value is None or isinstance(value, (float, str, bytes)):
        return value
    if isinstance(value, int):
        return int(value) if -2 ** 63 <= value < 2 ** 63 else str(value)
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value):
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key.hex() if isinstance(key, bytes) else key: _plain(item) for key, item in value.items()}
    return value


def _value(data):
    return data[1:] if data[:1] == PICKLED else shown(decode_value(data))


def _entries(txn, tree) -> Iterator[Cursor]:
    cursor = Cursor(txn, tree)
    more = cursor.first()
    while more:
        yield cursor
        more = cursor.next()


class Keyed:
    """rows(transaction) of a tree of keys; at(transaction, values): only those whose key may equal one of the values."""

    def __init__(self, tree, row):
        self.tree, self.row = tree, row

    def __call__(self, txn):
        for cursor in _entries(txn, self.tree):
            yield self.row(cursor.key, cursor.value, cursor.expiry_ns)

    def at(self, txn, values):
        for key in dict.fromkeys(key for value in values for key in _keys(value)):
            found = txn.get_until(self.tree, key)
            if found is not None:
                yield self.row(key, *found)


def _keys(value) -> Iterator[bytes]:
    """The keys, as they are stored, that SQL shows as this value or as one that equals it."""
    if isinstance(value, float) and value.is_integer() or isinstance(value, int):
        yield encode_key(int(value))
    elif isinstance(value, (str, bytes)):
        yield encode_key(value)
        with contextlib.suppress(ValueError):
            if isinstance(value, str) and not -2 ** 63 <= int(value) < 2 ** 63:
                yield encode_key(int(value))            # shown as text


def _kv(row):
    return ("key", "value"), Keyed(row["tree"], lambda key, value, until: (shown(decode_key(key)), _value(value)))


def _cache(row):
    return ("key", "value", "expires", "size"), Keyed(row["tree"], lambda key, value, until: (
        shown(decode_key(key)), _value(value), until / 1e9 if until else None, len(key) + len(value)))


def _queue(store, row):
    def rows(txn):
        pids = {(p["slot"], p["generation"]): p["pid"] for p in store.processes()}
        for job in queues.records(txn, row["tree"]):
            yield (job.id, job.state, _value(job.payload), job.priority, job.attempts, job.slot, pids.get((job.slot, job.generation)),
                   job.enqueued_ns / 1e9, None if job.available_ns is None else job.available_ns / 1e9)
    return ("id", "state", "payload", "priority", "attempts", "worker", "pid", "enqueued", "available"), rows


def _topic(store, row):
    def rows(txn):
        reader = topics.reader(store, row["tree"], topics.BEGINNING)
        while True:
            # what is dropped while it is read was not kept: the rows go on at the oldest that is
            with contextlib.suppress(errors.Lagged):
                got = reader.read(0)
                if got is None or got[1] > txn.snapshot:
                    return
                seq, commit, time_ns, payload = got
                yield seq, commit, time_ns / 1e9, _value(payload)
    return ("seq", "commit_number", "published", "payload"), rows


def _processes(store):
    names = ("slot", "pid", "alive", "since", "commits", "conflicts", "what")

    def rows(txn):
        for process in store.processes():
            yield tuple(shown(process[name]) for name in names)
    return names, rows


def _locks(store):
    def rows(txn):
        for lock in store.locks():
            yield tuple(shown(lock[name]) for name in ("lock", "slot", "pid", "alive", "what", "age", "remaining", "waiters"))
    return ("lock", "slot", "pid", "alive", "what", "age", "remaining", "waiters"), rows


def _snapshots(store):
    def rows(txn):
        for snapshot in store.snapshots():
            yield tuple(shown(snapshot[name]) for name in ("entry", "state", "commit", "behind", "age", "checkpoint", "slot", "pid", "alive", "what"))
    return ("entry", "state", "commit_number", "behind", "age", "checkpoint", "slot", "pid", "alive", "what"), rows


def _spaces():
    def rows(txn):
        for row in catalog.items(txn):
            yield row["name"], row["kind"], row.get("tree")
    return ("name", "kind", "tree"), rows


def _stats(store):
    def rows(txn):
        for name, value in store.stats().items():
            yield name, shown(value)
    return ("name", "value"), rows


def registry(store) -> dict[str, Callable]:
    """The providers for one store: by kind of space, and "name:..." for fixed names."""
    return {
        "kv": lambda environment, row: _kv(row),
        "cache": lambda environment, row: _cache(row),
        "queue": lambda environment, row: _queue(store, row),
        "topic": lambda environment, row: _topic(store, row),
        "name:memora_processes": lambda environment, row: _processes(store),
        "name:memora_locks": lambda environment, row: _locks(store),
        "name:memora_snapshots": lambda environment, row: _snapshots(store),
        "name:memora_spaces": lambda environment, row: _spaces(),
        "name:memora_stats": lambda environment, row: _stats(store),
    }
