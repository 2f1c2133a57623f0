"""SQL text to tokens, and tokens to a syntax tree: the scanner, and the loop that drives the LALR(1) tables of grammar.lark.

SCANNER  One pass over the characters. It decides exactly as the terminals of grammar.lark do: what a regular expression made of
    these says, the scanner says (a test compares the two, and lark's own loop, on all texts there are). Tables of single
    characters and keywords are filled from the grammar; what is written here are the shapes of names, numbers, strings, comments.
TABLES   One row of small numbers a state, made from the dictionaries of tables.py when the state is first met: a process uses few
    of the nine hundred. In a row 0 is no action, n > 0 is "shift, go to state n - 1", n < 0 is "reduce by rule ~n".
SHAPES   Statements that differ only in literals share a plan: lift() gives the text with ? in the place of literals, and their values.
    A literal is lifted only where its being a constant means nothing to anybody: as a whole operand of a comparison or of BETWEEN, or in the list of
    IN, after WHERE and outside of nested queries; as a whole value of VALUES or SET. NULL, numbers written in unusual ways, and
    texts with parameters of their own stay as they are; so do result columns (the text names them), GROUP BY and ORDER BY (they are
    compared with result columns, or are ordinals), LIMIT, LIKE, arguments of functions, and all that defines.
LOOP     Rules that only pass one child on have the lowest numbers: they change the state and nothing else. Values on the
    stack are nodes, lists of nodes, or, for a token, its index. No text can exhaust a stack: both are on the heap.
"""
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_KIND, PyUnicode_READ, PyUnicode_Substring
from libc.stdint cimport int16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

from operator import itemgetter

from memora.errors import OperationalError, SQLSyntaxError

from . import ast
from .lexer import point_at

#: The deepest tree of expressions and queries that is taken.
MAX_DEPTH = 1000

cdef enum:
    LONGEST_WORD = 20                  # more characters than any keyword has

cdef enum:
    C_DIGIT = 1
    C_LETTER = 2                       # and _: what begins a name; so does all that is not ASCII
    C_DOLLAR = 4
    C_HEX = 8
    C_BLANK = 16

cdef unsigned char classes[128]


cdef void fill_classes() noexcept:
    cdef int c
    for c in range(128):
        classes[c] = 0
    for c in range(48, 58):
        classes[c] = C_DIGIT | C_HEX
    for c in range(26):
        classes[65 + c] = classes[97 + c] = C_LETTER | (C_HEX if c < 6 else 0)
    classes[95] = C_LETTER
    classes[36] = C_DOLLAR
    for c in (32, 9, 10, 12, 13):
        classes[c] = C_BLANK

fill_classes()


cdef struct Text:
    int kind
    const void *data
    Py_ssize_t n


cdef inline uint32_t at(const Text *t, Py_ssize_t i) noexcept:
    """The character at i; 0 behind the end."""
    return PyUnicode_READ(t.kind, <void *>t.data, i) if i < t.n else 0


cdef inline bint starts_name(uint32_t c) noexcept:
    return c >= 128 or classes[c] & C_LETTER != 0


cdef inline bint in_name(uint32_t c) noexcept:
    return c >= 128 or classes[c] & (C_LETTER | C_DIGIT | C_DOLLAR) != 0


cdef inline bint is_digit(uint32_t c) noexcept:
    return 48 <= c <= 57


cdef inline bint is_hex(uint32_t c) noexcept:
    return c < 128 and classes[c] & C_HEX != 0


cdef Py_ssize_t skip_blanks(const Text *t, Py_ssize_t i) noexcept:
    cdef uint32_t c
    while i < t.n:
        c = at(t, i)
        if c == 0xfeff or (c < 128 and classes[c] & C_BLANK):
            i += 1
        elif c == 45 and at(t, i + 1) == 45:
            while i < t.n and at(t, i) != 10:
                i += 1
        elif c == 47 and at(t, i + 1) == 42 and i + 2 < t.n:
            # the shortest comment is /**/; one that does not end runs to the end of the text
            i += 2
            while i < t.n and not (at(t, i) == 42 and at(t, i + 1) == 47):
                i += 1
            i = min(i + 2, t.n)
        else:
            break
    return i


