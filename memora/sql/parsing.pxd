"""The C face of the scanner and the parse loop."""
from libc.stdint cimport int16_t, uint32_t


cdef struct Word:
    uint32_t hash
    int16_t n                          # 0: an empty place
    int16_t kind                       # of the keyword; ~kind if only its place tells
    char text[20]


cdef class Scanner:
    cdef Word *words                   # the keywords, hashed
    cdef uint32_t mask
    cdef int signs[128]                # kinds of the tokens of one character
    cdef int name, string, blob, integer, real, param, concat, eq, ne, bits, relation, sign, divide, illegal, semicolon, end
    cpdef tuple scan(self, str sql)
    cdef int keyword(self, const char *p, int n, uint32_t hash) noexcept


cdef class Parse:
    cdef readonly str sql
    cdef readonly list kinds, starts, ends
    cdef public Py_ssize_t at
    cdef public list params
    cdef public dict param_index
    cdef public set minimums
    cdef Tables tables
    cpdef str text(self, Py_ssize_t index)
    cdef object run(self)


cdef struct Rule:
    int length                         # of its right side
    int left                           # the nonterminal
    int kept                           # children that are handed on
    int first                          # the first of them, counted from the stack's top


cdef class Tables:
    cdef readonly object lexer
    cdef Scanner scanner
    cdef list shifts, gotos, actions, takes
    cdef int16_t **shift_rows          # [state][kind]: 0 for none, else 1 + the action, or the negative action
    cdef int16_t **goto_rows
    cdef Rule *rules
    cdef int states, kinds, lefts, units, first, last
    cdef signed char *roles            # by kind: what a token means to lift()
    cdef int role(self, list kinds, Py_ssize_t i) except -1
    cpdef tuple lift(self, str sql)
    cdef int16_t *shift_row(self, int state) except NULL
    cdef int16_t *goto_row(self, int state) except NULL
