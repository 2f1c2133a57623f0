"""The change feed as users hold it: every commit, in order, as changes of rows, keys, cache entries, jobs and messages.

The engine's feed (engine/feed.pyx) gives commits as operations on trees, in bytes. Here they are decoded by what the catalog said of the
tree *at that commit*: the catalog's own changes (tree 1) are in the feed as well, so a follower that starts in the past takes the
catalog of now, undoes what was committed to it since, and then applies these commits as it meets them.

    space     key                       new, old
    table     rowid, or primary key     dict by column name (a tuple is the key where several columns are)
    kv        the key                   the value
    cache     the key                   the value; kind "expire" and "evict" beside "delete"
    queue     job id                    dict: id, state, value, attempts, priority, enqueued, available, worker. A claim is an "update"
    topic     None                      the message (kind "message")
    any       None                      None, kind "drop": the space itself is gone, with all that was in it. One of the same name that
                                        is created later is followed, too

`old` is None for an insert, `new` None for a removal. Changes of one commit stand in the order of their trees and keys, not of the
statements that made them.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from memora import errors, forks
from memora.durations import seconds
from memora.engine import catalog, feed
from memora.engine.codec import decode_key, decode_value
from memora.ipc import queues

SHOWN = ("table", "kv", "cache", "queue", "topic")
PICKLED = b"\xcd"                           # the codec's tag of a pickled value
SLICE_S = 0.5                               # how soon a waiting reader notices that another thread closed it
REMOVALS = {feed.DELETE: "delete", feed.EVICT: "evict", feed.EXPIRE: "expire"}


class Change(NamedTuple):
    """One change of one entry: the space's name, what happened ("insert", "update", "delete", "expire", "evict", "message",
    "drop"), the entry's key, and what it holds afterwards and held before (None: nothing)."""

    space: str
    kind: str
    key: Any
    new: Any
    old: Any


class Commit(NamedTuple):
    """One commit: its number, its time (seconds since the epoch), and its changes in the followed spaces."""

    number: int
    time: float
    changes: list[Change]