cdef Py_ssize_t quoted_end(const Text *t, Py_ssize_t i) noexcept:
    """Behind the closing quote of what opens at i; -1 if there is none."""
    cdef uint32_t quote = at(t, i)
    i += 1
    if quote == 91:
        while i < t.n:
            if at(t, i) == 93:
                return i + 1
            i += 1
        return -1
    while i < t.n:
        if at(t, i) == quote:
            if at(t, i + 1) != quote:
                return i + 1
            i += 1
        i += 1
    return -1


cdef Py_ssize_t digits_end(const Text *t, Py_ssize_t i, bint hexadecimal) noexcept:
    """Behind a run of digits, single underscores between them; i if there is none."""
    while is_hex(at(t, i)) if hexadecimal else is_digit(at(t, i)):
        i += 1
        if at(t, i) == 95 and (is_hex(at(t, i + 1)) if hexadecimal else is_digit(at(t, i + 1))):
            i += 1
    return i


cdef Py_ssize_t number_end(const Text *t, Py_ssize_t start, bint *real) noexcept:
    """Behind a number; -1 if what begins like one is none."""
    cdef Py_ssize_t i, k
    real[0] = False
    if at(t, start) == 48 and at(t, start + 1) | 32 == 120:
        i = digits_end(t, start + 2, True)
        return -1 if i == start + 2 or in_name(at(t, i)) else i
    i = digits_end(t, start, False)
    if at(t, i) == 46:
        real[0] = True
        i = digits_end(t, i + 1, False)
    if at(t, i) | 32 == 101:
        k = i + 1
        if at(t, k) == 43 or at(t, k) == 45:
            k += 1
        if is_digit(at(t, k)):
            real[0] = True
            i = digits_end(t, k, False)
    return -1 if in_name(at(t, i)) else i


cdef Py_ssize_t no_number_end(const Text *t, Py_ssize_t i) noexcept:
    """Behind what begins like a number and is none: digits, a point, digits, and what a name has."""
    while is_digit(at(t, i)):
        i += 1
    if at(t, i) == 46:
        i += 1
        while is_digit(at(t, i)):
            i += 1
    while in_name(at(t, i)):
        i += 1
    return i


cdef Py_ssize_t blob_end(const Text *t, Py_ssize_t i, bint *good) noexcept:
    """Behind x'...'; good: whether it is a blob, pairs of hexadecimal digits and a closing quote."""
    cdef Py_ssize_t first = i + 2
    i = first
    while is_hex(at(t, i)):
        i += 1
    good[0] = at(t, i) == 39 and (i - first) & 1 == 0
    while i < t.n and at(t, i) != 39:
        i += 1
    return min(i + 1, t.n)


