from collections.abc import Sequence
from typing import Any

from memora.engine.transaction import Transaction

class Control:
    handler: Any
    interrupted: bool
    left: int
    n: int
    timeout_s: float | None
    def __init__(self) -> None: ...
    def look(self, rows: int) -> None: ...
    def watch(self, handler: Any, n: int) -> None: ...

class Context:
    changes: int
    control: Control | None
    last_rowid: int
    param_count: int
    others: list
    total_changes: int
    transaction: Transaction | None
    def __init__(self, param_count: int = 0) -> None: ...
    def bind(self, values: Sequence) -> None: ...
    def now(self) -> int: ...
    def start(self, transaction: Transaction, values: Sequence) -> None: ...
    def stop(self, ops: list) -> None: ...

class Expr: ...

class Op:
    watched: Context | None

class Work:
    inserted: bool
    returned: list | None

class Arena: ...

class KeyTable:
    count: int
    def __init__(self) -> None: ...

class Integers: ...
