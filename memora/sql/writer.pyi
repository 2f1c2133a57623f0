from typing import Any

from memora.engine.transaction import Transaction
from memora.errors import IntegrityError
from memora.sql.record import RecordSource, SlotSource, Source
from memora.sql.runtime import Context, Expr, Op

ACTIONS: dict[str | None, int]

class NewRow(SlotSource): ...

class EitherRow(Source): ...

class IndexWriter:
    def __init__(
        self, tree: int, columns: list[Any], exprs: list[Any], collations: list[Any], descending: list[Any],
        unique: bool, where: Expr, conflict: Any, message: str,
    ) -> None: ...

class TableWriter:
    new: NewRow
    old: RecordSource
    row: EitherRow
    sequence: Any
    last_rowid: int
    def __init__(
        self, context: Context, table: str, tree: int, version: int, columns: list[Any], rowid_column: int,
        has_rowid: bool, rowid_conflict: Any, old_defaults: list[Any],
    ) -> None: ...
    def complete(
        self, indexes: list[Any], checks: list[Any], primary: IndexWriter | None = None, sequence: Any = None,
    ) -> None: ...
    def check_type(self, i: int) -> None: ...
    def remove_row(self, locator: bytes) -> None: ...
    def old_defaults(self) -> list[Any]: ...

class Insert:
    returned: list[tuple[Any, ...]] | None
    count: int
    inserted: bool
    def __init__(
        self, op: Op, writer: TableWriter, sources: list[Any], rowid: Expr, action: Any, returning: list[Any],
        upsert: Upsert,
    ) -> None: ...
    def run(self) -> int: ...

class Upsert:
    def __init__(
        self, targets: list[Any], columns: list[Any], exprs: list[Any], where: Expr, excluded: SlotSource, width: int,
    ) -> None: ...

class Change:
    def __init__(self, op: Op, writer: TableWriter, keys: list[Any], stored: list[Any]) -> None: ...

class Update(Change):
    returned: list[tuple[Any, ...]] | None
    def setup(self, columns: list[Any], exprs: list[Any], action: Any, returning: list[Any]) -> None: ...
    def run(self) -> int: ...

class Delete(Change):
    returned: list[tuple[Any, ...]] | None
    def setup(self, returning: list[Any]) -> None: ...
    def run(self) -> int: ...

class IndexBuild:
    def __init__(self, writer: TableWriter, index: IndexWriter) -> None: ...
    def run(self) -> int: ...

class RollbackConflict(IntegrityError): ...

class FailConflict(IntegrityError): ...

def tree_items(transaction: Transaction, tree: int) -> list[tuple[bytes, bytes]]: ...
