"""The SQL function printf (also called format): %d %i %u %x %X %o %f %e %E %g %G %s %z %c %q %Q %w %% with SQLite's flags."""
from __future__ import annotations

import math
import re

from .types import INTEGER, REAL, TEXT, convert

_SPEC = re.compile(r"%([-+ #0!,]*)(\*|\d+)?(?:\.(\*|\d+)?)?(l{0,2})([a-zA-Z%])", re.S)


def _grouped(digits):
    head = len(digits) % 3
    parts = [digits[:head]] if head else []
    return ",".join(parts + [digits[i:i + 3] for i in range(head, len(digits), 3)])


def _real(number, flags, precision, kind):
    precision = 6 if precision is None else precision
    if math.isinf(number):
        return ("-" if number < 0 else "+" if "+" in flags else ""), "Inf"
    sign = "-" if number < 0 else "+" if "+" in flags else " " if " " in flags else ""
    number = abs(number)
    lower = kind.lower()
    if lower == "f":
        digits = f"{number:.{precision}f}"
        if "," in flags:
            whole, dot, rest = digits.partition(".")
            digits = _grouped(whole) + dot + rest
    elif lower == "e":
        digits = f"{number:.{precision}e}"
    else:
        digits = f"{number:#.{max(precision, 1)}g}" if "#" in flags else f"{number:.{max(precision, 1)}g}"
    if "!" in flags and "." not in digits and lower == "g":
        mantissa, e, exponent = digits.partition("e")
        digits = mantissa + ".0" + e + exponent
    elif "#" in flags and "." not in digits and lower == "f":
        digits += "."
    return sign, digits.upper() if kind in "EG" else digits


def _padded(sign, body, flags, width):
    short = (width or 0) - len(sign) - len(body)
    if short <= 0:
        return sign + body
    if "-" in flags:
        return sign + body + " " * short
    if "0" in flags:
        return sign + "0" * short + body
    return " " * short + sign + body


def printf(form=None, *args):
    """The text of a format and its values; missing values count as NULL."""
    if form is None:
        return None
    form = convert(form, TEXT, True) if not isinstance(form, str) else form
    values = iter(args)

    def integer():
        return convert(next(values, None), INTEGER, True) or 0

    out, at = [], 0
    while True:
        start = form.find("%", at)
        if start < 0:
            out.append(form[at:])
            break
        out.append(form[at:start])
        match = _SPEC.match(form, start)
        if not match:
            if start + 1 == len(form):
                out.append("%")
            break
        at = match.end()
        flags, width, precision, _, kind = match.groups()
        has_precision = "." in match[0][:-1]
        if width == "*":
            width = integer()
            if width < 0:
                flags, width = flags + "-", -width
        else:
            width = int(width) if width else None
        if precision == "*":
            precision = abs(integer())
        else:
            precision = int(precision) if precision else (0 if has_precision else None)
        if kind == "%":
            out.append("%")
        elif kind in "di":
            number = integer()
            sign = "-" if number < 0 else "+" if "+" in flags else " " if " " in flags else ""
            digits = str(abs(number)).rjust(precision or 0, "0")
            out.append(_padded(sign, _grouped(digits) if "," in flags else digits, flags, width))
        elif kind in "uxXo":
            number = integer() & 0xFFFFFFFFFFFFFFFF
            digits = {"u": "d", "x": "x", "X": "X", "o": "o"}[kind]
            text = format(number, digits).rjust(precision or 0, "0")
            prefix = {"x": "0x", "X": "0X", "o": "0"}.get(kind, "") if "#" in flags and number else ""
            out.append(_padded(prefix, text, flags, width))
        elif kind in "feEgG":
            number = convert(next(values, None), REAL, True) or 0.0
            sign, body = _real(number, flags, precision, kind)
            out.append(_padded(sign, body, flags, width))
        elif kind in "szcqQw":
            value = next(values, None)
            text = None if value is None else convert(value, TEXT, True)
            if kind == "c":
                text = (text or "")[:1] * (precision or 1)
            else:
                if kind == "Q" and text is None:
                    text = "NULL"
                    kind = "s"
                elif kind in "qQ":
                    text = ("(NULL)" if text is None else text)
                    text = text if precision is None else text[:precision]
                    text = text.replace("'", "''")
                    text = f"'{text}'" if kind == "Q" else text
                elif kind == "w":
                    text = ("(NULL)" if text is None else text).replace('"', '""')
                else:
                    text = (text or "") if precision is None else (text or "")[:precision]
            short = (width or 0) - len(text)
            if short > 0:
                text = text + " " * short if "-" in flags else " " * short + text
            out.append(text)
        else:
            break
    return "".join(out)
