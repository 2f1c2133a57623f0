"""Two codecs: keys whose bytes sort as their values do, and compact values.

KEYS
A key is one component or several, one after the other. A component begins with its rank:

    rank  what                    then
    0x10  NULL                    nothing
    0x20  integer below int64     length (4 bytes) and magnitude, all complemented, big-endian
    0x30  number                  8 bytes: the nearest double, big-endian, sign bit flipped, negative ones complemented;
                                  where |double| >= 2**53, 2 bytes more: 0x8000 + (value - double)
    0x40  integer above int64     length (4 bytes) and magnitude, big-endian
    0x50  text                    UTF-8, escaped, 0x00
    0x60  blob                    bytes, escaped, 0x00

Escaped: 0x00 becomes 01 01, and 0x01 becomes 01 02, so that the one terminator byte is below all that can stand in its place.
A descending component is the complement of all its bytes, rank and terminator too.

INVARIANTS
(1) Order. memcmp of two keys = order of their values, component by component: NULL < number < text < blob.
    Rounding to the nearest double is monotone, so integers and doubles sort by (double, difference) in one exact order;
    a double's difference is 0, and 1, 1.0 and True of SQL are one key. -0.0 is 0. +-inf are the ends of rank 0x30.
(2) Integers outside int64 exist in key spaces only, where there are no doubles: they sort below or above *all* other numbers,
    1e300 and inf too.
(3) Prefix-free. No component's encoding begins another's, so the first k components are a scan prefix of the whole key. A key
    of one component keeps its terminator, too: dropped, descending text would sort wrongly and composites could not be told
    apart. It costs one byte: an int takes 9 (11 from 2**53 on), text its length + 2.
(4) One encoding per value: other bytes are refused, so equal keys are equal bytes.
(5) The ranks 0x00 and 0xff and their complements never occur: a key prefix always has a successor.

NaN has no place in the order; SQL stores it as NULL (key_double does), and the Python face refuses it. Key spaces take int,
str and bytes of exactly these types: bool and float would silently be equal to an int, a subclass would not come back as itself.

VALUES
A value is one item, and an item begins with its tag:

    00..3f  int 0..63                     c0 None   c1 False   c2 True   c3 float, 8 bytes
    40..7f  str of 0..63 UTF-8 bytes      c4 c5 c6 c7  int of 1, 2, 4, 8 bytes, two's complement
    80..9f  bytes of 0..31                c8  int of more: length, two's complement
    a0..af  list of 0..15 items           c9  str: length   ca  bytes: length   cb  list: count   cc  dict: count
    b0..bf  dict of 0..15 items           cd  pickle: the rest of the data
    e0..ff  int -32..-1                   ce..df  reserved

Everything is little-endian; lengths and counts are LEB128. A dict's items are key, value, key, value, in the dict's order; keys
are str, int, bytes, float, bool or None. Only the shortest form of each number and length is legal, so equal scalars are equal
bytes. Types are exact (1, 1.0 and True come back as they went in); tuple, set, bytearray and subclasses are refused, because they
would come back as something else. Items nest at most 200 deep.

In a space that was opened with pickle=True, a value that the codec refuses is pickled as a whole, so identity and cycles within it
hold; tag cd is therefore legal only as the first byte, and only there.

HOSTILE BYTES
Every length is compared with the bytes that are left before it is used. An item of a list may use only what its later siblings do
not need (one byte each), so the counts of all open lists together never exceed the input: lists are allocated at once, and yet a
lie cannot allocate more than the input pays for. What is wrong raises CorruptionError with the offset.
"""
import pickle as _pickle

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_CheckExact, PyDict_Next, PyDict_Size
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.stdint cimport INT64_MIN, int8_t, int16_t, int32_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from memora.errors import CorruptionError, DataError, ProgrammingError

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL
    long long PyLong_AsLongLongAndOverflow(object, int *) except? -1
    object PyUnicode_New(Py_ssize_t, Py_UCS4)
    void *PyUnicode_DATA(object)

cdef extern from *:
    """
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "Memora's formats are little-endian"
    #endif
    """
    uint64_t bswap64 "__builtin_bswap64"(uint64_t) noexcept nogil
    uint32_t bswap32 "__builtin_bswap32"(uint32_t) noexcept nogil
    uint16_t bswap16 "__builtin_bswap16"(uint16_t) noexcept nogil

MAX_DEPTH = 200

cdef enum:
    RANK_NULL = 0x10
    RANK_BELOW = 0x20
    RANK_NUMBER = 0x30
    RANK_ABOVE = 0x40
    RANK_TEXT = 0x50
    RANK_BLOB = 0x60

    TAG_STR = 0x40
    TAG_BYTES = 0x80
    TAG_LIST = 0xa0
    TAG_DICT = 0xb0
    TAG_NONE = 0xc0
    TAG_FALSE = 0xc1
    TAG_TRUE = 0xc2
    TAG_FLOAT = 0xc3
    TAG_INT8 = 0xc4
    TAG_INT16 = 0xc5
    TAG_INT32 = 0xc6
    TAG_INT64 = 0xc7
    TAG_BIGINT = 0xc8
    TAG_LONG_STR = 0xc9
    TAG_LONG_BYTES = 0xca
    TAG_LONG_LIST = 0xcb
    TAG_LONG_DICT = 0xcc
    TAG_PICKLE = 0xcd
    TAG_NEGATIVE = 0xe0

    DEPTH_LIMIT = 200

