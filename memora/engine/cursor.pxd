cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int32_t
from memora.engine.frames cimport Look
from memora.engine.layout cimport mm_frame
from memora.engine.overlay cimport Node
from memora.engine.transaction cimport Transaction


cdef struct Cell:               # an entry of a leaf whose key has eight bytes
    uint64_t key                # as the number that sorts like it
    const uint8_t *val
    uint32_t vn


@cython.final
cdef class Cursor:
    cdef const uint8_t *kp
    cdef size_t kn
    cdef const uint8_t *vp
    cdef size_t vn
    cdef uint64_t expiry
    cdef readonly Transaction transaction
    cdef readonly uint32_t tree
    cdef uint64_t writes
    cdef uint32_t hashed        # 1: of a hash index, which has no order: forwards from the first entry only
    cdef uint32_t bucket, place # there: the bucket that `page` belongs to, and its place in the chain
    cdef uint8_t *page          # copy of the leaf
    cdef Look look              # where it was
    cdef uint32_t pgno[16]
    cdef uint32_t idx[16]
    cdef uint32_t depth
    cdef int32_t at             # slot in the copy
    cdef const uint8_t *coming  # where the next leaf lies, as far as is known; only ever asked for, never read
    cdef uint32_t asked         # bytes of it asked for
    cdef uint32_t seen          # the range in the read set that grows as the cursor moves
    cdef const uint8_t *stop    # where the caller stops: going up before this key, going down with it
    cdef size_t stop_n
    cdef bytes limit_key        # keeps it, for callers from Python
    cdef bint bounded
    cdef int32_t edge           # slot of the copy where the limit is
    cdef int base               # 1: the base position stands on an entry
    cdef Node *node             # overlay position, NULL: none
    cdef int direction          # 1, -1; 0: nowhere
    cdef int from_node          # the current entry is the overlay's
    cdef uint8_t *keybuf        # key of the base entry
    cdef size_t cap_key, base_kn
    cdef uint8_t *valbuf
    cdef uint64_t cap_val
    cdef uint8_t *here          # copy of the current key
    cdef size_t cap_here, here_n

    cdef int ready(self) except -1
    cdef int load_leaf(self, uint32_t level, uint32_t pgno, const uint8_t *k, size_t n, int mode, int d) except -1
    cdef int base_seek(self, const uint8_t *k, size_t n, int mode, int d) except -1
    cdef int base_step(self, int d) except -1
    cdef uint32_t beside(self, const mm_frame *p, uint32_t level, uint32_t n, int d) noexcept nogil
    cdef void expect(self, int d) noexcept
    cdef void ask(self) noexcept
    cdef int base_key(self) except -1
    cdef int of_hash(self) except -1
    cdef int ordered(self) except -1
    cdef int settle(self, int d) except -1
    cdef int take_node(self, Node *n) except -1
    cdef int take_base(self) except -1
    cdef void overlay_begins(self) noexcept
    cdef int hash_first(self) except -1
    cdef int hash_step(self) except -1
    cdef int hash_settle(self) except -1
    cdef int move(self, int d) except -1
    cdef int c_limit(self, const uint8_t *k, size_t n) except -1
    cdef int observe(self, uint32_t pgno, const uint8_t *k, size_t n, int mode, int d) except -1
    cdef int base_moved(self, int d) except -1
    cdef int c_seek(self, const uint8_t *k, size_t n) except -1
    cdef int c_seek_before(self, const uint8_t *k, size_t n) except -1
    cdef int c_first(self) except -1
    cdef int c_last(self) except -1
    cdef int c_next(self) except -1
    cdef int c_cells(self, Cell *out, int most) except -1
    cdef int c_prev(self) except -1
