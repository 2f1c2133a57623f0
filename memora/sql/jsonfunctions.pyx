"""SQLite's JSON functions and operators, over the trees of `jsontext.pyx`. They enter themselves into `functions.SCALARS`.

A result that is JSON is marked (`Value.json`), and a function that is given marked text takes it for JSON and not for a string. A
function keeps the tree of the last text that it was given.
"""
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp

from memora.engine.codec cimport Buf, buf_free, buf_init
from memora.sql.functions cimport Function, Scalar, add
from memora.sql.jsontext cimport (
    EDIT_ARRAY_INSERT, EDIT_INSERT, EDIT_REMOVE, EDIT_REPLACE, EDIT_SET, J_ARRAY, J_ESCAPED, J_INT, J_INT5, J_NULL, J_OBJECT,
    J_REAL, J_REAL5, J_TEXT, J_TRUE, Node, Parser, edit, head, lookup, measure, node_value, of_value, patch, plain, put,
    put_quoted, put_value)
from memora.sql.types cimport (
    T_BLOB, T_INT, T_NULL, T_REAL, T_TEXT, Value, append, from_python, set_int, set_text, text_of, to_integer, to_python)

from memora.errors import OperationalError
from memora.sql.functions import SCALARS


cdef Node parsed(Function self, Value *v):
    """The tree of a text; raises for what is no JSON."""
    cdef Parser parser
    cdef Node node
    cdef bytes text
    text_of(v, &self.first, v)
    if self.state is not None:
        text, node = self.state
        if <size_t>len(text) == v.n and memcmp(<const char *>text, v.u.p, v.n) == 0:
            return node
    parser = Parser()
    node = parser.parse(v.u.p, v.n)
    if node is None:
        raise OperationalError("malformed JSON")
    self.state = (v.u.p[:v.n], node)
    return node


cdef int give(Function self, Value *out) except -1:
    """The buffer's text, marked as JSON."""
    set_text(out, self.buffer.p, self.buffer.n)
    out.json = True
    return 0


cdef int give_node(Function self, Node node, Value *out) except -1:
    self.buffer.n = 0
    put(&self.buffer, node, NULL, 0, 0)
    return give(self, out)


cdef Node at_path(Function self, Node node, Value *path):
    text_of(path, &self.second, path)
    return lookup(node, path.u.p, path.n)


# --- one text ----------------------------------------------------------------------------------------------------

cdef int f_json(Function self, Value *args, int n, Value *out) except -1:
    if args[0].tag == T_NULL:
        out.tag = T_NULL
        return 0
    return give_node(self, parsed(self, &args[0]), out)


cdef int f_pretty(Function self, Value *args, int n, Value *out) except -1:
    cdef Node node
    cdef Value indent
    if args[0].tag == T_NULL:
        out.tag = T_NULL
        return 0
    node = parsed(self, &args[0])
    set_text(&indent, <const uint8_t *>b"    ", 4)
    if n == 2 and args[1].tag != T_NULL:
        text_of(&args[1], &self.second, &indent)
    self.buffer.n = 0
    put(&self.buffer, node, indent.u.p if indent.n else <const uint8_t *>b"", indent.n, 0)
    set_text(out, self.buffer.p, self.buffer.n)
    return 0


cdef int f_valid(Function self, Value *args, int n, Value *out) except -1:
    cdef Parser parser
    cdef int64_t flags = 1
    if n == 2:
        flags = to_integer(&args[1])
        if not 1 <= flags <= 15:
            raise OperationalError("FLAGS parameter to json_valid() must be between 1 and 15")
    if args[0].tag == T_NULL:
        out.tag = T_NULL
        return 0
    if args[0].tag == T_BLOB or not flags & 3:
        # flags 4 and 8 ask for SQLite's binary form, which nothing here is
        set_int(out, 0)
        return 0
    text_of(&args[0], &self.first, &args[0])
    parser = Parser()
    set_int(out, parser.parse(args[0].u.p, args[0].n) is not None and (flags & 2 != 0 or not parser.extended))
    return 0


