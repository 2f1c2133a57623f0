"""Random schemas with foreign keys and triggers, and statements that set them off, in SQLite's dialect, from one random.Random.

Rows are read in the order of the rowid or the primary key everywhere (no other indexes than those of keys, NOT INDEXED), so that both
databases come to them in the same order: with triggers, the order of rows shows.
"""
ACTIONS = ["", "", "ON DELETE CASCADE", "ON DELETE SET NULL", "ON DELETE SET DEFAULT", "ON DELETE RESTRICT", "ON UPDATE CASCADE",
           "ON UPDATE SET NULL", "ON UPDATE RESTRICT", "ON DELETE CASCADE ON UPDATE CASCADE", "ON UPDATE CASCADE ON DELETE SET NULL",
           "ON DELETE NO ACTION ON UPDATE SET DEFAULT"]
ORS = ["", "", "", "OR IGNORE ", "OR REPLACE ", "OR ABORT ", "OR FAIL ", "OR ROLLBACK "]


class Rows:
    """tables: names; each has the columns k (the key), a, b, and an UNIQUE (a, b) or not."""

    def __init__(self, random, keys=True, triggers=True):
        self.random, self.keys, self.triggers = random, keys, triggers
        self.tables, self.unique, self.number = [], set(), 0
        self.deferred = random.random() < 0.4

    def value(self):
        r = self.random
        return r.choice(["NULL", "1", "2", "3", "4", "5", "'2'", "'x'", "7"]) if r.random() < 0.9 else "1.0"

    def schema(self):
        """CREATE statements."""
        r, made = self.random, ["CREATE TABLE log(what)"]
        self.tables = [f"t{i}" for i in range(r.randint(2, 4))]
        self.unique = {t for t in self.tables if r.random() < 0.4}
        # where the columns of a key differ in affinity, sqlite3 3.40 lets its look-ups change what triggers then read as OLD
        alike = r.choice(["", " INT", " TEXT"]) if self.keys and self.triggers else None
        for name in self.tables:
            kind = r.choice(["k INTEGER PRIMARY KEY", "k INTEGER PRIMARY KEY", "k PRIMARY KEY", "k INT PRIMARY KEY", "k TEXT PRIMARY KEY",
                             "k INTEGER PRIMARY KEY AUTOINCREMENT"])
            if alike is not None and (alike != " INT" or "INTEGER" not in kind):
                kind = f"k{alike} PRIMARY KEY"
            tail = " WITHOUT ROWID" if "AUTO" not in kind and r.random() < 0.2 else ""
            default = r.choice(["", "", " DEFAULT 1", " DEFAULT 3"])
            parts = [kind, f"a{r.choice(['', ' INT', ' TEXT', ' TEXT COLLATE NOCASE']) if alike is None else alike}{default}",
                     f"b{r.choice(['', ' INT']) if alike is None else alike}{r.choice(['', ' NOT NULL', ' CHECK (b <> 4)'])}"]
            if name in self.unique:
                parts.append("UNIQUE (a, b)")
            for column in ("a", "b", "a, b") if self.keys else ():
                if r.random() < 0.45:
                    parts.append(self.key(column))
            made.append(f"CREATE TABLE {name}({', '.join(parts)}){tail}")
        if self.triggers:
            made += [self.trigger() for _ in range(r.randint(1, 4))]
        return made

    def key(self, column):
        r = self.random
        if "," in column:
            parent = f"{r.choice(sorted(self.unique))}(a, b)" if self.unique else r.choice(self.tables) + "(k)"
            if not self.unique:
                column = "a"
        else:
            parent = r.choice(self.tables) + r.choice(["", "(k)"])
        return f"FOREIGN KEY ({column}) REFERENCES {parent} {r.choice(ACTIONS)}{self.later(r)}"

    def later(self, r):
        return r.choice(["", " DEFERRABLE INITIALLY DEFERRED"]) if self.deferred else ""

    def trigger(self, temporary=""):
        r = self.random
        self.number += 1
        table, event = r.choice(self.tables), r.choice(["INSERT", "UPDATE", "UPDATE OF a", "DELETE", "UPDATE OF b, k"])
        rows = {"I": ["new"], "D": ["old"]}.get(event[0], ["old", "new"])
        when = f"WHEN {self.condition(rows)} " if r.random() < 0.4 else ""
        text = " || ' ' || ".join(f"quote({row}.{c})" for row in rows for c in "kab")
        body = [f"INSERT INTO log VALUES ('{self.number} ' || {text});"]
        for _ in range(r.choice([0, 1, 1, 2])):
            body.insert(r.randint(0, len(body)), self.step(rows) + ";")
        return (f"CREATE {temporary}TRIGGER r{self.number} {r.choice(['BEFORE', 'AFTER', 'AFTER'])} {event} ON {table} {when}"
                f"BEGIN {' '.join(body)} END")

    def term(self, rows):
        r = self.random
        return f"{r.choice(rows)}.{r.choice('kab')}" if rows and r.random() < 0.6 else self.value()

    def condition(self, rows, columns=()):
        r = self.random
        # unary plus: no index is used, so both databases come to the rows in the same order
        left = f"+{r.choice(columns)}" if columns else f"{r.choice(rows)}.{r.choice('kab')}"
        return f"{left} {r.choice(['=', '=', '<', '>', '<>', 'IS'])} {self.term(rows)}"

    def step(self, rows):
        """A statement of a trigger."""
        r = self.random
        k = r.random()
        if k < 0.15:
            action = r.choice(["IGNORE", "ABORT, 'no'", "FAIL, 'failed'", "ROLLBACK, 'back'", "IGNORE"])
            return f"SELECT CASE WHEN {self.condition(rows)} THEN RAISE({action}) END"
        if k < 0.25:
            return "INSERT INTO log VALUES (changes())"
        return self.change(rows, False)

    def change(self, rows=(), outside=True):
        """An INSERT, UPDATE or DELETE; rows: OLD and NEW, if they may be named."""
        r = self.random
        table, k = r.choice(self.tables), r.random()
        by = " NOT INDEXED" if outside else ""
        if k < 0.5:
            values = ", ".join(f"({self.term(rows)}, {self.term(rows)}, {self.term(rows)})" for _ in range(r.choice([1, 1, 1, 2, 3])))
            if outside and r.random() < 0.15:
                return f"INSERT INTO {table} VALUES {values} ON CONFLICT (k) DO UPDATE SET {self.assignment(rows)}"
            head = r.choice(ORS) if r.random() < 0.7 else ""
            returning = " RETURNING k, a, b" if outside and r.random() < 0.1 else ""
            return f"INSERT {head}INTO {table} VALUES {values}{returning}"
        if k < 0.75:
            head = r.choice(ORS[:4] + ORS[5:]) if r.random() < 0.5 else ""
            return f"UPDATE {head}{table}{by} SET {self.assignment(rows)} WHERE {self.condition(rows, 'kab')}"
        where = f" WHERE {self.condition(rows, 'kab')}" if r.random() < 0.9 else ""
        return f"DELETE FROM {table}{by}{where}"

    def assignment(self, rows):
        r = self.random
        column = r.choice("kaab")
        return f"{column} = {r.choice([self.term(rows), self.term(rows), 'a', 'k', 'k + 1', 'b'])}"

    def statement(self):
        r = self.random
        k = r.random()
        if k < 0.8:
            return self.change()
        if self.deferred and r.random() < 0.1:
            return "PRAGMA defer_foreign_keys = 1"
        return r.choice(["BEGIN", "COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT s", "RELEASE s", "ROLLBACK TO s",
                         "PRAGMA recursive_triggers = 1", "PRAGMA recursive_triggers = 0", "PRAGMA foreign_key_check",
                         "SELECT changes()"])
