"""A session: statements in, results out; transactions, savepoints, and the cache of prepared statements.

Outside of a transaction each statement is one: a SELECT reads its own snapshot until its rows are exhausted or closed, a change
is committed before `execute` returns, and is run again by itself if another commit was in its way. Inside of one, a failed
statement undoes only itself.

running.pyx has the way of single statements; here is what happens less often.
"""
from __future__ import annotations

from ..engine import catalog as engine_catalog
from ..errors import NotSupportedError, OperationalError, ProgrammingError
from . import alter, ast, ddl, dml, foreignkeys, plan, pragmas, statistics
from .authorizer import Authorizer
from .callbacks import Collation, UserFunction
from .catalog import Schema, Table, fold
from .compile import Compiler
from .databases import TEMP, Combined, Parts
from .environment import Environment
from .limits import ATTACHED, Limits
from .parser import parse
from .planner import Planner
from .program import Program, Result
from .queries import QueryBinder, check_parameters
from .running import Running, Statement
from .runtime import Context


class Session(Running):
    """One user's conversation with a store.

    virtual: dict of providers for what is not a table; provider(session, row) -> (column names, rows(transaction)).
    transaction: an open engine transaction to work in; then SQL cannot begin or end one.
    """

    def __init__(self, store, virtual=None, transaction=None):
        super().__init__(store, virtual, transaction, parts=Parts())
        self._combined = (None, None)   # (the schemas that it was made of, databases.Combined)
        self.case_sensitive_like = False
        self._savepoints = []           # (name, engine savepoint, whether it began the transaction, ...: see _on_savepoint)
        self.limits = Limits()
        self.authorizer = None
        self.foreign_keys = False       # PRAGMA foreign_keys
        self.one_of_many = False        # its user does not know it from others: it has no settings of its own
        self._row_programs = (None, {})  # (the schema that they were compiled for, programs and probes by key)
        self.read_only = False          # query_only cannot be set back

    # -- what users add

    def create_function(self, name, narg, function, deterministic=False, kind="scalar"):
        """Enters a function (kind "scalar"), or the class of an aggregate ("aggregate", "window"), under a name and a number of arguments,
        -1 for any; function=None removes it. It hides a built-in one of the same name."""
        if not -1 <= narg <= 127 or len(fold(name).encode()) > 255:
            raise OperationalError("Error creating function")
        if function is None:
            self.functions.pop((fold(name), narg), None)
        else:
            self.functions[fold(name), narg] = UserFunction(name, kind, function, deterministic)
        self.compile_anew()

    def create_collation(self, name, function):
        """Enters an order of texts, `function(a, b)` -> negative, zero, positive; None removes it. For expressions and ORDER BY: columns
        and indexes, whose bytes other processes read, have the built-in ones."""
        self.collations.pop(name.upper(), None)
        if function is not None:
            self.collations[name.upper()] = Collation(name, function)
        self.compile_anew()

    def compile_anew(self):
        """Forgets all programs: what they were compiled with has changed."""
        self._cache.clear()
        self._row_programs = (None, {})

    def row_programs(self, schema):
        """The programs and probes of triggers and foreign keys that were compiled for a schema, by key; to be added to."""
        if self._row_programs[0] is not schema:
            self._row_programs = (schema, {})
        return self._row_programs[1]

    # -- settings

    @property
    def recursive_triggers(self):
        """PRAGMA recursive_triggers."""
        return self.watch.recursive

    def set_recursive_triggers(self, on):
        self.watch.recursive = on
        self.compile_anew()

    def defer_foreign_keys(self, on):
        """PRAGMA defer_foreign_keys: until the transaction ends, all foreign keys are checked at its end only."""
        self.watch.defer_all = on

    def set_foreign_keys(self, on):
        """PRAGMA foreign_keys; within a transaction nothing changes, as in SQLite."""
        if self._transaction is None and on != self.foreign_keys:
            if self.one_of_many:
                raise NotSupportedError("PRAGMA foreign_keys: a Database has several sessions; say memora.open(..., foreign_keys=True)")
            self.foreign_keys = on
            self.compile_anew()

    def set_limit(self, category, limit):
        """Sets a limit for the statements that come; returns what held before. See limits.py."""
        before = self.limits.set(category, limit)
        self.compile_anew()
        return before

    def set_query_only(self, on):
        """Has changes refused, or taken again, where the session may make any."""
        self.query_only = on or self.read_only

    def set_authorizer(self, function):
        """Has `function(action, first, second, database, source)` asked what statements may do; None ends it. See authorizer.py."""
        self.authorizer = None if function is None else Authorizer(function)
        self.compile_anew()

    # -- statements

    def _parse(self, sql):
        statement = super()._parse(sql)
        if statement is not None and self.limits.lowered:
            try:
                self.limits.check(statement.node)
            except BaseException:
                del self._cache[sql]
                raise
        return statement

    @staticmethod
    def _values(statement, params):
        names = statement.params
        if isinstance(params, dict) or hasattr(params, "keys"):
            values = []
            for n, name in enumerate(names):
                if name is None or name[0] == "?":
                    raise ProgrammingError(f"Binding {n + 1} has no name, but you supplied a dictionary (which has only names).")
                try:
                    values.append(params[name[1:]])
                except KeyError:
                    raise ProgrammingError(f"You did not supply a value for binding parameter {name}.") from None
            return values
        if len(params) != len(names):
            check_parameters(len(params), len(names))
        return params

    # -- programs

    def _compile(self, statement, schema, transaction):
        environment = Environment(schema, self.functions, self.virtual, self, transaction)
        made = compile_select(environment, statement.node)
        statement.literal = environment.literals_matter
        return made

    def _compile_change(self, statement, schema, transaction):
        environment = Environment(schema, self.functions, self.virtual, self, transaction)
        made = getattr(dml, statement.kind)(environment, statement.node)
        statement.literal = environment.literals_matter
        return made

    def _current_schema(self, transaction):
        main = self._main_schema(transaction)
        if not self.parts:
            return main
        schemas = {part.name: part.look() for part in self.parts}
        made_of = (main, *schemas.values())
        if len(made_of) != len(self._combined[0] or ()) or any(a is not b for a, b in zip(made_of, self._combined[0])):
            self._combined = made_of, Combined(main, schemas)
        return self._combined[1]

    def shares_transactions(self):
        """Whether the transactions of further databases are those of a transaction or of a writing statement."""
        return self._transaction is not None or self._writing

    def _main_schema(self, transaction):
        if self._dirty:
            return self._schema
        version = self.store.schema_version(transaction)
        if version != self._version or self._schema is None:
            self._schema = Schema(transaction, self._schema, self.temporary.values())
            self._version = version
        return self._schema

    # -- everything else

    def _run(self, statement, params):
        if self.closed:
            raise ProgrammingError("Cannot operate on a closed session.")
        node = statement.node
        values = self._values(statement, params)
        handler = getattr(self, "_on_" + statement.kind, None)
        if handler is None:
            raise NotSupportedError(f"{type(node).__name__} statements")
        if self.authorizer is not None:
            self._reading(lambda environment: self.authorizer.statement(node, environment.schema))
        return handler(statement, node, values)

    # -- definitions

    def _define(self, function):
        def run(statement, node, values):
            def work(transaction):
                environment = Environment(self._current_schema(transaction), self.functions, self.virtual, self, transaction)
                part = self._database_of(node, environment.schema)
                self._changing, self._changing_part = transaction, part
                if part is None:
                    schema = environment.schema.main if self.parts else environment.schema
                    if self.parts:
                        self.parts.writes("main")
                else:
                    environment.schema = self._current_schema(transaction)
                    transaction, schema = part.open(), part.look()
                    self.parts.writes(part.name)
                self.control.look(1)
                function(ddl.Change(self, transaction, environment, schema), node)
                return Result(statement.kind)
            return self._write(statement, work)
        return run

    def _database_of(self, node, schema):
        """The Part that a definition is about; None for the main database."""
        kind = type(node).__name__
        name = {"CreateTable": "table", "CreateIndex": "index", "CreateView": "view", "CreateTrigger": "trigger", "Drop": "name",
                "Reindex": "target", "Analyze": "target"}.get(kind, "table")
        name = getattr(node, name)
        database = None if name is None or name.schema is None else fold(name.schema)
        if kind == "CreateTable" and node.temporary:
            if database not in (None, TEMP):
                raise OperationalError("temporary table name must be unqualified")
            database = TEMP
        if kind == "Analyze" and database is None and name is not None and (fold(name.name) == "main" or self.parts.get(fold(name.name))):
            database = fold(name.name)
        if kind == "CreateView" and (node.temporary or database == TEMP):
            return None                 # temporary views are rows of the session
        if kind == "CreateTrigger":
            database = self._database_of_trigger(node, database, schema)
        if database is None and self.parts and kind not in ("CreateTable", "CreateView", "CreateTrigger") and name is not None:
            wanted = node.table.name if kind == "CreateIndex" else name.name
            database = next((one.database for one in schema.order() if fold(wanted) in one.rows), None)
        if database in (None, "main"):
            return None
        if database == TEMP:
            if self._bound:
                raise NotSupportedError("temporary tables in a transaction of Database.transaction(): use a connection's own")
            if kind == "Drop" and self.parts.get(TEMP) is None:
                return None             # a temporary view
            return self.parts.temporary()
        part = self.parts.get(database)
        if part is None:
            raise OperationalError(f"unknown database {name.schema}")
        return part

    @staticmethod
    def _database_of_trigger(node, database, schema):
        """A trigger is temporary if that is said or its table is; else it is in the table's database."""
        if node.temporary:
            if database not in (None, TEMP):
                raise OperationalError("temporary trigger may not have qualified name")
            return TEMP
        on = None if node.table.schema is None else fold(node.table.schema)
        found = schema.get(node.table.name, on)
        temporary = found is not None and not isinstance(found, dict) and (
            found.database == TEMP or on in (None, TEMP) and schema.rows.get(fold(node.table.name), {}).get("temporary"))
        if database is None and found is not None:
            return TEMP if temporary else getattr(found, "database", None)
        return database

    def _on_createtable(self, *args):
        return self._define(ddl.create_table)(*args)

    def _on_createindex(self, *args):
        return self._define(ddl.create_index)(*args)

    def _on_createview(self, *args):
        return self._define(ddl.create_view)(*args)

    def _on_createtrigger(self, *args):
        return self._define(ddl.create_trigger)(*args)

    def _on_drop(self, *args):
        return self._define(ddl.drop)(*args)

    def _on_reindex(self, *args):
        return self._define(ddl.reindex)(*args)

    def _on_analyze(self, statement, node, values):
        """ANALYZE: what it names; if nothing, then all databases but the temporary one, each by itself."""
        names = [None]
        if node.target is None:
            names += [part.name for part in self.parts if part.name != TEMP]
        for name in names:
            one = node if name is None else ast.Analyze(ast.TableName(name))
            result = self._define(statistics.analyze)(statement, one, values)
        return result

    def _on_addcolumn(self, *args):
        return self._define(alter.add_column)(*args)

    def _on_dropcolumn(self, *args):
        return self._define(alter.drop_column)(*args)

    def _on_renamecolumn(self, *args):
        return self._define(alter.rename_column)(*args)

    def _on_renametable(self, *args):
        return self._define(alter.rename_table)(*args)

    def environment(self):
        """What the running definition may look up, after what it changed."""
        return Environment(self._current_schema(self._changing), self.functions, self.virtual, self, self._changing)

    def schema_changed(self):
        """Called by a definition that changed the catalog: the transaction sees its own schema from here on."""
        if self._changing_part is not None:
            self._changing_part.changed()
            return
        self._schema = Schema(self._changing, self._schema, self.temporary.values())
        self._dirty = True
        self._version = None

    def select_rows(self, node):
        """The shape [(name, affinity)] and the rows of a query, for CREATE TABLE AS."""
        environment = Environment(self._current_schema(self._changing), self.functions, self.virtual, self, self._changing)
        return Shaped(environment, node, self._changing)

    def insert_rows(self, name, rows):
        marks = ",".join("?" * len(rows[0]))
        database = "main" if self._changing_part is None else self._changing_part.name
        sql = f"INSERT INTO {ddl.always_quoted(database)}.{ddl.always_quoted(name)} VALUES ({marks})"
        statement = Statement(parse(sql), sql)
        self._many(statement, self._changing, rows)

    def empty_table(self, change, table):
        """DROP TABLE: what foreign keys make of the deletion of all rows, where a row may be missed or a deferred violation end."""
        watch = self.watch
        if not foreignkeys.naming(change.schema, table.name) and (
                not watch.deferred or not (watch.defer_all or any(key.deferred for key in foreignkeys.keys_of(table)))):
            return
        environment = change.environment.changed(fires=False, lenient=True)
        dml.delete(environment, ast.Delete(ast.TableRef(ast.TableName(table.name, table.database)))).run(self._changing, ())

    def drop_temporary_triggers(self, name, database):
        """The temporary triggers on a table or view that is dropped."""
        part = self.parts.get(TEMP)
        rows = [] if part is None else [row for row in part.look().triggers.get(fold(name), ()) if row.get("database", TEMP) == database]
        for row in rows:
            engine_catalog.delete(part.open(), row["name"])
        if rows:
            part.changed()

    def has_rows(self, table):
        """Whether a table has a row, as the transaction of the running definition sees it."""
        environment = Environment(self._current_schema(self._changing), self.functions, self.virtual, self, self._changing)
        node = parse(f"SELECT 1 FROM {ddl.always_quoted(table.database)}.{ddl.always_quoted(table.name)} LIMIT 1")
        return bool(Shaped(environment, node, self._changing).rows)

    # -- PRAGMA, EXPLAIN and the rest

    def _reading(self, function):
        def work(transaction):
            return function(Environment(self._current_schema(transaction), self.functions, self.virtual, self, transaction))
        return work(self._transaction) if self._transaction is not None else self.store.reading(work)

    def _on_pragma(self, statement, node, values):
        columns, rows = self._reading(lambda environment: pragmas.run(self, environment, node))
        return Result("pragma", columns, None if columns is None else (None,) * len(columns), rows=rows)

    def store_of(self, database):
        """The store of one of the session's databases; None for the temporary one before it has a table."""
        folded = fold(database)
        if folded == "main":
            return self.store
        part = self.parts.get(folded)
        if part is None and folded != TEMP:
            raise OperationalError(f"unknown database {database}")
        return None if part is None else part.store

    def move_part(self, database, store):
        """Has an attached database go on with another store."""
        part = self.parts.get(fold(database))
        part.store.close()
        part.store, part.schema, part.version, part.file = store, None, None, ""
        self._cache.clear()

    def place_of_value(self, database, table, column, writing):
        """What names a value in SQL: (table, column, rowid of the table), quoted. writing: it is to be changed.

        OperationalError: there is no such table or column, or one that has no bytes of its own for this."""
        def look(environment):
            found = environment.schema.get(table, fold(database))
            shown = f"{database}.{table}"
            if found is None or isinstance(found, dict):
                raise OperationalError(f"no such table: {shown}")
            if not isinstance(found, Table):
                raise OperationalError(f"cannot open view: {table}")
            if not found.has_rowid:
                raise OperationalError(f"cannot open table without rowid: {table}")
            number = found.by_name.get(fold(column))
            if number is None:
                raise OperationalError(f'no such column: "{column}"')
            if writing and (found.columns[number].generated or any(number in index.columns for index in found.indexes)):
                raise OperationalError("cannot open indexed column for writing")
            rowid = next((name for name in ("rowid", "_rowid_", "oid") if name not in found.by_name), None)
            if rowid is None:
                raise OperationalError(f"cannot open table whose rowid has no name: {table}")
            return f"{ddl.always_quoted(database)}.{ddl.always_quoted(found.name)}", ddl.always_quoted(column), rowid
        return self._reading(look)

    def set_case_sensitive_like(self, on):
        """Whether LIKE tells capitals from small letters."""
        self.case_sensitive_like = on
        self._cache.clear()

    def data_version(self, transaction):
        """A number that is another one whenever somebody else has committed, and the same after commits of this session."""
        if transaction is None:
            transaction = self.store.begin(read_only=True)
            try:
                return transaction.snapshot - self.own_commits
            finally:
                transaction.rollback()
        return transaction.snapshot - self.own_commits

    def schema_number(self):
        """A number that changes with the schema."""
        return self._version or 0

    def check(self):
        """What the engine's checker finds; [] if all is well."""
        checker = getattr(self.store, "check", None)
        if checker is None:
            raise NotSupportedError("integrity_check: this store has no checker")
        return list(checker())

    def _on_explain(self, statement, node, values):
        if node.mode == "ANALYZE":
            return self._analyzed(node.statement, values)
        root = self._reading(lambda environment: dml.query_plan(environment, node.statement))
        if node.mode == "QUERY PLAN":
            columns = ("id", "parent", "notused", "detail")
            rows, parents = [], {-1: 0}
            for n, (depth, text) in enumerate(root.lines() if root is not None else ()):
                parents[depth] = n + 1
                rows.append((n + 1, parents.get(depth - 1, 0), 0, text))
        else:
            columns = ("addr", "opcode", "p1", "p2", "p3", "p4", "p5", "comment")
            rows = [(n, operator, depth, 0, 0, detail, 0, None)
                    for n, (depth, operator, detail) in enumerate(root.tree() if root is not None else ())]
        return Result("explain", columns, (None,) * len(columns), rows=rows)

    def _analyzed(self, node, values):
        """EXPLAIN ANALYZE: runs a query and tells of each operator how often it began, its rows and its time."""
        if not isinstance(node, ast.Select):
            raise NotSupportedError(f"EXPLAIN ANALYZE of {type(node).__name__.upper()}: it would change rows")
        transaction = self._transaction or self.store.begin(read_only=True)
        try:
            environment = Environment(self._current_schema(transaction), self.functions, self.virtual, self, transaction)
            query = QueryBinder(environment).select(node, None)
            program, found, probes = build_probed(environment, query, len(values))
            program.start(transaction, values)
            count = sum(1 for _ in Result("select", program=program))
        finally:
            if transaction is not self._transaction:
                transaction.rollback()
        rows = []
        for depth, plan_node, detail in found.root.nodes():
            probe = probes.get(plan_node)
            if probe is not None:
                rows.append((depth, type(plan_node).__name__, detail, probe.loops, probe.rows, probe.nanoseconds / 1e6))
        rows.append((0, "Result", "", 1, count, None))
        columns = ("depth", "operator", "detail", "loops", "rows", "milliseconds")
        return Result("explain", columns, (None,) * len(columns), rows=rows)

    def _on_attach(self, statement, node, values):
        if node.key is not None:
            raise NotSupportedError("ATTACH ... KEY: there is no encryption")
        if self._bound or self._transaction is not None:
            raise OperationalError("cannot ATTACH database within transaction")
        self.parts.attach(self._text(node.file, values, statement), self._text(node.name, values, statement), self.limits[ATTACHED])
        return Result("attach")

    def _on_detach(self, statement, node, values):
        if self._transaction is not None:
            raise OperationalError("cannot DETACH database within transaction")
        self.parts.detach(self._text(node.name, values, statement))
        return Result("detach")

    def _text(self, expr, values, statement):
        """The text that an expression of ATTACH or DETACH gives; a bare name is text, too."""
        if isinstance(expr, ast.Column) and expr.table is None:
            return expr.name

        def evaluated(environment):
            query = ast.Select(ast.SelectCore((ast.ResultColumn(expr),)))
            object.__setattr__(query, "params", statement.params)
            return Shaped(environment, query, self._transaction, values).rows[0][0]
        value = self._reading(evaluated)
        return "" if value is None else value if isinstance(value, str) else str(value)

    def _on_vacuum(self, statement, node, values):
        if node.into is not None:
            raise NotSupportedError("VACUUM INTO")
        if self.in_transaction:
            raise OperationalError("cannot VACUUM from within a transaction")
        return Result("vacuum")

    # -- transactions

    @property
    def in_transaction(self):
        """Whether a transaction is open."""
        return self._transaction is not None

    def begin(self, mode="DEFERRED"):
        """Begins a transaction at the newest commit; IMMEDIATE and EXCLUSIVE take the ticket, so that no other commit comes before its own.

        LockTimeout: somebody else has it.
        """
        if self._bound:
            raise ProgrammingError("this session works inside of a transaction that its owner ends")
        if self._transaction is not None:
            raise OperationalError("cannot start a transaction within a transaction")
        self.store.hold()
        self.watch.forget()
        self._transaction = self.store.begin(immediate=mode in ("IMMEDIATE", "EXCLUSIVE"))

    def commit(self):
        """Commits the open transaction; its commit number, or None if there is none open.

        Raises SerializationError if another commit changed what it read: nothing was written then."""
        if self._bound:
            raise ProgrammingError("this session works inside of a transaction that its owner ends")
        transaction = self._transaction
        if transaction is None:
            return None
        self.watch.check()
        self._settle()
        try:
            self._finish(transaction)
        except BaseException:
            self._end()
            self._abandon(transaction)
            raise
        self._end()
        return self._last_commit

    def rollback(self):
        """Undoes the open transaction; without one nothing happens."""
        if self._bound:
            raise ProgrammingError("this session works inside of a transaction that its owner ends")
        transaction = self._transaction
        if transaction is None:
            return
        self._settle()
        self._end()
        self._abandon(transaction)

    def _end(self):
        self._transaction = None
        self.watch.forget()
        self._savepoints.clear()

    def _settle(self):
        for reference in list(self._open.values()):
            result = reference()
            if result is not None:
                result.settle()
        self._open.clear()

    def _on_begin(self, statement, node, values):
        self.begin(node.mode)
        return Result("begin")

    def _on_commit(self, statement, node, values):
        if self._transaction is None:
            raise OperationalError("cannot commit - no transaction is active")
        self.commit()
        return Result("commit")

    def _on_rollback(self, statement, node, values):
        if node.savepoint is not None:
            at = self._find_savepoint(node.savepoint)
            self._settle()
            name, savepoint, began, dirty, schema, others, deferred = self._savepoints[at]
            self.watch.deferred = deferred
            self._transaction.rollback_to(savepoint)
            self.parts.back(others)
            del self._savepoints[at + 1:]
            self._dirty, self._schema = dirty, schema
            if not dirty:
                self._version = None
            return Result("rollback")
        if self._transaction is None:
            raise OperationalError("cannot rollback - no transaction is active")
        self.rollback()
        return Result("rollback")

    def _find_savepoint(self, name):
        for at in range(len(self._savepoints) - 1, -1, -1):
            if self._savepoints[at][0].lower() == name.lower():
                return at
        raise OperationalError(f"no such savepoint: {name}")

    def _on_savepoint(self, statement, node, values):
        began = self._transaction is None
        if began:
            self.begin()
        self._settle()
        self._savepoints.append((node.name, self._transaction.savepoint(), began, self._dirty, self._schema, self.parts.savepoints(),
                                 self.watch.deferred))
        return Result("savepoint")

    def _on_release(self, statement, node, values):
        at = self._find_savepoint(node.name)
        if self._savepoints[at][2]:
            self.commit()               # which may be refused: then nothing has happened
        else:
            del self._savepoints[at:]
        return Result("release")

    def settle(self):
        """Computes what is left of the results of the open transaction and keeps it for their readers."""
        self._settle()

    def close(self):
        """Rolls back what is open and ends the session. May be called again."""
        if self.closed:
            return
        for reference in list(self._open.values()):
            result = reference()
            if result is not None:
                result.close()
        if self._transaction is not None and not self._bound:
            self.rollback()
        self._transaction = None
        self.parts.close()
        self._cache.clear()
        self.closed = True


