from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.btree cimport Path
from memora.engine.frames cimport Look
from memora.engine.layout cimport mm_map

# Where a tree is. Fixed for the tree's life; the root's page tells when the tree is gone.
ctypedef struct TreeRef:
    uint32_t tree
    uint32_t root           # 0: created by this transaction, not yet anywhere
    uint32_t control        # granule of its mm_control, 0 = none
    uint32_t kind           # MM_ROOT_*
    uint32_t hashed         # 1: a hash index (hashindex.pyx); 0: a B+tree (btree.pyx)
    uint32_t pad
    uint64_t key0, key1     # of a hash index: the key of its hash

cdef int tree_find(mm_map *m, uint64_t s, const TreeRef *t, const uint8_t *k, size_t kn, Look *look, uint32_t *slot) noexcept nogil
cdef int tree_locate(mm_map *m, const TreeRef *t, const uint8_t *k, size_t kn, Path *path) noexcept nogil
cdef int tree_put(mm_map *m, const TreeRef *t, Path *path, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry) noexcept nogil
cdef int tree_delete(mm_map *m, const TreeRef *t, Path *path) noexcept nogil
cdef int tree_drop(mm_map *m, const TreeRef *t) noexcept nogil
