from memora.sql.record import SlotSource, Source
from memora.sql.runtime import Context, Expr, Op

class ExprSource(Source):
    def __init__(self, exprs: list) -> None: ...

class Passing(Op): ...

class Gate(Passing):
    def __init__(self, child: Op, source: Source) -> None: ...

class Probe(Passing):
    loops: int
    rows: int
    nanoseconds: int
    def __init__(self, child: Op) -> None: ...

class Filter(Passing):
    def __init__(self, child: Op, conditions: list) -> None: ...

class Precondition(Passing):
    def __init__(self, child: Op, conditions: list) -> None: ...

class NestedLoop(Op):
    def __init__(self, context: Context, left: Op, right: Op, outer: bool = False, sources: list | None = None) -> None: ...

class FullJoin(Op):
    def __init__(self, left: Op, right: Op, keep: list, output: SlotSource, conditions: list, left_sources: list, full: bool) -> None: ...

class Limit(Op):
    def __init__(self, child: Op, limit: Expr, offset: Expr) -> None: ...

class Materialize(Op):
    def __init__(self, context: Context, child: Op, exprs: list, output: SlotSource, correlated: bool) -> None: ...

class HashLookup(Op):
    def __init__(self, context: Context, child: Op, keys: list, probes: list, affinities: list, collations: list, exprs: list, output: SlotSource) -> None: ...
