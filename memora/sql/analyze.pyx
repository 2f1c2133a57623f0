"""Counting for ANALYZE: one pass over a tree in the order of its keys."""
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from memora.engine.codec cimport KEY_OK, Buf, KeyPart, buf_free, buf_init, key_next
from memora.engine.cursor cimport Cursor
from memora.engine.transaction cimport Transaction
from memora.sql.types cimport append

from memora.errors import CorruptionError


def distinct_prefixes(Transaction transaction not None, uint32_t tree, list descending) -> tuple:
    """(entries, [how many different values the first column has, the first two, ...]) of a tree whose keys begin with so many columns.

    descending: of each column, whether it is. NULLs are equal to each other. CorruptionError: a key has fewer columns.
    """
    cdef Cursor cursor = Cursor(transaction, tree)
    cdef int64_t entries = 0
    cdef int n = <int>len(descending), i, first, found
    cdef int64_t *counts = <int64_t *>calloc(n + 1, sizeof(int64_t))
    cdef size_t *ends = <size_t *>calloc(n + 1, sizeof(size_t))        # of the last key's columns
    cdef bint *down = <bint *>calloc(n + 1, sizeof(bint))
    cdef Buf last, scratch
    cdef const uint8_t *at
    cdef size_t begin, end
    cdef KeyPart part
    buf_init(&last)
    buf_init(&scratch)
    try:
        if counts == NULL or ends == NULL or down == NULL:
            raise MemoryError()
        for i in range(n):
            down[i] = descending[i]
        found = cursor.c_first()
        while found:
            first = 0 if entries == 0 else n
            at = cursor.kp
            begin = 0
            for i in range(n):
                if key_next(&at, cursor.kp + cursor.kn, down[i], &part, &scratch) != KEY_OK:
                    raise CorruptionError(f"tree {tree}: component {i} of a key cannot be read")
                end = at - cursor.kp
                if first == n and (end != ends[i] or memcmp(cursor.kp + begin, last.p + begin, end - begin) != 0):
                    first = i
                ends[i] = end
                begin = end
            for i in range(first, n):
                counts[i] += 1
            if first < n:
                last.n = 0
                append(&last, cursor.kp, begin)
            entries += 1
            found = cursor.c_next()
        return entries, [counts[i] for i in range(n)]
    finally:
        free(counts)
        free(ends)
        free(down)
        buf_free(&last)
        buf_free(&scratch)


def count_entries(Transaction transaction not None, uint32_t tree) -> int:
    """How many entries a tree has."""
    cdef Cursor cursor = Cursor(transaction, tree)
    cdef int64_t entries = 0
    cdef int found = cursor.c_first()
    while found:
        entries += 1
        found = cursor.c_next()
    return entries
