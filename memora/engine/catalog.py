"""The catalog: one row for each named space of a region, whatever its kind. Tree 1.

Key: the name with ASCII letters folded to lower case, as key bytes. Value: a dict by the value codec with at least
`kind` ("table", "index", "view", "trigger", "kv", "cache", "topic", "queue"), `name` as it was given, and `tree`. Tables, key spaces, caches, topics and
queues share one name space, so a name means one thing to all faces. A row's other keys belong to the layer that made it.
"""
from memora import errors
from memora.engine.codec import decode_key, decode_value, encode_key, encode_value

TREE = 1
_FOLD = str.maketrans({c: chr(ord(c) + 32) for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})


def fold(name: str) -> str:
    """The name as it is compared: ASCII letters in lower case."""
    return name.translate(_FOLD)


def _key(name):
    if not isinstance(name, str):
        raise TypeError(f"a name must be str, not {type(name).__name__}")
    if not name or len(name) > 200 or "\0" in name:
        raise errors.ProgrammingError(f"{name[:40]!r} cannot be a name: 1 to 200 characters without NUL")
    return encode_key(fold(name))


def get(txn, name: str):
    """The row of a name, or None."""
    data = txn.get(TREE, _key(name))
    return None if data is None else decode_value(data)


def put(txn, name: str, row: dict):
    """Create or replace the row of a name."""
    txn.put(TREE, _key(name), encode_value(row))


def insert(txn, name: str, row: dict) -> bool:
    """Create the row of a name; False: the name is taken."""
    return txn.insert(TREE, _key(name), encode_value(row))


def delete(txn, name: str) -> bool:
    return txn.delete(TREE, _key(name))


def items(txn):
    """All rows, ordered by folded name."""
    from memora.engine.cursor import Cursor
    cursor = Cursor(txn, TREE)
    more = cursor.first()
    rows = []
    while more:
        decode_key(cursor.key)
        rows.append(decode_value(cursor.value))
        more = cursor.next()
    return iter(rows)


def want(txn, name: str, kind: str):
    """The row of a name, which must be of this kind, or None if the name is free. ProgrammingError names what it is."""
    row = get(txn, name)
    if row is not None and row["kind"] != kind:
        raise errors.ProgrammingError(f"{name!r} is a {row['kind']}, not a {kind}")
    return row
