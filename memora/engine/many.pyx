"""Many keys at one commit: the bytes that their reads will want are asked for beforehand, so that they come together.

A leaf and a cell are rarely in the processor's caches, and a read waits for one after the other. Whoever reads many keys first walks
the branches of all (expect_way), then looks where their cells lie (expect_entry), then reads: most of the waiting is done at once.

A commit of many changes does the same: while one is applied, the way of the fourth after it is walked, and the leaf of the second is asked
for whole, because it will be copied (Ahead).

READERS     These give numbers and touch nothing; whatever they return, find() judges it again. With an announced snapshot the leaf
            of a key at S stays its leaf.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.frames cimport Look, expect_leaf, expect_page, page_at, still_there
from memora.engine.layout cimport *
from memora.engine.overlay cimport Node
from memora.engine.page cimport child_at, search
from memora.engine.sync cimport *


cdef uint32_t expect_way(mm_map *m, uint64_t s, uint32_t root, uint32_t tree, const uint8_t *k, size_t kn, int *last) noexcept nogil:
    """The leaf of k at commit s, whose beginning is on its way; 0: somebody moved something, begin at the root. last: it is the tree's last."""
    cdef uint32_t pgno = root, i, level, depth
    cdef int found
    cdef Look look
    last[0] = 1
    for depth in range(MM_MAX_DEPTH):
        if page_at(m, s, pgno, &look) or look.page.tree != tree:
            last[0] = 0
            return 0
        level = look.page.level
        if level == 0:
            return pgno
        i = search(m, look.page, k, kn, &found)
        pgno = child_at(look.page, i + found)
        last[0] = last[0] and i + found == look.page.count
        if not still_there(&look):
            last[0] = 0
            return 0
        if level == 1:
            expect_leaf(m, pgno)
            return pgno
    return 0


cdef void expect_entry(mm_map *m, uint64_t s, uint32_t leaf, const uint8_t *k, size_t kn) noexcept nogil:
    """Ask for the cell of k in its leaf, as far as the heads of the slots tell which it is."""
    cdef Look look
    cdef const mm_slotent *slot
    cdef uint32_t lo = 0, hi, mid, head, prefix, off
    if leaf == 0 or page_at(m, s, leaf, &look):
        return
    prefix = mm_ld16(&look.page.prefix)
    hi = mm_ld16(&look.page.count)
    if hi > MM_MAX_SLOTS or prefix > kn or prefix > MM_KEY_INLINE:
        return
    head = mm_be32(k + prefix, (kn if kn < MM_KEY_INLINE else MM_KEY_INLINE) - prefix)
    slot = <const mm_slotent *>(<const uint8_t *>look.page + MM_HEAD)
    while lo < hi:
        mid = (lo + hi) >> 1
        if slot[mid].head < head:
            lo = mid + 1
        else:
            hi = mid
    off = slot[lo].off if lo < MM_MAX_SLOTS else 0
    if off < MM_UNIT:
        mm_prefetch(<const uint8_t *>look.page + off)
        mm_prefetch(<const uint8_t *>look.page + off + 64)
        mm_prefetch(<const uint8_t *>look.page + off + 128)


cdef void ahead_begin(Ahead *a, Node *first) noexcept nogil:
    a.node = first
    a.walked = a.asked = a.applied = 0
    a.whole = a.tree = a.last = 0


cdef void ahead_step(Ahead *a, mm_map *m, const TreeRef *refs, uint32_t n_refs) noexcept nogil:
    """One more change is about to be applied."""
    cdef Node *n
    cdef const TreeRef *t
    cdef uint32_t i, leaf
    cdef int last
    while a.node != NULL and a.walked < a.asked + AHEAD_WAYS:
        n = a.node
        a.node = n.next[0]
        leaf = 0
        if a.last and a.tree == n.tree:
            leaf = a.last
        else:
            a.tree = n.tree
            a.last = 0
            for i in range(n_refs):
                t = &refs[i]
                if t.tree == n.tree and not t.hashed and t.root:
                    leaf = expect_way(m, m.hot.commit_seq, t.root, t.tree, n.key, n.kn, &last)
                    a.last = leaf if last else 0
                    break
        a.leaf[a.walked % AHEAD_WAYS] = leaf
        a.walked += 1
    # asked runs AHEAD_PAGES before the change that is applied now
    while a.asked < a.walked and a.asked < a.applied + AHEAD_PAGES:
        leaf = a.leaf[a.asked % AHEAD_WAYS]
        if leaf and leaf != a.whole:
            expect_page(m, leaf)
            a.whole = leaf
        a.asked += 1
    a.applied += 1
