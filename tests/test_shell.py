"""The shell: in process with a played session, as a program behind a pipe and at a terminal."""
import csv
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from played import PlayedDatabase

from memora import dbapi, shell

ROOT = Path(__file__).parent.parent
DRIVER = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from played import PlayedDatabase
from memora import dbapi, shell
sys.exit(shell.main(sys.argv[1:], connect=lambda name, **rest: dbapi.connect(PlayedDatabase(), **rest)))
""".format(root=str(ROOT), tests=str(ROOT / "tests"))


class Session:
    """A shell in this process: `session(line, ...)` feeds lines and returns (ok, output, errors)."""

    def __init__(self, interactive=False):
        self.connection = dbapi.connect(PlayedDatabase(), isolation_level=None)
        self.shell = shell.Shell(self.connection, io.StringIO(), io.StringIO(), interactive)

    def __call__(self, *lines):
        self.shell.out, self.shell.err = io.StringIO(), io.StringIO()
        ok = True
        for line in lines:
            ok = self.shell.feed(line) and ok
        return ok, self.shell.out.getvalue(), self.shell.err.getvalue()


@pytest.fixture
def session():
    made = Session()
    made("CREATE TABLE t(a INTEGER, name TEXT);", "INSERT INTO t VALUES (1, 'one'), (20, 'zwölf'), (NULL, '表 x');")
    yield made
    made.connection.close()


def test_table(session):
    assert session("SELECT * FROM t;") == (True, (
        "   a  name\n"
        "----  -----\n"
        "   1  one\n"
        "  20  zwölf\n"
        "NULL  表 x\n"), "")
    _, out, _ = session("SELECT 'a' || char(10) || char(27) AS x, x'00ff' AS y, 1.5 AS z, NULL AS w;")
    assert out.splitlines()[2].split("  ") == [r"a\n\x1b", "x'00ff'", "1.5", "NULL"]
    assert session("SELECT a FROM t WHERE 0;")[1] == "a\n-\n"


def test_widths():
    assert shell.width("表 x") == 4 and shell.width("e\u0301") == 1 and shell.width("abc") == 3
    out = io.StringIO()
    assert shell.write_table(out, ["n"], iter([(n,) for n in range(3 * shell.SAMPLE)])) == 3 * shell.SAMPLE
    assert out.getvalue().splitlines()[2] == "  0" and out.getvalue().endswith("\n2999\n")


def test_csv_and_json(session):
    assert session(".mode csv", "SELECT a, name, x'01' AS b FROM t WHERE a = 1;") == (True, "a,name,b\n1,one,01\n", "")
    _, out, _ = session("SELECT 'a,\"b' AS \"x y\", 'c\nd' AS z, NULL AS n;")
    assert list(csv.reader(io.StringIO(out))) == [["x y", "z", "n"], ['a,"b', "c\nd", ""]]
    _, out, _ = session(".mode json", "SELECT a, name, x'01' AS b, 1e999 AS i, 2.5 AS f FROM t WHERE a < 99;")
    assert json.loads(out) == [{"a": 1, "name": "one", "b": "01", "i": float("inf"), "f": 2.5},
                               {"a": 20, "name": "zwölf", "b": "01", "i": float("inf"), "f": 2.5}]
    assert session("SELECT 1 WHERE 0;")[1] == "[]\n"
    assert session(".mode")[1] == "json\n"


def test_lines_make_statements(session):
    assert session("SELECT", " 1 AS a", "; SELECT 2 AS b;")[1] == "a\n-\n1\nb\n-\n2\n"
    assert session("SELECT ';", "' AS x;")[1].splitlines()[2] == r";\n"
    assert session("-- nothing", ";") == (True, "", "")
    session("CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1;")
    assert session.shell.prompt == shell.MORE
    session("END;")
    assert session.shell.prompt == shell.PROMPT
    session("SELECT")
    session.shell.drop()
    assert session("SELECT 3 AS c;")[1] == "c\n-\n3\n"


def test_errors(session):
    assert session("SELECT a FRM t", "WHERE;") == (False, "", 'Error: near "t": syntax error\nline 1: SELECT a FRM t\n'
                                                              "                     ^\n")
    ok, out, err = session("SELECT 1 AS a; SELECT * FROM missing; SELECT 2;")
    assert not ok and out == "a\n-\n1\n" and err.startswith("Error: no such table: missing")
    assert session("SELECT 5 AS x;")[0]


def test_commands(session):
    session("CREATE VIEW v AS SELECT 1;", "CREATE INDEX i ON t(a);", "CREATE TABLE u(a UNIQUE);")
    assert session(".tables")[1] == "t\nu\nv\n"
    assert session(".schema")[1] == ("CREATE TABLE t(a INTEGER, name TEXT);\nCREATE VIEW v AS SELECT 1;\n"
                                     "CREATE INDEX i ON t(a);\nCREATE TABLE u(a UNIQUE);\n")
    assert session(".schema T")[1] == "CREATE TABLE t(a INTEGER, name TEXT);\nCREATE INDEX i ON t(a);\n"
    assert ".schema" in session(".help")[1]
    for line, message in ((".schema x", "no such table"), (".nope", "unknown command .nope"), (".mode x", "none of table"),
                          (".timer", "on or off"), (".tables x", "too many arguments")):
        ok, out, err = session(line)
        assert not ok and not out and message in err
    assert session(".timer on", "SELECT 1 AS a;")[1].splitlines()[-1].endswith(" s")
    assert session(".timer off", "SELECT 1 AS a;")[1] == "a\n-\n1\n"
    assert not session.shell.done
    session(".quit")
    assert session.shell.done


def test_interactive_says_how_many():
    session = Session(interactive=True)
    session("CREATE TABLE t(a);")
    assert session("INSERT INTO t VALUES (1), (2);")[1] == "2 rows changed\n"
    assert session("SELECT a FROM t WHERE a = 1;")[1] == "a\n-\n1\n(1 row)\n"
    assert session("DELETE FROM t WHERE a = 1;")[1] == "1 row changed\n"
    session.connection.close()


def test_how_to_join(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "this process and its forks" in shell.how_to_join(":memory:")
    assert "memora.open('shm:orders')" in shell.how_to_join("shm:orders")
    assert f"memora.open('{tmp_path}/app.db')" in shell.how_to_join("app.db")


def test_history_file(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert shell.history_file() == tmp_path / "memora" / "history"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shell.history_file() == tmp_path / ".local" / "state" / "memora" / "history"


def run(text, *arguments, code=DRIVER):
    command = [sys.executable, "-c", code, *arguments] if code else [sys.executable, "-m", "memora", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, timeout=60, cwd=ROOT)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_pipe():
    assert run(b"CREATE TABLE t(a);\nINSERT INTO t\nVALUES (1), (2);\nSELECT a FROM t;\n.tables") == (
        0, "a\n-\n1\n2\nt\n", "")
    assert run(b"SELECT 1 AS a") == (0, "a\n-\n1\n", "")
    assert run(b"") == (0, "", "")
    code, out, err = run(b"SELECT 1 AS a;\nSELEC;\nSELECT 2;\n")
    assert (code, out) == (1, "a\n-\n1\n") and err.startswith('Error: near "SELEC": syntax error')
    assert run(b"SELECT (1")[::2] == (1, "Error: incomplete input\n  SELECT (1\n           ^\n")
    assert run(b".quit\nSELEC;") == (0, "", "")
    code, out, err = run(b"SELECT '\xff';")
    assert code == 1 and "utf-8" in err and "Traceback" not in err
    assert run(b"", "-c", "SELECT 1 AS a;", "--mode", "json") == (0, '[{"a": 1}]\n', "")


def test_reader_that_goes_away():
    text = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT i FROM n;"
    shell_ = subprocess.Popen([sys.executable, "-c", DRIVER, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert shell_.stdout.readline() == b"   i\n"
    shell_.stdout.close()
    err = shell_.stderr.read()
    shell_.stderr.close()
    assert shell_.wait(60) == 1 and err == b""


class Terminal:
    """The shell at a pseudo terminal."""

    def __init__(self, tmp_path):
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.environ.update(XDG_STATE_HOME=str(tmp_path), TERM="dumb")
            os.execv(sys.executable, [sys.executable, "-c", DRIVER])
        self.seen = ""
        self.taken = 0

    def expect(self, text, again=None):
        """Read until `text` is shown after what was expected before; what came is kept in `seen`.

        again: keys to press once more each second. (A Ctrl-C between readline's prompt and its wait for keys is seen at the next key.)
        """
        limit = time.monotonic() + 60
        while text not in self.seen[self.taken:]:
            ready, _, _ = select.select([self.file], [], [], 1 if again else max(0, limit - time.monotonic()))
            assert ready or again and time.monotonic() < limit, f"{text!r} did not come; seen: {self.seen!r}"
            if ready:
                self.seen += os.read(self.file, 4096).decode().replace("\r", "")
            else:
                self.send(again)
        self.taken = self.seen.index(text, self.taken) + len(text)

    def send(self, text):
        os.write(self.file, text.encode())

    def end(self):
        """The exit code."""
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                os.close(self.file)
                return os.waitstatus_to_exitcode(status)
            if select.select([self.file], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.file, 4096).decode()
                except OSError:
                    # The other side is closed: the process is about to end.
                    time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("the shell did not end")


def test_terminal(tmp_path):
    terminal = Terminal(tmp_path)
    terminal.expect("memora> ")
    assert "this process and its forks" in terminal.seen and ".help" in terminal.seen
    terminal.send("SELECT 6 * 7\n")
    terminal.expect("   ...> ")
    terminal.send("AS answer;\n")
    terminal.expect("(1 row)")
    terminal.expect("memora> ")
    assert "answer\n------\n    42\n" in terminal.seen
    terminal.send("SELECT broken\n")
    terminal.expect("   ...> ")
    terminal.send("\x03")
    terminal.expect("memora> ", again="\x03")
    terminal.send("SELEC 1;\n")
    terminal.expect("syntax error")
    terminal.expect("memora> ")
    terminal.send("BEGIN;\n")
    terminal.expect("memora> ")
    terminal.send("\x04")
    terminal.expect("rolled back")
    assert terminal.end() == 0
    assert "SELECT 6 * 7" in (tmp_path / "memora" / "history").read_text()


def test_real_pipe():
    script = b"CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);\nINSERT INTO t(b) VALUES ('x'), ('y');\nSELECT * FROM t ORDER BY a;\n" \
             b".tables\n.schema t\n"
    assert run(script, code=None) == (
        0, "a  b\n-  -\n1  x\n2  y\nt\nCREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);\n", "")
    code, _, err = run(b"SELECT * FROM t;", code=None)
    assert code == 1 and "no such table: t" in err and "Traceback" not in err
