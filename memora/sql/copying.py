"""A copy of all that SQL has in one database into another one: tables, indexes, views and triggers, entry by entry as they lie there.

The target's own are dropped, and the copy becomes visible in one commit. Key spaces, caches, topics and queues are neither copied nor
touched; one that has the name of something that is copied is an OperationalError.

PAGES  The copy goes in steps of so many pages: 4096 bytes of entries each, one for the catalog, and at least one for each tree.
"""
from __future__ import annotations

from ..engine import catalog
from ..engine.cursor import Cursor
from ..errors import OperationalError

KINDS = ("table", "index", "view", "trigger")
PAGE_BYTES = 4096


def size(transaction):
    """The pages of a database, as a transaction sees it."""
    pages = 1
    for row in catalog.items(transaction):
        if row["kind"] in ("table", "index"):
            n = sum(len(key) + len(value) for key, value in entries(transaction, row["tree"]))
            pages += max(1, -(-n // PAGE_BYTES))
    return pages


def copy(source, target):
    """Copies between two transactions, source None: nothing; a generator that stops after each page."""
    for row in list(catalog.items(target)):
        if row["kind"] in KINDS:
            if row["kind"] in ("table", "index"):
                target.drop_tree(row["tree"])
            catalog.delete(target, row["name"])
    trees = []
    for row in () if source is None else list(catalog.items(source)):
        if row["kind"] not in KINDS:
            continue
        row = dict(row)
        if row["kind"] in ("table", "index"):
            tree, row["tree"] = row["tree"], target.create_tree()
            trees.append((tree, row["tree"]))
        if not catalog.insert(target, row["name"], row):
            raise OperationalError(f"cannot copy {row['kind']} {row['name']}: the target has a {catalog.get(target, row['name'])['kind']} of that name")
    for tree, to in trees:
        yield
        room = PAGE_BYTES
        for key, value in entries(source, tree):
            while room <= 0:
                yield
                room += PAGE_BYTES
            room -= len(key) + len(value)
            target.put(to, key, value)
        while room < 0:
            yield
            room += PAGE_BYTES
    yield


def entries(transaction, tree):
    cursor = Cursor(transaction, tree)
    more = cursor.first()
    while more:
        yield cursor.key, cursor.value
        more = cursor.next()
