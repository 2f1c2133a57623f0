"""ORDER BY and GROUP BY: sorting rows by key bytes, and aggregates by hashing.

Sort keys are encoded with the engine's order-preserving codec (descending terms complemented, a NULLS FIRST/LAST that differs
from the default as a byte in front), so comparing two rows is comparing bytes, and equal rows keep their order.

Groups come out in the order of their keys, because SQLite's do, and programs lean on it.
"""
from libc.math cimport fabs, isinf, isnan
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from memora.engine.codec cimport KEY_OK, Buf, KeyPart, buf_free, buf_init, key_next
from memora.sql.record cimport SlotSource, Source, key_part_value, key_put
from memora.sql.runtime cimport (
    BLOCK, Arena, Context, Expr, Integers, KeyTable, Op, SortItem, compare_items, make_item, sort_items)
from memora.sql.types cimport (
    T_BLOB, T_INT, T_NULL, T_REAL, T_TEXT, Value, append, compare, from_python, parse_number, set_int, set_real, set_text, text_of,
    to_integer, to_python, to_real)

from memora.errors import OperationalError
from memora.sql.callbacks import failed


cdef class Sort(Op):
    """All rows in order of `keys`; `exprs` are kept for `output`.

    descending, nulls: by term; nulls is 0 for the default, -1 first, 1 last. limit, offset: no more than their sum of
    rows need be kept.
    """

    cdef Op child
    cdef list keys, descending, nulls, collations, exprs
    cdef SlotSource output
    cdef Expr limit, offset
    cdef Arena arena
    cdef SortItem *items
    cdef size_t count, room, at
    cdef Buf key, scratch

    def __cinit__(self, Op child, list keys, list descending, list nulls, list collations, list exprs, SlotSource output,
                  Expr limit=None, Expr offset=None):
        self.child, self.keys, self.descending, self.nulls = child, keys, descending, nulls
        self.collations, self.exprs, self.output = collations, exprs, output
        self.limit, self.offset = limit, offset
        self.arena = Arena()
        buf_init(&self.key)
        buf_init(&self.scratch)

    def __dealloc__(self):
        free(self.items)
        buf_free(&self.key)
        buf_free(&self.scratch)

    cdef int encode(self) except -1:
        cdef Value v
        cdef Py_ssize_t i
        cdef int nulls
        cdef uint8_t rank
        self.key.n = 0
        for i in range(len(self.keys)):
            (<Expr>self.keys[i]).eval(&v)
            nulls = self.nulls[i]
            if nulls:
                rank = 1 if (v.tag == T_NULL) == (nulls > 0) else 0
                append(&self.key, &rank, 1)
            key_put(&self.key, &v, self.collations[i], self.descending[i])
        return 0

    cdef inline bint beyond(self, const Value *v, const Value *edge, bint down, int collation) noexcept:
        """Whether a number comes behind the last that can come out, or with it."""
        cdef int order
        if v.tag != T_INT and v.tag != T_REAL:
            return False
        order = compare(v, edge, collation)
        return order == 0 or (order > 0) != down

    cdef int take(self, SortItem *item) except -1:
        """Keeps the current row; the item has its key."""
        cdef Value v
        cdef Py_ssize_t i, width = len(self.exprs)
        cdef uint8_t *key = <uint8_t *>self.arena.take(self.key.n + 1)
        cdef Value *row = <Value *>self.arena.take((width + 1) * sizeof(Value))
        cdef void *p
        memcpy(key, self.key.p, self.key.n)
        for i in range(width):
            (<Expr>self.exprs[i]).eval(&v)
            self.arena.keep_value(&v, &row[i])
        if self.count == self.room:
            self.room = self.room * 2 + 64
            p = realloc(self.items, self.room * sizeof(SortItem))
            if p == NULL:
                raise MemoryError(f"no memory to sort {self.count} rows")
            self.items = <SortItem *>p
        item.key = key
        item.row = row
        self.items[self.count] = item[0]
        self.count += 1
        return 0

    cdef int open(self) except -1:
        cdef Value v
        cdef Value[BLOCK] values
        cdef SortItem item, last
        cdef int64_t most = -1, more
        cdef bint bounded = False, told, lone = len(self.keys) == 1 and self.nulls[0] == 0
        cdef int n, k, collation = self.collations[0]
        cdef bint down = self.descending[0]
        cdef Value edge
        cdef KeyPart part
        cdef void *p
        edge.tag = T_NULL
        self.close()
        if self.limit is not None:
            self.limit.eval(&v)
            most = to_integer(&v)
            if most >= 0 and self.offset is not None:
                self.offset.eval(&v)
                more = to_integer(&v)
                most = most + more if 0 <= more < (1 << 40) else (-1 if more > 0 else most)
            if most >= 1 << 24:
                most = -1
        self.child.open()
        while True:
            n = self.child.block()
            if n == 0:
                break
            told = bounded and lone and (<Expr>self.keys[0]).gather(self.child, n, values)
            for k in range(n):
                if told and bounded and lone and self.beyond(&values[k], &edge, down, collation):
                    continue
                self.child.point(k)
                if bounded and lone and not told:
                    # most rows are told by their value: behind the last that can come out, or equal to it
                    (<Expr>self.keys[0]).eval(&v)
                    if self.beyond(&v, &edge, down, collation):
                        continue
                self.encode()
                make_item(&item, self.key.p, self.key.n, NULL)
                if bounded and compare_items(&item, &last) >= 0:
                    continue
                self.take(&item)
                if most >= 0 and <int64_t>self.count >= 2 * most + 256:
                    # only the first `most` can come out: the rest goes, and what is not below the last of them is skipped
                    sort_items(self.items, self.count, self.watched)
                    self.count = most
                    if most:
                        last = self.items[most - 1]
                        bounded = True
                        if lone:
                            p = <void *>last.key
                            if key_next(<const uint8_t **>&p, last.key + last.n, down, &part, &self.scratch) == KEY_OK:
                                key_part_value(&part, &edge)
                            lone = edge.tag == T_INT or edge.tag == T_REAL
        sort_items(self.items, self.count, self.watched)
        return 0

    cdef int next(self) except -1:
        if self.at >= self.count:
            return 0
        self.output.slots = <Value *>self.items[self.at].row
        self.output.null_row = False
        self.at += 1
        return 1

    cdef int close(self) except -1:
        self.arena.clear()
        self.count = 0
        self.at = 0
        return 0


