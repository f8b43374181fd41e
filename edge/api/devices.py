"""Devices: which there are, how they are doing, adding, changing and removing them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from edge.api import revisions
from edge.api.access import TECHNICIAN, VIEWER, Technician
from edge.api.context import Here
from edge.api.documents import changed, device_at, devices_in
from edge.api.problems import ApiProblem
from edge.api.revisions import Base, Given, RevisionTold
from edge.collector import DeviceTask

router = APIRouter(prefix="/api/v1/devices", tags=["devices"])

Name = Annotated[str, Path(max_length=80)]


class DeviceSummary(BaseModel):
    """A device and how it is doing."""

    name: str
    driver: str
    interval_s: float
    points: int
    state: str = Field(description="connecting, reading, down, refused, options wrong, left out.")
    problem: str = Field(description="What is wrong, in words; empty where nothing is.")
    errors: int = Field(description="Connections that were lost or not made since the start.")


class DeviceTold(DeviceSummary):
    """A device as it is configured; passwords are references to secrets."""

    section: dict[str, Any] = Field(description="Its entry of `devices`.")


class DeviceList(BaseModel):
    """All devices."""

    devices: list[DeviceSummary]


class DeviceGiven(Given):
    """An entry of `devices`, without its name."""

    driver: str = Field(max_length=80)
    interval_s: float | None = Field(None, description="10 s if left out.")
    options: dict[str, Any]
    points: list[dict[str, Any]] = Field(min_length=1, max_length=20_000)
    reason: str = Field("", max_length=500, description="Why, for people.")


@router.get("", dependencies=[VIEWER])
async def list_devices(here: Here, response: Response) -> DeviceList:
    """List the devices in the order of the document."""
    revisions.tag(response, here)
    found = devices_in(here.twin.current.document)
    return DeviceList(devices=[DeviceSummary(**_summary(here, one)) for one in found])


@router.get("/{name}", dependencies=[VIEWER])
async def one_device(name: Name, here: Here, response: Response) -> DeviceTold:
    """Give a device as it is configured and as it is doing."""
    revisions.tag(response, here)
    section = _found(here, name)
    return DeviceTold(**_summary(here, section), section=section)


@router.put("/{name}", dependencies=[TECHNICIAN])
async def put_device(
    name: Name, given: DeviceGiven, base: Base, caller: Technician, here: Here, response: Response
) -> RevisionTold:
    """Add a device, or replace it; the others go on."""
    section = {"name": name, **given.model_dump(exclude={"reason"}, exclude_none=True)}

    def change(document: dict[str, Any]) -> None:
        at = device_at(document, name)
        if at is None:
            document["devices"].append(section)
        else:
            document["devices"][at] = section

    document = changed(here.twin.current.document, change)
    reason = given.reason or f"device {name}"
    made = await revisions.change(here, caller, document, base, reason)
    revisions.tag(response, here)
    return revisions.told(made.head)


@router.delete("/{name}", dependencies=[TECHNICIAN])
async def remove_device(
    name: Name, base: Base, caller: Technician, here: Here, response: Response
) -> RevisionTold:
    """Remove a device with its points; what it brought until now is kept and sent."""
    _found(here, name)

    def change(document: dict[str, Any]) -> None:
        document["devices"] = [one for one in document["devices"] if one.get("name") != name]

    document = changed(here.twin.current.document, change)
    made = await revisions.change(here, caller, document, base, f"device {name} removed")
    revisions.tag(response, here)
    return revisions.told(made.head)


def _found(here: Here, name: str) -> dict[str, Any]:
    at = device_at(here.twin.current.document, name)
    if at is None:
        raise ApiProblem("not_found", f"There is no device {name!r}.")
    return devices_in(here.twin.current.document)[at]


def _summary(here: Here, section: dict[str, Any]) -> dict[str, Any]:
    task = here.parts.collector.task(section["name"])
    return {
        "name": section["name"],
        "driver": section["driver"],
        "interval_s": section.get("interval_s", 10.0),
        "points": len(section["points"]),
        **_state(task),
    }


def _state(task: DeviceTask | None) -> dict[str, Any]:
    if task is None:
        problem = "it is left out; the problems of the configuration say why"
        return {"state": "left out", "problem": problem, "errors": 0}
    return {"state": task.state.value, "problem": task.problem, "errors": task.errors}