cdef int f_error_position(Function self, Value *args, int n, Value *out) except -1:
    cdef Parser parser
    cdef int64_t at = 0
    cdef size_t i
    if args[0].tag == T_NULL:
        out.tag = T_NULL
        return 0
    text_of(&args[0], &self.first, &args[0])
    parser = Parser()
    if parser.parse(args[0].u.p, args[0].n) is None:
        at = 1
        for i in range(parser.error):
            at += (args[0].u.p[i] & 0xC0) != 0x80
    set_int(out, at)
    return 0


cdef int f_quote(Function self, Value *args, int n, Value *out) except -1:
    self.buffer.n = 0
    put_value(&self.buffer, &args[0])
    return give(self, out)


cdef int f_type(Function self, Value *args, int n, Value *out) except -1:
    cdef Node node
    if args[0].tag == T_NULL or (n == 2 and args[1].tag == T_NULL):
        out.tag = T_NULL
        return 0
    node = parsed(self, &args[0])
    if n == 2:
        node = at_path(self, node, &args[1])
    if node is None:
        out.tag = T_NULL
    else:
        name = type_name(node)
        set_text(out, <const uint8_t *><const char *>name, len(name))
    return 0


cdef bytes type_name(Node node):
    if node.kind <= J_INT5:
        return TYPES[node.kind]
    return b"real" if node.kind <= J_REAL5 else b"text" if node.kind < J_ARRAY else b"array" if node.kind == J_ARRAY else b"object"


cdef tuple TYPES = (b"null", b"true", b"false", b"integer", b"integer")


cdef int f_array_length(Function self, Value *args, int n, Value *out) except -1:
    cdef Node node
    if args[0].tag == T_NULL or (n == 2 and args[1].tag == T_NULL):
        out.tag = T_NULL
        return 0
    node = parsed(self, &args[0])
    if n == 2:
        node = at_path(self, node, &args[1])
    if node is None:
        out.tag = T_NULL
    else:
        set_int(out, len(node.items) if node.kind == J_ARRAY else 0)
    return 0


# --- making ------------------------------------------------------------------------------------------------------

cdef int f_array(Function self, Value *args, int n, Value *out) except -1:
    cdef int i
    self.buffer.n = 0
    append(&self.buffer, <const uint8_t *>b"[", 1)
    for i in range(n):
        if i:
            append(&self.buffer, <const uint8_t *>b",", 1)
        put_value(&self.buffer, &args[i])
    append(&self.buffer, <const uint8_t *>b"]", 1)
    return give(self, out)


cdef int f_object(Function self, Value *args, int n, Value *out) except -1:
    cdef int i
    if n % 2:
        raise OperationalError("json_object() requires an even number of arguments")
    self.buffer.n = 0
    append(&self.buffer, <const uint8_t *>b"{", 1)
    for i in range(n):
        if i % 2:
            append(&self.buffer, <const uint8_t *>b":", 1)
            put_value(&self.buffer, &args[i])
            continue
        if args[i].tag != T_TEXT:
            raise OperationalError("json_object() labels must be TEXT")
        if i:
            append(&self.buffer, <const uint8_t *>b",", 1)
        put_quoted(&self.buffer, args[i].u.p, args[i].n)
    append(&self.buffer, <const uint8_t *>b"}", 1)
    return give(self, out)


cdef int f_member(Function self, Value *args, int n, Value *out) except -1:
    """One member of what json_group_object makes; NULL, which it leaves out, for a label that is NULL."""
    if args[0].tag == T_NULL:
        out.tag = T_NULL
        return 0
    text_of(&args[0], &self.first, &args[0])
    self.buffer.n = 0
    put_quoted(&self.buffer, args[0].u.p, args[0].n)
    append(&self.buffer, <const uint8_t *>b":", 1)
    put_value(&self.buffer, &args[1])
    set_text(out, self.buffer.p, self.buffer.n)
    return 0


