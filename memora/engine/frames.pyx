"""Frames and the page table: versions of pages, copy-on-write, recycling and pruning.

LAYOUT      pt[pgno] names the frame of a page's newest version; `prev` leads to older ones, `next` back to newer ones.
            A frame is current (in pt), retired (in the limbo or the pinned list, still in its page's chain), or free.
INVARIANTS  (1) A frame's page bytes never change while it is reachable. Only `prev`, `next`, `retired` and `link` do, and
                only in roll_forward(): `next` and `retired` when it is replaced, `prev` and `next` when a neighbour is unlinked.
            (2) A retired frame is unlinked only if no announced snapshot S has ver <= S < retired; gc_floor is raised to
                its retirement, and fenced, before the snapshot words are looked at.
            (3) Unlinked frames go to the free list in one descriptor and are taken by a later one.
            (4) gen is odd from before the first byte is written until the version is whole; it never goes back.
            (5) A page number is free (MM_PT_LINK) only when no version of it is left.
            (6) A revoked snapshot keeps nothing: its word is no longer found by scan_snapshots(), its owner asks for the word
                after whatever it read, before that is used.
READERS     page_at: pt, gen, pgno, then `prev` while ver > S, checking gen after every hop. still_there() after the bytes
            were used. A reader with no announced snapshot also asks unregistered_ok(): the frame is still the page's
            newest, or gc_floor has not passed S.
WRITERS     dirty() gives a private copy, finish() notes the stores that publish all copies and retire what they replace.
CRASH       Everything noted goes into one descriptor (descriptor.pyx): all of it happens or nothing.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset
from memora.engine.descriptor cimport begin, get32, get64, put32, put64, push, roll_forward, seal
from memora.engine.layout cimport *
from memora.engine.sync cimport *

cdef enum:
    LIMBO_KEEP = 16         # frames left in limbo: a short queue stays in the cache, none at all makes readers start again
    LIMBO_START = 32
    PINNED_LOOK = 64        # pinned frames looked at again in one collection


# ---------------------------------------------------------------------------------------------- readers

cdef uint64_t published_units(mm_map *m, uint64_t wanted) noexcept nogil:
    """Units this process may touch; loaded again before `wanted` is called too large (another process may have grown)."""
    if wanted >= m.seen_units:
        m.seen_units = mm_ld64(&m.hot.n_units)
        if m.seen_units > m.cap_units:
            m.seen_units = m.cap_units
    return m.seen_units


cdef int counts_hold(mm_map *m) noexcept nogil:
    """Under the commit lock: the region says no more units and pages than it was made for, so what is below may be followed."""
    if m.hot.n_units <= m.cap_units and m.hot.page_high <= m.cap_pages:
        return MM_OK
    m.corrupt_page = 0
    m.corrupt_what = b"more units or pages than the region was made for"
    return MM_CORRUPT


cdef inline int page_known(mm_map *m, uint32_t pgno) noexcept nogil:
    if pgno >= m.seen_pages:
        m.seen_pages = mm_ld64(&m.hot.page_high)
        if m.seen_pages > m.cap_pages:
            m.seen_pages = m.cap_pages
    return pgno != 0 and pgno < m.seen_pages


cdef inline int frame_known(mm_map *m, uint32_t f) noexcept nogil:
    return f != 0 and f < published_units(m, f)


cdef int page_at(mm_map *m, uint64_t s, uint32_t pgno, Look *out) noexcept nogil:
    """The newest version of the page that is <= s. MM_MOVED: start again with a newer S (or from pt, if announced)."""
    cdef uint32_t e, f, hops = 0
    cdef const mm_frame *p
    cdef const mm_frame *q
    cdef uint64_t g, retired
    if not page_known(m, pgno):
        return MM_MOVED
    e = mm_ld32(&m.pt[pgno])            # sync point: roll_forward's release store
    f = e & MM_PT_MASK
    if (e & MM_PT_BITS) == MM_PT_LINK or not frame_known(m, f):
        return MM_MOVED
    p = mm_frame_at(m, f)
    g = mm_ld64(&p.gen)
    if g & 1 or mm_ld32(&p.pgno) != pgno:
        return MM_MOVED
    if e & MM_PT_FREED:
        retired = mm_ld64(&p.retired)       # 0: roll_forward has marked pt, and comes to the frame later
        if retired and retired <= s:
            return MM_MOVED
    out.hopped = 0
    while mm_ld64(&p.ver) > s:
        f = mm_ld32(&p.prev)
        mm_fence_acq()
        if mm_ld64(&p.gen) != g or not frame_known(m, f) or hops > MM_MAX_HOPS:
            return MM_MOVED
        hops += 1
        p = mm_frame_at(m, f)
        g = mm_ld64(&p.gen)
        if g & 1 or mm_ld32(&p.pgno) != pgno:
            return MM_MOVED
        out.hopped = 1
    out.page = p
    out.gen = g
    out.frame = f
    out.pgno = pgno
    return MM_OK


cdef const uint8_t *page_bytes(mm_map *m, uint32_t pgno) noexcept nogil:
    """Where the newest version of a page lies, for asking only; NULL: nobody knows. Any number is allowed."""
    cdef uint32_t f
    if pgno == 0 or pgno >= m.seen_pages:
        return NULL
    f = mm_ld32(&m.pt[pgno]) & MM_PT_MASK
    return <const uint8_t *>mm_frame_at(m, f) if f < m.seen_units else NULL


cdef void expect_leaf(mm_map *m, uint32_t pgno) noexcept nogil:
    """A leaf will be searched: ask for its head and first slots together, they are rarely in the cache."""
    cdef const uint8_t *p = page_bytes(m, pgno)
    if p != NULL:
        mm_prefetch(p)
        mm_prefetch(p + 64)
        mm_prefetch(p + 128)
        mm_prefetch(p + 192)
        mm_prefetch(p + 256)


cdef void expect_page(mm_map *m, uint32_t pgno) noexcept nogil:
    """A page of which the beginning is on its way will be copied."""
    cdef const uint8_t *p = page_bytes(m, pgno)
    cdef uint32_t i
    if p != NULL:
        for i in range(5, 64):
            mm_prefetch(p + 64 * i)


cdef int still_there(const Look *look) noexcept nogil:
    """Nothing read from the page so far was torn by recycling."""
    mm_fence_acq()
    return mm_ld64(&look.page.gen) == look.gen


cdef int unregistered_ok(const mm_map *m, uint64_t s, const Look *look) noexcept nogil:
    """For a reader with no announced snapshot, after its last load: this was the version at S, and its extents stand."""
    mm_fence_acq()
    if mm_ld64(&m.hot.gc_floor) <= s:
        return 1
    return not look.hopped and mm_ld32(&m.pt[look.pgno]) == look.frame


# ---------------------------------------------------------------------------------------------- building a commit

cdef int corrupt(mm_map *m, uint32_t page, const char *what) noexcept nogil:
    m.corrupt_page = page
    m.corrupt_what = what
    m.need = 0              # or lack() would say that frames are missing, and the region would grow in vain
    return MM_CORRUPT


cdef uint32_t reserve(const mm_map *m) noexcept nogil:
    """Frames kept for commits that only remove: 1/64, at least 16, at least 256 in regions over 16 MiB."""
    cdef uint64_t n = m.hot.n_frames // 64
    if n < 256 and m.hot.n_frames > 4096:
        n = 256
    return <uint32_t>(n if n > 16 else 16)


cdef mm_frame *current(mm_map *m, uint32_t pgno) noexcept nogil:
    """The newest version, this commit's own included. NULL: no such page (MM_CORRUPT is noted)."""
    cdef uint32_t e
    if not page_known(m, pgno) and not (pgno and pgno < get64(m, &m.hot.page_high)):
        corrupt(m, pgno, b"page number outside the page table")
        return NULL
    e = get32(m, &m.pt[pgno])
    if e & MM_PT_BITS or not frame_known(m, e):
        corrupt(m, pgno, b"page is free")
        return NULL
    return mm_frame_at(m, e)


