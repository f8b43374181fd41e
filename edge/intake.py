"""The way of every reading from its device to the outbox: a bounded queue and a group commit.

What devices give is gathered for a moment, made clean, sealed as one batch and committed; only then
is a device told that its delivery is safe. When the queue is full, whoever brings more waits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from edge.answers import Answer, Silence, readings_in
from edge.clean import clean, is_possible
from edge.clockstate import boot_id
from edge.hold import BUILT_US, Hold, pack, released
from edge.holes import Gap, GapReason, Holes
from edge.ledger import Dues
from edge.outbox import Outbox
from edge.room import DayRate
from edge.sealed import CLASSES, Draft
from edge.settings import OutboxSection
from edge.sqlite import OutboxFull
from edge.tail import Tail
from shared.backoff import Backoff
from shared.batch import encode, encode_events, encode_rollups
from shared.clock import MICROSECONDS, Clock
from shared.columns import Columns, concatenate
from shared.logs import get
from shared.model import Kind, PointClass, PointSet
from shared.quality import bad
from shared.rollups import Rollups

WAITING_READINGS: Final = 50_000
"""The most readings that wait for a commit; whoever brings more waits."""

WAITING_ITEMS: Final = 10_000
"""The most answers and silences that wait for a commit; whoever brings more waits."""

PRESSING: Final = 16
"""So many deliveries that wait to be acknowledged are committed soon: a broker may send no more
before that. Mosquitto sends 20 ahead, which would be 20 a commit window."""

PRESSING_S: Final = 0.05
"""How soon. A broker that does send more has sent it by then."""

SEALED_AT_ONCE: Final = 2_000
"""So few readings are sealed faster than a thread can be asked to do it."""

EVENTS_PORTION: Final = 512 * 1024
"""About how many bytes of gap events go into one batch: half of what a batch may carry."""

ROLLUPS_PORTION: Final = 5_000
"""Rollups in one batch; each takes about a hundred bytes before compression."""

TEXT_PORTION: Final = 1024 * 1024
"""The most characters of text in one batch, so that every batch stays far below the link's cap."""

_log = get("intake")


@dataclass(slots=True)
class Sealing:
    """What one commit is made of, before it is made; `ranks` is the class of each series."""

    tail: Tail
    ranks: NDArray[np.intp]
    parts: list[Columns] = field(default_factory=list)
    rollups: list[Rollups] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    done: list[Callable[[], None]] = field(default_factory=list)
    tokens: dict[str, tuple[int, list[bytes]]] = field(default_factory=dict)


