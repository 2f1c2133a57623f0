"""The writer of one table: rows in, records and index entries out."""
from libc.stdint cimport int64_t, uint8_t, uint32_t

from memora.engine.codec cimport Buf
from memora.sql.effects cimport Effects, Watch
from memora.sql.record cimport EitherRow, RecordSource, SlotSource, Source
from memora.sql.runtime cimport Context, Expr
from memora.sql.types cimport Value


cdef enum:
    ABORT = 1
    FAIL = 2
    IGNORE = 3
    REPLACE = 4
    ROLLBACK = 5
    UPSERT = 6


cdef class NewRow(SlotSource):
    cdef int rowid_column
    cdef int64_t rowid


cdef class IndexWriter:
    cdef uint32_t tree
    cdef list columns, exprs, collations, descending
    cdef int count
    cdef bint unique
    cdef Expr where
    cdef int conflict
    cdef str message
    cdef Buf key, old_key, gone_key
    cdef bint changed
    cdef int had, has                  # 0 no entry, 1 with the locator in the key, 2 without


cdef class TableWriter:
    cdef Context context
    cdef uint32_t tree, version
    cdef int columns, rowid_column
    cdef bint has_rowid, strict, auto_rowid
    cdef bint numbered                 # the value behind those of all columns is the row's new rowid
    cdef int *affinities
    cdef int *not_null                 # 0, or the conflict action
    cdef Value *values
    cdef Value *stored
    cdef Buf *scratch
    cdef list defaults, names, types, checks, indexes
    cdef public list order             # in which keys are looked at for conflicts: positions in indexes, -1 the row's own
    cdef list generated                # (number, expression over `row`) in the order of computation
    cdef list virtual                  # numbers of the columns that are not stored
    cdef bint partly                   # the record has NULL for some columns whose value is elsewhere
    cdef readonly NewRow new
    cdef readonly RecordSource old
    cdef readonly EitherRow row
    cdef IndexWriter primary
    cdef int rowid_conflict
    cdef int otherwise                 # with an UPSERT: the action for what it does not stand for
    cdef bint chosen                   # new.rowid was given by next_rowid
    cdef str table
    cdef Buf record, locator, old_locator
    cdef public object sequence
    cdef bytes conflict_row            # set for an UPSERT: the locator of the row in the way,
    cdef Py_ssize_t conflict_index     # and which index found it
    cdef public int64_t last_rowid
    cdef readonly int64_t written      # rows since the statement began, those that REPLACE removed not counted
    cdef readonly Watch watch          # the run that this writer is a part of, if anything in it is set off by changes
    cdef readonly Effects inserting, updating, removing
    cdef RecordSource was              # the old row as it was before BEFORE triggers
    cdef int convert_column(self, int i, int action) except -1
    cdef int convert(self, int action) except -1
    cdef int check(self, int action) except -1
    cdef int constrain(self, int action) except -1
    cdef int make_key(self, IndexWriter ix, Source source, const Buf *locator, Buf *key) except -1
    cdef int find_conflict(self, IndexWriter ix, const uint8_t **p, size_t *n) except -1
    cdef int make_locator(self, Source source, int64_t rowid, Buf *out) except -1
    cdef int own_conflict(self) except -1
    cdef int clear_way(self, int action, bint updating) except -1
    cdef int rowid_of_values(self, int at) except -1
    cdef int take_rowid(self, bint given) except -1
    cdef int propose(self) except -1
    cdef int reread(self) except -1
    cdef int keep_was(self) except -1
    cdef int remove(self) except -1
    cdef int before_update(self) except -1
    cdef int insert(self, int action, bint given) except -1
    cdef int load_old(self, const uint8_t *p, size_t n) except -1
    cpdef int unused(self) except -1
    cdef int remove_old(self) except -1
    cdef int update(self, int action) except -1
    cdef int put_entry(self, IndexWriter ix) except -1
    cdef int write_row(self, bint fresh) except -1
    cdef object unique_error(self, IndexWriter ix)
