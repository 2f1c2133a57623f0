"""The B+tree: memcomparable keys to values, over pages that commits copy.

LAYOUT      The root's page number is fixed for the tree's life: when the root splits, its content moves into two new pages.
            Branch: leftmost child in `extra`, then (separator, child): keys >= separator go to child. No sibling links: a
            scan keeps its path (cursor.pyx). Values over MM_CELL_INLINE (with their key) and keys over MM_KEY_INLINE go on in
            extents. A page's prefix is what the separators around it share, so no page stores fences; at the edges, where
            one is missing, it is what the keys share (MM_PF_OPEN, page.pyx).
INVARIANTS  (1) All leaves have the same depth. (2) A child's keys lie between the separators around it.
            (3) A split or a merge makes a new version of every leaf whose key range changes, also when no entry moves.
            (4) Each extent is referred to by exactly one cell.
WRITERS     locate, then put_at or delete_at on that path; all on private copies (frames.dirty), so any failure just drops them.
            Separators are cut to the shortest that divides. Pages under a quarter full merge with a neighbour when both fit in
            three quarters of a page; an empty leaf always does.
READERS     find() at one S; see frames.pyx for what must be checked after it.
SOURCE      Bayer and Unterauer, Prefix B-trees (TODS 1977); slot heads after Graefe and Larson (ICDE 2001).
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from memora.engine.extents cimport extent_bytes, new_extent, retire_extent, retire_logged
from memora.engine.frames cimport Look, corrupt, current, dirty, expect_leaf, expect_page, free_page, new_page, page_at, still_there
from memora.engine.layout cimport *
from memora.engine.page cimport (PREFIX_WORTH, Entry, add_entry, belongs, cell_bytes, child_at, clear_page, common, drop_entry, entry_at, entry_bytes,
                                 insert_entry, is_newest, search, used_bytes, value_at)
from memora.engine.sync cimport *


# ---------------------------------------------------------------------------------------------- readers

cdef int find(mm_map *m, uint64_t s, uint32_t root, uint32_t tree, const uint8_t *k, size_t kn, Look *look, uint32_t *slot) noexcept nogil:
    """The leaf of k at commit s and the slot where it is (MM_FOUND) or would be (MM_ABSENT). To be validated by the caller.

    MM_NO_TREE: the root holds another tree. look.hopped tells of any page on the way.
    """
    cdef uint32_t pgno = root, i
    cdef int st, found, hopped = 0, depth
    cdef const mm_frame *p
    for depth in range(MM_MAX_DEPTH):
        st = page_at(m, s, pgno, look)
        if st:
            return st
        hopped |= look.hopped
        p = look.page
        if p.tree != tree:
            return MM_NO_TREE if depth == 0 and still_there(look) else MM_MOVED
        i = search(m, p, k, kn, &found)
        if p.level == 0:
            look.hopped = hopped
            look.seen = pgno
            slot[0] = i
            return MM_FOUND if found else MM_ABSENT
        pgno = child_at(p, i + found)
        if p.level == 1:
            expect_leaf(m, pgno)
        if not still_there(look):       # before the child's number is used
            return MM_MOVED
    return MM_MOVED


cdef int64_t entries_about(mm_map *m, uint64_t s, uint32_t root, uint32_t tree) noexcept nogil:
    """How many entries a tree has, guessed from the pages in the middle of each level; -1: they moved. Nobody needs to validate a guess."""
    cdef uint32_t pgno = root, depth, count
    cdef int64_t product = 1
    cdef Look look
    for depth in range(MM_MAX_DEPTH):
        if page_at(m, s, pgno, &look) or look.page.tree != tree:
            return -1
        count = mm_ld16(&look.page.count)
        if look.page.level == 0:
            return product * count if still_there(&look) else -1
        if count > MM_MAX_SLOTS:
            return -1
        pgno = child_at(look.page, (count + 1) // 2)
        if not still_there(&look):
            return -1
        product *= count + 1
    return -1


cdef int fences(mm_map *m, uint64_t s, uint32_t root, uint32_t tree, const mm_frame *leaf, uint32_t pgno, Entry *lo, uint8_t *lobuf, Entry *hi,
                uint8_t *hibuf) noexcept nogil:
    """The separators around a leaf at an announced commit s; kn = 0xffffffffU: none on that side. MM_CONFLICT: it is not where its keys lead."""
    cdef uint8_t kb[384]
    cdef Entry e
    cdef Look look
    cdef uint32_t at = root, depth, i
    cdef int found
    lo.kn = hi.kn = 0xffffffffU
    lo.lk = hi.lk = 0
    if pgno == root:
        return MM_OK
    if entry_at(leaf, 0, kb, &e) or e.lk or leaf.count == 0:
        return MM_CONFLICT
    for depth in range(MM_MAX_DEPTH):
        if page_at(m, s, at, &look) or look.page.tree != tree:
            return MM_CONFLICT
        if look.page.level == 0:
            return MM_OK if at == pgno else MM_CONFLICT
        i = search(m, look.page, kb, e.kn, &found)
        i += found
        if i and entry_at(look.page, i - 1, lobuf, lo) or i < look.page.count and entry_at(look.page, i, hibuf, hi):
            return MM_CONFLICT
        at = child_at(look.page, i)
    return MM_CONFLICT


cdef int value_bytes(mm_map *m, const Entry *e, const uint8_t **v, uint64_t *vn) noexcept nogil:
    """Where the entry's value lies. MM_MOVED: outside the region (torn or damaged)."""
    cdef mm_valref ref
    if not e.vinfo & MM_V_EXT:
        v[0] = e.val
        vn[0] = e.vn
        return MM_OK
    memcpy(&ref, e.val, sizeof(ref))
    v[0] = extent_bytes(m, ref.granule, ref.nbytes)
    vn[0] = ref.nbytes
    return MM_OK if v[0] != NULL else MM_MOVED


