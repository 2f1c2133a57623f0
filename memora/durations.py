"""Durations and sizes as people write them: seconds or "30s", bytes or "64MB".

A duration is a number of seconds, or text: a number and one of ms, s, m, h, d (no unit: seconds). A size is a whole number of
bytes, or text: a number and one of B, KB, MB, GB, TB (KiB, K and the like are the same). Sizes count in steps of 1024, as
memory does: "64MB" is 67108864 bytes. Letters may be in either case, blanks may stand around and between.
"""
from __future__ import annotations

import math
import re

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "b": 1, **{letter + end: 1024 ** (n + 1) for n, letter in enumerate("kmgt") for end in ("", "b", "ib")}}
_TEXT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)


def _split(text, units, what):
    match = _TEXT.fullmatch(text)
    if match is None or match[2].lower() not in units:
        raise ValueError(f"{text!r} is not a {what}: a number and one of {', '.join(filter(None, units))}")
    return float(match[1]), units[match[2].lower()]


def seconds(value: float | str, what: str = "duration") -> float:
    """A duration in seconds. TypeError: neither a number nor text; ValueError: negative, not finite, or not understood."""
    if isinstance(value, str):
        number, unit = _split(value, _SECONDS, what)
        value = number * unit
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be seconds or text like '30s', not {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{what} must be finite and not negative, not {value!r}")
    return float(value)


def size(value: int | str, what: str = "size") -> int:
    """A size in bytes. TypeError: neither an int nor text; ValueError: below 1, or not understood."""
    if isinstance(value, str):
        number, unit = _split(value, _BYTES, what)
        value = int(number * unit)
    elif isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be bytes or text like '64MB', not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{what} must be at least 1 byte, not {value!r}")
    return value
