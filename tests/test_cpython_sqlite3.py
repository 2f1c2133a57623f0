"""CPython's own tests of sqlite3 that are for what memora.dbapi has, run with the module swapped."""
import sys
import unittest

import pytest

import memora.dbapi

#: What cannot pass, and why. One that passes is to be taken out.
FAILS = {
    "test_func_too_many_args": "there is no getlimit() and setlimit()",
    "test_function_destructor_via_gc": "a connection cannot be called for a prepared statement",
}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the table is that of the tests of Python 3.11")
def test_user_functions(monkeypatch):
    theirs = pytest.importorskip("test.test_sqlite3.test_userfunctions", reason="this interpreter comes without its tests")
    monkeypatch.setattr(theirs, "sqlite", memora.dbapi)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(theirs.FunctionTests).run(result)
    assert result.testsRun > 25
    failed = {case.id().rpartition(".")[2]: text for case, text in result.failures + result.errors}
    assert sorted(failed) == sorted(FAILS), "\n".join(text for name, text in failed.items() if name not in FAILS)
