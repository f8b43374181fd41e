"""The gateway itself: how it is, its buffer in words, its ledger."""

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, Field

from edge.api.access import VIEWER
from edge.api.context import Context, Here
from edge.api.words import Moment, moment
from edge.buffer_text import buffer_text

router = APIRouter(prefix="/api/v1", tags=["gateway"], dependencies=[VIEWER])


class LinkState(BaseModel):
    """The link to central."""

    connected: bool
    since: Moment | None = Field(description="Since when it is so; null before the first try.")
    problem: str


class Buffer(BaseModel):
    """How full the outbox is."""

    text: str = Field(description="All of it in a line for people.")
    pending: int = Field(description="Readings that wait for central.")
    used_bytes: int
    max_bytes: int
    queue_age_s: float = Field(description="Age of the oldest batch that waits.")
    days_left: float | None = Field(description="Until it is full, at the rate of the last day.")
    written_a_day: float | None = Field(description="Bytes this process writes to disk a day.")


class GatewayTold(BaseModel):
    """The gateway as a whole."""

    name: str
    now: Moment
    uptime_s: float
    ready: bool = Field(description="Whether every device was tried at least once.")
    link: LinkState
    revision: int = Field(description="The configuration in force.")
    proposals: int = Field(description="Configurations that wait for a decision.")
    problems: list[str] = Field(description="Devices that are left out, and why.")
    devices: dict[str, int] = Field(description="How many devices are in which state.")
    buffer: Buffer


class SinceStart(BaseModel):
    """What became of polls since the gateway started."""

    polled: int
    missed: int
    repeats: int
    suppressed: int
    aggregated: int
    sealed_bytes: int


class LedgerTold(BaseModel):
    """What became of every reading: produced = the sum of what follows, else `imbalance`."""

    produced: int
    delivered: int
    collapsed: int
    quarantined: int
    pending: int
    gaps: int
    elsewhere: int
    imbalance: int
    held: int = Field(description="Readings that wait for the clock to be set.")
    since_start: SinceStart


@router.get("/gateway")
async def gateway(here: Here) -> GatewayTold:
    """Tell how the gateway is."""
    parts = here.parts
    told = parts.configuration()
    states = [one["state"] for one in parts.devices().values()]
    return GatewayTold(
        name=here.identity.gateway(),
        now=moment(parts.clock.now_us()),
        uptime_s=parts.clock.monotonic_s() - parts.started_s,
        ready=parts.is_ready(),
        link=_link(here),
        revision=told["revision"],
        proposals=len(told["proposals"]),
        problems=told["problems"],
        devices={state: states.count(state) for state in sorted(set(states))},
        buffer=await _buffer(here),
    )


@router.get("/gateway/buffer")
async def buffer(here: Here) -> Buffer:
    """Tell how full the outbox is and for how long it will do."""
    return await _buffer(here)


@router.get("/gateway/ledger")
async def ledger(here: Here) -> LedgerTold:
    """Tell what became of every reading."""
    return LedgerTold.model_validate(here.parts.ledger())


def _link(here: Context) -> LinkState:
    told = here.parts.link()
    since = told["since_us"]
    return LinkState(
        connected=told["connected"],
        since=None if since is None else moment(since),
        problem=told["problem"],
    )


async def _buffer(here: Context) -> Buffer:
    parts = here.parts
    room = asdict(await parts.room())
    told = {"link": parts.link(), "outbox": room, "ledger": parts.ledger()}
    return Buffer(
        text=buffer_text(told, parts.clock.now_us()),
        pending=told["ledger"]["pending"],
        max_bytes=parts.max_bytes,
        **room,
    )
