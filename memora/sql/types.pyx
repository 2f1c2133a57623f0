"""SQL values as C structs, and SQLite's rules for them.

A `Value` is a tag and eight bytes: a 64-bit integer, a double, or a pointer with a length (text is UTF-8). It owns
nothing. Whoever produces text or a blob owns the memory: a record in a page, a parameter that Python keeps alive,
or the `Buf` of the expression node that made it, good until that node is evaluated again.

RULES
(1) Order: NULL < numbers < text < blobs; integers and reals compare by their exact mathematical value.
(2) Affinity changes a value only when nothing is lost by it: text that looks like a number as a whole.
(3) An arithmetic operand that is text counts as the number that it begins with, else as 0.
(4) A real that is printed has 15 significant digits and always a decimal point.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check, PyFloat_FromDouble
from cpython.long cimport PyLong_Check, PyLong_FromLongLong
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_Check
from libc.math cimport isinf
from libc.string cimport memcmp, memcpy, strchr, strlen

from memora.engine.codec cimport buf_free, buf_init, buf_put, buf_reserve

from memora.errors import NotText, ProgrammingError

cdef extern from "Python.h":
    char *PyOS_double_to_string(double val, char format_code, int precision, int flags, int *ptype) except NULL
    double PyOS_string_to_double(const char *s, char **endptr, PyObject *overflow_exception) except? -1.0
    const char *PyUnicode_AsUTF8AndSize(object s, Py_ssize_t *size) except NULL
    object PyUnicode_DecodeUTF8(const char *s, Py_ssize_t size, const char *errors)
    long long PyLong_AsLongLongAndOverflow(object o, int *overflow) except? -1

INT64_MAX = 9223372036854775807
INT64_MIN = -9223372036854775808
cdef double TWO63 = 9223372036854775808.0

cdef double[23] POWERS
POWERS[:] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
             1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22]


# --- buffers -----------------------------------------------------------------------------------------------------

cdef int reserve(Buf *b, size_t need) except -1:
    """Makes room for `need` bytes in all; what is in the buffer stays."""
    if need > b.n and buf_reserve(b, need - b.n) < 0:
        raise MemoryError(f"no memory for a value of {need} bytes")
    return 0


cdef int append(Buf *b, const uint8_t *p, size_t n) except -1:
    if buf_put(b, p, n) < 0:
        raise MemoryError(f"no memory for a value of {b.n + n} bytes")
    return 0


# --- order -------------------------------------------------------------------------------------------------------

cdef inline int fold(int c) noexcept nogil:
    return c + 32 if 65 <= c <= 90 else c


cdef int compare_user(const uint8_t *a, size_t an, const uint8_t *b, size_t bn, int coll) noexcept with gil:
    """Texts by a collation in Python, which tells nobody of its errors, as SQLite's do not."""
    from memora.sql.callbacks import collations
    collation = collations.get(coll)
    return 0 if collation is None else collation.compare(a[:an].decode(errors="replace"), b[:bn].decode(errors="replace"))


cdef int compare_text(const uint8_t *a, size_t an, const uint8_t *b, size_t bn, int coll) noexcept nogil:
    cdef size_t i, m
    cdef int r
    if coll >= COLL_USER:
        return compare_user(a, an, b, bn, coll)
    if coll == COLL_RTRIM:
        while an and a[an - 1] == 32:
            an -= 1
        while bn and b[bn - 1] == 32:
            bn -= 1
    m = an if an < bn else bn
    if coll == COLL_NOCASE:
        for i in range(m):
            r = fold(a[i]) - fold(b[i])
            if r:
                return r
    elif m:
        r = memcmp(a, b, m)
        if r:
            return r
    return (an > bn) - (an < bn)


cdef int compare_int_real(int64_t i, double r) noexcept nogil:
    cdef int64_t whole
    cdef double back
    if r >= TWO63:
        return -1
    if r < -TWO63:
        return 1
    whole = <int64_t>r
    if i != whole:
        return -1 if i < whole else 1
    back = <double>whole
    return (back > r) - (back < r)


cdef int compare_slow(const Value *a, const Value *b, int coll) noexcept nogil:
    cdef int ta = a.tag, tb = b.tag
    if ta == T_INT and tb == T_REAL:
        return compare_int_real(a.u.i, b.u.r)
    if ta == T_REAL and tb == T_INT:
        return -compare_int_real(b.u.i, a.u.r)
    if ta != tb:
        return -1 if ta < tb else 1
    if ta == T_INT:
        return (a.u.i > b.u.i) - (a.u.i < b.u.i)
    if ta == T_REAL:
        return (a.u.r > b.u.r) - (a.u.r < b.u.r)
    if ta == T_NULL:
        return 0
    return compare_text(a.u.p, a.n, b.u.p, b.n, coll if ta == T_TEXT else COLL_BINARY)


