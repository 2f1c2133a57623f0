"""Counters in rows: UPDATE t SET n = n + ? of one row by its whole key, as a delta of its record.

The commit adds to what the row holds by then, so statements and transactions that count in the same rows do not conflict. That the row
is there is looked at again, too: one that is gone by then is a conflict. Which statements qualify is told in `dml.counts`; what
a delta cannot do at run time (text in the column, no such row) the ordinary Update does, with the same result and a read row.

ARGUMENT    of DELTA_RECORD: a Term for each column. Record and numbers are those of `record.pyx`.
INVARIANTS  (1) The new record is, byte for byte, what reading the row, computing and writing it would give: SQLite's arithmetic (integers
                that overflow become REAL; NULL stays NULL), then the column's affinity.
            (2) Lengths in the old record are checked before they are followed; what does not fit is refused (MM_CONFLICT), and the
                ordinary way finds out what is wrong with it.
"""
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from memora.engine.codec cimport Buf, buf_free, buf_init, buf_reserve
from memora.engine.cursor cimport Cursor
from memora.engine.delta cimport DELTA_RECORD, delta_register
from memora.engine.layout cimport MM_CONFLICT, MM_NOMEM, MM_OK
from memora.engine.readset cimport ReadMark, read_back, read_mark
from memora.engine.transaction cimport Transaction
from memora.sql.changes cimport Update
from memora.sql.record cimport key_put, kind_of, rowid_key
from memora.sql.runtime cimport Expr, Work
from memora.sql.types cimport (
    AFF_BLOB, AFF_NUMERIC, AFF_REAL, T_INT, T_NULL, T_REAL, T_TEXT, Value, append, real_to_integer, set_int)
from memora.sql.writer cimport TableWriter

cdef enum:
    MOST = 16           # columns of one statement

    PLUS = 1
    MINUS = 2
    LARGER = 3

TERMS = MOST

ctypedef struct Term:
    uint16_t column
    uint8_t affinity
    uint8_t op
    uint8_t real        # the number is a double
    uint8_t whole       # the column takes integers only (STRICT)
    uint8_t pad[2]
    int64_t i
    double r


# ---------------------------------------------------------------------------------------------- the kernel

cdef inline int varint(const uint8_t *p, uint64_t n, uint64_t *at, uint64_t *out) noexcept nogil:
    """1: read a number at at[0] and moved behind it."""
    cdef uint64_t value = 0
    cdef int shift = 0
    while at[0] < n and shift < 63:
        value |= <uint64_t>(p[at[0]] & 127) << shift
        at[0] += 1
        if p[at[0] - 1] < 128:
            out[0] = value
            return 1
        shift += 7
    return 0


cdef inline uint64_t width(uint64_t kind) noexcept nogil:
    if kind >= 10:
        return (kind - 10) >> 1
    return kind if kind <= 4 else 6 if kind == 5 else 8 if kind <= 7 else 0


cdef void number_at(uint64_t kind, const uint8_t *p, Value *out) noexcept nogil:
    """The number of a body; kind 1 to 9."""
    cdef uint64_t u = 0
    cdef int shift
    if kind == 7:
        out.tag = T_REAL
        memcpy(&out.u.r, p, 8)
    elif kind >= 8:
        set_int(out, <int64_t>(kind - 8))
    else:
        memcpy(&u, p, width(kind))
        shift = 64 - 8 * <int>width(kind)
        set_int(out, (<int64_t>(u << shift)) >> shift)


cdef int reckon(Value *v, const Term *t) noexcept nogil:
    """v op the term, as a value of its column. 0: not a case for a delta."""
    cdef int64_t whole
    cdef double b = t.r if t.real else <double>t.i
    if t.op == LARGER:
        if v.tag != T_INT:
            return 0
        if t.i > v.u.i:
            v.u.i = t.i
        return 1
    if v.tag == T_INT and not t.real:
        if t.op == PLUS:
            if not (t.i > 0 and v.u.i > INT64_MAX - t.i or t.i < 0 and v.u.i < INT64_MIN - t.i):
                set_int(v, v.u.i + t.i)
            else:
                v.tag = T_REAL
                v.u.r = <double>v.u.i + b
        elif not (t.i < 0 and v.u.i > INT64_MAX + t.i or t.i > 0 and v.u.i < INT64_MIN + t.i):
            set_int(v, v.u.i - t.i)
        else:
            v.tag = T_REAL
            v.u.r = <double>v.u.i - b
    else:
        if v.tag == T_INT:
            v.u.r = <double>v.u.i
        v.tag = T_REAL
        v.u.r = v.u.r + b if t.op == PLUS else v.u.r - b
        if v.u.r != v.u.r:
            return 0
    if t.affinity == AFF_REAL:
        if v.tag == T_INT:
            v.u.r = <double>v.u.i
            v.tag = T_REAL
    elif t.affinity >= AFF_NUMERIC and v.tag == T_REAL and real_to_integer(v.u.r, &whole):
        set_int(v, whole)
    return not t.whole or v.tag == T_INT


