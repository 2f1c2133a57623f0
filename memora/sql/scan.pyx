"""Operators that read trees: whole tables, ranges of rowids, single rows, ranges of indexes; and lists of values.

INDEX KEYS   the key of an index is its columns, each in the engine's order-preserving code, and then the row's *locator*
    (eight bytes of rowid, or the primary key's bytes in a table without rowids). In a UNIQUE index a row without NULLs in the
    columns has no locator behind them, so that inserting the key twice is the violation; there the locator is
    the tree's value. Tables without rowids have the locator as value in every index.
RANGES   a scan fixes the prefix of equal columns and perhaps a range of the next one. Both ends become byte strings
    [start, stop), in which inclusive and exclusive, ascending and descending, and "NULL is never in a range" are already
    settled; `next` only compares bytes.
CURSORS  one per operator and execution; a nested loop seeks it anew for each outer row.
"""
from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from memora.engine.codec cimport KEY_OK, KeyPart, buf_free, buf_init, key_next, key_null, key_prefix_end
from memora.engine.cursor cimport Cursor
from memora.sql.record cimport RecordSource, SlotSource, Source, cell_rowid, key_part_value, key_put, key_rowid, rowid_key
from memora.sql.runtime cimport Arena, Context, Expr, KeyTable, Op, SortItem, make_item, sort_items, tick, ticks
from memora.sql.types cimport (
    AFF_NUMERIC, T_BLOB, T_INT, T_NULL, T_REAL, T_TEXT, append, compare_affinity, from_python, set_int, set_real,
    to_python)

from memora.errors import CorruptionError, ProgrammingError

cdef int64_t LEAST = <int64_t>(<uint64_t>1 << 63)
cdef int64_t MOST = <int64_t>((<uint64_t>1 << 63) - 1)


cdef class SingleRow(Op):
    """One row of no columns: SELECT without FROM."""

    cdef bint done

    cdef int open(self) except -1:
        self.done = False
        return 0

    cdef int next(self) except -1:
        if self.done:
            return 0
        self.done = True
        return 1


cdef class Nothing(Op):
    """No row at all: a condition that is always false."""

    cdef int open(self) except -1:
        return 0

    cdef int next(self) except -1:
        return 0


cdef int rowid_of(Value *v, int64_t *out) except -1:
    """1 if the value is, perhaps after numeric affinity, an integer of 64 bits."""
    if v.tag == T_TEXT:
        compare_affinity(v, AFF_NUMERIC, NULL)
    if v.tag == T_INT:
        out[0] = v.u.i
        return 1
    if v.tag == T_REAL and -9223372036854775808.0 <= v.u.r < 9223372036854775808.0 and <double><int64_t>v.u.r == v.u.r:
        out[0] = <int64_t>v.u.r
        return 1
    return 0


