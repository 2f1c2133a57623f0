"""The slotted page: search, insert, delete on a raw pointer. No locks, no Python objects, nothing above the page.

LAYOUT      64 mm_frame | slots, growing up, sorted by key | free | heap of cells, growing down | prefix, at the page's end
            A slot holds the first four key bytes behind the prefix (its head): most comparisons end there.
            A key's first MM_KEY_INLINE bytes are in the page (less the prefix); the rest of a longer one is in an extent.
INVARIANTS  (1) Slots are strictly ascending by whole key.
            (2) Every key begins with the page's prefix: what the separators around the page share, or, in a page that is MM_PF_OPEN, what its
                keys happen to share. There a search compares the prefix, too, and a new key may shorten it. Pages at the edges of
                a tree, the root above all, would have no prefix otherwise, and heads that are all the same.
            (3) heap >= 64 + 8 * count; cells do not overlap; frag = bytes between heap and prefix that no cell uses.
READERS     may see torn bytes (frames.pyx): every offset and length is clamped to the page before it is followed, and every
            loop is bounded; what they return counts only after still_there().
WRITERS     work on private copies of pages, which may be damaged, too: nothing is read or written beyond the page, and a page that does not
            add up has no room.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove
from memora.engine.extents cimport extent_bytes
from memora.engine.layout cimport *
from memora.engine.sync cimport *


cdef inline uint32_t key_offset(const mm_frame *p, uint32_t off) noexcept nogil:
    """Where a cell's key begins."""
    if p.level:
        return off + 4
    return off + (10 if mm_ld16(<const uint8_t *>p + off) & MM_V_EXPIRY else 2)


cdef int compare(mm_map *m, const mm_frame *p, uint32_t i, const uint8_t *k, size_t kn) noexcept nogil:
    """Sign of (key of slot i) - k. Both behind the prefix."""
    cdef uint64_t s = mm_ld64r(&slots(p)[i])
    cdef uint32_t off = <uint32_t>(s >> 32) & 0xffff, kl = <uint32_t>(s >> 48), n = kl & MM_SLOT_KLEN
    cdef const mm_longref *ref
    cdef const uint8_t *rest
    cdef uint64_t rn
    cdef int c
    if off < MM_HEAD or off > MM_UNIT - 2:
        return 1
    off = key_offset(p, off)
    if off + n + (8 if kl & MM_SLOT_LONG else 0) > MM_UNIT:
        return 1
    c = memcmp(<const uint8_t *>p + off, k, n if n < kn else kn)
    if c:
        return c
    if not kl & MM_SLOT_LONG:
        return <int>(n > kn) - <int>(n < kn)
    if kn <= n:
        return 1
    ref = <const mm_longref *>(<const uint8_t *>p + off + n)
    rn = ref.klen
    if rn <= MM_KEY_INLINE or rn > MM_KEY_MAX:
        return 1
    rn -= MM_KEY_INLINE
    rest = extent_bytes(m, ref.granule, rn)
    if rest == NULL:
        return 1
    c = memcmp(rest, k + n, rn if rn < kn - n else kn - n)
    if c:
        return c
    return <int>(rn > kn - n) - <int>(rn < kn - n)


