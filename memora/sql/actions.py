"""What the rules of grammar.lark build: one function an action, named as there.

Each takes the `Parse` it works for, then the children its rule keeps: nodes, lists of nodes, values, and for a token
its index. Lists are grown in place and become tuples when they enter a node. What a grammar cannot say well is
checked here: join words, table options, where ORDER BY may stand in a compound.
"""
from __future__ import annotations

from ..errors import OperationalError
from . import ast
from .lexer import unquote
from .node import replace as changed

#: The largest number of parameters in a statement.
MAX_PARAMS = 250_000

_MAX_INTEGER = 2**63 - 1
_RELATIONS = {"==": "=", "!=": "<>"}


# -------------------------------------------------------------------------------------------------- generic building

def null(p):
    return None


def no(p):
    return False


def yes(p):
    return True


def nothing(p):
    return []


def first(p, item):
    return [item]


def more(p, items, item):
    items.append(item)
    return items


append = more


def mark(p):
    return p.at


def word(p, token):
    return p.text(token).upper()


def plain(p, token):
    return False, token


def negated(p, *tokens):
    return True, tokens[-1]


def as_name(p, token):
    return unquote(p.text(token))


def table_name(p, *tokens):
    names = [unquote(p.text(token)) for token in tokens]
    return ast.TableName(names[-1], names[0] if len(names) == 2 else None, p.starts[tokens[-1]])


def _between_tokens(p, left, right):
    return p.sql[p.ends[left]:p.starts[right]].strip()


def _from_token(p, token):
    """The source from a token to the end of the rule."""
    return p.sql[p.starts[token]:p.ends[p.at - 1]]


# -------------------------------------------------------------------------------------------------------- expressions

def integer(p, token):
    text = p.text(token)
    start = p.starts[token]
    if text[:2] in ("0x", "0X"):
        value = int(text, 16)
        if value >= 2**64:
            raise p.fail(token, f"hex literal too big: {text}")
        if value >= 2**63:
            value -= 2**64
    elif len(text) > 4000:
        # int() refuses very long texts; such a number is a float anyhow.
        value = float(text.replace("_", ""))
    else:
        value = int(text)
        if value > _MAX_INTEGER:
            if value == 2**63:
                p.minimums.add(start)
            value = float(value) if value < 2**1000 else float(text.replace("_", ""))
    return ast.Literal(value, start)


def real(p, token):
    return ast.Literal(float(p.text(token)), p.starts[token])


def string(p, token):
    return ast.Literal(p.text(token)[1:-1].replace("''", "'"), p.starts[token])


def blob(p, token):
    return ast.Literal(bytes.fromhex(p.text(token)[2:-1]), p.starts[token])


def null_literal(p, token):
    return ast.Literal(None, p.starts[token])


def current(p, token):
    return ast.CurrentTime(p.text(token).upper(), p.starts[token])


def param(p, token):
    text = p.text(token)
    params = p.params
    if text == "?":
        params.append(None)
        index, name = len(params), None
    elif text[0] == "?":
        index, name = int(text[1:12]), text
        if not 1 <= index <= MAX_PARAMS or len(text) > 12:
            raise p.fail(token, f"variable number must be between ?1 and ?{MAX_PARAMS}")
        params.extend([None] * (index - len(params)))
        params[index - 1] = params[index - 1] or name
    else:
        name = text
        index = p.param_index.get(name)
        if index is None:
            params.append(name)
            index = p.param_index[name] = len(params)
    if len(params) > MAX_PARAMS:
        raise p.fail(token, "too many SQL variables")
    return ast.Param(index, name, p.starts[token])


def column(p, *tokens):
    names = [p.text(token) for token in tokens]
    name = names[-1]
    quote = name[0] if name[0] in "\"[`'" else ""
    start = p.starts[tokens[0]]
    if len(names) == 1:
        return ast.Column(unquote(name), None, None, quote, start)
    table = unquote(names[-2])
    return ast.Column(unquote(name), table, unquote(names[0]) if len(names) == 3 else None, quote, start)


