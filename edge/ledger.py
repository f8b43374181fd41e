"""The ledger: what became of every reading that was committed, and of every poll that was due."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ledger:
    """Counts of readings since the outbox was made, exact at every commit.

    `produced` = `delivered` + `collapsed` + `quarantined` + `pending` + `gaps`, where the first
    three are what central told. `elsewhere` counts readings of this gateway that central has and
    this file never knew: it is above 0 only if the file was restored from an older copy.
    """

    produced: int
    delivered: int
    collapsed: int
    quarantined: int
    pending: int
    gaps: int
    elsewhere: int = 0

    def imbalance(self) -> int:
        """Tell by how many readings the ledger does not add up; anything but 0 is a defect."""
        told = self.delivered + self.collapsed + self.quarantined - self.elsewhere
        return self.produced - told - self.pending - self.gaps


@dataclass(slots=True)
class Dues:
    """Polls since the process started: due = polled + missed; repeats were read and not kept.

    So were those that a report policy `suppressed`; those `aggregated` live on in rollups alone.

    `sealed_bytes` is what the batches of this process took, compressed.
    """

    polled: int = 0
    missed: int = 0
    repeats: int = 0
    suppressed: int = 0
    aggregated: int = 0
    sealed_bytes: int = 0
