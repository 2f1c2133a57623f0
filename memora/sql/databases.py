"""Further databases of a session: its temporary tables, and regions that were attached.

Each has a store of its own; in a statement its tables are read and written through a context of their own, whose transaction begins when
the first statement needs it and ends with the session's. `temp` is a region in private memory, made at the first temporary table; nobody else
can be in its way, so it is committed after the main one and cannot fail. Of other databases a transaction may write one (main counts):
two regions have no common commit.

A name without a database means the temporary object first, then the one in main, then those attached, in order.
"""
from __future__ import annotations

from ..engine.store import Store
from ..errors import NotSupportedError, OperationalError
from .catalog import Schema, fold
from .runtime import Context

TEMP = "temp"


class Part:
    """One further database. transaction: the open one, or None; dirty: it changed the catalog, so its schema is its own."""

    def __init__(self, name, store, file):
        self.name, self.store, self.file = name, store, file
        self.transaction = self.schema = self.version = None
        self.dirty = False

    def look(self):
        """The schema as it is now, or as the open transaction sees it."""
        if self.dirty:
            return self.schema
        transaction = self.transaction or self.store.begin(read_only=True)
        try:
            version = self.store.schema_version(transaction)
            if version != self.version or self.schema is None:
                self.schema, self.version = Schema(transaction, self.schema, database=self.name), version
        finally:
            if transaction is not self.transaction:
                transaction.rollback()
        return self.schema

    def open(self):
        """The transaction that further statements of the session's share."""
        if self.transaction is None:
            self.transaction = self.store.begin()
        return self.transaction

    def changed(self):
        """The open transaction changed the catalog."""
        self.schema = Schema(self.transaction, self.schema, database=self.name)
        self.dirty, self.version = True, None

    def commit(self):
        if self.transaction is not None:
            try:
                self.transaction.commit()
            finally:
                self.forget()

    def rollback(self):
        if self.transaction is not None:
            if not self.transaction.closed:
                self.transaction.rollback()
            if self.dirty:
                self.version = None
            self.forget()

    def forget(self):
        self.transaction, self.dirty = None, False


class Parts:
    """All further databases of a session, the temporary one first."""

    def __init__(self):
        self.parts = {}
        self.written = set()            # databases that the open transaction wrote

    def __bool__(self):
        return bool(self.parts)

    def __iter__(self):
        return iter(self.parts.values())

    def get(self, name):
        return self.parts.get(name)

    def temporary(self):
        """The database of temporary tables."""
        part = self.parts.get(TEMP)
        if part is None:
            part = Part(TEMP, Store.open(":memory:"), "")
            self.parts = {TEMP: part, **self.parts}
        return part

    def attach(self, file, name, most):
        folded = fold(name)
        if folded in ("main", TEMP) or folded in self.parts:
            raise OperationalError(f"database {name} is already in use")
        if len(self.parts) - (TEMP in self.parts) >= most:
            raise OperationalError(f"too many attached databases - max {most}")
        if file in ("", ":memory:") or file.startswith("shm:"):
            store = Store.open(file or ":memory:")
        else:
            from ..engine.files import open_file
            store = open_file(file)
        self.parts[folded] = Part(folded, store, getattr(store, "path", None) or "")

    def detach(self, name):
        folded = fold(name)
        if folded in ("main", TEMP):
            raise OperationalError(f"cannot detach database {name}")
        part = self.parts.get(folded)
        if part is None:
            raise OperationalError(f"no such database: {name}")
        if part.transaction is not None:
            raise OperationalError(f"database {name} is locked")
        del self.parts[folded]
        part.store.close()

    def writes(self, name):
        """Notes that the open transaction writes a database; raises if it wrote another one."""
        if name != TEMP:
            self.written.add(name)
            if len(self.written) > 1:
                self.written.discard(name)
                raise NotSupportedError(f"a transaction that writes two regions: {', '.join(sorted(self.written))} and {name}")

    def commit(self):
        for part in self:
            part.commit()
        self.written.clear()

    def rollback(self):
        for part in self:
            part.rollback()
        self.written.clear()

    def savepoints(self):
        """What `back` needs to return here: of each database with an open transaction a savepoint and its schema."""
        return {part.name: (part.transaction.savepoint(), part.dirty, part.schema) for part in self if part.transaction is not None}

    def back(self, savepoints):
        for part in self:
            if part.transaction is None or part.transaction.closed:
                continue
            if part.name not in savepoints:
                part.rollback()
                continue
            savepoint, part.dirty, part.schema = savepoints[part.name][0], *savepoints[part.name][1:]
            part.transaction.rollback_to(savepoint)
            if not part.dirty:
                part.version = None

    def release(self, savepoints):
        for part in self:
            if part.name in savepoints and part.transaction is not None and not part.transaction.closed:
                part.transaction.release(savepoints[part.name][0])

    def close(self):
        self.rollback()
        for part in self:
            part.store.close()
        self.parts = {}


class Elsewhere:
    """The context of one further database in one program."""

    def __init__(self, session, part):
        self.session, self.part = session, part
        self.context, self.own = Context(0), None
        self.context.control = session.control

    def start(self):
        """Begins with the open transaction, or with one for this execution alone."""
        transaction = self.part.transaction
        if transaction is None and self.session.shares_transactions():
            transaction = self.part.open()
        if transaction is None:
            transaction = self.own = self.part.store.begin(read_only=True)
        self.context.start(transaction, ())

    def stop(self):
        self.context.stop([])
        if self.own is not None:
            self.own.rollback()
            self.own = None


class Combined:
    """The schemas of several databases as one; what is not asked for by name is main's."""

    def __init__(self, main, parts):
        self.main, self.parts = main, parts
        self.rows, self.indexes, self.triggers = main.rows, main.indexes, main.triggers
        self.next_seq = main.next_seq

    def named(self, database):
        """The schema of one database, or None."""
        return self.main if database == "main" else self.parts.get(database)

    def order(self):
        if TEMP in self.parts:
            yield self.parts[TEMP]
        yield self.main
        for name, schema in self.parts.items():
            if name != TEMP:
                yield schema

    def get(self, name, database=None):
        if database is not None:
            found = None if self.named(database) is None else self.named(database).get(name)
            return self.main.get(name, TEMP) if found is None and database == TEMP else found
        for schema in self.order():
            found = schema.get(name)
            if found is not None:
                return found
        return None

    def table(self, name):
        for schema in self.order():
            if fold(name) in schema.rows:
                return schema.table(name)
        return self.main.table(name)

    def index(self, name):
        for schema in self.order():
            found = schema.index(name)
            if found is not None:
                return found
        return None

    def schema_rows(self, temporary=False):
        rows = self.main.schema_rows(temporary)
        if temporary and TEMP in self.parts:
            rows += self.parts[TEMP].schema_rows()
        return rows
