"""Expressions of the syntax tree to bound ones: names are looked up, functions chosen, affinity and collation settled.

A `Scope` is the FROM clause of one query; its parent is that of the query around it. A column found in a parent makes the query
correlated, which is recorded in `Query.outer` of every query that the reference passes through. Queries themselves are bound in
`queries.py`; this module holds what is inside one expression.
"""
from __future__ import annotations

from ..errors import NotSupportedError, OperationalError
from . import ast, bound, dates, mathfunctions, printf, textfunctions  # noqa: F401  (mathfunctions enters its functions)
from .bound import comparison_affinity, comparison_collation
from .catalog import fold
from .functions import CASED_LIKE, SCALARS
from .jsonfunctions import MEMBER
from .sorting import AGGREGATES
from .types import affinity_of
from .windows import FUNCTIONS as WINDOW_FUNCTIONS

DATE_FUNCTIONS = {"date": dates.date, "time": dates.time, "datetime": dates.datetime_, "julianday": dates.julianday,
                  "unixepoch": dates.unixepoch, "strftime": dates.strftime, "timediff": dates.timediff}


class Scope:
    """The names that an expression may use.

    rels: the relations of FROM; merged: columns of USING and NATURAL joins, by folded name; aliases: result columns by
    folded name, once they are bound; query: the query that is being bound, None outside of one; aggregates: whether aggregate
    functions may stand here; windows: the named windows, None where window functions may not stand.
    """

    __slots__ = ("parent", "rels", "merged", "hidden", "aliases", "query", "aggregates", "windows", "ctes", "clause")

    def __init__(self, parent=None, query=None, ctes=None):
        self.parent, self.query = parent, query
        self.rels, self.merged, self.hidden, self.aliases = [], {}, set(), {}
        self.aggregates = False
        self.windows = None
        self.clause = None
        self.ctes = ctes if ctes is not None else (parent.ctes if parent is not None else {})

    def find(self, name, table, schema):
        """What the name means here: a bound expression, or None. Raises for an ambiguous one."""
        folded = fold(name)
        if table is None and folded in self.merged:
            return self.merged[folded]()
        found = []
        wanted = None if table is None else fold(table)
        hidden = self.hidden
        for rel in self.rels:
            if wanted is not None and fold(rel.alias or rel.name) != wanted:
                continue
            for i in rel.places().get(folded, ()):
                if not hidden or wanted is not None or (id(rel), i) not in hidden:
                    found.append((rel, i))
                    break
        if not found and folded in ("rowid", "oid", "_rowid_"):
            rels = [rel for rel in self.rels if (fold(rel.alias or rel.name) == wanted if wanted is not None else (id(rel), 0) not in hidden)]
            if wanted is not None or len(rels) == 1:
                found = [(rel, -1) for rel in rels if rel.kind == "table" and rel.table.has_rowid]
        if len(found) > 1:
            shown = name if table is None else f"{table}.{name}"
            raise OperationalError(f"ambiguous column name: {shown}")
        if found:
            return bound.Col(*found[0])
        if table is None and folded in self.aliases:
            return self.aliases[folded]
        return None


class RowScope(Scope):
    """The scope around the statements of a trigger: the columns of OLD and NEW, which are always qualified. rows: by name."""

    __slots__ = ("rows",)

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def find(self, name, table, schema):
        row = self.rows.get(fold(table)) if table is not None and schema is None else None
        if row is None:
            return None
        index = row.find(name)
        return None if index is None else bound.Given(row, index)


