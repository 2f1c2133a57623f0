"""The tests bite: each bug of mutations.py, seeded into a copy of the engine, is caught by the test that the table names."""
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mutations import MODULES, MUTATIONS, changed

ROOT = Path(__file__).resolve().parent.parent
SWITCH = """
#include <stdlib.h>
static inline int mm_mutant(int n) {
    static int on = -1;
    if (on < 0) { const char *e = getenv("MEMORA_MUTANT"); on = e ? atoi(e) : 0; }
    return on == n;
}
#endif
"""
SETUP = """
from Cython.Build import cythonize
from setuptools import Extension, setup
setup(name="mutants", packages=[], options={"build_ext": {"parallel": 2}}, ext_modules=cythonize(
    [Extension("memora.engine." + m, ["memora/engine/" + m + ".pyx"], extra_compile_args=["-O1", "-g0", "-std=gnu11", "-fno-strict-aliasing",
               "-Wno-unused-function", "-Wno-sign-compare"]) for m in %r], nthreads=2,
    compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True}))
"""


@pytest.fixture(scope="module")
def mutants(tmp_path_factory):
    """A copy of Memora with all bugs in it, off."""
    top = tmp_path_factory.mktemp("mutants")
    compiled = [f"{module}.*.so" for module in MODULES]
    shutil.copytree(ROOT / "memora", top / "memora", ignore=shutil.ignore_patterns("__pycache__", "*.c", *compiled))
    engine = top / "memora" / "engine"
    for module, text in changed({module: (engine / f"{module}.pyx").read_text() for module in MODULES}).items():
        line = "from memora.engine.layout cimport *\n"
        assert text.count(line) == 1
        (engine / f"{module}.pyx").write_text(text.replace(line, line + "from memora.engine.sync cimport mm_mutant\n"))
    header = engine / "csrc" / "sync.h"
    text = header.read_text()
    assert text.endswith("#endif\n")
    header.write_text(text[:-len("#endif\n")] + SWITCH)
    with (engine / "sync.pxd").open("a") as f:
        f.write('\ncdef extern from "csrc/sync.h" nogil:\n    int mm_mutant(int n)\n')
    (top / "setup.py").write_text(SETUP % (MODULES,))
    built = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=top, capture_output=True, text=True, timeout=900)
    assert built.returncode == 0, built.stderr[-4000:]
    (top / "tests").symlink_to(ROOT / "tests")
    return top


def run(top, tests, mutant):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--rootdir", str(top), *(f"tests/{test}" for test in tests)],
        cwd=top, env={**os.environ, "PYTHONPATH": f"{top}:{ROOT / 'tests'}", "MEMORA_TEST_ALL": "1", "MEMORA_MUTANT": str(mutant)},
        capture_output=True, text=True, timeout=600, start_new_session=True)


@pytest.mark.long
@pytest.mark.watchdog(1800)
def test_each_seeded_bug_is_caught(mutants):
    """Without a bug the same build passes the same tests; with one, the test named for it fails."""
    clean = run(mutants, sorted({m.caught_by for m in MUTATIONS}), 0)
    # the status alone would also tell of files that other runs have in /dev/shm
    assert re.fullmatch(r"\d+ passed in .*", clean.stdout.strip().splitlines()[-1]), clean.stdout[-4000:] + clean.stderr[-2000:]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda n: run(mutants, [MUTATIONS[n - 1].caught_by], n), range(1, len(MUTATIONS) + 1)))
    missed = []
    for mutation, found in zip(MUTATIONS, done):
        # 1: tests failed. A negative one: the process crashed, as an engine that follows a wild offset does. 2 would be a test that does not exist
        caught = found.returncode == 1 and re.search(r"\b(failed|error)", found.stdout) or found.returncode < 0
        print(f"{'caught' if caught else 'MISSED'}  {mutation.kind:>2}  {mutation.name}  ({mutation.caught_by}, status {found.returncode})")
        if not caught:
            missed.append(f"{mutation.name}: {found.stdout[-600:]}")
    assert missed == [], "\n".join(missed)


def test_every_kind_is_seeded():
    assert {m.kind for m in MUTATIONS} == {1, 2, 3, 4, 5, 6, 8, 9, 10}
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS)
