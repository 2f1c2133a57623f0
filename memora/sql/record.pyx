"""Rows as bytes, and the sources that expressions read columns from.

LAYOUT of a record, all little-endian; `varint` is LEB128, seven bits a byte, low bits first:

    varint  version      the table's column layout when the row was written (0 until a column is dropped)
    varint  columns      how many follow; fewer than the table has: the rest were added later and have their defaults
    varint  kind         for each column
    bytes   body         for each column, one behind the other

    kind 0 NULL   1..6 integer of 1, 2, 3, 4, 6, 8 bytes   7 double   8 the integer 0   9 the integer 1
         10 + 2n blob of n bytes   11 + 2n text of n bytes

The column that is the rowid (INTEGER PRIMARY KEY) is written as NULL; its value is the tree's key. So is a virtual generated
column; its value is computed when it is read.

INVARIANTS
(1) A column is decoded only when it is asked for; headers are read from the left up to it, and remembered unless they are few and short.
(2) No length is followed before it is checked against the record's end; a bad one raises CorruptionError.
(3) Index keys use the engine's order-preserving codec; NOCASE and RTRIM text is folded first, so that equal under the
    collation is equal bytes.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from memora.engine.codec cimport (
    KEY_BLOB, KEY_DOUBLE, KEY_INT64, KEY_NULL, KEY_TEXT, buf_free, buf_init, buf_put, key_blob, key_complement,
    key_double, key_int64, key_null, key_text)
from memora.sql.types cimport (
    COLL_NOCASE, COLL_RTRIM, COLL_USER, T_BLOB, T_INT, T_NULL, T_REAL, T_TEXT, append, from_python, reserve, set_blob, set_int,
    set_null, set_real, set_text, to_python)

from memora.sql.runtime cimport Expr

from memora.errors import CorruptionError


cdef uint64_t LONG_HEADERS = 0x8080808080808080ULL      # the bits of headers that go on in another byte
cdef size_t[128] SIZES                                  # of bodies, by kind
SIZES[:] = [0, 1, 2, 3, 4, 6, 8, 8, 0, 0, *[(kind - 10) >> 1 for kind in range(10, 128)]]


cdef class Source:
    """Where column references read from; an operator moves it from row to row."""

    cdef int column(self, int i, Value *out) except -1:
        out.tag = T_NULL
        return 0

    cdef int gather(self, int i, int n, Value *out) except -1:
        """A column of the n rows of a block."""
        raise NotImplementedError(type(self).__name__)

    cdef int rowid_value(self, Value *out) except -1:
        return self.column(-1, out)


cdef class SlotSource(Source):
    """A row of values in memory that some operator owns."""

    cdef int column(self, int i, Value *out) except -1:
        if self.null_row or i < 0:
            out.tag = T_NULL
        else:
            out[0] = self.slots[i]
        return 0

    cdef int gather(self, int i, int n, Value *out) except -1:
        cdef int k
        for k in range(n):
            if self.block[k] == NULL or i < 0:
                out[k].tag = T_NULL
            else:
                out[k] = self.block[k][i]
        return 0


cdef class EitherRow(Source):
    """Reads from another source, which may change."""

    cdef int column(self, int i, Value *out) except -1:
        return self.target.column(i, out)


cdef inline void read_body(uint64_t kind, const uint8_t *at, Value *out) noexcept nogil:
    """The value of a kind other than 0."""
    cdef uint64_t u
    if kind >= 10:
        if kind & 1:
            set_text(out, at, <size_t>((kind - 10) >> 1))
        else:
            set_blob(out, at, <size_t>((kind - 10) >> 1))
    elif kind == 7:
        out.tag = T_REAL
        memcpy(&out.u.r, at, 8)
    elif kind == 1:
        set_int(out, <int64_t><signed char>at[0])
    elif kind >= 8:
        set_int(out, <int64_t>(kind - 8))
    else:
        u = at[0] | (<uint64_t>at[1] << 8)
        if kind == 2:
            set_int(out, (<int64_t>(u << 48)) >> 48)
        elif kind == 3:
            u |= <uint64_t>at[2] << 16
            set_int(out, (<int64_t>(u << 40)) >> 40)
        elif kind == 4:
            u = 0
            memcpy(&u, at, 4)
            set_int(out, (<int64_t>(u << 32)) >> 32)
        elif kind == 5:
            u = 0
            memcpy(&u, at, 6)
            set_int(out, (<int64_t>(u << 16)) >> 16)
        else:
            memcpy(&u, at, 8)
            set_int(out, <int64_t>u)


cdef class RecordSource(Source):
    """A table's current row: a record and its rowid.

    columns: the table's column count; rowid_column: index of the column that is the rowid, or -1;
    defaults: values for columns that a record is too old to have.
    """

    def __cinit__(self, int columns, int rowid_column=-1, defaults=(), *args):
        cdef int i
        buf_init(&self.copy)
        self.columns = columns
        self.rowid_column = rowid_column
        self.kinds = <uint64_t *>calloc(columns + 1, sizeof(uint64_t))
        self.offsets = <size_t *>calloc(columns + 1, sizeof(size_t))
        self.defaults = <Value *>calloc(columns + 1, sizeof(Value))
        if self.kinds == NULL or self.offsets == NULL or self.defaults == NULL:
            raise MemoryError()
        self.keep = []
        for i, value in enumerate(defaults):
            from_python(value, &self.defaults[i], self.keep)

    def compute(self, EitherRow row, list virtual):
        """Virtual columns: for each column its expression over `row`, or None. Records have NULL in their place."""
        self.row, self.virtual = row, virtual

    cdef int computed(self, int i, Value *out) except -1:
        """A column that the record does not have."""
        if self.virtual is None or self.virtual[i] is None:
            return 0
        self.row.target = self
        (<Expr>self.virtual[i]).eval(out)
        return 1

    def __dealloc__(self):
        free(self.kinds)
        free(self.offsets)
        free(self.defaults)
        buf_free(&self.copy)

    cdef int load(self, const uint8_t *p, size_t n) except -1:
        """Points at a record; the bytes must stay until the next one is loaded."""
        cdef size_t at = 0
        cdef uint64_t count
        self.p = p
        self.n = n
        self.parsed = 0
        self.null_row = False
        if n >= 2 and p[0] < 128 and p[1] < 128:
            self.stored = p[1]
            self.head = 2
            if self.stored <= 8 and n >= 10:
                memcpy(&self.word, p + 2, 8)
                if self.stored < 8:
                    self.word &= (<uint64_t>1 << (8 * self.stored)) - 1
                self.brief = self.word & LONG_HEADERS == 0
            else:
                self.brief = False
        else:
            self.brief = False
            read_varint(p, n, &at)
            count = read_varint(p, n, &at)
            if count > n:
                raise CorruptionError(f"record of {n} bytes claims {count} columns")
            self.stored = <int>count
            self.head = at
        # Headers are of one byte nearly always: the body is found by one walk over the long ones only.
        self.body = 0
        return 0

    cdef int load_copy(self, const uint8_t *p, size_t n) except -1:
        """The same for bytes that do not stay."""
        self.copy.n = 0
        append(&self.copy, p, n)
        return self.load(self.copy.p, n)

    cdef int parse(self, int i) except -1:
        cdef const uint8_t *p = self.p
        cdef size_t n = self.n, at, size
        cdef uint64_t kind
        cdef int k
        if self.body == 0:
            at = self.head
            for k in range(self.stored):
                while at < n and p[at] >= 128:
                    at += 1
                at += 1
            if at > n:
                raise CorruptionError(f"record of {n} bytes ends inside its header of {self.stored} columns")
            self.body = at
        if i >= self.columns:
            raise CorruptionError(f"record has more than the table's {self.columns} columns")
        while self.parsed <= i:
            at = self.head
            if p[at] < 128:
                kind = p[at]
                self.head = at + 1
            else:
                kind = read_varint(p, n, &at)
                self.head = at
            size = <size_t>((kind - 10) >> 1) if kind >= 128 else SIZES[kind]
            if size > n - self.body:
                raise CorruptionError(f"record of {n} bytes: column {self.parsed} of {size} bytes at {self.body}")
            self.kinds[self.parsed] = kind
            self.offsets[self.parsed] = self.body
            self.body += size
            self.parsed += 1
        return 0

    cdef int column(self, int i, Value *out) except -1:
        cdef uint64_t kind, u
        cdef const uint8_t *at
        cdef size_t offset
        cdef int k
        if self.null_row:
            out.tag = T_NULL
            return 0
        if i == self.rowid_column or i < 0:
            set_int(out, self.rowid)
            return 0
        if i >= self.stored:
            if not self.computed(i, out):
                out[0] = self.defaults[i]
            return 0
        if self.brief:
            # the usual row: adding up a few lengths is cheaper than remembering them
            if i >= self.columns:
                raise CorruptionError(f"record has more than the table's {self.columns} columns")
            offset = 2 + self.stored
            u = self.word
            for k in range(i):
                offset += SIZES[u & 127]
                u >>= 8
            kind = u & 127
            if offset + SIZES[kind] > self.n:
                raise CorruptionError(f"record of {self.n} bytes: column {i} of {SIZES[kind]} bytes at {offset}")
            at = self.p + offset
        else:
            if i >= self.parsed:
                self.parse(i)
            kind = self.kinds[i]
            at = self.p + self.offsets[i]
        if kind:
            read_body(kind, at, out)
        elif not self.computed(i, out):
            out.tag = T_NULL
        return 0

    cdef int gather(self, int i, int n, Value *out) except -1:
        cdef const uint8_t *p
        cdef size_t size, offset
        cdef uint64_t kinds, kind
        cdef int row, k
        for row in range(n):
            if i == self.rowid_column or i < 0:
                set_int(&out[row], cell_rowid(&self.cells[row]))
                continue
            p = self.cells[row].val
            size = self.cells[row].vn
            if size >= 10 and p[0] < 128 and i < p[1] <= 8 and i < self.columns:
                # the usual row, as in column()
                memcpy(&kinds, p + 2, 8)
                if p[1] < 8:
                    kinds &= (<uint64_t>1 << (8 * p[1])) - 1
                offset = 2 + p[1]
                if kinds & LONG_HEADERS == 0:
                    for k in range(i):
                        offset += SIZES[kinds & 127]
                        kinds >>= 8
                    kind = kinds & 127
                    if kind and offset + SIZES[kind] <= size:
                        read_body(kind, p + offset, &out[row])
                        continue
            self.rowid = cell_rowid(&self.cells[row])
            self.load(p, size)
            self.column(i, &out[row])
        return 0


cdef uint64_t read_varint(const uint8_t *p, size_t n, size_t *at) except? 0:
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef size_t i = at[0]
    while i < n and shift < 63:
        value |= <uint64_t>(p[i] & 127) << shift
        i += 1
        if p[i - 1] < 128:
            at[0] = i
            return value
        shift += 7
    raise CorruptionError(f"record of {n} bytes: number at {at[0]} does not end")


cdef inline size_t write_varint(uint8_t *p, uint64_t value) noexcept nogil:
    cdef size_t n = 0
    while value >= 128:
        p[n] = <uint8_t>(value | 128)
        value >>= 7
        n += 1
    p[n] = <uint8_t>value
    return n + 1


cdef uint64_t kind_of(const Value *v) noexcept nogil:
    cdef int64_t i
    if v.tag == T_INT:
        i = v.u.i
        if i == 0 or i == 1:
            return 8 + i
        if -128 <= i <= 127:
            return 1
        if -32768 <= i <= 32767:
            return 2
        if -8388608 <= i <= 8388607:
            return 3
        if -2147483648LL <= i <= 2147483647LL:
            return 4
        if -140737488355328LL <= i <= 140737488355327LL:
            return 5
        return 6
    if v.tag == T_REAL:
        return 7
    if v.tag == T_TEXT:
        return 11 + 2 * <uint64_t>v.n
    if v.tag == T_BLOB:
        return 10 + 2 * <uint64_t>v.n
    return 0


cdef int record_encode(Buf *b, const Value *values, int count, uint32_t version) except -1:
    """Appends the record of a row."""
    cdef int i
    cdef uint64_t kind, u
    cdef size_t size = 20 + 10 * <size_t>count
    cdef uint8_t *p
    for i in range(count):
        size += values[i].n if values[i].tag >= T_TEXT else 8
    reserve(b, b.n + size)
    p = b.p + b.n
    p += write_varint(p, version)
    p += write_varint(p, count)
    for i in range(count):
        p += write_varint(p, kind_of(&values[i]))
    for i in range(count):
        if values[i].tag >= T_TEXT:
            if values[i].n:
                memcpy(p, values[i].u.p, values[i].n)
                p += values[i].n
        elif values[i].tag == T_REAL:
            memcpy(p, &values[i].u.r, 8)
            p += 8
        elif values[i].tag == T_INT:
            kind = kind_of(&values[i])
            if kind < 8:
                u = <uint64_t>values[i].u.i
                memcpy(p, &u, 8)
                p += kind if kind <= 4 else (6 if kind == 5 else 8)
    b.n = p - b.p
    return 0


# --- keys --------------------------------------------------------------------------------------------------------

cdef bytes user_label(int collation, bytes text):
    """What stands in a key for a text of a collation in Python."""
    from memora.sql.callbacks import collations
    found = collations.get(collation)
    return b"" if found is None else found.label(text.decode(errors="replace"))


cdef int put_folded(Buf *b, const Value *v, int collation) except -1:
    cdef size_t n = v.n, i
    cdef Buf folded
    cdef int status
    cdef bytes label
    if collation >= COLL_USER:
        label = user_label(collation, v.u.p[:v.n])
        return key_text(b, <const char *>label, len(label))
    if collation == COLL_RTRIM:
        while n and v.u.p[n - 1] == 32:
            n -= 1
        return key_text(b, <const char *>v.u.p, n)
    buf_init(&folded)
    reserve(&folded, n + 1)
    for i in range(n):
        folded.p[i] = v.u.p[i] + 32 if 65 <= v.u.p[i] <= 90 else v.u.p[i]
    status = key_text(b, <const char *>folded.p, n)
    buf_free(&folded)
    if status < 0:
        raise MemoryError(f"no memory for a key of {n} bytes")
    return 0


cdef int key_put(Buf *b, const Value *v, int collation, bint descending) except -1:
    """Appends a value as one component of a key."""
    cdef size_t start = b.n
    cdef int status = 0
    if v.tag == T_INT:
        status = key_int64(b, v.u.i)
    elif v.tag == T_TEXT:
        if collation:
            status = put_folded(b, v, collation)
        else:
            status = key_text(b, <const char *>v.u.p, v.n)
    elif v.tag == T_REAL:
        status = key_double(b, v.u.r)
    elif v.tag == T_NULL:
        status = key_null(b)
    else:
        status = key_blob(b, <const char *>v.u.p, v.n)
    if status < 0:
        raise MemoryError("no memory for a key")
    if descending:
        key_complement(b, start)
    return 0


cdef int key_part_value(const KeyPart *part, Value *out) except -1:
    if part.kind == KEY_INT64:
        set_int(out, part.i)
    elif part.kind == KEY_TEXT:
        set_text(out, part.p, part.n)
    elif part.kind == KEY_DOUBLE:
        set_real(out, part.d)
    elif part.kind == KEY_NULL:
        set_null(out)
    elif part.kind == KEY_BLOB:
        set_blob(out, part.p, part.n)
    else:
        raise CorruptionError("a key of SQL holds an integer beyond 64 bits")
    return 0


# --- for tests ---------------------------------------------------------------------------------------------------

def encode(values, int version=0):
    """The record of a sequence of Python values."""
    cdef Buf b
    cdef list keep = []
    cdef int n = len(values), i
    cdef Value *row = <Value *>calloc(n + 1, sizeof(Value))
    buf_init(&b)
    try:
        for i in range(n):
            from_python(values[i], &row[i], keep)
        record_encode(&b, row, n, version)
        return b.p[:b.n]
    finally:
        free(row)
        buf_free(&b)


def decode(bytes data, int columns, rowid=0, int rowid_column=-1, defaults=()):
    """The row of a record, as a table of that many columns shows it."""
    cdef RecordSource source = RecordSource(columns, rowid_column, defaults)
    cdef Value v
    cdef int i
    source.rowid = rowid
    source.load(<const uint8_t *><const char *>data, len(data))
    row = []
    for i in range(columns):
        source.column(i, &v)
        row.append(to_python(&v))
    return tuple(row)
