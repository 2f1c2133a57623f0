"""What every running statement is made of.

A prepared statement is a tree of operators (`Op`) over a tree of expressions (`Expr`), both built once and run many times.
An operator stands on a row when `next` returned 1; expressions then read that row through the `Source` objects that the
operator moves. So a row is never copied on its way up: only sorting, grouping and hashing keep values, in an `Arena`.

BLOCKS   whoever will read all rows may take them by blocks instead of by `next`: `block` says how many rows there are, at most BLOCK, and
         `point` moves to any one of them, in any order, until the next block. `Expr.gather` gives a column of all of them where that is
         cheaper than to point at each, `Expr.sift` the rows for which a condition is true, `keep` leaves only those in the block. An operator that has
         no blocks gives out its rows one by one.
MEMORY   text that an expression yields is good until that expression is evaluated again, or the source that it came
         from moves. Whoever keeps a value longer copies it (`Arena.keep_value`).
EPOCH    `Context.epoch` grows with each execution; results of subqueries that do not depend on outer rows are kept for
         one epoch.
"""
from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from memora.engine.codec cimport buf_free, buf_init, buf_put
from memora.engine.sync cimport mm_mono_ns
from memora.sql.types cimport T_NULL, T_TEXT, from_python, set_int, set_real, set_text, truth

from memora.errors import Interrupted, ProgrammingError, StatementTimeout

from .callbacks import failed

cdef int64_t EVERY = 1024               # rows


cdef class Control:
    """How the statements of a session are stopped or watched. Whatever runs long looks here every `EVERY` rows at most.

    interrupted: set by another thread; timeout_s: how long a statement may run, or None; handler: called every `n` rows, ends the
    statement if it returns something true."""

    cdef int64_t every(self) except -1:
        return EVERY if self.handler is None else max(1, min(EVERY, self.n))

    @property
    def timeout_s(self):
        """Seconds that a statement may run from its beginning to its last row, or None."""
        return self.timeout_ns / 1e9 if self.timeout_ns else None

    @timeout_s.setter
    def timeout_s(self, seconds):
        self.timeout_ns = 0 if seconds is None else max(1, min(<int64_t>9000000000000000000, int(seconds * 1e9)))

    def watch(self, handler, int64_t n):
        """Has `handler()` called every n rows; None or n < 1: nobody."""
        self.handler = handler if n > 0 else None
        self.n = self.left = n

    cdef void begin(self) noexcept:
        """A statement begins."""
        self.interrupted = False
        self.until_ns = <int64_t>mm_mono_ns() + self.timeout_ns if self.timeout_ns else 0

    cdef int check(self, int64_t until_ns, int64_t rows) except -1:
        """Raises if the statement that is to end at this moment (0: any) is to end now; `rows` were read since the last look."""
        if self.interrupted:
            raise Interrupted("interrupted")
        if until_ns and <int64_t>mm_mono_ns() > until_ns:
            raise StatementTimeout(f"interrupted: the statement took longer than its timeout of {self.timeout_s or 0:g} s")
        if self.handler is None:
            return 0
        self.left -= rows
        if self.left > 0:
            return 0
        self.left = self.n
        try:
            stop = bool(self.handler())
        except Exception as error:
            failed(error, "", self.handler)
            stop = True
        if stop:
            raise Interrupted("interrupted by the progress handler")
        return 0

    def look(self, int64_t rows):
        """Raises if the statement that was begun last is to end."""
        self.check(self.until_ns, rows)


cdef inline int bind_value(object o, Value *v, Context context) except -1:
    """from_python() for a parameter: the usual types without a call."""
    cdef int overflow = 0
    cdef Py_ssize_t n
    cdef const char *p
    if type(o) is int:
        set_int(v, PyLong_AsLongLongAndOverflow(o, &overflow))
        if not overflow:
            return 0
    elif type(o) is str:
        p = PyUnicode_AsUTF8AndSize(o, &n)
        set_text(v, <const uint8_t *>p, n)
        return 0
    elif type(o) is float:
        set_real(v, <double>o)
        return 0
    if context.made is None:
        context.made = []
    return from_python(o, v, context.made)


