"""Live values: the last reading of every point, in memory alone, and who watches them change.

Nobody waits for a watcher and nothing queues up for it: one that is slow gets the newest values,
and is told how many readings it did not see.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.settings import Device
from shared.clock import Clock, SystemClock
from shared.columns import Columns
from shared.errors import SpineError
from shared.quality import Reason, bad

MAX_WATCHES: Final = 32


class TooManyWatch(SpineError):
    """More people watch than the gateway has room for."""


@dataclass(frozen=True, slots=True)
class LiveValue:
    """The last reading of a point; `value` is NaN where it is bad or a text."""

    device: str
    key: str
    unit: str
    value: float
    text: str | None
    quality: int
    observed_at: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since the last look; `lagged` counts readings in between that were not seen."""

    values: list[LiveValue]
    lagged: int


class _Board:
    """The last readings of one device, by the place of the point in it."""

    def __init__(self, device: Device) -> None:
        count = len(device.points)
        self.device = device
        self.taken = np.zeros(count, np.int64)
        self._heard_s = np.zeros(count)
        self._value = np.full(count, np.nan)
        self._quality = np.zeros(count, np.uint16)
        self._observed_at = np.zeros(count, np.int64)
        self._texts: dict[int, str] = {}
        self._places: dict[str, int] = {}

    def place(self, key: str) -> int | None:
        if not self._places:  # made for the first who asks: most gateways never need it
            self._places = {one.point.key: at for at, one in enumerate(self.device.points)}
        return self._places.get(key)

    def take(self, columns: Columns, now_s: float) -> None:
        at = columns.series
        self._heard_s[at] = now_s
        self._value[at] = columns.value
        self._quality[at] = columns.quality
        self._observed_at[at] = columns.observed_at
        np.add.at(self.taken, at, 1)
        if self._texts or columns.texts:
            self._take_texts(columns)

    def _take_texts(self, columns: Columns) -> None:
        for row, series in enumerate(columns.series.tolist()):
            self._texts.pop(series, None)
            if row in columns.texts:
                self._texts[series] = columns.texts[row]

    def last(self, at: int) -> tuple[LiveValue, float]:
        return next(self.told(np.array([at]))), float(self._heard_s[at])

    def told(self, rows: NDArray[np.intp]) -> Iterator[LiveValue]:
        for row in rows.tolist():
            point = self.device.points[row].point
            yield LiveValue(
                self.device.name,
                point.key,
                point.unit,
                float(self._value[row]),
                self._texts.get(row),
                int(self._quality[row]),
                int(self._observed_at[row]),
            )


class Watch:
    """One who watches all values; made by `LiveValues.watch`."""

    def __init__(self, boards: Callable[[], Mapping[str, _Board]]) -> None:
        """Begin with everything unseen."""
        self._boards = boards
        self._seen: dict[str, tuple[_Board, NDArray[np.int64]]] = {}
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Say that something changed."""
        self._stirred.set()

    def look(self) -> Changes:
        """Give what changed since the last look; at the first, the last value of every point."""
        boards = self._boards()
        values: list[LiveValue] = []
        lagged = 0
        seen: dict[str, tuple[_Board, NDArray[np.int64]]] = {}
        for name, board in boards.items():
            before = self._seen.get(name)
            known = before is not None and before[0] is board
            more = board.taken - before[1] if before is not None and known else board.taken
            rows = np.flatnonzero(more)
            lagged += int(more.sum()) - len(rows) if known else 0
            values += board.told(rows)
            seen[name] = (board, board.taken.copy())
        self._seen = seen
        return Changes(values, lagged)

    async def stirred(self) -> None:
        """Wait until something came since this was awaited last; `look` tells what."""
        await self._stirred.wait()
        self._stirred.clear()

    async def changed(self) -> Changes:
        """Wait until something changed, and give it."""
        while True:
            await self.stirred()
            changes = self.look()
            if changes.values:
                return changes


class LiveValues:
    """The last reading of every point that was read since the start."""

    def __init__(self, clock: Clock | None = None) -> None:
        """Start with none."""
        self._clock = clock or SystemClock()
        self._boards: dict[str, _Board] = {}
        self._watches: set[Watch] = set()

    def take(self, device: Device, columns: Columns) -> None:
        """Take what a device gave; `series` are the places of the points in the device."""
        board = self._boards.get(device.name)
        if board is None or board.device is not device:
            board = self._boards[device.name] = _Board(device)
        board.take(columns, self._clock.monotonic_s())
        for watch in self._watches:
            watch.stir()

    def silence(self, device: Device, reason: Reason, now_us: int) -> None:
        """Take it that a device does not answer: its last values are of before."""
        count = len(device.points)
        nothing, quality = np.full(count, np.nan), np.full(count, bad(reason), np.uint16)
        rows = np.arange(count, dtype=np.int32)
        self.take(device, Columns(rows, np.full(count, now_us), nothing, quality))

    def keep(self, names: Iterable[str]) -> None:
        """Forget every device but these."""
        wanted = frozenset(names)
        self._boards = {name: one for name, one in self._boards.items() if name in wanted}

    def values(self, device: str | None = None) -> list[LiveValue]:
        """List the last readings, of one device or of all."""
        return [
            value
            for name, board in self._boards.items()
            if device in {None, name}
            for value in board.told(np.flatnonzero(board.taken))
        ]

    def value(self, device: str, key: str) -> LiveValue | None:
        """Give the last reading of one point; None where there is none."""
        board = self._boards.get(device)
        at = None if board is None else board.place(key)
        if board is None or at is None or not board.taken[at]:
            return None
        return next(board.told(np.array([at])))

    def last(self, device: Device, at: int) -> tuple[LiveValue, float] | None:
        """Tell the last reading of the point at a place in a device, and for how long it is known.

        None if there was none since the device was started.
        """
        board = self._boards.get(device.name)
        if board is None or board.device is not device or not board.taken[at]:
            return None
        value, heard_s = board.last(at)
        return value, self._clock.monotonic_s() - heard_s

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Watch the values; raises `TooManyWatch`."""
        if len(self._watches) >= MAX_WATCHES:
            raise TooManyWatch(f"{MAX_WATCHES} watch already: close one of them")
        watch = Watch(lambda: self._boards)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)
