"""Triggers: what CREATE TRIGGER means, and which programs a change of a table sets off.

A trigger of a database sees the names of that database alone; a temporary one all of them. Its statements are compiled once for a
catalog and an ON CONFLICT clause, which that of the outer statement replaces in them, and are shared by all statements of a session.
"""
from __future__ import annotations

from ..errors import OperationalError
from . import ast, foreignkeys
from .catalog import Table, fold, nodes_in
from .effects import Effects

EVENTS = ("INSERT", "UPDATE", "DELETE")


def triggers_of(environment, table):
    """The triggers of a table or view, in the order in which they run: temporary ones first, else the newest first."""
    found = []
    temporary = environment.temporary()
    if temporary is not None and table.database != "temp":
        found += [t for t in temporary.triggers_on(table.name) if t.table_database == table.database]
    return found + environment.schema_of(table).triggers_on(table.name)[::-1]


def set_off(environment, table, event, columns=()):
    """Those of a table's triggers that an event fires; columns: the folded names that an UPDATE sets."""
    if not environment.fires:
        return []
    return [t for t in triggers_of(environment, table)
            if t.event == event and (event != "UPDATE" or not t.columns or not t.columns.isdisjoint(columns))]


def effects(environment, table, event, columns=None, conflict=None, fires=True):
    """The Effects of a change of a table, or None. columns: numbers of those that an UPDATE sets, of a view their names; conflict: the
    statement's OR clause; fires: False for rows that REPLACE removes, unless triggers are recursive."""
    names = () if columns is None else {fold(table.columns[c].name if isinstance(c, int) else c) for c in columns if c != -1}
    found = set_off(environment, table, event, names) if fires else []
    children, parents, taken_out = [], [], False
    if environment.session.foreign_keys and isinstance(table, Table):
        children, parents, taken_out = foreignkeys.effects(environment, table, event, columns)
    if not (found or children or parents):
        return None
    before, after = [], []
    for trigger in found:
        (after if trigger.time == "AFTER" else before).append(program(environment, trigger, table, conflict))
    return Effects(environment.session.watch, before, after, children, parents, columns or set(), taken_out and event == "UPDATE")


def program(environment, trigger, table, conflict):
    node = trigger.statement
    inside = environment if trigger.database == "temp" else environment.within(environment.schema_of(table))
    return inside.row_program(("trigger", trigger.database, fold(trigger.name)), table, node.when, node.body, conflict, trigger.event)


def attach(environment, writer, table, event, columns=None, conflict=None, upsert=False):
    """Gives a writer what its changes set off: those of the event, and of rows that REPLACE removes on the way. columns: those that an
    UPDATE sets; upsert: whether the writer updates rows, too."""
    inserting = updating = removing = None
    if environment.watches(table):
        if event == "INSERT":
            inserting = effects(environment, table, event, None, conflict)
        elif event == "UPDATE":
            updating = effects(environment, table, event, columns, conflict)
        if event == "DELETE":
            removing = effects(environment, table, event)
        else:
            removing = effects(environment, table, "DELETE", None, "REPLACE", environment.session.recursive_triggers)
        if inserting or updating or removing or upsert:
            writer.attach(environment.session.watch, inserting, updating, removing)
            return
    if environment.given is not None:
        writer.attach(environment.session.watch)


# ------------------------------------------------------------------------------------------------------------ CREATE

def check_definition(node, found):
    """OperationalError if a CREATE TRIGGER statement asks for what no trigger can do. found: the Table or View that it is on."""
    if isinstance(found, Table):
        if node.time == "INSTEAD OF":
            raise OperationalError(f"cannot create INSTEAD OF trigger on table: {found.name}")
    elif node.time != "INSTEAD OF":
        raise OperationalError(f"cannot create {node.time or 'BEFORE'} trigger on view: {found.name}")
    if any(True for _ in nodes_in((node.when, node.body), ast.Param)):
        raise OperationalError("trigger cannot use variables")
    for statement in node.body:
        if isinstance(statement, ast.Select):
            continue
        table = statement.table if isinstance(statement, ast.Insert) else statement.table.table
        if table.schema is not None:
            raise OperationalError("qualified table names are not allowed on INSERT, UPDATE, and DELETE statements within triggers")
        if statement.returning is not None:
            raise OperationalError("cannot use RETURNING in a trigger")
        reference = None if isinstance(statement, ast.Insert) else statement.table
        if reference is not None and (reference.indexed_by or reference.not_indexed):
            clause = "INDEXED BY" if reference.indexed_by else "NOT INDEXED"
            raise OperationalError(f"the {clause} clause is not allowed on UPDATE or DELETE statements within triggers")