cdef class TableScan(Op):
    """All rows of a table with rowids, or those from `low` to `high`, in order of rowid or against it."""

    def __cinit__(self, Context context, RecordSource source, uint32_t tree, Expr low=None, bint low_open=False,
                  Expr high=None, bint high_open=False, bint reverse=False):
        self.context, self.source, self.tree = context, source, tree
        self.low, self.low_open, self.high, self.high_open, self.reverse = low, low_open, high, high_open, reverse

    cdef int bound(self, Expr e, bint is_low, bint is_open, int64_t *out) except -1:
        """An end of the range as a rowid; 0 if no row is in it."""
        cdef Value v
        cdef int64_t i
        e.eval(&v)
        if v.tag == T_TEXT:
            compare_affinity(&v, AFF_NUMERIC, NULL)
        if v.tag == T_NULL:
            return 0
        if v.tag >= T_TEXT:
            # text and blobs are above every number
            return not is_low
        if v.tag == T_REAL:
            if v.u.r >= 9223372036854775808.0:
                return not is_low
            if v.u.r < -9223372036854775808.0:
                return is_low
            i = <int64_t>v.u.r
            if <double>i != v.u.r:
                # between two integers: the bound moves to the one inside the range, and is included
                is_open = False
                if is_low and <double>i < v.u.r:
                    i += 1
                elif not is_low and <double>i > v.u.r:
                    i -= 1
        else:
            i = v.u.i
        if is_open:
            if i == (MOST if is_low else LEAST):
                return 0
            i += 1 if is_low else -1
        out[0] = i
        return 1

    cdef int open(self) except -1:
        self.first = LEAST
        self.last = MOST
        self.state = 2
        if self.low is not None and not self.bound(self.low, True, self.low_open, &self.first):
            return 0
        if self.high is not None and not self.bound(self.high, False, self.high_open, &self.last):
            return 0
        if self.first <= self.last:
            self.state = 0
        return 0

    cdef int begin(self) except -1:
        cdef uint8_t[8] key
        if self.cursor is None or self.epoch != self.context.epoch:
            self.cursor = Cursor(self.context.transaction, self.tree)
            self.epoch = self.context.epoch
        if self.reverse:
            rowid_key(self.first, self.end)
            self.cursor.c_limit(self.end if self.first != LEAST else NULL, 8)
            if self.last == MOST:
                return self.cursor.c_last()
            rowid_key(self.last + 1, key)
            return self.cursor.c_seek_before(key, 8)
        if self.last != MOST:
            rowid_key(self.last + 1, self.end)
        self.cursor.c_limit(self.end if self.last != MOST else NULL, 8)
        if self.first == LEAST:
            return self.cursor.c_first()
        rowid_key(self.first, key)
        return self.cursor.c_seek(key, 8)

    cdef int next(self) except -1:
        cdef Cursor cursor
        cdef int found
        if self.state == 1:
            cursor = self.cursor
            found = cursor.c_prev() if self.reverse else cursor.c_next()
        elif self.state == 0:
            self.state = 1
            found = self.begin()
            cursor = self.cursor
        else:
            return 0
        if found:
            if cursor.kn != 8:
                raise CorruptionError(f"tree {self.tree}: a rowid of {cursor.kn} bytes")
            tick(self.context)
            self.source.rowid = key_rowid(cursor.kp)
            self.source.load(cursor.vp, cursor.vn)
            return 1
        self.state = 2
        return 0

    cdef int block(self) except -1:
        """The next row, and those that lie beside it in its leaf."""
        cdef int more
        if not self.next():
            return 0
        self.cells[0].key = <uint64_t>self.source.rowid ^ (<uint64_t>1 << 63)
        self.cells[0].val = self.source.p
        self.cells[0].vn = <uint32_t>self.source.n
        self.source.cells = self.cells
        more = 0 if self.reverse else self.cursor.c_cells(&self.cells[1], BLOCK - 1)
        ticks(self.context, more)
        return 1 + more

    cdef int point(self, int i) except -1:
        self.source.rowid = cell_rowid(&self.cells[i])
        return self.source.load(self.cells[i].val, self.cells[i].vn)

    cdef int keep(self, const int32_t *which, int n) except -1:
        cdef int i
        for i in range(n):
            self.cells[i] = self.cells[which[i]]
        return 0

    cdef bint aligned(self, object source) except -1:
        return source is self.source

    cdef int close(self) except -1:
        self.cursor = None
        return 0


cdef class RowLookup(Op):
    """The row whose rowid equals an expression."""

    cdef Context context
    cdef RecordSource source
    cdef uint32_t tree
    cdef Expr key
    cdef bint done

    def __cinit__(self, Context context, RecordSource source, uint32_t tree, Expr key):
        self.context, self.source, self.tree, self.key = context, source, tree, key

    cdef int open(self) except -1:
        self.done = False
        return 0

    cdef int next(self) except -1:
        cdef Value v
        cdef int64_t rowid
        cdef uint8_t[8] key
        cdef const uint8_t *p
        cdef size_t n
        if self.done:
            return 0
        self.done = True
        self.key.eval(&v)
        if not rowid_of(&v, &rowid):
            return 0
        rowid_key(rowid, key)
        if not self.context.transaction.c_get(self.tree, key, 8, &p, &n):
            return 0
        self.source.rowid = rowid
        self.source.load_copy(p, n)
        return 1


# --- indexes -----------------------------------------------------------------------------------------------------

