"""INSERT, UPDATE and DELETE of single rows: affinity, constraints, the record, and the entries of all indexes.

A row to be written stands in `new`, the row that it replaces in `old`; expressions of the table (CHECK, indexes) read `row`,
which points at one of them. The layouts of keys are told in `scan.pyx`, records in `record.pyx`.

CONFLICTS   ABORT (the default), FAIL and ROLLBACK raise, and the session undoes what they ask for; IGNORE leaves the row out;
    REPLACE removes the rows in the way. For a plain INSERT nothing is looked up first: `c_insert` of the row and of unique keys
    says that a key exists, and the statement's savepoint takes back what was already written. The engine checks these
    inserts again at commit, so uniqueness holds between processes, too.
EFFECTS     Where a change sets something off (effects.pyx), the order around a row is SQLite's. INSERT: BEFORE triggers; the rowid;
    constraints, and what REPLACE removes; foreign keys; the write; AFTER triggers. UPDATE and DELETE: BEFORE triggers; the row is read again, since
    they may have changed it; constraints; foreign keys; the write; actions of foreign keys; AFTER triggers, which see the old row as
    it was at first.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from memora.engine.codec cimport buf_free, buf_init
from memora.engine.rowids cimport give_back, next_rowid
from memora.engine.transaction cimport Transaction
from memora.sql.effects cimport Effects, Watch
from memora.sql.record cimport EitherRow, RecordSource, SlotSource, Source, key_put, key_rowid, record_encode, rowid_key
from memora.sql.runtime cimport Context, Expr
from memora.sql.types cimport (
    AFF_INTEGER, T_BLOB, T_INT, T_NULL, T_REAL, T_TEXT, append, apply_affinity, compare_affinity, real_to_integer, set_int,
    to_python)

from memora.errors import IntegrityError

from .conflicts import ACTIONS, violation

cdef class NewRow(SlotSource):
    """The row that is being written."""

    cdef int column(self, int i, Value *out) except -1:
        if i < 0 or i == self.rowid_column:
            set_int(out, self.rowid)
        else:
            out[0] = self.slots[i]
        return 0


cdef class IndexWriter:
    """What the writer needs to know of an index. columns: numbers, or None with an Expr over the row in `exprs`."""

    def __cinit__(self, uint32_t tree, list columns, list exprs, list collations, list descending, bint unique,
                  Expr where, conflict, str message):
        self.tree, self.columns, self.exprs = tree, columns, exprs
        self.collations, self.descending, self.unique = collations, descending, unique
        self.where, self.conflict, self.message = where, ACTIONS[conflict], message
        self.count = <int>len(columns)
        buf_init(&self.key)
        buf_init(&self.old_key)
        buf_init(&self.gone_key)

    def __dealloc__(self):
        buf_free(&self.key)
        buf_free(&self.old_key)
        buf_free(&self.gone_key)


cdef class TableWriter:
    """Writes one table's rows.

    columns: (name, affinity, action of NOT NULL or None, default value, type of a STRICT table or None) each.
    """

    def __cinit__(self, Context context, str table, uint32_t tree, uint32_t version, list columns, int rowid_column,
                  bint has_rowid, rowid_conflict, list old_defaults):
        cdef int i
        self.context, self.table, self.tree, self.version = context, table, tree, version
        self.columns = <int>len(columns)
        self.rowid_column, self.has_rowid, self.rowid_conflict = rowid_column, has_rowid, ACTIONS[rowid_conflict]
        self.affinities = <int *>calloc(self.columns + 1, sizeof(int))
        self.not_null = <int *>calloc(self.columns + 1, sizeof(int))
        self.values = <Value *>calloc(self.columns + 1, sizeof(Value))
        self.stored = <Value *>calloc(self.columns + 1, sizeof(Value))
        self.scratch = <Buf *>calloc(self.columns + 1, sizeof(Buf))
        if not (self.affinities and self.not_null and self.values and self.stored and self.scratch):
            raise MemoryError()
        self.names, self.defaults, self.types = [], [], []
        for i, (name, affinity, not_null, default, type_) in enumerate(columns):
            self.affinities[i] = affinity
            self.not_null[i] = ACTIONS[not_null]
            self.names.append(name)
            self.defaults.append(default)
            self.types.append(type_)
            self.strict = self.strict or type_ is not None
        self.new = NewRow()
        self.new.slots = self.values
        self.new.count = self.columns
        self.new.rowid_column = rowid_column
        self.old = RecordSource(self.columns, rowid_column, old_defaults)
        self.row = EitherRow()
        self.row.target = self.new
        self.checks, self.indexes, self.generated, self.virtual = [], [], [], []
        buf_init(&self.record)
        buf_init(&self.locator)
        buf_init(&self.old_locator)

    def __dealloc__(self):
        cdef int i
        if self.scratch != NULL:
            for i in range(self.columns):
                buf_free(&self.scratch[i])
        free(self.affinities)
        free(self.not_null)
        free(self.values)
        free(self.stored)
        free(self.scratch)
        buf_free(&self.record)
        buf_free(&self.locator)
        buf_free(&self.old_locator)

    def complete(self, list indexes, list checks, IndexWriter primary=None, sequence=None, list generated=None, list virtual=None):
        """What is compiled over the writer's own row: indexes, checks [(expression, text)], the primary key of a table without
        rowids, generated columns [(number, expression)], of which `virtual` ones are not stored. sequence: the AUTOINCREMENT
        counter, or None."""
        self.indexes, self.checks, self.primary, self.sequence = indexes, checks, primary, sequence
        self.generated, self.virtual = generated or [], virtual or []
        self.order = list(range(-1, len(indexes)))
        self.partly = self.rowid_column >= 0 or len(self.virtual) > 0

    def attach(self, Watch watch, Effects inserting=None, Effects updating=None, Effects removing=None):
        """What changes of the table set off, and the run that they are part of: that of a statement with effects, or of a step of one."""
        self.watch, self.inserting, self.updating, self.removing = watch, inserting, updating, removing
        self.was = self.another_old()

    def another_old(self):
        cdef RecordSource source = RecordSource(self.columns, self.rowid_column, self.old_defaults())
        source.compute(self.old.row, self.old.virtual)
        return source

    # -- the new row

    cdef int convert_column(self, int i, int action) except -1:
        cdef Value *v = &self.values[i]
        cdef int a
        if self.affinities[i]:
            apply_affinity(v, self.affinities[i], &self.scratch[i])
        if v.tag == T_NULL and self.not_null[i]:
            a = action or self.not_null[i]
            if a == REPLACE and self.defaults[i] is not None:
                (<Expr>self.defaults[i]).eval(v)
                apply_affinity(v, self.affinities[i], &self.scratch[i])
                if v.tag != T_NULL:
                    return 1
            if a == IGNORE:
                return 0
            raise violation(f"NOT NULL constraint failed: {self.table}.{self.names[i]}", a)
        if self.strict and v.tag != T_NULL:
            self.check_type(i)
        return 1

    cdef int convert(self, int action) except -1:
        """Affinity, NOT NULL, STRICT types and generated columns; 0 if the row is to be left out."""
        cdef int i
        cdef Py_ssize_t k
        for k in range(len(self.generated)):
            # what stands there may break a constraint of the column; its value comes when all it reads is there
            set_int(&self.values[<int>self.generated[k][0]], 0)
        for i in range(self.columns):
            if i != self.rowid_column and not self.convert_column(i, action):
                return 0
        self.row.target = self.new
        for k in range(len(self.generated)):
            i = self.generated[k][0]
            (<Expr>self.generated[k][1]).eval(&self.values[i])
            if not self.convert_column(i, action):
                return 0
        return 1

    def check_type(self, int i):
        cdef int tag = self.values[i].tag
        wanted = self.types[i]
        if (wanted == "ANY" or (wanted in ("INT", "INTEGER") and tag == T_INT) or (wanted == "REAL" and tag == T_REAL)
                or (wanted == "TEXT" and tag == T_TEXT) or (wanted == "BLOB" and tag == T_BLOB)):
            return
        kind = ("NULL", "INT", "REAL", "TEXT", "BLOB")[tag]
        raise IntegrityError(f"cannot store {kind} value in {wanted} column {self.table}.{self.names[i]}")

    cdef int check(self, int action) except -1:
        cdef Py_ssize_t i
        self.row.target = self.new
        for i in range(len(self.checks)):
            expr, text = self.checks[i]
            if (<Expr>expr).test() == 0:
                if action == IGNORE:
                    return 0
                raise violation(f"CHECK constraint failed: {text}", ABORT if action == REPLACE else action)
        return 1

    cdef int constrain(self, int action) except -1:
        return self.convert(action) and (not self.checks or self.check(action))

    # -- keys

    cdef int make_key(self, IndexWriter ix, Source source, const Buf *locator, Buf *key) except -1:
        """The index key of a row: 0 if it has none (a partial index), 1 if the locator is part of it, 2 if not."""
        cdef Value v
        cdef int i
        cdef bint null = False
        key.n = 0
        self.row.target = source
        if ix.where is not None and ix.where.test() != 1:
            return 0
        for i in range(ix.count):
            column = ix.columns[i]
            if column is None:
                (<Expr>ix.exprs[i]).eval(&v)
            else:
                source.column(column, &v)
            if v.tag == T_NULL:
                null = True
            key_put(key, &v, ix.collations[i], ix.descending[i])
        if ix.unique and not null:
            return 2
        append(key, locator.p, locator.n)
        return 1

    cdef int make_locator(self, Source source, int64_t rowid, Buf *out) except -1:
        cdef uint8_t[8] key
        cdef Value v
        cdef int i
        out.n = 0
        if self.has_rowid:
            rowid_key(rowid, key)
            append(out, key, 8)
            return 0
        for i in range(self.primary.count):
            source.column(self.primary.columns[i], &v)
            key_put(out, &v, self.primary.collations[i], self.primary.descending[i])
        return 0

    cdef object unique_error(self, IndexWriter ix):
        if ix is None and self.primary is not None:
            return self.primary.message
        if ix is None:
            name = self.names[self.rowid_column] if self.rowid_column >= 0 else "rowid"
            return f"UNIQUE constraint failed: {self.table}.{name}"
        return ix.message

    # -- conflicts

    cdef int find_conflict(self, IndexWriter ix, const uint8_t **p, size_t *n) except -1:
        """1 and the locator of the row that has the unique key in ix.key; 0 if there is none. ix None: the row's own."""
        cdef const uint8_t *value
        cdef size_t vn
        if ix is None:
            if self.context.transaction.c_get(self.tree, self.locator.p, self.locator.n, &value, &vn):
                p[0] = self.locator.p
                n[0] = self.locator.n
                return 1
            return 0
        return self.context.transaction.c_get(ix.tree, ix.key.p, ix.key.n, p, n)

    cdef int clear_way(self, int action, bint updating) except -1:
        """Looks for rows in the way of the new one: 1 it can be written, 0 it is to be left out, 2 UPSERT must act on
        `conflict_row`. With `updating`, the old row is not in the way."""
        cdef int pass_, a, found
        cdef Py_ssize_t i
        cdef const uint8_t *p
        cdef size_t n
        cdef IndexWriter ix
        cdef bint moved = not updating or self.locator.n != self.old_locator.n or memcmp(
            self.locator.p, self.old_locator.p, self.locator.n) != 0
        for pass_ in range(2):
            # what REPLACE removes comes last, so that IGNORE and ABORT of other constraints are seen first
            for i in self.order:
                if i < 0:
                    if not moved:
                        continue
                    ix = None
                    a = action or (self.rowid_conflict if self.has_rowid else self.primary.conflict) or ABORT
                else:
                    ix = self.indexes[i]
                    if not ix.unique or ix.has != 2:
                        continue
                    a = action or ix.conflict or ABORT
                if (a == REPLACE) != (pass_ == 1):
                    continue
                found = self.find_conflict(ix, &p, &n)
                if found and updating and n == self.old_locator.n and memcmp(p, self.old_locator.p, n) == 0:
                    found = 0
                if not found:
                    continue
                if a == IGNORE:
                    return 0
                if a == UPSERT:
                    self.conflict_row = p[:n]
                    self.conflict_index = i
                    return 2
                if a != REPLACE:
                    raise violation(self.unique_error(ix), a)
                self.remove_row(p[:n])
        return 1

    def remove_row(self, bytes locator):
        """REPLACE: deletes the row in the way. It may be reached while `old` holds the row that is being updated."""
        cdef RecordSource mine = self.old, was = self.was
        cdef Buf kept = self.old_locator
        self.old = self.another_old()
        if self.removing is not None:
            self.was = self.another_old()
        buf_init(&self.old_locator)
        try:
            if self.load_old(<const uint8_t *><const char *>locator, len(locator)):
                self.written -= self.remove()           # it counts as a part of the new row
        finally:
            buf_free(&self.old_locator)
            self.old_locator = kept
            self.old = mine
            self.was = was

    def old_defaults(self):
        cdef int i
        return [to_python(&self.old.defaults[i]) for i in range(self.columns)]

    # -- writing

    cdef int write_row(self, bint fresh) except -1:
        """Puts the record; with `fresh` it must not exist: 0 if it does."""
        cdef Py_ssize_t i
        cdef Transaction transaction = self.context.transaction
        self.record.n = 0
        if self.partly:
            memcpy(self.stored, self.values, self.columns * sizeof(Value))
            if self.rowid_column >= 0:
                self.stored[self.rowid_column].tag = T_NULL
            for i in range(len(self.virtual)):
                self.stored[<int>self.virtual[i]].tag = T_NULL
            record_encode(&self.record, self.stored, self.columns, self.version)
        else:
            record_encode(&self.record, self.values, self.columns, self.version)
        if fresh:
            return transaction.c_insert(self.tree, self.locator.p, self.locator.n, self.record.p, self.record.n)
        transaction.c_put(self.tree, self.locator.p, self.locator.n, self.record.p, self.record.n)
        return 1

    cdef int put_entry(self, IndexWriter ix) except -1:
        """Puts ix.key; 0 if it must be unique and exists."""
        cdef Transaction transaction = self.context.transaction
        cdef bint valued = ix.unique or not self.has_rowid
        cdef const uint8_t *p = self.locator.p if valued else NULL
        cdef size_t n = self.locator.n if valued else 0
        if ix.has == 2:
            return transaction.c_insert(ix.tree, ix.key.p, ix.key.n, p, n)
        transaction.c_put(ix.tree, ix.key.p, ix.key.n, p, n)
        return 1

    cdef int rowid_of_values(self, int at) except -1:
        """Sets new.rowid from one of the values: the INTEGER PRIMARY KEY, or what stands behind all columns. 0 if that is NULL."""
        cdef Value *v = &self.values[at]
        if v.tag == T_NULL:
            return 0
        compare_affinity(v, AFF_INTEGER, NULL)
        if v.tag == T_REAL and real_to_integer(v.u.r, &self.new.rowid):
            set_int(v, self.new.rowid)
        if v.tag != T_INT:
            raise IntegrityError("datatype mismatch")
        self.new.rowid = v.u.i
        return 1

    cdef int take_rowid(self, bint given) except -1:
        """A rowid for the new row, unless it was `given`; AUTOINCREMENT's counter learns of it."""
        cdef Transaction transaction = self.context.transaction
        cdef object sequence = self.sequence
        if sequence is None:
            if not given:
                self.chosen = True
                self.new.rowid = next_rowid(transaction, self.tree)
            return 0
        if self.watch is not None:
            sequence.begin(transaction)         # triggers may take some, too
        if given:
            sequence.used(self.new.rowid)
        else:
            self.new.rowid = sequence.next(transaction)
        if self.watch is not None:
            sequence.end(transaction)
        return 0

    cdef int propose(self) except -1:
        """Makes `values` what BEFORE triggers see as NEW: with affinities and generated columns, and in memory of its own."""
        cdef Value *v
        cdef int i
        cdef Py_ssize_t k
        for k in range(len(self.generated)):
            self.values[<int>self.generated[k][0]].tag = T_NULL
        for i in range(self.columns):
            v = &self.values[i]
            if self.affinities[i] and i != self.rowid_column:
                apply_affinity(v, self.affinities[i], &self.scratch[i])
            if v.tag >= T_TEXT and v.u.p != self.scratch[i].p:
                self.scratch[i].n = 0
                append(&self.scratch[i], v.u.p, v.n)
                v.u.p = self.scratch[i].p
        self.row.target = self.new
        for k in range(len(self.generated)):
            i = self.generated[k][0]
            (<Expr>self.generated[k][1]).eval(&self.values[i])
            apply_affinity(&self.values[i], self.affinities[i], &self.scratch[i])
        return 0

    cdef int insert(self, int action, bint given) except -1:
        """Writes `values` as a new row; `given`: new.rowid was set by the statement. 1 written, 0 left out, 2 UPSERT."""
        cdef Py_ssize_t i
        cdef IndexWriter ix
        cdef int way, a
        cdef bint careful
        self.chosen = False
        if self.has_rowid and self.rowid_column >= 0 and not given:
            given = self.rowid_of_values(self.rowid_column)
        if self.inserting is not None:
            if not given:
                self.new.rowid = -1
            self.propose()
            if not self.inserting.fire(self.inserting.before, None, self.new):
                return 0
        if self.has_rowid:
            self.take_rowid(given)
        if not self.constrain(self.otherwise if action == UPSERT else action):
            return 0
        self.make_locator(self.new, self.new.rowid, &self.locator)
        careful = action > ABORT
        for i in range(len(self.indexes)):
            ix = self.indexes[i]
            ix.has = self.make_key(ix, self.new, &self.locator, &ix.key)
            careful = careful or (ix.unique and ix.conflict > ABORT)
        if careful or (action == 0 and given and self.own_conflict() > ABORT):
            way = self.clear_way(action, False)
            if way != 1:
                return way
        if self.inserting is not None:
            self.inserting.came(None, self.new)
        if not self.write_row(True):
            raise violation(self.unique_error(None), action or self.own_conflict())
        for i in range(len(self.indexes)):
            ix = self.indexes[i]
            if ix.has and not self.put_entry(ix):
                raise violation(ix.message, action or ix.conflict)
        self.written += 1
        self.chosen = False
        if self.has_rowid:
            self.last_rowid = self.new.rowid
        if self.watch is not None:
            if self.has_rowid:
                self.watch.last_rowid = self.new.rowid
            if self.inserting is not None:
                self.inserting.fire(self.inserting.after, None, self.new)
        return 1

    cpdef int unused(self) except -1:
        """The row that was last begun was not written: the rowid that was chosen for it is free."""
        if self.chosen:
            self.chosen = False
            give_back(self.context.transaction, self.tree, self.new.rowid)
        return 0

    cdef int own_conflict(self) except -1:
        return self.rowid_conflict if self.has_rowid else self.primary.conflict

    # -- the old row

    cdef int load_old(self, const uint8_t *p, size_t n) except -1:
        """Loads the row of a locator into `old`: 0 if it is gone."""
        cdef const uint8_t *value
        cdef size_t vn
        self.old_locator.n = 0
        append(&self.old_locator, p, n)
        if not self.context.transaction.c_get(self.tree, self.old_locator.p, n, &value, &vn):
            return 0
        if self.has_rowid:
            self.old.rowid = key_rowid(self.old_locator.p)
        self.old.load_copy(value, vn)
        return 1

    cdef int remove_old(self) except -1:
        cdef Py_ssize_t i
        cdef IndexWriter ix
        cdef Transaction transaction = self.context.transaction
        for i in range(len(self.indexes)):
            ix = self.indexes[i]
            # not old_key: an UPDATE that removes a row in its way still needs that one
            if self.make_key(ix, self.old, &self.old_locator, &ix.gone_key):
                transaction.c_delete(ix.tree, ix.gone_key.p, ix.gone_key.n)
        transaction.c_delete(self.tree, self.old_locator.p, self.old_locator.n)
        return 0

    cdef int reread(self) except -1:
        """After BEFORE triggers: loads `old` once more, 0 if it is gone. `was` keeps what it was."""
        cdef bytes locator = self.old_locator.p[:self.old_locator.n]
        return self.load_old(<const uint8_t *><const char *>locator, len(locator))

    cdef int keep_was(self) except -1:
        self.was.load_copy(self.old.p, self.old.n)
        self.was.rowid = self.old.rowid
        return 0

    cdef int remove(self) except -1:
        """Deletes `old`, with all that this sets off: 0 if it is left."""
        cdef Effects effects = self.removing
        cdef RecordSource old = self.old
        if effects is None:
            self.remove_old()
            self.written += 1
            return 1
        if effects.before:
            self.keep_was()
            old = self.was
            if not effects.fire(effects.before, old, None) or not self.reread():
                return 0
        effects.gone(old, None)
        self.remove_old()
        self.written += 1
        effects.act(old, None)
        effects.fire(effects.after, old, None)
        return 1

    cdef int before_update(self) except -1:
        """BEFORE triggers of an UPDATE: 0 if the row is to be left. What the statement does not set is as they leave it."""
        cdef Effects effects = self.updating
        cdef int i
        self.propose()
        if not effects.before:
            return 1
        self.keep_was()
        if not effects.fire(effects.before, self.was, self.new) or not self.reread():
            return 0
        for i in range(self.columns):
            if i not in effects.columns and i != self.rowid_column:
                self.old.column(i, &self.values[i])
        return 1

    cdef int update(self, int action) except -1:
        """Writes `values` in place of `old`: 1 done, 0 left out."""
        cdef Py_ssize_t i
        cdef IndexWriter ix
        cdef Transaction transaction = self.context.transaction
        cdef bint moved, careful = action > ABORT
        cdef Effects effects = self.updating
        cdef RecordSource old = self.old
        self.new.rowid = self.old.rowid
        if (self.rowid_column >= 0 or self.numbered) and not self.rowid_of_values(self.columns if self.numbered else self.rowid_column):
            raise IntegrityError("datatype mismatch")
        if effects is not None:
            if not self.before_update():
                return 0
            if effects.before:
                old = self.was
        if not self.constrain(action):
            return 0
        self.make_locator(self.new, self.new.rowid, &self.locator)
        moved = self.locator.n != self.old_locator.n or memcmp(
            self.locator.p, self.old_locator.p, self.locator.n) != 0 or effects is not None and effects.taken_out
        for i in range(len(self.indexes)):
            ix = self.indexes[i]
            ix.has = self.make_key(ix, self.new, &self.locator, &ix.key)
            ix.had = self.make_key(ix, self.old, &self.old_locator, &ix.old_key)
            ix.changed = moved or ix.has != ix.had or ix.key.n != ix.old_key.n or memcmp(
                ix.key.p, ix.old_key.p, ix.key.n) != 0
            careful = careful or (ix.unique and ix.conflict > ABORT)
        if careful or (moved and self.own_conflict() > ABORT):
            if self.clear_way(action, True) != 1:
                return 0
        if effects is not None:
            effects.gone(old, self.new)
        for i in range(len(self.indexes)):
            ix = self.indexes[i]
            if ix.changed and ix.had:
                transaction.c_delete(ix.tree, ix.old_key.p, ix.old_key.n)
        if moved:
            transaction.c_delete(self.tree, self.old_locator.p, self.old_locator.n)
        if effects is not None:
            effects.came(old, self.new)
        if not self.write_row(moved):
            raise violation(self.unique_error(None), action or self.own_conflict())
        for i in range(len(self.indexes)):
            ix = self.indexes[i]
            if ix.changed and ix.has and not self.put_entry(ix):
                raise violation(ix.message, action or ix.conflict)
        self.written += 1
        if effects is not None:
            effects.act(old, self.new)
            effects.fire(effects.after, old, self.new)
        return 1