# --- aggregates --------------------------------------------------------------------------------------------------

AGGREGATES = {"count": AGG_COUNT, "sum": AGG_SUM, "total": AGG_TOTAL, "avg": AGG_AVG, "min": AGG_MIN, "max": AGG_MAX,
              "group_concat": AGG_CONCAT, "string_agg": AGG_CONCAT, "json_group_array": AGG_CONCAT, "json_group_object": AGG_CONCAT}
# What stands around the texts that an aggregate joins.
AROUND = {"json_group_array": (b"[", b"]"), "json_group_object": (b"{", b"}")}

cdef extern from *:
    bint add_overflow "__builtin_add_overflow"(int64_t a, int64_t b, int64_t *r) nogil
    bint sub_overflow "__builtin_sub_overflow"(int64_t a, int64_t b, int64_t *r) nogil


cdef class Aggregate:
    """One aggregate function of a query: what it is, its arguments, DISTINCT and FILTER. `opening` and `closing` stand around what
    json_group_array and json_group_object join."""

    cdef int kind, collation
    cdef Expr operand, between, condition
    cdef bint distinct, usual          # usual: neither a subclass nor DISTINCT nor FILTER, and a number or an extreme
    cdef bytes opening, closing
    cdef KeyTable seen
    cdef Buf key, scratch

    def __cinit__(self, int kind, Expr operand, Expr between, Expr condition, bint distinct, int collation, bytes opening=b"",
                  bytes closing=b"", *args):
        self.kind, self.operand, self.between, self.condition = kind, operand, between, condition
        self.distinct, self.collation, self.opening, self.closing = distinct, collation, opening, closing
        self.usual = type(self) is Aggregate and condition is None and not distinct and kind != AGG_CONCAT
        self.seen = KeyTable()
        buf_init(&self.key)
        buf_init(&self.scratch)

    def __dealloc__(self):
        buf_free(&self.key)
        buf_free(&self.scratch)

    cdef int add(self, State *s, int64_t group) except -1:
        """Takes the current row into a group's state; 1 if min or max changed."""
        cdef Value v, w
        cdef bint fresh
        cdef int c
        if self.condition is not None and self.condition.test() != 1:
            return 0
        if self.kind == AGG_COUNT_ALL:
            s.count += 1
            return 0
        self.operand.eval(&v)
        if v.tag == T_NULL:
            return 0
        if self.distinct:
            self.key.n = 0
            append(&self.key, <const uint8_t *>&group, 8)
            key_put(&self.key, &v, self.collation, False)
            self.seen.insert(self.key.p, self.key.n, &fresh)
            if not fresh:
                return 0
        s.count += 1
        if self.kind == AGG_COUNT:
            return 0
        if self.kind == AGG_MIN or self.kind == AGG_MAX:
            if s.count > 1:
                c = compare(&v, &s.best, self.collation)
                if c >= 0 if self.kind == AGG_MIN else c <= 0:
                    return 0
            self.keep_best(s, &v)
            return 1
        if self.kind == AGG_CONCAT:
            if s.count > 1:
                if self.between is None:
                    grow_state(s, <const uint8_t *>b",", 1)
                else:
                    self.between.eval(&w)
                    if w.tag != T_NULL:
                        text_of(&w, &self.scratch, &w)
                        grow_state(s, w.u.p, w.n)
            elif self.opening:
                grow_state(s, <const uint8_t *><const char *>self.opening, len(self.opening))
            text_of(&v, &self.scratch, &v)
            grow_state(s, v.u.p, v.n)
            return 0
        return add_number(s, &v)

    cdef int add_block(self, Op op, int n, const int64_t *groups, State *states, int stride) except -1:
        """Takes the n rows of op's block into the states of their groups, which lie `stride` apart."""
        cdef Value[BLOCK] values
        cdef Value *v
        cdef State *s
        cdef int i, c
        if self.usual and self.kind == AGG_COUNT_ALL:
            for i in range(n):
                states[groups[i] * stride].count += 1
        elif self.usual and self.operand.gather(op, n, values):
            for i in range(n):
                v = &values[i]
                if v.tag == T_NULL:
                    continue
                s = &states[groups[i] * stride]
                s.count += 1
                if self.kind == AGG_COUNT:
                    continue
                if self.kind <= AGG_AVG:
                    add_number(s, v)
                    continue
                if s.count > 1:
                    c = compare(v, &s.best, self.collation)
                    if c >= 0 if self.kind == AGG_MIN else c <= 0:
                        continue
                self.keep_best(s, v)
        else:
            for i in range(n):
                op.point(i)
                self.add(&states[groups[i] * stride], groups[i])
        return 0

    cdef int clear(self) except -1:
        """Lets go of what it keeps beside the states."""
        self.seen.clear()
        return 0

    cdef int keep_best(self, State *s, const Value *v) except -1:
        s.best = v[0]
        if v.tag >= T_TEXT:
            s.n = 0
            grow_state(s, v.u.p, v.n)
            s.best.u.p = s.bytes
        return 0

    cdef int final(self, State *s, Value *out) except -1:
        if self.kind <= AGG_AVG:
            sum_result(self.kind, s, out)
        elif self.opening:
            if s.count == 0:
                grow_state(s, <const uint8_t *><const char *>self.opening, len(self.opening))
            grow_state(s, <const uint8_t *><const char *>self.closing, len(self.closing))
            set_text(out, s.bytes, s.n)
            out.json = True
        elif s.count == 0:
            out.tag = T_NULL
        elif self.kind == AGG_CONCAT:
            set_text(out, s.bytes, s.n)
        else:
            out[0] = s.best
        return 0


