"""What a connection opens: names of memora.open, URIs of SQLite, and databases that are open already.

URIS    file:PATH?mode=ro|rw|rwc|memory&cache=shared|private. ro: nothing is made, and changes raise ReadOnly; rw: nothing is made;
        memory: a private database, or with cache=shared the one that this process's connections share by that name, until the last of
        them is closed. PATH is percent-decoded; ":memory:" in its place is mode=memory.
"""
from __future__ import annotations

import os
from urllib.parse import parse_qs, unquote_to_bytes

from memora import database as databases, forks
from memora.errors import NotSupportedError, OperationalError

MODES = ("ro", "rw", "rwc", "memory")


class Shared:
    """A database in memory that connections of this process share by name."""

    _lock = forks.Lock()
    _open = {}                          # name -> Shared

    def __init__(self, name, timeout):
        self.name, self.users, self.database = name, 0, databases.open(":memory:", timeout=timeout)

    @classmethod
    def of(cls, name, timeout):
        with cls._lock:
            found = cls._open.get(name)
            if found is None or found.database.closed:
                found = cls._open[name] = cls(name, timeout)
            found.users += 1
            return found

    def session(self):
        return self.database.session()

    def close(self):
        with self._lock:
            self.users -= 1
            if self.users:
                return
            if self._open.get(self.name) is self:
                del self._open[self.name]
        self.database.close()


def opened(database, uri, timeout):
    """(the database, whether it is the connection's to close, whether changes are refused)."""
    if hasattr(database, "session"):
        return database, False, False
    name = os.fsdecode(database)
    if uri and name.startswith("file:"):
        return _opened_uri(name, timeout)
    return databases.open(name or ":memory:", timeout=timeout), True, False


def _opened_uri(uri, timeout):
    rest, _, _ = uri[len("file:"):].partition("#")
    path, _, query = rest.partition("?")
    if path.startswith("//"):
        authority, slash, path = path[2:].partition("/")
        if authority not in ("", "localhost"):
            raise OperationalError(f"invalid uri authority: {authority}")
        path = slash + path
    options = {key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()}
    mode, cache = options.pop("mode", "rwc"), options.pop("cache", "private")
    if mode not in MODES:
        raise OperationalError(f"no such access mode: {mode}")
    if cache not in ("shared", "private"):
        raise OperationalError(f"no such cache mode: {cache}")
    if options:
        raise NotSupportedError(f"option {next(iter(options))}= of {uri!r}: only mode= and cache= are known")
    path = os.fsdecode(unquote_to_bytes(os.fsencode(path)))
    if mode == "memory" or path in ("", ":memory:"):
        if cache == "shared" and path:
            return Shared.of(path, timeout), True, False
        return databases.open(":memory:", timeout=timeout), True, False
    return databases.open(path, timeout=timeout, create=mode == "rwc"), True, mode == "ro"