# --- numbers in text ---------------------------------------------------------------------------------------------

cdef inline bint is_space(int c) noexcept nogil:
    return c == 32 or 9 <= c <= 13


cdef inline bint is_digit(int c) noexcept nogil:
    return 48 <= c <= 57


cdef double slow_real(const uint8_t *p, size_t n) noexcept:
    """The correctly rounded double of a well-formed literal; infinite past the range."""
    cdef object text = PyBytes_FromStringAndSize(<const char *>p, n)
    try:
        return PyOS_string_to_double(PyBytes_AS_STRING(text), NULL, NULL)
    except ValueError:
        return 0.0


cdef int parse_number(const uint8_t *p, size_t n, Value *out) noexcept:
    """The number at the beginning of a text: 0 there is none (out is 0), 1 other bytes follow it, 2 it is the whole
    text but for spaces. `out` becomes an integer if it is written as one and fits, else a real."""
    cdef size_t i = 0, begin, j
    cdef bint negative = False, real = False, big = False
    cdef uint64_t mantissa = 0
    cdef int digits = 0, kept = 0, scale = 0, exponent = 0, sign = 1, d
    cdef double r
    while i < n and is_space(p[i]):
        i += 1
    begin = i
    if i < n and (p[i] == 45 or p[i] == 43):
        negative = p[i] == 45
        i += 1
    while i < n and is_digit(p[i]):
        d = p[i] - 48
        digits += 1
        if mantissa > 922337203685477580ULL or (mantissa == 922337203685477580ULL and d > 7 + negative):
            big = True
        if kept < 19 and not (mantissa == 0 and d == 0):
            mantissa = mantissa * 10 + d
            kept += 1
        elif mantissa:
            # past 19 digits only the scale counts; slow_real does the exact work
            scale += 1
            big = True
        i += 1
    if i < n and p[i] == 46 and (digits or (i + 1 < n and is_digit(p[i + 1]))):
        real = True
        i += 1
        while i < n and is_digit(p[i]):
            d = p[i] - 48
            digits += 1
            if kept < 19 and not (mantissa == 0 and d == 0):
                mantissa = mantissa * 10 + d
                kept += 1
                scale -= 1
            elif mantissa == 0:
                scale -= 1
            i += 1
    if not digits:
        set_int(out, 0)
        return 0
    if i < n and (p[i] == 101 or p[i] == 69):
        j = i + 1
        if j < n and (p[j] == 45 or p[j] == 43):
            sign = -1 if p[j] == 45 else 1
            j += 1
        if j < n and is_digit(p[j]):
            real = True
            while j < n and is_digit(p[j]):
                if exponent < 100000:
                    exponent = exponent * 10 + p[j] - 48
                j += 1
            i = j
    if not real and not big:
        if negative:
            set_int(out, <int64_t>(0 - mantissa))
        else:
            set_int(out, <int64_t>mantissa)
    else:
        scale += sign * exponent
        if mantissa == 0:
            r = 0.0
        elif kept <= 15 and -22 <= scale <= 22:
            r = <double>mantissa
            r = r * POWERS[scale] if scale >= 0 else r / POWERS[-scale]
        else:
            j = begin
            if p[j] == 45 or p[j] == 43:
                j += 1
            r = slow_real(p + j, i - j)
        set_real(out, -r if negative else r)
    while i < n and is_space(p[i]):
        i += 1
    return 2 if i == n else 1


cdef int64_t parse_integer(const uint8_t *p, size_t n) noexcept nogil:
    """The integer that a text begins with, cut to 64 bits: what CAST(text AS INTEGER) gives."""
    cdef size_t i = 0
    cdef bint negative = False
    cdef uint64_t m = 0, limit
    while i < n and is_space(p[i]):
        i += 1
    if i < n and (p[i] == 45 or p[i] == 43):
        negative = p[i] == 45
        i += 1
    limit = (<uint64_t>1 << 63) - (0 if negative else 1)
    while i < n and is_digit(p[i]):
        if m > 922337203685477580ULL:
            m = limit
            break
        m = m * 10 + p[i] - 48
        if m >= limit:
            m = limit
            break
        i += 1
    return <int64_t>(0 - m) if negative else <int64_t>m


cdef int real_to_integer(double r, int64_t *out) noexcept nogil:
    """1 if the real is an integer strictly inside the 64-bit range (then *out), else 0."""
    cdef int64_t i
    if not (-TWO63 < r < TWO63):
        return 0
    i = <int64_t>r
    if <double>i != r:
        return 0
    out[0] = i
    return 1


cdef int64_t clamp_real(double r) noexcept nogil:
    if r >= TWO63:
        return <int64_t>((<uint64_t>1 << 63) - 1)
    if r <= -TWO63:
        return <int64_t>(<uint64_t>1 << 63)
    return <int64_t>r


