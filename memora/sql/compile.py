"""Bound expressions and physical plans to the C objects that run: the last step before execution.

A `Compiler` serves one statement. It knows for each relation the source that its columns are read from: (source, places), where
`places` maps a column to a slot if the rows were kept with only the columns that are used.
"""
from __future__ import annotations

from ..errors import InternalError
from . import bound
from . import expressions as x
from . import functions as f
from .databases import Elsewhere
from .effects import Raise
from .record import EitherRow


class Compiler:
    """context: the statement's Context; planner: for nested queries; ops: all operators made, to be closed at
    the end; environment: the session's, for what is bound late."""

    def __init__(self, context, planner):
        self.context, self.planner = context, planner
        self.sources, self.held, self.ops, self.others = {}, {}, [], {}
        self.environment = None

    def context_of(self, table):
        """The context through which a table is read and written: that of its database."""
        if table.database == "main":
            return self.context
        other = self.others.get(table.database)
        if other is None:
            session = self.environment.session
            other = self.others[table.database] = Elsewhere(session, session.parts.get(table.database))
            self.context.others.append(other)
        return other.context

    def keep(self, op):
        op.watched = self.context
        self.ops.append(op)
        return op

    def expr(self, e):
        return getattr(self, type(e).__name__)(e)

    def exprs(self, items):
        return [self.expr(e) for e in items]

    # -- queries

    def query(self, query):
        """(operator, result expressions) of a nested query."""
        plan = self.planner.query(query)
        root = plan.root.build(self)
        return root, self.exprs(plan.exprs)

    def correlated(self, query):
        """Whether the result may differ from one outer row to the next."""
        return any(bound.deps(ref) for ref in query.outer) or self.planner.varies(query)

    # -- generated columns

    def generated(self, table, row, numbers):
        """[(number, expression over the source `row`)] of generated columns, with their affinity."""
        from .binder import Scope
        from .queries import QueryBinder
        binder, scope = QueryBinder(self.environment), Scope()
        rel = QueryBinder.own_rel(table)
        scope.rels.append(rel)
        self.sources[rel] = (row, None)
        return [(n, x.Affinity(self.expr(binder.expr(table.columns[n].expression, scope)), table.columns[n].affinity))
                for n in numbers]

    def compute(self, table, source):
        """Makes a RecordSource compute the table's virtual columns."""
        numbers = [n for n in table.generated if table.columns[n].generated == "virtual"]
        if numbers:
            row = EitherRow()
            virtual = dict(self.generated(table, row, numbers))
            source.compute(row, [virtual.get(n) for n in range(len(table.columns))])

    # -- expressions

    def Const(self, e):
        return x.Const(e.value)

    def Param(self, e):
        return x.Parameter(self.context, e.index)

    def Col(self, e):
        e = bound.resolve(e)
        if type(e) is not bound.Col:
            return self.expr(e)
        try:
            source, places = self.sources[e.rel]
        except KeyError:
            raise InternalError(f"no source for column {e.index} of {e.rel!r}") from None
        return x.ColumnRef(source, e.index if places is None else places[e.index])

    def Given(self, e):
        return x.ColumnRef(e.row.source, e.index)

    def Raise(self, e):
        return Raise(e.action, None if e.message is None else self.expr(e.message))

    def Held(self, e):
        held = self.held.get(e)
        if held is None:
            held = self.held[e] = x.Held()
        return held

    def Let(self, e):
        held = self.held[e.held] = x.Held()
        return x.Let(held, self.expr(e.first), self.expr(e.body))

    def Negate(self, e):
        return x.Negate(self.expr(e.operand))

    def BitNot(self, e):
        return x.BitNot(self.expr(e.operand))

    def Plus(self, e):
        return self.expr(e.operand)

    def Collated(self, e):
        return self.expr(e.operand)

    def Arith(self, e):
        return x.Arithmetic(x.ARITHMETIC[e.op], self.expr(e.left), self.expr(e.right))

    def Concat(self, e):
        return x.Concat(self.context, self.expr(e.left), self.expr(e.right))

    def Cmp(self, e):
        return x.Compare(x.COMPARISON[e.op], self.expr(e.left), self.expr(e.right), e.convert, e.collate)

    def CmpRows(self, e):
        return x.CompareRows(x.COMPARISON[e.op], self.exprs(e.left), self.exprs(e.right), e.converts, e.collates)

    def And(self, e):
        return x.And(self.exprs(e.terms))

    def Or(self, e):
        return x.Or(self.exprs(e.terms))

    def Not(self, e):
        return x.Not(self.expr(e.operand))

    def IsNull(self, e):
        return x.IsNull(self.expr(e.operand), e.negated)

    def IsTruth(self, e):
        return x.IsTruth(self.expr(e.operand), e.wanted, e.negated)

    def Case(self, e):
        return x.Case(self.exprs(e.conditions), self.exprs(e.results),
                      None if e.otherwise is None else self.expr(e.otherwise))

    def Coalesce(self, e):
        return x.Coalesce(self.exprs(e.args))

    def Cast(self, e):
        return x.Cast(self.expr(e.operand), e.affinity)

    def Call(self, e):
        return f.Function(e.function, self.context, self.exprs(e.args), e.collate)

    def PythonCall(self, e):
        function = e.function
        if e.clock:
            context, inner = self.context, e.function

            def function(*args):
                return inner(context.now(), *args)
        return f.PythonFunction(self.context, function, self.exprs(e.args), e.own)

    def InList(self, e):
        constant = len(e.items) > 2 and all(bound.is_constant(item) for item in e.items)
        return x.InList(self.context, self.expr(e.operand), self.exprs(e.items), e.convert, e.collate, constant)

    def InQuery(self, e):
        op, exprs = self.query(e.query)
        return x.InSubquery(self.context, op, self.exprs(e.operands), exprs, e.converts, e.collates,
                            self.correlated(e.query))

    def Exists(self, e):
        op, _ = self.query(e.query)
        return x.Exists(self.context, op, self.correlated(e.query))

    def Scalar(self, e):
        op, exprs = self.query(e.query)
        held = [self.Held(h) for h in e.held]
        return x.Subquery(self.context, op, exprs, self.correlated(e.query), held)

    def Row(self, e):
        raise InternalError("a row value outside of a comparison")

    Agg = Row
