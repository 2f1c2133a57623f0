"""Growth of a region, online: everybody stays attached.

GROWTH      Address space for the cap is mapped once. Growing = back the new parts of the page table, the side arrays and the units with
            memory; format the new frames, which nobody can reach; publish them by one descriptor. A growth that dies is done again by
            the next. Memory is allocated before it is touched (backing.pyx): no room is an error and never SIGBUS.
LOCK        A byte of the slots file (GROW_BYTE), not the attach lock: a process stopped while it grows keeps nobody from attaching. The
            commit lock is taken after it, for the descriptor alone.
"""
from libc.stdint cimport uint32_t, uint64_t
from memora.engine.descriptor cimport begin, put64, roll_forward, seal
from memora.engine.extents cimport free_run
from memora.engine.frames cimport reserve
from memora.engine.layout cimport *
from memora.engine.procs cimport lock_release
from memora.engine.region cimport GROW_BYTE, Region, take_lock
from memora.engine.status cimport error

from memora import errors

cdef enum:
    GROW_UNITS = 1024           # at least 4 MiB a step


cdef str still_works(const mm_map *m, int status):
    """What a full region allows, for messages; called for the commit that was dropped."""
    fits = f"there is room for some {m.fit} of its {m.changes} changes (rows and entries of indexes)" if m.changes > 1 else ""
    if m.only_removes and status == MM_NEED_EXTENT:
        return (f"this commit only removes, and a record in the log of at most {m.ring_bytes // 4} bytes would need no such piece: "
                f"remove fewer rows at once{'; ' if fits else ''}{fits}")
    if m.only_removes:
        return (f"this commit only removes, and may use the {reserve(m)} pages that are kept for that, but it changes more: "
                f"remove fewer rows at once{'; ' if fits else ''}{fits}")
    return f"reads and deletes still work{'; ' if fits else ''}{fits}"


cdef int grow_for(Region r, int status, uint64_t need, uint64_t units) except -1:
    """After a commit lacked frames (need of them) or extent space (need granules): grow, or raise RegionFull.

    units: how many there were when it was dropped; if there are more by now, somebody else has grown.
    """
    cdef mm_map *m = &r.m
    cdef uint32_t order = 0, u
    cdef int st = MM_OK
    cdef uint64_t first, last, start, frames_to, cap = m.cap_units
    with r.byte_lock(GROW_BYTE):
        first = m.hot.n_units
        if first != units:
            return 0
        if first > cap:
            raise errors.CorruptionError(f"region {r.name!r}: {first} units are published, of at most {cap}")
        step = max(GROW_UNITS, first // 4)
        if first + step > cap:
            step = cap - first
        if status == MM_NEED_EXTENT:
            while (<uint64_t>1 << order) < need:
                order += 1
            align = max(1, (1 << order) // MM_PER_UNIT)
            start = (first + align - 1) // align * align
            size = max(align, min(256, cap // 8 // align * align))
            last = start + size
            if last > cap:
                last = start + align
            frames_to = start
        else:
            last = first + max(step, min(need + 64, cap - first))
            frames_to = last
            if last < first + need and last < cap:
                last = frames_to = cap
        if last > cap or last == first or (status != MM_NEED_EXTENT and last - first < 1):
            what = f"{need * MM_GRANULE} bytes in one piece" if status == MM_NEED_EXTENT else f"at least {need * MM_UNIT} bytes of pages"
            raise errors.RegionFull(
                f"region {r.name!r} is full: {what} needed, {m.hot.free_count * MM_UNIT} free of {cap * MM_UNIT} "
                f"({r.cap_means()}); {still_works(m, status)}")
        least = start + align if status == MM_NEED_EXTENT else min(cap, first + need + 16)
        while True:
            try:
                r.allocate(first, last)
                break
            except errors.RegionFull as e:      # a smaller step may fit
                if last <= least:
                    e.args = (f"{e}; {still_works(m, status)}",)
                    raise
                last = max(least, first + (last - first) // 2)
                frames_to = min(frames_to, last)
        for u in range(first, frames_to):
            mm_frame_at(m, u).link = u + 1
        take_lock(r, 60 * 1000000000)
        try:
            m.hot.lock_doing = MM_DOING_GROW
            mm_fail(m, MM_FP_GROWING)
            begin(m)
            put64(m, &m.hot.n_units, last)
            if frames_to > first:
                mm_frame_at(m, <uint32_t>frames_to - 1).link = <uint32_t>m.hot.free_head
                put64(m, &m.hot.free_head, first)
                put64(m, &m.hot.free_count, m.hot.free_count + frames_to - first)
                put64(m, &m.hot.n_frames, m.hot.n_frames + frames_to - first)
            if last > frames_to:
                put64(m, &m.hot.n_granules, m.hot.n_granules + (last - frames_to) * MM_PER_UNIT)
                st = free_run(m, <uint32_t>(frames_to * MM_PER_UNIT), (last - frames_to) * MM_PER_UNIT)
            if st == MM_OK and seal(m, m.hot.commit_seq) == MM_OK:
                roll_forward(m)
        finally:
            lock_release(m)
        if st:
            raise error(m, st, "growth of the region")
    return 0
