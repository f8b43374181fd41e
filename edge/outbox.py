"""The outbox: what is committed here exists, and stays until central says that it is settled.

Everything that must survive the process is in one SQLite file (`edge.segments`), of which
`edge.index` is the mirror in memory; this module takes turns on both and never blocks the loop.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import msgpack

from edge.holes import GapReason, dropped
from edge.index import Index
from edge.segments import Draft, OutboxError, Sealed, SegmentDamaged, SegmentFile
from edge.settings import OutboxSection
from edge.tail import Tail
from shared.batch import decode, encode_events
from shared.clock import MICROSECONDS, Clock
from shared.columns import Columns
from shared.errors import BatchInvalid
from shared.logs import get
from shared.model import Kind, PointSet

REPLAYED: Final = 256
"""Commits after which the tail is written anew, so that a start reads at most so many segments."""

FLUSH_S: Final = 2.0
"""Settled segments are deleted together after this time: one write instead of many."""

DROPPED_AT_ONCE: Final = 64
"""Segments that leave in one commit when the outbox is over its cap."""

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
        self._file = file
        self._clock = clock
        self._settings = settings
        self._upto = 0
        self._flushed_s = clock.monotonic_s()
        self._changing = asyncio.Lock()
        self._using_file = asyncio.Lock()

    async def begin(self, epoch: int) -> None:
        """Start a new epoch and write the tail: from here on every point is known on disk."""
        async with self._changing:
            points = self.tail.point_set
            packed = msgpack.packb(points.rows(), use_bin_type=True)
            await self._call(lambda: self._file.keep_point_set(points.hash, packed))
            self.index.begin(await self._call(lambda: self._file.begin_epoch(epoch)))
            await self._checkpoint()

    async def commit(self, drafts: Sequence[Draft], tail: Tail, tokens: bytes | None) -> None:
        """Commit drafts; when this returns they exist, and `tail`, which includes them, counts.

        Raises `OutboxFull` with nothing changed: it can be tried again with the same drafts.
        """
        async with self._changing:
            row, seq = self.index.current.row, self.index.next_seq
            await self._call(lambda: self._file.append(row, seq, drafts, tokens))
            self.tail = tail
            self.index.noted(drafts)
            if self.index.next_id - self._upto > REPLAYED:
                await self._checkpoint()
        self.committed.set()

    async def _checkpoint(self, *, stopped: bool = False) -> None:
        upto = self.index.next_id - 1
        body = self.tail.pack({"stopped": stopped, "index": self.index.pack()})
        await self._call(lambda: self._file.write_tail(upto, body))
        self._upto = upto

    async def flush(self, *, now: bool = False) -> None:
        """Delete what central settled, all together, if it is time."""
        if not now and self._clock.monotonic_s() - self._flushed_s < FLUSH_S:
            return
        async with self._changing:
            due = self.index.due()
            if not due:
                return
            upto = self.index.next_id - 1

            def tail_after(gone: dict[int, int]) -> bytes:
                return self.tail.pack({"stopped": False, "index": self.index.pack(due, gone)})

            gone = await self._call(lambda: self._file.settle(due, upto, tail_after))
            self._upto = upto
            self._flushed_s = self._clock.monotonic_s()
            self.index.deleted(due, gone)

    async def fetch(self, after: int, below: int, limit: int) -> list[Sealed]:
        """Read sealed segments with `after` < id < `below`, oldest first, but settled ones.

        A segment whose bytes are damaged is declared as a gap and left out.
        """
        try:
            found = await self._call(lambda: list(self._file.after(after, below, limit)))
        except SegmentDamaged as damage:
            await self.drop([damage.segment], GapReason.OUTBOX_DAMAGED)
            return await self.fetch(after, below, limit)
        return [one for one, _ in found if not self.index.is_settled(one.epoch, one.seq)]

    async def keep_caps(self) -> None:
        """Drop and declare the oldest readings where there are too many or they are too old."""
        over = await self.used_bytes() - self._settings.max_bytes
        oldest = await self.fetch(0, self.index.next_id, DROPPED_AT_ONCE)
        readings = [one for one in oldest if one.kind is not Kind.EVENTS]
        limit_us = self._clock.now_us() - int(self._settings.max_age_s * MICROSECONDS)
        too_old = [one for one in readings if one.t1 < limit_us]
        if over > 0 and readings:
            await self.drop(readings, GapReason.OUTBOX_FULL)
        elif too_old:
            await self.drop(too_old, GapReason.TOO_OLD)

    async def drop(self, segments: Sequence[Sealed], reason: GapReason) -> None:
        """Delete batches that were not delivered, and commit the gaps that declare them."""
        alike: dict[tuple[int, bytes], list[Sealed]] = {}
        for segment in segments:
            alike.setdefault((segment.epoch, segment.point_set), []).append(segment)
        for group in alike.values():
            await self._drop(group, reason)

    async def _drop(self, group: Sequence[Sealed], reason: GapReason) -> None:
        number = group[0].epoch
        count = sum(one.count for one in group if one.kind is not Kind.EVENTS)
        parts = await asyncio.to_thread(lambda: [_decoded(one) for one in group])
        gap = dropped(reason, parts, {number: [one.seq for one in group]}, count)
        if not any(len(part) for part in parts):
            gap = replace(gap, from_us=group[0].t0 - 1, to_us=group[-1].t1 + 1)
        body = encode_events([gap.event()])
        draft = Draft(Kind.EVENTS, 1, gap.from_us, gap.to_us, group[0].point_set, body)
        seqs = gap.voided[0][1]
        async with self._changing:
            owner, seq = self.index.current.row, self.index.next_seq
            row = self.index.epochs[number].row
            gone = await self._call(lambda: self._file.drop(row, seqs, (owner, seq, draft)))
            self.index.dropped(number, seqs, gone)
            self.index.noted([draft])
        self.committed.set()
        _log.error("readings dropped and declared as a gap", reason=reason.value, readings=gone)

    async def refused(self, epoch: int, seq: int, code: str, detail: str) -> None:
        """Note that central put a batch into quarantine, and why."""
        now_us = self._clock.now_us()
        await self._call(lambda: self._file.refuse(epoch, seq, code, detail, now_us))

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
        """Delete what is settled, note that the gateway stopped on purpose, and close."""
        try:
            await self.flush(now=True)
            async with self._changing:
                await self._checkpoint(stopped=True)
        except OutboxError as error:
            _log.warning("the outbox could not be tidied at the stop", error=str(error))
        await self._call(self._file.close)

    async def _call(self, work: Callable[[], Result]) -> Result:
        async with self._using_file:
            # A commit that has begun is waited for: else nobody would know whether it happened.
            task = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])
                raise


def _decoded(segment: Sealed) -> Columns:
    try:
        return decode(segment.body) if segment.kind is Kind.READINGS else Columns.empty()
    except BatchInvalid:
        return Columns.empty()
