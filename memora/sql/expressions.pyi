from typing import Any

from memora.sql.record import Source
from memora.sql.runtime import Context, Expr, Op

ARITHMETIC: dict[str, int]
COMPARISON: dict[str, int]

class Const(Expr):
    def __init__(self, value: Any) -> None: ...

class ColumnRef(Expr):
    index: int
    def __init__(self, source: Source, index: int) -> None: ...

class Held(Expr): ...

class Scratch(Expr): ...

class Parameter(Expr):
    def __init__(self, context: Context, index: int) -> None: ...

class Let(Expr):
    def __init__(self, held: Held, first: Expr, body: Expr) -> None: ...

class Arithmetic(Expr):
    def __init__(self, op: int, left: Expr, right: Expr) -> None: ...

class Negate(Expr):
    def __init__(self, operand: Expr) -> None: ...

class BitNot(Expr):
    def __init__(self, operand: Expr) -> None: ...

class Concat(Scratch):
    def __init__(self, left: Expr, right: Expr) -> None: ...

class Truth(Expr): ...

class Compare(Truth):
    def __init__(self, op: int, left: Expr, right: Expr, affinity: int, collation: int) -> None: ...

class CompareRows(Truth):
    def __init__(self, op: int, left: list[Any], right: list[Any], affinities: list[Any], collations: list[Any]) -> None: ...

class And(Truth):
    def __init__(self, terms: list[Any]) -> None: ...

class Or(Truth):
    def __init__(self, terms: list[Any]) -> None: ...

class Not(Truth):
    def __init__(self, operand: Expr) -> None: ...

class IsNull(Truth):
    def __init__(self, operand: Expr, negated: bool) -> None: ...

class IsTruth(Truth):
    def __init__(self, operand: Expr, wanted: int, negated: bool) -> None: ...

class Case(Expr):
    def __init__(self, conditions: list[Any], results: list[Any], otherwise: Expr) -> None: ...

class Coalesce(Expr):
    def __init__(self, args: list[Any]) -> None: ...

class Cast(Scratch):
    def __init__(self, operand: Expr, affinity: int) -> None: ...

class Affinity(Scratch):
    def __init__(self, operand: Expr, affinity: int) -> None: ...

class InList(Truth):
    def __init__(
        self, context: Context, operand: Expr, items: list[Any], affinity: int, collation: int, constant: bool,
    ) -> None: ...

class InSubquery(Truth):
    def __init__(
        self, context: Context, op: Op, operands: list[Any], exprs: list[Any], affinities: list[Any],
        collations: list[Any], correlated: bool,
    ) -> None: ...

class Exists(Truth):
    def __init__(self, context: Context, op: Op, correlated: bool) -> None: ...

class Subquery(Expr):
    def __init__(self, context: Context, op: Op, exprs: list[Any], correlated: bool, held: list[Any] | None = None) -> None: ...
