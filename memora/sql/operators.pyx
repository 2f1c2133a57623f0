"""Operators between the scans and the result: filters, joins, limits, projections, compound queries."""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc

from memora.engine.codec cimport Buf, buf_free, buf_init
from memora.sql.record cimport SlotSource, Source, key_put
from memora.sql.runtime cimport Arena, Context, Expr, KeyTable, Op, SortItem, make_item, sort_items
from memora.sql.types cimport (
    T_INT, T_NULL, T_REAL, T_TEXT, Value, compare_affinity, real_to_integer, set_int, to_number)

from memora.errors import IntegrityError


cdef class ExprSource(Source):
    """The result columns of a query in FROM, evaluated when they are read."""

    def __cinit__(self, list exprs):
        self.exprs = exprs

    cdef int column(self, int i, Value *out) except -1:
        if self.null_row or i < 0:
            out.tag = T_NULL
            return 0
        return (<Expr>self.exprs[i]).eval(out)


cdef class Gate(Op):
    """Passes its child through, and ends an outer join's NULL row in a source that no scan resets."""

    def __cinit__(self, Op child, Source source):
        self.child, self.source = child, source

    cdef int open(self) except -1:
        return self.child.open()

    cdef int next(self) except -1:
        self.source.null_row = False
        return self.child.next()


cdef class Filter(Op):
    """The rows for which all conditions are true."""

    def __cinit__(self, Op child, list conditions):
        self.child, self.conditions, self.count = child, conditions, len(conditions)

    cdef int open(self) except -1:
        return self.child.open()

    cdef int next(self) except -1:
        cdef Py_ssize_t i
        while self.child.next():
            for i in range(self.count):
                if (<Expr>self.conditions[i]).test() != 1:
                    break
            else:
                return 1
        return 0


cdef class Precondition(Op):
    """Conditions that read no row: tested once, when the run begins."""

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

    def __cinit__(self, Op left, Op right, bint outer=False, list sources=None):
        self.left, self.right, self.outer, self.sources = left, right, outer, sources

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

    def __cinit__(self, Context context, Op child, list keys, list probes, list affinities, list collations, list exprs,
                  SlotSource output):
        self.context, self.child, self.keys, self.probes = context, child, keys, probes
        self.affinities, self.collations, self.exprs, self.output = affinities, collations, exprs, output
        self.arena = Arena()
        self.table = KeyTable()
        buf_init(&self.key)
        buf_init(&self.scratch)

    def __dealloc__(self):
        free(self.heads)
        buf_free(&self.key)
        buf_free(&self.scratch)

    cdef int encode(self, list exprs) except -1:
        cdef Value v
        cdef Py_ssize_t i
        self.key.n = 0
        for i in range(len(exprs)):
            (<Expr>exprs[i]).eval(&v)
            if v.tag == T_NULL:
                return 0
            compare_affinity(&v, self.affinities[i], &self.scratch)
            key_put(&self.key, &v, self.collations[i], False)
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
        self.child.open()
        try:
            while self.child.next():
                if not self.encode(self.keys):
                    continue
                at = self.table.insert(self.key.p, self.key.n, &fresh)
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
        if not self.ready or self.epoch != self.context.epoch:
            self.fill()
        self.current = NULL
        if self.table.count and self.encode(self.probes):
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
        self.arena.clear()
        self.table.clear()
        self.ready = False
        return 0


# --- sets --------------------------------------------------------------------------------------------------------

cdef class Distinct(Op):
    """The first row of each kind, compared by all `exprs`."""

    def __cinit__(self, Op child, list exprs, list collations):
        self.child, self.exprs, self.collations = child, exprs, collations
        self.table = KeyTable()
        buf_init(&self.key)

    def __dealloc__(self):
        buf_free(&self.key)

    cdef int open(self) except -1:
        self.table.clear()
        return self.child.open()

    cdef int next(self) except -1:
        cdef Value v
        cdef Py_ssize_t i
        cdef bint fresh
        while self.child.next():
            self.key.n = 0
            for i in range(len(self.exprs)):
                (<Expr>self.exprs[i]).eval(&v)
                key_put(&self.key, &v, self.collations[i], False)
            self.table.insert(self.key.p, self.key.n, &fresh)
            if fresh:
                return 1
        return 0

    cdef int close(self) except -1:
        self.table.clear()
        return 0


