"""Window functions: all rows are kept, sorted for each window, and each function fills one slot of every row.

A row is an array of values: [0] its number in the order of arrival, then what was evaluated when it was read (columns that are
read above, arguments, FILTER, the term of a RANGE frame), then the results. A *pass* is one PARTITION BY and ORDER BY with the
functions over it. The first pass runs last, and its order is that in which the rows come out: so it is in SQLite, whose
queries nest in the same way.

FRAMES  Row i of a partition sees rows [low, high) but for those that EXCLUDE takes out, which leaves up to three pieces. Both ends
        only grow with i. So without EXCLUDE a sum takes in and takes out each row once, min and max keep a queue of rows that may
        still win, and group_concat is a slice of all texts joined; with EXCLUDE these go over the frame again for each row.
"""
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from memora.engine.codec cimport Buf, buf_free, buf_init
from memora.sql.record cimport SlotSource, key_put
from memora.sql.runtime cimport Arena, Context, Expr, Op, SortItem, make_item, sort_items, tick
from memora.sql.sorting cimport (
    AGG_AVG, AGG_CONCAT, AGG_COUNT, AGG_COUNT_ALL, AGG_MAX, AGG_MIN, State, add_number, remove_number, sum_result)
from memora.sql.types cimport (
    T_INT, T_NULL, T_REAL, T_TEXT, Value, append, compare, compare_affinity, from_python, real_to_integer, set_int, set_real, set_text,
    text_of, to_python, truth)

from memora.errors import OperationalError
from memora.sql.callbacks import failed

cdef extern from *:
    bint add_overflow "__builtin_add_overflow"(int64_t a, int64_t b, int64_t *r) nogil
    bint sub_overflow "__builtin_sub_overflow"(int64_t a, int64_t b, int64_t *r) nogil

cdef enum:
    ROW_NUMBER = 100
    RANK, DENSE_RANK, PERCENT_RANK, CUME_DIST, NTILE, LAG, LEAD, FIRST_VALUE, LAST_VALUE, NTH_VALUE

# name: (kind, least and most number of arguments)
FUNCTIONS = {"row_number": (ROW_NUMBER, 0, 0), "rank": (RANK, 0, 0), "dense_rank": (DENSE_RANK, 0, 0),
             "percent_rank": (PERCENT_RANK, 0, 0), "cume_dist": (CUME_DIST, 0, 0), "ntile": (NTILE, 1, 1), "lag": (LAG, 1, 3),
             "lead": (LEAD, 1, 3), "first_value": (FIRST_VALUE, 1, 1), "last_value": (LAST_VALUE, 1, 1),
             "nth_value": (NTH_VALUE, 2, 2)}

cdef enum:
    BY_ROWS, BY_RANGE, BY_GROUPS

UNITS = {"ROWS": BY_ROWS, "RANGE": BY_RANGE, "GROUPS": BY_GROUPS}

cdef enum:
    FIRST, PRECEDING, CURRENT, FOLLOWING, LAST

BOUNDS = {"UNBOUNDED PRECEDING": FIRST, "PRECEDING": PRECEDING, "CURRENT ROW": CURRENT, "FOLLOWING": FOLLOWING,
          "UNBOUNDED FOLLOWING": LAST}

cdef enum:
    NOTHING, THE_ROW, THE_GROUP, THE_TIES

EXCLUDES = {None: NOTHING, "NO OTHERS": NOTHING, "CURRENT ROW": THE_ROW, "GROUP": THE_GROUP, "TIES": THE_TIES}

cdef int64_t FAR = <int64_t>1 << 62


cdef struct Piece:
    int64_t start, end