cdef double TWO_53 = 9007199254740992.0
cdef double TWO_63 = 9223372036854775808.0
cdef uint64_t SIGN = <uint64_t>1 << 63


# ---------------------------------------------------------------- buffer

cdef int buf_grow(Buf *b, size_t more) noexcept nogil:
    cdef size_t cap = b.cap * 2 if b.cap else 64
    cdef uint8_t *p
    if more > (<size_t>1 << 62) - b.n:
        return -1
    if cap < b.n + more:
        cap = b.n + more
    p = <uint8_t *>realloc(b.p, cap)
    if p is NULL:
        return -1
    b.p = p
    b.cap = cap
    return 0


cdef int buf_put(Buf *b, const void *source, size_t n) noexcept nogil:
    if buf_reserve(b, n) < 0:
        return -1
    if n:
        memcpy(b.p + b.n, source, n)
    b.n += n
    return 0


cdef inline bint is_ascii(const uint8_t *p, size_t n) noexcept nogil:
    cdef uint64_t seen = 0, word
    cdef size_t i = 0
    while i + 8 <= n:
        memcpy(&word, p + i, 8)
        seen |= word
        i += 8
    while i < n:
        seen |= p[i]
        i += 1
    return seen & <uint64_t>0x8080808080808080 == 0


cdef inline object ascii_text(const uint8_t *p, size_t n):
    # A third less time than PyUnicode_DecodeUTF8 for 100 characters (39 and 57 ns).
    text = PyUnicode_New(n, 127)
    if n:
        memcpy(PyUnicode_DATA(text), p, n)
    return text


# ---------------------------------------------------------------- keys: writing

cdef int key_null(Buf *b) noexcept nogil:
    if buf_reserve(b, 1) < 0:
        return -1
    b.p[b.n] = RANK_NULL
    b.n += 1
    return 0


cdef inline int put_number(Buf *b, double value, int difference) noexcept nogil:
    cdef uint64_t bits
    cdef uint16_t biased
    cdef uint8_t *p
    if buf_reserve(b, 11) < 0:
        return -1
    p = b.p + b.n
    memcpy(&bits, &value, 8)
    bits = ~bits if bits & SIGN else bits | SIGN
    bits = bswap64(bits)
    p[0] = RANK_NUMBER
    memcpy(p + 1, &bits, 8)
    if -TWO_53 < value < TWO_53:
        b.n += 9
        return 0
    biased = bswap16(<uint16_t>(0x8000 + difference))
    memcpy(p + 9, &biased, 2)
    b.n += 11
    return 0


cdef inline int64_t minus_double(int64_t value, double nearest) noexcept nogil:
    # 2**63 is the one nearest double that does not fit int64; wrap-around arithmetic still gives the small difference.
    cdef uint64_t whole = SIGN if nearest == TWO_63 else <uint64_t><int64_t>nearest
    return <int64_t>(<uint64_t>value - whole)


cdef int key_int64(Buf *b, int64_t value) noexcept nogil:
    cdef double nearest = <double>value
    return put_number(b, nearest, <int>minus_double(value, nearest))


cdef int key_double(Buf *b, double value) noexcept nogil:
    if value != value:
        return key_null(b)
    return put_number(b, value + 0.0, 0)        # -0.0 + 0.0 is 0.0


cdef int put_escaped(Buf *b, uint8_t rank, const uint8_t *source, size_t n) noexcept nogil:
    cdef size_t i = 0, special = 0
    cdef uint64_t w
    cdef uint8_t *to
    cdef uint8_t c
    while i + 8 <= n:               # eight bytes at a time as long as none is below 2
        memcpy(&w, source + i, 8)
        if (w - 0x0202020202020202ULL) & ~w & 0x8080808080808080ULL:
            break
        i += 8
    for i in range(i, n):
        special += source[i] < 2
    if buf_reserve(b, n + special + 2) < 0:
        return -1
    to = b.p + b.n
    to[0] = rank
    to += 1
    if special == 0:
        if n:
            memcpy(to, source, n)
    else:
        for i in range(n):
            c = source[i]
            if c < 2:
                to[0] = 1
                to += 1
                c += 1
            to[0] = c
            to += 1
    b.n += n + special + 2
    b.p[b.n - 1] = 0
    return 0


cdef int key_text(Buf *b, const char *p, size_t n) noexcept nogil:
    return put_escaped(b, RANK_TEXT, <const uint8_t *>p, n)


cdef int key_blob(Buf *b, const char *p, size_t n) noexcept nogil:
    return put_escaped(b, RANK_BLOB, <const uint8_t *>p, n)


cdef int key_bigint(Buf *b, bint negative, const uint8_t *magnitude, size_t n) noexcept nogil:
    cdef size_t start = b.n
    cdef uint32_t length = bswap32(<uint32_t>n)
    if n >> 32 or buf_reserve(b, n + 5) < 0:
        return -1
    b.p[start] = RANK_BELOW if negative else RANK_ABOVE
    memcpy(b.p + start + 1, &length, 4)
    memcpy(b.p + start + 5, magnitude, n)
    b.n += n + 5
    if negative:
        key_complement(b, start + 1)
    return 0


