"""The flow: what analytics counts of the live lane, on a real log."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from central.analytics.flow import Flow
from central.analytics.follower import Source
from central.analytics.metrics import FlowMetrics
from central.messaging import (
    LogAway,
    PostgresLog,
    ReadingRecord,
    Record,
    RecordCodec,
    create_topics,
    topic,
)
from shared.clock import MICROSECONDS, SystemClock
from shared.columns import Columns
from shared.metrics import new_registry
from shared.quality import Reason, bad, uncertain
from tests.servers.central_process import until
from tests.servers.link_peer import now_us
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures"]
pytestmark = pytest.mark.integration

DEADLINE_S = 30.0


class Cuttable(PostgresLog):
    """A log that can be away."""

    is_cut = False

    async def read(
        self, topic: str, partition: int, offset: int | None, limit_bytes: int, wait_s: float
    ) -> Sequence[Record]:
        if self.is_cut:
            raise LogAway("cut by the test")
        # Short waits, so that a cut is noticed at once.
        return await super().read(topic, partition, offset, limit_bytes, min(wait_s, 0.1))


@dataclass
class Rig:
    """A flow over one project's log, with what it counted."""

    log: Cuttable
    codec: RecordCodec = field(default_factory=RecordCodec)
    registry: CollectorRegistry = field(default_factory=new_registry)

    def value(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(
            f"spine_analytics_{name}", {"project": "demo", **labels}
        )
        return found or 0.0

    def outcome(self, name: str) -> float:
        return self.value("batches_total", outcome=name)

    async def append(
        self, seq: int, ages_s: Sequence[float] = (0.0,), received_at: int = 0
    ) -> None:
        """Append a batch whose readings are so old: good, uncertain, bad in turn."""
        at = received_at or now_us()
        qualities = [0, uncertain(Reason.STALE), bad(Reason.TIMEOUT)]
        columns = Columns.of(
            [1] * len(ages_s),
            [at - round(age * MICROSECONDS) for age in ages_s],
            [1.0] * len(ages_s),
            [qualities[nth % 3] for nth in range(len(ages_s))],
        )
        record = ReadingRecord(1, 7, seq, at, columns)
        await self.log.append(topic("demo", "readings"), b"g", self.codec.encode(record))

    async def until_outcome(self, name: str, count: int) -> None:
        async def is_counted() -> bool:
            return self.outcome(name) >= count

        await until(is_counted, f"{count} batches are {name}", DEADLINE_S)
        assert self.outcome(name) == count


@asynccontextmanager
async def followed(database: Database, rig: Rig) -> AsyncIterator[Flow]:
    metrics = FlowMetrics(rig.registry)
    flow = Flow(database.service, Source(rig.log, rig.codec, SystemClock()), metrics)
    running = asyncio.create_task(flow.run())
    try:
        yield flow
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def rig(database: Database) -> Rig:
    await database.add_project("demo")
    made = Rig(Cuttable(database.service))
    await create_topics(made.log, "demo")
    return made


async def until_told(flow: Flow, wanted: str) -> None:
    async def is_told() -> bool:
        try:
            return await flow.tell() == wanted
        except LogAway as error:
            return str(error) == wanted

    await until(is_told, wanted, DEADLINE_S)


async def test_readings_are_counted_by_class_with_their_delay(database: Database, rig: Rig) -> None:
    async with followed(database, rig) as flow:
        await until_told(flow, "projects: 1, live")
        await rig.append(0, [0.0, 0.2, 7.0])
        await rig.append(1, [-3.0, 100.0])
        await rig.until_outcome("counted", 2)
    for klass, count in {"good": 2, "uncertain": 2, "bad": 1}.items():
        assert rig.value("readings_total", quality=klass) == count
    below = {edge: rig.value("delay_seconds_bucket", le=edge) for edge in ("0.1", "0.25", "10.0")}
    assert below == {"0.1": 2, "0.25": 3, "10.0": 4}
    assert rig.value("delay_seconds_bucket", le="+Inf") == rig.value("delay_seconds_count") == 5
    assert rig.value("delay_seconds_sum") == pytest.approx(107.2)


async def test_what_was_received_before_the_start_and_what_repeats_is_not_counted(
    database: Database, rig: Rig
) -> None:
    await rig.append(0)
    async with followed(database, rig):
        await rig.until_outcome("earlier", 1)
        for seq in (1, 2, 1):
            await rig.append(seq)
        await rig.until_outcome("repeated", 1)
        assert rig.outcome("counted") == 2


async def test_a_record_that_cannot_be_read_is_counted_and_passed(
    database: Database, rig: Rig
) -> None:
    async with followed(database, rig):
        for value in (b"", b"\x00\x00\x00\x00\x01rubbish"):
            await rig.log.append(topic("demo", "readings"), b"g", value)
        await rig.append(0)
        await rig.until_outcome("counted", 1)
        assert rig.outcome("unreadable") == 2


async def test_a_log_that_lost_its_disk_is_followed_from_its_start(
    database: Database, rig: Rig
) -> None:
    async with followed(database, rig):
        for seq in range(3):
            await rig.append(seq)
        await rig.until_outcome("counted", 3)
        await rig.log.wipe()
        await rig.append(2)
        await rig.append(3)
        await rig.until_outcome("counted", 4)
        await rig.until_outcome("repeated", 1)


async def test_an_outage_of_the_log_is_told_and_waited_out(
    database: Database, rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    async with followed(database, rig) as flow:
        await until_told(flow, "projects: 1, live")
        rig.log.is_cut = True
        await until_told(flow, "cut by the test")
        await rig.append(0)
        rig.log.is_cut = False
        await rig.until_outcome("counted", 1)
        await until_told(flow, "projects: 1, live")
    assert rig.value("outages_total") == 1
    said = "".join(capsys.readouterr())
    assert said.count("analytics waits") == 1
    assert said.count("analytics follows again") == 1


async def test_a_new_project_is_followed_within_seconds(database: Database, rig: Rig) -> None:
    async with followed(database, rig) as flow:
        await until_told(flow, "projects: 1, live")
        await database.add_project("second")
        await create_topics(rig.log, "second")
        await until_told(flow, "projects: 2, live")


async def test_a_backlog_is_told_in_records_until_it_is_followed(
    database: Database, rig: Rig
) -> None:
    rig.log.is_cut = True
    for seq in range(101):
        await rig.append(seq)
    async with followed(database, rig) as flow:

        async def is_behind() -> bool:
            return rig.value("behind_records") == 101

        await until(is_behind, "it is behind", DEADLINE_S)
        rig.log.is_cut = False
        await rig.until_outcome("earlier", 101)
        await until_told(flow, "projects: 1, live")

        async def is_done() -> bool:
            return rig.value("behind_records") == 0

        await until(is_done, "nothing waits", DEADLINE_S)
