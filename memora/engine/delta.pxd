from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from memora.engine.codec cimport Buf
from memora.engine.layout cimport mm_map
from memora.engine.overlay cimport Delta

cdef enum:
    DELTA_NUMBER = 1        # a number of the value codec, plus another
    DELTA_LARGEST = 2       # 8 bytes, big-endian: the larger one
    DELTA_RECORD = 3        # columns of a record of SQL (sql/delta.pyx)
    DELTA_KINDS = 4

    NUMBER_BYTES = 18       # argument of DELTA_NUMBER: what is added, and what an absent key counts as

# Appends the new value to an empty `out`. had: the key is there. MM_OK, MM_NOMEM; MM_CONFLICT: not a case for a delta.
ctypedef int (*Kernel)(const uint8_t *old, uint64_t oldn, int had, const uint8_t *argument, uint64_t n, Buf *out) noexcept nogil

cdef void delta_register(uint8_t kind, Kernel kernel) noexcept nogil
cdef int delta_once(uint8_t kind, const uint8_t *old, uint64_t oldn, int had, const uint8_t *argument, uint64_t n, Buf *out) noexcept nogil
cdef int delta_apply(mm_map *m, Delta *last, int had, const uint8_t **v, uint64_t *vn) noexcept nogil

# With the GIL: the argument of DELTA_NUMBER. 0: these are no numbers for it.
cdef int number_argument(object by, object initial, uint8_t *out) except -1