# --- looking up --------------------------------------------------------------------------------------------------

cdef int f_extract(Function self, Value *args, int n, Value *out) except -1:
    cdef Node node, found
    cdef int i
    out.tag = T_NULL
    if args[0].tag == T_NULL or n == 1:
        return 0
    for i in range(1, n):
        if args[i].tag == T_NULL:
            return 0
    node = parsed(self, &args[0])
    if n == 2:
        found = at_path(self, node, &args[1])
        if found is not None:
            node_value(found, &self.buffer, out)
        return 0
    self.buffer.n = 0
    append(&self.buffer, <const uint8_t *>b"[", 1)
    for i in range(1, n):
        if i > 1:
            append(&self.buffer, <const uint8_t *>b",", 1)
        found = at_path(self, node, &args[i])
        if found is None:
            append(&self.buffer, <const uint8_t *>b"null", 4)
        else:
            put(&self.buffer, found, NULL, 0, 0)
    append(&self.buffer, <const uint8_t *>b"]", 1)
    return give(self, out)


cdef Node arrow(Function self, Value *args):
    """What the right side of -> or ->> names: a path, a label, or a place in an array."""
    cdef Node node = parsed(self, &args[0])
    cdef Value *path = &args[1]
    cdef Value text
    cdef size_t i
    cdef bint simple = True
    if path.tag == T_TEXT and path.n and path.u.p[0] == 36:
        return lookup(node, path.u.p, path.n)
    text_of(path, &self.second, &text)
    self.third.n = 0
    if path.tag == T_INT:
        append(&self.third, <const uint8_t *>b"$[#", 3 if text.u.p[0] == 45 else 2)
        append(&self.third, text.u.p, text.n)
        append(&self.third, <const uint8_t *>b"]", 1)
    elif text.n >= 3 and text.u.p[0] == 91 and text.u.p[text.n - 1] == 93:
        append(&self.third, <const uint8_t *>b"$", 1)
        append(&self.third, text.u.p, text.n)
    else:
        append(&self.third, <const uint8_t *>b'$."', 3)
        for i in range(text.n):
            if text.u.p[i] == 34 or text.u.p[i] == 92:
                append(&self.third, <const uint8_t *>b"\\", 1)
            append(&self.third, text.u.p + i, 1)
        append(&self.third, <const uint8_t *>b'"', 1)
    return lookup(node, self.third.p, self.third.n)


cdef int f_arrow(Function self, Value *args, int n, Value *out) except -1:
    cdef Node found
    out.tag = T_NULL
    if args[0].tag == T_NULL or args[1].tag == T_NULL:
        return 0
    found = arrow(self, args)
    if found is not None:
        give_node(self, found, out)
    return 0


cdef int f_long_arrow(Function self, Value *args, int n, Value *out) except -1:
    cdef Node found
    out.tag = T_NULL
    if args[0].tag == T_NULL or args[1].tag == T_NULL:
        return 0
    found = arrow(self, args)
    if found is not None:
        node_value(found, &self.buffer, out)
        if out.tag == T_TEXT:
            out.json = False
    return 0


# --- changing ----------------------------------------------------------------------------------------------------

cdef int change(Function self, Value *args, int n, Value *out, int how) except -1:
    cdef Node node
    cdef int i
    if n % 2 == 0:
        raise OperationalError(f"{self.name}() needs an odd number of arguments")
    if args[0].tag == T_NULL:
        out.tag = T_NULL
        return 0
    node = parsed(self, &args[0])
    for i in range(1, n, 2):
        if args[i].tag != T_NULL:
            text_of(&args[i], &self.second, &args[i])
            node = edit(node, args[i].u.p, args[i].n, how, of_value(&args[i + 1]))
    return give_node(self, node, out)


cdef int f_set(Function self, Value *args, int n, Value *out) except -1:
    return change(self, args, n, out, EDIT_SET)


