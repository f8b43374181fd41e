"""The staging stack: three brokers that let in whom they know alone, and outlive one of them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)
from kafka.errors import KafkaError

from central.messaging import kafka_requests as requests
from central.messaging.kafka_records import pack
from central.messaging.kafka_requests import Question
from central.messaging.kafka_wire import Address, Line
from central.messaging.log import LogAway
from deploy.central.native.certificates import make_identity
from deploy.central.native.kafka_wire import live_brokers
from shared.pki import load_root, make_root, write_private
from tests.servers.stack import RunningStack, started, temporary_stack
from tests.servers.stack_contents import append, kafka_options, make_topic, read, topics

pytestmark = pytest.mark.integration

TOPIC = "spine.demo.readings"
RECORDS = (b"one", b"two", b"three")
NAMES = ("kafka1", "kafka2", "kafka3")


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[RunningStack]:
    """Start three brokers of this module's own, for they lose data."""
    async with temporary_stack("staging") as launcher:
        running = await started(launcher, "kafka")
        options = service_options(running)
        await make_topic(options, TOPIC, replicas=3)
        await append(options, TOPIC, *RECORDS)
        yield running


def context(stack: RunningStack, identity: str | Path | None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=stack.env["SPINE_KAFKA_CA"])
    if identity is not None:
        made.load_cert_chain(identity)
    return made


def service_options(stack: RunningStack) -> dict[str, Any]:
    return kafka_options(stack.env, context(stack, stack.env["SPINE_KAFKA_IDENTITY"]))


def ports(stack: RunningStack) -> dict[str, int]:
    brokers = stack.env["SPINE_KAFKA"].split(",")
    return {name: int(one.rsplit(":", 1)[1]) for name, one in zip(NAMES, brokers, strict=True)}


async def in_sync(stack: RunningStack) -> set[int]:
    """Give the brokers that have all of the topic."""
    admin = AIOKafkaAdminClient(**service_options(stack))
    try:
        await admin.start()
        (topic,) = await admin.describe_topics([TOPIC])
        (partition,) = topic["partitions"]
        return set(partition["isr"])
    finally:
        await admin.close()


async def until_in_sync(stack: RunningStack, wanted: set[int]) -> None:
    async with asyncio.timeout(90):
        while await in_sync(stack) != wanted:  # noqa: ASYNC110 - the brokers tell no event
            await asyncio.sleep(0.2)


@pytest.fixture
def stranger(stack: RunningStack, tmp_path: Path) -> Path:
    """Make an identity with a certificate of the stack's own root, under a name nobody gave."""
    path = tmp_path / "stranger.pem"
    root = load_root(Path(stack.env["SPINE_KAFKA_CA"]).parent)
    write_private(path, make_identity(root, "stranger"))
    return path


async def tell(stack: RunningStack, identity: Path, question: Question[Any]) -> list[Any]:
    """Ask every broker one thing; give what each of them answers, be it a refusal."""
    answers: list[Any] = []
    for port in ports(stack).values():
        line = Line(Address("127.0.0.1", port, Path(stack.env["SPINE_KAFKA_CA"]), identity), 1)
        try:
            answers.append(await line.ask(question))
        except LogAway as error:
            answers.append(error)
        finally:
            await line.close()
    return answers


@asynccontextmanager
async def administration(stack: RunningStack, port: int) -> AsyncIterator[KafkaAdminClient]:
    """Give kafka-python's client with the service's identity."""
    options: Mapping[str, Any] = {
        "bootstrap_servers": f"127.0.0.1:{port}",
        "security_protocol": "SSL",
        "ssl_context": context(stack, stack.env["SPINE_KAFKA_IDENTITY"]),
    }
    admin = await asyncio.to_thread(lambda: KafkaAdminClient(**options))
    try:
        yield admin
    finally:
        await asyncio.to_thread(admin.close)


async def test_the_service_writes_and_reads_its_topics(stack: RunningStack) -> None:
    assert await read(service_options(stack), TOPIC, 3) == list(RECORDS)
    assert await in_sync(stack) == {1, 2, 3}
    assert stack.env["SPINE_KAFKA_REPLICAS"] == "3"


