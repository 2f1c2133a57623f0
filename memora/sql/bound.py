"""Expressions after binding: names are columns of relations, functions are known, affinity and collation are settled.

Each node has `affinity` (None: the expression has none), `collation` (None: it says nothing) and `explicit`, whether the
collation was asked for with COLLATE. `kids` names the attributes that hold expressions.

A `Col` can be *forwarded*: when a query in FROM is merged into the outer one, or rows are grouped, the relation that it
names is gone, and `replaced` is what stands for it. That reaches references inside of nested queries, too, wherever they are.
"""
from __future__ import annotations

from .catalog import fold


class Bound:
    __slots__ = ("known_deps",)        # what deps() found
    kids = ()
    affinity = None
    collation = None
    explicit = False
    decltype = None

    def key(self):
        """A hashable form that is equal for expressions that mean the same."""
        parts = [type(self).__name__]
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, Bound):
                parts.append(value.key())
            elif isinstance(value, (list, tuple)):
                parts.append(tuple(v.key() if isinstance(v, Bound) else v for v in value))
            elif value is not None and type(value).__hash__ is None:
                parts.append(id(value))
            else:
                parts.append((type(value), value))
        return tuple(parts)

    def children(self):
        found = []
        for name in self.kids:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, (list, tuple)):
                found.extend(v for v in value if v is not None)
            else:
                found.append(value)
        return found

    def mapped(self, function):
        """The same node over `function(child)` for each child."""
        if not self.kids:
            return self
        copy = object.__new__(type(self))
        for name in self.__slots__:
            setattr(copy, name, getattr(self, name))
        for name in self.kids:
            value = getattr(self, name)
            if isinstance(value, (list, tuple)):
                setattr(copy, name, [None if v is None else function(v) for v in value])
            elif value is not None:
                setattr(copy, name, function(value))
        return copy


class Const(Bound):
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Param(Bound):
    __slots__ = ("index",)

    def __init__(self, index):
        self.index = index


class Col(Bound):
    """Column `index` of a relation; -1 is the rowid."""

    __slots__ = ("rel", "index", "replaced", "affinity", "collation", "decltype")

    def __init__(self, rel, index):
        self.rel, self.index, self.replaced = rel, index, None
        if index >= 0:
            column = rel.columns[index]
            self.affinity, self.collation, self.decltype = column.affinity, column.collation, column.decltype
        else:
            self.affinity, self.collation, self.decltype = 3, 0, "INTEGER"
        rel.refs.append(self)

    def key(self):
        if self.replaced is not None:
            return self.replaced.key()
        table = self.rel.table
        return ("Col", id(self.rel), -1 if table is not None and self.index == table.rowid_column else self.index)


class Given(Bound):
    """Column `index` of a row that is given from outside, OLD or NEW of a trigger; -1 is the rowid. As in SQLite it has its column's
    collation, but no affinity in comparisons, unless the row is `typed`."""

    __slots__ = ("row", "index", "affinity", "collation", "decltype")

    def __init__(self, row, index):
        self.row, self.index = row, index
        self.affinity, self.collation, self.decltype = 3, 0, "INTEGER"
        if index >= 0:
            column = row.columns[index]
            typed = row.typed or index == row.rowid_column
            self.affinity, self.collation, self.decltype = column.affinity if typed else None, column.collation, column.decltype


class Raise(Bound):
    """RAISE(action, message)."""

    __slots__ = ("action", "message")
    kids = ("message",)

    def __init__(self, action, message):
        self.action, self.message = action, message


class Held(Bound):
    """A value that some other node computes: see Let."""

    __slots__ = ("affinity", "collation", "explicit")

    def __init__(self, like=None):
        self.affinity = like.affinity if like is not None else None
        self.collation = like.collation if like is not None else None
        self.explicit = like.explicit if like is not None else False

    def key(self):
        return ("Held", id(self))


class Let(Bound):
    """`first` is computed once into `held`; the value is that of `body`."""

    __slots__ = ("held", "first", "body")
    kids = ("first", "body")

    def __init__(self, held, first, body):
        self.held, self.first, self.body = held, first, body


def passed_on(*operands):
    """(collation, True) of the first operand with COLLATE, which holds for the whole expression; else (None, False)."""
    for e in operands:
        if e.explicit:
            return e.collation, True
    return None, False


class Negate(Bound):
    __slots__ = ("operand", "collation", "explicit")
    kids = ("operand",)

    def __init__(self, operand):
        self.operand = operand
        self.collation, self.explicit = passed_on(operand)


