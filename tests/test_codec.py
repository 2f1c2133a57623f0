"""The two codecs: golden bytes, random round trips and order against a Python model, hostile bytes."""
import math
import random
import struct
from fractions import Fraction

import pytest

from memora.engine.codec import (
    MAX_DEPTH,
    decode_key,
    decode_key_parts,
    decode_value,
    encode_key,
    encode_key_parts,
    encode_key_prefix,
    encode_value,
)
from memora.errors import CorruptionError, DataError, ProgrammingError

INF = math.inf


@pytest.fixture
def rng(request):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


# ---------------------------------------------------------------- keys

GOLDEN_PARTS = [
    (None, "10"),
    (0, "308000000000000000"),
    (1, "30bff0000000000000"),
    (-1, "30400fffffffffffff"),
    (1.5, "30bff8000000000000"),
    (2**53 - 1, "30c33fffffffffffff"),
    (2**53, "30c3400000000000008000"),
    (2**53 + 1, "30c3400000000000008001"),
    (-(2**53) - 1, "303cbfffffffffffff7fff"),
    (2**63 - 1, "30c3e00000000000007fff"),
    (-(2**63), "303c1fffffffffffff8000"),
    (1e300, "30fe37e43c8800759c8000"),
    (INF, "30fff00000000000008000"),
    (-INF, "30000fffffffffffff8000"),
    (2**63, "40000000088000000000000000"),
    (-(2**63) - 1, "20fffffff77ffffffffffffffe"),
    (2**64, "4000000009010000000000000000"),
    ("", "5000"),
    ("a", "506100"),
    ("\0\1\2", "50010101020200"),
    ("é", "50c3a900"),
    (b"", "6000"),
    (b"\0\xff", "600101ff00"),
]


@pytest.mark.parametrize("value, data", GOLDEN_PARTS, ids=[repr(v)[:24] for v, _ in GOLDEN_PARTS])
def test_key_golden_bytes(value, data):
    data = bytes.fromhex(data)
    assert encode_key_parts([value]) == data
    assert decode_key_parts(data) == (value,)
    assert encode_key_parts([value], desc=[0]) == bytes(255 - b for b in data)
    assert decode_key_parts(bytes(255 - b for b in data), desc=[0]) == (value,)
    if type(value) in (int, str, bytes):
        assert encode_key(value) == data
        back = decode_key(data)
        assert back == value and type(back) is type(value)


def test_equal_numbers_are_one_key():
    assert encode_key_parts([1]) == encode_key_parts([1.0])
    assert encode_key_parts([0.0]) == encode_key_parts([-0.0]) == encode_key_parts([0])
    assert encode_key_parts([2.0**60]) == encode_key_parts([2**60])
    assert encode_key_parts([2**53 + 1]) != encode_key_parts([2.0**53])
    assert type(decode_key_parts(encode_key_parts([3.0]))[0]) is int
    assert type(decode_key_parts(encode_key_parts([2.0**63]))[0]) is float


