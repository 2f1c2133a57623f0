"""The limits that a session may lower, after `sqlite3_limit`: the sizes of texts and statements that it takes from strangers.

What a statement may hold is looked at where it is parsed, and only in sessions with a lowered limit. Of LENGTH, parameters and result
values are looked at (dbapi). Limits without a setting here hold as DEFAULTS says, or have nothing that they could limit.
"""
from __future__ import annotations

from ..codes import LIMITS
from ..errors import NotSupportedError, OperationalError, ProgrammingError
from . import ast

(LENGTH, SQL_LENGTH, COLUMN, EXPR_DEPTH, COMPOUND_SELECT, VDBE_OP, FUNCTION_ARG, ATTACHED, LIKE_PATTERN_LENGTH, VARIABLE_NUMBER, TRIGGER_DEPTH,
 WORKER_THREADS) = range(12)
#: What holds, and the most that may be set; None: there is no such thing here.
DEFAULTS = {LENGTH: 1000000000, SQL_LENGTH: 1000000000, COLUMN: 2000, EXPR_DEPTH: 1000, COMPOUND_SELECT: 500, VDBE_OP: None, FUNCTION_ARG: 127,
            ATTACHED: 10, LIKE_PATTERN_LENGTH: 50000, VARIABLE_NUMBER: 32766, TRIGGER_DEPTH: 1000, WORKER_THREADS: 0}
SETTABLE = frozenset((LENGTH, SQL_LENGTH, COLUMN, EXPR_DEPTH, COMPOUND_SELECT, FUNCTION_ARG, ATTACHED, VARIABLE_NUMBER))


class Limits:
    """The limits of one session. lowered: whether any is below its default."""

    def __init__(self):
        self._values = dict(DEFAULTS)
        self.lowered = False

    def __getitem__(self, category):
        return self._values[category]

    def get(self, category):
        """The limit of a category. ProgrammingError: there is no such category; NotSupportedError: it has no meaning here."""
        if category not in DEFAULTS:
            raise ProgrammingError("'category' is out of bounds")
        if DEFAULTS[category] is None:
            raise NotSupportedError(f"{_name(category)}: statements have no instructions to count")
        return self._values[category]

    def set(self, category, limit):
        """Sets a limit, at most to its default, not at all if it is negative; returns what held before."""
        before = self.get(category)
        limit = before if limit < 0 else min(limit, DEFAULTS[category])
        if limit != before and category not in SETTABLE:
            raise NotSupportedError(f"{_name(category)} is {before} and cannot be changed")
        self._values[category] = limit
        self.lowered = self._values != DEFAULTS
        return before

    def check(self, statement):
        """Raises OperationalError where a parsed statement holds more than it may."""
        if len(statement.params) > self[VARIABLE_NUMBER]:
            raise OperationalError("too many SQL variables")
        stack = [(statement, 0)]
        while stack:
            node, depth = stack.pop()
            if isinstance(node, ast.Node):
                depth = depth + 1 if isinstance(node, ast.Expr) else 0
                self._look(node, depth)
                node = tuple([getattr(node, name) for name in node.__match_args__])
            stack.extend([(part, depth) for part in node if isinstance(part, (ast.Node, tuple))])

    def _look(self, node, depth):
        if depth > self[EXPR_DEPTH]:
            raise OperationalError(f"Expression tree is too large (maximum depth {self[EXPR_DEPTH]})")
        what, columns = _columns(node)
        if len(columns) > self[COLUMN]:
            raise OperationalError(f"too many columns {what}")
        if isinstance(node, ast.Select) and len(node.compounds) >= self[COMPOUND_SELECT]:
            raise OperationalError("too many terms in compound SELECT")
        if isinstance(node, ast.Function) and len(node.args) > self[FUNCTION_ARG]:
            raise OperationalError(f"too many arguments on function {node.name}")


def _columns(node):
    """(what has them, the columns that a node lists)."""
    kind = type(node)
    if kind is ast.SelectCore:
        return "in result set", node.columns
    if kind is ast.CreateTable:
        return f"on {node.table.name}", node.columns
    if kind is ast.CreateIndex:
        return "in index", node.columns
    return "", ()


def _name(category):
    return next(name for name, number in LIMITS.items() if number == category)
