"""The one exception tree of Memora: PEP 249 names at the top, one class per thing a caller may want to catch.

Every message carries the values that explain it. A class says when it is raised and what to do about it. `sqlstate` is SQL's code for it,
`sqlite_errorname` and `sqlite_errorcode` are what `sqlite3` says in its place.
"""
from memora.codes import RESULTS


class Warning(Exception):  # noqa: A001  (PEP 249 fixes the name)
    """An important warning, for PEP 249; nothing in Memora raises it today."""


class Error(Exception):
    """The base of everything that Memora raises on purpose."""

    sqlstate = "HY000"
    sqlite_errorname = "SQLITE_ERROR"

    @property
    def sqlite_errorcode(self):
        """The number of `sqlite_errorname`."""
        return RESULTS[self.sqlite_errorname]


class InterfaceError(Error):
    """The interface was used wrongly: a value of a type that cannot be bound, for one."""

    sqlite_errorname = "SQLITE_MISUSE"


class DatabaseError(Error):
    """The base of errors that have to do with the database itself."""


class DataError(DatabaseError):
    """A value cannot be stored or read back: too large, not decodable, out of range."""

    sqlite_errorname = "SQLITE_TOOBIG"


class OperationalError(DatabaseError):
    """The work could not be done now, though the statement may be right: full, busy, gone, conflicting."""


class IntegrityError(DatabaseError):
    """A constraint would be broken (UNIQUE, NOT NULL, PRIMARY KEY, CHECK, FOREIGN KEY); nothing was changed."""

    sqlstate = "23000"

    @property
    def sqlite_errorname(self):
        """SQLITE_CONSTRAINT_... of the kind of constraint that the message names, SQLITE_MISMATCH for what is no rowid."""
        text = str(self.args[0]) if self.args else ""
        if text == "datatype mismatch":
            return "SQLITE_MISMATCH"
        kind = text.partition(" constraint failed")
        return "SQLITE_CONSTRAINT" + ("_" + kind[0].replace(" ", "") if kind[1] and kind[0] in _CONSTRAINTS else "")


_CONSTRAINTS = ("UNIQUE", "NOT NULL", "CHECK", "FOREIGN KEY")


class InternalError(DatabaseError):
    """The engine met a state that should not exist; please report it with the message."""

    sqlite_errorname = "SQLITE_INTERNAL"


class ProgrammingError(DatabaseError):
    """The program asked for something wrong: unknown table, closed handle, wrong number of parameters."""

    sqlstate = "42000"
    sqlite_errorname = "SQLITE_MISUSE"


class NotSupportedError(DatabaseError):
    """Legal, but not a part of this version of Memora."""

    sqlstate = "0A000"


class SQLSyntaxError(OperationalError):
    """The text is not SQL. The message shows the line and a caret. (`sqlite3` raises OperationalError here, too.)"""

    sqlstate = "42601"


class SerializationError(OperationalError):
    """Another commit changed what this transaction had read; nothing was written. Run it again (`db.run` does)."""

    sqlstate = "40001"
    sqlite_errorname = "SQLITE_BUSY_SNAPSHOT"


class LockTimeout(OperationalError):
    """The commit lock, or a ticket, was not free within the timeout. The message names the holder."""

    sqlstate = "55P03"
    sqlite_errorname = "SQLITE_BUSY"


class SnapshotTooOld(OperationalError):
    """The snapshot was revoked because it held too much for too long; begin again (`db.run` does, once)."""

    sqlstate = "72000"
    sqlite_errorname = "SQLITE_ABORT_ROLLBACK"


class RegionFull(OperationalError):
    """The region or its file system has no room. The message names need and free; reads and deletes still work."""

    sqlstate = "53100"
    sqlite_errorname = "SQLITE_FULL"


class PinLimit(OperationalError):
    """Views already hold as much of the region as they may. The message names who holds how much: release views, or copy with get()."""

    sqlstate = "53400"
    sqlite_errorname = "SQLITE_FULL"


class ViewsOut(OperationalError):
    """The database cannot be closed: memoryviews of its bytes are in use. The message names keys, bytes and numbers; release them first."""

    sqlstate = "55006"
    sqlite_errorname = "SQLITE_BUSY"


class NotText(OperationalError):
    """Text in the database is not UTF-8: `data` are its bytes. A `text_factory` that takes bytes reads it."""

    sqlstate = "22021"

    def __init__(self, data, column=None):
        where = "" if column is None else f" column {column!r} with text {data.decode(errors='backslashreplace')[:100]!r}"
        super().__init__(f"Could not decode to UTF-8{where or f': {data[:100]!r}'}")
        self.data, self.column = data, column


class ReadOnly(OperationalError):
    """A change was asked of what was opened or set read-only; nothing was changed."""

    sqlstate = "25006"
    sqlite_errorname = "SQLITE_READONLY"


class CannotOpen(OperationalError):
    """The file cannot be opened as a database: no such directory, no right to it, no file at all."""

    sqlstate = "58030"
    sqlite_errorname = "SQLITE_CANTOPEN"


class NotAuthorized(DatabaseError):
    """The connection's authorizer denied the statement, or gave no answer that can be understood."""

    sqlstate = "42501"
    sqlite_errorname = "SQLITE_AUTH"


class Interrupted(OperationalError):
    """The statement was ended by interrupt() or by a progress handler; what it had changed is undone."""

    sqlstate = "57014"
    sqlite_errorname = "SQLITE_INTERRUPT"


class StatementTimeout(Interrupted):
    """The statement ran longer than `statement_timeout` allows; what it had changed is undone. The message has the time."""


class RegionError(OperationalError):
    """The region cannot be used: it is foreign, too new, of another boot, or it does not exist."""

    sqlite_errorname = "SQLITE_CANTOPEN"


class RegionElsewhere(RegionError):
    """The file's live region lies where this process cannot see it (another container's /dev/shm)."""


class FileReplaced(RegionError):
    """The database file was replaced while this region was attached to it; nothing more is written to it."""


class CorruptionError(DatabaseError):
    """Bytes read back from a region or a file break an invariant; the message names the place and the rule."""

    sqlstate = "XX001"
    sqlite_errorname = "SQLITE_CORRUPT"


class DurabilityError(OperationalError):
    """The commit is visible, but could not be made as durable as was asked.

    `commit` is its number, `reached` one of "memory", "written", "synced". Never run the work again for this.
    """

    sqlstate = "58030"
    sqlite_errorname = "SQLITE_IOERR"

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
