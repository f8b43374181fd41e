"""Proposals: documents that wait for a person's decision, kept in the configuration database."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from edge.config_store import KEPT, ConfigStore, next_number, packed, unpacked

_FIELDS: Final = ("base", "hash", "source", "reason", "at_us", "central")


class Answered(StrEnum):
    """What became of a proposal."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A document that somebody wants and that waits for a person's decision."""

    number: int
    base: int
    hash: bytes
    document: Mapping[str, Any]
    source: str
    reason: str
    at_us: int
    central: int = 0
    """The revision of central that it is, 0 for none."""


def open_proposals(store: ConfigStore) -> list[Proposal]:
    """List the proposals that are open, oldest first. Blocks."""
    query = "SELECT * FROM proposals WHERE state = ? ORDER BY number"
    return [_proposal(row) for row in store.rows(query, [Answered.OPEN.value])]


def keep(store: ConfigStore, proposal: Proposal) -> Proposal:
    """Keep a proposal; an open one of the same source gives way to it. Blocks."""
    fields = {name: getattr(proposal, name) for name in _FIELDS}
    with store.writing() as db:
        number = next_number(db, "proposals")
        db.execute(
            "DELETE FROM proposals WHERE source = ? AND state = ?",
            [proposal.source, Answered.OPEN.value],
        )
        db.execute("DELETE FROM proposals WHERE number <= ?", [number - KEPT])
        row = {"number": number, "document": packed(proposal.document)}
        db.table("proposals").insert({**fields, **row, "state": Answered.OPEN.value})
    return replace(proposal, number=number)


def note_answer(store: ConfigStore, number: int, answered: Answered) -> None:
    """Note the decision on a proposal. Blocks."""
    with store.writing() as db:
        db.execute("UPDATE proposals SET state = ? WHERE number = ?", [answered.value, number])


def _proposal(row: Mapping[str, Any]) -> Proposal:
    fields = {name: row[name] for name in _FIELDS}
    return Proposal(number=row["number"], document=unpacked(row["document"]), **fields)
