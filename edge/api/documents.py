"""Looking into a document that is in force, and making changed copies of it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def devices_in(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the entries of `devices`; they are not to be changed."""
    return list(document.get("devices", ()))


def device_at(document: Mapping[str, Any], name: str) -> int | None:
    """Find the place of a device."""
    names = (one["name"] for one in devices_in(document))
    return next((at for at, one in enumerate(names) if one == name), None)


def points_in(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every point's entry with the name of its device, in the order of the document."""
    for device in devices_in(document):
        for point in device["points"]:
            yield device["name"], point


def changed(
    document: Mapping[str, Any], change: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Make a copy and change it: its lists of devices and of points, not what is in a point.

    A document may hold 100,000 points: to copy each would hold the gateway up for seconds.
    """
    devices = [{**one, "points": list(one["points"])} for one in devices_in(document)]
    made = {**document, "devices": devices}
    change(made)
    return made
