"""Physical plans: which operators, in which order, over which indexes. Each node builds its C operator and tells about
itself for EXPLAIN, in SQLite's words where it has some."""
from __future__ import annotations

from . import bound, costs, operators, scan, setoperators, sorting, windows
from .record import RecordSource, SlotSource


class QueryPlan:
    """A query's operator tree and its result expressions. rows, cost: the planner's guesses."""

    def __init__(self, root, exprs):
        self.root, self.exprs = root, exprs
        self.rows = self.cost = costs.RECURSIVE_ROWS


class Node:
    """The base of plan nodes."""

    children = ()
    detail = None

    def build(self, c):
        raise NotImplementedError

    def lines(self, depth=0):
        """(depth, text) of this node and those below it; nodes without a text of their own are left out."""
        if self.detail is not None:
            yield depth, self.detail
            depth += 1
        for child in self.children:
            yield from child.lines(depth)

    def nodes(self, depth=0):
        """(depth, node, detail) for every node."""
        yield depth, self, self.detail or ""
        for child in self.children:
            yield from child.nodes(depth + 1)

    def tree(self):
        """(depth, operator, detail) for every node."""
        for depth, node, detail in self.nodes():
            yield depth, type(node).__name__, detail


def used_columns(rel):
    """Numbers of the columns of a relation that somebody reads."""
    return sorted({ref.index for ref in rel.refs if ref.replaced is None})


def record_source(c, rel):
    table = rel.table
    source = RecordSource(len(table.columns), table.rowid_column, table.defaults)
    c.sources[rel] = (source, None)
    c.compute(table, source)
    return source


def probe(root):
    """Puts a Probe above every operator of a plan that is not yet built; {node: Probe}, filled when it is."""
    probes, nodes = {}, [root]

    def watched(node, build):
        def built(c):
            probes[node] = operators.Probe(build(c))
            return c.keep(probes[node])
        return built
    while nodes:
        node = nodes.pop()
        node.build = watched(node, node.build)
        nodes.extend(node.children)
    return probes


class SingleRow(Node):
    detail = "SCAN CONSTANT ROW"

    def build(self, c):
        return c.keep(scan.SingleRow())


class Nothing(Node):
    def build(self, c):
        return c.keep(scan.Nothing())


class TableScan(Node):
    """Rows by rowid; low, high: (expression, open) or None."""

    def __init__(self, rel, low=None, high=None, reverse=False):
        self.rel, self.low, self.high, self.reverse = rel, low, high, reverse
        name = rel.alias or rel.name
        if low or high:
            bounds = " AND ".join(("rowid>?",) * (low is not None) + ("rowid<?",) * (high is not None))
            self.detail = f"SEARCH {name} USING INTEGER PRIMARY KEY ({bounds})"
        else:
            self.detail = f"SCAN {name}"

    def build(self, c):
        low = c.expr(self.low[0]) if self.low else None
        high = c.expr(self.high[0]) if self.high else None
        source = record_source(c, self.rel)
        return c.keep(scan.TableScan(c.context_of(self.rel.table), source, self.rel.table.tree, low, bool(self.low and self.low[1]),
                                     high, bool(self.high and self.high[1]), self.reverse))


class RowLookup(Node):
    def __init__(self, rel, key):
        self.rel, self.key = rel, key
        self.detail = f"SEARCH {rel.alias or rel.name} USING INTEGER PRIMARY KEY (rowid=?)"

    def build(self, c):
        key = c.expr(self.key)
        source = record_source(c, self.rel)
        return c.keep(scan.RowLookup(c.context_of(self.rel.table), source, self.rel.table.tree, key))