def numbers(rng):
    """Random numbers where the encodings have their edges: ints near doubles, doubles between ints, the ends of int64."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randint(-300, 300)
    if kind == 1:
        return rng.choice((1, -1)) * (2**53 + rng.randint(-20, 20))
    if kind == 2:
        return rng.choice((1, -1)) * (2**63 - rng.randint(1, 3000))
    if kind == 3:
        value = rng.choice((1, -1)) * 2 ** rng.randint(50, 62) + rng.randint(-600, 600)
        return max(-(2**63), min(2**63 - 1, value))
    if kind == 4:
        value = struct.unpack("<d", rng.randbytes(8))[0]
        return value if value == value else INF
    if kind == 5:
        value = float(rng.choice((1, -1)) * 2 ** rng.randint(51, 64))
        return math.nextafter(value, rng.choice((INF, -INF)))
    if kind == 6:
        return rng.choice((0.0, -0.0, INF, -INF, 5e-324, -5e-324, 0.5, 2.0**63, -(2.0**63), 2**63 - 1, -(2**63)))
    return rng.getrandbits(64) - 2**63


def exact(number):
    """A rational that sorts as the number does (inf beyond all doubles)."""
    if isinstance(number, float) and math.isinf(number):
        return Fraction(2) ** 2000 * (1 if number > 0 else -1)
    return Fraction(number)


def model(value):
    """What sorts as the key part should."""
    if value is None:
        return (0,)
    if isinstance(value, (int, float)):
        return (1, exact(value))
    if isinstance(value, str):
        return (2, value.encode())
    return (3, value)


def short_bytes(rng):
    return bytes(rng.choice(b"\0\0\1\1\2a\xfe\xff") for _ in range(rng.randrange(6)))


def short_text(rng):
    return "".join(rng.choice("\0\1\2a\x7f\x80é\uffff\U0010ffff") for _ in range(rng.randrange(6)))


def part(rng):
    return rng.choice((lambda _: None, numbers, numbers, numbers, short_text, short_bytes))(rng)


def compare(a, b):
    return (a > b) - (a < b)


def test_numbers_sort_exactly(rng):
    for _ in range(30_000):
        a, b = numbers(rng), numbers(rng)
        assert compare(encode_key_parts([a]), encode_key_parts([b])) == compare(exact(a), exact(b)), (a, b)


def test_each_integer_around_a_power_of_two_sorts_between_its_neighbours():
    for exponent in (53, 54, 62, 63):
        for sign in (1, -1):
            around = [sign * 2**exponent + d for d in range(-1100, 1100)]
            around = [v for v in around if -(2**63) <= v < 2**63]
            doubles = [float(v) for v in around]
            order = sorted({exact(v) for v in around + doubles})
            keys = sorted({encode_key_parts([v]) for v in around + doubles})
            assert [exact(decode_key_parts(key)[0]) for key in keys] == order


def test_composites_sort_and_come_back(rng):
    for _ in range(20_000):
        width = rng.randint(1, 3)
        desc = [i for i in range(width) if rng.random() < 0.4]
        a = [part(rng) for _ in range(width)]
        b = [v if rng.random() < 0.5 else part(rng) for v in a]
        first, second = encode_key_parts(a, desc), encode_key_parts(b, desc)
        assert [model(v) for v in decode_key_parts(first, desc)] == [model(v) for v in a]
        wanted = 0
        for i in range(width):
            wanted = compare(model(a[i]), model(b[i])) * (-1 if i in desc else 1)
            if wanted:
                break
        assert compare(first, second) == wanted, (a, b, desc)
        # prefix-free: the first columns of b are a prefix of a's key exactly if they are equal
        for n in range(1, width):
            equal = [model(v) for v in a[:n]] == [model(v) for v in b[:n]]
            assert first.startswith(encode_key_parts(b[:n], desc)) == equal, (a, b, desc)


def test_key_space_keys_sort_int_str_bytes(rng):
    def order(key):
        return ((int, str, bytes).index(type(key)), key.encode() if isinstance(key, str) else key)

    keys = [1, "1", b"1", 0, -1, 10**30, -(10**30), 2**63, -(2**63) - 1, 2**64 - 1, 2**64, "", b"", "\0", b"\0"]
    keys += [rng.choice((1, -1)) * rng.getrandbits(rng.choice((60, 64, 65, 71, 72, 73, 600))) for _ in range(500)]
    keys += [short_text(rng) for _ in range(200)] + [short_bytes(rng) for _ in range(200)]
    keys = list({(type(k), k) for k in keys})
    keys = [k for _, k in keys]
    assert len({encode_key(k) for k in keys}) == len(keys)
    for key in keys:
        back = decode_key(encode_key(key))
        assert back == key and type(back) is type(key)
    assert sorted(keys, key=encode_key) == sorted(keys, key=order)


def test_prefix_begins_exactly_the_keys_with_it(rng):
    for _ in range(5_000):
        make = rng.choice((short_text, short_bytes))
        prefix, key = make(rng)[:2], make(rng)
        assert encode_key(key).startswith(encode_key_prefix(prefix)) == key.startswith(prefix), (prefix, key)
    with pytest.raises(TypeError, match="not int"):
        encode_key_prefix(1)


def test_small_keys_are_short():
    assert len(encode_key(2**53 - 1)) == 9
    assert len(encode_key(2**63 - 1)) == 11
    assert len(encode_key("user:1")) == len("user:1") + 2


class StrOfMine(str):
    pass


@pytest.mark.parametrize("key", [True, 1.0, None, (1, 2), bytearray(b"x"), StrOfMine("x")], ids=repr)
def test_key_of_another_type_is_refused(key):
    with pytest.raises(TypeError, match=f"not {type(key).__name__}$"):
        encode_key(key)


def test_key_refusals_name_the_value():
    with pytest.raises(DataError, match=r"U\+D800 at index 1"):
        encode_key("a\ud800")
    with pytest.raises(DataError, match="NaN"):
        encode_key_parts([math.nan])
    with pytest.raises(TypeError, match="not bool"):
        encode_key_parts([True])
    for part_of_sql in (None, 1.5):
        with pytest.raises(CorruptionError, match="key space"):
            decode_key(encode_key_parts([part_of_sql]))


@pytest.mark.parametrize("data, found", [
    ("", "byte 0 within"),
    ("00", "0x00 is no rank"),
    ("ff", "0xff is no rank"),
    ("30c3", "byte 2 within"),
    ("30c340000000000000", "byte 9 within"),                  # 2**53 without its difference
    ("30fff8000000000000", "no number"),                      # NaN comes before the missing difference
    ("30fff80000000000008000", "fff8000000000000"),           # NaN
    ("307fffffffffffffff", "no number"),                      # -0.0
    ("30c3400000000000007fff", "no number"),                  # 2**53 - 1 in the form for 2**53
    ("30c3600000000000008005", "no number"),                  # 2**55 + 5 is nearer to the next double
    ("30c3e00000000000008001", "no number"),                  # 2**63 + 1
    ("303c1fffffffffffff7fff", "no number"),                  # -2**63 - 1
    ("30fff00000000000008001", "no number"),                  # inf + 1
    ("400000000100", "no number"),
    ("40000000087fffffffffffffff", "no number"),              # fits int64
    ("4000000009008000000000000000", "no number"),            # leading zero
    ("20fffffff77fffffffffffffff", "no number"),              # -2**63
    ("40ffffffff01", "within a component"),
    ("5061", "byte 2 within"),
    ("50016100", "byte 2: 0x61 after an escape"),
    ("50ff00", "not UTF-8"),
    ("50010300", "0x03 after an escape"),
    ("500100", "0x00 after an escape"),
    ("50610030", "1 bytes after the key"),
])
def test_damaged_key_is_named(data, found):
    with pytest.raises(CorruptionError, match=found):
        decode_key(bytes.fromhex(data))


def test_hostile_keys_raise_or_are_canonical(rng):
    accepted = 0
    for _ in range(40_000):
        if rng.random() < 0.5:
            data = bytearray(encode_key_parts([part(rng) for _ in range(rng.randint(1, 3))]))
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 0x10, 0x7f, 0x80, 0xff, rng.randrange(256)))
            data = bytes(data[:rng.randint(0, len(data) + 3)])
        else:
            data = rng.choice((b"", b" ", b"0", b"@", b"P", b"`")) + rng.randbytes(rng.randrange(14))
        try:
            values = decode_key_parts(data)
        except CorruptionError:
            continue
        accepted += 1
        assert encode_key_parts(values) == data, (data.hex(), values)
        masked = bytes(255 - b for b in data)
        assert decode_key_parts(masked, desc=range(9)) == values
    assert accepted > 500


# ---------------------------------------------------------------- values

GOLDEN_VALUES = [
    (None, "c0"), (False, "c1"), (True, "c2"),
    (0, "00"), (63, "3f"), (-1, "ff"), (-32, "e0"),
    (64, "c440"), (-33, "c4df"), (127, "c47f"), (-128, "c480"),
    (128, "c58000"), (-129, "c57fff"), (2**15, "c600800000"), (2**31, "c70000008000000000"),
    (-(2**63), "c70000000000000080"),
    (2**63, "c809000000000000008000"), (-(2**63) - 1, "c809ffffffffffffff7fff"), (-(2**71), "c809000000000000000080"),
    (1.5, "c3000000000000f83f"), (-0.0, "c30000000000000080"), (INF, "c3000000000000f07f"),
    ("", "40"), ("é", "42c3a9"), ("x" * 63, "7f" + "78" * 63), ("x" * 64, "c940" + "78" * 64),
    (b"", "80"), (b"\0" * 31, "9f" + "00" * 31), (b"\0" * 32, "ca20" + "00" * 32),
    (b"\0" * 300, "caac02" + "00" * 300),
    ([], "a0"), ([1, [2]], "a201a102"), ([0] * 16, "cb10" + "00" * 16),
    ({}, "b0"), ({"a": 1, 2: b"x", None: True}, "b341610102817" + "8c0c2"),
    ({i: 0 for i in range(16)}, "cc10" + "".join(f"{i:02x}00" for i in range(16))),
]


def same(a, b):
    """Equal with equal types all the way down, NaN equal to NaN, 0.0 not to -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a.keys(), b.keys())) and all(map(same, a.values(), b.values()))
    return a == b


