"""SQLite's functions of numbers: abs, round, sign and the mathematical ones. They enter themselves into `functions.SCALARS`."""
from libc.math cimport (acos, acosh, asin, asinh, atan, atan2, atanh, ceil, cos, cosh, exp, fabs, floor, fmod, log, log2,
                        log10, pow, sin, sinh, sqrt, tan, tanh, trunc)
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport strlen

from memora.sql.functions cimport Function, add
from memora.sql.types cimport T_INT, T_NULL, T_REAL, T_TEXT, Value, parse_number, set_int, set_real, to_integer, to_real

from memora.errors import OperationalError

cdef extern from "Python.h":
    char *PyOS_double_to_string(double val, char format_code, int precision, int flags, int *ptype) except NULL
    void PyMem_Free(void *p)

cdef int64_t LEAST = <int64_t>(<uint64_t>1 << 63)


cdef int f_abs(Function self, Value *args, int n, Value *out) except -1:
    if args[0].tag == T_NULL:
        out.tag = T_NULL
    elif args[0].tag == T_INT:
        if args[0].u.i == LEAST:
            raise OperationalError("integer overflow")
        set_int(out, -args[0].u.i if args[0].u.i < 0 else args[0].u.i)
    else:
        set_real(out, fabs(to_real(&args[0])))
    return 0


cdef int f_sign(Function self, Value *args, int n, Value *out) except -1:
    cdef Value v
    if args[0].tag == T_TEXT:
        if parse_number(args[0].u.p, args[0].n, &v) != 2:
            out.tag = T_NULL
            return 0
    else:
        v = args[0]
    if v.tag == T_INT:
        set_int(out, (v.u.i > 0) - (v.u.i < 0))
    elif v.tag == T_REAL:
        set_int(out, (v.u.r > 0) - (v.u.r < 0))
    else:
        out.tag = T_NULL
    return 0


cdef int f_round(Function self, Value *args, int n, Value *out) except -1:
    cdef int64_t digits = 0
    cdef double r
    cdef char *text
    cdef Value v
    if args[0].tag == T_NULL or (n == 2 and args[1].tag == T_NULL):
        out.tag = T_NULL
        return 0
    if n == 2:
        digits = max(<int64_t>0, min(to_integer(&args[1]), <int64_t>30))
    r = to_real(&args[0])
    if not -4503599627370496.0 <= r <= 4503599627370496.0:
        set_real(out, r)
    elif digits == 0:
        set_real(out, <double><int64_t>(r + (-0.5 if r < 0 else 0.5)))
    else:
        text = PyOS_double_to_string(r, c'f', <int>digits, 0, NULL)
        parse_number(<const uint8_t *>text, strlen(text), &v)
        PyMem_Free(text)
        set_real(out, to_real(&v))
    return 0


cdef enum:
    M_CEIL, M_FLOOR, M_TRUNC, M_EXP, M_LN, M_LOG10, M_LOG2, M_SQRT, M_SIN, M_COS, M_TAN, M_ASIN, M_ACOS, M_ATAN, M_SINH,
    M_COSH, M_TANH, M_ASINH, M_ACOSH, M_ATANH, M_DEGREES, M_RADIANS


cdef int number_argument(Value *v, Value *out) noexcept:
    """1 with the number, 0 when the argument is no number: such a call is NULL."""
    if v.tag == T_TEXT:
        return parse_number(v.u.p, v.n, out) == 2
    out[0] = v[0]
    return v.tag == T_INT or v.tag == T_REAL


cdef int math1(Value *args, Value *out, int which) except -1:
    cdef Value v
    cdef double x, y = 0.0
    if not number_argument(&args[0], &v):
        out.tag = T_NULL
        return 0
    if which <= M_TRUNC and v.tag == T_INT:
        out[0] = v
        return 0
    x = to_real(&v)
    if which == M_CEIL: y = ceil(x)
    elif which == M_FLOOR: y = floor(x)
    elif which == M_TRUNC: y = trunc(x)
    elif which == M_EXP: y = exp(x)
    elif which <= M_LOG2:
        if x <= 0.0:
            out.tag = T_NULL
            return 0
        y = log(x) if which == M_LN else (log10(x) if which == M_LOG10 else log2(x))
    elif which == M_SQRT: y = sqrt(x)
    elif which == M_SIN: y = sin(x)
    elif which == M_COS: y = cos(x)
    elif which == M_TAN: y = tan(x)
    elif which == M_ASIN: y = asin(x)
    elif which == M_ACOS: y = acos(x)
    elif which == M_ATAN: y = atan(x)
    elif which == M_SINH: y = sinh(x)
    elif which == M_COSH: y = cosh(x)
    elif which == M_TANH: y = tanh(x)
    elif which == M_ASINH: y = asinh(x)
    elif which == M_ACOSH: y = acosh(x)
    elif which == M_ATANH: y = atanh(x)
    elif which == M_DEGREES: y = x * (180.0 / 3.14159265358979323846)
    else: y = x * (3.14159265358979323846 / 180.0)
    set_real(out, y)
    return 0


