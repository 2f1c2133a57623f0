from collections.abc import Sequence
from typing import Any

from memora.engine.transaction import Transaction
from memora.sql.effects import Watch
from memora.sql.runtime import Context, Op, Work

class Program:
    busy: bool
    context: Context
    guesses: dict[int, float] | None
    lenient: bool
    def __init__(self, context: Context, root: Op, exprs: list, ops: list) -> None: ...
    def finish(self) -> None: ...
    def start(self, transaction: Transaction, values: Sequence) -> None: ...

class WriteProgram:
    busy: bool
    columns: tuple[str, ...] | None
    context: Context
    database: str
    guesses: dict[int, float] | None
    is_insert: bool
    lastrowid: int | None
    ops: list
    returned: list | None
    watch: Watch | None
    work: Work
    writer: Any
    def __init__(self, context: Context, work: Any, writer: Any, ops: list, columns: Any, is_insert: bool, database: Any, watch: Watch | None = None) -> None: ...
    def run(self, transaction: Transaction, values: Sequence) -> int: ...

class Result:
    columns: tuple[str, ...] | None
    decltypes: tuple[str | None, ...] | None
    kind: str
    lastrowid: int | None
    open: bool
    rowcount: int
    def __init__(self, kind: Any, columns: Any = None, decltypes: Any = None, rowcount: Any = -1, lastrowid: int | None = None, rows: Any = None, program: Program | None = None, own: Transaction | None = None) -> None: ...
    def close(self) -> None: ...
    def escape(self) -> None: ...
    def ready(self) -> None: ...
    def settle(self) -> None: ...
    def __iter__(self) -> Result: ...
    def __next__(self) -> tuple: ...