cdef void key_complement(Buf *b, size_t start) noexcept nogil:
    cdef size_t i
    for i in range(start, b.n):
        b.p[i] = ~b.p[i]


cdef void key_open_end(Buf *b) noexcept nogil:
    b.n -= 1


cdef int key_prefix_end(Buf *b, size_t start) noexcept nogil:
    while b.n > start and b.p[b.n - 1] == 0xff:
        b.n -= 1
    if b.n == start:
        return -1
    b.p[b.n - 1] += 1
    return 0


# ---------------------------------------------------------------- keys: reading

cdef int next_number(const uint8_t **p, const uint8_t *end, uint8_t mask, KeyPart *out) noexcept nogil:
    cdef const uint8_t *q = p[0] + 1
    cdef uint64_t bits
    cdef uint16_t biased = 0x8000
    cdef double value
    cdef int64_t difference, i
    cdef int size = 9
    if end - q < 8:
        p[0] = end
        return KEY_TRUNCATED
    memcpy(&bits, q, 8)
    bits = bswap64(bits)
    if mask:
        bits = ~bits
    bits = bits ^ SIGN if bits & SIGN else ~bits
    memcpy(&value, &bits, 8)
    if value != value or bits == SIGN:
        return KEY_BAD_NUMBER
    if not -TWO_53 < value < TWO_53:
        size = 11
        if end - q < 10:
            p[0] = end
            return KEY_TRUNCATED
        memcpy(&biased, q + 8, 2)
        biased = bswap16(biased)
        if mask:
            biased = ~biased
    difference = <int64_t>biased - 0x8000
    if -TWO_63 <= value <= TWO_63 and (value < TWO_63 or difference < 0):
        # Wrap-around is caught below: a sum that wrapped is far from `value` when it is rounded again.
        i = <int64_t>((SIGN if value == TWO_63 else <uint64_t><int64_t>value) + <uint64_t>difference)
        if <double>i != value:
            if difference:
                return KEY_BAD_NUMBER
            out.kind = KEY_DOUBLE
            out.d = value
        else:
            out.kind = KEY_INT64
            out.i = i
    else:
        if difference:
            return KEY_BAD_NUMBER
        out.kind = KEY_DOUBLE
        out.d = value
    p[0] += size
    return KEY_OK


cdef int next_escaped(const uint8_t **p, const uint8_t *end, uint8_t mask, KeyPart *out, Buf *scratch) noexcept nogil:
    cdef const uint8_t *q = p[0] + 1
    cdef const uint8_t *stop = <const uint8_t *>memchr(q, mask, end - q)
    cdef uint8_t c
    cdef uint8_t *to
    if stop is NULL:
        p[0] = end
        return KEY_TRUNCATED
    if mask == 0 and memchr(q, 1, stop - q) is NULL:
        out.p = q
        out.n = stop - q
        p[0] = stop + 1
        return KEY_OK
    scratch.n = 0
    if buf_reserve(scratch, stop - q + 1) < 0:
        return KEY_NO_MEMORY
    to = scratch.p
    while q < stop:
        c = q[0] ^ mask
        q += 1
        if c == 1:
            c = (q[0] ^ mask) - 1           # at the latest the terminator stands here: 0 - 1 is 255
            if c > 1:
                p[0] = q
                return KEY_BAD_ESCAPE
            q += 1
        to[0] = c
        to += 1
    scratch.n = to - scratch.p
    out.p = scratch.p
    out.n = scratch.n
    p[0] = stop + 1
    return KEY_OK


cdef int next_bigint(const uint8_t **p, const uint8_t *end, uint8_t mask, KeyPart *out, Buf *scratch) noexcept nogil:
    cdef const uint8_t *q = p[0] + 1
    cdef uint32_t length
    cdef uint64_t low
    cdef size_t i
    if end - q < 4:
        p[0] = end
        return KEY_TRUNCATED
    memcpy(&length, q, 4)
    length = bswap32(length)
    if out.negative:
        mask = ~mask
    if mask:
        length = ~length
    q += 4
    if <size_t>(end - q) < length:
        p[0] = end
        return KEY_TRUNCATED
    if length < 8 or q[0] == mask:
        return KEY_BAD_NUMBER
    if length == 8:
        memcpy(&low, q, 8)
        low = bswap64(low)
        if mask:
            low = ~low
        if low < SIGN or (low == SIGN and out.negative):
            return KEY_BAD_NUMBER
    out.kind = KEY_BIGINT
    out.p = q
    out.n = length
    if mask:
        scratch.n = 0
        if buf_reserve(scratch, length) < 0:
            return KEY_NO_MEMORY
        for i in range(length):
            scratch.p[i] = ~q[i]
        scratch.n = length
        out.p = scratch.p
    p[0] = q + length
    return KEY_OK


