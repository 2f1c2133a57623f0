"""Extents: runs of 1 KiB granules for what is larger than a page has room for (values, rests of long keys, rings).

LAYOUT      A buddy system over granule numbers (unit * 4 + quarter). xmap[g] = MM_X_FREE | order at the first granule of a
            free block of 2^order granules, aligned to its size; hot.xfree[order] heads a doubly linked list through
            mm_xblock in the blocks themselves. An extent in use begins with mm_extent; its granules are exactly as many as it
            needs: the rest of the power of two is given back at once.
            Retired extents wait in one of two lists: values, which records of the log may name, in xlog; others in xlimbo. A third list
            has those that a process reserved and fills outside the commit lock.
INVARIANTS  (1) Units of extent space are never frames, so no user bytes lie where a stale reader looks for a frame header.
            (2) All allocator words move only by descriptor; an extent's own bytes are written before the seal, while free.
            (3) Two free buddies of one order never stand side by side.
            (4) An extent is read-only from its commit until it is retired; retired ones wait, as frames do, until no announced
                snapshot S has linked <= S < retired and no pin names them (views.pyx).
            (5) The log names a value by its extent (wal.pyx), which therefore waits in xlog, in the order of retirement, until the record of
                the commit that retired it has left the ring: all older records that name it left before.
            (6) A reserved extent has linked = 0 and names its owner; nobody else reads or writes its bytes. The commit that links it, its owner,
                or who finds the owner dead (release_dead_reserved) takes it out of the list, by descriptor.
SOURCE      Knuth, TAOCP vol. 1, 2.5, algorithms R and S (buddy system).
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.descriptor cimport begin, get32, get64, put32, put64, roll_forward, seal
from memora.engine.frames cimport needed, published_units, scan_snapshots
from memora.engine.layout cimport *
from memora.engine.procs cimport lock_name, owner_alive
from memora.engine.sync cimport *
from memora.engine.views cimport pinned, scan_pins

cdef enum:
    XLIMBO_KEEP = 8
    XLIMBO_START = 16


cdef uint64_t granules_for(uint64_t nbytes) noexcept nogil:
    return (nbytes + sizeof(mm_extent) + MM_GRANULE - 1) // MM_GRANULE


cdef inline mm_xblock *block_at(mm_map *m, uint32_t g) noexcept nogil:
    return <mm_xblock *>(m.data + <uint64_t>g * MM_GRANULE)


cdef int bad_number(mm_map *m, uint32_t granule) noexcept nogil:
    m.corrupt_page = granule
    m.corrupt_what = b"extent number outside the region"
    return MM_CORRUPT


cdef inline int outside(mm_map *m, uint64_t g) noexcept nogil:
    """No granule of the region (0 is none, either). What the region's lists say is asked before it is followed."""
    return g == 0 or g >= get64(m, &m.hot.n_units) * MM_PER_UNIT


cdef int push_block(mm_map *m, uint32_t g, uint32_t order) noexcept nogil:
    cdef uint32_t head = <uint32_t>get64(m, &m.hot.xfree[order])
    if head and outside(m, head):
        return bad_number(m, head)
    put32(m, &block_at(m, g).next, head)
    put32(m, &block_at(m, g).prev, 0)
    if head:
        put32(m, &block_at(m, head).prev, g)
    put64(m, &m.hot.xfree[order], g)
    put32(m, &m.xmap[g], MM_X_FREE | order)
    return MM_OK


cdef int pull_block(mm_map *m, uint32_t g, uint32_t order) noexcept nogil:
    cdef uint32_t next_ = get32(m, &block_at(m, g).next), prev = get32(m, &block_at(m, g).prev)
    if prev and outside(m, prev) or next_ and outside(m, next_):
        return bad_number(m, g)
    if prev:
        put32(m, &block_at(m, prev).next, next_)
    else:
        put64(m, &m.hot.xfree[order], next_)
    if next_:
        put32(m, &block_at(m, next_).prev, prev)
    put32(m, &m.xmap[g], 0)
    return MM_OK


