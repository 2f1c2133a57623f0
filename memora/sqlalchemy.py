"""SQLAlchemy's dialect of Memora: `create_engine("memora:///path")`, derived from the SQLite dialect that comes with SQLAlchemy.

URLs: `memora://` is a region of one's own in memory, `memora:///shm:NAME` and `memora:///sysv:NAME` are shared ones, `memora:///relative/path`
and `memora:////absolute/path` are files. The dialect's name stays "sqlite", as the SQL is: `sqlite_where=`, `sqlalchemy.dialects.sqlite.insert`
and programs that ask for the name work. Transactions are serializable: COMMIT may raise SerializationError, here as
`sqlalchemy.exc.OperationalError`, and the transaction is to be run again.
"""
from __future__ import annotations

import os
import re

from sqlalchemy import exc, pool, util
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

_NO_FILES = (":memory:", "shm:", "sysv:")
_ARGUMENTS = (("timeout", float), ("isolation_level", str), ("detect_types", int), ("check_same_thread", bool))


class MemoraDialect(SQLiteDialect_pysqlite):
    """The SQLite dialect over memora.dbapi."""

    driver = "memora"
    supports_statement_cache = True
    max_identifier_length = 200         # of a name in the catalog; SQLAlchemy shortens what it makes up itself
    _isolation_lookup = util.immutabledict({"SERIALIZABLE": 0, "AUTOCOMMIT": None})

    @classmethod
    def import_dbapi(cls):
        from . import dbapi
        return dbapi

    @classmethod
    def get_pool_class(cls, url):
        """A region in private memory is its one connection; of others each thread may have several."""
        return pool.SingletonThreadPool if _name(url) == ":memory:" else pool.QueuePool

    def on_connect(self):
        """Each connection gets REGEXP as SQLAlchemy's SQLite dialect defines it; floor() is there."""
        def connected(connection):
            connection.create_function("regexp", 2, _regexp, deterministic=True)
        return connected

    def create_connect_args(self, url):
        if url.username or url.password or url.host or url.port:
            raise exc.ArgumentError(f"{url}: a Memora URL has no user and no host; memora://, memora:///shm:NAME, memora:///path")
        unknown = set(url.query) - {key for key, _ in _ARGUMENTS}
        if unknown:
            raise exc.ArgumentError(f"{url}: unknown options {', '.join(sorted(unknown))}")
        options = {}
        for key, kind in _ARGUMENTS:
            util.coerce_kw_type(url.query, key, kind, dest=options)
        name = _name(url)
        if not name.startswith(_NO_FILES):
            name = os.path.abspath(name)
        options.setdefault("check_same_thread", name == ":memory:")
        return [name], options


def _regexp(pattern, text):
    return None if text is None else re.search(pattern, text) is not None


def _name(url):
    return url.database or ":memory:"
