from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from memora.engine.btree cimport Path
from memora.engine.codec cimport Buf
from memora.engine.layout cimport mm_control, mm_map
from memora.engine.overlay cimport Action, Delta
from memora.engine.readset cimport Intent, TreeRef
from memora.engine.region cimport Region

cdef int read_roots(mm_map *m, uint64_t s, uint32_t tree, TreeRef *out) noexcept nogil
cdef int commit_one(Region r, const TreeRef *t, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn,
                    uint64_t expiry, uint64_t timeout_ns, uint64_t *commit) except -1
cdef int commit_large(Region r, const TreeRef *t, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *head, size_t hn, const uint8_t *v, uint64_t vn,
                      uint64_t expiry, uint64_t timeout_ns, uint64_t *commit) except -1
cdef int commit_delta(Region r, const TreeRef *t, const uint8_t *k, size_t kn, Delta *d, uint64_t timeout_ns, Buf *result, uint64_t *commit) except -1
cdef int commit_all(Region r, const Intent *w, uint64_t timeout_ns, uint64_t *commit, uint64_t ticket) except -1

# The parts of a commit, for replay.pyx
cdef void be32(uint32_t v, uint8_t *out) noexcept nogil
cdef mm_control *control_of(mm_map *m, uint32_t granule) noexcept nogil
cdef int account(mm_map *m, const TreeRef *t, int64_t bytes, int64_t entries) noexcept nogil
cdef int prepare(mm_map *m) noexcept nogil
cdef int publish(mm_map *m) noexcept nogil
cdef int topic_room(mm_map *m, const TreeRef *t, uint64_t bytes) noexcept nogil
cdef int apply_op(mm_map *m, const TreeRef *t, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *v, uint64_t vn, uint64_t expiry,
                  int *had) noexcept nogil
cdef int apply_delete(mm_map *m, const TreeRef *t, Path *path, const uint8_t *k, size_t kn, uint8_t op) noexcept nogil
cdef int apply_message(mm_map *m, const TreeRef *t, const uint8_t *v, uint64_t vn) noexcept nogil
cdef int apply_create(mm_map *m, const Action *a, TreeRef *ref) noexcept nogil
cdef int apply_drop(mm_map *m, const Action *a) noexcept nogil