cdef uint32_t take(mm_map *m) noexcept nogil:
    """Take a frame from the free list; 0: none (m.need tells how many more are wanted)."""
    cdef uint32_t next, f = <uint32_t>get64(m, &m.hot.free_head)
    cdef uint64_t left = get64(m, &m.hot.free_count)
    cdef mm_frame *p
    if f == 0 or left == 0 or (not m.only_removes and left <= reserve(m)):
        m.need = m.taken + 16
        return 0
    if not frame_known(m, f):
        corrupt(m, f, b"free list leaves the region")
        m.need = 0
        return 0
    p = mm_frame_at(m, f)
    next = get32(m, &p.link)
    if next < m.seen_units:
        mm_prefetch(mm_frame_at(m, next))       # for the next one who takes
    put64(m, &m.hot.free_head, next)
    put64(m, &m.hot.free_count, left - 1)
    mm_st64(&p.gen, p.gen | 1)
    mm_fence_rel()          # sync point: still_there() of a reader that still looks at the old bytes
    m.taken += 1
    return f


cdef int note_dirty(mm_map *m, uint32_t pgno, uint32_t f, uint32_t old) noexcept nogil:
    cdef void *v
    if m.n_dirty == m.cap_dirty:
        v = realloc(m.dirty, (m.cap_dirty * 2 + 64) * sizeof(mm_dirty))
        if v == NULL:
            m.buf.failed = 1
            return -1
        m.dirty = <mm_dirty *>v
        m.cap_dirty = m.cap_dirty * 2 + 64
    m.dirty[m.n_dirty].pgno = pgno
    m.dirty[m.n_dirty].frame = f
    m.dirty[m.n_dirty].old = old
    m.n_dirty += 1
    return 0


