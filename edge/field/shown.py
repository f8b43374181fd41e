"""A reading as a person sees it: value, what its quality means, when it was."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge.live import LiveValue
from protocols.driver import PointSource
from shared.columns import Columns
from shared.quality import Flag, QualityClass, Reason, class_of, flags_of, reason_of

_FLAGS: Final = {
    Flag.CLOCK_UNSYNCHRONISED: "clock not synchronised",
    Flag.TIME_ADJUSTED: "time adjusted",
    Flag.FORCED: "forced by hand",
    Flag.CORRECTED: "corrected",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """One point with what was read of it; `value` is None where there is no number."""

    key: str
    unit: str
    value: float | None
    text: str | None
    quality: int
    observed_at: int

    @property
    def is_bad(self) -> bool:
        """Tell whether there is nothing to be trusted."""
        return class_of(self.quality) is QualityClass.BAD

    @property
    def words(self) -> str:
        """Say the quality: `good`, `bad: wrong address`."""
        return words_of(self.quality)

    @property
    def said(self) -> str:
        """Say the value, or why there is none."""
        if self.is_bad:
            return self.words
        value = self.text if self.text is not None else f"{self.value or 0.0:.10g}"
        return f"{value} {self.unit}".rstrip()


def words_of(quality: int) -> str:
    """Say a quality in words: class, reason and flags."""
    klass, reason = class_of(quality), reason_of(quality)
    said = klass.name.lower()
    if reason is not Reason.NONE:
        said += f": {reason.name.lower().replace('_', ' ')}"
    flags = [text for flag, text in _FLAGS.items() if flag in flags_of(quality)]
    return ", ".join([said, *flags])


def shown_of(points: Sequence[PointSource], columns: Columns) -> list[Shown]:
    """Put what was read beside its points, in the order of the columns."""
    return [
        Shown(
            points[series].point.key,
            points[series].point.unit,
            _number(columns, row),
            columns.texts.get(row),
            int(columns.quality[row]),
            int(columns.observed_at[row]),
        )
        for row, series in enumerate(columns.series.tolist())
    ]


def shown_live(live: LiveValue) -> Shown:
    """Show a live value."""
    value = None if live.text is not None or math.isnan(live.value) else live.value
    return Shown(live.key, live.unit, value, live.text, live.quality, live.observed_at)


def _number(columns: Columns, row: int) -> float | None:
    value = float(columns.value[row])
    return None if row in columns.texts or math.isnan(value) else value
