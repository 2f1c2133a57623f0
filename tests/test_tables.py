"""The stored grammar tables: what the build wrote is what lark says now, and nothing else is ever used."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memora.sql import tables

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def fresh():
    return tables.compile_grammar()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The module looking at a copy of its sources, with a stored table that fits them."""
    for name in tables.SOURCES:
        shutil.copy(Path(tables.HERE, name), tmp_path)
    shutil.copy(tables.STORED, tmp_path)
    monkeypatch.setattr(tables, "HERE", str(tmp_path))
    stored = tmp_path / "grammar.tables"
    assert tables.read(stored) is not None
    return stored


def test_build_left_tables_equal_to_a_fresh_compile(fresh):
    import lark
    version, stored = tables.read(tables.STORED)
    assert version == lark.__version__
    assert stored == fresh
    assert [type(part) for part in stored.values()] == [type(part) for part in fresh.values()]


@pytest.mark.parametrize("name", tables.SOURCES)
def test_changed_source_makes_the_table_stale(elsewhere, name):
    source = elsewhere.with_name(name)
    content = source.read_bytes()
    swapped = content.replace(b"\n", b" ", 1)
    assert len(swapped) == len(content)
    source.write_bytes(swapped)
    assert tables.read(elsewhere) is None
    source.write_bytes(content)
    assert tables.read(elsewhere) is not None


@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "flipped", "other format", "a directory"])
def test_bad_table_is_not_used(elsewhere, harm, fresh):
    content = elsewhere.read_bytes()
    if harm in ("missing", "a directory"):
        elsewhere.unlink()
    if harm == "a directory":
        elsewhere.mkdir()
    elif harm != "missing":
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        elsewhere.write_bytes({"empty": b"", "cut": content[:-1], "flipped": bytes(flipped),
                               "other format": content.replace(b"tables 1", b"tables 2", 1)}[harm])
    assert tables.read(elsewhere) is None
    assert tables.load(elsewhere) == fresh


def test_process_with_a_stale_table_compiles_and_says_nothing(tmp_path):
    """A whole package with a grammar that was changed after the build."""
    shutil.copytree(ROOT / "memora", tmp_path / "memora", ignore=shutil.ignore_patterns("__pycache__", "*.c"))
    with open(tmp_path / "memora/sql/grammar.lark", "a", encoding="utf-8") as file:
        file.write("\n// changed\n")
    before = (tmp_path / "memora/sql/grammar.tables").read_bytes()
    code = "import sys; from memora.sql.parser import parse; print(parse('SELECT 1'), 'lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert done.stdout.endswith(" True\n") and "Literal(value=1)" in done.stdout
    assert (tmp_path / "memora/sql/grammar.tables").read_bytes() == before


def test_first_statement_needs_no_lark():
    code = "import sys; from memora.sql.parser import parse; parse('SELECT 1'); sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=100).returncode == 0


def test_write_replaces_a_stale_table_only(elsewhere):
    content, found = elsewhere.read_bytes(), tables.read(elsewhere)
    tables.write(elsewhere)
    assert elsewhere.read_bytes() == content
    elsewhere.write_bytes(content[:-1])
    tables.write(elsewhere)
    assert tables.read(elsewhere) == found
    assert {path.name for path in elsewhere.parent.iterdir()} == {*tables.SOURCES, "grammar.tables"}
