from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.btree cimport Path
from memora.engine.frames cimport Look
from memora.engine.layout cimport mm_frame, mm_map
from memora.engine.tree cimport TreeRef

cdef uint64_t siphash(uint64_t k0, uint64_t k1, const uint8_t *p, size_t n) noexcept nogil
cdef uint32_t bucket_of(uint32_t h, uint32_t n) noexcept nogil

# readers
cdef int hash_key(mm_map *m, uint64_t s, TreeRef *t) noexcept nogil
cdef int hash_find(mm_map *m, uint64_t s, const TreeRef *t, const uint8_t *k, size_t kn, Look *look, uint32_t *slot) noexcept nogil
cdef int hash_bucket(mm_map *m, uint64_t s, const TreeRef *t, uint32_t b, Look *look, uint32_t *n, int *hopped) noexcept nogil
cdef int hash_chained(mm_map *m, uint64_t s, const TreeRef *t, uint32_t b, uint32_t place, uint32_t pgno, Look *look) noexcept nogil

# writers
cdef int hash_create(mm_map *m, TreeRef *t) noexcept nogil
cdef int hash_key_now(mm_map *m, TreeRef *t) noexcept nogil
cdef int hash_locate(mm_map *m, const TreeRef *t, const uint8_t *k, size_t kn, Path *path) noexcept nogil
cdef int hash_put(mm_map *m, const TreeRef *t, Path *path, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry) noexcept nogil
cdef int hash_delete(mm_map *m, const TreeRef *t, Path *path) noexcept nogil
cdef int hash_drop(mm_map *m, const TreeRef *t) noexcept nogil
cdef int hash_hand(mm_map *m, const TreeRef *t, const uint64_t *hand, Path *path) noexcept nogil
cdef uint64_t hash_hand_next(mm_map *m, const TreeRef *t, const Path *path, uint32_t i, uint64_t *hand) noexcept nogil