cdef class Scanner:
    """number: the kind of each name of a token; keywords: of each word, ~kind where its neighbours decide."""

    def __cinit__(self, dict number, dict keywords):
        cdef uint32_t size = 64, hash, at
        cdef int n, k
        cdef bytes word
        cdef Word *place
        while size < 3 * len(keywords):
            size *= 2
        self.words = <Word *>calloc(size, sizeof(Word))
        if self.words == NULL:
            raise MemoryError()
        self.mask = size - 1
        for text, kind in keywords.items():
            word = text.encode("ascii")
            n = len(word)
            if n >= LONGEST_WORD:
                raise ValueError(f"keyword {text} is too long")
            hash = 0
            for k in range(n):
                hash = hash * 31 + word[k]
            at = hash & self.mask
            while self.words[at].n:
                at = (at + 1) & self.mask
            place = &self.words[at]
            place.hash, place.n, place.kind = hash, n, kind
            memcpy(place.text, <const char *>word, n)
        self.illegal = number["ILLEGAL"]
        for k in range(128):
            self.signs[k] = self.illegal
        for sign, name in (("*", "STAR"), ("~", "TILDE"), ("(", "LPAR"), (")", "RPAR"), (",", "COMMA"), (";", "SEMICOLON"), (".", "DOT"),
                           ("+", "SIGN"), ("-", "SIGN"), ("/", "DIVIDE"), ("%", "DIVIDE"), ("&", "BITS"), ("|", "BITS"),
                           ("=", "EQ"), ("<", "RELATION"), (">", "RELATION")):
            self.signs[ord(sign)] = number[name]
        self.name, self.string, self.blob, self.integer = number["NAME"], number["STRING"], number["BLOB"], number["INTEGER"]
        self.real, self.param, self.concat, self.eq = number["FLOAT"], number["PARAM"], number["CONCAT"], number["EQ"]
        self.ne, self.bits, self.relation, self.sign = number["NE"], number["BITS"], number["RELATION"], number["SIGN"]
        self.divide, self.semicolon, self.end = number["DIVIDE"], number["SEMICOLON"], number["$END"]

    def __dealloc__(self):
        free(self.words)

    cdef int keyword(self, const char *p, int n, uint32_t hash) noexcept:
        """The kind of a word in upper case: that of a name if it is no keyword."""
        cdef uint32_t at = hash & self.mask
        cdef Word *word
        while True:
            word = &self.words[at]
            if word.n == 0:
                return self.name
            if word.hash == hash and word.n == n and memcmp(word.text, p, n) == 0:
                return word.kind
            at = (at + 1) & self.mask

    cpdef tuple scan(self, str sql):
        """(kinds, starts, ends) of all tokens, then of a semicolon of no length where none ends the text, and of $END.

        A keyword that is one only in some places has ~kind."""
        cdef Text t
        cdef Py_ssize_t i = 0, start, k
        cdef uint32_t c, d
        cdef int kind, n
        cdef uint32_t hash
        cdef bint flag
        cdef char word[LONGEST_WORD]
        cdef list kinds = [], starts = [], ends = []
        t.kind = PyUnicode_KIND(sql)
        t.data = PyUnicode_DATA(sql)
        t.n = len(sql)
        while True:
            i = skip_blanks(&t, i)
            if i >= t.n:
                break
            start = i
            c = at(&t, i)
            d = at(&t, i + 1)
            if starts_name(c):
                if d == 39 and c | 32 == 120:
                    i = blob_end(&t, i, &flag)
                    kind = self.blob if flag else self.illegal
                else:
                    n = 0
                    hash = 0
                    while in_name(c):
                        if n < LONGEST_WORD:
                            if 97 <= c <= 122:
                                c -= 32
                            word[n] = <char>c if c < 128 else 0
                            hash = hash * 31 + c
                            n += 1
                        i += 1
                        c = at(&t, i)
                    kind = self.keyword(word, n, hash) if n < LONGEST_WORD else self.name
            elif is_digit(c) or (c == 46 and is_digit(d)):
                i = number_end(&t, start, &flag)
                kind = self.real if flag else self.integer
                if i < 0:
                    i = no_number_end(&t, start)
                    kind = self.illegal
            elif c == 39 or c == 34 or c == 96 or c == 91:
                i = quoted_end(&t, start)
                kind = self.string if c == 39 else self.name
                if i < 0:
                    i = t.n
                    kind = self.illegal
            elif c == 63:
                i += 1
                while is_digit(at(&t, i)):
                    i += 1
                kind = self.param
            elif c == 58 or c == 64 or c == 36:
                i += 1
                while in_name(at(&t, i)):
                    i += 1
                kind = self.param if i > start + 1 else self.illegal
            else:
                kind = self.signs[c]
                i += 1
                if c == 45 and d == 62:
                    i += 2 if at(&t, i + 1) == 62 else 1
                    kind = self.concat
                elif c == 124 and d == 124:
                    i += 1
                    kind = self.concat
                elif c == 33 and d == 61 or c == 60 and d == 62:
                    i += 1
                    kind = self.ne
                elif (c == 60 or c == 62) and d == c:
                    i += 1
                    kind = self.bits
                elif (c == 60 or c == 62 or c == 61) and d == 61:
                    i += 1
            kinds.append(kind)
            starts.append(start)
            ends.append(i)
        kinds.append(self.semicolon)
        starts.append(t.n)
        ends.append(t.n)
        kinds.append(self.end)
        starts.append(t.n)
        ends.append(t.n)
        return kinds, starts, ends


cdef enum:
    R_OTHER, R_STOP, R_SELECT, R_CHANGE, R_WHERE, R_SET, R_VALUES, R_COMPARE, R_SIGN, R_BETWEEN, R_AND, R_IN, R_OPEN, R_CLOSE, R_COMMA, R_OR
    R_END, R_NUMBER, R_STRING, R_REFUSE

