"""SQLite's core scalar functions but those of numbers (`mathfunctions.pyx`), LIKE and GLOB.

Each function is a C function over its evaluated arguments; `SCALARS` maps a name to it and to the numbers of arguments
that it takes. Text results lie in the node's buffer. Functions of dates and printf, which are seldom on a hot path, are Python
(`dates.py`, `printf.py`) and come in through `PythonFunction`, as a user's own do.
"""
import os

from cpython.exc cimport PyErr_SetObject, PyErr_WriteUnraisable
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp, memcpy

from memora.engine.codec cimport buf_free, buf_init
from memora.sql.runtime cimport Context, Expr, spend, ticks, weigh
from memora.sql.types cimport (
    MAX_LENGTH, T_BLOB, T_INT, T_NULL, T_REAL, T_TEXT, append, compare, format_real, from_python, parse_number, reserve, set_blob,
    set_int, set_null, set_real, set_text, text_of, to_integer, to_number, to_python, to_real, truth)

from memora.errors import DataError, OperationalError
from memora.sql.callbacks import Callbacks, failed

cdef enum:
    PIECE = 1 << 20                     # of random bytes, between two looks whether the statement is to end
    CALL = 32                           # rows that a call of a user's function counts as

DATABASE_VERSION = "3.40.1"


cdef class Scalar:
    """A function's name, its least and most number of arguments (-1: any), and whether equal arguments give equal results."""

    def __cinit__(self, str name, int least, int most, bint deterministic=True):
        self.name, self.least, self.most, self.deterministic = name, least, most, deterministic


cdef class Function(Scratch):
    """A call of a scalar function."""

    def __cinit__(self, Scalar function, Context context, list args, int collation=0):
        self.context, self.args, self.collation, self.name = context, args, collation, function.name
        self.code = function.code
        self.count = len(args)
        self.values = <Value *>calloc(self.count + 1, sizeof(Value))
        if self.values == NULL:
            raise MemoryError()
        buf_init(&self.first)
        buf_init(&self.second)
        buf_init(&self.third)

    def __dealloc__(self):
        free(self.values)
        buf_free(&self.first)
        buf_free(&self.second)
        buf_free(&self.third)

    cdef int eval(self, Value *out) except -1:
        cdef int i
        for i in range(self.count):
            (<Expr>self.args[i]).eval(&self.values[i])
        self.code(self, self.values, self.count, out)
        return weigh(self.context, out)




def show_tracebacks(bint wanted):
    """Whether errors of users' functions go to sys.unraisablehook, before the statement reports them in its words."""
    Callbacks.tracebacks = wanted


cdef class PythonFunction(Expr):
    """A call of a Python function: NULL, int, float, str, bytes in and out.

    What a user's function raises becomes an OperationalError, as in sqlite3; an OverflowError, also of its result, a DataError."""

    cdef Context context
    cdef object function
    cdef list args, keep
    cdef bint own

    def __cinit__(self, Context context, function, list args, bint own=False):
        self.context, self.function, self.args, self.own = context, function, args, own

    cdef int eval(self, Value *out) except -1:
        cdef Value v
        cdef Py_ssize_t i
        values = []
        for i in range(len(self.args)):
            (<Expr>self.args[i]).eval(&v)
            values.append(to_python(&v))
        self.keep = []
        if self.own:
            from_python(self.function(*values), out, self.keep)
            return weigh(self.context, out)
        try:
            from_python(self.function(*values), out, self.keep)
        except Exception as error:
            raise failed(error, "user-defined function raised exception", self.function) from error
        return ticks(self.context, CALL)


def show_error(error, function):
    """Gives an error that a statement reports in other words to sys.unraisablehook."""
    PyErr_SetObject(type(error), error)
    PyErr_WriteUnraisable(function)


# --- UTF-8 -------------------------------------------------------------------------------------------------------

cdef inline size_t step(const uint8_t *p, size_t i, size_t n) noexcept nogil:
    """Index of the character after the one at i."""
    i += 1
    while i < n and (p[i] & 0xC0) == 0x80:
        i += 1
    return i


