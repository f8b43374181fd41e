"""What a known device shape does: topics in, values of points out, and what it wants published."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol, get_args

from protocols.driver import Node
from protocols.mqtt.publication import Publication
from shared.errors import OptionsWrong
from shared.quality import Reason

__all__ = [
    "Place",
    "Publication",
    "Scalar",
    "Shape",
    "ShapeName",
    "ShapeOptions",
    "Update",
    "find",
]

ShapeName = Literal[
    "sparkplug_b",
    "zigbee2mqtt",
    "tasmota",
    "shelly",
    "esphome",
    "chirpstack",
    "things_network",
]
Scalar = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class ShapeOptions:
    """What an installer said of the shape; empty means the shape's own usual one.

    `base` is the first part of the topics (`zigbee2mqtt`), `group` what the shape groups devices by
    (a Sparkplug group, a ChirpStack application), `zone` where their clocks are that tell no zone.
    """

    base: str = ""
    group: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a point of a shaped device stands: the device's name there, and which value of it."""

    device: str
    property: str


@dataclass(frozen=True, slots=True)
class Update:
    """What a message says of one point, or of every point of a device (`property` None).

    `value` is as the message holds it: the driver fits it to the type of the point. None is bad
    with `reason`, and `NOT_YET_REPORTED` where that is NONE; so a device that went offline is
    `Update(device, None, reason=Reason.LINK_DOWN)`. A value with a reason is uncertain with it.
    `observed_at` is the device's time in microseconds; None where it tells none that can be
    trusted: then the arrival counts, and a retained message is uncertain with `STALE`.
    `is_time_lost` says that it has told one, which cannot be: `TIME_ADJUSTED`.
    """

    device: str
    property: str | None
    value: Scalar = None
    reason: Reason = Reason.NONE
    observed_at: int | None = None
    is_time_lost: bool = False


class Shape(Protocol):
    """One shape on one connection; it may keep what it learnt from messages, bounded."""

    def filters(self, places: Sequence[Place]) -> Sequence[str]:
        """Tell what to subscribe for these points; for all that there is where none are given.

        Few filters with wildcards are better than one a point. Raises `OptionsWrong` for a place
        that cannot be one.
        """
        ...

    def feed(self, topic: str, payload: bytes, *, is_retained: bool) -> Iterable[Update]:
        """Tell what a message says; nothing of a message that is not understood. Never raises.

        Updates of places that no point has are welcome: the driver leaves them out.
        """
        ...

    def answers(self) -> Sequence[Publication]:
        """Take what is to be published now, as a rebirth request, with QoS 0.

        Asked for as the subscription begins, after messages came, and every second of silence.
        What nobody answers is to be given again.
        """
        ...

    def command(self, place: Place, value: bool | float | str) -> Publication:
        """Make the message that writes a value; raises `OptionsWrong` where none does.

        A boolean point's value is True or False.
        """
        ...

    def proposals(self) -> Iterable[Node]:
        """List what the messages so far showed, a node for each value.

        `source` is `{"device": …, "property": …}`; name, key, unit and type are proposals.
        """
        ...


def find(name: ShapeName, options: ShapeOptions) -> Shape:
    """Make the shape called `name`; raises `OptionsWrong` if there is none or its options fail."""
    if name not in get_args(ShapeName):
        msg = f"no shape {name!r}; there are: {', '.join(get_args(ShapeName))}"
        raise OptionsWrong(msg)
    module: Any = import_module(f"protocols.mqtt.shapes.{name}")
    shape: Shape = module.make(options)
    return shape
