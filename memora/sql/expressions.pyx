"""Compiled expressions: a tree of small C classes, each with `eval` and, where a truth value is asked for, `test`.

Truth values are 1, 0 and 2 for NULL. Affinity, collation and names were settled by the binder, so a node only computes.
A node that makes text owns the buffer it lies in: that is why one node object must stand at one place of one tree.
"""
from libc.math cimport fmod
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free

from memora.engine.codec cimport buf_free, buf_init
from memora.sql.record cimport Source, key_put
from memora.sql.runtime cimport BLOCK, Arena, Context, Expr, KeyTable, Op, weigh
from memora.sql.types cimport (
    AFF_NUMERIC, AFF_TEXT, MAX_LENGTH, T_BLOB, T_INT, T_NULL, T_REAL, T_TEXT, apply_affinity, cast, compare, compare_affinity,
    from_python, reserve, append, set_int, set_null, set_real, set_text, text_of, to_integer, to_number, to_python,
    to_real, truth)

from memora.errors import DataError, OperationalError

cdef extern from *:
    bint add_overflow "__builtin_add_overflow"(int64_t a, int64_t b, int64_t *r) nogil
    bint sub_overflow "__builtin_sub_overflow"(int64_t a, int64_t b, int64_t *r) nogil
    bint mul_overflow "__builtin_mul_overflow"(int64_t a, int64_t b, int64_t *r) nogil

cdef int64_t LEAST = <int64_t>(<uint64_t>1 << 63)


# --- leaves ------------------------------------------------------------------------------------------------------

cdef class Const(Expr):
    """A constant Python value."""

    def __cinit__(self, value):
        self.keep = []
        from_python(value, &self.value, self.keep)

    cdef int eval(self, Value *out) except -1:
        out[0] = self.value
        return 0

    cdef int test(self) except -1:
        return truth(&self.value)


cdef class Parameter(Expr):
    """A bound parameter, `index` from 0."""

    cdef Context context
    cdef int index

    def __cinit__(self, Context context, int index):
        self.context = context
        self.index = index

    cdef int eval(self, Value *out) except -1:
        out[0] = self.context.params[self.index]
        return 0


cdef class ColumnRef(Expr):
    """Column `index` of a source's current row; -1 is the rowid."""

    def __cinit__(self, Source source not None, int index):
        self.source = source
        self.index = index

    cdef int eval(self, Value *out) except -1:
        return self.source.column(self.index, out)

    cdef int gather(self, Op op, int n, Value *out) except -1:
        if not op.aligned(self.source):
            return 0
        self.source.gather(self.index, n, out)
        return 1


cdef class Held(Expr):
    """A value that another node put here: the operand of CASE x, BETWEEN, and the column values of a row being written."""

    cdef int eval(self, Value *out) except -1:
        out[0] = self.value
        return 0


cdef class Let(Expr):
    """Evaluates `first` once into `held`, then the body, which refers to `held`."""

    cdef Held held
    cdef Expr first, body

    def __cinit__(self, Held held, Expr first, Expr body):
        self.held, self.first, self.body = held, first, body

    cdef int eval(self, Value *out) except -1:
        self.first.eval(&self.held.value)
        return self.body.eval(out)

    cdef int test(self) except -1:
        self.first.eval(&self.held.value)
        return self.body.test()


cdef class Scratch(Expr):
    """The base of nodes that make text."""

    def __cinit__(self):
        buf_init(&self.buffer)

    def __dealloc__(self):
        buf_free(&self.buffer)


# --- arithmetic --------------------------------------------------------------------------------------------------

cdef enum:
    OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_MOD, OP_AND, OP_OR, OP_SHL, OP_SHR

ARITHMETIC = {"+": OP_ADD, "-": OP_SUB, "*": OP_MUL, "/": OP_DIV, "%": OP_MOD,
              "&": OP_AND, "|": OP_OR, "<<": OP_SHL, ">>": OP_SHR}


cdef int64_t shift(int64_t a, int64_t by, bint left) noexcept nogil:
    if by < 0:
        left = not left
        by = 64 if by < -64 else -by
    if by >= 64:
        return 0 if left or a >= 0 else -1
    if left:
        return <int64_t>(<uint64_t>a << by)
    return a >> by