cdef enum:
    MOST_LIFTED = 64                   # literals of one text

ROLES = {
    "SELECT": R_SELECT, "INSERT": R_CHANGE, "UPDATE": R_CHANGE, "DELETE": R_CHANGE, "REPLACE": R_CHANGE, "WHERE": R_WHERE, "SET": R_SET,
    "VALUES": R_VALUES, "EQ": R_COMPARE, "NE": R_COMPARE, "RELATION": R_COMPARE, "SIGN": R_SIGN, "BETWEEN": R_BETWEEN, "AND": R_AND, "IN": R_IN,
    "LPAR": R_OPEN, "RPAR": R_CLOSE, "COMMA": R_COMMA, "OR": R_OR, "SEMICOLON": R_END, "$END": R_END, "INTEGER": R_NUMBER, "FLOAT": R_NUMBER,
    "STRING": R_STRING, "PARAM": R_REFUSE, "ILLEGAL": R_REFUSE, "GROUP": R_STOP, "ORDER": R_STOP, "LIMIT": R_STOP, "HAVING": R_STOP,
    "WINDOW": R_STOP, "RETURNING": R_STOP, "ON": R_STOP, "UNION": R_STOP, "INTERSECT": R_STOP, "EXCEPT": R_STOP, "CASE": R_STOP,
    # the WHERE of a conflict's target is compared with that of a partial index
    "CONFLICT": R_REFUSE,
}


