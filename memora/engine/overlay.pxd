from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

# A change that is evaluated when it is applied (delta.pyx); its argument's n bytes follow. The changes of one key are a chain.
ctypedef struct Delta:
    Delta *before
    Delta *after            # set while they are applied
    uint64_t until          # expiry of an entry that this makes, 0 = never; one that is there keeps its own
    uint32_t n
    uint8_t kind
    uint8_t pad[3]

# One key that a transaction changed. op: 0 = nothing (rolled back), MM_OP_PUT, MM_OP_INSERT (must be absent), MM_OP_DELETE,
# MM_OP_DELTA (val = what the chain makes of the value at the snapshot).
ctypedef struct Node:
    uint32_t tree
    uint8_t op
    uint8_t height
    uint16_t pad
    uint32_t kn
    uint32_t granule        # extent reserved for the value and filled, while it is being committed; else 0
    uint64_t vn
    uint64_t expiry
    const uint8_t *key
    const uint8_t *val
    Delta *delta            # MM_OP_DELTA: the last one of the chain
    Node *prev              # the node before, on the lowest level
    Node *next[1]           # `height` of them

ctypedef struct Undo:
    Node *node
    uint8_t op
    uint64_t vn
    uint64_t expiry
    const uint8_t *val
    Delta *delta

# What is not a key: MM_OP_CREATE and MM_OP_DROP of trees, MM_OP_MESSAGE; in the order given.
ctypedef struct Action:
    uint32_t tree
    uint32_t op
    uint32_t kind
    uint32_t pad
    uint64_t size
    const uint8_t *data

ctypedef struct Block:
    Block *before
    size_t used, cap

# Where the last new key of a tree went in: the node, and the last node before it on each level as it was then.
ctypedef struct Finger:
    Node *node
    int height
    Node *way[20]

cdef enum:
    FINGERS = 4

ctypedef struct Overlay:
    Block *block
    Node *head
    uint64_t seed
    uint32_t n
    Undo *undo
    uint32_t n_undo, cap_undo
    Action *action
    uint32_t n_action, cap_action
    uint64_t data_bytes
    Finger finger[4]        # by tree, modulo FINGERS

cdef int overlay_init(Overlay *o) noexcept nogil
cdef void overlay_free(Overlay *o) noexcept nogil
cdef Node *overlay_find(const Overlay *o, uint32_t tree, const uint8_t *k, size_t kn) noexcept nogil
cdef Node *overlay_ceil(const Overlay *o, uint32_t tree, const uint8_t *k, size_t kn) noexcept nogil
cdef Node *overlay_below(const Overlay *o, uint32_t tree, const uint8_t *k, size_t kn) noexcept nogil
cdef Node *overlay_top(const Overlay *o, uint32_t tree) noexcept nogil
cdef Node *overlay_first(const Overlay *o) noexcept nogil
cdef Node *overlay_after(const Overlay *o, uint32_t tree) noexcept nogil
cdef int overlay_set(Overlay *o, uint32_t tree, const uint8_t *k, size_t kn, uint8_t op, const uint8_t *v, size_t vn, uint64_t expiry) noexcept nogil
cdef int overlay_delta(Overlay *o, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t *v, size_t vn, uint64_t expiry, uint64_t until,
                       uint8_t kind, const uint8_t *argument, uint32_t n) noexcept nogil
cdef int overlay_act(Overlay *o, uint32_t op, uint32_t tree, uint32_t kind, const uint8_t *data, size_t n) noexcept nogil
cdef void overlay_undo(Overlay *o, uint32_t undo, uint32_t action) noexcept nogil
