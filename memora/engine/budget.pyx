"""The budget of snapshots: what may be kept for readers, and who loses his snapshot when it is too much.

A snapshot keeps, of each page and extent, at most the one version that it sees (frames.pyx, pruning), so a reader that sleeps for
ever keeps at most what there was when it began. The region's budget (mm_super.snapshot_bytes, snapshot_age_ns) bounds that.

INVARIANTS  (1) A snapshot is revoked only under the commit lock, by compare-and-swap of its whole word.
            (2) What dead owners left goes first, then the oldest snapshot, then the next. A checkpoint's is revoked only when a full
                region needs the room, and last: it starts again.
            (3) For want of bytes nobody is revoked before everything kept was looked at again: what was kept for a snapshot that
                is gone does not count, and what views alone keep (views.pyx has their limit) does not either.
READERS     A revoked snapshot raises SnapshotTooOld from the next read on, before anything read under it is handed out, and at commit
            (transaction.pyx, alive; commit.pyx, build_all).
"""
from libc.stdint cimport uint32_t, uint64_t
from memora.engine.extents cimport collect_extents
from memora.engine.frames cimport collect, reserve_low
from memora.engine.layout cimport *
from memora.engine.procs cimport revoke, revoke_oldest
from memora.engine.sync cimport *


cdef inline uint64_t kept_bytes(const mm_map *m) noexcept nogil:
    """What is retired and was still needed when last looked at."""
    return m.hot.pinned_count * MM_UNIT + m.hot.xlimbo_granules * MM_GRANULE


cdef int keep_budget(mm_map *m) noexcept nogil:
    """After a collection that found snapshots: revoke the oldest if too much is kept, or what stands too long. At most one a collection."""
    cdef int st
    if m.super.snapshot_age_ns:
        revoke_aged(m)
    if kept_bytes(m) > m.super.snapshot_bytes:
        st = collect(m, 1)
        if st == MM_OK:
            st = collect_extents(m, 1)
        if st:
            return st
        if kept_bytes(m) - m.viewed_granules * MM_GRANULE > m.super.snapshot_bytes:
            revoke_oldest(m, -1, 0)
    elif reserve_low(m):
        revoke_oldest(m, -1, 1)
    return MM_OK


cdef void revoke_aged(mm_map *m) noexcept nogil:
    """Revoke every snapshot that is older than the region allows; a snapshot of the newest commit keeps nothing, and stands."""
    cdef uint64_t w, now = mm_coarse_ns()
    cdef uint32_t i, high = mm_ld32(&(<mm_slots_head *>m.slots).snaps_high)
    for i in range(high if high < m.n_snaps else m.n_snaps):
        w = mm_ld64(&m.snap[i])         # before its clock: announce stores the clock first
        if (((w >> MM_SNAP_SHIFT) & 3) == MM_SNAP_ACTIVE and (w & MM_SNAP_S) < m.hot.commit_seq
                and mm_ld64(&m.since[i]) + m.super.snapshot_age_ns < now):
            revoke(m, i, w)
