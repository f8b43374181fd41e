"""Readings as numpy columns: what travels from driver to database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

type_series = np.dtype(np.int32)
type_time = np.dtype(np.int64)
type_value = np.dtype(np.float64)
type_quality = np.dtype(np.uint16)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Readings as four equally long columns, and texts apart.

    `series` int32 is an index into an ordered list of points that the context names (a plan, a
    point set) or, in central, a point id. `observed_at` int64 is UTC in microseconds. `value`
    float64 is NaN where a reading has no value (bad quality, or a text). `quality` uint16 is laid
    out by `shared.quality`. `texts` maps a row to its text.
    """

    series: NDArray[np.int32]
    observed_at: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint16]
    texts: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        lengths = len(self.series), len(self.observed_at), len(self.value), len(self.quality)
        if lengths.count(lengths[0]) != 4:
            msg = f"columns differ in length: {lengths}"
            raise ValueError(msg)

    def __len__(self) -> int:
        """Count the readings."""
        return len(self.series)

    @classmethod
    def empty(cls) -> Self:
        """Make columns without a reading."""
        return cls.of([], [], [], [])

    @classmethod
    def of(
        cls,
        series: Sequence[int] | NDArray[np.int32],
        observed_at: Sequence[int] | NDArray[np.int64],
        value: Sequence[float] | NDArray[np.float64],
        quality: Sequence[int] | NDArray[np.uint16],
        texts: Mapping[int, str] | None = None,
    ) -> Self:
        """Make columns from anything array-like, converting to the column types."""
        return cls(
            np.asarray(series, type_series),
            np.asarray(observed_at, type_time),
            np.asarray(value, type_value),
            np.asarray(quality, type_quality),
            texts or {},
        )

    def take(self, rows: NDArray[np.intp]) -> "Columns":
        """Pick rows by index, in that order; a row's text goes with it."""
        texts: dict[int, str] = {}
        if self.texts:
            texts = {
                at: self.texts[row] for at, row in enumerate(rows.tolist()) if row in self.texts
            }
        return Columns(
            self.series[rows], self.observed_at[rows], self.value[rows], self.quality[rows], texts
        )

    def with_series(self, series: NDArray[np.int32]) -> "Columns":
        """Replace the series column: the same readings, named by another list of points."""
        return Columns(series, self.observed_at, self.value, self.quality, self.texts)


def concatenate(parts: Sequence[Columns]) -> Columns:
    """Join columns in order; texts keep their readings."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Columns.empty()
    texts: dict[int, str] = {}
    start = 0
    for part in parts:
        texts |= {start + row: text for row, text in part.texts.items()}
        start += len(part)
    return Columns(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.observed_at for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.quality for part in parts]),
        texts,
    )