cdef inline uint32_t code_point(const uint8_t *p, size_t i, size_t end) noexcept nogil:
    cdef uint32_t c = p[i]
    if c < 0xC0:
        return c
    c = c & 0x1F if c < 0xE0 else (c & 0x0F if c < 0xF0 else c & 0x07)
    i += 1
    while i < end:
        c = (c << 6) | (p[i] & 0x3F)
        i += 1
    return c


cdef size_t characters(const uint8_t *p, size_t n) noexcept nogil:
    cdef size_t i, count = 0
    for i in range(n):
        count += (p[i] & 0xC0) != 0x80
    return count


cdef inline uint32_t folded(uint32_t c) noexcept nogil:
    return c + 32 if 65 <= c <= 90 else c


# --- LIKE and GLOB -----------------------------------------------------------------------------------------------

cdef int match_set(const uint8_t *p, size_t pn, size_t *at, uint32_t c) noexcept nogil:
    """Whether c is in the [set] whose bracket is before *at; moves behind its end. An open set matches nothing."""
    cdef size_t i = at[0], j
    cdef bint invert = False, seen = False
    cdef uint32_t prior = 0, k, low
    if i < pn and p[i] == 94:
        invert = True
        i += 1
    if i < pn and p[i] == 93:
        seen = c == 93
        i += 1
    while i < pn and p[i] != 93:
        j = step(p, i, pn)
        k = code_point(p, i, j)
        if k == 45 and prior and j < pn and p[j] != 93:
            i = j
            j = step(p, i, pn)
            low = prior
            k = code_point(p, i, j)
            if low <= c <= k:
                seen = True
            prior = 0
        else:
            if c == k:
                seen = True
            prior = k
        i = j
    if i >= pn:
        at[0] = pn
        return 0
    at[0] = i + 1
    return seen != invert


cdef int like(const uint8_t *p, size_t pn, const uint8_t *s, size_t sn, bint glob, bint cased, int escape, Context context) except -1:
    """Matches s against a pattern: % _ without case or with it, or * ? [set]. Only the last wildcard is ever taken back."""
    cdef size_t i = 0, j = 0, star = 0, star_s = 0, a, b, spent = 0
    cdef bint starred = False, ahead = False, ok
    cdef uint32_t c, d
    cdef uint8_t lower = 0, upper = 0
    cdef uint32_t many = 42 if glob else 37
    cdef uint32_t one = 63 if glob else 95
    while True:
        if i < pn:
            a = step(p, i, pn)
            c = code_point(p, i, a)
            if c == many and not (escape >= 0 and c == <uint32_t>escape):
                starred = True
                star = a
                star_s = j
                i = a
                ahead = a < pn and p[a] < 128 and p[a] != many and p[a] != one and p[a] != 91 and p[a] != escape
                if ahead:
                    lower = p[a]
                    upper = lower
                    if not glob and not cased:
                        lower = <uint8_t>folded(lower)
                        upper = lower - 32 if 97 <= lower <= 122 else lower
                continue
            if j < sn:
                b = step(s, j, sn)
                d = code_point(s, j, b)
                if escape >= 0 and c == <uint32_t>escape:
                    if a >= pn:
                        return False
                    i = a
                    a = step(p, i, pn)
                    c = code_point(p, i, a)
                    ok = c == d or not cased and folded(c) == folded(d)
                elif c == one:
                    ok = True
                elif glob:
                    if c == 91:
                        ok = match_set(p, pn, &a, d)
                    else:
                        ok = c == d
                else:
                    ok = c == d or not cased and folded(c) == folded(d)
                if ok:
                    i = a
                    j = b
                    continue
        elif j == sn:
            return True
        if not starred or star_s >= sn:
            return False
        spend(context, &spent, j - star_s + 1)
        star_s = step(s, star_s, sn)
        if ahead:
            # behind the wildcard stands a plain ASCII character: go to where it is next
            while star_s < sn and s[star_s] != lower and s[star_s] != upper:
                star_s += 1
        i = star
        j = star_s


cdef void cut_at_zero(Value *v) noexcept:
    """LIKE and GLOB see text up to its first zero byte, as SQLite's do."""
    cdef const void *zero = memchr(v.u.p, 0, v.n) if v.n else NULL
    if zero != NULL:
        v.n = <const uint8_t *>zero - v.u.p


