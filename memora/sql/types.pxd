"""The C side of SQL values: one tagged struct, growable buffers, and the rules of `types.pyx`."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from memora.engine.codec cimport Buf

cdef enum:
    T_NULL = 0
    T_INT = 1
    T_REAL = 2
    T_TEXT = 3
    T_BLOB = 4

cdef enum:
    AFF_BLOB = 0          # no conversion at all
    AFF_TEXT = 1
    AFF_NUMERIC = 2       # this one and everything above it turns text into numbers
    AFF_INTEGER = 3
    AFF_REAL = 4

cdef enum:
    COLL_BINARY = 0
    COLL_NOCASE = 1
    COLL_RTRIM = 2
    COLL_USER = 16        # this one and above: callbacks.collations

cdef enum:
    MAX_LENGTH = 1000000000             # bytes of a text or blob

cdef union Payload:
    int64_t i
    double r
    const uint8_t *p

cdef struct Value:
    Payload u
    size_t n              # bytes of text or blob
    int tag
    bint json             # of text: it was made by a JSON function, so others take it for JSON

cdef inline void set_null(Value *v) noexcept nogil:
    v.tag = T_NULL

cdef inline void set_int(Value *v, int64_t i) noexcept nogil:
    v.tag = T_INT
    v.u.i = i

cdef inline void set_real(Value *v, double r) noexcept nogil:
    # SQLite has no NaN: it is NULL wherever it would appear.
    if r != r:
        v.tag = T_NULL
    else:
        v.tag = T_REAL
        v.u.r = r

cdef inline void set_text(Value *v, const uint8_t *p, size_t n) noexcept nogil:
    v.tag = T_TEXT
    v.json = False
    v.u.p = p
    v.n = n

cdef inline void set_blob(Value *v, const uint8_t *p, size_t n) noexcept nogil:
    v.tag = T_BLOB
    v.u.p = p
    v.n = n

cdef int reserve(Buf *b, size_t need) except -1
cdef int append(Buf *b, const uint8_t *p, size_t n) except -1

cdef int compare_user(const uint8_t *a, size_t an, const uint8_t *b, size_t bn, int coll) noexcept with gil
cdef int compare_slow(const Value *a, const Value *b, int coll) noexcept nogil
cdef int compare_text(const uint8_t *a, size_t an, const uint8_t *b, size_t bn, int coll) noexcept nogil

cdef inline int compare(const Value *a, const Value *b, int coll) noexcept nogil:
    """Order of two values: negative, zero or positive; NULL equals NULL and comes first."""
    if a.tag == T_INT and b.tag == T_INT:
        return (a.u.i > b.u.i) - (a.u.i < b.u.i)
    return compare_slow(a, b, coll)

cdef int parse_number(const uint8_t *p, size_t n, Value *out) noexcept
cdef int64_t parse_integer(const uint8_t *p, size_t n) noexcept nogil
cdef int real_to_integer(double r, int64_t *out) noexcept nogil
cdef int64_t clamp_real(double r) noexcept nogil
cdef void to_number(const Value *v, Value *out) noexcept
cdef int64_t to_integer(const Value *v) noexcept
cdef double to_real(const Value *v) noexcept
cdef int truth(const Value *v) noexcept
cdef int text_of(const Value *v, Buf *scratch, Value *out) except -1
cdef int format_real(double r, int digits, char *out) noexcept
cdef int format_int(int64_t i, char *out) noexcept nogil
cdef int apply_affinity(Value *v, int affinity, Buf *scratch) except -1
cdef int compare_affinity(Value *v, int affinity, Buf *scratch) except -1
cdef int cast(Value *v, int affinity, Buf *scratch) except -1
cdef object to_python(const Value *v)
cdef int from_python(object o, Value *v, list keep) except -1