class Shaped:
    """The rows of a query, all at once, with the names and affinities of their columns."""

    def __init__(self, environment, node, transaction, values=()):
        binder = QueryBinder(environment)
        query = binder.select(node, None)
        self.shape = list(zip([c.name for c in QueryBinder.query_rel(query, None, None).columns],
                              [e.affinity for e in query.exprs]))
        program = build(environment, query, len(node.params))
        program.start(transaction, values)
        self.rows = list(Result("select", program=program))


def compile_select(environment, node):
    """(program, names, declared types) of a SELECT."""
    binder = QueryBinder(environment)
    query = binder.select(node, None)
    program = build(environment, query, len(node.params))
    return program, tuple(query.names), tuple(e.decltype for e in query.exprs)


def build(environment, query, param_count):
    return build_probed(environment, query, param_count, False)[0]


def build_probed(environment, query, param_count, probed=True):
    """(program, its QueryPlan, {plan node: Probe})."""
    planner = Planner(environment)
    c = Compiler(Context(param_count), planner)
    c.context.control = environment.session.control
    c.environment = environment
    found = planner.query(query)
    probes = plan.probe(found.root) if probed else {}
    root = found.root.build(c)
    program = Program(c.context, root, c.exprs(found.exprs), c.ops)
    program.guesses = planner.guesses()
    return program, found, probes
