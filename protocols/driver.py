"""The driver contract: one driver object is one device connection is one async context manager.

A driver does not retry, sleep, buffer, filter, schedule or log-and-continue; the collector does
that once for all. Building a driver does no I/O. Errors are `shared.errors.OptionsWrong`,
`LinkLost` and `Refused`, nothing else.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from pydantic import BaseModel

from shared.columns import Columns
from shared.model import Point, PointType


@dataclass(frozen=True, slots=True)
class PointSource:
    """One point of a device: what it is called, and where it is read (the driver's options)."""

    point: Point
    options: BaseModel


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a device pushed, with its acknowledgement.

    `columns.series` is the index in the planned points. `tokens` name the deliveries so that one
    that was committed but whose acknowledgement was lost is recognised when it comes again; they
    are committed with the readings. `done` is called once, after the commit; it is quick, does not
    raise and may be called after the link was lost.
    """

    columns: Columns
    tokens: tuple[bytes, ...]
    done: Callable[[], None]


@runtime_checkable
class Driver(Protocol):
    """What every driver does."""

    async def __aenter__(self) -> Self:
        """Connect within the timeout; raises `LinkLost`, `Refused` or `OptionsWrong`."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect; never raises for a link that is already gone."""
        ...

    def plan(self, points: Sequence[PointSource]) -> Any:
        """Work out once how the points are read; no I/O; opaque; raises `OptionsWrong`."""
        ...

    async def read(self, plan: Any) -> Columns:
        """Read every planned point once.

        Exactly one row per point, in plan order: `series` is 0…n-1, `observed_at` the device's time
        where the protocol carries one, else the time of the answer. A point that failed has bad
        quality with a reason and a NaN value. Raises `LinkLost` only if the link as a whole is
        lost.
        """
        ...


@runtime_checkable
class Subscribing(Protocol):
    """A driver whose device pushes."""

    def subscribe(self, plan: Any, known: Sequence[bytes]) -> AsyncIterator[Delivery]:
        """Yield what the device pushes until the link is lost (`LinkLost`).

        `known` are tokens of earlier deliveries that were committed: one that comes again is
        acknowledged and not yielded. At most `max_unacknowledged` deliveries wait for their `done`;
        then the driver stops taking more.
        """
        ...


@runtime_checkable
class Writing(Protocol):
    """A driver that can write."""

    async def write(
        self, source: PointSource, value: float | str | None, priority: int = 16
    ) -> None:
        """Write one value, in the unit in which the point is read; a boolean is 0 or 1.

        `priority` is 1 (life safety) to 16 (lowest), and matters where the device itself keeps a
        priority array. `None` gives the point back to the device there; elsewhere it is
        `OptionsWrong`. Raises `OptionsWrong` if the point cannot be written or the value does not
        fit it, `Refused` if the device says no, `LinkLost` if nobody can say whether it was
        written. Writes once: it never tries again. It may come while a read or a subscription is
        under way; once it is cancelled, nothing is written any more.
        """
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """Something a device has: a folder to look into, a thing that can be a point, or both.

    `id` is what `browse` takes as `parent`; `source` are the point options that read it, None where
    it cannot be a point; `key` is a proposal; `value` is what it holds now, as text, if known.
    """

    id: str
    name: str
    has_children: bool = False
    source: Mapping[str, Any] | None = None
    key: str = ""
    unit: str = ""
    type: PointType = PointType.NUMBER
    is_writable: bool = False
    value: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what was asked for; `cursor` asks for the next part, empty at the end."""

    nodes: tuple[Node, ...]
    cursor: str = ""


@runtime_checkable
class Browsing(Protocol):
    """A driver whose device tells what it has."""

    async def browse(self, parent: str = "", cursor: str = "", limit: int = 200) -> Page:
        """List what lies below `parent` (empty: the top), at most `limit` at once.

        Raises `OptionsWrong` for a parent or cursor that does not exist, `Refused`, `LinkLost`.
        """
        ...


@runtime_checkable
class Probing(Protocol):
    """A driver that can say step by step why a device does not answer."""

    async def reach(self) -> str:
        """Before the connection is opened: see whether somebody listens at the address.

        Tells what was reached (`10.0.0.7:502`); raises `LinkLost` saying what to look at.
        """
        ...

    async def identify(self) -> Mapping[str, str]:
        """On an open connection: who the device says it is.

        Keys are `vendor`, `model`, `serial`, `version`, `name` as far as they are known; empty if
        the device does not tell. Raises `Refused` or `LinkLost`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A device that discovery found: a title, the device options that reach it, and facts."""

    title: str
    options: Mapping[str, Any]
    facts: Mapping[str, str] = field(default_factory=dict)


Discover = Callable[[Any, Callable[[float], None]], AsyncIterator[Found]]
"""Look for devices: discovery options, and a callback for the progress from 0 to 1.

Bounded in time and requests by its options, cancellable at every moment, and never retries.
"""


@dataclass(frozen=True, slots=True)
class DriverType:
    """One protocol: its name, the models of its options, and how a driver is made of them.

    `address` tells what must not be configured twice: two devices of one driver with the same
    address are one device. `polls` tells of device options whether such a device is polled although
    the driver can push. `discover` and `discover_options` come together. `releases` says whether
    writing None gives a point back to the device. `aside` changes device options to those of a
    second connection beside the running one, for a look or a test, that does not disturb it
    (MQTT: another client id, no kept session); None where the options will do as they are.
    """

    name: str
    device_options: type[BaseModel]
    point_options: type[BaseModel]
    make: Callable[[Any], Driver]
    pushes: bool = False
    tokens_kept: int = 0
    title: str = ""
    address: Callable[[Any], str] | None = None
    discover: Discover | None = None
    discover_options: type[BaseModel] | None = None
    releases: bool = False
    aside: Callable[[Any], Any] | None = None
    polls: Callable[[Any], bool] | None = None

    def is_pushing(self, options: Any) -> bool:
        """Tell whether a device of these options pushes, and is not polled."""
        return self.pushes and not (self.polls is not None and self.polls(options))
