from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int32_t, int64_t
from memora.engine.codec cimport Buf
from memora.engine.frames cimport Look
from memora.engine.layout cimport mm_map
from memora.engine.overlay cimport Node, Overlay
from memora.engine.page cimport Entry
from memora.engine.readset cimport ReadSet, TreeRef
from memora.engine.region cimport Region


# Numbers of one tree that this transaction took (rowids.pyx), as its keys read big-endian.
ctypedef struct Range:
    uint32_t tree
    int32_t place           # in the table of reservations, -1: none
    uint64_t next, last     # to be given next; the largest one taken
    uint64_t want           # how many to take when these are used up
    int dirty               # entries may have been removed: `next` is to be found anew


cdef class Transaction:
    cdef Region region
    cdef mm_map *m
    cdef uint64_t s             # the snapshot
    cdef uint64_t word          # the announced word; anything else there means revoked
    cdef uint64_t now           # wall clock of the snapshot in ns, 0 = not asked yet
    cdef int64_t entry          # snapshot word; -1: unregistered
    cdef uint32_t epoch
    cdef Overlay o
    cdef bint has_overlay
    cdef readonly bint read_only
    cdef readonly bint closed
    cdef bint snapshot_isolation
    cdef uint64_t log           # head of the log when it began, before S was chosen
    cdef bint on_schema
    cdef ReadSet reads
    cdef TreeRef *refs
    cdef uint32_t n_refs, cap_refs, last_ref
    cdef uint8_t *scratch
    cdef uint64_t cap_scratch
    cdef Buf work               # result of a delta
    cdef list marks
    cdef public uint64_t timeout_ns
    cdef uint64_t ticket        # the one it took, 0 = none; it may be lost by now
    cdef bint said              # its process's `what` is its own
    cdef uint64_t writes        # moves with every write: cursors notice
    cdef Range *ranges
    cdef uint32_t n_ranges, cap_ranges
    cdef uint32_t edge_tree     # a tree in which there is no key from `edge` on at S
    cdef uint32_t edge_n        # 0: none is known
    cdef uint8_t[64] edge
    cdef readonly uint64_t reservations     # how often numbers were taken

    cdef int64_t c_schema_version(self) except? -1
    cpdef uint64_t commit(self) except? 0
    cpdef rollback(self)
    cdef int finish(self) except -1
    cdef int let_go(self) except -1
    cpdef say(self, bytes what)
    cdef int check(self) except -1
    cdef int writable(self) except -1
    cdef int alive(self) except -1
    cdef int stands(self, const Look *look) except -1
    cdef int overtaken(self) except -1
    cdef uint64_t wall(self) noexcept
    cdef TreeRef *ref(self, uint32_t tree) except NULL
    cdef int keep(self, const uint8_t *p, uint64_t n) except -1
    cdef int expired(self, uint64_t expiry) noexcept
    cdef int saw(self, int st, const Look *look, uint32_t slot, const uint8_t *k, size_t kn) except -1
    cdef int c_get(self, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t **v, size_t *vn) except -1
    cdef int c_get_expiry(self, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t **v, size_t *vn, uint64_t *expiry) except -1
    cdef int c_write(self, uint32_t tree, uint8_t op, const uint8_t *k, size_t kn, const uint8_t *v, size_t vn, uint64_t expiry) except -1
    cdef object c_view(self, uint32_t tree, const uint8_t *k, size_t kn, object key)
    cdef int beyond(self, uint32_t tree, const uint8_t *k, size_t kn) noexcept
    cdef int c_put(self, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t *v, size_t vn) except -1
    cdef int c_insert(self, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t *v, size_t vn) except -1
    cdef int c_insert_until(self, uint32_t tree, const uint8_t *k, size_t kn, const uint8_t *v, size_t vn, uint64_t expiry) except -1
    cdef int c_delta(self, uint32_t tree, const uint8_t *k, size_t kn, uint8_t kind, const uint8_t *argument, uint32_t n, uint64_t until) except -1
    cdef int c_delete(self, uint32_t tree, const uint8_t *k, size_t kn) except -1
    cpdef uint32_t create_tree(self) except 0
    cpdef int64_t entries_about(self, uint32_t tree) except? -2
    cdef uint32_t create(self, uint32_t kind, const uint8_t *control, size_t n) except 0
    cpdef drop_tree(self, uint32_t tree)
    cpdef int savepoint(self) except -1
    cpdef rollback_to(self, int savepoint)


cdef int looked_at(Transaction t, Node *n) except -1
cdef int observe(Transaction t, uint32_t tree, const uint8_t *k, size_t kn) except -1
