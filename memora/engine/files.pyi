from os import PathLike

from memora.engine.region import Region
from memora.engine.store import Store

LEVELS: tuple[str, ...]
SEGMENT_BYTES: int
CHECKPOINT_BYTES: int
BATCH_BYTES: int
BIG_BYTES: int
WRITE_EVERY_S: float
SYNC_EVERY_S: float

def open_file(
    path: str | PathLike[str],
    *,
    durability: str = "normal",
    region_dir: str | None = None,
    timeout_s: float = 5.0,
    create: bool = True,
    recover: bool = False,
    max_bytes: int | None = None,
    ring_bytes: int = ...,
    **sizes: int,
) -> FileStore: ...

class FileStore(Store):
    def __init__(self, region: Region, files: Files, timeout_s: float) -> None: ...
    @property
    def path(self) -> str: ...
    def checkpoint(self) -> int: ...
    def flush(self, sync: bool = True) -> None: ...
    def durable(self) -> dict[str, int]: ...
    def close(self) -> None: ...

class Files:
    path: str
    wal: str
    durability: str
    syncs: int
    def flush(self, sync: bool = True) -> None: ...
    def checkpoint(self, wait: bool = True) -> int | None: ...
    def reached(self) -> dict[str, int]: ...
    def leave(self) -> None: ...