cdef int modulo(Value *a, Value *b, Value *out) noexcept:
    """Both operands are cut to integers; the result is real if one of them was."""
    cdef Value x, y
    cdef int64_t i = to_integer(a), k = to_integer(b)
    to_number(a, &x)
    to_number(b, &y)
    if k == 0:
        out.tag = T_NULL
        return 0
    i = 0 if k == -1 else i % k
    if x.tag == T_INT and y.tag == T_INT:
        set_int(out, i)
    else:
        set_real(out, <double>i)
    return 0


cdef class Arithmetic(Expr):
    """left op right for numbers and bits; `op` is a value of ARITHMETIC."""

    cdef Expr left, right
    cdef int op

    def __cinit__(self, int op, Expr left, Expr right):
        self.op, self.left, self.right = op, left, right

    cdef int eval(self, Value *out) except -1:
        cdef Value a, b
        cdef int64_t r = 0
        cdef double x, y
        cdef int op = self.op
        self.left.eval(&a)
        self.right.eval(&b)
        if a.tag == T_NULL or b.tag == T_NULL:
            out.tag = T_NULL
            return 0
        if op >= OP_AND:
            if op == OP_AND:
                r = to_integer(&a) & to_integer(&b)
            elif op == OP_OR:
                r = to_integer(&a) | to_integer(&b)
            else:
                r = shift(to_integer(&a), to_integer(&b), op == OP_SHL)
            set_int(out, r)
            return 0
        if op == OP_MOD:
            return modulo(&a, &b, out)
        if a.tag >= T_TEXT:
            to_number(&a, &a)
        if b.tag >= T_TEXT:
            to_number(&b, &b)
        if a.tag == T_INT and b.tag == T_INT:
            if op == OP_ADD:
                if not add_overflow(a.u.i, b.u.i, &r):
                    set_int(out, r)
                    return 0
            elif op == OP_SUB:
                if not sub_overflow(a.u.i, b.u.i, &r):
                    set_int(out, r)
                    return 0
            elif op == OP_MUL:
                if not mul_overflow(a.u.i, b.u.i, &r):
                    set_int(out, r)
                    return 0
            else:
                if b.u.i == 0:
                    out.tag = T_NULL
                    return 0
                if not (b.u.i == -1 and a.u.i == LEAST):
                    set_int(out, a.u.i // b.u.i)
                    return 0
        x = <double>a.u.i if a.tag == T_INT else a.u.r
        y = <double>b.u.i if b.tag == T_INT else b.u.r
        if op == OP_ADD:
            set_real(out, x + y)
        elif op == OP_SUB:
            set_real(out, x - y)
        elif op == OP_MUL:
            set_real(out, x * y)
        elif y == 0.0:
            out.tag = T_NULL
        else:
            set_real(out, x / y)
        return 0


cdef class Negate(Expr):
    cdef Expr operand

    def __cinit__(self, Expr operand):
        self.operand = operand

    cdef int eval(self, Value *out) except -1:
        cdef Value v
        self.operand.eval(&v)
        to_number(&v, out)
        if out.tag == T_INT:
            if out.u.i == LEAST:
                set_real(out, 9223372036854775808.0)
            else:
                out.u.i = -out.u.i
        elif out.tag == T_REAL:
            # SQLite computes 0 - x, so that -0.0 never comes out of 0.0
            out.u.r = 0.0 - out.u.r
        return 0


cdef class BitNot(Expr):
    cdef Expr operand

    def __cinit__(self, Expr operand):
        self.operand = operand

    cdef int eval(self, Value *out) except -1:
        cdef Value v
        self.operand.eval(&v)
        if v.tag == T_NULL:
            out.tag = T_NULL
        else:
            set_int(out, ~to_integer(&v))
        return 0


cdef class Concat(Scratch):
    cdef Context context
    cdef Expr left, right
    cdef Buf a, b

    def __cinit__(self, Context context, Expr left, Expr right):
        self.context, self.left, self.right = context, left, right
        buf_init(&self.a)
        buf_init(&self.b)

    def __dealloc__(self):
        buf_free(&self.a)
        buf_free(&self.b)

    cdef int eval(self, Value *out) except -1:
        cdef Value x, y
        self.left.eval(&x)
        self.right.eval(&y)
        if x.tag == T_NULL or y.tag == T_NULL:
            out.tag = T_NULL
            return 0
        text_of(&x, &self.a, &x)
        text_of(&y, &self.b, &y)
        if x.n + y.n > MAX_LENGTH:
            raise DataError("string or blob too big")
        self.buffer.n = 0
        reserve(&self.buffer, x.n + y.n + 1)
        append(&self.buffer, x.u.p, x.n)
        append(&self.buffer, y.u.p, y.n)
        set_text(out, self.buffer.p, self.buffer.n)
        return weigh(self.context, out)


# --- truth -------------------------------------------------------------------------------------------------------

cdef class Truth(Expr):
    """The base of nodes that yield 1, 0 or NULL: they have `test`, and `eval` follows from it."""

    cdef int eval(self, Value *out) except -1:
        cdef int t = self.test()
        if t == 2:
            out.tag = T_NULL
        else:
            set_int(out, t)
        return 0


cdef enum:
    CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE, CMP_IS, CMP_ISNT

COMPARISON = {"=": CMP_EQ, "<>": CMP_NE, "<": CMP_LT, "<=": CMP_LE, ">": CMP_GT, ">=": CMP_GE,
              "IS": CMP_IS, "IS NOT": CMP_ISNT}


cdef inline int verdict(int op, int r) noexcept nogil:
    if op == CMP_EQ or op == CMP_IS:
        return r == 0
    if op == CMP_NE or op == CMP_ISNT:
        return r != 0
    if op == CMP_LT:
        return r < 0
    if op == CMP_LE:
        return r <= 0
    if op == CMP_GT:
        return r > 0
    return r >= 0


cdef int convert_pair(Value *a, Value *b, int affinity, Buf *scratch) except -1:
    """The affinity of a comparison, applied to both sides; it never makes text of two numbers."""
    if affinity >= AFF_NUMERIC:
        if a.tag == T_TEXT:
            compare_affinity(a, affinity, scratch)
        if b.tag == T_TEXT:
            compare_affinity(b, affinity, scratch)
    elif affinity == AFF_TEXT:
        if a.tag == T_TEXT:
            compare_affinity(b, affinity, scratch)
        elif b.tag == T_TEXT:
            compare_affinity(a, affinity, scratch)
    return 0


cdef class Compare(Truth):
    """left op right; `op` is a value of COMPARISON, `affinity` what both sides are converted to first."""

    cdef Expr left, right
    cdef int op, affinity, collation
    cdef Buf scratch
    cdef Source source                 # where the left side is a column of one: spares a call for each row
    cdef int index
    cdef const Value *fixed            # the right side where it is a constant or a parameter, which outlive this node

    def __cinit__(self, int op, Expr left, Expr right, int affinity, int collation):
        self.op, self.left, self.right, self.affinity, self.collation = op, left, right, affinity, collation
        buf_init(&self.scratch)
        if type(left) is ColumnRef:
            self.source, self.index = (<ColumnRef>left).source, (<ColumnRef>left).index
        if type(right) is Const:
            self.fixed = &(<Const>right).value
        elif type(right) is Parameter:
            self.fixed = &(<Parameter>right).context.params[(<Parameter>right).index]

    def __dealloc__(self):
        buf_free(&self.scratch)

    cdef int test(self) except -1:
        cdef Value a, b
        if self.source is not None:
            self.source.column(self.index, &a)
        else:
            self.left.eval(&a)
        if self.fixed != NULL:
            b = self.fixed[0]
        else:
            self.right.eval(&b)
        return self.judge(&a, &b)

    cdef inline int judge(self, Value *a, Value *b) except -1:
        if a.tag == T_INT and b.tag == T_INT:
            return verdict(self.op, (a.u.i > b.u.i) - (a.u.i < b.u.i))
        if a.tag == T_REAL and b.tag == T_REAL and self.affinity != AFF_TEXT:
            return verdict(self.op, (a.u.r > b.u.r) - (a.u.r < b.u.r))
        if a.tag == T_NULL or b.tag == T_NULL:
            if self.op == CMP_IS:
                return a.tag == b.tag
            if self.op == CMP_ISNT:
                return a.tag != b.tag
            return 2
        if self.affinity:
            convert_pair(a, b, self.affinity, &self.scratch)
        return verdict(self.op, compare(a, b, self.collation))

    cdef int sift(self, Op op, int n, int32_t *passed) except -1:
        cdef Value[BLOCK] values
        cdef Value b
        cdef int i, found = 0
        if self.source is None or self.fixed == NULL or not op.aligned(self.source):
            return Expr.sift(self, op, n, passed)
        self.source.gather(self.index, n, values)
        for i in range(n):
            b = self.fixed[0]
            passed[found] = i
            found += self.judge(&values[i], &b) == 1
        return found


cdef class CompareRows(Truth):
    """(a, b, ...) op (c, d, ...): `affinities` and `collations` by position."""

    cdef list left, right, affinities, collations
    cdef int op
    cdef Buf scratch

    def __cinit__(self, int op, list left, list right, list affinities, list collations):
        self.op, self.left, self.right = op, left, right
        self.affinities, self.collations = affinities, collations
        buf_init(&self.scratch)

    def __dealloc__(self):
        buf_free(&self.scratch)

    cdef int test(self) except -1:
        cdef Value a, b
        cdef Py_ssize_t i, n = len(self.left)
        cdef int r, op = self.op
        cdef bint unknown = False
        for i in range(n):
            (<Expr>self.left[i]).eval(&a)
            (<Expr>self.right[i]).eval(&b)
            if a.tag == T_NULL or b.tag == T_NULL:
                if op == CMP_IS or op == CMP_ISNT:
                    if a.tag != b.tag:
                        return op == CMP_ISNT
                    continue
                if op != CMP_EQ and op != CMP_NE:
                    return 2
                unknown = True
                continue
            convert_pair(&a, &b, self.affinities[i], &self.scratch)
            r = compare(&a, &b, self.collations[i])
            if r:
                if op == CMP_LE or op == CMP_GE:
                    return verdict(CMP_LT if op == CMP_LE else CMP_GT, r)
                return verdict(op, r)
        if unknown:
            return 2
        return verdict(op, 0)


cdef class And(Truth):
    cdef list terms

    def __cinit__(self, list terms):
        self.terms = terms

    cdef int test(self) except -1:
        cdef int t, r = 1
        cdef Py_ssize_t i
        for i in range(len(self.terms)):
            t = (<Expr>self.terms[i]).test()
            if t == 0:
                return 0
            if t == 2:
                r = 2
        return r


cdef class Or(Truth):
    cdef list terms

    def __cinit__(self, list terms):
        self.terms = terms

    cdef int test(self) except -1:
        cdef int t, r = 0
        cdef Py_ssize_t i
        for i in range(len(self.terms)):
            t = (<Expr>self.terms[i]).test()
            if t == 1:
                return 1
            if t == 2:
                r = 2
        return r


cdef class Not(Truth):
    cdef Expr operand

    def __cinit__(self, Expr operand):
        self.operand = operand

    cdef int test(self) except -1:
        cdef int t = self.operand.test()
        return t if t == 2 else 1 - t


cdef class IsNull(Truth):
    cdef Expr operand
    cdef bint negated

    def __cinit__(self, Expr operand, bint negated):
        self.operand, self.negated = operand, negated

    cdef int test(self) except -1:
        cdef Value v
        self.operand.eval(&v)
        return (v.tag == T_NULL) != self.negated


cdef class IsTruth(Truth):
    """x IS [NOT] TRUE / FALSE."""

    cdef Expr operand
    cdef int wanted
    cdef bint negated

    def __cinit__(self, Expr operand, int wanted, bint negated):
        self.operand, self.wanted, self.negated = operand, wanted, negated

    cdef int test(self) except -1:
        return (self.operand.test() == self.wanted) != self.negated


cdef class Case(Expr):
    """CASE WHEN conditions[i] THEN results[i] ... ELSE otherwise END."""

    cdef list conditions, results
    cdef Expr otherwise

    def __cinit__(self, list conditions, list results, Expr otherwise):
        self.conditions, self.results, self.otherwise = conditions, results, otherwise

    cdef int eval(self, Value *out) except -1:
        cdef Py_ssize_t i
        for i in range(len(self.conditions)):
            if (<Expr>self.conditions[i]).test() == 1:
                return (<Expr>self.results[i]).eval(out)
        if self.otherwise is None:
            out.tag = T_NULL
            return 0
        return self.otherwise.eval(out)


cdef class Coalesce(Expr):
    """The first argument that is not NULL; later ones are not evaluated."""

    cdef list args

    def __cinit__(self, list args):
        self.args = args

    cdef int eval(self, Value *out) except -1:
        cdef Py_ssize_t i
        for i in range(len(self.args)):
            (<Expr>self.args[i]).eval(out)
            if out.tag != T_NULL:
                break
        return 0


cdef class Cast(Scratch):
    cdef Expr operand
    cdef int affinity

    def __cinit__(self, Expr operand, int affinity):
        self.operand, self.affinity = operand, affinity

    cdef int eval(self, Value *out) except -1:
        self.operand.eval(out)
        return cast(out, self.affinity, &self.buffer)


cdef class Affinity(Scratch):
    """The value as a column of that affinity would hold it."""

    cdef Expr operand
    cdef int affinity

    def __cinit__(self, Expr operand, int affinity):
        self.operand, self.affinity = operand, affinity

    cdef int eval(self, Value *out) except -1:
        self.operand.eval(out)
        return apply_affinity(out, self.affinity, &self.buffer)


# --- IN and subqueries -------------------------------------------------------------------------------------------

cdef class InList(Truth):
    """x IN (items). With `constant` the items are put into a table at the first use of each execution."""

    cdef Expr operand
    cdef list items
    cdef int affinity, collation
    cdef bint constant, has_null
    cdef Context context
    cdef uint64_t epoch
    cdef KeyTable table
    cdef Buf key, scratch

    def __cinit__(self, Context context, Expr operand, list items, int affinity, int collation, bint constant):
        self.context, self.operand, self.items = context, operand, items
        self.affinity, self.collation, self.constant = affinity, collation, constant
        buf_init(&self.key)
        buf_init(&self.scratch)

    def __dealloc__(self):
        buf_free(&self.key)
        buf_free(&self.scratch)

    cdef int fill(self) except -1:
        cdef Value v
        cdef Py_ssize_t i
        cdef bint fresh
        if self.table is None:
            self.table = KeyTable()
        self.table.clear()
        self.has_null = False
        for i in range(len(self.items)):
            (<Expr>self.items[i]).eval(&v)
            if v.tag == T_NULL:
                self.has_null = True
                continue
            compare_affinity(&v, self.affinity, &self.scratch)
            self.key.n = 0
            key_put(&self.key, &v, self.collation, False)
            self.table.insert(self.key.p, self.key.n, &fresh)
        self.epoch = self.context.epoch
        return 0

    cdef int test(self) except -1:
        cdef Value a, b
        cdef Py_ssize_t i, n = len(self.items)
        cdef bint unknown = False
        if n == 0:
            return 0
        if self.constant and (self.table is None or self.epoch != self.context.epoch):
            self.fill()
        self.operand.eval(&a)
        if a.tag == T_NULL:
            return 2
        if self.affinity:
            compare_affinity(&a, self.affinity, &self.scratch)
        if self.constant:
            self.key.n = 0
            key_put(&self.key, &a, self.collation, False)
            if self.table.find(self.key.p, self.key.n) >= 0:
                return 1
            return 2 if self.has_null else 0
        for i in range(n):
            (<Expr>self.items[i]).eval(&b)
            if b.tag == T_NULL:
                unknown = True
                continue
            if self.affinity >= AFF_NUMERIC and b.tag == T_TEXT:
                compare_affinity(&b, self.affinity, NULL)
            elif self.affinity == AFF_TEXT and (b.tag == T_INT or b.tag == T_REAL):
                # the operand's own text, if it was a number, lies in `scratch`
                compare_affinity(&b, self.affinity, &self.key)
            if compare(&a, &b, self.collation) == 0:
                return 1
        return 2 if unknown else 0


cdef class InSubquery(Truth):
    """operands IN (query): the query's rows are hashed; again for each outer row if it is correlated."""

    cdef Op op
    cdef list operands, exprs, affinities, collations
    cdef bint correlated, ready, empty
    cdef Context context
    cdef uint64_t epoch
    cdef KeyTable table
    cdef list partial
    cdef Buf key, scratch
    cdef bint has_null

    def __cinit__(self, Context context, Op op, list operands, list exprs, list affinities, list collations,
                  bint correlated):
        self.context, self.op, self.operands, self.exprs = context, op, operands, exprs
        self.affinities, self.collations, self.correlated = affinities, collations, correlated
        self.table = KeyTable()
        buf_init(&self.key)
        buf_init(&self.scratch)

    def __dealloc__(self):
        buf_free(&self.key)
        buf_free(&self.scratch)

    cdef int row(self, list exprs, bint *null) except -1:
        """Puts the key of a row of expressions into self.key."""
        cdef Value v
        cdef Py_ssize_t i
        self.key.n = 0
        null[0] = False
        for i in range(len(exprs)):
            (<Expr>exprs[i]).eval(&v)
            if v.tag == T_NULL:
                null[0] = True
            compare_affinity(&v, self.affinities[i], &self.scratch)
            key_put(&self.key, &v, self.collations[i], False)
        return 0

    cdef int fill(self) except -1:
        cdef bint null, fresh
        self.table.clear()
        self.partial = []
        self.has_null = False
        self.op.open()
        while self.op.next():
            self.row(self.exprs, &null)
            if null:
                self.has_null = True
                if len(self.exprs) > 1:
                    self.partial.append([python_value(<Expr>e) for e in self.exprs])
            else:
                self.table.insert(self.key.p, self.key.n, &fresh)
        self.empty = self.table.count == 0 and not self.has_null
        self.ready = True
        self.epoch = self.context.epoch
        return 0

    cdef int test(self) except -1:
        cdef bint null
        if self.correlated or not self.ready or self.epoch != self.context.epoch:
            self.fill()
        if self.empty:
            return 0
        self.row(self.operands, &null)
        if not null:
            if self.table.find(self.key.p, self.key.n) >= 0:
                return 1
            if not self.has_null:
                return 0
        if len(self.operands) == 1:
            return 2
        return self.test_partial(null)

    cdef int test_partial(self, bint null) except -1:
        """Row values with NULLs in them: NULL if some row could be equal, else 0."""
        values = [python_value(<Expr>e) for e in self.operands]
        from memora.sql.types import order
        if null:
            # A NULL operand may be equal to any column of any row, so all rows are looked at, rare as it is.
            self.op.open()
            while self.op.next():
                row = [python_value(<Expr>e) for e in self.exprs]
                if all(a is None or b is None or order(a, b, c) == 0
                       for a, b, c in zip(values, row, self.collations)):
                    return 2
            return 0
        for row in self.partial:
            if all(b is None or order(a, b, c) == 0 for a, b, c in zip(values, row, self.collations)):
                return 2
        return 0


cdef object python_value(Expr e):
    cdef Value v
    e.eval(&v)
    return to_python(&v)


cdef class Exists(Truth):
    cdef Op op
    cdef bint correlated
    cdef Context context
    cdef uint64_t epoch
    cdef int answer

    def __cinit__(self, Context context, Op op, bint correlated):
        self.context, self.op, self.correlated = context, op, correlated
        self.answer = -1

    cdef int test(self) except -1:
        if self.correlated or self.answer < 0 or self.epoch != self.context.epoch:
            self.op.open()
            self.answer = self.op.next()
            self.epoch = self.context.epoch
        return self.answer


cdef class Subquery(Expr):
    """A scalar subquery: the first column of its first row, or NULL. `others` are the columns behind it of a row value,
    set into `held` for the nodes that read them."""

    cdef Op op
    cdef list exprs, held
    cdef bint correlated, ready
    cdef Context context
    cdef uint64_t epoch
    cdef Arena arena
    cdef Value value

    def __cinit__(self, Context context, Op op, list exprs, bint correlated, list held=None):
        self.context, self.op, self.exprs, self.correlated = context, op, exprs, correlated
        self.held = held or []
        self.arena = Arena()

    cdef int eval(self, Value *out) except -1:
        cdef Value v
        cdef Py_ssize_t i
        cdef bint found
        if self.correlated or not self.ready or self.epoch != self.context.epoch:
            self.arena.clear()
            self.op.open()
            found = self.op.next()
            if found:
                (<Expr>self.exprs[0]).eval(&v)
                self.arena.keep_value(&v, &self.value)
            else:
                self.value.tag = T_NULL
            for i in range(len(self.held)):
                if found:
                    (<Expr>self.exprs[i + 1]).eval(&v)
                    self.arena.keep_value(&v, &(<Held>self.held[i]).value)
                else:
                    (<Held>self.held[i]).value.tag = T_NULL
            self.ready = True
            self.epoch = self.context.epoch
        out[0] = self.value
        return 0
