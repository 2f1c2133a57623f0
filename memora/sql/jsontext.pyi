class Node:
    kind: int
    text: bytes
    items: list
    size: int

class Malformed(Exception): ...

class Parser: ...

class Walk: ...

NULL_NODE: Node
TRUE_NODE: Node
FALSE_NODE: Node