class BitNot(Bound):
    __slots__ = ("operand", "collation", "explicit")
    kids = ("operand",)

    def __init__(self, operand):
        self.operand = operand
        self.collation, self.explicit = passed_on(operand)


class Plus(Bound):
    """Unary plus: the value without its column's affinity."""

    __slots__ = ("operand", "collation", "explicit")
    kids = ("operand",)

    def __init__(self, operand):
        self.operand, self.collation, self.explicit = operand, operand.collation, operand.explicit


class Collated(Bound):
    """operand COLLATE collation."""

    __slots__ = ("operand", "collation", "affinity", "decltype")
    kids = ("operand",)
    explicit = True

    def __init__(self, operand, collation):
        self.operand, self.collation = operand, collation
        self.affinity, self.decltype = operand.affinity, operand.decltype


class Arith(Bound):
    __slots__ = ("op", "left", "right", "collation", "explicit")
    kids = ("left", "right")

    def __init__(self, op, left, right):
        self.op, self.left, self.right = op, left, right
        self.collation, self.explicit = passed_on(left, right)


class Concat(Bound):
    __slots__ = ("left", "right", "collation", "explicit")
    kids = ("left", "right")

    def __init__(self, left, right):
        self.left, self.right = left, right
        self.collation, self.explicit = passed_on(left, right)


class Cmp(Bound):
    """left op right, `convert` being the affinity that both sides get and `collate` the collation."""

    __slots__ = ("op", "left", "right", "convert", "collate")
    kids = ("left", "right")

    def __init__(self, op, left, right, convert, collate):
        self.op, self.left, self.right, self.convert, self.collate = op, left, right, convert, collate


class CmpRows(Bound):
    __slots__ = ("op", "left", "right", "converts", "collates", "query")
    kids = ("left", "right")

    def __init__(self, op, left, right, converts, collates):
        self.op, self.left, self.right, self.converts, self.collates = op, left, right, converts, collates
        self.query = None


class And(Bound):
    __slots__ = ("terms",)
    kids = ("terms",)

    def __init__(self, terms):
        self.terms = terms


class Or(Bound):
    __slots__ = ("terms",)
    kids = ("terms",)

    def __init__(self, terms):
        self.terms = terms


class Not(Bound):
    __slots__ = ("operand",)
    kids = ("operand",)

    def __init__(self, operand):
        self.operand = operand


class IsNull(Bound):
    __slots__ = ("operand", "negated")
    kids = ("operand",)

    def __init__(self, operand, negated):
        self.operand, self.negated = operand, negated


class IsTruth(Bound):
    __slots__ = ("operand", "wanted", "negated")
    kids = ("operand",)

    def __init__(self, operand, wanted, negated):
        self.operand, self.wanted, self.negated = operand, wanted, negated


class Case(Bound):
    __slots__ = ("conditions", "results", "otherwise")
    kids = ("conditions", "results", "otherwise")

    def __init__(self, conditions, results, otherwise):
        self.conditions, self.results, self.otherwise = conditions, results, otherwise


class Coalesce(Bound):
    __slots__ = ("args",)
    kids = ("args",)

    def __init__(self, args):
        self.args = args


class Cast(Bound):
    __slots__ = ("operand", "affinity", "collation", "explicit")
    kids = ("operand",)

    def __init__(self, operand, affinity):
        self.operand, self.affinity = operand, affinity
        self.collation, self.explicit = operand.collation, operand.explicit


class Call(Bound):
    """A scalar function of `functions.SCALARS`."""

    __slots__ = ("function", "args", "collate", "collation", "explicit")
    kids = ("args",)

    def __init__(self, function, args, collate):
        self.function, self.args, self.collate = function, args, collate
        self.collation, self.explicit = passed_on(*args)

    def key(self):
        if not self.function.deterministic:
            return ("Call", id(self))
        return ("Call", self.function.name, tuple(a.key() for a in self.args), self.collate)


class PythonCall(Bound):
    """A function in Python; `own` is one of ours, whose errors pass through; `now` gets the statement's clock."""

    __slots__ = ("name", "function", "args", "own", "clock", "deterministic")
    kids = ("args",)

    def __init__(self, name, function, args, own=False, clock=False, deterministic=False):
        self.name, self.function, self.args, self.own, self.clock = name, function, args, own, clock
        self.deterministic = deterministic

    def key(self):
        if not self.deterministic and not self.clock:
            return ("PythonCall", id(self))
        return ("PythonCall", self.name, tuple(a.key() for a in self.args))