cdef inline void copy_page(mm_frame *to, const mm_frame *source) noexcept nogil:
    """Everything but the frame's own words, and but the gap between slots and cells."""
    cdef uint32_t low = MM_HEAD + 8u * source.count, high = source.heap
    if high < low or high > MM_UNIT:        # damaged: as it is, the checker will tell
        low = high = MM_HEAD
    memcpy(&to.tree, &source.tree, low - 40)
    memcpy(<uint8_t *>to + high, <const uint8_t *>source + high, MM_UNIT - high)


cdef mm_frame *dirty(mm_map *m, uint32_t pgno) noexcept nogil:
    """This commit's private copy of a page. NULL: no frame, no memory, or corrupt (see lack())."""
    cdef mm_frame *old = current(m, pgno)
    cdef mm_frame *p
    cdef uint32_t f
    if old == NULL or old.ver == m.building:
        return old
    f = take(m)
    if f == 0:
        return NULL
    p = mm_frame_at(m, f)
    p.ver = m.building
    p.pgno = pgno
    p.prev = get32(m, &m.pt[pgno])
    p.next = 0
    p.retired = 0
    if note_dirty(m, pgno, f, p.prev):
        return NULL
    copy_page(p, old)
    put32(m, &m.pt[pgno], f)
    return p