cdef class Project(Op):
    """Evaluates expressions once a row into slots, for operators that read them more than once."""

    def __cinit__(self, Op child, list exprs, SlotSource output):
        self.child, self.exprs, self.output = child, exprs, output
        self.values = <Value *>calloc(len(exprs) + 1, sizeof(Value))
        if self.values == NULL:
            raise MemoryError()
        output.slots = self.values

    def __dealloc__(self):
        free(self.values)

    cdef int open(self) except -1:
        return self.child.open()

    cdef int next(self) except -1:
        cdef Py_ssize_t i
        if not self.child.next():
            return 0
        for i in range(len(self.exprs)):
            (<Expr>self.exprs[i]).eval(&self.values[i])
        return 1


cdef class Concatenate(Op):
    """UNION ALL: the rows of each arm, one arm after the other, in the slots of `output`."""

    def __cinit__(self, list arms, list exprs, SlotSource output, int width):
        self.arms, self.exprs, self.output, self.width = arms, exprs, output, width
        self.values = <Value *>calloc(width + 1, sizeof(Value))
        if self.values == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.values)

    cdef int open(self) except -1:
        self.at = 0
        self.opened = False
        self.output.slots = self.values
        return 0

    cdef int next(self) except -1:
        cdef list exprs
        cdef int i
        while self.at < len(self.arms):
            if not self.opened:
                (<Op>self.arms[self.at]).open()
                self.opened = True
            if (<Op>self.arms[self.at]).next():
                exprs = self.exprs[self.at]
                self.output.null_row = False
                for i in range(self.width):
                    (<Expr>exprs[i]).eval(&self.values[i])
                return 1
            self.at += 1
            self.opened = False
        return 0


cdef enum:
    SET_UNION, SET_INTERSECT, SET_EXCEPT

SET_OPERATORS = {"UNION": SET_UNION, "INTERSECT": SET_INTERSECT, "EXCEPT": SET_EXCEPT}


cdef class SetOperation(Op):
    """UNION, INTERSECT and EXCEPT of two arms; distinct rows, in the order of their columns, as SQLite gives them."""

    def __cinit__(self, int operator, Op left, list left_exprs, Op right, list right_exprs, list collations,
                  SlotSource output):
        self.operator, self.left, self.left_exprs = operator, left, left_exprs
        self.right, self.right_exprs, self.collations, self.output = right, right_exprs, collations, output
        self.width = <int>len(collations)
        self.arena = Arena()
        self.table = KeyTable()
        self.other = KeyTable()
        buf_init(&self.key)

    def __dealloc__(self):
        buf_free(&self.key)
        free(self.items)

    cdef int encode(self, list exprs, Value *row) except -1:
        cdef int i
        self.key.n = 0
        for i in range(self.width):
            (<Expr>exprs[i]).eval(&row[i])
            key_put(&self.key, &row[i], self.collations[i], False)
        return 0

    cdef int add(self, Op op, list exprs, bint wanted, bint check) except -1:
        """Adds an arm's rows; with `check` only those whose being in `other` is as `wanted`."""
        cdef Value *row = <Value *>calloc(self.width + 1, sizeof(Value))
        cdef Value *kept
        cdef bint fresh
        cdef int i
        cdef void *p
        if row == NULL:
            raise MemoryError()
        try:
            op.open()
            while op.next():
                self.encode(exprs, row)
                if check and (self.other.find(self.key.p, self.key.n) >= 0) != wanted:
                    continue
                self.table.insert(self.key.p, self.key.n, &fresh)
                if not fresh:
                    continue
                if self.count == self.room:
                    self.room = self.room * 2 + 64
                    p = realloc(self.items, self.room * sizeof(SortItem))
                    if p == NULL:
                        raise MemoryError()
                    self.items = <SortItem *>p
                kept = <Value *>self.arena.take((self.width + 1) * sizeof(Value))
                for i in range(self.width):
                    self.arena.keep_value(&row[i], &kept[i])
                self.items[self.count].row = kept
                self.count += 1
        finally:
            free(row)
        return 0

    cdef int remember(self) except -1:
        """Puts the right arm's keys into `other`."""
        cdef Value *row = <Value *>calloc(self.width + 1, sizeof(Value))
        cdef bint fresh
        if row == NULL:
            raise MemoryError()
        try:
            self.right.open()
            while self.right.next():
                self.encode(self.right_exprs, row)
                self.other.insert(self.key.p, self.key.n, &fresh)
        finally:
            free(row)
        return 0

    cdef int open(self) except -1:
        cdef int64_t i
        cdef Value *row
        self.close()
        if self.operator == SET_UNION:
            self.add(self.left, self.left_exprs, False, False)
            self.add(self.right, self.right_exprs, False, False)
        else:
            self.remember()
            self.add(self.left, self.left_exprs, self.operator == SET_INTERSECT, True)
        for i in range(self.count):
            make_item(&self.items[i], self.table.bytes.p + self.table.entries[i].offset, self.table.entries[i].n,
                      self.items[i].row)
        sort_items(self.items, self.count)
        self.at = 0
        return 0

    cdef int next(self) except -1:
        if self.at >= self.count:
            return 0
        self.output.slots = <Value *>self.items[self.at].row
        self.output.null_row = False
        self.at += 1
        return 1

    cdef int close(self) except -1:
        self.table.clear()
        self.other.clear()
        self.arena.clear()
        self.count = 0
        return 0