cdef int change_record(const uint8_t *old, uint64_t oldn, int had, const uint8_t *argument, uint64_t n, Buf *out) noexcept nogil:
    cdef const Term *terms = <const Term *>argument
    cdef int count = <int>(n // sizeof(Term)), left = count, k
    cdef Value[MOST] values
    cdef uint64_t[MOST] starts          # where the old bodies of the changed columns begin, and end
    cdef uint64_t[MOST] ends
    cdef int[MOST] order                # the terms as their columns come in the record
    cdef uint64_t at = 0, head, columns = 0, kind = 0, i, body, next_
    cdef uint8_t *p
    if not had or not varint(old, oldn, &at, &kind) or not varint(old, oldn, &at, &columns):
        return MM_CONFLICT
    body = at
    for i in range(columns):
        if not varint(old, oldn, &body, &kind):
            return MM_CONFLICT
    if buf_reserve(out, oldn + 8 * <uint64_t>count + 8) < 0:
        return MM_NOMEM
    p = out.p + out.n
    memcpy(p, old, at)
    p += at
    for i in range(columns):
        head = at
        varint(old, oldn, &at, &kind)
        next_ = body + width(kind)
        if next_ > oldn or next_ < body:
            return MM_CONFLICT
        for k in range(count):
            if terms[k].column == i:
                break
        else:
            memcpy(p, old + head, at - head)
            p += at - head
            body = next_
            continue
        if kind >= 10:
            return MM_CONFLICT
        order[count - left] = k
        starts[k] = body
        ends[k] = next_
        if kind:
            number_at(kind, old + body, &values[k])
            if not reckon(&values[k], &terms[k]):
                return MM_CONFLICT
        else:
            if terms[k].op == LARGER:
                return MM_CONFLICT
            values[k].tag = T_NULL
        p[0] = <uint8_t>kind_of(&values[k])
        p += 1
        body = next_
        left -= 1
    if left:
        return MM_CONFLICT              # a column younger than the record
    for i in range(<uint64_t>count):
        k = order[i]
        memcpy(p, old + at, starts[k] - at)
        p += starts[k] - at
        at = ends[k]
        if values[k].tag != T_NULL:
            memcpy(p, &values[k].u, 8)
            p += width(kind_of(&values[k]))
    memcpy(p, old + at, oldn - at)
    p += oldn - at
    out.n = p - out.p
    return MM_OK


delta_register(DELTA_RECORD, change_record)


# ---------------------------------------------------------------------------------------------- faces

cdef class Count(Work):
    """Runs UPDATE of one row's counters. keys: what the row's key is compared with, texts: whether that has to be text (else an
    integer); terms: (column, affinity, "+" or "-", expression, whether it takes integers only); ordinary: the Update that does what a
    delta cannot."""

    cdef TableWriter writer
    cdef Update ordinary
    cdef list keys, texts, terms
    cdef Buf locator

    def __cinit__(self, TableWriter writer, Update ordinary, list keys, list texts, list terms):
        self.writer, self.ordinary, self.keys, self.texts, self.terms = writer, ordinary, keys, texts, terms
        buf_init(&self.locator)

    def __dealloc__(self):
        buf_free(&self.locator)

    cdef int64_t go(self) except? -1:
        return 1 if self.counted() else self.ordinary.go()

    cdef int counted(self) except -1:
        cdef TableWriter w = self.writer
        cdef Term[MOST] terms
        cdef Value v
        cdef uint8_t[8] key
        cdef Py_ssize_t i, n = len(self.terms)
        self.locator.n = 0
        for i in range(len(self.keys)):
            (<Expr>self.keys[i]).eval(&v)
            if v.tag != (T_TEXT if self.texts[i] else T_INT):
                return 0
            if w.has_rowid:
                rowid_key(v.u.i, key)
                append(&self.locator, key, 8)
            else:
                key_put(&self.locator, &v, w.primary.collations[i], w.primary.descending[i])
        for i in range(n):
            column, affinity, op, expr, whole = self.terms[i]
            (<Expr>expr).eval(&v)
            if v.tag != T_INT and v.tag != T_REAL:
                return 0
            terms[i].column = column
            terms[i].affinity = affinity
            terms[i].op = PLUS if op == "+" else MINUS
            terms[i].whole = whole
            terms[i].real = v.tag == T_REAL
            terms[i].i = v.u.i if v.tag == T_INT else 0
            terms[i].r = v.u.r if v.tag == T_REAL else 0
        return w.context.transaction.c_delta(w.tree, self.locator.p, self.locator.n, DELTA_RECORD, <uint8_t *>terms,
                                             <uint32_t>(n * sizeof(Term)), 0) == MM_OK


def raise_column(Transaction transaction not None, uint32_t tree, bytes key not None, int column, int64_t value) -> bool:
    """Raise an integer of a row to at least `value`, when the transaction is committed. False: that cannot be a delta."""
    cdef Term t
    t.column = column
    t.affinity = AFF_BLOB
    t.op = LARGER
    t.real = t.whole = 0
    t.i = value
    t.r = 0
    return transaction.c_delta(tree, <const uint8_t *><const char *>key, len(key), DELTA_RECORD, <uint8_t *>&t, sizeof(t), 0) == MM_OK


def unread_items(Transaction transaction not None, uint32_t tree) -> list:
    """All (key, value) of a tree, which are not in the read set: the caller makes sure in another way of what it takes from them."""
    cdef ReadMark before = read_mark(&transaction.reads)
    cdef Cursor cursor = Cursor(transaction, tree)
    cdef int found = cursor.c_first()
    items = []
    while found:
        items.append((cursor.kp[:cursor.kn], cursor.vp[:cursor.vn]))
        found = cursor.c_next()
    read_back(&transaction.reads, before)
    return items
