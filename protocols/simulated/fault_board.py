"""Runs the timetable of faults, tells each device what is wrong with it, and logs what was."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from protocols.simulated.faults import Fault, Window
from protocols.simulated.truth import Lines
from shared.clock import Clock

Listener = Callable[[bool], Awaitable[None]]
"""Told that a device begins (True) or ceases (False) to refuse its clients."""

_FOR_EVER_S: Final = 3_600.0


@dataclass(order=True, slots=True)
class _Stream:
    """A target's next window, and those after it."""

    next_s: float
    target: str
    window: Window = field(compare=False)
    rest: Iterator[Window] = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Active:
    fault: Fault
    from_us: int
    end_s: float


class FaultBoard:
    """What is wrong with whom at the moment.

    `members` tells for which devices a target stands if it is not one itself.
    """

    def __init__(self, lines: Lines, clock: Clock, members: Mapping[str, tuple[str, ...]]) -> None:
        self._lines = lines
        self._clock = clock
        self._members = members
        self._groups = {device: group for group, devices in members.items() for device in devices}
        self._active: dict[str, _Active] = {}
        self._listeners: dict[str, Listener] = {}

    def of(self, target: str) -> Fault | None:
        """Tell the fault of a device now; one of the whole server it belongs to comes first."""
        active = self._active.get(self._groups.get(target, "")) or self._active.get(target)
        return active.fault if active else None

    def listen(self, target: str, listener: Listener) -> None:
        """Have a target told when its refusing begins and ends."""
        self._listeners[target] = listener

    async def run(self, windows: Mapping[str, list[Iterator[Window]]]) -> None:
        """Play the timetable from now on, until cancelled; then log what still lasts."""
        start_s = self._clock.monotonic_s()
        streams = _streams(windows)
        try:
            while True:
                elapsed_s = self._clock.monotonic_s() - start_s
                await self._end(elapsed_s)
                await self._begin(streams, elapsed_s)
                await asyncio.sleep(max(0.0, self._next_s(streams) - elapsed_s))
        finally:
            for target in list(self._active):
                self._log(target, self._active.pop(target))

    def _next_s(self, streams: list[_Stream]) -> float:
        moments = [active.end_s for active in self._active.values()]
        return min([*moments, *(stream.next_s for stream in streams[:1])], default=_FOR_EVER_S)

    async def _begin(self, streams: list[_Stream], elapsed_s: float) -> None:
        while streams and streams[0].next_s <= elapsed_s:
            stream = heapq.heappop(streams)
            await self._start(stream.target, stream.window)
            with suppress(StopIteration):
                stream.window = next(stream.rest)
                stream.next_s = stream.window.start_s
                heapq.heappush(streams, stream)

    async def _start(self, target: str, window: Window) -> None:
        if target in self._active:
            return
        self._active[target] = _Active(window.fault, self._clock.now_us(), window.end_s)
        if window.fault is Fault.REFUSE and target in self._listeners:
            await self._listeners[target](True)

    async def _end(self, elapsed_s: float) -> None:
        over = [name for name, active in self._active.items() if active.end_s <= elapsed_s]
        for target in over:
            active = self._active.pop(target)
            try:
                if active.fault is Fault.REFUSE and target in self._listeners:
                    await self._listeners[target](False)
            finally:
                self._log(target, active)

    def _log(self, target: str, active: _Active) -> None:
        to_us = self._clock.now_us()
        for device in self._members.get(target, (target,)):
            self._lines.write(
                {
                    "device": device,
                    "fault": active.fault,
                    "from_us": active.from_us,
                    "to_us": to_us,
                }
            )


def _streams(windows: Mapping[str, list[Iterator[Window]]]) -> list[_Stream]:
    streams = [
        _Stream(first.start_s, target, first, iterator)
        for target, iterators in windows.items()
        for iterator in iterators
        if (first := next(iterator, None))
    ]
    heapq.heapify(streams)
    return streams
