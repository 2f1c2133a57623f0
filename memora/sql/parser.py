"""SQL text to syntax tree: the LALR(1) tables of grammar.lark, driven by a loop of our own.

tables.py has the tables, which are loaded when the first statement is parsed. Rules that only pass one child on have the
lowest numbers, and runs of them (an atom climbs a dozen levels of precedence) are remembered as one step for (state
below, state, token). A statement ends with its first semicolon, in the state after it, so a script is read one statement at a time.

The loop keeps its stacks in lists, so no text can exhaust Python's; the depth of a tree is limited to MAX_DEPTH, as in
SQLite. Values on the stack are nodes, lists of nodes, or, for a token, its index.
"""
from __future__ import annotations

import threading
from operator import itemgetter

from ..errors import OperationalError, ProgrammingError, SQLSyntaxError
from . import actions, ast
from .lexer import Lexer, point_at
from .tables import load

#: The deepest tree of expressions and queries that is taken.
MAX_DEPTH = 1000


class Tables:
    """The grammar as the loop wants it: tables.py's numbers, the actions they name, the lexer."""

    def __init__(self, found):
        self.lexer = Lexer(found["terminals"], found["ignored"])
        self.shifts, self.gotos = found["shifts"], found["gotos"]
        self.units, self.start, self.final = found["units"], found["start"], found["final"]
        # take: None for no child, an index from the stack's top for one, a getter for more.
        self.rules = []
        for length, left, action, kept in found["rules"]:
            function = getattr(actions, action) if action else None
            take = None if not kept else kept[0] if len(kept) == 1 else itemgetter(*kept)
            self.rules.append((length, left, function, take, len(kept)))
        self.chains = {}

    def climb(self, below, top, kind):
        """The state after all reductions that only pass a child on."""
        key = below, top, kind
        while True:
            action = self.shifts[top].get(kind, 0)
            if action >= 0 or ~action >= self.units:
                break
            top = self.gotos[below][self.rules[~action][1]]
        self.chains[key] = top
        return top


_lock = threading.Lock()
_tables = None


def tables():
    """The tables, loaded at the first call."""
    global _tables
    if _tables is None:
        with _lock:
            if _tables is None:
                _tables = Tables(load())
    return _tables


class Parse:
    """One text being parsed: its tokens, and what the actions share.

    `at` is the index of the token that is looked at: the last token of a rule being reduced is `at - 1`.
    """

    __slots__ = ("sql", "kinds", "starts", "ends", "at", "params", "param_index", "minimums")

    def __init__(self, sql):
        self.sql = sql
        self.kinds, self.starts, self.ends = tables().lexer.tokens(sql)
        self.at = 0

    def text(self, index):
        """The source of one token."""
        return self.sql[self.starts[index]:self.ends[index]]

    def fail(self, index, message):
        """A syntax error at a token."""
        return SQLSyntaxError(point_at(self.sql, self.starts[index], message))

    def skip_semicolons(self):
        """Go to the next token that is not a semicolon; False at the end of the text."""
        number = tables().lexer.number
        while self.kinds[self.at] == number["SEMICOLON"]:
            self.at += 1
        return self.kinds[self.at] != number["$END"]

    def statement(self):
        """Parse one statement from `at` on, with its semicolon."""
        first = self.at
        self.params, self.param_index, self.minimums = [], {}, set()
        statement = self._run()
        if self.at - first > MAX_DEPTH:
            check_depth(statement)
        if self.params:
            object.__setattr__(statement, "params", tuple(self.params))
        return statement

    def _run(self):
        compiled = tables()
        shifts, gotos, rules, chains = compiled.shifts, compiled.gotos, compiled.rules, compiled.chains
        units, final = compiled.units, compiled.final
        kinds = self.kinds
        at = self.at
        kind = kinds[at]
        states, values = [compiled.start], []
        while True:
            action = shifts[states[-1]].get(kind)
            if action is None:
                raise self._error(at)
            if action >= 0:
                if action == final:
                    self.at = at + 1
                    return values[-1]
                states.append(action)
                values.append(at)
                self.at = at = at + 1
                kind = kinds[at]
                continue
            action = ~action
            if action < units:
                key = states[-2], states[-1], kind
                top = chains.get(key)
                states[-1] = compiled.climb(*key) if top is None else top
                continue
            length, left, function, take, count = rules[action]
            if function is None:
                value = None if take is None else values[take] if count == 1 else None
            elif take is None:
                value = function(self)
            elif count == 1:
                value = function(self, values[take])
            else:
                value = function(self, *take(values))
            if length:
                del states[-length:], values[-length:]
            states.append(gotos[states[-1]][left])
            values.append(value)

    def _error(self, at):
        number = tables().lexer.number
        kind = self.kinds[at]
        if kind == number["$END"] or self.starts[at] == self.ends[at]:
            return SQLSyntaxError(point_at(self.sql, len(self.sql.rstrip()), "incomplete input"))
        shown = self.text(at)
        if len(shown) > 60:
            shown = shown[:57] + "..."
        if kind == number["ILLEGAL"]:
            return self.fail(at, f'unrecognized token: "{shown}"')
        return self.fail(at, f'near "{shown}": syntax error')