class IndexScan(Node):
    """A range of an index. equal: (expression, null fits, affinity) for the first columns; low, high: (expression, open) of
    the next, `affinity` being that of the range."""

    def __init__(self, rel, index, equal=(), low=None, high=None, affinity=0, reverse=False, covering=False):
        self.rel, self.index, self.equal = rel, index, list(equal)
        self.low, self.high, self.affinity, self.reverse, self.covering = low, high, affinity, reverse, covering
        self.primary = rel.table.primary_key is index
        name = rel.alias or rel.name
        columns = [column_name(rel.table, c) for c in index.columns]
        terms = [f"{columns[i]}=?" for i in range(len(self.equal))]
        if low:
            terms.append(f"{columns[len(self.equal)]}>?")
        if high:
            terms.append(f"{columns[len(self.equal)]}<?")
        using = "PRIMARY KEY" if self.primary else f"{'COVERING ' if covering else ''}INDEX {index.name}"
        if terms:
            self.detail = f"SEARCH {name} USING {using} ({' AND '.join(terms)})"
        elif self.primary:
            self.detail = f"SCAN {name}"
        else:
            self.detail = f"SCAN {name} USING {using}"

    def build(self, c):
        rel, index, table = self.rel, self.index, self.rel.table
        equal = [c.expr(e) for e, _, _ in self.equal]
        low = c.expr(self.low[0]) if self.low else None
        high = c.expr(self.high[0]) if self.high else None
        if self.primary:
            source = record_source(c, rel)
        else:
            positions, real = index_positions(table, index)
            source = scan.IndexSource(len(table.columns), table.rowid_column, table.defaults, c.context_of(table), table.tree,
                                      index.name, positions, list(index.descending), real)
            c.sources[rel] = (source, None)
            c.compute(table, source)
        affinities = [a for _, _, a in self.equal] + [self.affinity]
        return c.keep(scan.IndexScan(
            c.context_of(table), source, table.tree if self.primary else index.tree, equal, [n for _, n, _ in self.equal], affinities,
            list(index.collations), list(index.descending), low, bool(self.low and self.low[1]), high,
            bool(self.high and self.high[1]), self.reverse, table.has_rowid, self.primary))


def column_name(table, column):
    if isinstance(column, int):
        return table.columns[column].name if column >= 0 else "rowid"
    return "<expr>"


def index_positions(table, index):
    """For each column its component in the key if the key gives its value back, else -1; and which components are reals.

    Text that was folded does not come back, nor do numbers in a column without affinity (1 and 1.0 have one key)."""
    positions, real = [-1] * len(table.columns), []
    for n, column in enumerate(index.columns):
        affinity = table.columns[column].affinity if isinstance(column, int) and column >= 0 else 0
        real.append(affinity == 4)
        if affinity >= 1 and index.collations[n] == 0:
            positions[column] = n
    return positions, real


class ValueList(Node):
    """The values on the right of IN, as a relation of one column."""

    detail = None

    def __init__(self, rel, exprs, query, affinity, collation, descending=False):
        self.rel, self.exprs, self.query = rel, exprs, query
        self.affinity, self.collation, self.descending = affinity, collation, descending

    def build(self, c):
        exprs, op = None, None
        if self.query is not None:
            op, exprs = c.query(self.query)
        else:
            exprs = c.exprs(self.exprs)
        source = SlotSource()
        c.sources[self.rel] = (source, None)
        return c.keep(scan.ValueList(source, exprs, op, self.affinity, self.collation, self.descending))


class Rows(Node):
    def __init__(self, rel, rows):
        self.rel, self.rows = rel, rows
        self.detail = f"SCAN {len(rows)} CONSTANT ROWS"

    def build(self, c):
        rows = [c.exprs(row) for row in self.rows]
        source = SlotSource()
        c.sources[self.rel] = (source, None)
        return c.keep(scan.Rows(source, rows, len(self.rel.columns)))


class PythonScan(Node):
    """keys: expressions, one of which the first column equals; None: all rows."""

    def __init__(self, rel, keys=None):
        self.rel, self.keys = rel, keys
        self.detail = f"{'SCAN' if keys is None else 'SEARCH'} {rel.alias or rel.name} VIRTUAL TABLE"
        if keys is not None:
            self.detail += f" ({rel.columns[0].name}=?)"

    def build(self, c):
        args = c.exprs(self.rel.args)
        source = SlotSource()
        c.sources[self.rel] = (source, None)
        keys = None if self.keys is None else c.exprs(self.keys)
        return c.keep(scan.PythonScan(c.context, source, self.rel.rows, len(self.rel.columns), self.rel.name, args, keys))