cdef void to_number(const Value *v, Value *out) noexcept:
    """The value as an arithmetic operand, rule (3); NULL stays NULL. `out` may be `v`."""
    if v.tag >= T_TEXT:
        parse_number(v.u.p, v.n, out)
    elif out != v:
        out[0] = v[0]


cdef int64_t to_integer(const Value *v) noexcept:
    """The value cut to an integer: reals are truncated, text is read up to where an integer ends, NULL is 0."""
    if v.tag == T_INT:
        return v.u.i
    if v.tag == T_REAL:
        return clamp_real(v.u.r)
    if v.tag == T_NULL:
        return 0
    return parse_integer(v.u.p, v.n)


cdef double to_real(const Value *v) noexcept:
    cdef Value number
    if v.tag == T_REAL:
        return v.u.r
    to_number(v, &number)
    if number.tag == T_INT:
        return <double>number.u.i
    if number.tag == T_REAL:
        return number.u.r
    return 0.0


cdef int truth(const Value *v) noexcept:
    """1 true, 0 false, 2 NULL."""
    cdef Value number
    if v.tag == T_INT:
        return v.u.i != 0
    if v.tag == T_NULL:
        return 2
    to_number(v, &number)
    return number.u.i != 0 if number.tag == T_INT else number.u.r != 0.0


# --- text of numbers ---------------------------------------------------------------------------------------------

cdef int format_int(int64_t i, char *out) noexcept nogil:
    """Decimal digits of an integer into at least 20 bytes; their number."""
    cdef char[20] digits
    cdef uint64_t m = <uint64_t>i
    cdef int n = 0, k = 0
    if i < 0:
        m = 0 - m
        out[k] = 45
        k += 1
    while True:
        digits[n] = 48 + <int>(m % 10)
        n += 1
        m //= 10
        if m == 0:
            break
    while n:
        n -= 1
        out[k] = digits[n]
        k += 1
    return k


cdef int format_real(double r, int digits, char *out) noexcept:
    """A real with that many significant digits and always a decimal point, into at least 48 bytes; the length."""
    cdef char *text
    cdef const char *e
    cdef int n, head
    if isinf(r):
        if r > 0:
            memcpy(out, b"Inf", 3)
            return 3
        memcpy(out, b"-Inf", 4)
        return 4
    if r == 0.0:
        memcpy(out, b"0.0", 3)
        return 3
    try:
        text = PyOS_double_to_string(r, c'g', digits, 0, NULL)
    except MemoryError:
        return 0
    n = <int>strlen(text)
    e = strchr(text, c'e')
    head = <int>(e - text) if e != NULL else n
    memcpy(out, text, head)
    if strchr(text, c'.') == NULL:
        out[head] = c'.'
        out[head + 1] = c'0'
        memcpy(out + head + 2, text + head, n - head)
        n += 2
    else:
        memcpy(out + head, text + head, n - head)
    PyMem_Free(text)
    return n


cdef int text_of(const Value *v, Buf *scratch, Value *out) except -1:
    """The value as text (blob bytes are taken as they are, NULL stays NULL); numbers are written to `scratch`."""
    if v.tag == T_TEXT or v.tag == T_NULL:
        if out != v:
            out[0] = v[0]
    elif v.tag == T_BLOB:
        set_text(out, v.u.p, v.n)
    else:
        scratch.n = 0
        reserve(scratch, 64)
        if v.tag == T_INT:
            scratch.n = format_int(v.u.i, <char *>scratch.p)
        else:
            scratch.n = format_real(v.u.r, 15, <char *>scratch.p)
        set_text(out, scratch.p, scratch.n)
    return 0


# --- affinity and casts ------------------------------------------------------------------------------------------

cdef int apply_affinity(Value *v, int affinity, Buf *scratch) except -1:
    """What storing the value in a column of that affinity makes of it, rule (2)."""
    cdef Value number
    cdef int64_t i
    if affinity >= AFF_NUMERIC:
        if v.tag == T_TEXT:
            if parse_number(v.u.p, v.n, &number) == 2:
                v[0] = number
        if v.tag == T_REAL and affinity != AFF_REAL:
            if real_to_integer(v.u.r, &i):
                set_int(v, i)
        elif v.tag == T_INT and affinity == AFF_REAL:
            set_real(v, <double>v.u.i)
    elif affinity == AFF_TEXT:
        if v.tag == T_INT or v.tag == T_REAL:
            text_of(v, scratch, v)
    return 0


cdef int compare_affinity(Value *v, int affinity, Buf *scratch) except -1:
    """The conversion of one operand of a comparison: to a number if it looks like one, to text if it is a number."""
    cdef Value number
    if affinity >= AFF_NUMERIC:
        if v.tag == T_TEXT and parse_number(v.u.p, v.n, &number) == 2:
            v[0] = number
    elif affinity == AFF_TEXT:
        if v.tag == T_INT or v.tag == T_REAL:
            text_of(v, scratch, v)
    return 0


