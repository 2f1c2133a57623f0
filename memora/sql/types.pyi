from typing import Any

INT64_MAX: int
INT64_MIN: int
NULL_TAG: int
INT_TAG: int
REAL_TAG: int
TEXT_TAG: int
BLOB_TAG: int
BLOB: int
TEXT: int
NUMERIC: int
INTEGER: int
REAL: int
COLLATIONS: dict[str, int]

def affinity_of(decltype: str | None) -> int: ...
def convert(value: Any, affinity: int, by_force: bool = False) -> Any: ...
def order(a: Any, b: Any, collation: int = ...) -> int: ...
def number_of(text: str) -> tuple[int | float, int]: ...
