"""What one session has been told of its settled batches, and what is due to be told. Pure."""

from collections.abc import Iterable

from central.storage.settled import SettledRow
from shared.link import Range, Settled
from shared.seqs import SeqSet


class Told:
    """The epochs of one session: newest settled row of each, and the ranges told so far.

    A row carries ranges and totals of one database snapshot, so whatever is told from it is
    consistent. Rows may arrive in any order; an older version never replaces a newer one.
    """

    def __init__(self) -> None:
        self._rows: dict[int, SettledRow] = {}
        self._settled: dict[int, SeqSet] = {}
        self._told: dict[int, SeqSet] = {}
        self._told_version: dict[int, int] = {}
        self._again: dict[int, set[Range]] = {}

    def __len__(self) -> int:
        """Count the epochs."""
        return len(self._told)

    def knows(self, epoch: int) -> bool:
        """Tell whether an epoch is followed."""
        return epoch in self._told

    def follow(self, epoch: int) -> None:
        """Follow an epoch of which nothing has been told yet."""
        self._told.setdefault(epoch, SeqSet())

    def unfollow(self, epochs: Iterable[int]) -> None:
        """Forget epochs that could not be read, so that they are read again when they matter."""
        for epoch in epochs:
            self._told.pop(epoch, None)
            self._rows.pop(epoch, None)
            self._settled.pop(epoch, None)

    def offer(self, row: SettledRow) -> bool:
        """Take a settled row in; True where something is due to be told now."""
        known = self._rows.get(row.epoch)
        if row.epoch not in self._told or (known is not None and known.version >= row.version):
            return False
        self._rows[row.epoch] = row
        self._settled[row.epoch] = SeqSet(row.seqs)
        return True

    def is_settled(self, epoch: int, seq: int) -> bool:
        """Tell whether a batch is settled as far as this session knows."""
        return epoch in self._settled and seq in self._settled[epoch]

    def repeat(self, epoch: int, seq: int) -> None:
        """Tell a settled seq once more: its batch was sent again."""
        self._again.setdefault(epoch, set()).add((seq, seq))

    def due(self) -> tuple[Settled, ...]:
        """List what is to be told now and count it as told."""
        return tuple(
            self._tell(row)
            for row in self._rows.values()
            if row.version != self._told_version.get(row.epoch) or row.epoch in self._again
        )

    def welcome(self) -> tuple[Settled, ...]:
        """List every epoch with all that is settled, empty ones too, and count it as told."""
        told = {settled.epoch: settled for settled in self.due()}
        nothing = {"seqs": (), "delivered": 0, "collapsed": 0, "quarantined": 0}
        return tuple(
            told.get(epoch) or Settled.model_validate({"epoch": epoch, **nothing})
            for epoch in self._told
        )

    def _tell(self, row: SettledRow) -> Settled:
        settled = self._settled[row.epoch]
        new = settled.minus(self._told[row.epoch])
        again = self._again.pop(row.epoch, set())
        self._told[row.epoch] = settled
        self._told_version[row.epoch] = row.version
        return Settled(
            epoch=row.epoch,
            seqs=SeqSet([*new, *again]).ranges(),
            delivered=row.delivered,
            collapsed=row.collapsed,
            quarantined=row.quarantined,
        )
