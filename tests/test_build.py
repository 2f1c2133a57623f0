"""The build and the tools: refusals in one line, module triples and their stubs, what a wheel carries, what the test run itself watches."""
import ast
import importlib
import inspect
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(ROOT.glob("memora/**/*.pyx"))


def run(*command, cwd=ROOT, **env):
    """The process with an environment of its own: PATH and what is given."""
    return subprocess.run(command, cwd=cwd, env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True, timeout=100)


# ---------------------------------------------------------------- refusals

FAKES = {
    "macos": ("sys.platform = 'darwin'; platform.machine = lambda: 'arm64'", "needs 64-bit Linux.*darwin arm64"),
    "windows": ("sys.platform = 'win32'; platform.machine = lambda: 'AMD64'", "needs 64-bit Linux.*win32 AMD64"),
    "other machine": ("platform.machine = lambda: 'riscv64'", "needs 64-bit Linux on x86-64 or aarch64.*linux riscv64"),
    "32 bits": ("sys.maxsize = 2**31 - 1", "needs 64-bit Linux.*32-bit Python"),
    "no compiler": ("os.environ['CC'] = 'no-such-cc -m64'", "needs a C compiler and 'no-such-cc' was not found"),
    "no headers": ("sysconfig.get_path = lambda *_: '/nowhere'", "needs Python.h and /nowhere/Python.h does not exist"),
}


@pytest.mark.parametrize("fake", FAKES)
def test_build_refuses_in_one_line(fake):
    import re
    code, message = FAKES[fake]
    done = run(sys.executable, "-c", f"""
import os, platform, runpy, sys, sysconfig
import setuptools
{code}
sys.argv = ["setup.py", "--version"]
runpy.run_path("setup.py", run_name="__main__")
""")
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(f"Memora {message}.*\n", done.stderr), done.stderr


def test_version_has_one_source():
    from memora._version import __version__
    done = run(sys.executable, "setup.py", "--version")
    assert done.stdout.strip().splitlines()[-1] == __version__, done.stderr
    assert __version__ not in (ROOT / "pyproject.toml").read_text()


# ---------------------------------------------------------------- triples and stubs

def names_in(body):
    return {node.name: node for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])
def test_module_is_a_triple_and_its_stub_matches(path):
    assert path.with_suffix(".pxd").exists()
    stub = names_in(ast.parse(path.with_suffix(".pyi").read_text()).body)
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module = importlib.import_module(name)
    public = {
        key for key, value in vars(module).items()
        if not key.startswith("_") and callable(value) and getattr(value, "__module__", None) == name
    }
    assert set(stub) == public
    for key, node in stub.items():
        thing = getattr(module, key)
        if isinstance(node, ast.ClassDef):
            described = {n for n in names_in(node.body) if not n.startswith("_")}
            described |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
            assert described == {n for n in vars(thing) if not n.startswith("_")}, key
        else:
            given = node.args
            wanted = [a.arg for a in (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg) if a]
            assert wanted == list(inspect.signature(thing).parameters), key


# ---------------------------------------------------------------- wheels

@pytest.mark.long
@pytest.mark.watchdog(900)
def test_wheel_carries_interfaces_and_no_sources(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv*", "build", "*.so", "*.tables", "*.c", "__pycache__", "*.egg-info"))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", tmp_path, source],
        capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    wheel, = tmp_path.glob("*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    suffixes = {Path(name).suffix for name in files if name.startswith("memora/")}
    assert suffixes <= {".py", ".pyi", ".pxd", ".so", ".typed", ".lark", ".h", ".tables"}
    assert "memora/py.typed" in files and "memora/sql/grammar.tables" in files
    for path in ROOT.glob("memora/**/*"):
        if path.suffix in (".py", ".pyi", ".pxd", ".lark", ".h"):
            assert str(path.relative_to(ROOT)) in files
    for path in MODULES:
        assert any(name.startswith(str(path.relative_to(ROOT).with_suffix("")) + ".cpython-") for name in files)


def test_nothing_is_built_for_this_processor_only():
    assert "march" not in (ROOT / "setup.py").read_text()


# ---------------------------------------------------------------- tools

@pytest.mark.parametrize("tool", ["test", "demo"])
def test_tool_says_what_is_missing(tmp_path, tool):
    """In a checkout without .venv, as a machine would show it that has no fitting Python."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\ncat > /dev/null; echo 'it is Python 3.8, and 3.10 or newer is needed'\n")
    old.chmod(0o755)
    for python, message in ((str(old), f"cannot build with {old}: it is Python 3.8"), ("no-such-python", "PYTHON=no-such-python was not found")):
        done = run("bash", "tools/" + tool, cwd=tmp_path, PYTHON=python)
        assert done.returncode == 2
        assert done.stderr.startswith(f"memora: {message}") and done.stderr.count("\n") == 1, done.stderr
    done = run("bash", "tools/" + tool, cwd=tmp_path, PYTHON=sys.executable, CC="no-such-cc")
    assert done.returncode == 2
    assert "there is no C compiler 'no-such-cc'" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / ".venv").exists()


# ---------------------------------------------------------------- the test run

@pytest.fixture
def suite(tmp_path):
    """Runs a test file of its own under our conftest; returns the finished process."""
    for name in ("conftest.py", "counters.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path)

    def run_suite(text, **env):
        (tmp_path / "test_it.py").write_text(text)
        return run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path, **env)
    return run_suite


def test_run_ends_with_the_counters(suite):
    done = suite("""
import pytest
from counters import absent, count
def test_one():
    count("kills", 1000)
    count("sql records", 3)
    absent("crash images")
    absent("SQL records", "slt/evidence")
@pytest.mark.long
def test_long():
    count("model steps", 5)
""")
    assert done.returncode == 0, done.stdout + done.stderr
    *_, kills, images, steps, records, last = done.stdout.splitlines()
    assert kills.split(":")[1].strip() == "1 000"
    assert images.split(":")[1].strip() == "not present"
    assert steps.split(":")[1].strip() == "0"
    assert records.split(":")[1].strip() == "3; not present, slt/evidence"
    assert last.startswith("1 passed, 1 deselected in")


def test_long_tests_run_on_demand(suite):
    done = suite("import pytest\n@pytest.mark.long\ndef test_long(): pass\n", MEMORA_TEST_ALL="1")
    assert "1 passed in" in done.stdout


def test_run_fails_if_something_is_left_in_shm(suite):
    name = Path(f"/dev/shm/memora-left-by-{os.getpid()}")
    try:
        done = suite(f"def test_one(): open({str(name)!r}, 'w').close()\n", MEMORA_TEST_TIDY_S="0.2")
    finally:
        name.unlink(missing_ok=True)
    assert done.returncode == 1
    assert f"left in /dev/shm ==" in done.stdout and str(name) in done.stdout


def test_watchdog_ends_a_test_that_hangs(suite):
    done = suite("import pytest, time\n@pytest.mark.watchdog(0.2)\ndef test_hangs(): time.sleep(60)\n")
    assert done.returncode == 1
    assert "Timeout" in done.stderr and "test_hangs" in done.stderr
