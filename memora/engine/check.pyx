"""The checker: walks a whole region and lists every broken invariant.

It takes the commit lock, so it sees one moment; it only reads. Every page number, frame, extent and granule must be
accounted for exactly once: reachable from a tree, or in exactly one list, or free. Cited invariants: frames(n), page(n), btree(n),
hashindex(n), extents(n), wal(n) of the modules of those names.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy
from memora.engine.btree cimport value_bytes
from memora.engine.extents cimport extent_bytes, granules_for
from memora.engine.hashindex cimport bucket_of, siphash
from memora.engine.layout cimport *
from memora.engine.page cimport Entry, cell_bytes, child_at, entry_at, used_bytes, value_at
from memora.engine.procs cimport lock_release
from memora.engine.region cimport Region, take_lock
from memora.engine.sync cimport *
from memora.engine.wal cimport ring_out

import contextlib
import os.path
import time

from memora import errors

cdef enum:
    STILL_TRIES = 200       # walks of a read-only process that hopes that nothing moves


cdef class _Walk:
    """What was met so far: owner of each frame, page number and granule run."""
    cdef mm_map *m
    cdef list bad
    cdef dict frames, pages, extents

    cdef say(self, str text):
        if len(self.bad) < 200:
            self.bad.append(text)

    cdef claim_frame(self, uint64_t f, str what):
        if not 0 < f < self.m.hot.n_units:
            self.say(f"frame {f} ({what}) lies outside the region")
            return False
        if f in self.frames:
            self.say(f"frames(5): frame {f} is both {self.frames[f]} and {what}")
            return False
        self.frames[f] = what
        return True

    cdef claim_extent(self, uint32_t g, uint64_t nbytes, str what):
        cdef mm_extent *x
        if extent_bytes(self.m, g, nbytes) == NULL:
            self.say(f"extent {g} ({what}) lies outside the region")
            return
        x = mm_extent_at(self.m, g)
        if g in self.extents:
            self.say(f"btree(4): extent {g} is both {self.extents[g][1]} and {what}")
            return
        if x.nbytes != nbytes or x.granules != granules_for(nbytes):
            self.say(f"extent {g} ({what}): {x.nbytes} bytes in {x.granules} granules, its cell says {nbytes} bytes")
        if x.retired:
            self.say(f"extent {g} ({what}) is retired since commit {x.retired}, but in use")
        self.extents[g] = (x.granules, what)

    cdef named(self, uint64_t pos, const mm_record *r):
        """The values that a record in the ring names are still there."""
        cdef mm_bigref big
        cdef mm_op o
        cdef mm_valref ref
        cdef bytes ops
        cdef mm_map *m = self.m
        cdef uint32_t i
        cdef uint64_t at = 0, place
        ring_out(m.ring, m.ring_bytes, pos + sizeof(mm_record), &big, sizeof(big))
        if r.flags & MM_REC_BIG:
            if extent_bytes(m, big.granule, big.nbytes) == NULL:
                return
            ops = (<const char *>extent_bytes(m, big.granule, big.nbytes))[:big.nbytes]
        elif big.nbytes + sizeof(big) + sizeof(mm_record) > r.len:
            self.say(f"wal: commit {r.commit}: {big.nbytes} bytes of operations in a record of {r.len}")
            return
        else:
            ops = bytes(big.nbytes)
            ring_out(m.ring, m.ring_bytes, pos + sizeof(mm_record) + sizeof(big), <char *>ops, big.nbytes)
        for i in range(r.n_ops):
            if at + sizeof(o) > <uint64_t>len(ops):
                self.say(f"wal: commit {r.commit}: its operations end early")
                return
            memcpy(&o, <const char *>ops + at, sizeof(o))
            places = []
            if o.flags & MM_OPF_NEW_REF:
                places.append((at + sizeof(o) + o.klen, o.nlen))
            if o.flags & MM_OPF_OLD_REF:
                places.append((at + sizeof(o) + o.klen + (sizeof(ref) if o.flags & MM_OPF_NEW_REF else o.nlen), None))
            for place, length in places:
                if place + sizeof(ref) > <uint64_t>len(ops):
                    self.say(f"wal: commit {r.commit}: an operation leaves its record")
                    return
                memcpy(&ref, <const char *>ops + place, sizeof(ref))
                if ref.granule not in self.extents or mm_extent_at(m, ref.granule).nbytes != ref.nbytes or length is not None and length != ref.nbytes:
                    self.say(f"extents(5): commit {r.commit} names {ref.nbytes} bytes in extent {ref.granule}, which is not there")
            at += o.size

    cdef tree(self, uint32_t tree, uint32_t root, str what):
        """Walk one tree. Returns its entries as (bytes, count)."""
        cdef mm_frame *p
        cdef Entry e
        cdef uint8_t kb[384]
        cdef uint32_t i
        total = count = 0
        depth_of_leaves = None
        todo = [(root, 0, None, None, None)]
        while todo:
            pgno, depth, low, high, level = todo.pop()
            p = self.page(pgno, tree, what)
            if p == NULL:
                continue
            if level is not None and p.level != level:
                self.say(f"btree(1): page {pgno} has level {p.level}, its parent expects {level}")
            if p.kind != (MM_KIND_BRANCH if p.level else MM_KIND_LEAF) or p.layout != 1:
                self.say(f"page {pgno}: kind {p.kind}, layout {p.layout}, level {p.level}")
                continue
            if p.count > MM_MAX_SLOTS or p.heap < MM_HEAD + 8 * p.count or p.heap + p.prefix > MM_UNIT:
                self.say(f"page(3): page {pgno}: {p.count} slots, heap at {p.heap}, prefix {p.prefix}")
                continue
            promised = 0 if low is None or high is None else len(os.path.commonprefix([low[:MM_KEY_INLINE], high[:MM_KEY_INLINE]]))
            if p.flags & ~<uint8_t>MM_PF_OPEN or p.prefix > promised and not p.flags & MM_PF_OPEN:
                self.say(f"page(2): page {pgno}: prefix {p.prefix}, flags {p.flags}, between separators that share {promised}")
            keys = []
            for i in range(p.count):
                if entry_at(p, i, kb, &e):
                    self.say(f"page {pgno}: slot {i} leaves the page")
                    break
                key, size = self.entry(p, i, kb, &e)
                if (low is not None and key < low) or (high is not None and key >= high):
                    self.say(f"btree(2): page {pgno}: key {key[:40]!r} is not between {low!r} and {high!r}")
                keys.append(key)
                if p.level == 0:
                    count += 1
                    total += size
            if len(keys) < p.count:
                continue                # its cells cannot be measured, nor its children be told apart
            sizes = sum([cell_bytes(p, i) for i in range(p.count)])
            if sizes + p.frag + p.heap + p.prefix != MM_UNIT:
                self.say(f"page(3): page {pgno}: cells {sizes} + frag {p.frag} + heap {p.heap} + prefix {p.prefix} is not {MM_UNIT}")
            for i in range(1, len(keys)):
                if keys[i - 1] >= keys[i]:
                    self.say(f"page(1): page {pgno}: slots {i - 1} and {i} are not in order: {keys[i - 1][:40]!r}, {keys[i][:40]!r}")
            if p.level:
                bounds = [low, *keys, high]
                for i in range(p.count + 1):
                    todo.append((child_at(p, i), depth + 1, bounds[i], bounds[i + 1], p.level - 1))
            elif depth_of_leaves is None:
                depth_of_leaves = depth
            elif depth != depth_of_leaves:
                self.say(f"btree(1): {what}: leaves at depth {depth_of_leaves} and {depth}")
        return total, count

    cdef mm_frame *page(self, pgno, uint32_t tree, str what) except? NULL:
        """The newest version of a page that a tree refers to, accounted for; NULL: it is none."""
        cdef mm_frame *p
        cdef uint32_t f
        if not 0 < pgno < self.m.hot.page_high:
            self.say(f"{what}: page {pgno} is no page number")
            return NULL
        if pgno in self.pages:
            self.say(f"{what}: page {pgno} is also in {self.pages[pgno]}")
            return NULL
        self.pages[pgno] = what
        f = self.m.pt[<uint32_t>pgno]
        if f & MM_PT_BITS:
            self.say(f"{what}: page {pgno} is marked free")
            return NULL
        if not self.claim_frame(f, f"page {pgno} of {what}"):
            return NULL
        p = mm_frame_at(self.m, f)
        if p.pgno != pgno or p.tree != tree:
            self.say(f"{what}: frame {f} says page {p.pgno} of tree {p.tree}, expected page {pgno} of tree {tree}")
            return NULL
        if p.gen & 1:
            self.say(f"frames(4): page {pgno}: the current frame {f} has odd gen {p.gen}")
        if p.ver > self.m.hot.commit_seq or p.next or p.retired:
            self.say(f"frames(1): page {pgno}: ver {p.ver}, next {p.next}, retired {p.retired} at commit {self.m.hot.commit_seq}")
        self.chain(pgno, p)
        return p

    cdef hash_tree(self, uint32_t tree, uint32_t root, str what):
        """Walk one hash index: the directory whole, each bucket named once. Returns its entries as (bytes, count)."""
        cdef mm_frame *p
        cdef mm_frame *top = mm_frame_at(self.m, self.m.pt[root] & MM_PT_MASK) if 0 < root < self.m.hot.page_high else NULL
        cdef uint64_t k0 = 0, k1 = 0
        cdef uint32_t i, n, per
        if top == NULL or self.m.pt[root] & MM_PT_BITS or self.m.pt[root] >= self.m.hot.n_units:
            self.say(f"{what}: its root, page {root}, is no page")
            return 0, 0
        memcpy(&k0, <uint8_t *>top + MM_UNIT - 16, 8)
        memcpy(&k1, <uint8_t *>top + MM_UNIT - 8, 8)
        buckets = top.extra
        level = top.level
        if not 0 < level <= 4 or not 0 < buckets <= MM_DIR_FAN ** level or buckets <= MM_DIR_FAN ** (level - 1) * (level > 1):
            self.say(f"{what}: {buckets} buckets under a directory of {level} levels")
            return 0, 0
        named = [root]
        for level in range(top.level, 0, -1):
            below = []
            want = -(-buckets // MM_DIR_FAN ** (level - 1))         # entries of this level
            for at, pgno in enumerate(named):
                p = self.page(pgno, tree, f"{what}, directory")
                if p == NULL:
                    return 0, 0
                n = min(MM_DIR_FAN, want - at * MM_DIR_FAN)
                if p.kind != MM_KIND_DIRECTORY or p.level != level or p.layout != 1 or p.count != (n + 1) // 2 or p.heap != MM_UNIT - 16:
                    self.say(f"hashindex: page {pgno}: kind {p.kind}, level {p.level}, layout {p.layout}, count {p.count}, heap {p.heap} in a "
                             f"directory of {buckets} buckets")
                    return 0, 0
                below += [(<uint32_t *>(<uint8_t *>p + MM_HEAD))[i] for i in range(n)]
            named = below
        total = count = 0
        for b, pgno in enumerate(named):
            place = 0
            while pgno:
                p = self.page(pgno, tree, f"{what}, bucket {b}")
                if p == NULL:
                    break
                if p.kind != MM_KIND_BUCKET or p.layout != 1 or p.level or p.prefix or p.extra >> 32 != b or p.flags != place & 255:
                    self.say(f"hashindex(3): page {pgno}, place {place} of bucket {b}: kind {p.kind}, layout {p.layout}, level {p.level}, "
                             f"prefix {p.prefix}, bucket {p.extra >> 32}, flags {p.flags}")
                    break
                pgno = p.extra & 0xffffffff
                if place and not pgno and p.count == 0:
                    self.say(f"hashindex(4): page {p.pgno}, the last of bucket {b}, is empty")
                found = self.bucket_page(p, b, buckets, k0, k1)
                total += found[0]
                count += found[1]
                place += 1
        return total, count

    cdef bucket_page(self, mm_frame *p, uint32_t b, uint32_t buckets, uint64_t k0, uint64_t k1):
        """The entries of one page of a bucket, as (bytes, count)."""
        cdef Entry e
        cdef uint8_t kb[384]
        cdef uint32_t i, h
        cdef uint64_t wide
        cdef mm_slotent *slot = <mm_slotent *>(<uint8_t *>p + MM_HEAD)
        total = sizes = 0
        if p.count > MM_MAX_SLOTS or p.heap < MM_HEAD + 8 * p.count or p.heap > MM_UNIT:
            self.say(f"page(3): page {p.pgno}: {p.count} slots, heap at {p.heap}")
            return 0, 0
        keys = set()
        for i in range(p.count):
            if entry_at(p, i, kb, &e):
                self.say(f"page {p.pgno}: slot {i} leaves the page")
                return total, i
            key, size = self.entry(p, i, kb, &e)
            total += size
            wide = siphash(k0, k1, <const uint8_t *><char *>key, len(key))
            h = (<uint32_t>wide ^ <uint32_t>(wide >> 32)) & ~self.m.hash_ignore
            if slot[i].head != h or bucket_of(h, buckets) != b or key in keys:
                self.say(f"hashindex(1): page {p.pgno}: slot {i} with key {key[:40]!r} of hash {h:#x} has head {slot[i].head:#x}, "
                         f"in bucket {b} of {buckets}")
            keys.add(key)
            sizes += cell_bytes(p, i)
        if sizes + p.frag + p.heap != MM_UNIT:
            self.say(f"page(3): page {p.pgno}: cells {sizes} + frag {p.frag} + heap {p.heap} is not {MM_UNIT}")
        return total, p.count

    cdef entry(self, mm_frame *p, uint32_t i, const uint8_t *kb, const Entry *e):
        """(key, bytes of key and value) of an entry; its extents are accounted for."""
        cdef mm_valref ref
        cdef const uint8_t *rest
        key = (<const char *>kb)[:e.kn]
        if e.lk:
            self.claim_extent(e.lg, e.lk - MM_KEY_INLINE, f"key in slot {i} of page {p.pgno}")
            rest = extent_bytes(self.m, e.lg, e.lk - MM_KEY_INLINE)
            if rest != NULL:
                key += (<const char *>rest)[:e.lk - MM_KEY_INLINE]
        if p.level or not e.vinfo & MM_V_EXT:
            return key, len(key) + e.vn
        memcpy(&ref, e.val, sizeof(ref))
        self.claim_extent(ref.granule, ref.nbytes, f"value in slot {i} of page {p.pgno}")
        return key, len(key) + ref.nbytes

    cdef chain(self, uint32_t pgno, mm_frame *p):
        """The older versions of a page: linked both ways, versions falling, each retired by the one after it."""
        cdef mm_frame *q
        cdef uint32_t newer = self.m.pt[pgno] & MM_PT_MASK
        hops = 0
        while p.prev:
            if p.prev >= self.m.hot.n_units:
                self.say(f"page {pgno}: version {p.ver} has prev {p.prev} outside the region")
                return
            q = mm_frame_at(self.m, p.prev)
            if q.pgno != pgno or q.next != newer or q.ver >= p.ver or not q.ver < q.retired <= p.ver:
                self.say(f"frames(1): page {pgno}: version {p.ver} in frame {newer} is followed by version {q.ver} of page {q.pgno} "
                         f"(retired {q.retired}, next {q.next}) in frame {p.prev}")
                return
            hops += 1
            if hops > self.m.hot.n_units:
                self.say(f"page {pgno}: its versions go in a circle")
                return
            newer = p.prev
            p = q


def check(Region region not None) -> list:
    """Every broken invariant of the region as a line of text; an empty list is a clean region.

    It takes the commit lock. A read-only process cannot, and walks until nothing moved meanwhile; OperationalError: it always did.
    """
    cdef mm_hot before
    cdef int tries
    region.use()
    if not region.m.read_only:
        return _walk(region)
    for tries in range(STILL_TRIES):
        memcpy(&before, region.m.hot, sizeof(before))
        mm_fence()
        if before.lock == 0 and mm_ld64(&region.m.desc.state) == 0:
            bad = None
            with contextlib.suppress(Exception):        # what moves under the walk may look like anything
                bad = _walk(region)
            mm_fence()
            if memcmp(&before, region.m.hot, sizeof(before)) == 0 and bad is not None:
                return bad
        time.sleep(0.01)
    raise errors.OperationalError(f"region {region.name!r}: it changes all the time, or a commit was left half done, and a read-only process "
                                  "cannot take the commit lock to check it; check it from one that may write")


cdef list _walk(Region region):
    cdef mm_map *m
    cdef _Walk w = _Walk()
    cdef mm_frame *p
    cdef mm_control *c
    cdef mm_root root
    cdef Entry e
    cdef uint8_t kb[384]
    cdef uint32_t f, i, g, order, pg
    cdef uint64_t n, pos
    cdef mm_record r
    cdef mm_bigref big
    cdef mm_op op
    m = &region.m
    w.m = m
    w.bad = []
    w.frames = {}
    w.pages = {}
    w.extents = {}
    if not m.read_only:
        take_lock(region, 60000000000)
    try:
        if not 3 <= m.hot.page_high <= m.cap_pages or not 3 <= m.hot.n_units <= m.cap_units:
            w.say(f"{m.hot.page_high} page numbers, {m.hot.n_units} units; the region was made for {m.cap_pages} and {m.cap_units}")
            return w.bad
        if m.desc.state:
            w.say(f"a descriptor of commit {m.desc.state} is sealed and not performed")
        w.tree(MM_TREE_ROOTS, MM_PG_ROOTS, "roots")
        # trees
        trees = {}
        met = set()
        todo = [MM_PG_ROOTS]
        while todo:
            n = todo.pop()
            if not 0 < n < m.hot.page_high or n in met:
                continue
            met.add(n)
            if m.pt[n] & MM_PT_BITS or m.pt[n] >= m.hot.n_units:
                continue
            p = mm_frame_at(m, m.pt[n])
            if p.level:
                todo.extend([child_at(p, i) for i in range(p.count + 1)])
                continue
            for i in range(p.count):
                if entry_at(p, i, kb, &e) or e.kn != 4 or e.vn != sizeof(root):
                    w.say(f"roots: slot {i} of page {n} is no row of a tree")
                    continue
                memcpy(&root, e.val, sizeof(root))
                trees[int.from_bytes((<char *>kb)[:4], "big")] = (root.root, root.control, root.kind, root.flags)
        for tree, (rootno, control, kind, flags) in sorted(trees.items()):
            if flags & ~MM_ROOTF_HASH:
                w.say(f"tree {tree} has flags {flags:#x}")
            total, count = w.hash_tree(tree, rootno, f"tree {tree}") if flags & MM_ROOTF_HASH else w.tree(tree, rootno, f"tree {tree}")
            if control:
                w.claim_extent(control, sizeof(mm_control), f"control of tree {tree}")
                c = <mm_control *>extent_bytes(m, control, sizeof(mm_control))
                if c == NULL:
                    continue
                if kind == MM_ROOT_BOUNDED:
                    if c.bytes != total + 32 * count or c.entries != count:
                        w.say(f"tree {tree}: control says {c.bytes} bytes, {c.entries} entries; found {total + 32 * count} and {count}")
                    if c.bytes > c.max_bytes:
                        w.say(f"tree {tree}: {c.bytes} bytes, bound {c.max_bytes}")
                elif kind == MM_ROOT_TOPIC:
                    w.claim_extent(<uint32_t>c.ring_granule, c.ring_bytes, f"ring of topic {tree}")
                    if c.head - c.tail > c.ring_bytes or c.tail_seq > c.head_seq:
                        w.say(f"topic {tree}: tail {c.tail}, head {c.head} in a ring of {c.ring_bytes}")
            elif kind != MM_ROOT_TREE:
                w.say(f"tree {tree} of kind {kind} has no control extent")
        if len(trees) + 1 != m.hot.n_trees:
            w.say(f"{len(trees)} trees, the count says {m.hot.n_trees - 1}")
        # retired versions
        for name, head, tail, count in (("limbo", m.hot.limbo_head, m.hot.limbo_tail, m.hot.limbo_count),
                                        ("pinned", m.hot.pinned_head, m.hot.pinned_tail, m.hot.pinned_count)):
            seen = 0
            f = head
            last = 0
            while f:
                if not w.claim_frame(f, name):
                    break
                p = mm_frame_at(m, f)
                if p.retired == 0 or p.retired > m.hot.commit_seq or p.ver >= p.retired:
                    w.say(f"{name} list: frame {f} has ver {p.ver}, retired {p.retired}")
                if not 0 < p.pgno < m.hot.page_high or (m.pt[p.pgno] & MM_PT_BITS) == MM_PT_LINK:
                    w.say(f"frames(5): {name} list: frame {f} is a version of page {p.pgno}, whose number is free")
                seen += 1
                last = f
                f = p.link
            if seen != count or last != tail:
                w.say(f"{name} list: {seen} frames ending at {last}; the words say {count} ending at {tail}")
        seen = 0
        f = m.hot.free_head
        while f:
            if not w.claim_frame(f, "free"):
                break
            seen += 1
            f = mm_frame_at(m, f).link
        if seen != m.hot.free_count:
            w.say(f"free list: {seen} frames; the count says {m.hot.free_count}")
        # page numbers
        seen = 0
        pg = m.hot.page_free_head
        while pg:
            if pg >= m.hot.page_high or (m.pt[pg] & MM_PT_BITS) != MM_PT_LINK or pg in w.pages:
                w.say(f"list of free page numbers: {pg} is not free")
                break
            w.pages[pg] = "free"
            seen += 1
            pg = m.pt[pg] & MM_PT_MASK
        if seen != m.hot.page_free_count:
            w.say(f"list of free page numbers: {seen}; the count says {m.hot.page_free_count}")
        for pg in range(1, m.hot.page_high):
            if pg not in w.pages:
                if m.pt[pg] & MM_PT_BITS == MM_PT_FREED and (m.pt[pg] & MM_PT_MASK) < m.hot.n_units:
                    w.chain(pg, mm_frame_at(m, m.pt[pg] & MM_PT_MASK))
                else:
                    w.say(f"page {pg} is neither in a tree nor free (pt {m.pt[pg]:#x}): leaked")
        # extents
        g = m.hot.xlimbo_head
        seen = granules = 0
        while g:
            if extent_bytes(m, g, 0) == NULL or g in w.extents:
                w.say(f"list of retired extents: {g} is in use or outside the region")
                break
            w.extents[g] = (mm_extent_at(m, g).granules, "retired")
            seen += 1
            granules += mm_extent_at(m, g).granules
            g = mm_extent_at(m, g).link
        if seen != m.hot.xlimbo_count or granules != m.hot.xlimbo_granules:
            w.say(f"list of retired extents: {seen} of {granules} granules; the counts say {m.hot.xlimbo_count} of {m.hot.xlimbo_granules}")
        for name, f, tail, count in (("retired values", m.hot.xlog_head, m.hot.xlog_tail, m.hot.xlog_count), ("reserved extents", m.hot.xres_head, 0, m.hot.xres_count)):
            walked = last = 0
            while f:
                if extent_bytes(m, f, 0) == NULL or f in w.extents:
                    w.say(f"list of {name}: {f} is in use or outside the region")
                    break
                w.extents[f] = (mm_extent_at(m, f).granules, name)
                if tail and (mm_extent_at(m, f).retired == 0 or last and mm_extent_at(m, f).retired < mm_extent_at(m, last).retired):
                    w.say(f"extents(5): {f} is retired by {mm_extent_at(m, f).retired}, behind one of {mm_extent_at(m, last).retired}")
                if not tail and (mm_extent_at(m, f).linked or mm_extent_at(m, f).owner == 0 or mm_extent_at(m, f).back != last):
                    w.say(f"extents(6): reserved {f} is linked by {mm_extent_at(m, f).linked}, owner {mm_extent_at(m, f).owner:#x}, back {mm_extent_at(m, f).back}")
                walked += 1
                last = f
                f = mm_extent_at(m, f).link
            if walked != count or tail and last != tail:
                w.say(f"list of {name}: {walked} ending at {last}; the words say {count} ending at {tail}")
        if m.hot.pinned_todo > m.hot.pinned_count:
            w.say(f"pinned list: {m.hot.pinned_todo} to be looked at of {m.hot.pinned_count}")
        # log
        pos = m.hot.ring_tail
        commit = m.hot.tail_commit
        while pos < m.hot.ring_head:
            ring_out(m.ring, m.ring_bytes, pos, &r, sizeof(r))
            if r.len < sizeof(r) or r.len & 7 or pos + r.len > m.hot.ring_head or r.lsn != pos or r.commit != commit:
                w.say(f"wal(4): the record at {pos} says lsn {r.lsn}, {r.len} bytes, commit {r.commit}; expected commit {commit}")
                break
            if r.flags & MM_REC_BIG:
                ring_out(m.ring, m.ring_bytes, pos + sizeof(r), &big, sizeof(big))
                w.claim_extent(big.granule, big.nbytes, f"record of commit {r.commit}")
            if r.flags & MM_REC_REFS:
                w.named(pos, &r)
            pos += r.len
            commit += 1
        if pos == m.hot.ring_head and commit != m.hot.commit_seq + 1:
            w.say(f"wal(4): the log ends with commit {commit - 1}, the newest commit is {m.hot.commit_seq}")
        # pins: mine are of extents that are there; another process may just be taking back one that came too late
        for g in region.views.held:
            if g not in w.extents:
                w.say(f"views(2): extent {g} is pinned by this process and neither in use nor retired")
        for i in range(m.n_snaps):
            n = mm_ld64(&m.pin[i])
            if n and (<uint32_t>n >= m.hot.n_units * MM_PER_UNIT or ((n >> MM_PIN_SHIFT) & MM_LOCK_SLOT) - 1 >= m.n_slots):
                w.say(f"pin {i}: {n:#x} names no extent or no process")
        # every granule once
        free_granules = 0
        for order in range(MM_X_ORDERS):
            g = m.hot.xfree[order]
            before = 0
            while g:
                if <uint64_t>g + (<uint64_t>1 << order) > m.hot.n_units * MM_PER_UNIT or g in w.extents:
                    w.say(f"free block {g} of order {order} is in use or outside the region")
                    break
                if m.xmap[g] != (MM_X_FREE | order) or (<uint32_t *>(m.data + <uint64_t>g * MM_GRANULE))[1] != before:
                    w.say(f"extents: free block {g} of order {order}: map {m.xmap[g]:#x}")
                w.extents[g] = (1 << order, "free")
                free_granules += 1 << order
                before = g
                g = (<uint32_t *>(m.data + <uint64_t>g * MM_GRANULE))[0]
        if free_granules != m.hot.x_free:
            w.say(f"{free_granules} free granules; the count says {m.hot.x_free}")
        end = 0
        total = 0
        for start in sorted(w.extents):
            if start < end:
                w.say(f"extents overlap at granule {start}: {w.extents[start][1]}")
            end = start + w.extents[start][0]
            if end > m.hot.n_units * MM_PER_UNIT:
                w.say(f"extent {start} of {end - start} granules ({w.extents[start][1]}) leaves the region")
                break
            total += w.extents[start][0]
            if any([(u in w.frames) for u in range(start // 4, (end + 3) // 4)]):
                w.say(f"extents(1): extent {start} lies in units that are frames")
        if total != m.hot.n_granules:
            w.say(f"extents: {total} granules accounted for, {m.hot.n_granules} exist: leaked")
        if len(w.frames) != m.hot.n_frames or m.hot.n_frames + m.hot.n_granules // MM_PER_UNIT != m.hot.n_units - 1:
            w.say(f"frames: {len(w.frames)} accounted for, {m.hot.n_frames} exist of {m.hot.n_units} units: leaked")
        return w.bad
    finally:
        if not m.read_only:
            lock_release(m)
