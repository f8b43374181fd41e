"""Something to find again in each server of a stack, by clients nobody here wrote.

Each `…_keep` puts it there when asked first, and gives what the server holds of it; what it gives
before and after a restart must be equal.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.request import Request, urlopen

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from paho.mqtt import publish, subscribe

TOPIC: Final = "spine.kept.readings"
RECORDS: Final = (b"one", b"two", b"three")
Env = Mapping[str, str]


def kafka_options(env: Env, context: ssl.SSLContext | None = None) -> dict[str, Any]:
    """Give a client's options: with a context it speaks TLS."""
    secure = {"security_protocol": "SSL", "ssl_context": context} if context else {}
    return {"bootstrap_servers": env["SPINE_KAFKA"], "request_timeout_ms": 30_000, **secure}


@asynccontextmanager
async def administration(options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**options)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def make_topic(options: Mapping[str, Any], name: str, replicas: int = 1) -> None:
    async with administration(options) as admin:
        answer = await admin.create_topics([NewTopic(name, 1, replicas)])
    codes = [error[1] for error in answer.topic_errors]
    assert codes == [0], answer


async def topics(options: Mapping[str, Any]) -> set[str]:
    async with administration(options) as admin:
        return set(await admin.list_topics())


async def append(options: Mapping[str, Any], topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(acks="all", enable_idempotence=True, **options) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


async def read(options: Mapping[str, Any], topic: str, count: int) -> list[bytes]:
    """Read the first records of a topic's only partition."""
    where = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(auto_offset_reset="earliest", **options) as consumer:
        consumer.assign([where])
        async with asyncio.timeout(60):
            return [(await consumer.getone(where)).value for _ in range(count)]


async def kafka_keep(env: Env, is_first: bool) -> object:
    options = kafka_options(env)
    if is_first:
        await make_topic(options, TOPIC)
        await append(options, TOPIC, *RECORDS)
    return await read(options, TOPIC, len(RECORDS))


async def registry_keep(env: Env, is_first: bool) -> object:
    def run() -> object:
        base = f"{env['SPINE_REGISTRY']}/subjects"
        if is_first:
            for name in ("a", "b", "c"):
                schema = f'{{"type": "record", "name": "{name}", "fields": []}}'
                _ask(f"{base}/{name}-value/versions", {"schema": schema})
        return [(name, _ask(f"{base}/{name}/versions/1")) for name in sorted(_ask(base))]

    return await asyncio.to_thread(run)


async def timescale_keep(env: Env, is_first: bool) -> object:
    connection = await asyncpg.connect(env["SPINE_OWNER_DSN"])
    try:
        if is_first:
            await connection.execute(
                "CREATE SCHEMA kept; CREATE TABLE kept.t (at timestamptz);"
                "SELECT create_hypertable('kept.t', 'at'); INSERT INTO kept.t VALUES ('2026-01-01')"
            )
        return await connection.fetch("SELECT at FROM kept.t")
    finally:
        await connection.close()


async def mosquitto_keep(env: Env, is_first: bool) -> object:
    host, _, port = env["STACK_MQTT"].partition(":")
    user, _, password = env["STACK_MQTT_SPINE"].partition(":")
    login: Any = {"username": user, "password": password}

    def run() -> object:
        if is_first:
            for topic in ("kept/a", "kept/b", "kept/c"):
                publish.single(topic, "1", 1, True, host, int(port), auth=login)
        found: Any = subscribe.simple(  # type: ignore[no-untyped-call]  # paho leaves it so
            "kept/a", hostname=host, port=int(port), auth=login
        )
        return found.topic, found.payload

    async with asyncio.timeout(60):
        return await asyncio.to_thread(run)


KEEPERS: Final[Mapping[str, Callable[[Env, bool], Awaitable[object]]]] = {
    "kafka": kafka_keep,
    "registry": registry_keep,
    "timescale": timescale_keep,
    "mosquitto": mosquitto_keep,
}


def _ask(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    with urlopen(Request(url, data, headers), timeout=30) as answer:
        return json.loads(answer.read())