cdef int number_in(const Value *v, Value *out) except -1:
    """A value as sums see it: text that is a number counts as that number; other text, and each blob, makes the sum a real."""
    out[0] = v[0]
    if v.tag >= T_TEXT:
        if v.tag == T_BLOB or parse_number(v.u.p, v.n, out) != 2:
            set_real(out, to_real(v))
    return 0


cdef inline void add_real(State *s, double r) noexcept nogil:
    cdef double t = s.sum + r
    if not isinf(t):
        s.error += (s.sum - t) + r if fabs(s.sum) > fabs(r) else (r - t) + s.sum
    s.sum = t


cdef int add_number(State *s, const Value *v) except -1:
    """Takes a value that is not NULL into a sum; its caller has counted it."""
    cdef Value number
    if v.tag == T_REAL:
        s.approximate = True
        add_real(s, v.u.r)
        return 0
    number_in(v, &number)
    if number.tag == T_INT:
        if not s.approximate and add_overflow(s.whole, number.u.i, &s.whole):
            s.overflow = True
            s.approximate = True
        add_real(s, <double>number.u.i)
    else:
        s.approximate = True
        add_real(s, number.u.r)
    return 0


cdef int remove_number(State *s, const Value *v) except -1:
    """Takes it out again. 0 if the sum must be computed anew: infinity cannot be taken out of a sum."""
    cdef Value number
    number_in(v, &number)
    if number.tag == T_INT:
        if not s.approximate and sub_overflow(s.whole, number.u.i, &s.whole):
            s.overflow = True
            s.approximate = True
        add_real(s, -<double>number.u.i)
    else:
        if isinf(number.u.r) or isinf(s.sum) or isnan(s.sum):
            return 0
        add_real(s, -number.u.r)
    return 1