@pytest.mark.parametrize("value, data", GOLDEN_VALUES, ids=[repr(v)[:24] for v, _ in GOLDEN_VALUES])
def test_value_golden_bytes(value, data):
    data = bytes.fromhex(data)
    assert encode_value(value) == data
    assert same(decode_value(data), value)


def scalar(rng):
    kind = rng.randrange(9)
    if kind < 3:
        return (None, True, False)[kind]
    if kind == 3:
        return rng.randint(-200, 200)
    if kind == 4:
        bits = rng.choice((7, 8, 15, 16, 31, 32, 63, 64, 71, 72, 500))
        return rng.choice((1, -1)) * (2**bits + rng.randint(-1, 1))
    if kind == 5:
        return struct.unpack("<d", rng.randbytes(8))[0]
    if kind == 6:
        return rng.choice("aé\U0001f600\0") * rng.choice((0, 1, 20, 31, 32, 63, 64, 127, 128, 200))
    return rng.randbytes(rng.choice((0, 1, 31, 32, 127, 128, 300)))


def tree(rng, depth=4):
    kind = rng.randrange(4) if depth else 0
    if kind < 2:
        return scalar(rng)
    count = rng.choice((0, 1, 3, 15, 16, 20)) if depth < 3 else rng.randrange(4)
    if kind == 2:
        return [tree(rng, depth - 1) for _ in range(count)]
    return {scalar(rng): tree(rng, depth - 1) for _ in range(count)}


