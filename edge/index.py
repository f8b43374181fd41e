"""The outbox's index in memory: which batches are in the file, and what became of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

from edge.ledger import Ledger
from edge.sealed import Draft, EpochRow, Sealed
from shared.link import Range, Settled
from shared.model import Kind
from shared.seqs import SeqSet

Leaving = Mapping[int, tuple[Sequence[Range], int]]
"""What leaves the file, by epoch: seqs, and how many readings they hold."""

IN_HELLO: Final = 10_000
"""The most epochs, and ranges of an epoch, that `hello` takes (docs/reference/link.md)."""

_NOTHING: Final[Leaving] = {}
_TOLD: Final = ("delivered", "collapsed", "quarantined")


@dataclass(slots=True)
class Epoch:
    """One epoch: its row, the seqs still in the file, and how many readings those hold.

    `lost` are seqs that were dropped and declared since the start.
    """

    row: EpochRow
    kept: SeqSet = field(default_factory=SeqSet)
    readings: int = 0
    lost: SeqSet = field(default_factory=SeqSet)


class Index:
    """All epochs of the outbox; it mirrors the file and never does I/O."""

    def __init__(self) -> None:
        """Start with no epoch."""
        self.epochs: dict[int, Epoch] = {}
        self.current = Epoch(EpochRow(0, 0))
        self.next_seq = 0
        self._told: dict[int, Settled] = {}
        self._skip: dict[int, SeqSet] = {}

    @property
    def next_id(self) -> int:
        """The id that the next segment will get; every committed id is below it."""
        return self.current.row.base + self.next_seq

    def begin(self, row: EpochRow) -> None:
        """Make `row` the epoch that new segments belong to."""
        self.current = self.epochs[row.epoch] = Epoch(row)
        self.next_seq = 0

    def recovered(self, segment: Sealed) -> None:
        """Take in a segment that was found in the file."""
        epoch = self.epochs.setdefault(
            segment.epoch, Epoch(EpochRow(segment.epoch, segment.id - segment.seq))
        )
        epoch.kept.add(segment.seq, segment.seq)
        epoch.readings += segment.count if segment.kind is Kind.READINGS else 0

    def noted(self, drafts: Sequence[Draft]) -> None:
        """Take in what was committed to the current epoch."""
        self.current.kept.add(self.next_seq, self.next_seq + len(drafts) - 1)
        self.current.readings += sum(d.count for d in drafts if d.kind is Kind.READINGS)
        self.next_seq += len(drafts)

    def dropped(self, number: int, seqs: Sequence[Range], readings: int) -> None:
        """Take in that segments were deleted and declared as a gap."""
        epoch = self.epochs[number]
        _discard(epoch.kept, seqs)
        for one in seqs:
            epoch.lost.add(*one)
        epoch.readings -= readings
        epoch.row = replace(epoch.row, dropped=epoch.row.dropped + readings)

    def settle(self, told: Sequence[Settled]) -> None:
        """Take in what central told; the segments are due for deletion from now on."""
        for settled in told:
            if settled.epoch in self.epochs:
                skip = self._skip.setdefault(settled.epoch, SeqSet())
                for seqs in settled.seqs:
                    skip.add(*seqs)
                self._told[settled.epoch] = self._newest(settled)

    def _newest(self, settled: Settled) -> Settled:
        """Choose the newer totals: they only grow, and receipts may come late or twice."""
        known = self._told.get(settled.epoch) or self.epochs[settled.epoch].row
        if _sum(known) <= _sum(settled):
            return settled
        return settled.model_copy(update={name: getattr(known, name) for name in _TOLD})

    def is_anything_due(self) -> bool:
        """Tell whether central settled batches that may still be in the file."""
        return bool(self._skip)

    def is_settled(self, epoch: int, seq: int) -> bool:
        """Tell whether central settled this batch, though it may still be in the file."""
        return epoch in self._skip and seq in self._skip[epoch]

    def due(self) -> list[tuple[EpochRow, Settled]]:
        """List what is to be deleted: the newest totals told, with the seqs in the file."""
        return [
            (self.epochs[number].row, settled.model_copy(update={"seqs": self._in_file(number)}))
            for number, settled in self._told.items()
        ]

    def _in_file(self, number: int) -> tuple[Range, ...]:
        kept = self.epochs[number].kept
        return tuple(part for seqs in self._skip[number] for part in kept.common(*seqs))

    def deleted(self, due: Sequence[tuple[EpochRow, Settled]], gone: Mapping[int, int]) -> None:
        """Take in that `due` is done: `gone` readings left the file, by epoch."""
        for row, settled in due:
            epoch = self.epochs[row.epoch]
            _discard(epoch.kept, settled.seqs)
            epoch.readings -= gone[row.epoch]
            totals = {name: getattr(settled, name) for name in _TOLD}
            epoch.row = replace(epoch.row, settled=epoch.row.settled + gone[row.epoch], **totals)
            # More may have been told while the file was at work: that stays due.
            newest = self._told[row.epoch]
            same = all(getattr(newest, name) == getattr(settled, name) for name in _TOLD)
            if same and not self._in_file(row.epoch):
                del self._told[row.epoch], self._skip[row.epoch]

    def pack(self, leaving: Leaving = _NOTHING) -> list[Any]:
        """Write the index for the tail, as it will be when what is `leaving` has left."""
        packed = []
        for number, epoch in self.epochs.items():
            seqs, readings = leaving.get(number, ((), 0))
            kept = SeqSet(epoch.kept.ranges())
            _discard(kept, seqs)
            if kept:
                packed.append([number, [list(one) for one in kept], epoch.readings - readings])
        return packed

    def count(self, after: int, upto: int) -> int:
        """Count the segments in the file with `after` < id ≤ `upto`."""
        return sum(
            last - first + 1
            for one in self.epochs.values()
            if one.kept
            for first, last in one.kept.common(after + 1 - one.row.base, upto - one.row.base)
        )

    def matches(self, found: Sequence[Sealed]) -> bool:
        """Tell whether segments that were found are in the file by the index, and in order."""
        in_order = all(one.id < next_.id for one, next_ in pairwise(found))
        return in_order and all(
            one.epoch in self.epochs and one.seq in self.epochs[one.epoch].kept for one in found
        )

    def pending(self) -> list[tuple[int, tuple[Range, ...]]]:
        """List the newest epochs and seqs in the file, as many as `hello` takes.

        What is left out is sent like the rest, and answered by its settled receipt.
        """
        kept = sorted(
            (one.row.base, number, one.kept.ranges())
            for number, one in self.epochs.items()
            if one.kept
        )
        return [(number, ranges[-IN_HELLO:]) for _, number, ranges in kept[-IN_HELLO:]]

    def ledger(self) -> Ledger:
        """Count, as of the last commit."""
        rows = [epoch.row for epoch in self.epochs.values()]
        pending = sum(epoch.readings for epoch in self.epochs.values())
        settled, gaps = sum(row.settled for row in rows), sum(row.dropped for row in rows)
        delivered, collapsed, quarantined = (
            sum(getattr(row, name) for row in rows) for name in _TOLD
        )
        return Ledger(
            produced=settled + gaps + pending,
            delivered=delivered,
            collapsed=collapsed,
            quarantined=quarantined,
            pending=pending,
            gaps=gaps,
            # By epoch: what is too much in one must not hide what is missing in another.
            elsewhere=sum(
                max(0, row.delivered + row.collapsed + row.quarantined - row.settled)
                for row in rows
            ),
        )


def is_undelivered(index: Index, epoch: int, after: int, below: int) -> bool:
    """Tell whether all seqs between these two are here or declared as lost, and none is settled."""
    if below <= after + 1:
        return True
    here = SeqSet([*index.epochs[epoch].kept, *index.epochs[epoch].lost])
    if here.common(after + 1, below - 1) != [(after + 1, below - 1)]:
        return False
    return not any(index.is_settled(epoch, seq) for seq in range(after + 1, below))


def is_pending(index: Index, segment: Sealed) -> bool:
    """Tell whether a segment is in the file and not settled."""
    kept = index.epochs[segment.epoch].kept
    return segment.seq in kept and not index.is_settled(segment.epoch, segment.seq)


def _discard(kept: SeqSet, seqs: Sequence[Range]) -> None:
    for one in seqs:
        kept.discard(*one)


def _sum(totals: Settled | EpochRow) -> int:
    return totals.delivered + totals.collapsed + totals.quarantined