cdef int sum_result(int kind, State *s, Value *out) except -1:
    """The value of count, sum, total or avg."""
    if kind <= AGG_COUNT:
        set_int(out, s.count)
    elif kind == AGG_TOTAL:
        set_real(out, s.sum + (0.0 if isinf(s.sum) or isnan(s.sum) else s.error))
    elif s.count == 0:
        out.tag = T_NULL
    elif kind == AGG_AVG:
        set_real(out, (s.sum + (0.0 if isinf(s.sum) or isnan(s.sum) else s.error)) / <double>s.count)
    elif s.overflow:
        raise OperationalError("integer overflow")
    elif s.approximate:
        set_real(out, s.sum + (0.0 if isinf(s.sum) or isnan(s.sum) else s.error))
    else:
        set_int(out, s.whole)
    return 0


cdef class OrderedAggregate(Aggregate):
    """group_concat, or an aggregate like it, with an ORDER BY of its own: keeps all texts and joins them at the end.

    order: expressions; terms: (descending, nulls, collation) of each."""

    cdef list order, terms
    cdef dict rows                     # by group: [(key, text, separator)]

    def __cinit__(self, int kind, Expr operand, Expr between, Expr condition, bint distinct, int collation, bytes opening,
                  bytes closing, list order, list terms):
        self.order, self.terms = order, terms
        self.rows = {}

    cdef int add(self, State *s, int64_t group) except -1:
        cdef Value v
        cdef bint fresh
        cdef Py_ssize_t i
        cdef uint8_t rank
        if self.condition is not None and self.condition.test() != 1:
            return 0
        self.operand.eval(&v)
        if v.tag == T_NULL:
            return 0
        if self.distinct:
            self.key.n = 0
            append(&self.key, <const uint8_t *>&group, 8)
            key_put(&self.key, &v, self.collation, False)
            self.seen.insert(self.key.p, self.key.n, &fresh)
            if not fresh:
                return 0
        text_of(&v, &self.scratch, &v)
        text = v.u.p[:v.n]
        separator = b","
        if self.between is not None:
            self.between.eval(&v)
            text_of(&v, &self.scratch, &v)
            separator = b"" if v.tag == T_NULL else v.u.p[:v.n]
        self.key.n = 0
        for i in range(len(self.order)):
            descending, nulls, collation = self.terms[i]
            (<Expr>self.order[i]).eval(&v)
            if nulls:
                rank = 1 if (v.tag == T_NULL) == (nulls > 0) else 0
                append(&self.key, &rank, 1)
            key_put(&self.key, &v, collation, descending)
        s.count += 1
        s.whole = group
        self.rows.setdefault(group, []).append((self.key.p[:self.key.n], text, separator))
        return 0

    cdef int final(self, State *s, Value *out) except -1:
        cdef bytes joined
        rows = sorted(self.rows.pop(s.whole, ()) if s.count else (), key=first_of)
        if not rows and not self.opening:
            out.tag = T_NULL
            return 0
        joined = self.opening + b"".join([(separator if n else b"") + text for n, (_, text, separator) in enumerate(rows)]) + self.closing
        s.n = 0
        grow_state(s, <const uint8_t *><const char *>joined, len(joined))
        set_text(out, s.bytes, s.n)
        out.json = len(self.opening) > 0
        return 0

    cdef int clear(self) except -1:
        self.seen.clear()
        self.rows.clear()
        return 0


