"""A database whose sessions have the interface of memora/sql/session.py and are played by sqlite3."""
import sqlite3

from memora import errors


class PlayedResult:
    """The result a session gives, from a sqlite3 cursor."""

    def __init__(self, cursor, kind, decltypes=None):
        self._cursor = cursor
        self.kind = kind
        self.columns = tuple(entry[0] for entry in cursor.description) if cursor.description else None
        self.decltypes = decltypes
        self.rowcount = cursor.rowcount if kind in ("insert", "update", "delete", "replace") else -1
        self.lastrowid = cursor.lastrowid if kind in ("insert", "replace") else None

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self._cursor)
        except sqlite3.Error as error:
            raise _mapped(error) from None

    def escape(self):
        pass

    def close(self):
        self._cursor.close()


def _mapped(error):
    if isinstance(error, sqlite3.Warning):
        # So does Python 3.10 refuse a second statement.
        return errors.ProgrammingError(str(error))
    return getattr(errors, type(error).__name__)(str(error))


class PlayedSession:
    """A session as memora/sql/session.py has it, played by sqlite3 in autocommit mode."""

    def __init__(self):
        self.lite = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.log = []
        self.closed = False

    def execute(self, sql, params=()):
        self.log.append(sql)
        values = params if isinstance(params, tuple) else _Lookup(params)
        try:
            cursor = self.lite.execute(sql, values)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _mapped(error) from None
        word = sql.split()[0].lower()
        return PlayedResult(cursor, word if word in ("select", "insert", "update", "delete", "replace") else "ddl",
                            self._decltypes(cursor))

    def _decltypes(self, cursor):
        if not cursor.description:
            return None
        known = {}
        for table, in self.lite.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            known.update((row[1], row[2] or None) for row in self.lite.execute(f"PRAGMA table_info({table})"))
        return tuple(known.get(entry[0]) for entry in cursor.description)

    def executemany(self, sql, seq_of_params):
        self.log.append(sql)
        changed = 0
        cursor = self.lite.cursor()
        for params in seq_of_params:
            cursor.execute(sql, params if isinstance(params, tuple) else _Lookup(params))
            changed += cursor.rowcount
        result = PlayedResult(cursor, sql.split()[0].lower())
        result.rowcount = changed
        return result

    @property
    def in_transaction(self):
        return self.lite.in_transaction

    @property
    def total_changes(self):
        return self.lite.total_changes

    def begin(self, mode="DEFERRED"):
        self.log.append(f"BEGIN {mode}")
        self.lite.execute(f"BEGIN {mode}")

    def commit(self):
        self.log.append("COMMIT")
        self.lite.execute("COMMIT")

    def rollback(self):
        self.log.append("ROLLBACK")
        self.lite.execute("ROLLBACK")

    def close(self):
        self.closed = True
        self.lite.close()


class _Lookup(dict):
    """sqlite3 wants a dict; this one asks the mapping."""

    def __init__(self, given):
        self._given = given

    def __missing__(self, name):
        return self._given[name]


class PlayedDatabase:
    def __init__(self):
        self.closed = False

    def session(self):
        self.last = PlayedSession()
        return self.last

    def close(self):
        self.closed = True
