from os import PathLike
from struct import Struct

from memora.engine.region import Region
from memora.engine.store import Store

LEVELS: tuple[str, ...]
SEGMENT_BYTES: int
CHECKPOINT_BYTES: int
BLOCK_BYTES: int
WRITE_EVERY_S: float
SYNC_EVERY_S: float
FORMAT: int
HEAD: Struct
HEAD_MAGIC: bytes
BLOCK: Struct
TREE: Struct
ENTRY: Struct
MESSAGE: Struct
END: Struct
SEGMENT: Struct
SEGMENT_MAGIC: bytes
IDENTITY: Struct
IDENTITY_MAGIC: bytes

def crc32c(data: bytes | bytearray | memoryview, seed: int = 0) -> int: ...
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
    def flush(self, sync: bool = True) -> None: ...
    def checkpoint(self) -> int: ...
    def reached(self) -> dict[str, int]: ...
    def leave(self) -> None: ...