cdef uint32_t search(mm_map *m, const mm_frame *p, const uint8_t *k, size_t kn, int *found) noexcept nogil:
    """First slot whose key is >= k; found tells whether it is equal."""
    cdef uint32_t lo = 0, hi = mm_ld16(&p.count), mid, h, head, prefix = mm_ld16(&p.prefix)
    cdef int c
    cdef const mm_slotent *s = slots(p)
    found[0] = 0
    if hi > MM_MAX_SLOTS:
        hi = MM_MAX_SLOTS
    if p.flags & MM_PF_OPEN:
        if prefix > MM_KEY_INLINE:
            return 0                    # torn
        c = memcmp(<const uint8_t *>p + MM_UNIT - prefix, k, prefix if prefix < kn else kn)
        if c > 0 or c == 0 and kn < prefix:
            return 0
        if c < 0:
            return hi
    if prefix > kn:
        prefix = <uint32_t>kn
    k += prefix
    kn -= prefix
    # as add_entry makes heads: of the bytes that the page holds, which are few behind a long prefix
    head = mm_be32(k, kn if kn < MM_KEY_INLINE - prefix else MM_KEY_INLINE - prefix)
    while lo < hi:
        mid = (lo + hi) >> 1
        h = s[mid].head
        if h < head:
            lo = mid + 1
        elif h > head:
            hi = mid
        else:
            c = compare(m, p, mid, k, kn)
            if c < 0:
                lo = mid + 1
            else:
                hi = mid
                if c == 0:
                    found[0] = 1
                    return mid
    return lo


cdef uint32_t search_any(mm_map *m, const mm_frame *p, const uint8_t *k, size_t kn) noexcept nogil:
    """First slot whose key is >= k, for a key that need not lie between the page's separators: search() takes their promise for granted."""
    cdef uint32_t prefix = mm_ld16(&p.prefix)
    cdef int found, c
    if prefix <= MM_KEY_INLINE:
        c = memcmp(<const uint8_t *>p + MM_UNIT - prefix, k, prefix if prefix < kn else kn)
        if c > 0 or c == 0 and kn < prefix:
            return 0
        if c < 0:
            return mm_ld16(&p.count)
    return search(m, p, k, kn, &found)


cdef uint32_t child_at(const mm_frame *p, uint32_t i) noexcept nogil:
    """Child i of a branch: i = number of separators <= the key. 0: torn."""
    cdef uint32_t off
    if i == 0:
        return <uint32_t>mm_ld64r(&p.extra)
    if i > MM_MAX_SLOTS:
        return 0
    off = mm_ld16(&slots(p)[i - 1].off)
    if off < MM_HEAD or off > MM_UNIT - 4:
        return 0
    return mm_ld32(<const uint8_t *>p + off) if off & 3 == 0 else unaligned32(<const uint8_t *>p + off)


cdef inline uint32_t unaligned32(const uint8_t *p) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, p, 4)
    return v


cdef int value_at(const mm_frame *p, uint32_t i, Entry *e) noexcept nogil:
    """The value of leaf slot i: vinfo, expiry, val, vn. MM_MOVED when a length leaves the page (torn or damaged)."""
    cdef uint64_t s
    cdef uint32_t off, kl, vi
    if i >= MM_MAX_SLOTS:
        return MM_MOVED
    s = mm_ld64r(&slots(p)[i])
    off = <uint32_t>(s >> 32) & 0xffff
    kl = <uint32_t>(s >> 48)
    if off < MM_HEAD or off > MM_UNIT - 2:
        return MM_MOVED
    vi = mm_ld16(<const uint8_t *>p + off)
    off += 2
    e.vinfo = <uint16_t>vi
    e.expiry = 0
    if vi & MM_V_EXPIRY:
        if off > MM_UNIT - 8:
            return MM_MOVED
        memcpy(&e.expiry, <const uint8_t *>p + off, 8)
        off += 8
    off += kl & MM_SLOT_KLEN
    if kl & MM_SLOT_LONG:
        off += sizeof(mm_longref)
    e.vn = sizeof(mm_valref) if vi & MM_V_EXT else vi & MM_V_LEN
    if off + e.vn > MM_UNIT:
        return MM_MOVED
    e.val = <const uint8_t *>p + off
    return MM_OK