cdef class Context:
    """The parameters, transaction and clock of one execution.

    param_count: how many parameters the statement has.
    """

    def __cinit__(self, int param_count=0):
        self.param_count = param_count
        self.params = <Value *>calloc(param_count + 1, sizeof(Value))
        if self.params == NULL:
            raise MemoryError()
        self.others = []

    def __dealloc__(self):
        free(self.params)

    cpdef bind(self, object values):
        """Sets all parameters from a sequence, in index order."""
        cdef int i
        cdef tuple given = values if type(values) is tuple else tuple(values)
        self.keep = given               # text is read where it lies
        self.made = None
        for i in range(self.param_count):
            try:
                bind_value(given[i], &self.params[i], self)
            except ProgrammingError as error:
                raise ProgrammingError(f"Error binding parameter {i + 1}: {error}") from None

    cdef int pause(self) except -1:
        """Lets other threads and signals in, and ends the statement if its session's control says so."""
        cdef Control control = self.control
        cdef int64_t every
        if control is None:
            self.ticks = EVERY
            return 0
        with nogil:
            pass
        PyErr_CheckSignals()
        every = control.every()
        self.ticks = every - 1
        return control.check(self.until_ns, every)

    cpdef start(self, Transaction transaction, object values):
        """Begins an execution."""
        self.transaction = transaction
        self.epoch += 1
        if self.control is not None:
            self.until_ns = self.control.until_ns
        for other in self.others:
            other.start()
        if self.param_count:
            self.bind(values)

    cpdef stop(self, list ops):
        """Ends it: the operators let go of what they hold."""
        cdef Py_ssize_t i
        for i in range(len(ops)):
            (<Op>ops[i]).close()
        for other in self.others:
            other.stop()
        self.transaction = None

    def now(self):
        """The statement's time: one moment for each execution."""
        if self.clock is None or self.clock_epoch != self.epoch:
            from memora.sql.dates import now_ms
            self.clock = now_ms()
            self.clock_epoch = self.epoch
        return self.clock


cdef class Expr:
    """An expression; `eval` fills a value, `test` says 1 true, 0 false, 2 NULL."""

    cdef int eval(self, Value *out) except -1:
        raise NotImplementedError(type(self).__name__)

    cdef int test(self) except -1:
        cdef Value v
        self.eval(&v)
        return truth(&v)

    cdef int gather(self, Op op, int n, Value *out) except -1:
        """Its values for the n rows of op's block, which stay as long as the block; 0: op has to be pointed at each row."""
        return 0

    cdef int sift(self, Op op, int n, int32_t *passed) except -1:
        """Those of the n rows of op's block for which it is true: how many."""
        cdef int i, found = 0
        for i in range(n):
            op.point(i)
            if self.test() == 1:
                passed[found] = i
                found += 1
        return found


cdef class Op:
    """An operator. `open` begins a run (again and again in a nested loop), `next` returns 1 on a row and 0 at the
    end, `close` lets go of memory. A run is read by `next` or by `block`, not by both."""

    cdef int open(self) except -1:
        raise NotImplementedError(type(self).__name__)

    cdef int next(self) except -1:
        raise NotImplementedError(type(self).__name__)

    cdef int block(self) except -1:
        return self.next()

    cdef int point(self, int i) except -1:
        return 0

    cdef int keep(self, const int32_t *which, int n) except -1:
        """The rows of the block with these numbers, ascending, are its rows now."""
        return 0

    cdef bint aligned(self, object source) except -1:
        """Whether the source holds the rows of the block, by their numbers."""
        return False

    cdef int close(self) except -1:
        return 0


cdef class Work:
    """What a statement does that returns no rows as it goes: `go` does it all, and gives the number of rows changed."""

    cdef int64_t go(self) except? -1:
        raise NotImplementedError(type(self).__name__)


cdef enum:
    PIECE = 1 << 14


cdef class Arena:
    """Memory that is given out in pieces and taken back at once; pieces never move."""

    def __dealloc__(self):
        self.clear()
        free(self.blocks)

    cdef void *take(self, size_t n) except NULL:
        cdef size_t size
        cdef void *p
        n = (n + 7) & ~<size_t>7
        if n > self.left:
            size = PIECE if self.count < 8 else PIECE << 6
            if size < n:
                size = n
            if self.count == self.room:
                self.room = self.room * 2 + 8
                p = realloc(self.blocks, self.room * sizeof(void *))
                if p == NULL:
                    raise MemoryError()
                self.blocks = <void **>p
            p = malloc(size)
            if p == NULL:
                raise MemoryError(f"no memory for {size} bytes of rows, {self.used} are held")
            self.blocks[self.count] = p
            self.count += 1
            self.at = <uint8_t *>p
            self.left = size
        p = self.at
        self.at += n
        self.left -= n
        self.used += n
        return p

    cdef void clear(self) noexcept:
        cdef int i
        for i in range(self.count):
            free(self.blocks[i])
        self.count = 0
        self.left = 0
        self.used = 0
        self.at = NULL

    cdef int keep_value(self, const Value *v, Value *out) except -1:
        """Copies a value, and its bytes into the arena."""
        cdef void *p
        out[0] = v[0]
        if v.tag >= T_TEXT:
            p = self.take(v.n + 1)
            memcpy(p, v.u.p, v.n)
            out.u.p = <const uint8_t *>p
        return 0


