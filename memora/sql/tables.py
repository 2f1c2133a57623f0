"""The grammar's LALR(1) tables: compiled by lark when Memora is built, loaded from a file of ours afterwards.

lark takes most of a second for them, and a process would pay that at its first statement. So `python setup.py build_ext`
(and with it every `pip install`) writes `grammar.tables` beside this module, and a process reads it in a few
milliseconds without importing lark at all. They are plain numbers, strings, lists, tuples and dictionaries:

    terminals   (name, kind of pattern, pattern, priority), as lexer.py wants them; ignored: those to skip
    shifts      [state][token kind]  >= 0: shift and go to that state; < 0: reduce by rule ~action
    gotos       [state][nonterminal]  the state after a reduction
    rules       [rule]  length, left side, name of its action or None, which children the action takes
    units       the rules before this one only pass one child on
    start, final   the first state; the state after the semicolon that ends a statement

Two things are done to what lark gives. A keyword that is not reserved gets the action of NAME in every state that has
none for the keyword. And rules that only pass one child on are numbered first, so that parser.py tells them by their number.

FILE  `MAGIC`, the CRC-32 of the rest (4 bytes, little-endian), and the rest: marshal's version 4 of (sources, lark's version,
tables). `sources` are length and CRC-32 of each of SOURCES, the files that the tables are made from. A table that is missing, cut short,
damaged or made from other sources is not used: the grammar is compiled in the process instead. Nothing is written at run time. The
file lies in the package's directory and is trusted as the .py files beside it are, and not more: whoever can write there owns
the process anyhow. lark's version is compared by the build only, since with a good table no code of lark runs.

setup.py loads this module without the package around it, whose extensions are not built then; it must import nothing of
Memora's but lexer.py.
"""
import marshal
import zlib
from os import path

from .lexer import NONRESERVED, Lexer

MAGIC = b"memora tables 1\n"
#: What the tables depend on, beside this module.
SOURCES = ("grammar.lark", "lexer.py", "tables.py")
HERE = path.dirname(path.abspath(__file__))
#: Where the build puts the tables.
STORED = path.join(HERE, "grammar.tables")


def _read(name):
    with open(path.join(HERE, name), "rb") as file:
        return file.read()


def sources():
    """Length and CRC-32 of each of SOURCES, as they are now."""
    found = []
    for name in SOURCES:
        content = _read(name)
        found.append((len(content), zlib.crc32(content)))
    return tuple(found)


def load(stored=STORED):
    """The tables: from the file `stored` if it was made from the sources as they are now, else compiled here."""
    found = read(stored)
    return compile_grammar() if found is None else found[1]


def read(stored):
    """(lark's version, tables) from a file; None if it is missing, damaged or stale."""
    try:
        with open(stored, "rb") as file:
            content = file.read()
        now = sources()
    except OSError:
        return None
    start = len(MAGIC) + 4
    if content[:len(MAGIC)] != MAGIC or zlib.crc32(content[start:]).to_bytes(4, "little") != content[len(MAGIC):start]:
        return None
    then, version, tables = marshal.loads(content[start:])
    return (version, tables) if then == now else None


def write(stored=STORED):
    """Compile the grammar into the file `stored`, unless it is there and fits; the file is replaced whole."""
    import os

    import lark

    found = read(stored)
    if found is not None and found[0] == lark.__version__:
        return
    rest = marshal.dumps((sources(), lark.__version__, compile_grammar()), 4)
    made = f"{stored}.{os.getpid()}"
    with open(made, "wb") as file:
        file.write(MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest)
    os.replace(made, stored)


def compile_grammar():
    """The tables, made by lark from grammar.lark."""
    from lark import Lark
    from lark.lexer import Lexer as LarkLexer

    class Unused(LarkLexer):
        """lark must not build a lexer of its own."""

        def __init__(self, conf):
            pass

        def lex(self, lexer_state, parser_state):
            raise AssertionError("lark's loop is not used")

    grammar = _read("grammar.lark").decode()
    compiled = Lark(grammar, parser="lalr", lexer=Unused, maybe_placeholders=False)
    table = compiled.parse_interactive("").parser_state.parse_conf.parse_table
    terminals = [(t.name, t.pattern.type, t.pattern.value, t.priority) for t in compiled.terminals]
    ignored = list(compiled.ignore_tokens)
    tables = {"terminals": terminals, "ignored": ignored}
    rule_number, left = _number_rules(compiled.rules, tables)
    _number_states(table, Lexer(terminals, ignored).number, rule_number, left, tables)
    return tables


def _number_rules(rules, tables):
    described = []
    for rule in rules:
        name = rule.alias or rule.origin.name
        kept = tuple(n - len(rule.expansion) for n, symbol in enumerate(rule.expansion)
                     if not (symbol.filter_out if symbol.is_term else symbol.name.startswith("_")))
        if rule.alias is None and len(kept) > 1 and not name.startswith("_"):
            raise AssertionError(f"grammar.lark: {rule} keeps {len(kept)} children and names no action")
        unit = rule.alias is None and len(rule.expansion) == len(kept) == 1
        described.append((not unit, rule, kept))
    described.sort(key=lambda entry: entry[0])
    left = {name: n for n, name in enumerate(dict.fromkeys(rule.origin.name for _, rule, _ in described))}
    tables["units"] = sum(1 for more, _, _ in described if not more)
    tables["rules"] = [(len(rule.expansion), left[rule.origin.name], rule.alias, kept) for _, rule, kept in described]
    return {rule: n for n, (_, rule, _) in enumerate(described)}, left


def _number_states(table, kinds, rule_number, left, tables):
    # lark numbers states as its sets happen to lie; breadth first from the start they have the same numbers every time.
    order = [table.start_states["start"]]
    place = {order[0]: 0}
    for state in order:
        for _, (action, argument) in sorted(table.states[state].items()):
            if action.name == "Shift" and argument not in place:
                place[argument] = len(order)
                order.append(argument)
    words = sorted(kinds[word] for word in NONRESERVED)
    name, semicolon, end = kinds["NAME"], kinds["SEMICOLON"], kinds["$END"]
    all_shifts, all_gotos = [], []
    final = -1
    # Many states are alike: one dictionary serves them all, here and after loading.
    same = {}
    for number, state in enumerate(order):
        shifts, gotos = {}, {}
        for symbol, (action, argument) in sorted(table.states[state].items()):
            if symbol in left:
                gotos[left[symbol]] = place[argument]
            elif action.name == "Shift":
                shifts[kinds[symbol]] = place[argument]
            else:
                shifts[kinds[symbol]] = ~rule_number[argument]
                if argument.origin.name == "start":
                    final = number
        if name in shifts:
            for word in words:
                shifts.setdefault(word, shifts[name])
        all_shifts.append(same.setdefault(tuple(sorted(shifts.items())), shifts))
        all_gotos.append(same.setdefault(tuple(sorted(gotos.items())), gotos))
    assert all_shifts[final].keys() == {end} and final in (shifts.get(semicolon) for shifts in all_shifts)
    tables.update(shifts=all_shifts, gotos=all_gotos, start=0, final=final)