def test_random_values_come_back_as_they_went(rng):
    for _ in range(3_000):
        value = tree(rng)
        data = encode_value(value)
        assert same(decode_value(data), value)
        assert same(decode_value(data, pickle=True), value)
        assert encode_value(value, pickle=True) == data


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x


@pytest.mark.parametrize("value", [
    (1, 2), {1, 2}, bytearray(b"x"), memoryview(b"x"), 1j, object(), Point(1), StrOfMine("x"), range(3),
], ids=lambda v: type(v).__name__)
def test_value_of_another_type_is_refused(value):
    for holder in (value, [value], {"k": [value]}):
        with pytest.raises(TypeError, match=f"not {type(value).__name__}$"):
            encode_value(holder)


def test_dict_key_of_another_type_is_refused():
    with pytest.raises(TypeError, match="dict key.* not tuple$"):
        encode_value({(1, 2): 3})


def test_lone_surrogate_is_named():
    with pytest.raises(DataError, match=r"U\+DC80 at index 2"):
        encode_value(["ok\udc80"])


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_is_bounded_on_both_sides():
    data = encode_value(nested(MAX_DEPTH))
    assert same(decode_value(data), nested(MAX_DEPTH))
    with pytest.raises(DataError, match="nested more than 200"):
        encode_value(nested(MAX_DEPTH + 1))
    with pytest.raises(CorruptionError, match="nested more than 200"):
        decode_value(b"\xa1" + data)
    with pytest.raises(CorruptionError, match="nested more than 200"):
        decode_value(b"\xa1" * 1_000_000)
    cyclic = []
    cyclic.append({"me": cyclic})
    with pytest.raises(DataError, match="contains itself"):
        encode_value(cyclic)