cdef class IndexSource(RecordSource):
    """A row that an index entry names. Columns that the entry can give are read from it; the row itself is fetched
    when another one is asked for.

    positions: for each column of the table its component in the key, or -1; descending: for each component whether
    it is; real: components whose integers are reals (a REAL column keeps no difference between 1 and 1.0).
    """

    def __cinit__(self, int columns, int rowid_column, defaults, Context context, uint32_t tree, str name,
                  list positions, list descending, list real):
        cdef int i
        self.context, self.tree, self.name = context, tree, name
        self.components = len(descending)
        self.descending = descending
        self.positions = <int *>calloc(columns + 1, sizeof(int))
        self.values = <Value *>calloc(self.components + 1, sizeof(Value))
        self.scratch = <Buf *>calloc(self.components + 1, sizeof(Buf))
        self.real = <bint *>calloc(self.components + 1, sizeof(bint))
        if not (self.positions and self.values and self.scratch and self.real):
            raise MemoryError()
        for i in range(columns):
            self.positions[i] = positions[i]
        for i in range(self.components):
            self.real[i] = real[i]

    def __dealloc__(self):
        cdef int i
        if self.scratch != NULL:
            for i in range(self.components):
                buf_free(&self.scratch[i])
        free(self.scratch)
        free(self.positions)
        free(self.values)
        free(self.real)

    cdef int point(self, const uint8_t *key, size_t n, const uint8_t *value, size_t vn, bint rowids) except -1:
        """Moves to the row of an index entry, whose bytes stay until the next one."""
        self.key = self.at = key
        self.key_end = key + n
        self.parts = 0
        self.loaded = False
        self.null_row = False
        if vn:
            self.locator = value
            self.locator_n = vn
        else:
            self.locator = self.key_end - 8
            self.locator_n = 8
        if rowids:
            if self.locator_n != 8 or self.locator < key and not vn:
                raise CorruptionError(f"index {self.name}: an entry of {n} bytes names no row")
            self.rowid = key_rowid(self.locator)
        return 0

    cdef int fetch(self) except -1:
        cdef const uint8_t *p
        cdef size_t n
        if not self.context.transaction.c_get(self.tree, self.locator, self.locator_n, &p, &n):
            raise CorruptionError(f"index {self.name} names a row that does not exist "
                                  f"({self.locator[:self.locator_n].hex()})")
        self.load_copy(p, n)
        self.loaded = True
        return 0

    cdef int column(self, int i, Value *out) except -1:
        cdef int k
        cdef KeyPart part
        if self.null_row:
            out.tag = T_NULL
            return 0
        if i < 0 or i == self.rowid_column:
            set_int(out, self.rowid)
            return 0
        if not self.loaded:
            k = self.positions[i]
            if k < 0:
                self.fetch()
            else:
                while self.parts <= k:
                    if key_next(&self.at, self.key_end, self.descending[self.parts], &part,
                                &self.scratch[self.parts]) != KEY_OK:
                        raise CorruptionError(f"index {self.name}: component {self.parts} of a key cannot be read")
                    key_part_value(&part, &self.values[self.parts])
                    if self.real[self.parts] and self.values[self.parts].tag == T_INT:
                        set_real(&self.values[self.parts], <double>self.values[self.parts].u.i)
                    self.parts += 1
                out[0] = self.values[k]
                return 0
        return RecordSource.column(self, i, out)


