"""Partial and expression indexes as the planner sees them: their expressions and conditions, bound to the relation that is read.

An expression of an index counts as one more column of the relation, numbered from -2 downwards, and stands for whatever is bound to the
same form (`Bound.key`). A partial index may be read where WHERE implies its condition; what is implied is what SQLite documents
(partialindex.html), and each rule holds for every row, so that no row is missed.
"""
from __future__ import annotations

from . import bound

FIRST_EXPRESSION = -2


class Form:
    """One index: columns (numbers; expressions from -2 downwards), where (its conditions, all of which hold for its rows)."""

    __slots__ = ("columns", "where")

    def __init__(self, columns, where):
        self.columns, self.where = columns, where


def is_special(index):
    """Whether an index has a condition or an expression."""
    return index.where is not None or any(not isinstance(column, int) for column in index.columns)


def give_forms(rel, bind):
    """Enters the forms of a relation's special indexes; bind(node) gives the bound form of an expression over its row, or None if this
    session cannot evaluate it. An index with a clock in it is never read: what it holds was true at another time."""
    before = len(rel.refs)
    numbers, rel.forms = {}, {}
    for index in rel.table.indexes:
        if is_special(index):
            exprs = {n: bind(column) for n, column in enumerate(index.columns) if not isinstance(column, int)}
            where = None if index.where is None else bind(index.where)
            every = [*exprs.values()] + ([where] if index.where is not None else [])
            if any(e is None or any(getattr(part, "clock", False) for part in bound.walk(e)) for e in every):
                rel.forms[index] = None
                continue
            columns = list(index.columns)
            for n, e in exprs.items():
                e = bare(e)
                number = numbers.setdefault(e.key(), FIRST_EXPRESSION - len(numbers))
                if number == FIRST_EXPRESSION - len(rel.expressions):
                    rel.expressions.append(e)
                columns[n] = number
            rel.forms[index] = Form(columns, [] if where is None else bound.conjuncts(where))
    rel.numbers = numbers
    del rel.refs[before:]       # a use in an index is no use in the query


def bare(e):
    """An expression without the COLLATE around it."""
    e = bound.resolve(e)
    while type(e) is bound.Collated:
        e = bound.resolve(e.operand)
    return e


def has_constants(rel):
    """Whether what may be read depends on constants that a query writes: those of conditions of partial indexes."""
    return any(type(part) is bound.Const and part.value is not None
               for form in rel.forms.values() if form is not None for e in form.where for part in bound.walk(e))


def implied(wanted, conditions):
    """Whether the conditions, taken together, are never true where one of `wanted` is not."""
    return all(any(implies(c, w) for c in conditions) for w in wanted)


def implies(condition, wanted):
    """Whether a condition that is true makes another one true."""
    if condition.key() == wanted.key():
        return True
    if type(condition) is bound.Or:
        return all(implies(term, wanted) for term in condition.terms)
    if type(condition) is bound.And:
        return any(implies(term, wanted) for term in condition.terms)
    if type(wanted) is bound.Or:
        return any(implies(condition, term) for term in wanted.terms)
    if type(wanted) is bound.And:
        return all(implies(condition, term) for term in wanted.terms)
    if type(wanted) is bound.IsNull and wanted.negated:
        return needs_value(condition, bound.resolve(wanted.operand).key())
    return False


def needs_value(condition, key):
    """Whether a condition is not true where the expression of that key is NULL."""
    kind = type(condition)
    if kind is bound.Cmp:
        return condition.op not in ("IS", "IS NOT") and (carries_null(condition.left, key) or carries_null(condition.right, key))
    if kind is bound.InList:
        return carries_null(condition.operand, key)
    if kind is bound.InQuery:
        return len(condition.operands) == 1 and carries_null(condition.operands[0], key)
    if kind is bound.IsNull:
        return condition.negated and carries_null(condition.operand, key)
    if kind is bound.Call:
        return condition.function.name in ("like", "glob") and any(carries_null(arg, key) for arg in condition.args)
    if kind is bound.Not:
        return carries_null(condition.operand, key) or needs_value(condition.operand, key) and strict(condition.operand)
    return False


def strict(condition):
    """Whether a condition that is not true for a NULL operand is NULL there, so that NOT leaves it so."""
    return type(condition) in (bound.Cmp, bound.Call, bound.InList)


def carries_null(e, key):
    """Whether an expression is NULL where the one of that key is."""
    e = bound.resolve(e)
    if e.key() == key:
        return True
    if type(e) in (bound.Arith, bound.Concat, bound.Negate, bound.BitNot, bound.Plus, bound.Collated, bound.Cast):
        return any(carries_null(child, key) for child in e.children())
    return False
