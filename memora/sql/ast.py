"""The abstract syntax of SQL: what the parser hands to the binder.

Every node is a frozen class with slots (node.py), so trees can be shared, hashed, compared and kept in a cache. `pos` is the
offset, in characters, of the node's first token in the text that was parsed; it takes no part in comparison, so
two equal expressions at two places are equal (GROUP BY is matched against the select list that way).

RULES
(1) Sequences are tuples, absent parts are `None`, absent lists are `()`, unless a field says otherwise.
(2) Names are as written, without their quotes, in their original case; the binder compares them case-insensitively.
(3) Operators are normal: `==` is "=", `!=` is "<>", `IS NOT DISTINCT FROM` is "IS", `IS DISTINCT FROM` is "IS NOT",
    `x NOT NULL`, `x NOTNULL`, `x IS NOT NULL` are all `IsNull(x, negated=True)`. Keywords in fields are upper case.
(4) Parentheses leave no node.
(5) `text` and `sql` fields hold the source where SQLite shows it: names of result columns, DEFAULT in `table_info`,
    a failed CHECK, `sqlite_schema.sql`.
(6) `TRUE` and `FALSE` are `Column` nodes without a quote: a column of that name comes first, as in SQLite.
"""
from __future__ import annotations

from .node import Frozen, hidden, node


def _pos():
    return hidden(-1)


def _source():
    return hidden("")


class Node(Frozen):
    """The base of all nodes."""

    __slots__ = ()


class Expr(Node):
    """An expression."""

    __slots__ = ()


class FromItem(Node):
    """Something rows come from in a FROM clause: TableRef, TableFunction, SubquerySource, Join."""

    __slots__ = ()


class Constraint(Node):
    """A constraint of a column or of a table."""

    __slots__ = ()


@node
class Statement(Node):
    """A whole statement.

    `params` is set on the outermost statement only: one entry per parameter, in index order (parameter 1 first), the
    name with its first character (":a", "@a", "$a", "?7") or None for a plain "?" or a number that is not used.
    """

    params: tuple[str | None, ...] = hidden((), kw_only=True)


# ---------------------------------------------------------------------------------------------------- expressions

@node
class Literal(Expr):
    """A constant: int (64 bit, signed), float, str, bytes or None. An integer beyond 64 bits is a float, as in SQLite.

    1 and 1.0 are different literals.
    """

    value: int | float | str | bytes | None
    pos: int = _pos()

    def __eq__(self, other):
        if other.__class__ is not Literal:
            return NotImplemented
        return self.value.__class__ is other.value.__class__ and self.value == other.value

    def __hash__(self):
        return hash((self.value.__class__, self.value))


@node
class CurrentTime(Expr):
    """`CURRENT_TIME`, `CURRENT_DATE` or `CURRENT_TIMESTAMP`."""

    kind: str
    pos: int = _pos()


@node
class Param(Expr):
    """A parameter. `index` is its number from 1; `name` is ":a", "@a", "$a", "?7", or None for a plain "?"."""

    index: int
    name: str | None = None
    pos: int = _pos()


@node
class Column(Expr):
    """A name in an expression: [[schema.]table.]name.

    `quote` is how `name` was quoted: "", '"', "[" or "`". SQLite takes an unknown name in double quotes for a string.
    """

    name: str
    table: str | None = None
    schema: str | None = None
    quote: str = hidden("")
    pos: int = _pos()


@node
class Star(Expr):
    """`*` or `table.*` as a result column."""

    table: str | None = None
    pos: int = _pos()


@node
class Unary(Expr):
    """op: "-", "+", "~", "NOT"."""

    op: str
    operand: Expr
    pos: int = _pos()


@node
class Binary(Expr):
    """op: OR AND = <> IS "IS NOT" < <= > >= & | << >> + - * / % || -> ->>. `pos` is that of the operator."""

    op: str
    left: Expr
    right: Expr
    pos: int = _pos()


@node
class Between(Expr):
    operand: Expr
    low: Expr
    high: Expr
    negated: bool = False
    pos: int = _pos()


@node
class In(Expr):
    """operand [NOT] IN one of: `items` (a list, may be empty), `select`, `table` (a TableRef or TableFunction)."""

    operand: Expr
    items: tuple[Expr, ...] | None = None
    select: Select | None = None
    table: FromItem | None = None
    negated: bool = False
    pos: int = _pos()


@node
class Like(Expr):
    """op: LIKE GLOB REGEXP MATCH; `right` is the pattern."""

    op: str
    left: Expr
    right: Expr
    escape: Expr | None = None
    negated: bool = False
    pos: int = _pos()


@node
class IsNull(Expr):
    operand: Expr
    negated: bool = False
    pos: int = _pos()


