"""Aggregation policies: what the readings of a window amount to, also of those never reported.

A window is emitted when its time is over, when the gateway stops, and early when readings of an
earlier one come after it; whoever stores rollups adds up those of one window.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from edge.clean import is_possible
from edge.report import rounds
from shared.clock import MICROSECONDS
from shared.columns import Columns
from shared.model import Point, PointClass, PointType
from shared.quality import CLASS_SHIFT
from shared.rollups import ROLLUP, Rollups, no_rollups

DAY_S: Final = 86_400
GRACE_US: Final = 2 * MICROSECONDS
"""So long after its end a window waits for readings that are on their way."""
MOST_SILENT: Final = 100
"""Windows that one value fills by itself; after a longer silence or jump nothing is known."""

Series = NDArray[np.int32]
Times = NDArray[np.int64]


class AggregateSection(BaseModel):
    """Which rollups the gateway makes of a point, and whether its readings are kept as well."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_s: int = Field(
        900, ge=1, le=DAY_S, description="Length of a window; a day is a multiple of it."
    )
    keep: Literal["raw", "rollups", "both"] = Field(
        "both", description="What is kept: the readings, their rollups, or both."
    )

    @field_validator("window_s")
    @classmethod
    def _parts_a_day(cls, window_s: int) -> int:
        if DAY_S % window_s:
            msg = f"a day of {DAY_S} s is no multiple of {window_s} s; take one such as 60 or 900"
            raise ValueError(msg)
        return window_s


