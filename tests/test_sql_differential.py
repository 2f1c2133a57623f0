"""Random tables, changes and queries give the same rows and the same kinds of errors as the standard library's sqlite3."""
import os
import random

import counters
import pytest
import sql_support
from sql_random import Generator

#: The suite plays the same seeds each time; MEMORA_SEED chooses others.
FIRST = int(os.environ.get("MEMORA_SEED") or 1)


def loosely(a, b):
    """Equal, where 1 and 1.0, or texts equal under a collation, may stand for each other: which row of a group speaks for
    it is nobody's promise."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        # sums of reals: sqlite3 3.40 adds one by one, so that values of 1e10 that cancel leave an error behind
        return a == b or abs(a - b) <= max(1e-9 * max(abs(a), abs(b)), 1e-5 if isinstance(a, float) and isinstance(b, float) else 0)
    if isinstance(a, str) and isinstance(b, str):
        return a.lower().rstrip() == b.lower().rstrip()
    return sql_support.same(a, b)


def loose_key(row):
    """Sorts rows that are equal loosely to the same place."""
    return sql_support.order_key(v.lower().rstrip() if isinstance(v, str) else float(f"{v:.6g}") if isinstance(v, (int, float)) else v for v in row)


def play(seed, steps):
    generator = Generator(random.Random(seed))
    pair = sql_support.Pair()
    try:
        for sql in generator.schema(generator.random.randint(1, 3)):
            pair.same(sql)
        for step in range(steps):
            if step < 12 or generator.random.random() < 0.25:
                pair.same(generator.change())
                for table in generator.tables:
                    pair.same(f"SELECT * FROM {table}", ordered=False)
            else:
                sql, loose = generator.select()
                if loose:
                    pair.same(sql, ordered=False, equal=loosely, key=loose_key)
                else:
                    pair.same(sql, ordered=False)
            counters.count("model steps")
    finally:
        pair.close()


def test_seeds():
    print(f"MEMORA_SEED={FIRST}")
    for seed in range(FIRST, FIRST + 60):
        play(seed, 40)


@pytest.mark.long
def test_many_seeds():
    print(f"MEMORA_SEED={FIRST}")
    for seed in range(FIRST + 60, FIRST + 500):
        play(seed, 60)
