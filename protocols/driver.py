"""The driver contract: one driver object is one device connection is one async context manager.

A driver does not retry, sleep, buffer, filter, schedule or log-and-continue; the collector does
that once for all. Building a driver does no I/O. Errors are `shared.errors.OptionsWrong`,
`LinkLost` and `Refused`, nothing else.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from pydantic import BaseModel

from shared.columns import Columns
from shared.model import Point


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


@dataclass(frozen=True, slots=True)
class DriverType:
    """One protocol: its name, the models of its options, and how a driver is made of them."""

    name: str
    device_options: type[BaseModel]
    point_options: type[BaseModel]
    make: Callable[[Any], Driver]
    pushes: bool = False
    tokens_kept: int = 0
