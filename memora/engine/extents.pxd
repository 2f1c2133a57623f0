from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.layout cimport mm_map, mm_extent

cdef mm_extent *new_extent(mm_map *m, uint32_t tree, uint64_t nbytes, uint32_t *granule) noexcept nogil
cdef int retire_extent(mm_map *m, uint32_t granule) noexcept nogil
cdef int retire_logged(mm_map *m, uint32_t granule) noexcept nogil
cdef int reserve_extent(mm_map *m, uint32_t tree, uint64_t nbytes, uint32_t *granule) noexcept nogil
cdef int link_reserved(mm_map *m, uint32_t granule) noexcept nogil
cdef int free_reserved(mm_map *m, uint32_t granule) noexcept nogil
cdef int release_dead_reserved(mm_map *m) noexcept nogil
cdef int free_run(mm_map *m, uint32_t granule, uint64_t n) noexcept nogil
cdef int collect_extents(mm_map *m, int forced) noexcept nogil
cdef const uint8_t *extent_bytes(mm_map *m, uint32_t granule, uint64_t nbytes) noexcept nogil
cdef uint64_t granules_for(uint64_t nbytes) noexcept nogil
