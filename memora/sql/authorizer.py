"""What a session's authorizer is asked, after `sqlite3_set_authorizer`: when a statement is prepared, once for each thing that it would do.

Answers are SQLITE_OK, SQLITE_DENY (the statement is refused) and SQLITE_IGNORE: a column is read as NULL, a DELETE goes on; for all else it
is a refusal here. What is no answer counts as DENY, what is an unknown one as a malfunction.
"""
from __future__ import annotations

from ..codes import ACTIONS
from ..errors import NotAuthorized
from .callbacks import failed

OK, DENY, IGNORE = 0, 1, 2


class Authorizer:
    """function(action, first, second, database, trigger or view) -> an answer."""

    def __init__(self, function):
        self.function = function

    def answer(self, action, first=None, second=None, database=None, source=None):
        try:
            found = self.function(ACTIONS["SQLITE_" + action], first, second, database, source)
        except Exception as error:
            failed(error, "", self.function)
            return DENY
        if not isinstance(found, int) or not -(2**31) <= found < 2**31:
            return DENY
        if found not in (OK, DENY, IGNORE):
            raise NotAuthorized(f"authorizer malfunction: it answered {found}")
        return found

    def ask(self, action, first=None, second=None, database=None, source=None):
        """Raises NotAuthorized where the answer is not OK."""
        found = self.answer(action, first, second, database, source)
        if found != OK and not (found == IGNORE and action == "DELETE"):
            raise NotAuthorized("not authorized" if action != "FUNCTION" else f"not authorized to use function: {second}")

    def reads(self, rel, column):
        """Whether a column of a relation may be read; False: it is NULL."""
        table = rel.table
        name = "ROWID" if column < 0 and table.rowid_column < 0 else table.columns[column if column >= 0 else table.rowid_column].name
        found = self.answer("READ", table.name, name, table.database, rel.source)
        if found == DENY:
            where = "" if table.database == "main" else f"{table.database}."
            raise NotAuthorized(f"access to {where}{table.name}.{name} is prohibited")
        return found == OK

    def statement(self, node, schema):
        """Asks for a statement that is neither a query nor a change of rows."""
        kind = type(node).__name__
        about = getattr(self, "_" + kind.lower(), None)
        if about is not None:
            self.ask(*about(node, schema))

    def _createtable(self, node, schema):
        if node.temporary:
            return "CREATE_TEMP_TABLE", node.table.name, None, "temp"
        return "CREATE_TABLE", node.table.name, None, node.table.schema or "main"

    def _createindex(self, node, schema):
        table = schema.get(node.table.name)
        database = node.index.schema or getattr(table, "database", "main")
        return "CREATE_TEMP_INDEX" if database == "temp" else "CREATE_INDEX", node.index.name, node.table.name, database

    def _createview(self, node, schema):
        if node.temporary:
            return "CREATE_TEMP_VIEW", node.view.name, None, "temp"
        return "CREATE_VIEW", node.view.name, None, node.view.schema or "main"

    def _createtrigger(self, node, schema):
        return "CREATE_TRIGGER", node.trigger.name, node.table.name, node.trigger.schema or "main"

    def _drop(self, node, schema):
        found = schema.index(node.name.name) if node.kind == "INDEX" else schema.get(node.name.name)
        table = found.table if node.kind == "INDEX" and found is not None else found
        database = node.name.schema or getattr(table, "database", "main")
        temporary = "TEMP_" if database == "temp" else ""
        second = table.name if node.kind == "INDEX" and table is not None else None
        return f"DROP_{temporary}{node.kind}", node.name.name, second, database

    def _altered(self, node, schema):
        return "ALTER_TABLE", node.table.schema or "main", node.table.name

    _addcolumn = _dropcolumn = _renamecolumn = _renametable = _altered

    def _reindex(self, node, schema):
        return "REINDEX", None if node.target is None else node.target.name

    def _analyze(self, node, schema):
        return "ANALYZE", None if node.target is None else node.target.name

    def _pragma(self, node, schema):
        return "PRAGMA", node.name, str(node.value) if node.given else None, node.schema

    def _begin(self, node, schema):
        return "TRANSACTION", "BEGIN"

    def _commit(self, node, schema):
        return "TRANSACTION", "COMMIT"

    def _rollback(self, node, schema):
        return ("TRANSACTION", "ROLLBACK") if node.savepoint is None else ("SAVEPOINT", "ROLLBACK", node.savepoint)

    def _savepoint(self, node, schema):
        return "SAVEPOINT", "BEGIN", node.name

    def _release(self, node, schema):
        return "SAVEPOINT", "RELEASE", node.name

    def _attach(self, node, schema):
        return "ATTACH", getattr(node.file, "value", None)

    def _detach(self, node, schema):
        return "DETACH", getattr(node.name, "value", None) or getattr(node.name, "name", None)
