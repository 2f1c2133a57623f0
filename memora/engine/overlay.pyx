"""The overlay: what one transaction has written and nobody else can see. Private memory; no locks.

LAYOUT      A skip list ordered by (tree, key) in an arena of blocks, with back links on its lowest level; an undo log with one entry
            for each change; a list of actions (trees created and dropped, messages). Nothing is freed before the transaction ends.
            The head's height is the number of levels in use. Each tree has a finger: who writes keys in order begins where the last one went.
INVARIANTS  (1) Keys are unique. (2) Undoing to a mark restores each node as it was; a node made since then stays with op 0.
SOURCE      Pugh, Skip Lists (CACM 1990).
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from memora.engine.layout cimport *

cdef enum:
    HEIGHT = 20
    FIRST_BLOCK = 4096


cdef void *arena(Overlay *o, size_t n) noexcept nogil:
    cdef Block *b = o.block
    cdef size_t cap
    n = (n + 7) & ~<size_t>7
    if b == NULL or b.used + n > b.cap:
        cap = FIRST_BLOCK if b == NULL else b.cap * 2
        if cap > (4 << 20):
            cap = 4 << 20
        if cap < n + sizeof(Block):
            cap = n + sizeof(Block)
        b = <Block *>malloc(cap)
        if b == NULL:
            return NULL
        b.before = o.block
        b.used = sizeof(Block)
        b.cap = cap
        o.block = b
    b.used += n
    return <uint8_t *>b + b.used - n


cdef int overlay_init(Overlay *o) noexcept nogil:
    cdef int i
    memset(o, 0, sizeof(Overlay) - sizeof(o.finger))
    for i in range(FINGERS):
        o.finger[i].node = NULL
    o.seed = 0x9E3779B97F4A7C15ULL
    o.head = <Node *>arena(o, sizeof(Node) + HEIGHT * sizeof(void *))
    if o.head == NULL:
        return MM_NOMEM
    memset(o.head, 0, sizeof(Node) + HEIGHT * sizeof(void *))
    o.head.height = 1
    return MM_OK


cdef void overlay_free(Overlay *o) noexcept nogil:
    cdef Block *b = o.block
    cdef Block *before
    while b != NULL:
        before = b.before
        free(b)
        b = before
    free(o.undo)
    free(o.action)
    memset(o, 0, sizeof(Overlay))


cdef inline int order(const Node *n, uint32_t tree, const uint8_t *k, size_t kn) noexcept nogil:
    """Sign of n - (tree, k)."""
    cdef int c
    if n.tree != tree:
        return -1 if n.tree < tree else 1
    c = memcmp(n.key, k, n.kn if n.kn < kn else kn)
    if c:
        return c
    return <int>(n.kn > kn) - <int>(n.kn < kn)


cdef Node *descend(const Overlay *o, uint32_t tree, const uint8_t *k, size_t kn, Node **way) noexcept nogil:
    """The last node before (tree, k), or the head; the last node before it on each level in way, if given."""
    cdef const Finger *f = &o.finger[tree % FINGERS]
    cdef Node *n = f.node
    cdef Node *beyond = NULL            # known not to be before (tree, k)
    cdef int h = o.head.height - 1
    if n != NULL and n.tree == tree and order(n, tree, k, kn) < 0 and (n.next[0] == NULL or order(n.next[0], tree, k, kn) >= 0):
        if way != NULL:
            while h >= 0:
                n = f.way[h] if h < f.height else o.head
                while n.next[h] != NULL and n.next[h] != beyond and order(n.next[h], tree, k, kn) < 0:
                    n = n.next[h]
                beyond = n.next[h]
                way[h] = n
                h -= 1
        return f.node
    n = o.head
    while h >= 0:
        while n.next[h] != NULL and n.next[h] != beyond and order(n.next[h], tree, k, kn) < 0:
            n = n.next[h]
        beyond = n.next[h]
        if way != NULL:
            way[h] = n
        h -= 1
    return n


cdef Node *overlay_ceil(const Overlay *o, uint32_t tree, const uint8_t *k, size_t kn) noexcept nogil:
    """First node of the tree with key >= k, dead ones included; NULL: none."""
    cdef Node *n
    if o.n == 0:
        return NULL
    n = descend(o, tree, k, kn, NULL).next[0]
    return n if n != NULL and n.tree == tree else NULL


cdef Node *overlay_below(const Overlay *o, uint32_t tree, const uint8_t *k, size_t kn) noexcept nogil:
    """Last node of the tree with key < k."""
    cdef Node *n
    if o.n == 0:
        return NULL
    n = descend(o, tree, k, kn, NULL)
    return n if n != o.head and n.tree == tree else NULL


cdef Node *overlay_top(const Overlay *o, uint32_t tree) noexcept nogil:
    """Last node of the tree."""
    cdef Node *n
    if o.n == 0:
        return NULL
    n = descend(o, tree + 1, NULL, 0, NULL)
    return n if n != o.head and n.tree == tree else NULL


cdef Node *overlay_first(const Overlay *o) noexcept nogil:
    return o.head.next[0]


cdef Node *overlay_after(const Overlay *o, uint32_t tree) noexcept nogil:
    """First node of the trees with higher numbers; NULL: none."""
    return descend(o, tree + 1, NULL, 0, NULL).next[0] if o.n else NULL


cdef Node *overlay_find(const Overlay *o, uint32_t tree, const uint8_t *k, size_t kn) noexcept nogil:
    cdef Node *n = overlay_ceil(o, tree, k, kn)
    return n if n != NULL and order(n, tree, k, kn) == 0 else NULL


cdef const uint8_t *keep(Overlay *o, const uint8_t *p, size_t n) noexcept nogil:
    cdef uint8_t *q = <uint8_t *>arena(o, n if n else 1)
    if q != NULL and n:
        memcpy(q, p, n)
    return q


cdef int overlay_set(Overlay *o, uint32_t tree, const uint8_t *k, size_t kn, uint8_t op, const uint8_t *v, size_t vn, uint64_t expiry) noexcept nogil:
    """Set what the transaction does to a key. MM_OK or MM_NOMEM (nothing changed)."""
    cdef Node *way[20]
    cdef Node *n
    cdef const uint8_t *val = NULL
    cdef Undo *u
    cdef Finger *f
    cdef void *p
    cdef int h, height
    if op != MM_OP_DELETE and op != 0:
        val = keep(o, v, vn)
        if val == NULL:
            return MM_NOMEM
        o.data_bytes += vn
    if o.n_undo == o.cap_undo:
        p = realloc(o.undo, (o.cap_undo * 2 + 16) * sizeof(Undo))
        if p == NULL:
            return MM_NOMEM
        o.undo = <Undo *>p
        o.cap_undo = o.cap_undo * 2 + 16
    n = descend(o, tree, k, kn, way).next[0]
    if n != NULL and order(n, tree, k, kn):
        n = NULL
    if n == NULL:
        height = 1
        o.seed ^= o.seed << 13
        o.seed ^= o.seed >> 7
        o.seed ^= o.seed << 17
        while height < HEIGHT and (o.seed >> (2 * height)) & 3 == 0:
            height += 1
        n = <Node *>arena(o, sizeof(Node) + height * sizeof(void *))
        if n == NULL:
            return MM_NOMEM
        n.key = keep(o, k, kn)
        if n.key == NULL:
            return MM_NOMEM
        n.tree = tree
        n.op = 0
        n.height = <uint8_t>height
        n.kn = <uint32_t>kn
        n.vn = 0
        n.granule = 0
        n.expiry = 0
        n.val = NULL
        n.delta = NULL
        while o.head.height < height:
            way[o.head.height] = o.head
            o.head.height += 1
        n.prev = way[0]
        if way[0].next[0] != NULL:
            way[0].next[0].prev = n
        for h in range(height):
            n.next[h] = way[h].next[h]
            way[h].next[h] = n
        f = &o.finger[tree % FINGERS]
        f.node = n
        f.height = o.head.height
        for h in range(f.height):
            f.way[h] = n if h < height else way[h]
        o.n += 1
    u = &o.undo[o.n_undo]
    o.n_undo += 1
    u.node = n
    u.op = n.op
    u.vn = n.vn
    u.expiry = n.expiry
    u.val = n.val
    u.delta = n.delta
    n.op = op
    n.vn = vn
    n.expiry = expiry
    n.val = val
    n.delta = NULL
    return MM_OK


cdef int overlay_delta(Overlay *o, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t *v, size_t vn, uint64_t expiry, uint64_t until,
                       uint8_t kind, const uint8_t *argument, uint32_t n) noexcept nogil:
    """Add to a key's chain of deltas; v: the value that the transaction sees from now on."""
    cdef Node *node = overlay_find(o, tree, k, kn)
    cdef Delta *before = node.delta if node != NULL and node.op == MM_OP_DELTA else NULL
    cdef Delta *d = <Delta *>arena(o, sizeof(Delta) + n)
    if d == NULL or overlay_set(o, tree, k, kn, MM_OP_DELTA, v, vn, expiry):
        return MM_NOMEM
    d.before = before
    d.after = NULL
    d.until = until
    d.kind = kind
    d.n = n
    memcpy(d + 1, argument, n)
    if node == NULL:
        node = overlay_find(o, tree, k, kn)
    node.delta = d
    return MM_OK


cdef int overlay_act(Overlay *o, uint32_t op, uint32_t tree, uint32_t kind, const uint8_t *data, size_t n) noexcept nogil:
    cdef void *p
    cdef Action *a
    cdef const uint8_t *kept = keep(o, data, n)
    if kept == NULL:
        return MM_NOMEM
    if o.n_action == o.cap_action:
        p = realloc(o.action, (o.cap_action * 2 + 8) * sizeof(Action))
        if p == NULL:
            return MM_NOMEM
        o.action = <Action *>p
        o.cap_action = o.cap_action * 2 + 8
    a = &o.action[o.n_action]
    o.n_action += 1
    a.op = op
    a.tree = tree
    a.kind = kind
    a.size = n
    a.data = kept
    o.data_bytes += n
    return MM_OK


cdef void overlay_undo(Overlay *o, uint32_t undo, uint32_t action) noexcept nogil:
    """Back to a mark: (n_undo, n_action) as they were."""
    cdef Undo *u
    while o.n_undo > undo:
        o.n_undo -= 1
        u = &o.undo[o.n_undo]
        u.node.op = u.op
        u.node.vn = u.vn
        u.node.expiry = u.expiry
        u.node.val = u.val
        u.node.delta = u.delta
    o.n_action = action
