"""A whole database as bytes, and back: what a checkpoint would put into a file, of one commit."""
from __future__ import annotations

import os
import secrets
import tempfile

from memora import errors
from memora.engine.checkpoint import HEAD_MAGIC, load, read_head, write_checkpoint
from memora.engine.region import Region
from memora.engine.store import Store

NAME = "image"


def serialize(store: Store) -> bytes:
    """Everything that the newest commit sees, tables and all other spaces, in the format of a database file (docs/format.md)."""
    with tempfile.TemporaryDirectory(prefix="memora-") as folder:
        path = os.path.join(folder, NAME)
        write_checkpoint(store.region, path, secrets.token_bytes(16), 1, lambda: None)
        with open(path, "rb") as file:
            return file.read()


def deserialize(data: bytes, timeout_s: float = 5.0) -> Store:
    """A store in private memory with the content of an image; an empty one for no bytes.

    DatabaseError: these are no database's bytes; CorruptionError: they are damaged.
    """
    if data and data[:len(HEAD_MAGIC)] != HEAD_MAGIC:
        raise errors.DatabaseError(f"file is not a database: the bytes begin with {bytes(data[:16])!r}")
    region = Region.memory()
    try:
        if data:
            with tempfile.TemporaryDirectory(prefix="memora-") as folder:
                path = os.path.join(folder, NAME)
                with open(path, "wb") as file:
                    file.write(data)
                load(region, path, read_head(path))
    except BaseException:
        region.close()
        raise
    return Store(region, timeout_s)
