"""The read set of a transaction: what it has read, and whether that still holds when it commits.

Remembered is where something was read, not what: the leaf's version at the snapshot S stays as long as S is announced, so the
commit compares that version with the newest content, and only where the page has changed. Nothing is hashed, nothing is copied but
keys that were absent and bounds of ranges that no entry stands on.

INVARIANTS  (1) Every key that a transaction could have read lies in one Seen: a point (found or absent) or a range of one leaf. Ranges of
                neighbouring leaves meet at the fence between them, so a key that appears anywhere in what was read is noticed.
            (2) A leaf that is unchanged since S needs no look: a split or a merge changes every leaf whose range it changes (btree(3)).
                In a hash index an absent key stands for its bucket's first page (hashindex(2)), and scans remember whole buckets.
            (3) An expired entry counts as absent, on both sides, by the clock of the snapshot.
VALIDATE    under the commit lock, with nothing noted in the descriptor. Each Seen whose page changed is looked at by key: entries of
            the old leaf and of the newest tree are walked together, and must agree in keys, values and expiry. Values in extents
            are compared by place: S holds the old extent, so an equal number is the same extent. Keys over MM_KEY_INLINE are not
            compared beyond their place either; a difference there is taken for a conflict.
SNAPSHOT    isolation "snapshot" asks about the keys written instead of those read: the first to commit wins. Values do not tell: a key
            that came and went again since S was written. Where a leaf has changed, the log's records since S are gone through.
            Reads on which a constraint rests (foreign keys) are marked SEEN_HELD and must hold there, too.
SOURCE      Larson et al., High-Performance Concurrency Control Mechanisms for Main-Memory Databases (VLDB 2011), section 3.2, repeats
            reads and scans at the end; here the old versions make repeating a comparison.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from memora.engine.btree cimport Path, fences, leftmost, locate, step_leaf
from memora.engine.descriptor cimport begin
from memora.engine.extents cimport extent_bytes
from memora.engine.frames cimport Look, current, page_at
from memora.engine.layout cimport *
from memora.engine.overlay cimport Node, Overlay, overlay_ceil, overlay_find, overlay_first
from memora.engine.page cimport Entry, entry_at, search
from memora.engine.sync cimport *
from memora.engine.tree cimport TreeRef, tree_find, tree_locate
from memora.engine.wal cimport ring_out

cdef enum:
    KEYS_MAX = 64 << 20     # bytes of absent keys and bounds; after that whole leaves are remembered


cdef ReadMark read_mark(const ReadSet *r) noexcept nogil:
    cdef ReadMark mark
    mark.n = r.n
    mark.n_keys = r.n_keys
    return mark


cdef void read_back(ReadSet *r, ReadMark mark) noexcept nogil:
    """Forget what was read since the mark: the caller vouches for it in another way."""
    r.n = mark.n
    r.n_keys = mark.n_keys


cdef ReadMark read_apart(ReadSet *r) noexcept nogil:
    """A mark for read_hold: what was read before it is entered once more where it is read again."""
    r.apart = r.n
    return read_mark(r)


cdef void read_hold(ReadSet *r, ReadMark mark) noexcept nogil:
    """What was read since the mark must hold at the commit, whatever the isolation."""
    cdef uint32_t i
    for i in range(mark.n, r.n):
        r.seen[i].flags |= SEEN_HELD


cdef void read_free(ReadSet *r) noexcept nogil:
    free(r.seen)
    free(r.keys)
    memset(r, 0, sizeof(ReadSet))


cdef Seen *fresh(ReadSet *r, uint16_t kind, uint32_t ref, uint32_t pgno) noexcept nogil:
    """A new Seen at the end; NULL: no memory."""
    cdef void *p
    cdef Seen *x
    if r.n == r.cap:
        p = realloc(r.seen, (r.cap * 2 + 32) * sizeof(Seen))
        if p == NULL:
            return NULL
        r.seen = <Seen *>p
        r.cap = r.cap * 2 + 32
    x = &r.seen[r.n]
    r.n += 1
    x.kind = kind
    x.flags = 0
    x.ref = ref
    x.pgno = pgno
    x.low = x.high = 0
    x.key = x.kn = 0
    return x


cdef int keep_key(ReadSet *r, Seen *x, const uint8_t *k, size_t kn, uint32_t *at, uint32_t *n) noexcept nogil:
    """Copy a key for x, which becomes a SEEN_LEAF if the key cannot be compared by value. MM_OK or MM_NOMEM."""
    cdef void *p
    cdef size_t cap
    if kn > MM_KEY_INLINE or r.n_keys + kn > KEYS_MAX:
        x.kind = SEEN_LEAF
        return MM_OK
    if r.n_keys + kn > r.cap_keys:
        cap = (r.n_keys + kn) * 2 + 256
        p = realloc(r.keys, cap)
        if p == NULL:
            return MM_NOMEM
        r.keys = <uint8_t *>p
        r.cap_keys = <uint32_t>cap
    memcpy(r.keys + r.n_keys, k, kn)
    at[0] = r.n_keys
    n[0] = <uint32_t>kn
    r.n_keys += <uint32_t>kn
    return MM_OK


cdef int read_entry(ReadSet *r, uint32_t ref, uint32_t pgno, uint32_t slot) noexcept nogil:
    """The entry in a slot was read. MM_OK or MM_NOMEM, as all of these."""
    cdef Seen *x
    if r.n > r.apart:
        x = &r.seen[r.n - 1]
        if x.kind == SEEN_ENTRY and x.pgno == pgno and x.low == <int32_t>slot and x.ref == ref:
            return MM_OK
    x = fresh(r, SEEN_ENTRY, ref, pgno)
    if x == NULL:
        return MM_NOMEM
    x.low = <int32_t>slot
    return MM_OK


cdef int read_absent(ReadSet *r, uint32_t ref, uint32_t pgno, const uint8_t *k, size_t kn) noexcept nogil:
    """A key was looked for in this leaf, and was not there."""
    cdef Seen *x = fresh(r, SEEN_ABSENT, ref, pgno)
    return MM_NOMEM if x == NULL else keep_key(r, x, k, kn, &x.key, &x.kn)


cdef int read_leaf(ReadSet *r, uint32_t ref, uint32_t pgno) noexcept nogil:
    """All of a leaf was read, or all of the bucket that begins with this page."""
    return MM_NOMEM if fresh(r, SEEN_LEAF, ref, pgno) == NULL else MM_OK


cdef int read_range(ReadSet *r, uint32_t ref, uint32_t pgno, uint16_t flags, int32_t low, int32_t high) noexcept nogil:
    """Slots low to high of a leaf were read (high < low: none yet), and no key lies between them, or between them and the bounds.

    flags: SEEN_FROM_FENCE, SEEN_TO_FENCE. The caller widens it as it goes on, and adds bounds that are keys by read_bound.
    """
    cdef Seen *x = fresh(r, SEEN_RANGE, ref, pgno)
    if x == NULL:
        return MM_NOMEM
    x.flags = flags
    x.low = low
    x.high = high
    return MM_OK


cdef int read_bound(ReadSet *r, uint32_t at, uint16_t flag, const uint8_t *k, size_t kn) noexcept nogil:
    """Range `at` begins at a key (SEEN_FROM_KEY), or ends before one (SEEN_TO_KEY), that no entry need stand on."""
    cdef Seen *x = &r.seen[at]
    if x.kind != SEEN_RANGE:
        return MM_OK
    x.flags |= flag
    if flag == SEEN_FROM_KEY:
        return keep_key(r, x, k, kn, &x.key, &x.kn)
    return keep_key(r, x, k, kn, &x.end, &x.en)


# ---------------------------------------------------------------------------------------------- validation

cdef inline int gone(const Entry *e, uint64_t now) noexcept nogil:
    return e.expiry != 0 and e.expiry <= now


cdef int same_value(const Entry *a, const Entry *b) noexcept nogil:
    return (a.expiry == b.expiry and a.vn == b.vn and (a.vinfo & MM_V_EXT) == (b.vinfo & MM_V_EXT)
            and memcmp(a.val, b.val, a.vn) == 0)


cdef int same_key(const Entry *a, const Entry *b) noexcept nogil:
    return a.kn == b.kn and a.lk == b.lk and a.lg == b.lg and memcmp(a.key, b.key, a.kn) == 0


cdef inline int order(const uint8_t *a, size_t an, const uint8_t *b, size_t bn) noexcept nogil:
    """Sign of a - b."""
    cdef int c = memcmp(a, b, an if an < bn else bn)
    return c if c else <int>(an > bn) - <int>(an < bn)


cdef int newest_is(mm_map *m, const TreeRef *t, const uint8_t *k, size_t kn, const Entry *old, uint64_t now) noexcept nogil:
    """MM_OK: the newest entry of the key is `old` (NULL: there is none), MM_CONFLICT: it is not."""
    cdef uint8_t kb[384]
    cdef Path path
    cdef Entry e
    cdef int st = tree_locate(m, t, k, kn, &path)
    if st:
        return MM_CONFLICT if st == MM_NO_TREE else st
    if old != NULL and gone(old, now):
        old = NULL
    if not path.found:
        return MM_OK if old == NULL else MM_CONFLICT
    if entry_at(current(m, path.pgno[path.depth]), path.idx[path.depth], kb, &e):
        return MM_CONFLICT
    if gone(&e, now):
        return MM_OK if old == NULL else MM_CONFLICT
    return MM_OK if old != NULL and same_value(old, &e) else MM_CONFLICT


cdef int ranges_agree(mm_map *m, const TreeRef *t, const mm_frame *p, const Seen *x, const uint8_t *keys, uint64_t s, uint64_t now) noexcept nogil:
    """Walk the old leaf's slots and the newest tree together between the bounds of x."""
    cdef uint8_t ob[384]
    cdef uint8_t nb[384]
    cdef uint8_t lb[384]
    cdef uint8_t hb[384]
    cdef Entry old, new_, lo, hi
    cdef Path path
    cdef mm_frame *q = NULL
    cdef int32_t i = x.low, last = x.high
    cdef int st, have_old, have_new, c
    lo.kn = hi.kn = 0xffffffffU         # no bound
    lo.lk = hi.lk = 0
    if x.flags & SEEN_FROM_FENCE:
        i = 0
    if x.flags & SEEN_TO_FENCE:
        last = p.count - 1
    if x.flags & (SEEN_FROM_FENCE | SEEN_TO_FENCE):
        st = fences(m, s, t.root, t.tree, p, x.pgno, &lo, lb, &hi, hb)
        if st:
            return st
    if lo.lk or hi.lk:                  # a bound whose end is not at hand
        return MM_CONFLICT
    if x.flags & SEEN_FROM_KEY:
        if lo.kn == 0xffffffffU or order(lo.key, lo.kn, keys + x.key, x.kn) < 0:
            lo.key, lo.kn = keys + x.key, x.kn
    elif not x.flags & SEEN_FROM_FENCE:
        if entry_at(p, i, lb, &lo):
            return MM_CONFLICT
    if x.flags & SEEN_TO_KEY:
        if hi.kn == 0xffffffffU or order(hi.key, hi.kn, keys + x.end, x.en) > 0:
            hi.key, hi.kn = keys + x.end, x.en
    elif not x.flags & SEEN_TO_FENCE:
        if entry_at(p, last, hb, &hi):
            return MM_CONFLICT
    if lo.lk or hi.lk:
        return MM_CONFLICT
    if lo.kn == 0xffffffffU:
        st = leftmost(m, t.root, t.tree, &path)
    else:
        st = locate(m, t.root, t.tree, lo.key, lo.kn, &path)
    if st:
        return MM_CONFLICT if st == MM_NO_TREE else st
    q = current(m, path.pgno[path.depth])
    while True:
        have_old = 0
        while i <= last and not have_old:
            if entry_at(p, i, ob, &old):
                return MM_CONFLICT
            have_old = not gone(&old, now)
            i += 1
        have_new = 0
        while not have_new:
            while path.idx[path.depth] >= q.count:
                st = step_leaf(m, &path)
                if st == MM_ABSENT:
                    return MM_CONFLICT if have_old else MM_OK
                if st:
                    return st
                q = current(m, path.pgno[path.depth])
            if entry_at(q, path.idx[path.depth], nb, &new_):
                return MM_CONFLICT
            if hi.kn != 0xffffffffU:
                c = order(new_.key, new_.kn, hi.key, hi.kn)
                if c == 0 and new_.lk:
                    c = 1
                if c > 0 or c == 0 and x.flags & (SEEN_TO_FENCE | SEEN_TO_KEY):
                    return MM_CONFLICT if have_old else MM_OK
            path.idx[path.depth] += 1
            have_new = not gone(&new_, now)
        if not have_old or not same_key(&old, &new_) or not same_value(&old, &new_):
            return MM_CONFLICT