cdef int key_next(const uint8_t **p, const uint8_t *end, bint desc, KeyPart *out, Buf *scratch) noexcept nogil:
    cdef uint8_t mask = 0xff if desc else 0
    cdef uint8_t rank
    if p[0] >= end:
        return KEY_TRUNCATED
    rank = p[0][0] ^ mask
    if rank == RANK_NUMBER:
        return next_number(p, end, mask, out)
    if rank == RANK_TEXT:
        out.kind = KEY_TEXT
        return next_escaped(p, end, mask, out, scratch)
    if rank == RANK_BLOB:
        out.kind = KEY_BLOB
        return next_escaped(p, end, mask, out, scratch)
    if rank == RANK_NULL:
        out.kind = KEY_NULL
        p[0] += 1
        return KEY_OK
    if rank == RANK_BELOW or rank == RANK_ABOVE:
        out.negative = rank == RANK_BELOW
        return next_bigint(p, end, mask, out, scratch)
    return KEY_BAD_RANK


# ---------------------------------------------------------------- keys: Python objects

cdef int surrogate_error(str text) except -1:
    """Raises DataError naming the first code point that UTF-8 cannot carry."""
    cdef Py_ssize_t i
    for i in range(len(text)):
        if 0xd800 <= ord(text[i]) <= 0xdfff:
            raise DataError(f"str has a lone surrogate U+{ord(text[i]):04X} at index {i}; UTF-8 cannot store it")
    raise DataError(f"str of {len(text)} characters cannot be encoded as UTF-8")


cdef const char *utf8(str text, Py_ssize_t *n) except NULL:
    try:
        return PyUnicode_AsUTF8AndSize(text, n)
    except UnicodeEncodeError:
        surrogate_error(text)
        raise


cdef int put_big_key(object key, Buf *out) except -1:
    cdef bint negative = key < 0
    cdef object size = (key.bit_length() + 7) // 8
    if size > 0xffffffffU:
        raise DataError(f"int of {size} bytes is too large for a key")
    cdef bytes magnitude = abs(key).to_bytes(size, "big")
    if key_bigint(out, negative, <const uint8_t *>PyBytes_AS_STRING(magnitude), PyBytes_GET_SIZE(magnitude)) < 0:
        raise MemoryError
    return 0


