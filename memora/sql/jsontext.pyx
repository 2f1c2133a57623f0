"""JSON as SQLite reads and prints it: RFC 8259 and JSON5 in, RFC 8259 out.

A text becomes a tree of `Node`. Numbers and strings keep their characters, and are printed as they stood unless they are JSON5's; so a
text goes through unchanged but for blanks. The kinds of nodes are those of SQLite's binary form, because json_each and json_tree
number elements by where they lie in it: `measure` tells. Trees are never changed: `edit` and `patch` copy the nodes on
their way, so a parsed text can be kept.

PATHS   $ .label ."label" [n] [#] [#-n]. A path is read while it is followed: a mistake behind a label that does not exist is not seen,
        as in SQLite.
"""
from libc.string cimport memcmp, memcpy

from memora.engine.codec cimport buf_free, buf_init
from memora.sql.types cimport (
    T_BLOB, T_INT, T_NULL, T_REAL, append, format_real, parse_number, reserve, set_int, set_null, set_real, set_text, text_of)

from memora.errors import OperationalError

cdef enum:
    MAX_DEPTH = 1000

cdef const char *HEX = "0123456789abcdef"


cdef class Node:
    def __cinit__(self, int kind=J_NULL, bytes text=b"", list items=None):
        self.kind, self.text, self.items = kind, text, items


cdef Node make(int kind, const uint8_t *p, size_t n):
    return Node(kind, p[:n])


NULL_NODE = Node(J_NULL)
TRUE_NODE = Node(J_TRUE)
FALSE_NODE = Node(J_FALSE)


# --- reading -----------------------------------------------------------------------------------------------------

cdef inline bint digit(int c) noexcept nogil:
    return 48 <= c <= 57


cdef inline int hex_digit(int c) noexcept nogil:
    if 48 <= c <= 57:
        return c - 48
    c |= 32
    return c - 87 if 97 <= c <= 102 else -1


cdef inline bint name_start(int c) noexcept nogil:
    return 65 <= (c & ~32) <= 90 or c == 95 or c == 36 or c >= 128


class Malformed(Exception):
    """Not JSON; the argument is the byte where that shows."""


