"""What the shapes of LoRaWAN network servers have in common: uplinks that a codec has decoded."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from protocols.driver import Node
from protocols.mqtt.shapes.devices import About, Arrival, Devices
from protocols.mqtt.shapes.document import read
from protocols.mqtt.shapes.shape import Place, Publication, ShapeOptions, Update
from protocols.mqtt.shapes.times import from_iso
from shared.errors import OptionsWrong
from shared.quality import Reason

REMEMBERED: Final = 2_000
"""How many events are remembered, so that one that comes twice is read once."""

_ON_PORT: Final = re.compile(r".+@(?P<port>\d{1,3})")


@dataclass(frozen=True, slots=True)
class Event:
    """What a server says of a device: values by name, the time as text, the port of an uplink.

    `is_unread` says that there were data which no codec has decoded; `id` is the same where the
    event comes again.
    """

    values: Mapping[str, Any]
    time: Any = None
    port: Any = None
    is_unread: bool = False
    id: Any = None


@dataclass(frozen=True, slots=True)
class Server:
    """How one kind of server speaks: topics, events, and where it puts what a codec made."""

    topic: re.Pattern[str]
    """With the groups `device` and `kind`."""
    filters: Callable[[ShapeOptions, str], Sequence[str]]
    """What to subscribe for a device, which may be `+`."""
    event: Callable[[str, Mapping[str, Any]], Event | None]
    """Reads an event of a kind; None if it says nothing."""
    decoded: str
    units: Mapping[str, str]


class LoRaWanShape:
    """Devices as their server names them; a property is a path in the event.

    With `@85` behind it, it is the same from port 85 alone. That a device is gone tells nobody: the
    points of one fall silent.
    """

    def __init__(self, server: Server, options: ShapeOptions) -> None:
        self._server = server
        self._options = options
        self._devices = Devices()
        self._known: dict[str, None] = {}

    def filters(self, places: Sequence[Place]) -> Sequence[str]:
        """Subscribe to the devices that have points, else to all."""
        plain = [replace(one, property=one.property.partition("@")[0]) for one in places]
        devices = self._devices.want([*places, *plain]) or ["+"]
        return [one for device in devices for one in self._server.filters(self._options, device)]

    def feed(self, topic: str, payload: bytes, *, is_retained: bool) -> Iterable[Update]:
        """Tell what an event says; one that came before says nothing."""
        found = self._server.topic.fullmatch(topic)
        if found is None:
            return ()
        device, document = found["device"], read(payload)
        if not isinstance(document, dict):
            return list(self._unread(device, "", Reason.BAD_PAYLOAD, None))
        event = self._server.event(found["kind"], document)
        if event is None or self._is_repeat(event.id):
            return ()
        at_us = from_iso(event.time)
        arrival = Arrival(is_retained, at_us, is_time_lost=at_us is None)
        return list(self._told(device, event, arrival))

    def answers(self) -> Sequence[Publication]:
        """Ask for nothing."""
        return ()

    def command(self, place: Place, value: bool | float | str) -> Publication:
        """Refuse: a downlink waits until the device sends, perhaps for hours, and does not expire.

        Raises `OptionsWrong`.
        """
        msg = f"{place.device}: a LoRaWAN downlink may arrive hours later: it is not written"
        raise OptionsWrong(msg)

    def proposals(self) -> Iterator[Node]:
        """List what devices told."""
        units = self._server.units
        yield from self._devices.proposals(lambda place: About(units.get(place.property, "")))

    def _told(self, device: str, event: Event, arrival: Arrival) -> Iterator[Update]:
        if event.is_unread:
            reason = Reason.NOT_IMPLEMENTED
            yield from self._unread(device, f"{self._server.decoded}.", reason, event.port)
        for update in self._devices.tell(device, event.values, arrival):
            yield update
            if event.port is not None:
                yield replace(update, property=f"{update.property}@{event.port}")

    def _unread(self, device: str, prefix: str, reason: Reason, port: Any) -> Iterator[Update]:
        """Say that nothing could be read: without a codec an uplink is only bytes."""
        for name in self._devices.wanted(device):
            found = _ON_PORT.fullmatch(name)
            if name.startswith(prefix) and (found is None or found["port"] == str(port)):
                yield Update(device, name, None, reason)

    def _is_repeat(self, name: Any) -> bool:
        if not isinstance(name, str):
            return False
        is_known = name in self._known
        self._known[name] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return is_known
