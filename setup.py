"""Extensions only; every piece of metadata is in pyproject.toml."""
import os
from pathlib import Path

from setuptools import Extension, setup

DEBUG = os.environ.get("MEMORA_DEBUG") == "1"      # C asserts, no optimisation, bounds checks
TRACE = os.environ.get("MEMORA_TRACE") == "1"      # line tracing for coverage; never measure speed on it


def extensions():
    from Cython.Build import cythonize
    flags = ["-O1", "-g", "-UNDEBUG"] if DEBUG else ["-O2", "-g0", "-fno-strict-aliasing"]
    macros = [("CYTHON_TRACE_NOGIL", "1")] if TRACE else []
    found = [
        Extension(
            ".".join(path.with_suffix("").parts), [str(path)],
            extra_compile_args=[*flags, "-std=gnu11", "-Wno-unused-function"],
            define_macros=macros,
        )
        for path in sorted(Path("memora").rglob("*.pyx"))
    ]
    return cythonize(
        found,
        build_dir=None if TRACE else "build/cython",
        nthreads=2,
        compiler_directives={
            "language_level": 3, "boundscheck": DEBUG, "wraparound": False, "cdivision": True,
            "embedsignature": True, "linetrace": TRACE,
        },
    )


setup(ext_modules=extensions())
