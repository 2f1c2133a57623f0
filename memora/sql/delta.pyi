from typing import Any

from memora.engine.transaction import Transaction
from memora.sql.changes import Update
from memora.sql.runtime import Work
from memora.sql.writer import TableWriter

TERMS: int

class Count(Work):
    def __init__(self, writer: TableWriter, ordinary: Update, keys: list[Any], texts: list[bool], terms: list[tuple[int, int, str, Any, bool]]) -> None: ...

def raise_column(transaction: Transaction, tree: int, key: bytes, column: int, value: int) -> bool: ...
def unread_items(transaction: Transaction, tree: int) -> list[tuple[bytes, bytes]]: ...
