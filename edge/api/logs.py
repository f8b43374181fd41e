"""The gateway's last log entries; passwords are not in them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from edge.api.access import VIEWER
from edge.api.context import Here
from edge.api.words import Moment, moment
from edge.field.log_ring import Entry, Wanted

router = APIRouter(prefix="/api/v1", tags=["logs"], dependencies=[VIEWER])


class EntryTold(BaseModel):
    """A log entry."""

    number: int
    at: Moment
    level: str
    part: str
    text: str
    fields: dict[str, str]


class LogPart(BaseModel):
    """Entries, oldest first."""

    entries: list[EntryTold]
    cursor: int = Field(description="Asks for what comes after these.")
    gone: int = Field(description="Entries that were dropped before they were seen.")


@router.get("/logs")
def logs(
    here: Here,
    level: Literal["debug", "info", "warning", "error", "critical"] = "info",
    device: Annotated[str, Query(max_length=80)] = "",
    contains: Annotated[str, Query(max_length=200)] = "",
    cursor: Annotated[
        int | None, Query(ge=0, le=2**53, description="Only after this; the newest if left out.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
) -> LogPart:
    """Give log entries of a level or graver."""
    wanted = Wanted(level, device, contains=contains)
    ring = here.tools.logs
    part = ring.newest(wanted, limit) if cursor is None else ring.after(cursor, wanted, limit)
    return LogPart(entries=[_told(one) for one in part.entries], cursor=part.cursor, gone=part.gone)


def _told(one: Entry) -> EntryTold:
    return EntryTold(
        number=one.number,
        at=moment(one.at_us),
        level=one.level,
        part=one.part,
        text=one.text,
        fields=dict(one.fields),
    )