# ---------------------------------------------------------------------------------------------- writers

cdef int lack(const mm_map *m) noexcept nogil:
    """Why a page or frame was refused (NULL)."""
    if m.buf.failed:
        return MM_NOMEM
    return MM_NEED_FRAMES if m.need else MM_CORRUPT


cdef int locate(mm_map *m, uint32_t root, uint32_t tree, const uint8_t *k, size_t kn, Path *path) noexcept nogil:
    cdef uint32_t pgno = root, i, depth
    cdef int found
    cdef mm_frame *p
    path.tree = tree
    for depth in range(MM_MAX_DEPTH):
        p = current(m, pgno)
        if p == NULL:
            return MM_NO_TREE if depth == 0 else MM_CORRUPT
        if p.tree != tree:
            if depth == 0:
                return MM_NO_TREE
            m.corrupt_page = pgno
            m.corrupt_what = b"a branch leads to a page of another tree"
            return MM_CORRUPT
        i = search(m, p, k, kn, &found)
        path.pgno[depth] = pgno
        path.depth = depth
        if p.level == 0:
            path.idx[depth] = i
            path.found = found
            return MM_OK
        path.idx[depth] = i + found
        pgno = child_at(p, i + found)
        if p.level == 1:
            expect_leaf(m, pgno)
            expect_page(m, pgno)        # it will be copied
    m.corrupt_page = pgno
    m.corrupt_what = b"tree deeper than 16"
    return MM_CORRUPT


cdef int locate_next(mm_map *m, uint32_t root, uint32_t tree, const uint8_t *k, size_t kn, Path *path) noexcept nogil:
    """locate() of a key behind the one whose path this is; nothing was removed since, but pages may have been written and split."""
    cdef uint32_t d = path.depth, i
    cdef int inside = 0, found
    cdef mm_frame *p = current(m, path.pgno[d])
    cdef mm_frame *above
    if path.tree != tree or path.pgno[0] != root or p == NULL or p.tree != tree or p.level:
        return locate(m, root, tree, k, kn, path)
    while d:
        d -= 1
        above = current(m, path.pgno[d])
        i = path.idx[d]
        if above == NULL or above.tree != tree or above.level != path.depth - d or i > above.count or child_at(above, i) != path.pgno[d + 1]:
            return locate(m, root, tree, k, kn, path)
        if not inside and i < above.count:          # else the separator that ends it stands further up, if there is one
            if search(m, above, k, kn, &found) + found != i:
                return locate(m, root, tree, k, kn, path)
            inside = 1
    path.idx[path.depth] = search(m, p, k, kn, &path.found)
    return MM_OK


