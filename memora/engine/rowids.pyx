"""Rowids and other numbers that are given once: the largest plus one, as SQLite has it, and never the same one to two transactions.

LAYOUT      A table of mm_reserve in the slots file, one row for each range of numbers that an open transaction holds in one tree.
            Numbers are compared as their keys are: 8 bytes big-endian, sign flipped.
INVARIANTS  (1) A range is live while the snapshot word that it names is exactly the one it names: it ends with the transaction, by
                revocation, and when the owner is reaped. Nobody has to free it; its owner does, so that a number that was not used is
                the next one given.
            (2) Rows of the table are taken and changed only under the commit lock, and a row that is not live may be taken by anyone.
            (3) A number given is larger than each key of the tree in the newest commit and at the transaction's own snapshot, each
                own key that is not deleted, and each number of a live range: two transactions never choose the same one.
            (4) Nothing of this is in the read set: a number alone is never a conflict. A row that somebody else put there with a
                rowid of his own is one, found by the commit (MM_OP_INSERT).
WRITERS     A number inside the own range costs nothing. Else, under a short hold of the lock: the tree's last key, the live ranges,
            and a new range behind both. It is twice as long as the last one, up to LONGEST, so a bulk insert asks seldom; what is
            left of it at the end is nobody's, so a lone writer leaves no gap.
CRASH       Killed at any step: the range is dead with its owner's snapshot word, or stands until that is reaped and leaves a gap.
"""
from libc.stdint cimport INT64_MIN, uint8_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport realloc
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from memora.engine.btree cimport find, value_bytes
from memora.engine.cursor cimport Cursor
from memora.engine.delta cimport DELTA_LARGEST
from memora.engine.frames cimport Look, page_at
from memora.engine.layout cimport *
from memora.engine.overlay cimport Node, Overlay, overlay_find, overlay_top
from memora.engine.page cimport Entry, child_at, entry_at, value_at
from memora.engine.procs cimport lock_release
from memora.engine.readset cimport ReadMark, read_back, read_mark
from memora.engine.region cimport take_lock
from memora.engine.sync cimport *
from memora.engine.transaction cimport Range, Transaction

import random

from memora import errors

cdef enum:
    LONGEST = 4096

cdef uint64_t ZERO = <uint64_t>1 << 63          # rowid 0
cdef uint64_t ROWID_MAX = 0xffffffffffffffffULL


cdef inline uint64_t number_of(const uint8_t *k) noexcept nogil:
    cdef uint64_t n = 0
    cdef uint32_t i
    for i in range(8):
        n = n << 8 | k[i]
    return n


cdef inline void key_of(uint64_t n, uint8_t *k) noexcept nogil:
    cdef uint32_t i
    for i in range(8):
        k[i] = (n >> (56 - 8 * i)) & 255


# ---------------------------------------------------------------------------------------------- under the lock

cdef int last_key(mm_map *m, uint64_t s, uint32_t root, uint32_t tree, uint64_t *out) noexcept nogil:
    """The largest key of a tree at commit s, if it is a number. MM_FOUND, MM_ABSENT; MM_MOVED: the way to it is not clear."""
    cdef uint8_t kb[384]
    cdef Look look
    cdef Entry e
    cdef uint32_t pgno = root, level
    for level in range(MM_MAX_DEPTH):
        if page_at(m, s, pgno, &look) or look.page.tree != tree:
            return MM_MOVED
        if look.page.level:
            pgno = child_at(look.page, look.page.count)
            continue
        if look.page.count == 0:
            return MM_MOVED if level else MM_ABSENT
        if entry_at(look.page, look.page.count - 1, kb, &e):
            return MM_MOVED
        if e.kn != 8 or e.lk:
            return MM_ABSENT
        out[0] = number_of(e.key)
        return MM_FOUND
    return MM_MOVED


cdef int in_use(mm_map *m, uint64_t s, uint32_t root, uint32_t tree, const Overlay *o, int *known, uint64_t *used) noexcept nogil:
    """Raise used to the largest key now and at s, unless the overlay deletes it. known: there is one. MM_OK, MM_MOVED."""
    cdef uint64_t n = 0, now = m.hot.commit_seq, at = s
    cdef uint8_t key[8]
    cdef const Node *node
    cdef int st
    while True:
        st = last_key(m, at, root, tree, &n)
        if st == MM_MOVED:
            return st
        if st == MM_FOUND and (n > used[0] or not known[0]):
            key_of(n, key)
            node = overlay_find(o, tree, key, 8)
            if node == NULL or node.op != MM_OP_DELETE:
                used[0] = n
                known[0] = 1
        if at == now:
            return MM_OK
        at = now


