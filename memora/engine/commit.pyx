"""The commit: validate, apply, log, seal, roll forward, all under the commit lock.

STEPS       1 take the lock (roll forward what a dead owner sealed)      killed: nothing happened
            2 recycle, make room in the log (descriptors of their own)   killed: these happened or not, nothing is lost
            3 validate: what was read still holds (readset.pyx)          killed: nothing happened
            4 apply to private copies of pages                           killed: nothing happened
            5 write the record behind the ring's head                    killed: nothing happened
            6 fill the descriptor and seal it                            the commit point
            7 roll forward                                               killed: the next owner does it
            8 unlock, wake who sleeps                                    killed: sleepers look again by themselves
            Values of 32 KiB and more lie in extents that were reserved and filled before step 1 (extents(6)); step 4 links them.
            Anything that goes wrong in 3 to 5 (no frame, a key that exists, ...) drops the buffer: nothing happened. Lack of space
            is mended outside the lock (room.pyx) and the commit starts again.
INVARIANTS  (1) Between lock and unlock: no Python object, no call that needs the GIL, nothing that raises.
            (2) Applying only puts and removes encoded bytes, and evaluates deltas (delta.pyx); MM_OP_INSERT of a key that is there is a
                conflict, and so is a delta of a value that its kernel does not know.
BOUNDED     A tree with mm_control keeps its bytes under max_bytes in every commit: entries are evicted in key order from the hand on,
            passing over those whose visited bit is set and clearing it (a CLOCK over the leaves).
SOURCE      Corbato, A Paging Experiment with the Multics System (1968), for the clock.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from memora.engine.budget cimport keep_budget
from memora.engine.btree cimport Path, delete_at, find, locate, locate_next, place_value, put_at, value_bytes
from memora.engine.codec cimport Buf
from memora.engine.delta cimport delta_apply
from memora.engine.descriptor cimport begin, get32, get64, put32, put64, roll_forward, seal
from memora.engine.extents cimport collect_extents, extent_bytes, link_reserved, new_extent, retire_extent
from memora.engine.frames cimport Look, collect, counts_hold, current, finish, new_page, still_there, unregistered_ok
from memora.engine.hashindex cimport hash_create, hash_hand, hash_hand_next, hash_key
from memora.engine.layout cimport *
from memora.engine.many cimport Ahead, ahead_begin, ahead_step
from memora.engine.overlay cimport Action, Delta, Node, Overlay, overlay_after, overlay_first
from memora.engine.page cimport Entry, entry_at, value_at
from memora.engine.procs cimport lock_release, release_dead_snapshots
from memora.engine.readset cimport Intent, TreeRef, validate
from memora.engine.region cimport Region, take_lock
from memora.engine.room cimport relieve, reserve, unreserve
from memora.engine.sync cimport *
from memora.engine.tree cimport TreeRef, tree_delete, tree_drop, tree_locate, tree_put
from memora.engine.turns cimport take_turn, wait_ticket
from memora.engine.wal cimport log_room, record_begin, record_op, record_write, ring_in, ring_out, seal_now

cdef enum:
    ENTRY_COST = 32             # bytes that an entry of a bounded tree counts beside key and value
    RESERVE_MIN = 32 << 10      # values this long are copied outside the commit lock
    EVICT_LEAVES = 64           # leaves that one commit may go through to evict


cdef void be32(uint32_t v, uint8_t *out) noexcept nogil:
    out[0] = v >> 24
    out[1] = (v >> 16) & 255
    out[2] = (v >> 8) & 255
    out[3] = v & 255


cdef int read_roots(mm_map *m, uint64_t s, uint32_t tree, TreeRef *out) noexcept nogil:
    """Look a tree up at commit s. MM_OK, MM_NO_TREE, MM_MOVED (again, with a newer s if it is not announced)."""
    cdef uint8_t key[4]
    cdef Look look
    cdef Entry e
    cdef uint32_t slot
    cdef mm_root root
    cdef int st
    out.tree = tree
    out.control = 0
    out.kind = MM_ROOT_TREE
    out.hashed = 0
    if tree <= MM_TREE_CATALOG:
        out.root = MM_PG_CATALOG if tree else MM_PG_ROOTS
        return MM_OK
    be32(tree, key)
    st = find(m, s, MM_PG_ROOTS, MM_TREE_ROOTS, key, 4, &look, &slot)
    if st == MM_FOUND:
        if value_at(look.page, slot, &e) or e.vn != sizeof(root):
            return MM_MOVED
        memcpy(&root, e.val, sizeof(root))
    elif st != MM_ABSENT:
        return MM_MOVED
    if not still_there(&look) or m.unregistered and not unregistered_ok(m, s, &look):
        return MM_MOVED
    if st == MM_ABSENT:
        return MM_NO_TREE
    out.root = root.root
    out.control = root.control
    out.kind = root.kind
    out.hashed = root.flags & MM_ROOTF_HASH
    return hash_key(m, s, out) if out.hashed else MM_OK


# ---------------------------------------------------------------------------------------------- applying

cdef mm_control *control_of(mm_map *m, uint32_t granule) noexcept nogil:
    return <mm_control *>extent_bytes(m, granule, sizeof(mm_control))


cdef int account(mm_map *m, const TreeRef *t, int64_t bytes, int64_t entries) noexcept nogil:
    cdef mm_control *c
    if t.control == 0:
        return MM_OK
    c = control_of(m, t.control)
    if c == NULL:
        m.corrupt_page = t.control
        m.corrupt_what = b"a control extent lies outside the region"
        return MM_CORRUPT
    put64(m, &c.bytes, <uint64_t>(<int64_t>get64(m, &c.bytes) + bytes))
    put64(m, &c.entries, <uint64_t>(<int64_t>get64(m, &c.entries) + entries))
    return MM_OK


cdef uint32_t extent_of(const Entry *e) noexcept nogil:
    """The extent that holds an entry's value; 0: it lies in the page."""
    cdef mm_valref ref
    if not e.vinfo & MM_V_EXT:
        return 0
    memcpy(&ref, e.val, sizeof(ref))
    return ref.granule