cdef int leftmost(mm_map *m, uint32_t root, uint32_t tree, Path *path) noexcept nogil:
    """The path to slot 0 of the first leaf."""
    return locate(m, root, tree, <const uint8_t *>b"", 0, path)


cdef int step_leaf(mm_map *m, Path *path) noexcept nogil:
    """Move a path to slot 0 of the next leaf. MM_ABSENT: there is none."""
    cdef uint32_t d = path.depth, pgno
    cdef mm_frame *p
    while d:
        d -= 1
        p = current(m, path.pgno[d])
        if p == NULL:
            return MM_CORRUPT
        if path.idx[d] < p.count:
            path.idx[d] += 1
            pgno = child_at(p, path.idx[d])
            while d < path.depth:
                d += 1
                p = current(m, pgno)
                if p == NULL or p.tree != path.tree or (p.level == 0) != (d == path.depth):
                    return corrupt(m, pgno, b"a branch leads to a page that does not belong there")
                path.pgno[d] = pgno
                path.idx[d] = 0
                pgno = child_at(p, 0) if p.level else 0
            return MM_OK
    return MM_ABSENT


cdef int retire_value(mm_map *m, const Entry *e) noexcept nogil:
    cdef mm_valref ref
    if e.vinfo & MM_V_EXT:
        memcpy(&ref, e.val, sizeof(ref))
        return retire_logged(m, ref.granule)
    return MM_OK


cdef int set_key(mm_map *m, uint32_t tree, Entry *e, const uint8_t *k, size_t kn) noexcept nogil:
    """Fill the entry's key; the rest of a long one goes into a new extent."""
    cdef mm_extent *x
    e.key = k
    e.kn = <uint32_t>(kn if kn <= MM_KEY_INLINE else MM_KEY_INLINE)
    e.lg = 0
    e.lk = 0
    if kn > MM_KEY_INLINE:
        x = new_extent(m, tree, kn - MM_KEY_INLINE, &e.lg)
        if x == NULL:
            return MM_NEED_EXTENT if m.need else MM_CORRUPT
        memcpy(<uint8_t *>x + sizeof(mm_extent), k + MM_KEY_INLINE, kn - MM_KEY_INLINE)
        e.lk = <uint32_t>kn
    return MM_OK


cdef int place_value(mm_map *m, uint32_t tree, size_t kn, const uint8_t *v, uint64_t vn) noexcept nogil:
    """If the value does not fit beside its key, it gets an extent, which set_value() will use: m.ready. One that is there was filled before."""
    cdef mm_extent *x
    cdef uint32_t granule
    if kn + vn <= MM_CELL_INLINE or vn <= sizeof(mm_valref) or m.ready:
        return MM_OK
    x = new_extent(m, tree, vn, &granule)
    if x == NULL:
        return MM_NEED_EXTENT if m.need else MM_CORRUPT
    memcpy(<uint8_t *>x + sizeof(mm_extent), v, vn)
    m.ready = granule
    return MM_OK


cdef int set_value(mm_map *m, uint32_t tree, Entry *e, mm_valref *ref, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry) noexcept nogil:
    """Fill the entry's value and expiry; one that is too long for a page goes into a new extent, and ref tells where."""
    cdef mm_extent *x
    e.child = 0
    e.expiry = expiry
    if kn + vn <= MM_CELL_INLINE or vn <= sizeof(mm_valref):
        e.vinfo = <uint16_t>vn
        e.val = v
        e.vn = <uint32_t>vn
    else:
        st = place_value(m, tree, kn, v, vn)
        if st:
            return st
        ref.granule = m.ready
        m.ready = 0
        ref.pad = 0
        ref.nbytes = vn
        e.vinfo = MM_V_EXT
        e.val = <const uint8_t *>ref
        e.vn = sizeof(mm_valref)
    if expiry:
        e.vinfo |= MM_V_EXPIRY
    return MM_OK


cdef int same_size(const Entry *e, const Entry *old) noexcept nogil:
    """The value's bytes, inline or the reference, can take the old one's place in its cell."""
    return e.vinfo == old.vinfo and e.vn == old.vn and e.expiry == old.expiry


