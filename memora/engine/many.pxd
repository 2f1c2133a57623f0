from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.layout cimport mm_map
from memora.engine.overlay cimport Node
from memora.engine.readset cimport TreeRef

cdef enum:
    AHEAD_WAYS = 4          # changes whose ways are walked before their turn
    AHEAD_PAGES = 2         # changes whose leaves are asked for whole

# How far a commit of many changes has looked ahead; a hint, and nothing but.
ctypedef struct Ahead:
    Node *node              # the next one to walk to
    uint32_t walked, asked, applied
    uint32_t leaf[4]
    uint32_t whole          # the last leaf that was asked for whole
    uint32_t tree, last     # all keys of this tree from the one walked to last on are of this leaf; 0: not known

cdef uint32_t expect_way(mm_map *m, uint64_t s, uint32_t root, uint32_t tree, const uint8_t *k, size_t kn, int *last) noexcept nogil
cdef void expect_entry(mm_map *m, uint64_t s, uint32_t leaf, const uint8_t *k, size_t kn) noexcept nogil
cdef void ahead_begin(Ahead *a, Node *first) noexcept nogil
cdef void ahead_step(Ahead *a, mm_map *m, const TreeRef *refs, uint32_t n_refs) noexcept nogil