cdef int entry_at(const mm_frame *p, uint32_t i, uint8_t *keybuf, Entry *e) noexcept nogil:
    """Slot i with its key put together in keybuf (MM_KEY_INLINE bytes). MM_MOVED: torn or damaged."""
    cdef uint64_t s
    cdef uint32_t off, kl, n, prefix = mm_ld16(&p.prefix)
    if i >= MM_MAX_SLOTS:
        return MM_MOVED
    s = mm_ld64r(&slots(p)[i])
    off = <uint32_t>(s >> 32) & 0xffff
    kl = <uint32_t>(s >> 48)
    n = kl & MM_SLOT_KLEN
    e.child = 0
    e.expiry = 0
    e.vinfo = 0
    e.vn = 0
    e.val = NULL
    if off < MM_HEAD or off > MM_UNIT - (4 if p.level else 2) or prefix + n > MM_KEY_INLINE:
        return MM_MOVED
    if p.level == 0:
        if value_at(p, i, e):
            return MM_MOVED
    else:
        e.child = unaligned32(<const uint8_t *>p + off)
    off = key_offset(p, off)
    if off + n + sizeof(mm_longref) > MM_UNIT + (0 if kl & MM_SLOT_LONG else sizeof(mm_longref)):
        return MM_MOVED
    memcpy(keybuf, <const uint8_t *>p + MM_UNIT - prefix, prefix)
    memcpy(keybuf + prefix, <const uint8_t *>p + off, n)
    e.key = keybuf
    e.kn = prefix + n
    e.lg = 0
    e.lk = 0
    if kl & MM_SLOT_LONG:
        e.lg = unaligned32(<const uint8_t *>p + off + n)
        e.lk = unaligned32(<const uint8_t *>p + off + n + 4)
    return MM_OK


cdef int plain_at(const mm_frame *p, uint32_t i, uint8_t *keybuf, Entry *e) noexcept nogil:
    """entry_at() for the usual cell of a leaf: key, kn, val and vn; 0: it has an extent or an expiry, or leaves the page."""
    cdef uint64_t s
    cdef uint32_t off, kl, n, vi, prefix = mm_ld16(&p.prefix)
    if i >= MM_MAX_SLOTS:
        return 0
    s = mm_ld64r(&slots(p)[i])
    off = <uint32_t>(s >> 32) & 0xffff
    kl = <uint32_t>(s >> 48)
    n = kl & MM_SLOT_KLEN
    if kl & MM_SLOT_LONG or off < MM_HEAD or off > MM_UNIT - 2 or prefix + n > MM_KEY_INLINE:
        return 0
    vi = mm_ld16(<const uint8_t *>p + off)
    e.vn = vi & MM_V_LEN
    off += 2
    if vi & (MM_V_EXT | MM_V_EXPIRY) or off + n + e.vn > MM_UNIT:
        return 0
    if prefix:
        memcpy(keybuf, <const uint8_t *>p + MM_UNIT - prefix, prefix)
    memcpy(keybuf + prefix, <const uint8_t *>p + off, n)
    e.key = keybuf
    e.kn = prefix + n
    e.val = <const uint8_t *>p + off + n
    return 1


cdef uint32_t cell_bytes(const mm_frame *p, uint32_t i) noexcept nogil:
    """Bytes that slot i's cell takes in the heap; more than a page: it leaves it. Of private pages only."""
    cdef const mm_slotent *s = &slots(p)[i]
    cdef uint32_t n = (s.klen & MM_SLOT_KLEN) + (sizeof(mm_longref) if s.klen & MM_SLOT_LONG else 0)
    cdef uint32_t vi
    if s.off < MM_HEAD or s.off > MM_UNIT - 2:
        return 2 * MM_UNIT
    if p.level:
        return n + 4
    vi = mm_ld16(<const uint8_t *>p + s.off)
    return n + (10 if vi & MM_V_EXPIRY else 2) + (<uint32_t>sizeof(mm_valref) if vi & MM_V_EXT else vi & MM_V_LEN)


cdef uint32_t entry_bytes(const mm_frame *p, const Entry *e) noexcept nogil:
    """Bytes of heap that add_entry would take in this page (a slot of 8 comes on top)."""
    cdef uint32_t n = e.kn - p.prefix + (sizeof(mm_longref) if e.lk else 0)
    if p.level:
        return n + 4
    return n + (10 if e.expiry else 2) + e.vn


