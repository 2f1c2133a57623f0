"""@node gives what frozen dataclasses with slots would: held to dataclasses themselves."""
import copy
import dataclasses
import pickle

import pytest

from memora.sql import ast
from memora.sql.node import Frozen, fields, hidden, node, replace


@node
class Base(Frozen):
    params: tuple = hidden((), kw_only=True)


@node
class Child(Base):
    """With a required field, a default and one that is not compared."""

    left: object
    right: object = 2
    pos: int = hidden(-1)


@node
class Empty(Base):
    pass


frozen = dataclasses.dataclass(frozen=True, slots=True)


@frozen
class TwinBase:
    params: tuple = dataclasses.field(default=(), compare=False, repr=False, kw_only=True)


@frozen
class Twin(TwinBase):
    left: object
    right: object = 2
    pos: int = dataclasses.field(default=-1, compare=False, repr=False)


CALLS = [((), {}), ((1,), {}), ((1, 3), {}), ((1, 3, 5), {}), ((1, 3, 5, 7), {}), ((), {"left": 1}), ((1,), {"left": 1}),
         ((1,), {"params": ("?",)}), ((1,), {"unknown": 1}), ((1,), {"right": "x", "pos": 9})]


@pytest.mark.parametrize("args, kwargs", CALLS)
def test_same_arguments_as_a_dataclass(args, kwargs):
    for _ in range(2):          # the first call compiles __init__
        try:
            twin = Twin(*args, **kwargs)
        except TypeError as error:
            with pytest.raises(TypeError) as caught:
                Child(*args, **kwargs)
            assert str(caught.value) == str(error).replace("Twin", "Child")
        else:
            made = Child(*args, **kwargs)
            assert [getattr(made, n) for n in ("left", "right", "pos", "params")] == [
                getattr(twin, n) for n in ("left", "right", "pos", "params")]
            assert repr(made) == repr(twin).replace("Twin", "Child")


def test_equality_and_hash():
    assert Child(1, 2, 3, params=("a",)) == Child(1)
    assert hash(Child(1, pos=4)) == hash(Child(1))
    assert Child(1) != Child(1, 3) and Child(1) != 1
    assert Empty() == Empty(params=("a",)) and hash(Empty()) == hash(Empty()) and Empty() != Base()
    with pytest.raises(TypeError):
        hash(Child([]))


def test_frozen_and_without_a_dict():
    made = Child(1)
    with pytest.raises(AttributeError, match="'left' of a frozen Child"):
        made.left = 2
    with pytest.raises(AttributeError):
        made.other = 2
    with pytest.raises(AttributeError):
        del made.left
    assert not hasattr(made, "__dict__")
    assert made.left == 1


def test_fields_replace_match_copy_pickle():
    assert fields(Child) == ("left", "right", "pos", "params")
    assert Child.__match_args__ == Twin.__match_args__
    made = replace(Child(1, pos=7), right=9)
    assert (made.left, made.right, made.pos) == (1, 9, 7)
    match made:
        case Child(left, 9):
            assert left == 1
        case _:
            raise AssertionError("the pattern does not match")
    for twin in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert twin == made and twin.pos == 7


def test_bases_first_use_does_not_leak_into_a_subclass():
    assert Base().params == ()
    assert Empty(params=("a",)).params == ("a",)
    assert Child(5).left == 5


def test_every_node_of_the_tree_is_one():
    made = [cls for cls in vars(ast).values() if isinstance(cls, type) and issubclass(cls, ast.Node)]
    assert len(made) > 70
    for cls in made:
        assert cls.__slots__ == () or set(cls.__slots__) <= set(fields(cls))
        assert not hasattr(cls, "__dict__") or "__dict__" not in vars(cls)