cdef class Partition:
    """The rows of one partition in order. begin, end: of the peers of each row; group: their number; starts: of each group."""

    cdef Value **rows
    cdef int64_t *begin
    cdef int64_t *end
    cdef int64_t *group
    cdef int64_t *starts
    cdef int64_t *queue
    cdef int64_t n, groups, room
    cdef Context watched

    def __dealloc__(self):
        free(self.rows)
        free(self.begin)

    cdef int size(self, int64_t n) except -1:
        """Makes room for n rows."""
        cdef void *p
        self.n = n
        if n <= self.room:
            return 0
        free(self.rows)
        free(self.begin)
        self.rows = NULL
        self.begin = NULL
        self.room = 0
        p = malloc((n + 1) * sizeof(Value *))
        if p == NULL:
            raise MemoryError(f"no memory for a partition of {n} rows")
        self.rows = <Value **>p
        p = malloc(5 * (n + 1) * sizeof(int64_t))
        if p == NULL:
            raise MemoryError(f"no memory for a partition of {n} rows")
        self.begin = <int64_t *>p
        self.end = self.begin + n + 1
        self.group = self.end + n + 1
        self.starts = self.group + n + 1
        self.queue = self.starts + n + 1
        self.room = n
        return 0

    cdef int load(self, const SortItem *items, int64_t n) except -1:
        cdef int64_t i, k, start = 0, group = 0
        self.size(n)
        for i in range(n):
            self.rows[i] = <Value *>items[i].row
            if i and (items[i].n != items[i - 1].n or memcmp(items[i].key, items[i - 1].key, items[i].n)):
                for k in range(start, i):
                    self.end[k] = i
                group += 1
                start = i
            if i == start:
                self.starts[group] = i
            self.begin[i] = start
            self.group[i] = group
        for k in range(start, n):
            self.end[k] = n
        self.groups = group + 1
        self.starts[self.groups] = n
        return 0