cdef mm_frame *new_page(mm_map *m, uint32_t tree, uint8_t kind, uint8_t level, uint32_t *pgno) noexcept nogil:
    """A fresh, empty page of this commit. NULL as dirty()."""
    cdef uint64_t n = get64(m, &m.hot.page_free_head)
    cdef uint32_t f
    cdef mm_frame *p
    f = take(m)
    if f == 0:
        return NULL
    if n:
        if n >= get64(m, &m.hot.page_high) or (get32(m, &m.pt[n]) & MM_PT_BITS) != MM_PT_LINK:
            corrupt(m, <uint32_t>n, b"list of free page numbers is damaged")
            m.need = 0
            return NULL
        put64(m, &m.hot.page_free_head, get32(m, &m.pt[n]) & MM_PT_MASK)
        put64(m, &m.hot.page_free_count, get64(m, &m.hot.page_free_count) - 1)
    else:
        n = get64(m, &m.hot.page_high)
        if n >= m.hot.n_units or n >= m.cap_pages:      # the page table is published as far as there are units
            m.need = 64
            return NULL
        put64(m, &m.hot.page_high, n + 1)
    p = mm_frame_at(m, f)
    p.ver = m.building
    p.pgno = <uint32_t>n
    p.prev = 0
    p.next = 0
    p.retired = 0
    if note_dirty(m, <uint32_t>n, f, 0):
        return NULL
    memset(&p.tree, 0, 24)
    p.tree = tree
    p.kind = kind
    p.layout = 1
    p.level = level
    p.heap = MM_UNIT
    put32(m, &m.pt[n], f)
    pgno[0] = <uint32_t>n
    return p


cdef int free_page(mm_map *m, uint32_t pgno) noexcept nogil:
    """Free a page in this commit. Its versions stay until no snapshot needs them; then its number is free, too."""
    cdef mm_frame *p = current(m, pgno)
    cdef uint32_t i, f, old = 0
    if p == NULL:
        return MM_CORRUPT
    f = get32(m, &m.pt[pgno])
    if p.ver != m.building:
        if note_dirty(m, pgno, 0, f):
            return MM_NOMEM
        put32(m, &m.pt[pgno], f | MM_PT_FREED)
        return MM_OK
    i = m.n_dirty
    while i and m.dirty[i - 1].frame != f:
        i -= 1
    if i:                       # else it is of an earlier batch of a region that is being rebuilt: nobody has read it
        m.dirty[i - 1].frame = 0
        old = m.dirty[i - 1].old
    put32(m, &p.link, <uint32_t>get64(m, &m.hot.free_head))
    put64(m, &m.hot.free_head, f)
    put64(m, &m.hot.free_count, get64(m, &m.hot.free_count) + 1)
    if old:
        put32(m, &m.pt[pgno], old | MM_PT_FREED)
    else:
        put32(m, &m.pt[pgno], MM_PT_LINK | <uint32_t>get64(m, &m.hot.page_free_head))
        put64(m, &m.hot.page_free_head, pgno)
        put64(m, &m.hot.page_free_count, get64(m, &m.hot.page_free_count) + 1)
    return MM_OK


cdef void finish(mm_map *m) noexcept nogil:
    """All pages are whole: close their seqlocks, and note the stores that retire the versions they replace."""
    cdef uint32_t i, tail = <uint32_t>m.hot.limbo_tail, n = 0
    cdef mm_frame *p
    cdef mm_dirty *d
    for i in range(m.n_dirty):
        d = &m.dirty[i]
        if d.frame:
            p = mm_frame_at(m, d.frame)
            mm_st64(&p.gen, p.gen + 1)      # sync point: the reader's first load of gen
        if d.old:
            p = mm_frame_at(m, d.old)
            push(m, mm_off(m, &p.next), d.frame)
            push(m, mm_off(m, &p.retired) | 1, m.building)
            push(m, mm_off(m, &p.link), 0)
            if tail:
                push(m, mm_off(m, &mm_frame_at(m, tail).link), d.old)
            else:
                push(m, mm_off(m, &m.hot.limbo_head) | 1, d.old)
            tail = d.old
            n += 1
    if n:
        push(m, mm_off(m, &m.hot.limbo_tail) | 1, tail)
        push(m, mm_off(m, &m.hot.limbo_count) | 1, m.hot.limbo_count + n)


# ---------------------------------------------------------------------------------------------- recycling