cdef int apply_delete(mm_map *m, const TreeRef *t, Path *path, const uint8_t *k, size_t kn, uint8_t op) noexcept nogil:
    """Remove the entry at the path and log it with its old value."""
    cdef Entry e
    cdef const uint8_t *old
    cdef uint64_t oldn
    cdef int st
    if value_at(current(m, path.pgno[path.depth]), path.idx[path.depth], &e) or value_bytes(m, &e, &old, &oldn):
        m.corrupt_page = path.pgno[path.depth]
        m.corrupt_what = b"a value leaves its page or the region"
        return MM_CORRUPT
    st = record_op(m, op, t.tree, k, kn, NULL, 0, old, oldn, 1, e.expiry, 0, extent_of(&e))
    if st == MM_OK:
        st = account(m, t, -<int64_t>(kn + oldn + ENTRY_COST), -1)
    return st if st else tree_delete(m, t, path)


cdef int apply_op(mm_map *m, const TreeRef *t, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry,
                  int *had) noexcept nogil:
    """One change of one key. had: the key was there (and had not expired). MM_OP_DELTA: v is the last Delta of its chain."""
    cdef Path path
    cdef int st = tree_locate(m, t, k, kn, &path)
    return st if st else apply_at(m, t, &path, op, k, kn, v, vn, expiry, had)


cdef int apply_at(mm_map *m, const TreeRef *t, Path *path, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry,
                  int *had) noexcept nogil:
    """apply_op() of a key that was located."""
    cdef Entry e
    cdef const uint8_t *old = NULL
    cdef uint64_t oldn = 0
    cdef int st, dead = 0
    cdef Delta *first
    cdef Delta *last
    had[0] = 0
    if path.found:
        if value_at(current(m, path.pgno[path.depth]), path.idx[path.depth], &e) or value_bytes(m, &e, &old, &oldn):
            m.corrupt_page = path.pgno[path.depth]
            m.corrupt_what = b"a value leaves its page or the region"
            return MM_CORRUPT
        dead = e.expiry != 0 and e.expiry <= m.now_ns
        had[0] = not dead
    if op == MM_OP_DELETE:
        if not path.found:
            return MM_OK
        return apply_delete(m, t, path, k, kn, MM_OP_EXPIRE if dead else MM_OP_DELETE)
    if op == MM_OP_INSERT and had[0]:
        return MM_EXISTS
    if op == MM_OP_DELTA:
        last = first = <Delta *>v
        while first.before != NULL:
            first = first.before
        expiry = e.expiry if had[0] else first.until
        v = old
        vn = oldn
        st = delta_apply(m, last, had[0], &v, &vn)
        if st:
            return st
        if vn > 0x7fffffff:
            return MM_CONFLICT
    if t.control:
        st = account(m, t, <int64_t>(kn + vn + ENTRY_COST) - (<int64_t>(kn + oldn + ENTRY_COST) if path.found else 0), 0 if path.found else 1)
        if st:
            return st
    st = place_value(m, t.tree, kn, v, vn)
    if st == MM_OK:
        st = record_op(m, MM_OP_PUT, t.tree, k, kn, v, vn, old, oldn if had[0] else 0, had[0], expiry, m.ready, extent_of(&e) if had[0] else 0)
    return st if st else tree_put(m, t, path, k, kn, v, vn, expiry)


