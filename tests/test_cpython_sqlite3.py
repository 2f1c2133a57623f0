"""CPython's own tests of sqlite3, all modules of test.test_sqlite3 (sqlite3.test up to Python 3.10), run with memora.dbapi in its place.

Test by test they pass, or stand in FAILS with the reason. The tests differ between Pythons: names that an interpreter's tests do not
have are passed over, and where its version is not one of KNOWN, a failure that is not listed is shown and does not count.
test_cli is left out: it is about `python -m sqlite3`, and Memora's shell is `python -m memora`.
"""
import contextlib
import gc
import importlib
import os
import pathlib
import sys
import types
import unittest
import warnings

import pytest

import memora.dbapi

MODULES = ("backup", "dbapi", "dump", "factory", "hooks", "regression", "transactions", "types", "userfunctions")
#: Versions whose tests were looked through.
KNOWN = ((3, 10, 13), (3, 11, 7), (3, 12, 1), (3, 13, 0))

VIRTUAL = "virtual tables are SQLite's C interface; there is no FTS here"
LOCKS = "nobody waits for a lock that an open transaction holds: of two that conflict, the later COMMIT raises SerializationError"
DEPRECATED = "Python's module warns of what it will drop; here it stays"
CLASS = "Python 3.10 raises another class; from 3.11 on it is the one that is raised here"
PREFETCH = "Python 3.10 converts the first row in execute(), later ones when it is fetched, as here"
#: What cannot pass, and why.
FAILS = {
    "MultiprocessTests.test_ctx_mgr_rollback_if_commit_failed": "its child process is SQLite and does not know the file's format",
    "DumpTests.test_dump_virtual_tables": VIRTUAL,
    "TransactionTests.test_locking": LOCKS,
    "TransactionTests.test_raise_timeout": LOCKS,
    "ConnectionTests.test_connection_signature": "a closed connection says so also when it is called without a statement, as other tests want",
    "ConnectionTests.test_connect_positional_arguments": DEPRECATED,
    "ConnectionFactoryTests.test_connection_factory_as_positional_arg": DEPRECATED,
    "CursorTests.test_execute_named_param_and_sequence": DEPRECATED,
    "ProgressTests.test_progress_handler_keyword_args": DEPRECATED,
    "TraceCallbackTests.test_trace_keyword_args": DEPRECATED,
    "RegressionTests.test_convert_timestamp_microsecond_padding": DEPRECATED,
    "RegressionTests.test_type_map_usage": DEPRECATED,
    "DateTimeTests.test_date_time_sub_seconds": DEPRECATED,
    "DateTimeTests.test_date_time_sub_seconds_floating_point": DEPRECATED,
    "DateTimeTests.test_sql_timestamp": DEPRECATED,
    "DateTimeTests.test_sqlite_date": DEPRECATED,
    "DateTimeTests.test_sqlite_timestamp": DEPRECATED,
    "AggregateTests.test_agg_keyword_args": DEPRECATED,
    "FunctionTests.test_func_keyword_args": DEPRECATED,
    "AuthorizerTests.test_authorizer_keyword_args": DEPRECATED,
    "AuthorizerIllegalTypeTests.test_authorizer_keyword_args": DEPRECATED,
    "AuthorizerLargeIntegerTests.test_authorizer_keyword_args": DEPRECATED,
    "AuthorizerRaiseExceptionTests.test_authorizer_keyword_args": DEPRECATED,
}
#: The same for the tests of Python 3.10, which want what its module did.
FAILS_OLD = {
    "CursorTests.test_execute_non_iterable": CLASS,
    "CursorTests.test_execute_too_much_sql": CLASS,
    "ExtensionTests.test_cursor_executescript_as_bytes": CLASS,
    "CollationTests.test_create_collation_not_ascii": "names of collations need not be ASCII since Python 3.11",
    "RecursiveUseOfCursors.test_recursive_cursor_close": PREFETCH,
    "RecursiveUseOfCursors.test_recursive_cursor_init": PREFETCH,
    "RegressionTests.test_collation": CLASS,
    "RegressionTests.test_cursor_registration": "a rollback ends no cursors since Python 3.11",
    "RegressionTests.test_null_character": CLASS,
    "TransactionTests.test_rollback_cursor_consistency": "a rollback ends no cursors since Python 3.11",
    "DeclTypesTests.test_error_in_conform": CLASS,
    "DeclTypesTests.test_unsupported_dict": CLASS,
    "DeclTypesTests.test_unsupported_seq": CLASS,
    "AggregateTests.test_aggr_no_finalize": "the message names the method that is missing, as from Python 3.11 on",
    "AggregateTests.test_aggr_no_step": CLASS,
    "FunctionTests.test_func_return_too_large_int": CLASS,
    "FunctionTests.test_non_contiguous_blob": CLASS,
}
if sys.version_info < (3, 11):
    FAILS |= FAILS_OLD


@contextlib.contextmanager
def in_place_of_sqlite3():
    """Imports within get memora.dbapi for sqlite3, and fresh modules of its tests, which are forgotten at the end."""
    import sqlite3
    package = "test.test_sqlite3" if sys.version_info >= (3, 11) else "sqlite3.test"
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "sqlite3" or name.startswith(package)}
    for name in before:
        del sys.modules[name]
    if package == "sqlite3.test":
        folder = types.ModuleType(package)
        folder.__path__ = [str(pathlib.Path(sqlite3.__file__).parent / "test")]
        sys.modules[package] = folder
    sys.modules["sqlite3"] = memora.dbapi
    try:
        yield package + (".test_" if sys.version_info >= (3, 11) else ".")
    finally:
        for name in list(sys.modules):
            if name.split(".")[0] == "sqlite3" or name.startswith(package):
                del sys.modules[name]
        sys.modules.update(before)


@pytest.mark.parametrize("name", MODULES)
def test_with_the_module_swapped(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with in_place_of_sqlite3() as prefix, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs = importlib.import_module(prefix + name)
        except ModuleNotFoundError as error:
            if not f"{prefix}{name}".startswith(error.name or "-") and error.name != "_testcapi":
                raise
            pytest.skip("this interpreter comes without its tests")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromModule(theirs).run(result)
        gc.collect()                    # connections that were left open
    assert result.testsRun > 0
    failed = {}
    for case, text in result.failures + result.errors:
        case = getattr(case, "test_case", case)         # of a subtest
        failed[".".join(case.id().split(".")[-2:])] = text
    new = "\n".join(f"{case}\n{text}" for case, text in failed.items() if case not in FAILS)
    if new and sys.version_info[:3] not in KNOWN:
        pytest.xfail(new)
    assert not new, new
    if os.environ.get("MEMORA_TEST_ALL") == "1" and sys.version_info[:3] in KNOWN:
        ran = {f"{type(case).__name__}.{case._testMethodName}" for case in _cases(unittest.defaultTestLoader.loadTestsFromModule(theirs))}
        stale = {case for case in FAILS if case in ran and case not in failed and FAILS[case] != DEPRECATED}
        assert not stale, f"{stale} pass now: take them from the list"


def _cases(suite):
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            yield from _cases(part)
        else:
            yield part
