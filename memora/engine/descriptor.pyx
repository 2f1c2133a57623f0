"""The commit descriptor: one list of absolute stores, sealed by one store, performed by `roll_forward`.

LAYOUT      `mm_desc` in the region holds up to 1000 stores; more go to `mm_chain` frames, which are taken from the
            front of the free list *without* being removed from it: they are free before and after.
            A store is (byte offset, value), 4 or 8 bytes wide (bit 0 of the offset tells).
INVARIANTS  (1) A word that a descriptor may store is changed by nobody outside `roll_forward`.
            (2) Stores are absolute, so performing them twice is performing them once.
            (3) `commit_seq` is stored after all others, then `state` is cleared.
WRITERS     Under the commit lock only. `begin` empties the private buffer; `put64`/`put32` note a store and `get64`/`get32`
            read through it, so a commit sees its own pending changes; `seal` copies the buffer into the region and then
            stores `state` with release order: that is the commit point. `roll_forward` performs.
CRASH       before `state` is stored: nothing happened, the frames written are still in the free list.
            after it: the next owner of the lock calls `roll_forward`, which performs everything (again).
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from memora.engine.layout cimport *
from memora.engine.sync cimport *


cdef int grow(mm_buf *b) noexcept nogil:
    """Double the buffer and rebuild its hash. -1: no memory, and the buffer is marked as failed."""
    cdef uint32_t cap = b.cap * 2 if b.cap else 64      # small: with its hash it stays in the first-level cache
    cdef uint32_t i
    cdef void *v = realloc(b.v, cap * sizeof(mm_store))
    if v == NULL:
        b.failed = 1
        return -1
    b.v = <mm_store *>v
    v = calloc(cap * 4, sizeof(uint64_t))
    if v == NULL:
        b.failed = 1
        return -1
    free(b.hash)
    b.hash = <uint64_t *>v
    b.cap = cap
    b.mask = cap * 4 - 1
    b.stamp = 1
    for i in range(b.n):
        b.hash[place(b, b.v[i].off)] = (<uint64_t>1 << 32) | i
    return 0


cdef void begin(mm_map *m) noexcept nogil:
    """Empty the buffer: what was noted and not sealed never happens."""
    cdef mm_buf *b = &m.buf
    b.n = 0
    b.failed = 0
    if b.cap == 0:
        grow(b)
    b.stamp += 1
    if b.stamp == 0xffffffffU:
        b.cap //= 2
        grow(b)
    m.n_dirty = 0
    m.taken = 0
    m.ready = 0


cdef void push(mm_map *m, uint64_t off, uint64_t value) noexcept nogil:
    """Note a store of a word that this commit will not read again."""
    cdef mm_buf *b = &m.buf
    if b.n == b.cap and grow(b):
        return
    b.v[b.n].off = off
    b.v[b.n].val = value
    b.n += 1


cdef void put_word(mm_map *m, uint64_t off, uint64_t value) noexcept nogil:
    cdef mm_buf *b = &m.buf
    cdef uint32_t h
    if b.n == b.cap and grow(b):
        return
    h = place(b, off)
    if (b.hash[h] >> 32) == b.stamp:
        b.v[<uint32_t>b.hash[h]].val = value
        return
    b.hash[h] = (<uint64_t>b.stamp << 32) | b.n
    b.v[b.n].off = off
    b.v[b.n].val = value
    b.n += 1


cdef int seal(mm_map *m, uint64_t commit) noexcept nogil:
    """Copy the buffer into the region and store the commit point. Frames it touches before that are free ones.

    MM_OK, or MM_NOMEM / MM_NEED_FRAMES / MM_CORRUPT with nothing sealed.
    """
    cdef mm_buf *b = &m.buf
    cdef mm_desc *d = m.desc
    cdef uint32_t left = b.n, first = 0, n, f
    cdef mm_chain *c
    cdef uint32_t *link = &d.chain
    if b.failed:
        return MM_NOMEM
    if left > MM_DESC_STORES:
        f = <uint32_t>get64(m, &m.hot.free_head)
        while left > MM_DESC_STORES:
            if f == 0:
                m.need = (left - MM_DESC_STORES) // MM_CHAIN_STORES + 1
                return MM_NEED_FRAMES
            if f >= mm_ld64(&m.hot.n_units):
                m.corrupt_page = f
                m.corrupt_what = b"free list leaves the region"
                return MM_CORRUPT
            c = <mm_chain *>mm_frame_at(m, f)
            mm_st64(&c.head.gen, c.head.gen | 1)
            mm_fence_rel()
            n = left - MM_DESC_STORES
            if n > MM_CHAIN_STORES:
                n = MM_CHAIN_STORES
            copy_stores(c.store, b.v + first, n)
            c.n = n
            c.next = 0
            link[0] = f
            link = &c.next
            first += n
            left -= n
            f = get32(m, &c.head.link)
    else:
        d.chain = 0
    copy_stores(d.store, b.v + first, left)
    d.n = left
    mm_fail(m, MM_FP_FILLED)
    mm_st64(&d.state, commit)       # sync point: the acquire load in roll_forward, by this process or the next owner
    mm_fail(m, MM_FP_SEALED)
    return MM_OK


cdef inline void copy_stores(mm_store *to, const mm_store *source, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        to[i] = source[i]


cdef inline int perform(mm_map *m, const mm_store *s, uint32_t n) noexcept nogil:
    cdef uint32_t i
    cdef uint64_t off
    for i in range(n):
        off = s[i].off & ~<uint64_t>7 if s[i].off & 1 else s[i].off
        if off < 4096 or off + 8 > m.map_bytes or off & 3:
            m.corrupt_page = 0
            m.corrupt_what = b"the descriptor stores outside the region"
            return MM_CORRUPT
        if s[i].off & 1:
            mm_st64(m.base + off, s[i].val)
        else:
            mm_st32(m.base + off, <uint32_t>s[i].val)
    return MM_OK


cdef int roll_forward(mm_map *m) noexcept nogil:
    """Perform a sealed descriptor; nothing to do is not an error. Only under the commit lock."""
    cdef mm_desc *d = m.desc
    cdef uint64_t commit = mm_ld64(&d.state)
    cdef uint32_t f, hops = 0, n
    cdef mm_chain *c
    if commit == 0:
        return MM_OK
    f = d.chain
    while f:
        if f >= mm_ld64(&m.hot.n_units) or hops > m.cap_units:
            m.corrupt_page = f
            m.corrupt_what = b"the descriptor's chain leaves the region"
            return MM_CORRUPT
        c = <mm_chain *>mm_frame_at(m, f)
        n = c.n
        if n > MM_CHAIN_STORES or perform(m, c.store, n):
            m.corrupt_page = f
            m.corrupt_what = b"the descriptor's chain is damaged"
            return MM_CORRUPT
        hops += 1
        f = c.next
    n = d.n
    if n > MM_DESC_STORES:
        m.corrupt_page = 0
        m.corrupt_what = b"the descriptor's count is damaged"
        return MM_CORRUPT
    mm_fail(m, MM_FP_ROLLING)
    if perform(m, d.store, n):
        return MM_CORRUPT
    mm_st64(&m.hot.commit_seq, commit)      # sync point: every reader's acquire load of its S
    mm_fail(m, MM_FP_ROLLED)
    mm_st64(&d.state, 0)
    return MM_OK