cdef int like_function(Function self, Value *args, int n, Value *out, bint glob, bint cased) except -1:
    cdef int escape = -1
    cdef size_t end
    if n == 3:
        if args[2].tag == T_NULL:
            out.tag = T_NULL
            return 0
        text_of(&args[2], &self.third, &args[2])
        if args[2].n == 0 or step(args[2].u.p, 0, args[2].n) != args[2].n:
            raise OperationalError("ESCAPE expression must be a single character")
        escape = <int>code_point(args[2].u.p, 0, args[2].n)
    if args[0].tag == T_BLOB or args[1].tag == T_BLOB:
        # as SQLite is usually built (SQLITE_LIKE_DOESNT_MATCH_BLOBS), also before NULL is looked at
        set_int(out, 0)
        return 0
    if args[0].tag == T_NULL or args[1].tag == T_NULL:
        out.tag = T_NULL
        return 0
    text_of(&args[0], &self.first, &args[0])
    text_of(&args[1], &self.second, &args[1])
    cut_at_zero(&args[0])
    cut_at_zero(&args[1])
    if args[0].n > 50000:
        raise OperationalError("LIKE or GLOB pattern too complex")
    set_int(out, like(args[0].u.p, args[0].n, args[1].u.p, args[1].n, glob, cased, escape, self.context))
    return 0


cdef int f_like(Function self, Value *args, int n, Value *out) except -1:
    return like_function(self, args, n, out, False, False)


cdef int f_cased_like(Function self, Value *args, int n, Value *out) except -1:
    return like_function(self, args, n, out, False, True)


cdef int f_glob(Function self, Value *args, int n, Value *out) except -1:
    return like_function(self, args, n, out, True, False)


# --- text and blobs ----------------------------------------------------------------------------------------------

cdef inline int give(Function self, Value *out) except -1:
    set_text(out, self.buffer.p, self.buffer.n)
    return 0


cdef int f_length(Function self, Value *args, int n, Value *out) except -1:
    cdef const void *end
    cdef Value v
    if args[0].tag == T_NULL:
        out.tag = T_NULL
    elif args[0].tag == T_BLOB:
        set_int(out, args[0].n)
    else:
        text_of(&args[0], &self.first, &v)
        end = memchr(v.u.p, 0, v.n) if v.n else NULL
        if end != NULL:
            v.n = <const uint8_t *>end - v.u.p
        set_int(out, characters(v.u.p, v.n))
    return 0


cdef int f_octet_length(Function self, Value *args, int n, Value *out) except -1:
    cdef Value v
    if args[0].tag == T_NULL:
        out.tag = T_NULL
    else:
        text_of(&args[0], &self.first, &v)
        set_int(out, v.n)
    return 0


cdef int change_case(Function self, Value *args, Value *out, int first, int last, int by) except -1:
    cdef Value v
    cdef size_t i
    cdef int c
    if args[0].tag == T_NULL:
        out.tag = T_NULL
        return 0
    text_of(&args[0], &self.first, &v)
    self.buffer.n = 0
    reserve(&self.buffer, v.n + 1)
    for i in range(v.n):
        c = v.u.p[i]
        self.buffer.p[i] = <uint8_t>(c + by if first <= c <= last else c)
    self.buffer.n = v.n
    return give(self, out)


cdef int f_lower(Function self, Value *args, int n, Value *out) except -1:
    return change_case(self, args, out, 65, 90, 32)


cdef int f_upper(Function self, Value *args, int n, Value *out) except -1:
    return change_case(self, args, out, 97, 122, -32)


