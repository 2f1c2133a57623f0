from typing import Any

from memora.sql.record import SlotSource, Source
from memora.sql.runtime import Context, Expr, Op

SET_OPERATORS: dict[str, int]

class ExprSource(Source):
    def __init__(self, exprs: list[Any]) -> None: ...

class Gate(Op):
    def __init__(self, child: Op, source: Source) -> None: ...

class Filter(Op):
    def __init__(self, child: Op, conditions: list[Any]) -> None: ...

class Precondition(Op):
    def __init__(self, child: Op, conditions: list[Any]) -> None: ...

class NestedLoop(Op):
    def __init__(self, left: Op, right: Op, outer: bool = False, sources: list[Any] | None = None) -> None: ...

class FullJoin(Op):
    def __init__(
        self, left: Op, right: Op, keep: list[Any], output: SlotSource, conditions: list[Any], left_sources: list[Any],
        full: bool,
    ) -> None: ...

class Limit(Op):
    def __init__(self, child: Op, limit: Expr, offset: Expr) -> None: ...

class Materialize(Op):
    def __init__(self, context: Context, child: Op, exprs: list[Any], output: SlotSource, correlated: bool) -> None: ...

class HashLookup(Op):
    def __init__(
        self, context: Context, child: Op, keys: list[Any], probes: list[Any], affinities: list[Any],
        collations: list[Any], exprs: list[Any], output: SlotSource,
    ) -> None: ...

class Distinct(Op):
    def __init__(self, child: Op, exprs: list[Any], collations: list[Any]) -> None: ...

class Project(Op):
    def __init__(self, child: Op, exprs: list[Any], output: SlotSource) -> None: ...

class Concatenate(Op):
    def __init__(self, arms: list[Any], exprs: list[Any], output: SlotSource, width: int) -> None: ...

class SetOperation(Op):
    def __init__(
        self, operator: int, left: Op, left_exprs: list[Any], right: Op, right_exprs: list[Any], collations: list[Any],
        output: SlotSource,
    ) -> None: ...

class Recursive(Op):
    def __init__(
        self, first: Op, first_exprs: list[Any], steps: list[Any], step_exprs: list[Any], output: SlotSource,
        feedback: SlotSource, distinct: bool, collations: list[Any],
    ) -> None: ...

class Once(Op): ...
