from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.commit cimport TreeRef
from memora.engine.layout cimport mm_map

cdef int replay(mm_map *m, const uint8_t *record, uint64_t n) noexcept nogil
cdef int restore_tree(mm_map *m, uint32_t tree, uint32_t kind, const uint8_t *control, size_t n, TreeRef *out) noexcept nogil
cdef int restore_entry(mm_map *m, const TreeRef *t, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry) noexcept nogil
cdef int restore_message(mm_map *m, const TreeRef *t, uint64_t seq, uint64_t commit, uint64_t time_ns, const uint8_t *v, uint64_t vn) noexcept nogil
cdef int restore_seal(mm_map *m, uint64_t commit) noexcept nogil