cdef int f_substr(Function self, Value *args, int n, Value *out) except -1:
    cdef int64_t start, length, total
    cdef bint blob = args[0].tag == T_BLOB
    cdef size_t a = 0, b, k
    cdef Value v
    if args[0].tag == T_NULL or args[1].tag == T_NULL or (n == 3 and args[2].tag == T_NULL) or (blob and args[0].n == 0):
        # (an empty blob is none to SQLite's substr)
        out.tag = T_NULL
        return 0
    text_of(&args[0], &self.first, &v)
    start = to_integer(&args[1])
    total = v.n if blob else characters(v.u.p, v.n)
    length = to_integer(&args[2]) if n == 3 else MAX_LENGTH
    # far outside the text nothing changes, and these bounds keep the sums below from overflowing
    start = max(-2 * <int64_t>MAX_LENGTH, min(start, 2 * <int64_t>MAX_LENGTH))
    length = max(-2 * <int64_t>MAX_LENGTH, min(length, 2 * <int64_t>MAX_LENGTH))
    if start < 0:
        start += total
        if start < 0:
            # what lies before the beginning counts against the length
            if length >= 0:
                length = max(<int64_t>0, length + start)
                start = 0
    elif start > 0:
        start -= 1
    elif length > 0:
        length -= 1
    if length < 0:
        start += length
        length = -length
        if start < 0:
            length += start
            start = 0
    if length <= 0 or start >= total:
        length = 0
        start = total
    elif start + length > total:
        length = total - start
    if blob:
        set_blob(out, v.u.p + start, length)
        return 0
    for k in range(<size_t>start):
        a = step(v.u.p, a, v.n)
    b = a
    for k in range(<size_t>length):
        b = step(v.u.p, b, v.n)
    set_text(out, v.u.p + a, b - a)
    return 0


cdef int trim_function(Function self, Value *args, int n, Value *out, int sides) except -1:
    cdef Value v, s
    cdef size_t a = 0, b, i, j, start, spent = 0
    cdef bint found
    if args[0].tag == T_NULL or (n == 2 and args[1].tag == T_NULL):
        out.tag = T_NULL
        return 0
    text_of(&args[0], &self.first, &v)
    if n == 2:
        text_of(&args[1], &self.second, &s)
    else:
        set_text(&s, <const uint8_t *>b" ", 1)
    b = v.n
    if sides & 1:
        found = True
        while found and a < b:
            found = False
            i = 0
            spend(self.context, &spent, s.n)
            while i < s.n:
                j = step(s.u.p, i, s.n)
                if j - i <= b - a and memcmp(s.u.p + i, v.u.p + a, j - i) == 0:
                    a += j - i
                    found = True
                    break
                i = j
    if sides & 2:
        found = True
        while found and a < b:
            found = False
            i = 0
            spend(self.context, &spent, s.n)
            while i < s.n:
                j = step(s.u.p, i, s.n)
                if j - i <= b - a and memcmp(s.u.p + i, v.u.p + b - (j - i), j - i) == 0:
                    b -= j - i
                    found = True
                    break
                i = j
    set_text(out, v.u.p + a, b - a)
    return 0


cdef int f_trim(Function self, Value *args, int n, Value *out) except -1:
    return trim_function(self, args, n, out, 3)


cdef int f_ltrim(Function self, Value *args, int n, Value *out) except -1:
    return trim_function(self, args, n, out, 1)


cdef int f_rtrim(Function self, Value *args, int n, Value *out) except -1:
    return trim_function(self, args, n, out, 2)


cdef int f_replace(Function self, Value *args, int n, Value *out) except -1:
    cdef Value s, old, new
    cdef size_t i = 0, spent = 0
    if args[0].tag == T_NULL or args[1].tag == T_NULL:
        out.tag = T_NULL
        return 0
    text_of(&args[0], &self.first, &s)
    text_of(&args[1], &self.second, &old)
    if old.n == 0 or old.u.p[0] == 0:
        out[0] = s if args[0].tag == T_BLOB else args[0]
        return 0
    if args[2].tag == T_NULL:
        out.tag = T_NULL
        return 0
    text_of(&args[2], &self.third, &new)
    self.buffer.n = 0
    reserve(&self.buffer, s.n + 1)
    while i < s.n:
        if s.n - i >= old.n and s.u.p[i] == old.u.p[0]:
            spend(self.context, &spent, old.n)
        if s.n - i >= old.n and s.u.p[i] == old.u.p[0] and memcmp(s.u.p + i, old.u.p, old.n) == 0:
            append(&self.buffer, new.u.p, new.n)
            i += old.n
        else:
            append(&self.buffer, s.u.p + i, 1)
            i += 1
        if self.buffer.n > MAX_LENGTH:
            raise DataError("string or blob too big")
    return give(self, out)