cdef int f_insert(Function self, Value *args, int n, Value *out) except -1:
    return change(self, args, n, out, EDIT_INSERT)


cdef int f_replace(Function self, Value *args, int n, Value *out) except -1:
    return change(self, args, n, out, EDIT_REPLACE)


cdef int f_array_insert(Function self, Value *args, int n, Value *out) except -1:
    return change(self, args, n, out, EDIT_ARRAY_INSERT)


cdef int f_remove(Function self, Value *args, int n, Value *out) except -1:
    cdef Node node
    cdef int i
    for i in range(n):
        if args[i].tag == T_NULL:
            out.tag = T_NULL
            return 0
    node = parsed(self, &args[0])
    for i in range(1, n):
        text_of(&args[i], &self.second, &args[i])
        node = edit(node, args[i].u.p, args[i].n, EDIT_REMOVE, None)
        if node is None:
            out.tag = T_NULL
            return 0
    return give_node(self, node, out)


cdef int f_patch(Function self, Value *args, int n, Value *out) except -1:
    cdef Node target, other
    cdef Parser parser
    if args[0].tag == T_NULL or args[1].tag == T_NULL:
        out.tag = T_NULL
        return 0
    target = parsed(self, &args[0])
    text_of(&args[1], &self.second, &args[1])
    parser = Parser()
    other = parser.parse(args[1].u.p, args[1].n)
    if other is None:
        raise OperationalError("malformed JSON")
    return give_node(self, patch(target, other), out)


add("json", 1, 1, f_json)
add("json_array", 0, -1, f_array)
add("json_array_insert", 1, -1, f_array_insert)
add("json_array_length", 1, 2, f_array_length)
add("json_error_position", 1, 1, f_error_position)
add("json_extract", 1, -1, f_extract)
add("->", 2, 2, f_arrow)
add("->>", 2, 2, f_long_arrow)
add("json_insert", 1, -1, f_insert)
add("json_object", 0, -1, f_object)
add("json_patch", 2, 2, f_patch)
add("json_pretty", 1, 2, f_pretty)
add("json_quote", 1, 1, f_quote)
add("json_remove", 1, -1, f_remove)
add("json_replace", 1, -1, f_replace)
add("json_set", 1, -1, f_set)
add("json_type", 1, 2, f_type)
add("json_valid", 1, 2, f_valid)
add("json_group_member", 2, 2, f_member)
# Not a function that SQL can call: a part of json_group_object.
MEMBER = SCALARS.pop("json_group_member")


# --- json_each and json_tree -------------------------------------------------------------------------------------

class JsonText(str):
    """Text that is JSON, in a row of json_each or json_tree."""


EACH_COLUMNS = ("key", "value", "type", "atom", "id", "parent", "fullkey", "path", "json", "root")


cdef object shown(Node node):
    cdef Value v
    cdef Buf scratch
    buf_init(&scratch)
    try:
        node_value(node, &scratch, &v)
        value = to_python(&v)
        return JsonText(value) if node.kind >= J_ARRAY else value
    finally:
        buf_free(&scratch)


cdef str step(Node parent, object key):
    """The step of a path to an element."""
    if parent.kind == J_ARRAY:
        return f"[{key}]"
    if key and key.isascii() and key.isalnum() and key[0].isalpha():
        return f".{key}"
    return '."' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


cdef int add_row(list rows, object key, Node node, int64_t place, object parent, str fullkey, str path, tuple tail) except -1:
    value = shown(node)
    rows.append((key, value, type_name(node).decode(), None if node.kind >= J_ARRAY else value, place, parent, fullkey, path, *tail))
    return 0


