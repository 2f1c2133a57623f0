from collections.abc import Callable
from typing import Any

ATTACH_BYTE: int
GROW_BYTE: int
DEFAULT_RING: int
DEFAULT_SLOTS: int
DEFAULT_SNAPS: int
GUARD: int
GROW_UNITS: int
SNAPSHOT_SHARE: int
MOST_SNAPS: int
FEATURES_KNOWN: int
FAILPOINTS: tuple[str, ...]

def boot_id() -> bytes: ...
def user_directory(region_dir: str | None = None, create: bool = False) -> str: ...
def remove(name: str, region_dir: str | None = None) -> None: ...
def names(region_dir: str | None = None) -> list[str]: ...
def sweep(region_dir: str | None = None) -> None: ...

class Region:
    after_commit: Callable[[int], object] | None
    flush: Callable[[], object] | None
    @staticmethod
    def geometry(max_bytes: int, ring_bytes: int, slots: int, snaps: int) -> dict[str, int]: ...
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
    def attach(name: str, region_dir: str | None = None, file_id: tuple[int, int] | None = None) -> "Region": ...
    @property
    def closed(self) -> bool: ...
    @property
    def name(self) -> str: ...
    @property
    def directory(self) -> str | None: ...
    @property
    def ephemeral(self) -> bool: ...
    @property
    def uuid(self) -> bytes: ...
    @property
    def incarnation(self) -> int: ...
    @property
    def me(self) -> tuple[int, int]: ...
    def alive(self, slot: int, generation: int) -> bool: ...
    def close(self) -> None: ...
    def stats(self) -> dict[str, int]: ...
    def processes(self) -> list[dict[str, Any]]: ...
    def failpoint(self, name: str | None, signal: int = 0) -> None: ...