cdef int f_instr(Function self, Value *args, int n, Value *out) except -1:
    cdef Value s, t
    cdef size_t i = 0, spent = 0
    cdef int64_t at = 1
    cdef bint blob = args[0].tag == T_BLOB and args[1].tag == T_BLOB
    if args[0].tag == T_NULL or args[1].tag == T_NULL:
        out.tag = T_NULL
        return 0
    text_of(&args[0], &self.first, &s)
    text_of(&args[1], &self.second, &t)
    while s.n - i >= t.n:
        if t.n == 0 or memcmp(s.u.p + i, t.u.p, t.n) == 0:
            set_int(out, at)
            return 0
        if s.u.p[i] == t.u.p[0]:
            spend(self.context, &spent, t.n)
        i = i + 1 if blob else step(s.u.p, i, s.n)
        at += 1
    set_int(out, 0)
    return 0


cdef const char *DIGITS = "0123456789ABCDEF"


cdef int append_hex(Buf *b, const uint8_t *p, size_t n) except -1:
    cdef size_t i
    reserve(b, b.n + 2 * n + 1)
    for i in range(n):
        b.p[b.n] = DIGITS[p[i] >> 4]
        b.p[b.n + 1] = DIGITS[p[i] & 15]
        b.n += 2
    return 0


cdef int f_hex(Function self, Value *args, int n, Value *out) except -1:
    cdef Value v
    self.buffer.n = 0
    if args[0].tag == T_NULL:
        set_text(out, <const uint8_t *>b"", 0)
        return 0
    text_of(&args[0], &self.first, &v)
    append_hex(&self.buffer, v.u.p, v.n)
    return give(self, out)


cdef inline int nibble(int c) noexcept nogil:
    if 48 <= c <= 57:
        return c - 48
    c |= 32
    return c - 87 if 97 <= c <= 102 else -1


cdef int f_unhex(Function self, Value *args, int n, Value *out) except -1:
    cdef Value v, skip
    cdef size_t i = 0
    cdef int a, b
    if args[0].tag == T_NULL or (n == 2 and args[1].tag == T_NULL):
        out.tag = T_NULL
        return 0
    text_of(&args[0], &self.first, &v)
    set_text(&skip, <const uint8_t *>b"", 0)
    if n == 2:
        text_of(&args[1], &self.second, &skip)
    self.buffer.n = 0
    reserve(&self.buffer, v.n + 1)
    while i < v.n:
        a = nibble(v.u.p[i])
        if a < 0:
            if skip.n and memchr(skip.u.p, v.u.p[i], skip.n) != NULL:
                i += 1
                continue
            out.tag = T_NULL
            return 0
        b = nibble(v.u.p[i + 1]) if i + 1 < v.n else -1
        if b < 0:
            out.tag = T_NULL
            return 0
        self.buffer.p[self.buffer.n] = <uint8_t>(a * 16 + b)
        self.buffer.n += 1
        i += 2
    set_blob(out, self.buffer.p, self.buffer.n)
    return 0


cdef int f_quote(Function self, Value *args, int n, Value *out) except -1:
    cdef Value *v = &args[0]
    cdef Value back
    cdef size_t i, end
    cdef const void *zero
    self.buffer.n = 0
    if v.tag == T_NULL:
        append(&self.buffer, <const uint8_t *>b"NULL", 4)
    elif v.tag == T_TEXT:
        zero = memchr(v.u.p, 0, v.n) if v.n else NULL
        end = v.n if zero == NULL else <size_t>(<const uint8_t *>zero - v.u.p)
        append(&self.buffer, <const uint8_t *>b"'", 1)
        for i in range(end):
            if v.u.p[i] == 39:
                append(&self.buffer, <const uint8_t *>b"'", 1)
            append(&self.buffer, v.u.p + i, 1)
        append(&self.buffer, <const uint8_t *>b"'", 1)
    elif v.tag == T_BLOB:
        append(&self.buffer, <const uint8_t *>b"X'", 2)
        append_hex(&self.buffer, v.u.p, v.n)
        append(&self.buffer, <const uint8_t *>b"'", 1)
    else:
        text_of(v, &self.buffer, out)
        if v.tag == T_REAL:
            parse_number(self.buffer.p, self.buffer.n, &back)
            if back.tag != T_REAL or back.u.r != v.u.r:
                if v.u.r - v.u.r != 0.0:
                    text = b"9.0e+999" if v.u.r > 0 else b"-9.0e+999"
                else:
                    text = b"%.20e" % v.u.r
                self.buffer.n = 0
                append(&self.buffer, <const uint8_t *><const char *>text, len(text))
    return give(self, out)


