"""The order of joins: which relation is read first, which next, and how each is found from those before it.

A search with a beam: orders grow by one relation at a time, and of each length the cheapest few go on; of two orders of the same relations
only the cheaper one does. Outer joins, CROSS JOIN and arguments of table-valued functions say what must come before (`Item.needs`).
Each relation is joined by the cheapest of its access paths, once for each row before it, or by a hash over all of its rows, made once.
(Selinger et al., Access path selection, SIGMOD 1979, is where the costs and the keeping of sorted orders come from.)
"""
from __future__ import annotations

from . import access, bound, costs
from .bound import Leaf


class Item:
    """Something to be joined: a relation, or a whole tree of them. on: conditions of its outer join, or None; needs: the
    relations that must come before it."""

    __slots__ = ("tree", "rels", "rel", "on", "needs", "number", "terms", "pairs", "weights", "known")

    def __init__(self, tree, on, needs, number):
        self.tree, self.on, self.needs, self.number = tree, on, needs, number
        self.rels = set(tree.rels())
        self.rel = tree.rel if type(tree) is Leaf else None
        self.terms = self.pairs = self.weights = ()
        self.known = {}


class Step:
    """An item with the way that was chosen to read it: an access path, a hash over `pairs`, or, both being None, as a whole.

    begin: what it costs once; cost: for each row before it; rows: that it leaves for each of these."""

    __slots__ = ("item", "path", "direction", "pairs", "begin", "cost", "rows")

    def __init__(self, item, path, begin, cost, rows, direction=1, pairs=None):
        self.item, self.path, self.direction, self.pairs = item, path, direction, pairs
        self.begin, self.cost, self.rows = begin, cost, rows


class State:
    """The beginning of an order: its steps, what they cost once (begin) and while they run, and the rows that come out."""

    __slots__ = ("steps", "placed", "begin", "cost", "rows", "ordered")

    def __init__(self, steps, placed, begin, cost, rows, ordered):
        self.steps, self.placed, self.begin, self.cost, self.rows, self.ordered = steps, placed, begin, cost, rows, ordered