cdef int recheck(mm_map *m, const Intent *w, const Seen *x) noexcept nogil:
    """The page of x has changed since S. Does what was read still hold?"""
    cdef uint8_t kb[384]
    cdef const TreeRef *t = &w.refs[x.ref]
    cdef Look look
    cdef Entry old
    if x.kind == SEEN_LEAF or page_at(m, w.s, x.pgno, &look) or look.page.tree != t.tree or look.page.level:
        return MM_CONFLICT
    if x.kind == SEEN_ABSENT:
        return newest_is(m, t, w.reads.keys + x.key, x.kn, NULL, w.now)
    if x.kind == SEEN_RANGE:
        return ranges_agree(m, t, look.page, x, w.reads.keys, w.s, w.now)
    if entry_at(look.page, x.low, kb, &old) or old.lk:
        return MM_CONFLICT
    return newest_is(m, t, kb, old.kn, &old, w.now)


cdef inline int changed(mm_map *m, uint32_t pgno, uint64_t s) noexcept nogil:
    cdef uint32_t e = mm_ld32(&m.pt[pgno])
    return e & MM_PT_BITS or mm_frame_at(m, e).ver > s


cdef int ops_touch(mm_map *m, const Intent *w, const uint8_t *ring, uint64_t size, uint64_t pos, uint64_t end, uint32_t count) noexcept nogil:
    """MM_CONFLICT: one of the operations at [pos, end) of a ring of `size` bytes wrote a key that is written, or dropped its tree."""
    cdef mm_op o
    cdef Node *n
    cdef const uint8_t *k
    cdef uint8_t *whole = NULL
    while count:
        count -= 1
        if end - pos < sizeof(o):
            return damaged_log(m)
        ring_out(ring, size, pos, &o, sizeof(o))
        if o.size < sizeof(o) or o.size & 7 or o.size > end - pos or o.klen > o.size - sizeof(o):
            return damaged_log(m)
        if o.op == MM_OP_DROP:
            if overlay_ceil(w.o, o.tree, NULL, 0) != NULL:
                return MM_CONFLICT
        elif not (o.op == MM_OP_CREATE or o.op == MM_OP_MESSAGE or o.op == MM_OP_EXPIRE and o.expiry_ns <= w.now):
            k = ring + (pos + sizeof(o)) % size
            if (pos + sizeof(o)) % size + o.klen > size:        # the key goes around the end
                whole = <uint8_t *>malloc(o.klen)
                if whole == NULL:
                    return MM_NOMEM
                ring_out(ring, size, pos + sizeof(o), whole, o.klen)
                k = whole
            n = overlay_find(w.o, o.tree, k, o.klen)
            free(whole)
            whole = NULL
            if n != NULL and n.op and n.op != MM_OP_DELTA:
                return MM_CONFLICT
        pos += o.size
    return MM_OK


