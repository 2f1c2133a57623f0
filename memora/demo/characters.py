"""The material: every code point that Python's unicodedata has a name for, and what must come out in the end."""
from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

CODES = sys.maxunicode + 1
CATEGORIES = {
    "Lu": "letter, upper case", "Ll": "letter, lower case", "Lt": "letter, title case", "Lm": "letter, modifier", "Lo": "letter, other",
    "Mn": "mark, non-spacing", "Mc": "mark, spacing", "Me": "mark, enclosing", "Nd": "decimal digit", "Nl": "number, letter",
    "No": "number, other", "Pc": "connector", "Pd": "dash", "Ps": "opening bracket", "Pe": "closing bracket", "Pi": "opening quote",
    "Pf": "closing quote", "Po": "punctuation, other", "Sm": "mathematical sign", "Sc": "currency sign", "Sk": "modifier sign",
    "So": "symbol, other", "Zs": "space", "Zl": "line separator", "Zp": "paragraph separator", "Cf": "format control",
}


class Character(NamedTuple):
    """A row of the table chars."""

    code: int
    name: str
    category: str
    bidi: str
    number: float | None


def describe(code: int) -> Character | None:
    """What unicodedata knows of a code point, or None if it has no name."""
    char = chr(code)
    name = unicodedata.name(char, None)
    if name is None:
        return None
    return Character(code, name, unicodedata.category(char), unicodedata.bidirectional(char), unicodedata.numeric(char, None))


def named(start: int = 0, stop: int = CODES) -> Iterator[Character]:
    """The characters with start <= code < stop, in order."""
    for code in range(start, stop):
        character = describe(code)
        if character is not None:
            yield character


def count_by_category(stop: int = CODES) -> Counter[str]:
    """The answer that everybody has to arrive at, straight from unicodedata."""
    return Counter(unicodedata.category(chr(code)) for code in range(stop) if unicodedata.name(chr(code), None) is not None)