async def test_the_services_identity_is_its_owners_alone(stack: RunningStack) -> None:
    identity = Path(stack.env["SPINE_KAFKA_IDENTITY"])
    keys = [path for path in identity.parent.iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert identity in keys
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}


async def test_the_service_makes_no_topic_of_another_name(stack: RunningStack) -> None:
    with pytest.raises(AssertionError, match="error_code=29"):
        await make_topic(service_options(stack), "other.readings", replicas=3)
    with pytest.raises(AssertionError, match="error_code=29"):
        await make_topic(service_options(stack), "spine", replicas=3)


async def test_the_service_gives_nobody_rights(stack: RunningStack) -> None:
    everything = ResourcePattern(ResourceType.TOPIC, "*")
    wanted = ACL("User:stranger", "*", ACLOperation.ALL, ACLPermissionType.ALLOW, everything)
    async with administration(stack, ports(stack)["kafka1"]) as admin:
        try:
            answer = await asyncio.to_thread(admin.create_acls, [wanted])
        except KafkaError as error:
            answer = {"failed": [error], "succeeded": []}
    assert answer["succeeded"] == []
    assert answer["failed"] != []


async def test_a_stranger_with_a_good_certificate_sees_reads_and_writes_nothing(
    stack: RunningStack, stranger: Path
) -> None:
    service = Path(stack.env["SPINE_KAFKA_IDENTITY"])
    told, *_ = await tell(stack, service, requests.describe(TOPIC))
    topic = told.topic
    assert await topics(kafka_options(stack.env, context(stack, stranger))) == set()
    asked: dict[str, Question[Any]] = {
        "Describe": requests.describe(TOPIC),
        "Read": requests.fetch(topic, 0, 0, 1_000, 0),
        "Write": requests.produce(topic, 0, pack([(b"key", b"forged")])),
        "Delete": requests.delete(TOPIC),
        "Create": requests.create("spine.demo.events", 3, {}),
    }
    for what, question in asked.items():
        for answer in await tell(stack, stranger, question):
            assert f"Kafka does not let us do {what} on topic spine.demo." in str(answer)
    assert await read(service_options(stack), TOPIC, 3) == list(RECORDS)


async def test_nobody_gets_in_without_a_certificate(stack: RunningStack) -> None:
    for port in ports(stack).values():
        with pytest.raises(OSError):  # noqa: PT011 - refused, reset or cut: each ends it
            await asyncio.to_thread(live_brokers, port, context(stack, None))
        with pytest.raises(OSError):  # noqa: PT011 - as above
            await asyncio.to_thread(live_brokers, port, None)


async def test_nobody_gets_in_with_the_certificate_of_another_root(
    stack: RunningStack, tmp_path: Path
) -> None:
    path = tmp_path / "forged.pem"
    write_private(path, make_identity(make_root("stack"), "spine-service"))
    with pytest.raises(OSError):  # noqa: PT011 - refused, reset or cut: each ends it
        await asyncio.to_thread(live_brokers, ports(stack)["kafka1"], context(stack, path))


async def test_controllers_let_nobody_in_without_a_certificate(stack: RunningStack) -> None:
    for name in NAMES:
        port = stack.launcher._stack().ports[name]["controller"]
        with pytest.raises(OSError):  # noqa: PT011 - refused, reset or cut: each ends it
            await asyncio.to_thread(live_brokers, port, context(stack, None))


async def test_records_are_written_while_a_broker_is_gone_and_it_catches_up(
    stack: RunningStack,
) -> None:
    options = service_options(stack)
    await asyncio.to_thread(stack.launcher.kill, "kafka1")
    assert "kafka1" not in stack.launcher.names()
    await append(options, TOPIC, b"four")
    await asyncio.to_thread(stack.launcher.wipe, "kafka1")
    await asyncio.to_thread(stack.launcher.start, "kafka1")
    await until_in_sync(stack, {1, 2, 3})
    # What it holds now it has from the others: they go one after the other.
    await asyncio.to_thread(stack.launcher.kill, "kafka2")
    assert await read(options, TOPIC, 4) == [*RECORDS, b"four"]
    await asyncio.to_thread(stack.launcher.start, "kafka2")
    await until_in_sync(stack, {1, 2, 3})
