"""Opening the outbox: what a start finds on disk, and what it does about a damaged file.

A file that SQLite cannot read is put aside, its sound segments are carried over, and the loss that
cannot be counted is declared. The gateway starts in every case.
"""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.holes import Gap, GapReason
from edge.index import Epoch, Index
from edge.ledger import Ledger
from edge.outbox import Outbox
from edge.segments import Draft, OutboxDamaged, Sealed, SegmentDamaged, SegmentFile, carry_over
from edge.seqs import SeqSet
from edge.settings import OutboxSection
from edge.tail import Tail
from shared.batch import decode, encode_events
from shared.clock import MICROSECONDS, Clock
from shared.errors import BatchInvalid
from shared.link import EPOCH_LIMIT
from shared.logs import get
from shared.model import Kind, PointSet

FILE_NAME: Final = "outbox.db"

_log = get("outbox")


async def open_outbox(
    folder: Path, point_set: PointSet, clock: Clock, settings: OutboxSection
) -> tuple[Outbox, GapReason | None]:
    """Open the outbox in `folder`, or make it.

    Returns it with the reason why nothing was read until now, None where it is new. Raises
    `OutboxHeld`, `OutboxFull` or `OutboxBroken`; damage is mended and declared.
    """
    path = folder / FILE_NAME
    try:
        return _recovered(SegmentFile(path), point_set, clock, settings)
    except OutboxDamaged as damage:
        aside = _put_aside(path, clock)
        _log.error("the outbox was damaged; its sound part is carried over", **_said(damage, aside))
    file = SegmentFile(path)
    carried, oldest_us = carry_over(aside, file)
    _log.warning("segments carried over from the damaged outbox", segments=carried)
    outbox, reason = _recovered(file, point_set, clock, settings)
    now_us = clock.now_us()
    await _declare_damage(
        outbox, oldest_us or now_us - int(settings.max_age_s) * MICROSECONDS, clock
    )
    return outbox, reason


def _said(damage: OutboxDamaged, aside: Path) -> dict[str, str]:
    return {"error": str(damage), "kept_at": str(aside)}


def read_outbox(path: Path) -> tuple[Ledger, list[tuple[int, int, str, str, int]], int]:
    """Read ledger, refusals and size of an outbox that no gateway holds. Blocks."""
    with SegmentFile(path) as file:
        index, _, _ = _replay(file, PointSet(()), 0)
        return index.ledger(), file.refusals(100), file.used_bytes()


def _recovered(
    file: SegmentFile, point_set: PointSet, clock: Clock, settings: OutboxSection
) -> tuple[Outbox, GapReason | None]:
    try:
        index, tail, stopped = _replay(file, point_set, clock.now_us())
    except BaseException:
        file.close()
        raise
    outbox = Outbox(file, index, tail, clock, settings)
    if not index.epochs:
        return outbox, None
    return outbox, GapReason.STOPPED if stopped else GapReason.RESTART


def _replay(file: SegmentFile, point_set: PointSet, now_us: int) -> tuple[Index, Tail, bool]:
    tail, upto = Tail.fresh(point_set, now_us), 0
    rest: dict[str, Any] = {}
    written = file.tail()
    if written is not None:
        upto = written[0]
        try:
            tail, rest = Tail.unpack(written[1])
        except ValueError as error:
            raise OutboxDamaged(str(error)) from error
    index = _index(file, rest)
    for segment, tokens in _since(file, upto):
        index.recovered(segment)
        tail = _absorbed(tail, file, segment, tokens, now_us)
    return index, tail.moved_to(point_set, now_us), bool(rest.get("stopped"))


def _index(file: SegmentFile, rest: dict[str, Any]) -> Index:
    index = Index()
    for row in file.epochs():
        index.epochs[row.epoch] = Epoch(row)
    for number, ranges, readings in rest.get("index", []):
        epoch = index.epochs[number]
        epoch.kept, epoch.readings = SeqSet((first, last) for first, last in ranges), readings
    return index


def _since(file: SegmentFile, upto: int) -> Iterator[tuple[Sealed, bytes | None]]:
    # A damaged segment is indexed all the same: it is declared when it comes to be sent.
    while True:
        try:
            for segment, tokens in file.after(upto, 2**62, 2**31):
                upto = segment.id
                yield segment, tokens
        except SegmentDamaged as damage:
            upto = damage.segment.id
            yield replace(damage.segment, body=b""), None
        else:
            return


def _absorbed(
    tail: Tail, file: SegmentFile, segment: Sealed, tokens: bytes | None, now_us: int
) -> Tail:
    for device, (kept, known) in msgpack.unpackb(tokens, raw=False).items() if tokens else ():
        tail.remember(device, known, kept)
    if segment.kind is not Kind.READINGS or not segment.body:
        return tail
    if segment.point_set != tail.point_set.hash:
        rows = file.point_set(segment.point_set)
        if rows is None:
            return tail
        tail = tail.moved_to(PointSet.from_rows(msgpack.unpackb(rows, raw=False)), now_us)
    with suppress(BatchInvalid):
        tail.absorb(decode(segment.body))
    return tail


def _put_aside(path: Path, clock: Clock) -> Path:
    aside = path.with_name(f"outbox-damaged-{clock.now_us()}.db")
    for ending in ("", "-wal", "-shm"):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    return aside


async def _declare_damage(outbox: Outbox, oldest_us: int, clock: Clock) -> None:
    """Open an epoch of its own for the event: what the damage hid cannot be counted."""
    points = outbox.tail.point_set
    every = ((0, len(points.points) - 1),)
    now_us = clock.now_us()
    gap = Gap("dropped", GapReason.OUTBOX_DAMAGED, every, oldest_us, now_us, count=None)
    await outbox.begin(secrets.randbelow(EPOCH_LIMIT - 1) + 1)
    draft = Draft(Kind.EVENTS, 1, oldest_us, now_us, points.hash, encode_events([gap.event()]))
    await outbox.commit([draft], outbox.tail, None)