cdef class IndexScan(Op):
    """The rows of a range of an index, in its order or against it.

    equal: expressions for the first columns; nulls: for each whether NULL is looked for, too (IS);
    low, high: the range of the next column; affinities: what comparing converts each of these values to;
    collations, descending: of the index's columns; rowids: whether the table has them;
    primary: the tree is the table itself, its values are records.
    """

    cdef Context context
    cdef RecordSource source
    cdef IndexSource index_source
    cdef uint32_t tree
    cdef list equal, nulls, affinities, collations, descending
    cdef Expr low, high
    cdef bint low_open, high_open, reverse, rowids, primary
    cdef Cursor cursor
    cdef uint64_t epoch
    cdef Buf start, stop, scratch
    cdef bint unbounded
    cdef int state

    def __cinit__(self, Context context, RecordSource source, uint32_t tree, list equal, list nulls, list affinities,
                  list collations, list descending, Expr low=None, bint low_open=False, Expr high=None,
                  bint high_open=False, bint reverse=False, bint rowids=True, bint primary=False):
        self.context, self.source, self.tree = context, source, tree
        self.index_source = source if isinstance(source, IndexSource) else None
        self.equal, self.nulls, self.affinities = equal, nulls, affinities
        self.collations, self.descending = collations, descending
        self.low, self.low_open, self.high, self.high_open = low, low_open, high, high_open
        self.reverse, self.rowids, self.primary = reverse, rowids, primary
        buf_init(&self.start)
        buf_init(&self.stop)
        buf_init(&self.scratch)

    def __dealloc__(self):
        buf_free(&self.start)
        buf_free(&self.stop)
        buf_free(&self.scratch)

    cdef int put(self, Buf *b, Expr e, int i, bint null_fits) except -1:
        """Appends the key of a bound; 0 if it is NULL and nothing can match."""
        cdef Value v
        e.eval(&v)
        if v.tag == T_NULL and not null_fits:
            return 0
        compare_affinity(&v, self.affinities[i], &self.scratch)
        key_put(b, &v, self.collations[i], self.descending[i])
        return 1

    cdef int open(self) except -1:
        cdef int i, k = <int>len(self.equal)
        cdef size_t prefix
        cdef bint down = False, begins, ends
        cdef Value null
        cdef Expr lower = self.low, upper = self.high
        cdef bint lower_open = self.low_open, upper_open = self.high_open
        self.state = 2
        self.start.n = self.stop.n = 0
        for i in range(k):
            if not self.put(&self.start, <Expr>self.equal[i], i, self.nulls[i]):
                return 0
        prefix = self.start.n
        append(&self.stop, self.start.p, prefix)
        if self.low is not None or self.high is not None:
            null.tag = T_NULL
            down = self.descending[k]
            if down:
                lower, upper = upper, lower
                lower_open, upper_open = upper_open, lower_open
            begins = lower is not None
            ends = upper is not None
            if begins:
                if not self.put(&self.start, lower, k, False):
                    return 0
                if lower_open:
                    key_prefix_end(&self.start, prefix)
            elif not down:
                key_put(&self.start, &null, 0, False)
                key_prefix_end(&self.start, prefix)
            if ends:
                if not self.put(&self.stop, upper, k, False):
                    return 0
                if not upper_open:
                    key_prefix_end(&self.stop, prefix)
            elif down:
                key_put(&self.stop, &null, 0, True)
            elif key_prefix_end(&self.stop, 0) < 0:
                self.stop.n = 0
        elif prefix and key_prefix_end(&self.stop, 0) < 0:
            self.stop.n = 0
        self.state = 0
        return 0

    cdef int begin(self) except -1:
        if self.cursor is None or self.epoch != self.context.epoch:
            self.cursor = Cursor(self.context.transaction, self.tree)
            self.epoch = self.context.epoch
        if self.reverse:
            self.cursor.c_limit(self.start.p if self.start.n else NULL, self.start.n)
            return self.cursor.c_seek_before(self.stop.p, self.stop.n) if self.stop.n else self.cursor.c_last()
        self.cursor.c_limit(self.stop.p if self.stop.n else NULL, self.stop.n)
        return self.cursor.c_seek(self.start.p, self.start.n) if self.start.n else self.cursor.c_first()

    cdef int next(self) except -1:
        cdef Cursor cursor
        cdef int found
        if self.state == 1:
            cursor = self.cursor
            found = cursor.c_prev() if self.reverse else cursor.c_next()
        elif self.state == 0:
            self.state = 1
            found = self.begin()
            cursor = self.cursor
        else:
            return 0
        if not found:
            self.state = 2
            return 0
        tick(self.context)
        if self.primary:
            self.source.load(cursor.vp, cursor.vn)
        else:
            self.index_source.point(cursor.kp, cursor.kn, cursor.vp, cursor.vn, self.rowids)
        return 1

    cdef int close(self) except -1:
        self.cursor = None
        return 0


# --- values that are not in trees --------------------------------------------------------------------------------

