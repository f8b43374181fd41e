"""Point 2 of the proof: each sample of a device is delivered as it was served, or in a gap.

A sample is named by its device's counter. Pushed samples (OPC UA, MQTT) carry the device's own
time, so observed_at is the time of the truth to the microsecond. Polled ones (Modbus) are stamped
when the answer arrives. One connection asks one thing at a time and truth and gateway share one
clock, so the answer's time lies between this sample's serving and the next one's. For the same
reason a polled sample that was lost was served strictly after the last delivered one was stamped
and strictly before the next delivered one is: no tolerance is needed to find it in its gap.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.quality import CLASS_SHIFT, Flag, QualityClass
from tests.chaos.arrived import Series
from tests.chaos.findings import Findings, Kind
from tests.chaos.intervals import Intervals
from tests.chaos.truth import DeviceTruth

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Span:
    """What part of a run is judged for losses, in µs; None: from, or until, the first, or last,
    delivered sample of each device.
    """

    from_us: int | None = None
    until_us: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """What became of a device's samples: rows are samples, columns its points."""

    device: DeviceTruth
    judged: Mask
    delivered: NDArray[np.bool_]
    lost: int
    doubled: int
    torn: int
    adjusted: int


def examine(
    device: DeviceTruth,
    series: Mapping[str, Series],
    gaps: Mapping[str, Intervals],
    span: Span,
    findings: Findings,
) -> Delivery:
    """Match all samples of a device with what arrived; what is wrong goes to `findings`."""
    counted = _count(device, series.get(device.counter, Series.empty()), findings)
    judged = _judged(device, counted.is_there, span)
    delivered = np.zeros(device.values.shape, np.bool_)
    lost = torn = 0
    for column, key in enumerate(device.points):
        readings = series.get(key, Series.empty())
        found = _compare(device, column, readings, counted.expected, findings)
        in_gap = gaps.get(key, Intervals.union([])).hold(counted.expected)
        _note(findings, Kind.IN_GAP, device, column, found & in_gap)
        missing = ~found & ~in_gap & judged
        _note(findings, Kind.LOST, device, column, missing)
        _find_strangers(key, readings, counted.expected, findings)
        delivered[:, column] = found
        lost += int(missing.sum())
        torn += int((~found & in_gap & counted.is_there).sum())
    return Delivery(device, judged, delivered, lost, counted.doubled, torn, counted.adjusted)


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """When each sample should stand in central, and whether its counter does."""

    expected: NDArray[np.int64]
    is_there: Mask
    doubled: int
    adjusted: int


def _count(device: DeviceTruth, counter: Series, findings: Findings) -> _Counted:
    good = _is_good(counter.quality) & ~np.isnan(counter.value)
    value, at, quality = counter.value[good], counter.at[good], counter.quality[good]
    known = (value >= 1) & (value <= len(device)) & (value == np.floor(value))
    for stranger in value[~known]:
        findings.add(Kind.UNEXPLAINED, f"{device.counter} {stranger}: never served")
    index = value[known].astype(np.int64) - 1
    at, quality = at[known], quality[known]
    sample, first = np.unique(index, return_index=True)  # the first in time: `at` is ascending
    doubled = len(index) - len(sample)
    if doubled:
        again = np.setdiff1d(np.arange(len(index)), first)
        one = int(again[0])
        text = f"{device.counter} {index[one] + 1}: again at {at[one]}"
        findings.add(Kind.DOUBLED, text, doubled)
    expected = device.at_us.copy()
    expected[sample] = at[first]
    is_there = np.zeros(len(device), np.bool_)
    is_there[sample] = True
    adjusted = np.zeros(len(device), np.bool_)
    adjusted[sample] = (quality[first] & Flag.TIME_ADJUSTED) != 0
    wrong = is_there & ~_is_possible_time(device, expected, adjusted)
    _note(findings, Kind.WRONG_TIME, device, device.points.index(device.counter), wrong)
    return _Counted(expected, is_there, doubled, int(adjusted.sum()))


def _is_possible_time(device: DeviceTruth, at: NDArray[np.int64], adjusted: Mask) -> Mask:
    if not device.is_polled:
        pushed: Mask = (at == device.at_us) | adjusted
        return pushed
    next_us = np.append(device.at_us[1:], np.iinfo(np.int64).max)
    polled: Mask = (device.at_us <= at) & (at < next_us)
    return polled


def _judged(device: DeviceTruth, is_there: Mask, span: Span) -> Mask:
    """Choose the samples that must be delivered or declared."""
    if not is_there.any():
        first, last = device.at_us[:1], device.at_us[-1:]
    else:
        there = device.at_us[is_there]
        first, last = there[:1], there[-1:]
    from_us = first if span.from_us is None else span.from_us
    until_us = last if span.until_us is None else span.until_us
    judged: Mask = (device.at_us >= from_us) & (device.at_us <= until_us)
    return judged


def _compare(
    device: DeviceTruth,
    column: int,
    readings: Series,
    expected: NDArray[np.int64],
    findings: Findings,
) -> Mask:
    """Tell which samples have a reading of this point; it must be the one that was served."""
    if not len(readings.at):
        return np.zeros(len(expected), np.bool_)
    place = np.minimum(np.searchsorted(readings.at, expected), len(readings.at) - 1)
    found: Mask = readings.at[place] == expected
    served, value = device.values[:, column], readings.value[place]
    empty = np.isnan(served)
    is_bad = (readings.quality[place] >> CLASS_SHIFT & 3) == QualityClass.BAD
    same_bits = served.view(np.int64) == np.ascontiguousarray(value).view(np.int64)
    right = np.where(empty, is_bad & np.isnan(value), _is_good(readings.quality[place]) & same_bits)
    _note(findings, Kind.DIFFERENT, device, column, found & ~right)
    return found


def _find_strangers(
    key: str, readings: Series, expected: NDArray[np.int64], findings: Findings
) -> None:
    strange = _is_good(readings.quality) & ~np.isin(readings.at, expected)
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        text = f"{key} at {readings.at[row]}: {readings.value[row]}"
        findings.add(Kind.UNEXPLAINED, text, int(strange.sum()))


def _is_good(quality: NDArray[np.int16]) -> Mask:
    good: Mask = (quality >> CLASS_SHIFT & 3) == QualityClass.GOOD
    return good


def _note(findings: Findings, kind: Kind, device: DeviceTruth, column: int, rows: Mask) -> None:
    if rows.any():
        row = int(np.flatnonzero(rows)[0])
        text = f"{device.points[column]} of sample {row + 1}, served at {device.at_us[row]}"
        findings.add(kind, text, int(rows.sum()))