cdef class Parser:
    """Reads one text. `error` is the offset of the first byte that cannot be, when parse() returned None."""

    cdef Node parse(self, const uint8_t *p, size_t n):
        cdef Node node
        self.p, self.n, self.at, self.depth, self.extended, self.error = p, n, 0, 0, False, 0
        try:
            node = self.value()
            self.blank()
        except Malformed as error:
            self.error = error.args[0]
            return None
        if self.at < n:
            # SQLite says the beginning of the text where something follows its value
            self.error = 0
            return None
        return node

    cdef object fail(self, size_t at):
        return Malformed(at)

    cdef int blank(self) except -1:
        """Skips white space, and the further kinds and comments of JSON5."""
        cdef const uint8_t *p = self.p
        cdef size_t i = self.at, n = self.n, k
        while i < n:
            if p[i] == 32 or p[i] == 10 or p[i] == 13 or p[i] == 9:
                i += 1
                continue
            k = 0
            if p[i] == 11 or p[i] == 12:
                k = 1
            elif p[i] == 47 and i + 1 < n and p[i + 1] == 42:
                k = 3
                while i + k < n and not (p[i + k] == 47 and p[i + k - 1] == 42):
                    k += 1
                if i + k >= n or k < 3:
                    break
                k += 1
            elif p[i] == 47 and i + 1 < n and p[i + 1] == 47:
                k = 2
                while i + k < n and p[i + k] != 10 and p[i + k] != 13:
                    k += 1
            elif p[i] == 0xC2 and i + 1 < n and p[i + 1] == 0xA0:
                k = 2
            elif i + 2 < n and ((p[i] == 0xE1 and p[i + 1] == 0x9A and p[i + 2] == 0x80)
                                or (p[i] == 0xE2 and p[i + 1] == 0x80 and (0x80 <= p[i + 2] <= 0x8A or p[i + 2] in (0xA8, 0xA9, 0xAF)))
                                or (p[i] == 0xE2 and p[i + 1] == 0x81 and p[i + 2] == 0x9F)
                                or (p[i] == 0xE3 and p[i + 1] == 0x80 and p[i + 2] == 0x80)
                                or (p[i] == 0xEF and p[i + 1] == 0xBB and p[i + 2] == 0xBF)):
                k = 3
            if not k:
                break
            self.extended = True
            i += k
        self.at = i
        return 0

    cdef bint word(self, const char *text, size_t n) noexcept:
        """Whether that word stands here, in any case, and ends here; it is skipped then."""
        cdef size_t i, end = self.at + n
        if end > self.n:
            return False
        for i in range(n):
            if (self.p[self.at + i] | 32) != text[i]:
                return False
        if end < self.n and (name_start(self.p[end]) or digit(self.p[end])):
            return False
        self.at = end
        return True

    cdef bint exact(self, const char *text, size_t n) noexcept:
        cdef size_t end = self.at + n
        if end > self.n or memcmp(self.p + self.at, text, n) or (
                end < self.n and (name_start(self.p[end]) or digit(self.p[end]))):
            return False
        self.at = end
        return True

    cdef Node value(self):
        cdef uint8_t c
        cdef size_t start
        self.blank()
        if self.at >= self.n:
            raise self.fail(self.at)
        c = self.p[self.at]
        if c == 123 or c == 91:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise self.fail(self.at)
            self.at += 1
            node = self.members(125 if c == 123 else 93)
            self.depth -= 1
            return node
        if c == 34 or c == 39:
            return self.string(c)
        if digit(c) or c == 45 or c == 43 or c == 46:
            return self.number()
        start = self.at
        if self.exact(b"null", 4):
            return NULL_NODE
        if self.exact(b"true", 4):
            return TRUE_NODE
        if self.exact(b"false", 5):
            return FALSE_NODE
        if self.word(b"nan", 3) or self.word(b"qnan", 4) or self.word(b"snan", 4):
            self.extended = True
            return NULL_NODE
        if self.word(b"infinity", 8) or self.word(b"inf", 3):
            self.extended = True
            return Node(J_REAL, b"9e999")
        raise self.fail(start)

    cdef Node members(self, uint8_t close):
        """What stands in brackets or braces, up to `close`."""
        cdef list items = []
        cdef bint some = False
        cdef uint8_t c
        while True:
            self.blank()
            if self.at >= self.n:
                raise self.fail(self.at)
            c = self.p[self.at]
            if c == close:
                if some:
                    self.extended = True
                break
            if close == 125:
                if c == 34 or c == 39:
                    items.append(self.string(c))
                else:
                    items.append(self.label())
                self.blank()
                if self.at >= self.n or self.p[self.at] != 58:
                    raise self.fail(self.at)
                self.at += 1
            items.append(self.value())
            self.blank()
            if self.at >= self.n:
                raise self.fail(self.at)
            c = self.p[self.at]
            if c == close:
                break
            if c != 44:
                raise self.fail(self.at)
            self.at += 1
            some = True
        self.at += 1
        return Node(J_OBJECT if close == 125 else J_ARRAY, b"", items)

    cdef Node label(self):
        """A label without quotes, as JSON5 has them."""
        cdef size_t start = self.at
        cdef const uint8_t *p = self.p
        cdef int k
        cdef bint escaped = False
        while self.at < self.n:
            if p[self.at] == 92 and self.at + 5 < self.n and p[self.at + 1] == 117:
                for k in range(2, 6):
                    if hex_digit(p[self.at + k]) < 0:
                        raise self.fail(self.at)
                escaped = True
                self.at += 6
            elif name_start(p[self.at]) or (self.at > start and digit(p[self.at])):
                self.at += 1
            else:
                break
        if self.at == start:
            raise self.fail(start)
        self.extended = True
        return make(J_ESCAPED if escaped else J_TEXT, p + start, self.at - start)

    cdef Node string(self, uint8_t quote):
        cdef const uint8_t *p = self.p
        cdef size_t start = self.at + 1, i = start, n = self.n
        cdef int kind = J_TEXT, k
        cdef uint8_t c
        if quote == 39:
            self.extended = True
            kind = J_TEXT5
        while True:
            if i >= n:
                raise self.fail(n)
            c = p[i]
            if c == quote:
                break
            if c == 92:
                i += 1
                if i >= n:
                    raise self.fail(n)
                c = p[i]
                if c == 34 or c == 92 or c == 47 or c == 98 or c == 102 or c == 110 or c == 114 or c == 116:
                    if kind == J_TEXT:
                        kind = J_ESCAPED
                elif c == 117:
                    for k in range(1, 5):
                        if i + k >= n or hex_digit(p[i + k]) < 0:
                            raise self.fail(i)
                    if kind == J_TEXT:
                        kind = J_ESCAPED
                elif c == 39 or c == 118 or c == 10 or c == 13 or (c == 48 and not (i + 1 < n and digit(p[i + 1]))) or (
                        c == 120 and i + 2 < n and hex_digit(p[i + 1]) >= 0 and hex_digit(p[i + 2]) >= 0) or (
                        c == 0xE2 and i + 2 < n and p[i + 1] == 0x80 and p[i + 2] in (0xA8, 0xA9)):
                    kind = J_TEXT5
                    self.extended = True
                else:
                    raise self.fail(i)
            elif c < 32:
                kind = J_TEXT5
                self.extended = True
            i += 1
        self.at = i + 1
        return make(kind, p + start, i - start)

    cdef Node number(self):
        cdef const uint8_t *p = self.p
        cdef size_t start = self.at, i = start, n = self.n, first
        cdef bint real = False, extended = False, negative = False
        if p[i] == 43 or p[i] == 45:
            negative = p[i] == 45
            i += 1
            if not negative:
                # the sign is not kept
                self.extended = True
                start = i
        if i + 1 < n and p[i] == 48 and (p[i + 1] | 32) == 120:
            i += 2
            first = i
            while i < n and hex_digit(p[i]) >= 0:
                i += 1
            if i == first:
                raise self.fail(i - 1)
            self.extended = True
            self.at = i
            return make(J_INT5, p + start, i - start)
        if i < n and (p[i] | 32) == 105:
            self.at = i
            if self.word(b"infinity", 8) or self.word(b"inf", 3):
                self.extended = True
                return Node(J_REAL, b"-9e999" if negative else b"9e999")
            raise self.fail(start)
        if i >= n or not (digit(p[i]) or p[i] == 46):
            raise self.fail(start if i >= n or p[i] != 46 else i)
        first = i
        if i + 1 < n and p[i] == 48 and digit(p[i + 1]):
            raise self.fail(i + 1)
        while i < n and digit(p[i]):
            i += 1
        if i < n and p[i] == 46:
            real = True
            i += 1
            if i == first + 1 or i >= n or not digit(p[i]):
                extended = True
                if i == first + 1 and (i >= n or not digit(p[i])):
                    raise self.fail(i)
            while i < n and digit(p[i]):
                i += 1
        if i < n and (p[i] | 32) == 101:
            real = True
            first = i
            i += 1
            if i < n and (p[i] == 43 or p[i] == 45):
                i += 1
            if i >= n or not digit(p[i]):
                raise self.fail(first)
            while i < n and digit(p[i]):
                i += 1
        self.at = i
        if extended:
            self.extended = True
        if real:
            return make(J_REAL5 if extended else J_REAL, p + start, i - start)
        return make(J_INT5 if extended else J_INT, p + start, i - start)


