"""What changing a row sets off: triggers, and what foreign keys check and do.

A table's writer has an `Effects` for each kind of change that sets something off, and none otherwise. Triggers and the actions of
foreign keys are one thing, a `RowProgram`: statements that run for a row, whose columns they read as OLD and NEW.

BODIES      The statements of a program are compiled into a `Body`, with two sources that are pointed at the row at hand. A body that
    runs cannot run once more, so a program that sets itself off takes another one; idle ones are kept for the next row.
COUNTERS    A foreign key is not looked up again at the end: each change counts the violations that it makes, and takes away those
    that it mends (where there are any), so that zero at the end means that all is well. Violations of immediate keys are counted for
    the statement, those of deferred ones for the transaction.
READS       What a probe reads is held (readset.pyx): the commit looks at it again under every isolation, so neither a parent that goes
    nor a child that comes at the same time can leave an orphan.
SOURCE      The order of what happens around a row, and the counters, are those of SQLite (fkey.c, trigger.c and insert.c tell them).
"""
from memora.engine.readset cimport ReadMark, read_apart, read_hold
from memora.sql.record cimport EitherRow, Source
from memora.sql.types cimport AFF_INTEGER, T_NULL, Value, compare, compare_affinity, to_python

from memora.errors import IntegrityError, OperationalError

from .conflicts import ACTIONS, Ignored, violation

VIOLATED = "FOREIGN KEY constraint failed"

cdef enum:
    LEVELS = 1000


cdef class Watch:
    """One run of a statement with all that it sets off; a session has one.

    changes, total, last_rowid: what changes(), total_changes() (since the statement began) and last_insert_rowid() tell the next
    statement of a program. immediate, deferred: violations of foreign keys. recursive, defer_all: PRAGMA recursive_triggers and
    defer_foreign_keys.
    """

    def __cinit__(self):
        self.active = []

    cpdef begin(self, Transaction transaction, Context context):
        """Before a statement."""
        self.transaction = transaction
        self.immediate = self.total = 0
        self.changes, self.total_before, self.last_rowid = context.changes, context.total_changes, context.last_rowid

    cpdef settle(self):
        """At the end of a statement: IntegrityError if an immediate foreign key is violated."""
        self.transaction = None
        if self.immediate > 0:
            raise IntegrityError(VIOLATED)

    def forget(self):
        """A transaction begins or has ended."""
        self.deferred = 0
        self.defer_all = False

    def check(self):
        """Before a commit: IntegrityError if a deferred foreign key is violated."""
        if self.deferred > 0:
            raise IntegrityError(VIOLATED)

    cdef int64_t violations(self, bint deferred) noexcept:
        return self.deferred if deferred or self.defer_all else self.immediate

    cdef void add(self, bint deferred, int64_t n) noexcept:
        if deferred or self.defer_all:
            self.deferred += n
        else:
            self.immediate += n


# ------------------------------------------------------------------------------------------------------- row programs

cdef class Drain(Work):
    """A SELECT whose rows nobody wants."""

    def __cinit__(self, Op op, list exprs):
        self.op, self.exprs = op, exprs

    cdef int64_t go(self) except? -1:
        cdef Value v
        cdef Py_ssize_t i
        self.op.open()
        while self.op.next():
            for i in range(len(self.exprs)):
                (<Expr>self.exprs[i]).eval(&v)
        return 0


cdef class Step:
    """A statement of a row program. parts, database: what it writes, to be noted by parts.writes(); None for a SELECT."""

    def __cinit__(self, Context context, Work work, list ops, parts=None, database=None):
        self.context, self.work, self.ops, self.parts, self.database = context, work, ops, parts, database

    cdef int run(self, Watch watch) except -1:
        cdef Context c = self.context
        cdef int64_t n
        if self.database is not None and self.parts:
            self.parts.writes(self.database)
        c.changes, c.total_changes, c.last_rowid = watch.changes, watch.total_before + watch.total, watch.last_rowid
        c.start(watch.transaction, ())
        try:
            n = self.work.go()
        finally:
            c.stop(self.ops)
        if self.database is not None:
            watch.changes = n
            watch.total += n
        return 0


