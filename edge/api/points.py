"""Points: all of the gateway by pages, one by its key, with its last reading."""

import base64
import binascii
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from edge.api import revisions
from edge.api.access import TECHNICIAN, VIEWER, Technician
from edge.api.context import Here
from edge.api.documents import changed, device_at, points_in
from edge.api.problems import ApiProblem
from edge.api.readings import ReadingTold, reading
from edge.api.revisions import Base, Given, RevisionTold
from shared.model import KEY_LENGTH

router = APIRouter(prefix="/api/v1/points", tags=["points"])

Key = Annotated[str, Path(max_length=KEY_LENGTH)]


class PointTold(BaseModel):
    """A point as it is configured, and its last reading; null where there was none yet."""

    key: str
    device: str
    point: dict[str, Any] = Field(description="Its entry of `points`.")
    reading: ReadingTold | None


class PointPage(BaseModel):
    """Some points, in the order of the document; `cursor` asks for the next, null at the end."""

    points: list[PointTold]
    cursor: str | None
    total: int = Field(description="How many points the filters leave.")


class PointGiven(Given):
    """A point of a device: an entry of `points`, without its key."""

    device: str = Field(max_length=80, description="The device it is read of.")
    point: dict[str, Any] = Field(description="unit, type, class, source, report, …")
    reason: str = Field("", max_length=500, description="Why, for people.")


@router.get("", dependencies=[VIEWER])
async def list_points(
    here: Here,
    response: Response,
    device: Annotated[str, Query(max_length=80, description="Only of this device.")] = "",
    search: Annotated[str, Query(max_length=200, description="Only keys that hold this.")] = "",
    cursor: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
) -> PointPage:
    """List points."""
    revisions.tag(response, here)
    start, text = _place(cursor), search.lower()
    found = [
        (name, point)
        for name, point in points_in(here.twin.current.document)
        if device in {"", name} and text in point["key"].lower()
    ]
    page = [_point(here, name, point) for name, point in islice(found, start, start + limit)]
    end = start + limit
    cursor_told = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(found) else None
    return PointPage(points=page, cursor=cursor_told, total=len(found))


@router.get("/{key:path}", dependencies=[VIEWER])
async def one_point(key: Key, here: Here, response: Response) -> PointTold:
    """Give a point."""
    revisions.tag(response, here)
    return _point(here, *_found(here, key))


@router.put("/{key:path}", dependencies=[TECHNICIAN])
async def put_point(
    key: Key, given: PointGiven, base: Base, caller: Technician, here: Here, response: Response
) -> RevisionTold:
    """Add a point to a device, or replace it; its key stays, so its history goes on."""
    document = here.twin.current.document
    at = device_at(document, given.device)
    if at is None:
        raise ApiProblem("not_found", f"There is no device {given.device!r}: add it first.")
    owner = next((name for name, one in points_in(document) if one["key"] == key), given.device)
    if owner != given.device:
        raise ApiProblem("name_taken", f"{key} is a point of device {owner}: a key is unique.")
    entry = {**given.point, "key": key}

    def change(made: dict[str, Any]) -> None:
        points = made["devices"][at]["points"]
        place = next((nth for nth, one in enumerate(points) if one["key"] == key), None)
        if place is None:
            points.append(entry)
        else:
            points[place] = entry

    reason = given.reason or f"point {key}"
    made = await revisions.change(here, caller, changed(document, change), base, reason)
    revisions.tag(response, here)
    return revisions.told(made.head)


@router.delete("/{key:path}", dependencies=[TECHNICIAN])
async def remove_point(
    key: Key, base: Base, caller: Technician, here: Here, response: Response
) -> RevisionTold:
    """Remove a point; the last point of a device goes with its device alone."""
    name, _ = _found(here, key)

    def change(made: dict[str, Any]) -> None:
        device = made["devices"][device_at(made, name) or 0]
        device["points"] = [one for one in device["points"] if one["key"] != key]

    document = changed(here.twin.current.document, change)
    made = await revisions.change(here, caller, document, base, f"point {key} removed")
    revisions.tag(response, here)
    return revisions.told(made.head)


def _found(here: Here, key: str) -> tuple[str, dict[str, Any]]:
    for name, point in points_in(here.twin.current.document):
        if point["key"] == key:
            return name, point
    raise ApiProblem("not_found", f"There is no point {key!r}.")


def _point(here: Here, name: str, point: dict[str, Any]) -> PointTold:
    value = here.parts.collector.live.value(name, point["key"])
    told = None if value is None else reading(value)
    return PointTold(key=point["key"], device=name, point=point, reading=told)


def _place(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii", "strict")).decode("ascii")[:12]
    except (ValueError, binascii.Error):
        text = ""
    if not text.isdecimal():
        raise ApiProblem("bad_request", "This cursor is none of this list: begin again.")
    return int(text)
