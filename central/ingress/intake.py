"""One batch on its way into the log: checked, resolved to point ids, one record, one answer."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from central.ingress.lane import lane_of
from central.ingress.metrics import IngressMetrics
from central.ingress.point_sets import PointSets
from central.messaging.log import Log, LogAway, RecordTooLarge
from central.messaging.records import (
    DeadRecord,
    EventRecord,
    ReadingRecord,
    RecordCodec,
    RollupRecord,
    resolve_series,
)
from central.messaging.registry import RegistryAway
from central.messaging.topics import TopicKind, topic
from central.storage.catalogue import Gateway
from central.storage.database import DatabaseAway, TransactionClash
from shared import batch as bodies
from shared.clock import EARLIEST_US, LATEST_US, Clock
from shared.columns import Columns
from shared.errors import BatchInvalid
from shared.link import (
    MAX_BODY_BYTES,
    Accepted,
    Batch,
    Frame,
    NeedPointSet,
    Problem,
    Receipt,
    RefusedFrame,
    RetryAfter,
)
from shared.model import Kind, Lane

LARGE_BYTES: Final = 16 * 1024
"""Bodies from here on are decoded in a thread, so that one gateway does not stall the others."""
RETRY_S: Final = 2.0
MAX_NAMED: Final = 1_000_000
"""Points all events of a batch may name together: a range of many costs its sender few bytes."""

Result = TypeVar("Result")


class Intake:
    """Takes the batches of all sessions; `take` answers each with exactly one frame."""

    def __init__(
        self,
        log: Log,
        codec: RecordCodec,
        point_sets: PointSets,
        clock: Clock,
        metrics: IngressMetrics,
    ) -> None:
        self._log = log
        self._codec = codec
        self._point_sets = point_sets
        self._clock = clock
        self._metrics = metrics

    async def take(self, gateway: Gateway, batch: Batch) -> Frame:
        """Put a batch into the log.

        Answers `receipt` (accepted), `need_point_set` (nothing was done, send it and ask again),
        `refused` (the bytes are kept, with the reason) or `retry_after` (nothing was done).
        """
        try:
            return await self._take(gateway, batch)
        except LogAway:
            return self._put_off(batch, "log_away")
        except RegistryAway:
            return self._put_off(batch, "registry_away")
        except (DatabaseAway, TransactionClash):
            return self._put_off(batch, "database_away")

    async def _take(self, gateway: Gateway, batch: Batch) -> Frame:
        received_at = self._clock.now_us()
        self._metrics.body_bytes.inc(len(batch.body))
        ids = await self._point_sets.find(gateway, batch.point_set)
        if ids is None:
            return NeedPointSet(hash=batch.point_set)
        try:
            name, value = await self._record(gateway, batch, ids, received_at)
        except BatchInvalid as error:
            return await self._refuse(gateway, batch, error, received_at)
        try:
            await self._log.append(name, _key(gateway), value)
        except RecordTooLarge as error:
            too_large = BatchInvalid("too_large", str(error))
            return await self._refuse(gateway, batch, too_large, received_at)
        self._metrics.batches.labels("accepted").inc()
        return Receipt(accepted=(Accepted(epoch=batch.epoch, seqs=((batch.seq, batch.seq),)),))

    async def _record(
        self, gateway: Gateway, batch: Batch, ids: NDArray[np.int32], received_at: int
    ) -> tuple[str, bytes]:
        if len(batch.body) > MAX_BODY_BYTES:
            detail = f"body of {len(batch.body)} bytes; at most {MAX_BODY_BYTES} are taken"
            raise BatchInvalid("too_large", detail)
        if batch.kind is Kind.READINGS:
            lane, value = await _aside(
                batch, _readings, self._codec, gateway, batch, ids, received_at
            )
            self._metrics.readings.labels(lane.value).inc(batch.count)
            kind = TopicKind.READINGS if lane is Lane.LIVE else TopicKind.BACKFILL
            return topic(gateway.project, kind), value
        if batch.kind is Kind.EVENTS:
            value = await _aside(batch, _events, self._codec, gateway, batch, ids, received_at)
            return topic(gateway.project, TopicKind.EVENTS), value
        value = await _aside(batch, _rollups, self._codec, gateway, batch, ids, received_at)
        return topic(gateway.project, TopicKind.ROLLUPS), value

    async def _refuse(
        self, gateway: Gateway, batch: Batch, error: BatchInvalid, received_at: int
    ) -> Frame:
        dead = DeadRecord(
            gateway_id=gateway.gateway_id,
            epoch=batch.epoch,
            seq=batch.seq,
            received_at=received_at,
            count=batch.count,
            kind=batch.kind.value,
            code=error.code,
            detail=error.detail[:2_000],
            point_set=batch.point_set,
            body=batch.body,
        )
        value = self._codec.encode(dead)
        await self._log.append(topic(gateway.project, TopicKind.DEAD), _key(gateway), value)
        self._metrics.batches.labels("refused").inc()
        problem = Problem(code=error.code[:64], detail=error.detail[:2_000])
        return RefusedFrame(epoch=batch.epoch, seq=batch.seq, problem=problem)

    def _put_off(self, batch: Batch, reason: str) -> Frame:
        self._metrics.batches.labels("put_off").inc()
        return RetryAfter(epoch=batch.epoch, seq=batch.seq, seconds=RETRY_S, reason=reason)


def _key(gateway: Gateway) -> bytes:
    return str(gateway.gateway_id).encode()


async def _aside(batch: Batch, work: Callable[..., Result], *given: Any) -> Result:
    if len(batch.body) >= LARGE_BYTES:
        return await asyncio.to_thread(work, *given)
    return work(*given)


def _readings(
    codec: RecordCodec, gateway: Gateway, batch: Batch, ids: NDArray[np.int32], received_at: int
) -> tuple[Lane, bytes]:
    columns = bodies.decode(batch.body, points=len(ids))
    check_readings(columns, batch.count, len(ids))
    record = ReadingRecord(
        gateway.gateway_id,
        batch.epoch,
        batch.seq,
        received_at,
        columns.with_series(ids[columns.series]),
    )
    return lane_of(columns.observed_at, received_at), codec.encode(record)


def check_readings(columns: Columns, count: int, points: int) -> None:
    """Refuse columns that are not what the frame says, or speak of points or times that are not.

    Raises `BatchInvalid` with `count_mismatch`, `bad_series` or `not_a_batch`.
    """
    if len(columns) != count:
        raise BatchInvalid("count_mismatch", f"{count} readings told, {len(columns)} are in it")
    if count == 0:
        return
    low, high = int(columns.series.min()), int(columns.series.max())
    if low < 0 or high >= points:
        raise BatchInvalid("bad_series", f"series {low}…{high} in a set of {points} points")
    first, last = int(columns.observed_at.min()), int(columns.observed_at.max())
    if first < EARLIEST_US or last > LATEST_US:
        raise BatchInvalid("not_a_batch", "observed_at lies outside the years 1 to 9999")


def _rollups(
    codec: RecordCodec, gateway: Gateway, batch: Batch, ids: NDArray[np.int32], received_at: int
) -> bytes:
    rollups = bodies.decode_rollups(batch.body, points=len(ids))
    if len(rollups) != batch.count:
        raise BatchInvalid("count_mismatch", f"{batch.count} rollups told, {len(rollups)} in it")
    rollups["series"] = ids[rollups["series"]]
    return codec.encode(
        RollupRecord(gateway.gateway_id, batch.epoch, batch.seq, received_at, rollups)
    )


def _events(
    codec: RecordCodec, gateway: Gateway, batch: Batch, ids: NDArray[np.int32], received_at: int
) -> bytes:
    events = bodies.decode_events(batch.body)
    if len(events) != batch.count:
        raise BatchInvalid("count_mismatch", f"{batch.count} events told, {len(events)} are in it")
    named = [_ranges(event) for event in events]
    if sum(last - first + 1 for each in named for first, last in each) > MAX_NAMED:
        raise BatchInvalid("bad_event", f"the events name more than {MAX_NAMED} points")
    resolved = [resolve(event, ids) for event in events]
    return codec.encode(
        EventRecord(gateway.gateway_id, batch.epoch, batch.seq, received_at, batch.count, resolved)
    )


def resolve(event: dict[str, Any], ids: NDArray[np.int32]) -> dict[str, Any]:
    """Name the points of an event by id: `points`, ranges of ids, takes the place of `series`.

    Raises `BatchInvalid` with `bad_event` or `bad_series`.
    """
    if "series" not in event:
        return event
    try:
        points = resolve_series(_ranges(event), ids)
    except IndexError as error:
        raise BatchInvalid("bad_series", str(error)) from error
    rest = {name: value for name, value in event.items() if name != "series"}
    return {**rest, "points": points}


def _ranges(event: dict[str, Any]) -> list[tuple[int, int]]:
    series = event.get("series", [])
    if not isinstance(series, list | tuple) or not all(_is_range(each) for each in series):
        raise BatchInvalid("bad_event", "series of an event are ranges [first, last]")
    return [(each[0], each[1]) for each in series]


def _is_range(each: Any) -> bool:
    return (
        isinstance(each, list | tuple)
        and len(each) == 2
        and all(isinstance(part, int) and not isinstance(part, bool) for part in each)
        and each[0] <= each[1]
    )
