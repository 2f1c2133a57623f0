"""The base classes of a running statement: its context, expressions, operators and the memory that they share."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from memora.engine.codec cimport Buf
from memora.engine.transaction cimport Transaction
from memora.sql.types cimport T_TEXT, Value


cdef class Control:
    cdef public bint interrupted
    cdef public object handler
    cdef public int64_t n
    cdef readonly int64_t left
    cdef int64_t timeout_ns            # of a statement; 0: none
    cdef int64_t until_ns              # of the statement that was begun last
    cdef int64_t every(self) except -1
    cdef int check(self, int64_t until_ns, int64_t rows) except -1
    cdef void begin(self) noexcept


cdef class Context:
    cdef public Transaction transaction
    cdef public list others            # databases.Elsewhere: the contexts of further databases
    cdef uint64_t epoch                # one execution of the statement
    cdef Value *params
    cdef readonly int param_count
    cdef tuple keep                    # the parameters as they came
    cdef list made                     # and what was made of some of them
    cdef public int64_t changes, total_changes, last_rowid
    cdef object clock
    cdef uint64_t clock_epoch
    cdef public Control control        # the session's, or None
    cdef int64_t ticks                 # rows until it is looked at
    cdef int64_t until_ns              # when the execution is to end, by the monotonic clock; 0: never
    cdef int pause(self) except -1
    cpdef bind(self, object values)
    cpdef start(self, Transaction transaction, object values)
    cpdef stop(self, list ops)


cdef inline int tick(Context c) except -1:
    """Called for each row that is read or made: whatever runs long passes here."""
    c.ticks -= 1
    if c.ticks < 0:
        return c.pause()
    return 0


cdef enum:
    BLOCK = 128                        # rows of a block at most


cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *p) nogil


cdef inline int ticks(Context c, int n) except -1:
    """tick() for n rows."""
    c.ticks -= n
    if c.ticks < 0:
        return c.pause()
    return 0


cdef inline int spend(Context c, size_t *spent, size_t n) except -1:
    """tick() for long work on texts: `n` bytes or steps of it more, summed up in `spent`. 256 of them count as a row."""
    spent[0] += n
    if spent[0] >= 1 << 16:
        n = spent[0] >> 8
        spent[0] = 0
        return ticks(c, <int>n if n < 1 << 30 else 1 << 30)
    return 0


cdef inline int weigh(Context c, const Value *v) except -1:
    """tick() for a value that was made: each KiB of it counts as a row."""
    if v.tag >= T_TEXT and v.n >= 1024:
        return ticks(c, <int>(v.n >> 10))
    return 0


cdef class Expr:
    cdef int eval(self, Value *out) except -1
    cdef int test(self) except -1
    cdef int gather(self, Op op, int n, Value *out) except -1
    cdef int sift(self, Op op, int n, int32_t *passed) except -1


cdef class Op:
    cdef public Context watched        # of the statement, for those that work long between two rows
    cdef int open(self) except -1
    cdef int next(self) except -1
    cdef int block(self) except -1
    cdef int point(self, int i) except -1
    cdef int keep(self, const int32_t *which, int n) except -1
    cdef bint aligned(self, object source) except -1
    cdef int close(self) except -1


cdef class Work:
    cdef readonly list returned        # the rows of RETURNING, or None
    cdef readonly bint inserted        # it wrote a new row, or more
    cdef int64_t go(self) except? -1


cdef class Arena:
    cdef void **blocks
    cdef int count, room
    cdef uint8_t *at
    cdef size_t left
    cdef size_t used
    cdef void *take(self, size_t n) except NULL
    cdef void clear(self) noexcept
    cdef int keep_value(self, const Value *v, Value *out) except -1


cdef struct Entry:
    uint64_t hash
    size_t offset
    size_t n


cdef class KeyTable:
    cdef Buf bytes
    cdef Entry *entries
    cdef readonly int64_t count
    cdef int64_t room
    cdef int64_t *slots
    cdef uint64_t mask
    cdef int64_t find(self, const uint8_t *p, size_t n) noexcept
    cdef int64_t insert(self, const uint8_t *p, size_t n, bint *fresh) except -1
    cdef void clear(self) noexcept


cdef class Integers:
    cdef int64_t *pairs                # an integer and 1 + its number, by hash
    cdef uint64_t mask, count          # mask + 1 pairs; how many are in use
    cdef int64_t *dense                # 1 + the number of low, low + 1, ...: made by settle() where the keys lie close together
    cdef int64_t low
    cdef uint64_t span                 # of them
    cdef void settle(self) noexcept
    cdef int64_t *place(self, int64_t key) noexcept
    cdef int64_t find(self, int64_t key) noexcept
    cdef void ask(self, int64_t key) noexcept
    cdef int learn(self, int64_t key, int64_t number) except -1
    cdef void clear(self) noexcept


cdef struct SortItem:
    uint64_t head                      # the key's first eight bytes as a number
    const uint8_t *key
    size_t n
    void *row

cdef void make_item(SortItem *item, const uint8_t *key, size_t n, void *row) noexcept nogil
cdef int compare_items(const SortItem *a, const SortItem *b) noexcept nogil
cdef int sort_items(SortItem *items, size_t n, Context c) except -1
