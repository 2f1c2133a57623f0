"""The hash index: linear hashing over pages that commits copy. For point reads and writes; it knows no order.

LAYOUT      The root (its page number is fixed for the tree's life) is a directory page: MM_DIR_FAN page numbers, a radix tree over the bucket's
            number whose lowest level (1) names the buckets' first pages. The root holds in `extra` the number n of buckets, which are
            level and split pointer in one: level = log2 n rounded down, split = n - 2^level; and in its last 16 bytes the key of the hash.
            A bucket is a chain of slotted pages with the cells of leaves, without prefix. A slot's `head` is the 32 bits of the hash, whose
            lowest bits are the bucket's number: a split needs no key again, and a probe compares keys only where 32 bits agree. Slots stand in
            the order of insertion: two dozen heads in three cache lines are soon looked through, and what does not move keeps its visited bit.
INVARIANTS  (1) An entry with hash h lies in bucket h mod 2^(level + 1) if that is < n, else in h mod 2^level.
            (2) Every change in a bucket gives its first page a new version, so that page alone stands for the bucket in read sets; a split
                does so for both buckets, also when no entry moves. Directory pages are in no read set.
            (3) A page of a chain says which bucket and which place in the chain (modulo 256) it is: a wrong link is seen at the first hop.
            (4) The last page of a chain is not empty, unless it is the first.
READERS     hash_find at one S: the directory, the bucket, its chain. frames.pyx tells what must be checked after it.
WRITERS     hash_locate, then hash_put or hash_delete. An entry goes to the first page of its chain with room. A put that leaves little room,
            or goes behind the first page, splits the bucket at the split pointer, whichever that is: so n follows the entries, with no counter
            that all commits would have to change. Empty pages behind the last entry of a chain are freed; n never falls.
NOT DONE    Joining buckets again: a space that shrank for good keeps an empty page a bucket until it is dropped.
SOURCE      Litwin, Linear hashing (VLDB 1980); Aumasson and Bernstein, SipHash (INDOCRYPT 2012): SipHash-1-3, keyed for each tree, so nobody
            who does not read the region can choose keys that collide.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from memora.engine.btree cimport Path, drop_leaf, keep_key, lack, retire_value, same_size, set_key, set_value
from memora.engine.extents cimport retire_extent
from memora.engine.frames cimport Look, current, dirty, expect_leaf, free_page, new_page, page_at, still_there
from memora.engine.layout cimport *
from memora.engine.page cimport Entry, add_entry, clear_page, compare, drop_entry, entry_at, entry_bytes, slots, used_bytes, value_at
from memora.engine.sync cimport *

cdef enum:
    DIR_LEVELS = 4
    BUCKETS_MAX = 0x3fffffff
    FULL = 3584                 # bytes used in a page (of 4032) from which on a put splits a bucket


# ---------------------------------------------------------------------------------------------- the hash

cdef inline uint64_t rotl(uint64_t x, int b) noexcept nogil:
    return (x << b) | (x >> (64 - b))


cdef inline void sip_round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[1] = rotl(v[1], 13) ^ v[0]
    v[0] = rotl(v[0], 32)
    v[2] += v[3]
    v[3] = rotl(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = rotl(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = rotl(v[1], 17) ^ v[2]
    v[2] = rotl(v[2], 32)


cdef uint64_t siphash(uint64_t k0, uint64_t k1, const uint8_t *p, size_t n) noexcept nogil:
    """SipHash-1-3 of n bytes."""
    cdef uint64_t v[4]
    cdef uint64_t w, last = <uint64_t>n << 56
    v[0] = k0 ^ 0x736f6d6570736575ULL
    v[1] = k1 ^ 0x646f72616e646f6dULL
    v[2] = k0 ^ 0x6c7967656e657261ULL
    v[3] = k1 ^ 0x7465646279746573ULL
    while n >= 8:
        memcpy(&w, p, 8)
        v[3] ^= w
        sip_round(v)
        v[0] ^= w
        p += 8
        n -= 8
    while n:
        n -= 1
        last |= <uint64_t>p[n] << (8 * n)
    v[3] ^= last
    sip_round(v)
    v[0] ^= last
    v[2] ^= 0xff
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef inline uint32_t hash_of(const mm_map *m, const TreeRef *t, const uint8_t *k, size_t kn) noexcept nogil:
    cdef uint64_t h = siphash(t.key0, t.key1, k, kn)
    return (<uint32_t>h ^ <uint32_t>(h >> 32)) & ~m.hash_ignore


cdef inline uint32_t below(uint32_t n) noexcept nogil:
    """The largest power of two that is <= n; n > 0."""
    return <uint32_t>1 << mm_log2(n)


cdef uint32_t bucket_of(uint32_t h, uint32_t n) noexcept nogil:
    """invariant (1)"""
    cdef uint32_t half = below(n)
    cdef uint32_t b = h & (2 * half - 1)
    return b if b < n else b & (half - 1)


cdef inline uint32_t digit(uint32_t b, uint32_t level) noexcept nogil:
    """Where bucket b is found in a directory page of this level."""
    while level > 1:
        b //= MM_DIR_FAN
        level -= 1
    return b % MM_DIR_FAN


cdef inline uint32_t *numbers(const mm_frame *p) noexcept nogil:
    """The page numbers in a directory page."""
    return <uint32_t *>(<const uint8_t *>p + MM_HEAD)


cdef inline uint32_t probe(mm_map *m, const mm_frame *p, uint32_t h, const uint8_t *k, size_t kn, int *found) noexcept nogil:
    """The slot of k in a page of its bucket; not found: one behind the last."""
    cdef const mm_slotent *s = slots(p)
    cdef uint32_t n = mm_ld16(&p.count), i
    if n > MM_MAX_SLOTS:
        n = MM_MAX_SLOTS
    for i in range(n):
        if s[i].head == h and compare(m, p, i, k, kn) == 0:
            found[0] = 1
            return i
    found[0] = 0
    return n


# ---------------------------------------------------------------------------------------------- readers

cdef int hash_key(mm_map *m, uint64_t s, TreeRef *t) noexcept nogil:
    """Fetch the key of the tree's hash, which never changes. MM_OK or MM_MOVED."""
    cdef Look look
    cdef int st = page_at(m, s, t.root, &look)
    if st:
        return st
    if look.page.tree != t.tree or look.page.kind != MM_KIND_DIRECTORY:
        return MM_MOVED
    memcpy(&t.key0, <const uint8_t *>look.page + MM_UNIT - 16, 8)
    memcpy(&t.key1, <const uint8_t *>look.page + MM_UNIT - 8, 8)
    return MM_OK if still_there(&look) else MM_MOVED


