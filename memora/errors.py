"""The one exception tree of Memora: PEP 249 names at the top, one class per thing a caller may want to catch.

Every message carries the values that explain it. A class says when it is raised and what to do about it.
"""


class Warning(Exception):  # noqa: A001  (PEP 249 fixes the name)
    """An important warning, for PEP 249; nothing in Memora raises it today."""


class Error(Exception):
    """The base of everything that Memora raises on purpose."""

    sqlstate = "HY000"


class InterfaceError(Error):
    """The interface was used wrongly: a value of a type that cannot be bound, for one."""


class DatabaseError(Error):
    """The base of errors that have to do with the database itself."""


class DataError(DatabaseError):
    """A value cannot be stored or read back: too large, not decodable, out of range."""


class OperationalError(DatabaseError):
    """The work could not be done now, though the statement may be right: full, busy, gone, conflicting."""


class IntegrityError(DatabaseError):
    """A constraint would be broken (UNIQUE, NOT NULL, PRIMARY KEY, CHECK, FOREIGN KEY); nothing was changed."""

    sqlstate = "23000"


class InternalError(DatabaseError):
    """The engine met a state that should not exist; please report it with the message."""


class ProgrammingError(DatabaseError):
    """The program asked for something wrong: unknown table, closed handle, wrong number of parameters."""

    sqlstate = "42000"


class NotSupportedError(DatabaseError):
    """Legal, but not a part of this version of Memora."""

    sqlstate = "0A000"


class SQLSyntaxError(OperationalError):
    """The text is not SQL. The message shows the line and a caret. (`sqlite3` raises OperationalError here, too.)"""

    sqlstate = "42601"


class SerializationError(OperationalError):
    """Another commit changed what this transaction had read; nothing was written. Run it again (`db.run` does)."""

    sqlstate = "40001"


class LockTimeout(OperationalError):
    """The commit lock, or a ticket, was not free within the timeout. The message names the holder."""

    sqlstate = "55P03"


class SnapshotTooOld(OperationalError):
    """The snapshot was revoked because it held too much for too long; begin again (`db.run` does, once)."""

    sqlstate = "72000"


class RegionFull(OperationalError):
    """The region or its file system has no room. The message names need and free; reads and deletes still work."""

    sqlstate = "53100"


class PinLimit(OperationalError):
    """Views already hold as much of the region as they may. The message names who holds how much: release views, or copy with get()."""

    sqlstate = "53400"


class ViewsOut(OperationalError):
    """The database cannot be closed: memoryviews of its bytes are in use. The message names keys, bytes and numbers; release them first."""

    sqlstate = "55006"


class RegionError(OperationalError):
    """The region cannot be used: it is foreign, too new, of another boot, or it does not exist."""


class RegionElsewhere(RegionError):
    """The file's live region lies where this process cannot see it (another container's /dev/shm)."""


class FileReplaced(RegionError):
    """The database file was replaced while this region was attached to it; nothing more is written to it."""


class CorruptionError(DatabaseError):
    """Bytes read back from a region or a file break an invariant; the message names the place and the rule."""

    sqlstate = "XX001"


class DurabilityError(OperationalError):
    """The commit is visible, but could not be made as durable as was asked.

    `commit` is its number, `reached` one of "memory", "written", "synced". Never run the work again for this.
    """

    sqlstate = "58030"

    def __init__(self, message, commit=None, reached=None):
        super().__init__(message)
        self.commit = commit
        self.reached = reached


class Lagged(OperationalError):
    """A subscriber was lapped: `missed` entries are gone, the next one to be had is `first_available`.

    Reading on continues at `first_available`.
    """

    sqlstate = "24000"

    def __init__(self, message, missed=None, first_available=None):
        super().__init__(message)
        self.missed = missed
        self.first_available = first_available
