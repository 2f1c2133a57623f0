from typing import Any

from memora.sql.expressions import Scratch
from memora.sql.runtime import Context, Expr

DATABASE_VERSION: str
SCALARS: dict
CASED_LIKE: Scalar

def show_error(error: BaseException, function: Any) -> None: ...
def show_tracebacks(wanted: bool) -> None: ...

class Scalar:
    deterministic: Any
    least: Any
    most: Any
    name: Any
    def __init__(self, name: str, least: int, most: int, deterministic: bool = True) -> None: ...

class Function(Scratch):
    def __init__(self, function: Scalar, context: Context, args: list, collation: int = 0) -> None: ...

class PythonFunction(Expr):
    def __init__(self, context: Context, function: Any, args: list, own: bool = False) -> None: ...
