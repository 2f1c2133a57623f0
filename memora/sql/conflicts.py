"""What a violated constraint or RAISE() asks for, as exceptions that the session understands."""
from ..errors import IntegrityError

#: ON CONFLICT and OR, as the writer numbers them.
ACTIONS = {None: 0, "ABORT": 1, "FAIL": 2, "IGNORE": 3, "REPLACE": 4, "ROLLBACK": 5}


class RollbackConflict(IntegrityError):
    """A violation under ON CONFLICT ROLLBACK: the session rolls the transaction back and raises it as IntegrityError."""


class FailConflict(IntegrityError):
    """A violation under ON CONFLICT FAIL: what the statement did before it stays."""


class Ignored(Exception):
    """RAISE(IGNORE): the row is left as it is, and the statement goes on with the next one. Never leaves the statement."""


def violation(message, action):
    """The exception for a violation; action: a number of ACTIONS."""
    if action == ACTIONS["ROLLBACK"]:
        return RollbackConflict(message)
    if action == ACTIONS["FAIL"]:
        return FailConflict(message)
    return IntegrityError(message)
