"""PRAGMA: what tools read about the schema, and the few settings that mean something here.

A pragma that SQLite does not know does nothing, as there. One that it knows and that would promise something here which is not
so raises NotSupportedError.
"""
from __future__ import annotations

from ..durations import seconds
from ..errors import NotSupportedError
from . import foreignkeys
from .catalog import SCHEMA_COLUMNS, SCHEMA_NAMES, Schema, Table, View, fold
from .types import BLOB, INTEGER, NUMERIC, REAL, TEXT

COLLATION_NAMES = ("BINARY", "NOCASE", "RTRIM")
TYPE_NAMES = {BLOB: "BLOB", TEXT: "TEXT", NUMERIC: "NUM", INTEGER: "INT", REAL: "REAL", None: ""}


SCHEMA_TYPES = dict(zip(SCHEMA_COLUMNS, ("TEXT", "TEXT", "TEXT", "INT", "TEXT")))


def _columns(environment, name):
    """(name, type, not null, default, place in the primary key) of a table's or view's columns."""
    if name is not None and fold(name) in (*SCHEMA_NAMES, "sqlite_temp_schema", "sqlite_temp_master"):
        return [(column, type_, 0, None, 0) for column, type_ in SCHEMA_TYPES.items()]
    found = environment.schema.get(name) if name is not None else None
    if isinstance(found, Table):
        return [(c.name, c.decltype or "", int(bool(c.not_null)), c.default_text, c.primary) for c in found.columns]
    if isinstance(found, View):
        from .queries import QueryBinder
        from . import ast
        binder = QueryBinder(environment)
        query = binder.select(ast.Select(ast.SelectCore((ast.ResultColumn(ast.Star()),),
                                                        source=ast.TableRef(ast.TableName(name)))), None)
        return [(n, e.decltype or TYPE_NAMES[e.affinity], 0, None, 0) for n, e in zip(query.names, query.exprs)]
    return []


def table_info(environment, name):
    rows = [(i, *column) for i, column in enumerate(_columns(environment, name))]
    table = _table(environment, name)
    if table is not None and table.generated:
        rows = [row for row in rows if not table.columns[row[0]].generated]
        rows = [(i, *row[1:]) for i, row in enumerate(rows)]
    return ("cid", "name", "type", "notnull", "dflt_value", "pk"), rows


def table_xinfo(environment, name):
    table = _table(environment, name)
    hidden = {None: 0, "virtual": 2, "stored": 3}
    rows = [(i, *column, hidden[table.columns[i].generated] if table is not None else 0)
            for i, column in enumerate(_columns(environment, name))]
    return ("cid", "name", "type", "notnull", "dflt_value", "pk", "hidden"), rows


def _table(environment, name):
    found = environment.schema.get(name) if name is not None else None
    return found if isinstance(found, Table) else None


def _primary(table):
    """The primary key of a table WITHOUT ROWID as the index that SQLite shows, with its name; or None."""
    if table is None or table.has_rowid:
        return None
    number = 1 + len({index.name for index in table.indexes if index.sql is None})
    names = {fold(index.name) for index in table.indexes}
    name = f"sqlite_autoindex_{table.name}_1"
    return table.primary_key, name if fold(name) not in names else f"sqlite_autoindex_{table.name}_{number}"


def index_list(environment, name):
    table = _table(environment, name)
    indexes = [(index, index.name) for index in reversed(table.indexes)] if table is not None else []
    primary = _primary(table)
    if primary is not None:
        indexes.append(primary)
    rows = [(i, shown, int(index.unique), index.origin, int(index.where is not None)) for i, (index, shown) in enumerate(indexes)]
    return ("seq", "name", "unique", "origin", "partial"), rows


def _index(environment, name):
    """The index of a name; the primary key of a table WITHOUT ROWID has the table's name, and that of an automatic index."""
    found = environment.schema.index(name) if name is not None else None
    if found is None and name is not None:
        table = _table(environment, name)
        if table is None and fold(name).startswith("sqlite_autoindex_"):
            table = _table(environment, name[len("sqlite_autoindex_"):].rpartition("_")[0])
        primary = _primary(table)
        if primary is not None and fold(name) in (fold(primary[1]), fold(table.name)):
            return primary[0]
    return found


