"""From bound queries to physical plans: merging, pushing conditions down, the order of joins, access paths, sorting.

SELECT is planned inside out: FROM and WHERE, GROUP BY, HAVING, windows, DISTINCT, ORDER BY, LIMIT. The order of joins and
the way to each relation are found in search.py. Every condition is tested as soon as the relations
that it reads have a row; those of an outer join's ON are tested inside of it, and WHERE after it.
"""
from __future__ import annotations

from ..errors import NotSupportedError
from . import access, bound, costs, plan
from .bound import Leaf, Rel, RelColumn
from .search import Item, Search, volatile


class Planner:
    """Plans the queries of one statement; environment: the statement's. joined: whether the sizes of tables decided on an order of joins."""

    def __init__(self, environment):
        self.plans, self.sizes, self.joined = {}, costs.Sizes(environment), False

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
                found.rows = found.cost = float(len(q.rows))
            self.plans[q] = found
        return found

    def guesses(self):
        """{tree: rows} of the guesses that the plan rests on; None if it rests on none."""
        return self.sizes.guesses if self.joined and self.sizes.guesses else None

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
        found = self.finish(q, node)
        parts = [self.query(a) for a in (arms if q.op == "UNION ALL" else (q.left, q.right))]
        found.rows, found.cost = rows_limited(q, sum(p.rows for p in parts)), sum(p.cost for p in parts)
        return found

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
        sorted_, rows, cost = False, 1.0, 1.0
        if q.from_ is None:
            node = plan.SingleRow()
            if conditions:
                node = plan.Precondition(node, conditions)
            sorted_ = True
        else:
            q.from_ = self.strengthen(q.from_, conditions)
            extreme = self.extreme(q) if grouped else None
            if extreme is not None:
                node, found, state = self.joins(q.from_, conditions, [extreme], True)
                if found:
                    node = plan.Limit(plan.Filter(node, [bound.IsNull(extreme.expr, True)]), bound.Const(1), None)
            else:
                limited = q.limit is not None and not q.windows and not grouped and not q.distinct
                node, sorted_, state = self.joins(q.from_, conditions, wanted, limited)
            rows, cost = state.rows, state.begin + state.cost
        if grouped:
            rows = max(rows * costs.GROUPS, 1.0) if q.group_by is not None else 1.0
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
        found = self.finish(q, node, exprs, sorted_ and not grouped and not q.distinct)
        found.rows, found.cost = rows_limited(q, rows), cost
        return found

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
        """(node, whether its rows are in that order, the State that it was made from)."""
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
        best = Search(self, items, pool, own, order, limited).run()
        self.joined = self.joined or len(items) > 1
        node = self.assemble(best.steps, pool, own)
        if before:
            node = plan.Precondition(node, before)
        return node, bool(order) and best.ordered, best

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
            path = min(access.paths(rel, terms, conditions, self.sizes), key=lambda p: p.cost)
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
            left, _, _ = self.joins(tree.left, [], [], False)
            right, _, _ = self.joins(tree.right, [], [], False)
            node = plan.FullJoin(left, right, tree.left.rels(), tree.right.rels(), tree.on, tree.kind == "FULL")
            return plan.Filter(node, conditions) if conditions else node
        node, _, _ = self.joins(tree, conditions, [], False)
        return node


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


def rows_limited(q, rows):
    """What a constant LIMIT leaves of so many rows."""
    limit = q.limit.value if type(q.limit) is bound.Const else None
    return min(rows, float(limit)) if type(limit) is int and limit >= 0 else rows


def mergeable(q):
    if type(q) is not bound.Select or q.group_rel is not None or q.windows or q.distinct or q.limit is not None \
            or q.offset is not None:
        return False
    return not any(volatile(e) for e in q.exprs)


def rows_rel(name, exprs):
    return Rel("rows", name, None, [RelColumn(f"c{i}", e.affinity, e.collation, e.decltype) for i, e in enumerate(exprs)])


def columns_of(rel, exprs):
    return [bound.Col(rel, i) for i in range(len(exprs))]
