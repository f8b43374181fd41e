"""Report policies: which readings of a point are worth keeping, decided before they are committed.

A reading that is not reported is counted, never a loss: it says nothing that the last one did not.
A change of quality is always reported, and no reading ever gets another time than its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.clock import MICROSECONDS
from shared.columns import Columns, concatenate
from shared.model import PointClass
from shared.quality import Reason, bad

DAY_S: Final = 86_400.0

Series = NDArray[np.int32]
Times = NDArray[np.int64]
Chosen = NDArray[np.bool_]


class ReportSection(BaseModel):
    """When a point's readings are reported; with nothing set, always."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_change: bool = Field(False, description="Report a value only if it is another one.")
    deadband: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Report a value only if it is more than this away from the last reported one, "
        "in the point's unit. If a percentage is set too, the larger of both holds.",
    )
    deadband_percent: float = Field(
        0.0,
        ge=0,
        le=1_000,
        allow_inf_nan=False,
        description="The same in percent of the last reported value.",
    )
    min_interval_s: float = Field(
        0.0,
        ge=0,
        le=DAY_S,
        description="Report a point at most once in this time; the last value in it is reported "
        "at its end, with its own time.",
    )
    max_silence_s: float | None = Field(
        None,
        gt=0,
        le=30 * DAY_S,
        description="Report a reading after this time even if its value did not change.",
    )
    stale_s: float | None = Field(
        None,
        gt=0,
        le=30 * DAY_S,
        description="For points that push: after this time without a reading, report once that "
        "the point is stale.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.max_silence_s is not None and self.max_silence_s < self.min_interval_s:
            msg = "max_silence_s must not be shorter than min_interval_s"
            raise ValueError(msg)
        return self

    @property
    def is_plain(self) -> bool:
        """Tell whether every reading is reported and no silence is told."""
        return self == ReportSection()


@dataclass(frozen=True, slots=True)
class Shaped:
    """Readings to be committed, in the order they came; and how many were not reported."""

    columns: Columns
    suppressed: int


@dataclass(frozen=True, slots=True)
class _Rules:
    """The policies of a device's points as columns; times in microseconds, 0 where unset."""

    only_changes: Chosen
    deadband: NDArray[np.float64]
    deadband_share: NDArray[np.float64]
    min_interval: Times
    max_silence: Times
    stale: Times

    @classmethod
    def of(cls, policies: Sequence[ReportSection]) -> "_Rules":
        """Lay the policies out, one row a point."""
        return cls(
            np.array(
                [one.on_change or one.deadband + one.deadband_percent > 0 for one in policies]
            ),
            np.array([one.deadband for one in policies], np.float64),
            np.array([one.deadband_percent / 100 for one in policies], np.float64),
            _micros(one.min_interval_s for one in policies),
            _micros(one.max_silence_s or 0.0 for one in policies),
            _micros(one.stale_s or 0.0 for one in policies),
        )


@dataclass(slots=True)
class _Last:
    """What was last reported of each point, and when something was last heard of it."""

    is_known: Chosen
    at: Times
    value: NDArray[np.float64]
    quality: NDArray[np.uint16]
    heard: Times
    is_stale: Chosen
    texts: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, count: int) -> "_Last":
        """Begin with nothing known."""
        zeros = np.zeros(count, np.int64)
        nothing = np.zeros(count, np.bool_)
        value, quality = np.full(count, np.nan), np.zeros(count, np.uint16)
        return cls(nothing, zeros, value, quality, zeros.copy(), nothing.copy())

    def report(self, columns: Columns) -> None:
        """Take in readings that are reported, each of another point."""
        at = columns.series
        self.is_known[at] = True
        self.at[at] = columns.observed_at
        self.value[at] = columns.value
        self.quality[at] = columns.quality
        for row, series in enumerate(at.tolist()) if columns.texts or self.texts else ():
            self.texts.pop(series, None)
            if row in columns.texts:
                self.texts[series] = columns.texts[row]