# --- printing ----------------------------------------------------------------------------------------------------

cdef int put_control(Buf *out, uint8_t c) except -1:
    cdef uint8_t[6] u
    cdef const char *short = b"btn?fr"
    u[0] = 92
    if 8 <= c <= 13 and c != 11:
        u[1] = short[c - 8]
        return append(out, u, 2)
    u[1] = 117
    u[2] = u[3] = 48
    u[4] = HEX[c >> 4]
    u[5] = HEX[c & 15]
    return append(out, u, 6)


cdef int put_quoted(Buf *out, const uint8_t *p, size_t n) except -1:
    """SQL text as a JSON string."""
    cdef size_t i, start = 0
    append(out, <const uint8_t *>b'"', 1)
    for i in range(n):
        if p[i] < 32 or p[i] == 34 or p[i] == 92:
            append(out, p + start, i - start)
            if p[i] < 32:
                put_control(out, p[i])
                start = i + 1
            else:
                append(out, <const uint8_t *>b"\\", 1)
                start = i
    append(out, p + start, n - start)
    return append(out, <const uint8_t *>b'"', 1)


cdef int put_text5(Buf *out, const uint8_t *p, size_t n) except -1:
    """A string with JSON5's escapes, with JSON's."""
    cdef size_t i = 0
    cdef uint8_t c
    append(out, <const uint8_t *>b'"', 1)
    while i < n:
        c = p[i]
        if c == 34:
            append(out, <const uint8_t *>b'\\"', 2)
        elif c < 32:
            put_control(out, c)
        elif c != 92 or i + 1 >= n:
            append(out, p + i, 1)
        else:
            i += 1
            c = p[i]
            if c == 39:
                append(out, p + i, 1)
            elif c == 118:
                append(out, <const uint8_t *>b"\\u000b", 6)
            elif c == 48:
                append(out, <const uint8_t *>b"\\u0000", 6)
            elif c == 120:
                append(out, <const uint8_t *>b"\\u00", 4)
                append(out, p + i + 1, 2)
                i += 2
            elif c == 13:
                if i + 1 < n and p[i + 1] == 10:
                    i += 1
            elif c == 0xE2:
                i += 2
            elif c != 10:
                append(out, p + i - 1, 2)
        i += 1
    return append(out, <const uint8_t *>b'"', 1)


