"""Holes in a point's time, in which the gateway has nothing, and the gaps that declare them."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.tail import answered
from shared.columns import Columns, concatenate
from shared.link import Range, ranges_of

MOST_GAPS: Final = 2_000
"""Gaps that one loss is told in; each takes about a hundred bytes."""


class GapReason(StrEnum):
    """Why readings are missing; the texts are part of the link's protocol."""

    RESTART = "restart"
    OVERRUN = "overrun"
    DEVICE_DOWN = "device_down"
    STOPPED = "stopped"
    OUTBOX_FULL = "outbox_full"
    TOO_OLD = "too_old"
    OUTBOX_DAMAGED = "outbox_damaged"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Gap:
    """A declared loss over the open interval (from_us, to_us) of the points in `series`.

    `count` readings were dropped (0: none had been produced; None: unknown), and so many `rollups`;
    `missed` polls were not made.
    """

    cause: str
    reason: GapReason
    series: tuple[Range, ...]
    from_us: int
    to_us: int
    count: int | None = 0
    missed: int | None = None
    voided: tuple[tuple[int, tuple[Range, ...]], ...] = ()
    rollups: int = 0

    def event(self) -> dict[str, Any]:
        """Write the gap as the event of docs/reference/link.md, under a new id."""
        told = {
            "event": "gap",
            "id": secrets.token_bytes(16),
            "cause": self.cause,
            "reason": self.reason.value,
            "series": [list(one) for one in self.series],
            "from_us": self.from_us,
            "to_us": self.to_us,
            "count": self.count,
            "missed": self.missed,
            "voided": [
                {"epoch": epoch, "seqs": [list(one) for one in seqs]} for epoch, seqs in self.voided
            ],
        }
        return told | ({"rollups": self.rollups} if self.rollups else {})


@dataclass(slots=True)
class Holes:
    """Which series have an open hole: since when, why, and how many polls it has cost.

    `missed` is -1 where that is unknown; `opened_at` is the gateway's time when it was noticed.
    """

    count: int
    since: NDArray[np.int64] = field(init=False)
    opened_at: NDArray[np.int64] = field(init=False)
    missed: NDArray[np.int64] = field(init=False)
    reasons: dict[int, GapReason] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.since = np.zeros(self.count, np.int64)
        self.opened_at = np.zeros(self.count, np.int64)
        self.missed = np.full(self.count, -1, np.int64)

    def open(
        self,
        series: NDArray[np.int32],
        since_us: NDArray[np.int64],
        reason: GapReason,
        missed: int | None,
        at_us: int = 0,
    ) -> None:
        """Open a hole, or deepen the one that is open: it keeps its start and its first reason.

        What it cost is unknown (None) as soon as a part of it is.
        """
        new = self.since[series] == 0
        fresh = series[new]
        self.since[fresh] = since_us[new]
        self.opened_at[fresh] = at_us
        self.missed[fresh] = 0
        self.reasons |= dict.fromkeys(fresh.tolist(), reason)
        if missed is None:
            self.missed[series] = -1
        else:
            self.missed[series[self.missed[series] >= 0]] += missed

    def move(self, before_us: int, by_us: int) -> None:
        """Correct what a clock that was not set has stamped: times before `before_us`."""
        for times in (self.since, self.opened_at):
            times[(times > 0) & (times < before_us)] += by_us

    def close(self, columns: Columns) -> list[Gap]:
        """Close the holes of the series that a device answered for; `columns` are new readings."""
        if not self.reasons:
            return []
        rows = np.flatnonzero(answered(columns.quality) & (self.since[columns.series] > 0))
        if not len(rows):
            return []
        ends: dict[int, int] = {}
        for series, at in zip(
            columns.series[rows].tolist(), columns.observed_at[rows].tolist(), strict=True
        ):
            ends[series] = min(at, ends.get(series, at))
        return self._close(ends)

    def leave(self, series: NDArray[np.int32], now_us: int) -> list[Gap]:
        """Declare the holes of these series up to now; if they stay, they are open from now on."""
        open_ = series[self.since[series] > 0]
        reasons = {one: self.reasons[one] for one in open_.tolist()}
        gaps = self._close(dict.fromkeys(reasons, now_us))
        self.since[open_] = self.opened_at[open_] = now_us
        self.missed[open_] = 0
        self.reasons |= reasons
        return gaps

    def moved_to(self, places: NDArray[np.int32]) -> "Holes":
        """Carry the holes over to another point set; `places` are the series of before, or -1."""
        moved = Holes(len(places))
        new = np.flatnonzero(places >= 0)
        old = places[new]
        moved.since[new], moved.opened_at[new] = self.since[old], self.opened_at[old]
        moved.missed[new] = self.missed[old]
        pairs = zip(new.tolist(), old.tolist(), strict=True)
        moved.reasons = {at: self.reasons[was] for at, was in pairs if was in self.reasons}
        return moved

    def _close(self, ends: dict[int, int]) -> list[Gap]:
        alike: dict[tuple[int, int, GapReason, int], list[int]] = {}
        for series, to_us in ends.items():
            reason = self.reasons.pop(series)
            # A begin that a clock which was ahead has stamped lies behind its own end.
            since = self.since if to_us > self.since[series] else self.opened_at
            from_us = int(since[series])
            key = (from_us, to_us, reason, int(self.missed[series]))
            alike.setdefault(key, []).append(series)
            self.since[series] = 0
        return [
            Gap(
                "missed",
                reason,
                ranges_of(series),
                from_us,
                to_us,
                missed=None if missed < 0 else missed,
            )
            for (from_us, to_us, reason, missed), series in alike.items()
            if to_us - from_us > 1
        ]


def dropped(
    reason: GapReason,
    columns: Sequence[Columns],
    voided: dict[int, list[int]],
    lost: tuple[int, int],
) -> list[Gap]:
    """Describe committed readings and rollups that are lost, each series over its own times.

    The counts add up to `lost`; the first gap names the batches. Series without alike times have
    a gap of their own, unless that made too many: then one covers all.
    """
    count, rollups = lost
    whole = concatenate(list(columns))
    names = tuple((epoch, ranges_of(seqs)) for epoch, seqs in voided.items())
    if not len(whole):
        return [Gap("dropped", reason, (), 0, 0, count, voided=names, rollups=rollups)]
    alike: dict[tuple[int, int], list[int]] = {}
    for series, first, last in _spans(whole):
        alike.setdefault((first, last), []).append(series)
    if len(alike) > MOST_GAPS:
        first, last = int(whole.observed_at.min()), int(whole.observed_at.max())
        alike = {(first, last): np.unique(whole.series).tolist()}
    # Columns that tell which times rollups cover are no readings.
    counts = np.bincount(whole.series) * (rollups == 0)
    gaps = [
        Gap(
            "dropped",
            reason,
            ranges_of(series),
            first - 1,
            last + 1,
            count=int(counts[series].sum()),
        )
        for (first, last), series in alike.items()
    ]
    over = count - sum(gap.count or 0 for gap in gaps)
    first_count = (gaps[0].count or 0) + over
    gaps[0] = replace(gaps[0], count=first_count, voided=names, rollups=rollups)
    return gaps


def _spans(columns: Columns) -> Iterator[tuple[int, int, int]]:
    order = np.lexsort((columns.observed_at, columns.series))
    series, at = columns.series[order], columns.observed_at[order]
    starts = np.flatnonzero(np.r_[True, series[1:] != series[:-1]])
    ends = np.r_[starts[1:], len(series)] - 1
    yield from zip(series[starts].tolist(), at[starts].tolist(), at[ends].tolist(), strict=True)
