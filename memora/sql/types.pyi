Value = None | int | float | str | bytes

BLOB: int
BLOB_TAG: int
COLLATIONS: dict
INT64_MAX: int
INT64_MIN: int
INTEGER: int
INT_TAG: int
NULL_TAG: int
NUMERIC: int
REAL: int
REAL_TAG: int
TEXT: int
TEXT_TAG: int

def affinity_of(decltype: str | None) -> int: ...

def convert(value: Value, affinity: int, by_force: bool = False) -> Value: ...

def order(a: Value, b: Value, collation: int = ...) -> int: ...

def number_of(text: str) -> tuple[int | float, int]: ...