cdef int add_members(list rows, Node node, int64_t content, object parent, bint deep, str fullkey, tuple tail) except -1:
    """The rows of a container's elements. content: where the container lies, its label not counted; parent: its number."""
    cdef Py_ssize_t i
    cdef Node child, label
    cdef int64_t at = content + head(node.size), mine, place
    for i in range(len(node.items)):
        child = node.items[i]
        mine = place = at
        at += head(child.size) + child.size
        key = i
        if node.kind == J_OBJECT:
            if i % 2 == 0:
                continue
            # a member is numbered by its label
            label = node.items[i - 1]
            place -= head(label.size) + label.size
            key = plain(label).decode("utf-8", "replace")
        full = fullkey + step(node, key)
        add_row(rows, key, child, place, parent, full, fullkey, tail)
        if deep and child.kind >= J_ARRAY:
            add_members(rows, child, mine, place, True, full, tail)
    return 0


cdef list walk(text, path, bint deep):
    cdef Node node, found
    cdef Parser parser = Parser()
    cdef Value v, p
    cdef Buf scratch
    cdef list keep = [], rows = []
    cdef int64_t place = 0
    if text is None or path is None:
        return rows
    if isinstance(text, (int, float)):
        buf_init(&scratch)
        from_python(text, &v, keep)
        put_value(&scratch, &v)
        text = scratch.p[:scratch.n]
        buf_free(&scratch)
    from_python(text, &v, keep)
    node = parser.parse(v.u.p, v.n)
    if node is None:
        raise OperationalError("malformed JSON")
    from_python(path if isinstance(path, (str, bytes)) else str(path), &p, keep)
    measure(node)
    found = lookup(node, p.u.p, p.n)
    if found is None:
        return rows
    root = path if isinstance(path, str) else path.decode("utf-8", "replace")
    key, above, label, place = trail(node, root)
    tail = (text if isinstance(text, str) else text.decode("utf-8", "replace"), root)
    content = place if label is None else place + label
    if found.kind < J_ARRAY or deep:
        add_row(rows, key if deep else None, found, place, None, root, above if deep else root, tail)
    if found.kind >= J_ARRAY:
        add_members(rows, found, content, place if deep else None, deep, root, tail)
    return rows


cdef object trail(Node node, str path):
    """Of the element at a path that exists: (its key, the path above it, bytes of its label or None, its place)."""
    cdef int64_t place = 0
    cdef Node label
    cdef Py_ssize_t i = 0, at
    cdef bytes part
    key, above, size = None, path, None
    steps = split_path(path)
    content = 0
    for start, text in steps:
        part = b"$" + text.encode()
        found = lookup(node, <const uint8_t *><const char *>part, len(part))
        content += head(node.size)
        for i in range(len(node.items)):
            if node.items[i] is found and (node.kind == J_ARRAY or i % 2) and is_step(node, i, part, found):
                break
            content += head((<Node>node.items[i]).size) + (<Node>node.items[i]).size
        place, size = content, None
        key = i
        if node.kind == J_OBJECT:
            label = node.items[i - 1]
            size = head(label.size) + label.size
            place = content - size
            key = plain(label).decode("utf-8", "replace")
        above = path[:start]
        node = found
    return key, above, size, place


cdef bint is_step(Node node, Py_ssize_t i, bytes part, Node found) except -1:
    """Whether element i is the one that the step names: equal values may share one node."""
    cdef Node marked = Node(J_NULL)
    cdef list items = list(node.items)
    items[i] = marked
    return lookup(Node(node.kind, b"", items), <const uint8_t *><const char *>part, len(part)) is marked


def split_path(path):
    """[(offset, step)] of a path."""
    steps, i = [], 1
    while i < len(path):
        start = i
        i += 1
        if path[start] == "." and path[i] == '"':
            i += 1
            while path[i] != '"':
                i += 2 if path[i] == "\\" else 1
            i += 1
        elif path[start] == ".":
            while i < len(path) and path[i] not in ".[":
                i += 1
        else:
            i = path.index("]", i) + 1
        steps.append((start, path[start:i]))
    return steps


def each(text=None, path="$"):
    """The rows of json_each."""
    return walk(text, path, False)


def tree(text=None, path="$"):
    """The rows of json_tree."""
    return walk(text, path, True)


TABLE_FUNCTIONS = {"json_each": each, "json_tree": tree}
