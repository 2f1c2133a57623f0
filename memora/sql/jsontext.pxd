"""JSON texts as trees: parsing, printing, paths and edits; see `jsontext.pyx`."""
from libc.stdint cimport int64_t, uint8_t

from memora.engine.codec cimport Buf
from memora.sql.types cimport Value

cdef enum:
    J_NULL, J_TRUE, J_FALSE
    J_INT, J_INT5              # the text as it stands; hexadecimal, or with a plus sign
    J_REAL, J_REAL5            # the same; with a point at one end
    J_TEXT, J_ESCAPED          # nothing to be undone in it; JSON's escapes
    J_TEXT5, J_RAW             # JSON5's escapes; SQL text, to be escaped when it is printed
    J_ARRAY, J_OBJECT

cdef enum:
    EDIT_NONE, EDIT_REMOVE, EDIT_REPLACE, EDIT_INSERT, EDIT_SET, EDIT_ARRAY_INSERT


cdef class Node:
    cdef readonly int kind
    cdef readonly bytes text
    cdef readonly list items       # of an object: label, value, label, value...
    cdef readonly int64_t size     # of its content in SQLite's binary form, once measured


cdef class Parser:
    cdef const uint8_t *p
    cdef size_t n, at, error
    cdef int depth
    cdef bint extended             # JSON5 was needed
    cdef Node parse(self, const uint8_t *p, size_t n)
    cdef Node value(self)
    cdef Node members(self, uint8_t close)
    cdef bint word(self, const char *text, size_t n) noexcept
    cdef bint exact(self, const char *text, size_t n) noexcept
    cdef Node label(self)
    cdef Node string(self, uint8_t quote)
    cdef Node number(self)
    cdef int blank(self) except -1
    cdef object fail(self, size_t at)


cdef int put(Buf *out, Node node, const uint8_t *indent, size_t indent_n, int level) except -1
cdef int put_quoted(Buf *out, const uint8_t *p, size_t n) except -1
cdef int put_value(Buf *out, const Value *v) except -1
cdef int node_value(Node node, Buf *scratch, Value *out) except -1
cdef Node of_value(const Value *v)
cdef bytes plain(Node node)
cdef Node lookup(Node node, const uint8_t *path, size_t n)
cdef Node edit(Node node, const uint8_t *path, size_t n, int how, Node value)
cdef Node patch(Node target, Node change)
cdef int64_t head(int64_t size) noexcept nogil
cdef int64_t measure(Node node) except -1
