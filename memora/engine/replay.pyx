"""Replay: a region rebuilt from a checkpoint and the log. Outcomes only: nothing is evicted, expired or numbered again.

A region that is being rebuilt has no name yet and no reader. A checkpoint's content is loaded as "commit 1", whose pages
are changed in place from batch to batch (their version is the one being built); replay() then makes real commits, each
with its own number, time and log record, so that the feed goes on where it was.
CRASH       the half-built region has no name and is swept; the files are untouched.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcpy, memset
from memora.engine.btree cimport Path, locate
from memora.engine.commit cimport (TreeRef, account, apply_create, apply_delete, apply_drop, apply_message, apply_op, be32, control_of, prepare,
                                   publish, read_roots, topic_room)
from memora.engine.descriptor cimport begin, get64, put64, roll_forward, seal
from memora.engine.extents cimport extent_bytes
from memora.engine.frames cimport current, finish
from memora.engine.hashindex cimport hash_key_now
from memora.engine.layout cimport *
from memora.engine.overlay cimport Action
from memora.engine.page cimport Entry, value_at
from memora.engine.tree cimport tree_locate, tree_put
from memora.engine.wal cimport record_begin, ring_in

cdef enum:
    ENTRY_COST = 32             # as commit.pyx counts an entry of a bounded tree


cdef int restore_tree(mm_map *m, uint32_t tree, uint32_t kind, const uint8_t *control, size_t n, TreeRef *out) noexcept nogil:
    """Create a tree of the checkpoint. control: its mm_control as saved; counters and rings start empty."""
    cdef Action a
    cdef mm_control c
    memset(&a, 0, sizeof(a))
    memset(&c, 0, sizeof(c))
    if n == sizeof(c):
        memcpy(&c, control, sizeof(c))
        c.bytes = c.entries = c.head = c.tail = c.ring_granule = 0
        c.hand_len = 0
        c.event = c.sleepers = 0
        c.head_seq = c.tail_seq
    a.op = MM_OP_CREATE
    a.tree = tree
    a.kind = kind
    a.data = <uint8_t *>&c
    a.size = sizeof(c)
    out.tree = tree
    return apply_create(m, &a, out)


cdef int restore_entry(mm_map *m, const TreeRef *t, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry) noexcept nogil:
    cdef Path path
    cdef int st = tree_locate(m, t, k, kn, &path)
    if st == MM_OK and path.found:
        m.corrupt_page = path.pgno[path.depth]
        m.corrupt_what = b"a key twice in a checkpoint"
        return MM_CORRUPT
    if st == MM_OK:
        st = account(m, t, <int64_t>(kn + vn + ENTRY_COST), 1)
    return st if st else tree_put(m, t, &path, k, kn, v, vn, expiry)


cdef int restore_message(mm_map *m, const TreeRef *t, uint64_t seq, uint64_t commit, uint64_t time_ns, const uint8_t *v, uint64_t vn) noexcept nogil:
    cdef mm_control *c = control_of(m, t.control)
    cdef uint8_t *ring = <uint8_t *>extent_bytes(m, <uint32_t>get64(m, &c.ring_granule), get64(m, &c.ring_bytes))
    cdef uint64_t head = get64(m, &c.head)
    cdef mm_message h
    if ring == NULL or seq != get64(m, &c.head_seq) or head + sizeof(h) + vn + 7 > c.ring_bytes + 7:
        m.corrupt_page = t.tree
        m.corrupt_what = b"the messages of a checkpoint do not fit their topic"
        return MM_CORRUPT
    h.len = <uint32_t>((sizeof(h) + vn + 7) & ~<uint64_t>7)
    h.pad = <uint32_t>vn
    h.seq = seq
    h.commit = commit
    h.time_ns = time_ns
    ring_in(ring, c.ring_bytes, head, &h, sizeof(h))
    ring_in(ring, c.ring_bytes, head + sizeof(h), v, vn)
    put64(m, &c.head, head + h.len)
    put64(m, &c.head_seq, seq + 1)
    return MM_OK


cdef int restore_seal(mm_map *m, uint64_t commit) noexcept nogil:
    """Make what was restored so far visible as `commit`, and begin the next batch."""
    cdef int st
    finish(m)
    st = seal(m, commit)
    if st == MM_OK:
        st = roll_forward(m)
    begin(m)
    m.building = 1
    record_begin(m)
    return st


cdef int replay(mm_map *m, const uint8_t *record, uint64_t n) noexcept nogil:
    """Make the commit that a record of the log tells of: outcomes only, nothing is evicted, expired or numbered again.

    Lack of space is told as for any commit; the caller grows the region and calls again.
    """
    cdef mm_record r
    cdef mm_op o
    cdef uint64_t at = sizeof(mm_record)
    cdef uint32_t i
    cdef Action a
    cdef TreeRef t
    cdef const uint8_t *p
    cdef int st, had
    memcpy(&r, record, sizeof(r))
    t.tree = 0xffffffffU
    # topics need room before anything is built
    for i in range(r.n_ops):
        memcpy(&o, record + at, sizeof(o))
        if o.op == MM_OP_MESSAGE and o.tree != t.tree:
            st = read_roots(m, m.hot.commit_seq, o.tree, &t)
            if st == MM_OK:
                st = topic_room(m, &t, message_bytes(record, n, o.tree))
                if st:
                    return st
        at += o.size
    st = prepare(m)
    if st:
        return st
    m.building = r.commit
    m.now_ns = r.time_ns
    put64(m, &m.hot.commit_ns, m.now_ns)
    m.only_removes = 0
    t.tree = 0xffffffffU
    at = sizeof(mm_record)
    for i in range(r.n_ops):
        memcpy(&o, record + at, sizeof(o))
        p = record + at + sizeof(o)
        at += o.size
        if o.op == MM_OP_CREATE:
            memset(&a, 0, sizeof(a))
            a.op = MM_OP_CREATE
            a.tree = o.tree
            memcpy(&a.kind, p, 4)
            a.data = p + o.klen
            a.size = o.nlen
            st = apply_create(m, &a, &t)
            t.tree = o.tree
        elif o.op == MM_OP_DROP:
            memset(&a, 0, sizeof(a))
            a.tree = o.tree
            st = apply_drop(m, &a)
            t.tree = 0xffffffffU
        else:
            if t.tree != o.tree:
                st = find_root(m, o.tree, &t)
            if st == MM_OK:
                if o.op == MM_OP_MESSAGE:
                    st = apply_message(m, &t, p + o.klen, o.nlen)
                elif o.op == MM_OP_PUT:
                    st = apply_op(m, &t, MM_OP_PUT, p, o.klen, p + o.klen, o.nlen, o.expiry_ns, &had)
                else:
                    st = replay_delete(m, &t, p, o.klen, o.op)
            if o.tree == MM_TREE_CATALOG:
                put64(m, &m.hot.schema_seq, m.building)
        if st:
            return st
    return publish(m)


cdef uint64_t message_bytes(const uint8_t *record, uint64_t n, uint32_t tree) noexcept nogil:
    """What a record's messages to one topic take in its ring."""
    cdef mm_op o
    cdef uint64_t at = sizeof(mm_record), total = 0
    while at + sizeof(o) <= n:
        memcpy(&o, record + at, sizeof(o))
        if o.op == MM_OP_MESSAGE and o.tree == tree:
            total += (sizeof(mm_message) + o.nlen + 7) & ~<uint64_t>7
        at += o.size
    return total


cdef int replay_delete(mm_map *m, const TreeRef *t, const uint8_t *k, size_t kn, uint8_t op) noexcept nogil:
    cdef Path path
    cdef int st = tree_locate(m, t, k, kn, &path)
    if st:
        return st
    if not path.found:
        m.corrupt_page = t.tree
        m.corrupt_what = b"the log removes a key that is not there"
        return MM_CORRUPT
    return apply_delete(m, t, &path, k, kn, op)


cdef int find_root(mm_map *m, uint32_t tree, TreeRef *out) noexcept nogil:
    """Look a tree up in the state that is being built."""
    cdef uint8_t key[4]
    cdef Path path
    cdef Entry e
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
    st = locate(m, MM_PG_ROOTS, MM_TREE_ROOTS, key, 4, &path)
    if st:
        return st
    if not path.found or value_at(current(m, path.pgno[path.depth]), path.idx[path.depth], &e) or e.vn != sizeof(root):
        return MM_NO_TREE
    memcpy(&root, e.val, sizeof(root))
    out.root = root.root
    out.control = root.control
    out.kind = root.kind
    out.hashed = root.flags & MM_ROOTF_HASH
    return hash_key_now(m, out) if out.hashed else MM_OK
