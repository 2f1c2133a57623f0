"""Operators between the scans and the result: filters, joins, limits, projections, compound queries."""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from memora.engine.codec cimport Buf, buf_free, buf_init
from memora.sql.record cimport SlotSource, Source, key_put
from memora.sql.runtime cimport Arena, Context, Expr, Integers, KeyTable, Op, tick
from memora.sql.types cimport (
    AFF_TEXT, T_INT, T_NULL, T_REAL, T_TEXT, Value, compare_affinity, real_to_integer, set_int, to_number)

from memora.errors import IntegrityError


cdef class ExprSource(Source):
    """The result columns of a query in FROM, evaluated when they are read."""

    cdef list exprs

    def __cinit__(self, list exprs):
        self.exprs = exprs

    cdef int column(self, int i, Value *out) except -1:
        if self.null_row or i < 0:
            out.tag = T_NULL
            return 0
        return (<Expr>self.exprs[i]).eval(out)


cdef class Gate(Op):
    """Passes its child through, and ends an outer join's NULL row in a source that no scan resets."""

    cdef Op child
    cdef Source source

    def __cinit__(self, Op child, Source source):
        self.child, self.source = child, source

    cdef int open(self) except -1:
        return self.child.open()

    cdef int next(self) except -1:
        self.source.null_row = False
        return self.child.next()


cdef class Probe(Op):
    """Passes its child through, and counts for EXPLAIN ANALYZE: loops (how often it was opened), rows, and the nanoseconds spent in
    it and in all below it."""

    cdef Op child
    cdef readonly int64_t loops, rows, nanoseconds

    def __cinit__(self, Op child):
        self.child = child

    cdef int open(self) except -1:
        cdef int64_t begin = nanoseconds_now()
        self.loops += 1
        self.child.open()
        self.nanoseconds += nanoseconds_now() - begin
        return 0

    cdef int next(self) except -1:
        cdef int64_t begin = nanoseconds_now()
        cdef int found = self.child.next()
        self.rows += found
        self.nanoseconds += nanoseconds_now() - begin
        return found


cdef int64_t nanoseconds_now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef class Filter(Op):
    """The rows for which all conditions are true."""

    cdef Op child
    cdef list conditions
    cdef Py_ssize_t count
    cdef Expr first

    def __cinit__(self, Op child, list conditions):
        self.child, self.conditions, self.count = child, conditions, len(conditions)
        self.first = conditions[0]

    cdef int open(self) except -1:
        return self.child.open()

    cdef int next(self) except -1:
        cdef Py_ssize_t i
        cdef Op child = self.child
        cdef Expr first = self.first
        while child.next():
            if first.test() != 1:
                continue
            for i in range(1, self.count):
                if (<Expr>self.conditions[i]).test() != 1:
                    break
            else:
                return 1
        return 0


cdef class Precondition(Op):
    """Conditions that read no row: tested once, when the run begins."""

    cdef Op child
    cdef list conditions
    cdef bint passed

    def __cinit__(self, Op child, list conditions):
        self.child, self.conditions = child, conditions

    cdef int open(self) except -1:
        cdef Py_ssize_t i
        self.passed = False
        for i in range(len(self.conditions)):
            if (<Expr>self.conditions[i]).test() != 1:
                return 0
        self.passed = True
        return self.child.open()

    cdef int next(self) except -1:
        return self.child.next() if self.passed else 0


cdef class NestedLoop(Op):
    """For each row on the left, the rows on the right, which is opened anew and reads the left one. With `outer` a left
    row without a match comes once, the `sources` of the right then being all NULL."""

    cdef Context context
    cdef Op left, right
    cdef bint outer, inside, matched
    cdef list sources

    def __cinit__(self, Context context, Op left, Op right, bint outer=False, list sources=None):
        self.context, self.left, self.right, self.outer, self.sources = context, left, right, outer, sources

    cdef int open(self) except -1:
        self.inside = False
        return self.left.open()

    cdef int next(self) except -1:
        cdef Py_ssize_t i
        while True:
            if not self.inside:
                if not self.left.next():
                    return 0
                if self.outer:
                    for i in range(len(self.sources)):
                        (<Source>self.sources[i]).null_row = False
                self.right.open()
                self.inside = True
                self.matched = False
            tick(self.context)
            if self.right.next():
                self.matched = True
                return 1
            self.inside = False
            if self.outer and not self.matched:
                for i in range(len(self.sources)):
                    (<Source>self.sources[i]).null_row = True
                return 1