cdef class Recursive(Op):
    """A recursive common table: the first arm's rows, then those that the steps make of each, until none is new.

    `output` is what readers of the whole see, `feedback` the row that the steps read; `distinct` is UNION.
    """

    def __cinit__(self, Op first, list first_exprs, list steps, list step_exprs, SlotSource output, SlotSource feedback,
                  bint distinct, list collations):
        self.first, self.first_exprs, self.steps, self.step_exprs = first, first_exprs, steps, step_exprs
        self.output, self.feedback, self.distinct, self.collations = output, feedback, distinct, collations
        self.width = <int>len(collations)
        self.arena = Arena()
        self.table = KeyTable()
        buf_init(&self.key)

    def __dealloc__(self):
        buf_free(&self.key)
        free(self.queue)

    cdef int add(self, list exprs) except -1:
        cdef int i
        cdef Value v
        cdef Value *row
        cdef bint fresh
        cdef void *p
        if self.distinct:
            self.key.n = 0
            for i in range(self.width):
                (<Expr>exprs[i]).eval(&v)
                key_put(&self.key, &v, self.collations[i], False)
            self.table.insert(self.key.p, self.key.n, &fresh)
            if not fresh:
                return 0
        if self.count == self.room:
            self.room = self.room * 2 + 64
            p = realloc(self.queue, self.room * sizeof(Value *))
            if p == NULL:
                raise MemoryError()
            self.queue = <Value **>p
        row = <Value *>self.arena.take((self.width + 1) * sizeof(Value))
        for i in range(self.width):
            (<Expr>exprs[i]).eval(&v)
            self.arena.keep_value(&v, &row[i])
        self.queue[self.count] = row
        self.count += 1
        return 0

    cdef int open(self) except -1:
        self.close()
        self.first.open()
        while self.first.next():
            self.add(self.first_exprs)
        self.at = 0
        return 0

    cdef int next(self) except -1:
        cdef Py_ssize_t i
        cdef Op step
        # A row is expanded only when the one after it is asked for, so that LIMIT ends an endless recursion.
        if self.at and self.at <= self.count:
            self.feedback.slots = self.queue[self.at - 1]
            self.feedback.null_row = False
            for i in range(len(self.steps)):
                step = self.steps[i]
                step.open()
                while step.next():
                    self.add(self.step_exprs[i])
        if self.at >= self.count:
            self.at = self.count + 1
            return 0
        self.output.slots = self.queue[self.at]
        self.output.null_row = False
        self.at += 1
        return 1

    cdef int close(self) except -1:
        self.table.clear()
        self.arena.clear()
        self.count = 0
        return 0


cdef class Once(Op):
    """One row, whose values somebody else put into a source: the feedback of a recursion."""

    cdef int open(self) except -1:
        self.done = False
        return 0

    cdef int next(self) except -1:
        if self.done:
            return 0
        self.done = True
        return 1
