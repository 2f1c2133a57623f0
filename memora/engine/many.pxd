from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.layout cimport mm_map

cdef uint32_t expect_way(mm_map *m, uint64_t s, uint32_t root, uint32_t tree, const uint8_t *k, size_t kn) noexcept nogil
cdef void expect_entry(mm_map *m, uint64_t s, uint32_t leaf, const uint8_t *k, size_t kn) noexcept nogil