class InList(Bound):
    __slots__ = ("operand", "items", "convert", "collate")
    kids = ("operand", "items")

    def __init__(self, operand, items, convert, collate):
        self.operand, self.items, self.convert, self.collate = operand, items, convert, collate


class InQuery(Bound):
    __slots__ = ("operands", "query", "converts", "collates")
    kids = ("operands",)

    def __init__(self, operands, query, converts, collates):
        self.operands, self.query, self.converts, self.collates = operands, query, converts, collates

    def key(self):
        return ("InQuery", id(self))


class Exists(Bound):
    __slots__ = ("query",)

    def __init__(self, query):
        self.query = query

    def key(self):
        return ("Exists", id(self))


class Scalar(Bound):
    """A scalar subquery; `held` take the further columns of a row value."""

    __slots__ = ("query", "affinity", "collation", "held")

    def __init__(self, query, affinity, collation):
        self.query, self.affinity, self.collation, self.held = query, affinity, collation, []

    def key(self):
        return ("Scalar", id(self.query))


class Row(Bound):
    """A row value; only comparisons, IN and assignments take one."""

    __slots__ = ("items",)
    kids = ("items",)

    def __init__(self, items):
        self.items = items


class Agg(Bound):
    """A call of an aggregate function, before grouping replaces it by a slot. order, terms: as in WindowCall."""

    __slots__ = ("kind", "name", "args", "distinct", "condition", "collate", "order", "terms", "user")
    kids = ("args", "condition", "order")

    def __init__(self, kind, name, args, distinct, condition, collate, order=(), terms=(), user=None):
        self.user = user
        self.kind, self.name, self.args, self.distinct = kind, name, args, distinct
        self.condition, self.collate, self.order, self.terms = condition, collate, order, terms


class WindowCall(Bound):
    """A window function, before windowing replaces it by a slot. order, terms: ORDER BY, with (descending, nulls, collation) of each
    term; frame: (unit, start, end, exclude) as in the syntax tree, `bounds` being the two offsets or None."""

    __slots__ = ("kind", "name", "args", "condition", "partition", "order", "terms", "frame", "bounds", "collate", "user")
    kids = ("args", "condition", "partition", "order", "bounds")

    def __init__(self, kind, name, args, condition, window, collate, user=None):
        self.user = user
        self.kind, self.name, self.args, self.condition, self.collate = kind, name, args, condition, collate
        self.partition, self.order, self.terms, self.frame, self.bounds = window


# --- relations and queries ---------------------------------------------------------------------------------------

class RelColumn:
    __slots__ = ("name", "affinity", "collation", "decltype", "hidden")

    def __init__(self, name, affinity=None, collation=None, decltype=None, hidden=False):
        self.name, self.affinity, self.collation, self.decltype, self.hidden = name, affinity, collation, decltype, hidden


class Rel:
    """Something in FROM. kind: "table" (table), "query" (query), "python" (rows), "rows" (kept by an operator), "recursive"
    (feedback of a common table). args: what a table-valued function ("python") is called with; changed: the target of UPDATE or
    DELETE; forms, expressions, numbers: of its partial and expression indexes, see indexforms.py; asked: an
    authorizer is asked about its columns; source: the view that names it."""

    __slots__ = ("kind", "name", "alias", "columns", "refs", "table", "query", "rows", "args", "index_hint", "not_indexed",
                 "shared", "changed", "found", "alone", "forms", "expressions", "numbers", "asked", "source")

    def __init__(self, kind, name, alias, columns):
        self.found = (None, None)
        self.alone = frozenset((self,))
        self.kind, self.name, self.alias, self.columns, self.refs = kind, name, alias, columns, []
        self.table = self.query = self.rows = self.index_hint = self.shared = None
        self.not_indexed = self.changed = self.asked = False
        self.args = ()
        self.forms = self.numbers = None
        self.expressions = []

    def places(self):
        """The numbers of the columns of each name, names folded."""
        columns, places = self.found
        if columns is not self.columns:
            places = {}
            for i, column in enumerate(self.columns):
                places.setdefault(fold(column.name), []).append(i)
            self.found = self.columns, places
        return places

    def __repr__(self):
        return f"<Rel {self.alias or self.name}>"


class Leaf:
    __slots__ = ("rel",)

    def __init__(self, rel):
        self.rel = rel

    def rels(self):
        return [self.rel]