class Aggregator:
    """The open windows of one device's points; `series` of its columns is 0…n-1.

    Windows are aligned to UTC. A value is known from its reading on for its hold at the most, until
    a reading that is not good, or until `silence`.
    """

    def __init__(
        self, policies: Sequence[AggregateSection | None], hold_us: Sequence[int] | int
    ) -> None:
        """Take one policy a point, None where there is none, and each one's hold."""
        kept = ["raw" if one is None else one.keep for one in policies]
        self._makes = np.array([one != "raw" for one in kept], np.bool_)
        self._keeps_raw = np.array([one != "rollups" for one in kept], np.bool_)
        self._width = np.array(
            [(DAY_S if one is None else one.window_s) * MICROSECONDS for one in policies], np.int64
        )
        self._hold = np.zeros(len(policies), np.int64) + hold_us
        self._newest = np.zeros(len(policies), np.int64)
        self._rows = np.zeros(len(policies), ROLLUP)
        self._is_open = np.zeros(len(policies), np.bool_)
        self._value = np.full(len(policies), np.nan)
        self._at = np.zeros(len(policies), np.int64)
        self._until = np.zeros(len(policies), np.int64)
        self.is_plain = not self._makes.any()

    @property
    def held(self) -> int:
        """Count the windows that are open."""
        return int(self._is_open.sum())

    def parted(self, columns: Columns) -> tuple[Columns, Columns]:
        """Part the readings that are kept themselves from those that only rollups tell of."""
        kept = self._keeps_raw[columns.series]
        if kept.all():
            return columns, Columns.empty()
        return columns.take(np.flatnonzero(kept)), columns.take(np.flatnonzero(~kept))

    def take(self, columns: Columns, now_us: int) -> Rollups:
        """Take readings in as they came; gives the windows that are over by them.

        One with the value and time of the newest is the same reading again, and not counted.
        """
        if self.is_plain:
            return no_rollups()
        rows = np.flatnonzero(self._makes[columns.series])
        at = columns.observed_at
        at = np.where(is_possible(at, now_us), at, now_us)
        done: list[Rollups] = []
        for each in rounds(columns.series[rows]):
            chosen = rows[each]
            chosen = chosen[
                ~self._is_repeat(columns.series[chosen], at[chosen], columns.value[chosen])
            ]
            series, times = columns.series[chosen], at[chosen]
            done += self._open_at(series, times)
            is_good = columns.quality[chosen] >> CLASS_SHIFT == 0
            value = np.where(is_good, columns.value[chosen], np.nan)
            self._add(series, times, np.where(np.isfinite(value), value, np.nan))
        return _joined(done)

    def _is_repeat(
        self, series: Series, times: Times, value: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        same = (value == self._value[series]) | (np.isnan(value) & np.isnan(self._value[series]))
        repeat: NDArray[np.bool_] = (times == self._newest[series]) & same
        return repeat

    def due(self, now_us: int) -> Rollups:
        """Give the windows that are over by time alone."""
        if self.is_plain:
            return no_rollups()
        return _joined(self._advance_open(now_us - GRACE_US))

    def silence(self, now_us: int) -> Rollups:
        """Take in that the device fell silent: from now on no value is known."""
        done = self._advance_open(now_us)
        self._account(self._opened(), now_us)
        self._until[:] = 0
        return _joined(done)

    def close(self, now_us: int) -> Rollups:
        """Give all that is open, with the part of each window that is known until now."""
        done = self._advance_open(now_us)
        opened = self._opened()
        self._account(opened, now_us)
        self._until[:] = 0
        return _joined([*done, self._closed(opened)])

    def _opened(self) -> Series:
        return np.flatnonzero(self._is_open).astype(np.int32)

    def _advance_open(self, to_us: int) -> list[Rollups]:
        opened = self._opened()
        return list(self._advance(opened, np.full(len(opened), to_us, np.int64)))

    def _open_at(self, series: Series, times: Times) -> list[Rollups]:
        """Open the windows of these times, and close what is open of others."""
        done = list(self._advance(series, times))
        starts = times - times % self._width[series]
        is_early = self._is_open[series] & (self._rows["start"][series] > starts)
        done.append(self._closed(series[is_early]))
        is_new = ~self._is_open[series]
        self._until[series[is_new]] = 0
        self._begin(series[is_new], starts[is_new])
        return done

    def _advance(self, series: Series, to_us: Times) -> Iterator[Rollups]:
        """Close what ends until `to_us`; windows that a known value reaches into follow."""
        while True:
            ends = self._rows["start"][series] + self._width[series]
            is_over = self._is_open[series] & (ends <= to_us)
            if not is_over.any():
                return
            series, to_us, ends = series[is_over], to_us[is_over], ends[is_over]
            self._account(series, ends)
            yield self._closed(series)
            is_near = to_us - ends < MOST_SILENT * self._width[series]
            goes_on = is_near & (self._until[series] > ends)
            self._begin(series[goes_on], ends[goes_on])

    def _begin(self, series: Series, starts: Times) -> None:
        fresh = np.zeros(len(series), ROLLUP)
        for name in ("min", "max", "mean", "first", "last"):
            fresh[name] = np.nan
        fresh["series"], fresh["start"], fresh["width"] = series, starts, self._width[series]
        self._rows[series] = fresh
        self._at[series] = starts
        self._is_open[series] = True

    def _closed(self, series: Series) -> Rollups:
        self._is_open[series] = False
        rows = self._rows[series]
        told: Rollups = rows[(rows["count"] > 0) | (rows["known"] > 0)]
        return told

    def _account(self, series: Series, to_us: Times | int) -> None:
        """Weigh the value that is known until `to_us` into the mean."""
        at = self._at[series]
        more = np.maximum(0, np.minimum(to_us, self._until[series]) - at)
        self._at[series] = np.maximum(at, to_us)
        series, more = series[more > 0], more[more > 0]
        known, value = self._rows["known"][series], self._value[series]
        share = more / (known + more)
        mean = np.where(known > 0, self._rows["mean"][series], value)
        # A weighted mean of two never overflows, as a running sum would.
        self._rows["mean"][series] = mean * (1 - share) + value * share
        self._rows["known"][series] = known + more

    def _add(self, series: Series, times: Times, value: NDArray[np.float64]) -> None:
        is_newest = times >= self._at[series]
        self._account(series, times)
        newest = series[is_newest]
        is_known = ~np.isnan(value)
        self._value[newest] = value[is_newest]
        self._newest[newest] = times[is_newest]
        self._until[newest] = np.where(is_known, times + self._hold[series], 0)[is_newest]
        self._rows["count"][series] += 1
        self._add_good(series[is_known], times[is_known], value[is_known])

    def _add_good(self, series: Series, times: Times, value: NDArray[np.float64]) -> None:
        rows = self._rows
        is_first = (rows["good_count"][series] == 0) | (times < rows["first_at"][series])
        is_last = (rows["good_count"][series] == 0) | (times >= rows["last_at"][series])
        for end, chosen in (("first", is_first), ("last", is_last)):
            rows[end][series[chosen]] = value[chosen]
            rows[f"{end}_at"][series[chosen]] = times[chosen]
        rows["good_count"][series] += 1
        with np.errstate(over="ignore"):
            rows["sum"][series] += value
        rows["min"][series] = np.fmin(rows["min"][series], value)
        rows["max"][series] = np.fmax(rows["max"][series], value)


def _joined(parts: Sequence[Rollups]) -> Rollups:
    return np.concatenate([no_rollups(), *parts])


def aggregate_of(
    own: AggregateSection | None,
    point: Point,
    by_class: Mapping[PointClass, AggregateSection | None],
) -> AggregateSection | None:
    """Find a point's policy: its own, else that of its class, else none; texts have none."""
    return None if point.type is PointType.TEXT else own or by_class.get(point.klass)
