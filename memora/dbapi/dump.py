"""iterdump: a database as the SQL that makes it again, in the order and form of the `sqlite3` shell's .dump."""
from __future__ import annotations

from memora.errors import OperationalError


def quoted(name):
    """A name in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def dump(connection, pattern=None):
    """Yields the statements. pattern: of LIKE, for the names of what is to be in it; None is everything."""
    cursor = connection.cursor()
    cursor.row_factory = None

    def objects(kinds):
        marks = ",".join("?" * len(kinds))
        return cursor.execute(
            f"SELECT name, type, sql FROM sqlite_master WHERE sql NOT NULL AND type IN ({marks}) AND (? IS NULL OR name LIKE ?) ORDER BY "
            + ("name" if kinds == ("table",) else "rowid"), (*kinds, pattern, pattern)).fetchall()

    sequences = []
    if has_orphans(cursor):
        yield "PRAGMA foreign_keys=OFF;"
    yield "BEGIN TRANSACTION;"
    for name, _, sql in objects(("table",)):
        if name == "sqlite_sequence":
            sequences = [f"DELETE FROM {quoted(name)};", *rows(cursor, name)]
            continue
        if name == "sqlite_stat1":
            yield 'ANALYZE "sqlite_master";'
        elif name.startswith("sqlite_"):
            continue
        else:
            yield f"{sql};"
        yield from rows(cursor, name)
    for _, _, sql in objects(("index", "trigger", "view")):
        yield f"{sql};"
    yield from sequences
    yield "COMMIT;"


def has_orphans(cursor):
    """Whether rows refer to parents that are not there. Where a key fits no unique index of its parent, nobody can say: it is not asked."""
    try:
        return cursor.execute("PRAGMA foreign_key_check").fetchone() is not None
    except OperationalError as error:
        if "foreign key mismatch" in str(error):
            return False
        raise


def rows(cursor, table):
    """An INSERT for each row of a table."""
    columns = [quoted(row[1]) for row in cursor.execute(f"PRAGMA table_info({quoted(table)})").fetchall()]
    values = " || ',' || ".join(f"quote({column})" for column in columns)
    into = f"INSERT INTO {quoted(table)} VALUES(".replace("'", "''")
    for text, in cursor.execute(f"SELECT '{into}' || {values} || ');' FROM {quoted(table)}").fetchall():
        yield text
