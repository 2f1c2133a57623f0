"""README.md: each python block runs in an interpreter of its own and prints what its comments say, each command runs, each link leads somewhere."""
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import memora

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = [(TEXT.count("\n", 0, found.start()) + 1, found[1], found[2])
          for found in re.finditer(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)]
REGION = f"shm:readme-{os.getpid()}"
# Not run here: they run this very test, or take a minute, and have tests of their own (test_build.py).
TOOLS = ("tools/test", "tools/demo")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory in which the blocks run one after the other, as a reader would run them."""
    yield tmp_path_factory.mktemp("readme")
    assert REGION not in memora.regions()       # what a file left is for conftest.py to find


def run(command, place, **more):
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=100,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}, **more)


def expected(code):
    """What a block says it prints: the comment behind a print, or the comment lines below one."""
    lines, following = [], False
    for line in code.splitlines():
        behind = re.search(r"\bprint\(.*\S\s+# (.*)$", line)
        if behind:
            lines.append(behind[1])
        elif re.match(r"\s*print\(", line):
            following = True
        elif following and re.match(r"\s*# ", line):
            lines.append(line.strip()[2:])
        elif line.strip():
            following = False
    return lines


def test_every_block_is_of_a_known_kind():
    assert len(BLOCKS) >= 12
    assert {kind for _, kind, _ in BLOCKS} == {"python", "sh"}


@pytest.mark.parametrize("line, code", [(line, code) for line, kind, code in BLOCKS if kind == "python"], ids=lambda v: v if isinstance(v, int) else "")
def test_python_block_prints_what_it_says(place, line, code):
    said = expected(code)
    assert said, f"README.md:{line} promises nothing"
    done = run([sys.executable, "-c", code.replace("shm:shop", REGION)], place)
    assert (done.returncode, done.stderr) == (0, ""), f"README.md:{line}\n{done.stderr}"
    assert done.stdout.splitlines() == said


@pytest.mark.parametrize("command", [line for _, kind, code in BLOCKS if kind == "sh" for line in code.splitlines()])
def test_command_runs(place, command):
    command = command.partition("  #")[0].strip()
    if command in TOOLS:
        assert os.access(ROOT / command, os.X_OK)
        return
    for part in command.split("|"):
        assert shlex.split(part)[0] in ("memora-shell", "python", "echo"), f"the test does not know how to run {part!r}"
    command = re.sub(r"\bpython\b", shlex.quote(sys.executable), re.sub(r"\bmemora-shell\b", "python -m memora", command))
    done = run(["bash", "-euo", "pipefail", "-c", command], place)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout


def test_links_lead_somewhere():
    heads = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.*)$", TEXT, re.M)}
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 4
    for link in links:
        assert link[1:] in heads if link[0] == "#" else (ROOT / link).exists(), link


def test_files_that_the_tour_names_exist():
    tour = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`((?:engine|sql|ipc|cache|tests|docs)/[\w/]+\.(?:py|pyx|h|lark|md))`", tour)
    assert len(named) > 40
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "memora" / name).exists(), name


@pytest.mark.parametrize("text, error", [
    ("open(':memory:').backup('x')", "backup"), ("open(':memory:').signal('x')", "signal"),
    ("open(':memory:').execute('WATCH SELECT 1')", "Watch"),
])
def test_not_yet_is_still_true(text, error):
    """What the README lists as missing raises; when it exists the list must change."""
    with pytest.raises(memora.NotSupportedError, match=error):
        eval("memora." + text)  # noqa: S307


def test_defaults_of_the_readme():
    from memora import spaces
    from memora.engine import region
    assert (region.DEFAULT_RING, spaces.TOPIC_BYTES, spaces.CACHE_BYTES) == (8 << 20, 4 << 20, 64 << 20)
    assert (region.DEFAULT_SLOTS, region.DEFAULT_SNAPS) == (1024, 4096)