cdef class ValueList(Op):
    """The distinct values of expressions, or of a subquery's first column, in key order: the right side of IN."""

    cdef SlotSource source
    cdef list exprs
    cdef Op op
    cdef Arena arena
    cdef KeyTable table
    cdef Value *values
    cdef Value current
    cdef SortItem *items
    cdef int64_t at
    cdef int affinity, collation
    cdef bint descending
    cdef Buf key, scratch
    cdef int64_t room, count

    def __cinit__(self, SlotSource source, list exprs, Op op, int affinity, int collation, bint descending=False):
        self.source, self.exprs, self.op = source, exprs, op
        self.affinity, self.collation, self.descending = affinity, collation, descending
        self.arena = Arena()
        self.table = KeyTable()
        self.source.slots = &self.current
        buf_init(&self.key)
        buf_init(&self.scratch)

    def __dealloc__(self):
        buf_free(&self.key)
        buf_free(&self.scratch)
        free(self.items)

    cdef int add(self, Expr e) except -1:
        cdef Value v
        cdef Value *kept
        cdef bint fresh
        e.eval(&v)
        if v.tag == T_NULL:
            return 0
        compare_affinity(&v, self.affinity, &self.scratch)
        self.key.n = 0
        key_put(&self.key, &v, self.collation, self.descending)
        self.table.insert(self.key.p, self.key.n, &fresh)
        if fresh:
            # values lie in the arena in the order of their numbers in the table; `items` finds them again
            kept = <Value *>self.arena.take(sizeof(Value))
            self.arena.keep_value(&v, kept)
            self.grow()
            self.items[self.count].row = kept
            self.count += 1
        return 0

    cdef int grow(self) except -1:
        cdef SortItem *p
        cdef int64_t i
        if self.count < self.room:
            return 0
        self.room = self.room * 2 + 16
        p = <SortItem *>calloc(self.room, sizeof(SortItem))
        if p == NULL:
            raise MemoryError()
        for i in range(self.count):
            p[i] = self.items[i]
        free(self.items)
        self.items = p
        return 0

    cdef int open(self) except -1:
        cdef Py_ssize_t i
        cdef int64_t k
        self.arena.clear()
        self.table.clear()
        self.count = 0
        self.at = 0
        if self.op is None:
            for i in range(len(self.exprs)):
                self.add(<Expr>self.exprs[i])
        else:
            self.op.open()
            while self.op.next():
                self.add(<Expr>self.exprs[0])
        for k in range(self.count):
            make_item(&self.items[k], self.table.bytes.p + self.table.entries[k].offset, self.table.entries[k].n,
                      self.items[k].row)
        sort_items(self.items, self.count, self.watched)
        return 0

    cdef int next(self) except -1:
        if self.at >= self.count:
            return 0
        self.current = (<Value *>self.items[self.at].row)[0]
        self.source.null_row = False
        self.at += 1
        return 1


cdef class Rows(Op):
    """The rows of VALUES (...), (...): lists of expressions."""

    cdef SlotSource source
    cdef list rows
    cdef Py_ssize_t at
    cdef Value *values

    def __cinit__(self, SlotSource source, list rows, int width):
        self.source, self.rows = source, rows
        self.values = <Value *>calloc(width + 1, sizeof(Value))
        if self.values == NULL:
            raise MemoryError()
        source.slots = self.values
        source.count = width

    def __dealloc__(self):
        free(self.values)

    cdef int open(self) except -1:
        self.at = 0
        return 0

    cdef int next(self) except -1:
        cdef list row
        cdef Py_ssize_t i
        if self.at >= len(self.rows):
            return 0
        row = self.rows[self.at]
        self.at += 1
        self.source.null_row = False
        for i in range(len(row)):
            (<Expr>row[i]).eval(&self.values[i])
        return 1


cdef class PythonScan(Op):
    """Rows of a Python iterable of tuples: `rows(transaction, *args)` begins one, or rows.at(transaction, keys). Text of a subclass of str is
    JSON."""

    cdef Context context
    cdef SlotSource source
    cdef object rows, iterator
    cdef list keep, args, keys
    cdef Value *values
    cdef int width
    cdef str name

    def __cinit__(self, Context context, SlotSource source, rows, int width, str name, list args, list keys):
        self.context, self.source, self.rows, self.width, self.name, self.args, self.keys = context, source, rows, width, name, args, keys
        self.values = <Value *>calloc(width + 1, sizeof(Value))
        if self.values == NULL:
            raise MemoryError()
        source.slots = self.values
        source.count = width

    def __dealloc__(self):
        free(self.values)

    cdef int open(self) except -1:
        if self.keys is not None:
            self.iterator = iter(self.rows.at(self.context.transaction, self.evaluated(self.keys)))
        else:
            self.iterator = iter(self.rows(self.context.transaction, *self.evaluated(self.args)))
        return 0

    cdef list evaluated(self, list exprs):
        cdef Value v
        cdef Py_ssize_t i
        values = []
        for i in range(len(exprs)):
            (<Expr>exprs[i]).eval(&v)
            values.append(to_python(&v))
        return values

    cdef int next(self) except -1:
        cdef int i
        tick(self.context)
        try:
            row = next(self.iterator)
        except StopIteration:
            return 0
        if len(row) != self.width:
            raise ProgrammingError(f"{self.name}: a row of {len(row)} values, the columns are {self.width}")
        self.keep = []
        self.source.null_row = False
        for i in range(self.width):
            from_python(row[i], &self.values[i], self.keep)
            if self.values[i].tag == T_TEXT and type(row[i]) is not str:
                self.values[i].json = True
        return 1

    cdef int close(self) except -1:
        self.iterator = None
        return 0
