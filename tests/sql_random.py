"""Random schemas, rows, queries and changes in SQLite's dialect, from one random.Random."""
import re

VALUES = ["NULL", "0", "1", "-1", "2", "3", "7", "10", "1.0", "1.5", "-2.5", "0.1", "1e10", "''", "'a'", "'A'", "'ab'", "'Ab '",
          "'ab  '", "'1'", "' 2'", "'1.0'", "'2abc'", "'1e2'", "'%'", "'a_b'", "'é'", "x''", "x'61'", "x'31'", "'zz'",
          "'0x10'", "' '"]
TYPES = ["INTEGER", "INT", "TEXT", "REAL", "NUMERIC", "BLOB", "", "VARCHAR(10)", "TEXT COLLATE NOCASE",
         "DOUBLE"]
FUNCTIONS = [("abs", 1), ("coalesce", 2), ("hex", 1), ("ifnull", 2), ("instr", 2), ("length", 1), ("lower", 1), ("upper", 1),
             ("max", 2), ("min", 3), ("nullif", 2), ("quote", 1), ("replace", 3), ("round", 1), ("substr", 2), ("substr", 3),
             ("trim", 1), ("trim", 2), ("ltrim", 1), ("rtrim", 2), ("typeof", 1), ("unicode", 1), ("iif", 3), ("sign", 1),
             ("likely", 1)]
AGGREGATES = ["count", "sum", "total", "avg", "min", "max"]


#: Texts that are JSON also to sqlite3 3.40, which knows no JSON5.
DOCUMENTS = ['{"a":1,"b":[1,2.5,"x",null,true],"c":{"d":"e\\u0041\\n"}}', '[]', '[1,[2,[3]],{"a":"b"}]', '"text"', '12', 'null',
             '{"a":{"a":{"a":[0]}},"":5}', '[1.0,1e3,-0,"\\"q\\""]']
NULL_TEST = re.compile(r"IS (NOT )?NULL\)(\)| COLLATE \w+\))*$")
PATHS = ["$", "$.a", "$.b[1]", "$.b[#-1]", "$.c.d", "$[0]", "$[1][1]", "$.a.a", "$.zz", "$[9]"]


