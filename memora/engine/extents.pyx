"""Extents: runs of 1 KiB granules for what is larger than a page has room for (values, rests of long keys, rings).

LAYOUT      A buddy system over granule numbers (unit * 4 + quarter). xmap[g] = MM_X_FREE | order at the first granule of a
            free block of 2^order granules, aligned to its size; hot.xfree[order] heads a doubly linked list through
            mm_xblock in the blocks themselves. An extent in use begins with mm_extent; its granules are exactly as many as it
            needs: the rest of the power of two is given back at once.
INVARIANTS  (1) Units of extent space are never frames, so no user bytes lie where a stale reader looks for a frame header.
            (2) All allocator words move only by descriptor; an extent's own bytes are written before the seal, while free.
            (3) Two free buddies of one order never stand side by side.
            (4) An extent is read-only from its commit until it is retired; retired ones wait, as frames do, until no announced
                snapshot S has linked <= S < retired and no pin names them (views.pyx).
SOURCE      Knuth, TAOCP vol. 1, 2.5, algorithms R and S (buddy system).
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.descriptor cimport begin, get32, get64, put32, put64, roll_forward, seal
from memora.engine.frames cimport needed, published_units, scan_snapshots
from memora.engine.layout cimport *
from memora.engine.sync cimport *
from memora.engine.views cimport pinned, scan_pins

cdef enum:
    XLIMBO_KEEP = 8
    XLIMBO_START = 16


cdef uint64_t granules_for(uint64_t nbytes) noexcept nogil:
    return (nbytes + sizeof(mm_extent) + MM_GRANULE - 1) // MM_GRANULE


cdef inline mm_xblock *block_at(mm_map *m, uint32_t g) noexcept nogil:
    return <mm_xblock *>(m.data + <uint64_t>g * MM_GRANULE)


cdef void push_block(mm_map *m, uint32_t g, uint32_t order) noexcept nogil:
    cdef uint32_t head = <uint32_t>get64(m, &m.hot.xfree[order])
    put32(m, &block_at(m, g).next, head)
    put32(m, &block_at(m, g).prev, 0)
    if head:
        put32(m, &block_at(m, head).prev, g)
    put64(m, &m.hot.xfree[order], g)
    put32(m, &m.xmap[g], MM_X_FREE | order)


cdef void pull_block(mm_map *m, uint32_t g, uint32_t order) noexcept nogil:
    cdef uint32_t next_ = get32(m, &block_at(m, g).next), prev = get32(m, &block_at(m, g).prev)
    if prev:
        put32(m, &block_at(m, prev).next, next_)
    else:
        put64(m, &m.hot.xfree[order], next_)
    if next_:
        put32(m, &block_at(m, next_).prev, prev)
    put32(m, &m.xmap[g], 0)


cdef void free_run(mm_map *m, uint32_t granule, uint64_t n) noexcept nogil:
    """Give granules back: as the fewest aligned blocks, each merged with its free buddies."""
    cdef uint32_t g = granule, order, b, buddy
    cdef uint64_t limit = get64(m, &m.hot.n_units) * MM_PER_UNIT
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
            pull_block(m, buddy, order)
            if buddy < b:
                b = buddy
            order += 1
        push_block(m, b, order)


cdef mm_extent *new_extent(mm_map *m, uint32_t tree, uint64_t nbytes, uint32_t *granule) noexcept nogil:
    """A run for nbytes behind its header, of this commit. NULL: no room; m.need = granules wanted (0: corrupt)."""
    cdef uint64_t n = granules_for(nbytes)
    cdef uint32_t order = 0, j, g
    cdef mm_extent *x
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
    pull_block(m, g, j)
    put64(m, &m.hot.x_free, get64(m, &m.hot.x_free) - (<uint64_t>1 << j))
    if (<uint64_t>1 << j) > n:
        free_run(m, g + <uint32_t>n, (<uint64_t>1 << j) - n)
    x = mm_extent_at(m, g)
    # x.linked .. x.granules overlay the block's links, which are still needed if this commit is dropped: they are stores.
    put64(m, &x.linked, m.building)
    put64(m, &x.retired, 0)
    put64(m, &x.nbytes, nbytes)
    put32(m, &x.granules, <uint32_t>n)
    put32(m, &x.link, 0)
    put32(m, &x.tree, tree)
    granule[0] = g
    return x


cdef int retire_extent(mm_map *m, uint32_t granule) noexcept nogil:
    """Nothing of the newest version points to the extent any more."""
    cdef uint32_t tail
    cdef mm_extent *x
    if granule == 0 or granule >= m.hot.n_units * MM_PER_UNIT:
        m.corrupt_page = granule
        m.corrupt_what = b"extent number outside the region"
        return MM_CORRUPT
    x = mm_extent_at(m, granule)
    put64(m, &x.retired, m.building)
    put32(m, &x.link, 0)
    tail = <uint32_t>get64(m, &m.hot.xlimbo_tail)
    if tail:
        put32(m, &mm_extent_at(m, tail).link, granule)
    else:
        put64(m, &m.hot.xlimbo_head, granule)
    put64(m, &m.hot.xlimbo_tail, granule)
    put64(m, &m.hot.xlimbo_count, get64(m, &m.hot.xlimbo_count) + 1)
    put64(m, &m.hot.xlimbo_granules, get64(m, &m.hot.xlimbo_granules) + get32(m, &x.granules))
    return MM_OK


cdef int collect_extents(mm_map *m, int forced) noexcept nogil:
    """Free retired extents that no snapshot needs; the others go to the end of the list. As frames.collect."""
    cdef uint64_t n = m.hot.xlimbo_count
    cdef uint32_t g
    cdef mm_extent *x
    cdef int st, kept
    m.viewed_granules = 0
    if n == 0 or (not forced and n < XLIMBO_START):
        return MM_OK
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
        kept = needed(m, x.linked, get64(m, &x.retired))
        if not kept and pinned(m, g):
            m.viewed_granules += get32(m, &x.granules)
            kept = 1
        if kept:
            m.building = get64(m, &x.retired)
            st = retire_extent(m, g)
            if st:
                return st
        else:
            free_run(m, g, x.granules)
        n -= 1
        if m.buf.n > MM_DESC_STORES - 200 or n == 0:
            st = seal(m, m.hot.commit_seq)
            if st == MM_OK:
                st = roll_forward(m)
            begin(m)
            if st:
                return st
    return MM_OK


cdef const uint8_t *extent_bytes(mm_map *m, uint32_t granule, uint64_t nbytes) noexcept nogil:
    """Where an extent's bytes lie, or NULL if number and length do not fit into the region (torn or damaged)."""
    cdef uint64_t end = <uint64_t>granule * MM_GRANULE + sizeof(mm_extent) + nbytes
    if granule == 0 or nbytes > m.map_bytes or end > published_units(m, (end + MM_UNIT - 1) // MM_UNIT) * MM_UNIT:
        return NULL
    return m.data + <uint64_t>granule * MM_GRANULE + sizeof(mm_extent)
