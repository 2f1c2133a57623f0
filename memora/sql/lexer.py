"""The kinds of tokens, as numbers, and what a scanner cannot decide from the characters alone.

Keywords are told from names by a dictionary; a keyword that is NONRESERVED is still handed on as the keyword: tables.py
teaches the tables to take it for a name where the grammar has no other use for it. Two things are put right after the scan:
`WINDOW`, `OVER`, `FILTER` and `GENERATED` are keywords only in their places, and the arguments of CREATE VIRTUAL TABLE are one token.

What is no token at all has the kind ILLEGAL, so that an earlier mistake in the text is the one that is reported.
Every list of tokens ends with a semicolon of no length and $END. The scanner itself is in parsing.pyx.
"""
from __future__ import annotations

#: Keywords that may also be names.
NONRESERVED = frozenset("""
ABORT ACTION AFTER ALWAYS ANALYZE ASC ATTACH BEFORE BEGIN BY CASCADE CAST COLUMN CONFLICT CURRENT CURRENT_DATE
CURRENT_TIME CURRENT_TIMESTAMP DATABASE DEFERRED DESC DETACH DO EACH END EXCLUDE EXCLUSIVE EXPLAIN FAIL FIRST FOLLOWING
FOR GENERATED GLOB GROUPS IF IGNORE IMMEDIATE INITIALLY INSTEAD KEY LAST LIKE MATCH MATERIALIZED NO NULLS OF OFFSET
OTHERS PARTITION PLAN PRAGMA PRECEDING QUERY QUEUE RAISE RANGE RECURSIVE REGEXP REINDEX RELEASE RENAME REPLACE RESTRICT
ROLLBACK ROW ROWS SAVEPOINT TEMP TEMPORARY TIES TOPIC TRIGGER UNBOUNDED VACUUM VIEW VIRTUAL WATCH WITH WITHOUT
""".split())
#: Keywords of the grammar that are names unless their neighbours say otherwise.
CONTEXTUAL = ("WINDOW", "OVER", "FILTER", "GENERATED", "VIRTUAL")


class Lexer:
    """Built once from the grammar's terminals, (name, "str" or "re", pattern, priority), and the names of those to skip.

    names: of the kinds, by number; number: the other way round; keywords: the kind of each word in upper case, ~kind of those that
    are keywords only in their places.
    """

    def __init__(self, terminals, ignored):
        words = {value: name for name, kind, value, _ in terminals if kind == "str" and value[0].isalpha()}
        others = [name for name, kind, value, _ in terminals if name not in ignored and not (kind == "str" and value[0].isalpha())]
        self.names = [*words.values(), "MODULE_ARGS", *sorted(others), "$END", "ILLEGAL"]
        self.number = {name: n for n, name in enumerate(self.names)}
        self.keywords = {word: self.number[name] for word, name in words.items()}
        for word in CONTEXTUAL:
            self.keywords[word] = ~self.keywords[word]
        self._name = self.number["NAME"]
        self._names_too = {self.number[words[w]] for w in NONRESERVED} | {
            self.number[n] for n in ("NAME", "STRING", "INDEXED", "CROSS", "FULL", "INNER", "LEFT", "NATURAL", "OUTER",
                                     "RIGHT")}

    def settle(self, kinds, starts, ends):
        """Put right, in place, what only the neighbours of a token tell."""
        if min(kinds) < 0:
            self._settle(kinds, starts, ends)

    def _settle(self, kinds, starts, ends):
        number = self.number
        for i in range(len(kinds) - 1, -1, -1):
            if kinds[i] >= 0:
                continue
            kind = kinds[i] = ~kinds[i]
            word = self.names[kind]
            after = kinds[i + 1]
            if word == "VIRTUAL":
                if i and kinds[i - 1] == number["CREATE"]:
                    self._join_arguments(kinds, starts, ends, i)
                continue
            if word == "WINDOW":
                keyword = after in self._names_too and kinds[i + 2] == number["AS"]
            elif word == "GENERATED":
                # Elsewhere it may be a word of a column's type.
                keyword = after == number["ALWAYS"] and kinds[i + 2] == number["AS"]
            elif i == 0 or kinds[i - 1] != number["RPAR"]:
                keyword = False
            else:
                keyword = after == number["LPAR"] or (word == "OVER" and after in self._names_too)
            if not keyword:
                kinds[i] = self._name

    def _join_arguments(self, kinds, starts, ends, i):
        number = self.number
        stop = number["SEMICOLON"], number["$END"]
        while kinds[i] != number["USING"]:
            if kinds[i] in stop:
                return
            i += 1
        first = i + 2
        if kinds[i + 1] in stop or kinds[first] != number["LPAR"]:
            return
        depth, last = 1, first
        while depth:
            last += 1
            if kinds[last] == number["$END"]:
                # Nothing closes the parenthesis: the text ends too early.
                last -= 2
                del kinds[first:last + 1], starts[first:last + 1], ends[first:last + 1]
                kinds.insert(first, number["$END"])
                starts.insert(first, starts[-1])
                ends.insert(first, starts[-1])
                return
            depth += (kinds[last] == number["LPAR"]) - (kinds[last] == number["RPAR"])
        ends[first] = ends[last]
        kinds[first] = number["MODULE_ARGS"]
        del kinds[first + 1:last + 1], starts[first + 1:last + 1], ends[first + 1:last + 1]


def unquote(text):
    """A name or string token's value: the quotes off, doubled ones single."""
    quote = text[0]
    if quote == "[":
        return text[1:-1]
    if quote in "'\"`":
        return text[1:-1].replace(quote * 2, quote)
    return text


def point_at(sql, pos, message):
    """`message`, then the line of `sql` that holds the offset `pos`, and a caret under the place."""
    start = sql.rfind("\n", 0, pos) + 1
    end = sql.find("\n", pos)
    line = sql[start:end if end >= 0 else len(sql)].rstrip("\r")
    column = pos - start
    if len(line) > 110:
        cut = max(0, column - 60)
        line = ("..." if cut else "") + line[cut:cut + 100] + ("..." if cut + 100 < len(line) else "")
        column = column - cut + (3 if cut else 0)
    prefix = f"line {sql.count(chr(10), 0, pos) + 1}: " if "\n" in sql.strip() else "  "
    shown = "".join(c if c.isprintable() else " " for c in line)
    return f"{message}\n{prefix}{shown}\n{' ' * (len(prefix) + column)}^"