cdef int hash_bucket(mm_map *m, uint64_t s, const TreeRef *t, uint32_t b, Look *look, uint32_t *n, int *hopped) noexcept nogil:
    """The first page of bucket b at commit s; of the bucket of hash b, if n[0] is 0. n[0] = number of buckets.

    MM_OK, MM_NO_TREE, MM_MOVED; MM_ABSENT: there is no bucket b.
    """
    cdef const mm_frame *p
    cdef uint32_t level, pgno, hash_given = n[0] == 0
    cdef int st = page_at(m, s, t.root, look)
    if st:
        return st
    p = look.page
    if p.tree != t.tree:
        return MM_NO_TREE if still_there(look) else MM_MOVED
    hopped[0] = look.hopped
    n[0] = <uint32_t>mm_ld64r(&p.extra)
    level = p.level
    if n[0] == 0 or n[0] > BUCKETS_MAX or level == 0 or level > DIR_LEVELS:
        return MM_MOVED
    if hash_given:
        b = bucket_of(b, n[0])
    elif b >= n[0]:
        return MM_ABSENT if still_there(look) else MM_MOVED
    while True:
        if p.kind != MM_KIND_DIRECTORY or p.level != level:
            return MM_MOVED
        pgno = mm_ld32(numbers(p) + digit(b, level))
        level -= 1
        if level == 0:
            expect_leaf(m, pgno)
        if not still_there(look):       # before the number is used
            return MM_MOVED
        st = page_at(m, s, pgno, look)
        if st:
            return st
        hopped[0] |= look.hopped
        p = look.page
        if p.tree != t.tree:
            return MM_MOVED
        if level == 0:
            return MM_OK if p.kind == MM_KIND_BUCKET and p.flags == 0 and <uint32_t>(mm_ld64r(&p.extra) >> 32) == b else MM_MOVED


