"""From bound queries to physical plans: merging, pushing conditions down, the order of joins, access paths, sorting.

SELECT is planned inside out: FROM and WHERE, GROUP BY, HAVING, windows, DISTINCT, ORDER BY, LIMIT. The join order is found greedily from
each promising first table, by the guessed number of rows that it leaves. Every condition is tested as soon as the relations
that it reads have a row; those of an outer join's ON are tested inside of it, and WHERE after it.
"""
from __future__ import annotations

from ..errors import NotSupportedError
from . import access, bound, plan
from .bound import JoinNode, Leaf, Rel, RelColumn



class Item:
    """Something to be joined: a relation, or a whole tree of them. on: conditions of its outer join, or None; needs: the
    relations that must come before it."""

    __slots__ = ("tree", "rels", "on", "needs", "number")

    def __init__(self, tree, on, needs, number):
        self.tree, self.on, self.needs, self.number = tree, on, needs, number
        self.rels = set(tree.rels())

    @property
    def rel(self):
        return self.tree.rel if type(self.tree) is Leaf else None


class Step:
    """An item with the way that was chosen to read it."""

    __slots__ = ("item", "path", "direction", "pairs")

    def __init__(self, item, path, direction=1, pairs=None):
        self.item, self.path, self.direction, self.pairs = item, path, direction, pairs