cdef class Body:
    """A row program that can run. old, new: sources that its expressions read; when: a condition or None, with its context and
    operators; steps: of Step."""

    def __cinit__(self, EitherRow old, EitherRow new, Expr when, Context context, list ops, list steps):
        self.old, self.new, self.when, self.context, self.ops, self.steps = old, new, when, context, ops, steps

    cdef int wanted(self, Watch watch) except -1:
        cdef Context c = self.context
        if self.when is None:
            return 1
        c.changes, c.total_changes, c.last_rowid = watch.changes, watch.total_before + watch.total, watch.last_rowid
        c.start(watch.transaction, ())
        try:
            return self.when.test() == 1
        finally:
            c.stop(self.ops)


cdef class RowProgram:
    """A trigger or the action of a foreign key. token: what it is, the same however it was compiled; make() -> Body; always: it may
    set itself off, whatever PRAGMA recursive_triggers says."""

    def __cinit__(self, token, make, bint always):
        self.token, self.make, self.always = token, make, always
        self.idle = []

    def keep(self, Body body):
        """Adds an idle body: the first one is compiled before anything runs, so that what is wrong with it is said then."""
        self.idle.append(body)

    cdef int fire(self, Watch watch, Source old, Source new) except -1:
        """Runs for a row: 1 go on, 0 the row is to be left."""
        cdef Body body
        cdef Py_ssize_t i
        cdef int64_t changes = watch.changes, last_rowid = watch.last_rowid
        if not self.always and not watch.recursive and self.token in watch.active:
            return 1
        if watch.depth >= LEVELS:
            raise OperationalError("too many levels of trigger recursion")
        body = self.idle.pop() if self.idle else self.make()
        body.old.target = old
        body.new.target = new
        watch.depth += 1
        watch.active.append(self.token)
        try:
            if body.wanted(watch):
                for i in range(len(body.steps)):
                    (<Step>body.steps[i]).run(watch)
            return 1
        except Ignored:
            return 0
        finally:
            watch.changes = changes
            watch.last_rowid = last_rowid
            watch.active.pop()
            watch.depth -= 1
            body.old.target = body.new.target = None
            self.idle.append(body)


cdef class Raise(Expr):
    """RAISE(action, message); message: None for IGNORE."""

    cdef Expr message
    cdef int action

    def __cinit__(self, action, Expr message):
        self.action, self.message = ACTIONS[action], message

    cdef int eval(self, Value *out) except -1:
        cdef Value v
        if self.message is None:
            raise Ignored()
        self.message.eval(&v)
        text = to_python(&v)
        raise violation("" if text is None else text if isinstance(text, str) else str(text), self.action)


# ------------------------------------------------------------------------------------------------------- foreign keys

cdef class Probe:
    """A query for rows that match `row` by a foreign key. context: its own; holder: that of the table it reads; one: the first row tells
    enough."""

    def __cinit__(self, EitherRow row, Context context, Context holder, Op op, list ops, bint one):
        self.row, self.context, self.holder, self.op, self.ops, self.one = row, context, holder, op, ops, one

    cdef int64_t count(self, Watch watch, Source source) except -1:
        cdef Transaction transaction
        cdef ReadMark before
        cdef int64_t n = 0
        self.row.target = source
        self.context.start(watch.transaction, ())
        try:
            transaction = self.holder.transaction
            before = read_apart(&transaction.reads)
            self.op.open()
            while self.op.next():
                n += 1
                if self.one:
                    break
            read_hold(&transaction.reads, before)
        finally:
            self.context.stop(self.ops)
            self.row.target = None
        return n


cdef int has_null(list columns, Source row) except -1:
    cdef Value v
    cdef Py_ssize_t i
    for i in range(len(columns)):
        row.column(columns[i], &v)
        if v.tag == T_NULL:
            return 1
    return 0


cdef int same_values(list columns, Source a, Source b) except -1:
    """Whether two rows hold the same in some columns."""
    cdef Value x, y
    cdef Py_ssize_t i
    for i in range(len(columns)):
        a.column(columns[i], &x)
        b.column(columns[i], &y)
        if x.tag != y.tag or x.tag != T_NULL and compare(&x, &y, 0):
            return 0
    return 1


