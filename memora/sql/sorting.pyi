from typing import Any

from memora.sql.record import SlotSource
from memora.sql.runtime import Expr, Op

AGGREGATES: dict[str, int]

class Sort(Op):
    def __init__(
        self, child: Op, keys: list[Any], descending: list[Any], nulls: list[Any], collations: list[Any],
        exprs: list[Any], output: SlotSource, limit: Expr | None = None, offset: Expr | None = None,
    ) -> None: ...

class Aggregate:
    def __init__(self, kind: int, operand: Expr, between: Expr, condition: Expr, distinct: bool, collation: int) -> None: ...

class GroupBy(Op):
    def __init__(
        self, child: Op, keys: list[Any], collations: list[Any], aggregates: list[Any], bare: list[Any],
        output: SlotSource, always: bool, follow: int = -1,
    ) -> None: ...