cdef void keep_key(Entry *e, const Entry *old, const uint8_t *k, size_t kn) noexcept nogil:
    """Fill the entry's key when it replaces `old`, of the same key: the rest of a long one stays where it is."""
    e.key = k
    e.kn = <uint32_t>(kn if kn <= MM_KEY_INLINE else MM_KEY_INLINE)
    e.lg = 0
    e.lk = 0
    if kn > MM_KEY_INLINE:
        memcpy(&e.lg, old.val - 8, 4)
        e.lk = <uint32_t>kn


cdef int put_at(mm_map *m, Path *path, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry) noexcept nogil:
    """Insert the key at the path's slot, or replace the value there (path.found). The path is used up."""
    cdef mm_frame *p = dirty(m, path.pgno[path.depth])
    cdef uint32_t i = path.idx[path.depth]
    cdef Entry e, old
    cdef mm_valref ref
    cdef int st
    if p == NULL:
        return lack(m)
    if path.found:
        if value_at(p, i, &old):
            m.corrupt_page = path.pgno[path.depth]
            m.corrupt_what = b"a cell leaves its page"
            return MM_CORRUPT
        st = retire_value(m, &old)
        if st:
            return st
    st = set_value(m, path.tree, &e, &ref, kn, v, vn, expiry)
    if st:
        return st
    if path.found:
        if same_size(&e, &old):
            memcpy(<void *>old.val, e.val, e.vn)    # in place, the copy is private
            return MM_OK
        keep_key(&e, &old, k, kn)
        drop_entry(p, i)
    else:
        st = set_key(m, path.tree, &e, k, kn)
        if st:
            return st
    if insert_entry(p, i, &e) == 0:
        return MM_OK
    return split(m, path, path.depth, i, &e)


cdef void bounds(mm_map *m, const Path *path, uint32_t d, Entry *lo, uint8_t *lobuf, Entry *hi, uint8_t *hibuf) noexcept nogil:
    """The separators around the page at depth d of the path; kn = 0xffffffffU: none on that side."""
    cdef uint32_t j = d, i
    cdef mm_frame *p
    lo.kn = 0xffffffffU
    hi.kn = 0xffffffffU
    while j:
        j -= 1
        p = current(m, path.pgno[j])
        if p == NULL:
            return
        i = path.idx[j]
        if lo.kn == 0xffffffffU and i > 0:
            entry_at(p, i - 1, lobuf, lo)
        if hi.kn == 0xffffffffU and i < p.count:
            entry_at(p, i, hibuf, hi)


cdef uint32_t shared(const Entry *lo, const Entry *hi) noexcept nogil:
    """Length of the prefix of a page between two separators."""
    if lo.kn == 0xffffffffU or hi.kn == 0xffffffffU:
        return 0
    return common(lo.key, lo.kn, hi.key, hi.kn)


cdef int divide(mm_map *m, uint32_t tree, const Entry *left, const Entry *right, Entry *sep, uint8_t *sepbuf) noexcept nogil:
    """The shortest separator with left < sep <= right, as an entry without child."""
    cdef uint32_t c = common(left.key, left.kn, right.key, right.kn)
    cdef const uint8_t *rest
    cdef mm_extent *x
    sep.lg = 0
    sep.lk = 0
    sep.expiry = 0
    sep.vinfo = 0
    sep.vn = 0
    sep.val = NULL
    sep.key = sepbuf
    if c < right.kn:
        memcpy(sepbuf, right.key, c + 1)
        sep.kn = c + 1
        return MM_OK
    # equal as far as pages hold them: the separator is the whole right key, with an extent of its own
    memcpy(sepbuf, right.key, right.kn)
    sep.kn = right.kn
    if right.lk:
        rest = extent_bytes(m, right.lg, right.lk - MM_KEY_INLINE)
        if rest == NULL:
            m.corrupt_page = right.lg
            m.corrupt_what = b"the rest of a key lies outside the region"
            return MM_CORRUPT
        x = new_extent(m, tree, right.lk - MM_KEY_INLINE, &sep.lg)
        if x == NULL:
            return MM_NEED_EXTENT if m.need else MM_CORRUPT
        memcpy(<uint8_t *>x + sizeof(mm_extent), rest, right.lk - MM_KEY_INLINE)
        sep.lk = right.lk
    return MM_OK


