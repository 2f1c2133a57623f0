"""Binding of whole queries: FROM, the result columns, grouping, compound queries, WITH.

FROM becomes relations and a tree of joins. A query in FROM (or a view) that only selects and filters is merged into the query
around it: its relations join the outer ones, and references to its columns are forwarded to the expressions behind them, so that
indexes can be used through views. Grouping and windows work the same way, see `grouping.py`.
"""
from __future__ import annotations

from ..errors import NotSupportedError, OperationalError, ProgrammingError
from . import ast, bound, jsonfunctions, pragmas
from .binder import Binder, Scope
from .bound import JoinNode, Leaf, Rel, RelColumn, comparison_collation
from .catalog import SCHEMA_COLUMNS, SCHEMA_NAMES, Table, View, fold
from .grouping import Grouping, Windowing
from .indexforms import give_forms, has_constants, is_special

MAX_COLUMNS = 2000
MAX_TABLES = 64
MAX_DEPTH = 100


class QueryBinder(Binder):
    """Binds SELECT, VALUES and compounds; see `Binder` for expressions."""

    def __init__(self, environment):
        super().__init__(environment)
        self.depth = 0
        self.viewed = None              # the view that is being bound

    # -- a whole query

    def select(self, node, parent):
        """The bound Query of a Select; `parent` is the scope around it, or None."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise OperationalError("query nests too deep, or a view or common table is defined by itself")
        try:
            scope = parent if parent is not None else self.environment.scope()
            if node.with_ is not None:
                # the names of WITH are seen below, but the scope stays that of the query around
                scope = self.with_scope(node.with_, scope)
            return self.select_body(node, scope)
        finally:
            self.depth -= 1

    def with_scope(self, with_, parent):
        scope = Scope(parent)
        scope.ctes = dict(parent.ctes)
        seen = set()
        for table in with_.tables:
            name = fold(table.name)
            if name in seen:
                raise OperationalError(f"duplicate WITH table name: {table.name}")
            seen.add(name)
            scope.ctes[name] = (table, scope)
        return scope

    def select_body(self, node, scope):
        if not node.compounds:
            query = self.core(node.core, scope, node.order_by)
        else:
            query = self.core(node.core, scope, ())
            arms = [query]
            for part in node.compounds:
                right = self.core(part.core, scope, ())
                arms.append(right)
                query = self.combine(part.op, query, right)
            self.compound_order(query, node, arms, scope)
        return self.limits(query, node, scope)

    def limits(self, query, node, scope):
        plain = Scope(scope, query)
        if node.limit is not None:
            query.limit = self.expr(node.limit, plain)
        if node.offset is not None:
            query.offset = self.expr(node.offset, plain)
        return query

    def core(self, node, scope, order_by):
        if isinstance(node, ast.Values):
            return self.values(node, scope, order_by)
        if self.environment.authorizer is not None:
            self.environment.authorizer.ask("SELECT", source=self.viewed)
        return self.plain(node, scope, order_by)

    # -- compounds

    def combine(self, op, left, right):
        if len(left.exprs) != len(right.exprs):
            raise OperationalError(f"SELECTs to the left and right of {op} do not have the same number of result columns")
        query = bound.SetQuery(op, left, right)
        query.names = left.names
        columns = []
        for name, a, b in zip(left.names, left.exprs, right.exprs):
            affinity = a.affinity if a.affinity is not None else b.affinity
            columns.append(RelColumn(name, affinity, comparison_collation(a, b) if (a.collation or b.collation) else None,
                                     a.decltype))
        query.rel = Rel("rows", op, None, columns)
        query.exprs = [bound.Col(query.rel, i) for i in range(len(columns))]
        for side in (left, right):
            query.outer.extend(side.outer)
        return query

    def compound_order(self, query, node, arms, scope):
        for n, term in enumerate(node.order_by):
            expr, collation = term.expr, None
            while isinstance(expr, ast.Collate):
                collation = self.environment.collation(expr.collation) if collation is None else collation
                expr = expr.operand
            index = self.ordinal(expr, len(query.exprs), n, "ORDER")
            if index is None:
                index = self.compound_match(expr, node, arms, scope)
            if index is None:
                raise OperationalError(f"{ordinal_text(n + 1)} ORDER BY term does not match any column in the result set")
            e = query.exprs[index]
            query.order_by.append(self.order(e, term, e.collation or 0 if collation is None else collation))

    def compound_match(self, expr, node, arms, scope):
        if isinstance(expr, ast.Column) and expr.table is None:
            for arm in arms:
                for i, name in enumerate(arm.names):
                    if fold(name) == fold(expr.name):
                        return i
        for part in (node.core, *(c.core for c in node.compounds)):
            if isinstance(part, ast.SelectCore):
                for i, column in enumerate(part.columns):
                    if column.expr == expr:
                        return i
        return None

    def values(self, node, scope, order_by):
        width = len(node.rows[0])
        if any(len(row) != width for row in node.rows):
            raise OperationalError("all VALUES must have the same number of terms")
        query = bound.ValuesQuery([])
        inner = Scope(scope, query)
        query.rows = [self.exprs(row, inner) for row in node.rows]
        query.names = [f"column{i + 1}" for i in range(width)]
        first = query.rows[0]
        query.rel = Rel("rows", "VALUES", None, [RelColumn(name, e.affinity if len(node.rows) == 1 else None, e.collation)
                                                 for name, e in zip(query.names, first)])
        query.exprs = [bound.Col(query.rel, i) for i in range(width)]
        for n, term in enumerate(order_by):
            index = self.ordinal(term.expr, width, n, "ORDER")
            if index is None and isinstance(term.expr, ast.Column) and fold(term.expr.name) in query.names:
                index = query.names.index(fold(term.expr.name))
            if index is None:
                raise OperationalError(f"{ordinal_text(n + 1)} ORDER BY term does not match any column in the result set")
            query.order_by.append(self.order(query.exprs[index], term, query.exprs[index].collation or 0))
        return query

    # -- SELECT

    def plain(self, node, parent, order_by):
        query = bound.Select()
        scope = Scope(parent, query)
        if node.source is not None:
            query.from_ = self.source(node.source, scope, query)
            if len(query.from_.rels()) > MAX_TABLES:
                raise OperationalError(f"at most {MAX_TABLES} tables in a join")
        scope.windows = self.named_windows(node.windows)
        scope.aggregates = True
        scope.clause = "result"
        columns = self.result_columns(node.columns, scope, query)
        query.names = [name for name, _ in columns]
        query.exprs = [e for _, e in columns]
        if len(query.exprs) > MAX_COLUMNS:
            raise OperationalError("too many columns in result set")
        for result, (name, e) in self.with_alias(node.columns, columns):
            scope.aliases.setdefault(fold(result.alias), e)
        scope.aggregates = False
        windows, scope.windows = scope.windows, None
        if node.where is not None:
            scope.clause = "where"
            query.where.extend(bound.conjuncts(self.expr(node.where, scope)))
        query.distinct = node.distinct
        if node.group_by:
            query.group_by = [self.group_term(term, n, query, scope) for n, term in enumerate(node.group_by)]
            for e in query.group_by if bound.Agg in self.made else ():
                if any(type(part) is bound.Agg for part in bound.walk(e)):
                    raise OperationalError("aggregate functions are not allowed in the GROUP BY clause")
        scope.aggregates = True
        if node.having is not None:
            query.having = bound.conjuncts(self.expr(node.having, scope))
        scope.windows = windows
        for n, term in enumerate(order_by):
            query.order_by.append(self.order_term(term, n, query, scope))
        self.group(query, node)
        self.window(query)
        return query

    @staticmethod
    def with_alias(nodes, columns):
        """Pairs of ResultColumn and bound column for those with an alias; stars stand for several columns."""
        position = 0
        for node in nodes:
            if isinstance(node.expr, ast.Star):
                position = None
            elif position is not None:
                if node.alias:
                    yield node, columns[position]
                position += 1
            elif node.alias:
                for name, e in columns:
                    if name == node.alias:
                        yield node, (name, e)
                        break

    def result_columns(self, nodes, scope, query):
        found = []
        for node in nodes:
            if isinstance(node.expr, ast.Star):
                found.extend(self.star(node.expr, scope))
                continue
            e = self.expr(node.expr, scope)
            if type(e) is bound.Scalar and len(e.query.exprs) != 1:
                raise OperationalError(f"sub-select returns {len(e.query.exprs)} columns - expected 1")
            found.append((node.alias or self.column_name(node, e), e))
        return found

    @staticmethod
    def column_name(node, e):
        if isinstance(node.expr, ast.Column) and type(e) is bound.Col:
            if e.index >= 0:
                return e.rel.columns[e.index].name
            table = e.rel.table
            return table.columns[table.rowid_column].name if table.rowid_column >= 0 else "rowid"
        return node.text or "?"

    def star(self, node, scope):
        if not scope.rels:
            raise OperationalError("no tables specified")
        found = []
        wanted = None if node.table is None else fold(node.table)
        matched = False
        for rel in scope.rels:
            if wanted is not None and fold(rel.alias or rel.name) != wanted:
                continue
            matched = True
            for i, column in enumerate(rel.columns):
                if column.hidden or (wanted is None and (id(rel), i) in scope.hidden):
                    continue
                if wanted is None and fold(column.name) in scope.merged:
                    found.append((column.name, scope.merged[fold(column.name)]()))
                else:
                    found.append((column.name, bound.Col(rel, i)))
        if not matched:
            raise OperationalError(f"no such table: {node.table}")
        if self.environment.authorizer is not None:
            found = [(name, self.permitted(e)) for name, e in found]
        return found

    @staticmethod
    def ordinal(expr, width, n, what):
        """The result column that a literal integer in ORDER BY or GROUP BY names, or None."""
        if isinstance(expr, ast.Unary) and expr.op in "+-" and isinstance(expr.operand, ast.Literal) \
                and type(expr.operand.value) is int:
            value = -expr.operand.value if expr.op == "-" else expr.operand.value
        elif isinstance(expr, ast.Literal) and type(expr.value) is int:
            value = expr.value
        else:
            return None
        if not 1 <= value <= width:
            raise OperationalError(f"{ordinal_text(n + 1)} {what} BY term out of range - should be between 1 and {width}")
        return value - 1

    def group_term(self, node, n, query, scope):
        index = self.ordinal(node, len(query.exprs), n, "GROUP")
        if index is not None:
            return query.exprs[index]
        # an alias of an aggregate is a misuse here, so aggregates count as allowed until that is checked
        scope.aggregates = True
        try:
            return self.expr(node, scope)
        finally:
            scope.aggregates = False

    def order_term(self, term, n, query, scope):
        expr, collation = term.expr, None
        while isinstance(expr, ast.Collate):
            collation = self.environment.collation(expr.collation) if collation is None else collation
            expr = expr.operand
        index = self.ordinal(expr, len(query.exprs), n, "ORDER")
        if index is not None:
            e = query.exprs[index]
        elif isinstance(expr, ast.Column) and expr.table is None and fold(expr.name) in scope.aliases:
            e = scope.aliases[fold(expr.name)]
        else:
            e = self.expr(expr, scope)
            key = e.key()
            for column in query.exprs:
                if column.key() == key:
                    e = column
                    break
        return self.order(e, term, (e.collation or 0) if collation is None else collation)

    @staticmethod
    def order(e, term, collation):
        nulls = 0
        if term.nulls == "FIRST" and term.descending:
            nulls = -1
        elif term.nulls == "LAST" and not term.descending:
            nulls = 1
        return bound.Order(e, term.descending, nulls, collation)

    # -- grouping

    def group(self, query, node):
        """Replaces keys, aggregates and bare columns above GROUP BY by slots of `group_rel`."""
        above = query.exprs + query.having + [o.expr for o in query.order_by]
        has_aggregates = bound.Agg in self.made and any(type(part) is bound.Agg for e in above for part in bound.walk(e))
        if query.group_by is None and not has_aggregates:
            if node.having is not None:
                raise OperationalError("a GROUP BY clause is required before HAVING")
            return
        grouping = Grouping(query)
        query.exprs = [grouping.above(e) for e in query.exprs]
        query.having = [grouping.above(e) for e in query.having]
        for o in query.order_by:
            o.expr = grouping.above(o.expr)
        grouping.finish()

    def window(self, query):
        """Replaces window functions, and the columns read beside them, by slots of `window_rel`."""
        if bound.WindowCall not in self.made:
            return
        above = query.exprs + [o.expr for o in query.order_by]
        if any(type(part) is bound.WindowCall for e in above for part in bound.walk(e)):
            windowing = Windowing(query)
            query.exprs = [windowing.above(e) for e in query.exprs]
            for o in query.order_by:
                o.expr = windowing.above(o.expr)
            windowing.finish()

    # -- FROM

    def source(self, node, scope, query):
        """The join tree of a FROM item; its relations are added to the scope."""
        if isinstance(node, ast.Join):
            return self.join(node, scope, query)
        rel = self.relation(node, scope, query)
        if isinstance(rel, Rel):
            scope.rels.append(rel)
            return Leaf(rel)
        raise AssertionError(rel)

    def join(self, node, scope, query):
        # Joins lean to the left; a loop keeps a join of 64 tables off Python's stack.
        chain = []
        while isinstance(node, ast.Join):
            chain.append(node)
            node = node.left
        tree = self.source(node, scope, query)
        for part in reversed(chain):
            left_rels = list(scope.rels)
            right = self.source(part.right, scope, query)
            right_rels = [rel for rel in scope.rels if rel not in left_rels]
            on = self.using(part, scope, left_rels, right_rels)
            if part.on is not None:
                scope.clause = "on"
                on.extend(bound.conjuncts(self.expr(part.on, scope)))
            tree = JoinNode(tree, right, part.kind, on)
        return tree

    def using(self, node, scope, left_rels, right_rels):
        names = list(node.using)
        if node.natural:
            names = []
            for rel in right_rels:
                for column in rel.columns:
                    if not column.hidden and any(fold(c.name) == fold(column.name) and not c.hidden
                                                 for left in left_rels for c in left.columns):
                        names.append(column.name)
        on = []
        for name in names:
            folded = fold(name)
            right = self.find_one(right_rels, folded)
            left = scope.merged.get(folded)
            if left is None:
                place = self.find_one(left_rels, folded, scope)
                left = None if place is None else self.reader(place)
            if left is None or right is None:
                raise OperationalError(
                    f"cannot join using column {name} - column not present in both tables")
            a, b = left(), bound.Col(*right)
            on.append(self.compare("=", a, b))
            scope.hidden.add((id(right[0]), right[1]))
            if node.kind == "RIGHT":
                scope.merged[folded] = self.both(self.reader(right), left)
            elif node.kind == "FULL":
                scope.merged[folded] = self.both(left, self.reader(right))
            else:
                scope.merged[folded] = left
        return on

    @staticmethod
    def reader(place):
        return lambda: bound.Col(*place)

    @staticmethod
    def both(first, second):
        def merged():
            e = bound.Coalesce([first(), second()])
            return e
        return merged

    @staticmethod
    def find_one(rels, folded, scope=None):
        for rel in rels:
            for i, column in enumerate(rel.columns):
                if fold(column.name) == folded and not (scope and (id(rel), i) in scope.hidden):
                    return rel, i
        return None

    def relation(self, node, scope, query):
        if isinstance(node, ast.SubquerySource):
            inner = self.select(node.select, scope.parent)
            query.outer.extend(inner.outer)
            return self.query_rel(inner, None, node.alias)
        if isinstance(node, ast.TableFunction):
            return self.table_function(node, scope, query)
        return self.table(node, scope, query)

    @staticmethod
    def query_rel(inner, name, alias, names=None):
        if names and len(names) != len(inner.exprs):
            raise OperationalError(f"table {name} has {len(inner.exprs)} values for {len(names)} columns"
                                   if name else f"expected {len(names)} columns but got {len(inner.exprs)}")
        used, columns = set(), []
        for i, e in enumerate(inner.exprs):
            column = names[i] if names else inner.names[i]
            base, k = column, 0
            while fold(column) in used:
                k += 1
                column = f"{base}:{k}"
            used.add(fold(column))
            columns.append(RelColumn(column, e.affinity, e.collation, e.decltype))
        rel = Rel("query", name or "(subquery)", alias, columns)
        if alias is None and name is None:
            rel.alias = f"subquery-{id(rel)}"
        rel.query = inner
        return rel

    def table(self, node, scope, query):
        name, schema = node.table.name, node.table.schema
        if schema is None:
            cte = scope.ctes.get(fold(name))
            if cte is not None:
                return self.common_table(cte, node, scope, query)
        environment = self.environment
        database = None if schema is None else fold(schema)
        found = environment.schema.get(name, database)
        if isinstance(found, Table):
            return self.table_rel(found, node)
        if isinstance(found, View):
            return self.view(found, node, query)
        folded = fold(name)
        if folded in SCHEMA_NAMES or folded in ("sqlite_temp_schema", "sqlite_temp_master"):
            if database in (None, "main", "temp"):
                rows = environment.schema.schema_rows(folded not in SCHEMA_NAMES or database == "temp")
            else:
                part = environment.session.parts.get(database)
                if part is None:
                    raise OperationalError(f"no such table: {schema}.{name}")
                rows = part.look().schema_rows()
            rows = [(*row, n + 1) for n, row in enumerate(rows)]
            rel = python_rel(name, node.alias, (*SCHEMA_COLUMNS, "rowid"), lambda transaction: rows)
            rel.columns[-1].hidden = True
            return rel
        if found is not None and found["kind"] in environment.virtual:
            columns, rows = environment.virtual[found["kind"]](environment, found)
            return python_rel(name, node.alias, columns, rows)
        fixed = environment.virtual.get(f"name:{folded}") if database in (None, "main") else None
        if fixed is not None:
            columns, rows = fixed(environment, {"kind": "name", "name": folded})
            return python_rel(name, node.alias, columns, rows)
        if found is not None and found["kind"] != "index":
            raise NotSupportedError(f"SELECT from {name}: it is a {found['kind']}")
        if found is None and self.function_rows(folded) is not None:
            return self.table_function(ast.TableFunction(node.table, (), node.alias), scope, query)
        raise OperationalError(f"no such table: {environment.shown(node.table)}")

    @staticmethod
    def own_rel(table):
        """A relation of a table's own row, for its constraints and indexes."""
        rel = Rel("table", table.name, None, [RelColumn(c.name, c.affinity, c.collation, c.decltype) for c in table.columns])
        rel.table = table
        return rel

    def table_rel(self, table, node):
        """A relation of a table in a query."""
        rel = QueryBinder.own_rel(table)
        rel.alias = node.alias
        if node.not_indexed:
            rel.not_indexed = True
        if node.indexed_by:
            for index in table.indexes:
                if fold(index.name) == fold(node.indexed_by):
                    rel.index_hint = index
                    break
            else:
                raise OperationalError(f"no such index: {node.indexed_by}")
        if any(map(is_special, table.indexes)):
            self.bind_forms(rel)
        rel.asked, rel.source = True, self.viewed
        return rel

    def bind_forms(self, rel):
        """Binds the expressions and conditions of a table's indexes to the relation."""
        scope, binder = Scope(), QueryBinder(self.environment)
        scope.rels.append(rel)

        def bind(node):
            try:
                return binder.expr(node, scope)
            except OperationalError:
                # it was bound when the index was made: with a function of Python that this session does not have
                return None
        environment = self.environment
        authorizer, environment.authorizer = environment.authorizer, None       # nobody asked for what an index reads
        try:
            give_forms(rel, bind)
        finally:
            environment.authorizer = authorizer
        if has_constants(rel):
            environment.literals_matter = True

    def columns_of(self, found):
        """The columns of a Table or View, as of a relation."""
        if isinstance(found, Table):
            return self.own_rel(found).columns
        return self.view(found, ast.TableRef(ast.TableName(found.name)), None).columns

    def view(self, view, node, query):
        statement = view.statement
        around, self.viewed = self.viewed, view.name
        try:
            inner = self.select(statement.select, Scope())
        finally:
            self.viewed = around
        names = list(statement.columns) or None
        return self.query_rel(inner, view.name, node.alias, names)

    def common_table(self, cte, node, scope, query):
        table, home = cte
        if isinstance(table, Rel):
            # the recursive reference inside its own definition
            rel = Rel("recursive", table.name, node.alias, table.columns)
            rel.shared = table
            return rel
        inner = self.recursive(table, home)
        query.outer.extend(inner.outer)
        return self.query_rel(inner, table.name, node.alias, list(table.columns) or None)

    def recursive(self, table, home):
        """The query of a common table; with itself in its FROM it is a RecursiveQuery."""
        select, name = table.select, fold(table.name)
        cores = [select.core, *(part.core for part in select.compounds)]
        own = [n for n, core in enumerate(cores) if mentions(core, name)]
        outside = Scope(home.parent)
        outside.ctes = {k: v for k, v in home.ctes.items() if k != name or v[0] is not table}
        if not own:
            return self.select(select, outside)
        if own[0] == 0:
            raise OperationalError(f"circular reference: {table.name}")
        if own != list(range(own[0], len(cores))):
            raise NotSupportedError(f"recursive table {table.name}: a non-recursive SELECT after a recursive one")
        ops = {part.op for part in select.compounds[own[0] - 1:]}
        if not ops <= {"UNION", "UNION ALL"}:
            raise NotSupportedError(f"recursive table {table.name} with {', '.join(sorted(ops))}")
        if select.with_ is not None:
            outside = self.with_scope(select.with_, outside)
        first = self.core(cores[0], outside, ())
        for part in select.compounds[:own[0] - 1]:
            first = self.combine(part.op, first, self.core(part.core, outside, ()))
        if table.columns and len(table.columns) != len(first.exprs):
            raise OperationalError(f"table {table.name} has {len(first.exprs)} values for {len(table.columns)} columns")
        names = list(table.columns) or first.names
        feedback = Rel("recursive", table.name, None,
                       [RelColumn(n, e.affinity, e.collation, e.decltype) for n, e in zip(names, first.exprs)])
        inside = Scope(outside)
        inside.ctes = dict(outside.ctes)
        inside.ctes[name] = (feedback, None)
        query = bound.RecursiveQuery(first, feedback, "UNION" in ops)
        for part in select.compounds[own[0] - 1:]:
            step = self.core(part.core, inside, ())
            if len(step.exprs) != len(first.exprs):
                raise OperationalError(f"SELECTs to the left and right of {part.op} do not have the same number of "
                                       f"result columns")
            query.steps.append(step)
            query.outer.extend(step.outer)
        query.outer.extend(first.outer)
        query.names = first.names
        query.rel = Rel("rows", table.name, None, feedback.columns)
        query.exprs = [bound.Col(query.rel, i) for i in range(len(names))]
        self.compound_order(query, select, [first], outside)
        return self.limits(query, select, outside)

    def table_function(self, node, scope, query):
        """A function in FROM. Its arguments may read what stands to the left of it."""
        name = fold(node.table.name)
        found = self.function_rows(name)
        if found is None:
            raise OperationalError(f"no such table: {node.table.name}")
        columns, hidden, rows = found
        rel = python_rel(name, node.alias, columns, rows)
        for column in rel.columns:
            column.affinity, column.hidden = 0, column.name in hidden
        most = len(hidden) or 2
        if len(node.args) > most:
            raise OperationalError(f"too many arguments on {node.table.name}() - max {most}")
        rel.args = self.exprs(node.args, scope)
        return rel

    def function_rows(self, name):
        """(columns, hidden ones, rows(transaction, *args)) of a table-valued function, or None."""
        if name in jsonfunctions.TABLE_FUNCTIONS:
            function = jsonfunctions.TABLE_FUNCTIONS[name]
            return jsonfunctions.EACH_COLUMNS, ("json", "root"), lambda transaction, *args: function(*args)
        if name == "generate_series":
            return ("value", "start", "stop", "step"), ("start", "stop", "step"), series
        if name.startswith("pragma_"):
            environment, pragma = self.environment, name[7:]
            columns, _ = pragmas.read(environment, pragma, None)
            return columns, (), lambda transaction, *args: pragmas.read(environment, pragma, *args[:1])[1]
        return None


