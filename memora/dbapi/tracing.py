"""The text of a statement with the values of its parameters in their places, for trace callbacks."""
from __future__ import annotations


def expanded(sql, values):
    """`sql` with a literal for each parameter; NULL for one that has no value. values: a sequence or a mapping."""
    from memora.sql.parser import scanned, tables
    work, kind = scanned(sql), tables().lexer.number["PARAM"]
    pieces, last, numbers, most = [], 0, {}, 0
    for at in range(len(work.kinds)):
        if work.kinds[at] != kind:
            continue
        start, end = work.starts[at], work.ends[at]
        mark = sql[start:end]
        if mark == "?":
            number = most + 1
        elif mark[0] == "?":
            number = int(mark[1:])
        else:
            number = numbers.setdefault(mark, most + 1)
        most = max(most, number)
        pieces += sql[last:start], literal(_value(values, mark, number))
        last = end
    return "".join(pieces) + sql[last:]


def _value(values, mark, number):
    if hasattr(values, "keys"):
        return values[mark[1:]] if mark[1:] in values else None
    return values[number - 1] if number <= len(values) else None


def literal(value):
    """A value of SQL as its literal."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return repr(value)
