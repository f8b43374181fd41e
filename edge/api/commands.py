"""Commands: writing a point from here, giving it back, who holds what, what became of it all."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from edge.api.access import TECHNICIAN, VIEWER
from edge.api.context import Here
from edge.api.problems import ApiProblem
from edge.api.revisions import Given
from edge.api.words import Moment, moment
from edge.commands import Asked, Commander, Record, Slot, Source
from edge.commands.command import ID_BYTES
from edge.commands.commander import NEWEST
from edge.writable import HAND, LONGEST_LEASE_S
from shared.model import KEY_LENGTH

router = APIRouter(prefix="/api/v1", tags=["commands"])

Id = Annotated[str, Path(pattern=rf"^[0-9a-f]{{{2 * ID_BYTES}}}$")]
Before = Annotated[int, Query(ge=1, le=NEWEST, description="For paging.")]
Text = Annotated[str, Field(max_length=1_000)]
Limit = Annotated[int, Query(ge=1, le=1_000)]


class CommandGiven(Given):
    """A write that a person on site asks for."""

    point: str = Field(min_length=1, max_length=KEY_LENGTH)
    value: float | Text | None = Field(description="null gives the point back.")
    actor: str = Field(min_length=1, max_length=100, description="Who asks.")
    reason: str = Field("", max_length=200, description="Why.")
    priority: int | None = Field(None, ge=1, le=HAND, description="1 to 8; usually 8.")
    lease_s: float | None = Field(None, gt=0, le=LONGEST_LEASE_S, description="Held so long.")
    wait_s: float = Field(10.0, ge=0, le=30, description="Wait so long for the outcome.")
    id: str | None = Field(
        None,
        pattern=rf"^[0-9a-f]{{{2 * ID_BYTES}}}$",
        description="The caller's own id: sent again with the same id it is one command.",
    )


class ReleaseGiven(Given):
    """A point to give back."""

    point: str = Field(min_length=1, max_length=KEY_LENGTH)
    actor: str = Field(min_length=1, max_length=100)
    reason: str = Field("", max_length=200)
    wait_s: float = Field(10.0, ge=0, le=30)


class CommandTold(BaseModel):
    """A command and what became of it."""

    id: str
    point: str
    value: float | str | None
    source: str
    actor: str
    reason: str
    priority: int
    state: str = Field(
        description="waiting, sending, or final: done, refused, expired, failed, unknown."
    )
    detail: str
    number: int
    received_at: Moment
    finished_at: Moment | None


class CommandList(BaseModel):
    """Commands, newest first."""

    commands: list[CommandTold]


class HoldTold(BaseModel):
    """Who holds a point at a priority."""

    point: str
    priority: int
    value: float | str
    source: str
    actor: str
    since: Moment
    until: Moment | None = Field(description="When it is given back by itself.")


class HoldList(BaseModel):
    """Who holds what."""

    holds: list[HoldTold]


class AuditEntry(BaseModel):
    """An entry of the audit."""

    number: int
    at: Moment
    entry: dict[str, Any]
    hash: str


class AuditList(BaseModel):
    """Entries of the audit, newest first; each hash covers the one before."""

    entries: list[AuditEntry]


@router.post("/commands", status_code=202, dependencies=[TECHNICIAN])
async def submit(given: CommandGiven, here: Here) -> CommandTold:
    """Write a point, once and in time or not at all, and tell what became of it so far."""
    commander = _commander(here)
    document = given.model_dump(exclude={"wait_s", "id"})
    id_ = bytes.fromhex(given.id) if given.id else None
    record = await commander.submit(Asked.of(document), Source.LOCAL, id_)
    return _told(await commander.outcome(record.command.id, given.wait_s))


@router.post("/commands/release", status_code=202, dependencies=[TECHNICIAN])
async def release(given: ReleaseGiven, here: Here) -> CommandTold:
    """Give back what is held of a point."""
    commander = _commander(here)
    record = await commander.release(given.point, actor=given.actor, reason=given.reason)
    return _told(await commander.outcome(record.command.id, given.wait_s))


@router.get("/commands", dependencies=[VIEWER])
async def history(
    here: Here,
    point: Annotated[str, Query(max_length=KEY_LENGTH)] = "",
    before: Before = NEWEST,
    limit: Limit = 100,
) -> CommandList:
    """List commands."""
    found = await _commander(here).history(limit, before, point or None)
    return CommandList(commands=[_told(one) for one in found])


@router.get("/commands/holds", dependencies=[VIEWER])
async def holds(here: Here) -> HoldList:
    """List who holds which points."""
    return HoldList(holds=[_hold(one) for one in _commander(here).active()])


@router.get("/commands/audit", dependencies=[VIEWER])
async def audit(here: Here, before: Before = NEWEST, limit: Limit = 100) -> AuditList:
    """List what was asked, written and given back."""
    found = await _commander(here).audit(limit, before)
    entries = [
        AuditEntry(
            number=one.number, at=moment(one.at_us), entry=dict(one.entry), hash=one.hash.hex()
        )
        for one in found
    ]
    return AuditList(entries=entries)


@router.get("/commands/{id}", dependencies=[VIEWER])
async def one_command(
    id: Id,  # noqa: A002 - the path's word
    here: Here,
    wait_s: Annotated[float, Query(ge=0, le=30)] = 0,
) -> CommandTold:
    """Give a command; wait for its end for a while."""
    return _told(await _commander(here).outcome(bytes.fromhex(id), wait_s))


def _commander(here: Here) -> Commander:
    commander = here.parts.commands
    if commander is None:
        raise ApiProblem("commands_off", "The record of commands cannot be used; see the log.")
    return commander


def _told(one: Record) -> CommandTold:
    command = one.command
    return CommandTold(
        id=command.id.hex(),
        point=command.point,
        value=command.asked.value,
        source=command.source.value,
        actor=command.asked.actor,
        reason=command.asked.reason,
        priority=command.priority,
        state=one.state.value,
        detail=one.detail,
        number=command.number,
        received_at=moment(command.accepted.utc_us),
        finished_at=moment(one.finished_us) if one.finished_us else None,
    )


def _hold(one: Slot) -> HoldTold:
    return HoldTold(
        point=one.point,
        priority=one.priority,
        value=one.value,
        source=one.source.value,
        actor=one.actor,
        since=moment(one.since_us),
        until=None if one.lease is None else moment(one.lease.until_us),
    )
