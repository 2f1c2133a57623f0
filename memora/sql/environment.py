"""What binding and compiling a statement may look up, and the compiling of what a statement sets off.

Programs of rows (triggers, actions and probes of foreign keys) are compiled through the environment of the statement that sets them off
and kept by the session, for as long as the schema and its settings stay.
"""
from __future__ import annotations

from . import ast, dml, statistics
from .binder import RowScope, Scope
from .catalog import Schema, Table, collation_of, fold
from .effects import Body, Drain, Probe, RowProgram, Step
from .program import Program, Result
from .queries import QueryBinder
from .record import EitherRow


class GivenRow:
    """OLD or NEW of a program: its columns, and the source that they are read from when it runs. typed: they have affinities."""

    __slots__ = ("columns", "table", "source", "typed", "rowid_column")

    def __init__(self, columns, table, source, typed=False):
        self.columns, self.table, self.source, self.typed = columns, table, source, typed
        self.rowid_column = getattr(table, "rowid_column", -1)

    def find(self, name):
        """The number of a column, -1 for the rowid, None for none."""
        if isinstance(self.table, Table):
            return self.table.find(name)
        return next((i for i, column in enumerate(self.columns) if fold(column.name) == fold(name)), None)


class Environment:
    """schema: of all databases, or of the one whose names a trigger may use; whole: always of all; transaction: of the main database, or
    None; literals_matter: set where the plan could be another one for other constants.

    In the program of a row, given: the rows OLD and NEW by name, else None; conflict: the ON CONFLICT clause that goes before those of the
    statements; trigger: its name for the authorizer. fires: whether triggers do; lenient: whether foreign keys that fit no parent are
    passed over."""

    __slots__ = ("schema", "whole", "functions", "virtual", "session", "file", "transaction", "literals_matter", "authorizer", "given",
                 "conflict", "trigger", "fires", "lenient")

    def __init__(self, schema, functions, virtual, session, transaction=None):
        self.schema = self.whole = schema
        self.functions, self.virtual, self.session, self.transaction = functions, virtual, session, transaction
        self.literals_matter = False
        self.authorizer = session.authorizer
        self.file = getattr(session.store, "path", None)
        self.given = self.conflict = self.trigger = None
        self.fires, self.lenient = True, False

    def changed(self, **values):
        """The same with other values."""
        made = object.__new__(Environment)
        for name in self.__slots__:
            setattr(made, name, values[name] if name in values else getattr(self, name))
        return made

    def within(self, schema):
        """The environment of what may name one database alone."""
        return self if self.schema is schema else self.changed(schema=schema)

    # -- looking up

    def ask(self, action, table, column=None):
        """Asks the authorizer, if there is one, whether a table may be changed."""
        if self.authorizer is not None:
            self.authorizer.ask(action, table.name, column, table.database, self.trigger)

    def statistics(self, database):
        """The statistics.Statistics of a database, or None if there are none."""
        schema = self.whole if isinstance(self.whole, Schema) else self.whole.named(database)
        if statistics.NAME not in schema.rows:
            return None
        if schema.statistics is None:
            schema.statistics = self._reading(database, lambda transaction: statistics.Statistics(schema, transaction))
        return schema.statistics

    def entries_about(self, database, tree):
        """How many entries a tree seems to have; -1: nobody knows."""
        return self._reading(database, lambda transaction: transaction.entries_about(tree))

    def _reading(self, database, function):
        """function(transaction) of a database."""
        transaction = self.transaction
        if database == "main":
            if transaction is not None:
                return function(transaction)
            store = self.session.store
        else:
            part = self.session.parts.get(database)
            if part.transaction is not None:
                return function(part.transaction)
            store = part.store
        transaction = store.begin(read_only=True)
        try:
            return function(transaction)
        finally:
            transaction.rollback()

    def collation(self, name):
        """The number of a collation in an expression: the session's own, or a built-in one."""
        own = self.session.collations.get(name.upper())
        return own.number if own is not None else collation_of(name)

    def shown(self, name):
        """A TableName as messages tell it: in a trigger with the one database whose names it may use."""
        schema = name.schema
        if schema is None and self.given is not None:
            schema = getattr(self.schema, "database", None)
        return name.name if schema is None else f"{schema}.{name.name}"

    def scope(self):
        """The scope around a statement: that of OLD and NEW in a program."""
        return Scope() if self.given is None else RowScope(self.given)

    def schema_of(self, table):
        """The schema of a table's database."""
        return self.whole if isinstance(self.whole, Schema) else self.whole.named(table.database)

    def temporary(self):
        """The schema of the temporary database, or None."""
        return None if isinstance(self.whole, Schema) else self.whole.named("temp")

    def watches(self, table):
        """Whether a change of a table may set anything off."""
        if self.session.foreign_keys:
            return True
        temporary = self.temporary()
        return self.fires and (fold(table.name) in self.schema_of(table).triggers or temporary is not None and bool(temporary.triggers))

    # -- compiling

    def step(self, node):
        """The Step of a program's statement."""
        if not isinstance(node, ast.Select):
            program = getattr(dml, type(node).__name__.lower())(self, node)
            return Step(program.context, program.work, program.ops, self.session.parts, program.database)
        binder, planner, c = dml.start(self, node)
        found = planner.query(binder.select(node, None))
        root = found.root.build(c)
        return Step(c.context, Drain(root, c.exprs(found.exprs)), c.ops)

    def body(self, table, when, statements, conflict, event):
        """A Body: statements that run `when` a row of a table is changed by an event."""
        columns = QueryBinder(self.changed(given=None)).columns_of(table)
        old, new = EitherRow(), EitherRow()
        given = {}
        if event != "INSERT":
            given["old"] = GivenRow(columns, table, old)
        if event != "DELETE":
            given["new"] = GivenRow(columns, table, new)
        inside = self.changed(given=given, conflict=conflict, fires=True, lenient=False)
        binder, _, c = dml.start(inside, None)
        condition = None if when is None else c.expr(binder.expr(when, inside.scope()))
        return Body(old, new, condition, c.context, c.ops, [inside.step(node) for node in statements])

    def row_program(self, key, table, when, statements, conflict, event, action=False):
        """The RowProgram `key` of the session, compiled if need be. action: of a foreign key."""
        programs = self.session.row_programs(self.whole)
        found = programs.get((key, conflict))
        if found is None:
            inside = self.changed(transaction=None, authorizer=None) if action else self.changed(transaction=None, trigger=key[-1])

            def another():
                return inside.changed(transaction=inside.session.watch.transaction).body(table, when, statements, conflict, event)
            found = programs[key, conflict] = RowProgram(key, another, action)      # before it is compiled: it may set itself off
            try:
                found.keep(inside.changed(transaction=self.transaction).body(table, when, statements, conflict, event))
            except BaseException:
                del programs[key, conflict]
                raise
        return found

    def probe(self, key, table, query, one):
        """The Probe `key` of the session: query() gives its SELECT, which reads a row of `table` as NEW."""
        programs = self.session.row_programs(self.whole)
        found = programs.get(key)
        if found is None:
            row = EitherRow()
            given = {"new": GivenRow(QueryBinder.own_rel(table).columns, table, row, True)}
            inside = self.changed(given=given, conflict=None, authorizer=None)
            binder, planner, c = dml.start(inside, None)
            plan = planner.query(binder.select(query(), None))
            found = programs[key] = Probe(row, c.context, c.context_of(table), plan.root.build(c), c.ops, one)
        return found

    def run(self, query):
        """All rows of a SELECT without parameters, in the environment's transaction."""
        binder, planner, c = dml.start(self, query)
        found = planner.query(binder.select(query, None))
        root = found.root.build(c)
        program = Program(c.context, root, c.exprs(found.exprs), c.ops)
        program.start(self.transaction, ())
        return list(Result("select", program=program))