cdef inline uint64_t hash_bytes(const uint8_t *p, size_t n) noexcept nogil:
    cdef uint64_t h = 0x9E3779B97F4A7C15ULL ^ n, w
    while n >= 8:
        memcpy(&w, p, 8)
        h = (h ^ w) * 0xD6E8FEB86659FD93ULL
        h ^= h >> 32
        p += 8
        n -= 8
    if n:
        w = 0
        memcpy(&w, p, n)
        h = (h ^ w) * 0xD6E8FEB86659FD93ULL
        h ^= h >> 32
    h *= 0xD6E8FEB86659FD93ULL
    return h ^ (h >> 29)


cdef class KeyTable:
    """A set of byte strings that numbers them 0, 1, 2... in the order of their arrival: open addressing, linear
    probing, at most half full."""

    def __cinit__(self):
        buf_init(&self.bytes)

    def __dealloc__(self):
        buf_free(&self.bytes)
        free(self.entries)
        free(self.slots)

    cdef int64_t find(self, const uint8_t *p, size_t n) noexcept:
        """The number of the key, or -1."""
        cdef uint64_t h, i
        cdef int64_t at
        cdef Entry *e
        if self.count == 0:
            return -1
        h = hash_bytes(p, n)
        i = h & self.mask
        while True:
            at = self.slots[i]
            if at == 0:
                return -1
            e = &self.entries[at - 1]
            if e.hash == h and e.n == n and memcmp(self.bytes.p + e.offset, p, n) == 0:
                return at - 1
            i = (i + 1) & self.mask

    cdef int64_t insert(self, const uint8_t *p, size_t n, bint *fresh) except -1:
        """The number of the key, put in if it was not there (then *fresh)."""
        cdef int64_t at = self.find(p, n)
        cdef void *grown
        cdef uint64_t h, i, size
        cdef int64_t k
        fresh[0] = at < 0
        if at >= 0:
            return at
        if self.count == self.room:
            self.room = self.room * 2 if self.room else 16
            grown = realloc(self.entries, self.room * sizeof(Entry))
            if grown == NULL:
                raise MemoryError()
            self.entries = <Entry *>grown
            size = <uint64_t>self.room * 2
            free(self.slots)
            self.slots = <int64_t *>calloc(size, sizeof(int64_t))
            if self.slots == NULL:
                raise MemoryError()
            self.mask = size - 1
            for k in range(self.count):
                i = self.entries[k].hash & self.mask
                while self.slots[i]:
                    i = (i + 1) & self.mask
                self.slots[i] = k + 1
        h = hash_bytes(p, n)
        self.entries[self.count].hash = h
        self.entries[self.count].offset = self.bytes.n
        self.entries[self.count].n = n
        if buf_put(&self.bytes, p, n) < 0:
            raise MemoryError()
        self.count += 1
        i = h & self.mask
        while self.slots[i]:
            i = (i + 1) & self.mask
        self.slots[i] = self.count
        return self.count - 1

    cdef void clear(self) noexcept:
        if self.count:
            memset(self.slots, 0, (self.mask + 1) * sizeof(int64_t))
        self.count = 0
        self.bytes.n = 0


# --- sorting -----------------------------------------------------------------------------------------------------

