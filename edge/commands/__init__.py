"""Commands: writes to devices, at most once, never late, each with one final state, all audited."""

from edge.commands.command import (
    Asked,
    Command,
    CommandWrong,
    Lease,
    Record,
    Slot,
    Source,
    State,
)
from edge.commands.commander import Commander, IdTaken, TooMany
from edge.commands.moments import Moment, Times
from edge.commands.opening import opened_commands
from edge.commands.orders import Orders
from edge.commands.store import CommandsDamaged, CommandStore, CommandsUnwritable
from edge.commands.way import CollectorWay

__all__ = [
    "Asked",
    "CollectorWay",
    "Command",
    "CommandStore",
    "CommandWrong",
    "Commander",
    "CommandsDamaged",
    "CommandsUnwritable",
    "IdTaken",
    "Lease",
    "Moment",
    "Orders",
    "Record",
    "Slot",
    "Source",
    "State",
    "Times",
    "TooMany",
    "opened_commands",
]