class Feedback(Node):
    def __init__(self, rel):
        self.rel = rel
        self.detail = f"SCAN {rel.alias or rel.name}"

    def build(self, c):
        c.sources[self.rel] = c.sources[self.rel.shared]
        return c.keep(setoperators.Once())


class Subquery(Node):
    """A query in FROM, row by row."""

    def __init__(self, rel, plan):
        self.rel, self.plan = rel, plan
        self.children = (plan.root,)
        self.detail = f"CO-ROUTINE {rel.alias or rel.name}"

    def build(self, c):
        op = self.plan.root.build(c)
        source = operators.ExprSource(c.exprs(self.plan.exprs))
        c.sources[self.rel] = (source, None)
        return c.keep(operators.Gate(op, source))


class Materialize(Node):
    """A query in FROM, kept in memory."""

    def __init__(self, rel, plan, query):
        self.rel, self.plan, self.query = rel, plan, query
        self.children = (plan.root,)
        self.detail = f"MATERIALIZE {rel.alias or rel.name}"

    def build(self, c):
        op = self.plan.root.build(c)
        output = SlotSource()
        used = used_columns(self.rel)
        exprs = [c.expr(self.plan.exprs[i]) for i in used]
        c.sources[self.rel] = (output, {column: n for n, column in enumerate(used)})
        return c.keep(operators.Materialize(c.context, op, exprs, output, c.correlated(self.query)))


class Filter(Node):
    def __init__(self, child, conditions):
        self.children, self.conditions = (child,), conditions

    def build(self, c):
        child = self.children[0].build(c)
        return c.keep(operators.Filter(child, c.exprs(self.conditions)))


class Precondition(Filter):
    def build(self, c):
        child = self.children[0].build(c)
        return c.keep(operators.Precondition(child, c.exprs(self.conditions)))


class NestedLoop(Node):
    """left, then right for each of its rows; outer: a left join, whose right side's relations are `rels`."""

    def __init__(self, left, right, outer=False, rels=()):
        self.children, self.outer, self.rels = (left, right), outer, rels

    def lines(self, depth=0):
        for child in self.children:
            for n, (d, text) in enumerate(child.lines(depth)):
                if n == 0 and self.outer and child is self.children[1]:
                    text += " LEFT-JOIN"
                yield d, text

    def build(self, c):
        left = self.children[0].build(c)
        right = self.children[1].build(c)
        sources = [c.sources[rel][0] for rel in self.rels]
        return c.keep(operators.NestedLoop(c.context, left, right, self.outer, sources))


class HashLookup(Node):
    """An automatic index over a relation; pairs: (inner, outer, affinity, collation)."""

    def __init__(self, child, rel, pairs):
        self.children, self.rel, self.pairs = (child,), rel, pairs
        terms = " AND ".join(f"{rel.columns[i].name}=?" for i in
                             (bound.resolve(p[0]).index if type(bound.resolve(p[0])) is bound.Col else 0 for p in pairs))
        self.detail = f"SEARCH {rel.alias or rel.name} USING AUTOMATIC COVERING INDEX ({terms})"

    def lines(self, depth=0):
        yield depth, self.detail

    def build(self, c):
        probes = [c.expr(p[1]) for p in self.pairs]
        child = self.children[0].build(c)
        keys = [c.expr(p[0]) for p in self.pairs]
        used = used_columns(self.rel)
        exprs = [c.expr(bound_column(self.rel, i)) for i in used]
        output = SlotSource()
        c.sources[self.rel] = (output, {column: n for n, column in enumerate(used)})
        return c.keep(operators.HashLookup(c.context, child, keys, probes, [p[2] for p in self.pairs],
                                           [p[3] for p in self.pairs], exprs, output))


def bound_column(rel, i):
    """A reference to a column that is not entered in rel.refs: it must not count as a use."""
    col = object.__new__(bound.Col)
    col.rel, col.index, col.replaced = rel, i, None
    col.affinity = col.collation = col.decltype = None
    return col


