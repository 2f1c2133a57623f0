"""What users add to a session: functions, aggregates, window functions and collations in Python.

Errors of a callback become OperationalError, "string or blob too big" (DataError) for an OverflowError and MemoryError for
itself, as in `sqlite3`; the callback's own error is `__cause__`, and `tracebacks` shows it through `sys.unraisablehook`.

COLLATIONS  Everything that sorts or groups compares keys as bytes, so a collation gives each text that it meets a *label*: bytes that
order as the callback orders the texts, equal where it says equal. A new text is found a place by bisection, and its label lies between
those of its neighbours; labels never change, so a row that was read earlier keeps its key. A collation holds the distinct texts it
met until it is removed. Labels mean nothing to another process, so columns and indexes cannot have such a collation.
"""
from __future__ import annotations

import itertools
import weakref

from ..errors import DataError, OperationalError

#: Numbers of collations that are not built in, for `types.pyx` and `record.pyx`; those of ended sessions vanish.
collations = weakref.WeakValueDictionary()
_numbers = itertools.count(16)

STEP = 1 << 32                  # between labels at the ends, which have eight bytes


class Callbacks:
    """tracebacks: whether errors in callbacks are shown, which PEP 249 programs set for all connections at once."""

    tracebacks = False


def failed(error, message, function=None):
    """The exception that a statement raises for an error in a callback."""
    if Callbacks.tracebacks:
        from .functions import show_error
        show_error(error, function)
    if isinstance(error, MemoryError):
        return error
    if isinstance(error, OverflowError):
        return DataError("string or blob too big")
    return OperationalError(message)


class UserFunction:
    """One entry of a session's `functions`. kind: "scalar", "aggregate" or "window"."""

    __slots__ = ("name", "kind", "function", "deterministic")

    def __init__(self, name, kind, function, deterministic=False):
        self.name, self.kind, self.function, self.deterministic = name, kind, function, deterministic

    def begin(self):
        return self.guarded("__init__", self.function)

    def step(self, instance, args):
        self.guarded("step", self.method(instance, "step"), *args)

    def inverse(self, instance, args):
        self.guarded("inverse", self.method(instance, "inverse"), *args)

    def value(self, instance):
        return self.guarded("value", self.method(instance, "value"))

    def finalize(self, instance):
        return self.guarded("finalize", self.method(instance, "finalize"))

    def dismiss(self, instance):
        """finalize of what has given its last value: as in SQLite, its errors end nothing, and are shown if errors are."""
        try:
            self.finalize(instance)
        except OperationalError:
            pass

    def method(self, instance, name):
        try:
            return getattr(instance, name)
        except AttributeError as error:
            raise failed(error, f"user-defined aggregate's '{name}' method not defined", self.function) from error

    def guarded(self, name, call, *args):
        try:
            return call(*args)
        except Exception as error:
            raise failed(error, f"user-defined aggregate's '{name}' method raised error", self.function) from error


class Collation:
    """An order of texts: `function(a, b)` is negative, zero or positive. What raises, or is no integer, counts as equal."""

    def __init__(self, name, function):
        self.name, self.function = name, function
        self.texts, self.labels = [], []
        self.number = next(_numbers)
        collations[self.number] = self

    def compare(self, a, b):
        try:
            found = self.function(a, b)
            found = found if isinstance(found, int) else 0
        except Exception as error:
            if Callbacks.tracebacks:
                failed(error, "", self.function)
            return 0
        return (found > 0) - (found < 0)

    def label(self, text):
        """The bytes that stand for a text in keys."""
        while True:
            texts, count = self.texts, len(self.texts)
            low, high = 0, count
            while low < high:
                middle = (low + high) // 2
                side = self.compare(text, texts[middle])
                if side == 0:
                    return self.labels[middle]
                if side < 0:
                    high = middle
                else:
                    low = middle + 1
            if count == len(texts):         # else the callback itself sorted by this collation
                break
        label = between(self.labels[low - 1] if low else None, self.labels[low] if low < count else None)
        texts.insert(low, text)
        self.labels.insert(low, label)
        return label


def between(low, high):
    """Bytes that sort between two labels, either of which may be None."""
    if low is None and high is None:
        return (1 << 63).to_bytes(8, "big")
    if high is None:
        number = int.from_bytes(low[:8], "big") + STEP
        if number < 1 << 64:
            return number.to_bytes(8, "big")
    elif low is None:
        number = int.from_bytes(high[:8], "big") - STEP
        if number > 0:
            return number.to_bytes(8, "big")
    size = max(len(low or b""), len(high or b"")) + 1
    a = int.from_bytes((low or b"").ljust(size, b"\0"), "big")
    b = int.from_bytes(high.ljust(size, b"\0"), "big") if high is not None else 1 << 8 * size
    return ((a + b) // 2).to_bytes(size, "big").rstrip(b"\0")