cdef class Frame:
    """Where a window's frame begins and ends. order_slot, descending, nulls, collation: the term that RANGE counts in."""

    cdef int unit, start, end, exclude, order_slot, nulls, collation
    cdef bint descending
    cdef Expr start_by, end_by
    cdef int64_t start_rows, end_rows
    cdef Value start_value, end_value
    cdef Partition p
    cdef int64_t low, high, range_low, range_high

    def __cinit__(self, int unit, int start, Expr start_by, int end, Expr end_by, int exclude, int order_slot, bint descending,
                  int nulls, int collation):
        self.unit, self.start, self.start_by, self.end, self.end_by = unit, start, start_by, end, end_by
        self.exclude, self.order_slot, self.descending, self.nulls, self.collation = exclude, order_slot, descending, nulls, collation

    cdef int offset(self, Expr e, str what, int64_t *rows, Value *value) except -1:
        cdef int64_t whole = 0
        if e is None:
            return 0
        e.eval(value)
        if value.tag <= T_TEXT:
            compare_affinity(value, 2, NULL)
        if self.unit == BY_RANGE:
            if (value.tag == T_INT and value.u.i >= 0) or (value.tag == T_REAL and value.u.r >= 0.0):
                return 0
            raise OperationalError(f"frame {what} offset must be a non-negative number")
        if value.tag == T_REAL and real_to_integer(value.u.r, &whole):
            set_int(value, whole)
        if value.tag != T_INT or value.u.i < 0:
            raise OperationalError(f"frame {what} offset must be a non-negative integer")
        rows[0] = min(value.u.i, FAR)
        return 0

    cdef int prepare(self, Partition p) except -1:
        """Begins with the first row of a partition."""
        self.p = p
        self.low = self.high = self.range_low = self.range_high = 0
        self.offset(self.start_by, "starting", &self.start_rows, &self.start_value)
        self.offset(self.end_by, "ending", &self.end_rows, &self.end_value)
        return 0

    cdef int order(self, const Value *a, const Value *b) noexcept:
        """Of two values of the term, in the window's order."""
        cdef int r
        if a.tag == T_NULL or b.tag == T_NULL:
            r = (b.tag == T_NULL) - (a.tag == T_NULL)
            return -r if self.nulls > 0 or (self.nulls == 0 and self.descending) else r
        r = compare(a, b, self.collation)
        return -r if self.descending else r

    cdef int64_t by_value(self, int64_t i, const Value *by, bint back, bint end) except -1:
        """RANGE: the first row of the frame, or behind its last one, for a bound that lies `by` away from row i."""
        cdef Partition p = self.p
        cdef Value limit = p.rows[i][self.order_slot]
        cdef int64_t at, whole = 0
        cdef double x, y
        if limit.tag != T_INT and limit.tag != T_REAL:
            return p.end[i] if end else p.begin[i]
        if self.descending:
            back = not back
        if limit.tag == T_INT and by.tag == T_INT and not (
                sub_overflow(limit.u.i, by.u.i, &whole) if back else add_overflow(limit.u.i, by.u.i, &whole)):
            limit.u.i = whole
        else:
            x = <double>limit.u.i if limit.tag == T_INT else limit.u.r
            y = <double>by.u.i if by.tag == T_INT else by.u.r
            set_real(&limit, x - y if back else x + y)
        if end:
            at = self.range_high
            while at < p.n and self.order(&p.rows[at][self.order_slot], &limit) <= 0:
                at += 1
            self.range_high = at
        else:
            at = self.range_low
            while at < p.n and self.order(&p.rows[at][self.order_slot], &limit) < 0:
                at += 1
            self.range_low = at
        return at

    cdef int64_t bound(self, int64_t i, int kind, int64_t rows, const Value *value, bint end) except -1:
        cdef Partition p = self.p
        cdef int64_t at
        if kind == FIRST:
            return 0
        if kind == LAST:
            return p.n
        if kind == CURRENT:
            if self.unit == BY_ROWS:
                return i + end
            return p.end[i] if end else p.begin[i]
        if self.unit == BY_RANGE:
            return self.by_value(i, value, kind == PRECEDING, end)
        if kind == PRECEDING:
            rows = -rows
        if self.unit == BY_ROWS:
            at = i + rows + end
            return 0 if at < 0 else p.n if at > p.n else at
        at = p.group[i] + rows + end
        return 0 if at < 0 else p.n if at > p.groups else p.starts[at]

    cdef int move(self, int64_t i) except -1:
        """Sets [low, high) for row i; call it for rows in order."""
        self.low = self.bound(i, self.start, self.start_rows, &self.start_value, False)
        self.high = self.bound(i, self.end, self.end_rows, &self.end_value, True)
        return 0

    cdef int pieces(self, int64_t i, Piece *out) except -1:
        """The rows of the frame of row i in up to three pieces; their number."""
        cdef int64_t first, last
        cdef int n = 0
        self.move(i)
        if self.low >= self.high:
            return 0
        if self.exclude == NOTHING:
            out[0].start = self.low
            out[0].end = self.high
            return 1
        first = i if self.exclude == THE_ROW else self.p.begin[i]
        last = i + 1 if self.exclude == THE_ROW else self.p.end[i]
        if self.low < first:
            out[n].start = self.low
            out[n].end = min(first, self.high)
            n += 1
        if self.exclude == THE_TIES and self.low <= i < self.high:
            out[n].start = i
            out[n].end = i + 1
            n += 1
        if last < self.high:
            out[n].start = max(last, self.low)
            out[n].end = self.high
            n += 1
        return n


