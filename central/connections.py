"""The log and the schemas' ids a process works with: those its settings name."""

import contextlib
from collections.abc import AsyncIterator

from central.messaging import Log, PostgresLog, SchemaIds, open_registry
from central.messaging.kafka_brokers import KafkaPlace
from central.messaging.kafka_log import open_kafka_log
from central.settings import Settings
from central.storage.database import Pool


@contextlib.asynccontextmanager
async def open_log(settings: Settings, pool: Pool) -> AsyncIterator[Log]:
    """Give the log in Kafka where brokers are named, else the one in Postgres.

    A broker that is away is no error here: the calls on the log raise `LogAway` until it is back.
    """
    if settings.kafka is None:
        yield PostgresLog(pool)
        return
    place = KafkaPlace(
        settings.kafka, settings.kafka_ca, settings.kafka_identity, settings.kafka_replicas
    )
    async with open_kafka_log(place) as log:
        yield log


@contextlib.asynccontextmanager
async def open_schemas(settings: Settings) -> AsyncIterator[SchemaIds]:
    """Give the ids of our schemas, from the registry where one is named; see `open_registry`."""
    url = settings.registry.get_secret_value() if settings.registry else None
    async with open_registry(url) as ids:
        yield ids
