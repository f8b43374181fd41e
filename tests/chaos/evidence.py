"""Hand-made evidence of a run, true in every detail, for tests to spoil in one."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from shared.quality import GOOD, Reason, bad
from tests.chaos.arrived import Arrived, EpochTotals, Gap, Series
from tests.chaos.books import Books
from tests.chaos.judgement import Evidence
from tests.chaos.timetable import Thresholds, Timetable
from tests.chaos.truth import DeviceTruth, Truth

START_US: Final = 1_700_000_000_000_000
STEP_US: Final = 100_000
ANSWER_US: Final = 700
"""How long after it was served a polled answer arrives."""


@dataclass(slots=True)
class Story:
    """One polled and one pushed device, 200 samples each; the gateway is killed once.

    Samples 100…109 are lost by the kill and declared. One sample of the pushed device has no value.
    """

    samples: int = 200
    lost: range = field(default_factory=lambda: range(99, 109))

    def evidence(self) -> Evidence:
        """Tell it as it should be."""
        devices = (self._device("meter1", "modbus"), self._device("room1", "mqtt"))
        series = {
            key: self._series(device, column)
            for device in devices
            for column, key in enumerate(device.points)
        }
        rows = sum(len(one.at) for one in series.values())
        arrived = Arrived(
            series,
            tuple(self._gap(device) for device in devices),
            (EpochTotals(7, ((0, 9),), rows, 0, 0),),
            0,
        )
        books = Books(rows, rows, 0, 0, 0, 0, 0, 0)
        return Evidence(Truth(devices, ()), arrived, books, self._timetable(rows))

    def _device(self, name: str, protocol: str) -> DeviceTruth:
        counter = np.arange(1, self.samples + 1)
        at_us = START_US + counter * STEP_US
        values = np.column_stack([np.sin(counter), counter.astype(np.float64)])
        if protocol == "mqtt":
            values[49, 0] = np.nan
        return DeviceTruth(name, protocol, (f"{name}/power", f"{name}/counter"), at_us, values)

    def _times(self, device: DeviceTruth) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        return device.at_us + (ANSWER_US if device.is_polled else 0)

    def _series(self, device: DeviceTruth, column: int) -> Series:
        kept = np.setdiff1d(np.arange(self.samples), self.lost)
        value = device.values[kept, column]
        quality = np.where(np.isnan(value), bad(Reason.SENSOR_FAILURE), GOOD).astype(np.int16)
        return Series(self._times(device)[kept], value, quality)

    def _gap(self, device: DeviceTruth) -> Gap:
        at = self._times(device)
        first, last = int(at[self.lost.start - 1]), int(at[self.lost.stop])
        return Gap("missed", "restart", frozenset(device.points), first, last)

    def _timetable(self, produced: int) -> Timetable:
        killed = START_US + self.lost.start * STEP_US + STEP_US // 2
        ready = killed + len(self.lost) * STEP_US
        return Timetable(
            (
                (START_US, "gateway_ready"),
                (killed, "gateway_killed"),
                (killed, "central_killed"),
                (killed, "log_wiped"),
                (ready, "gateway_ready"),
                (START_US + self.samples * STEP_US, "calm"),
            ),
            commit_window_s=0.2,
            intervals_s={"meter1": 0.1, "room1": 0.1},
            thresholds=Thresholds(produced, kills=1),
        )


def with_series(evidence: Evidence, key: str, change: Callable[[Series], Series]) -> Evidence:
    """Change what arrived of one point."""
    series = evidence.arrived.series
    changed = {**series, key: change(series[key])}
    return replace(evidence, arrived=replace(evidence.arrived, series=changed))


def without_row(series: Series, row: int) -> Series:
    """Leave one reading out."""
    return Series(
        np.delete(series.at, row), np.delete(series.value, row), np.delete(series.quality, row)
    )


def with_row_again(series: Series, row: int, later_us: int) -> Series:
    """Repeat one reading a little later."""
    at = np.insert(series.at, row + 1, series.at[row] + later_us)
    value = np.insert(series.value, row + 1, series.value[row])
    return Series(at, value, np.insert(series.quality, row + 1, series.quality[row]))


def with_bit_flipped(series: Series, row: int) -> Series:
    """Change the least bit of one value."""
    value = series.value.copy()
    value.view(np.int64)[row] ^= 1
    return replace(series, value=value)


def with_quality(series: Series, row: int, quality: int) -> Series:
    """Change one quality."""
    changed = series.quality.copy()
    changed[row] = quality
    return replace(series, quality=changed)


def with_gaps(evidence: Evidence, change: Callable[[Gap], Gap | None]) -> Evidence:
    """Change, or with None remove, each gap."""
    changed = (change(gap) for gap in evidence.arrived.gaps)
    gaps = tuple(gap for gap in changed if gap is not None)
    return replace(evidence, arrived=replace(evidence.arrived, gaps=gaps))