cdef class Integers:
    """A number, 0 or more, for each key that is one integer, beside a KeyTable: those that come again need no key bytes."""

    def __dealloc__(self):
        free(self.pairs)
        free(self.dense)

    cdef void settle(self) noexcept:
        """No key will be learned until clear(). Keys that lie close together, as those of most tables do, are found by their difference."""
        cdef uint64_t i
        cdef int64_t low = 0, high = 0
        cdef bint begun = False
        if self.count < 16:
            return
        for i in range(self.mask + 1):
            if self.pairs[2 * i + 1]:
                if not begun or self.pairs[2 * i] < low:
                    low = self.pairs[2 * i]
                if not begun or self.pairs[2 * i] > high:
                    high = self.pairs[2 * i]
                begun = True
        self.span = <uint64_t>high - <uint64_t>low + 1
        if self.span == 0 or self.span > 4 * self.count:
            return
        self.dense = <int64_t *>calloc(self.span, sizeof(int64_t))
        if self.dense == NULL:
            return                      # the pairs are there as well
        self.low = low
        for i in range(self.mask + 1):
            if self.pairs[2 * i + 1]:
                self.dense[<uint64_t>self.pairs[2 * i] - <uint64_t>low] = self.pairs[2 * i + 1]

    cdef int64_t *place(self, int64_t key) noexcept:
        """Where a key is, or belongs."""
        cdef uint64_t i = (<uint64_t>key * 0x9E3779B97F4A7C15ULL) >> 20
        while True:
            i &= self.mask
            if self.pairs[2 * i + 1] == 0 or self.pairs[2 * i] == key:
                return &self.pairs[2 * i]
            i += 1

    cdef int64_t find(self, int64_t key) noexcept:
        """Its number, or -1."""
        cdef uint64_t away = <uint64_t>key - <uint64_t>self.low
        if self.dense != NULL:
            return self.dense[away] - 1 if away < self.span else -1
        return -1 if self.count == 0 else self.place(key)[1] - 1

    cdef void ask(self, int64_t key) noexcept:
        """find() will come for it."""
        cdef uint64_t away = <uint64_t>key - <uint64_t>self.low
        if self.dense != NULL:
            if away < self.span:
                prefetch(&self.dense[away])
        elif self.count:
            prefetch(&self.pairs[2 * (((<uint64_t>key * 0x9E3779B97F4A7C15ULL) >> 20) & self.mask)])

    cdef int learn(self, int64_t key, int64_t number) except -1:
        cdef int64_t *old = self.pairs
        cdef int64_t *to
        cdef uint64_t i, room = self.mask + 1 if old != NULL else 0, grown = max(<uint64_t>256, 4 * room)
        if 2 * (self.count + 1) > room:
            self.pairs = <int64_t *>calloc(grown, 2 * sizeof(int64_t))
            if self.pairs == NULL:
                self.pairs = old
                raise MemoryError(f"no memory for {grown} keys")
            self.mask = grown - 1
            for i in range(room):
                if old[2 * i + 1]:
                    to = self.place(old[2 * i])
                    to[0], to[1] = old[2 * i], old[2 * i + 1]
            free(old)
        to = self.place(key)
        if to[1] == 0:
            self.count += 1
        to[0], to[1] = key, number + 1
        return 0

    cdef void clear(self) noexcept:
        free(self.pairs)
        free(self.dense)
        self.pairs = self.dense = NULL
        self.count = 0


cdef void make_item(SortItem *item, const uint8_t *key, size_t n, void *row) noexcept nogil:
    cdef uint64_t head = 0
    cdef size_t i
    for i in range(8):
        head = (head << 8) | (key[i] if i < n else 0)
    item.head = head
    item.key = key
    item.n = n
    item.row = row


cdef int compare_items(const SortItem *a, const SortItem *b) noexcept nogil:
    cdef size_t m
    cdef int r
    if a.head != b.head:
        return -1 if a.head < b.head else 1
    m = a.n if a.n < b.n else b.n
    if m > 8:
        r = memcmp(a.key + 8, b.key + 8, m - 8)
        if r:
            return r
    return (a.n > b.n) - (a.n < b.n)


cdef void merge(const SortItem *source, SortItem *target, size_t begin, size_t middle, size_t end) noexcept nogil:
    """Merges two neighbouring runs."""
    cdef size_t i = begin, j = middle, k = begin
    if middle == end or compare_items(&source[middle], &source[middle - 1]) >= 0:
        memcpy(&target[begin], &source[begin], (end - begin) * sizeof(SortItem))
        return
    while i < middle and j < end:
        if compare_items(&source[j], &source[i]) < 0:
            target[k] = source[j]
            j += 1
        else:
            target[k] = source[i]
            i += 1
        k += 1
    if i < middle:
        memcpy(&target[k], &source[i], (middle - i) * sizeof(SortItem))
    elif j < end:
        memcpy(&target[k], &source[j], (end - j) * sizeof(SortItem))


cdef int sort_items(SortItem *items, size_t n, Context c) except -1:
    """Sorts by key bytes and keeps the order of equal ones: runs of 12 by insertion, then merges bottom up, each pass as many rows for tick()."""
    cdef SortItem *spare
    cdef SortItem *source = items
    cdef SortItem *target
    cdef SortItem *swap
    cdef SortItem item
    cdef size_t begin, end, i, j, k, middle, width
    if n < 2:
        return 0
    with nogil:
        begin = 0
        while begin < n:
            end = begin + 12 if begin + 12 < n else n
            for i in range(begin + 1, end):
                item = items[i]
                j = i
                while j > begin and compare_items(&item, &items[j - 1]) < 0:
                    items[j] = items[j - 1]
                    j -= 1
                items[j] = item
            begin = end
    if n <= 12:
        return 0
    spare = <SortItem *>malloc(n * sizeof(SortItem))
    if spare == NULL:
        raise MemoryError(f"no memory to sort {n} rows")
    target = spare
    width = 12
    try:
        while width < n:
            with nogil:
                begin = 0
                while begin < n:
                    middle = begin + width if begin + width < n else n
                    end = middle + width if middle + width < n else n
                    merge(source, target, begin, middle, end)
                    begin = end
            swap = source
            source = target
            target = swap
            width *= 2
            ticks(c, <int>min(n, <size_t>(1 << 30)))
        if source != items:
            memcpy(items, source, n * sizeof(SortItem))
    finally:
        free(spare)
    return 0