class Changes:
    """The commits that change the followed spaces, in commit order. From db.changes(). An iterator that waits.

    Lagged is raised once when commits have left the log before they were read: `missed` says how many, `first_available` where
    reading goes on. Threads may share one: each commit goes to one of them.
    """

    def __init__(self, store, names: str | Iterable[str] | None = None, since: int | None = None, pickle: bool = False):
        self._store = store
        self._pickle = pickle
        self._lock = forks.Lock()
        names = [names] if isinstance(names, str) else None if names is None else list(names)
        self._wanted = None if names is None else {catalog.fold(name) for name in names}
        self._closed = False
        if since is None:
            since = feed.Feed(store.region).position
        elif isinstance(since, bool) or not isinstance(since, int):
            raise TypeError(f"since must be the number of a commit, not {type(since).__name__}")
        # commit 1 is the empty region: it has no record, and nobody missed it
        since = max(since, 1) if since >= 0 else since
        now, then = self._begin(since)
        for name in names or ():
            if catalog.fold(name) not in now and catalog.fold(name) not in then:
                raise errors.ProgrammingError(f"there is no table or space {name!r} to follow")

    # ---- what the trees are

    def _begin(self, since):
        """Start after commit `since`, with the catalog as it was then. Returns the catalog's rows by name, now and then."""
        newest, now = self._store.reading(lambda txn: (txn.snapshot, {catalog.fold(row["name"]): row for row in catalog.items(txn)}))
        then = dict(now)
        if since < newest:
            undone = set()
            back = feed.Feed(self._store.region, since, {catalog.TREE})
            while True:
                try:
                    entry = back.read(0)
                except errors.Lagged:
                    continue                # the followers' own feed says so; here it only means a shorter way back
                if entry is None or entry[0] > newest:
                    break
                for _, _, key, _, old, _ in entry[2]:
                    name = decode_key(key)
                    if name in undone:
                        continue
                    undone.add(name)
                    if old is None:
                        then.pop(name, None)
                    else:
                        then[name] = decode_value(old)
        self._by_tree = {row["tree"]: Space(row, self._pickle) for name, row in then.items() if self._follows(name, row)}
        self._listen(since)
        return now, then

    def _follows(self, name, row):
        return row["kind"] in SHOWN and (self._wanted is None or name in self._wanted)

    def _listen(self, since):
        trees = None if self._wanted is None else {catalog.TREE, *self._by_tree}
        self._feed = feed.Feed(self._store.region, since, trees)

    def _learn(self, ops):
        """Take over what a commit did to the catalog. (changes to tell, trees that are gone, whether there are new trees)."""
        told, gone, more = [], [], False
        for tree, _, key, new, old, _ in ops:
            if tree != catalog.TREE:
                continue
            name = decode_key(key)
            before = None if old is None else decode_value(old)
            after = None if new is None else decode_value(new)
            if before is not None and not self._follows(name, before):
                before = None
            if after is not None and not self._follows(name, after):
                after = None
            if before is not None and (after is None or after["tree"] != before["tree"]):
                told.append(Change(before["name"], "drop", None, None, None))
                gone.append(before["tree"])
            if after is not None and (before is None or after["tree"] != before["tree"]):
                more = True
            if after is not None:
                self._by_tree[after["tree"]] = Space(after, self._pickle)
        return told, gone, more

    # ---- reading

    def _decode(self, entry):
        number, time_ns, ops = entry
        changes, gone, more = self._learn(ops)
        if more and self._wanted is not None:
            # A space that was just created: the filter did not let its first operations through, so read this commit again.
            self._listen(number - 1)
            again = self._feed.read(0)
            if again is not None and again[0] == number:
                ops = again[2]
        by_space = {}
        for op in ops:
            space = self._by_tree.get(op[0])
            if space is not None:
                by_space.setdefault(op[0], (space, []))[1].append(op)
        for space, ops in by_space.values():
            changes.extend(space.changes(ops))
        for tree in gone:
            self._by_tree.pop(tree, None)
        return Commit(number, time_ns / 1e9, changes)

    def _poll(self, timeout):
        """The next commit within timeout, or None. The lock is held."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._closed:
                raise errors.ProgrammingError("these changes are closed")
            try:
                # in slices, so that close() by another thread is noticed
                entry = self._feed.read(SLICE_S if timeout is None else min(timeout, SLICE_S))
                commit = None if entry is None else self._decode(entry)
            except errors.Lagged:
                self._begin(self._feed.position)
                raise
            if commit is not None and commit.changes:
                return commit
            if deadline is not None:
                timeout = deadline - time.monotonic()
                if timeout <= 0:
                    if commit is None:
                        return None
                    timeout = 0

    def get(self, timeout: float | str | None = None) -> Commit | None:
        """The next commit, or None when there is none within `timeout` (seconds or "30s"; None: wait for it; 0: only look).

        Lagged: commits left the log before they were read.
        """
        timeout = None if timeout is None else seconds(timeout, "timeout")
        with self._lock:
            return self._poll(timeout)

    def __iter__(self):
        return self

    def __next__(self) -> Commit:
        return self.get()

    @property
    def position(self) -> int:
        """The last commit read or passed over; changes(since=position) goes on there."""
        return self._feed.position

    def close(self):
        """End it. Idempotent."""
        self._closed = True

    @property
    def closed(self) -> bool:
        return self._closed

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __repr__(self):
        names = "all" if self._wanted is None else ", ".join(sorted(self._wanted))
        return f"<memora.Changes of {names}, at commit {self._feed.position}{', closed' if self._closed else ''}>"


class Space:
    """How the operations on one tree are told, by the row that the catalog has for it."""

    def __init__(self, row, pickle):
        self.name = row["name"]
        self.kind = row["kind"]
        self._row = row
        self._pickle = pickle
        self._decode = None                 # made when the first operation comes: a table's costs parsing its statement

    def changes(self, ops) -> list[Change]:
        """The changes that one commit's operations on this tree are."""
        if self.kind == "queue":
            return self._job_changes(ops)
        if self.kind == "topic":
            return [Change(self.name, "message", None, decode_value(new), None) for _, op, _, new, _, _ in ops if op == feed.MESSAGE]
        if self._decode is None:
            self._decode = _table_decoder(self._row) if self.kind == "table" else _pickles if self._pickle and self._row.get("pickle") else _plain
        return [self._change(*op) for op in ops if op[1] == feed.PUT or op[1] in REMOVALS]

    def _change(self, tree, op, key, new, old, expiry_ns):
        before = after = None
        if old is not None:
            shown, before = self._decode(key, old)
        if op == feed.PUT:
            shown, after = self._decode(key, new)
            kind = "insert" if old is None else "update"
        else:
            kind = REMOVALS[op]
        return Change(self.name, kind, shown, after, before)

    def _job_changes(self, ops):
        """A job that changes its state changes its key: the operations on one id are one change."""
        before, after = {}, {}
        for _, op, key, new, old, _ in ops:
            if old is not None:
                job = _job(key, old)
                before[job["id"]] = job
            if op == feed.PUT:
                job = _job(key, new)
                after[job["id"]] = job
        return [Change(self.name, "insert" if n not in before else "update" if n in after else "delete", n, after.get(n), before.get(n))
                for n in sorted({*before, *after})]


def _plain(key, value):
    return decode_key(key), value[1:] if value[:1] == PICKLED else decode_value(value)


def _pickles(key, value):
    return decode_key(key), decode_value(value, pickle=True)


def _job(key, value):
    job = queues.parse(key, value)
    return {"id": job.id, "state": job.state, "value": decode_value(job.payload), "attempts": job.attempts, "priority": job.priority,
            "enqueued": job.enqueued_ns / 1e9, "available": None if job.available_ns is None else job.available_ns / 1e9,
            "worker": job.slot}


def _table_decoder(row) -> Callable:
    """What turns a table's key and record into (rowid or primary key, dict by column name). The layouts are those of sql/record.pyx."""
    from memora.sql.catalog import table_of
    from memora.sql.parser import parse
    from memora.sql.record import decode
    table = table_of(parse(row["sql"]), row["tree"])
    names = [column.name for column in table.columns]
    primary = [] if table.has_rowid else [names[position] for position in table.primary_key.columns]

    def row_of(key, record):
        rowid = int.from_bytes(key, "big") - 2 ** 63 if table.has_rowid else 0
        values = dict(zip(names, decode(record, len(names), rowid, table.rowid_column, table.defaults)))
        if table.has_rowid:
            return rowid, values
        return values[primary[0]] if len(primary) == 1 else tuple(values[name] for name in primary), values
    return row_of