cdef int hash_chained(mm_map *m, uint64_t s, const TreeRef *t, uint32_t b, uint32_t place, uint32_t pgno, Look *look) noexcept nogil:
    """The page at a place of bucket b's chain, as the page before names it. invariant (3)"""
    cdef const mm_frame *p
    cdef int st
    if place > m.cap_pages:
        return MM_MOVED
    st = page_at(m, s, pgno, look)
    if st:
        return st
    p = look.page
    if p.tree != t.tree or p.kind != MM_KIND_BUCKET or p.flags != (place & 255) or <uint32_t>(mm_ld64r(&p.extra) >> 32) != b:
        return MM_MOVED
    return MM_OK


cdef int hash_find(mm_map *m, uint64_t s, const TreeRef *t, const uint8_t *k, size_t kn, Look *look, uint32_t *slot) noexcept nogil:
    """The page and slot of k at commit s (MM_FOUND), or the last page of its bucket (MM_ABSENT). look.seen: the bucket's first page."""
    cdef uint32_t h = hash_of(m, t, k, kn), n = 0, place = 0, head
    cdef int found, hopped = 0
    cdef uint64_t extra
    cdef int st = hash_bucket(m, s, t, h, look, &n, &hopped)
    if st:
        return st
    head = look.pgno
    while True:
        extra = mm_ld64r(&look.page.extra)
        slot[0] = probe(m, look.page, h, k, kn, &found)
        if found or <uint32_t>extra == 0:
            look.hopped = hopped
            look.seen = head
            return MM_FOUND if found else MM_ABSENT
        if not still_there(look):
            return MM_MOVED
        place += 1
        st = hash_chained(m, s, t, <uint32_t>(extra >> 32), place, <uint32_t>extra, look)
        if st:
            return st
        hopped |= look.hopped


# ---------------------------------------------------------------------------------------------- writers

cdef int wrong(mm_map *m, uint32_t pgno, const char *what) noexcept nogil:
    m.corrupt_page = pgno
    m.corrupt_what = what
    return MM_CORRUPT


cdef int hash_key_now(mm_map *m, TreeRef *t) noexcept nogil:
    """hash_key in the state a commit is building."""
    cdef mm_frame *p = current(m, t.root)
    if p == NULL or p.tree != t.tree or p.kind != MM_KIND_DIRECTORY:
        return wrong(m, t.root, b"the root of a hash index is no directory of it")
    memcpy(&t.key0, <uint8_t *>p + MM_UNIT - 16, 8)
    memcpy(&t.key1, <uint8_t *>p + MM_UNIT - 8, 8)
    return MM_OK


cdef mm_frame *new_directory(mm_map *m, uint32_t tree, uint32_t level, uint32_t *pgno) noexcept nogil:
    cdef mm_frame *p = new_page(m, tree, MM_KIND_DIRECTORY, <uint8_t>level, pgno)
    if p != NULL:
        p.heap = MM_UNIT - 16           # where the key lies: copies of the page take it along
        memset(<uint8_t *>p + MM_UNIT - 16, 0, 16)
    return p


