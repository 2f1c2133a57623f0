"""Cursors: a position in one tree as a transaction sees it.

READERS     A cursor keeps a private copy of one leaf and the way to it; at its end it goes up and down again, at the same S. It merges
            the overlay in: its entry wins over the snapshot's. A write in the transaction makes its cursors seek again.
            In a hash index there are only first() and next(): the snapshot's entries, each as the overlay has it now, by bucket; then what only
            the overlay has. Writes do not disturb them: no key comes twice, and none that was there at the start and stays is left out.
            For a reader that announced nothing each page is judged when it is copied, and the leaf again when one of its extents was.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int32_t, int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy
from memora.engine.btree cimport value_bytes
from memora.engine.extents cimport extent_bytes
from memora.engine.frames cimport Look, page_at, page_bytes, still_there
from memora.engine.hashindex cimport hash_bucket, hash_chained
from memora.engine.layout cimport *
from memora.engine.overlay cimport Node, overlay_below, overlay_ceil, overlay_find, overlay_top
from memora.engine.page cimport Entry, child_at, entry_at, search, search_any, plain_at, slots, value_at
from memora.engine.readset cimport (SEEN_FROM_FENCE, SEEN_FROM_KEY, SEEN_TO_FENCE, SEEN_TO_KEY, Seen, read_bound, read_leaf,
                                    read_range)
from memora.engine.status cimport error
from memora.engine.sync cimport *
from memora.engine.transaction cimport Transaction, looked_at
from memora.engine.tree cimport TreeRef, tree_find

from memora import errors

cdef extern from *:
    uint64_t swapped "__builtin_bswap64"(uint64_t u) nogil

cdef enum:
    TRIES = 100000
    AT_KEY = 0          # modes of a descent: the leaf of a key, the leftmost, the rightmost
    LEFTMOST = 1
    RIGHTMOST = 2


@cython.final
cdef class Cursor:
    """A position in one tree as a transaction sees it. Seek first; it must be sought again after a write."""

    def __cinit__(self, Transaction transaction not None, uint32_t tree):
        transaction.check()
        self.transaction = transaction
        self.tree = tree
        self.page = <uint8_t *>malloc(MM_UNIT)
        self.cap_key = 512
        self.keybuf = <uint8_t *>malloc(self.cap_key)
        self.cap_here = 512
        self.here = <uint8_t *>malloc(self.cap_here)
        if self.page == NULL or self.keybuf == NULL or self.here == NULL:
            raise MemoryError("cursor: no private memory")

    def __dealloc__(self):
        free(self.page)
        free(self.keybuf)
        free(self.here)
        free(self.valbuf)

    cdef int ready(self) except -1:
        self.transaction.check()
        self.writes = self.transaction.writes
        self.hashed = self.transaction.ref(self.tree).hashed
        return 0

    cdef int of_hash(self) except -1:
        """1: the cursor's tree is a hash index."""
        self.ready()
        return self.hashed

    cdef int ordered(self) except -1:
        self.ready()
        if self.hashed:
            raise errors.NotSupportedError(f"tree {self.tree} is a hash index: it has no order, and no position but first() and next()")
        return 0

    # ---- the snapshot's side

    cdef int load_leaf(self, uint32_t level, uint32_t pgno, const uint8_t *k, size_t n, int mode, int d) except -1:
        """Descend from pgno at depth `level` to a leaf and copy it; `at` = slot of the first key >= k (or 0, or behind the last).

        d: where the caller goes from there; in the read set the leaf begins with nothing but the bound on the other side.
        """
        cdef Transaction t = self.transaction
        cdef Look look
        cdef uint32_t i = 0, child = 0, top = level, start = pgno, tries = 0
        cdef int st, found = 0, leaf = 0, known = 0
        cdef mm_frame *p
        while True:
            if tries > TRIES or level >= MM_MAX_DEPTH:
                lost(t, "scan")
            st = page_at(t.m, t.s, pgno, &look)
            if st == MM_OK:
                p = <mm_frame *>look.page                   # a branch is searched where it lies, a leaf in the copy
                leaf = p.level == 0
                if leaf:
                    mm_copy_page(self.page, p)
                    p = <mm_frame *>self.page
                known = p.tree == self.tree
                found = 0
                if mode == AT_KEY:
                    i = search(t.m, p, k, n, &found)
                else:
                    i = 0 if mode == LEFTMOST else mm_ld16(&p.count)
                child = 0 if leaf else child_at(p, i + found)
                st = MM_OK if still_there(&look) else MM_MOVED
            if st:
                tries += 1
                t.alive()
                level = top
                pgno = start
                continue
            if t.entry < 0:
                t.stands(&look)
            if not known:
                t.alive()
                raise error(t.m, MM_NO_TREE if level == 0 else MM_MOVED, f"tree {self.tree}")
            self.pgno[level] = pgno
            self.idx[level] = i if leaf else i + found
            if leaf:
                self.depth = level
                self.at = <int32_t>i
                self.look = look
                if self.bounded:
                    self.edge = <int32_t>search_any(t.m, p, self.stop, self.stop_n)
                if not t.read_only:
                    self.observe(pgno, k, n, mode, d)
                return 0
            pgno = child
            level += 1

    cdef int observe(self, uint32_t pgno, const uint8_t *k, size_t n, int mode, int d) except -1:
        """Begin a range of the read set in the leaf just loaded."""
        cdef Transaction t = self.transaction
        cdef uint16_t bound = SEEN_FROM_KEY if d > 0 else SEEN_TO_KEY
        self.seen = t.reads.n
        if mode != AT_KEY:
            bound = 0
        if read_range(&t.reads, t.last_ref, pgno, 0 if bound else SEEN_FROM_FENCE if d > 0 else SEEN_TO_FENCE,
                      self.at, self.at - 1) or bound and read_bound(&t.reads, self.seen, bound, k, n):
            raise MemoryError("transaction: no private memory")
        return 0

    cdef int base_moved(self, int d) except -1:
        """The base position has moved to `at`: widen the range of the read set by that slot, or to its end. 1: on an entry before the limit."""
        cdef Transaction t = self.transaction
        cdef mm_frame *p = <mm_frame *>self.page
        cdef Seen *x = &t.reads.seen[self.seen] if not t.read_only else NULL
        cdef int inside = 0 <= self.at < <int32_t>p.count
        cdef int beyond = self.bounded and inside and (self.edge <= self.at if d > 0 else self.at < self.edge)
        if inside and not beyond:
            if x != NULL and d > 0:
                x.high = self.at
            elif x != NULL:
                x.low = self.at
            return 1
        if x != NULL:
            if not inside:
                x.flags |= SEEN_TO_FENCE if d > 0 else SEEN_FROM_FENCE
            if self.bounded and read_bound(&t.reads, self.seen, SEEN_TO_KEY if d > 0 else SEEN_FROM_KEY, self.stop, self.stop_n):
                raise MemoryError("transaction: no private memory")
        return 0

    cdef int base_seek(self, const uint8_t *k, size_t n, int mode, int d) except -1:
        """To the first entry >= k going up (d = 1), the last one < k going down; LEFTMOST, RIGHTMOST: the first, the last of all."""
        cdef TreeRef *r = self.transaction.ref(self.tree)
        self.base = 0
        if r.root == 0:
            self.at = 0
            (<mm_frame *>self.page).count = 0
            self.depth = 0
            return 0
        self.load_leaf(0, r.root, k, n, mode, d)
        if d > 0:
            self.at -= 1
        return self.base_step(d)

    cdef int base_step(self, int d) except -1:
        """Move the base position by one entry; base = 0 when it leaves the tree."""
        cdef mm_frame *p = <mm_frame *>self.page
        cdef Transaction t = self.transaction
        cdef Look look
        cdef uint32_t level, n, child, ahead, tries
        self.at += d
        while not self.base_moved(d):
            if 0 <= self.at < <int32_t>p.count:         # the limit
                self.base = 0
                t.alive()
                return 0
            level = self.depth
            child = 0
            ahead = 0
            while level:
                level -= 1
                for tries in range(TRIES):
                    if page_at(t.m, t.s, self.pgno[level], &look) == MM_OK:
                        n = mm_ld16(&look.page.count)
                        child = self.beside(look.page, level, n, d)
                        ahead = self.beside(look.page, level, n, 2 * d)
                        if still_there(&look):
                            break
                    t.alive()
                else:
                    lost(t, "scan")
                if t.entry < 0:
                    t.stands(&look)
                if child:
                    self.idx[level] += d
                    break
            if child == 0:
                self.base = 0
                self.at = <int32_t>p.count if d > 0 else -1
                if t.entry >= 0:
                    t.alive()
                return 0
            self.coming = page_bytes(t.m, ahead) if level + 1 == self.depth else NULL
            self.asked = 0
            self.load_leaf(level + 1, child, NULL, 0, LEFTMOST if d > 0 else RIGHTMOST, d)
            if d < 0:
                self.at -= 1
        self.base = 1
        return self.base_key()

    cdef uint32_t beside(self, const mm_frame *p, uint32_t level, uint32_t n, int d) noexcept nogil:
        """The child d places beside the way down, in the page of that level, which has n separators. 0: the page has none there."""
        cdef int64_t i = <int64_t>self.idx[level] + d
        return child_at(p, <uint32_t>i) if 0 <= i <= n else 0

    cdef void expect(self, int d) noexcept:
        """The caller will go on beyond the leaf that it has just sought."""
        cdef Look look
        cdef mm_map *m = self.transaction.m
        self.asked = 0
        if self.depth and page_at(m, self.transaction.s, self.pgno[self.depth - 1], &look) == MM_OK:
            self.coming = page_bytes(m, self.beside(look.page, self.depth - 1, mm_ld16(&look.page.count), d))

    cdef void ask(self) noexcept:
        """One entry was taken: ask for some more bytes of the leaf that comes next, so that it is there when its turn comes."""
        if self.coming != NULL and self.asked < MM_UNIT:
            mm_prefetch(self.coming + self.asked)
            mm_prefetch(self.coming + self.asked + 64)
            mm_prefetch(self.coming + self.asked + 128)
            mm_prefetch(self.coming + self.asked + 192)
            self.asked += 256

    cdef int base_key(self) except -1:
        """Put the key of the base entry together."""
        cdef Entry e
        cdef const uint8_t *rest
        cdef void *q
        cdef Transaction t = self.transaction
        if entry_at(<mm_frame *>self.page, self.at, self.keybuf, &e):
            lost(t, "scan: a cell leaves its page")
        self.base_kn = e.kn
        if e.lk:
            if e.lk > MM_KEY_MAX or e.lk <= MM_KEY_INLINE:
                lost(t, "scan: a key's length is damaged")
            rest = extent_bytes(t.m, e.lg, e.lk - MM_KEY_INLINE)
            if rest == NULL:
                lost(t, "scan: a key leaves the region")
            if e.lk > self.cap_key:
                q = realloc(self.keybuf, e.lk)
                if q == NULL:
                    raise MemoryError("cursor: no private memory")
                self.keybuf = <uint8_t *>q
                self.cap_key = e.lk
            memcpy(self.keybuf + MM_KEY_INLINE, rest, e.lk - MM_KEY_INLINE)
            self.base_kn = e.lk
            if t.entry < 0:
                t.stands(&self.look)
        return 0

    # ---- both sides

    cdef int take_node(self, Node *n) except -1:
        if n.op == MM_OP_DELTA:
            looked_at(self.transaction, n)
        self.from_node = 1
        self.kp = n.key
        self.kn = n.kn
        self.vp = n.val
        self.vn = n.vn
        self.expiry = n.expiry
        return 0

    cdef int settle(self, int d) except -1:
        """Make the nearer of the two positions the current entry, passing over what is deleted or expired. 1, or 0 at the end."""
        cdef Transaction t = self.transaction
        cdef Node *n
        cdef int c
        self.direction = d
        while True:
            n = self.node
            if n != NULL and self.bounded:
                c = memcmp(n.key, self.stop, n.kn if n.kn < self.stop_n else self.stop_n)
                if c == 0:
                    c = <int>(n.kn > self.stop_n) - <int>(n.kn < self.stop_n)
                if c >= 0 if d > 0 else c < 0:
                    n = self.node = NULL
            if n == NULL and not self.base:
                self.direction = 0
                if t.entry >= 0:
                    t.alive()
                return 0
            if n == NULL:
                c = 1
            elif not self.base:
                c = -1
            else:
                c = memcmp(n.key, self.keybuf, n.kn if n.kn < self.base_kn else self.base_kn)
                if c == 0:
                    c = <int>(n.kn > self.base_kn) - <int>(n.kn < self.base_kn)
                if c:
                    c = (1 if c > 0 else -1) * d
            if c <= 0:                                  # the overlay's entry is nearer, or hides the snapshot's
                if n.op and n.op != MM_OP_DELETE and not t.expired(n.expiry):
                    self.take_node(n)
                    break
                if c == 0 and n.op:
                    self.base_step(d)
                elif c == 0:
                    # rolled back to nothing: the snapshot's entry shows
                    self.node = step_node(n, self.tree, d, t.o.head)
                    continue
                self.node = step_node(n, self.tree, d, t.o.head)
                continue
            if self.take_base():
                break
            self.base_step(d)
        if t.entry >= 0:
            t.alive()
        return 1

    cdef int take_base(self) except -1:
        """Make the base position the current entry. 0: it has expired."""
        cdef Transaction t = self.transaction
        cdef Entry e
        cdef const uint8_t *p
        cdef uint64_t size
        cdef void *q
        if value_at(<mm_frame *>self.page, self.at, &e) or value_bytes(t.m, &e, &p, &size):
            lost(t, "scan: a value leaves its page or the region")
        if t.expired(e.expiry):
            return 0
        self.from_node = 0
        if e.vinfo & MM_V_EXT:
            if size > self.cap_val:
                q = realloc(self.valbuf, size)
                if q == NULL:
                    raise MemoryError("cursor: no private memory")
                self.valbuf = <uint8_t *>q
                self.cap_val = size
            memcpy(self.valbuf, p, size)
            p = self.valbuf
            if t.entry < 0:
                if t.ref(self.tree).hashed:
                    t.alive()
                else:
                    t.stands(&self.look)
        self.kp = self.keybuf
        self.kn = self.base_kn
        self.vp = p
        self.vn = size
        self.expiry = e.expiry
        return 1

    # ---- hash indexes

    cdef int hash_step(self) except -1:
        """Move the base position to the next entry of the snapshot; base = 0 when there is none."""
        cdef mm_frame *p = <mm_frame *>self.page
        cdef Transaction t = self.transaction
        cdef TreeRef *r = t.ref(self.tree)
        cdef Look look
        cdef uint32_t tries, next, n
        cdef int st, hopped = 0
        self.at += 1
        while self.at >= <int32_t>p.count:
            next = <uint32_t>p.extra
            self.place += 1
            if next == 0:
                self.bucket += 1                # from the bucket before the first one on: it wraps to 0
                self.place = 0
            for tries in range(TRIES):
                if next:
                    st = hash_chained(t.m, t.s, r, self.bucket, self.place, next, &look)
                else:
                    n = 1           # a number is asked for, not a hash
                    st = hash_bucket(t.m, t.s, r, self.bucket, &look, &n, &hopped)
                if st == MM_OK:
                    memcpy(self.page, look.page, MM_UNIT)       # judged before it is interpreted
                    st = MM_OK if still_there(&look) else MM_MOVED
                if st != MM_MOVED:
                    break
                t.alive()
            if st == MM_ABSENT:
                self.overlay_begins()
                t.alive()
                return 0
            if st:
                t.alive()
                raise error(t.m, st, f"scan of tree {self.tree}")
            if next == 0 and not t.read_only and read_leaf(&t.reads, t.last_ref, look.pgno):    # the first page stands for its bucket
                raise MemoryError("transaction: no private memory")
            self.at = 0
        self.base = 1
        return self.base_key()

    cdef void overlay_begins(self) noexcept:
        """The snapshot's entries are through."""
        self.base = 0
        if self.transaction.has_overlay:
            self.node = overlay_ceil(&self.transaction.o, self.tree, <const uint8_t *>b"", 0)

    cdef int hash_first(self) except -1:
        cdef mm_frame *p = <mm_frame *>self.page
        self.node = NULL
        self.base = 0
        p.count = 0
        p.extra = 0
        self.at = -1
        self.bucket = 0xffffffffU
        if self.transaction.ref(self.tree).root:
            self.hash_step()
        else:
            self.overlay_begins()
        return self.hash_settle()

    cdef int hash_settle(self) except -1:
        """From the base position, then from the overlay's, go on to the nearest entry that is there. 1, or 0 at the end."""
        cdef Transaction t = self.transaction
        cdef TreeRef *r = t.ref(self.tree)
        cdef Node *n
        cdef Look look
        cdef uint32_t slot, tries
        cdef int st
        self.direction = 1
        while self.base:
            n = overlay_find(&t.o, self.tree, self.keybuf, self.base_kn) if t.has_overlay else NULL
            if n == NULL or n.op == 0:
                if self.take_base():
                    t.alive()
                    return 1
            elif n.op != MM_OP_DELETE and not t.expired(n.expiry):
                self.take_node(n)
                self.from_node = 0
                t.alive()
                return 1
            self.hash_step()
        while self.node != NULL:
            n = self.node
            if n.op and n.op != MM_OP_DELETE and not t.expired(n.expiry):
                st = MM_ABSENT
                for tries in range(TRIES if r.root else 0):
                    st = tree_find(t.m, t.s, r, n.key, n.kn, &look, &slot)
                    if st != MM_MOVED and still_there(&look):
                        break
                    st = MM_MOVED
                    t.alive()
                if st == MM_ABSENT:             # else it came with the snapshot's entries
                    self.take_node(n)
                    t.alive()
                    return 1
                if st != MM_FOUND:
                    raise error(t.m, st, f"scan of tree {self.tree}")
            self.node = step_node(n, self.tree, 1, t.o.head)
        self.direction = 0
        t.alive()
        return 0

    cdef int move(self, int d) except -1:
        cdef Transaction t = self.transaction
        cdef Node *n
        cdef void *q
        t.check()
        if self.hashed:
            if self.direction == 0:
                raise errors.ProgrammingError("the cursor stands nowhere; go to the first entry")
            if d < 0:
                self.ordered()
            if self.from_node:
                self.node = step_node(self.node, self.tree, 1, t.o.head)
            else:
                self.hash_step()
            return self.hash_settle()
        if self.writes != t.writes:
            raise errors.ProgrammingError("the transaction wrote since this cursor was positioned; seek again")
        if self.direction == 0:
            raise errors.ProgrammingError("the cursor stands nowhere; seek first")
        if d != self.direction:
            if self.kn > self.cap_here:
                q = realloc(self.here, self.kn)
                if q == NULL:
                    raise MemoryError("cursor: no private memory")
                self.here = <uint8_t *>q
                self.cap_here = self.kn
            memcpy(self.here, self.kp, self.kn)
            self.here_n = self.kn
            if d < 0:
                return self.c_seek_before(self.here, self.here_n)
            if not self.c_seek(self.here, self.here_n):
                return 0
            if self.kn != self.here_n or memcmp(self.kp, self.here, self.kn):
                return 1
        if self.from_node:
            n = self.node
            if self.base and n.kn == self.base_kn and memcmp(n.key, self.keybuf, n.kn) == 0:
                self.base_step(d)
            self.node = step_node(n, self.tree, d, t.o.head)
        else:
            self.base_step(d)
        return self.settle(d)

    cdef int c_limit(self, const uint8_t *k, size_t n) except -1:
        """Where the caller will stop, set before a seek: going up it ends before key k, going down after k itself. The bytes must stay.

        Nothing beyond is returned, and nothing beyond is in the read set. k = NULL: no limit.
        """
        self.bounded = k != NULL
        self.stop = k
        self.stop_n = n
        return 0

    cdef int c_seek(self, const uint8_t *k, size_t n) except -1:
        """First key >= k: 1, or 0 at the end."""
        self.ordered()
        self.base_seek(k, n, AT_KEY, 1)
        self.node = overlay_ceil(&self.transaction.o, self.tree, k, n) if self.transaction.has_overlay else NULL
        return self.settle(1)

    cdef int c_seek_before(self, const uint8_t *k, size_t n) except -1:
        """Last key < k: 1, or 0 at the beginning."""
        self.ordered()
        self.base_seek(k, n, AT_KEY, -1)
        self.node = overlay_below(&self.transaction.o, self.tree, k, n) if self.transaction.has_overlay else NULL
        return self.settle(-1)

    cdef int c_first(self) except -1:
        self.ready()
        if self.hashed:
            return self.hash_first()
        self.base_seek(NULL, 0, LEFTMOST, 1)
        self.node = overlay_ceil(&self.transaction.o, self.tree, <const uint8_t *>b"", 0) if self.transaction.has_overlay else NULL
        return self.settle(1)

    cdef int c_last(self) except -1:
        self.ordered()
        self.base_seek(NULL, 0, RIGHTMOST, -1)
        self.node = overlay_top(&self.transaction.o, self.tree) if self.transaction.has_overlay else NULL
        return self.settle(-1)

    cdef int c_next(self) except -1:
        cdef Transaction t = self.transaction
        cdef mm_frame *p = <mm_frame *>self.page
        cdef Entry e
        cdef int32_t at = self.at + 1
        # The usual step: to the next usual cell of the same copy, with nothing of the overlay ahead. The copy was judged when it was made.
        if self.direction == 1 and self.node == NULL and self.base and not self.from_node and not self.hashed and self.writes == t.writes and (
                at < <int32_t>p.count and (not self.bounded or at < self.edge) and plain_at(p, <uint32_t>at, self.keybuf, &e)):
            t.check()
            self.at = at
            if not t.read_only:
                t.reads.seen[self.seen].high = at
            self.ask()
            self.kp, self.kn, self.base_kn = self.keybuf, e.kn, e.kn
            self.vp, self.vn, self.expiry = e.val, e.vn, 0
            return 1
        return self.move(1)

    cdef int c_cells(self, Cell *out, int most) except -1:
        """Go on over entries with keys of eight bytes, as far as plain cells of the same copy follow with nothing of the overlay ahead: how many,
        at most `most`. The cursor stands on the last of them."""
        cdef Transaction t = self.transaction
        cdef const mm_frame *p = <const mm_frame *>self.page
        cdef const uint8_t *bytes = self.page
        cdef uint64_t head = 0, s, u
        cdef uint32_t off, kl, n, vi, vn, prefix = mm_ld16(&p.prefix)
        cdef int32_t at = self.at + 1, end = <int32_t>p.count
        cdef int found = 0
        if self.direction != 1 or self.node != NULL or not self.base or self.from_node or self.hashed or self.writes != t.writes or prefix > 8:
            return 0
        t.check()
        if self.bounded and self.edge < end:
            end = self.edge
        if end > MM_MAX_SLOTS:
            end = MM_MAX_SLOTS
        if end > at + most:
            end = at + most
        for n in range(prefix):
            head |= <uint64_t>bytes[MM_UNIT - prefix + n] << (56 - 8 * n)
        while at < end:
            s = mm_ld64r(&slots(p)[at])
            off = <uint32_t>(s >> 32) & 0xffff
            kl = <uint32_t>(s >> 48)
            n = kl & MM_SLOT_KLEN
            if kl & MM_SLOT_LONG or off < MM_HEAD or off > MM_UNIT - 2 or prefix + n != 8:
                break
            vi = mm_ld16(bytes + off)
            vn = vi & MM_V_LEN
            if vi & (MM_V_EXT | MM_V_EXPIRY) or off + 2 + n + vn > MM_UNIT:
                break
            u = 0
            if n:
                memcpy(&u, bytes + off + n - 6, 8)          # its last n bytes are the key's
                u = swapped(u)
                if n < 8:
                    u &= (<uint64_t>1 << (8 * n)) - 1
            out[found].key = head | u
            out[found].val = bytes + off + 2 + n
            out[found].vn = vn
            found += 1
            at += 1
            self.ask()
        if found:
            self.at = at - 1
            if not t.read_only:
                t.reads.seen[self.seen].high = self.at
            u = swapped(out[found - 1].key)
            memcpy(self.keybuf, &u, 8)
            self.kp, self.kn, self.base_kn = self.keybuf, 8, 8
            self.vp, self.vn, self.expiry = out[found - 1].val, out[found - 1].vn, 0
        return found

    cdef int c_prev(self) except -1:
        return self.move(-1)

    # ---- Python twins

    def limit(self, bytes key):
        """Set before a seek: going up it ends before this key, going down after it; None: at the end of the tree."""
        self.limit_key = key
        if key is None:
            self.c_limit(NULL, 0)
        else:
            self.c_limit(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))

    def seek(self, bytes key not None) -> bool:
        """Go to the first key >= key; False: there is none."""
        return bool(self.c_seek(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)))

    def seek_before(self, bytes key not None) -> bool:
        """Go to the last key < key; False: there is none."""
        return bool(self.c_seek_before(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)))

    def first(self) -> bool:
        return bool(self.c_first())

    def last(self) -> bool:
        return bool(self.c_last())

    def next(self) -> bool:
        return bool(self.c_next())

    def prev(self) -> bool:
        return bool(self.c_prev())

    @property
    def key(self) -> bytes:
        if self.direction == 0:
            raise errors.ProgrammingError("the cursor stands nowhere; seek first")
        return PyBytes_FromStringAndSize(<const char *>self.kp, self.kn)

    @property
    def value(self) -> bytes:
        if self.direction == 0:
            raise errors.ProgrammingError("the cursor stands nowhere; seek first")
        return PyBytes_FromStringAndSize(<const char *>self.vp, self.vn)

    @property
    def expiry_ns(self) -> int:
        """Wall clock in ns at which the entry is gone, 0 = never."""
        return self.expiry


cdef int lost(Transaction t, str doing) except -1:
    """What was read makes no sense: the snapshot was revoked, or the region is damaged."""
    t.alive()
    raise error(t.m, MM_MOVED, doing)


cdef inline Node *step_node(Node *n, uint32_t tree, int d, Node *head) noexcept nogil:
    n = n.next[0] if d > 0 else n.prev
    if n == NULL or n == head or n.tree != tree:
        return NULL
    return n