cdef int f_char(Function self, Value *args, int n, Value *out) except -1:
    cdef int i
    cdef int64_t c
    cdef uint8_t[4] u
    self.buffer.n = 0
    reserve(&self.buffer, 1)
    for i in range(n):
        c = to_integer(&args[i])
        if c < 0 or c > 0x10FFFF or 0xD800 <= c <= 0xDFFF:
            c = 0xFFFD
        if c < 0x80:
            u[0] = <uint8_t>c
            append(&self.buffer, u, 1)
        elif c < 0x800:
            u[0] = <uint8_t>(0xC0 | (c >> 6))
            u[1] = <uint8_t>(0x80 | (c & 63))
            append(&self.buffer, u, 2)
        elif c < 0x10000:
            u[0] = <uint8_t>(0xE0 | (c >> 12))
            u[1] = <uint8_t>(0x80 | ((c >> 6) & 63))
            u[2] = <uint8_t>(0x80 | (c & 63))
            append(&self.buffer, u, 3)
        else:
            u[0] = <uint8_t>(0xF0 | (c >> 18))
            u[1] = <uint8_t>(0x80 | ((c >> 12) & 63))
            u[2] = <uint8_t>(0x80 | ((c >> 6) & 63))
            u[3] = <uint8_t>(0x80 | (c & 63))
            append(&self.buffer, u, 4)
    return give(self, out)


cdef int f_unicode(Function self, Value *args, int n, Value *out) except -1:
    cdef Value v
    text_of(&args[0], &self.first, &v)
    if v.tag == T_NULL or v.n == 0 or v.u.p[0] == 0:
        out.tag = T_NULL
    else:
        set_int(out, code_point(v.u.p, 0, step(v.u.p, 0, v.n)))
    return 0


cdef int join(Function self, Value *args, int n, Value *between, Value *out) except -1:
    cdef int i
    cdef Value v
    cdef bint some = False
    self.buffer.n = 0
    reserve(&self.buffer, 1)
    for i in range(n):
        if args[i].tag != T_NULL:
            if some and between != NULL:
                append(&self.buffer, between.u.p, between.n)
            text_of(&args[i], &self.first, &v)
            append(&self.buffer, v.u.p, v.n)
            some = True
    return give(self, out)


cdef int f_concat(Function self, Value *args, int n, Value *out) except -1:
    return join(self, args, n, NULL, out)


cdef int f_concat_ws(Function self, Value *args, int n, Value *out) except -1:
    if args[0].tag == T_NULL:
        out.tag = T_NULL
        return 0
    text_of(&args[0], &self.second, &args[0])
    return join(self, args + 1, n - 1, &args[0], out)


cdef int f_zeroblob(Function self, Value *args, int n, Value *out) except -1:
    cdef int64_t size = to_integer(&args[0]), i
    if size > <int64_t>MAX_LENGTH:
        raise DataError("string or blob too big")
    size = max(<int64_t>0, size)
    self.buffer.n = 0
    reserve(&self.buffer, size + 1)
    for i in range(size):
        self.buffer.p[i] = 0
    set_blob(out, self.buffer.p, size)
    return 0


# --- choice ------------------------------------------------------------------------------------------------------

cdef int extreme(Function self, Value *args, int n, Value *out, int sign) except -1:
    cdef int i, c, best = 0
    for i in range(n):
        if args[i].tag == T_NULL:
            out.tag = T_NULL
            return 0
        # of equal ones max() takes the first and min() the last, as SQLite does: 1 and 1.0 can be told apart
        c = compare(&args[best], &args[i], self.collation)
        if c < 0 if sign > 0 else c >= 0:
            best = i
    out[0] = args[best]
    return 0


cdef int f_max(Function self, Value *args, int n, Value *out) except -1:
    return extreme(self, args, n, out, 1)


cdef int f_min(Function self, Value *args, int n, Value *out) except -1:
    return extreme(self, args, n, out, -1)


cdef int f_nullif(Function self, Value *args, int n, Value *out) except -1:
    if args[0].tag != T_NULL and args[1].tag != T_NULL and compare(&args[0], &args[1], self.collation) == 0:
        out.tag = T_NULL
    else:
        out[0] = args[0]
    return 0