def series(transaction, start=None, stop=4294967295, step=1):
    """The rows of generate_series."""
    if start is None or stop is None or step is None:
        return
    first, last, by = int(start), int(stop), int(step) or 1
    value = first
    while value <= last if by > 0 else value >= last:
        yield value, first, last, by
        value += by


def python_rel(name, alias, columns, rows):
    rel = Rel("python", name, alias, [RelColumn(c) for c in columns])
    rel.rows = rows
    return rel


def mentions(core, name):
    """Whether a SELECT reads a table of that name anywhere in its FROM."""
    if isinstance(core, ast.Values):
        return False
    stack = [core.source]
    while stack:
        item = stack.pop()
        if isinstance(item, ast.Join):
            stack += [item.left, item.right]
        elif isinstance(item, ast.TableRef):
            if item.table.schema is None and fold(item.table.name) == name:
                return True
        elif isinstance(item, ast.SubquerySource):
            select = item.select
            if any(mentions(c, name) for c in (select.core, *(p.core for p in select.compounds))):
                return True
    return False


def ordinal_text(n):
    if 10 <= n % 100 <= 20:
        return f"{n}th"
    return f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th') }"


def check_parameters(given, wanted):
    """Raises for a wrong number of parameters, in sqlite3's words."""
    if given != wanted:
        raise ProgrammingError(f"Incorrect number of bindings supplied. The current statement uses {wanted}, "
                               f"and there are {given} supplied.")