cdef int counted(mm_map *m, uint32_t root, uint32_t tree, const uint8_t *k, size_t kn, uint64_t *used) noexcept nogil:
    """Raise used to the counter that the newest commit has under a key. MM_OK, MM_CORRUPT."""
    cdef Look look
    cdef Entry e
    cdef const uint8_t *v
    cdef uint64_t vn = 0
    cdef uint32_t slot
    cdef int st = find(m, m.hot.commit_seq, root, tree, k, kn, &look, &slot)
    if st != MM_FOUND:
        return MM_OK if st == MM_ABSENT else MM_CORRUPT
    if value_at(look.page, slot, &e) or value_bytes(m, &e, &v, &vn) or vn != 8:
        return MM_CORRUPT
    if number_of(v) > used[0]:
        used[0] = number_of(v)
    return MM_OK


cdef int hold(mm_map *m, Range *r, uint32_t entry, uint64_t word, uint64_t used) noexcept nogil:
    """Take r.want numbers behind `used` and behind all live ranges of the tree. MM_REFUSED: there is none left."""
    cdef mm_slots_head *head = <mm_slots_head *>m.slots
    cdef mm_reserve *v
    cdef uint64_t w
    cdef uint32_t i, high = head.reserves_high, live = 0
    cdef int32_t room = -1
    if high > m.n_snaps:
        high = m.n_snaps
    for i in range(high):
        v = &m.reserve[i]
        w = mm_ld64(&v.word)
        if <int32_t>i == r.place:
            live = i + 1
        elif w == 0 or v.entry >= m.n_snaps or mm_ld64(&m.snap[v.entry]) != w:
            if room < 0:
                room = <int32_t>i
        else:
            live = i + 1
            if v.tree == r.tree and v.last > used:
                used = v.last
    if used == ROWID_MAX:
        return MM_REFUSED
    r.next = used + 1
    r.last = used + r.want if r.want < ROWID_MAX - used else ROWID_MAX
    if r.place < 0:
        if room < 0 and high < m.n_snaps:
            room = <int32_t>high
        if room < 0:
            r.last = r.next             # no room in the table: one number, which somebody else may take first
            mm_st32(&head.reserves_high, live)
            return MM_OK
        r.place = room
        v = &m.reserve[room]
        v.tree = r.tree
        v.entry = entry
        v.last = r.last
        mm_st64(&v.word, word)
    else:
        v = &m.reserve[r.place]
        if v.last < r.last:
            mm_st64(&v.last, r.last)
    if live < <uint32_t>r.place + 1:
        live = <uint32_t>r.place + 1
    mm_st32(&head.reserves_high, live)
    if r.want < LONGEST:
        r.want *= 2
    return MM_OK


# ---------------------------------------------------------------------------------------------- faces

cdef Range *range_of(Transaction t, uint32_t tree) except NULL:
    cdef uint32_t i
    cdef Range *r
    cdef void *p
    for i in range(t.n_ranges):
        if t.ranges[i].tree == tree:
            return &t.ranges[i]
    if t.n_ranges == t.cap_ranges:
        p = realloc(t.ranges, (t.cap_ranges * 2 + 2) * sizeof(Range))
        if p == NULL:
            raise MemoryError("transaction: no private memory")
        t.ranges = <Range *>p
        t.cap_ranges = t.cap_ranges * 2 + 2
    r = &t.ranges[t.n_ranges]
    r.tree = tree
    r.place = -1
    r.want = 1
    r.dirty = 1
    r.next = 0
    r.last = 0
    t.n_ranges += 1
    return r


cdef int own_last(Transaction t, uint32_t tree, int seek, uint64_t *out) except -1:
    """1 and the largest key that this transaction has put; or, if it has deleted later ones or with seek, the largest that it sees."""
    cdef Node *node = overlay_top(&t.o, tree)
    cdef ReadMark before
    cdef Cursor c
    cdef int found
    if not seek:
        if node == NULL:
            return 0
        if node.op != MM_OP_DELETE and node.op != 0:
            if node.kn == 8:
                out[0] = number_of(node.key)
            return node.kn == 8
    before = read_mark(&t.reads)
    c = Cursor(t, tree)
    found = c.c_last() and c.kn == 8
    if found:
        out[0] = number_of(c.kp)
    read_back(&t.reads, before)
    return found