def binary(p, left, token, right):
    op = p.text(token).upper()
    return ast.Binary(_RELATIONS.get(op, op), left, right, p.starts[token])


def unary(p, token, operand):
    op = p.text(token).upper()
    start = p.starts[token]
    if op == "-" and operand.__class__ is ast.Literal and operand.pos in p.minimums:
        p.minimums.discard(operand.pos)
        return ast.Literal(-(2**63), start)
    return ast.Unary(op, operand, start)


def is_(p, left, token, right):
    if right.__class__ is ast.Literal and right.value is None:
        return ast.IsNull(left, False, p.starts[token])
    return ast.Binary("IS", left, right, p.starts[token])


def is_not(p, left, token, right):
    if right.__class__ is ast.Literal and right.value is None:
        return ast.IsNull(left, True, p.starts[token])
    return ast.Binary("IS NOT", left, right, p.starts[token])


def is_null(p, operand, token):
    return ast.IsNull(operand, False, p.starts[token])


def not_null(p, operand, token):
    return ast.IsNull(operand, True, p.starts[token])


def like(p, left, operator, pattern, escape=None):
    negation, token = operator
    return ast.Like(p.text(token).upper(), left, pattern, escape, negation, p.starts[token])


def between(p, operand, operator, low, high):
    return ast.Between(operand, low, high, operator[0], p.starts[operator[1]])


def in_list(p, operand, operator, items):
    return ast.In(operand, tuple(items), None, None, operator[0], p.starts[operator[1]])


def in_select(p, operand, operator, query):
    return ast.In(operand, None, query, None, operator[0], p.starts[operator[1]])


def in_table(p, operand, operator, table):
    return ast.In(operand, None, None, ast.TableRef(table), operator[0], p.starts[operator[1]])


def in_function(p, operand, operator, table, args):
    return ast.In(operand, None, None, ast.TableFunction(table, tuple(args)), operator[0], p.starts[operator[1]])


def collate(p, operand, token, collation):
    return ast.Collate(operand, collation, p.starts[token])


def scalar(p, token, query):
    return ast.ScalarSubquery(query, p.starts[token])


def row_value(p, token, items, last):
    items.append(last)
    return ast.RowValue(tuple(items), p.starts[token])


def case(p, token, operand, whens, otherwise):
    return ast.Case(operand, tuple(whens), otherwise, p.starts[token])


def when_first(p, condition, outcome):
    return [(condition, outcome)]


def when_more(p, whens, condition, outcome):
    whens.append((condition, outcome))
    return whens


def cast(p, token, operand, type_name_):
    return ast.Cast(operand, type_name_ or "", p.starts[token])


def exists(p, token, query):
    return ast.Exists(query, p.starts[token])


def raise_(p, token, action, message=None):
    return ast.Raise(p.text(action).upper(), message, p.starts[token])


def function(p, token, distinct, args, order, condition, over):
    return ast.Function(unquote(p.text(token)), tuple(args), distinct, False, tuple(order), condition, over,
                        p.starts[token])


def function_star(p, token, star, condition, over):
    return ast.Function(unquote(p.text(token)), (), False, True, (), condition, over, p.starts[token])


def window(p, token, base, partition, order, frame):
    return ast.Window(base, tuple(partition), tuple(order), frame, p.starts[token])


def frame_from(p, unit, bound, exclude):
    if bound.kind in ("UNBOUNDED FOLLOWING", "FOLLOWING"):
        raise p.fail(p.at - 1, "unsupported frame specification")
    return ast.Frame(unit, bound, ast.FrameBound("CURRENT ROW"), exclude)


_BOUND_ORDER = ("UNBOUNDED PRECEDING", "PRECEDING", "CURRENT ROW", "FOLLOWING", "UNBOUNDED FOLLOWING")


def frame_between(p, unit, start, end, exclude):
    if _BOUND_ORDER.index(start.kind) > _BOUND_ORDER.index(end.kind) or (
            start.kind == "UNBOUNDED FOLLOWING" or end.kind == "UNBOUNDED PRECEDING"):
        raise p.fail(p.at - 1, "unsupported frame specification")
    return ast.Frame(unit, start, end, exclude)


