"""Ways to reach the rows of one table, and what they cost.

From the conditions that can be tested once certain other relations have a row, those of the form "column op expression" are taken
as terms; each index, and the rowid, is tried with the terms that fit its first columns. What a way costs is in costs.py.
"""
from __future__ import annotations

from ..errors import OperationalError
from . import bound, costs, plan
from .bound import Rel, RelColumn
from .indexforms import FIRST_EXPRESSION, bare, implied

SAME = object()             # of an index that has columns only, and no condition
FLIPPED = {"=": "=", "IS": "IS", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class Term:
    """column op expr, taken from `condition`; expr is a list or a query for IN. needs: the relations that expr reads. condition is None where
    the term says only a part of it."""

    __slots__ = ("column", "op", "expr", "affinity", "collation", "condition", "needs")

    def __init__(self, column, op, expr, affinity, collation, condition, needs):
        self.column, self.op, self.expr = column, op, expr
        self.affinity, self.collation, self.condition, self.needs = affinity, collation, condition, needs


class Path:
    """One way: `node()` makes the plan node, `used` are the conditions it settles, order the columns it sorts by."""

    __slots__ = ("cost", "rows", "make", "used", "order", "fixed", "unique")

    def __init__(self, cost, rows, make, used=(), order=(), fixed=(), unique=False):
        self.cost, self.rows, self.make, self.used = cost, rows, make, used
        self.order, self.fixed, self.unique = list(order), set(fixed), unique


def column_of(e, rel):
    """The column of `rel` that an expression is, perhaps with a collation, or None. An indexed expression is one, too."""
    e = bare(e)
    if type(e) is bound.Col and e.rel is rel:
        table = rel.table
        if table is not None and e.index == table.rowid_column:
            return -1
        return e.index
    return rel.numbers.get(e.key()) if rel.numbers else None


def column_affinity(rel, column):
    """The affinity that the values of a column, or of an indexed expression, have."""
    if column <= FIRST_EXPRESSION:
        return rel.expressions[FIRST_EXPRESSION - column].affinity or 0
    return rel.table.columns[column].affinity if column >= 0 else 3


def terms_of(rel, conditions):
    """The terms about one relation."""
    found = []
    for condition in conditions:
        kind = type(condition)
        if kind is bound.Cmp and condition.op in FLIPPED:
            for side, other, op in ((condition.left, condition.right, condition.op),
                                    (condition.right, condition.left, FLIPPED[condition.op])):
                column = column_of(side, rel)
                if column is not None:
                    needs = bound.deps(other)
                    if rel not in needs:
                        found.append(Term(column, op, other, condition.convert, condition.collate, condition, needs))
        elif kind is bound.IsNull and not condition.negated:
            column = column_of(condition.operand, rel)
            if column is not None and column != -1:
                found.append(Term(column, "IS", bound.Const(None), 0, None, condition, set()))
        elif kind is bound.Let and rel.numbers and type(condition.body) is bound.And:
            # expression BETWEEN low AND high
            column = column_of(condition.first, rel)
            if column is not None:
                for part in condition.body.terms:
                    needs = bound.deps(part.right) if type(part) is bound.Cmp and part.left is condition.held else (rel,)
                    if rel not in needs:
                        found.append(Term(column, part.op, part.right, part.convert, part.collate, None, needs))
        elif kind is bound.InList:
            column = column_of(condition.operand, rel)
            if column is not None:
                needs = set().union(*map(bound.deps, condition.items))
                if rel not in needs:
                    found.append(Term(column, "IN", condition.items, condition.convert, condition.collate, condition, needs))
        elif kind is bound.InQuery and len(condition.operands) == 1:
            column = column_of(condition.operands[0], rel)
            if column is not None:
                needs = set().union(*(bound.deps(ref) for ref in condition.query.outer))
                if rel not in needs:
                    found.append(Term(column, "IN", condition.query, condition.converts[0], condition.collates[0], condition,
                                      needs))
    return found


def keys_of(rel, conditions):
    """The values, independent of other relations, one of which the first column of a Python relation has to equal; None: it may be any.

    The conditions stay: what is found at these keys is still tested.
    """
    if not hasattr(rel.rows, "at"):
        return None
    for term in terms_of(rel, conditions):
        if term.column == 0 and not term.needs and not term.collation and not term.affinity:
            if term.op == "=":
                return [term.expr]
            if term.op == "IN" and isinstance(term.expr, (list, tuple)):
                return list(term.expr)
    return None


def affinity_fits(affinity, column_affinity):
    """Whether comparing with that affinity leaves the column's own values as they are."""
    if affinity == 0:
        return True
    if affinity == 1:
        return column_affinity == 1
    return column_affinity >= 2


def paths(rel, terms, conditions, sizes):
    """All ways to read a table, given the terms whose needs are met. The whole scan is the first."""
    table = rel.table
    size = sizes.rows(table)
    found = []
    if rel.index_hint is None:
        if table.has_rowid:
            found.append(Path(size, size, lambda reverse=False: plan.TableScan(rel, reverse=reverse),
                              order=[(-1, False, 0)], unique=True))
            found.extend(rowid_paths(rel, terms, size))
        else:
            found.append(index_path(rel, table.primary_key, terms, False, table.primary_key.columns, sizes))
            found.append(Path(size * 1.01, size,
                              lambda reverse=False: plan.IndexScan(rel, table.primary_key, reverse=reverse),
                              order=list(zip(table.primary_key.columns, table.primary_key.descending,
                                             table.primary_key.collations))))
    if rel.not_indexed:
        return found
    used = set(plan.used_columns(rel))
    for number in rel.table.generated:
        if number in used and rel.table.columns[number].generated == "virtual":
            used |= rel.table.columns[number].needs
    for index in table.indexes:
        if rel.index_hint is not None and index is not rel.index_hint:
            continue
        form = rel.forms.get(index, SAME) if rel.forms else SAME
        if form is None or form is not SAME and form.where and not implied(form.where, conditions):
            continue
        positions, _ = plan.index_positions(table, index)
        covering = table.has_rowid and all(
            i < 0 or i == table.rowid_column or positions[i] >= 0 for i in used)
        path = index_path(rel, index, terms, covering, index.columns if form is SAME else form.columns, sizes)
        if form is not SAME and form.where:
            settle_where(path, form.where, conditions)
        if covering and not path.used and (rel.changed or len(index.columns) >= len(table.columns)):
            # not shorter than the table; and rows to be changed are taken in the table's own order
            path.cost = size * 1.1
        found.append(path)
    if not found:
        raise OperationalError("no query solution")        # INDEXED BY a partial index whose condition the query does not imply
    return found


def in_list(term, column_affinity, collation, descending, make):
    """Wraps a path around the list of an IN term; make(expr) is the scan for one value."""
    values = Rel("rows", "IN", None, [RelColumn("value")])
    value = bound.Col(values, 0)
    query = term.expr if isinstance(term.expr, bound.Query) else None
    exprs = None if query is not None else term.expr
    node = plan.ValueList(values, exprs, query, term.affinity, collation, descending)
    return plan.NestedLoop(node, make(value))


def list_size(term):
    return costs.SUBQUERY_VALUES if isinstance(term.expr, bound.Query) else float(max(1, len(term.expr)))


def settle_where(path, where, conditions):
    """Every entry of a partial index fulfils its conditions: who asks for just them need not test them."""
    keys = {term.key() for term in where}
    path.used += [c for c in conditions if c.key() in keys]


def rowid_paths(rel, terms, size):
    mine = [t for t in terms if t.column == -1]
    for t in mine:
        if t.op in ("=", "IS"):
            yield Path(costs.seek(size), 1.0, lambda reverse=False, t=t: plan.RowLookup(rel, t.expr), (t.condition,),
                       fixed=(-1,), unique=True)
        elif t.op == "IN":
            values = list_size(t)
            yield Path(costs.seek(size) * values, values,
                       lambda reverse=False, t=t: in_list(t, 3, 0, False, lambda value: plan.RowLookup(rel, value)),
                       (t.condition,))
    low = next((t for t in mine if t.op in (">", ">=")), None)
    high = next((t for t in mine if t.op in ("<", "<=")), None)
    if low or high:
        rows = max(size * costs.ranged(low, high), 1.0)
        bounds = [None if t is None else (t.expr, t.op in ("<", ">")) for t in (low, high)]
        yield Path(costs.seek(size) + rows, rows,
                   lambda reverse=False: plan.TableScan(rel, bounds[0], bounds[1], reverse),
                   [t.condition for t in (low, high) if t], order=[(-1, False, 0)], unique=True)


def index_path(rel, index, terms, covering, columns, sizes):
    """The best use of one index; columns: as the terms number them."""
    table = rel.table
    equal, used, fixed, lists = [], [], [], []
    rows = size = sizes.entries(index)
    loops = 1.0
    low = high = None
    for n, column in enumerate(columns):
        affinity = column_affinity(rel, column)
        mine = [t for t in terms if t.column == column and affinity_fits(t.affinity, affinity)
                and (t.collation is None or t.collation == index.collations[n])]
        term = next((t for t in mine if t.op in ("=", "IS")), None)
        if term is not None:
            equal.append((term, index.descending[n]))
            used.append(term.condition)
            fixed.append(column)
        else:
            term = next((t for t in mine if t.op == "IN"), None)
            if term is not None:
                equal.append((term, index.descending[n]))
                used.append(term.condition)
                lists.append(n)
                loops *= list_size(term)
            else:
                low = next((t for t in mine if t.op in (">", ">=")), None)
                high = next((t for t in mine if t.op in ("<", "<=")), None)
                break
        rows = sizes.equal(index, n + 1, rows, size)
    whole = len(equal) == len(index.columns)
    primary = index is table.primary_key
    unique = (index.unique and whole and all(t.op == "=" for t, _ in equal))
    if unique:
        rows = 1.0
    rows = min(rows * loops, size)
    if low or high:
        rows *= costs.ranged(low, high)
        used = used + [t.condition for t in (low, high) if t]
    rows = max(rows, 1.0)
    if not equal and not low and not high:
        # a covering index is shorter than its table
        cost = size * (0.9 if covering else 1.0 if primary else 1.0 + costs.ROW)
    else:
        cost = costs.seek(size) * loops + rows * (costs.ENTRY if covering else 1.0 if primary else costs.ROW)
    order = []
    if not lists:
        columns = list(columns) + ([-1] if table.has_rowid and not index.unique else [])
        downs = list(index.descending) + [False]
        collations = list(index.collations) + [0]
        for n in range(len(equal), len(columns)):
            column = -1 if columns[n] == table.rowid_column else columns[n]
            order.append((column, downs[n], collations[n]))

    def make(reverse=False):
        def scan(values):
            parts = []
            for n, (term, _) in enumerate(equal):
                if n in values:
                    parts.append((values[n], False, 0))
                else:
                    parts.append((term.expr, term.op == "IS", term.affinity))
            affinity = low.affinity if low else high.affinity if high else 0
            return plan.IndexScan(rel, index, parts, (low.expr, low.op == ">") if low else None,
                                  (high.expr, high.op == "<") if high else None, affinity, reverse, covering)

        def nested(places, values):
            if not places:
                return scan(values)
            n = places[0]
            term, descending = equal[n]
            return in_list(term, 0, index.collations[n], False,
                           lambda value: nested(places[1:], {**values, n: value}))
        return nested(lists, {})

    return Path(cost, rows, make, [condition for condition in used if condition is not None], order, fixed, unique)


def order_direction(path, rel, order):
    """Whether a path's order is that of the terms of ORDER BY: 1 forward, -1 in reverse, 0 it is not."""
    direction = 0
    at = 0
    for o in order:
        column = column_of(o.expr, rel)
        if column is None:
            return 1 if not bound.deps(o.expr) else 0
        if column in path.fixed:
            continue
        if path.unique and at >= len(path.order):
            break
        if at >= len(path.order) or o.nulls:
            return 0
        have, descending, collation = path.order[at]
        if have != column or (column != -1 and collation != o.collation):
            return 0
        wanted = 1 if descending == o.descending else -1
        if direction and wanted != direction:
            return 0
        direction = wanted
        at += 1
        if column == -1:
            break
    return direction or 1
