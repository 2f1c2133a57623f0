"""C face of the two codecs; `codec.pyx` tells the formats."""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t, uint8_t
from libc.stdlib cimport free, realloc


# A growable run of bytes. Zero it with buf_init; whoever owns it frees it.
ctypedef struct Buf:
    uint8_t *p
    size_t n            # bytes used
    size_t cap          # bytes allocated


cdef inline void buf_init(Buf *b) noexcept nogil:
    b.p = NULL
    b.n = 0
    b.cap = 0


cdef inline void buf_free(Buf *b) noexcept nogil:
    free(b.p)
    buf_init(b)


cdef int buf_grow(Buf *b, size_t more) noexcept nogil


# Makes room for `more` bytes after the used ones. 0, or -1 when there is no memory (the content stays).
cdef inline int buf_reserve(Buf *b, size_t more) noexcept nogil:
    if b.cap - b.n >= more:
        return 0
    return buf_grow(b, more)


cdef int buf_put(Buf *b, const void *source, size_t n) noexcept nogil


cdef enum KeyKind:
    KEY_NULL = 0
    KEY_INT64 = 1       # any number that is integral and fits, also when it was stored as a double
    KEY_DOUBLE = 2
    KEY_BIGINT = 3      # p, n: magnitude, big-endian; negative: its sign
    KEY_TEXT = 4        # p, n: UTF-8 as it was stored (not checked here)
    KEY_BLOB = 5


cdef enum KeyStatus:
    KEY_OK = 0
    KEY_NO_MEMORY = -1
    KEY_TRUNCATED = 1
    KEY_BAD_RANK = 2
    KEY_BAD_NUMBER = 3      # NaN, -0.0, or a number that has a shorter or another encoding
    KEY_BAD_ESCAPE = 4


ctypedef struct KeyPart:
    int kind                # KeyKind
    bint negative           # KEY_BIGINT only
    int64_t i               # KEY_INT64
    double d                # KEY_DOUBLE
    const uint8_t *p        # into the source or into scratch: until the next key_next with that scratch
    size_t n


# Each appends one component: 0, or -1 when there is no memory (nothing is appended).
cdef int key_null(Buf *b) noexcept nogil
cdef int key_int64(Buf *b, int64_t value) noexcept nogil
cdef int key_double(Buf *b, double value) noexcept nogil       # NaN is written as NULL, as SQL has it
cdef int key_text(Buf *b, const char *p, size_t n) noexcept nogil
cdef int key_blob(Buf *b, const char *p, size_t n) noexcept nogil
# magnitude: big-endian, no leading zero byte, of a number outside int64
cdef int key_bigint(Buf *b, bint negative, const uint8_t *magnitude, size_t n) noexcept nogil
# Turns the bytes from `start` on into a descending component.
cdef void key_complement(Buf *b, size_t start) noexcept nogil
# Drops the terminator of the text or blob that was appended last: what is left starts every key of that prefix.
cdef void key_open_end(Buf *b) noexcept nogil
# Turns a prefix (bytes from `start` on) into the smallest bytes above all that begin with it. 0, or -1: there are none.
cdef int key_prefix_end(Buf *b, size_t start) noexcept nogil

# Reads the component at p[0] and moves p[0] behind it; KeyStatus. On an error p[0] is the byte that is wrong.
cdef int key_next(const uint8_t **p, const uint8_t *end, bint desc, KeyPart *out, Buf *scratch) noexcept nogil

# With the GIL, for key spaces: int, str, bytes. Appends to `out`; on an exception `out` is as before.
cdef int encode_key_object(object key, Buf *out) except -1
cdef object decode_key_object(const uint8_t *p, size_t n)
cdef object key_part_object(const KeyPart *part)

# With the GIL, for values. Appends to `out`; on an exception `out` is as before.
cdef int encode_value_object(object value, Buf *out, bint pickle) except -1
cdef size_t bytes_head(uint64_t size, uint8_t *out) noexcept nogil
cdef int64_t whole_bytes(const uint8_t *p, size_t n, const uint8_t **at) noexcept nogil
cdef object decode_value_object(const uint8_t *p, size_t n, bint pickle)