cdef int free_run(mm_map *m, uint32_t granule, uint64_t n) noexcept nogil:
    """Give granules back: as the fewest aligned blocks, each merged with its free buddies. MM_OK or MM_CORRUPT."""
    cdef uint32_t g = granule, order, b, buddy
    cdef uint64_t limit = get64(m, &m.hot.n_units) * MM_PER_UNIT
    if granule == 0 or granule > limit or n > limit - granule:
        return bad_number(m, granule)
    put64(m, &m.hot.x_free, get64(m, &m.hot.x_free) + n)
    while n:
        order = 0
        while order < MM_X_ORDERS - 2 and not (g >> order) & 1 and (<uint64_t>2 << order) <= n:
            order += 1
        b = g
        g += <uint32_t>1 << order
        n -= <uint64_t>1 << order
        while order < MM_X_ORDERS - 2:
            buddy = b ^ (<uint32_t>1 << order)
            if buddy >= limit or get32(m, &m.xmap[buddy]) != (MM_X_FREE | order):
                break
            if pull_block(m, buddy, order):
                return MM_CORRUPT
            if buddy < b:
                b = buddy
            order += 1
        if push_block(m, b, order):
            return MM_CORRUPT
    return MM_OK


cdef mm_extent *new_extent(mm_map *m, uint32_t tree, uint64_t nbytes, uint32_t *granule) noexcept nogil:
    """A run for nbytes behind its header, of this commit. NULL: no room; m.need = granules wanted (0: corrupt)."""
    cdef uint64_t n = granules_for(nbytes)
    cdef uint32_t order = 0, j, g
    cdef mm_extent *x
    cdef int st
    m.need = n
    while (<uint64_t>1 << order) < n:
        order += 1
    j = order
    while j < MM_X_ORDERS and get64(m, &m.hot.xfree[j]) == 0:
        j += 1
    if j >= MM_X_ORDERS:
        return NULL
    g = <uint32_t>get64(m, &m.hot.xfree[j])
    if (<uint64_t>g + (<uint64_t>1 << j)) > m.hot.n_units * MM_PER_UNIT or get32(m, &m.xmap[g]) != (MM_X_FREE | j):
        m.corrupt_page = g
        m.corrupt_what = b"free extent list is damaged"
        m.need = 0
        return NULL
    st = pull_block(m, g, j)
    put64(m, &m.hot.x_free, get64(m, &m.hot.x_free) - (<uint64_t>1 << j))
    if st == MM_OK and (<uint64_t>1 << j) > n:
        st = free_run(m, g + <uint32_t>n, (<uint64_t>1 << j) - n)
    if st:
        m.need = 0
        return NULL
    x = mm_extent_at(m, g)
    # x.linked .. x.granules overlay the block's links, which are still needed if this commit is dropped: they are stores.
    put64(m, &x.linked, m.building)
    put64(m, &x.retired, 0)
    put32(m, &x.owner, 0)
    put64(m, &x.nbytes, nbytes)
    put32(m, &x.granules, <uint32_t>n)
    put32(m, &x.link, 0)
    put32(m, &x.tree, tree)
    granule[0] = g
    return x


cdef int retire(mm_map *m, uint32_t granule, uint64_t *head, uint64_t *tail, uint64_t *count) noexcept nogil:
    """Put an extent at the end of a list of the retired."""
    cdef uint32_t last = <uint32_t>get64(m, tail)
    cdef mm_extent *x
    if outside(m, granule):
        return bad_number(m, granule)
    if last and outside(m, last):
        return bad_number(m, last)
    x = mm_extent_at(m, granule)
    put64(m, &x.retired, m.building)
    put32(m, &x.link, 0)
    if last:
        put32(m, &mm_extent_at(m, last).link, granule)
    else:
        put64(m, head, granule)
    put64(m, tail, granule)
    put64(m, count, get64(m, count) + 1)
    return MM_OK


cdef int retire_extent(mm_map *m, uint32_t granule) noexcept nogil:
    """Nothing of the newest version points to the extent any more, and no record of the log names it."""
    cdef int st = retire(m, granule, &m.hot.xlimbo_head, &m.hot.xlimbo_tail, &m.hot.xlimbo_count)
    if st == MM_OK:
        put64(m, &m.hot.xlimbo_granules, get64(m, &m.hot.xlimbo_granules) + get32(m, &mm_extent_at(m, granule).granules))
    return st