cdef class UserAggregate(Aggregate):
    """An aggregate in Python: an instance for each group, which gets the arguments of each row, NULL or not."""

    cdef object user
    cdef list args, keep
    cdef dict instances                # by group

    def __cinit__(self, int kind, Expr operand, Expr between, Expr condition, bint distinct, int collation, bytes opening,
                  bytes closing, user, list args):
        self.user, self.args = user, args
        self.instances = {}

    cdef int add(self, State *s, int64_t group) except -1:
        cdef Value v
        cdef bint fresh
        cdef Py_ssize_t i
        if self.condition is not None and self.condition.test() != 1:
            return 0
        values = []
        for i in range(len(self.args)):
            (<Expr>self.args[i]).eval(&v)
            values.append(to_python(&v))
        if self.distinct:
            self.key.n = 0
            append(&self.key, <const uint8_t *>&group, 8)
            key_put(&self.key, &v, self.collation, False)
            self.seen.insert(self.key.p, self.key.n, &fresh)
            if not fresh:
                return 0
        s.count += 1
        s.whole = group
        instance = self.instances.get(group)
        if instance is None:
            instance = self.instances[group] = self.user.begin()
        self.user.step(instance, values)
        return 0

    cdef int final(self, State *s, Value *out) except -1:
        if s.count == 0:
            out.tag = T_NULL
            return 0
        self.keep = []
        result = self.user.finalize(self.instances.pop(s.whole))
        try:
            from_python(result, out, self.keep)
        except Exception as error:
            raise failed(error, "user-defined aggregate's 'finalize' method raised error", self.user.function) from error
        return 0

    cdef int clear(self) except -1:
        self.seen.clear()
        self.instances.clear()
        return 0


def first_of(row):
    return row[0]


cdef int grow_state(State *s, const uint8_t *p, size_t n) except -1:
    cdef void *grown
    if s.n + n + 1 > s.cap:
        grown = realloc(s.bytes, (s.n + n) * 2 + 32)
        if grown == NULL:
            raise MemoryError()
        s.bytes = <uint8_t *>grown
        s.cap = (s.n + n) * 2 + 32
    if n:
        memcpy(s.bytes + s.n, p, n)
        s.n += n
    return 0


