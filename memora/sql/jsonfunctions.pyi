from memora.sql.functions import Scalar

MEMBER: Scalar
TABLE_FUNCTIONS: dict
EACH_COLUMNS: tuple

def each(text: object = None, path: object = "$") -> list: ...

def tree(text: object = None, path: object = "$") -> list: ...