def _index_columns(environment, name):
    index = _index(environment, name)
    if index is None:
        return
    table = index.table
    for n, column in enumerate(index.columns):
        number = column if isinstance(column, int) else -2
        shown = table.columns[number].name if number >= 0 else None
        yield n, number, shown, int(index.descending[n]), COLLATION_NAMES[index.collations[n]], 1
    at = len(index.columns)
    if table.has_rowid:
        yield at, -1, None, 0, "BINARY", 0
        return
    key = table.primary_key
    if index is key:
        more = [(n, 0, column.collation) for n, column in enumerate(table.columns) if n not in key.columns and column.generated != "virtual"]
    else:
        more = [(column, int(key.descending[n]), key.collations[n]) for n, column in enumerate(key.columns) if column not in index.columns]
    for number, descending, collation in more:
        yield at, number, table.columns[number].name, descending, COLLATION_NAMES[collation], 0
        at += 1


def index_info(environment, name):
    rows = [(seq, cid, shown) for seq, cid, shown, _, _, key in _index_columns(environment, name) if key]
    return ("seqno", "cid", "name"), rows


def index_xinfo(environment, name):
    return ("seqno", "cid", "name", "desc", "coll", "key"), list(_index_columns(environment, name))


def foreign_key_list(environment, name):
    table = _table(environment, name)
    rows = []
    if table is not None:
        for i, (key, columns) in enumerate(reversed(table.foreign_keys)):
            for n, column in enumerate(table.columns[table.by_name[fold(c)]].name for c in columns):
                to = key.parent_columns[n] if key.parent_columns else None
                rows.append((i, n, key.parent, column, to, key.on_update or "NO ACTION", key.on_delete or "NO ACTION",
                             key.match or "NONE"))
    return ("id", "seq", "table", "from", "to", "on_update", "on_delete", "match"), rows


def table_list(environment, name=None):
    rows = [("main", "sqlite_schema", "table", 5, 0, 0)]
    for row in environment.schema.rows.values():
        if row["kind"] in ("table", "view") and (name is None or fold(name) == fold(row["name"])):
            found = environment.schema.get(row["name"])
            table = isinstance(found, Table)
            rows.append(("main", row["name"], row["kind"], len(_columns(environment, row["name"])),
                         int(table and not found.has_rowid), int(table and found.strict)))
    return ("schema", "name", "type", "ncol", "wr", "strict"), rows


def database_list(environment, name=None):
    rows, number = [(0, "main", environment.file or "")], 1
    for part in environment.session.parts:
        if part.name == "temp":
            rows.append((1, "temp", ""))
        else:
            number += 1
            rows.append((number, part.name, part.file))
    return ("seq", "name", "file"), rows


def collation_list(environment, name=None):
    return ("seq", "name"), list(enumerate(reversed(COLLATION_NAMES)))


def function_list(environment, name=None):
    from .functions import SCALARS
    rows = [(f.name, 1, "s", "utf8", f.most if f.least == f.most else -1, 0x200000 if f.deterministic else 0)
            for f in SCALARS.values()]
    return ("name", "builtin", "type", "enc", "narg", "flags"), rows


READERS = {"table_info": table_info, "table_xinfo": table_xinfo, "index_list": index_list, "index_info": index_info,
           "index_xinfo": index_xinfo, "foreign_key_list": foreign_key_list, "table_list": table_list,
           "database_list": database_list, "collation_list": collation_list, "function_list": function_list}

# What asking tells, and the values that may be set because they change nothing that is promised here.
FIXED = {"encoding": ("UTF-8", {"utf-8", "utf8"}), "page_size": (4096, {4096}),
         "auto_vacuum": (0, {0, "none"}), "read_uncommitted": (0, {0, "off"}), "legacy_alter_table": (0, {0, "off"})}
