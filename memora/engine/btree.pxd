from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from memora.engine.frames cimport Look
from memora.engine.layout cimport mm_map, mm_frame, mm_valref
from memora.engine.page cimport Entry

# The way from a root to a leaf, in the state a commit is building.
ctypedef struct Path:
    uint32_t pgno[16]
    uint32_t idx[16]        # branch: child taken; leaf: slot
    uint32_t depth          # index of the leaf
    uint32_t tree
    int found

cdef int find(mm_map *m, uint64_t s, uint32_t root, uint32_t tree, const uint8_t *k, size_t kn, Look *look, uint32_t *slot) noexcept nogil
cdef int64_t entries_about(mm_map *m, uint64_t s, uint32_t root, uint32_t tree) noexcept nogil

cdef int locate(mm_map *m, uint32_t root, uint32_t tree, const uint8_t *k, size_t kn, Path *path) noexcept nogil
cdef int locate_next(mm_map *m, uint32_t root, uint32_t tree, const uint8_t *k, size_t kn, Path *path) noexcept nogil
cdef int leftmost(mm_map *m, uint32_t root, uint32_t tree, Path *path) noexcept nogil
cdef int step_leaf(mm_map *m, Path *path) noexcept nogil
cdef int fences(mm_map *m, uint64_t s, uint32_t root, uint32_t tree, const mm_frame *leaf, uint32_t pgno, Entry *lo, uint8_t *lobuf, Entry *hi,
                uint8_t *hibuf) noexcept nogil
cdef int put_at(mm_map *m, Path *path, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry) noexcept nogil
cdef int delete_at(mm_map *m, Path *path) noexcept nogil
cdef int drop_pages(mm_map *m, uint32_t root, uint32_t tree) noexcept nogil
cdef int retire_value(mm_map *m, const Entry *e) noexcept nogil
cdef int place_value(mm_map *m, uint32_t tree, size_t kn, const uint8_t *v, uint64_t vn) noexcept nogil
cdef int set_value(mm_map *m, uint32_t tree, Entry *e, mm_valref *ref, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry) noexcept nogil
cdef int set_key(mm_map *m, uint32_t tree, Entry *e, const uint8_t *k, size_t kn) noexcept nogil
cdef int same_size(const Entry *e, const Entry *old) noexcept nogil
cdef void keep_key(Entry *e, const Entry *old, const uint8_t *k, size_t kn) noexcept nogil
cdef int drop_leaf(mm_map *m, uint32_t pgno, uint32_t tree) noexcept nogil
cdef int value_bytes(mm_map *m, const Entry *e, const uint8_t **v, uint64_t *vn) noexcept nogil
cdef int lack(const mm_map *m) noexcept nogil