cdef class Call:
    """One function over a window. args: slots; condition: slot of FILTER, or -1; result: slot of the result. `opening` and
    `closing` stand around what json_group_array and json_group_object join."""

    cdef int kind, condition, result, collation, count
    cdef int[3] args
    cdef Frame frame
    cdef bytes opening, closing
    cdef State state
    cdef Buf text, scratch
    cdef Partition p
    cdef Arena arena

    def __cinit__(self, int kind, Frame frame, list args, int condition, int result, int collation, bytes opening=b"",
                  bytes closing=b"", *more):
        cdef int i
        self.kind, self.frame, self.condition, self.result, self.collation = kind, frame, condition, result, collation
        self.opening, self.closing = opening, closing
        self.count = <int>len(args)
        for i in range(self.count):
            self.args[i] = args[i]
        buf_init(&self.text)
        buf_init(&self.scratch)

    def __dealloc__(self):
        buf_free(&self.text)
        buf_free(&self.scratch)

    cdef int run(self, Partition p, Arena arena) except -1:
        """Fills the result slots of a partition; text that is made lies in the arena."""
        self.p, self.arena = p, arena
        self.frame.prepare(p)
        if self.kind >= FIRST_VALUE:
            return self.run_value()
        if self.kind >= LAG:
            return self.run_shift()
        if self.kind >= ROW_NUMBER:
            return self.run_rank()
        if self.kind == AGG_CONCAT:
            return self.run_concat()
        if self.frame.exclude != NOTHING:
            return self.run_again()
        if self.kind >= AGG_MIN:
            return self.run_extreme()
        return self.run_sum()

    # -- the functions that look at places only

    cdef int run_rank(self) except -1:
        cdef Partition p = self.p
        cdef int64_t i, n = p.n, tiles = 0, size = 0, larger = 0, done
        cdef Value *out
        cdef Value v
        if self.kind == NTILE:
            v = p.rows[0][self.args[0]]
            compare_affinity(&v, 2, NULL)
            if v.tag == T_REAL and real_to_integer(v.u.r, &tiles):
                set_int(&v, tiles)
            if v.tag != T_INT or v.u.i <= 0:
                raise OperationalError("argument of ntile must be a positive integer")
            tiles = v.u.i
            size = n // tiles
            larger = n % tiles
        for i in range(n):
            out = &p.rows[i][self.result]
            if self.kind == ROW_NUMBER:
                set_int(out, i + 1)
            elif self.kind == RANK:
                set_int(out, p.begin[i] + 1)
            elif self.kind == DENSE_RANK:
                set_int(out, p.group[i] + 1)
            elif self.kind == PERCENT_RANK:
                set_real(out, <double>p.begin[i] / <double>(n - 1) if n > 1 else 0.0)
            elif self.kind == CUME_DIST:
                set_real(out, <double>p.end[i] / <double>n)
            else:
                # the first `larger` tiles have one row more
                done = larger * (size + 1)
                set_int(out, 1 + (i // (size + 1) if i < done else larger + (i - done) // size))
        return 0

    cdef int run_shift(self) except -1:
        """lag and lead; the frame plays no part."""
        cdef Partition p = self.p
        cdef int64_t i, by, at
        cdef Value v
        cdef Value *row
        for i in range(p.n):
            tick(p.watched)
            row = p.rows[i]
            at = -1
            by = 1
            if self.count > 1:
                v = row[self.args[1]]
                compare_affinity(&v, 2, NULL)
                if v.tag == T_REAL and real_to_integer(v.u.r, &by):
                    set_int(&v, by)
                by = max(-FAR, min(v.u.i, FAR)) if v.tag == T_INT else FAR
            at = i - by if self.kind == LAG else i + by
            if 0 <= at < p.n:
                row[self.result] = p.rows[at][self.args[0]]
            elif self.count > 2:
                row[self.result] = row[self.args[2]]
            else:
                row[self.result].tag = T_NULL
        return 0

    cdef int run_value(self) except -1:
        """first_value, last_value and nth_value."""
        cdef Partition p = self.p
        cdef int64_t i, at, left = 0
        cdef int k, n
        cdef Piece[3] pieces
        cdef Value v
        for i in range(p.n):
            tick(p.watched)
            at = -1
            if self.kind == NTH_VALUE:
                v = p.rows[i][self.args[1]]
                compare_affinity(&v, 2, NULL)
                if v.tag == T_REAL and real_to_integer(v.u.r, &left):
                    set_int(&v, left)
                if v.tag != T_INT or v.u.i <= 0:
                    raise OperationalError("second argument to nth_value must be a positive integer")
                left = v.u.i - 1
            n = self.frame.pieces(i, pieces)
            if n and self.kind == FIRST_VALUE:
                at = pieces[0].start
            elif n and self.kind == LAST_VALUE:
                at = pieces[n - 1].end - 1
            else:
                for k in range(n):
                    if left < pieces[k].end - pieces[k].start:
                        at = pieces[k].start + left
                        break
                    left -= pieces[k].end - pieces[k].start
            if at < 0:
                p.rows[i][self.result].tag = T_NULL
            else:
                p.rows[i][self.result] = p.rows[at][self.args[0]]
        return 0

    # -- aggregates

    cdef inline bint counts(self, int64_t i) noexcept:
        """Whether row i enters the aggregate: FILTER lets it, and its argument is not NULL."""
        cdef Value *row = self.p.rows[i]
        if self.condition >= 0 and truth(&row[self.condition]) != 1:
            return False
        return self.kind == AGG_COUNT_ALL or row[self.args[0]].tag != T_NULL

    cdef int take(self, int64_t i) except -1:
        if self.counts(i):
            self.state.count += 1
            if self.kind > AGG_COUNT:
                add_number(&self.state, &self.p.rows[i][self.args[0]])
        return 0

    cdef int run_sum(self) except -1:
        """count, sum, total and avg."""
        cdef Partition p = self.p
        cdef Frame f = self.frame
        cdef State empty
        cdef int64_t i, k, taken = 0, dropped = 0
        memset(&empty, 0, sizeof(State))
        self.state = empty
        for i in range(p.n):
            tick(p.watched)
            f.move(i)
            if f.low >= f.high:
                sum_result(self.kind, &empty, &p.rows[i][self.result])
                continue
            while taken < f.high:
                self.take(taken)
                taken += 1
            while dropped < f.low:
                if self.counts(dropped):
                    self.state.count -= 1
                    if self.kind > AGG_COUNT and not remove_number(&self.state, &p.rows[dropped][self.args[0]]):
                        self.state = empty
                        self.state.approximate = True
                        for k in range(f.low, taken):
                            self.take(k)
                        dropped = f.low
                        break
                dropped += 1
            sum_result(self.kind, &self.state, &p.rows[i][self.result])
        return 0

    cdef inline bint better(self, const Value *a, const Value *b) noexcept:
        cdef int c = compare(a, b, self.collation)
        return c < 0 if self.kind == AGG_MIN else c > 0

    cdef int run_extreme(self) except -1:
        """min and max: `queue` holds rows of the frame, each better than all behind it."""
        cdef Partition p = self.p
        cdef Frame f = self.frame
        cdef int64_t *queue = p.queue
        cdef int64_t i, taken = 0, first = 0, n = 0
        for i in range(p.n):
            tick(p.watched)
            f.move(i)
            while taken < f.high:
                if self.counts(taken):
                    while n > first and self.better(&p.rows[taken][self.args[0]], &p.rows[queue[n - 1]][self.args[0]]):
                        n -= 1
                    queue[n] = taken
                    n += 1
                taken += 1
            while first < n and queue[first] < f.low:
                first += 1
            if f.low < f.high and first < n:
                p.rows[i][self.result] = p.rows[queue[first]][self.args[0]]
            else:
                p.rows[i][self.result].tag = T_NULL
        return 0

    cdef int run_again(self) except -1:
        """An aggregate whose frame has holes: over its rows again for each row."""
        cdef Partition p = self.p
        cdef int64_t i, j, best
        cdef int k, n
        cdef Piece[3] pieces
        for i in range(p.n):
            tick(p.watched)
            n = self.frame.pieces(i, pieces)
            memset(&self.state, 0, sizeof(State))
            best = -1
            for k in range(n):
                for j in range(pieces[k].start, pieces[k].end):
                    tick(p.watched)
                    if self.kind <= AGG_AVG:
                        self.take(j)
                    elif self.counts(j) and (best < 0 or self.better(&p.rows[j][self.args[0]], &p.rows[best][self.args[0]])):
                        best = j
            if self.kind <= AGG_AVG:
                sum_result(self.kind, &self.state, &p.rows[i][self.result])
            elif best < 0:
                p.rows[i][self.result].tag = T_NULL
            else:
                p.rows[i][self.result] = p.rows[best][self.args[0]]
        return 0

    cdef int separate(self, int64_t i) except -1:
        """Appends the separator that stands before row i's text."""
        cdef Value v
        if self.count == 1:
            append(&self.text, <const uint8_t *>b",", 1)
        elif self.p.rows[i][self.args[1]].tag != T_NULL:
            text_of(&self.p.rows[i][self.args[1]], &self.scratch, &v)
            append(&self.text, v.u.p, v.n)
        return 0

    cdef int give(self, Value *out, const uint8_t *text, size_t n) except -1:
        """Sets a result to opening, text and closing; what is neither opened nor closed stays where it is."""
        cdef size_t a = len(self.opening), b = len(self.closing)
        cdef uint8_t *p
        if a + b == 0:
            set_text(out, text, n)
            return 0
        p = <uint8_t *>self.arena.take(n + a + b + 1)
        memcpy(p, <const char *>self.opening, a)
        memcpy(p + a, text, n)
        memcpy(p + a + n, <const char *>self.closing, b)
        set_text(out, p, n + a + b)
        out.json = True
        return 0

    cdef int run_concat(self) except -1:
        """group_concat: all texts are joined once, and a frame is a slice of that."""
        cdef Partition p = self.p
        cdef int64_t i, j, n = p.n
        cdef int64_t *starts = p.queue
        cdef int64_t *next_ = NULL
        cdef int64_t *ends
        cdef int64_t *last
        cdef int64_t count = 0, first, end
        cdef uint8_t *joined
        cdef int k, pieces_n
        cdef Piece[3] pieces
        cdef Value v
        cdef Value *out
        cdef void *room = malloc(3 * (n + 1) * sizeof(int64_t))
        if room == NULL:
            raise MemoryError()
        # Of the texts, numbered as they come: where each begins and ends; of each row, the number of texts before it.
        ends = <int64_t *>room
        next_ = ends + n + 1
        last = next_ + n + 1
        try:
            self.text.n = 0
            for i in range(n):
                next_[i] = count
                if self.counts(i):
                    last[count] = self.text.n
                    if count:
                        self.separate(i)
                    starts[count] = self.text.n
                    text_of(&p.rows[i][self.args[0]], &self.scratch, &v)
                    append(&self.text, v.u.p, v.n)
                    ends[count] = self.text.n
                    count += 1
            next_[n] = count
            joined = <uint8_t *>self.arena.take(self.text.n + 1)
            memcpy(joined, self.text.p, self.text.n)
            for i in range(n):
                out = &p.rows[i][self.result]
                pieces_n = self.frame.pieces(i, pieces)
                first = -1
                end = 0
                self.text.n = 0
                for k in range(pieces_n):
                    j = next_[pieces[k].start]
                    if next_[pieces[k].end] == j:
                        continue
                    # the first text comes without its separator, those of later pieces with it
                    first = starts[j] if first < 0 else last[j]
                    end = ends[next_[pieces[k].end] - 1]
                    if pieces_n > 1:
                        append(&self.text, joined + first, end - first)
                if first < 0:
                    if self.opening:
                        self.give(out, joined, 0)
                    else:
                        out.tag = T_NULL
                elif pieces_n == 1:
                    self.give(out, joined + first, end - first)
                else:
                    set_text(&v, self.text.p, self.text.n)
                    self.arena.keep_value(&v, out)
                    self.give(out, out.u.p, out.n)
        finally:
            free(room)
        return 0


cdef class UserCall(Call):
    """A window function in Python: rows that enter the frame are stepped, rows that leave it are taken out by `inverse`. With
    EXCLUDE each row has an instance of its own."""

    cdef object user
    cdef list slots

    def __cinit__(self, int kind, Frame frame, list args, int condition, int result, int collation, bytes opening, bytes closing,
                  user, list slots):
        self.user, self.slots = user, slots

    cdef bint enters(self, int64_t i) noexcept:
        return self.condition < 0 or truth(&self.p.rows[i][self.condition]) == 1

    cdef list arguments(self, int64_t i):
        cdef int slot
        found = []
        for slot in self.slots:
            found.append(to_python(&self.p.rows[i][slot]))
        return found

    cdef int give_value(self, object result, Value *out) except -1:
        cdef Value v
        keep = []
        try:
            from_python(result, &v, keep)
        except Exception as error:
            raise failed(error, "user-defined aggregate's 'value' method raised error", self.user.function) from error
        self.arena.keep_value(&v, out)
        return 0

    cdef int run(self, Partition p, Arena arena) except -1:
        cdef Frame f = self.frame
        cdef int64_t i, j, taken = 0, dropped = 0
        cdef int k, n
        cdef Piece[3] pieces
        cdef object instance = None
        self.p, self.arena = p, arena
        f.prepare(p)
        for i in range(p.n):
            tick(p.watched)
            p.rows[i][self.result].tag = T_NULL
            if f.exclude != NOTHING:
                instance = None
                n = f.pieces(i, pieces)
                for k in range(n):
                    for j in range(pieces[k].start, pieces[k].end):
                        tick(p.watched)
                        if self.enters(j):
                            if instance is None:
                                instance = self.user.begin()
                            self.user.step(instance, self.arguments(j))
                if instance is not None:
                    self.give_value(self.user.finalize(instance), &p.rows[i][self.result])
                continue
            f.move(i)
            while dropped < f.low and dropped < taken:
                if self.enters(dropped):
                    self.user.inverse(instance, self.arguments(dropped))
                dropped += 1
            if dropped < f.low:
                dropped = taken = f.low
            while taken < f.high:
                if self.enters(taken):
                    if instance is None:
                        instance = self.user.begin()
                    self.user.step(instance, self.arguments(taken))
                taken += 1
            if instance is not None:
                self.give_value(self.user.value(instance), &p.rows[i][self.result])
        if f.exclude == NOTHING and instance is not None:
            self.user.dismiss(instance)
        return 0


cdef class Pass:
    """One PARTITION BY and ORDER BY, and the calls over it."""

    cdef list partition, partition_collations, keys, descending, nulls, collations, calls
    cdef SortItem *items

    def __cinit__(self, list partition, list partition_collations, list keys, list descending, list nulls, list collations,
                  list calls):
        self.partition, self.partition_collations = partition, partition_collations
        self.keys, self.descending, self.nulls, self.collations, self.calls = keys, descending, nulls, collations, calls

    def __dealloc__(self):
        free(self.items)

    cdef int encode(self, Buf *key) except -1:
        """The current row's key; the length of the part for PARTITION BY stands in front of it, in eight bytes."""
        cdef Value v
        cdef Py_ssize_t i
        cdef int nulls
        cdef uint8_t rank
        cdef size_t part = 0
        key.n = 0
        append(key, <const uint8_t *>&part, sizeof(size_t))
        for i in range(len(self.partition)):
            (<Expr>self.partition[i]).eval(&v)
            key_put(key, &v, self.partition_collations[i], False)
        part = key.n - sizeof(size_t)
        memcpy(key.p, &part, sizeof(size_t))
        for i in range(len(self.keys)):
            (<Expr>self.keys[i]).eval(&v)
            nulls = self.nulls[i]
            if nulls:
                rank = 1 if (v.tag == T_NULL) == (nulls > 0) else 0
                append(key, &rank, 1)
            key_put(key, &v, self.collations[i], self.descending[i])
        return 0

    cdef int run(self, int64_t n, Partition p, Arena arena) except -1:
        """Sorts the rows and runs all calls, partition by partition."""
        cdef int64_t start = 0, i
        cdef size_t part, other
        cdef SortItem *items = self.items
        cdef Py_ssize_t k
        sort_items(items, n, p.watched)
        while start < n:
            memcpy(&part, items[start].key - sizeof(size_t), sizeof(size_t))
            i = start + 1
            while i < n:
                memcpy(&other, items[i].key - sizeof(size_t), sizeof(size_t))
                if other != part or memcmp(items[i].key, items[start].key, part):
                    break
                i += 1
            p.load(items + start, i - start)
            for k in range(len(self.calls)):
                (<Call>self.calls[k]).run(p, arena)
            start = i
        return 0


cdef class Windows(Op):
    """Runs all passes over the child's rows. exprs: what is kept of each row, from slot 1 on; width: the number of slots."""

    cdef Op child
    cdef list exprs, passes
    cdef SlotSource output
    cdef int width
    cdef Arena arena
    cdef Partition partition
    cdef int64_t count, room, at
    cdef Buf key

    def __cinit__(self, Op child, list exprs, int width, list passes, SlotSource output):
        self.child, self.exprs, self.width, self.passes, self.output = child, exprs, width, passes, output
        self.arena = Arena()
        self.partition = Partition()
        buf_init(&self.key)

    def __dealloc__(self):
        buf_free(&self.key)

    cdef int add_row(self) except -1:
        cdef Value v
        cdef Value *row
        cdef uint8_t *key
        cdef Pass one
        cdef Py_ssize_t i
        cdef void *p
        if self.count == self.room:
            self.room = self.room * 2 + 64
            for i in range(len(self.passes)):
                one = self.passes[i]
                p = realloc(one.items, self.room * sizeof(SortItem))
                if p == NULL:
                    raise MemoryError(f"no memory to sort {self.count} rows")
                one.items = <SortItem *>p
        row = <Value *>self.arena.take(self.width * sizeof(Value))
        set_int(&row[0], self.count)
        for i in range(len(self.exprs)):
            (<Expr>self.exprs[i]).eval(&v)
            self.arena.keep_value(&v, &row[i + 1])
        for i in range(len(self.passes)):
            one = self.passes[i]
            one.encode(&self.key)
            key = <uint8_t *>self.arena.take(self.key.n)
            memcpy(key, self.key.p, self.key.n)
            make_item(&one.items[self.count], key + sizeof(size_t), self.key.n - sizeof(size_t), row)
        self.count += 1
        return 0

    cdef int arrange(self, Pass one, Pass before) except -1:
        """Puts the rows of a pass into the order that the pass before it left: so ties keep that order."""
        cdef int64_t i, number
        cdef SortItem *items = <SortItem *>malloc(self.room * sizeof(SortItem))
        if items == NULL:
            raise MemoryError(f"no memory to sort {self.count} rows")
        for i in range(self.count):
            number = (<Value *>before.items[i].row)[0].u.i
            items[i] = one.items[number]
        free(one.items)
        one.items = items
        return 0

    cdef int open(self) except -1:
        cdef Py_ssize_t i
        self.close()
        self.child.open()
        while self.child.next():
            self.add_row()
        for i in range(len(self.passes) - 1, -1, -1):
            if self.count and i < len(self.passes) - 1:
                self.arrange(self.passes[i], self.passes[i + 1])
            self.partition.watched = self.watched
            (<Pass>self.passes[i]).run(self.count, self.partition, self.arena)
        return 0

    cdef int next(self) except -1:
        if self.at >= self.count:
            return 0
        self.output.slots = <Value *>(<Pass>self.passes[0]).items[self.at].row
        self.output.null_row = False
        self.at += 1
        return 1

    cdef int close(self) except -1:
        self.arena.clear()
        self.count = 0
        self.at = 0
        return 0