cdef int put_hex(Buf *out, const uint8_t *p, size_t n) except -1:
    """A hexadecimal integer in decimal; one that is too large as infinity."""
    cdef size_t i = 0
    cdef object text
    if p[0] == 45:
        append(out, p, 1)
        i = 1
    elif p[0] == 43:
        i = 1
    if n - i > 2 and (p[i + 1] | 32) == 120:
        value = int(p[i + 2:n], 16)
        text = str(value).encode() if value < 1 << 64 else b"9.0e999"
    else:
        text = p[i:n]
    return append(out, <const uint8_t *><const char *>text, len(text))


cdef int put_point(Buf *out, const uint8_t *p, size_t n) except -1:
    """A real with its point at one end: a zero is put there."""
    cdef size_t i = 0
    if p[0] == 45 or p[0] == 43:
        if p[0] == 45:
            append(out, p, 1)
        i = 1
    if p[i] == 46:
        append(out, <const uint8_t *>b"0", 1)
    while i < n:
        append(out, p + i, 1)
        if p[i] == 46 and (i + 1 == n or not digit(p[i + 1])):
            append(out, <const uint8_t *>b"0", 1)
        i += 1
    return 0


cdef int put_line(Buf *out, const uint8_t *indent, size_t indent_n, int level) except -1:
    cdef int i
    append(out, <const uint8_t *>b"\n", 1)
    for i in range(level):
        append(out, indent, indent_n)
    return 0


cdef int put(Buf *out, Node node, const uint8_t *indent, size_t indent_n, int level) except -1:
    """Appends a node's JSON; with an indent, one element a line."""
    cdef const uint8_t *p = <const uint8_t *><const char *>node.text
    cdef size_t n = len(node.text)
    cdef Py_ssize_t i
    cdef int kind = node.kind
    cdef bint pretty = indent != NULL
    if kind >= J_ARRAY:
        append(out, <const uint8_t *>(b"[" if kind == J_ARRAY else b"{"), 1)
        for i in range(len(node.items)):
            if kind == J_OBJECT and i % 2:
                append(out, <const uint8_t *>b": ", 2 if pretty else 1)
            else:
                if i:
                    append(out, <const uint8_t *>b",", 1)
                if pretty:
                    put_line(out, indent, indent_n, level + 1)
            put(out, <Node>node.items[i], indent, indent_n, level + 1)
        if pretty and node.items:
            put_line(out, indent, indent_n, level)
        return append(out, <const uint8_t *>(b"]" if kind == J_ARRAY else b"}"), 1)
    if kind == J_TEXT or kind == J_ESCAPED:
        append(out, <const uint8_t *>b'"', 1)
        append(out, p, n)
        return append(out, <const uint8_t *>b'"', 1)
    if kind == J_TEXT5:
        return put_text5(out, p, n)
    if kind == J_RAW:
        return put_quoted(out, p, n)
    if kind == J_INT5:
        return put_hex(out, p, n)
    if kind == J_REAL5:
        return put_point(out, p, n)
    if kind == J_NULL:
        return append(out, <const uint8_t *>b"null", 4)
    if kind == J_TRUE:
        return append(out, <const uint8_t *>b"true", 4)
    if kind == J_FALSE:
        return append(out, <const uint8_t *>b"false", 5)
    return append(out, p, n)


# --- between JSON and SQL ----------------------------------------------------------------------------------------

