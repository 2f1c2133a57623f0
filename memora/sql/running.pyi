from collections.abc import Callable
from typing import Any

from memora.engine.transaction import Transaction
from memora.sql.effects import Watch
from memora.sql.program import Result

CACHE_SIZE: int
OUTGROWN: float
SHOWN: int

class Statement:
    columns: tuple[str, ...] | None
    decltypes: tuple[str | None, ...] | None
    description: tuple | None
    kind: str
    literal: bool
    node: Any
    params: tuple
    programs: list
    schema: Any
    what: bytes
    def __init__(self, node: Any, text: str = "") -> None: ...

class Running:
    changes: int
    collations: Any
    control: Control
    closed: bool
    functions: dict
    last_rowid: int
    own_commits: int
    parts: Any
    settings: dict
    store: Any
    temporary: dict
    query_only: bool
    total_changes: int
    virtual: dict
    watch: Watch
    def __init__(self, store: Any, virtual: dict | None = None, transaction: Transaction | None = None, *, parts: Any = None) -> None: ...
    def move(self, store: Any, virtual: Any) -> None: ...
    def execute(self, sql: str, params: Any = ()) -> Result: ...
    def executemany(self, sql: str, seq: Any) -> Result: ...