cdef int f_ceil(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_CEIL)
cdef int f_floor(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_FLOOR)
cdef int f_trunc(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_TRUNC)
cdef int f_exp(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_EXP)
cdef int f_ln(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_LN)
cdef int f_log10(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_LOG10)
cdef int f_log2(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_LOG2)
cdef int f_sqrt(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_SQRT)
cdef int f_sin(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_SIN)
cdef int f_cos(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_COS)
cdef int f_tan(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_TAN)
cdef int f_asin(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_ASIN)
cdef int f_acos(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_ACOS)
cdef int f_atan(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_ATAN)
cdef int f_sinh(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_SINH)
cdef int f_cosh(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_COSH)
cdef int f_tanh(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_TANH)
cdef int f_asinh(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_ASINH)
cdef int f_acosh(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_ACOSH)
cdef int f_atanh(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_ATANH)
cdef int f_degrees(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_DEGREES)
cdef int f_radians(Function self, Value *args, int n, Value *out) except -1: return math1(args, out, M_RADIANS)


cdef int math2(Value *args, Value *out, double *x, double *y) except -1:
    cdef Value a, b
    if not number_argument(&args[0], &a) or not number_argument(&args[1], &b):
        out.tag = T_NULL
        return 0
    x[0] = to_real(&a)
    y[0] = to_real(&b)
    return 1


cdef int f_pow(Function self, Value *args, int n, Value *out) except -1:
    cdef double x, y
    if math2(args, out, &x, &y):
        set_real(out, pow(x, y))
    return 0


cdef int f_mod(Function self, Value *args, int n, Value *out) except -1:
    cdef double x, y
    if math2(args, out, &x, &y):
        set_real(out, fmod(x, y))
    return 0


cdef int f_atan2(Function self, Value *args, int n, Value *out) except -1:
    cdef double x, y
    if math2(args, out, &x, &y):
        set_real(out, atan2(x, y))
    return 0


cdef int f_log(Function self, Value *args, int n, Value *out) except -1:
    cdef double x, y
    if n == 1:
        return math1(args, out, M_LOG10)
    if math2(args, out, &x, &y):
        if x <= 0.0 or y <= 0.0 or log(x) <= 0.0:
            out.tag = T_NULL
        else:
            set_real(out, log(y) / log(x))
    return 0


cdef int f_pi(Function self, Value *args, int n, Value *out) except -1:
    set_real(out, 3.14159265358979323846)
    return 0


add("abs", 1, 1, f_abs)
add("round", 1, 2, f_round)
add("sign", 1, 1, f_sign)
add("acos", 1, 1, f_acos)
add("acosh", 1, 1, f_acosh)
add("asin", 1, 1, f_asin)
add("asinh", 1, 1, f_asinh)
add("atan", 1, 1, f_atan)
add("atan2", 2, 2, f_atan2)
add("atanh", 1, 1, f_atanh)
add("ceil", 1, 1, f_ceil)
add("ceiling", 1, 1, f_ceil)
add("cos", 1, 1, f_cos)
add("cosh", 1, 1, f_cosh)
add("degrees", 1, 1, f_degrees)
add("exp", 1, 1, f_exp)
add("floor", 1, 1, f_floor)
add("ln", 1, 1, f_ln)
add("log", 1, 2, f_log)
add("log10", 1, 1, f_log10)
add("log2", 1, 1, f_log2)
add("mod", 2, 2, f_mod)
add("pi", 0, 0, f_pi)
add("pow", 2, 2, f_pow)
add("power", 2, 2, f_pow)
add("radians", 1, 1, f_radians)
add("sin", 1, 1, f_sin)
add("sinh", 1, 1, f_sinh)
add("sqrt", 1, 1, f_sqrt)
add("tan", 1, 1, f_tan)
add("tanh", 1, 1, f_tanh)
add("trunc", 1, 1, f_trunc)
