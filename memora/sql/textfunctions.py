"""Functions of text that are seldom called: soundex, unistr, unistr_quote, and what SQLite says about its own build."""
from __future__ import annotations

import re

from ..errors import OperationalError

_CODES = {c: code for code, letters in enumerate(("BFPV", "CGJKQSXZ", "DT", "L", "MN", "R"), 1) for c in letters}
_ESCAPE = re.compile(r"\\(?:(\\)|([0-9A-Fa-f]{4})|u([0-9A-Fa-f]{4})|\+([0-9A-Fa-f]{6})|U([0-9A-Fa-f]{8})|(.|\Z))", re.S)


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def soundex(value):
    """The first letter, and three digits for the sounds after it."""
    word = "" if value is None else _text(value).lstrip("".join(map(chr, range(65))) + "[\\]^_`{|}~")
    if not word or not word[0].isascii():
        return "?000"
    result, last = word[0].upper(), _CODES.get(word[0].upper(), 0)
    for c in word[1:].upper():
        code = _CODES.get(c, 0)
        if code and code != last:
            result += str(code)
            if len(result) == 4:
                break
        last = code
    return result.ljust(4, "0")


def unistr(value):
    """Text with its escapes \\XXXX, \\uXXXX, \\+XXXXXX, \\UXXXXXXXX and \\\\ undone."""
    if value is None:
        return None

    def undone(match):
        if match[1]:
            return "\\"
        digits = match[2] or match[3] or match[4] or match[5]
        number = -1 if digits is None else int(digits, 16)
        if not 0 <= number <= 0x10FFFF:
            raise OperationalError("invalid Unicode escape")
        return chr(number) if not 0xD800 <= number < 0xE000 else "\ufffd"
    return _ESCAPE.sub(undone, _text(value))


def unistr_quote(value):
    """A literal for the value; text with control characters becomes a call of unistr()."""
    if isinstance(value, str):
        if not any(c < " " for c in value):
            return "'" + value.replace("'", "''") + "'"
        escaped = "".join(f"\\u{ord(c):04x}" if c < " " else "\\\\" if c == "\\" else "''" if c == "'" else c for c in value)
        return f"unistr('{escaped}')"
    if isinstance(value, bytes):
        return f"X'{value.hex().upper()}'"
    return "NULL" if value is None else str(value)


# name: (function, least and most arguments)
FUNCTIONS = {"soundex": (soundex, 1, 1), "unistr": (unistr, 1, 1), "unistr_quote": (unistr_quote, 1, 1),
             "sqlite_source_id": (lambda: "Memora", 0, 0), "sqlite_compileoption_used": (lambda name: 0, 1, 1),
             "sqlite_compileoption_get": (lambda number: None, 1, 1)}
