"""`@node`: frozen classes with slots, as `dataclasses` would make them, at a tenth of its price per class.

The tree has seventy classes and every process that runs SQL needs them; `dataclass(frozen=True, slots=True)` spends about
0.7 ms on each, mostly compiling methods that are never called. Here comparison, hash and repr are shared and read the
list of fields, and `__init__` is compiled when the first object of its class is made.

Fields are the class's annotations, the base's first; keyword-only ones come last. A field made with `hidden()` takes no part in
comparison, hash and repr. `fields(cls)` gives the names in order, `replace(node, name=value)` a changed copy.
"""
from operator import attrgetter


class hidden:
    """A field's default, for a field that equality, hash and repr pass over."""

    __slots__ = ("default", "kw_only")

    def __init__(self, default, kw_only=False):
        self.default = default
        self.kw_only = kw_only


class Frozen:
    """The base of the classes that `@node` makes."""

    __slots__ = ()
    _fields = ()                  # (name, required, default, hidden, keyword only), in the order of __init__
    _values = None                # gets what is compared; None where there is nothing

    def __init__(self, *args, **kwargs):
        # Its first object compiles the class's own __init__, which takes this one's place.
        cls = self.__class__
        _compile_init(cls)
        cls.__init__(self, *args, **kwargs)

    def __eq__(self, other):
        cls = self.__class__
        if other.__class__ is not cls:
            return NotImplemented
        values = cls._values
        return values is None or values(self) == values(other)

    def __hash__(self):
        values = self.__class__._values
        return hash((self.__class__, values and values(self)))

    def __repr__(self):
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name, _, _, unseen, _ in self._fields if not unseen)
        return f"{self.__class__.__qualname__}({shown})"

    def __setattr__(self, name, value):
        raise AttributeError(f"cannot assign to field {name!r} of a frozen {self.__class__.__name__}")

    def __delattr__(self, name):
        raise AttributeError(f"cannot delete field {name!r} of a frozen {self.__class__.__name__}")

    def __reduce__(self):
        return _rebuild, (self.__class__, {name: getattr(self, name) for name in fields(self.__class__)})


def _rebuild(cls, values):
    return cls(**values)


def node(cls):
    """Class decorator: the same class with slots for its annotations, frozen."""
    own = {}
    namespace = dict(cls.__dict__)
    for name in cls.__annotations__:
        required = name not in namespace
        default = namespace.pop(name, None)
        unseen = isinstance(default, hidden)
        kw_only = unseen and default.kw_only
        own[name] = name, required, default.default if unseen else default, unseen, kw_only
    every = {field[0]: field for field in cls._fields} | own
    namespace["_fields"] = tuple(sorted(every.values(), key=lambda field: field[4]))
    compared = [name for name, _, _, unseen, _ in namespace["_fields"] if not unseen]
    namespace["_values"] = attrgetter(*compared) if compared else None
    namespace["__slots__"] = tuple(own)
    namespace["__match_args__"] = tuple(name for name, _, _, _, kw_only in namespace["_fields"] if not kw_only)
    for name in ("__dict__", "__weakref__"):
        namespace.pop(name, None)
    # A base that is in use has an __init__ of its own already, with its own fields.
    namespace.setdefault("__init__", Frozen.__init__)
    return type(cls)(cls.__name__, cls.__bases__, namespace)


def _compile_init(cls):
    known, arguments, lines, starred = {}, [], [], False
    for name, required, default, _, kw_only in cls._fields:
        if kw_only and not starred:
            starred = True
            arguments.append("*")
        known[f"_set_{name}"] = getattr(cls, name).__set__
        known[f"_default_{name}"] = default
        arguments.append(name if required else f"{name}=_default_{name}")
        lines.append(f" _set_{name}(self, {name})\n")
    exec(f"def __init__(self, {', '.join(arguments)}):\n{''.join(lines) or ' pass'}", known)
    init = known["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__module__ = cls.__module__
    cls.__init__ = init


def fields(cls):
    """The names of a node class's fields, in order."""
    return tuple(field[0] for field in cls._fields)


def replace(node, **changes):
    """A copy of `node` with some fields changed."""
    values = {name: getattr(node, name) for name in fields(node.__class__)}
    values.update(changes)
    return node.__class__(**values)
