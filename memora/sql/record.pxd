"""C face of rows: where an expression reads its columns from, and the record format of `record.pyx`."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from libc.string cimport memcpy

from memora.engine.codec cimport Buf, KeyPart
from memora.engine.cursor cimport Cell
from memora.sql.types cimport Value


cdef class Source:
    cdef bint null_row                 # the missing side of an outer join: every column is NULL
    cdef int column(self, int i, Value *out) except -1
    cdef int gather(self, int i, int n, Value *out) except -1
    cdef int rowid_value(self, Value *out) except -1


cdef class SlotSource(Source):
    cdef Value *slots
    cdef int count
    cdef Value **block                 # the slots of each row of a block, NULL where the row is missing
    cdef int column(self, int i, Value *out) except -1
    cdef int gather(self, int i, int n, Value *out) except -1


cdef class EitherRow(Source):
    cdef Source target


cdef class RecordSource(Source):
    cdef readonly int columns
    cdef int rowid_column              # the column that is the rowid itself, or -1
    cdef int64_t rowid
    cdef const uint8_t *p
    cdef size_t n
    cdef int stored, parsed            # columns in the record, headers read so far
    cdef bint brief                    # its headers are in `word`, a byte each
    cdef uint64_t word
    cdef size_t head, body             # where the next header and its body begin
    cdef uint64_t *kinds
    cdef size_t *offsets
    cdef Value *defaults               # for columns younger than the record
    cdef list keep
    cdef Buf copy
    cdef EitherRow row                 # what `virtual` reads
    cdef list virtual                  # expressions of virtual columns, by column; or None
    cdef int computed(self, int i, Value *out) except -1
    cdef Cell *cells                   # the rows of a block: rowid (a key as a number) and record
    cdef int gather(self, int i, int n, Value *out) except -1
    cdef int load(self, const uint8_t *p, size_t n) except -1
    cdef int load_copy(self, const uint8_t *p, size_t n) except -1
    cdef int column(self, int i, Value *out) except -1
    cdef int parse(self, int i) except -1


cdef uint64_t kind_of(const Value *v) noexcept nogil
cdef int record_encode(Buf *b, const Value *values, int count, uint32_t version) except -1
cdef int key_put(Buf *b, const Value *v, int collation, bint descending) except -1
cdef int key_part_value(const KeyPart *part, Value *out) except -1

cdef extern from *:
    uint64_t swapped "__builtin_bswap64"(uint64_t u) nogil

cdef inline void rowid_key(int64_t rowid, uint8_t *out) noexcept nogil:
    """Eight bytes that sort as the rowid does."""
    cdef uint64_t u = swapped(<uint64_t>rowid ^ (<uint64_t>1 << 63))
    memcpy(out, &u, 8)

cdef inline int64_t cell_rowid(const Cell *cell) noexcept nogil:
    return <int64_t>(cell.key ^ (<uint64_t>1 << 63))

cdef inline int64_t key_rowid(const uint8_t *p) noexcept nogil:
    cdef uint64_t u
    memcpy(&u, p, 8)
    u = swapped(u)
    return <int64_t>(u ^ (<uint64_t>1 << 63))
