from memora.sql.record import SlotSource
from memora.sql.runtime import Context, Op

SET_OPERATORS: dict

class Distinct(Op):
    def __init__(self, child: Op, exprs: list, collations: list) -> None: ...

class Project(Op):
    def __init__(self, child: Op, exprs: list, output: SlotSource) -> None: ...

class Concatenate(Op):
    def __init__(self, arms: list, exprs: list, output: SlotSource, width: int) -> None: ...

class SetOperation(Op):
    def __init__(self, operator: int, left: Op, left_exprs: list, right: Op, right_exprs: list, collations: list, output: SlotSource) -> None: ...

class Recursive(Op):
    def __init__(self, context: Context, first: Op, first_exprs: list, steps: list, step_exprs: list, output: SlotSource, feedback: SlotSource, distinct: bool, collations: list) -> None: ...

class Once(Op): ...
