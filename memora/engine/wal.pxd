from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.stddef cimport size_t
from memora.engine.layout cimport mm_map

cdef void record_begin(mm_map *m) noexcept nogil
cdef int record_op(mm_map *m, uint8_t op, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn,
                   const uint8_t *old, uint64_t oldn, int had_old, uint64_t expiry, uint32_t new_at, uint32_t old_at) noexcept nogil
cdef int64_t expand(mm_map *m, const uint8_t *ops, uint64_t n, uint32_t count, uint8_t *out, uint64_t room, int with_old) noexcept nogil
cdef int record_write(mm_map *m) noexcept nogil
cdef int log_room(mm_map *m) noexcept nogil
cdef int log_shed(mm_map *m, uint64_t limit) noexcept nogil
cdef void ring_in(uint8_t *ring, uint64_t size, uint64_t pos, const void *src, uint64_t n) noexcept nogil
cdef void ring_out(const uint8_t *ring, uint64_t size, uint64_t pos, void *dst, uint64_t n) noexcept nogil
cdef int seal_now(mm_map *m) noexcept nogil
