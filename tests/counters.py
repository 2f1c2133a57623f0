"""What the tests did that a count of passed tests does not show: printed at the end of the run by conftest.py."""

NAMES = ("kills", "crash images", "model steps", "SQL records")

_done = {name: 0 for name in NAMES}
_absent = {name: [] for name in NAMES}


def _known(name):
    for known in NAMES:
        if known.lower() == name.lower():
            return known
    raise KeyError(f"no counter is called {name!r}; there are {', '.join(NAMES)}")


def count(name, n=1):
    """Adds `n` to what was run. `name`: one of NAMES, in any case."""
    _done[_known(name)] += n


def absent(name, what=""):
    """Notes that data for `name` was not there; `what` may say which."""
    _absent[_known(name)].append(what)


def lines():
    """One line per counter."""
    for name in NAMES:
        missing = ""
        if _absent[name]:
            missing = ", ".join(["not present", *filter(None, _absent[name])])
        done = f"{_done[name]:,}".replace(",", " ")
        yield f"{name + ':':13} {missing if missing and not _done[name] else done + ('; ' if missing else '') + missing}"