class Generator:
    """tables: name -> columns, as `schema` made them; written: those of them that are not generated; without_rowid: names;
    said: table -> [("expression" or "condition", text)] of its indexes."""

    def __init__(self, random):
        self.random, self.tables, self.written, self.without_rowid, self.said = random, {}, {}, set(), {}

    def value(self):
        return self.random.choice(VALUES)

    def schema(self, count):
        """CREATE statements of `count` tables and their indexes."""
        r, made = self.random, []
        for t in range(count):
            name, columns = f"t{t}", [f"c{i}" for i in range(r.randint(1, 4))]
            kind, parts = r.random(), []
            for i, column in enumerate(columns):
                part = f"{column} {r.choice(TYPES)}"
                if i == 0 and kind < 0.4:
                    part = f"{column} INTEGER PRIMARY KEY"
                elif i == 0 and kind < 0.6:
                    part += " PRIMARY KEY"
                elif r.random() < 0.15:
                    part += " UNIQUE"
                if r.random() < 0.1:
                    part += " DEFAULT " + self.value()
                if r.random() < 0.07:
                    part += " NOT NULL"
                parts.append(part)
            self.written[name] = list(columns)
            if r.random() < 0.25:
                # not REAL: sqlite3 gives integers for such a column where it reads it from an index
                while " FROM " in (value := self.expr([(name, columns)], 2).replace(f"{name}.", "")):
                    pass
                parts.append(f"g {r.choice([t for t in TYPES if t not in ('REAL', 'DOUBLE')])} AS ({value}) {r.choice(['', 'VIRTUAL', 'STORED'])}")
                columns = [*columns, "g"]
            # of a table WITHOUT ROWID, sqlite3 3.40 loses rows where it reads a generated column from an index with the primary key before it
            indexed = self.written[name] if 0.4 <= kind < 0.5 else columns
            if len(indexed) > 2 and r.random() < 0.2:
                parts.append(f"UNIQUE({', '.join(r.sample(indexed, 2))})")
            tail = ""
            if 0.4 <= kind < 0.5:
                tail = " WITHOUT ROWID"
                self.without_rowid.add(name)
            made.append(f"CREATE TABLE {name}({', '.join(parts)}){tail}")
            self.tables[name] = columns
            for k in range(r.randint(0, 2)):
                chosen = [c + r.choice(["", " DESC", " COLLATE NOCASE", " COLLATE BINARY"])
                          for c in r.sample(indexed, r.randint(1, len(indexed)))]
                unique = "UNIQUE " if r.random() < 0.15 else ""
                made.append(f"CREATE {unique}INDEX i{t}_{k} ON {name}({', '.join(chosen)})")
            for k in range(r.choice([0, 0, 1, 2])):
                made.append(self.special_index(f"p{t}_{k}", name, indexed))
        return made

    def special_index(self, index, table, columns):
        """CREATE INDEX over an expression, or with a condition, or both; what it says is remembered, so that queries say it, too."""
        r, scope = self.random, [(table, columns)]

        def plain(depth):
            while " FROM " in (text := self.expr(scope, depth)) or f"{table}." not in text:     # no nested query, no constant
                pass
            return text.replace(f"{table}.", "")
        key, where = r.choice(columns), ""
        if r.random() < 0.5:
            key = plain(2)
            self.said.setdefault(table, []).append(("expression", key))
        if r.random() < 0.6:
            condition = r.choice([f"{r.choice(columns)} IS NOT NULL", f"{r.choice(columns)} {r.choice(['>', '=', '<>'])} {self.value()}", plain(1)])
            self.said.setdefault(table, []).append(("condition", condition))
            where = f" WHERE {condition}"
        more = f", {r.choice(columns)}" if r.random() < 0.3 else ""
        return f"CREATE INDEX {index} ON {table}(({key}){r.choice(['', ' DESC', ' COLLATE NOCASE'])}{more}){where}"

    def repeated(self, scope):
        """A condition with what an index of one of the tables says, or None."""
        r, (alias, columns) = self.random, self.random.choice(scope)
        said = [one for table, found in self.said.items() if self.tables[table] == columns for one in found]
        if not said:
            return None
        kind, text = r.choice(said)
        text = re.sub(r"\b([cg]\d*)\b(?![('])", rf"{alias}.\1", text) if "'c" not in text and "'g" not in text else text
        if kind == "condition":
            return f"({text})"
        return self.compared(f"({text})")

    def compared(self, text):
        """An expression compared with values."""
        r = self.random
        k = r.random()
        if k < 0.2:
            return f"{text} IN ({self.value()}, {self.value()})"
        if k < 0.4:
            return f"{text} BETWEEN {self.value()} AND {self.value()}"
        return f"{text} {r.choice(['=', '=', '<', '>=', 'IS'])} {self.value()}"

    def column(self, scope):
        alias, columns = self.random.choice(scope)
        return f"{alias}.{self.random.choice(columns)}"

    def expr(self, scope, depth=0):
        """An expression over [(alias, columns)]."""
        r = self.random
        k = r.random()
        if depth > 3 or k < 0.3:
            return self.column(scope) if r.random() < 0.75 else self.value()

        def e():
            return self.expr(scope, depth + 1)

        if k < 0.42:
            return f"({e()} {r.choice(['+', '-', '*', '/', '%', '||', '&', '|', '<<', '>>'])} {e()})"
        if k < 0.56:
            left, operator, right = e(), r.choice(["=", "<", ">", "<=", ">=", "<>", "IS", "IS NOT"]), e()
            # sqlite3 3.40 folds (x IS NULL) to TRUE or FALSE where x cannot be NULL, and then takes y IS (x IS NULL) for y IS FALSE,
            # which asks whether y is false, not whether it is 0
            while operator.startswith("IS") and NULL_TEST.search(right):
                right = self.column(scope)
            return f"({left} {operator} {right})"
        if k < 0.62:
            return f"({e()} {r.choice(['AND', 'OR'])} {e()})"
        if k < 0.65:
            return f"({r.choice(['NOT ', '-', '+', '~'])}{e()})"
        if k < 0.68:
            return f"({e()} {r.choice(['', 'NOT '])}BETWEEN {e()} AND {e()})"
        if k < 0.72:
            items = [self.value() if r.random() < 0.8 else e() for _ in range(r.randint(0, 4))]
            return f"({e()} {r.choice(['', 'NOT '])}IN ({', '.join(items)}))"
        if k < 0.75:
            return f"({e()} {r.choice(['LIKE', 'NOT LIKE', 'GLOB'])} {e()})"
        if k < 0.79:
            return f"({e()} IS {r.choice(['', 'NOT '])}NULL)"
        if k < 0.83:
            return r.choice([f"CASE WHEN {e()} THEN {e()} ELSE {e()} END", f"CASE {e()} WHEN {e()} THEN {e()} END"])
        if k < 0.87:
            return f"CAST({e()} AS {r.choice(['INTEGER', 'TEXT', 'REAL', 'BLOB', 'NUMERIC'])})"
        if k < 0.89:
            return f"({e()} COLLATE {r.choice(['NOCASE', 'RTRIM', 'BINARY'])})"
        if depth < 3 and r.random() < 0.05:
            return self.json(e)
        if k < 0.97 or depth > 1:
            name, count = r.choice(FUNCTIONS)
            arguments = [e() for _ in range(count)]
            if name == "quote":         # its digits beyond the seventeenth are not exact in sqlite3 3.40
                arguments = [self.value() if r.random() < 0.3 else f"CAST({arguments[0]} AS {r.choice(['TEXT', 'INTEGER', 'BLOB'])})"]
            if name == "substr":        # sqlite3 3.40 takes places and lengths modulo 2**32
                arguments[1:] = [r.choice([self.value(), f"({x} % 1000)"]) for x in arguments[1:]]
            return f"{name}({', '.join(arguments)})"
        return self.subquery(scope, depth)

    def subquery(self, scope, depth):
        r = self.random
        table = r.choice(list(self.tables))
        alias, column = f"s{depth}", r.choice(self.tables[table])
        where = self.expr([*scope, (alias, self.tables[table])], depth + 2)
        source = f"FROM {table} {alias} WHERE {where}"
        return r.choice([
            f"EXISTS (SELECT 1 {source})",
            f"({self.expr(scope, depth + 2)} IN (SELECT {alias}.{column} {source}))",
            f"(SELECT {r.choice(AGGREGATES)}({alias}.{column}) {source})",
        ])

    def sources(self):
        """(FROM clause, scope) of one to three tables."""
        r, scope, text = self.random, [], ""
        for i in range(r.choice([1, 1, 1, 2, 2, 3])):
            table, alias = r.choice(list(self.tables)), "abc"[i]
            columns = self.tables[table]
            source = table
            if r.random() < 0.1:
                where = f" WHERE {self.expr([(table, columns)], 2)}" if r.random() < 0.5 else ""
                source = f"(SELECT * FROM {table}{where})"
            scope.append((alias, columns))
            if i == 0:
                text = f"{source} {alias}"
                continue
            join = r.choice([", ", " JOIN ", " LEFT JOIN ", " CROSS JOIN "])
            text += f"{join}{source} {alias}"
            if join != ", ":
                plain = f"{self.column(scope[:-1])} = {self.column(scope[-1:])}"
                text += f" ON {self.expr(scope, 1) if r.random() < 0.3 else plain}"
        return text, scope

    def condition(self, scope):
        r = self.random
        if r.random() < 0.2 and (said := self.repeated(scope)):
            return said
        k = r.random()
        if k < 0.6:
            other = self.value() if r.random() < 0.8 else self.column(scope)
            return f"{self.column(scope)} {r.choice(['=', '=', '<', '>', '<=', '>=', '<>', 'IS'])} {other}"
        if k < 0.7:
            return f"{self.column(scope)} IN ({', '.join(self.value() for _ in range(r.randint(1, 5)))})"
        if k < 0.75:
            return f"{self.column(scope)} BETWEEN {self.value()} AND {self.value()}"
        return self.expr(scope, 1)

    def json(self, e):
        """An expression with a JSON function; blobs and infinity have no JSON, so only what cannot be one goes in.

        Not made, since sqlite3 3.40 has it otherwise than its later versions and the documentation: json_valid(NULL) (0 for NULL), json_tree
        with a path into an array (it counts from 0), and $ as the path of json_set and json_replace (the value, not its JSON).
        """
        r = self.random
        text, path, part = r.choice(DOCUMENTS), r.choice(PATHS), r.choice(PATHS[1:])
        plain = r.choice([f"typeof({e()})", f"length({e()})", f"({e()} IS NULL)", f"lower(hex({e()}))"])
        return r.choice([
            f"json_extract('{text}', '{path}')", f"('{text}' -> '{path}')", f"('{text}' ->> '{path}')",
            f"json_type('{text}', '{path}')", f"json_array_length('{text}', '{path}')", f"json_array({plain}, json('{text}'))",
            f"json_object('k', {plain}, 'l', '{text}')", f"json_set('{text}', '{part}', {plain})", f"json_quote({plain})",
            f"json_insert('{text}', '$.new', {plain})", f"json_remove('{text}', '{path}')", f"json_replace('{text}', '{part}', {plain})",
            f"json_patch('{text}', '{r.choice(DOCUMENTS)}')", f"json_valid(coalesce({e()}, 0) || '')",
            f"(SELECT group_concat(key || ':' || coalesce(atom, type), ',') FROM json_tree('{text}'))"])

    def window(self, columns):
        """What stands in OVER (...). Ties are broken by all columns, or the frame would depend on the order of the rows."""
        r = self.random
        parts = []
        if r.random() < 0.6:
            parts.append("PARTITION BY " + ", ".join(r.sample(columns, 1)))
        by_value = r.random() < 0.25
        terms = [c + r.choice(["", "", " DESC", " NULLS LAST", " DESC NULLS FIRST"]) for c in columns]
        r.shuffle(terms)
        if r.random() < 0.85 or by_value:
            parts.append("ORDER BY " + ", ".join(terms[:1] if by_value else terms))
        if r.random() < 0.7:
            unit = "RANGE" if by_value else r.choice(["ROWS", "GROUPS"]) if len(parts) and "ORDER" in parts[-1] else "GROUPS"
            bounds = ["UNBOUNDED PRECEDING", f"{r.choice(['0', '1', '2'])} PRECEDING", "CURRENT ROW", "1 FOLLOWING",
                      f"{r.choice(['1.5' if by_value else '2', '3'])} FOLLOWING", "UNBOUNDED FOLLOWING"]
            first = r.randint(0, 4)
            last = r.randint(max(first, 1), 5)
            exclude = r.choice(["", "", "", " EXCLUDE NO OTHERS", " EXCLUDE CURRENT ROW", " EXCLUDE GROUP", " EXCLUDE TIES"])
            if by_value and "CURRENT" in exclude:
                exclude = ""
            parts.append(f"{unit} BETWEEN {bounds[first]} AND {bounds[last]}{exclude}")
        return " ".join(parts), by_value or not any("ORDER" in p for p in parts)

    def windows(self):
        """A SELECT with window functions."""
        r = self.random
        text, scope = self.sources()
        columns = [f"{alias}.{c}" for alias, found in scope for c in found]
        values = []
        for _ in range(r.randint(1, 3)):
            over, tied = self.window(columns)
            x = self.expr(scope, 2)
            condition = f" FILTER (WHERE {self.condition(scope)})" if r.random() < 0.2 else ""
            # integers, so that taking values out of a sum again is exact in both; no FILTER with min and max, which sqlite3 3.40
            # gets wrong where the frame's start moves
            n = f"CAST({x} AS INTEGER) % 1000"
            calls = [f"count({x}){condition}", f"sum({n}){condition}", f"total({n}){condition}", f"avg({n}){condition}",
                     f"min({x})", f"max({x})", "rank()", "dense_rank()", "percent_rank()", "cume_dist()"]
            if not tied:
                calls += ["row_number()", f"ntile({r.randint(1, 4)})", f"lag({x})", f"lead({x}, {r.randint(0, 3)}, {self.value()})",
                          f"first_value({x})", f"last_value({x})", f"nth_value({x}, {r.randint(1, 3)})",
                          f"group_concat({n}, '-'){condition}"]
            values.append(f"{r.choice(calls)} OVER ({over})")
        return f"SELECT {', '.join(columns + values)} FROM {text}", True

    def select(self):
        """(a SELECT, whether it groups or drops repeated rows: then 1 and 1.0 may stand for each other)."""
        r = self.random
        if r.random() < 0.15:
            return self.windows()
        text, scope = self.sources()
        conditions = [self.condition(scope) for _ in range(r.choice([0, 1, 1, 2]))]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        if r.random() < 0.25:
            keys = [self.column(scope) for _ in range(r.randint(0, 2))]
            values = [f"{name}({r.choice(['', '', 'DISTINCT '])}{self.expr(scope, 2)})"
                      for name in r.sample(AGGREGATES, r.randint(1, 3))] + ["count(*)"]
            tail = f" GROUP BY {', '.join(keys)}" if keys else ""
            if keys and r.random() < 0.3:
                tail += f" HAVING {r.choice(values)} {r.choice(['>', '<', 'IS NOT'])} {self.value()}"
            return f"SELECT {', '.join(keys + values)} FROM {text}{where}{tail}", True
        columns = [self.expr(scope, 1) if r.random() < 0.5 else self.column(scope) for _ in range(r.randint(1, 3))]
        distinct = r.choice(["", "", "", "DISTINCT "])
        order = ""
        if r.random() < 0.4:
            terms = [f"{i + 1}{r.choice([' ASC', ' DESC', '', ' NULLS LAST', ' DESC NULLS FIRST'])}" for i in range(len(columns))]
            r.shuffle(terms)
            order = f" ORDER BY {', '.join(terms)}"
        return f"SELECT {distinct}{', '.join(columns)} FROM {text}{where}{order}", bool(distinct)

    def change(self):
        """An INSERT, UPDATE or DELETE; now and then, ANALYZE."""
        r = self.random
        if r.random() < 0.05:
            return "ANALYZE"
        table = r.choice(list(self.tables))
        columns = self.written[table]
        scope = [(table, self.tables[table])]
        k = r.random()
        if k < 0.6:
            rows = ", ".join(f"({', '.join(self.value() for _ in columns)})" for _ in range(r.choice([1, 1, 3])))
            return f"INSERT {r.choice(['', '', '', 'OR IGNORE ', 'OR REPLACE '])}INTO {table} VALUES {rows}"
        if k < 0.85:
            # NOT INDEXED: where keys collide, the result depends on the order of the rows, which an index would change. A table WITHOUT
            # ROWID is read by any index all the same: there, one row is changed
            one = f" AND c0 = (SELECT max(c0) FROM {table})" if table in self.without_rowid else ""
            return (f"UPDATE {r.choice(['', '', 'OR IGNORE ', 'OR REPLACE '])}{table} NOT INDEXED SET {r.choice(columns)} = "
                    f"{self.expr(scope, 2)} WHERE {self.expr(scope, 2)}{one}")
        return f"DELETE FROM {table} WHERE {self.column(scope)} {r.choice(['=', '<', '>'])} {self.value()}"
