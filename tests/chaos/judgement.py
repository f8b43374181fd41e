"""The verdict on a run: every check over all its evidence, and the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.chaos.arrived import Arrived, Gap
from tests.chaos.books import Books, examine_books
from tests.chaos.complaints import Complaints, examine_complaints
from tests.chaos.delivery import Delivery, Span, examine
from tests.chaos.findings import Findings, Kind
from tests.chaos.intervals import Intervals
from tests.chaos.pauses import Progress, examine_stops
from tests.chaos.silence import Silence, examine_silence, examine_size
from tests.chaos.timetable import Timetable
from tests.chaos.truth import Truth


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a run left behind; without a timetable samples and books alone are judged."""

    truth: Truth
    arrived: Arrived
    books: Books
    timetable: Timetable | None = None
    complaints: Complaints = field(default_factory=Complaints)
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker found."""

    findings: Findings
    books: Books
    arrived: Arrived
    deliveries: tuple[Delivery, ...]
    silences: tuple[Silence, ...]
    share: float | None
    lost: int
    notes: tuple[str, ...] = ()
    """What else is told of the run."""

    @property
    def passed(self) -> bool:
        """Tell whether nothing at all is wrong."""
        return not self.findings.counts

    def last_line(self) -> str:
        """Write the one line that counts."""
        books = self.books
        return (
            f"produced {books.produced} delivered {self.arrived.rows}"
            f" collapsed {books.collapsed} quarantined {books.quarantined}"
            f" pending {books.pending} gaps {books.gaps} lost {self.lost}"
            f" doubled {sum(delivery.doubled for delivery in self.deliveries)}"
        )

    def lines(self) -> list[str]:
        """Write the whole report; the last line is `last_line`."""
        judged = "not judged: no timetable of the run" if self.share is None else ""
        size = judged or f"{self.share:.2%} of what was served outside planned down time delivered"
        gaps = [silence.line() for silence in self.silences] or [f"gap seconds: {judged}"]
        return [
            *self._samples(),
            *gaps,
            *self.notes,
            size,
            *self.findings.lines(),
            self.last_line(),
        ]

    def _samples(self) -> list[str]:
        return [
            f"{it.device.name}: {len(it.device)} samples served, {int(it.judged.sum())} judged,"
            f" {int(it.delivered[it.judged].all(axis=1).sum())} of these delivered whole"
            f" (all: {it.torn} readings of delivered samples in gaps, {it.adjusted} times adjusted)"
            for it in self.deliveries
        ]


def judge(evidence: Evidence) -> Verdict:
    """Check everything; pure, so that tests can bring hand-made evidence."""
    findings = Findings()
    truth, arrived, timetable = evidence.truth, evidence.arrived, evidence.timetable
    gaps = _gaps_by_key(arrived.gaps)
    span = timetable.span if timetable else Span()
    deliveries = tuple(
        examine(device, arrived.series, gaps, span, findings) for device in truth.devices
    )
    nowhere = examine_books(evidence.books, arrived, findings)
    silences: tuple[Silence, ...] = ()
    share = None
    notes: tuple[str, ...] = ()
    if timetable:
        silences = tuple(
            examine_silence(device, arrived.gaps, timetable, truth.faults, findings)
            for device in truth.devices
        )
        produced = evidence.books.produced
        share = examine_size(produced, deliveries, timetable, truth.faults, findings)
        notes = tuple(_examine_course(evidence, timetable, findings))
    # A reading lost after its commit is missing in both accounts: it is counted once.
    lost = max(nowhere, sum(delivery.lost for delivery in deliveries))
    return Verdict(findings, evidence.books, arrived, deliveries, silences, share, lost, notes)


def _examine_course(evidence: Evidence, timetable: Timetable, findings: Findings) -> Iterator[str]:
    """Judge how the run went, apart from what became of the readings; tell of it."""
    kills = ", ".join(f"{name} {count}" for name, count in timetable.kills().items())
    yield f"killed: {kills}"
    fought = timetable.thresholds.fought
    examine_complaints(evidence.complaints, fought, findings)
    yield from evidence.complaints.lines()
    if evidence.progress is not None:
        yield from examine_stops(evidence.progress, timetable, findings)
    elif timetable.thresholds.losses:
        findings.add(Kind.TOO_SMALL, "nobody watched what stood still")


def _gaps_by_key(gaps: Sequence[Gap]) -> dict[str, Intervals]:
    pairs: dict[str, list[tuple[int, int]]] = {}
    for gap in gaps:
        for key in gap.keys:
            pairs.setdefault(key, []).append((gap.from_us, gap.to_us))
    return {key: Intervals.union(each) for key, each in pairs.items()}
