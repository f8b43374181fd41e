"""The last reading of each point of a plan."""

import numpy as np

from shared.columns import Columns
from shared.quality import Reason, bad


class Latest:
    """Keeps each point's last reading; those of which no message told are `NOT_YET_REPORTED`."""

    def __init__(self, count: int) -> None:
        """Begin with nothing told."""
        self._observed_at = np.zeros(count, np.int64)
        self._value = np.full(count, np.nan)
        self._quality = np.full(count, bad(Reason.NOT_YET_REPORTED), np.uint16)
        self._texts: dict[int, str] = {}

    def keep(self, columns: Columns) -> None:
        """Keep each point's last reading."""
        for series in columns.series.tolist() if self._texts else ():
            self._texts.pop(series, None)
        self._observed_at[columns.series] = columns.observed_at
        self._value[columns.series] = columns.value
        self._quality[columns.series] = columns.quality
        for row, text in columns.texts.items():
            self._texts[int(columns.series[row])] = text

    def columns(self, now_us: int) -> Columns:
        """Give one row a point; the time of what was never told is now."""
        at = np.where(self._observed_at > 0, self._observed_at, now_us)
        series = np.arange(len(at), dtype=np.int32)
        return Columns(series, at, self._value.copy(), self._quality.copy(), dict(self._texts))
