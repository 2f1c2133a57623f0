from memora.sql.record import SlotSource
from memora.sql.runtime import Expr, Op

AGGREGATES: dict
AROUND: dict

class Sort(Op):
    def __init__(self, child: Op, keys: list, descending: list, nulls: list, collations: list, exprs: list, output: SlotSource, limit: Expr | None = None, offset: Expr | None = None) -> None: ...

class Aggregate:
    def __init__(self, kind: int, operand: Expr, between: Expr, condition: Expr, distinct: bool, collation: int, opening: bytes = b"", closing: bytes = b"") -> None: ...

class OrderedAggregate(Aggregate):
    def __init__(self, kind: int, operand: Expr, between: Expr, condition: Expr, distinct: bool, collation: int, opening: bytes, closing: bytes, order: list, terms: list) -> None: ...

class UserAggregate(Aggregate):
    def __init__(self, kind: int, operand: Expr, between: Expr, condition: Expr, distinct: bool, collation: int, opening: bytes, closing: bytes, user: object, args: list) -> None: ...

def first_of(row: tuple) -> bytes: ...

class GroupBy(Op):
    def __init__(self, child: Op, keys: list, collations: list, aggregates: list, bare: list, output: SlotSource, always: bool, follow: int = -1) -> None: ...
