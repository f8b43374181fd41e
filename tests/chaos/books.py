"""Point 1 of the proof: every reading committed to the outbox has exactly one fate.

The gateway's ledger, central's settled totals and the rows that are really there must agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos.arrived import Arrived, EpochTotals
from tests.chaos.findings import Findings, Kind


@dataclass(frozen=True, slots=True)
class Books:
    """The gateway's ledger after its stop."""

    produced: int
    delivered: int
    collapsed: int
    quarantined: int
    pending: int
    gaps: int
    elsewhere: int
    imbalance: int

    @classmethod
    def of(cls, ledger: Mapping[str, int]) -> "Books":
        """Take what `edge ledger --json` prints, or the gateway's /ledger."""
        return cls(**{name: int(ledger[name]) for name in cls.__slots__})


def examine_books(books: Books, arrived: Arrived, findings: Findings) -> int:
    """Hold the ledger against central; tell how many committed readings are nowhere."""
    totals = {
        name: sum(getattr(epoch, name) for epoch in arrived.epochs)
        for name in ("delivered", "collapsed", "quarantined")
    }
    _same(findings, "delivered: ledger and settled", books.delivered, totals["delivered"])
    _same(findings, "delivered: settled and rows stored", totals["delivered"], arrived.rows)
    _same(findings, "collapsed: ledger and settled", books.collapsed, totals["collapsed"])
    _same(findings, "quarantined: ledger and settled", books.quarantined, totals["quarantined"])
    stored = arrived.quarantined
    _same(findings, "quarantined: settled and stored", totals["quarantined"], stored)
    counts = [gap.count for gap in arrived.gaps if gap.cause == "dropped"]
    findings.add(Kind.BOOKS, "a gap does not know how many readings it dropped", counts.count(None))
    named = sum(count or 0 for count in counts)
    _same(findings, "gaps: ledger and gap events", books.gaps, named)
    _same(findings, "imbalance", books.imbalance, 0)
    _same(findings, "elsewhere", books.elsewhere, 0)
    findings.add(Kind.PENDING, f"{books.pending} readings are still pending", books.pending)
    for epoch in arrived.epochs:
        _without_holes(epoch, findings)
    return _nowhere(books, arrived, findings)


def _same(findings: Findings, what: str, one: int, other: int) -> None:
    findings.add(Kind.BOOKS, f"{what}: {one} and {other}", abs(one - other))


def _without_holes(epoch: EpochTotals, findings: Findings) -> None:
    """Every batch of an epoch is settled in the end: its seqs are one range from 0."""
    if epoch.seqs and (len(epoch.seqs) > 1 or epoch.seqs[0][0] != 0):
        text = f"epoch {epoch.epoch}: settled seqs have holes: {list(epoch.seqs[:5])}"
        findings.add(Kind.BOOKS, text)


def _nowhere(books: Books, arrived: Arrived, findings: Findings) -> int:
    collapsed = sum(epoch.collapsed for epoch in arrived.epochs)
    fates = arrived.rows + collapsed + arrived.quarantined + books.pending + books.gaps
    nowhere = max(0, books.produced - fates)
    findings.add(Kind.SHORT, f"{books.produced} produced, {fates} accounted for", nowhere)
    return nowhere
