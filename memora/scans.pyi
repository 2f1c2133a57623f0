from typing import Any, Generic, TypeVar

from memora.engine.store import Store
from memora.engine.transaction import Transaction

T = TypeVar("T")

class Scan(Generic[T]):
    def __init__(
        self, store: Store, transaction: Transaction | None, tree: int, pickle: bool, low: bytes, high: bytes | None, reverse: bool,
        limit: int | None, values: bool,
    ) -> None: ...
    def __iter__(self) -> "Scan[T]": ...
    def __next__(self) -> T: ...
    def close(self) -> None: ...
