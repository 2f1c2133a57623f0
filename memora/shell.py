"""memora-shell: SQL from a terminal or a pipe.

At a terminal it reads with editing and history, waits for the semicolon of a statement, shows rows in aligned columns and
errors with their place; Ctrl-C drops what was typed or stops what runs, Ctrl-D leaves. From a pipe it says nothing of its own
and ends at the first error with exit code 1. Lines that begin with a dot are commands of the shell: see HELP.

Rows are written as they come: the widths of a table's columns are those of its first SAMPLE rows.
"""
from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import time
import unicodedata
from itertools import chain, islice
from pathlib import Path

from . import dbapi, errors

#: Rows that are looked at before a table's widths are settled.
SAMPLE = 1000
#: Lines that the history file keeps.
HISTORY = 2000
PROMPT, MORE = "memora> ", "   ...> "

HELP = """\
.tables              the tables and views
.schema [NAME]       the SQL that made them, or one of them
.mode table|csv|json how rows are shown
.timer on|off        show how long a statement took
.help                this text
.quit                leave (so does Ctrl-D)
Everything else is SQL and ends with a semicolon. Ctrl-C drops what was typed, or stops the statement that runs."""


class ShellError(Exception):
    """A command of the shell was used wrongly."""


# ------------------------------------------------------------------------------------------------------------ output

def show(value):
    """A value as text in a table: NULL, numbers, text without control characters, x'..' for bytes."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, float):
        return repr(value)
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def width(text):
    """The columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def write_table(out, names, rows):
    """Aligned columns under a line of names; numbers to the right. Returns the number of rows."""
    sample = list(islice(rows, SAMPLE))
    shown = [[show(value) for value in row] for row in sample]
    names = [show(name) for name in names]
    widths = [max(map(width, column)) for column in zip(names, *shown)]
    right = [any(isinstance(v, (int, float)) for v in column) and all(v is None or isinstance(v, (int, float)) for v in column)
             for column in zip(*sample)] or [False] * len(names)

    def line(cells):
        padded = []
        for cell, wide, to_right in zip(cells, widths, right):
            space = " " * (wide - width(cell))
            padded.append(space + cell if to_right else cell + space)
        return "  ".join(padded).rstrip() + "\n"

    out.write(line(names))
    out.write("  ".join("-" * wide for wide in widths) + "\n")
    count = 0
    for cells in chain(shown, ([show(value) for value in row] for row in rows)):
        out.write(line(cells))
        count += 1
    return count


def write_csv(out, names, rows):
    """RFC 4180 with a header line; NULL is empty, bytes are hexadecimal. Returns the number of rows."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    count = 0
    for row in rows:
        writer.writerow([value.hex() if isinstance(value, bytes) else value for value in row])
        count += 1
    return count


def write_json(out, names, rows):
    """An array of objects, one a line; bytes are hexadecimal strings. Returns the number of rows."""
    keys = [json.dumps(name, ensure_ascii=False) for name in names]
    count = 0
    for row in rows:
        out.write((",\n " if count else "[") + "{" + ", ".join(f"{k}: {_json(v)}" for k, v in zip(keys, row)) + "}")
        count += 1
    out.write("]\n" if count else "[]\n")
    return count


def _json(value):
    if isinstance(value, bytes):
        return f'"{value.hex()}"'
    if isinstance(value, float) and math.isinf(value):
        # JSON has no word for it, but a number that every reader turns into it.
        return "1e999" if value > 0 else "-1e999"
    return json.dumps(value, ensure_ascii=False)


MODES = {"table": write_table, "csv": write_csv, "json": write_json}


def how_to_join(name):
    """One line: which region a name opens, and how another process gets there."""
    if name == ":memory:":
        return "an anonymous region: this process and its forks only, gone when it ends"
    if not name.startswith(("shm:", "sysv:")):
        name = os.path.abspath(name)
    return f"{name}; another process joins with memora.open({name!r}) or `memora-shell {name}`"


# ------------------------------------------------------------------------------------------------------------- shell

class Shell:
    """A connection, where output goes, and how rows are shown."""

    def __init__(self, connection, out, err, interactive):
        self.connection = connection
        self.out = out
        self.err = err
        self.interactive = interactive
        self.mode = "table"
        self.timer = False
        self._buffer = ""
        self.done = False

    @property
    def prompt(self):
        """What to show before the next line."""
        return MORE if self._buffer else PROMPT

    def drop(self):
        """Forget what was typed of an unfinished statement."""
        self._buffer = ""

    def feed(self, line):
        """Take one line of input; run what it completes. False after an error."""
        if not self._buffer and line.lstrip().startswith("."):
            return self._guard(self._command, line.strip())
        if not self._buffer and not line.strip():
            return True
        self._buffer += line if line.endswith("\n") else line + "\n"
        if not dbapi.complete_statement(self._buffer):
            return True
        return self.finish()

    def finish(self):
        """Run what was read, complete or not. False after an error."""
        text, self._buffer = self._buffer, ""
        return self._guard(self._run, text)

    def _guard(self, work, argument):
        try:
            work(argument)
        except (errors.Error, ShellError, OverflowError, UnicodeEncodeError) as error:
            self.out.flush()
            self.err.write(f"Error: {error}\n")
            self.err.flush()
            return False
        except KeyboardInterrupt:
            if not self.interactive:
                raise
            self.err.write("interrupted\n")
            return False
        return True

    def _run(self, text):
        from .sql.parser import iterate_script
        for _, statement in iterate_script(text):
            start = time.perf_counter()
            cursor = self.connection.execute(statement)
            if cursor.description is not None:
                count = MODES[self.mode](self.out, [entry[0] for entry in cursor.description], cursor)
                self._say(f"({count} row{'' if count == 1 else 's'})")
            elif cursor.rowcount >= 0:
                self._say(f"{cursor.rowcount} row{'' if cursor.rowcount == 1 else 's'} changed")
            cursor.close()
            if self.timer:
                self.out.write(f"{time.perf_counter() - start:.6f} s\n")
            self.out.flush()

    def _say(self, text):
        if self.interactive:
            self.out.write(text + "\n")

    def _command(self, line):
        word, *args = line.split()
        command = {".tables": self._tables, ".schema": self._schema, ".help": self._help, ".quit": self._quit, ".exit": self._quit,
                   ".mode": self._mode, ".timer": self._timer}.get(word)
        if command is None:
            raise ShellError(f"unknown command {word}; .help lists them")
        if len(args) > (word in (".schema", ".mode", ".timer")):
            raise ShellError(f"{word}: too many arguments")
        command(*args)
        self.out.flush()

    def _catalog(self):
        return self.connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()

    def _tables(self):
        for name in sorted(name for kind, name, _, _ in self._catalog() if kind not in ("index", "trigger")):
            self.out.write(show(name) + "\n")

    def _schema(self, wanted=None):
        found = False
        for _, name, table, sql in self._catalog():
            if wanted is None or wanted.lower() in (name.lower(), table.lower()):
                found = True
                # What the engine made by itself, for UNIQUE, has no SQL.
                if sql:
                    self.out.write(sql + ";\n")
        if wanted is not None and not found:
            raise ShellError(f"no such table, view, index or trigger: {wanted}")

    def _help(self):
        self.out.write(HELP + "\n")

    def _quit(self):
        self.done = True

    def _mode(self, mode=None):
        if mode is None:
            self.out.write(self.mode + "\n")
        elif mode in MODES:
            self.mode = mode
        else:
            raise ShellError(f".mode: {mode} is none of {', '.join(MODES)}")

    def _timer(self, state=None):
        if state not in ("on", "off"):
            raise ShellError(".timer: on or off")
        self.timer = state == "on"


def history_file():
    """Where the history of typed lines is kept: in the XDG state directory."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "memora" / "history"