def unbounded_preceding(p):
    return ast.FrameBound("UNBOUNDED PRECEDING")


def unbounded_following(p):
    return ast.FrameBound("UNBOUNDED FOLLOWING")


def current_row(p):
    return ast.FrameBound("CURRENT ROW")


def preceding(p, offset):
    return ast.FrameBound("PRECEDING", offset)


def following(p, offset):
    return ast.FrameBound("FOLLOWING", offset)


def exclude_no_others(p):
    return "NO OTHERS"


def exclude_current_row(p):
    return "CURRENT ROW"


# ------------------------------------------------------------------------------------------------------------ queries

def with_plain(p, token, tables):
    return ast.With(tuple(tables), False), p.starts[token]


def with_recursive(p, token, tables):
    return ast.With(tuple(tables), True), p.starts[token]


def _with(clause):
    return clause[0] if clause else None


def common(p, token, columns, materialized, query):
    return ast.CommonTable(unquote(p.text(token)), tuple(columns), query, materialized, p.starts[token])


def core(p, token, distinct, columns, source, where, group_by, having, windows, order, limits):
    node = ast.SelectCore(tuple(columns), distinct, source, where, tuple(group_by), having, tuple(windows),
                          p.starts[token])
    return node, order, limits


def values(p, token, rows):
    return ast.Values(tuple([tuple(row) for row in rows]), p.starts[token]), (), (None, None)


def arm_first(p, arm):
    return [(None, arm)]


def arm_more(p, arms, *rest):
    token, arm = rest[0], rest[-1]
    _, order, limits = arms[-1][1]
    op = p.text(token).upper() + (" ALL" if len(rest) == 3 else "")
    if order or limits[0] is not None:
        clause = "ORDER BY" if order else "LIMIT"
        raise p.fail(token, f"{clause} clause should come after {op} not before")
    arms.append(((op, p.starts[token]), arm))
    return arms


def select(p, arms, clause=None, pos=None):
    _, order, limits = arms[-1][1]
    head = arms[0][1][0]
    return ast.Select(head, tuple([ast.Compound(op, arm[0], at) for (op, at), arm in arms[1:]]), tuple(order),
                      *limits, clause, head.pos if pos is None else pos)


def select_with(p, clause, arms):
    return select(p, arms, *clause)


def result(p, token, expr, alias=None, name=None):
    # `expr alias` ends before one token, `expr AS name` before two.
    if name is not None:
        end = p.ends[alias - 1]
    elif alias is not None:
        end, name = p.ends[alias - 1], unquote(p.text(alias))
    else:
        end = p.ends[p.at - 1]
    start = p.starts[token]
    return ast.ResultColumn(expr, name, p.sql[start:end], start)


def result_star(p, token, star):
    start = p.starts[token]
    return ast.ResultColumn(ast.Star(None, start), None, "*", start)


def result_table_star(p, token, table):
    start = p.starts[token]
    return ast.ResultColumn(ast.Star(unquote(p.text(table)), start), None, _from_token(p, token), start)


def table_ref(p, table, alias, index):
    return ast.TableRef(table, alias, index or None, index is False)


def table_function(p, table, args, alias):
    return ast.TableFunction(table, tuple(args), alias)


def subquery(p, token, query, alias):
    return ast.SubquerySource(query, alias, p.starts[token])


def nested(p, token, source, alias):
    if alias is None:
        return source
    start = p.starts[token]
    everything = ast.SelectCore((ast.ResultColumn(ast.Star(None, start), None, "*", start),), source=source, pos=start)
    return ast.SubquerySource(ast.Select(everything, pos=start), alias, start)


def join_kind(p, *tokens):
    words = [p.text(token).upper() for token in tokens]
    kinds = set(words) - {"JOIN", ","}
    sides = kinds & {"LEFT", "RIGHT", "FULL"}
    inner = kinds & {"INNER", "CROSS"}
    outer = sides or "OUTER" in kinds
    if kinds - {"LEFT", "RIGHT", "FULL", "INNER", "CROSS", "OUTER", "NATURAL"} or (inner and outer) or (
            outer and not sides):
        raise p.fail(tokens[0], f"unknown join type: {' '.join(words[:-1])}")
    if len(sides) > 1 or "FULL" in sides:
        kind = "FULL"
    else:
        kind = sides.pop() if sides else "CROSS" if "CROSS" in kinds else "INNER"
    return kind, "NATURAL" in kinds, tokens[0]


