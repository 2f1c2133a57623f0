"""Values of Python as SQL stores them, and back: adapters, converters, binding."""
from __future__ import annotations

import datetime
import re
from collections.abc import Mapping

from memora.dbapi.cursors import adapting, plain
from memora.errors import ProgrammingError


class PrepareProtocol:
    """The protocol that an object's `__conform__` is asked for when it is bound to a parameter."""


_PLAIN = frozenset((int, float, str, bytes, type(None)))
#: (type, protocol) -> function, and upper-case type name -> function of bytes.
adapters = {}
converters = {}


def register_adapter(type, adapter, /):  # noqa: A002  (the name that sqlite3 documents)
    """Bind objects of exactly this type as `adapter(object)`."""
    if type in _PLAIN:
        adapting(type)
    adapters[type, PrepareProtocol] = adapter


def register_converter(typename, converter, /):
    """Read columns of this declared type through `converter(bytes)`, where detect_types asks for it."""
    converters[typename.upper()] = converter


_NO_DEFAULT = object()


def adapt(obj, proto=PrepareProtocol, alt=_NO_DEFAULT, /):
    """`obj` adapted to a protocol: by a registered adapter, `proto.__adapt__` or `obj.__conform__`."""
    adapter = adapters.get((type(obj), proto))
    if adapter is not None:
        return adapter(obj)
    for owner, method in ((proto, "__adapt__"), (obj, "__conform__")):
        function = getattr(owner, method, None)
        if function is not None:
            adapted = function(obj if owner is proto else proto)
            if adapted is not None:
                return adapted
    if alt is not _NO_DEFAULT:
        return alt
    raise ProgrammingError("can't adapt")


def _parse_date(value):
    return datetime.date(*map(int, value.split(b"-")))


def _parse_timestamp(value):
    day, _, moment = value.partition(b" ")
    zone = None
    clock, sign, offset = re.fullmatch(rb"([^+-]*)([+-]?)(.*)", moment).groups()
    if sign:
        hours, _, minutes = offset.partition(b":")
        delta = datetime.timedelta(hours=int(hours), minutes=int(minutes or 0))
        zone = datetime.timezone(-delta if sign == b"-" else delta)
    whole, _, fraction = clock.partition(b".")
    microseconds = int(f"{fraction.decode():0<6.6}") if fraction else 0
    return datetime.datetime(*map(int, day.split(b"-")), *map(int, whole.split(b":")), microseconds, zone)


register_adapter(datetime.date, lambda value: value.isoformat())
register_adapter(datetime.datetime, lambda value: value.isoformat(" "))
register_converter("date", _parse_date)
register_converter("timestamp", _parse_timestamp)

def _adapted(value, where):
    try:
        return adapt(value, PrepareProtocol, value)
    except TypeError as error:
        raise ProgrammingError(f"Error binding parameter {where}: adapting a {type(value).__name__} failed: {error}") from error


def bindable(value, where):
    """A value as the session takes it: None, int of 64 bits, float, str, bytes."""
    kind = value.__class__
    if kind not in _PLAIN or (kind, PrepareProtocol) in adapters:
        if kind is not bytearray and kind is not memoryview:
            value = _adapted(value, where)
        if isinstance(value, int):
            value = int(value)
        elif isinstance(value, float):
            value = float(value)
        elif isinstance(value, str):
            value = str(value)
        elif value is not None:
            try:
                view = memoryview(value)
            except TypeError:
                raise ProgrammingError(
                    f"Error binding parameter {where}: type '{type(value).__name__}' is not supported") from None
            if not view.c_contiguous:
                raise BufferError("underlying buffer is not C-contiguous")
            return bytes(view)
    if value.__class__ is int and not -(2**63) <= value < 2**63:
        raise OverflowError("Python int too large to convert to SQLite INTEGER")
    return value


class _Named(Mapping):
    """Named parameters, each adapted when it is asked for: those that no statement names may be anything."""

    __slots__ = ("_given",)

    def __init__(self, given):
        self._given = given

    def __getitem__(self, name):
        return bindable(self._given[name], f":{name}")

    def __iter__(self):
        return iter(self._given)

    def __len__(self):
        return len(self._given)


def parameters(given):
    """Parameters as the session takes them: a tuple, or a mapping."""
    if plain(given):
        return given
    kind = given.__class__
    if isinstance(given, Mapping) or hasattr(kind, "__missing__"):
        return _Named(given)
    if hasattr(kind, "__getitem__") and hasattr(kind, "__len__"):
        # by place, so that an adapter that shortens the list meets an IndexError
        return tuple([bindable(given[place], place + 1) for place in range(len(given))])
    raise ProgrammingError("parameters are of unsupported type")