cdef int put_real(Buf *out, double r) except -1:
    reserve(out, out.n + 48)
    if r - r != 0.0:
        return append(out, <const uint8_t *>(b"9.0e+999" if r > 0 else b"-9.0e+999"), 8 if r > 0 else 9)
    out.n += format_real(r, 15, <char *>out.p + out.n)
    return 0


cdef int put_value(Buf *out, const Value *v) except -1:
    """Appends a SQL value as JSON; text that is JSON goes in as it is."""
    cdef Buf scratch
    cdef Value text
    if v.tag == T_NULL:
        return append(out, <const uint8_t *>b"null", 4)
    if v.tag == T_REAL:
        return put_real(out, v.u.r)
    if v.tag == T_INT:
        buf_init(&scratch)
        text_of(v, &scratch, &text)
        append(out, text.u.p, text.n)
        buf_free(&scratch)
        return 0
    if v.tag == T_BLOB:
        raise OperationalError("JSON cannot hold BLOB values")
    if v.json:
        return append(out, v.u.p, v.n)
    return put_quoted(out, v.u.p, v.n)


cdef Node of_value(const Value *v):
    """A SQL value as a node."""
    cdef Buf scratch
    cdef Node node
    cdef Parser parser
    if v.tag == T_NULL:
        return NULL_NODE
    if v.tag == T_BLOB:
        raise OperationalError("JSON cannot hold BLOB values")
    if v.tag >= T_INT and v.tag <= T_REAL:
        buf_init(&scratch)
        try:
            put_value(&scratch, v)
            return make(J_INT if v.tag == T_INT else J_REAL, scratch.p, scratch.n)
        finally:
            buf_free(&scratch)
    if v.json:
        parser = Parser()
        node = parser.parse(v.u.p, v.n)
        if node is None:
            raise OperationalError("malformed JSON")
        return node
    return make(J_RAW, v.u.p, v.n)


cdef size_t put_code_point(uint8_t *out, unsigned int c) noexcept nogil:
    if c < 0x80:
        out[0] = <uint8_t>c
        return 1
    if c < 0x800:
        out[0] = <uint8_t>(0xC0 | (c >> 6))
        out[1] = <uint8_t>(0x80 | (c & 63))
        return 2
    if c < 0x10000:
        out[0] = <uint8_t>(0xE0 | (c >> 12))
        out[1] = <uint8_t>(0x80 | ((c >> 6) & 63))
        out[2] = <uint8_t>(0x80 | (c & 63))
        return 3
    out[0] = <uint8_t>(0xF0 | (c >> 18))
    out[1] = <uint8_t>(0x80 | ((c >> 12) & 63))
    out[2] = <uint8_t>(0x80 | ((c >> 6) & 63))
    out[3] = <uint8_t>(0x80 | (c & 63))
    return 4


cdef unsigned int four(const uint8_t *p, size_t i, size_t n, int count) noexcept nogil:
    cdef unsigned int c = 0
    cdef int k
    for k in range(count):
        c = (c << 4) | <unsigned int>(hex_digit(p[i + k]) if i + k < n else 0)
    return c


cdef size_t unescape(const uint8_t *p, size_t n, uint8_t *out) noexcept nogil:
    """The text that a string's characters stand for, never longer than they are; half a surrogate pair becomes U+FFFD."""
    cdef size_t i = 0, j = 0
    cdef unsigned int c, low
    while i < n:
        if p[i] != 92 or i + 1 >= n:
            out[j] = p[i]
            i += 1
            j += 1
            continue
        i += 1
        c = p[i]
        i += 1
        if c == 117:
            c = four(p, i, n, 4)
            i += 4
            if 0xD800 <= c < 0xDC00 and i + 5 < n and p[i] == 92 and p[i + 1] == 117:
                low = four(p, i + 2, n, 4)
                if 0xDC00 <= low < 0xE000:
                    c = 0x10000 + ((c & 0x3FF) << 10) + (low & 0x3FF)
                    i += 6
            if 0xD800 <= c < 0xE000:
                c = 0xFFFD
            j += put_code_point(out + j, c)
        elif c == 120:
            j += put_code_point(out + j, four(p, i, n, 2))
            i += 2
        elif c == 13:
            if i < n and p[i] == 10:
                i += 1
        elif c == 0xE2:
            i += 2
        elif c != 10:
            if c == 98: c = 8
            elif c == 102: c = 12
            elif c == 110: c = 10
            elif c == 114: c = 13
            elif c == 116: c = 9
            elif c == 118: c = 11
            elif c == 48: c = 0
            out[j] = <uint8_t>c
            j += 1
    return j


