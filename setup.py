"""Extensions and the compiled grammar only; every piece of metadata is in pyproject.toml.

MEMORA_DEBUG=1   C asserts and bounds checks, no optimisation.
MEMORA_TRACE=1   line tracing for coverage; the C lies beside the .pyx. Never measure speed on it.
"""
import os
import platform
import shlex
import shutil
import sys
import sysconfig
import types
from pathlib import Path

from setuptools import Extension, setup

DEBUG = os.environ.get("MEMORA_DEBUG") == "1"
TRACE = os.environ.get("MEMORA_TRACE") == "1"
MODE = f"debug={DEBUG} trace={TRACE}"
LAST_MODE = Path("build/mode")


def refuse_what_cannot_work():
    """Ends with one line that says what is needed, before a compiler would say it in fifty."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ("x86_64", "aarch64") or sys.maxsize < 2**32:
        bits = 64 if sys.maxsize > 2**32 else 32
        raise SystemExit(f"Memora needs 64-bit Linux on x86-64 or aarch64; this is a {bits}-bit Python on {sys.platform} {machine}")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        raise SystemExit(f"Memora needs a C compiler and {compiler!r} was not found: install gcc (apt install gcc, dnf install gcc) or set CC")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise SystemExit(f"Memora needs Python.h and {header} does not exist: install Python's headers (apt install python3-dev, dnf install python3-devel)")


def extensions():
    from Cython.Build import cythonize
    flags = ["-O1", "-g", "-UNDEBUG"] if DEBUG else ["-O2", "-g0", "-fno-strict-aliasing"]
    found = [
        Extension(
            ".".join(path.with_suffix("").parts), [str(path)],
            extra_compile_args=[*flags, "-std=gnu11", "-Wno-unused-function", "-Wno-sign-compare"],
            define_macros=[("CYTHON_TRACE_NOGIL", "1")] if TRACE else [],
        )
        for path in sorted(Path("memora").rglob("*.pyx"))
    ]
    return cythonize(
        found,
        build_dir=None if TRACE else "build/cython",
        nthreads=2,
        force=CHANGED,
        compiler_directives={
            "language_level": 3, "boundscheck": DEBUG, "wraparound": False, "cdivision": True,
            "embedsignature": True, "linetrace": TRACE,
        },
    )


def tables_module():
    """memora.sql.tables in a package of another name: memora cannot be imported before its extensions are built."""
    package = sys.modules["memora_grammar"] = types.ModuleType("memora_grammar")
    package.__path__ = [str(Path("memora/sql").absolute())]
    import memora_grammar.tables
    return memora_grammar.tables


def build_command():
    """The command; its import comes after the refusals, since setuptools cannot be imported on all that they refuse."""
    from setuptools.command.build_ext import build_ext

    class Build(build_ext):
        """Extensions, then the grammar's tables beside memora/sql/tables.py: in place, or where the wheel is put together."""

        def tables(self):
            return Path("" if self.inplace else self.build_lib, "memora/sql/grammar.tables")

        def run(self):
            super().run()
            self.tables().parent.mkdir(parents=True, exist_ok=True)
            tables_module().write(str(self.tables()))

        def get_outputs(self):
            return [*super().get_outputs(), str(Path(self.build_lib, "memora/sql/grammar.tables"))]

    return Build


refuse_what_cannot_work()
# Time stamps alone would keep the objects of a debug build when a release build follows.
CHANGED = LAST_MODE.exists() and LAST_MODE.read_text() != MODE
built = setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": build_command()},
    options={"build_ext": {"parallel": min(4, os.cpu_count() or 1), "force": CHANGED}},
)
if built.have_run.get("build_ext"):
    LAST_MODE.parent.mkdir(exist_ok=True)
    LAST_MODE.write_text(MODE)
