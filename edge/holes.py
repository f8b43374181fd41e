"""Holes in a point's time, in which the gateway has nothing, and the gaps that declare them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.columns import Columns
from shared.link import Range, ranges_of
from shared.quality import REASON_MASK, Reason


class GapReason(StrEnum):
    """Why readings are missing; the texts are part of the link's protocol."""

    RESTART = "restart"
    LINK_DOWN = "link_down"
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

    `count` readings were dropped (0: none had been produced; None: unknown); `missed` polls were
    not made.
    """

    cause: str
    reason: GapReason
    series: tuple[Range, ...]
    from_us: int
    to_us: int
    count: int | None = 0
    missed: int | None = None
    voided: tuple[tuple[int, tuple[Range, ...]], ...] = ()

    def event(self) -> dict[str, Any]:
        """Write the gap as the event of docs/reference/link.md, under a new id."""
        return {
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


@dataclass(slots=True)
class Holes:
    """Which series have an open hole: since when, why, and how many polls it has cost.

    `missed` is -1 where that is unknown.
    """

    count: int
    since: NDArray[np.int64] = field(init=False)
    missed: NDArray[np.int64] = field(init=False)
    reasons: dict[int, GapReason] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.since = np.zeros(self.count, np.int64)
        self.missed = np.full(self.count, -1, np.int64)

    def open(
        self,
        series: NDArray[np.int32],
        since_us: NDArray[np.int64],
        reason: GapReason,
        missed: int | None,
    ) -> None:
        """Open a hole, or deepen the one that is open: it keeps its start and its first reason.

        What it cost is unknown (None) as soon as a part of it is.
        """
        new = self.since[series] == 0
        fresh = series[new]
        self.since[fresh] = since_us[new]
        self.missed[fresh] = 0
        self.reasons |= dict.fromkeys(fresh.tolist(), reason)
        if missed is None:
            self.missed[series] = -1
        else:
            self.missed[series[self.missed[series] >= 0]] += missed

    def close(self, columns: Columns) -> list[Gap]:
        """Close the holes of the series that a device answered for; `columns` are new readings."""
        if not self.reasons:
            return []
        answered = (columns.quality & REASON_MASK) != Reason.LINK_DOWN
        rows = np.flatnonzero(answered & (self.since[columns.series] > 0))
        if not len(rows):
            return []
        ends: dict[int, int] = {}
        for series, at in zip(
            columns.series[rows].tolist(), columns.observed_at[rows].tolist(), strict=True
        ):
            ends[series] = min(at, ends.get(series, at))
        return self._close(ends)

    def _close(self, ends: dict[int, int]) -> list[Gap]:
        alike: dict[tuple[int, int, GapReason, int], list[int]] = {}
        for series, to_us in ends.items():
            reason = self.reasons.pop(series)
            key = (int(self.since[series]), to_us, reason, int(self.missed[series]))
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
    reason: GapReason, columns: Sequence[Columns], voided: dict[int, list[int]], count: int | None
) -> Gap:
    """Describe committed readings that are lost: over all their points and times."""
    series: set[int] = set()
    times: list[int] = []
    for part in columns:
        series |= set(np.unique(part.series).tolist())
        times += [int(part.observed_at.min()), int(part.observed_at.max())] if len(part) else []
    return Gap(
        "dropped",
        reason,
        ranges_of(list(series)),
        min(times, default=0) - 1,
        max(times, default=0) + 1,
        count=count,
        voided=tuple((epoch, ranges_of(seqs)) for epoch, seqs in voided.items()),
    )
