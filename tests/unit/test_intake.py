"""One batch becomes one record, one refusal, or is put off: never two, never none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from central.ingress.intake import MAX_NAMED, Intake
from central.ingress.metrics import IngressMetrics
from central.ingress.point_sets import PointSets, check
from central.messaging import (
    DeadRecord,
    EventRecord,
    LogAway,
    Position,
    ReadingRecord,
    Record,
    RecordCodec,
    RecordTooLarge,
    RollupRecord,
)
from central.storage.catalogue import Gateway
from central.storage.database import DatabaseAway
from shared.batch import encode_rollups
from shared.errors import FrameInvalid
from shared.link import Batch, Frame, NeedPointSet, Receipt, RefusedFrame, RetryAfter
from shared.metrics import new_registry
from shared.model import Kind
from shared.rollups import ROLLUP
from tests.servers.link_peer import events_batch, point_set_frame, points, readings_batch

GATEWAY = Gateway(5, 1, "demo", "gw1")
SET = points("a/x", "a/y", "b/z")
NOW = 1_700_000_000_000_000


class FixedClock:
    def now_us(self) -> int:
        return NOW

    def monotonic_s(self) -> float:
        return 0.0


@dataclass
class KeptLog:
    """A log that keeps what is appended, or is away."""

    appended: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    is_away: bool = False
    refused: str = ""

    async def append(self, topic: str, key: bytes, value: bytes) -> Position:
        if self.is_away:
            raise LogAway("for the test")
        if topic == self.refused:
            raise RecordTooLarge("for the test")
        self.appended.append((topic, key, value))
        return Position("log", 0, len(self.appended) - 1)

    async def read(
        self, topic: str, partition: int, offset: int | None, limit_bytes: int, wait_s: float
    ) -> Sequence[Record]:
        return []

    async def log_id(self, topic: str) -> str:
        return "log"

    async def end(self, topic: str, partition: int) -> Position:
        return Position("log", partition, len(self.appended))

    async def create_topic(self, topic: str) -> None: ...

    async def delete_topic(self, topic: str) -> None: ...

    async def trim(self, topic: str, partition: int, below: int) -> None: ...


class KnownSets(PointSets):
    """Knows one set: series 0, 1, 2 are points 11, 12, 40."""

    def __init__(self) -> None:
        self.is_away = False

    async def find(self, gateway: Gateway, digest: bytes) -> NDArray[np.int32] | None:
        if self.is_away:
            raise DatabaseAway("for the test")
        return np.asarray([11, 12, 40], np.int32) if digest == SET.hash else None


@dataclass
class Rig:
    log: KeptLog = field(default_factory=KeptLog)
    sets: KnownSets = field(default_factory=KnownSets)
    codec: RecordCodec = field(default_factory=RecordCodec)

    async def take(self, batch: Batch) -> Frame:
        metrics = IngressMetrics(new_registry())
        intake = Intake(self.log, self.codec, self.sets, FixedClock(), metrics)
        return await intake.take(GATEWAY, batch)


async def test_a_batch_becomes_one_record_by_point_ids_keyed_by_gateway() -> None:
    rig = Rig()
    answer = await rig.take(readings_batch(SET, 3, [(0, NOW, 1.5, 0), (2, NOW, 2.5, 0x1005)]))
    assert isinstance(answer, Receipt)
    assert (answer.accepted[0].epoch, answer.accepted[0].seqs) == (7, ((3, 3),))
    [(topic, key, value)] = rig.log.appended
    assert (topic, key) == ("spine.demo.readings", b"5")
    record = rig.codec.decode(value)
    assert isinstance(record, ReadingRecord)
    assert (record.gateway_id, record.epoch, record.seq, record.received_at) == (5, 7, 3, NOW)
    assert record.columns.series.tolist() == [11, 40]
    assert record.columns.value.tolist() == [1.5, 2.5]
    assert record.columns.quality.tolist() == [0, 0x1005]


async def test_an_old_reading_sends_its_batch_to_backfill() -> None:
    rig = Rig()
    await rig.take(readings_batch(SET, 0, [(0, NOW - 61_000_000, 1.0, 0)]))
    assert rig.log.appended[0][0] == "spine.demo.backfill"


async def test_an_unknown_point_set_is_asked_for_and_nothing_is_kept() -> None:
    rig = Rig()
    other = points("no/where")
    answer = await rig.take(readings_batch(other, 0, [(0, NOW, 1.0, 0)]))
    assert isinstance(answer, NeedPointSet)
    assert answer.hash == other.hash
    assert rig.log.appended == []


async def test_bytes_that_break_the_format_are_kept_whole_with_the_reason() -> None:
    rig = Rig()
    good = readings_batch(SET, 4, [(0, NOW, 1.0, 0)])
    bad = good.model_copy(update={"body": good.body[:-1]})
    answer = await rig.take(bad)
    assert isinstance(answer, RefusedFrame)
    [(topic, _, value)] = rig.log.appended
    record = rig.codec.decode(value)
    assert topic == "spine.demo.dead"
    assert isinstance(record, DeadRecord)
    assert (record.code, record.body) == (answer.problem.code, bad.body)
    assert (record.count, record.kind, record.point_set) == (1, "readings", SET.hash)


async def test_a_record_the_log_never_takes_is_kept_whole_with_the_reason() -> None:
    rig = Rig(log=KeptLog(refused="spine.demo.readings"))
    batch = readings_batch(SET, 5, [(0, NOW, 1.0, 0)])
    answer = await rig.take(batch)
    assert isinstance(answer, RefusedFrame)
    assert answer.problem.code == "too_large"
    [(topic, _, value)] = rig.log.appended
    record = rig.codec.decode(value)
    assert topic == "spine.demo.dead"
    assert isinstance(record, DeadRecord)
    assert (record.code, record.body, record.seq) == ("too_large", batch.body, 5)


@pytest.mark.parametrize(
    ("at", "is_taken"),
    [(-62_135_596_800_000_000, True), (-62_135_596_800_000_001, False), (2**63 - 1, False)],
)
async def test_times_no_database_can_hold_are_refused(at: int, is_taken: bool) -> None:
    answer = await Rig().take(readings_batch(SET, 0, [(0, at, 1.0, 0)]))
    assert isinstance(answer, Receipt if is_taken else RefusedFrame)


async def test_a_log_or_database_that_is_away_puts_the_batch_off() -> None:
    batch = readings_batch(SET, 9, [(0, NOW, 1.0, 0)])
    away = Rig(log=KeptLog(is_away=True))
    answer = await away.take(batch)
    assert isinstance(answer, RetryAfter)
    assert (answer.seq, answer.reason) == (9, "log_away")
    lost = Rig()
    lost.sets.is_away = True
    answer = await lost.take(batch)
    assert isinstance(answer, RetryAfter)
    assert answer.reason == "database_away"
    broken = await away.take(batch.model_copy(update={"body": b"rubbish"}))
    assert isinstance(broken, RetryAfter), "a refusal that cannot be kept is no refusal"


async def test_series_of_events_become_ranges_of_point_ids() -> None:
    rig = Rig()
    events: list[dict[str, Any]] = [
        {"event": "note", "series": [[0, 2]]},
        {"event": "other", "text": "kept"},
    ]
    await rig.take(events_batch(SET, 0, events))
    record = rig.codec.decode(rig.log.appended[0][2])
    assert isinstance(record, EventRecord)
    assert record.count == 2
    assert record.events[0]["points"] == [[11, 12], [40, 40]]
    assert record.events[1] == {"event": "other", "text": "kept"}


async def test_events_that_name_points_without_end_are_refused() -> None:
    rounds = MAX_NAMED // 3 + 1
    event: dict[str, Any] = {"event": "note", "series": [[0, 2]] * 1_000}
    events = [event] * (rounds // 1_000 + 1)
    answer = await Rig().take(events_batch(SET, 0, events))
    assert isinstance(answer, RefusedFrame)
    assert answer.problem.code == "bad_event"


def rollups_batch(series: Sequence[int], count: int) -> Batch:
    rows = np.zeros(len(series), ROLLUP)
    rows["series"], rows["start"], rows["width"], rows["count"] = series, NOW, 60_000_000, 7
    body = encode_rollups(rows)
    return readings_batch(SET, 0, [(0, NOW, 1.0, 0)]).model_copy(
        update={"kind": Kind.ROLLUPS, "count": count, "body": body}
    )


async def test_rollups_become_a_record_of_point_ids() -> None:
    rig = Rig()
    answer = await rig.take(rollups_batch([0, 2], 2))
    assert isinstance(answer, Receipt)
    ((name, _, value),) = rig.log.appended
    record = rig.codec.decode(value)
    assert name.endswith(".rollups")
    assert isinstance(record, RollupRecord)
    assert record.rollups["series"].tolist() == [11, 40]
    assert record.rollups["count"].tolist() == [7, 7]


@pytest.mark.parametrize(
    ("series", "count", "code"), [([0], 2, "count_mismatch"), ([3], 1, "bad_series")]
)
async def test_rollups_that_are_not_what_they_say_are_refused(
    series: list[int], count: int, code: str
) -> None:
    answer = await Rig().take(rollups_batch(series, count))
    assert isinstance(answer, RefusedFrame)
    assert answer.problem.code == code


async def test_readings_under_the_kind_of_rollups_are_refused() -> None:
    batch = readings_batch(SET, 0, [(0, NOW, 1.0, 0)])
    answer = await Rig().take(batch.model_copy(update={"kind": Kind.ROLLUPS}))
    assert isinstance(answer, RefusedFrame)
    assert answer.problem.code == "unknown_kind"


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (("a b", "", "number", "normal"), "bad_point"),
        (("a/x\n", "", "number", "normal"), "bad_point"),
        (("", "", "number", "normal"), "bad_point"),
        (("a/" + "x" * 199, "", "number", "normal"), "bad_point"),
        (("a/x", "u" * 65, "number", "normal"), "bad_point"),
        (("a/x", "\x00", "number", "normal"), "bad_point"),
        (("a/x", "", "colour", "normal"), "bad_point"),
        (("a/x", "", "number", "royal"), "bad_point"),
        (("a/q", "", "number", "normal"), "bad_hash"),
    ],
)
def test_a_point_set_that_cannot_be_is_an_invalid_frame(
    row: tuple[str, str, str, str], code: str
) -> None:
    frame = point_set_frame(points("a/x")).model_copy(update={"points": (row,)})
    with pytest.raises(FrameInvalid) as refused:
        check(frame)
    assert refused.value.code == code


def test_a_right_point_set_is_taken() -> None:
    assert check(point_set_frame(SET)) == SET