cdef inline int nth(const mm_frame *copy, uint32_t pos, const Entry *fresh, uint32_t i, uint8_t *buf, Entry *e) noexcept nogil:
    """Entry i of the old page with the fresh one put in at pos."""
    if i == pos:
        e[0] = fresh[0]
        return MM_OK
    return entry_at(copy, i if i < pos else i - 1, buf, e)


cdef int clear_half(mm_frame *half, const mm_frame *copy, uint32_t pos, const Entry *fresh, uint32_t start, uint32_t stop,
                    const Entry *lo, const Entry *hi) noexcept nogil:
    """Empty the page that takes entries start to stop of a split one, with the prefix that its separators promise: a longer, open one
    if a separator is missing, or if the entries would not fit. -1: damaged."""
    cdef uint8_t b1[384]
    cdef uint8_t b2[384]
    cdef Entry first, last
    cdef uint32_t promised = shared(lo, hi), found = promised, size = MM_HEAD + promised, i
    cdef uint8_t level = copy.level
    if start < stop:
        if nth(copy, pos, fresh, start, b1, &first) or nth(copy, pos, fresh, stop - 1, b2, &last):
            return -1
        found = common(first.key, first.kn, last.key, last.kn)
    for i in range(start, stop):
        size += (entry_bytes(copy, fresh) if i == pos else cell_bytes(copy, i if i < pos else i - 1)) + copy.prefix - promised + 8
    if size > MM_UNIT or (lo.kn == 0xffffffffU or hi.kn == 0xffffffffU) and stop - start >= 8 and found >= promised + PREFIX_WORTH:
        clear_page(half, copy.kind, level, first.key, found)
        half.flags = MM_PF_OPEN
    else:
        clear_page(half, copy.kind, level, lo.key if promised else NULL, promised)
    return 0


cdef int split(mm_map *m, Path *path, uint32_t d, uint32_t pos, const Entry *fresh) noexcept nogil:
    """Divide the full page at depth d in two and put the fresh entry where it belongs; the parents follow."""
    cdef uint8_t copybuf[4096]
    cdef uint8_t b1[384]
    cdef uint8_t b2[384]
    cdef uint8_t sb[384]
    cdef uint8_t lob[384]
    cdef uint8_t hib[384]
    cdef mm_frame *copy = <mm_frame *>copybuf
    cdef mm_frame *p = dirty(m, path.pgno[d])
    cdef mm_frame *left
    cdef mm_frame *right
    cdef mm_frame *parent
    cdef Entry e, f, sep, lo, hi
    cdef uint32_t n, mid, i, total, acc, size, leftno, rightno
    cdef uint8_t level
    cdef int st, ordered
    if p == NULL:
        return lack(m)
    memcpy(copybuf, p, MM_UNIT)
    level = copy.level
    n = copy.count + 1u
    bounds(m, path, d, &lo, lob, &hi, hib)
    # where to cut: in the middle by bytes, or behind everything when rows are being appended
    if pos == copy.count and hi.kn == 0xffffffffU and level == 0:
        mid = n - 1
    elif not belongs(copy, fresh):      # it would lengthen all others: alone on its side, they keep what they share
        mid = 1 if pos == 0 else n - 1 if level == 0 else n - 2
    else:
        ordered = level == 0 and pos and is_newest(copy, pos - 1)   # rows are added in order: they stay together
        total = used_bytes(copy) + entry_bytes(copy, fresh) + 8
        acc = 0
        mid = 0
        while mid < n - 1:
            size = (entry_bytes(copy, fresh) if mid == pos else cell_bytes(copy, mid if mid < pos else mid - 1)) + 8
            if mid > 0 and acc + size // 2 >= total // 2:
                if not ordered or mid > pos or mid == pos and MM_HEAD + acc + size + copy.prefix > MM_UNIT:
                    break
            acc += size
            mid += 1
        if mid == 0:
            mid = 1
    if nth(copy, pos, fresh, mid - 1, b1, &e) or nth(copy, pos, fresh, mid, b2, &f):
        m.corrupt_page = path.pgno[d]
        m.corrupt_what = b"a cell leaves its page"
        return MM_CORRUPT
    if level == 0:
        st = divide(m, path.tree, &e, &f, &sep, sb)
        if st:
            return st
    else:
        sep = f                         # the middle separator moves up
        memcpy(sb, f.key, f.kn)
        sep.key = sb
    right = new_page(m, path.tree, copy.kind, level, &rightno)
    if right == NULL:
        return lack(m)
    if d == 0:
        left = new_page(m, path.tree, copy.kind, level, &leftno)
        if left == NULL:
            return lack(m)
    else:
        left = p
        leftno = path.pgno[d]
    if clear_half(left, copy, pos, fresh, 0, mid, &lo, &sep) or clear_half(right, copy, pos, fresh, mid + 1 if level else mid, n, &sep, &hi):
        m.corrupt_page = path.pgno[d]
        m.corrupt_what = b"a cell leaves its page"
        return MM_CORRUPT
    if level:
        left.extra = copy.extra
        right.extra = sep.child
    for i in range(n):
        if level and i == mid:
            continue
        if nth(copy, pos, fresh, i, b1, &e):
            m.corrupt_page = path.pgno[d]
            m.corrupt_what = b"a cell leaves its page"
            return MM_CORRUPT
        if add_entry(left if i < mid else right, left.count if i < mid else right.count, &e):
            m.corrupt_page = path.pgno[d]
            m.corrupt_what = b"the halves of a page do not fit"
            return MM_CORRUPT
    sep.child = rightno
    if d == 0:
        clear_page(p, MM_KIND_BRANCH, level + 1, NULL, 0)
        p.extra = leftno
        add_entry(p, 0, &sep)
        return MM_OK
    parent = dirty(m, path.pgno[d - 1])
    if parent == NULL:
        return lack(m)
    i = path.idx[d - 1]
    if insert_entry(parent, i, &sep) == 0:
        return MM_OK
    return split(m, path, d - 1, i, &sep)


