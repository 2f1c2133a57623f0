from memora.sql.record import SlotSource
from memora.sql.runtime import Expr, Op

FUNCTIONS: dict
UNITS: dict
BOUNDS: dict
EXCLUDES: dict

class Partition: ...

class Frame:
    def __init__(self, unit: int, start: int, start_by: Expr | None, end: int, end_by: Expr | None, exclude: int, order_slot: int, descending: bool, nulls: int, collation: int) -> None: ...

class Call:
    def __init__(self, kind: int, frame: Frame, args: list, condition: int, result: int, collation: int, opening: bytes = b"", closing: bytes = b"", *more: object) -> None: ...

class UserCall(Call):
    def __init__(self, kind: int, frame: Frame, args: list, condition: int, result: int, collation: int, opening: bytes, closing: bytes, user: object, slots: list) -> None: ...

class Pass:
    def __init__(self, partition: list, partition_collations: list, keys: list, descending: list, nulls: list, collations: list, calls: list) -> None: ...

class Windows(Op):
    def __init__(self, child: Op, exprs: list, width: int, passes: list, output: SlotSource) -> None: ...
