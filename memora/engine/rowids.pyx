"""Rowids: the number of the next row of a table, as SQLite chooses it."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from memora.engine.cursor cimport Cursor
from memora.engine.readset cimport ReadMark, read_back, read_mark
from memora.engine.transaction cimport Transaction

import random

from memora import errors

cdef uint64_t ROWID_MAX = 0xffffffffffffffffULL


cpdef int64_t next_rowid(Transaction t, uint32_t tree) except? -1:
    """A free rowid, as SQLite chooses it: the largest plus one. The tree's keys are 8 bytes, big-endian, sign flipped.

    The choice is not in the read set: if another commit took the number, this one's commit is a SerializationError.
    When the largest rowid is taken, random ones are tried; OperationalError ("database or disk is full") when 100 are taken, too.
    """
    cdef Cursor c
    cdef const uint8_t *v
    cdef size_t vn
    cdef uint8_t key[8]
    cdef ReadMark before = read_mark(&t.reads)
    cdef uint64_t n = 0
    cdef uint32_t i
    t.check()
    c = Cursor(t, tree)
    if c.c_last() and c.kn == 8:
        for i in range(8):
            n = n << 8 | c.kp[i]
    else:
        n = <uint64_t>1 << 63
    read_back(&t.reads, before)
    if n != ROWID_MAX:
        return <int64_t>((n ^ (<uint64_t>1 << 63)) + 1)
    for _ in range(100):
        n = (<uint64_t>1 << 63) + 1 + <uint64_t>random.randrange(1 << 62)
        for i in range(8):
            key[i] = (n >> (56 - 8 * i)) & 255
        found = t.c_get(tree, key, 8, &v, &vn)
        read_back(&t.reads, before)
        if not found:
            return <int64_t>(n ^ (<uint64_t>1 << 63))
    raise errors.OperationalError("database or disk is full: the largest rowid is taken, and so are 100 random ones")