cdef int retire_logged(mm_map *m, uint32_t granule) noexcept nogil:
    """As retire_extent, of a value: records up to that of the commit being built may name it."""
    return retire(m, granule, &m.hot.xlog_head, &m.hot.xlog_tail, &m.hot.xlog_count)


cdef int free_or_keep(mm_map *m, uint32_t g, mm_extent *x) noexcept nogil:
    """A retired extent was taken out of its list: free it, or put it at the end of xlimbo, if a snapshot or pin needs it."""
    if needed(m, x.linked, get64(m, &x.retired)) or pinned(m, g):
        m.building = get64(m, &x.retired)
        return retire_extent(m, g)
    return free_run(m, g, x.granules)


cdef int seal_some(mm_map *m, int always) noexcept nogil:
    cdef int st
    if m.buf.n < (1 if always else MM_DESC_STORES - 200):
        return MM_OK
    st = seal(m, m.hot.commit_seq)
    if st == MM_OK:
        st = roll_forward(m)
    begin(m)
    return st


cdef int collect_logged(mm_map *m, int forced) noexcept nogil:
    """The part of xlog that the log has left behind. Snapshots and pins have been scanned unless nothing is to do."""
    cdef uint64_t n = <uint64_t>m.cap_units * MM_PER_UNIT if forced else 64     # more there cannot be: then the list is a ring
    cdef uint32_t g = <uint32_t>m.hot.xlog_head
    cdef mm_extent *x
    cdef int st
    if g == 0:
        return MM_OK
    if g < m.hot.n_units * MM_PER_UNIT and mm_extent_at(m, g).retired >= m.hot.tail_commit:
        return MM_OK
    scan_snapshots(m)
    scan_pins(m)
    begin(m)
    while g and n:
        if g >= m.hot.n_units * MM_PER_UNIT:
            m.corrupt_page = g
            m.corrupt_what = b"list of retired values leaves the region"
            return MM_CORRUPT
        x = mm_extent_at(m, g)
        if x.retired >= m.hot.tail_commit:
            break
        put64(m, &m.hot.xlog_head, get32(m, &x.link))
        if get32(m, &x.link) == 0:
            put64(m, &m.hot.xlog_tail, 0)
        put64(m, &m.hot.xlog_count, get64(m, &m.hot.xlog_count) - 1)
        st = free_or_keep(m, g, x)
        if st == MM_OK:
            st = seal_some(m, 0)
        if st:
            return st
        g = <uint32_t>get64(m, &m.hot.xlog_head)
        n -= 1
    return seal_some(m, 1)


cdef int collect_extents(mm_map *m, int forced) noexcept nogil:
    """Free retired extents that no snapshot, no pin and no record of the log needs; those of xlimbo that are needed go to its end. As frames.collect."""
    cdef uint64_t n
    cdef uint32_t g
    cdef mm_extent *x
    cdef int st
    m.viewed_granules = 0
    st = collect_logged(m, forced)
    n = mm_ld64(&m.hot.xlimbo_count)
    if st or n == 0 or (not forced and n < XLIMBO_START):
        return st
    if n > <uint64_t>m.cap_units * MM_PER_UNIT:
        m.corrupt_page = 0
        m.corrupt_what = b"more retired extents than granules"
        return MM_CORRUPT
    if not forced:
        n -= XLIMBO_KEEP
        if n > 64:
            n = 64
    scan_snapshots(m)
    scan_pins(m)
    begin(m)
    while n:
        g = <uint32_t>get64(m, &m.hot.xlimbo_head)
        if g == 0 or g >= m.hot.n_units * MM_PER_UNIT:
            m.corrupt_page = g
            m.corrupt_what = b"list of retired extents leaves the region"
            return MM_CORRUPT
        x = mm_extent_at(m, g)
        put64(m, &m.hot.xlimbo_head, get32(m, &x.link))
        if get32(m, &x.link) == 0:
            put64(m, &m.hot.xlimbo_tail, 0)
        put64(m, &m.hot.xlimbo_count, get64(m, &m.hot.xlimbo_count) - 1)
        put64(m, &m.hot.xlimbo_granules, get64(m, &m.hot.xlimbo_granules) - get32(m, &x.granules))
        if pinned(m, g) and not needed(m, x.linked, get64(m, &x.retired)):
            m.viewed_granules += get32(m, &x.granules)
        st = free_or_keep(m, g, x)
        n -= 1
        if st == MM_OK:
            st = seal_some(m, n == 0)
        if st:
            return st
    return MM_OK


