"""What a value of a device would be as a point: a browse node with key, unit and type."""

import re
from typing import Final

from protocols.driver import Node
from protocols.mqtt.shapes.shape import Place, Scalar
from shared.model import KEY_LENGTH, PointType

_NOT_IN_A_KEY: Final = re.compile(r"[^A-Za-z0-9_\-.:~/]+")
_WORDS: Final = frozenset({"true", "false", "on", "off", "yes", "no"})
_SHOWN: Final = 100


def proposed(
    place: Place,
    value: Scalar = None,
    *,
    unit: str = "",
    kind: PointType | None = None,
    is_writable: bool = False,
    description: str = "",
) -> Node:
    """Make the node of one value; its type is that of the value where none is given."""
    return Node(
        id=f"{place.device}/{place.property}",
        name=place.property,
        source={"device": place.device, "property": place.property},
        key=key_of(place),
        unit=unit,
        type=kind or type_of(value),
        is_writable=is_writable,
        value="" if value is None else str(value)[:_SHOWN],
        description=description,
    )


def key_of(place: Place) -> str:
    """Propose a point's key: device and property, without what a key cannot have."""
    name = _NOT_IN_A_KEY.sub("_", f"{place.device}/{place.property}")
    parts = [part.strip("_") or "_" for part in name.split("/") if part]
    return "/".join(parts)[-KEY_LENGTH:].strip("/")


def type_of(value: Scalar) -> PointType:
    """Tell what type a value looks like; a text that says on or off is a boolean."""
    if isinstance(value, bool):
        return PointType.BOOLEAN
    if isinstance(value, str):
        return PointType.BOOLEAN if value.strip().lower() in _WORDS else PointType.TEXT
    return PointType.NUMBER
