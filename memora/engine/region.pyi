from collections.abc import Callable
from typing import Any

from memora.engine.views import Views

DEFAULT_RING: int
DEFAULT_SLOTS: int
DEFAULT_SNAPS: int
SYSV_BYTES: int
FAILPOINTS: tuple[str, ...]

class Region:
    after_commit: Callable[[int], object] | None
    tree_name: Callable[[Region, int], str | None] | None
    flush: Callable[[], object] | None
    @staticmethod
    def create(
        name: str,
        region_dir: str | None = None,
        max_bytes: int | None = None,
        ring_bytes: int = ...,
        slots: int = ...,
        snaps: int = ...,
        initial_bytes: int | None = None,
        uuid: bytes | None = None,
        incarnation: int = 1,
        file_id: tuple[int, int] = (0, 0),
        fill: Callable[["Region"], object] | None = None,
        kind: str = "shm",
        mode: int = 0o600,
        group: str | int | None = None,
        snapshot_bytes: int | None = None,
        snapshot_age_s: float = 0.0,
    ) -> "Region": ...
    @staticmethod
    def memory(
        max_bytes: int | None = None,
        ring_bytes: int = ...,
        slots: int = 64,
        snaps: int = 1024,
        initial_bytes: int | None = None,
        snapshot_bytes: int | None = None,
        snapshot_age_s: float = 0.0,
    ) -> "Region": ...
    @staticmethod
    def attach(
        name: str,
        region_dir: str | None = None,
        file_id: tuple[int, int] | None = None,
        kind: str = "shm",
        owner: str | int | None = None,
        read_only: bool = False,
    ) -> "Region": ...
    @property
    def closed(self) -> bool: ...
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def unregistered(self) -> bool: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def backing(self) -> Any: ...
    @property
    def slots_file(self) -> Any: ...
    @property
    def directory(self) -> str | None: ...
    @property
    def uuid(self) -> bytes: ...
    @property
    def incarnation(self) -> int: ...
    @property
    def me(self) -> tuple[int, int]: ...
    def allocate(self, first: int, last: int) -> None: ...
    def cap_means(self) -> str: ...
    def byte_lock(self, byte: int) -> Any: ...
    @property
    def views(self) -> Views: ...
    def alive(self, slot: int, generation: int) -> bool: ...
    def may_close(self) -> None: ...
    def close(self) -> None: ...
    def huge_pages(self) -> int: ...
    def stats(self) -> dict[str, int]: ...
    def processes(self) -> list[dict[str, Any]]: ...
    def narrow_hashes(self, bits: int) -> None: ...
    def failpoint(self, name: str | None, signal: int = 0) -> None: ...