def _load_history(err):
    """Turn on line editing; returns a function that saves the history."""
    try:
        import readline
    except ImportError:
        return lambda: None
    path = history_file()
    try:
        if path.exists():
            readline.read_history_file(path)
    except OSError as error:
        err.write(f"the history is not read: {error}\n")

    def save():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.set_history_length(HISTORY)
            readline.write_history_file(path)
        except OSError as error:
            err.write(f"the history is not kept: {error}\n")

    return save


def _converse(shell, name):
    from . import _version
    shell.out.write(f"Memora {_version.__version__} on {how_to_join(name)}\n.help says what can be typed\n")
    shell.out.flush()
    save = _load_history(shell.err)
    try:
        while not shell.done:
            try:
                line = input(shell.prompt)
            except KeyboardInterrupt:
                shell.out.write("\n")
                shell.drop()
            except EOFError:
                shell.out.write("\n")
                break
            else:
                shell.feed(line)
    finally:
        save()
    if shell.connection.in_transaction:
        shell.err.write("the open transaction is rolled back\n")
    return 0


def _read(shell, lines):
    try:
        for line in lines:
            if not shell.feed(line):
                return 1
            if shell.done:
                return 0
    except UnicodeDecodeError as error:
        shell.err.write(f"Error: the input is not {error.encoding}: {error.reason} at byte {error.start}\n")
        return 1
    return 0 if shell.finish() else 1


def main(argv=None, *, connect=dbapi.connect):
    """The program: returns its exit code. `connect(name, isolation_level=None)` gives the connection."""
    options = argparse.ArgumentParser(prog="memora-shell", description="Run SQL on a Memora database.")
    options.add_argument("name", nargs="?", default=":memory:", help=":memory: (default), shm:NAME, sysv:NAME or a file")
    options.add_argument("-c", "--command", metavar="SQL", help="run this instead of reading input")
    options.add_argument("-m", "--mode", choices=MODES, default="table", help="how rows are shown")
    chosen = options.parse_args(argv)
    try:
        connection = connect(chosen.name, isolation_level=None)
    except (errors.Error, OSError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    interactive = chosen.command is None and sys.stdin.isatty()
    # Bytes that are no text are an error of the input; text that the terminal cannot show must not end the output.
    sys.stdin.reconfigure(errors="strict")
    sys.stdout.reconfigure(errors="backslashreplace")
    shell = Shell(connection, sys.stdout, sys.stderr, interactive)
    shell.mode = chosen.mode
    try:
        if interactive:
            return _converse(shell, chosen.name)
        return _read(shell, sys.stdin if chosen.command is None else chosen.command.splitlines())
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Who reads our output has gone; nothing is left to say, also not by the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        connection.close()