cdef class ChildKey:
    """A foreign key of the changed table. columns: its own; parent: finds the row that they name, None if there is no such table;
    parent_columns: those of the parent where that is the same table, else None: the new row may name itself; rowid: they are the rowid."""

    def __cinit__(self, list columns, Probe parent, list parent_columns, bint rowid, bint deferred):
        self.columns, self.parent, self.parent_columns, self.rowid, self.deferred = columns, parent, parent_columns, rowid, deferred

    cdef int names_itself(self, Source row) except -1:
        cdef Value x, y
        cdef Py_ssize_t i
        for i in range(len(self.columns)):
            row.column(self.columns[i], &x)
            row.column(self.parent_columns[i], &y)
            if self.rowid:
                compare_affinity(&x, AFF_INTEGER, NULL)
            if x.tag == T_NULL or y.tag == T_NULL or compare(&x, &y, 0):
                return 0
        return 1

    cdef int has_parent(self, Watch watch, Source row) except -1:
        return has_null(self.columns, row) or self.parent is not None and self.parent.count(watch, row) > 0

    cdef int came(self, Watch watch, Source new) except -1:
        if self.parent_columns is not None and self.names_itself(new):
            return 0
        if not self.has_parent(watch, new):
            watch.add(self.deferred, 1)
        return 0

    cdef int gone(self, Watch watch, Source old) except -1:
        if watch.violations(self.deferred) > 0 and not self.has_parent(watch, old):
            watch.add(self.deferred, -1)
        return 0


cdef class ParentKey:
    """A foreign key that names the changed table. columns: the key's columns; others: finds the children of a row, but for itself; all:
    finds all of them; action: what is done with them once the row is gone or has changed, or None; restrict: the action is
    RESTRICT."""

    def __cinit__(self, list columns, Probe others, Probe all, RowProgram action, bint restrict, bint deferred):
        self.columns, self.others, self.all, self.action = columns, others, all, action
        self.restrict, self.deferred = restrict, deferred

    cdef int gone(self, Watch watch, Source old, Source new) except -1:
        if has_null(self.columns, old) or new is not None and same_values(self.columns, old, new):
            return 0
        watch.add(self.deferred, self.others.count(watch, old))
        return 0

    cdef int came(self, Watch watch, Source old, Source new) except -1:
        if watch.violations(self.deferred) <= 0 or has_null(self.columns, new) or (
                old is not None and same_values(self.columns, old, new)):
            return 0
        watch.add(self.deferred, -self.all.count(watch, new))
        return 0

    cdef int act(self, Watch watch, Source old, Source new) except -1:
        if self.action is not None and not (self.restrict and watch.defer_all) and not has_null(self.columns, old):
            self.action.fire(watch, old, new)
        return 0


# ------------------------------------------------------------------------------------------------------------ effects

cdef class Effects:
    """What one kind of change of a table sets off. before, after: of RowProgram; children: of ChildKey, parents: of ParentKey;
    columns: those that an UPDATE sets; taken_out: an UPDATE takes the row out before the new one is looked at, since it names
    another row of the table or an action may come back to it."""

    def __cinit__(self, Watch watch, list before, list after, list children, list parents, set columns, bint taken_out):
        self.watch, self.before, self.after, self.children, self.parents = watch, before, after, children, parents
        self.columns, self.taken_out = columns, taken_out

    cdef int fire(self, list programs, Source old, Source new) except -1:
        """Runs `before` or `after`: 1, or 0 if one of them wants the row to be left."""
        cdef Py_ssize_t i
        for i in range(len(programs)):
            if not (<RowProgram>programs[i]).fire(self.watch, old, new):
                return 0
        return 1

    cdef int gone(self, Source old, Source new) except -1:
        """The row `old` is about to go; new: what comes in its place, or None."""
        cdef Py_ssize_t i
        for i in range(len(self.children)):
            (<ChildKey>self.children[i]).gone(self.watch, old)
        for i in range(len(self.parents)):
            (<ParentKey>self.parents[i]).gone(self.watch, old, new)
        return 0

    cdef int came(self, Source old, Source new) except -1:
        """The row `new` is about to be written; old: what it replaces, or None."""
        cdef Py_ssize_t i
        for i in range(len(self.children)):
            (<ChildKey>self.children[i]).came(self.watch, new)
        for i in range(len(self.parents)):
            (<ParentKey>self.parents[i]).came(self.watch, old, new)
        return 0

    cdef int act(self, Source old, Source new) except -1:
        """After the change: the actions of foreign keys."""
        cdef Py_ssize_t i
        for i in range(len(self.parents)):
            (<ParentKey>self.parents[i]).act(self.watch, old, new)
        return 0
