"""Opening the outbox: what a start finds on disk, and what it does about a damaged file.

What is sound in a file that cannot be trusted is carried over into a new one, which takes its place
only when it is complete and holds the gap that declares the loss; the damaged file is kept. The
gateway starts in every case but that of a disk that takes no writes.
"""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.hold import tokens_in
from edge.holes import Gap, GapReason
from edge.index import Epoch, Index
from edge.ledger import Ledger
from edge.outbox import Outbox
from edge.salvage import Salvage
from edge.saved import Saved
from edge.sealed import Draft, Found
from edge.segments import SegmentFile, suspect_of
from edge.settings import OutboxSection
from edge.sqlite import OutboxDamaged
from edge.tail import Tail
from shared.batch import decode, decode_rollups, encode_events
from shared.clock import MICROSECONDS, Clock
from shared.errors import BatchInvalid
from shared.link import EPOCH_LIMIT
from shared.logs import get
from shared.model import Kind, PointSet
from shared.seqs import SeqSet

FILE_NAME: Final = "outbox.db"
MENDING_NAME: Final = "outbox-mending.db"
MENDED_NAME: Final = "outbox-mended.db"
"""A file under this name is complete: it only waits to take the place of the damaged one."""

MADE_NAME: Final = "outbox.made"
"""An empty file beside the outbox since it was made: if the outbox is gone then, that is a loss."""

_BESIDE: Final = ("-wal", "-journal", "-shm")

_log = get("outbox")


async def open_outbox(
    folder: Path, point_set: PointSet, clock: Clock, settings: OutboxSection
) -> tuple[Outbox, GapReason | None]:
    """Open the outbox in `folder`, or make it.

    Returns it with the reason why nothing was read until now, None where it is new. Where readings
    are held for the clock, it still speaks of the points of before: see `Intake.repoint`. Raises
    `OutboxHeld`, `OutboxFull` or `OutboxBroken`; damage is mended and declared.
    """
    path = folder / FILE_NAME
    _take_mended(folder, clock)
    try:
        opened = _opened(path, point_set, clock, settings)
    except OutboxDamaged as damage:
        await _mend(path, point_set, clock, settings)
        aside = _put_aside(path, clock)
        suspect_of(path).unlink(missing_ok=True)
        _log.error("the outbox was damaged; what is sound was carried over", **_said(damage, aside))
        _take_mended(folder, clock)
        opened = _opened(path, point_set, clock, settings)
    _remove(path.with_name(MENDED_NAME))
    _note_made(folder)
    return opened


def _said(damage: OutboxDamaged, aside: Path) -> dict[str, str]:
    return {"error": str(damage), "kept_at": str(aside)}


def read_outbox(path: Path) -> tuple[Ledger, list[tuple[int, int, str, str, int]], int]:
    """Read ledger, refusals and size of an outbox that no gateway holds. Blocks."""
    with SegmentFile(path) as file:
        index, _, _ = _replay(file, PointSet(()), 0)
        return index.ledger(), file.refusals(100), file.used_bytes()


def _opened(
    path: Path, point_set: PointSet, clock: Clock, settings: OutboxSection
) -> tuple[Outbox, GapReason | None]:
    if path.with_name(MADE_NAME).exists() and not (path.exists() and path.stat().st_size):
        raise OutboxDamaged("the outbox file is gone or empty, though it was made before")
    if suspect_of(path).exists():
        raise OutboxDamaged("the outbox file was found damaged while the gateway ran")
    file = SegmentFile(path)
    try:
        index, tail, stopped = _replay(file, point_set, clock.now_us())
        if not stopped:
            file.check()
    except BaseException:
        file.close()
        raise
    tail.renew_tokens(int(clock.monotonic_s() * MICROSECONDS))
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
    tail.renew_tokens(0)
    index = _index(file, rest)
    for found in file.after(upto, 2**62, 2**31):
        # What is not sound is indexed all the same: it is declared when it comes to be sent.
        index.recovered(found.segment)
        tail = _absorbed(tail, file, found, now_us)
    for held in file.held_back(2**62):
        for device, known, kept in tokens_in(held):
            tail.remember(device, known, 0, kept)
    _check_places(file, index)
    # What is held speaks of the points of before, until `Intake.repoint` has sealed it.
    moved = tail if file.held_count()[0] else tail.moved_to(point_set, now_us)
    return index, moved, bool(rest.get("stopped"))


def _index(file: SegmentFile, rest: dict[str, Any]) -> Index:
    index = Index()
    for row in file.epochs():
        index.epochs[row.epoch] = Epoch(row)
    for number, ranges, readings in rest.get("index", []):
        epoch = index.epochs.get(number)
        if epoch is None:
            raise OutboxDamaged(f"the outbox file is damaged: epoch {number} is not in it")
        epoch.kept, epoch.readings = SeqSet((first, last) for first, last in ranges), readings
    return index


def _check_places(file: SegmentFile, index: Index) -> None:
    for epoch in index.epochs.values():
        for seqs in epoch.kept:
            file.check_place(epoch.row, seqs[0])
            file.check_place(epoch.row, seqs[1])


