"""Which batches of a damaged outbox were saved, where they lie now, and what its tail knew of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from heapq import heappush, heappushpop
from typing import Final

from edge.sealed import EpochRow, Found
from shared.seqs import SeqSet

EPOCH_BITS: Final = 40
"""Room for the seqs of an epoch where a damaged file is carried over."""

LOOKED_AT: Final = 2_000
"""So many of the newest segments tell of the last readings where the tail does not."""


@dataclass(slots=True)
class Saved:
    """What is carried over from a damaged file.

    `upto` is the id up to which the file's tail tells of its segments, None where it is lost. What
    the tail knew need not be decoded again. It knew a segment whose id, epoch and seq agree with
    each other and with the epoch; where one number is wrong, the segment counts as not known.
    """

    upto: int | None
    rows: dict[int, EpochRow] = field(default_factory=dict)
    """The epochs with their new bases."""
    seqs: dict[int, SeqSet] = field(default_factory=dict)
    _old: dict[int, int] = field(default_factory=dict)
    _last_known: int = 0
    _first_unknown: int = 2**62
    _newest: list[int] = field(default_factory=list)
    """A heap of the highest ids."""

    def take_epoch(self, row: EpochRow) -> EpochRow:
        """Give an epoch its place: in the order of their old ones, so that ids stay in order."""
        if row.epoch not in self.rows:
            self._old[row.epoch] = row.base
            base = (len(self.rows) + 1) << EPOCH_BITS
            self.rows[row.epoch] = replace(row, base=base)
        return self.rows[row.epoch]

    def taken(self, found: Found) -> EpochRow | None:
        """Note a segment and give its epoch; None if it was saved before."""
        one = found.segment
        seqs = self.seqs.setdefault(one.epoch, SeqSet())
        if one.seq in seqs:
            return None
        seqs.add(one.seq, one.seq)
        row = self.take_epoch(EpochRow(one.epoch, -1))
        id_ = row.base + one.seq
        in_place = one.id == self._old[one.epoch] + one.seq
        if self.upto is not None and one.id <= self.upto and in_place:
            self._last_known = max(self._last_known, id_)
        else:
            self._first_unknown = min(self._first_unknown, id_)
        push = heappushpop if len(self._newest) == LOOKED_AT else heappush
        push(self._newest, id_)
        return row

    def covered(self) -> int:
        """Tell up to which new id the segments need not be decoded.

        That is what the tail knew, where all that it did not know comes after it; else all but the
        newest, for what they do not tell is declared as lost anyway.
        """
        if self._last_known and self._last_known < self._first_unknown:
            return self._last_known
        return self._newest[0] - 1 if len(self._newest) == LOOKED_AT else 0

    def below(self, id_: int) -> Mapping[int, SeqSet]:
        """Give the seqs of the segments up to a new id, by epoch."""
        return {
            epoch: SeqSet(seqs.common(0, id_ - self.rows[epoch].base))
            for epoch, seqs in self.seqs.items()
        }
