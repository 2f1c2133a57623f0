from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.layout cimport mm_map
from memora.engine.overlay cimport Overlay
from memora.engine.region cimport Region

# Where a tree is. Fixed for the tree's life; the root's page tells when the tree is gone.
ctypedef struct TreeRef:
    uint32_t tree
    uint32_t root           # 0: created by this transaction, not yet anywhere
    uint32_t control        # granule of its mm_control, 0 = none
    uint32_t kind           # MM_ROOT_*

ctypedef struct ReadSet:
    uint32_t *page
    uint32_t n, cap, last

cdef int read_page(ReadSet *r, uint32_t pgno) noexcept nogil
cdef int read_roots(mm_map *m, uint64_t s, uint32_t tree, TreeRef *out) noexcept nogil
cdef int commit_one(Region r, const TreeRef *t, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn,
                    uint64_t expiry, uint64_t timeout_ns, uint64_t *commit) except -1
cdef int commit_all(Region r, Overlay *o, TreeRef *refs, uint32_t n_refs, const ReadSet *reads, uint64_t s, int check_schema, uint64_t timeout_ns,
                    uint64_t *commit) except -1
cdef int flush_log(Region r) except -1
cdef int replay(mm_map *m, const uint8_t *record, uint64_t n) noexcept nogil
cdef int restore_tree(mm_map *m, uint32_t tree, uint32_t kind, const uint8_t *control, size_t n, TreeRef *out) noexcept nogil
cdef int restore_entry(mm_map *m, const TreeRef *t, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry) noexcept nogil
cdef int restore_message(mm_map *m, const TreeRef *t, uint64_t seq, uint64_t commit, uint64_t time_ns, const uint8_t *v, uint64_t vn) noexcept nogil
cdef int restore_seal(mm_map *m, uint64_t commit) noexcept nogil
