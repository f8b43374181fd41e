"""The objects of a device as nodes that can be points, a page at a time."""

from typing import Any, Final

from protocols.bacnet.client import Client, Property, Rejection
from protocols.bacnet.options import OBJECT_TYPES
from protocols.driver import Node, Page
from shared.errors import OptionsWrong
from shared.model import PointType

_OUTPUTS: Final = ("-output", "-value")
_FACTS: Final = ("object-name", "description", "units", "present-value")


async def listed(client: Client, device: int, cursor: str, limit: int) -> Page:
    """List objects `cursor`… of the object list, which is read element by element.

    So it works with devices that cannot send a long list at once.
    """
    start = _start(cursor)
    count = int(await client.read(Property("device", device, "object-list", 0)))
    upto = min(count, start + limit)
    nodes: list[Node] = []
    for at in range(start + 1, upto + 1):
        found = await client.read(Property("device", device, "object-list", at))
        kind, instance = str(found[0]), int(found[1])
        if kind in OBJECT_TYPES:
            nodes.append(await _node(client, kind, instance))
    return Page(tuple(nodes), str(upto) if upto < count else "")


def _start(cursor: str) -> int:
    if not cursor:
        return 0
    if not cursor.isascii() or not cursor.isdigit():
        msg = f"BACnet: {cursor[:40]!r} is no cursor; take it from the page before"
        raise OptionsWrong(msg)
    return int(cursor)


async def _node(client: Client, kind: str, instance: int) -> Node:
    facts = await _facts(client, kind, instance)
    name = facts.get("object-name") or f"{kind},{instance}"
    return Node(
        id=f"{kind},{instance}",
        name=name,
        source={"object": kind, "instance": instance},
        key=_key(name),
        unit="" if kind.startswith(("binary", "multi")) else facts.get("units", ""),
        type=_type(kind),
        is_writable=kind.endswith(_OUTPUTS),
        value=facts.get("present-value", ""),
        description=facts.get("description", ""),
    )


async def _facts(client: Client, kind: str, instance: int) -> dict[str, str]:
    asked = [Property(kind, instance, name) for name in _FACTS]
    try:
        values: list[Any] = await client.read_many(asked)
    except Rejection:
        return {}
    return {
        name: str(value)
        for name, value in zip(_FACTS, values, strict=True)
        if not isinstance(value, Rejection) and value is not None
    }


def _type(kind: str) -> PointType:
    if kind.startswith("binary"):
        return PointType.BOOLEAN
    return PointType.TEXT if kind == "characterstring-value" else PointType.NUMBER


def _key(name: str) -> str:
    kept = (sign if sign.isascii() and (sign.isalnum() or sign in "_-.") else "_" for sign in name)
    return "".join(kept)[:100] or "_"
