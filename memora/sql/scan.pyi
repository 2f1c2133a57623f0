from typing import Any

from memora.sql.record import RecordSource, SlotSource
from memora.sql.runtime import Context, Expr, Op

class IndexSource(RecordSource):
    def __init__(
        self, columns: int, rowid_column: int, defaults: Any, context: Context, tree: int, name: str,
        positions: list[Any], descending: list[Any], real: list[Any],
    ) -> None: ...

class TableScan(Op):
    def __init__(
        self, context: Context, source: RecordSource, tree: int, low: Expr | None = None, low_open: bool = False,
        high: Expr | None = None, high_open: bool = False, reverse: bool = False,
    ) -> None: ...

class SingleRow(Op): ...

class Nothing(Op): ...

class RowLookup(Op):
    def __init__(self, context: Context, source: RecordSource, tree: int, key: Expr) -> None: ...

class IndexScan(Op):
    def __init__(
        self, context: Context, source: RecordSource, tree: int, equal: list[Any], nulls: list[Any],
        affinities: list[Any], collations: list[Any], descending: list[Any], low: Expr | None = None,
        low_open: bool = False, high: Expr | None = None, high_open: bool = False, reverse: bool = False,
        rowids: bool = True, primary: bool = False,
    ) -> None: ...

class ValueList(Op):
    def __init__(
        self, source: SlotSource, exprs: list[Any], op: Op, affinity: int, collation: int, descending: bool = False,
    ) -> None: ...

class Rows(Op):
    def __init__(self, source: SlotSource, rows: list[Any], width: int) -> None: ...

class PythonScan(Op):
    def __init__(self, context: Context, source: SlotSource, rows: Any, width: int, name: str) -> None: ...