cdef int damaged_log(mm_map *m) noexcept nogil:
    m.corrupt_page = 0
    m.corrupt_what = b"a record in the log ring is damaged"
    return MM_CORRUPT


cdef int log_is_clear(mm_map *m, const Intent *w) noexcept nogil:
    """Has no commit after S written a key that is written here? By the log, from where its head was when the transaction began."""
    cdef uint64_t head = m.hot.ring_head, pos = m.hot.ring_tail, next_ = w.s + 1, at, end
    cdef const uint8_t *ring
    cdef const uint8_t *extent
    cdef mm_record r
    cdef mm_bigref big
    cdef uint64_t size
    cdef int st
    if pos < w.log:
        pos = w.log
    while pos < head:
        ring_out(m.ring, m.ring_bytes, pos, &r, sizeof(r))
        if r.len < sizeof(r) or r.len & 7 or r.len > head - pos or r.lsn != pos:
            return damaged_log(m)
        if r.commit > w.s:
            if r.commit != next_:           # the ones between have left the ring
                return MM_CONFLICT
            next_ += 1
            ring, size = m.ring, m.ring_bytes
            at, end = pos + sizeof(r), pos + r.len
            if r.flags & (MM_REC_BIG | MM_REC_REFS):
                if end - at < sizeof(big):
                    return damaged_log(m)
                ring_out(m.ring, m.ring_bytes, at, &big, sizeof(big))
                at += sizeof(big)
                if r.flags & MM_REC_BIG:
                    extent = extent_bytes(m, big.granule, big.nbytes)
                    if extent == NULL or big.nbytes == 0:
                        return damaged_log(m)
                    ring, size, at = extent, big.nbytes, 0
                elif big.nbytes > end - at:
                    return damaged_log(m)
                end = at + big.nbytes
            st = ops_touch(m, w, ring, size, at, end, r.n_ops)
            if st:
                return st
        pos += r.len
    return MM_OK if next_ > m.hot.commit_seq else MM_CONFLICT