# Settings of SQLite's files and memory that have no counterpart: they may be set to anything and nothing changes.
HINTS = {"cache_size", "cache_spill", "mmap_size", "temp_store", "threads", "automatic_index", "optimize", "shrink_memory",
         "journal_size_limit", "wal_autocheckpoint", "secure_delete", "soft_heap_limit", "hard_heap_limit", "analysis_limit",
         "busy_timeout", "locking_mode", "journal_mode", "synchronous"}


# Settings of a session that are on or off: name -> (reading, setting).
SWITCHES = {"query_only": (lambda session: session.query_only, lambda session, on: session.set_query_only(on)),
            "foreign_keys": (lambda session: session.foreign_keys, lambda session, on: session.set_foreign_keys(on)),
            "recursive_triggers": (lambda session: session.recursive_triggers, lambda session, on: session.set_recursive_triggers(on)),
            "case_sensitive_like": (None, lambda session, on: session.set_case_sensitive_like(on)),
            "defer_foreign_keys": (lambda session: session.watch.defer_all, lambda session, on: session.defer_foreign_keys(on))}


def switched(value):
    """Whether a value turns a setting on, as SQLite reads it."""
    if isinstance(value, str):
        word = value.lower()
        return word in ("on", "yes", "true") or word.isdigit() and int(word) != 0
    return bool(value)


def read(environment, name, value=None):
    """(columns, rows) of a pragma that reads, for pragma_NAME(value) in FROM."""
    name = fold(name)
    reader = READERS.get(name)
    if reader is None:
        raise NotSupportedError(f"PRAGMA {name}")
    return reader(environment, None if value is None else str(value))


def foreign_key_check(environment, node):
    """Children without their parent, of one table or of all tables of a database, the newest one first."""
    database = "main" if node.schema is None else fold(node.schema)
    whole = environment.whole
    schema = whole if isinstance(whole, Schema) else whole.named(database)
    if node.value is not None:
        found = environment.schema.get(str(node.value), None if node.schema is None else database)
        tables = [found] if isinstance(found, Table) else []
        schema = environment.schema_of(found) if tables else None
    else:
        rows = sorted(schema.rows.values(), key=lambda row: -row.get("seq", 0)) if schema is not None else ()
        tables = [schema.get(row["name"]) for row in rows if row["kind"] == "table"]
    return ("table", "rowid", "parent", "fkid"), foreignkeys.violations(environment, schema, tables)


def run(session, environment, node):
    """(columns, rows) of a PRAGMA statement; columns is None if it returns nothing."""
    name = fold(node.name)
    if name in READERS:
        return read(environment, name, node.value)
    if name in ("user_version", "application_id"):
        if node.given:
            raise NotSupportedError(f"PRAGMA {name} = {node.value}: it cannot be stored yet")
        return (name,), [(0,)]
    if name == "statement_timeout":
        control = session.control
        if node.given:
            control.timeout_s = seconds(node.value, name) or None
        return (name,), [(control.timeout_s or 0.0,)]
    if name == "schema_version":
        return (name,), [(session.schema_number(),)]
    if name in ("integrity_check", "quick_check"):
        problems = session.check()
        return (name,), [(p,) for p in problems] or [("ok",)]
    if name == "foreign_key_check":
        return foreign_key_check(environment, node)
    if name in SWITCHES:
        get, put = SWITCHES[name]
        if node.given:
            put(session, switched(node.value))
            return None, []
        return ((name,), [(int(get(session)),)]) if get is not None else (None, [])
    if name == "data_version":
        return (name,), [(session.data_version(environment.transaction),)]
    if name in FIXED:
        current, allowed = FIXED[name]
        if node.given:
            value = node.value.lower() if isinstance(node.value, str) else node.value
            if value not in allowed:
                raise NotSupportedError(f"PRAGMA {name} = {node.value}")
            return None, []
        return (name,), [(current,)] if current is not None else []
    if name in HINTS:
        handler = session.settings.get(name)
        if handler is not None:
            value = handler(node.value if node.given else None)
            return (name,), [] if value is None else [(value,)]
        return None, []
    return None, []
