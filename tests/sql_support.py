"""What the SQL tests share: an empty database of ours, and comparing it with the standard library's sqlite3."""
import math
import sqlite3

from memora.engine.store import Store
from memora.sql.session import Session


def open_session():
    """A session on an empty store."""
    return Session(Store.open(":memory:", ring_bytes=1 << 20))


def rows(session, sql, params=()):
    return list(session.execute(sql, params))


def same(a, b):
    """Equal values of equal types; reals may differ in the last digits (sums are added up in another order)."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a == b or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-300)
    return a == b


def same_rows(mine, theirs, equal=same):
    return len(mine) == len(theirs) and all(
        len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b)) for a, b in zip(mine, theirs))


def order_key(row):
    """Sorts rows of mixed values."""
    return [(v is not None, isinstance(v, (str, bytes)), isinstance(v, bytes), str(v) if isinstance(v, (str, bytes)) else v or 0,
             type(v).__name__) for v in row]


class Pair:
    """The same statements on both databases."""

    def __init__(self):
        self.ours = open_session()
        self.theirs = sqlite3.connect(":memory:", isolation_level=None)
        self.log = []

    def close(self):
        self.ours.close()
        problems = self.ours.store.check()
        self.ours.store.close()
        self.theirs.close()
        assert problems == []

    def run(self, sql, params=()):
        """Both results: ("rows", list) or ("error", class name, text)."""
        self.log.append((sql, params))
        found = []
        for execute in (self.ours.execute, self.theirs.execute):
            try:
                found.append(("rows", list(execute(sql, params))))
            except Exception as error:
                found.append(("error", type(error).__name__, str(error)))
        return found

    def same(self, sql, params=(), ordered=True, equal=same, key=order_key):
        """Asserts equal results (and equal errors in kind), and returns ours. ordered=False: both are sorted by key first."""
        mine, theirs = self.run(sql, params)
        assert mine[0] == theirs[0], self.report(sql, params, mine, theirs)
        if mine[0] == "error":
            assert mine[1] == theirs[1] or mine[1] in ("SQLSyntaxError", "NotSupportedError"), self.report(sql, params, mine, theirs)
            return None
        a, b = mine[1], theirs[1]
        if not ordered:
            a, b = sorted(a, key=key), sorted(b, key=key)
        assert same_rows(a, b, equal), self.report(sql, params, mine, theirs)
        return mine[1]

    def report(self, sql, params, mine, theirs):
        history = "\n".join(f"{s}; -- {p}" if p else f"{s};" for s, p in self.log[-400:-1]
                            if not s.lstrip().upper().startswith(("SELECT", "EXPLAIN")))
        return f"{history}\n--- {sql} {params}\nours:   {mine}\nsqlite: {theirs}"