cdef int writes_are_first(mm_map *m, const Intent *w) noexcept nogil:
    """Snapshot isolation: no commit after S has written a key that is written here, not even to the value that it had.

    Leaves tell it where they are unchanged; only where one has changed the log is asked, which has the keys of every commit.
    """
    cdef Node *n = overlay_first(w.o) if m.hot.commit_seq != w.s else NULL
    cdef const TreeRef *t = NULL
    cdef Look look
    cdef uint32_t slot, i
    cdef int st
    while n != NULL:
        if n.op == MM_OP_PUT or n.op == MM_OP_DELETE or n.op == MM_OP_INSERT:
            if t == NULL or t.tree != n.tree:
                t = NULL
                for i in range(w.n_refs):
                    if w.refs[i].tree == n.tree:
                        t = &w.refs[i]
            if t != NULL and t.root:
                st = tree_find(m, w.s, t, n.key, n.kn, &look, &slot)
                if st != MM_FOUND and st != MM_ABSENT:
                    return MM_CONFLICT
                if changed(m, look.pgno if st == MM_FOUND else look.seen, w.s):
                    return log_is_clear(m, w)
        n = n.next[0]
    return MM_OK


cdef int validate(mm_map *m, const Intent *w) noexcept nogil:
    """MM_OK, MM_CONFLICT, or MM_TOO_OLD: the snapshot was revoked, and what it read cannot be looked at any more."""
    cdef uint32_t i
    cdef int st
    if mm_ld64(w.entry) != w.word:
        return MM_TOO_OLD
    begin(m)                            # current() reads through the buffer, where a dropped commit may have left something
    if w.snapshot:
        st = writes_are_first(m, w)
        if st:
            return st
    for i in range(w.reads.n):
        if w.snapshot and not w.reads.seen[i].flags & SEEN_HELD:
            continue
        if changed(m, w.reads.seen[i].pgno, w.s):
            st = recheck(m, w, &w.reads.seen[i])
            if st:
                return st
    return MM_OK
