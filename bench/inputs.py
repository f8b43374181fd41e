"""The three inputs of the wire stage, as batches of at least 1,000 readings a gateway would commit.

A batch is made of polls: at each step every device answers once, with a time of its own that is a
few milliseconds late, differently each time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np

from protocols.simulated.hvac import hvac
from protocols.simulated.recording import STEP_US, Recording
from shared.columns import Columns

SEED: Final = 1
BATCH_READINGS: Final = 1_000
START_US: Final = 1_700_000_000_000_000
_MINUTE_US: Final = 60_000_000
_LATE_US: Final = 4_000
"""Mean delay of an answer; delays are exponential."""
_WALK_DEVICES: Final = 3
_WALK_POINTS: Final = 12

Row = Mapping[str, Mapping[str, float]]
"""One poll of everything: device → point key → value."""


@dataclass(frozen=True, slots=True)
class Input:
    """A named input: its point keys in the order of the series, and its batches."""

    name: str
    keys: tuple[str, ...]
    batches: tuple[Columns, ...]

    @property
    def readings(self) -> int:
        """Count the readings of all batches."""
        return sum(map(len, self.batches))


def inputs(batches: int) -> tuple[Input, ...]:
    """Make all three, with so many batches each."""
    return (rooms(batches), air_handler(batches), walk(batches))


def rooms(batches: int) -> Input:
    """Every column of the recorded rooms, polled at each of its 10-minute rows."""
    recording = Recording.load(SEED)
    names = [(_device_of(column), column) for column in recording.columns]

    def row(at: int) -> Row:
        polled: dict[str, dict[str, float]] = {}
        for device, column in names:
            polled.setdefault(device, {})[column] = recording.columns[column][at]
        return polled

    return _input("rooms", map(row, range(recording.rows)), STEP_US, batches)


def _device_of(column: str) -> str:
    """Tell the device of a column: appliances and lights are one meter's."""
    return "meter" if column.endswith("_wh") else column.partition("_")[0]


def air_handler(batches: int) -> Input:
    """The simulated air handler and its boxes, polled each minute, from a Monday's midnight."""
    devices = hvac(Recording.load(SEED), SEED)

    def row(minute: int) -> Row:
        return {device.name: device.values(minute * _MINUTE_US) for device in devices}

    return _input("air_handler", map(row, range(100_000)), _MINUTE_US, batches)


def walk(batches: int) -> Input:
    """Random walks, polled each second: decimals, scaled integers, and bare float32 noise.

    A third of the points each: 0.01 as JSON carries it, `raw * 0.1`, and float32 with all its bits
    random, which no format makes small.
    """
    rng = np.random.default_rng(SEED)
    points = _WALK_DEVICES * _WALK_POINTS
    steps = batches * (BATCH_READINGS // points + 1)
    noise = rng.normal(0, 0.05, (steps, points)).cumsum(axis=0) + rng.uniform(10, 60, points)
    shapes: Sequence[Callable[[float], float]] = (
        lambda value: round(value, 2),
        lambda value: round(value * 10) * 0.1,
        lambda value: float(np.float32(value)),
    )

    def row(step: int) -> Row:
        values = noise[step].tolist()
        return {
            f"device{device}": {
                f"device{device}/point{point}": shapes[point % 3](
                    values[device * _WALK_POINTS + point]
                )
                for point in range(_WALK_POINTS)
            }
            for device in range(_WALK_DEVICES)
        }

    return _input("random_walk", map(row, range(steps)), 1_000_000, batches)


def _input(name: str, rows: Iterable[Row], step_us: int, batches: int) -> Input:
    """Cut polls into batches; a batch ends with the poll that makes it full."""
    rng = np.random.default_rng(SEED)
    rows = iter(rows)
    first = next(rows)
    keys = tuple(key for values in first.values() for key in values)
    polls = -(-BATCH_READINGS // len(keys))
    made: list[Columns] = []
    taken = [first]
    for number in range(batches):
        taken += islice(rows, polls - len(taken))
        assert len(taken) == polls, f"{name} has too few rows for {batches} batches"
        made.append(_batch(taken, START_US + number * polls * step_us, step_us, rng))
        taken = []
    return Input(name, keys, tuple(made))


def _batch(rows: Sequence[Row], start_us: int, step_us: int, rng: np.random.Generator) -> Columns:
    sizes = [len(values) for values in rows[0].values()]
    late = rng.exponential(_LATE_US, (len(rows), len(sizes))).astype(np.int64)
    due = start_us + np.arange(len(rows), dtype=np.int64)[:, None] * step_us
    times = np.repeat(due + late, sizes, axis=1).reshape(-1)
    values = [value for row in rows for polled in row.values() for value in polled.values()]
    series = np.tile(np.arange(sum(sizes), dtype=np.int32), len(rows))
    return Columns.of(series, times, values, np.zeros(len(values), np.uint16))
