"""What stands above GROUP BY and above windows reads slots: expressions are taken apart, and what was computed below is replaced.

Above GROUP BY there are keys, aggregates and "bare" columns, the relation `group_rel`. Above windows there are their results
and the columns that are read beside them, `window_rel`; windows see the rows that grouping leaves. A nested query that
reads a replaced column from outside is forwarded to the slot.
"""
from __future__ import annotations

from . import bound
from .bound import Rel, RelColumn


class Replacing:
    """own: the relations whose rows end here; rel: the one that stands for them above."""

    def __init__(self, own, name):
        self.own = own
        self.rel = Rel("rows", name, None, [])
        self.by_key, self.pending = {}, []

    def slot(self, place, like):
        col = object.__new__(bound.Col)
        col.rel, col.index, col.replaced = self.rel, -1, None
        col.affinity, col.collation, col.decltype = like.affinity, like.collation, like.decltype
        self.pending.append((col, place))
        return col

    def computed(self, e):
        """The place of something that is computed below, or None."""
        raise NotImplementedError

    def column(self, e):
        """The place of a column of `own`."""
        raise NotImplementedError

    def above(self, e):
        e = bound.resolve(e)
        if type(e) is bound.Col and e.rel is self.rel:
            return e
        key = e.key()
        place = self.by_key.get(key)
        if place is None:
            place = self.computed(e)
            if place is None and type(e) is bound.Col:
                if e.rel not in self.own:
                    return e
                place = self.column(e)
        if place is not None:
            self.by_key[key] = place
            return self.slot(place, e)
        query = bound.query_of(e)
        if query is not None:
            for ref in query.outer:
                target = bound.resolve(ref)
                if type(target) is bound.Col and target.rel in self.own:
                    target.replaced = self.above(target)
        return e.mapped(self.above)

    @staticmethod
    def copied(e):
        """A reference of its own to the same column."""
        copy = object.__new__(bound.Col)
        copy.rel, copy.index, copy.replaced = e.rel, e.index, None
        copy.affinity, copy.collation, copy.decltype = e.affinity, e.collation, e.decltype
        e.rel.refs.append(copy)
        return copy


def relations(query):
    return set(query.from_.rels()) if query.from_ is not None else set()


class Grouping(Replacing):
    """The replacement of what stands above GROUP BY."""

    def __init__(self, query):
        super().__init__(relations(query), "GROUP BY")
        self.query = query
        self.keys = list(query.group_by or ())
        for i, e in enumerate(self.keys):
            self.by_key.setdefault(e.key(), ("k", i))
        self.aggregates, self.bare = [], []
        query.group_rel = self.rel

    def computed(self, e):
        if type(e) is not bound.Agg:
            return None
        self.aggregates.append(e)
        return "a", len(self.aggregates) - 1

    def column(self, e):
        self.bare.append(self.copied(e))
        return "b", len(self.bare) - 1

    def finish(self):
        query = self.query
        offset = {"k": 0, "a": len(self.keys), "b": len(self.keys) + len(self.aggregates)}
        for col, (kind, i) in self.pending:
            col.index = offset[kind] + i
        width = len(self.keys) + len(self.aggregates) + len(self.bare)
        self.rel.columns = [RelColumn(f"slot{i}") for i in range(width)]
        query.aggregates, query.bare = self.aggregates, self.bare
        extremes = [i for i, a in enumerate(self.aggregates) if a.name in ("min", "max") and a.user is None]
        query.follow = extremes[0] if len(extremes) == 1 else -1


class WindowPass:
    """One PARTITION BY and ORDER BY. calls: (WindowCall, slots of its arguments, slot of FILTER or -1, slot of the ordering value
    of a RANGE frame or -1, slot of the result)."""

    __slots__ = ("partition", "order", "calls")

    def __init__(self, partition, order):
        self.partition, self.order, self.calls = partition, order, []


class Windowing(Replacing):
    """The replacement of what stands above windows. The slots are 0 (the operator's own), `kept`, results."""

    def __init__(self, query):
        super().__init__({query.group_rel} if query.group_rel is not None else relations(query), "WINDOW")
        self.query = query
        self.kept, self.places, self.passes, self.results = [], {}, {}, 0
        query.window_rel = self.rel

    def keep(self, e):
        """The slot of an expression that is evaluated when a row is read."""
        key = e.key()
        place = self.places.get(key)
        if place is None:
            self.kept.append(e)
            place = self.places[key] = len(self.kept)
        return place

    def computed(self, e):
        if type(e) is not bound.WindowCall:
            return None
        key = (tuple(p.key() for p in e.partition), tuple(o.key() for o in e.order), e.terms)
        one = self.passes.get(key)
        if one is None:
            order = [bound.Order(o, *term) for o, term in zip(e.order, e.terms)]
            one = self.passes[key] = WindowPass(e.partition, order)
        condition = -1 if e.condition is None else self.keep(e.condition)
        by_value = e.frame[0] == "RANGE" and any(e.bounds)
        one.calls.append((e, [self.keep(a) for a in e.args], condition, self.keep(e.order[0]) if by_value else -1, self.results))
        self.results += 1
        return "w", self.results - 1

    def column(self, e):
        return "c", self.keep(self.copied(e) if e.rel is not self.query.group_rel else e)

    def finish(self):
        query = self.query
        first = 1 + len(self.kept)
        for col, (kind, i) in self.pending:
            col.index = i if kind == "c" else first + i
        width = first + self.results
        self.rel.columns = [RelColumn(f"slot{i}") for i in range(width)]
        query.windows, query.kept = list(self.passes.values()), self.kept
        for one in query.windows:
            one.calls = [(*call[:4], first + call[4]) for call in one.calls]