@node
class Case(Expr):
    """CASE [operand] WHEN condition THEN result ... [ELSE otherwise] END; `whens` is ((condition, result), ...)."""

    operand: Expr | None
    whens: tuple[tuple[Expr, Expr], ...]
    otherwise: Expr | None = None
    pos: int = _pos()


@node
class Cast(Expr):
    """`type_name` may be empty, as in SQLite."""

    operand: Expr
    type_name: str
    pos: int = _pos()


@node
class Collate(Expr):
    operand: Expr
    collation: str
    pos: int = _pos()


@node
class Function(Expr):
    """name([DISTINCT] args [ORDER BY order_by]) [FILTER (WHERE filter)] [OVER over]; `over` is a Window or its name."""

    name: str
    args: tuple[Expr, ...] = ()
    distinct: bool = False
    star: bool = False
    order_by: tuple[OrderTerm, ...] = ()
    filter: Expr | None = None
    over: Window | str | None = None
    pos: int = _pos()


@node
class Exists(Expr):
    select: Select
    pos: int = _pos()


@node
class ScalarSubquery(Expr):
    select: Select
    pos: int = _pos()


@node
class RowValue(Expr):
    """(a, b, ...): two expressions or more."""

    items: tuple[Expr, ...]
    pos: int = _pos()


@node
class Raise(Expr):
    """RAISE(action, message) in a trigger; action: IGNORE ROLLBACK ABORT FAIL."""

    action: str
    message: Expr | None = None
    pos: int = _pos()


@node
class FrameBound(Node):
    """kind: "UNBOUNDED PRECEDING", "PRECEDING", "CURRENT ROW", "FOLLOWING", "UNBOUNDED FOLLOWING"."""

    kind: str
    offset: Expr | None = None


@node
class Frame(Node):
    """unit: ROWS RANGE GROUPS; exclude: None, "NO OTHERS", "CURRENT ROW", "GROUP", "TIES"."""

    unit: str
    start: FrameBound
    end: FrameBound
    exclude: str | None = None


@node
class Window(Node):
    """A window; `base` names the window that it extends."""

    base: str | None = None
    partition_by: tuple[Expr, ...] = ()
    order_by: tuple[OrderTerm, ...] = ()
    frame: Frame | None = None
    pos: int = _pos()


@node
class OrderTerm(Node):
    """One term of ORDER BY. `nulls`: None, "FIRST" or "LAST"."""

    expr: Expr
    descending: bool = False
    nulls: str | None = None


# ----------------------------------------------------------------------------------------------------------- queries

@node
class TableName(Node):
    """The name of a table, index, view, trigger, topic or queue."""

    name: str
    schema: str | None = None
    pos: int = _pos()


@node
class ResultColumn(Node):
    """One result of SELECT or RETURNING; `expr` may be a Star. `text` is the expression's source, its default name."""

    expr: Expr
    alias: str | None = None
    text: str = _source()
    pos: int = _pos()


@node
class TableRef(FromItem):
    """A table, view or common table expression. `indexed_by` names an index; `not_indexed` is NOT INDEXED."""

    table: TableName
    alias: str | None = None
    indexed_by: str | None = None
    not_indexed: bool = False


@node
class TableFunction(FromItem):
    """A table-valued function: name(args)."""

    table: TableName
    args: tuple[Expr, ...]
    alias: str | None = None


@node
class SubquerySource(FromItem):
    select: Select
    alias: str | None = None
    pos: int = _pos()


@node
class Join(FromItem):
    """kind: INNER (also a comma) CROSS LEFT RIGHT FULL; a constraint is `on` or `using`, or `natural`."""

    left: FromItem
    right: FromItem
    kind: str = "INNER"
    natural: bool = False
    on: Expr | None = None
    using: tuple[str, ...] = ()
    pos: int = _pos()


@node
class NamedWindow(Node):
    """WINDOW name AS (window)."""

    name: str
    window: Window


@node
class SelectCore(Node):
    """SELECT without compound, ORDER BY and LIMIT."""

    columns: tuple[ResultColumn, ...]
    distinct: bool = False
    source: FromItem | None = None
    where: Expr | None = None
    group_by: tuple[Expr, ...] = ()
    having: Expr | None = None
    windows: tuple[NamedWindow, ...] = ()
    pos: int = _pos()


@node
class Values(Node):
    """VALUES (..), (..): every row as written; the binder checks that they are of one length."""

    rows: tuple[tuple[Expr, ...], ...]
    pos: int = _pos()


@node
class Compound(Node):
    """op: UNION "UNION ALL" INTERSECT EXCEPT; they associate to the left, all with one precedence."""

    op: str
    core: SelectCore | Values
    pos: int = _pos()


