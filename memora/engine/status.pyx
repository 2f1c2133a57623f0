"""From the status of a kernel, or a holder's words in the region, to a typed exception: the one place where that happens."""
from libc.stdint cimport uint32_t, uint64_t
from memora.engine.layout cimport *
from memora.engine.sync cimport *
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
        return errors.ReadOnly(f"{doing}: attempt to write a readonly database")
    if status == MM_REFUSED:
        return errors.DataError(f"{doing}: one entry is larger than the bound of the whole space")
    if status == MM_DEAD_FORK:
        return errors.ProgrammingError(f"{doing}: begun before fork(); it stays with the parent process")
    return errors.InternalError(f"{doing}: status {status}")


_DOING = {MM_OP_PUT: "a put", MM_OP_DELETE: "a delete", MM_OP_MESSAGE: "a message", MM_OP_INSERT: "an insert"}


cdef str what_of(const mm_slot *s):
    """What a process says that it does, "" if nothing."""
    return bytes((<const char *>s.what)[:sizeof(s.what)]).split(b"\0")[0].decode("utf-8", "replace")


cdef str tree_of(region, uint32_t tree):
    """A tree as its users call it, if the region knows that."""
    if tree == MM_TREE_CATALOG:
        return "the catalog"
    return (region.tree_name(region, tree) if region.tree_name is not None else None) or f"tree {tree}"


cdef str doing_of(mm_map *m, region):
    """What the owner of the commit lock does (mm_hot.lock_doing), "" if it does not say."""
    cdef uint32_t doing = mm_ld32(&m.hot.lock_doing), i, tree
    op, n = doing & 255, doing >> 8
    if op == MM_DOING_TRANSACTION:
        written = []
        for i in range(MM_DOING_TREES):
            tree = mm_ld32(&m.hot.lock_trees[i])
            if tree == 0:
                break
            written.append(tree_of(region, tree))
        return (f"a transaction of {n} change{'' if n == 1 else 's'}" + (" in " if written else "") + ", ".join(written)
                + (", ..." if len(written) == MM_DOING_TREES else ""))
    if op == MM_DOING_GROW:
        return "growth of the region"
    if op == MM_DOING_COLLECT:
        return "collecting old versions"
    if op == MM_DOING_TICKET:
        return "taking the ticket"
    if op not in _DOING:
        return ""
    return f"{_DOING[op]} in {tree_of(region, n)}"


cdef str holder_of(mm_map *m, uint32_t slot, double age_s, str doing):
    """"process 17 (slot 3) for 2.1 s in 'UPDATE ...' (a transaction of 2 changes)", as far as it is known."""
    if slot >= m.n_slots:
        return "nobody any more"
    what = what_of(&m.slot[slot])
    return (f"process {m.slot[slot].pid} (slot {slot})" + (f" for {age_s:.3g} s" if age_s >= 0 else "") + (f" in {what!r}" if what else "")
            + (f" ({doing})" if doing else ""))


cdef double age_of(uint64_t since_ns):
    """Seconds since a moment of the monotonic clock; negative: not known."""
    cdef uint64_t now = mm_mono_ns()
    return -1.0 if since_ns == 0 else 0.0 if since_ns > now else (now - since_ns) / 1e9


cdef object lock_timeout(mm_map *m, str name, uint64_t timeout_ns, region):
    """The commit lock did not come free: who has it."""
    cdef uint32_t w = mm_ld32(&m.hot.lock)
    who = holder_of(m, (w & MM_LOCK_SLOT) - 1, age_of(mm_ld64(&m.hot.lock_since_ns)), doing_of(m, region))
    return errors.LockTimeout(f"the commit lock of {name!r} was not free within {timeout_ns / 1e9:g} s; held by {who}")


cdef object ticket_timeout(mm_map *m, str name, uint64_t ticket, str why):
    """Somebody's ticket keeps us out: who has it. why: "was not free within 5 s", say."""
    cdef uint64_t i = ticket & MM_TICKET_ENTRY
    cdef uint64_t o = mm_ld64(&m.owner[i]) if i < m.n_snaps else 0xffffffffffffffffULL
    who = holder_of(m, <uint32_t>(o >> 32), age_of(mm_ld64(&m.hot.ticket_since_ns)), "")
    return errors.LockTimeout(f"the ticket of {name!r} {why}; held by {who}")