cdef int delete_at(mm_map *m, Path *path) noexcept nogil:
    """Remove the entry at the path's slot. The path is used up."""
    cdef mm_frame *p = dirty(m, path.pgno[path.depth])
    cdef uint8_t kb[384]
    cdef Entry e
    cdef int st
    if p == NULL:
        return lack(m)
    if entry_at(p, path.idx[path.depth], kb, &e):
        m.corrupt_page = path.pgno[path.depth]
        m.corrupt_what = b"a cell leaves its page"
        return MM_CORRUPT
    st = retire_value(m, &e)
    if st == MM_OK and e.lk:
        st = retire_extent(m, e.lg)
    if st:
        return st
    drop_entry(p, path.idx[path.depth])
    if path.depth and used_bytes(p) < MM_UNIT // 4:
        return merge(m, path, path.depth)
    return MM_OK


cdef int merge(mm_map *m, Path *path, uint32_t d) noexcept nogil:
    """Join the thin page at depth d with a neighbour under the same parent, if both fit into three quarters of a page, or if
    one is an empty leaf: the other page is then taken as it is."""
    cdef uint8_t kb[384]
    cdef uint8_t sb[384]
    cdef uint8_t lob[384]
    cdef uint8_t hib[384]
    cdef uint8_t copybuf[4096]
    cdef mm_frame *parent = current(m, path.pgno[d - 1])
    cdef mm_frame *a
    cdef mm_frame *b
    cdef mm_frame *copy = <mm_frame *>copybuf
    cdef uint32_t i = path.idx[d - 1], ano, bno, j, prefix, total
    cdef Entry lo, hi, sep, e
    cdef uint32_t keep = path.idx[d - 1]
    cdef int st = 0, empty
    if parent == NULL:
        return MM_CORRUPT
    if parent.count == 0:
        return MM_OK
    if i == parent.count:
        i -= 1
    ano = child_at(parent, i)
    bno = child_at(parent, i + 1)
    a = current(m, ano)
    b = current(m, bno)
    if a == NULL or b == NULL:
        return MM_CORRUPT
    if entry_at(parent, i, sb, &sep):
        m.corrupt_page = path.pgno[d - 1]
        m.corrupt_what = b"a cell leaves its page"
        return MM_CORRUPT
    path.idx[d - 1] = i
    bounds(m, path, d, &lo, lob, &hi, hib)          # lo of a ...
    path.idx[d - 1] = i + 1
    e = lo
    bounds(m, path, d, &sep, kb, &hi, hib)          # ... and hi of b
    entry_at(parent, i, sb, &sep)
    path.idx[d - 1] = keep
    lo = e
    if lo.kn != 0xffffffffU:
        lo.key = lob
    prefix = shared(&lo, &hi)
    # entries grow by what the prefix loses
    total = used_bytes(a) + used_bytes(b) + a.count * (a.prefix - prefix) + b.count * (b.prefix - prefix) + prefix
    if a.level:
        total += sep.kn - prefix + 4 + 8 + 8
    empty = a.level == 0 and (a.count == 0 or b.count == 0)
    if total > MM_UNIT * 3 // 4 and not empty:
        return MM_OK
    a = dirty(m, ano)
    if a == NULL:
        return lack(m)
    b = current(m, bno)
    parent = dirty(m, path.pgno[d - 1])
    if b == NULL or parent == NULL:
        return lack(m)
    memcpy(copybuf, a, MM_UNIT)
    if empty:
        if a.count == 0:
            memcpy(&a.kind, &b.kind, MM_UNIT - 44)
        if a.prefix > prefix:           # the separators around both promise less
            a.flags |= MM_PF_OPEN
    else:
        clear_page(a, copy.kind, copy.level, lob if prefix else NULL, prefix)
        if copy.level:
            a.extra = copy.extra
        for j in range(copy.count):
            st |= entry_at(copy, j, kb, &e) or add_entry(a, a.count, &e)
        if copy.level:
            sep.child = <uint32_t>b.extra
            st |= add_entry(a, a.count, &sep)
        for j in range(b.count):
            st |= entry_at(b, j, kb, &e) or add_entry(a, a.count, &e)
    if copy.level == 0 and sep.lk:
        st |= retire_extent(m, sep.lg)
    if st:
        m.corrupt_page = ano
        m.corrupt_what = b"two thin pages do not fit into one"
        return MM_CORRUPT
    st = free_page(m, bno)
    if st:
        return st
    drop_entry(parent, i)
    if parent.count == 0 and d == 1:
        memcpy(&parent.kind, &a.kind, MM_UNIT - 44)     # the root takes over its only child
        return free_page(m, ano)
    if d > 1 and used_bytes(parent) < MM_UNIT // 4:
        return merge(m, path, d - 1)
    return MM_OK