cdef int encode_key_object(object key, Buf *out) except -1:
    cdef Py_ssize_t n = 0
    cdef const char *p
    cdef int overflow = 0, status
    cdef long long i
    if PyLong_CheckExact(key):
        i = PyLong_AsLongLongAndOverflow(key, &overflow)
        if overflow:
            return put_big_key(key, out)
        status = key_int64(out, i)
    elif PyUnicode_CheckExact(key):
        p = utf8(key, &n)
        status = key_text(out, p, n)
    elif PyBytes_CheckExact(key):
        status = key_blob(out, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
    else:
        raise TypeError(f"a key must be an int, str or bytes, not {type(key).__name__}")
    if status < 0:
        raise MemoryError
    return 0


cdef int put_part(object value, Buf *out) except -1:
    """One component of a composite key: what key spaces take, and None and float."""
    cdef int status
    if value is None:
        status = key_null(out)
    elif PyFloat_CheckExact(value):
        if value != value:
            raise DataError("NaN has no place in the order of keys; SQL stores it as NULL")
        status = key_double(out, PyFloat_AS_DOUBLE(value))
    elif PyLong_CheckExact(value) or PyUnicode_CheckExact(value) or PyBytes_CheckExact(value):
        return encode_key_object(value, out)
    else:
        raise TypeError(f"a key part must be None, an int, float, str or bytes, not {type(value).__name__}")
    if status < 0:
        raise MemoryError
    return 0


cdef object key_text_object(const KeyPart *part):
    try:
        return PyUnicode_DecodeUTF8(<const char *>part.p, part.n, NULL)
    except UnicodeDecodeError as error:
        raise CorruptionError(f"key text of {part.n} bytes is not UTF-8: {error}") from None


cdef object key_part_object(const KeyPart *part):
    """The component as a Python object; CorruptionError if its text is not UTF-8."""
    if part.kind == KEY_INT64:
        return part.i
    if part.kind == KEY_TEXT:
        return ascii_text(part.p, part.n) if is_ascii(part.p, part.n) else key_text_object(part)
    if part.kind == KEY_BLOB:
        return PyBytes_FromStringAndSize(<const char *>part.p, part.n)
    if part.kind == KEY_DOUBLE:
        return part.d
    if part.kind == KEY_BIGINT:
        magnitude = int.from_bytes(PyBytes_FromStringAndSize(<const char *>part.p, part.n), "big")
        return -magnitude if part.negative else magnitude
    return None


cdef int key_error(int status, const uint8_t *start, const uint8_t *at, const uint8_t *end) except -1:
    """Turns a KeyStatus other than KEY_OK into its exception."""
    if status == KEY_NO_MEMORY:
        raise MemoryError
    cdef Py_ssize_t offset = at - start
    if status == KEY_TRUNCATED:
        raise CorruptionError(f"key ends at byte {offset} within a component")
    what = f"0x{at[0]:02x}" if at < end else "the end"
    if status == KEY_BAD_RANK:
        raise CorruptionError(f"key byte {offset}: {what} is no rank")
    if status == KEY_BAD_ESCAPE:
        raise CorruptionError(f"key byte {offset}: {what} after an escape")
    found = PyBytes_FromStringAndSize(<const char *>at, min(end - at, 13)).hex()
    raise CorruptionError(f"key byte {offset}: {found} is no number that was stored so")


cdef inline int escapes(const uint8_t *p, size_t n) noexcept nogil:
    """1: a byte below 2 is among them, an escape or a terminator. Eight bytes at once: 'determine if a word has a byte less than n'."""
    cdef uint64_t w
    while n >= 8:
        memcpy(&w, p, 8)
        if (w - <uint64_t>0x0202020202020202) & ~w & <uint64_t>0x8080808080808080:
            return 1
        p += 8
        n -= 8
    while n:
        if p[0] < 2:
            return 1
        p += 1
        n -= 1
    return 0


cdef object decode_key_object(const uint8_t *p, size_t n):
    # nearly every key: one component without escapes
    if n >= 2 and p[n - 1] == 0 and not escapes(p + 1, n - 2):
        if p[0] == RANK_BLOB:
            return PyBytes_FromStringAndSize(<const char *>p + 1, n - 2)
        if p[0] == RANK_TEXT and is_ascii(p + 1, n - 2):
            return ascii_text(p + 1, n - 2)
    return decode_any_key(p, n)


cdef object decode_any_key(const uint8_t *p, size_t n):
    cdef Buf scratch
    cdef KeyPart part
    cdef const uint8_t *at = p
    cdef int status
    buf_init(&scratch)
    try:
        status = key_next(&at, p + n, False, &part, &scratch)
        if status != KEY_OK:
            key_error(status, p, at, p + n)
        if at != p + n:
            raise CorruptionError(f"key byte {at - p}: {p + n - at} bytes after the key")
        if part.kind == KEY_NULL or part.kind == KEY_DOUBLE:
            raise CorruptionError(
                f"key byte 0: a key space has int, str and bytes keys, found {key_part_object(&part)!r}")
        return key_part_object(&part)
    finally:
        buf_free(&scratch)


cdef bytes taken(Buf *b):
    """The buffer's content as bytes."""
    return PyBytes_FromStringAndSize(<const char *>b.p, b.n)


def encode_key(value):
    """The bytes of a key-space key. `value`: int, str or bytes, exactly.

    Raises TypeError for other types (bool and float too), DataError for a str with a lone surrogate.
    """
    cdef Buf out
    buf_init(&out)
    try:
        encode_key_object(value, &out)
        return taken(&out)
    finally:
        buf_free(&out)


def decode_key(bytes data not None):
    """The key that `encode_key` turned into `data`. Raises CorruptionError for other bytes."""
    return decode_key_object(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


def encode_key_prefix(value):
    """The bytes that begin the encoding of each key that begins with `value` (str or bytes), and of no other key."""
    if type(value) is not str and type(value) is not bytes:
        raise TypeError(f"a key prefix must be a str or bytes, not {type(value).__name__}")
    key = encode_key(value)
    return key[:len(key) - 1]


def encode_key_parts(values, desc=()):
    """The bytes of a composite key. `values`: None, int, float, str or bytes each; `desc`: positions that sort descending.

    Raises TypeError for other types, DataError for NaN and for a str with a lone surrogate.
    """
    cdef Buf out
    cdef size_t start
    buf_init(&out)
    try:
        for position, value in enumerate(values):
            start = out.n
            put_part(value, &out)
            if position in desc:
                key_complement(&out, start)
        return taken(&out)
    finally:
        buf_free(&out)


def decode_key_parts(bytes data not None, desc=()):
    """The tuple of values in a composite key; an integral float within int64 comes back as int.

    Raises CorruptionError for bytes that `encode_key_parts` does not make.
    """
    cdef Buf scratch
    cdef KeyPart part
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef const uint8_t *end = start + PyBytes_GET_SIZE(data)
    cdef const uint8_t *at = start
    cdef int status
    values = []
    buf_init(&scratch)
    try:
        while at < end:
            status = key_next(&at, end, len(values) in desc, &part, &scratch)
            if status != KEY_OK:
                key_error(status, start, at, end)
            values.append(key_part_object(&part))
        return tuple(values)
    finally:
        buf_free(&scratch)


# ---------------------------------------------------------------- values: writing

cdef inline int put_head(Buf *out, uint8_t small, size_t limit, uint8_t large, size_t n, size_t more) except -1:
    """A tag with its length or count `n`, and room for `more` bytes after it."""
    if buf_reserve(out, 11 + more) < 0:
        raise MemoryError
    if n < limit:
        out.p[out.n] = small + <uint8_t>n
        out.n += 1
        return 0
    out.p[out.n] = large
    out.n += 1
    while n >= 0x80:
        out.p[out.n] = <uint8_t>(n | 0x80)
        out.n += 1
        n >>= 7
    out.p[out.n] = <uint8_t>n
    out.n += 1
    return 0


cdef inline int put_run(Buf *out, uint8_t small, size_t limit, uint8_t large, const char *p, size_t n) except -1:
    put_head(out, small, limit, large, n, n)
    memcpy(out.p + out.n, p, n)
    out.n += n
    return 0


cdef int put_int(object value, Buf *out) except -1:
    cdef int overflow = 0
    cdef int64_t i = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef uint8_t *p
    cdef int size
    if overflow:
        # ~value of a negative number has the bits that matter: -2**71 needs 9 bytes, as 2**71 - 1 does
        n = (value if overflow > 0 else ~value).bit_length() // 8 + 1
        raw = value.to_bytes(n, "little", signed=True)
        return put_run(out, 0, 0, TAG_BIGINT, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
    if buf_reserve(out, 9) < 0:
        raise MemoryError
    p = out.p + out.n
    if -32 <= i < 64:
        p[0] = <uint8_t>i           # -32..-1 are 0xe0..0xff in two's complement
        out.n += 1
        return 0
    if i == <int8_t>i:
        p[0] = TAG_INT8
        size = 1
    elif i == <int16_t>i:
        p[0] = TAG_INT16
        size = 2
    elif i == <int32_t>i:
        p[0] = TAG_INT32
        size = 4
    else:
        p[0] = TAG_INT64
        size = 8
    memcpy(p + 1, &i, size)
    out.n += 1 + size
    return 0


cdef inline int put_tag(Buf *out, uint8_t tag) except -1:
    if buf_reserve(out, 1) < 0:
        raise MemoryError
    out.p[out.n] = tag
    out.n += 1
    return 0


cdef int put_item(object value, Buf *out, int depth) except -1:
    cdef Py_ssize_t n = 0, i, at = 0
    cdef const char *p
    cdef double d
    cdef PyObject *key
    cdef PyObject *item
    if PyBytes_CheckExact(value):
        return put_run(out, TAG_BYTES, 32, TAG_LONG_BYTES, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    if PyUnicode_CheckExact(value):
        p = utf8(value, &n)
        return put_run(out, TAG_STR, 64, TAG_LONG_STR, p, n)
    if PyLong_CheckExact(value):
        return put_int(value, out)
    if value is None:
        return put_tag(out, TAG_NONE)
    if value is True:
        return put_tag(out, TAG_TRUE)
    if value is False:
        return put_tag(out, TAG_FALSE)
    if PyFloat_CheckExact(value):
        if buf_reserve(out, 9) < 0:
            raise MemoryError
        d = PyFloat_AS_DOUBLE(value)
        out.p[out.n] = TAG_FLOAT
        memcpy(out.p + out.n + 1, &d, 8)
        out.n += 9
        return 0
    if not PyList_CheckExact(value) and not PyDict_CheckExact(value):
        raise TypeError(
            f"a value must be None, bool, int, float, str, bytes, or a list or dict of these, not {type(value).__name__}")
    if depth == DEPTH_LIMIT:
        raise DataError(f"value is nested more than {DEPTH_LIMIT} deep, or contains itself")
    if PyList_CheckExact(value):
        n = PyList_GET_SIZE(value)
        put_head(out, TAG_LIST, 16, TAG_LONG_LIST, n, 0)
        for i in range(n):
            # The count is written already; nothing below runs Python code, but memory must not depend on that.
            if i >= PyList_GET_SIZE(value):
                break
            item_of_list = <object>PyList_GET_ITEM(value, i)
            put_item(item_of_list, out, depth + 1)
        if PyList_GET_SIZE(value) != n:
            raise RuntimeError(f"list changed its size from {n} to {PyList_GET_SIZE(value)} while it was encoded")
        return 0
    n = PyDict_Size(value)
    put_head(out, TAG_DICT, 16, TAG_LONG_DICT, n, 0)
    i = 0
    while PyDict_Next(value, &at, &key, &item):
        i += 1
        key_of_dict = <object>key
        item_of_dict = <object>item
        put_dict_key(key_of_dict, out)
        put_item(item_of_dict, out, depth + 1)
    if i != n or PyDict_Size(value) != n:
        raise RuntimeError(f"dict changed its size from {n} to {PyDict_Size(value)} while it was encoded")
    return 0


cdef int put_dict_key(object key, Buf *out) except -1:
    if (PyUnicode_CheckExact(key) or PyLong_CheckExact(key) or PyBytes_CheckExact(key) or PyFloat_CheckExact(key)
            or key is None or key is True or key is False):
        return put_item(key, out, DEPTH_LIMIT)
    raise TypeError(f"a dict key in a value must be str, int, bytes, float, bool or None, not {type(key).__name__}")


cdef int put_pickle(object value, Buf *out) except -1:
    try:
        # Fixed, so that each Python from 3.10 on can read what another has written.
        data = _pickle.dumps(value, 5)
    except Exception as error:
        raise TypeError(f"a value of type {type(value).__name__} cannot be pickled: {error}") from error
    put_tag(out, TAG_PICKLE)
    if buf_put(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)) < 0:
        raise MemoryError
    return 0


cdef int encode_value_object(object value, Buf *out, bint pickle) except -1:
    cdef size_t start = out.n
    try:
        return put_item(value, out, 0)
    except (TypeError, DataError):
        out.n = start
        if not pickle:
            raise
    except BaseException:
        out.n = start
        raise
    return put_pickle(value, out)


# ---------------------------------------------------------------- values: reading

ctypedef struct Reader:
    const uint8_t *start
    const uint8_t *p


cdef object wrong(const Reader *r, const uint8_t *at, str what):
    raise CorruptionError(f"value byte {at - r.start}: {what}")


cdef int get_length(Reader *r, const uint8_t *limit, size_t least, size_t each, size_t *out) except -1:
    """A LEB128 length or count of things that take `each` bytes at least; below `least` it had to stand in the tag."""
    cdef const uint8_t *at = r.p
    cdef uint64_t n = 0
    cdef int shift = 0
    cdef uint8_t c
    while True:
        if r.p == limit:
            wrong(r, r.p, "the data ends within a length")
        c = r.p[0]
        r.p += 1
        if shift == 63 and c > 1:
            wrong(r, at, "a length of more than 64 bits")
        n |= <uint64_t>(c & 0x7f) << shift
        if c < 0x80:
            break
        shift += 7
    if n < least or (c == 0 and shift):
        wrong(r, at, f"length {n} is not in its shortest form")
    if n > <size_t>(limit - r.p) // each:
        wrong(r, at, f"length {n}, but only {limit - r.p} bytes are left")
    out[0] = n
    return 0


cdef object get_text(Reader *r, const uint8_t *limit, size_t n):
    cdef const uint8_t *at = r.p
    if n > <size_t>(limit - at):
        wrong(r, at, f"str of {n} bytes, but only {limit - at} bytes are left")
    r.p = at + n
    if is_ascii(at, n):
        return ascii_text(at, n)
    return get_wide_text(r, at, n)


cdef object get_wide_text(Reader *r, const uint8_t *at, size_t n):
    try:
        return PyUnicode_DecodeUTF8(<const char *>at, n, NULL)
    except UnicodeDecodeError as error:
        wrong(r, at + <Py_ssize_t>error.start, f"not UTF-8: {error.reason}")


cdef object get_bytes(Reader *r, const uint8_t *limit, size_t n):
    cdef const uint8_t *at = r.p
    if n > <size_t>(limit - at):
        wrong(r, at, f"bytes of length {n}, but only {limit - at} are left")
    r.p = at + n
    return PyBytes_FromStringAndSize(<const char *>at, n)


cdef object get_list(Reader *r, const uint8_t *limit, size_t n, int depth):
    cdef size_t i
    cdef list items
    if n > <size_t>(limit - r.p):
        wrong(r, r.p, f"list of {n} items, but only {limit - r.p} bytes are left")
    if depth == DEPTH_LIMIT:
        wrong(r, r.p, f"nested more than {DEPTH_LIMIT} deep")
    items = PyList_New(n)
    for i in range(n):
        item = get_item(r, limit - (n - i - 1), depth + 1)
        Py_INCREF(item)
        PyList_SET_ITEM(items, i, item)
    return items


cdef object get_dict(Reader *r, const uint8_t *limit, size_t n, int depth):
    cdef const uint8_t *at = r.p
    cdef size_t i
    cdef dict items
    if n > <size_t>(limit - r.p) // 2:
        wrong(r, r.p, f"dict of {n} items, but only {limit - r.p} bytes are left")
    if depth == DEPTH_LIMIT:
        wrong(r, r.p, f"nested more than {DEPTH_LIMIT} deep")
    items = {}
    for i in range(n):
        if r.p < limit and (r.p[0] >> 5 == TAG_LIST >> 5 or r.p[0] == TAG_LONG_LIST or r.p[0] == TAG_LONG_DICT):
            wrong(r, r.p, f"tag 0x{r.p[0]:02x} cannot be a dict key")
        key = get_item(r, limit - 2 * (n - i - 1) - 1, depth + 1)
        items[key] = get_item(r, limit - 2 * (n - i - 1), depth + 1)
    if <size_t>len(items) != n:
        wrong(r, at, f"dict of {n} items has {n - len(items)} keys twice")
    return items


cdef object get_float(Reader *r, const uint8_t *limit):
    cdef double d
    if limit - r.p < 8:
        wrong(r, r.p, f"float of 8 bytes, but only {limit - r.p} are left")
    memcpy(&d, r.p, 8)
    r.p += 8
    return d


cdef object get_int(Reader *r, const uint8_t *limit, uint8_t tag):
    cdef const uint8_t *at = r.p - 1
    cdef int size = 1 << (tag - TAG_INT8)
    cdef int64_t i
    cdef bint shortest
    if limit - r.p < size:
        wrong(r, r.p, f"int of {size} bytes, but only {limit - r.p} are left")
    i = 0
    memcpy(&i, r.p, size)
    if size == 1:
        i = <int8_t>i
        shortest = not -32 <= i < 64
    elif size == 2:
        i = <int16_t>i
        shortest = i != <int8_t>i
    elif size == 4:
        i = <int32_t>i
        shortest = i != <int16_t>i
    else:
        shortest = i != <int32_t>i
    if not shortest:
        wrong(r, at, f"int {i} in {size} bytes is not in its shortest form")
    r.p += size
    return i


cdef object get_bigint(Reader *r, const uint8_t *limit):
    cdef const uint8_t *at = r.p - 1
    cdef size_t n = 0
    cdef uint8_t top
    get_length(r, limit, 9, 1, &n)
    top = r.p[n - 1]
    if (top == 0 and r.p[n - 2] < 0x80) or (top == 0xff and r.p[n - 2] >= 0x80):
        wrong(r, at, f"int in {n} bytes is not in its shortest form")
    r.p += n
    return int.from_bytes(PyBytes_FromStringAndSize(<const char *>r.p - n, n), "little", signed=True)


cdef object get_item(Reader *r, const uint8_t *limit, int depth):
    cdef uint8_t tag
    cdef size_t n = 0
    if r.p >= limit:
        wrong(r, r.p, "an item is missing")
    tag = r.p[0]
    r.p += 1
    if tag < TAG_STR:
        return tag
    if tag < TAG_BYTES:
        return get_text(r, limit, tag - TAG_STR)
    if tag < TAG_LIST:
        return get_bytes(r, limit, tag - TAG_BYTES)
    if tag < TAG_DICT:
        return get_list(r, limit, tag - TAG_LIST, depth)
    if tag < TAG_NONE:
        return get_dict(r, limit, tag - TAG_DICT, depth)
    if tag >= TAG_NEGATIVE:
        return <int8_t>tag
    if tag == TAG_LONG_BYTES:
        get_length(r, limit, 32, 1, &n)
        return get_bytes(r, limit, n)
    if tag == TAG_LONG_STR:
        get_length(r, limit, 64, 1, &n)
        return get_text(r, limit, n)
    if tag == TAG_NONE:
        return None
    if tag == TAG_TRUE:
        return True
    if tag == TAG_FALSE:
        return False
    if tag == TAG_FLOAT:
        return get_float(r, limit)
    if tag <= TAG_INT64:
        return get_int(r, limit, tag)
    if tag == TAG_BIGINT:
        return get_bigint(r, limit)
    if tag == TAG_LONG_LIST:
        get_length(r, limit, 16, 1, &n)
        return get_list(r, limit, n, depth)
    if tag == TAG_LONG_DICT:
        get_length(r, limit, 16, 2, &n)
        return get_dict(r, limit, n, depth)
    if tag == TAG_PICKLE:
        wrong(r, r.p - 1, "a pickle inside a value")
    wrong(r, r.p - 1, f"tag 0x{tag:02x} is reserved")


cdef object get_pickle(const uint8_t *p, size_t n, bint allowed):
    if not allowed:
        raise ProgrammingError(f"the value is a pickle of {n} bytes; open the space with pickle=True to read it")
    try:
        return _pickle.loads(PyBytes_FromStringAndSize(<const char *>p, n))
    except Exception as error:
        raise DataError(f"a pickle of {n} bytes cannot be loaded: {type(error).__name__}: {error}") from error


cdef object decode_value_object(const uint8_t *p, size_t n, bint pickle):
    cdef Reader r
    # what most values are: short bytes
    if n >= 2 and p[0] == TAG_LONG_BYTES and p[1] == n - 2 and 32 <= p[1] < 0x80:
        return PyBytes_FromStringAndSize(<const char *>p + 2, n - 2)
    r.start = p
    r.p = p
    if n and p[0] == TAG_PICKLE:
        return get_pickle(p + 1, n - 1, pickle)
    value = get_item(&r, p + n, 0)
    if r.p != p + n:
        wrong(&r, r.p, f"{p + n - r.p} bytes after the value")
    return value


cdef size_t bytes_head(uint64_t size, uint8_t *out) noexcept nogil:
    """What stands before the bytes of an object of at least 32 of them; the length of that, at most 11."""
    cdef size_t n = 1
    out[0] = TAG_LONG_BYTES
    while size >= 0x80:
        out[n] = <uint8_t>(size | 0x80)
        size >>= 7
        n += 1
    out[n] = <uint8_t>size
    return n + 1


cdef int64_t whole_bytes(const uint8_t *p, size_t n, const uint8_t **at) noexcept nogil:
    """The length of a value that is one bytes object, and where its bytes are; -1: it is something else. The data may be torn or damaged."""
    cdef uint64_t size = 0
    cdef size_t i = 1
    cdef uint32_t shift = 0
    cdef uint8_t b
    if n == 0:
        return -1
    b = p[0]
    if TAG_BYTES <= b < TAG_LIST:
        size = b - TAG_BYTES
    elif b == TAG_LONG_BYTES:
        while True:
            if i >= n or shift > 56:
                return -1
            b = p[i]
            i += 1
            size |= <uint64_t>(b & 0x7f) << shift
            shift += 7
            if b < 0x80:
                break
        if size < 32 or b == 0:
            return -1
    else:
        return -1
    if size != n - i:
        return -1
    at[0] = p + i
    return <int64_t>size


def encode_value(value, bint pickle=False):
    """The bytes of a value: None, bool, int, float, str, bytes, or a list or dict of these; with `pickle` any object.

    Raises TypeError that names another type, DataError for a str with a lone surrogate, for more than MAX_DEPTH (200) levels and
    for a list or dict that contains itself.
    """
    cdef Buf out
    buf_init(&out)
    try:
        encode_value_object(value, &out, pickle)
        return taken(&out)
    finally:
        buf_free(&out)


def decode_value(bytes data not None, bint pickle=False):
    """The value that `encode_value` turned into `data`.

    Raises CorruptionError for bytes it does not make, ProgrammingError for a pickle without `pickle=True`, DataError for a pickle that
    cannot be loaded.
    """
    return decode_value_object(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), pickle)