def join(p, left, operator, right, on):
    kind, natural, token = operator
    if natural and on is not None:
        raise p.fail(token, "a NATURAL join may not have an ON or USING clause")
    using = tuple(on) if isinstance(on, list) else ()
    return ast.Join(left, right, kind, natural, None if using else on, using, p.starts[token])


def named_window(p, name, node):
    return ast.NamedWindow(name, node)


def order_term(p, expr, descending, nulls):
    return ast.OrderTerm(expr, descending, nulls)


def no_limit(p):
    return None, None


def limit(p, count, offset=None):
    return count, offset


def limit_comma(p, offset, count):
    return count, offset


# ------------------------------------------------------------------------------------------------------ changing rows

def replace(p):
    return "REPLACE"


def insert(p, clause, or_action, table, alias, columns, query, upserts, returning):
    return ast.Insert(table, None if columns is None else tuple(columns), query, or_action, alias, tuple(upserts),
                      None if returning is None else tuple(returning), _with(clause))


def insert_default(p, clause, or_action, table, alias, columns, returning):
    return insert(p, clause, or_action, table, alias, columns, None, (), returning)


def upsert_nothing(p, token):
    return ast.Upsert((), None, None, None, p.starts[token])


def upsert_update(p, token, assignments, where):
    return ast.Upsert((), None, tuple(assignments), where, p.starts[token])


def upsert_target_nothing(p, token, target, target_where):
    return ast.Upsert(tuple(target), target_where, None, None, p.starts[token])


def upsert_target_update(p, token, target, target_where, assignments, where):
    return ast.Upsert(tuple(target), target_where, tuple(assignments), where, p.starts[token])


def assignment(p, token, equal, value):
    return ast.Assignment((unquote(p.text(token)),), value, p.starts[token])


def assignment_row(p, token, names, equal, value):
    return ast.Assignment(tuple(names), value, p.starts[token])


def update(p, clause, or_action, table, assignments, source, where, returning, order, limits):
    return ast.Update(table, tuple(assignments), source, where, tuple(order), *limits, or_action,
                      None if returning is None else tuple(returning), _with(clause))


def delete(p, clause, table, where, returning, order, limits):
    return ast.Delete(table, where, tuple(order), *limits, None if returning is None else tuple(returning),
                      _with(clause))


# -------------------------------------------------------------------------------------------------------- definitions

class ConstraintName(str):
    """CONSTRAINT name: it names the constraint that follows."""


def constraint_name(p, name):
    return ConstraintName(name)


def _settle(items):
    """The constraints of a list, with their names and with DEFERRABLE put on the foreign key before it."""
    found = []
    name = None
    for item in items:
        if isinstance(item, ConstraintName):
            name = str(item)
            continue
        if isinstance(item, bool):
            if found and isinstance(found[-1], ast.ForeignKeyConstraint):
                found[-1] = changed(found[-1], deferred=item)
        elif item is not None:
            found.append(changed(item, name=name) if name else item)
        name = None
    return tuple(found)


def column_def(p, token, type_name_, constraints):
    return ast.ColumnDef(unquote(p.text(token)), type_name_, _settle(constraints), p.starts[token])


def type_name(p, words, *numbers):
    return _from_token(p, words[0])


def signed(p, token, number_):
    return -number_ if p.text(token) == "-" else number_


def integer_value(p, token):
    return integer(p, token).value


def real_value(p, token):
    return float(p.text(token))


def _default(p, token, expr, text):
    return ast.DefaultConstraint(expr, None, text, p.starts[token])


def default_literal(p, token, literal):
    return _default(p, token, literal, p.text(p.at - 1))


def default_signed(p, token, sign, literal):
    expr = unary(p, sign, literal) if p.text(sign) == "-" else literal
    return _default(p, token, expr, _from_token(p, sign))


