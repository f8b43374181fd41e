"""The outbox: what is committed here exists, and stays until central says that it is settled.

Everything that must survive the process is in one SQLite file (`edge.segments`), of which
`edge.index` is the mirror in memory; this module takes turns on both and never blocks the loop.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, TypeVar

import msgpack
import numpy as np

from edge.caps import AllHere, Caps, is_nothing_between
from edge.clean import FUTURE_US, PAST_US
from edge.held import HeldRows
from edge.holes import Gap, GapReason, dropped
from edge.index import Epoch, Index, is_pending
from edge.recent import Recent
from edge.sealed import Draft, Found, Sealed
from edge.segment_reads import Sort
from edge.segments import SegmentFile
from edge.settings import OutboxSection
from edge.sqlite import OutboxDamaged, OutboxError, OutboxFull
from edge.tail import Tail
from shared.batch import decode, decode_rollups, encode_events
from shared.clock import MICROSECONDS, Clock
from shared.columns import Columns
from shared.errors import BatchInvalid
from shared.logs import get
from shared.model import Kind, PointSet
from shared.rollups import Rollups
from shared.seqs import SeqSet

REPLAYED: Final = 256
"""Commits after which the tail is written anew, so that a start reads at most so many segments."""

FLUSH_S: Final = 2.0
"""Settled segments are deleted together after this time: one write instead of many."""

SCANNED: Final = 64
"""Segments read at once when most of them may be settled already."""

Result = TypeVar("Result")

_log = get("outbox")


class Outbox:
    """The open outbox of a running gateway; `edge.recovery.open_outbox` makes it."""

    def __init__(
        self, file: SegmentFile, index: Index, tail: Tail, clock: Clock, settings: OutboxSection
    ) -> None:
        """Hold the open file, and the index and tail that were recovered from it."""
        self.index = index
        self.tail = tail
        self.committed = asyncio.Event()
        self.held = HeldRows(file, self._call)
        self._file = file
        self._clock = clock
        self._settings = settings
        self._upto = 0
        self._flushed_s = clock.monotonic_s()
        self._changing = asyncio.Lock()
        self._using_file = asyncio.Lock()
        self._is_damaged = False
        self._caps = Caps(clock, settings)
        self._recent = Recent()

    async def begin(self, epoch: int) -> None:
        """Start a new epoch and write the tail: from here on every point is known on disk.

        Raises `OutboxFull`; then it can be tried again with the same epoch.
        """
        await _uncut(self._begin(epoch))

    async def _begin(self, epoch: int) -> None:
        async with self._changing:
            points = self.tail.point_set
            packed = msgpack.packb(points.rows(), use_bin_type=True)
            await self._called(lambda: self._file.keep_point_set(points.hash, packed))
            if epoch not in self.index.epochs:
                self.index.begin(await self._called(lambda: self._file.begin_epoch(epoch)))
            await self._checkpoint()

    async def commit(
        self, drafts: Sequence[Draft], tail: Tail, tokens: bytes | None, held_upto: int = 0
    ) -> None:
        """Commit drafts; when this returns they exist, and `tail`, which includes them, counts.

        What was held up to `held_upto` is in them.

        Raises `OutboxFull` with nothing changed: it can be tried again with the same drafts.
        """
        await _uncut(self._commit(drafts, tail, tokens, held_upto))

    async def _commit(
        self, drafts: Sequence[Draft], tail: Tail, tokens: bytes | None, held_upto: int
    ) -> None:
        async with self._changing:
            if self._caps.is_exhausted:
                self._caps.check(await self._called(self._file.used_bytes))
            row, seq = self.index.current.row, self.index.next_seq
            await self._called(lambda: self._file.append(row, seq, drafts, tokens, held_upto))
            if held_upto:
                self.held.count(await self._called(self._file.held_count))
            self.tail = tail
            if drafts:
                self._note(drafts)
            if self.index.next_id - self._upto > REPLAYED:
                await self._try(self._checkpoint())

    def _note(self, drafts: Sequence[Draft]) -> None:
        """Take in what was committed as the next batches of the current epoch."""
        row, seq = self.index.current.row, self.index.next_seq
        self._recent.add([draft.named(row, nth) for nth, draft in enumerate(drafts, seq)])
        self.index.noted(drafts)
        self.committed.set()

    async def repoint(self, point_set: PointSet) -> None:
        """Speak of another point set in what is committed from now on; what is known moves over.

        Raises `OutboxFull` with nothing changed.
        """

        async def change() -> None:
            async with self._changing:
                before = self.tail
                packed = msgpack.packb(point_set.rows(), use_bin_type=True)
                await self._called(lambda: self._file.keep_point_set(point_set.hash, packed))
                self.tail = before.moved_to(point_set, self._clock.now_us())
                try:
                    await self._checkpoint()
                except BaseException:
                    self.tail = before
                    raise
                # With many batches it would take long to look what they speak of.
                if self.index.count(0, self.index.next_id) <= SCANNED:
                    forgetting = self._called(lambda: self._file.forget_point_sets(point_set.hash))
                    await self._try(forgetting)

        await _uncut(change())

    async def _checkpoint(self, *, stopped: bool = False) -> None:
        upto = self.index.next_id - 1
        body = self.tail.pack({"stopped": stopped, "index": self.index.pack()})
        await self._called(lambda: self._file.write_tail(upto, body))
        self._upto = upto

    async def _try(self, tidying: Coroutine[Any, Any, None]) -> None:
        # Even to delete takes room. Where there is none it waits: nothing is lost by that.
        try:
            await tidying
        except OutboxFull as error:
            _log.warning("the outbox could not be tidied", error=str(error))

    async def flush(self, *, now: bool = False) -> None:
        """Delete what central settled, all together, if it is time; on a full disk, later."""
        if now or self._clock.monotonic_s() - self._flushed_s >= FLUSH_S:
            await _uncut(self._try(self._flush()))

    async def _flush(self) -> None:
        async with self._changing:
            due = self.index.due()
            self._flushed_s = self._clock.monotonic_s()
            if not due:
                return
            upto = self.index.next_id - 1

            def tail_after(gone: dict[int, int]) -> bytes:
                leaving = {row.epoch: (told.seqs, gone[row.epoch]) for row, told in due}
                return self.tail.pack({"stopped": False, "index": self.index.pack(leaving)})

            gone = await self._called(lambda: self._file.settle(due, upto, tail_after))
            self._upto = upto
            self.index.deleted(due, gone)

    async def fetch(
        self, after: int, below: int, limit: int, *, sort: Sort | None = None
    ) -> list[Sealed]:
        """Read sealed segments with `after` < id < `below`, oldest first, but settled ones.

        A segment whose bytes are damaged is declared as a gap and left out. What was just committed
        is not read back from the file.
        """
        if not self.index.count(after, below - 1):
            return []
        recent = self._recent.between(after, below) if sort is None else None
        if recent is not None:
            pending = (one for one in recent if is_pending(self.index, one))
            return list(islice(pending, limit))
        wanted: list[Sealed] = []
        while len(wanted) < limit:
            at_once = limit - len(wanted) if not self.index.is_anything_due() else SCANNED
            found = await self._scanned((after, below), at_once, sort)
            if not found:
                break
            after = found[-1].segment.id
            for one in found:
                if not one.is_sound:
                    await _uncut(self._try(self._drop_damaged(one.segment)))
                elif not self.index.is_settled(one.segment.epoch, one.segment.seq):
                    wanted.append(one.segment)
        return wanted[:limit]

    async def _scanned(
        self, between: tuple[int, int], limit: int, sort: Sort | None
    ) -> list[Found]:
        after, below = between

        def scan() -> list[Found]:
            found = list(self._file.after(after, below, limit, sort=sort))
            upto = found[-1].segment.id if len(found) == limit else below - 1
            if not self.index.matches([one.segment for one in found]) or (
                sort is None and len(found) != self.index.count(after, upto)
            ):
                raise OutboxDamaged(f"the outbox file is damaged: it is out of order below {upto}")
            return found

        async with self._changing:
            return await self._call(scan)

    async def keep_caps(self) -> None:
        """Drop and declare readings where there are too many (`LOST_FIRST`) or they are too old.

        Where all that is left is never dropped, commits raise `OutboxFull` until there is room.
        """
        while await self._caps.dropped_some(self):
            pass

    async def drop(
        self, segments: Sequence[Sealed], reason: GapReason, all_here: AllHere = is_nothing_between
    ) -> None:
        """Delete batches that were not delivered, and commit the gaps that declare them.

        What central settled in the meantime is not dropped. On a full disk nothing is.
        """
        for group in list(_runs(segments, all_here)):
            await _uncut(self._try(self._drop(group, reason)))

    async def _drop(self, group: Sequence[Sealed], reason: GapReason) -> None:
        columns = await asyncio.to_thread(lambda: {one.id: _decoded(one) for one in group})
        async with self._changing:
            epoch = self.index.epochs[group[0].epoch]
            here = [one for one in group if is_pending(self.index, one)]
            if not here:
                return
            count = sum(one.count for one in here if one.kind is Kind.READINGS)
            voided = {epoch.row.epoch: [one.seq for one in here]}
            rollups = sum(one.count for one in here if one.kind is Kind.ROLLUPS)
            gaps = dropped(reason, [columns[one.id] for one in here], voided, (count, rollups))
            if not any(len(columns[one.id]) for one in here):
                gaps = [replace(gaps[0], from_us=here[0].t0 - 1, to_us=here[-1].t1 + 1)]
            await self._declare(epoch, gaps, count, here[0].point_set)

    async def _drop_damaged(self, segment: Sealed) -> None:
        async with self._changing:
            epoch = self.index.epochs[segment.epoch]
            if not is_pending(self.index, segment):
                return
            others = SeqSet(epoch.kept.ranges())
            others.discard(segment.seq, segment.seq)
            held = await self._called(lambda: self._file.held(epoch.row, others.ranges()))
            count = max(0, epoch.readings - held)
            points = await self.point_set(segment.point_set) or self.tail.point_set
            from_us, to_us = await self._times_about(segment)
            gap = Gap(
                "dropped",
                GapReason.OUTBOX_DAMAGED,
                ((0, len(points.points) - 1),),
                from_us,
                to_us,
                # A damaged batch of events may have declared readings that nobody can count now.
                count=count or None,
                voided=((segment.epoch, ((segment.seq, segment.seq),)),),
            )
            await self._declare(epoch, [gap], count, points.hash)

    async def _times_about(self, segment: Sealed) -> tuple[int, int]:
        now_us = self._clock.now_us()
        times = [
            (t0, t1)
            for t0, t1 in await self._call(lambda: self._file.times_about(segment.id))
            if now_us - PAST_US <= t0 <= t1 <= now_us + FUTURE_US
        ]
        oldest_us = now_us - int(self._settings.max_age_s * MICROSECONDS)
        first, last = zip(*times, strict=True) if times else ([oldest_us], [now_us])
        return min(first) - 1, max(last) + 1

    async def _declare(
        self, epoch: Epoch, gaps: Sequence[Gap], readings: int, point_set: bytes
    ) -> None:
        t0, t1 = min(gap.from_us for gap in gaps), max(gap.to_us for gap in gaps)
        body = encode_events([gap.event() for gap in gaps])
        draft = Draft(Kind.EVENTS, len(gaps), t0, t1, point_set, body)
        row, seqs = epoch.row, gaps[0].voided[0][1]
        event = (self.index.current.row, self.index.next_seq, draft)
        upto = self.index.next_id - 1
        packed = self.index.pack({row.epoch: (seqs, readings)})
        tail = (upto, self.tail.pack({"stopped": False, "index": packed}))
        await self._called(lambda: self._file.drop(row, seqs, readings, event, tail))
        self._upto = upto
        self.index.dropped(row.epoch, seqs, readings)
        self._note([draft])
        reason = gaps[0].reason.value
        _log.error("readings dropped and declared as a gap", reason=reason, readings=readings)

    async def refused(self, epoch: int, seq: int, code: str, detail: str) -> None:
        """Note that central put a batch into quarantine, and why."""
        now_us = self._clock.now_us()
        await self._try(
            self._call(lambda: self._file.refuse(epoch, seq, code, detail, now_us)),
        )

    async def refusals(self) -> list[tuple[int, int, str, str, int]]:
        """List the newest refusals: epoch, seq, code, detail, time."""
        return await self._call(lambda: self._file.refusals(100))

    async def point_set(self, hash_: bytes) -> PointSet | None:
        """Give a point set that batches in the file speak of."""
        packed = await self._call(lambda: self._file.point_set(hash_))
        return None if packed is None else PointSet.from_rows(msgpack.unpackb(packed, raw=False))

    async def used_bytes(self) -> int:
        """Tell how much room the outbox takes."""
        return await self._call(self._file.used_bytes)

    async def close(self) -> None:
        """Delete what is settled, note that the gateway stopped on purpose, and close.

        A file that was found damaged is closed as it is: the next start mends it.
        """
        try:
            if not self._is_damaged:
                await self.flush(now=True)
                await _uncut(self._stopped())
        except OutboxError as error:
            _log.warning("the outbox could not be tidied at the stop", error=str(error))
        await self._call(self._file.close)

    async def _stopped(self) -> None:
        async with self._changing:
            await self._checkpoint(stopped=True)

    async def _call(self, work: Callable[[], Result]) -> Result:
        return await _uncut(self._called(work))

    async def _called(self, work: Callable[[], Result]) -> Result:
        async with self._using_file:
            try:
                return await asyncio.to_thread(work)
            except OutboxDamaged:
                self._is_damaged = True
                await asyncio.to_thread(self._file.distrust)
                raise


async def _uncut(work: Coroutine[Any, Any, Result]) -> Result:
    """Do `work` to its end even if the caller is cancelled, who then learns of it.

    Else nobody would know whether a commit happened, and the index would not follow the file.
    """
    task = asyncio.ensure_future(work)
    cut: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cut = error
        except Exception:  # noqa: BLE001 - it is raised below, if nobody is told otherwise
            break
    if cut is not None:
        if not task.cancelled() and task.exception() is not None:
            _log.warning(
                "the outbox failed while it was being stopped", error=str(task.exception())
            )
        raise cut
    return task.result()


def _runs(segments: Sequence[Sealed], are_all_here: AllHere) -> Iterator[list[Sealed]]:
    """Part segments where others of their points lie between that may have been delivered."""
    run: list[Sealed] = []
    for segment in sorted(segments, key=lambda one: one.id):
        if run and not (
            (segment.epoch, segment.point_set) == (run[-1].epoch, run[-1].point_set)
            and are_all_here(segment.epoch, run[-1].seq, segment.seq)
        ):
            yield run
            run = []
        run.append(segment)
    if run:
        yield run


def _decoded(segment: Sealed) -> Columns:
    try:
        if segment.kind is Kind.ROLLUPS:
            return _spans(decode_rollups(segment.body))
        return decode(segment.body) if segment.kind is Kind.READINGS else Columns.empty()
    except BatchInvalid:
        return Columns.empty()


def _spans(rollups: Rollups) -> Columns:
    """Lay out which times rollups tell of, as if each were a reading at its begin and its end."""
    ends = rollups["start"] + rollups["width"] - 1
    at = np.concatenate([rollups["start"], ends])
    nothing = np.full(len(at), np.nan)
    return Columns.of(np.tile(rollups["series"], 2), at, nothing, np.zeros(len(at), np.uint16))