class Planner:
    """Plans the queries of one statement."""

    def __init__(self):
        self.plans = {}

    def query(self, q):
        """The QueryPlan of a bound query; the same one each time it is asked."""
        found = self.plans.get(q)
        if found is None:
            if type(q) is bound.Select:
                found = self.select(q)
            elif type(q) is bound.SetQuery:
                found = self.compound(q)
            elif type(q) is bound.RecursiveQuery:
                found = self.finish(q, plan.Recursive(self, q))
            else:
                found = self.finish(q, plan.Rows(q.rel, q.rows))
            self.plans[q] = found
        return found

    @staticmethod
    def varies(q):
        """Whether a query has to run each time that it is asked, though it reads nothing from outside."""
        return False

    # -- the outer layers

    def compound(self, q):
        if q.op == "UNION ALL":
            arms, arm = [], q
            while type(arm) is bound.SetQuery and arm.op == "UNION ALL" and not arm.order_by and (
                    arm is q or arm.limit is None):
                arms.append(arm.right)
                arm = arm.left
            arms.append(arm)
            if q.order_by:
                arms = [q.right, q.left] if len(arms) < 2 else arms
            node = plan.Concatenate([self.query(a) for a in reversed(arms)], q.rel)
        else:
            node = plan.SetOperation(q.op, self.query(q.left), self.query(q.right), q.rel)
        return self.finish(q, node)

    def finish(self, q, node, exprs=None, sorted_=False):
        """ORDER BY and LIMIT."""
        exprs = q.exprs if exprs is None else exprs
        if q.order_by and not sorted_:
            rel = rows_rel("ORDER BY", exprs)
            node = plan.Sort(node, q.order_by, exprs, rel, q.limit, q.offset)
            exprs = columns_of(rel, exprs)
        if q.limit is not None or q.offset is not None:
            node = plan.Limit(node, q.limit, q.offset)
        return plan.QueryPlan(node, exprs)

    def select(self, q):
        conditions = q.where
        if q.from_ is not None:
            q.from_ = self.merge(q, q.from_, True)
        grouped = q.group_rel is not None
        wanted = [] if grouped or q.distinct or q.windows else q.order_by
        sorted_ = False
        if q.from_ is None:
            node = plan.SingleRow()
            if conditions:
                node = plan.Precondition(node, conditions)
            sorted_ = True
        else:
            q.from_ = self.strengthen(q.from_, conditions)
            extreme = self.extreme(q) if grouped else None
            if extreme is not None:
                node, found = self.joins(q.from_, conditions, [extreme], True)
                if found:
                    node = plan.Limit(plan.Filter(node, [bound.IsNull(extreme.expr, True)]), bound.Const(1), None)
            else:
                node, sorted_ = self.joins(q.from_, conditions, wanted, q.limit is not None and not q.windows)
        if grouped:
            node = plan.GroupBy(node, q)
            if q.having:
                node = plan.Filter(node, q.having)
            sorted_ = False
        if q.windows:
            node, sorted_ = plan.Window(node, q), False
        exprs = q.exprs
        if q.distinct:
            node, exprs = self.distinct(q, node)
        if q.order_by and not grouped and not q.windows and q.from_ is None:
            sorted_ = not q.distinct
        return self.finish(q, node, exprs, sorted_ and not grouped and not q.distinct)

    def distinct(self, q, node):
        """Projects, so that results are computed once, and drops repeated rows; what ORDER BY needs beyond the result
        columns is carried along."""
        extra = []
        keys = {e.key(): i for i, e in enumerate(q.exprs)}
        places = []
        for o in q.order_by:
            i = keys.get(o.expr.key())
            if i is None:
                i = len(q.exprs) + len(extra)
                extra.append(o.expr)
            places.append(i)
        rel = rows_rel("DISTINCT", q.exprs + extra)
        columns = columns_of(rel, q.exprs + extra)
        node = plan.Distinct(plan.Project(node, q.exprs + extra, rel), columns[:len(q.exprs)])
        for o, i in zip(q.order_by, places):
            o.expr = columns[i]
        return node, columns[:len(q.exprs)]

    @staticmethod
    def extreme(q):
        """For a lone min(column) or max(column): the order in which its answer is the first row."""
        if q.group_by is not None or len(q.aggregates) != 1:
            return None
        a = q.aggregates[0]
        if a.name not in ("min", "max") or a.user is not None or a.condition is not None:
            return None
        if type(bound.resolve(a.args[0])) is not bound.Col or type(q.from_) is not Leaf:
            return None
        return bound.Order(a.args[0], a.name == "max", 0, a.collate)

    # -- FROM

    def merge(self, q, tree, top):
        """Takes queries in FROM that only select and filter into the query around them. `top`: not below an outer join."""
        if type(tree) is Leaf:
            rel = tree.rel
            inner = rel.query
            if rel.kind != "query" or not top or not mergeable(inner) or inner.from_ is None:
                return tree
            if inner.order_by and (not q.order_by or q.group_rel is not None or q.distinct):
                # nobody promises it, but everybody sees the inner order: it stays where nothing else orders the rows
                return tree
            for ref in list(rel.refs):
                if ref.replaced is None:
                    ref.replaced = inner.exprs[ref.index]
            q.where.extend(inner.where)
            return self.merge(q, inner.from_, top)
        left_top = top and tree.kind in ("INNER", "CROSS", "LEFT")
        right_top = top and tree.kind in ("INNER", "CROSS")
        tree.left = self.merge(q, tree.left, left_top)
        tree.right = self.merge(q, tree.right, right_top)
        return tree

    def strengthen(self, tree, conditions):
        """LEFT becomes INNER where WHERE is never true of the NULL row."""
        if type(tree) is Leaf:
            return tree
        if tree.kind == "LEFT":
            rels = set(tree.right.rels())
            if any(rejects_null(c, rels) for c in conditions):
                tree.kind = "INNER"
        if tree.kind in ("INNER", "CROSS"):
            tree.left = self.strengthen(tree.left, conditions + tree.on)
            tree.right = self.strengthen(tree.right, conditions + tree.on)
        elif tree.kind == "LEFT":
            tree.left = self.strengthen(tree.left, conditions)
        return tree

    def flatten(self, tree, items, conditions, needs):
        """Items and their conditions from a tree of joins."""
        if type(tree) is Leaf:
            items.append(Item(tree, None, set(needs), len(items)))
        elif tree.kind in ("INNER", "CROSS"):
            self.flatten(tree.left, items, conditions, needs)
            inner = needs | set(tree.left.rels()) if tree.kind == "CROSS" else needs
            self.flatten(tree.right, items, conditions, inner)
            conditions.extend(tree.on)
        elif tree.kind == "LEFT":
            self.flatten(tree.left, items, conditions, needs)
            items.append(Item(tree.right, list(tree.on), needs | set(tree.left.rels()), len(items)))
        else:
            items.append(Item(tree, None, set(needs), len(items)))

    def joins(self, tree, conditions, order, limited):
        """(node, whether its rows are in that order)."""
        items, pool = [], list(conditions)
        self.flatten(tree, items, pool, set())
        own = set(tree.rels())
        for item in items:
            # a table-valued function comes behind what its arguments read
            for rel in item.rels:
                for arg in rel.args:
                    item.needs |= (bound.deps(arg) & own) - item.rels
        before = [c for c in pool if not (bound.deps(c) & own) and not volatile(c)]
        pool = [c for c in pool if c not in before]
        search = Search(self, items, pool, own, order, limited)
        steps, sorted_ = search.run()
        node = self.assemble(steps, pool, own)
        if before:
            node = plan.Precondition(node, before)
        return node, sorted_

    def assemble(self, steps, pool, own):
        """The left-deep tree of the chosen steps, each condition at its first possible place."""
        node, placed, left = None, set(), list(pool)
        for n, step in enumerate(steps):
            item = step.item
            now = placed | item.rels
            if item.on is None:
                mine = [c for c in left if (bound.deps(c) & own) <= now]
                left = [c for c in left if c not in mine]
                inner = self.item_node(step, mine, placed, own, n == 0)
                node = inner if node is None else plan.NestedLoop(node, inner)
            else:
                inner = self.item_node(step, item.on, placed, own, False)
                node = plan.NestedLoop(node, inner, True, sorted(item.rels, key=id))
                mine = [c for c in left if (bound.deps(c) & own) <= now]
                left = [c for c in left if c not in mine]
                if mine:
                    node = plan.Filter(node, mine)
            placed = now
        return node

    def item_node(self, step, conditions, placed, own, first):
        """An item with the conditions that become testable with it."""
        item = step.item
        rel = item.rel
        if rel is None:
            return self.tree_node(item, conditions, placed, own)
        if step.pairs is not None:
            used = [pair[4] for pair in step.pairs]
            inner = [c for c in conditions if c not in used and bound.deps(c) == {rel}]
            outer = [c for c in conditions if c not in used and c not in inner]
            node = self.leaf(rel, inner, False)
            node = plan.HashLookup(node, rel, [pair[:4] for pair in step.pairs])
            return plan.Filter(node, outer) if outer else node
        if step.path is not None:
            node = step.path.make(step.direction < 0)
            left = [c for c in conditions if c not in step.path.used]
        else:
            node = plan.PythonScan(rel, access.keys_of(rel, conditions)) if rel.kind == "python" else self.leaf(rel, (), not first)
            left = conditions
        return plan.Filter(node, left) if left else node

    def leaf(self, rel, conditions, again):
        """A relation read as a whole; `again`: it will be read more than once."""
        if rel.kind == "table":
            terms = [t for t in access.terms_of(rel, conditions) if not t.needs]
            path = min(access.paths(rel, terms, conditions), key=lambda p: p.cost)
            node = path.make()
            conditions = [c for c in conditions if c not in path.used]
        elif rel.kind == "python":
            node = plan.PythonScan(rel, access.keys_of(rel, conditions))
        elif rel.kind == "recursive":
            node = plan.Feedback(rel)
        else:
            inner = self.query(rel.query)
            node = plan.Materialize(rel, inner, rel.query) if again else plan.Subquery(rel, inner)
        return plan.Filter(node, conditions) if conditions else node

    def tree_node(self, item, conditions, placed, own):
        """A nested tree of joins as one item."""
        tree = item.tree
        if tree.kind in ("RIGHT", "FULL"):
            left_rels = set(tree.left.rels())
            if any(bound.deps(arg) & left_rels for rel in tree.right.rels() for arg in rel.args):
                raise NotSupportedError(f"a table-valued function that reads the left side of a {tree.kind} JOIN")
            left, _ = self.joins(tree.left, [], [], False)
            right, _ = self.joins(tree.right, [], [], False)
            node = plan.FullJoin(left, right, tree.left.rels(), tree.right.rels(), tree.on, tree.kind == "FULL")
            return plan.Filter(node, conditions) if conditions else node
        node, _ = self.joins(tree, conditions, [], False)
        return node