cdef int cast(Value *v, int affinity, Buf *scratch) except -1:
    """CAST: like affinity, but by force."""
    cdef int64_t i
    if v.tag == T_NULL:
        return 0
    if affinity == AFF_TEXT:
        text_of(v, scratch, v)
    elif affinity == AFF_INTEGER:
        set_int(v, to_integer(v))
    elif affinity == AFF_REAL:
        set_real(v, to_real(v))
    elif affinity == AFF_NUMERIC:
        if v.tag >= T_TEXT:
            parse_number(v.u.p, v.n, v)
            if v.tag == T_REAL and real_to_integer(v.u.r, &i):
                set_int(v, i)
    elif v.tag != T_BLOB:
        text_of(v, scratch, v)
        v.tag = T_BLOB
    return 0


# --- Python ------------------------------------------------------------------------------------------------------

cdef object to_python(const Value *v):
    """None, int, float, str or bytes."""
    if v.tag == T_INT:
        return PyLong_FromLongLong(v.u.i)
    if v.tag == T_TEXT:
        try:
            return PyUnicode_DecodeUTF8(<const char *>v.u.p, v.n, NULL)
        except UnicodeDecodeError:
            raise NotText((<const char *>v.u.p)[:v.n]) from None
    if v.tag == T_REAL:
        return PyFloat_FromDouble(v.u.r)
    if v.tag == T_BLOB:
        return PyBytes_FromStringAndSize(<const char *>v.u.p, v.n)
    return None


cdef int from_python(object o, Value *v, list keep) except -1:
    """Fills `v` from a Python object; `keep` gets whatever must stay alive while `v` is used.

    Raises OverflowError past 64 bits and ProgrammingError for a type that has no place in SQL, as `sqlite3` does."""
    cdef int overflow = 0
    cdef Py_ssize_t n
    cdef const char *p
    if o is None:
        v.tag = T_NULL
    elif PyLong_Check(o):
        set_int(v, PyLong_AsLongLongAndOverflow(o, &overflow))
        if overflow:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
    elif PyUnicode_Check(o):
        p = PyUnicode_AsUTF8AndSize(o, &n)
        keep.append(o)
        set_text(v, <const uint8_t *>p, n)
    elif PyFloat_Check(o):
        set_real(v, PyFloat_AS_DOUBLE(o))
    else:
        if type(o) is not bytes:
            if not PyObject_CheckBuffer(o):
                raise ProgrammingError(f"type '{type(o).__name__}' is not supported")
            if not memoryview(o).c_contiguous:
                raise BufferError("underlying buffer is not C-contiguous")
            o = bytes(o)
        keep.append(o)
        set_blob(v, <const uint8_t *>PyBytes_AS_STRING(o), PyBytes_GET_SIZE(o))
    return 0


# --- the same rules for the planner and for tests ---------------------------------------------------------------

NULL_TAG, INT_TAG, REAL_TAG, TEXT_TAG, BLOB_TAG = range(5)
BLOB, TEXT, NUMERIC, INTEGER, REAL = range(5)
COLLATIONS = {"BINARY": COLL_BINARY, "NOCASE": COLL_NOCASE, "RTRIM": COLL_RTRIM}


def affinity_of(decltype):
    """Affinity of a declared column type, by SQLite's five rules; None or "" is BLOB."""
    name = (decltype or "").upper()
    if "INT" in name:
        return INTEGER
    if "CHAR" in name or "CLOB" in name or "TEXT" in name:
        return TEXT
    if not name or "BLOB" in name:
        return BLOB
    if "REAL" in name or "FLOA" in name or "DOUB" in name:
        return REAL
    return NUMERIC


def convert(value, int affinity, bint by_force=False):
    """The Python value after affinity, or after CAST when `by_force`."""
    cdef Value v
    cdef Buf scratch
    buf_init(&scratch)
    keep = []
    from_python(value, &v, keep)
    try:
        if by_force:
            cast(&v, affinity, &scratch)
        else:
            apply_affinity(&v, affinity, &scratch)
        return to_python(&v)
    finally:
        buf_free(&scratch)


def order(a, b, int collation=COLL_BINARY):
    """-1, 0 or 1: how two Python values compare in SQL."""
    cdef Value va, vb
    cdef int r
    keep = []
    from_python(a, &va, keep)
    from_python(b, &vb, keep)
    r = compare(&va, &vb, collation)
    return (r > 0) - (r < 0)


def number_of(text):
    """(number, how) of a text: how is 0 none, 1 a prefix, 2 the whole text."""
    cdef Value v, out
    keep = []
    from_python(text, &v, keep)
    how = parse_number(v.u.p, v.n, &out)
    return to_python(&out), how