cdef void set_number(mm_frame *p, uint32_t i, uint32_t pgno) noexcept nogil:
    """Entry i of a private directory page, which is the last one or comes behind it. Pages are copied as far as count says: 8 bytes each."""
    numbers(p)[i] = pgno
    if i & 1 == 0:
        numbers(p)[i + 1] = 0
    p.count = <uint16_t>(i // 2 + 1)


cdef int hash_create(mm_map *m, TreeRef *t) noexcept nogil:
    """An empty index of one bucket: t.root and the key of its hash."""
    cdef mm_frame *root
    cdef uint32_t first
    cdef uint64_t key[2]
    if mm_random(key, 16):
        return MM_IO
    root = new_directory(m, t.tree, 1, &t.root)
    if root == NULL or new_page(m, t.tree, MM_KIND_BUCKET, 0, &first) == NULL:
        return lack(m)
    root.extra = 1
    set_number(root, 0, first)
    memcpy(<uint8_t *>root + MM_UNIT - 16, key, 16)
    t.key0 = key[0]
    t.key1 = key[1]
    return MM_OK


cdef mm_frame *bucket_now(mm_map *m, const TreeRef *t, uint32_t b, uint32_t *pgno) noexcept nogil:
    """The first page of bucket b. NULL: damaged."""
    cdef mm_frame *p = current(m, t.root)
    cdef uint32_t level, at = t.root
    level = 0 if p == NULL else p.level
    while p != NULL and p.tree == t.tree and p.kind == MM_KIND_DIRECTORY and p.level == level and 0 < level <= DIR_LEVELS:
        at = numbers(p)[digit(b, level)]
        level -= 1
        if level == 0:
            expect_leaf(m, at)
        p = current(m, at)
    if p == NULL or p.tree != t.tree or p.kind != MM_KIND_BUCKET or level or p.flags or <uint32_t>(p.extra >> 32) != b:
        wrong(m, at, b"the directory of a hash index leads to a wrong page")
        return NULL
    pgno[0] = at
    return p


cdef mm_frame *chained_now(mm_map *m, const TreeRef *t, uint32_t b, uint32_t place, uint32_t pgno) noexcept nogil:
    """invariant (3). NULL: damaged."""
    cdef mm_frame *p = NULL if place > m.cap_pages else current(m, pgno)
    if p == NULL or p.tree != t.tree or p.kind != MM_KIND_BUCKET or p.flags != (place & 255) or <uint32_t>(p.extra >> 32) != b:
        wrong(m, pgno, b"the chain of a bucket leads to a wrong page")
        return NULL
    return p


cdef int hash_locate(mm_map *m, const TreeRef *t, const uint8_t *k, size_t kn, Path *path) noexcept nogil:
    """path.pgno[0] = first page of the bucket, idx[0] = the hash; pgno[1], idx[1] = the page with the key, its slot. Not found: the last page."""
    cdef uint32_t h = hash_of(m, t, k, kn), b, place = 0
    cdef mm_frame *p = current(m, t.root)
    if p == NULL or p.tree != t.tree:
        return MM_NO_TREE
    if p.kind != MM_KIND_DIRECTORY or <uint32_t>p.extra == 0 or <uint32_t>p.extra > BUCKETS_MAX:
        return wrong(m, t.root, b"the root of a hash index is no directory of it")
    b = bucket_of(h, <uint32_t>p.extra)
    p = bucket_now(m, t, b, &path.pgno[0])
    path.tree = t.tree
    path.depth = 1
    path.idx[0] = h
    path.pgno[1] = path.pgno[0]
    while p != NULL:
        path.idx[1] = probe(m, p, h, k, kn, &path.found)
        if path.found or <uint32_t>p.extra == 0:
            return MM_OK
        place += 1
        path.pgno[1] = <uint32_t>p.extra
        p = chained_now(m, t, b, place, path.pgno[1])
    return MM_CORRUPT


cdef int append(mm_frame *p, uint32_t h, const Entry *e) noexcept nogil:
    """Put an entry behind the others of a private page. -1: no room."""
    cdef uint32_t i = p.count
    if add_entry(p, i, e):
        return -1
    (<mm_slotent *>slots(p))[i].head = h
    return 0


cdef int place_entry(mm_map *m, const TreeRef *t, uint32_t head, uint32_t h, const Entry *e, int *full) noexcept nogil:
    """Put an entry into the first page of a chain, from the private page `head` on, that has room; a page more if none has.

    full: the page it went to is, or it was not the first.
    """
    cdef mm_frame *p = current(m, head)
    cdef mm_frame *q
    cdef uint32_t pgno = head, place = 0, b, new, need
    if p == NULL:
        return MM_CORRUPT
    b = <uint32_t>(p.extra >> 32)
    need = entry_bytes(p, e) + 8 + MM_HEAD
    while used_bytes(p) + need > MM_UNIT:
        if <uint32_t>p.extra == 0:
            p = dirty(m, pgno)
            q = new_page(m, t.tree, MM_KIND_BUCKET, 0, &new)
            if p == NULL or q == NULL:
                return lack(m)
            p.extra = p.extra | new
            q.extra = <uint64_t>b << 32
            q.flags = <uint8_t>(place + 1)
        place += 1
        pgno = <uint32_t>p.extra
        p = chained_now(m, t, b, place, pgno)
        if p == NULL:
            return MM_CORRUPT
    p = dirty(m, pgno)
    if p == NULL:
        return lack(m)
    if append(p, h, e):
        return wrong(m, pgno, b"a page has less room than its head says")
    full[0] = place > 0 or used_bytes(p) >= FULL
    return MM_OK


cdef int trim(mm_map *m, const TreeRef *t, uint32_t head) noexcept nogil:
    """Free the empty pages at the end of a chain. invariant (4)"""
    cdef mm_frame *p = current(m, head)
    cdef uint32_t b, keep = head, place = 0, next
    if p == NULL:
        return MM_CORRUPT
    b = <uint32_t>(p.extra >> 32)
    next = <uint32_t>p.extra
    while next:
        place += 1
        p = chained_now(m, t, b, place, next)
        if p == NULL:
            return MM_CORRUPT
        if p.count:
            keep = next
        next = <uint32_t>p.extra
    p = current(m, keep)
    next = <uint32_t>p.extra
    if next == 0:
        return MM_OK
    p = dirty(m, keep)
    if p == NULL:
        return lack(m)
    p.extra = <uint64_t>b << 32
    while next:
        p = current(m, next)
        if p == NULL:
            return MM_CORRUPT
        keep = next
        next = <uint32_t>p.extra
        if free_page(m, keep):
            return MM_NOMEM if m.buf.failed else MM_CORRUPT
    return MM_OK


cdef int hash_put(mm_map *m, const TreeRef *t, Path *path, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry) noexcept nogil:
    """Insert the key that was located, or replace its value. The path is used up."""
    cdef uint32_t i = path.idx[1], pgno = path.pgno[1], head = path.pgno[0], h = path.idx[0]
    cdef mm_frame *p = NULL
    cdef Entry e, old
    cdef mm_valref ref
    cdef int st, full = 0
    if dirty(m, head) == NULL:          # invariant (2)
        return lack(m)
    if path.found:
        p = dirty(m, pgno)
        if p == NULL:
            return lack(m)
        if value_at(p, i, &old):
            return wrong(m, pgno, b"a cell leaves its page")
        st = retire_value(m, &old)
        if st:
            return st
    st = set_value(m, t.tree, &e, &ref, kn, v, vn, expiry)
    if st:
        return st
    if path.found:
        if same_size(&e, &old):
            memcpy(<void *>old.val, e.val, e.vn)    # in place, the copy is private
            return MM_OK
        keep_key(&e, &old, k, kn)
        drop_entry(p, i)
        if used_bytes(p) + entry_bytes(p, &e) + 8 + MM_HEAD <= MM_UNIT:
            return MM_OK if append(p, h, &e) == 0 else wrong(m, pgno, b"a page has less room than its head says")
    else:
        st = set_key(m, t.tree, &e, k, kn)
        if st:
            return st
    st = place_entry(m, t, head, h, &e, &full)
    if st == MM_OK and path.found:
        st = trim(m, t, head)           # it may have been the only entry of the last page
    return split_next(m, t) if st == MM_OK and full else st


cdef int hash_delete(mm_map *m, const TreeRef *t, Path *path) noexcept nogil:
    """Remove the entry at the path's slot. The path is used up."""
    cdef uint8_t kb[384]
    cdef mm_frame *p
    cdef Entry e
    cdef int st
    if dirty(m, path.pgno[0]) == NULL:  # invariant (2)
        return lack(m)
    p = dirty(m, path.pgno[1])
    if p == NULL:
        return lack(m)
    if entry_at(p, path.idx[1], kb, &e):
        return wrong(m, path.pgno[1], b"a cell leaves its page")
    st = retire_value(m, &e)
    if st == MM_OK and e.lk:
        st = retire_extent(m, e.lg)
    if st:
        return st
    drop_entry(p, path.idx[1])
    return trim(m, t, path.pgno[0]) if p.count == 0 else MM_OK


# ---------------------------------------------------------------------------------------------- splitting

cdef int name_bucket(mm_map *m, const TreeRef *t, mm_frame *root, uint32_t b, uint32_t pgno) noexcept nogil:
    """Enter bucket b, the next one, into the directory, whose private root is given; it grows to the side and upwards."""
    cdef mm_frame *p = root
    cdef mm_frame *q
    cdef uint32_t level = root.level, under = 1, i, new
    for i in range(level - 1):
        under *= MM_DIR_FAN             # buckets below one entry of the root
    if b >= under and b // under == MM_DIR_FAN:
        q = new_directory(m, t.tree, level, &new)
        if q == NULL:
            return lack(m)
        q.count = root.count
        memcpy(numbers(q), numbers(root), 8 * root.count)
        level += 1
        under *= MM_DIR_FAN
        root.level = <uint8_t>level
        set_number(root, 0, new)
    while level > 1:
        i = digit(b, level)
        if b % under == 0:              # the first below this entry
            q = new_directory(m, t.tree, level - 1, &new)
            if q == NULL:
                return lack(m)
            set_number(p, i, new)
        else:
            q = dirty(m, numbers(p)[i])
            if q == NULL:
                return lack(m)
            if q.tree != t.tree or q.kind != MM_KIND_DIRECTORY or q.level != level - 1:
                return wrong(m, numbers(p)[i], b"the directory of a hash index leads to a wrong page")
        p = q
        level -= 1
        under //= MM_DIR_FAN
    set_number(p, b % MM_DIR_FAN, pgno)
    return MM_OK


cdef int split_next(mm_map *m, const TreeRef *t) noexcept nogil:
    """Divide the bucket at the split pointer in two.

    The entries that stay are packed into the chain from its beginning while it is read: they never need more pages than were read.
    """
    cdef uint8_t copybuf[4096]
    cdef uint8_t kb[384]
    cdef mm_frame *copy = <mm_frame *>copybuf
    cdef mm_frame *root = dirty(m, t.root)
    cdef mm_frame *source
    cdef mm_frame *old
    cdef mm_frame *fresh
    cdef Entry e
    cdef uint32_t n, half, b, oldno, freshno, pgno, to, place = 0, to_place = 0, i, h
    cdef int st, full
    if root == NULL:
        return lack(m)
    n = <uint32_t>root.extra
    if n >= BUCKETS_MAX:
        return MM_OK                    # chains grow
    half = below(n)
    b = n - half
    if bucket_now(m, t, b, &oldno) == NULL:
        return MM_CORRUPT
    fresh = new_page(m, t.tree, MM_KIND_BUCKET, 0, &freshno)
    if fresh == NULL:
        return lack(m)
    fresh.extra = <uint64_t>n << 32
    st = name_bucket(m, t, root, n, freshno)
    if st:
        return st
    root.extra = n + 1
    pgno = to = oldno
    old = NULL                          # the page that takes what stays
    while pgno:
        source = dirty(m, pgno)
        if source == NULL:
            return lack(m)
        memcpy(copybuf, source, MM_UNIT)
        clear_page(source, MM_KIND_BUCKET, 0, NULL, 0)
        source.flags = copy.flags
        source.extra = copy.extra
        if old == NULL:
            old = source
        for i in range(copy.count):
            if entry_at(copy, i, kb, &e):
                return wrong(m, pgno, b"a cell leaves its page")
            h = slots(copy)[i].head
            if h & half:
                st = place_entry(m, t, freshno, h, &e, &full)
                if st:
                    return st
                continue
            if append(old, h, &e):
                if to_place == place:
                    return wrong(m, pgno, b"what stays in a bucket does not fit into its pages")
                to = <uint32_t>old.extra
                to_place += 1
                old = current(m, to)
                if old == NULL or append(old, h, &e):
                    return wrong(m, pgno, b"what stays in a bucket does not fit into its pages")
        pgno = <uint32_t>copy.extra
        place += 1
        if pgno and chained_now(m, t, b, place, pgno) == NULL:
            return MM_CORRUPT
    return trim(m, t, oldno)


cdef int drop_directory(mm_map *m, const TreeRef *t, uint32_t pgno, uint32_t level) noexcept nogil:
    """Free a directory page and all below it. Entries that name nothing are 0."""
    cdef mm_frame *p = current(m, pgno)
    cdef uint32_t i, n, next, after
    cdef int st
    if p == NULL or p.tree != t.tree or p.kind != MM_KIND_DIRECTORY or p.level != level or level > DIR_LEVELS:
        return wrong(m, pgno, b"a page of a dropped tree belongs to another")
    n = p.count * 2u
    for i in range(n if n < MM_DIR_FAN else MM_DIR_FAN):
        next = numbers(p)[i]
        if next and level > 1:
            st = drop_directory(m, t, next, level - 1)
            if st:
                return st
        while next and level == 1:
            if current(m, next) == NULL or current(m, next).kind != MM_KIND_BUCKET:
                return wrong(m, next, b"a page of a dropped tree belongs to another")
            after = <uint32_t>current(m, next).extra
            st = drop_leaf(m, next, t.tree)
            if st:
                return st
            next = after
    return free_page(m, pgno)


cdef int hash_drop(mm_map *m, const TreeRef *t) noexcept nogil:
    """Free every page and extent of the index, the root included."""
    cdef mm_frame *p = current(m, t.root)
    return drop_directory(m, t, t.root, p.level) if p != NULL else MM_CORRUPT


# ---------------------------------------------------------------------------------------------- the eviction hand

cdef int hash_hand(mm_map *m, const TreeRef *t, const uint64_t *hand, Path *path) noexcept nogil:
    """The page that the hand of a bounded tree names: bucket | place in its chain << 32 | slot << 48. What is gone: the chain's end."""
    cdef mm_frame *p = current(m, t.root)
    cdef uint32_t b, place = 0, wanted = <uint32_t>(hand[0] >> 32) & 0xffff
    if p == NULL or p.tree != t.tree:
        return MM_NO_TREE
    b = <uint32_t>hand[0]
    if b >= <uint32_t>p.extra:
        b = wanted = 0
    p = bucket_now(m, t, b, &path.pgno[0])
    if p == NULL:
        return MM_CORRUPT
    path.tree = t.tree
    path.depth = 1
    path.found = 1
    path.pgno[1] = path.pgno[0]
    while place < wanted and <uint32_t>p.extra:
        place += 1
        path.pgno[1] = <uint32_t>p.extra
        p = chained_now(m, t, b, place, path.pgno[1])
        if p == NULL:
            return MM_CORRUPT
    path.idx[0] = place
    path.idx[1] = <uint32_t>(hand[0] >> 48) if place == wanted else 0
    return MM_OK


cdef uint64_t hash_hand_next(mm_map *m, const TreeRef *t, const Path *path, uint32_t i, uint64_t *hand) noexcept nogil:
    """Move the hand on, from slot i of the path's page: to that slot, if it is there, else to the next page or bucket. Its length; 0 = to the start."""
    cdef mm_frame *p = bucket_at(m, t, path.pgno[0])
    cdef uint32_t b, place = path.idx[0]
    cdef mm_frame *q = p if place == 0 else bucket_at(m, t, path.pgno[1])
    hand[0] = 0
    if p == NULL:
        return 0
    b = <uint32_t>(p.extra >> 32)
    if q != NULL and i < q.count:
        hand[0] = b | <uint64_t>(place & 0xffff) << 32 | <uint64_t>i << 48
        return 8
    if q != NULL and <uint32_t>q.extra:
        hand[0] = b | <uint64_t>((place + 1) & 0xffff) << 32
        return 8
    p = current(m, t.root)
    if p == NULL or b + 1 >= <uint32_t>p.extra:
        return 0
    hand[0] = b + 1
    return 8


cdef mm_frame *bucket_at(mm_map *m, const TreeRef *t, uint32_t pgno) noexcept nogil:
    """A page of some bucket of this tree, or NULL: it was freed meanwhile."""
    cdef mm_frame *p = current(m, pgno)
    return p if p != NULL and p.tree == t.tree and p.kind == MM_KIND_BUCKET else NULL


# ---------------------------------------------------------------------------------------------- for tests

def hash_bytes(uint64_t k0, uint64_t k1, bytes data not None) -> int:
    """SipHash-1-3 of bytes, 64 bits."""
    return siphash(k0, k1, <const uint8_t *><char *>data, len(data))