cdef class Tables:
    """The grammar as the loop wants it: the numbers of tables.py, the functions of `actions` that they name, the lexer."""

    def __init__(self, dict found, actions, lexer):
        cdef Rule *rule
        cdef int i
        self.lexer = lexer
        self.scanner = Scanner(lexer.number, lexer.keywords)
        self.shifts, self.gotos = found["shifts"], found["gotos"]
        self.units, self.first, self.last = found["units"], found["start"], found["final"]
        self.states, self.kinds = len(self.shifts), len(lexer.names)
        rules = found["rules"]
        self.lefts = 1 + max(left for _, left, _, _ in rules)
        if max(self.states, len(rules)) >= 32767:
            raise ValueError("the grammar has too many states")
        self.shift_rows = <int16_t **>calloc(self.states, sizeof(int16_t *))
        self.goto_rows = <int16_t **>calloc(self.states, sizeof(int16_t *))
        self.rules = <Rule *>calloc(len(rules), sizeof(Rule))
        self.roles = <signed char *>calloc(self.kinds, 1)
        if not (self.shift_rows and self.goto_rows and self.rules and self.roles):
            raise MemoryError()
        for name, role in ROLES.items():
            self.roles[<int>lexer.number[name]] = role
        self.actions, self.takes = [], []
        for i, (length, left, action, kept) in enumerate(rules):
            rule = &self.rules[i]
            rule.length, rule.left, rule.kept = length, left, len(kept)
            rule.first = kept[0] if kept else 0
            self.actions.append(getattr(actions, action) if action else None)
            self.takes.append(itemgetter(*kept) if len(kept) > 1 else None)

    def __dealloc__(self):
        cdef int i
        for i in range(self.states):
            if self.shift_rows != NULL:
                free(self.shift_rows[i])
            if self.goto_rows != NULL:
                free(self.goto_rows[i])
        free(self.shift_rows)
        free(self.goto_rows)
        free(self.rules)
        free(self.roles)

    cdef int role(self, list kinds, Py_ssize_t i) except -1:
        cdef int kind = kinds[i]
        return self.roles[kind if kind >= 0 else ~kind]

    cpdef tuple lift(self, str sql):
        """(text with ? for literals, their values); None where none may be lifted."""
        cdef list kinds, starts, ends, pieces, values
        cdef Py_ssize_t i, n, start, end, last = 0
        cdef int role, before = R_OTHER, earlier = R_OTHER, after, depth = 0, region = R_OTHER, listed = 0
        cdef bint between = False
        cdef str text
        kinds, starts, ends = self.scanner.scan(sql)
        role = self.role(kinds, 0)
        if role != R_SELECT and role != R_CHANGE:
            return None
        pieces, values = [], []
        n = len(kinds)
        for i in range(n):
            # before: the role of the token before this one, a sign that begins an operand passed over; earlier: of the one before that
            role = self.role(kinds, i)
            if role == R_REFUSE or role == R_END and i < n - 2 and self.role(kinds, i + 1) != R_END:
                return None
            if role == R_STOP or (role == R_SELECT and i):
                region = R_OTHER
                listed = 0
            elif role == R_WHERE or role == R_SET or role == R_VALUES:
                if depth and role != R_VALUES:
                    region = R_OTHER            # of a nested query
                else:
                    region = role
            elif role == R_OPEN:
                depth += 1
                if before == R_IN and region == R_WHERE:
                    listed = depth
            elif role == R_CLOSE:
                if listed == depth:
                    listed = 0
                depth -= 1
            elif role == R_BETWEEN:
                between = True
            elif (role == R_NUMBER or role == R_STRING) and region != R_OTHER:
                after = self.role(kinds, i + 1)
                if region == R_VALUES:
                    if not (depth == 1 and (before == R_OPEN or before == R_COMMA) and (after == R_COMMA or after == R_CLOSE)):
                        after = R_OTHER
                elif region == R_SET:
                    if not (depth == 0 and before == R_COMPARE and (after == R_COMMA or after == R_WHERE or after == R_END)):
                        after = R_OTHER
                elif listed:
                    if not (listed == depth and (before == R_OPEN or before == R_COMMA) and (after == R_COMMA or after == R_CLOSE)):
                        after = R_OTHER
                elif before == R_AND and between and earlier == R_NUMBER | 64:
                    between = False
                elif not (before == R_COMPARE or before == R_BETWEEN):
                    after = R_OTHER
                if after == R_AND or after == R_OR or after == R_CLOSE or after == R_END or after == R_STOP or after == R_COMMA or (
                        after == R_WHERE):
                    start, end = starts[i], ends[i]
                    text = PyUnicode_Substring(sql, start, end)
                    if role == R_STRING:
                        value = text[1:end - start - 1].replace("''", "'")
                    elif "_" in text or "x" in text or "X" in text or end - start > 18:
                        return None
                    else:
                        value = int(text) if text.isdigit() else float(text)
                    if len(values) == MOST_LIFTED:
                        return None
                    values.append(value)
                    pieces.append(PyUnicode_Substring(sql, last, start))
                    last = end
                    if before == R_BETWEEN:
                        earlier = R_OTHER
                        before = R_NUMBER | 64          # the lower end of a BETWEEN
                        continue
            if role == R_SIGN and (before == R_COMPARE or before == R_BETWEEN or before == R_OPEN or before == R_COMMA or before == R_AND):
                continue
            earlier = before
            before = role
        if not values:
            return None
        pieces.append(PyUnicode_Substring(sql, last, len(sql)))
        return "?".join(pieces), tuple(values)

    cdef int16_t *shift_row(self, int state) except NULL:
        cdef int16_t *row = <int16_t *>calloc(self.kinds, sizeof(int16_t))
        cdef int kind, action
        if row == NULL:
            raise MemoryError()
        for kind, action in self.shifts[state].items():
            row[kind] = action + 1 if action >= 0 else action
        self.shift_rows[state] = row
        return row

    cdef int16_t *goto_row(self, int state) except NULL:
        cdef int16_t *row = <int16_t *>calloc(self.lefts, sizeof(int16_t))
        cdef int left, then
        if row == NULL:
            raise MemoryError()
        for left, then in self.gotos[state].items():
            row[left] = then
        self.goto_rows[state] = row
        return row