cdef uint32_t used_bytes(const mm_frame *p) noexcept nogil:
    """Slots and live cells."""
    return p.count * 8u + (MM_UNIT - p.prefix - p.heap) - p.frag


cdef void clear_page(mm_frame *p, uint8_t kind, uint8_t level, const uint8_t *prefix, uint32_t n) noexcept nogil:
    p.kind = kind
    p.level = level
    p.flags = 0
    p.count = 0
    p.frag = 0
    p.prefix = <uint16_t>n
    p.heap = <uint16_t>(MM_UNIT - n)
    p.extra = 0
    if n:
        memmove(<uint8_t *>p + MM_UNIT - n, prefix, n)


cdef int compact(mm_frame *p) noexcept nogil:
    """Write the cells anew, without gaps. 0, or -1: they are not in the page, or do not fit (nothing changed)."""
    cdef uint8_t heap[4096]
    cdef uint16_t off[MM_MAX_SLOTS]
    cdef uint32_t i, n, end = MM_UNIT - p.prefix, top = end, low = MM_HEAD + 8u * p.count
    cdef mm_slotent *s = <mm_slotent *>slots(p)
    if p.count > MM_MAX_SLOTS or p.prefix > MM_KEY_INLINE:
        return -1
    for i in range(p.count):
        n = cell_bytes(p, i)
        if low + n > top or s[i].off + n > MM_UNIT:
            return -1
        top -= n
        memcpy(heap + top, <uint8_t *>p + s[i].off, n)
        off[i] = <uint16_t>top
    for i in range(p.count):
        s[i].off = off[i]
    memcpy(<uint8_t *>p + top, heap + top, end - top)
    p.heap = <uint16_t>top
    p.frag = 0
    return 0


cdef int add_entry(mm_frame *p, uint32_t i, const Entry *e) noexcept nogil:
    """Put an entry at slot i of a private page. 0, or -1: no room, or the page is damaged (no entry changed)."""
    cdef uint32_t need = entry_bytes(p, e), n = e.kn - p.prefix, top
    cdef uint32_t low = MM_HEAD + 8u * (p.count + 1u)
    cdef mm_slotent *s = <mm_slotent *>slots(p)
    cdef uint8_t *c
    if low + need > <uint32_t>p.heap + p.frag or p.heap > MM_UNIT or e.kn < p.prefix or i > p.count:
        return -1
    if low + need > p.heap and (compact(p) or low + need > p.heap):
        return -1
    top = p.heap - need
    c = <uint8_t *>p + top
    memmove(&s[i + 1], &s[i], 8u * (p.count - i))
    s[i].head = mm_be32(e.key + p.prefix, n)
    s[i].off = <uint16_t>top
    s[i].klen = <uint16_t>(n | (MM_SLOT_LONG if e.lk else 0))
    if p.level:
        memcpy(c, &e.child, 4)
        c += 4
    else:
        memcpy(c, &e.vinfo, 2)
        c += 2
        if e.expiry:
            memcpy(c, &e.expiry, 8)
            c += 8
            if p.kind == MM_KIND_LEAF and (p.extra == 0 or e.expiry < p.extra):
                p.extra = e.expiry
    memcpy(c, e.key + p.prefix, n)
    c += n
    if e.lk:
        memcpy(c, &e.lg, 4)
        memcpy(c + 4, &e.lk, 4)
        c += 8
    if p.level == 0:
        memcpy(c, e.val, e.vn)
    p.heap = <uint16_t>top
    p.count += 1
    return 0


cdef uint32_t common(const uint8_t *a, uint32_t an, const uint8_t *b, uint32_t bn) noexcept nogil:
    """Length of what two keys share at their beginning."""
    cdef uint32_t i = 0, n = an if an < bn else bn
    while i < n and a[i] == b[i]:
        i += 1
    return i