cdef void scan_snapshots(mm_map *m) noexcept nogil:
    """Raise gc_floor to the newest commit, fence, then collect the announced snapshots into m.scan (any order).

    sync point: the announcing reader stores its word, fences, then loads gc_floor (procs.pyx, announce): either it sees
    the raised floor and takes a newer S, or its word is seen here.
    """
    cdef uint64_t w, c = m.hot.commit_seq
    cdef uint32_t i, high = mm_ld32(&(<mm_slots_head *>m.slots).snaps_high)
    cdef void *v
    if m.hot.gc_floor < c:
        mm_st64(&m.hot.gc_floor, c)
    mm_fence()
    m.n_scan = 0
    if high > m.n_snaps:
        high = m.n_snaps
    if m.cap_scan < high:
        v = realloc(m.scan, m.n_snaps * sizeof(uint64_t))
        if v == NULL:                   # no memory: treat every commit as needed
            m.n_scan = 0xffffffffU
            return
        m.scan = <uint64_t *>v
        m.cap_scan = m.n_snaps
    for i in range(high):
        w = mm_ld64(&m.snap[i])
        if ((w >> MM_SNAP_SHIFT) & 3) == MM_SNAP_ACTIVE:
            m.scan[m.n_scan] = w & MM_SNAP_S
            m.n_scan += 1


cdef int needed(const mm_map *m, uint64_t made, uint64_t retired) noexcept nogil:
    """Some announced snapshot sees what was made by `made` and retired by `retired`."""
    cdef uint32_t i
    if m.n_scan == 0xffffffffU:
        return 1
    for i in range(m.n_scan):
        if made <= m.scan[i] < retired:
            return 1
    return 0


cdef int unlink_frame(mm_map *m, uint32_t f, mm_frame *p) noexcept nogil:
    """Note the stores that take a retired frame out of its page's chain and put it on the free list."""
    cdef uint32_t newer = get32(m, &p.next), older = get32(m, &p.prev), n = p.pgno
    if n == 0 or n >= m.hot.page_high or (newer and not frame_known(m, newer)) or (older and not frame_known(m, older)):
        return corrupt(m, f, b"a retired frame's links leave the region")
    if newer:
        put32(m, &mm_frame_at(m, newer).prev, older)
    elif older:
        put32(m, &m.pt[n], older | MM_PT_FREED)
    else:
        put32(m, &m.pt[n], MM_PT_LINK | <uint32_t>get64(m, &m.hot.page_free_head))
        put64(m, &m.hot.page_free_head, n)
        put64(m, &m.hot.page_free_count, get64(m, &m.hot.page_free_count) + 1)
    if older:
        put32(m, &mm_frame_at(m, older).next, newer)
    put32(m, &p.link, <uint32_t>get64(m, &m.hot.free_head))
    put64(m, &m.hot.free_head, f)
    put64(m, &m.hot.free_count, get64(m, &m.hot.free_count) + 1)
    return MM_OK


cdef inline int seal_batch(mm_map *m, int always) noexcept nogil:
    cdef int st
    if m.buf.n < (1 if always else MM_DESC_STORES - 40):
        return MM_OK
    st = seal(m, m.hot.commit_seq)
    if st == MM_OK:
        st = roll_forward(m)
    begin(m)
    return st