cdef bytes plain(Node node):
    """A string node's text, its escapes undone."""
    cdef size_t n = len(node.text)
    cdef bytes out
    if node.kind != J_ESCAPED and node.kind != J_TEXT5:
        return node.text
    buffer = bytearray(n + 4)
    n = unescape(<const uint8_t *><const char *>node.text, n, <uint8_t *><char *>buffer)
    return bytes(buffer[:n])


cdef int node_value(Node node, Buf *scratch, Value *out) except -1:
    """A node as a SQL value; text lies in `scratch`, or in the node."""
    cdef int kind = node.kind
    cdef const uint8_t *p = <const uint8_t *><const char *>node.text
    cdef size_t n = len(node.text)
    if kind == J_NULL:
        set_null(out)
    elif kind == J_TRUE or kind == J_FALSE:
        set_int(out, kind == J_TRUE)
    elif kind <= J_REAL5:
        if kind == J_INT5 and n > 2 and b"x" in node.text.lower():
            value = int(node.text, 16)
            if -(1 << 63) <= value < 1 << 63:
                set_int(out, value)
            else:
                set_real(out, float(value) if value.bit_length() < 1000 else float("inf"))
        else:
            parse_number(p, n, out)
    elif kind == J_TEXT or kind == J_RAW:
        set_text(out, p, n)
    elif kind <= J_RAW:
        scratch.n = 0
        reserve(scratch, n + 4)
        scratch.n = unescape(p, n, scratch.p)
        set_text(out, scratch.p, scratch.n)
    else:
        scratch.n = 0
        put(scratch, node, NULL, 0, 0)
        set_text(out, scratch.p, scratch.n)
        out.json = True
    return 0


# --- paths -------------------------------------------------------------------------------------------------------

cdef object bad_path(const uint8_t *path, size_t n):
    text = path[:n].decode("utf-8", "replace").replace("'", "''")
    return OperationalError(f"bad JSON path: '{text}'")


cdef class Walk:
    """A path that is being followed."""

    cdef const uint8_t *p
    cdef size_t n, at
    cdef bytes label               # the next step: a label, or
    cdef int64_t index             # a place in an array, counted
    cdef bint from_end             # from its end

    cdef int start(self, const uint8_t *p, size_t n) except -1:
        self.p, self.n = p, n
        self.at = 1
        if n == 0 or p[0] != 36:
            raise bad_path(p, n)
        return 0

    cdef bint done(self) noexcept:
        return self.at >= self.n

    cdef int step(self, Node node) except -1:
        """Reads the step from a node: 1 a label, 2 a place, 0 a place in what is no array, which is not read."""
        cdef const uint8_t *p = self.p
        cdef size_t i = self.at, n = self.n, first
        cdef int64_t value = 0
        if p[i] == 46:
            i += 1
            first = i
            if i < n and p[i] == 34:
                i += 1
                while i < n and p[i] != 34:
                    if p[i] == 92 and i + 1 < n:
                        i += 1
                    i += 1
                if i >= n:
                    raise bad_path(p, n)
                self.label = plain(make(J_TEXT5, p + first + 1, i - first - 1))
                i += 1
            else:
                while i < n and p[i] != 46 and p[i] != 91:
                    i += 1
                if i == first:
                    raise bad_path(p, n)
                self.label = p[first:i]
            self.at = i
            return 1
        if p[i] != 91:
            raise bad_path(p, n)
        if node.kind != J_ARRAY:
            return 0
        i += 1
        self.from_end = i < n and p[i] == 35
        if self.from_end:
            i += 1
            if i < n and p[i] == 45:
                i += 1
                if i >= n or not digit(p[i]):
                    raise bad_path(p, n)
            elif i < n and p[i] != 93:
                raise bad_path(p, n)
        elif i >= n or not digit(p[i]):
            raise bad_path(p, n)
        while i < n and digit(p[i]):
            if value < 1 << 40:
                value = value * 10 + p[i] - 48
            i += 1
        if i >= n or p[i] != 93:
            raise bad_path(p, n)
        self.index = value
        self.at = i + 1
        return 2

    cdef Py_ssize_t find(self, Node node, int kind) except -2:
        """The position in node.items of the step's element, -1 if there is none."""
        cdef Py_ssize_t i, n
        cdef Node label
        if kind == 1:
            if node.kind == J_OBJECT:
                for i in range(0, len(node.items), 2):
                    label = node.items[i]
                    if (label.text == self.label) if label.kind in (J_TEXT, J_RAW) else (plain(label) == self.label):
                        return i + 1
            return -1
        if kind == 0:
            return -1
        n = len(node.items)
        i = n - self.index if self.from_end else self.index
        return i if 0 <= i < n else -1


