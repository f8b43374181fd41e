"""Messaging keeps every project's topics, whatever becomes of the log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from central.messaging import LogAway, PostgresLog, TopicKind, TopicUnknown, topic
from central.messaging.metrics import MessagingMetrics
from central.messaging.upkeep import Upkeep
from central.storage.database import project_transaction
from central.storage.positions import move_position
from tests.servers.central_process import until
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures"]
pytestmark = pytest.mark.integration

DEADLINE_S = 30.0


class Cuttable(PostgresLog):
    """A log that can be away."""

    is_cut = False

    async def create_topic(self, topic: str) -> None:
        if self.is_cut:
            raise LogAway("cut by the test")
        await super().create_topic(topic)


@asynccontextmanager
async def kept(
    database: Database, log: PostgresLog, registry: CollectorRegistry
) -> AsyncIterator[Upkeep]:
    upkeep = Upkeep(database.service, log, MessagingMetrics(registry), look_s=0.05)
    running = asyncio.create_task(upkeep.run())
    try:
        yield upkeep
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until_told(upkeep: Upkeep, wanted: str) -> None:
    async def is_told() -> bool:
        try:
            return await upkeep.tell() == wanted
        except LogAway as error:
            return str(error) == wanted

    await until(is_told, wanted, DEADLINE_S)


async def test_projects_get_their_topics_and_get_them_back(database: Database) -> None:
    log, registry = PostgresLog(database.service), CollectorRegistry()
    await database.add_project("first")
    async with kept(database, log, registry) as upkeep:
        await until_told(upkeep, f"{len(TopicKind)} topics are there")
        await database.add_project("second")
        await until_told(upkeep, f"{2 * len(TopicKind)} topics are there")
        lost = topic("first", TopicKind.READINGS)
        life = await log.log_id(lost)
        await log.delete_topic(lost)

        async def is_back() -> bool:
            try:
                return await log.log_id(lost) != life
            except TopicUnknown:
                return False

        await until(is_back, "the topic is there again", DEADLINE_S)

        async def is_told() -> bool:
            return registry.get_sample_value("spine_messaging_lost_topics_total") == 1

        await until(is_told, "the loss is counted", DEADLINE_S)


async def test_what_waits_for_the_writer_is_told(database: Database) -> None:
    log, registry = PostgresLog(database.service), CollectorRegistry()
    await database.add_project("demo")
    name = topic("demo", TopicKind.READINGS)
    async with kept(database, log, registry) as upkeep:
        await until_told(upkeep, f"{len(TopicKind)} topics are there")
        places = [await log.append(name, b"g", b"1") for _ in range(3)]

        async def waits(count: int) -> bool:
            labels = {"topic": name}
            told = registry.get_sample_value("spine_messaging_writer_behind_records", labels)
            return told == count

        await until(lambda: waits(3), "three records wait", DEADLINE_S)
        async with project_transaction(database.service, "demo") as connection:
            await move_position(connection, name, None, places[2])
        await until(lambda: waits(1), "one record waits", DEADLINE_S)


async def test_an_outage_is_told_once_and_waited_out(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    log, registry = Cuttable(database.service), CollectorRegistry()
    log.is_cut = True
    await database.add_project("demo")
    async with kept(database, log, registry) as upkeep:
        await until_told(upkeep, "cut by the test")
        log.is_cut = False
        await until_told(upkeep, f"{len(TopicKind)} topics are there")
    said = "".join(capsys.readouterr())
    assert said.count("the upkeep of the log waits") == 1
    assert said.count("the upkeep of the log goes on") == 1
