"""From the status of a kernel to a typed exception: the one place where that happens."""
from memora.engine.layout cimport *
from memora import errors


cdef object error(mm_map *m, int status, str doing="the operation"):
    """The exception for a status; the caller raises it."""
    if status == MM_CORRUPT:
        what = m.corrupt_what.decode() if m.corrupt_what != NULL else "damaged"
        return errors.CorruptionError(f"page {m.corrupt_page}: {what} ({doing})")
    if status == MM_MOVED:
        return errors.CorruptionError(f"{doing}: the pages of commit {m.hot.commit_seq} cannot be followed")
    if status == MM_TOO_OLD:
        return errors.SnapshotTooOld(f"{doing}: this snapshot was revoked; begin again")
    if status == MM_CONFLICT:
        return errors.SerializationError(f"{doing}: another commit changed what this transaction had read; run it again")
    if status == MM_NOMEM:
        return MemoryError(f"{doing}: no private memory")
    if status == MM_NO_TREE:
        return errors.OperationalError(f"{doing}: the table or space was dropped by another commit")
    if status == MM_READ_ONLY:
        return errors.OperationalError(f"{doing}: attempt to write a readonly database")
    if status == MM_REFUSED:
        return errors.DataError(f"{doing}: one entry is larger than the bound of the whole space")
    if status == MM_DEAD_FORK:
        return errors.ProgrammingError(f"{doing}: begun before fork(); it stays with the parent process")
    return errors.InternalError(f"{doing}: status {status}")