cdef int drop_pages(mm_map *m, uint32_t root, uint32_t tree) noexcept nogil:
    """Free every page and extent of a tree, the root included."""
    cdef uint32_t stack[1100]
    cdef uint32_t top = 1, i, pgno
    cdef uint8_t kb[384]
    cdef mm_frame *p
    cdef Entry e
    cdef int st
    stack[0] = root
    while top:
        top -= 1
        pgno = stack[top]
        p = current(m, pgno)
        if p == NULL or p.tree != tree:
            m.corrupt_page = pgno
            m.corrupt_what = b"a page of a dropped tree belongs to another"
            return MM_CORRUPT
        if p.level > 1 and top + p.count + 1 > 1100:
            # deep and wide: go depth first through this one child list
            for i in range(p.count + 1u):
                st = drop_pages(m, child_at(p, i), tree)
                if st:
                    return st
        elif p.level:
            for i in range(p.count + 1u):
                if p.level == 1:
                    st = drop_leaf(m, child_at(p, i), tree)
                    if st:
                        return st
                else:
                    stack[top] = child_at(p, i)
                    top += 1
        if p.level:
            for i in range(p.count):
                st = entry_at(p, i, kb, &e)
                if st == MM_OK and e.lk:
                    st = retire_extent(m, e.lg)
                if st:
                    return st
            st = free_page(m, pgno)
        else:
            st = drop_leaf(m, pgno, tree)
        if st:
            return st
    return MM_OK


cdef int drop_leaf(mm_map *m, uint32_t pgno, uint32_t tree) noexcept nogil:
    cdef mm_frame *p = current(m, pgno)
    cdef uint8_t kb[384]
    cdef Entry e
    cdef uint32_t i
    cdef int st
    if p == NULL or p.tree != tree:
        m.corrupt_page = pgno
        m.corrupt_what = b"a page of a dropped tree belongs to another"
        return MM_CORRUPT
    for i in range(p.count):
        st = entry_at(p, i, kb, &e)
        if st == MM_OK:
            st = retire_value(m, &e)
        if st == MM_OK and e.lk:
            st = retire_extent(m, e.lg)
        if st:
            return st
    return free_page(m, pgno)
