"""Runs SQLAlchemy's own suite for dialects (sqlalchemy.testing.suite) over Memora and over the standard library's sqlite3.

    python tools/sqlalchemy_suite.py

Prints how many tests pass with each, and by name those that pass with sqlite3 only; exit status 1 if there are any. Both run with the
same requirements, the ones that SQLAlchemy supposes of any dialect, without schemas: the list of what SQLite cannot do is no
part of the installed SQLAlchemy, so tests fail with both, and what is compared is which.
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOOKS = ("temp_table_keyword_args", "upsert", "stop_test_class_outside_fixtures", "post_configure_testing_engine", "create_db", "drop_db")
FILES = {
    "test_suite.py": "from sqlalchemy.testing.suite import *\n",
    "requirements_here.py": """
from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

class Requirements(SuiteRequirements):
    schemas = property(lambda self: exclusions.closed())
""",
    "setup.cfg": """
[tool:pytest]
addopts = -p no:warnings -p no:cacheprovider
[sqla_testing]
requirement_cls = requirements_here:Requirements
profile_file = profiles.txt
[db]
default = sqlite:///:memory:
""",
    "conftest.py": f"""
from sqlalchemy.dialects import registry
registry.register("memora", "memora.sqlalchemy", "MemoraDialect")
from sqlalchemy.testing.plugin.pytestplugin import *
from sqlalchemy.testing import provision
import sqlalchemy.dialects.sqlite.provision
provision.generate_driver_url.for_db("memora")(lambda url, driver, query: url)
for hook in {HOOKS!r}:
    hook = getattr(provision, hook)
    hook.for_db("memora")(hook.fns["sqlite"])
""",
}


def run(folder, url):
    """({names of tests that failed}, the summary's line) of the suite over a URL."""
    path = os.pathsep.join([str(ROOT), folder])
    found = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rfE", "--dburi", url, "test_suite.py"], cwd=folder, text=True,
                           env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    summary = found.stdout.rstrip().rpartition("\n")[2]
    if not re.search(r"\d+ passed", summary):
        sys.exit(f"{found.stdout}\nthe suite did not run over {url}")
    lines = re.findall(r"^(?:FAILED|ERROR) test_suite\.py::(\S+)", found.stdout, re.MULTILINE)
    return {re.sub(r"_sqlite\+\w+::", "::", line) for line in lines}, summary


def main():
    failed = {}
    for url in ("sqlite:///:memory:", "memora:///:memory:"):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in FILES.items():
                (Path(folder) / name).write_text(text)
            failed[url], summary = run(folder, url)
        print(f"{url:20} {summary}")
    only = sorted(failed["memora:///:memory:"] - failed["sqlite:///:memory:"])
    print(f"passed with sqlite3 and not with Memora: {len(only)}")
    for name in only:
        print("   ", name)
    return bool(only)


if __name__ == "__main__":
    sys.exit(main())