@node
class CommonTable(Node):
    """One member of WITH. `materialized`: None where it was not said."""

    name: str
    columns: tuple[str, ...]
    select: Select
    materialized: bool | None = None
    pos: int = _pos()


@node
class With(Node):
    tables: tuple[CommonTable, ...]
    recursive: bool = False


@node
class Select(Statement):
    """A query, as a statement or nested: [WITH] core [compounds] [ORDER BY] [LIMIT [OFFSET]]."""

    core: SelectCore | Values
    compounds: tuple[Compound, ...] = ()
    order_by: tuple[OrderTerm, ...] = ()
    limit: Expr | None = None
    offset: Expr | None = None
    with_: With | None = None
    pos: int = _pos()


# ----------------------------------------------------------------------------------------------------- changing rows

@node
class IndexedColumn(Node):
    """A column or expression of an index, a key or a conflict target; `expr` is a Column without table for a name."""

    expr: Expr
    collation: str | None = None
    descending: bool = False
    pos: int = _pos()


@node
class Assignment(Node):
    """columns = value; more than one column takes a row value or a subquery."""

    columns: tuple[str, ...]
    value: Expr
    pos: int = _pos()


@node
class Upsert(Node):
    """ON CONFLICT [(target) [WHERE target_where]] DO NOTHING, or DO UPDATE SET assignments [WHERE where].

    No target is `()`; DO NOTHING has `assignments is None`.
    """

    target: tuple[IndexedColumn, ...] = ()
    target_where: Expr | None = None
    assignments: tuple[Assignment, ...] | None = None
    where: Expr | None = None
    pos: int = _pos()


@node
class Insert(Statement):
    """INSERT or REPLACE. `source` None is DEFAULT VALUES; `columns` None is all columns.

    `or_action`: None ABORT FAIL IGNORE REPLACE ROLLBACK; the REPLACE statement has "REPLACE". `returning` None is none.
    """

    table: TableName
    columns: tuple[str, ...] | None = None
    source: Select | None = None
    or_action: str | None = None
    alias: str | None = None
    upserts: tuple[Upsert, ...] = ()
    returning: tuple[ResultColumn, ...] | None = None
    with_: With | None = None


@node
class Update(Statement):
    """`table` carries alias and INDEXED BY; `source` is the FROM clause."""

    table: TableRef
    assignments: tuple[Assignment, ...]
    source: FromItem | None = None
    where: Expr | None = None
    order_by: tuple[OrderTerm, ...] = ()
    limit: Expr | None = None
    offset: Expr | None = None
    or_action: str | None = None
    returning: tuple[ResultColumn, ...] | None = None
    with_: With | None = None


@node
class Delete(Statement):
    table: TableRef
    where: Expr | None = None
    order_by: tuple[OrderTerm, ...] = ()
    limit: Expr | None = None
    offset: Expr | None = None
    returning: tuple[ResultColumn, ...] | None = None
    with_: With | None = None


# ------------------------------------------------------------------------------------------------------- definitions

@node
class PrimaryKeyConstraint(Constraint):
    """`columns` is () where it stands on a column. `on_conflict`: None ABORT FAIL IGNORE REPLACE ROLLBACK."""

    columns: tuple[IndexedColumn, ...] = ()
    descending: bool = False
    autoincrement: bool = False
    on_conflict: str | None = None
    name: str | None = None
    pos: int = _pos()


@node
class UniqueConstraint(Constraint):
    """`columns` is () where it stands on a column."""

    columns: tuple[IndexedColumn, ...] = ()
    on_conflict: str | None = None
    name: str | None = None
    pos: int = _pos()


@node
class NotNullConstraint(Constraint):
    on_conflict: str | None = None
    name: str | None = None
    pos: int = _pos()


@node
class CheckConstraint(Constraint):
    """`text` is the expression's source, for the message of a failure."""

    expr: Expr
    name: str | None = None
    text: str = _source()
    pos: int = _pos()


@node
class DefaultConstraint(Constraint):
    """`text` is the source without outer parentheses, as PRAGMA table_info shows it. A bare name is a str Literal."""

    expr: Expr
    name: str | None = None
    text: str = _source()
    pos: int = _pos()


@node
class CollateConstraint(Constraint):
    collation: str
    name: str | None = None
    pos: int = _pos()


@node
class ForeignKeyConstraint(Constraint):
    """`columns` is () where it stands on a column; `parent_columns` () is the parent's primary key.

    Actions: None "NO ACTION" RESTRICT CASCADE "SET NULL" "SET DEFAULT". `deferred` is DEFERRABLE INITIALLY DEFERRED.
    """

    parent: str
    parent_columns: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    on_delete: str | None = None
    on_update: str | None = None
    match: str | None = None
    deferred: bool = False
    name: str | None = None
    pos: int = _pos()