cdef int belongs(const mm_frame *p, const Entry *e) noexcept nogil:
    """The key begins with the page's prefix. Always so where the separators promise it."""
    return not p.flags & MM_PF_OPEN or p.prefix <= MM_KEY_INLINE and e.kn >= p.prefix and memcmp(<const uint8_t *>p + MM_UNIT - p.prefix, e.key, p.prefix) == 0


cdef int reprefix(mm_frame *p, uint32_t n) noexcept nogil:
    """Write a private page anew with the first n bytes of its keys, which all share, as an open prefix. There is room. -1: it is damaged."""
    cdef uint8_t copybuf[4096]
    cdef uint8_t kb[384]
    cdef const mm_frame *copy = <const mm_frame *>copybuf
    cdef Entry e
    cdef uint32_t i
    if p.prefix > MM_KEY_INLINE:
        return -1
    memcpy(copybuf, p, MM_UNIT)
    if n > copy.prefix:
        if entry_at(copy, 0, kb, &e):
            return -1
        clear_page(p, copy.kind, copy.level, kb, n)
    else:
        clear_page(p, copy.kind, copy.level, copybuf + MM_UNIT - copy.prefix, n)
    p.flags = MM_PF_OPEN
    if copy.level:
        p.extra = copy.extra
    for i in range(copy.count):
        if entry_at(copy, i, kb, &e) or add_entry(p, i, &e):
            return -1
    return 0


cdef int tighten(mm_frame *p, const Entry *e) noexcept nogil:
    """Take what the keys of a private page and a new one share as the prefix, if that is worth it. 1: done."""
    cdef uint8_t b1[384]
    cdef uint8_t b2[384]
    cdef Entry first, last
    cdef uint32_t n
    if p.count < 2 or entry_at(p, 0, b1, &first) or entry_at(p, p.count - 1u, b2, &last):
        return 0
    n = common(b1, common(b1, first.kn, b2, last.kn), e.key, e.kn)
    return n >= p.prefix + PREFIX_WORTH and reprefix(p, n) == 0


cdef int insert_entry(mm_frame *p, uint32_t i, const Entry *e) noexcept nogil:
    """add_entry, with a prefix that fits: an open one is shortened for a key that does not share it, and one that could be longer
    is looked for when the page has 8, 16, 32... entries, and when it is full. 0, or -1: no room."""
    cdef uint32_t n
    if p.prefix > MM_KEY_INLINE:
        return -1
    if not belongs(p, e):
        n = common(<const uint8_t *>p + MM_UNIT - p.prefix, p.prefix, e.key, e.kn)
        if MM_HEAD + n + used_bytes(p) + (p.count + 1u) * (p.prefix - n) + entry_bytes(p, e) + 8 > MM_UNIT or reprefix(p, n):
            return -1
    elif p.count >= 8 and p.count & (p.count - 1u) == 0:
        tighten(p, e)
    if add_entry(p, i, e) == 0:
        return 0
    return add_entry(p, i, e) if tighten(p, e) else -1


cdef int is_newest(const mm_frame *p, uint32_t i) noexcept nogil:
    """Slot i was added last, as far as the page can tell: its cell is the lowest."""
    return slots(p)[i].off == p.heap


cdef void drop_entry(mm_frame *p, uint32_t i) noexcept nogil:
    """Take slot i out of a private page."""
    cdef mm_slotent *s = <mm_slotent *>slots(p)
    cdef uint32_t n
    if i >= p.count or p.count > MM_MAX_SLOTS:
        return
    n = cell_bytes(p, i)
    if s[i].off == p.heap:
        p.heap += <uint16_t>n
    else:
        p.frag += <uint16_t>n
    memmove(&s[i], &s[i + 1], 8u * (p.count - i - 1u))
    p.count -= 1
    if p.count == 0:
        p.heap = <uint16_t>(MM_UNIT - p.prefix)
        p.frag = 0
        if p.kind == MM_KIND_LEAF:
            p.extra = 0