class JoinNode:
    """kind: INNER CROSS LEFT RIGHT FULL; on: the conditions."""

    __slots__ = ("left", "right", "kind", "on")

    def __init__(self, left, right, kind, on):
        self.left, self.right, self.kind, self.on = left, right, kind, on

    def rels(self):
        return self.left.rels() + self.right.rels()


class Order:
    """A term of ORDER BY; nulls: 0 default, -1 first, 1 last (where that is not the default)."""

    __slots__ = ("expr", "descending", "nulls", "collation")

    def __init__(self, expr, descending, nulls, collation):
        self.expr, self.descending, self.nulls, self.collation = expr, descending, nulls, collation


class Query:
    """The base of bound queries. names, exprs: the result; outer: references to relations of enclosing queries."""

    def __init__(self):
        self.names, self.exprs, self.outer, self.order_by = [], [], [], []
        self.limit = self.offset = None


class Select(Query):
    """from_: a tree of Leaf and JoinNode or None; where, having: lists of conditions; windows: WindowPass, the last one runs
    first; kept: what they keep of each row."""

    def __init__(self):
        super().__init__()
        self.from_, self.where, self.group_by, self.having = None, [], None, []
        self.aggregates, self.distinct, self.group_rel, self.bare, self.follow = [], False, None, [], -1
        self.windows, self.window_rel, self.kept = [], None, []


class SetQuery(Query):
    """left op right; the result's columns are those of `rel`, which an operator fills."""

    def __init__(self, op, left, right):
        super().__init__()
        self.op, self.left, self.right, self.rel = op, left, right, None


class ValuesQuery(Query):
    def __init__(self, rows):
        super().__init__()
        self.rows, self.rel = rows, None


NO_RELATIONS = frozenset()


class RecursiveQuery(Query):
    """A recursive common table: `first` and `steps`, which read `feedback`; distinct for UNION."""

    def __init__(self, first, feedback, distinct):
        super().__init__()
        self.first, self.feedback, self.distinct, self.steps, self.rel = first, feedback, distinct, [], None


def resolve(e):
    """What an expression is after forwarding."""
    while type(e) is Col and e.replaced is not None:
        e = e.replaced
    return e


def walk(e):
    """The expression and all below it, each before its children; nested queries are not entered."""
    stack = [e]
    while stack:
        e = resolve(stack.pop())
        yield e
        if e.kids:
            stack.extend(reversed(e.children()))


def query_of(e):
    return getattr(e, "query", None)


def deps(e):
    """All relations that an expression reads, those read by its subqueries from outside included: a frozenset.

    It is remembered: the planner asks often, and only after the relations around the expression were merged."""
    e = resolve(e)
    try:
        return e.known_deps
    except AttributeError:
        pass
    if type(e) is Col:
        found = e.rel.alone
    else:
        found = NO_RELATIONS
        if e.kids:
            for child in e.children():
                below = deps(child)
                found = below if not found else found if below <= found else found | below
        query = query_of(e)
        if query is not None:
            for ref in query.outer:
                found |= deps(ref)
    e.known_deps = found
    return found


def is_constant(e):
    """Whether the value cannot change within one execution."""
    for part in walk(e):
        if type(part) in (Col, Held, Raise):
            return False
        query = query_of(part)
        if query is not None:
            return False
        if type(part) is Call and not part.function.deterministic:
            return False
        if type(part) is PythonCall and not part.deterministic:
            return False
    return True


def volatile(part):
    """Whether a call may give another result for the same arguments: random() and functions of Python."""
    return (type(part) is Call and not part.function.deterministic) or (
        type(part) is PythonCall and not part.deterministic and not part.clock)


def conjuncts(e):
    """The terms of a chain of AND."""
    if type(e) is And:
        found = []
        for term in e.terms:
            found.extend(conjuncts(term))
        return found
    return [e]


# --- the rules of comparison ------------------------------------------------------------------------------------

def comparison_affinity(left, right):
    """The affinity that a comparison gives both sides, as `types` numbers it; 0 is none."""
    a, b = left.affinity, right.affinity
    if a is not None and b is not None:
        return 2 if a >= 2 or b >= 2 else 0
    both = a if a is not None else b
    return 0 if both is None else min(both, 2)


def comparison_collation(left, right):
    """An explicit COLLATE first, then a column's; the left side before the right one."""
    if left.explicit:
        return left.collation
    if right.explicit:
        return right.collation
    if left.collation is not None:
        return left.collation
    return right.collation or 0
