"""Operators on sets of rows: DISTINCT, projections, compound queries, recursive common tables."""
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, realloc

from memora.engine.codec cimport Buf, buf_free, buf_init
from memora.sql.record cimport SlotSource, key_put
from memora.sql.runtime cimport Arena, Context, Expr, KeyTable, Op, SortItem, make_item, sort_items, tick
from memora.sql.types cimport Value


cdef class Distinct(Op):
    """The first row of each kind, compared by all `exprs`."""

    cdef Op child
    cdef list exprs, collations
    cdef KeyTable table
    cdef Buf key

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

    cdef Op child
    cdef list exprs
    cdef SlotSource output
    cdef Value *values

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

    cdef list arms, exprs
    cdef SlotSource output
    cdef Value *values
    cdef Py_ssize_t at
    cdef bint opened
    cdef int width

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

    cdef Op left, right
    cdef list left_exprs, right_exprs, collations
    cdef SlotSource output
    cdef int operator, width
    cdef Arena arena
    cdef KeyTable table, other
    cdef SortItem *items
    cdef int64_t room, count, at
    cdef Buf key

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
        sort_items(self.items, self.count, self.watched)
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

    cdef Context context
    cdef Op first
    cdef list steps, first_exprs, step_exprs, collations
    cdef SlotSource output, feedback
    cdef bint distinct, stepping
    cdef Arena arena
    cdef KeyTable table
    cdef Value **queue
    cdef int64_t room, count, at
    cdef int width
    cdef Buf key

    def __cinit__(self, Context context, Op first, list first_exprs, list steps, list step_exprs, SlotSource output, SlotSource feedback,
                  bint distinct, list collations):
        self.context = context
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
        tick(self.context)
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

    cdef bint done

    cdef int open(self) except -1:
        self.done = False
        return 0

    cdef int next(self) except -1:
        if self.done:
            return 0
        self.done = True
        return 1
