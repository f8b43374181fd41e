"""The devices of a shape on one connection: which have points, which are down, what was seen."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from protocols.driver import Node
from protocols.mqtt.shapes.document import leaves
from protocols.mqtt.shapes.proposal import proposed
from protocols.mqtt.shapes.shape import Place, Scalar, Update
from shared.errors import OptionsWrong
from shared.model import PointType
from shared.quality import Reason

MAX_SEEN: Final = 20_000
"""How many values are proposed as points; what is seen later is read and not proposed."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a message came: whether the broker kept it, and the time that it tells."""

    is_retained: bool = False
    at_us: int | None = None
    is_time_lost: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a value beside itself."""

    unit: str = ""
    kind: PointType | None = None
    is_writable: bool = False
    description: str = ""


class Devices:
    """Turns what devices say into updates of their points."""

    def __init__(self) -> None:
        self._wanted: defaultdict[str, set[str]] = defaultdict(set)
        self._down: set[str] = set()
        self._seen: dict[Place, Scalar] = {}

    def want(self, places: Sequence[Place]) -> Sequence[str]:
        """Note which values are points; tells their devices, in order.

        Raises `OptionsWrong` for a device whose name can be in no topic.
        """
        for place in places:
            if set("+#\0") & set(place.device) or not all(place.device.split("/")):
                msg = f"{place.device!r} is no device: name it as it stands in its topics"
                raise OptionsWrong(msg)
            self._wanted[place.device].add(place.property)
        return sorted(self._wanted)

    def wanted(self, device: str) -> Iterable[str]:
        """Tell which values of a device are points."""
        return sorted(self._wanted.get(device, ()))

    def tell(
        self, device: str, document: Any, arrival: Arrival, prefix: str = ""
    ) -> Iterator[Update]:
        """Give the values of a document that are points, named by their path behind `prefix`.

        Where nothing is a point, all are given: somebody looks what there is.
        """
        wanted = self._wanted.get(device, set())
        for name, value in leaves(document, prefix):
            if not self._wanted or name in wanted or value is None:
                yield from self.tell_one(Place(device, name), value, arrival)

    def tell_one(
        self, place: Place, value: Scalar, arrival: Arrival, reason: Reason = Reason.NONE
    ) -> Iterator[Update]:
        """Give one value; a null is one of all that could stand below it.

        What the broker kept of a device that is down is older than that: it tells nothing.
        """
        if not arrival.is_retained:
            self._down.discard(place.device)
        self._note(place, value)
        if place.device in self._down:
            return
        names = tuple(self._below(place)) if value is None else (place.property,)
        for name in names:
            yield Update(place.device, name, value, reason, arrival.at_us, arrival.is_time_lost)

    def be(self, device: str, *, is_there: bool) -> Iterator[Update]:
        """Hear whether a device is there; one that is tells its values later."""
        if is_there:
            self._down.discard(device)
        else:
            self._down.add(device)
            yield Update(device, None, reason=Reason.LINK_DOWN)

    def all_down(self) -> Iterator[Update]:
        """Take every device that has points down: what connects them is gone."""
        for device in sorted(self._wanted):
            yield Update(device, None, reason=Reason.LINK_DOWN)

    def last(self, place: Place) -> Scalar:
        """Tell what was last seen at a place; None if nothing."""
        return self._seen.get(place)

    def proposals(self, about: Callable[[Place], About]) -> Iterator[Node]:
        """List what was seen."""
        for place, value in self._seen.items():
            known = about(place)
            yield proposed(
                place,
                value,
                unit=known.unit,
                kind=known.kind,
                is_writable=known.is_writable,
                description=known.description,
            )

    def _note(self, place: Place, value: Scalar) -> None:
        is_new = place not in self._seen
        if (is_new and len(self._seen) < MAX_SEEN) or (not is_new and value is not None):
            self._seen[place] = value

    def _below(self, place: Place) -> Iterator[str]:
        yield place.property
        for name in self.wanted(place.device):
            if name.startswith((f"{place.property}.", f"{place.property}[")):
                yield name
