"""The C side of aggregates, which GROUP BY and windows share."""
from libc.stdint cimport int64_t, uint8_t

from memora.sql.types cimport Value

cdef enum:
    AGG_COUNT_ALL, AGG_COUNT, AGG_SUM, AGG_TOTAL, AGG_AVG, AGG_MIN, AGG_MAX, AGG_CONCAT

cdef struct State:
    int64_t count
    int64_t whole          # the sum while it is an integer
    double sum, error      # the sum as a real, and Neumaier's correction
    bint approximate, overflow
    Value best
    uint8_t *bytes         # group_concat; or the best text, if it is long-lived
    size_t n, cap

cdef int add_number(State *s, const Value *v) except -1
cdef int remove_number(State *s, const Value *v) except -1
cdef int sum_result(int kind, State *s, Value *out) except -1