cdef Node lookup(Node node, const uint8_t *path, size_t n):
    """The node at a path, or None."""
    cdef Walk walk = Walk()
    cdef int kind
    cdef Py_ssize_t at
    walk.start(path, n)
    while not walk.done():
        kind = walk.step(node)
        at = walk.find(node, kind)
        if at < 0:
            return None
        node = node.items[at]
    return node


cdef Node edited(Node node, Walk walk, int how, Node value):
    """The tree with one edit; the node itself if nothing changes, None if it is to go."""
    cdef int kind
    cdef Py_ssize_t at, places
    cdef Node child
    cdef list items
    if walk.done():
        return None if how == EDIT_REMOVE else node if how == EDIT_INSERT else value
    kind = walk.step(node)
    at = walk.find(node, kind)
    if at >= 0:
        if how == EDIT_ARRAY_INSERT and walk.done():
            if kind != 2:
                raise OperationalError("not an array element")
            items = list(node.items)
            items.insert(at, value)
            return Node(node.kind, b"", items)
        child = edited(node.items[at], walk, how, value)
        if child is node.items[at]:
            return node
        items = list(node.items)
        if child is not None:
            items[at] = child
        elif kind == 1:
            del items[at - 1:at + 1]
        else:
            del items[at]
        return Node(node.kind, b"", items)
    if how < EDIT_INSERT:
        return node
    if kind == 1:
        if node.kind != J_OBJECT:
            return node
        items = [*node.items, make(J_RAW, <const uint8_t *><const char *>walk.label, len(walk.label))]
    else:
        if kind == 0 or (walk.index if walk.from_end else walk.index - len(node.items)) != 0:
            return node
        items = list(node.items)
    child = value
    if not walk.done():
        child = Node(J_OBJECT if walk.p[walk.at] == 46 else J_ARRAY, b"", [])
        value = edited(child, walk, EDIT_SET if how == EDIT_INSERT else how, value)
        if value is child:
            return node
        child = value
    items.append(child)
    return Node(node.kind, b"", items)


cdef Node edit(Node node, const uint8_t *path, size_t n, int how, Node value):
    """The tree after an edit at a path; None if all of it was removed."""
    cdef Walk walk = Walk()
    walk.start(path, n)
    return edited(node, walk, how, value)


cdef Node patch(Node target, Node change):
    """RFC 7396: the target with a merge patch applied."""
    cdef list items, labels
    cdef Py_ssize_t i, at
    cdef Node value
    if change.kind != J_OBJECT:
        return change
    items = list(target.items) if target.kind == J_OBJECT else []
    labels = [plain(items[i]) for i in range(0, len(items), 2)]
    for i in range(0, len(change.items), 2):
        label = plain(change.items[i])
        value = change.items[i + 1]
        at = labels.index(label) if label in labels else -1
        if value.kind == J_NULL:
            if at >= 0:
                del items[2 * at:2 * at + 2]
                del labels[at]
        elif at >= 0:
            items[2 * at + 1] = patch(items[2 * at + 1], value)
        else:
            items += [change.items[i], patch(NULL_NODE, value)]
            labels.append(label)
    return Node(J_OBJECT, b"", items)


cdef int64_t head(int64_t size) noexcept nogil:
    """Bytes of the header that SQLite's binary form puts before an element of that size."""
    return 1 if size <= 11 else 2 if size <= 255 else 3 if size <= 65535 else 5


cdef int64_t measure(Node node) except -1:
    """Sets `size`, the bytes of a node's content in the binary form, of it and of all below; returns those with its header."""
    cdef int64_t size = len(node.text)
    cdef Py_ssize_t i
    if node.kind >= J_ARRAY:
        for i in range(len(node.items)):
            size += measure(node.items[i])
    node.size = size
    return head(size) + size