def test_pickle_only_where_it_is_allowed():
    value = [Point(1), (2, 3)]
    with pytest.raises(TypeError, match="not Point"):
        encode_value(value)
    data = encode_value(value, pickle=True)
    assert decode_value(data, pickle=True) == value
    with pytest.raises(ProgrammingError, match="pickle=True"):
        decode_value(data)
    cyclic = []
    cyclic.append(cyclic)
    back = decode_value(encode_value(cyclic, pickle=True), pickle=True)
    assert back[0] is back
    with pytest.raises(CorruptionError, match="pickle inside"):
        decode_value(b"\xa1" + data, pickle=True)
    with pytest.raises(DataError, match="cannot be loaded"):
        decode_value(data[:-3], pickle=True)
    with pytest.raises(TypeError, match="type function cannot be pickled"):
        encode_value(lambda: 0, pickle=True)


@pytest.mark.parametrize("data, found", [
    ("", "byte 0: an item is missing"),
    ("cf", "byte 0: tag 0xcf is reserved"),
    ("0000", "byte 1: 1 bytes after"),
    ("c43f", "shortest"), ("c57f00", "shortest"), ("c6ffffffff", "shortest"), ("c7ffffff7f00000000", "shortest"),
    ("c70000", "int of 8 bytes, but only 2"),
    ("c3000000", "float of 8 bytes, but only 3"),
    ("c8080000000000000080", "length 8 is not in its shortest"),
    ("c809000000000000000000", "shortest"), ("c809ffffffffffffffffff", "shortest"),
    ("4261", "str of 2 bytes, but only 1"), ("41ff", "byte 1: not UTF-8"), ("4361c328", "byte 2: not UTF-8"),
    ("c93f" + "61" * 63, "length 63 is not"), ("c9c000" + "61" * 64, "length 64 is not"),
    ("caffffffffffffffffff01", "but only 0 bytes are left"), ("caffffffffffffffffff02", "more than 64 bits"),
    ("ca80", "ends within a length"), ("8201", "bytes of length 2, but only 1"),
    ("a201", "list of 2 items, but only 1"), ("cbffffffff0f00", "length 4294967295, but only 1"),
    ("b10000" + "00", "1 bytes after"), ("b100", "dict of 1 items"), ("b201000100", "keys twice"), ("b1a000", "0xa0 cannot be a dict key"),
    ("b1b000", "0xb0 cannot be a dict key"), ("a2a101", "list of 1 items, but only 0"),
])
def test_damaged_value_is_named(data, found):
    with pytest.raises(CorruptionError, match=found):
        decode_value(bytes.fromhex(data))


def test_hostile_values_raise_or_are_canonical(rng):
    accepted = 0
    for _ in range(20_000):
        if rng.random() < 0.7:
            data = bytearray(encode_value(tree(rng, 2)))
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7f, 0x80, 0xff, rng.randrange(0xa0, 0xe0), rng.randrange(256)))
            data = bytes(data[:rng.randint(1, len(data) + 20)])
        else:
            data = bytes([rng.randrange(0xa0, 0xe0)]) + rng.randbytes(rng.randrange(12))
        try:
            value = decode_value(data)
        except (CorruptionError, ProgrammingError):
            continue
        accepted += 1
        assert encode_value(value) == data, (data.hex(), value)
    assert accepted > 500


def test_lying_counts_allocate_no_more_than_the_input_pays_for():
    """Nested lists that each claim all that is left: were each allocated, 150 MB for these 200 kB."""
    import tracemalloc
    size = 100_000
    data = (b"\xcb\xa0\x8d\x06" * 150) + bytes(size)        # each claims 100 000 items, the innermost has them
    tracemalloc.start()
    try:
        with pytest.raises(CorruptionError):
            decode_value(data)
        assert tracemalloc.get_traced_memory()[1] < 16 * size
    finally:
        tracemalloc.stop()
