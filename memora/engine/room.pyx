"""Room for a commit: what is done outside its lock when it was dropped for want of frames, extents or log.

STEPS       1 recycle what nobody needs, and drop old records that hold large values
            2 grow the region (growth.pyx)
            3 where that is not possible, write the log to the file and drop all of it that holds large values
            4 revoke the oldest snapshot (budget.pyx)
            Each is a descriptor of its own; after any of them the commit starts again. RegionFull: none helped.
RESERVED    A large value gets its extent before its commit (extents(6)): reserve() seals that it is this process's, unreserve() gives it back.
CRASH       Killed between the two: the extent is freed by whoever clears up next.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from memora.engine.budget cimport keep_budget
from memora.engine.descriptor cimport begin
from memora.engine.extents cimport collect_extents, free_reserved, release_dead_reserved, reserve_extent
from memora.engine.frames cimport collect, counts_hold
from memora.engine.growth cimport grow_for
from memora.engine.layout cimport *
from memora.engine.procs cimport lock_release, release_dead_snapshots, revoke_oldest
from memora.engine.region cimport Region, take_lock
from memora.engine.status cimport error
from memora.engine.views cimport release_dead_pins
from memora.engine.wal cimport log_shed, seal_now

from memora import errors


cdef int flush_log(Region r) except -1:
    """Write the log to the file, so that the ring can go on. Set by the file layer."""
    if r.flush is None:
        raise errors.InternalError("the log waits for a file that this region does not have")
    r.flush()
    return 0


cdef int relieve(Region r, int st, uint64_t need, str doing, int64_t entry) except -1:
    """The lock is released and a commit was dropped with st for want of `need`: make it possible, or raise.

    entry: the committer's own snapshot, -1 = none.
    """
    cdef mm_map *m = &r.m
    if r.closed:
        raise errors.ProgrammingError(f"region {r.name!r} was closed by another thread")
    if st == MM_NEED_LOG:
        return flush_log(r)
    if st == MM_NEED_FRAMES or st == MM_NEED_EXTENT:
        r.busy += 1                     # close() by another thread waits
        try:
            return make_room(r, st, need, doing, entry)
        finally:
            r.busy -= 1
    if st == MM_TOO_BIG:
        raise errors.DataError(f"{doing}: one commit would log {need} bytes; the limit is 4 GiB")
    if st == MM_REFUSED and need:
        raise errors.DataError(f"{doing}: {need} bytes do not fit into the space's bound")
    raise error(m, st, doing)


cdef int make_room(Region r, int st, uint64_t need, str doing, int64_t entry) except -1:
    """Collect, and if that is not enough grow; where that is not possible revoke the oldest snapshot, and the commit tries again."""
    cdef mm_map *m = &r.m
    cdef uint64_t before = m.hot.free_count, before_x = m.hot.x_free, units = m.hot.n_units
    if clear_up(r, st, 2 * m.ring_bytes, doing, -2) == MM_FOUND:
        return 0
    if st == MM_NEED_EXTENT and m.hot.x_free > before_x and has_block(m, need):
        return 0
    if st == MM_NEED_FRAMES and m.hot.free_count > before + need and m.hot.free_count > m.hot.n_frames // 16:
        return 0
    try:
        return grow_for(r, st, need, units)
    except errors.RegionFull:
        if st == MM_NEED_EXTENT:
            if r.flush is not None:
                flush_log(r)            # what is not in the file yet cannot be dropped
            if clear_up(r, st, 0, doing, -2) == MM_FOUND:
                return 0                # the log of large values was in the way
        if clear_up(r, st, 0, doing, entry) == MM_FOUND:
            return 0                    # a snapshot was
        raise


cdef int has_block(const mm_map *m, uint64_t granules) noexcept nogil:
    """Is there a free block that so many granules fit into?"""
    cdef uint32_t order
    for order in range(MM_X_ORDERS):
        if (<uint64_t>1 << order) >= granules and m.hot.xfree[order]:
            return 1
    return 0


cdef int clear_up(Region r, int st, uint64_t limit, str doing, int64_t spare) except -1:
    """Recycle all that nobody needs. If extents are lacking, records of the log go, too, until `limit` bytes of them lie in extents.

    spare: -2, or the oldest snapshot but this entry (-1: none) is revoked before. MM_FOUND: one was, or such records went; else MM_ABSENT.
    """
    cdef mm_map *m = &r.m
    cdef int st2, shed = MM_ABSENT, revoked = MM_ABSENT
    take_lock(r, 60000000000)
    m.hot.lock_doing = MM_DOING_COLLECT
    if spare == -2:
        release_dead_snapshots(m)
    else:
        revoked = revoke_oldest(m, spare, 1)
    release_dead_pins(m)
    st2 = counts_hold(m)
    if st2 == MM_OK:
        st2 = collect(m, 1)
    if st2 == MM_OK and st == MM_NEED_EXTENT:
        shed = log_shed(m, limit)
        st2 = shed if shed != MM_FOUND and shed != MM_ABSENT else MM_OK
    if st2 == MM_OK:
        st2 = release_dead_reserved(m)
    if st2 == MM_OK:
        st2 = collect_extents(m, 1)
    if st2 == MM_OK and m.n_scan:
        st2 = keep_budget(m)
    lock_release(m)
    if st2:
        raise error(m, st2, doing)
    return shed if revoked == MM_ABSENT else revoked


cdef int reserve(Region r, uint32_t tree, uint64_t nbytes, uint64_t timeout_ns, uint32_t *granule, int64_t entry) except -1:
    """An extent for this process to fill; it is its own until a commit links it, unreserve(), or its death."""
    cdef mm_map *m = &r.m
    cdef uint64_t need
    cdef int st
    while True:
        take_lock(r, timeout_ns)
        m.need = 0
        m.changes = 0
        m.only_removes = 0
        st = collect_extents(m, 0)
        begin(m)
        m.building = m.hot.commit_seq
        if st == MM_OK:
            st = reserve_extent(m, tree, nbytes, granule)
        if st == MM_OK:
            st = seal_now(m)
        need = m.need
        lock_release(m)
        if st == MM_OK:
            mm_fail(m, MM_FP_RESERVED)
            return 0
        relieve(r, st, need, "commit", entry)


cdef int unreserve(Region r, uint32_t granule) except -1:
    """Give a reserved extent back: its commit did not happen. If the lock cannot be had either, it stays reserved while the process lives."""
    cdef mm_map *m = &r.m
    cdef int st
    if r.closed:
        return 0
    take_lock(r, 60000000000)
    begin(m)
    st = free_reserved(m, granule)
    if st == MM_OK:
        st = seal_now(m)
    lock_release(m)
    if st:
        raise error(m, st, "giving back the place of a value")
    return 0