def default_expr(p, token, left, expr, right):
    return _default(p, token, expr, _between_tokens(p, left, right))


def default_name(p, token, name):
    text = p.text(name)
    value = {"true": 1, "false": 0}.get(text.lower(), unquote(text))
    return _default(p, token, ast.Literal(value, p.starts[name]), text)


def no_constraint(p, on_conflict):
    return None


def not_null_constraint(p, token, on_conflict):
    return ast.NotNullConstraint(on_conflict, None, p.starts[token])


def primary_key(p, token, descending, on_conflict, autoincrement):
    return ast.PrimaryKeyConstraint((), descending, autoincrement, on_conflict, None, p.starts[token])


def unique(p, token, on_conflict):
    return ast.UniqueConstraint((), on_conflict, None, p.starts[token])


def check(p, token, left, expr, right, on_conflict=None):
    return ast.CheckConstraint(expr, None, _between_tokens(p, left, right), p.starts[token])


def references(p, token, parent, parent_columns, args):
    return _foreign_key(p, token, (), parent, parent_columns, args, False)


def foreign_key(p, token, columns, parent, parent_columns, args, deferred):
    return _foreign_key(p, token, columns, parent, parent_columns, args, bool(deferred))


def _foreign_key(p, token, columns, parent, parent_columns, args, deferred):
    given = dict(args)
    return ast.ForeignKeyConstraint(parent, tuple(parent_columns), tuple(columns), given.get("delete"),
                                    given.get("update"), given.get("match"), deferred, None, p.starts[token])


def collate_constraint(p, token, collation):
    return ast.CollateConstraint(collation, None, p.starts[token])


def generated(p, token, left, expr, right, kind=None):
    how = "virtual" if kind is None else p.text(kind).lower()
    if how not in ("virtual", "stored"):
        raise p.fail(kind, "error in generated column")
    return ast.GeneratedConstraint(expr, how == "stored", None, _between_tokens(p, left, right), p.starts[token])


def on_delete(p, action):
    return "delete", action


def on_update(p, action):
    return "update", action


def on_insert(p, action):
    return "insert", action


def match(p, name):
    return "match", name


def set_null(p):
    return "SET NULL"


def set_default(p):
    return "SET DEFAULT"


def no_action(p):
    return "NO ACTION"


def deferral(p, initially):
    return initially


def not_deferred(p, initially):
    return False


def table_primary_key(p, token, columns, autoincrement, on_conflict):
    return ast.PrimaryKeyConstraint(tuple(columns), False, autoincrement, on_conflict, None, p.starts[token])


def table_unique(p, token, columns, on_conflict):
    return ast.UniqueConstraint(tuple(columns), on_conflict, None, p.starts[token])


def indexed_column(p, token, expr, descending, nulls):
    if nulls is not None:
        raise p.fail(p.at - 1, f"unsupported use of NULLS {nulls}")
    collation = None
    if expr.__class__ is ast.Collate:
        expr, collation = expr.operand, expr.collation
    return ast.IndexedColumn(expr, collation, descending, p.starts[token])


def without(p, token):
    if unquote(p.text(token)).lower() != "rowid":
        raise p.fail(token, f"unknown table option: {p.text(token)}")
    return "WITHOUT ROWID"


def table_flag(p, token):
    if unquote(p.text(token)).lower() != "strict":
        raise p.fail(token, f"unknown table option: {p.text(token)}")
    return "STRICT"


def option(p, token, equal, value):
    return ast.Option(unquote(p.text(token)), value, p.starts[token])


def null_value(p, token):
    return None


def option_word(p, token):
    return p.text(token)


def _created(p, kind, name):
    """The text for sqlite_schema: CREATE, the kind, and the source from the name on."""
    return f"CREATE {kind} {p.sql[name.pos:p.ends[p.at - 1]]}"


def create_table(p, temporary, if_not_exists, table, columns, constraints, chosen):
    options = [one for entry in chosen if isinstance(entry, list) for one in entry]
    return ast.CreateTable(table, tuple(columns), _settle(constraints), None, if_not_exists, temporary,
                           "WITHOUT ROWID" in chosen, "STRICT" in chosen, tuple(options),
                           sql=_created(p, "TABLE", table))