cpdef int64_t next_rowid(Transaction t, uint32_t tree, int64_t least=INT64_MIN) except? -1:
    """A free rowid that is at least `least`: the largest plus one. The tree's keys are 8 bytes, big-endian, sign flipped.

    When the largest rowid is taken, random ones are tried; OperationalError ("database or disk is full") when 100 are taken, too.
    """
    cdef Range *r
    cdef uint64_t n, used, floor = <uint64_t>least ^ ZERO
    cdef uint32_t root
    cdef int st, seek = 0, known
    t.writable()
    r = range_of(t, tree)
    if not r.dirty and r.next <= r.last and floor <= r.last:
        n = r.next if r.next > floor else floor
        r.next = n + 1
        r.dirty = n == ROWID_MAX
        return <int64_t>(n ^ ZERO)
    root = t.ref(tree).root
    while True:
        used = 0
        known = 1
        if not r.dirty:
            used = r.next - 1
        else:
            known = own_last(t, tree, seek, &used)
        if root == 0:                       # nobody else can see the tree
            r.next = (used if known else ZERO) + 1
            r.last = ROWID_MAX
            st = MM_REFUSED if known and used == ROWID_MAX else MM_OK
            break
        take_lock(t.region, t.timeout_ns)
        st = MM_OK if seek else in_use(t.m, t.s, root, tree, &t.o, &known, &used)
        if st == MM_OK:
            if not known:
                used = ZERO
            if floor and floor - 1 > used:
                used = floor - 1
            st = hold(t.m, r, <uint32_t>t.entry, t.word, used)
        lock_release(t.m)
        if st != MM_MOVED:
            break
        seek = 1
        r.dirty = 1
    if st == MM_REFUSED:
        r.dirty = 1
        return another_rowid(t, tree)
    t.reservations += 1
    n = r.next if r.next > floor else floor
    r.next = n + 1
    r.dirty = n == ROWID_MAX
    return <int64_t>(n ^ ZERO)


cdef int give_back(Transaction t, uint32_t tree, int64_t rowid) except -1:
    """Says that a rowid is not used after all: if it was the last one given, it is given again."""
    cdef Range *r = range_of(t, tree)
    if not r.dirty and r.next == (<uint64_t>rowid ^ ZERO) + 1:
        r.next -= 1
    return 0


def next_number(Transaction t not None, uint32_t tree, bytes key not None) -> int:
    """The next number of the counter under a key: 8 bytes big-endian, the largest one given. From 1 on; one counter a tree."""
    cdef const uint8_t *k = <const uint8_t *>PyBytes_AS_STRING(key)
    cdef size_t kn = PyBytes_GET_SIZE(key)
    cdef uint8_t largest[8]
    cdef Range *r
    cdef Node *node
    cdef uint64_t n, used = 0
    cdef uint32_t root
    cdef int st = MM_OK
    t.writable()
    r = range_of(t, tree)
    if r.dirty or r.next > r.last:
        root = t.ref(tree).root
        node = overlay_find(&t.o, tree, k, kn)
        if not r.dirty:
            used = r.next - 1
        elif node != NULL and node.op and node.op != MM_OP_DELETE and node.vn == 8:
            used = number_of(node.val)
        if root == 0:                       # nobody else can see the tree
            r.next = used + 1
            r.last = ROWID_MAX
        else:
            take_lock(t.region, t.timeout_ns)
            st = counted(t.m, root, tree, k, kn, &used)
            if st == MM_OK:
                st = hold(t.m, r, <uint32_t>t.entry, t.word, used)
            lock_release(t.m)
            t.reservations += 1
    n = r.next
    key_of(n, largest)
    if st or t.c_delta(tree, k, kn, DELTA_LARGEST, largest, 8, 0):
        raise errors.CorruptionError(f"tree {tree}: the counter {key!r} is no number of 8 bytes, or used up")
    r.next = n + 1
    r.dirty = 0
    return n


def newest(Transaction t not None, uint32_t tree, bytes key not None):
    """What the newest commit has under a key, or None; or what this transaction has put there. It is not read: nothing is validated."""
    cdef Node *node
    cdef Transaction now
    cdef ReadMark before = read_mark(&t.reads)
    t.check()
    node = overlay_find(&t.o, tree, <const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)) if t.has_overlay else NULL
    if node != NULL and node.op and node.op != MM_OP_DELTA:
        value = t.get(tree, key)
        read_back(&t.reads, before)
        return value
    if t.ref(tree).root == 0:
        return None
    now = Transaction(t.region, read_only=True)
    try:
        return now.get(tree, key)
    finally:
        now.rollback()


cdef int64_t another_rowid(Transaction t, uint32_t tree) except? -1:
    """A random rowid that is free as this transaction sees it."""
    cdef const uint8_t *v
    cdef size_t vn
    cdef uint8_t key[8]
    cdef ReadMark before = read_mark(&t.reads)
    cdef uint64_t n
    for _ in range(100):
        n = ZERO + 1 + <uint64_t>random.randrange(1 << 62)
        key_of(n, key)
        found = t.c_get(tree, key, 8, &v, &vn)
        read_back(&t.reads, before)
        if not found:
            return <int64_t>(n ^ ZERO)
    raise errors.OperationalError("database or disk is full: the largest rowid is taken, and so are 100 random ones")
