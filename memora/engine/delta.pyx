"""Deltas: changes of a value that are evaluated when they are applied, under the commit lock: old bytes + argument -> new bytes.

A delta reads nothing before, so it cannot conflict; the log and the feed hold its outcome, an ordinary put. Deltas of one key
in one transaction are a chain (overlay.pxd), applied in the order given, each to the result of the one before.

INVARIANTS  (1) A kernel is a function of its arguments alone, and its result is exactly what reading, computing and writing gives. What it
                does not know (another type, a number that does not fit) is MM_CONFLICT, and the caller does just that instead.
            (2) Kernels bounds-check the old bytes; the argument is from this process.
NUMBER      The value codec's int within 64 bits, and float. Argument: by, initial; each `i` or `f` and 8 bytes.
LARGEST     8 bytes, big-endian.
"""
from libc.stdint cimport INT64_MAX, INT64_MIN, int8_t, int16_t, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy
from memora.engine.codec cimport Buf, buf_put, buf_reserve
from memora.engine.layout cimport *
from memora.engine.overlay cimport Delta

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object, int *) except? -1

cdef Kernel kernels[DELTA_KINDS]


cdef void delta_register(uint8_t kind, Kernel kernel) noexcept nogil:
    kernels[kind] = kernel


cdef int delta_once(uint8_t kind, const uint8_t *old, uint64_t oldn, int had, const uint8_t *argument, uint64_t n, Buf *out) noexcept nogil:
    out.n = 0
    return kernels[kind](old, oldn, had, argument, n, out)


cdef int delta_apply(mm_map *m, Delta *last, int had, const uint8_t **v, uint64_t *vn) noexcept nogil:
    """Turn the old value at v into the new one, which stays until the lock is released."""
    cdef Buf *work = <Buf *>m.work
    cdef Delta *d = last
    cdef int st, i = 0
    while d.before != NULL:
        d.before.after = d
        d = d.before
    while True:
        st = delta_once(d.kind, v[0], vn[0], had, <const uint8_t *>(d + 1), d.n, &work[i])
        if st:
            return st
        v[0] = work[i].p
        vn[0] = work[i].n
        had = 1
        i ^= 1
        if d == last:
            return MM_OK
        d = d.after


# ---------------------------------------------------------------------------------------------- numbers

ctypedef struct Number:
    int real
    int64_t i
    double f


cdef inline void get_number(const uint8_t *p, Number *out) noexcept nogil:
    out.real = p[0] == c"f"
    memcpy(&out.f if out.real else <void *>&out.i, p + 1, 8)


cdef int decode_number(const uint8_t *p, uint64_t n, Number *out) noexcept nogil:
    """1: the value is a number that a delta knows."""
    cdef int16_t two
    cdef int32_t four
    if n == 0:
        return 0
    out.real = 0
    if p[0] < 0x40 or p[0] >= 0xe0:
        out.i = <int8_t>p[0]
        return n == 1
    if p[0] == 0xc4 and n == 2:
        out.i = <int8_t>p[1]
    elif p[0] == 0xc5 and n == 3:
        memcpy(&two, p + 1, 2)
        out.i = two
    elif p[0] == 0xc6 and n == 5:
        memcpy(&four, p + 1, 4)
        out.i = four
    elif p[0] == 0xc7 and n == 9:
        memcpy(&out.i, p + 1, 8)
    elif p[0] == 0xc3 and n == 9:
        out.real = 1
        memcpy(&out.f, p + 1, 8)
    else:
        return 0
    return 1


cdef int encode_number(const Number *v, Buf *out) noexcept nogil:
    """In the shortest form, as the value codec has it."""
    cdef uint8_t *p
    cdef int size
    if buf_reserve(out, 9) < 0:
        return MM_NOMEM
    p = out.p + out.n
    if v.real:
        p[0] = 0xc3
        memcpy(p + 1, &v.f, 8)
        size = 8
    elif -32 <= v.i < 64:
        p[0] = <uint8_t>v.i
        size = 0
    else:
        if v.i == <int8_t>v.i:
            p[0] = 0xc4
            size = 1
        elif v.i == <int16_t>v.i:
            p[0] = 0xc5
            size = 2
        elif v.i == <int32_t>v.i:
            p[0] = 0xc6
            size = 4
        else:
            p[0] = 0xc7
            size = 8
        memcpy(p + 1, &v.i, size)
    out.n += 1 + size
    return MM_OK


cdef int add_number(const uint8_t *old, uint64_t oldn, int had, const uint8_t *argument, uint64_t n, Buf *out) noexcept nogil:
    cdef Number a, b
    get_number(argument, &b)
    if not had:
        get_number(argument + 9, &a)
    elif not decode_number(old, oldn, &a):
        return MM_CONFLICT
    if a.real or b.real:
        a.f = (a.f if a.real else <double>a.i) + (b.f if b.real else <double>b.i)
        a.real = 1
    elif b.i > 0 and a.i > INT64_MAX - b.i or b.i < 0 and a.i < INT64_MIN - b.i:
        return MM_CONFLICT
    else:
        a.i += b.i
    return encode_number(&a, out)


cdef int put_number(object value, uint8_t *p) except -1:
    cdef int overflow = 0
    cdef int64_t i
    cdef double f
    if type(value) is int:
        i = PyLong_AsLongLongAndOverflow(value, &overflow)
        p[0] = c"i"
        memcpy(p + 1, &i, 8)
        return not overflow
    if type(value) is float:
        f = value
        p[0] = c"f"
        memcpy(p + 1, &f, 8)
        return 1
    return 0


cdef int number_argument(object by, object initial, uint8_t *out) except -1:
    return put_number(by, out) and put_number(initial, out + 9)


cdef int larger(const uint8_t *old, uint64_t oldn, int had, const uint8_t *argument, uint64_t n, Buf *out) noexcept nogil:
    if had and oldn != 8:
        return MM_CONFLICT
    return MM_NOMEM if buf_put(out, old if had and memcmp(old, argument, 8) > 0 else argument, 8) else MM_OK


delta_register(DELTA_NUMBER, add_number)
delta_register(DELTA_LARGEST, larger)