class FullJoin(Node):
    """A RIGHT or FULL join of two trees."""

    def __init__(self, left, right, left_rels, right_rels, conditions, full):
        self.children = (left, right)
        self.left_rels, self.right_rels, self.conditions, self.full = left_rels, right_rels, conditions, full
        self.detail = f"{'FULL' if full else 'RIGHT'} JOIN"

    def build(self, c):
        left = self.children[0].build(c)
        right = self.children[1].build(c)
        keep, places = [], {}
        for rel in self.right_rels:
            places[rel] = {}
            for i in used_columns(rel):
                places[rel][i] = len(keep)
                keep.append(c.expr(bound_column(rel, i)))
        output = SlotSource()
        for rel in self.right_rels:
            c.sources[rel] = (output, places[rel])
        return c.keep(operators.FullJoin(left, right, keep, output, c.exprs(self.conditions),
                                         [c.sources[rel][0] for rel in self.left_rels], self.full))


class GroupBy(Node):
    def __init__(self, child, query):
        self.children, self.query = (child,), query
        self.detail = "USE TEMP B-TREE FOR GROUP BY" if query.group_by else None

    def build(self, c):
        query = self.query
        child = self.children[0].build(c)
        keys = c.exprs(query.group_by or ())
        aggregates = []
        for a in query.aggregates:
            args = c.exprs(a.args)
            condition = None if a.condition is None else c.expr(a.condition)
            if a.user is not None:
                aggregates.append(sorting.UserAggregate(0, None, None, condition, a.distinct, a.collate, b"", b"", a.user, args))
                continue
            if a.order:
                aggregates.append(sorting.OrderedAggregate(
                    a.kind, args[0], args[1] if len(args) > 1 else None, condition, a.distinct, a.collate,
                    *sorting.AROUND.get(a.name, (b"", b"")), c.exprs(a.order), list(a.terms)))
                continue
            aggregates.append(sorting.Aggregate(a.kind, args[0] if args else None, args[1] if len(args) > 1 else None,
                                                condition, a.distinct and a.name not in ("min", "max"), a.collate,
                                                *sorting.AROUND.get(a.name, ())))
        output = SlotSource()
        op = sorting.GroupBy(child, keys, [e.collation or 0 for e in query.group_by or ()], aggregates, c.exprs(query.bare),
                             output, query.group_by is None, query.follow)
        c.sources[query.group_rel] = (output, None)
        return c.keep(op)


class Window(Node):
    def __init__(self, child, query):
        self.children, self.query = (child,), query
        self.detail = "USE TEMP B-TREE FOR WINDOW" if any(p.partition or p.order for p in query.windows) else None

    def build(self, c):
        query = self.query
        child = self.children[0].build(c)
        exprs = c.exprs(query.kept)
        passes = []
        for one in query.windows:
            order = one.order
            passes.append(windows.Pass(
                c.exprs(one.partition), [e.collation or 0 for e in one.partition], [c.expr(o.expr) for o in order],
                [o.descending for o in order], [o.nulls for o in order], [o.collation for o in order],
                [self.call(c, one, *call) for call in one.calls]))
        output = SlotSource()
        c.sources[query.window_rel] = (output, None)
        return c.keep(windows.Windows(child, exprs, len(query.window_rel.columns), passes, output))

    @staticmethod
    def call(c, one, call, args, condition, order_slot, result):
        unit, start, end, exclude = call.frame
        start_by, end_by = (None if e is None else c.expr(e) for e in call.bounds)
        term = one.order[0] if one.order else bound.Order(None, False, 0, 0)
        frame = windows.Frame(windows.UNITS[unit], windows.BOUNDS[start], start_by, windows.BOUNDS[end], end_by,
                              windows.EXCLUDES[exclude], order_slot, term.descending, term.nulls, term.collation)
        if call.user is not None:
            return windows.UserCall(0, frame, [], condition, result, 0, b"", b"", call.user, args)
        return windows.Call(call.kind, frame, args, condition, result, call.collate, *sorting.AROUND.get(call.name, ()))