cdef class FullJoin(Op):
    """RIGHT and FULL joins. The right side's rows are kept; those that matched no left row come at the end, the left
    sources being all NULL. `keep` are the right side's columns, read from `output` afterwards; `full` also gives left rows
    without a match."""

    cdef Op left, right
    cdef list keep, conditions, left_sources
    cdef SlotSource output
    cdef bint full, matched
    cdef Arena arena
    cdef Value **rows
    cdef uint8_t *hit
    cdef int64_t count, room, at
    cdef int state

    def __cinit__(self, Op left, Op right, list keep, SlotSource output, list conditions, list left_sources, bint full):
        self.left, self.right, self.keep, self.output = left, right, keep, output
        self.conditions, self.left_sources, self.full = conditions, left_sources, full
        self.arena = Arena()

    def __dealloc__(self):
        free(self.rows)
        free(self.hit)

    cdef int fill(self) except -1:
        cdef Value v
        cdef Value *row
        cdef Py_ssize_t i, width = len(self.keep)
        cdef void *p
        self.arena.clear()
        self.count = 0
        self.right.open()
        while self.right.next():
            if self.count == self.room:
                self.room = self.room * 2 + 64
                p = realloc(self.rows, self.room * sizeof(Value *))
                if p == NULL:
                    raise MemoryError()
                self.rows = <Value **>p
            row = <Value *>self.arena.take((width + 1) * sizeof(Value))
            for i in range(width):
                (<Expr>self.keep[i]).eval(&v)
                self.arena.keep_value(&v, &row[i])
            self.rows[self.count] = row
            self.count += 1
        free(self.hit)
        self.hit = <uint8_t *>calloc(self.count + 1, 1)
        if self.hit == NULL:
            raise MemoryError()
        return 0

    cdef int nulls(self, bint value) except -1:
        cdef Py_ssize_t i
        for i in range(len(self.left_sources)):
            (<Source>self.left_sources[i]).null_row = value
        return 0

    cdef int open(self) except -1:
        self.nulls(False)
        self.fill()
        self.left.open()
        self.state = 0
        return 0

    cdef int next(self) except -1:
        cdef Py_ssize_t i
        while True:
            if self.state == 0:
                if not self.left.next():
                    self.state = 2
                    self.at = 0
                    self.nulls(True)
                    continue
                self.state = 1
                self.at = 0
                self.matched = False
            if self.state == 1:
                self.output.null_row = False
                while self.at < self.count:
                    self.output.slots = self.rows[self.at]
                    self.at += 1
                    for i in range(len(self.conditions)):
                        if (<Expr>self.conditions[i]).test() != 1:
                            break
                    else:
                        self.hit[self.at - 1] = 1
                        self.matched = True
                        return 1
                self.state = 0
                if self.full and not self.matched:
                    self.output.null_row = True
                    return 1
                continue
            self.output.null_row = False
            while self.at < self.count:
                self.at += 1
                if not self.hit[self.at - 1]:
                    self.output.slots = self.rows[self.at - 1]
                    return 1
            return 0


cdef class Limit(Op):
    """Skips `offset` rows and ends after `limit`; either may be None. A negative limit is none."""

    cdef Op child
    cdef Expr limit, offset
    cdef int64_t left, skip

    def __cinit__(self, Op child, Expr limit, Expr offset):
        self.child, self.limit, self.offset = child, limit, offset

    cdef int open(self) except -1:
        self.left = limit_value(self.limit, -1)
        self.skip = limit_value(self.offset, 0)
        if self.left == 0:
            return 0
        return self.child.open()

    cdef int next(self) except -1:
        if self.left == 0:
            return 0
        while self.skip > 0:
            self.skip -= 1
            if not self.child.next():
                self.left = 0
                return 0
        if not self.child.next():
            self.left = 0
            return 0
        if self.left > 0:
            self.left -= 1
        return 1


cdef int64_t limit_value(Expr e, int64_t otherwise) except? -2:
    cdef Value v, number
    cdef int64_t i = 0
    if e is None:
        return otherwise
    e.eval(&v)
    number.tag = T_NULL
    if v.tag <= T_TEXT:
        compare_affinity(&v, 2, NULL)
        number = v
    if number.tag == T_REAL and real_to_integer(number.u.r, &i):
        set_int(&number, i)
    if number.tag != T_INT:
        raise IntegrityError("datatype mismatch")
    return number.u.i if number.u.i >= 0 else otherwise


# --- kept rows ---------------------------------------------------------------------------------------------------

cdef class Materialize(Op):
    """Runs its child once an execution (each time, if `correlated`), keeps the values of `exprs`, and gives them out
    from memory as often as it is opened."""

    cdef Context context
    cdef Op child
    cdef list exprs
    cdef SlotSource output
    cdef bint correlated, ready
    cdef uint64_t epoch
    cdef Arena arena
    cdef Value **rows
    cdef int64_t count, room, at

    def __cinit__(self, Context context, Op child, list exprs, SlotSource output, bint correlated):
        self.context, self.child, self.exprs = context, child, exprs
        self.output, self.correlated = output, correlated
        self.arena = Arena()

    def __dealloc__(self):
        free(self.rows)

    cdef int fill(self) except -1:
        cdef Value v
        cdef Value *row
        cdef Py_ssize_t i, width = len(self.exprs)
        cdef void *p
        self.arena.clear()
        self.count = 0
        self.child.open()
        while self.child.next():
            if self.count == self.room:
                self.room = self.room * 2 + 16
                p = realloc(self.rows, self.room * sizeof(Value *))
                if p == NULL:
                    raise MemoryError()
                self.rows = <Value **>p
            row = <Value *>self.arena.take((width + 1) * sizeof(Value))
            for i in range(width):
                (<Expr>self.exprs[i]).eval(&v)
                self.arena.keep_value(&v, &row[i])
            self.rows[self.count] = row
            self.count += 1
        self.ready = True
        self.epoch = self.context.epoch
        return 0

    cdef int open(self) except -1:
        if self.correlated or not self.ready or self.epoch != self.context.epoch:
            self.fill()
        self.at = 0
        return 0

    cdef int next(self) except -1:
        if self.at >= self.count:
            return 0
        self.output.slots = self.rows[self.at]
        self.output.null_row = False
        self.at += 1
        return 1

    cdef int close(self) except -1:
        self.arena.clear()
        self.count = 0
        self.ready = False
        return 0


