"""SQL text to syntax tree: the LALR(1) tables of grammar.lark, driven by a scanner and a loop of our own (parsing.pyx).

tables.py has the tables, which are loaded when the first statement is parsed. A statement ends with its first semicolon, in the
state after it, so a script is read one statement at a time. The depth of a tree is limited to MAX_DEPTH, as in SQLite.
"""
from __future__ import annotations

from .. import forks
from ..errors import ProgrammingError, SQLSyntaxError
from . import actions, parsing
from .lexer import Lexer, point_at
from .tables import load

_lock = forks.Lock()
_tables = None


def tables():
    """The tables, loaded at the first call."""
    global _tables
    if _tables is None:
        with _lock:
            if _tables is None:
                found = load()
                _tables = parsing.Tables(found, actions, Lexer(found["terminals"], found["ignored"]))
    return _tables


def scanned(sql):
    """The text's tokens, ready to be parsed."""
    return parsing.Parse(sql, tables())


def parse(sql):
    """The syntax tree of one statement; a semicolon may end it.

    Raises SQLSyntaxError for what is not SQL or is cut short (also for an empty text), ProgrammingError where a
    second statement follows, OperationalError for an expression that is too deep.
    """
    work = scanned(sql)
    if not work.skip_semicolons():
        raise SQLSyntaxError("incomplete input")
    statement = work.statement()
    # what sqlite3 takes for an open comment there is none for SQLite: it wants a character behind
    if work.skip_semicolons() and sql[work.starts[work.at]:].strip() != "/*":
        raise ProgrammingError(point_at(sql, work.starts[work.at], "You can only execute one statement at a time."))
    return statement


def iterate_script(sql):
    """The statements of a text one after another: (statement, its text without the semicolon).

    A mistake is raised when its statement is reached, not before.
    """
    work = scanned(sql)
    while work.skip_semicolons():
        first = work.at
        statement = work.statement()
        yield statement, sql[work.starts[first]:work.ends[work.at - 2]]


def parse_script(sql):
    """All statements of a text: a list of (statement, its text without the semicolon)."""
    return list(iterate_script(sql))


def is_blank(sql):
    """Whether a text holds nothing but blanks, comments and semicolons."""
    return not scanned(sql).skip_semicolons()


def complete_statement(text):
    """Whether a text ends with a semicolon that ends a statement, as `sqlite3.complete_statement`.

    It looks at tokens only: a CREATE TRIGGER ends with `; END ;`, all else with a semicolon outside strings and comments.
    """
    number = tables().lexer.number
    work = scanned(text)
    kinds, starts, ends = work.kinds, work.starts, work.ends
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
