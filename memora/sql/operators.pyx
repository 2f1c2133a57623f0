"""Operators between the scans and the result: filters, joins, limits, projections, compound queries."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from memora.engine.codec cimport Buf, buf_free, buf_init
from memora.sql.record cimport SlotSource, Source, key_put
from memora.sql.runtime cimport BLOCK, Arena, Context, Expr, Integers, KeyTable, Op, prefetch, tick, ticks
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


cdef class Passing(Op):
    """An operator whose rows are its child's."""

    cdef Op child

    cdef int open(self) except -1:
        return self.child.open()

    cdef int point(self, int i) except -1:
        return self.child.point(i)

    cdef int keep(self, const int32_t *which, int n) except -1:
        return self.child.keep(which, n)

    cdef bint aligned(self, object source) except -1:
        return self.child.aligned(source)


cdef class Gate(Passing):
    """Passes its child through, and ends an outer join's NULL row in a source that no scan resets."""

    cdef Source source

    def __cinit__(self, Op child, Source source):
        self.child, self.source = child, source

    cdef int next(self) except -1:
        self.source.null_row = False
        return self.child.next()

    cdef int block(self) except -1:
        self.source.null_row = False
        return self.child.block()


cdef class Probe(Passing):
    """Passes its child through, and counts for EXPLAIN ANALYZE: loops (how often it was opened), rows, and the nanoseconds spent in
    it and in all below it."""

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

    cdef int block(self) except -1:
        cdef int64_t begin = nanoseconds_now()
        cdef int found = self.child.block()
        self.rows += found
        self.nanoseconds += nanoseconds_now() - begin
        return found


cdef int64_t nanoseconds_now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef class Filter(Passing):
    """The rows for which all conditions are true."""

    cdef list conditions
    cdef Py_ssize_t count
    cdef Expr first

    def __cinit__(self, Op child, list conditions):
        self.child, self.conditions, self.count = child, conditions, len(conditions)
        self.first = conditions[0]

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

    cdef int block(self) except -1:
        cdef int32_t[BLOCK] passed
        cdef Py_ssize_t i
        cdef int n, left
        while True:
            n = self.child.block()
            if n == 0:
                return 0
            for i in range(self.count):
                left = (<Expr>self.conditions[i]).sift(self.child, n, passed)
                if left < n:
                    self.child.keep(passed, left)
                n = left
                if n == 0:
                    break
            else:
                return n


cdef class Precondition(Passing):
    """Conditions that read no row: tested once, when the run begins."""

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

    cdef int block(self) except -1:
        return self.child.block() if self.passed else 0