class Search:
    """own: the relations of the items; pool: conditions of WHERE and of inner joins; order: the wanted order, if any; limited: whether few
    rows will be asked for."""

    def __init__(self, planner, items, pool, own, order, limited):
        self.planner, self.sizes = planner, planner.sizes
        self.items, self.pool, self.own, self.order, self.limited = items, pool, own, order, limited
        weights = [(c, bound.deps(c) & own, selectivity(c)) for c in pool]
        for item in items:
            item.weights = [w for w in weights if not w[1].isdisjoint(item.rels)]
            rel = item.rel
            if rel is None:
                continue
            conditions = pool if item.on is None else item.on
            if rel.kind == "table":
                item.terms = access.terms_of(rel, conditions)
            item.pairs = equalities(rel, conditions)

    def run(self):
        """The best State."""
        firsts = [item for item in self.items if not item.needs and item.on is None] or self.items[:1]
        states = [state for item in firsts for state in self.first_states(item)]
        if len(self.items) == 1 and len(states) == 1:
            return states[0]
        width = 8 if len(self.items) <= 6 else 4 if len(self.items) <= 12 else 2
        for left in range(len(self.items) - 1, 0, -1):
            grown = {}
            for state in self.kept(states, width):
                for item in self.items:
                    if item.needs <= state.placed and item.rels.isdisjoint(state.placed):
                        after = self.extended(state, item)
                        key = (frozenset(after.placed), after.ordered)
                        if key not in grown or self.rank(after) < self.rank(grown[key]):
                            grown[key] = after
            states = list(grown.values())
        return min(states, key=self.total)

    def kept(self, states, width):
        """The most promising ones; the cheapest in the wanted order is always among them."""
        states = sorted(states, key=self.rank)
        kept = states[:width]
        if self.order and not any(state.ordered for state in kept):
            kept += [state for state in states if state.ordered][:1]
        return kept

    @staticmethod
    def rank(state):
        """What a state costs, with the least that can be done with its rows."""
        return state.begin + state.cost + state.rows * costs.HASH_PROBE, state.steps[-1].item.number

    def total(self, state):
        """What the rows cost in the wanted order, as many as are wanted."""
        running = state.cost
        if self.order and not state.ordered:
            return state.begin + running + (state.rows * costs.HASH_PROBE if self.limited else costs.sort(state.rows))
        return state.begin + (running * costs.FIRST_ROWS if self.limited else running)

    # -- steps

    def first_states(self, item):
        rel, placed = item.rel, set(item.rels)
        found = [self.began(self.first(item), placed, False)]
        if self.order and rel is not None and rel.kind == "table":
            best = found[0].steps[0].path
            for path in self.paths(item, self.usable(item, set())):
                direction = access.order_direction(path, rel, self.order)
                if direction and path is best:
                    found[0].ordered, found[0].steps[0].direction = True, direction
                elif direction:
                    step = Step(item, path, 0.0, path.cost, self.left(item, path.rows, path.used, set()), direction)
                    found.append(self.began(step, placed, True))
        return found

    @staticmethod
    def began(step, placed, ordered):
        return State([step], placed, step.begin, step.cost, max(step.rows, 1e-3), ordered)

    def first(self, item):
        """The first step. In a query that runs again for each outer row, a hash over the whole table may stand for a missing index."""
        rel = item.rel
        if rel is None or rel.kind != "table":
            return self.whole(item, set(), True)
        path = min(self.paths(item, self.usable(item, set())), key=path_cost)
        pairs = [p for p in item.pairs if p[5] and not (p[5] & self.own)]
        if pairs:
            hashed = self.hashed(item, pairs, set())
            if hashed.begin < costs.SUBQUERY_RUNS * path.cost:
                hashed.begin = 0.0
                return hashed
        return Step(item, path, 0.0, path.cost, self.left(item, path.rows, path.used, set()))

    def extended(self, state, item):
        step = self.step(item, state)
        rows = max(state.rows * step.rows, 1e-3)
        return State([*state.steps, step], state.placed | item.rels, state.begin + step.begin, state.cost + state.rows * step.cost, rows,
                     state.ordered)

    def step(self, item, state):
        """The cheapest step to an item from a state."""
        rel, placed = item.rel, state.placed
        if rel is None or rel.kind != "table":
            one = self.whole(item, placed, False)
        else:
            terms = self.usable(item, placed)
            path = min(self.paths(item, terms), key=path_cost)
            one = Step(item, path, 0.0, path.cost, self.left(item, path.rows, path.used, placed))
        pairs = [p for p in item.pairs if p[5] and (p[5] & self.own) <= placed and p[5] & placed]
        if pairs:
            hashed = self.hashed(item, pairs, placed)
            share = costs.FIRST_ROWS if self.limited and (state.ordered or not self.order) else 1.0
            rows = state.rows * share
            # a guess of few rows that turn out to be many is dear where each of them scans a table
            runs = rows if rows <= 1.0 or one.path is not None and one.path.used else max(rows, 10.0)
            if hashed.begin + hashed.cost * rows < one.begin + one.cost * runs:
                return hashed
        return one

    def usable(self, item, placed):
        return [t for t in item.terms if (t.needs & self.own) <= placed]

    def paths(self, item, terms):
        """The access paths for some of an item's terms."""
        key = tuple(map(id, terms))
        found = item.known.get(key)
        if found is None:
            conditions = self.pool if item.on is None else item.on
            found = item.known[key] = access.paths(item.rel, terms, conditions, self.sizes)
        return found

    def whole(self, item, placed, first):
        """An item that is read from its beginning to its end: a query, a function, a tree of joins."""
        rel = item.rel
        begin, rows = 0.0, costs.PYTHON_ROWS
        if rel is None:
            rows = max(self.sizes.rows(r.table) if r.kind == "table" else costs.PYTHON_ROWS for r in item.rels)
        elif rel.kind == "query":
            inner = self.planner.query(rel.query)
            begin, rows = inner.cost, inner.rows
        elif rel.kind == "recursive":
            rows = costs.FEEDBACK_ROWS
        return Step(item, None, begin, max(rows, 1.0), self.left(item, rows, (), placed))

    def hashed(self, item, pairs, placed):
        """A hash over an item's rows."""
        rel = item.rel
        found = item.known.get("inner")
        if found is None:
            if rel.kind == "table":
                path = min(self.paths(item, [t for t in item.terms if not t.needs]), key=path_cost)
                found = path.cost, path.rows, self.sizes.rows(rel.table)
            else:
                step = self.whole(item, set(), False)
                found = step.begin + step.cost, step.cost, step.cost
            item.known["inner"] = found
        cost, rows, size = found
        used = [pair[4] for pair in pairs]
        matches = max(rows * self.matching(rel, pairs, size), 1.0 / size)
        return Step(item, None, cost + rows * costs.HASH_BUILD, costs.HASH_PROBE + matches, self.left(item, matches, used, placed), pairs=pairs)

    def size_of(self, rel):
        """The rows of a whole relation."""
        if rel.kind == "table":
            return self.sizes.rows(rel.table)
        return self.planner.query(rel.query).rows if rel.kind == "query" else costs.PYTHON_ROWS

    def matching(self, rel, pairs, size):
        """What share of the rows fits one value of each pair: whichever side has more rows has more values."""
        share = 1.0
        for n, pair in enumerate(pairs):
            most = max(size, *(self.size_of(outer) for outer in pair[5]))
            column = access.column_of(pair[0], rel)
            if rel.kind == "table" and (column == -1 or column is not None and any(
                    index.unique and index.columns == [column] for index in rel.table.indexes)):
                share = min(share, 1.0 / size)
            else:
                share *= costs.FIRST_EQUAL / max(most, costs.FIRST_EQUAL) if n == 0 else 0.25
        return share

    def left(self, item, rows, used, placed):
        """How many of so many rows remain after the conditions that can be tested now."""
        if item.on is not None:
            return max(rows, 1.0)
        now = placed | item.rels
        for condition, needs, weight in item.weights:
            if needs <= now and condition not in used:
                rows *= weight
        return rows


def path_cost(path):
    return path.cost


def equalities(rel, conditions):
    """(inner, outer, affinity, collation, condition, needs) for conditions "inner = outer" that a hash can look up."""
    found = []
    if rel.args and not all(bound.is_constant(arg) for arg in rel.args):
        return found
    for c in conditions:
        if type(c) is not bound.Cmp or c.op != "=":
            continue
        for inner, outer in ((c.left, c.right), (c.right, c.left)):
            needs = bound.deps(outer)
            if bound.deps(inner) == rel.alone and rel not in needs and not volatile(c):
                found.append((inner, outer, c.convert, c.collate, c, needs))
                break
    return found


def selectivity(c):
    if type(c) is bound.Cmp:
        return 0.1 if c.op in ("=", "IS") else 0.3 if c.op != "<>" else 0.9
    if type(c) in (bound.InList, bound.InQuery):
        return 0.2
    return 0.5


def volatile(e):
    """Whether an expression may differ each time, or holds a query."""
    return any(bound.volatile(part) or bound.query_of(part) is not None for part in bound.walk(e))