def _absorbed(tail: Tail, file: SegmentFile, found: Found, now_us: int) -> Tail:
    segment = found.segment
    tokens = msgpack.unpackb(found.tokens, raw=False) if found.tokens else {}
    for device, (kept, known) in tokens.items():
        tail.remember(device, known, 0, kept)
    if segment.kind is Kind.EVENTS or not found.is_sound:
        return tail
    if segment.point_set != tail.point_set.hash:
        rows = file.point_set(segment.point_set)
        if rows is None:
            return tail
        tail = tail.moved_to(PointSet.from_rows(msgpack.unpackb(rows, raw=False)), now_us)
    with suppress(BatchInvalid):
        if segment.kind is Kind.READINGS:
            tail.absorb(decode(segment.body))
        else:
            tail.absorb_rollups(decode_rollups(segment.body))
    return tail


async def _mend(path: Path, point_set: PointSet, clock: Clock, settings: OutboxSection) -> None:
    """Write what is sound in a damaged file, and the gap that declares the rest, into a new one."""
    mending = path.with_name(MENDING_NAME)
    _remove(mending)
    oldest_us = clock.now_us() - int(settings.max_age_s * MICROSECONDS)
    # Until it is whole and synced, the new file is nobody's: its commits need no sync of their own.
    with SegmentFile(mending, synchronous="OFF") as file:
        with Salvage(path) as damaged:
            known = _known_by(damaged)
            saved = file.take_over(damaged, known[0] if known else None)
        tail, rest = known[1:] if known else (Tail.fresh(point_set, clock.now_us()), {})
        index_then = _index_then(file, saved)
        file.write_tail(saved.covered(), tail.pack({"stopped": False, "index": index_then}))
        if known is not None:
            oldest_us = max(oldest_us, _lost_since(tail, rest, saved.seqs))
        index, recovered, _ = _replay(file, point_set, clock.now_us())
        outbox = Outbox(file, index, recovered, clock, settings)
        await _declare_damage(outbox, oldest_us, clock)
        file.as_one_file()
    _sync(mending)
    mending.rename(path.with_name(MENDED_NAME))
    _sync(path.parent)
    batches = sum(map(len, saved.seqs.values()))
    _log.warning("batches carried over from the damaged outbox", batches=batches)


def _known_by(damaged: Salvage) -> tuple[int, Tail, dict[str, Any]] | None:
    """Read the tail of a damaged file with what else it holds; None if it is damaged too."""
    written = damaged.tail()
    with suppress(ValueError):
        if written is not None:
            return written[0], *Tail.unpack(written[1])
    return None


def _index_then(file: SegmentFile, saved: Saved) -> list[Any]:
    """Write the index of the segments that need not be decoded."""
    return [
        [epoch, [list(one) for one in seqs], file.held(saved.rows[epoch], seqs.ranges())]
        for epoch, seqs in saved.below(saved.covered()).items()
        if seqs
    ]


def _lost_since(tail: Tail, rest: dict[str, Any], saved: Mapping[int, SeqSet]) -> int:
    """Tell the moment after which readings may be missing.

    If all that the tail knew of was saved, these are later than what the tail knows of each point.
    """
    for epoch, ranges, _ in rest.get("index", []):
        here = saved.get(epoch, SeqSet())
        if any(here.common(first, last) != [(first, last)] for first, last in ranges):
            return 0
    known = tail.last_at[tail.last_at > 0]
    return int(known.min()) if len(known) else 0


def _put_aside(path: Path, clock: Clock) -> Path:
    """Rename the file, then what lies beside it; the name of the file itself decides."""
    aside = path.with_name(f"outbox-damaged-{clock.now_us()}.db")
    for ending in ("", *_BESIDE):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    _sync(path.parent)
    return aside


def _take_mended(folder: Path, clock: Clock) -> None:
    """Put a mended file in the place of the damaged one, if that was put aside."""
    path, mended = folder / FILE_NAME, folder / MENDED_NAME
    if path.exists() or not mended.exists():
        return
    # A WAL of the damaged file would be taken for one of the mended file.
    _put_aside(path, clock)
    mended.rename(path)
    _sync(folder)


def _remove(path: Path) -> None:
    for ending in ("", *_BESIDE):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _note_made(folder: Path) -> None:
    made = folder / MADE_NAME
    if not made.exists():
        made.touch()
        _sync(folder)
        _sync(folder.parent)


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


async def _declare_damage(outbox: Outbox, oldest_us: int, clock: Clock) -> None:
    """Open an epoch of its own for the event: what the damage hid cannot be counted."""
    points = outbox.tail.point_set
    every = ((0, len(points.points) - 1),)
    now_us = clock.now_us()
    gap = Gap("dropped", GapReason.OUTBOX_DAMAGED, every, oldest_us, now_us, count=None)
    await outbox.begin(secrets.randbelow(EPOCH_LIMIT - 1) + 1)
    draft = Draft(Kind.EVENTS, 1, oldest_us, now_us, points.hash, encode_events([gap.event()]))
    await outbox.commit([draft], outbox.tail, None)