cdef class NestedLoop(Op):
    """For each row on the left, the rows on the right, which is opened anew and reads the left one. With `outer` a left
    row without a match comes once, the `sources` of the right then being all NULL."""

    cdef Context context
    cdef Op left, right
    cdef bint outer, inside, matched
    cdef list sources
    cdef HashLookup lookup             # the right side, where blocks of left rows can be looked up at once; or None
    cdef int lefts_n, at               # the left side's block, and where in it
    cdef Value *row                    # the right row that comes next for that left one
    cdef Value *found[BLOCK]         # the first right row of each
    cdef int32_t lefts[BLOCK]          # the pairs of a block: the left row's number, and the right row's slots
    cdef Value *rights[BLOCK]
    cdef bint straight                 # each left row of its block is in one pair, in order

    def __cinit__(self, Context context, Op left, Op right, bint outer=False, list sources=None):
        self.context, self.left, self.right, self.outer, self.sources = context, left, right, outer, sources
        self.lookup = right if type(right) is HashLookup else None

    cdef int open(self) except -1:
        self.inside = False
        self.lefts_n = self.at = 0
        self.row = NULL
        return self.left.open()

    cdef int block(self) except -1:
        """Pairs of rows; those of one left row may go on in the next block, but the left rows of a block are of one block."""
        cdef int n = 0
        cdef bint straight = True
        if self.lookup is None:
            return self.next()
        while n < BLOCK:
            if self.at == self.lefts_n:
                if n:
                    break
                self.lefts_n = self.left.block()
                self.at = 0
                if self.lefts_n == 0:
                    return 0
                ticks(self.context, self.lefts_n)
                self.lookup.find_block(self.left, self.lefts_n, self.found)
            if self.row == NULL:
                self.row = self.found[self.at]
                if self.row == NULL and not self.outer:
                    self.at += 1
                    continue
            self.lefts[n] = self.at
            straight = straight and self.at == n
            if self.row == NULL:
                self.rights[n] = NULL
            else:
                self.rights[n] = self.row + 1
                self.row = <Value *>self.row[0].u.p
            if self.row == NULL:
                self.at += 1
            n += 1
        self.straight = straight and n == self.lefts_n
        self.lookup.output.block = self.rights
        return n

    cdef int point(self, int i) except -1:
        if self.lookup is None:
            return 0
        self.lookup.output.slots = self.rights[i]
        self.lookup.output.null_row = self.rights[i] == NULL
        return self.left.point(self.lefts[i])

    cdef int keep(self, const int32_t *which, int n) except -1:
        cdef int i
        for i in range(n):
            self.lefts[i] = self.lefts[which[i]]
            self.rights[i] = self.rights[which[i]]
        self.straight = False
        return 0

    cdef bint aligned(self, object source) except -1:
        if self.lookup is None:
            return False
        return source is self.lookup.output or self.straight and self.left.aligned(source)

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
    cdef bint ready, lone
    cdef uint64_t epoch
    cdef Arena arena
    cdef KeyTable table
    cdef Integers integers             # the first row of each key that is one integer; all others are in `table`
    cdef Value **heads                 # the first row of each key, by its number; slot 0 of a row: the next one, and the last in the first
    cdef int64_t room
    cdef Value *current
    cdef Buf key, scratch

    def __cinit__(self, Context context, Op child, list keys, list probes, list affinities, list collations, list exprs,
                  SlotSource output):
        self.context, self.child, self.keys, self.probes = context, child, keys, probes
        self.affinities, self.collations, self.exprs, self.output = affinities, collations, exprs, output
        self.lone = len(keys) == 1
        self.arena = Arena()
        self.table = KeyTable()
        self.integers = Integers()
        buf_init(&self.key)
        buf_init(&self.scratch)

    def __dealloc__(self):
        free(self.heads)
        buf_free(&self.key)
        buf_free(&self.scratch)

    cdef int encode(self, list exprs, int64_t *integer) except -1:
        """The key of these expressions: 0 if one is NULL, 1 if it is one integer, else 2 and its bytes in `key`."""
        cdef Value v
        cdef Py_ssize_t i
        self.key.n = 0
        for i in range(len(exprs)):
            (<Expr>exprs[i]).eval(&v)
            if v.tag == T_NULL:
                return 0
            compare_affinity(&v, self.affinities[i], &self.scratch)
            if self.lone:
                if v.tag == T_INT:
                    integer[0] = v.u.i
                    return 1
                if v.tag == T_REAL and real_to_integer(v.u.r, integer):
                    return 1
                if v.tag == T_REAL and v.u.r == -9223372036854775808.0:
                    integer[0] = <int64_t>(<uint64_t>1 << 63)
                    return 1
            key_put(&self.key, &v, self.collations[i], False)
        return 2

    cdef Value *find(self, int kind, int64_t integer) noexcept:
        """The first row with the key that encode() told of, or NULL."""
        cdef int64_t at
        if kind == 1:
            at = self.integers.find(integer)
            return NULL if at < 0 else <Value *>at
        if kind == 0 or self.table.count == 0:
            return NULL
        at = self.table.find(self.key.p, self.key.n)
        return NULL if at < 0 else self.heads[at]

    cdef int fill(self) except -1:
        cdef Value v
        cdef Value *row
        cdef Value *head
        cdef Py_ssize_t i, width = len(self.exprs)
        cdef int64_t at, integer = 0
        cdef int kind, k, n
        cdef bint fresh
        cdef void *p
        self.arena.clear()
        self.table.clear()
        self.integers.clear()
        self.child.open()
        while True:
            n = self.child.block()
            if n == 0:
                break
            for k in range(n):
                self.child.point(k)
                kind = self.encode(self.keys, &integer)
                if kind == 0:
                    continue
                row = <Value *>self.arena.take((width + 1) * sizeof(Value))
                row[0].u.p = NULL
                row[0].n = <size_t>row
                head = self.find(kind, integer)
                if head != NULL:
                    (<Value *>head[0].n)[0].u.p = <const uint8_t *>row
                    head[0].n = <size_t>row
                elif kind == 1:
                    self.integers.learn(integer, <int64_t>row)
                else:
                    at = self.table.insert(self.key.p, self.key.n, &fresh)
                    if at >= self.room:
                        self.room = at * 2 + 64
                        p = realloc(self.heads, self.room * sizeof(Value *))
                        if p == NULL:
                            raise MemoryError(f"no memory for {self.room} keys of a join")
                        self.heads = <Value **>p
                    self.heads[at] = row
                for i in range(width):
                    (<Expr>self.exprs[i]).eval(&v)
                    self.arena.keep_value(&v, &row[i + 1])
        self.integers.settle()
        self.ready = True
        self.epoch = self.context.epoch
        return 0

    cdef int open(self) except -1:
        cdef int64_t integer = 0
        if not self.ready or self.epoch != self.context.epoch:
            self.fill()
        self.current = self.find(self.encode(self.probes, &integer), integer)
        return 0

    cdef int find_block(self, Op left, int n, Value **found) except -1:
        """The first row for each row of the left side's block, or NULL. What the look-ups need from memory is asked for beforehand."""
        cdef Value[BLOCK] values
        cdef int i
        if not self.ready or self.epoch != self.context.epoch:
            self.fill()
        if not self.lone or self.affinities[0] == AFF_TEXT or not (<Expr>self.probes[0]).gather(left, n, values):
            for i in range(n):
                left.point(i)
                self.open()
                found[i] = self.current
            return 0
        for i in range(n):
            if values[i].tag == T_INT:
                self.integers.ask(values[i].u.i)
        for i in range(n):
            if values[i].tag == T_INT:
                found[i] = self.find(1, values[i].u.i)
                prefetch(found[i])
            else:
                left.point(i)
                self.open()
                found[i] = self.current
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