class Intake:
    """The queue before the outbox; one coroutine, `run`, empties it."""

    def __init__(
        self,
        outbox: Outbox,
        settings: OutboxSection,
        clock: Clock,
        *,
        flags: Callable[[], int] = lambda: 0,
        hold: Hold | None = None,
    ) -> None:
        """Feed `outbox`; `flags` are added to the quality of each reading as it is committed.

        With `hold`, what is brought before the clock is set waits on disk, and gets its time then.
        """
        self._hold = hold
        self._releasing = asyncio.Lock()
        self.dues = Dues()
        self.holes = Holes(len(outbox.tail.point_set.points))
        self._heard = np.zeros(len(outbox.tail.point_set.points), np.int64)
        points = outbox.tail.point_set.points
        self.ranks = np.array([CLASSES.index(one.klass) for one in points], np.intp)
        self.sealed_rate = DayRate(clock.monotonic_s())
        self._outbox = outbox
        self._settings = settings
        self._clock = clock
        self._flags = flags
        self._queue: list[Answer | Silence] = []
        self._waiting = 0
        self._unacknowledged = 0
        self._changed = asyncio.Condition()
        self._hurry = False
        self._flushed = 0
        self._put = 0

    @property
    def is_holding(self) -> bool:
        """Tell whether the clock is yet to be set: until then its times mean nothing."""
        return self._hold is not None and self._hold.is_on()

    async def answer(self, answer: Answer) -> None:
        """Bring readings; waits while the queue is full."""
        await self._put_in(answer, readings_in(answer))

    def suppressed(self, series: NDArray[np.int32], count: int) -> None:
        """Take note that points were read, and that `count` readings are not reported.

        A hole that opens later begins now, not at the last reading that was reported.
        """
        self._heard[series] = self._clock.now_us()
        self.dues.polled += count
        self.dues.suppressed += count

    async def silence(self, silence: Silence) -> None:
        """Bring the news that nothing was read; waits while the queue is full."""
        # Stamped as it is noticed: a device may answer again before this is committed.
        stamped = replace(silence, at_us=silence.at_us or self._clock.now_us())
        await self._put_in(stamped, readings_in(stamped))

    async def _put_in(self, item: Answer | Silence, readings: int) -> None:
        if self._hold is not None and self._hold.is_on():
            item = replace(item, brought=self._hold.stamp())
        async with self._changed:
            await self._changed.wait_for(self._has_room)
            self._queue.append(item)
            self._waiting += readings
            self._put += 1
            if isinstance(item, Answer) and item.done is not None:
                self._unacknowledged += max(1, len(item.tokens))
            if self._is_urgent() or len(self._queue) == 1:
                self._changed.notify_all()

    def _must_not_wait(self) -> bool:
        return self._hurry or self._waiting >= self._settings.commit_readings

    def _is_urgent(self) -> bool:
        """Tell whether what waits should not wait for the end of the window."""
        return self._must_not_wait() or self._unacknowledged >= PRESSING

    def _has_room(self) -> bool:
        return self._waiting < WAITING_READINGS and len(self._queue) < WAITING_ITEMS

    async def flushed(self) -> None:
        """Wait until everything that was brought up to now is committed."""
        async with self._changed:
            upto = self._put
            self._hurry = True
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._flushed >= upto)

    def known_tokens(self, device: str) -> Sequence[bytes]:
        """Give the tokens of a device's newest committed deliveries."""
        return tuple(self._outbox.tail.tokens.get(device, ()))

    async def repoint(self, point_set: PointSet) -> None:
        """Speak of another point set from now on; nothing may be waiting.

        Holes of points that leave are declared up to now. Raises `OutboxFull`; nothing is changed.
        """
        before = self._outbox.tail.point_set
        if point_set == before:
            return
        await self._release()  # what is held back speaks of the points of before
        places = before.places(point_set)
        leaving = np.setdiff1d(np.arange(len(before.points), dtype=np.int32), places)
        gaps = self.holes.leave(leaving, self._clock.now_us())
        drafts = [_gap_draft(portion, before.hash) for portion in _gap_portions(gaps)]
        if drafts:
            await self._outbox.commit(drafts, self._outbox.tail, None)
        await self._outbox.repoint(point_set)
        self.holes = self.holes.moved_to(places)
        self._heard = np.where(places >= 0, np.append(self._heard, 0)[places], 0)
        self.ranks = np.array([CLASSES.index(one.klass) for one in point_set.points], np.intp)

    def restarted(self, reason: GapReason) -> None:
        """Open the hole between what the outbox holds and the first new answer, for every point."""
        tail = self._outbox.tail
        every = np.arange(len(tail.point_set.points), dtype=np.int32)
        self.holes.open(every, tail.hole_from(), reason, None, self._clock.now_us())

    async def run(self) -> None:
        """Commit what is brought, at the latest one commit window after it came; for ever."""
        while True:
            items = await self._gathered()
            waiting = [one for one in items if one.brought is not None]
            if waiting:
                await self._hold_back(waiting)
            if not self.is_holding:
                await self._release()
            if len(items) > len(waiting):
                await self._commit(self._sealing([one for one in items if one.brought is None]))
            if items:
                await self._committed(len(items))
            await self._outbox.flush()

    async def _hold_back(self, items: Sequence[Answer | Silence]) -> None:
        row = pack(items, boot_id())
        await self._in_the_end(lambda: self._outbox.held.add(row))
        for one in items:
            if isinstance(one, Answer):
                at_us = int(self._clock.monotonic_s() * MICROSECONDS)
                self._outbox.tail.remember(one.device, one.tokens, at_us, one.tokens_kept)
                if one.done is not None:
                    one.done()

    async def _release(self) -> None:
        """Seal what was held back, with the times that are right as far as is known now."""
        async with self._releasing:
            if not self._outbox.held.rows:
                return
            rows, latest = await self._outbox.held.oldest()
            while rows:
                items, moved_us = released(rows, latest, self._clock, self.hold_newest())
                self._outbox.tail.move_known(BUILT_US, moved_us)
                self.holes.move(BUILT_US, moved_us)
                await self._commit(self._sealing(items), held_upto=rows[-1].id)
                rows, _ = await self._outbox.held.oldest()

    def hold_newest(self) -> int:
        """Tell before which time no clock that is right can be."""
        return BUILT_US if self._hold is None else self._hold.newest_us

    async def _gathered(self) -> list[Answer | Silence]:
        async with self._changed:
            await self._wait(
                lambda: bool(self._queue) or self._hurry, self._settings.commit_window_s
            )
            if self._queue and not self._hurry:
                await self._wait(self._is_urgent, self._settings.commit_window_s)
            if self._unacknowledged >= PRESSING:
                await self._wait(self._must_not_wait, PRESSING_S)
            items, self._queue = self._queue, []
            self._unacknowledged = 0
            self._hurry = False
            return items

    async def _wait(self, until: Callable[[], bool], at_most_s: float) -> None:
        try:
            async with asyncio.timeout(at_most_s):
                await self._changed.wait_for(until)
        except TimeoutError:
            return

    async def _committed(self, items: int) -> None:
        async with self._changed:
            self._flushed += items
            self._waiting = sum(map(readings_in, self._queue))
            self._changed.notify_all()

    def _sealing(self, items: Sequence[Answer | Silence]) -> Sealing:
        sealing = Sealing(self._outbox.tail.copy(), self.ranks)
        answers: list[Answer] = []
        for item in items:
            if isinstance(item, Answer):
                answers.append(item)
            else:
                self._take_answers(sealing, answers)
                answers = []
                self._take_silence(sealing, item)
        self._take_answers(sealing, answers)
        return sealing

    def _take_answers(self, sealing: Sealing, answers: Sequence[Answer]) -> None:
        if not answers:
            return
        self._take_aggregated(sealing, concatenate([one.aggregated for one in answers]))
        self._take(sealing, concatenate([one.columns for one in answers]))
        for one in answers:
            if len(one.rollups):
                sealing.rollups.append(one.rollups)
                sealing.tail.absorb_rollups(one.rollups)
        for one in answers:
            if one.done is not None:
                sealing.done.append(one.done)
            if one.tokens:
                kept = sealing.tokens.setdefault(one.device, (one.tokens_kept, []))
                kept[1].extend(one.tokens)
                at_us = int(self._clock.monotonic_s() * MICROSECONDS)
                sealing.tail.remember(one.device, one.tokens, at_us, one.tokens_kept)

    def _take_aggregated(self, sealing: Sealing, columns: Columns) -> None:
        """Close the holes that these readings end; what they say comes in a rollup."""
        if not len(columns):
            return
        now_us = self._clock.now_us()
        at = np.where(is_possible(columns.observed_at, now_us), columns.observed_at, now_us)
        sealing.gaps += self.holes.close(replace(columns, observed_at=at))
        self._heard[columns.series] = now_us
        self.dues.polled += len(columns)
        self.dues.aggregated += len(columns)

    def _take_silence(self, sealing: Sealing, silence: Silence) -> None:
        since = np.maximum(sealing.tail.hole_from(), self._heard)[silence.series]
        self.holes.open(silence.series, since, silence.reason, silence.missed, silence.at_us)
        self.dues.missed += (silence.missed or 0) * len(silence.series)
        if silence.told is not None:
            count = len(silence.series)
            at = np.full(count, silence.at_us)
            quality = np.full(count, bad(silence.told))
            self._take(sealing, Columns.of(silence.series, at, np.full(count, np.nan), quality))

    def _take(self, sealing: Sealing, columns: Columns) -> None:
        cleaned = clean(columns, sealing.tail, self._clock.now_us(), self._flags())
        self.dues.polled += len(columns)
        self.dues.repeats += cleaned.repeats
        sealing.gaps += self.holes.close(cleaned.columns)
        if cleaned.restarted:
            _log.warning("a clock was ahead and has been set back", points=len(cleaned.restarted))
            sealing.tail.restart(cleaned.restarted)
        sealing.tail.absorb(cleaned.columns)
        sealing.parts.append(cleaned.columns)

    async def _commit(self, sealing: Sealing, held_upto: int = 0) -> None:
        rows = sum(map(len, sealing.parts)) + sum(map(len, sealing.rollups))
        if rows <= SEALED_AT_ONCE and not sealing.gaps:
            drafts = seal(sealing)
        else:
            drafts = await asyncio.to_thread(seal, sealing)
        if drafts or held_upto:
            tokens = msgpack.packb(sealing.tokens, use_bin_type=True) if sealing.tokens else None
            await self._in_the_end(
                lambda: self._outbox.commit(drafts, sealing.tail, tokens, held_upto)
            )
            self.dues.sealed_bytes += sum(len(draft.body) for draft in drafts)
            self.sealed_rate.note(self._clock.monotonic_s(), self.dues.sealed_bytes)
        for done in sealing.done:
            done()

    async def _in_the_end(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do what a full outbox refuses, again and again until there is room."""
        backoff: Backoff | None = None
        while True:
            try:
                await work()
            except OutboxFull as error:
                if backoff is None:
                    backoff = Backoff(base_s=0.5, cap_s=10.0)
                    _log.warning("readings wait in memory", error=str(error))
                await asyncio.sleep(backoff.next_s())
                await self._outbox.flush(now=True)
            else:
                if backoff is not None:
                    _log.info("readings are committed again", tries=backoff.failures)
                return


def seal(sealing: Sealing) -> list[Draft]:
    """Seal readings and rollups, a batch for each class of points, and gaps; many make more."""
    points = sealing.tail.point_set.hash
    drafts = [
        _draft(portion, points, klass)
        for klass, columns in _by_class(concatenate(sealing.parts), sealing.ranks)
        for portion in _portions(columns)
    ]
    drafts += _rollup_drafts(sealing, points)
    return [*drafts, *(_gap_draft(gaps, points) for gaps in _gap_portions(sealing.gaps))]


def _rollup_drafts(sealing: Sealing, points: bytes) -> Iterator[Draft]:
    if not sealing.rollups:
        return
    rollups = np.concatenate(sealing.rollups)
    rank = sealing.ranks[rollups["series"]]
    for one in reversed(np.unique(rank).tolist()):
        of_class = rollups[rank == one]
        for start in range(0, len(of_class), ROLLUPS_PORTION):
            rows = of_class[start : start + ROLLUPS_PORTION]
            t0, t1 = int(rows["start"].min()), int((rows["start"] + rows["width"]).max())
            body = encode_rollups(rows)
            yield Draft(Kind.ROLLUPS, len(rows), t0, t1, points, body, CLASSES[one])


def _by_class(columns: Columns, ranks: NDArray[np.intp]) -> Iterator[tuple[PointClass, Columns]]:
    rank = ranks[columns.series]
    present = np.flatnonzero(np.bincount(rank))
    for one in reversed(present.tolist()):
        alone = len(present) == 1
        yield CLASSES[one], columns if alone else columns.take(np.flatnonzero(rank == one))


def _gap_draft(gaps: Sequence[Gap], points: bytes) -> Draft:
    t0, t1 = min(gap.from_us for gap in gaps), max(gap.to_us for gap in gaps)
    body = encode_events([gap.event() for gap in gaps])
    return Draft(Kind.EVENTS, len(gaps), t0, t1, points, body)


def _gap_portions(gaps: Sequence[Gap]) -> Iterator[list[Gap]]:
    # After a restart each of many thousand points may have a gap of its own.
    portion: list[Gap] = []
    size = 0
    for gap in gaps:
        more = 256 + 12 * len(gap.series)
        if portion and size + more > EVENTS_PORTION:
            yield portion
            portion, size = [], 0
        portion.append(gap)
        size += more
    if portion:
        yield portion


def _draft(columns: Columns, points: bytes, klass: PointClass) -> Draft:
    t0, t1 = int(columns.observed_at.min()), int(columns.observed_at.max())
    return Draft(Kind.READINGS, len(columns), t0, t1, points, encode(columns), klass)


def _portions(columns: Columns) -> Iterator[Columns]:
    rows = len(columns)
    if columns.texts:
        longest = max(map(len, columns.texts.values()))
        rows = max(1, min(rows, TEXT_PORTION // max(1, longest)))
    if rows == len(columns):
        if rows:
            yield columns
        return
    for start in range(0, len(columns), rows):
        yield columns.take(np.arange(start, min(start + rows, len(columns))))
