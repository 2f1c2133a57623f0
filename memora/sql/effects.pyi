from collections.abc import Callable
from typing import Any

from memora.engine.transaction import Transaction
from memora.sql.record import EitherRow
from memora.sql.runtime import Context, Expr, Op, Work

VIOLATED: str

class Watch:
    changes: int
    defer_all: bool
    deferred: int
    immediate: int
    last_rowid: int
    recursive: bool
    total: int
    transaction: Transaction | None
    def __init__(self) -> None: ...
    def begin(self, transaction: Transaction, context: Context) -> None: ...
    def check(self) -> None: ...
    def forget(self) -> None: ...
    def settle(self) -> None: ...

class Drain(Work):
    def __init__(self, op: Op, exprs: list) -> None: ...

class Step:
    def __init__(self, context: Context, work: Work, ops: list, parts: Any = None, database: str | None = None) -> None: ...

class Body:
    new: EitherRow
    old: EitherRow
    def __init__(self, old: EitherRow, new: EitherRow, when: Expr | None, context: Context, ops: list, steps: list) -> None: ...

class RowProgram:
    def __init__(self, token: Any, make: Callable[[], Body], always: bool) -> None: ...
    def keep(self, body: Body) -> None: ...

class Raise(Expr):
    def __init__(self, action: str, message: Expr | None) -> None: ...

class Probe:
    row: EitherRow
    def __init__(self, row: EitherRow, context: Context, holder: Context, op: Op, ops: list, one: bool) -> None: ...

class ChildKey:
    def __init__(self, columns: list, parent: Probe | None, parent_columns: list | None, rowid: bool, deferred: bool) -> None: ...

class ParentKey:
    def __init__(self, columns: list, others: Probe, all: Probe, action: RowProgram | None, restrict: bool, deferred: bool) -> None: ...

class Effects:
    after: list
    before: list
    children: list
    columns: set
    parents: list
    taken_out: bool
    watch: Watch
    def __init__(self, watch: Watch, before: list, after: list, children: list, parents: list, columns: set, taken_out: bool) -> None: ...