def parse(sql):
    """The syntax tree of one statement; a semicolon may end it.

    Raises SQLSyntaxError for what is not SQL or is cut short (also for an empty text), ProgrammingError where a
    second statement follows, OperationalError for an expression that is too deep.
    """
    work = Parse(sql)
    if not work.skip_semicolons():
        raise SQLSyntaxError("incomplete input")
    statement = work.statement()
    if work.skip_semicolons():
        raise ProgrammingError(point_at(sql, work.starts[work.at], "You can only execute one statement at a time."))
    return statement


def iterate_script(sql):
    """The statements of a text one after another: (statement, its text without the semicolon).

    A mistake is raised when its statement is reached, not before.
    """
    work = Parse(sql)
    while work.skip_semicolons():
        first = work.at
        statement = work.statement()
        yield statement, sql[work.starts[first]:work.ends[work.at - 2]]


def parse_script(sql):
    """All statements of a text: a list of (statement, its text without the semicolon)."""
    return list(iterate_script(sql))


def is_blank(sql):
    """Whether a text holds nothing but blanks, comments and semicolons."""
    return not Parse(sql).skip_semicolons()


def complete_statement(text):
    """Whether a text ends with a semicolon that ends a statement, as `sqlite3.complete_statement`.

    It looks at tokens only: a CREATE TRIGGER ends with `; END ;`, all else with a semicolon outside strings and comments.
    """
    lexer = tables().lexer
    number = lexer.number
    kinds, starts, ends = lexer.tokens(text)
    if number["ILLEGAL"] in kinds and text[starts[kinds.index(number["ILLEGAL"])]] in "'\"`[":
        return False
    if len(kinds) < 3 or kinds[-3] != number["SEMICOLON"]:
        return False
    return _closed(kinds, number) and not _open_comment(text, ends[-3])


def _closed(kinds, number):
    """Whether the last trigger of a list of tokens that ends with a semicolon has its END."""
    semicolon, create, trigger = number["SEMICOLON"], number["CREATE"], number["TRIGGER"]
    temporary = number["TEMP"], number["TEMPORARY"]
    place = "start"
    for i, kind in enumerate(kinds[:-2]):
        if place == "trigger":
            if kind == semicolon and kinds[i - 1] == number["END"] and kinds[i - 2] == semicolon:
                place = "start"
        elif kind == semicolon:
            place = "start"
        elif place == "start" and kind == number["EXPLAIN"]:
            place = "explain"
        elif place in ("start", "explain") and kind == create:
            place = "create"
        elif place == "create" and kind == trigger:
            place = "trigger"
        elif place == "explain" and kind not in (number["EXPLAIN"], number["END"], trigger, *temporary):
            continue
        elif place != "create" or kind not in temporary:
            place = "middle"
    return place != "trigger"


def _open_comment(text, start):
    rest = text[start:].strip()
    while rest:
        if rest.startswith("--"):
            rest = rest.partition("\n")[2].strip()
        else:
            close = rest.find("*/", 2)
            if close < 0:
                return True
            rest = rest[close + 2:].strip()
    return False


def check_depth(root):
    """Raise OperationalError if expressions and queries nest deeper than MAX_DEPTH."""
    stack = [(root, 0)]
    while stack:
        node, depth = stack.pop()
        if isinstance(node, tuple):
            stack.extend((part, depth) for part in node if isinstance(part, (ast.Node, tuple)))
            continue
        if isinstance(node, (ast.Expr, ast.Select, ast.FromItem)):
            depth += 1
            if depth > MAX_DEPTH:
                raise OperationalError(f"Expression tree is too large (maximum depth {MAX_DEPTH})")
        for name in node.__match_args__:
            part = getattr(node, name)
            if isinstance(part, (ast.Node, tuple)):
                stack.append((part, depth))
