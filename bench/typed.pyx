# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Typed access of `python -m bench seeds`: as a function called from Python for each iteration, and as a loop of its own."""
from libc.stdint cimport int32_t, int64_t

cdef struct record:
    int32_t id
    int64_t count
    double price
    char name[8]

cdef packed struct tight:
    int32_t id
    int64_t count
    double price
    char name[8]


def copy_ints(int32_t[::1] to, const int32_t[::1] source):
    to[:] = source


def count_one(int64_t[::1] counts, Py_ssize_t i):
    counts[i] += 1


def count_all(int64_t[::1] counts):
    cdef Py_ssize_t i
    for i in range(counts.shape[0]):
        counts[i] += 1


cdef class Records:
    """The records of a writable buffer."""

    cdef unsigned char[::1] held
    cdef record *wide
    cdef tight *narrow

    def __init__(self, unsigned char[::1] held):
        self.held = held
        self.wide = <record *>&held[0]
        self.narrow = <tight *>&held[0]

    def count(self, Py_ssize_t i):
        self.wide[i].count += 1

    def count_tight(self, Py_ssize_t i):
        self.narrow[i].count += 1

    def loop(self, long n):
        cdef long i
        for i in range(n):
            self.wide[i & 255].count += 1