cdef class Parse:
    """One text being parsed: its tokens, and what the actions share.

    `at` is the index of the token that is looked at: the last token of a rule being reduced is `at - 1`.
    """

    def __init__(self, str sql not None, Tables tables not None):
        self.sql, self.tables = sql, tables
        self.kinds, self.starts, self.ends = tables.scanner.scan(sql)
        tables.lexer.settle(self.kinds, self.starts, self.ends)
        self.at = 0

    cpdef str text(self, Py_ssize_t index):
        """The source of one token."""
        return PyUnicode_Substring(self.sql, self.starts[index], self.ends[index])

    def fail(self, index, message):
        """A syntax error at a token."""
        return SQLSyntaxError(point_at(self.sql, self.starts[index], message))

    def skip_semicolons(self):
        """Go to the next token that is not a semicolon; False at the end of the text."""
        while self.kinds[self.at] == self.tables.scanner.semicolon:
            self.at += 1
        return self.kinds[self.at] != self.tables.scanner.end

    def statement(self):
        """Parse one statement from `at` on, with its semicolon."""
        first = self.at
        self.params, self.param_index, self.minimums = [], {}, set()
        statement = self.run()
        if self.at - first > MAX_DEPTH:
            check_depth(statement)
        if self.params:
            object.__setattr__(statement, "params", tuple(self.params))
        return statement

    cdef object run(self):
        cdef Tables tables = self.tables
        cdef list kinds = self.kinds, values = [], actions = tables.actions
        cdef Py_ssize_t at = self.at, top = 0, room = 64, n
        cdef int kind = kinds[at], action, state = tables.first
        cdef int units = tables.units, last = tables.last
        cdef int16_t *row
        cdef Rule *rule
        cdef object value, function
        cdef void *grown
        cdef int *states = <int *>malloc(room * sizeof(int))
        if states == NULL:
            raise MemoryError()
        states[0] = state
        try:
            while True:
                row = tables.shift_rows[state]
                if row == NULL:
                    row = tables.shift_row(state)
                action = row[kind]
                if action > 0:
                    action -= 1
                    if action == last:
                        self.at = at + 1
                        return values[len(values) - 1]
                    values.append(at)
                    at += 1
                    self.at = at
                    kind = kinds[at]
                    top += 1
                    if top == room:
                        room *= 2
                        grown = realloc(states, room * sizeof(int))
                        if grown == NULL:
                            raise MemoryError()
                        states = <int *>grown
                    state = states[top] = action
                    continue
                if action == 0:
                    raise self.error(at)
                action = ~action
                rule = &tables.rules[action]
                if action >= units:
                    function = actions[action]
                    n = len(values)
                    if function is None:
                        value = values[n + rule.first] if rule.kept == 1 else None
                    elif rule.kept == 0:
                        value = function(self)
                    elif rule.kept == 1:
                        value = function(self, values[n + rule.first])
                    else:
                        value = function(self, *(<object>tables.takes[action])(values))
                    if rule.length:
                        del values[n - rule.length:]
                    values.append(value)
                    top += 1 - rule.length
                    if top == room:
                        room *= 2
                        grown = realloc(states, room * sizeof(int))
                        if grown == NULL:
                            raise MemoryError()
                        states = <int *>grown
                row = tables.goto_rows[states[top - 1]]
                if row == NULL:
                    row = tables.goto_row(states[top - 1])
                state = states[top] = row[rule.left]
        finally:
            free(states)

    def error(self, at):
        """What is raised where the token at `at` may not stand."""
        kind = self.kinds[at]
        number = self.tables.lexer.number
        if kind == number["$END"] or self.starts[at] == self.ends[at]:
            return SQLSyntaxError(point_at(self.sql, len(self.sql.rstrip()), "incomplete input"))
        shown = self.text(at)
        if len(shown) > 60:
            shown = shown[:57] + "..."
        if kind == number["ILLEGAL"]:
            return self.fail(at, f'unrecognized token: "{shown}"')
        return self.fail(at, f'near "{shown}": syntax error')


def check_depth(root):
    """Raise OperationalError if expressions and queries nest deeper than MAX_DEPTH."""
    stack = [(root, 0)]
    while stack:
        node, depth = stack.pop()
        if isinstance(node, tuple):
            stack.extend([(part, depth) for part in node if isinstance(part, (ast.Node, tuple))])
            continue
        if isinstance(node, (ast.Expr, ast.Select, ast.FromItem)):
            depth += 1
            if depth > MAX_DEPTH:
                raise OperationalError(f"Expression tree is too large (maximum depth {MAX_DEPTH})")
        for name in node.__match_args__:
            part = getattr(node, name)
            if isinstance(part, (ast.Node, tuple)):
                stack.append((part, depth))
