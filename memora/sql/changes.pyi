from typing import Any

from memora.sql.effects import Effects
from memora.sql.record import SlotSource
from memora.sql.runtime import Expr, Op, Work
from memora.sql.writer import IndexWriter, TableWriter

class Insert(Work):
    def __init__(self, op: Op, writer: TableWriter, sources: list, rowid: Expr, action: Any, returning: list, upsert: Upsert) -> None: ...

class Upsert:
    other: Upsert | None
    def __init__(self, targets: list, columns: list, exprs: list, where: Expr, excluded: SlotSource, width: int, effects: Effects | None = None) -> None: ...

class Change(Work):
    def __init__(self, op: Op, writer: TableWriter, keys: list, stored: list) -> None: ...

class Update(Change):
    def setup(self, columns: list, exprs: list, action: Any, returning: list) -> None: ...

class Delete(Change):
    def setup(self, returning: list) -> None: ...

class Instead(Work):
    def __init__(self, op: Op, olds: list | None, news: list | None, together: bool, old: SlotSource, new: SlotSource, effects: Effects, returning: list) -> None: ...

class IndexBuild:
    def __init__(self, writer: TableWriter, index: IndexWriter) -> None: ...
    def run(self) -> int: ...

def tree_items(transaction: Any, tree: int) -> list[tuple[bytes, bytes]]: ...