class Binder:
    """Binds expressions; `environment` is the session's: schema, functions, virtual tables."""

    def __init__(self, environment):
        self.environment = environment
        self.made = set()               # which of bound.Agg and bound.WindowCall this binder has made: nothing else is looked for

    # -- names

    def column(self, node, scope):
        inner = scope
        passed = []
        while scope is not None:
            found = scope.find(node.name, node.table, node.schema)
            if found is not None:
                if self.environment.authorizer is not None:
                    found = self.permitted(found)
                self.note_outer(found, passed)
                if self.made and type(found) is not bound.Col:
                    if bound.Agg in map(type, bound.walk(found)) and not inner.aggregates:
                        raise OperationalError(f"misuse of aliased aggregate {node.name}")
                    if inner.windows is None and bound.WindowCall in map(type, bound.walk(found)):
                        raise OperationalError(f"misuse of aliased window function {node.name}")
                return found
            if scope.query is not None:
                passed.append(scope.query)
            scope = scope.parent
        if node.table is None:
            upper = node.name.upper()
            if not node.quote and upper in ("TRUE", "FALSE"):
                return bound.Const(int(upper == "TRUE"))
            if node.quote == '"':
                return bound.Const(node.name)
        shown = ".".join(part for part in (node.schema, node.table, node.name) if part is not None)
        raise OperationalError(f"no such column: {shown}")

    def permitted(self, found):
        """What a name stands for, or NULL if the authorizer says that one of its columns is to be ignored."""
        for part in bound.walk(found):
            if type(part) is bound.Col and part.rel.asked and not self.environment.authorizer.reads(part.rel, part.index):
                return bound.Const(None)
        return found

    @staticmethod
    def note_outer(found, passed):
        if passed:
            for part in bound.walk(found):
                if type(part) is bound.Col:
                    for query in passed:
                        query.outer.append(part)

    # -- expressions

    def expr(self, node, scope):
        """The bound form of an expression that has one value."""
        e = self.any(node, scope)
        if type(e) is bound.Row:
            raise OperationalError("row value misused")
        return e

    def any(self, node, scope):
        return getattr(self, "on_" + type(node).__name__)(node, scope)

    def exprs(self, nodes, scope):
        return [self.expr(node, scope) for node in nodes]

    def on_Literal(self, node, scope):
        return bound.Const(node.value)

    def on_CurrentTime(self, node, scope):
        kind = {"CURRENT_TIME": "time", "CURRENT_DATE": "date", "CURRENT_TIMESTAMP": "datetime"}[node.kind.upper()]
        return bound.PythonCall(kind, DATE_FUNCTIONS[kind], [], own=True, clock=True)

    def on_Param(self, node, scope):
        return bound.Param(node.index - 1)

    def on_Column(self, node, scope):
        return self.column(node, scope)

    def on_Star(self, node, scope):
        raise OperationalError('near "*": syntax error')

    def on_Raise(self, node, scope):
        if self.environment.given is None:
            raise OperationalError("RAISE() may only be used within a trigger-program")
        return bound.Raise(node.action, None if node.message is None else self.expr(node.message, scope))

    def on_Unary(self, node, scope):
        operand = self.expr(node.operand, scope)
        if node.op == "-":
            if type(operand) is bound.Const and type(operand.value) in (int, float) and operand.value != -2**63:
                return bound.Const(0 - operand.value if operand.value else operand.value)
            return bound.Negate(operand)
        if node.op == "+":
            return bound.Plus(operand)
        if node.op == "~":
            return bound.BitNot(operand)
        return bound.Not(operand)

    def on_Binary(self, node, scope):
        op = node.op
        if op in ("AND", "OR"):
            terms, stack = [], [node]
            # a long chain leans to the left; taking it apart in a loop keeps Python's stack out of it
            while stack:
                part = stack.pop()
                if isinstance(part, ast.Binary) and part.op == op:
                    stack.append(part.right)
                    stack.append(part.left)
                else:
                    terms.append(self.expr(part, scope))
            return (bound.And if op == "AND" else bound.Or)(terms)
        if op in ("=", "<>", "<", "<=", ">", ">=", "IS", "IS NOT"):
            return self.comparison(node, scope)
        chain, base = [], node
        while isinstance(base, ast.Binary) and base.op in ("+", "-", "*", "/", "%", "&", "|", "<<", ">>", "||", "->", "->>"):
            chain.append(base)
            base = base.left
        left = self.expr(base, scope)
        for part in reversed(chain):
            right = self.expr(part.right, scope)
            if part.op in ("->", "->>"):
                left = bound.Call(SCALARS[part.op], [left, right], 0)
            else:
                left = bound.Concat(left, right) if part.op == "||" else bound.Arith(part.op, left, right)
        return left

    def comparison(self, node, scope):
        op = node.op
        if op in ("IS", "IS NOT") and isinstance(node.right, ast.Column) and node.right.table is None:
            right = self.any(node.right, scope)
            if type(right) is bound.Const and node.right.name.upper() in ("TRUE", "FALSE") and not node.right.quote:
                return bound.IsTruth(self.expr(node.left, scope), right.value, op == "IS NOT")
        if op in ("IS", "IS NOT") and isinstance(node.right, ast.In) and node.right.items == ():
            # "x IN ()" is the keyword FALSE to SQLite, and IS FALSE asks for the truth of its left side
            return bound.IsTruth(self.expr(node.left, scope), int(node.right.negated), op == "IS NOT")
        return self.compare(op, self.any(node.left, scope), self.any(node.right, scope))

    def compare(self, op, left, right):
        if type(left) is bound.Row or type(right) is bound.Row or self.width(left) > 1 or self.width(right) > 1:
            return self.compare_rows(op, left, right)
        if op in ("IS", "IS NOT"):
            for a, b in ((left, right), (right, left)):
                if type(b) is bound.Const and b.value is None:
                    return bound.IsNull(a, op == "IS NOT")
        return bound.Cmp(op, left, right, comparison_affinity(left, right), comparison_collation(left, right))

    @staticmethod
    def width(e):
        return len(e.query.exprs) if type(e) is bound.Scalar else 1

    def compare_rows(self, op, left, right):
        sides = []
        for side in (left, right):
            if type(side) is bound.Row:
                sides.append(side.items)
            elif type(side) is bound.Scalar and len(side.query.exprs) > 1:
                sides.append(self.spread(side))
            else:
                raise OperationalError("row value misused")
        if len(sides[0]) != len(sides[1]):
            raise OperationalError("row value misused")
        pairs = list(zip(*sides))
        return bound.CmpRows(op, sides[0], sides[1], [comparison_affinity(a, b) for a, b in pairs],
                             [comparison_collation(a, b) for a, b in pairs])

    @staticmethod
    def spread(scalar):
        """A row subquery as a list: itself, which yields the first column, and what it holds for the others."""
        scalar.held = [bound.Held(e) for e in scalar.query.exprs[1:]]
        return [scalar, *scalar.held]

    def on_Between(self, node, scope):
        operand = self.any(node.operand, scope)
        low, high = self.any(node.low, scope), self.any(node.high, scope)
        held = first = None
        if type(operand) not in (bound.Col, bound.Const, bound.Param, bound.Row):
            first, operand = operand, bound.Held(operand)
            held = operand
        e = bound.And([self.compare(">=", operand, low), self.compare("<=", operand, high)])
        if node.negated:
            e = bound.Not(e)
        return e if held is None else bound.Let(held, first, e)

    def on_IsNull(self, node, scope):
        return bound.IsNull(self.expr(node.operand, scope), node.negated)

    def on_Like(self, node, scope):
        if node.op in ("REGEXP", "MATCH"):
            e = self.call(node.op.lower(), [node.right, node.left], scope)
        else:
            args = [node.right, node.left] + ([node.escape] if node.escape is not None else [])
            e = self.call(node.op.lower(), args, scope)
        return bound.Not(e) if node.negated else e

    def on_Case(self, node, scope):
        first = held = None
        if node.operand is not None:
            first = self.any(node.operand, scope)
            held = bound.Held(first)
        conditions, results = [], []
        for condition, result in node.whens:
            c = self.expr(condition, scope)
            conditions.append(c if held is None else self.compare("=", held, c))
            results.append(self.expr(result, scope))
        otherwise = None if node.otherwise is None else self.expr(node.otherwise, scope)
        e = bound.Case(conditions, results, otherwise)
        return e if held is None else bound.Let(held, first, e)

    def on_Cast(self, node, scope):
        operand = self.expr(node.operand, scope)
        return bound.Cast(operand, affinity_of(node.type_name))

    def on_Collate(self, node, scope):
        return bound.Collated(self.expr(node.operand, scope), self.environment.collation(node.collation))

    def on_RowValue(self, node, scope):
        return bound.Row([self.any(item, scope) for item in node.items])

    # -- IN and subqueries

    def on_In(self, node, scope):
        operand = self.any(node.operand, scope)
        if node.items is not None:
            e = self.in_list(operand, node.items, scope)
        else:
            select = node.select
            if select is None:
                select = ast.Select(ast.SelectCore((ast.ResultColumn(ast.Star()),), source=node.table))
            query = self.select(select, scope)
            operands = operand.items if type(operand) is bound.Row else (
                self.spread(operand) if self.width(operand) > 1 else [operand])
            if len(query.exprs) != len(operands):
                raise OperationalError(f"sub-select returns {len(query.exprs)} columns - expected {len(operands)}")
            e = bound.InQuery(operands, query,
                              [self.in_affinity(a, b) for a, b in zip(operands, query.exprs)],
                              [a.collation or 0 for a in operands])
        return bound.Not(e) if node.negated else e

    @staticmethod
    def in_affinity(operand, column):
        return comparison_affinity(operand, column)

    def in_list(self, operand, items, scope):
        if type(operand) is bound.Row:
            terms = [self.compare("=", operand, self.any(item, scope)) for item in items]
            return bound.Or(terms) if terms else bound.Const(0)
        if not items:
            return bound.Const(0)
        values = self.exprs(items, scope)
        affinity = operand.affinity
        return bound.InList(operand, values, 0 if affinity is None else min(affinity, 2), operand.collation or 0)

    def on_Exists(self, node, scope):
        return bound.Exists(self.select(node.select, scope))

    def on_ScalarSubquery(self, node, scope):
        query = self.select(node.select, scope)
        return bound.Scalar(query, query.exprs[0].affinity, None)

    def select(self, node, scope):
        raise NotImplementedError

    # -- functions

    def on_Function(self, node, scope):
        name = fold(node.name)
        if self.environment.authorizer is not None:
            self.environment.authorizer.ask("FUNCTION", None, node.name)
        if node.over is not None:
            return self.window_call(name, node, scope)
        if name in WINDOW_FUNCTIONS:
            raise OperationalError(f"misuse of window function {node.name}()")
        if self.is_aggregate(name, node):
            return self.aggregate(name, node, scope)
        if node.distinct or node.filter is not None or node.order_by:
            what = "DISTINCT" if node.distinct else "FILTER" if node.filter is not None else "ORDER BY"
            raise OperationalError(f"{what} may not be used with non-aggregate {node.name}()")
        if node.star and name in SCALARS:
            raise OperationalError(f"wrong number of arguments to function {node.name}()")
        return self.call(name, node.args, scope, node.name)

    def user(self, name, count):
        """The callbacks.UserFunction that a call with so many arguments means, or None."""
        functions = self.environment.functions
        return (functions.get((name, count)) or functions.get((name, -1))) if functions else None

    def is_aggregate(self, name, node):
        user = self.user(name, len(node.args))
        if user is not None:
            return user.kind != "scalar"
        if name in ("min", "max"):
            return len(node.args) == 1
        return name in AGGREGATES

    @staticmethod
    def count_arguments(name, node):
        """Raises unless an aggregate function takes that many arguments."""
        most = 2 if name == "group_concat" else 1
        least = 1 if name != "count" else 0
        if name in ("string_agg", "json_group_object"):
            least = most = 2
        if not least <= len(node.args) <= most or (node.star and name != "count"):
            raise OperationalError(f"wrong number of arguments to function {node.name}()")

    def aggregate(self, name, node, scope):
        user = self.user(name, len(node.args))
        if user is None:
            self.count_arguments(name, node)
        if not scope.aggregates:
            raise OperationalError(f"misuse of aggregate function {node.name.upper()}()" if scope.clause is None
                                   else f"misuse of aggregate: {node.name.upper()}()")
        windows, scope.windows, scope.aggregates = scope.windows, None, False
        try:
            args = self.exprs(node.args, scope)
            condition = None if node.filter is None else self.expr(node.filter, scope)
            order, terms = self.order_terms(node.order_by, scope)
        finally:
            scope.windows, scope.aggregates = windows, True
        if node.distinct and len(args) != 1:
            raise OperationalError("DISTINCT aggregates must have exactly one argument")
        if user is not None:
            self.made.add(bound.Agg)
            return bound.Agg(0, name, args, node.distinct, condition, args[0].collation or 0 if args else 0, user=user)
        args = self.joined(name, args)
        kind = AGGREGATES[name] if args else 0
        collate = (args[0].collation or 0) if args else 0
        if kind != AGGREGATES["group_concat"]:
            # the others come to the same in any order
            order, terms = [], ()
        self.made.add(bound.Agg)
        return bound.Agg(kind, name, args, node.distinct, condition, collate, order, terms)

    def order_terms(self, nodes, scope):
        """(expressions, ((descending, nulls, collation), ...)) of an ORDER BY inside of an aggregate or a window."""
        order, terms = [], []
        for term in nodes:
            e = self.expr(term.expr, scope)
            nulls = -1 if term.nulls == "FIRST" and term.descending else 1 if term.nulls == "LAST" and not term.descending else 0
            order.append(e)
            terms.append((term.descending, nulls, e.collation or 0))
        return order, tuple(terms)

    @staticmethod
    def joined(name, args):
        """The arguments of an aggregate; those of JSON's become the one text of which they join many."""
        if name == "json_group_array":
            return [bound.Call(SCALARS["json_quote"], args, 0)]
        if name == "json_group_object":
            return [bound.Call(MEMBER, args, 0)]
        return args

    def window_call(self, name, node, scope):
        own = WINDOW_FUNCTIONS.get(name)
        user = self.user(name, len(node.args))
        if user.kind != "window" if user is not None else own is None and not self.is_aggregate(name, node):
            raise OperationalError(f"{node.name}() may not be used as a window function")
        if scope.windows is None:
            raise OperationalError(f"misuse of window function {node.name}()")
        if node.distinct:
            raise OperationalError("DISTINCT is not supported for window functions")
        if node.order_by:
            raise OperationalError("ORDER BY may not be used with a window function: its order is that of the window")
        if user is not None:
            own = None
        elif own is None:
            self.count_arguments(name, node)
        elif node.star or not own[1] <= len(node.args) <= own[2]:
            raise OperationalError(f"wrong number of arguments to function {node.name}()")
        elif node.filter is not None:
            raise OperationalError("FILTER clause may only be used with aggregate window functions")
        windows, scope.windows = scope.windows, None
        try:
            args = self.exprs(node.args, scope)
            condition = None if node.filter is None else bound.IsTruth(self.expr(node.filter, scope), 1, False)
            window = self.bind_window(self.find_window(node.over, windows), scope)
        finally:
            scope.windows = windows
        if user is not None:
            self.made.add(bound.WindowCall)
            return bound.WindowCall(0, name, args, condition, window, 0, user)
        args = self.joined(name, args)
        kind = own[0] if own is not None else AGGREGATES[name] if args else 0
        self.made.add(bound.WindowCall)
        return bound.WindowCall(kind, name, args, condition, window, (args[0].collation or 0) if args else 0)

    @staticmethod
    def named_windows(nodes):
        """The WINDOW clause as {folded name: Window}."""
        windows = {}
        for node in nodes:
            windows.setdefault(fold(node.name), Binder.find_window(node.window, windows))
        return windows

    @staticmethod
    def find_window(node, windows):
        """The Window that OVER means, with what it takes from the window that it names."""
        name = node if isinstance(node, str) else node.base
        if name is None:
            return node
        base = windows.get(fold(name))
        if base is None:
            raise OperationalError(f"no such window: {name}")
        if isinstance(node, str):
            return base
        clash = ("PARTITION clause" if node.partition_by else "ORDER BY clause" if node.order_by and base.order_by
                 else "frame specification" if base.frame is not None else None)
        if clash:
            raise OperationalError(f"cannot override {clash} of window: {name}")
        return ast.Window(None, base.partition_by, node.order_by or base.order_by, node.frame)

    def bind_window(self, node, scope):
        """(partition, order, terms, frame, bounds) of a WindowCall."""
        partition = self.exprs(node.partition_by, scope)
        order, terms = self.order_terms(node.order_by, scope)
        frame = node.frame
        if frame is None:
            return partition, order, terms, ("RANGE", "UNBOUNDED PRECEDING", "CURRENT ROW", None), [None, None]
        bounds = []
        for end in (frame.start, frame.end):
            e = None if end.offset is None else self.expr(end.offset, scope)
            # only a constant can be an offset; to SQLite all else is NULL, which is then refused
            bounds.append(bound.Const(None) if e is not None and not bound.is_constant(e) else e)
        if frame.unit == "RANGE" and any(bounds) and len(order) != 1:
            raise OperationalError("RANGE with offset PRECEDING/FOLLOWING requires one ORDER BY expression")
        return partition, order, terms, (frame.unit, frame.start.kind, frame.end.kind, frame.exclude), bounds

    def call(self, name, nodes, scope, shown=None):
        shown = shown or name
        args = self.exprs(nodes, scope)
        user = self.user(name, len(args))
        if user is not None:
            return bound.PythonCall(name, user.function, args, deterministic=user.deterministic)
        if name in ("coalesce", "ifnull"):
            if len(args) < 2 or (name == "ifnull" and len(args) != 2):
                raise OperationalError(f"wrong number of arguments to function {shown}()")
            return bound.Coalesce(args)
        if name in ("iif", "if"):
            if len(args) < 2:
                raise OperationalError(f"wrong number of arguments to function {shown}()")
            pairs = len(args) // 2 * 2
            return bound.Case(args[0:pairs:2], args[1:pairs:2], args[-1] if len(args) % 2 else None)
        if name in DATE_FUNCTIONS:
            if (name == "strftime" and not args) or (name == "timediff" and len(args) != 2):
                raise OperationalError(f"wrong number of arguments to function {shown}()")
            return bound.PythonCall(name, DATE_FUNCTIONS[name], args, own=True, clock=True)
        if name in ("printf", "format"):
            return bound.PythonCall(name, printf.printf, args, own=True, deterministic=True)
        if name in textfunctions.FUNCTIONS:
            function, least, most = textfunctions.FUNCTIONS[name]
            if not least <= len(args) <= most:
                raise OperationalError(f"wrong number of arguments to function {shown}()")
            return bound.PythonCall(name, function, args, own=True, deterministic=True)
        function = SCALARS.get(name) if name != "like" or not self.environment.session.case_sensitive_like else CASED_LIKE
        if function is None and name.startswith("jsonb"):
            raise NotSupportedError(f"{shown}(): the binary form of JSON is SQLite's own; the functions of JSON text take and give the same")
        if function is None and any(known == name for known, _ in self.environment.functions):
            raise OperationalError(f"wrong number of arguments to function {shown}()")
        if function is None or name in ("->", "->>"):
            raise OperationalError(f"no such function: {shown}")
        if len(args) < function.least or 0 <= function.most < len(args):
            raise OperationalError(f"wrong number of arguments to function {shown}()")
        collate = 0
        if name in ("min", "max", "nullif"):
            for arg in args:
                if arg.collation is not None:
                    collate = arg.collation
                    break
        return bound.Call(function, args, collate)