def create_table_as(p, temporary, if_not_exists, table, query):
    return ast.CreateTable(table, select=query, if_not_exists=if_not_exists, temporary=temporary,
                           sql=_created(p, "TABLE", table))


def create_index(p, is_unique, if_not_exists, name, table, columns, where):
    return ast.CreateIndex(name, ast.TableName(unquote(p.text(table)), name.schema, p.starts[table]), tuple(columns),
                           is_unique, if_not_exists, where,
                           sql=_created(p, "UNIQUE INDEX" if is_unique else "INDEX", name))


def create_view(p, temporary, if_not_exists, view, columns, query):
    return ast.CreateView(view, query, tuple(columns), if_not_exists, temporary, sql=_created(p, "VIEW", view))


def create_virtual(p, if_not_exists, table, module, token=None):
    args = () if token is None else _module_arguments(p.text(token)[1:-1])
    return ast.CreateVirtualTable(table, module, args, if_not_exists, sql=_created(p, "VIRTUAL TABLE", table))


def _module_arguments(text):
    """The arguments of a virtual table: split at commas outside quotes and parentheses."""
    args, depth, quote, start = [], 0, "", 0
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"`[":
            quote = "]" if c == "[" else c
        elif c == "," and not depth:
            args.append(text[start:i].strip())
            start = i + 1
        else:
            depth += (c == "(") - (c == ")")
    args.append(text[start:].strip())
    return tuple(args) if args != [""] else ()


def create_topic(p, if_not_exists, topic, options):
    return ast.CreateTopic(topic, tuple(options), if_not_exists, sql=_created(p, "TOPIC", topic))


def create_queue(p, if_not_exists, queue, options):
    return ast.CreateQueue(queue, tuple(options), if_not_exists, sql=_created(p, "QUEUE", queue))


def create_trigger(p, temporary, if_not_exists, trigger, time, event, table, when, body):
    kind, columns = event
    return ast.CreateTrigger(trigger, table, kind, tuple(body), time, columns, when, if_not_exists, temporary,
                             sql=_created(p, "TRIGGER", trigger))


def trigger_event(p, token, columns=()):
    return p.text(token).upper(), tuple(columns)


def instead_of(p):
    return "INSTEAD OF"


def drop(p, kind, if_exists, name):
    return ast.Drop(kind, name, if_exists)


def rename_table(p, table, name):
    return ast.RenameTable(table, name)


def rename_column(p, table, old, name):
    return ast.RenameColumn(table, old, name)


def add_column(p, table, token, definition):
    return ast.AddColumn(table, definition, sql=_from_token(p, token))


def drop_column(p, table, name):
    return ast.DropColumn(table, name)


# ------------------------------------------------------------------------------------------ transactions and the rest

def begin(p, mode):
    return ast.Begin(mode or "DEFERRED")


def commit(p):
    return ast.Commit()


def rollback(p, name=None):
    return ast.Rollback(name)


def savepoint(p, name):
    return ast.Savepoint(name)


def release(p, name):
    return ast.Release(name)


def pragma(p, target, *value):
    return ast.Pragma(target.name, target.schema, value[0] if value else None, bool(value), target.pos)


def pragma_set(p, target, equal, value):
    return pragma(p, target, value)


def attach(p, file, name, key=None):
    return ast.Attach(file, name, key)


def detach(p, name):
    return ast.Detach(name)


def analyze(p, target=None):
    return ast.Analyze(target)


def reindex(p, target=None):
    return ast.Reindex(target)


def vacuum(p, schema=None):
    return ast.Vacuum(schema)


def vacuum_into(p, *parts):
    return ast.Vacuum(parts[0] if len(parts) == 2 else None, parts[-1])


def explain(p, statement):
    return ast.Explain(statement)


def explain_query_plan(p, statement):
    return ast.Explain(statement, "QUERY PLAN")


def explain_analyze(p, statement):
    return ast.Explain(statement, "ANALYZE")


def watch(p, query):
    return ast.Watch(query)