cdef class HashLookup(Op):
    """An index made for one execution: the child's rows by the values of `keys`; `open` looks up `probes`.

    affinities, collations: of each pair, as its comparison has them; exprs: the columns that are kept for `output`.
    """

    cdef Context context
    cdef Op child
    cdef list keys, probes, exprs, affinities, collations
    cdef SlotSource output
    cdef bint ready
    cdef uint64_t epoch
    cdef Arena arena
    cdef KeyTable table
    cdef Integers integers             # where there is one key
    cdef bint whole                    # all keys are integers: what is not in `integers` is not there
    cdef Value **heads                 # by key number: newest first; slot 0 of a row links to the next one
    cdef int64_t room
    cdef Value *current
    cdef Buf key, scratch

    def __cinit__(self, Context context, Op child, list keys, list probes, list affinities, list collations, list exprs,
                  SlotSource output):
        self.context, self.child, self.keys, self.probes = context, child, keys, probes
        self.affinities, self.collations, self.exprs, self.output = affinities, collations, exprs, output
        self.arena = Arena()
        self.table = KeyTable()
        self.integers = Integers()
        buf_init(&self.key)
        buf_init(&self.scratch)

    def __dealloc__(self):
        free(self.heads)
        buf_free(&self.key)
        buf_free(&self.scratch)

    cdef int encode(self, list exprs, Value *last) except -1:
        """The key of these expressions; 0 if one is NULL. last: the last value as it was converted."""
        cdef Value v
        cdef Py_ssize_t i
        self.key.n = 0
        for i in range(len(exprs)):
            (<Expr>exprs[i]).eval(&v)
            if v.tag == T_NULL:
                return 0
            compare_affinity(&v, self.affinities[i], &self.scratch)
            key_put(&self.key, &v, self.collations[i], False)
        last[0] = v
        return 1

    cdef int fill(self) except -1:
        cdef Value v
        cdef Value *row
        cdef Value **tails = NULL
        cdef Py_ssize_t i, width = len(self.exprs)
        cdef int64_t at
        cdef bint fresh
        cdef void *p
        self.arena.clear()
        self.table.clear()
        self.integers.clear()
        self.whole = len(self.keys) == 1 and self.affinities[0] != AFF_TEXT
        self.child.open()
        try:
            while self.child.next():
                if not self.encode(self.keys, &v):
                    continue
                at = self.table.insert(self.key.p, self.key.n, &fresh)
                if v.tag != T_INT:
                    self.whole = False
                elif fresh and self.whole:
                    self.integers.learn(v.u.i, at)
                if at >= self.room or tails == NULL:
                    self.room = max(self.room, at * 2 + 64)
                    p = realloc(self.heads, self.room * sizeof(Value *))
                    if p == NULL:
                        raise MemoryError()
                    self.heads = <Value **>p
                    p = realloc(tails, self.room * sizeof(Value *))
                    if p == NULL:
                        raise MemoryError()
                    tails = <Value **>p
                row = <Value *>self.arena.take((width + 1) * sizeof(Value))
                row[0].u.p = NULL
                for i in range(width):
                    (<Expr>self.exprs[i]).eval(&v)
                    self.arena.keep_value(&v, &row[i + 1])
                if fresh:
                    self.heads[at] = row
                else:
                    tails[at][0].u.p = <const uint8_t *>row
                tails[at] = row
        finally:
            free(tails)
        self.ready = True
        self.epoch = self.context.epoch
        return 0

    cdef int open(self) except -1:
        cdef int64_t at = -1
        cdef Value v
        if not self.ready or self.epoch != self.context.epoch:
            self.fill()
        self.current = NULL
        if self.whole:
            (<Expr>self.probes[0]).eval(&v)
            if v.tag == T_INT:
                at = self.integers.find(v.u.i)
                if at >= 0:
                    self.current = self.heads[at]
                return 0
        if self.table.count and self.encode(self.probes, &v):
            at = self.table.find(self.key.p, self.key.n)
        if at >= 0:
            self.current = self.heads[at]
        return 0

    cdef int next(self) except -1:
        cdef Value *row = self.current
        if row == NULL:
            return 0
        self.output.slots = row + 1
        self.output.null_row = False
        self.current = <Value *>row[0].u.p
        return 1

    cdef int close(self) except -1:
        self.integers.clear()
        self.arena.clear()
        self.table.clear()
        self.ready = False
        return 0