class Project(Node):
    def __init__(self, child, exprs, rel):
        self.children, self.exprs, self.rel = (child,), exprs, rel

    def build(self, c):
        child = self.children[0].build(c)
        exprs = c.exprs(self.exprs)
        output = SlotSource()
        c.sources[self.rel] = (output, None)
        return c.keep(setoperators.Project(child, exprs, output))


class Distinct(Node):
    detail = "USE TEMP B-TREE FOR DISTINCT"

    def __init__(self, child, exprs):
        self.children, self.exprs = (child,), exprs

    def build(self, c):
        child = self.children[0].build(c)
        return c.keep(setoperators.Distinct(child, c.exprs(self.exprs), [e.collation or 0 for e in self.exprs]))


class Sort(Node):
    detail = "USE TEMP B-TREE FOR ORDER BY"

    def __init__(self, child, order, exprs, rel, limit=None, offset=None):
        self.children, self.order, self.exprs, self.rel = (child,), order, exprs, rel
        self.limit, self.offset = limit, offset

    def build(self, c):
        child = self.children[0].build(c)
        keys = [c.expr(o.expr) for o in self.order]
        exprs = c.exprs(self.exprs)
        limit = None if self.limit is None else c.expr(self.limit)
        offset = None if self.offset is None else c.expr(self.offset)
        output = SlotSource()
        c.sources[self.rel] = (output, None)
        return c.keep(sorting.Sort(child, keys, [o.descending for o in self.order], [o.nulls for o in self.order],
                                   [o.collation for o in self.order], exprs, output, limit, offset))


class Limit(Node):
    def __init__(self, child, limit, offset):
        self.children, self.limit, self.offset = (child,), limit, offset

    def build(self, c):
        child = self.children[0].build(c)
        return c.keep(operators.Limit(child, None if self.limit is None else c.expr(self.limit),
                                      None if self.offset is None else c.expr(self.offset)))


class Concatenate(Node):
    detail = "COMPOUND QUERY (UNION ALL)"

    def __init__(self, plans, rel):
        self.plans, self.rel = plans, rel
        self.children = tuple(p.root for p in plans)

    def build(self, c):
        arms, exprs = [], []
        for plan in self.plans:
            arms.append(plan.root.build(c))
            exprs.append(c.exprs(plan.exprs))
        output = SlotSource()
        c.sources[self.rel] = (output, None)
        return c.keep(setoperators.Concatenate(arms, exprs, output, len(self.rel.columns)))


class SetOperation(Node):
    def __init__(self, op, left, right, rel):
        self.op, self.left, self.right, self.rel = op, left, right, rel
        self.children = (left.root, right.root)
        self.detail = f"COMPOUND QUERY ({op})"

    def build(self, c):
        left = self.left.root.build(c)
        left_exprs = c.exprs(self.left.exprs)
        right = self.right.root.build(c)
        right_exprs = c.exprs(self.right.exprs)
        output = SlotSource()
        c.sources[self.rel] = (output, None)
        return c.keep(setoperators.SetOperation(setoperators.SET_OPERATORS[self.op], left, left_exprs, right, right_exprs,
                                             [col.collation or 0 for col in self.rel.columns], output))


class Recursive(Node):
    detail = "RECURSIVE"

    def __init__(self, planner, query):
        self.planner, self.query = planner, query
        self.first = planner.query(query.first)
        self.steps = [planner.query(step) for step in query.steps]
        self.children = (self.first.root, *(s.root for s in self.steps))

    def build(self, c):
        query = self.query
        first = self.first.root.build(c)
        first_exprs = c.exprs(self.first.exprs)
        feedback = SlotSource()
        c.sources[query.feedback] = (feedback, None)
        steps = []
        for plan in self.steps:
            op = plan.root.build(c)
            steps.append((op, c.exprs(plan.exprs)))
        output = SlotSource()
        c.sources[query.rel] = (output, None)
        return c.keep(setoperators.Recursive(c.context, first, first_exprs, [op for op, _ in steps], [e for _, e in steps], output, feedback,
                                          query.distinct, [col.collation or 0 for col in query.rel.columns]))
