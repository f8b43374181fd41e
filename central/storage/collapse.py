"""Rows of several batches, sorted for the database, with one row per (point, observed_at).

The survivor rule is that of `outranks` in the project's schema: the same in any order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from central.storage.quarantine import storable
from shared.columns import Columns, concatenate
from shared.quality import CLASS_SHIFT, Flag


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Readings sorted by (point, observed_at), each pair once.

    `batch` is the index of the first batch that told of the pair: it is the one that delivers it.
    """

    columns: Columns
    batch: NDArray[np.int32]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.columns)

    def take(self, rows: NDArray[np.intp]) -> "Rows":
        """Pick rows by index, in that order."""
        return Rows(self.columns.take(rows), self.batch[rows])


def collapse(parts: Sequence[Columns]) -> Rows:
    """Join the readings of batches, in their order, into rows for the database.

    Texts are made storable first, so they are ranked here as the database ranks those it has.
    """
    columns = concatenate(parts)
    if columns.texts:
        texts = {row: storable(text) for row, text in columns.texts.items()}
        columns = replace(columns, texts=texts)
    batch = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    order = np.lexsort((columns.observed_at, columns.series))
    series, at = columns.series[order], columns.observed_at[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (series[1:] != series[:-1]) | (at[1:] != at[:-1])
    if is_first.all():
        return Rows(columns.take(order), batch[order])
    # The sort is stable: the first of equal pairs is of the earliest batch.
    owners = batch[order][is_first]
    return Rows(columns.take(_survivors(columns)), owners)


def _survivors(columns: Columns) -> NDArray[np.intp]:
    quality = columns.quality.astype(np.int32)
    ranked = np.lexsort(
        (
            -_text_ranks(columns.texts, len(columns)),
            quality,
            -columns.value,  # NaN, which is no value, sorts last
            np.minimum(quality >> CLASS_SHIFT & 3, 2),
            -(quality & Flag.CORRECTED),
            columns.observed_at,
            columns.series,
        )
    )
    series, at = columns.series[ranked], columns.observed_at[ranked]
    is_best = np.ones(len(ranked), bool)
    is_best[1:] = (series[1:] != series[:-1]) | (at[1:] != at[:-1])
    best: NDArray[np.intp] = ranked[is_best]
    return best


def _text_ranks(texts: Mapping[int, str], count: int) -> NDArray[Any]:
    ranks = np.zeros(count, np.int64)
    order = {text: at for at, text in enumerate(sorted(set(texts.values())), start=1)}
    for row, text in texts.items():
        ranks[row] = order[text] if text else 0
    return ranks