cdef class GroupBy(Op):
    """Groups by `keys` and computes aggregates; with no keys and `always` there is one group, even of no rows.

    The slots of `output` are the keys, the aggregates, and `bare`: expressions that are neither, taken from the group's
    first row, or from the row that had the minimum or maximum if `follow` is the one such aggregate.
    """

    cdef Op child
    cdef list keys, collations, aggregates, bare
    cdef SlotSource output
    cdef int follow, nkeys, naggregates, nbare
    cdef bint always
    cdef Arena arena
    cdef KeyTable table
    cdef State *states                 # naggregates for each group
    cdef Value **rows                  # by group: keys, then bare
    cdef Value *slots
    cdef SortItem *items
    cdef int64_t count, room, at
    cdef Buf key
    cdef Integers integers             # groups of integers, where there is one key

    def __cinit__(self, Op child, list keys, list collations, list aggregates, list bare, SlotSource output,
                  bint always, int follow=-1):
        self.child, self.keys, self.collations, self.aggregates, self.bare = child, keys, collations, aggregates, bare
        self.output, self.always, self.follow = output, always, follow
        self.nkeys = <int>len(keys)
        self.naggregates = <int>len(aggregates)
        self.nbare = <int>len(bare)
        self.arena = Arena()
        self.table = KeyTable()
        self.integers = Integers()
        self.slots = <Value *>calloc(self.nkeys + self.naggregates + self.nbare + 1, sizeof(Value))
        if self.slots == NULL:
            raise MemoryError()
        buf_init(&self.key)

    def __dealloc__(self):
        self.release()
        free(self.states)
        free(self.rows)
        free(self.items)
        free(self.slots)
        buf_free(&self.key)

    cdef void release(self) noexcept:
        cdef int64_t i
        for i in range(self.count * self.naggregates):
            free(self.states[i].bytes)
        self.count = 0

    cdef int new_group(self) except -1:
        cdef void *p
        cdef Value v
        cdef Value *row
        cdef int i
        if self.count == self.room:
            self.room = self.room * 2 + 8
            p = realloc(self.states, (self.room * self.naggregates + 1) * sizeof(State))
            if p == NULL:
                raise MemoryError()
            self.states = <State *>p
            p = realloc(self.rows, self.room * sizeof(Value *))
            if p == NULL:
                raise MemoryError()
            self.rows = <Value **>p
        memset(&self.states[self.count * self.naggregates], 0, self.naggregates * sizeof(State))
        row = <Value *>self.arena.take((self.nkeys + self.nbare + 1) * sizeof(Value))
        for i in range(self.nkeys + self.nbare):
            row[i].tag = T_NULL
        self.rows[self.count] = row
        self.count += 1
        return 0

    cdef int keep_bare(self, Value *row) except -1:
        cdef Value v
        cdef int i
        for i in range(self.nbare):
            (<Expr>self.bare[i]).eval(&v)
            self.arena.keep_value(&v, &row[self.nkeys + i])
        return 0

    cdef int64_t group_of_row(self) except -1:
        """The number of the current row's group, which begins with it if there was none."""
        cdef Value v
        cdef int64_t group
        cdef bint fresh
        cdef int i
        v.tag = T_NULL
        self.key.n = 0
        for i in range(self.nkeys):
            (<Expr>self.keys[i]).eval(&v)
            key_put(&self.key, &v, self.collations[i], False)
        group = self.table.insert(self.key.p, self.key.n, &fresh) if self.nkeys else 0
        if self.nkeys == 1 and v.tag == T_INT:
            self.integers.learn(v.u.i, group)
        if group == self.count:
            self.new_group()
            for i in range(self.nkeys):
                (<Expr>self.keys[i]).eval(&v)
                self.arena.keep_value(&v, &self.rows[group][i])
            self.keep_bare(self.rows[group])
        return group

    cdef int number(self, int n, int64_t *groups) except -1:
        """The groups of the rows of the child's block."""
        cdef Value[BLOCK] values
        cdef Value v
        cdef int i
        cdef bint gathered
        if self.nkeys == 0:
            if self.count == 0:
                self.child.point(0)
                self.group_of_row()
            memset(groups, 0, n * sizeof(int64_t))
            return 0
        gathered = self.nkeys == 1 and (<Expr>self.keys[0]).gather(self.child, n, values)
        for i in range(n):
            groups[i] = -1
            if gathered:
                if values[i].tag == T_INT:
                    groups[i] = self.integers.find(values[i].u.i)
                if groups[i] >= 0:
                    continue
            self.child.point(i)
            if self.nkeys == 1 and not gathered:
                (<Expr>self.keys[0]).eval(&v)
                if v.tag == T_INT:
                    groups[i] = self.integers.find(v.u.i)
            if groups[i] < 0:
                groups[i] = self.group_of_row()
        return 0

    cdef int open(self) except -1:
        cdef int64_t[BLOCK] groups
        cdef int64_t group, before
        cdef int i, k, n
        cdef bint single = self.nkeys == 0, following = self.follow >= 0 and self.nbare > 0
        self.close()
        self.child.open()
        while True:
            n = self.child.block()
            if n == 0:
                break
            if not following:
                self.number(n, groups)
                for i in range(self.naggregates):
                    (<Aggregate>self.aggregates[i]).add_block(self.child, n, groups, &self.states[i], self.naggregates)
                continue
            for k in range(n):
                self.child.point(k)
                before = self.count
                group = self.group_of_row() if not single or before == 0 else 0
                for i in range(self.naggregates):
                    if (<Aggregate>self.aggregates[i]).add(&self.states[group * self.naggregates + i], group) and i == self.follow and (
                            group < before):
                        self.keep_bare(self.rows[group])
        if self.count == 0 and self.always:
            self.new_group()
        if not single and self.count:
            self.items = <SortItem *>calloc(self.count, sizeof(SortItem))
            if self.items == NULL:
                raise MemoryError()
            for group in range(self.count):
                make_item(&self.items[group], self.table.bytes.p + self.table.entries[group].offset,
                          self.table.entries[group].n, <void *>group)
            sort_items(self.items, self.count, self.watched)
        return 0

    cdef int next(self) except -1:
        cdef int64_t group
        cdef Value *row
        cdef State *states
        cdef int i
        if self.at >= self.count:
            return 0
        group = self.at if self.items == NULL else <int64_t>self.items[self.at].row
        self.at += 1
        row = self.rows[group]
        states = &self.states[group * self.naggregates]
        for i in range(self.nkeys):
            self.slots[i] = row[i]
        for i in range(self.naggregates):
            (<Aggregate>self.aggregates[i]).final(&states[i], &self.slots[self.nkeys + i])
        for i in range(self.nbare):
            self.slots[self.nkeys + self.naggregates + i] = row[self.nkeys + i]
        self.output.slots = self.slots
        self.output.null_row = False
        return 1

    cdef int close(self) except -1:
        cdef int i
        self.integers.clear()
        self.release()
        free(self.items)
        self.items = NULL
        self.at = 0
        self.arena.clear()
        self.table.clear()
        for i in range(self.naggregates):
            (<Aggregate>self.aggregates[i]).clear()
        return 0