class Shaper:
    """The report policies of one device's points; `series` of its columns is 0…n-1.

    Every reading is reported, suppressed, or held until the end of its point's interval.
    """

    def __init__(self, policies: Sequence[ReportSection]) -> None:
        """Take one policy a point."""
        self._rules = _Rules.of(policies)
        self._last = _Last.of(len(policies))
        self._held: dict[int, tuple[int, Columns]] = {}
        self.is_plain = all(one.is_plain for one in policies)

    @property
    def held(self) -> int:
        """Count the readings that wait for the end of their interval."""
        return len(self._held)

    def reset(self) -> int:
        """Forget what was reported: of each point the next reading is, whatever it says.

        Tells how many readings were held; they are suppressed.
        """
        held = len(self._held)
        self._last.is_known[:] = False
        self._last.is_stale[:] = False
        self._held.clear()
        return held

    def shape(self, columns: Columns, now_us: int) -> Shaped:
        """Choose what is reported of readings as they came; `now_us` is the gateway's time."""
        if self.is_plain or not len(columns):
            return Shaped(columns, 0)
        before = len(self._held)
        self._last.heard[columns.series] = now_us
        self._last.is_stale[columns.series] = False
        chosen = [rows[self._judge(columns.take(rows), now_us)] for rows in rounds(columns.series)]
        kept = np.sort(np.concatenate(chosen))
        suppressed = len(columns) + before - len(kept) - len(self._held)
        return Shaped(columns if len(kept) == len(columns) else columns.take(kept), suppressed)

    def due(self, now_us: int) -> Columns:
        """Give what time alone makes due: values at the end of their interval, stale points."""
        ready = sorted(series for series, (due_us, _) in self._held.items() if due_us <= now_us)
        parts: list[Columns] = []
        for series in ready:
            _, reading = self._held.pop(series)
            interval_ends = self._last.at[series] + self._rules.min_interval[series]
            self._last.report(reading)
            # The next interval begins where this one ended: else two could lie close together.
            self._last.at[series] = max(self._last.at[series], interval_ends)
            parts.append(reading)
        return concatenate([*parts, *self._gone_stale(now_us)])

    def next_due_us(self) -> int | None:
        """Tell when `due` has something at the earliest, if no reading comes before; else None."""
        rules, last = self._rules, self._last
        times = [due_us for due_us, _ in self._held.values()]
        waiting = last.is_known & ~last.is_stale & (rules.stale > 0)
        if waiting.any():
            times.append(int((last.heard + rules.stale)[waiting].min()))
        return min(times, default=None)

    def _judge(self, columns: Columns, now_us: int) -> Chosen:
        """Tell which readings, each of another point, are reported now; hold what has to wait."""
        at, rules, last = columns.series, self._rules, self._last
        elapsed = columns.observed_at - last.at[at]
        must = ~last.is_known[at] | (columns.quality != last.quality[at]) | (elapsed < 0)
        overdue = (rules.max_silence[at] > 0) & (elapsed >= rules.max_silence[at])
        wanted = must | overdue | ~rules.only_changes[at] | self._is_other(columns)
        reported: Chosen = wanted & (must | (elapsed >= rules.min_interval[at]))
        left = rules.min_interval[at] - elapsed
        for series in at.tolist() if self._held else ():
            self._held.pop(series, None)
        for row in np.flatnonzero(wanted & ~reported).tolist():
            self._held[int(at[row])] = now_us + int(left[row]), columns.take(np.array([row]))
        last.report(columns.take(np.flatnonzero(reported)))
        return reported

    def _is_other(self, columns: Columns) -> Chosen:
        at, last = columns.series, self._last
        before, now = last.value[at], columns.value
        limit = np.maximum(self._rules.deadband[at], self._rules.deadband_share[at] * abs(before))
        is_missing = np.isnan(before) != np.isnan(now)
        other: Chosen = is_missing | (np.abs(now - before) > limit)
        for row, series in enumerate(at.tolist()) if columns.texts or last.texts else ():
            other[row] |= columns.texts.get(row) != last.texts.get(series)
        return other

    def _gone_stale(self, now_us: int) -> Iterator[Columns]:
        rules, last = self._rules, self._last
        is_late = (rules.stale > 0) & last.is_known & (now_us - last.heard >= rules.stale)
        series = np.flatnonzero(is_late & ~last.is_stale).astype(np.int32)
        if len(series):
            count = len(series)
            quality = np.full(count, bad(Reason.STALE))
            told = Columns.of(series, np.full(count, now_us), np.full(count, np.nan), quality)
            last.is_stale[series] = True
            last.report(told)
            yield told


def rounds(series: Series) -> Iterator[NDArray[np.intp]]:
    """Part rows so that each part has a point once: first all first rows, then all second ones."""
    left = np.arange(len(series))
    while len(left):
        _, first = np.unique(series[left], return_index=True)
        yield left[np.sort(first)]
        left = np.delete(left, first)


def _micros(seconds: Iterator[float]) -> Times:
    return np.array([round(one * MICROSECONDS) for one in seconds], np.int64)


def policy_of(
    own: ReportSection | None, klass: PointClass, by_class: Mapping[PointClass, ReportSection]
) -> ReportSection:
    """Find a point's policy: its own, else that of its class, else report everything."""
    return own or by_class.get(klass) or ReportSection()