@node
class GeneratedConstraint(Constraint):
    expr: Expr
    stored: bool = False
    name: str | None = None
    text: str = _source()
    pos: int = _pos()


@node
class ColumnDef(Node):
    """`type_name` is the declared type as written, or None."""

    name: str
    type_name: str | None = None
    constraints: tuple[Constraint, ...] = ()
    pos: int = _pos()


@node
class Option(Node):
    """One `name = value` of WITH (...); value: int, float, str or None. A bare word is a str."""

    name: str
    value: int | float | str | None
    pos: int = _pos()


@node
class CreateTable(Statement):
    """`sql` is the text for sqlite_schema: "CREATE TABLE " and the source from the name on. `options`: WITH (...)."""

    table: TableName
    columns: tuple[ColumnDef, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    select: Select | None = None
    if_not_exists: bool = False
    temporary: bool = False
    without_rowid: bool = False
    strict: bool = False
    options: tuple[Option, ...] = ()
    sql: str = _source()


@node
class CreateIndex(Statement):
    index: TableName
    table: TableName
    columns: tuple[IndexedColumn, ...]
    unique: bool = False
    if_not_exists: bool = False
    where: Expr | None = None
    sql: str = _source()


@node
class CreateView(Statement):
    view: TableName
    select: Select
    columns: tuple[str, ...] = ()
    if_not_exists: bool = False
    temporary: bool = False
    sql: str = _source()


@node
class CreateTrigger(Statement):
    """time: None (= BEFORE) BEFORE AFTER "INSTEAD OF"; event: INSERT UPDATE DELETE, `columns` of UPDATE OF."""

    trigger: TableName
    table: TableName
    event: str
    body: tuple[Statement, ...]
    time: str | None = None
    columns: tuple[str, ...] = ()
    when: Expr | None = None
    if_not_exists: bool = False
    temporary: bool = False
    sql: str = _source()


@node
class CreateVirtualTable(Statement):
    """`args` are the module's arguments, each as it was written."""

    table: TableName
    module: str
    args: tuple[str, ...] = ()
    if_not_exists: bool = False
    sql: str = _source()


@node
class CreateTopic(Statement):
    topic: TableName
    options: tuple[Option, ...] = ()
    if_not_exists: bool = False
    sql: str = _source()


@node
class CreateQueue(Statement):
    queue: TableName
    options: tuple[Option, ...] = ()
    if_not_exists: bool = False
    sql: str = _source()


@node
class Drop(Statement):
    """kind: TABLE INDEX VIEW TRIGGER TOPIC QUEUE."""

    kind: str
    name: TableName
    if_exists: bool = False


@node
class RenameTable(Statement):
    """ALTER TABLE table RENAME TO name."""

    table: TableName
    name: str


@node
class RenameColumn(Statement):
    """ALTER TABLE table RENAME [COLUMN] column TO name."""

    table: TableName
    column: str
    name: str


@node
class AddColumn(Statement):
    """ALTER TABLE table ADD [COLUMN] column; `sql` is the column definition's source."""

    table: TableName
    column: ColumnDef
    sql: str = _source()


@node
class DropColumn(Statement):
    """ALTER TABLE table DROP [COLUMN] column."""

    table: TableName
    column: str


# ----------------------------------------------------------------------------------------- transactions and the rest

@node
class Begin(Statement):
    """mode: DEFERRED IMMEDIATE EXCLUSIVE."""

    mode: str = "DEFERRED"


@node
class Commit(Statement):
    """COMMIT or END."""


@node
class Rollback(Statement):
    """ROLLBACK [TO savepoint]."""

    savepoint: str | None = None


@node
class Savepoint(Statement):
    name: str


@node
class Release(Statement):
    name: str


@node
class Pragma(Statement):
    """PRAGMA [schema.]name [= value | (value)]; a bare word is a str; no value is `given == False`."""

    name: str
    schema: str | None = None
    value: int | float | str | None = None
    given: bool = False
    pos: int = _pos()


@node
class Attach(Statement):
    file: Expr
    name: Expr
    key: Expr | None = None


@node
class Detach(Statement):
    name: Expr


@node
class Analyze(Statement):
    target: TableName | None = None


@node
class Reindex(Statement):
    target: TableName | None = None


@node
class Vacuum(Statement):
    schema: str | None = None
    into: Expr | None = None


@node
class Explain(Statement):
    """mode: "" (the program), "QUERY PLAN" or "ANALYZE"."""

    statement: Statement
    mode: str = ""


@node
class Watch(Statement):
    """WATCH select: rows, then changes."""

    select: Select