cdef int collect(mm_map *m, int forced) noexcept nogil:
    """Recycle retired frames that no snapshot needs, in descriptors of their own. Under the commit lock, nothing being built.

    Not forced, it starts when the limbo list is long and leaves its youngest frames there. A frame that is still needed
    moves to the pinned list, which is looked at again, some frames at a time, when the oldest snapshot has changed.
    """
    cdef uint32_t f, i
    cdef uint64_t n, oldest
    cdef mm_frame *p
    cdef int st
    n = mm_ld64(&m.hot.limbo_count)         # once: what is asked is what is counted down
    if not forced:
        forced = reserve_low(m)
        if n < LIMBO_START and not forced:
            return MM_OK
    if n > m.cap_units:
        return corrupt(m, 0, b"more retired frames than units")
    scan_snapshots(m)
    begin(m)
    mm_fail(m, MM_FP_COLLECTING)
    if not forced:
        n -= LIMBO_KEEP
    while n:
        f = <uint32_t>get64(m, &m.hot.limbo_head)
        if not frame_known(m, f):
            return corrupt(m, f, b"limbo list leaves the region")
        p = mm_frame_at(m, f)
        f = next_of(m, p, &m.hot.limbo_head, &m.hot.limbo_tail, &m.hot.limbo_count)
        if f < m.seen_units:
            mm_prefetch(mm_frame_at(m, f))
        st = recycle(m, p)
        if st:
            return st
        n -= 1
    oldest = ~<uint64_t>0
    for i in range(m.n_scan if m.n_scan != 0xffffffffU else 0):
        if m.scan[i] < oldest:
            oldest = m.scan[i]
    n = get64(m, &m.hot.pinned_todo)
    if oldest != m.hot.pinned_floor:
        put64(m, &m.hot.pinned_floor, oldest)
        n = get64(m, &m.hot.pinned_count)
    if forced:
        n = get64(m, &m.hot.pinned_count)
    if n > m.cap_units:                     # who is still needed comes to the list's end, so a count alone would end this
        return corrupt(m, 0, b"more pinned frames than units")
    st = look_again(m, n, n if forced or n < PINNED_LOOK else PINNED_LOOK)
    return st if st else seal_batch(m, 1)


cdef int look_again(mm_map *m, uint64_t todo, uint64_t n) noexcept nogil:
    """Look at the first n pinned frames again; of `todo` the others are left for the next time."""
    cdef mm_frame *p
    cdef uint32_t f
    cdef int st
    if todo != get64(m, &m.hot.pinned_todo) or n:
        put64(m, &m.hot.pinned_todo, todo - n)
    while n:
        f = <uint32_t>get64(m, &m.hot.pinned_head)
        if not frame_known(m, f):
            return corrupt(m, f, b"pinned list leaves the region")
        p = mm_frame_at(m, f)
        next_of(m, p, &m.hot.pinned_head, &m.hot.pinned_tail, &m.hot.pinned_count)
        st = recycle(m, p)
        if st:
            return st
        n -= 1
    return MM_OK


cdef inline uint32_t next_of(mm_map *m, mm_frame *p, uint64_t *head, uint64_t *tail, uint64_t *count) noexcept nogil:
    """Note the stores that take a list's first frame off; the one that is first now."""
    cdef uint32_t f = get32(m, &p.link)
    put64(m, head, f)
    if f == 0:
        put64(m, tail, 0)
    put64(m, count, get64(m, count) - 1)
    return f


cdef int recycle(mm_map *m, mm_frame *p) noexcept nogil:
    """Free a retired frame that was taken off its list, or append it to the pinned list."""
    cdef uint32_t f = <uint32_t>((<uint8_t *>p - m.data) // MM_UNIT)
    cdef int st
    if needed(m, p.ver, p.retired):
        append_pinned(m, f, p)
    else:
        st = unlink_frame(m, f, p)
        if st:
            return st
    return seal_batch(m, 0)


cdef int reserve_low(const mm_map *m) noexcept nogil:
    """Half of what is kept for deletes is used, and the region cannot grow any more."""
    return m.hot.free_count < reserve(m) // 2 and m.hot.n_units >= m.cap_units


cdef void append_pinned(mm_map *m, uint32_t f, mm_frame *p) noexcept nogil:
    cdef uint32_t tail = <uint32_t>get64(m, &m.hot.pinned_tail)
    put32(m, &p.link, 0)
    if tail:
        put32(m, &mm_frame_at(m, tail).link, f)
    else:
        put64(m, &m.hot.pinned_head, f)
    put64(m, &m.hot.pinned_tail, f)
    put64(m, &m.hot.pinned_count, get64(m, &m.hot.pinned_count) + 1)