cdef int evict(mm_map *m, const TreeRef *t, const uint8_t *keep, size_t keepn) noexcept nogil:
    """Bring a bounded tree under its bound again; the key just written (keep) stays. MM_REFUSED: it cannot be done."""
    cdef mm_control *c = control_of(m, t.control)
    cdef uint8_t kb[384]
    cdef uint8_t full[384]
    cdef uint64_t hand[8]
    cdef Path path, again
    cdef Entry e
    cdef mm_frame *p
    cdef uint32_t leaves = 0, visits = 0, i, pgno
    cdef uint64_t bits, n
    cdef int st, wrapped = 0, was_kept
    while get64(m, &c.bytes) > c.max_bytes:
        if leaves >= EVICT_LEAVES or visits >= 64 * EVICT_LEAVES:
            return MM_REFUSED
        visits += 1
        n = get64(m, &c.hand_len)
        for i in range(8):
            hand[i] = get64(m, c.hand + 8 * i)
        st = hash_hand(m, t, hand, &path) if t.hashed else locate(m, t.root, t.tree, <uint8_t *>hand, n if n <= 64 else 64, &path)
        if st:
            return st
        pgno = path.pgno[path.depth]
        p = current(m, pgno)
        leaves += p != NULL and p.count > 0     # buckets may be empty
        i = path.idx[path.depth]
        bits = mm_ld64r(&m.vis[pgno])
        while get64(m, &c.bytes) > c.max_bytes:
            p = current(m, pgno)
            if p == NULL or p.tree != t.tree or p.level or i >= p.count:
                break
            if entry_at(p, i, full, &e):
                m.corrupt_page = pgno
                m.corrupt_what = b"a cell leaves its page"
                return MM_CORRUPT
            was_kept = e.kn == (keepn if keepn <= MM_KEY_INLINE else MM_KEY_INLINE) and same(full, keep, e.kn)
            if e.lk or was_kept or (bits >> (i & 63)) & 1 and not (e.expiry and e.expiry <= m.now_ns):
                bits &= ~(<uint64_t>1 << (i & 63))
                i += 1
                continue
            again = path
            again.idx[again.depth] = i
            if not t.hashed:
                st = locate(m, t.root, t.tree, full, e.kn, &again)
                if st:
                    return st
                if not again.found:
                    m.corrupt_page = pgno
                    m.corrupt_what = b"an entry cannot be found by its own key"
                    return MM_CORRUPT
            st = apply_delete(m, t, &again, full, e.kn, MM_OP_EXPIRE if e.expiry and e.expiry <= m.now_ns else MM_OP_EVICT)
            if st:
                return st
            put64(m, &c.evicted, get64(m, &c.evicted) + 1)
            if i < 64:              # the entries behind move up by one slot, their bits with them
                n = (<uint64_t>1 << i) - 1
                bits = bits & n | bits >> 1 & ~n
        mm_st64r(&m.vis[pgno], bits)
        # the hand goes to the next leaf: behind this one's last key, cut to 64 bytes and raised
        p = current(m, pgno)
        memset(hand, 0, 64)
        n = 0
        if t.hashed:
            n = hash_hand_next(m, t, &path, i, hand)
        elif p != NULL and p.tree == t.tree and p.level == 0 and i < p.count:
            if entry_at(p, i, kb, &e) == MM_OK:
                n = e.kn if e.kn < 64 else 64
                memcpy(hand, kb, n)
        elif p != NULL and p.tree == t.tree and p.level == 0 and next_leaf(m, &path, kb, &n):
            memcpy(hand, kb, n)
        if n == 0:
            if wrapped and leaves > 2 and get64(m, &c.entries) <= 1:
                return MM_REFUSED
            wrapped = 1
        for i in range(8):
            put64(m, c.hand + 8 * i, hand[i])
        put64(m, &c.hand_len, n)
    return MM_OK


