"""The parser as lark would have it: a scanner made of grammar.lark's regular expressions, and lark's own loop over its own tables.

It builds the tree with the same actions, so its answer to any text must be memora.sql.parser's, mistakes included.
"""
import re

from lark import Lark, Token
from lark.exceptions import UnexpectedToken
from lark.lexer import Lexer as LarkLexer
from lark.parsers.lalr_parser import ParseConf, ParserState

from memora.sql import actions, parser, parsing, tables
from memora.sql.lexer import NONRESERVED, Lexer

_ID = r"[^\x00-#%-/:-@\[-^`{-\x7f]"
# What begins like a token but is none, beside the signs that no token begins with.
_ILLEGAL_BLOB = r"[xX]'[^']*'?"
_ILLEGAL_NUMBER = rf"(?:[0-9]+\.?[0-9]*|\.[0-9]+){_ID}+"
_ILLEGAL = r"""(?s:['"`\[].*)|(?s:.)"""


class Unused(LarkLexer):
    def __init__(self, conf):
        pass

    def lex(self, lexer_state, parser_state):
        raise AssertionError("tokens are fed one by one")


class Reference:
    def __init__(self):
        lark = Lark(tables._read("grammar.lark").decode(), parser="lalr", lexer=Unused, maybe_placeholders=False)
        ignored = list(lark.ignore_tokens)
        terminals = [(t.name, t.pattern.type, t.pattern.value, t.priority) for t in lark.terminals]
        self.lexer = Lexer(terminals, ignored)
        self._prepare_scanner(terminals, ignored)
        table = lark.parse_interactive("").parser_state.parse_conf.parse_table
        for state in table.states.values():
            for word in NONRESERVED:
                if "NAME" in state:
                    state.setdefault(word, state["NAME"])
        self.table, self.rules = table, lark.rules
        self.work = None
        self.callbacks = {rule: self._callback(rule) for rule in [*lark.rules, *self._inner(table)]}

    @staticmethod
    def _inner(table):
        return {argument for state in table.states.values() for action, argument in state.values() if action.name == "Reduce"}

    def _prepare_scanner(self, terminals, ignored):
        patterns = {name: value for name, kind, value, _ in terminals if kind == "re" and name not in ignored}
        signs = [(name, value) for name, kind, value, _ in terminals if kind == "str" and not value[0].isalpha()]
        order = sorted((-priority, name) for name, kind, _, priority in terminals if name in patterns)
        groups = [("BLOB", patterns["BLOB"]), ("ILLEGAL", _ILLEGAL_BLOB)]
        groups += [(name, patterns[name]) for _, name in order if name != "BLOB"]
        groups.append(("ILLEGAL", _ILLEGAL_NUMBER))
        groups += [(name, re.escape(sign)) for name, sign in sorted(signs, key=lambda s: (-len(s[1]), s[1]))]
        groups += [("$END", r"\Z"), ("ILLEGAL", _ILLEGAL)]
        blank = next(value for name, _, value, _ in terminals if name in ignored)
        self.kinds = [0, *(self.lexer.number[name] for name, _ in groups)]
        self.pattern = re.compile(f"(?:{blank})*(?:" + "|".join(f"({pattern})" for _, pattern in groups) + ")")

    def tokens(self, sql):
        """(kinds, starts, ends) of the whole text, by the regular expressions."""
        kinds, starts, ends = [], [], []
        name, end = self.lexer.number["NAME"], self.lexer.number["$END"]
        for match in self.pattern.finditer(sql):
            kind = self.kinds[match.lastindex]
            if kind == end:
                break
            if kind == name and match[match.lastindex].isascii():
                kind = self.lexer.keywords.get(match[match.lastindex].upper(), name)
            kinds.append(kind)
            starts.append(match.start(match.lastindex))
            ends.append(match.end(match.lastindex))
        for kind in (self.lexer.number["SEMICOLON"], end):
            kinds.append(kind)
            starts.append(len(sql))
            ends.append(len(sql))
        self.lexer.settle(kinds, starts, ends)
        return kinds, starts, ends

    def _callback(self, rule):
        kept = [n for n, symbol in enumerate(rule.expansion)
                if not (symbol.filter_out if symbol.is_term else symbol.name.startswith("_"))]
        function = getattr(actions, rule.alias) if rule.alias else None

        def build(children):
            values = [child.index if isinstance(child, Indexed) else child for child in (children[n] for n in kept)]
            if function is not None:
                return function(self.work, *values)
            return values[0] if len(values) == 1 else None
        return build

    def parse(self, sql):
        """The tree of the first statement of a text."""
        work = self.work = parsing.Parse(sql, parser.tables())
        work.params, work.param_index, work.minimums = [], {}, set()
        kinds, starts, ends = self.tokens(sql)
        assert (work.kinds, work.starts, work.ends) == (kinds, starts, ends), sql
        state = ParserState(ParseConf(self.table, self.callbacks, "start"), None)
        for index, kind in enumerate(kinds):
            work.at = index
            last = state.state_stack[-1]
            try:
                state.feed_token(Indexed(self.lexer.names[kind], index))
            except UnexpectedToken:
                raise work.error(index) from None
            if kind == self.lexer.number["SEMICOLON"] and set(self.table.states[state.state_stack[-1]]) == {"$END"}:
                tree = state.value_stack[-2]
                if work.params:
                    object.__setattr__(tree, "params", tuple(work.params))
                return tree
            assert state.state_stack[-1] != last or state.value_stack
        raise AssertionError("a list of tokens ends with a semicolon")


class Indexed(Token):
    """A token that knows its number."""

    def __new__(cls, kind, index):
        token = super().__new__(cls, kind, "")
        token.index = index
        return token
