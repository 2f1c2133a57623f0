"""What INSERT, UPDATE and DELETE do: all rows of a statement, through the writer of its table.

UPDATE and DELETE collect the keys of their rows before they change the first one: cursors do not outlive a write, and no row may be met
twice. A row that is gone when its turn comes (a trigger may have deleted it) is passed over.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, realloc

from memora.engine.codec cimport Buf, buf_free, buf_init
from memora.engine.cursor cimport Cursor
from memora.sql.effects cimport Effects
from memora.sql.record cimport SlotSource, key_put, rowid_key
from memora.sql.runtime cimport Arena, Expr, Op, Work, tick
from memora.sql.types cimport (
    AFF_INTEGER, T_INT, T_NULL, T_REAL, T_TEXT, Value, append, compare_affinity, real_to_integer, set_int, to_python)
from memora.sql.writer cimport ABORT, UPSERT, IndexWriter, TableWriter

from memora.errors import CorruptionError, IntegrityError

from .conflicts import ACTIONS


cdef object result_row(list exprs):
    cdef Value v
    cdef Py_ssize_t i
    row = []
    for i in range(len(exprs)):
        (<Expr>exprs[i]).eval(&v)
        row.append(to_python(&v))
    return tuple(row)


cdef class Insert(Work):
    """Runs INSERT. sources: for each column of the table an Expr; rowid: an Expr where the statement names the rowid itself;
    returning: result expressions over the new row; upsert: an Upsert or None."""

    cdef Op op
    cdef TableWriter writer
    cdef list sources, returning
    cdef Expr rowid
    cdef int action
    cdef Upsert upsert

    def __cinit__(self, Op op, TableWriter writer, list sources, Expr rowid, action, list returning, Upsert upsert):
        self.op, self.writer, self.sources, self.rowid, self.returning = op, writer, sources, rowid, returning
        self.action, self.upsert = ACTIONS[action], upsert

    cdef int64_t go(self) except? -1:
        cdef TableWriter w = self.writer
        cdef int i, done, action
        cdef bint given
        cdef Value v
        self.inserted = False
        w.written = 0
        self.returned = [] if self.returning is not None else None
        action = UPSERT if self.upsert is not None else self.action
        w.otherwise = self.action
        if w.sequence is not None and w.watch is None:
            w.sequence.begin(w.context.transaction)
        self.op.open()
        while self.op.next():
            given = False
            for i in range(w.columns):
                (<Expr>self.sources[i]).eval(&w.values[i])
            if self.rowid is not None:
                self.rowid.eval(&v)
                compare_affinity(&v, AFF_INTEGER, NULL)
                if v.tag == T_REAL and real_to_integer(v.u.r, &w.new.rowid):
                    set_int(&v, w.new.rowid)
                if v.tag != T_NULL:
                    if v.tag != T_INT:
                        raise IntegrityError("datatype mismatch")
                    w.new.rowid = v.u.i
                    given = True
            done = w.insert(action, given)
            if done == 2:
                w.unused()
                done = self.upsert.run(w)
            elif done:
                self.inserted = True
            if not done:
                w.unused()
            elif self.returned is not None:
                self.returned.append(result_row(self.returning))
        if w.sequence is not None and w.watch is None:
            w.sequence.end(w.context.transaction)
        return w.written


cdef class Upsert:
    """ON CONFLICT: targets is the list of positions in writer.indexes that it names (-1 the row's own key), None for any;
    assignments: {column: Expr} over the old row and `excluded`, or None for DO NOTHING; other: the next clause, or None."""

    cdef list targets, columns, exprs
    cdef Expr where
    cdef public Upsert other
    cdef SlotSource excluded
    cdef Value *values
    cdef Buf *scratch
    cdef int width
    cdef Effects effects               # of the update

    def __cinit__(self, list targets, list columns, list exprs, Expr where, SlotSource excluded, int width, Effects effects=None):
        self.effects = effects
        self.targets, self.columns, self.exprs, self.where = targets, columns, exprs, where
        self.excluded, self.width = excluded, width
        self.values = <Value *>calloc(width + 1, sizeof(Value))
        self.scratch = <Buf *>calloc(width + 1, sizeof(Buf))
        if self.values == NULL or self.scratch == NULL:
            raise MemoryError()
        if excluded is not None:
            excluded.slots = self.values

    def __dealloc__(self):
        cdef int i
        if self.scratch != NULL:
            for i in range(self.width):
                buf_free(&self.scratch[i])
        free(self.scratch)
        free(self.values)

    cdef int run(self, TableWriter w) except -1:
        cdef bytes locator = w.conflict_row
        cdef Py_ssize_t i
        cdef int k
        if self.targets is not None and w.conflict_index not in self.targets:
            if self.other is not None:
                return self.other.run(w)
            raise IntegrityError(w.unique_error(None if w.conflict_index < 0 else w.indexes[w.conflict_index]))
        if self.exprs is None:
            return 0
        # the row that could not be inserted is `excluded`, its text must outlive the writer's buffers
        for k in range(w.columns):
            self.values[k] = w.values[k]
            if k == w.rowid_column:
                set_int(&self.values[k], w.new.rowid)
            if self.values[k].tag >= T_TEXT:
                self.scratch[k].n = 0
                append(&self.scratch[k], w.values[k].u.p, w.values[k].n)
                self.values[k].u.p = self.scratch[k].p
        if not w.load_old(<const uint8_t *><const char *>locator, len(locator)):
            raise CorruptionError(f"an index of {w.table} names a row that does not exist")
        if self.where is not None and self.where.test() != 1:
            return 0
        for k in range(w.columns):
            w.old.column(k, &w.values[k])
        w.numbered = -1 in self.columns
        for i in range(len(self.columns)):
            c = self.columns[i]
            (<Expr>self.exprs[i]).eval(&w.values[w.columns if c < 0 else c])
        w.updating = self.effects
        return w.update(ABORT)


cdef class Change(Work):
    """The first pass of UPDATE and DELETE: collects the locators of the rows of a plan, each once. keys: the rowid, or the
    primary key's columns; stored: expressions to keep with each row (UPDATE FROM)."""

    def __cinit__(self, Op op, TableWriter writer, list keys, list stored):
        self.op, self.writer, self.keys, self.stored = op, writer, keys, stored
        self.arena = Arena()
        buf_init(&self.locators)

    def __dealloc__(self):
        buf_free(&self.locators)
        free(self.ends)
        free(self.rows)

    cdef int collect(self) except -1:
        cdef Value v
        cdef Value *row
        cdef uint8_t[8] key
        cdef size_t start
        cdef Py_ssize_t i
        cdef void *p
        cdef TableWriter w = self.writer
        self.locators.n = 0
        self.found = 0
        self.arena.clear()
        self.seen = set() if self.stored is not None else None
        self.op.open()
        while self.op.next():
            start = self.locators.n
            if w.has_rowid:
                (<Expr>self.keys[0]).eval(&v)
                rowid_key(v.u.i, key)
                append(&self.locators, key, 8)
            else:
                for i in range(len(self.keys)):
                    (<Expr>self.keys[i]).eval(&v)
                    key_put(&self.locators, &v, w.primary.collations[i], w.primary.descending[i])
            if self.found == self.room:
                self.room = self.room * 2 + 16
                p = realloc(self.ends, self.room * sizeof(size_t))
                if p == NULL:
                    raise MemoryError()
                self.ends = <size_t *>p
                p = realloc(self.rows, self.room * sizeof(Value *))
                if p == NULL:
                    raise MemoryError()
                self.rows = <Value **>p
            if self.seen is not None:
                name = self.locators.p[start:self.locators.n]
                if name in self.seen:
                    self.locators.n = start
                    continue
                self.seen.add(name)
                row = <Value *>self.arena.take((len(self.stored) + 1) * sizeof(Value))
                for i in range(len(self.stored)):
                    (<Expr>self.stored[i]).eval(&v)
                    self.arena.keep_value(&v, &row[i])
                self.rows[self.found] = row
            self.ends[self.found] = self.locators.n
            self.found += 1
        return 0


cdef class Update(Change):
    """Runs UPDATE: columns[i] becomes exprs[i], over the old row; or stored values, if there is a FROM."""

    def setup(self, list columns, list exprs, action, list returning):
        self.columns, self.exprs, self.action, self.returning = columns, exprs, ACTIONS[action], returning

    cdef int64_t go(self) except? -1:
        cdef TableWriter w = self.writer
        cdef size_t i, start = 0
        cdef Py_ssize_t k
        cdef int c
        self.returned = [] if self.returning is not None else None
        self.collect()
        w.written = 0
        w.numbered = -1 in self.columns
        for i in range(self.found):
            tick(w.context)
            if w.load_old(self.locators.p + start, self.ends[i] - start):
                for c in range(w.columns):
                    w.old.column(c, &w.values[c])
                for k in range(len(self.columns)):
                    c = w.columns if self.columns[k] < 0 else self.columns[k]
                    if self.stored is not None:
                        w.values[c] = self.rows[i][k]
                    else:
                        (<Expr>self.exprs[k]).eval(&w.values[c])
                if w.update(self.action) and self.returning is not None:
                    self.returned.append(result_row(self.returning))
            start = self.ends[i]
        return w.written


cdef class Delete(Change):
    """Runs DELETE."""

    cdef list returning

    def setup(self, list returning):
        self.returning = returning

    cdef int64_t go(self) except? -1:
        cdef TableWriter w = self.writer
        cdef size_t i, start = 0
        cdef object row = None
        self.returned = [] if self.returning is not None else None
        self.collect()
        w.written = 0
        for i in range(self.found):
            tick(w.context)
            if w.load_old(self.locators.p + start, self.ends[i] - start):
                if self.returning is not None:
                    row = result_row(self.returning)
                if w.remove() and self.returning is not None:
                    self.returned.append(row)
            start = self.ends[i]
        return w.written


cdef class Instead(Work):
    """INSERT, UPDATE or DELETE of a view: all that happens is what its INSTEAD OF triggers do for each row. olds: expressions of the view's
    columns in the rows to change, or None; news: those of the new rows, read over `old` row by row, or with the olds at once
    (`together`), or None."""

    cdef Op op
    cdef list olds, news, returning
    cdef SlotSource old, new
    cdef Effects effects
    cdef bint together
    cdef Arena arena

    def __cinit__(self, Op op, list olds, list news, bint together, SlotSource old, SlotSource new, Effects effects, list returning):
        self.op, self.olds, self.news, self.together = op, olds, news, together
        self.old, self.new, self.effects, self.returning = old, new, effects, returning
        self.arena = Arena()

    cdef int64_t go(self) except? -1:
        cdef list taken = [] if self.olds is None else self.olds
        cdef list rows = []
        cdef Value *row
        cdef Value *fresh
        cdef size_t place
        if self.together and self.news is not None:
            taken = taken + self.news
        self.arena.clear()
        self.returned = [] if self.returning is not None else None
        self.op.open()
        while self.op.next():
            rows.append(<size_t>self.kept(taken))
        for place in rows:
            row = <Value *>place
            self.old.slots = row
            if self.news is not None:
                fresh = row + (0 if self.olds is None else len(self.olds))
                self.new.slots = fresh if self.together else self.kept(self.news)
            if self.effects.fire(self.effects.before, self.old, self.new) and self.returning is not None:
                self.returned.append(result_row(self.returning))
        self.old.slots = self.new.slots = NULL
        self.arena.clear()
        return 0

    cdef Value *kept(self, list exprs) except NULL:
        """The values of expressions, copied."""
        cdef Value v
        cdef Py_ssize_t i
        cdef Value *row = <Value *>self.arena.take((len(exprs) + 1) * sizeof(Value))
        for i in range(len(exprs)):
            (<Expr>exprs[i]).eval(&v)
            self.arena.keep_value(&v, &row[i])
        return row


cdef class IndexBuild:
    """CREATE INDEX: enters all rows of a table into one index."""

    cdef TableWriter writer
    cdef IndexWriter index

    def __cinit__(self, TableWriter writer, IndexWriter index):
        self.writer, self.index = writer, index

    def run(self):
        """The number of entries; raises IntegrityError if a UNIQUE index meets a key twice."""
        cdef TableWriter w = self.writer
        cdef IndexWriter ix = self.index
        cdef int64_t count = 0
        cdef list locators = []
        cdef bytes locator
        collect_keys(w, locators)
        for locator in locators:
            tick(w.context)
            if not w.load_old(<const uint8_t *><const char *>locator, len(locator)):
                continue
            w.locator.n = 0
            append(&w.locator, <const uint8_t *><const char *>locator, len(locator))
            ix.has = w.make_key(ix, w.old, &w.locator, &ix.key)
            if ix.has:
                if not w.put_entry(ix):
                    raise IntegrityError(ix.message)
                count += 1
        return count


cdef int collect_keys(TableWriter w, list out) except -1:
    """All keys of the writer's table; they are taken before the first write, which would end the cursor."""
    cdef Cursor cursor = Cursor(w.context.transaction, w.tree)
    cdef int found = cursor.c_first()
    while found:
        tick(w.context)
        out.append(cursor.kp[:cursor.kn])
        found = cursor.c_next()
    return 0


def tree_items(transaction, uint32_t tree):
    """All (key, value) of a tree, as a list."""
    cdef Cursor cursor = Cursor(transaction, tree)
    cdef int found = cursor.c_first()
    items = []
    while found:
        items.append((cursor.kp[:cursor.kn], cursor.vp[:cursor.vn]))
        found = cursor.c_next()
    return items