cdef inline int same(const uint8_t *a, const uint8_t *b, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if a[i] != b[i]:
            return 0
    return 1


cdef int next_leaf(mm_map *m, const Path *path, uint8_t *key, uint64_t *n) noexcept nogil:
    """The separator behind the path's leaf, cut to 64 bytes: where the next leaf begins. 0: there is none."""
    cdef uint32_t d = path.depth
    cdef uint8_t kb[384]
    cdef mm_frame *p
    cdef Entry e
    while d:
        d -= 1
        p = current(m, path.pgno[d])
        if p != NULL and p.level and path.idx[d] < p.count and entry_at(p, path.idx[d], kb, &e) == MM_OK:
            n[0] = e.kn if e.kn < 64 else 64
            memcpy(key, kb, n[0])
            return 1
    return 0


cdef int over_bound(mm_map *m, const TreeRef *t, const uint8_t *k, size_t kn) noexcept nogil:
    cdef mm_control *c
    if t.control == 0 or t.kind != MM_ROOT_BOUNDED:
        return MM_OK
    c = control_of(m, t.control)
    if get64(m, &c.bytes) <= c.max_bytes:
        return MM_OK
    return evict(m, t, k, kn)


cdef int apply_create(mm_map *m, const Action *a, TreeRef *ref) noexcept nogil:
    """Create a tree: its root page, its control extent, its row in the roots tree. a.data = initial mm_control, if any."""
    cdef mm_root root
    cdef uint8_t key[4]
    cdef Path path
    cdef mm_extent *x
    cdef mm_control *c
    cdef uint32_t ring = 0
    cdef int st
    root.control = 0
    root.flags = a.kind >> MM_MADE_SHIFT
    root.kind = a.kind & MM_MADE_KIND
    ref.hashed = root.flags & MM_ROOTF_HASH
    if ref.hashed:
        st = hash_create(m, ref)
        if st:
            return st
    elif new_page(m, a.tree, MM_KIND_LEAF, 0, &ref.root) == NULL:
        return MM_NOMEM if m.buf.failed else MM_NEED_FRAMES if m.need else MM_CORRUPT
    root.root = ref.root
    if root.kind != MM_ROOT_TREE:
        x = new_extent(m, a.tree, sizeof(mm_control), &root.control)
        if x == NULL:
            return MM_NEED_EXTENT if m.need else MM_CORRUPT
        c = <mm_control *>(<uint8_t *>x + sizeof(mm_extent))
        memcpy(c, a.data, sizeof(mm_control))
        if root.kind == MM_ROOT_TOPIC:
            x = new_extent(m, a.tree, c.ring_bytes, &ring)
            if x == NULL:
                return MM_NEED_EXTENT if m.need else MM_CORRUPT
            c.ring_granule = ring
    be32(a.tree, key)
    st = locate(m, MM_PG_ROOTS, MM_TREE_ROOTS, key, 4, &path)
    if st == MM_OK and path.found:
        st = MM_CONFLICT
    if st == MM_OK:
        st = put_at(m, &path, key, 4, <uint8_t *>&root, sizeof(root), 0)
    if st == MM_OK:
        st = record_op(m, MM_OP_CREATE, a.tree, <uint8_t *>&a.kind, 4, a.data, a.size, NULL, 0, 0, 0, 0, 0)
    put64(m, &m.hot.n_trees, get64(m, &m.hot.n_trees) + 1)
    if a.tree >= get64(m, &m.hot.next_tree):
        put64(m, &m.hot.next_tree, a.tree + 1)
    ref.control = root.control
    ref.kind = root.kind
    return st


cdef int apply_drop(mm_map *m, const Action *a) noexcept nogil:
    cdef uint8_t key[4]
    cdef Path path
    cdef Entry e
    cdef mm_root root
    cdef mm_control *c
    cdef TreeRef t
    cdef int st
    be32(a.tree, key)
    st = locate(m, MM_PG_ROOTS, MM_TREE_ROOTS, key, 4, &path)
    if st:
        return st
    if not path.found or value_at(current(m, path.pgno[path.depth]), path.idx[path.depth], &e) or e.vn != sizeof(root):
        return MM_NO_TREE
    memcpy(&root, e.val, sizeof(root))
    st = delete_at(m, &path)
    t.tree = a.tree
    t.root = root.root
    t.hashed = root.flags & MM_ROOTF_HASH
    if st == MM_OK:
        st = tree_drop(m, &t)
    if st == MM_OK and root.control:
        c = control_of(m, root.control)
        if root.kind == MM_ROOT_TOPIC and c != NULL:
            st = retire_extent(m, <uint32_t>c.ring_granule)
        if st == MM_OK:
            st = retire_extent(m, root.control)
    if st == MM_OK:
        st = record_op(m, MM_OP_DROP, a.tree, NULL, 0, NULL, 0, NULL, 0, 0, 0, 0, 0)
    put64(m, &m.hot.n_trees, get64(m, &m.hot.n_trees) - 1)
    return st


cdef int topic_room(mm_map *m, const TreeRef *t, uint64_t bytes) noexcept nogil:
    """Drop the oldest messages of a topic until `bytes` fit. Seals a descriptor of its own. MM_REFUSED: larger than the topic."""
    cdef mm_control *c = control_of(m, t.control)
    cdef mm_message h
    cdef uint8_t *ring
    cdef uint64_t tail, seq
    cdef uint32_t e = m.pt[t.root]
    # the topic may have been dropped since it was looked up: then its control and ring belong to somebody else by now
    if e & MM_PT_BITS or e >= m.hot.n_units or mm_frame_at(m, e).tree != t.tree:
        return MM_NO_TREE
    if c == NULL:
        return MM_CORRUPT
    ring = <uint8_t *>extent_bytes(m, <uint32_t>c.ring_granule, c.ring_bytes)
    if ring == NULL or c.ring_bytes == 0:
        m.corrupt_page = t.control
        m.corrupt_what = b"a topic's ring lies outside the region"
        return MM_CORRUPT
    if bytes > c.ring_bytes:
        m.need = bytes
        return MM_REFUSED
    tail = c.tail
    seq = c.tail_seq
    if c.head + bytes - tail <= c.ring_bytes:
        return MM_OK
    while c.head + bytes - tail > c.ring_bytes:
        ring_out(ring, c.ring_bytes, tail, &h, sizeof(h))
        if h.len < sizeof(h) or h.len & 7 or h.len > c.head - tail:
            m.corrupt_page = t.control
            m.corrupt_what = b"a message in a topic's ring is damaged"
            return MM_CORRUPT
        tail += h.len
        seq = h.seq + 1
    begin(m)
    put64(m, &c.tail, tail)
    put64(m, &c.tail_seq, seq)
    cdef int st = seal_now(m)       # sync point: a subscriber's load of tail after its copy
    mm_fence_rel()
    return st


cdef int apply_message(mm_map *m, const TreeRef *t, const uint8_t *v, uint64_t vn) noexcept nogil:
    """Write a message behind a topic's head (topic_room made room) and note the new head."""
    cdef mm_control *c = control_of(m, t.control)
    cdef uint8_t *ring = <uint8_t *>extent_bytes(m, <uint32_t>c.ring_granule, c.ring_bytes)
    cdef uint64_t head = get64(m, &c.head)
    cdef mm_message h
    h.len = <uint32_t>((sizeof(h) + vn + 7) & ~<uint64_t>7)
    if head + h.len - get64(m, &c.tail) > get64(m, &c.ring_bytes):      # a topic that this very commit creates: topic_room came too early
        m.need = head + h.len
        return MM_REFUSED
    h.pad = <uint32_t>vn
    h.seq = get64(m, &c.head_seq)
    h.commit = m.building
    h.time_ns = m.now_ns
    ring_in(ring, c.ring_bytes, head, &h, sizeof(h))
    ring_in(ring, c.ring_bytes, head + sizeof(h), v, vn)
    put64(m, &c.head, head + h.len)
    put64(m, &c.head_seq, h.seq + 1)
    return record_op(m, MM_OP_MESSAGE, t.tree, NULL, 0, v, vn, NULL, 0, 0, 0, 0, 0)


# ---------------------------------------------------------------------------------------------- the steps

cdef int prepare(mm_map *m) noexcept nogil:
    """Step 2, and the buffer for step 4."""
    cdef uint64_t now
    cdef int st
    m.n_scan = 0
    st = counts_hold(m)
    if st == MM_OK:
        st = collect(m, 0)
    mm_fail(m, MM_FP_LOCKED)
    if st == MM_OK:
        st = collect_extents(m, 0)
    if st == MM_OK and m.n_scan:
        st = keep_budget(m)
    if st == MM_OK:
        st = log_room(m)
    if st:
        return st
    if m.hot.pinned_count > 256 and (m.hot.commit_seq & 255) == 0:
        release_dead_snapshots(m)
    begin(m)
    m.building = m.hot.commit_seq + 1
    now = mm_wall_ns()
    m.now_ns = now if now > m.hot.commit_ns else m.hot.commit_ns
    put64(m, &m.hot.commit_ns, m.now_ns)
    record_begin(m)
    return MM_OK


cdef int publish(mm_map *m) noexcept nogil:
    """Steps 5 to 7."""
    cdef int st
    mm_fail(m, MM_FP_APPLIED)
    st = record_write(m)
    if st:
        return st
    mm_fail(m, MM_FP_LOGGED)
    finish(m)
    st = seal(m, m.building)
    if st:
        return st
    return roll_forward(m)


cdef void wake(mm_map *m) noexcept nogil:
    """Step 8, behind the full barrier of the unlock. sync point: the sleeper's store of feed_sleepers and its second look."""
    mm_fail(m, MM_FP_UNLOCKED)
    if m.me < m.n_slots:
        m.slot[m.me].commits += 1
    if mm_ld32(&m.hot.feed_sleepers):
        mm_st32(&m.hot.feed_sleepers, 0)
        mm_add32(&m.hot.feed_event, 1)
        mm_futex_wake(&m.hot.feed_event, 0x7fffffff)


cdef void wake_topic(mm_map *m, uint32_t control) noexcept nogil:
    """Wake a topic's subscribers, still under the lock: once it is released the topic may be dropped and its control reused.

    sync point: the sleeper's store of sleepers and its second look (feed.pyx).
    """
    cdef mm_control *c = control_of(m, control)
    mm_fence()
    if c != NULL and mm_ld32(&c.sleepers):
        mm_st32(&c.sleepers, 0)
        mm_add32(&c.event, 1)
        mm_futex_wake(&c.event, 0x7fffffff)


cdef int build_one(mm_map *m, const TreeRef *t, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn,
                   uint64_t expiry, uint32_t reserved, int *had) noexcept nogil:
    cdef int st
    m.need = 0
    m.changes = 0
    m.only_removes = op == MM_OP_DELETE
    m.hot.lock_doing = (t.tree << 8) | op
    if op == MM_OP_MESSAGE:
        st = topic_room(m, t, (sizeof(mm_message) + vn + 7) & ~<uint64_t>7)
        if st:
            return st
    st = prepare(m)
    if st:
        return st
    if op == MM_OP_MESSAGE:
        st = apply_message(m, t, v, vn)
        had[0] = 0
    else:
        st = link_reserved(m, reserved) if reserved else MM_OK
        if st == MM_OK:
            st = apply_op(m, t, op, k, kn, v, vn, expiry, had)
        if st == MM_OK and op == MM_OP_DELETE and m.rec_ops == 0:
            return MM_ABSENT        # nothing to remove: no commit
        if st == MM_OK:
            st = over_bound(m, t, k, kn)
    if st:
        return st
    if t.tree == MM_TREE_CATALOG:
        put64(m, &m.hot.schema_seq, m.building)
    st = publish(m)
    if st == MM_OK and op == MM_OP_MESSAGE:
        wake_topic(m, t.control)
    return st


cdef int commit_one(Region r, const TreeRef *t, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn,
                    uint64_t expiry, uint64_t timeout_ns, uint64_t *commit) except -1:
    """A commit of one change, evaluated at apply time: it reads nothing before, so it cannot conflict.

    MM_FOUND: the key was there; MM_ABSENT: it was not; MM_EXISTS: an INSERT found it there, nothing changed.
    """
    if vn >= RESERVE_MIN and (op == MM_OP_PUT or op == MM_OP_INSERT):
        return commit_large(r, t, op, k, kn, NULL, 0, v, vn, expiry, timeout_ns, commit)
    return commit_built(r, t, op, k, kn, v, vn, expiry, timeout_ns, commit, 0)


cdef int commit_large(Region r, const TreeRef *t, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *head, size_t hn, const uint8_t *v, uint64_t vn,
                      uint64_t expiry, uint64_t timeout_ns, uint64_t *commit) except -1:
    """commit_one of a put or insert, whose value is head and v: copied once, to where it stays, outside the commit lock."""
    cdef mm_map *m = &r.m
    cdef uint8_t *to
    cdef uint32_t granule = 0
    cdef int st
    reserve(r, t.tree, hn + vn, timeout_ns, &granule, -1)
    try:
        to = <uint8_t *>mm_extent_at(m, granule) + sizeof(mm_extent)
        r.busy += 1                     # close() by another thread waits
        with nogil:
            memcpy(to, head, hn)
            memcpy(to + hn, v, vn)
        r.busy -= 1
        mm_fail(m, MM_FP_STORED)
        st = commit_built(r, t, op, k, kn, to, hn + vn, expiry, timeout_ns, commit, granule)
    except BaseException:
        unreserve(r, granule)
        raise
    if st == MM_EXISTS:
        unreserve(r, granule)
    return st


cdef int commit_built(Region r, const TreeRef *t, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn,
                      uint64_t expiry, uint64_t timeout_ns, uint64_t *commit, uint32_t reserved) except -1:
    cdef mm_map *m = &r.m
    cdef int st, had = 0
    cdef uint64_t need
    while True:
        take_lock(r, timeout_ns)
        if mm_ld64r(&m.hot.ticket):
            wait_ticket(r, timeout_ns, 0, 0)
        if vn > 65536 and not reserved:
            r.busy += 1                 # close() by another thread waits
            with nogil:
                st = build_one(m, t, op, k, kn, v, vn, expiry, reserved, &had)
                commit[0] = m.hot.commit_seq
                need = m.need
                lock_release(m)
            r.busy -= 1
        else:
            st = build_one(m, t, op, k, kn, v, vn, expiry, reserved, &had)
            commit[0] = m.hot.commit_seq
            need = m.need
            lock_release(m)
        if st == MM_OK:
            wake(m)
            return MM_FOUND if had else MM_ABSENT
        if st == MM_ABSENT or st == MM_EXISTS:
            return st
        relieve(r, st, need, "commit", -1)


cdef int commit_delta(Region r, const TreeRef *t, const uint8_t *k, size_t kn, Delta *d, uint64_t timeout_ns, Buf *result, uint64_t *commit) except -1:
    """A commit of one delta; appends the new value to `result`, which has the room. MM_OK; MM_CONFLICT: its kernel does not know the old value."""
    cdef mm_map *m = &r.m
    cdef int st, had = 0
    cdef uint64_t need
    while True:
        take_lock(r, timeout_ns)
        if mm_ld64r(&m.hot.ticket):
            wait_ticket(r, timeout_ns, 0, 0)
        st = build_one(m, t, MM_OP_DELTA, k, kn, <const uint8_t *>d, 0, 0, 0, &had)
        if st == MM_OK and m.work[0].n <= result.cap - result.n:
            memcpy(result.p + result.n, m.work[0].p, m.work[0].n)
            result.n += m.work[0].n
        commit[0] = m.hot.commit_seq
        need = m.need
        lock_release(m)
        if st == MM_OK:
            wake(m)
            return MM_OK
        if st == MM_CONFLICT:
            return st
        relieve(r, st, need, "commit", -1)


cdef TreeRef *ref_of(TreeRef *refs, uint32_t n, uint32_t tree) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if refs[i].tree == tree:
            return &refs[i]
    return NULL


cdef void say_trees(mm_map *m, const Overlay *o) noexcept nogil:
    """What the owner of the lock does, for who waits for it: a transaction, and the first trees that it writes."""
    cdef Node *n = overlay_first(o) if o.n else NULL
    cdef uint32_t i = 0, j, tree
    while n != NULL and i < MM_DOING_TREES:
        mm_st32(&m.hot.lock_trees[i], n.tree)
        i += 1
        n = overlay_after(o, n.tree)
    for j in range(o.n_action):                 # messages, trees made and dropped
        tree = o.action[j].tree
        if i == MM_DOING_TREES:
            break
        if i == 0 or tree != m.hot.lock_trees[i - 1]:
            mm_st32(&m.hot.lock_trees[i], tree)
            i += 1
    if i < MM_DOING_TREES:
        mm_st32(&m.hot.lock_trees[i], 0)
    mm_st32(&m.hot.lock_doing, ((o.n + o.n_action) << 8) | MM_DOING_TRANSACTION)


cdef void count_fit(mm_map *m, const Overlay *o, const Node *stopped) noexcept nogil:
    """For the error, if there is no room to be had: the changes of a transaction, and of them those before the node that found none."""
    cdef Node *n = overlay_first(o)
    cdef int before = 1
    m.fit = 0
    while n != NULL:
        before = before and n != stopped
        if n.op:
            m.changes += 1
            m.fit += before
        n = n.next[0]


cdef int build_all(mm_map *m, const Intent *w) noexcept nogil:
    cdef Overlay *o = w.o
    cdef TreeRef *refs = w.refs
    cdef uint32_t n_refs = w.n_refs
    cdef Node *n
    cdef Action *a
    cdef TreeRef *t = NULL
    cdef Ahead ahead
    cdef Path path
    cdef uint32_t i, j
    cdef uint64_t bytes
    cdef int st, had, near = 0          # near: `path` led to a key of t before this one
    say_trees(m, o)
    st = validate(m, w)
    if st:
        return st
    if w.schema and m.hot.schema_seq > w.s:
        return MM_CONFLICT
    mm_fail(m, MM_FP_VALIDATED)
    m.need = 0
    m.changes = 0
    m.only_removes = o.n_action == 0
    n = overlay_first(o)
    while n != NULL and m.only_removes:
        m.only_removes = n.op == MM_OP_DELETE or n.op == 0
        n = n.next[0]
    for i in range(o.n_action):             # room in topics first: it seals descriptors of its own
        if o.action[i].op == MM_OP_MESSAGE:
            t = ref_of(refs, n_refs, o.action[i].tree)
            if t.root == 0:
                continue
            bytes = 0
            for j in range(o.n_action):
                if o.action[j].op == MM_OP_MESSAGE and o.action[j].tree == t.tree:
                    if j < i:
                        break
                    bytes += (sizeof(mm_message) + o.action[j].size + 7) & ~<uint64_t>7
            if bytes:
                st = topic_room(m, t, bytes)
                if st:
                    return st
    st = prepare(m)
    if st:
        return st
    for i in range(o.n_action):
        a = &o.action[i]
        if a.op == MM_OP_CREATE:
            st = apply_create(m, a, ref_of(refs, n_refs, a.tree))
        elif a.op == MM_OP_MESSAGE:
            st = apply_message(m, ref_of(refs, n_refs, a.tree), a.data, a.size)
        if st:
            return st
    n = overlay_first(o)
    t = NULL
    ahead_begin(&ahead, n if o.n > 1 else NULL)
    while n != NULL:
        if ahead.node != NULL or ahead.asked < ahead.walked:
            ahead_step(&ahead, m, refs, n_refs)
        if n.op:
            if t == NULL or t.tree != n.tree:
                t = ref_of(refs, n_refs, n.tree)
                if t == NULL:
                    m.corrupt_page = n.tree
                    m.corrupt_what = b"a written tree was not looked up"
                    return MM_CORRUPT
                near = 0
            st = link_reserved(m, n.granule) if n.granule else MM_OK
            if st == MM_OK:
                st = locate_next(m, t.root, t.tree, n.key, n.kn, &path) if near else tree_locate(m, t, n.key, n.kn, &path)
            if st == MM_OK:
                st = apply_at(m, t, &path, n.op, n.key, n.kn, <const uint8_t *>n.delta if n.op == MM_OP_DELTA else n.val, n.vn, n.expiry, &had)
            near = n.op != MM_OP_DELETE and not t.hashed and t.control == 0
            if st == MM_EXISTS:
                st = MM_CONFLICT            # it was absent at S: running again tells the true story
            if st == MM_OK:
                st = over_bound(m, t, n.key, n.kn)
            if st:
                count_fit(m, o, n)
                return st
            if n.tree == MM_TREE_CATALOG:
                put64(m, &m.hot.schema_seq, m.building)
        n = n.next[0]
    for i in range(o.n_action):
        if o.action[i].op == MM_OP_DROP:
            st = apply_drop(m, &o.action[i])
            if st:
                return st
    st = publish(m)
    if st == MM_NEED_FRAMES:                # for its stores (descriptor.pyx)
        count_fit(m, o, NULL)
        m.fit = <uint32_t>(m.changes * <uint64_t>m.buf.n // (m.buf.n + m.need * MM_CHAIN_STORES))
    elif st == MM_NEED_EXTENT:              # for its record, which a smaller one would not need (wal.pyx)
        count_fit(m, o, NULL)
        m.fit = <uint32_t>(m.changes * (m.ring_bytes // 4) // (m.rec_full + 1))
    for i in range(o.n_action if st == MM_OK else 0):
        if o.action[i].op == MM_OP_MESSAGE:
            wake_topic(m, ref_of(refs, n_refs, o.action[i].tree).control)
    return st


cdef int reserve_all(Region r, Overlay *o, uint64_t timeout_ns, int64_t entry) except -1:
    """Places for an overlay's large values, filled."""
    cdef mm_map *m = &r.m
    cdef Node *n = overlay_first(o)
    while n != NULL:
        if n.vn >= RESERVE_MIN and (n.op == MM_OP_PUT or n.op == MM_OP_INSERT):
            reserve(r, n.tree, n.vn, timeout_ns, &n.granule, entry)
        n = n.next[0]
    r.busy += 1                         # close() by another thread waits
    with nogil:
        n = overlay_first(o)
        while n != NULL:
            if n.granule:
                memcpy(<uint8_t *>mm_extent_at(m, n.granule) + sizeof(mm_extent), n.val, n.vn)
            n = n.next[0]
    r.busy -= 1
    mm_fail(m, MM_FP_STORED)
    return 0


cdef int unreserve_all(Region r, Overlay *o) except -1:
    cdef Node *n = overlay_first(o)
    while n != NULL:
        if n.granule:
            unreserve(r, n.granule)
            n.granule = 0
        n = n.next[0]
    return 0


cdef int commit_all(Region r, const Intent *w, uint64_t timeout_ns, uint64_t *commit, uint64_t ticket) except -1:
    """Commit a transaction's overlay; commit[0] = its number. Raises SerializationError when what it read has changed.

    ticket: its own, 0 = none.
    """
    if w.o.data_bytes < RESERVE_MIN:
        return commit_overlay(r, w, timeout_ns, commit, ticket)
    try:
        reserve_all(r, w.o, timeout_ns, w.entry - r.m.snap)
        return commit_overlay(r, w, timeout_ns, commit, ticket)
    except BaseException:
        unreserve_all(r, w.o)
        raise


cdef int commit_overlay(Region r, const Intent *w, uint64_t timeout_ns, uint64_t *commit, uint64_t ticket) except -1:
    cdef mm_map *m = &r.m
    cdef Overlay *o = w.o
    cdef int st
    cdef uint32_t i
    cdef uint64_t need
    while True:
        take_turn(r, timeout_ns, ticket)
        if o.n + o.n_action > 64 or o.data_bytes > 65536 or w.snapshot or w.reads.n > 1024:
            r.busy += 1                 # close() by another thread waits
            with nogil:
                st = build_all(m, w)
                commit[0] = m.hot.commit_seq
                need = m.need
                lock_release(m)
            r.busy -= 1
        else:
            st = build_all(m, w)
            commit[0] = m.hot.commit_seq
            need = m.need
            lock_release(m)
        if st == MM_OK:
            break
        for i in range(o.n_action):         # what was created was dropped with the buffer
            if o.action[i].op == MM_OP_CREATE:
                ref_of(w.refs, w.n_refs, o.action[i].tree).root = 0
        if st == MM_CONFLICT and m.me < m.n_slots:
            m.slot[m.me].conflicts += 1
        relieve(r, st, need, "commit", w.entry - m.snap)
    wake(m)
    return 0