cdef int f_first(Function self, Value *args, int n, Value *out) except -1:
    out[0] = args[0]
    return 0


cdef int f_typeof(Function self, Value *args, int n, Value *out) except -1:
    cdef int t = args[0].tag
    if t == T_NULL: set_text(out, <const uint8_t *>b"null", 4)
    elif t == T_INT: set_text(out, <const uint8_t *>b"integer", 7)
    elif t == T_REAL: set_text(out, <const uint8_t *>b"real", 4)
    elif t == T_TEXT: set_text(out, <const uint8_t *>b"text", 4)
    else: set_text(out, <const uint8_t *>b"blob", 4)
    return 0


# --- chance and state --------------------------------------------------------------------------------------------

cdef int f_random(Function self, Value *args, int n, Value *out) except -1:
    cdef bytes b = os.urandom(8)
    memcpy(&out.u.i, <const char *>b, 8)
    out.tag = T_INT
    return 0


cdef int f_randomblob(Function self, Value *args, int n, Value *out) except -1:
    cdef int64_t left = max(1, min(to_integer(&args[0]), <int64_t>MAX_LENGTH))
    cdef bytes b
    self.buffer.n = 0
    reserve(&self.buffer, left + 1)
    while left > 0:
        b = os.urandom(min(left, PIECE))
        append(&self.buffer, <const uint8_t *><const char *>b, len(b))
        left -= PIECE
        if left > 0:
            ticks(self.context, PIECE >> 10)
    set_blob(out, self.buffer.p, self.buffer.n)
    return 0


cdef int f_changes(Function self, Value *args, int n, Value *out) except -1:
    set_int(out, self.context.changes)
    return 0


cdef int f_total_changes(Function self, Value *args, int n, Value *out) except -1:
    set_int(out, self.context.total_changes)
    return 0


cdef int f_last_insert_rowid(Function self, Value *args, int n, Value *out) except -1:
    set_int(out, self.context.last_rowid)
    return 0


cdef bytes VERSION_TEXT = DATABASE_VERSION.encode()


cdef int f_version(Function self, Value *args, int n, Value *out) except -1:
    set_text(out, <const uint8_t *><const char *>VERSION_TEXT, len(VERSION_TEXT))
    return 0


SCALARS = {}


cdef int add(str name, int least, int most, scalar code, bint deterministic=True) except -1:
    """Enters a function into SCALARS."""
    cdef Scalar s = Scalar(name, least, most, deterministic)
    s.code = code
    SCALARS[name] = s
    return 0


add("changes", 0, 0, f_changes, False)
add("char", 0, -1, f_char)
add("concat", 1, -1, f_concat)
add("concat_ws", 2, -1, f_concat_ws)
add("glob", 2, 2, f_glob)
add("hex", 1, 1, f_hex)
add("instr", 2, 2, f_instr)
add("last_insert_rowid", 0, 0, f_last_insert_rowid, False)
add("length", 1, 1, f_length)
add("like", 2, 3, f_cased_like)
CASED_LIKE = SCALARS["like"]            # after PRAGMA case_sensitive_like = ON
add("like", 2, 3, f_like)
add("likelihood", 2, 2, f_first)
add("likely", 1, 1, f_first)
add("lower", 1, 1, f_lower)
add("ltrim", 1, 2, f_ltrim)
add("max", 2, -1, f_max)
add("min", 2, -1, f_min)
add("nullif", 2, 2, f_nullif)
add("octet_length", 1, 1, f_octet_length)
add("quote", 1, 1, f_quote)
add("random", 0, 0, f_random, False)
add("randomblob", 1, 1, f_randomblob, False)
add("replace", 3, 3, f_replace)
add("rtrim", 1, 2, f_rtrim)
add("sqlite_version", 0, 0, f_version)
add("substr", 2, 3, f_substr)
add("substring", 2, 3, f_substr)
add("total_changes", 0, 0, f_total_changes, False)
add("trim", 1, 2, f_trim)
add("typeof", 1, 1, f_typeof)
add("unhex", 1, 2, f_unhex)
add("unicode", 1, 1, f_unicode)
add("unlikely", 1, 1, f_first)
add("upper", 1, 1, f_upper)
add("zeroblob", 1, 1, f_zeroblob)