# ---------------------------------------------------------------------------------------------- reservations

cdef int reserve_extent(mm_map *m, uint32_t tree, uint64_t nbytes, uint32_t *granule) noexcept nogil:
    """Note the stores that take an extent for this process to fill. MM_OK, MM_NEED_EXTENT, MM_CORRUPT."""
    cdef uint32_t head = <uint32_t>get64(m, &m.hot.xres_head)
    cdef mm_extent *x
    if head and outside(m, head):
        return bad_number(m, head)
    x = new_extent(m, tree, nbytes, granule)
    if x == NULL:
        return MM_NEED_EXTENT if m.need else MM_CORRUPT
    put64(m, &x.linked, 0)
    put32(m, &x.link, head)
    put32(m, &x.back, 0)
    put32(m, &x.owner, lock_name(m))
    if head:
        put32(m, &mm_extent_at(m, head).back, granule[0])
    put64(m, &m.hot.xres_head, granule[0])
    put64(m, &m.hot.xres_count, get64(m, &m.hot.xres_count) + 1)
    return MM_OK


cdef int leave_reserved(mm_map *m, uint32_t granule) noexcept nogil:
    """Take an extent out of the list of the reserved."""
    cdef mm_extent *x
    cdef uint32_t back, link
    if outside(m, granule):
        return bad_number(m, granule)
    x = mm_extent_at(m, granule)
    back = get32(m, &x.back)
    link = get32(m, &x.link)
    if back >= m.hot.n_units * MM_PER_UNIT or link >= m.hot.n_units * MM_PER_UNIT:
        return bad_number(m, granule)
    if back:
        put32(m, &mm_extent_at(m, back).link, link)
    else:
        put64(m, &m.hot.xres_head, link)
    if link:
        put32(m, &mm_extent_at(m, link).back, back)
    put64(m, &m.hot.xres_count, get64(m, &m.hot.xres_count) - 1)
    return MM_OK


cdef int link_reserved(mm_map *m, uint32_t granule) noexcept nogil:
    """The commit being built makes a reserved extent a value: it becomes `ready` for put_at."""
    cdef mm_extent *x
    cdef int st = leave_reserved(m, granule)
    if st:
        return st
    x = mm_extent_at(m, granule)
    put64(m, &x.linked, m.building)
    put32(m, &x.owner, 0)
    put32(m, &x.link, 0)
    m.ready = granule
    return MM_OK


cdef int free_reserved(mm_map *m, uint32_t granule) noexcept nogil:
    cdef int st = leave_reserved(m, granule)
    if st == MM_OK:
        st = free_run(m, granule, mm_extent_at(m, granule).granules)
    return st


cdef int release_dead_reserved(mm_map *m) noexcept nogil:
    """Free what killed processes had reserved. Under the commit lock, nothing being built."""
    cdef uint32_t g = <uint32_t>m.hot.xres_head, link, owner
    cdef uint64_t left = m.hot.xres_count
    cdef int st
    begin(m)
    while g and left:
        if g >= m.hot.n_units * MM_PER_UNIT:
            return bad_number(m, g)
        link = get32(m, &mm_extent_at(m, g).link)
        owner = get32(m, &mm_extent_at(m, g).owner)
        if owner != lock_name(m) and not owner_alive(m, owner):
            st = free_reserved(m, g)
            if st == MM_OK:
                st = seal_some(m, 0)
            if st:
                return st
        g = link
        left -= 1
    return seal_some(m, 1)


cdef const uint8_t *extent_bytes(mm_map *m, uint32_t granule, uint64_t nbytes) noexcept nogil:
    """Where an extent's bytes lie, or NULL if number and length do not fit into the region (torn or damaged)."""
    cdef uint64_t end = <uint64_t>granule * MM_GRANULE + sizeof(mm_extent) + nbytes
    if granule == 0 or nbytes > m.map_bytes or end > published_units(m, (end + MM_UNIT - 1) // MM_UNIT) * MM_UNIT:
        return NULL
    return m.data + <uint64_t>granule * MM_GRANULE + sizeof(mm_extent)