class Search:
    """The search for a join order."""

    def __init__(self, planner, items, pool, own, order, limited):
        self.planner, self.items, self.pool, self.own = planner, items, pool, own
        self.order, self.limited = order, limited
        self.terms, self.equalities = {}, {}
        for item in items:
            rel = item.rel
            if rel is None:
                continue
            conditions = pool if item.on is None else item.on
            if rel.kind == "table":
                self.terms[item] = access.terms_of(rel, conditions)
            self.equalities[item] = equalities(rel, conditions)
        self.weights = [(c, bound.deps(c) & own, selectivity(c)) for c in pool]

    def run(self):
        firsts = [item for item in self.items if not item.needs and item.on is None]
        if not firsts:
            firsts = [self.items[0]]
        options = []
        for item in firsts:
            for step, ordered in self.first_steps(item):
                options.append((step.path.cost if step.path else access.TABLE_ROWS, self.rows(step, set()), step, ordered))
        options.sort(key=lambda o: (o[1], o[0]))
        if len(self.items) > 8:
            ordered = [o for o in options if o[3]][:1]
            options = options[:2] + ordered
        best = None
        for cost, rows, step, ordered in options:
            steps, total, out = self.extend(step, cost, rows)
            if self.order and not ordered:
                total += access.sort_cost(out)
            elif self.order and self.limited:
                total *= 0.05
            if best is None or total < best[0]:
                best = (total, steps, ordered)
        return best[1], bool(self.order) and best[2]

    def first_steps(self, item):
        rel = item.rel
        if rel is None or rel.kind != "table":
            return [(self.step(item, set(), 1.0, True), False)]
        terms = [t for t in self.terms[item] if not (t.needs & self.own)]
        found = access.paths(rel, terms, self.pool)
        best = min(found, key=lambda p: p.cost)
        steps = [(self.hashed_first(item, best), False)]
        if self.order:
            for path in found:
                direction = access.order_direction(path, rel, self.order)
                if direction:
                    steps.append((Step(item, path, direction), True))
        return steps

    def hashed_first(self, item, best):
        """In a query that runs again for each outer row, a hash over the whole table may stand for a missing index."""
        if best.cost > 1000.0:
            pairs = [p for p in self.equalities[item] if not (p[5] & self.own) and p[5]]
            if pairs:
                return Step(item, None, pairs=pairs)
        return Step(item, best)

    def extend(self, first, cost, rows):
        """Adds all other items, the one that leaves the fewest rows first: (steps, cost, rows)."""
        steps, placed = [first], set(first.item.rels)
        left = [item for item in self.items if item is not first.item]
        while left:
            best = None
            for item in left:
                if not item.needs <= placed:
                    continue
                step = self.step(item, placed, rows, False)
                step_cost = self.cost(step)
                factor = self.rows(step, placed)
                rank = (rows * factor, step_cost, item.number)
                if best is None or rank < best[0]:
                    best = (rank, step, step_cost, factor)
            _, step, step_cost, factor = best
            cost += step_cost if step.pairs is not None else rows * step_cost
            if step.pairs is not None:
                cost += rows
            rows = max(rows * factor, 1e-3)
            steps.append(step)
            placed |= step.item.rels
            left.remove(step.item)
        return steps, cost, rows

    def step(self, item, placed, rows, first):
        rel = item.rel
        if rel is None:
            return Step(item, None)
        pairs = [p for p in self.equalities[item] if p[5] and (p[5] & self.own) <= placed and (p[5] & placed or first)]
        if rel.kind != "table":
            return Step(item, None, pairs=pairs or None)
        terms = [t for t in self.terms[item] if (t.needs & self.own) <= placed]
        found = access.paths(rel, terms, self.pool if item.on is None else item.on)
        best = min(found, key=lambda p: p.cost)
        if pairs and best.cost > 1000.0 and best.cost * rows > 20.0 * access.TABLE_ROWS:
            return Step(item, None, pairs=pairs)
        return Step(item, best)

    @staticmethod
    def cost(step):
        if step.pairs is not None:
            return 10.0 * access.TABLE_ROWS
        return step.path.cost if step.path is not None else access.TABLE_ROWS

    def rows(self, step, placed):
        """How many rows a step leaves for each row before it."""
        item = step.item
        rows = 10.0 if step.pairs is not None else step.path.rows if step.path is not None else access.TABLE_ROWS
        if item.on is not None:
            return max(rows, 1.0)
        used = [p[4] for p in step.pairs] if step.pairs is not None else step.path.used if step.path is not None else ()
        now = placed | item.rels
        for condition, needs, weight in self.weights:
            if needs <= now and not needs <= placed and condition not in used:
                rows *= weight
        return rows


