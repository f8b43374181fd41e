"""What must be true of an outbox that was opened after a power cut, given what was promised."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from edge.holes import GapReason
from edge.outbox import Outbox
from edge.recovery import open_outbox
from edge.sealed import Sealed
from shared.batch import decode, decode_events
from shared.clock import SystemClock
from shared.model import Kind
from tests.chaos.power_cut_disk import Op
from tests.chaos.power_cut_workload import DEVICE, POINTS, SETTINGS

MANY: Final = 10**9

_decoded = lru_cache(maxsize=1_000)(decode)

Name = tuple[int, int]


@dataclass(slots=True)
class Promised:
    """What the marks up to a moment say."""

    batches: dict[Name, dict[str, Any]] = field(default_factory=dict)
    told: set[Name] = field(default_factory=set)
    done: list[int] = field(default_factory=list)
    last_token: bytes = b""
    is_damaged: bool = False
    is_mended: bool = False

    def take(self, op: Op) -> None:
        """Take in one operation of the trace, if it is a mark."""
        match op:
            case ["mark", "batch", facts]:
                self.batches[facts["epoch"], facts["seq"]] = facts
            case ["mark", "told", facts]:
                self.told |= {(facts["epoch"], seq) for seq in facts["seqs"]}
            case ["mark", "done", facts]:
                self.done += facts["values"]
                self.last_token = facts["token"]
            case ["mark", "damaged", _]:
                self.is_damaged = True
            case ["mark", "mended", _]:
                self.is_mended = True


@dataclass(slots=True)
class Verdict:
    """What was found wrong: batches and readings that are lost, and anything else."""

    lost_batches: int = 0
    lost_readings: int = 0
    wrong: list[str] = field(default_factory=list)

    def expect(self, is_so: bool, text: str) -> None:
        """Note `text` unless it is so."""
        if not is_so:
            self.wrong.append(text)


async def judge(folder: Path, promised: Promised) -> Verdict:
    """Open the outbox with the gateway's own code and compare it with what was promised."""
    outbox, _ = await open_outbox(folder, POINTS, SystemClock(), SETTINGS)
    try:
        found = {(one.epoch, one.seq): one for one in await outbox.fetch(0, MANY << 30, MANY)}
        verdict = Verdict()
        voided, damage = _gaps(found, promised)
        _judge_batches(verdict, found, promised, voided)
        _judge_ledger(verdict, outbox, found, promised, voided)
        _judge_tail(verdict, outbox, found, promised)
        mended = _put_aside(folder)
        verdict.expect(bool(mended) <= promised.is_damaged, f"taken for damaged: {mended}")
        verdict.expect(damage == bool(mended), f"damage declared: {damage}, mended: {mended}")
        verdict.expect(bool(mended) or not promised.is_mended, "the mended file is gone")
        await _judge_next_commit(verdict, outbox)
    finally:
        await outbox.close()
    return verdict


def _put_aside(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith("outbox-damaged")]


def _gaps(found: dict[Name, Sealed], promised: Promised) -> tuple[set[Name], bool]:
    """List the batches that gap events declare lost, and whether damage was declared."""
    bodies = {name: one.body for name, one in found.items() if one.kind is Kind.EVENTS}
    for name, facts in promised.batches.items():
        if facts["kind"] == Kind.EVENTS and name in promised.told:
            bodies[name] = facts["body"]
    events = [event for body in bodies.values() for event in decode_events(body)]
    voided = {
        (one["epoch"], seq)
        for event in events
        for one in event["voided"]
        for first, last in one["seqs"]
        for seq in range(first, last + 1)
    }
    return voided, any(one["reason"] == GapReason.OUTBOX_DAMAGED for one in events)


def _judge_batches(
    verdict: Verdict, found: dict[Name, Sealed], promised: Promised, voided: set[Name]
) -> None:
    values: set[float] = set()
    for name, facts in promised.batches.items():
        one = found.get(name)
        if facts["kind"] == Kind.READINGS:
            values.update(_decoded(facts["body"]).value.tolist())
        if one is None and name not in promised.told | voided:
            verdict.lost_batches += 1
            verdict.lost_readings += facts["count"] if facts["kind"] == Kind.READINGS else 0
            continue
        verdict.expect(one is None or one.body == facts["body"], f"other bytes in {name}")
        verdict.expect(one is None or name not in voided, f"{name} is here and declared lost")
    verdict.expect(values.issuperset(promised.done), "a delivery was done before its commit")


def _judge_ledger(
    verdict: Verdict,
    outbox: Outbox,
    found: dict[Name, Sealed],
    promised: Promised,
    voided: set[Name],
) -> None:
    ledger = outbox.index.ledger()
    counts = {n: f["count"] for n, f in promised.batches.items() if f["kind"] == Kind.READINGS}
    # The last commit may have reached the disk without having returned.
    counts |= {name: one.count for name, one in found.items() if one.kind is Kind.READINGS}
    pending = sum(one.count for one in found.values() if one.kind is Kind.READINGS)
    gaps = sum(counts.get(name, 0) for name in voided)
    told = f"{ledger}; produced {sum(counts.values())}, pending {pending}, gaps {gaps}"
    verdict.expect(ledger.imbalance() == 0, f"imbalance {ledger.imbalance()}")
    same = (ledger.produced, ledger.pending, ledger.gaps) == (sum(counts.values()), pending, gaps)
    verdict.expect(same or bool(verdict.lost_batches), f"wrong books: {told}")
    in_file = {(n, s) for n, rs in outbox.index.pending() for a, b in rs for s in range(a, b + 1)}
    verdict.expect(in_file == set(found), "the index differs from the file")


def _judge_tail(
    verdict: Verdict, outbox: Outbox, found: dict[Name, Sealed], promised: Promised
) -> None:
    here = [one.body for one in found.values() if one.kind is Kind.READINGS]
    ever = [f["body"] for f in promised.batches.values() if f["kind"] == Kind.READINGS]
    known = outbox.tail.last_at.tolist()
    latest = _last_times([*here, *ever])
    if promised.is_damaged:
        # The tail itself was damaged: of what had left the file nothing need be known.
        pairs = zip(_last_times(here), known, latest, strict=True)
        is_right = all(least <= at <= most for least, at, most in pairs)
    else:
        is_right = known == latest
    lost = bool(verdict.lost_batches)
    verdict.expect(is_right or lost, "another tail")
    tokens = list(outbox.tail.tokens.get(DEVICE, ()))
    if promised.last_token and not promised.is_damaged:
        recognised = bool(tokens) and max(tokens) >= promised.last_token
        verdict.expect(recognised or lost, "the last delivery is not recognised")


def _last_times(bodies: Sequence[bytes]) -> list[int]:
    last = [0] * len(POINTS.points)
    for body in bodies:
        columns = _decoded(body)
        for series, at in zip(columns.series.tolist(), columns.observed_at.tolist(), strict=True):
            last[series] = max(last[series], at)
    return last


async def _judge_next_commit(verdict: Verdict, outbox: Outbox) -> None:
    before = len(await outbox.fetch(0, MANY << 30, MANY))
    top = outbox.index.next_id
    await outbox.begin(MANY)
    verdict.expect(outbox.index.next_id >= top, "ids go backwards")
    after = len(await outbox.fetch(0, MANY << 30, MANY))
    verdict.expect(after == before, "a new epoch changes what is pending")


def promised_by(ops: Sequence[Op]) -> Promised:
    """Sum up all the marks of a trace."""
    promised = Promised()
    for op in ops:
        promised.take(op)
    return promised