def equalities(rel, conditions):
    """(inner, outer, affinity, collation, condition, needs) for conditions "inner = outer" that a hash can look up."""
    found = []
    if not all(bound.is_constant(arg) for arg in rel.args):
        return found
    for c in conditions:
        if type(c) is not bound.Cmp or c.op != "=":
            continue
        for inner, outer in ((c.left, c.right), (c.right, c.left)):
            needs = bound.deps(outer)
            if bound.deps(inner) == {rel} and rel not in needs and not volatile(c):
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


def rejects_null(c, rels):
    """Whether a condition cannot be true if all columns of `rels` are NULL."""
    if type(c) is bound.Cmp and c.op not in ("IS", "IS NOT"):
        return strict(c.left, rels) or strict(c.right, rels)
    if type(c) is bound.IsNull and c.negated:
        return strict(c.operand, rels)
    if type(c) is bound.InList:
        return strict(c.operand, rels)
    if type(c) is bound.And:
        return any(rejects_null(t, rels) for t in c.terms)
    if type(c) is bound.Or:
        return all(rejects_null(t, rels) for t in c.terms)
    return False


def strict(e, rels):
    """Whether an expression is NULL as soon as the columns of `rels` are: and it reads one."""
    e = bound.resolve(e)
    if type(e) is bound.Col:
        return e.rel in rels
    if type(e) in (bound.Arith, bound.Concat, bound.Negate, bound.BitNot, bound.Plus, bound.Collated, bound.Cast):
        return any(strict(child, rels) for child in e.children())
    return False


def mergeable(q):
    if type(q) is not bound.Select or q.group_rel is not None or q.windows or q.distinct or q.limit is not None \
            or q.offset is not None:
        return False
    return not any(volatile(e) for e in q.exprs)


def rows_rel(name, exprs):
    return Rel("rows", name, None, [RelColumn(f"c{i}", e.affinity, e.collation, e.decltype) for i, e in enumerate(exprs)])


def columns_of(rel, exprs):
    return [bound.Col(rel, i) for i in range(len(exprs))]
