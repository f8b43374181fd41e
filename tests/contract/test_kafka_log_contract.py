"""The log in Kafka keeps the log contract."""

from collections.abc import AsyncIterator

import pytest

from central.messaging import TopicKind, create_topics, topic
from central.messaging.kafka_log import KafkaPlace, open_kafka_log
from tests.contract.log_suite import LogContract, LogRig
from tests.servers.stack import RunningStack

pytest_plugins = ["tests.servers.stack_fixtures"]
pytestmark = pytest.mark.integration


@pytest.fixture
async def rig(kafka_stack: RunningStack) -> AsyncIterator[LogRig]:
    place = KafkaPlace(kafka_stack.env["SPINE_KAFKA"])
    async with open_kafka_log(place) as log, open_kafka_log(place) as other:

        async def wipe() -> None:
            async with open_kafka_log(place) as third:
                for kind in TopicKind:
                    await third.delete_topic(topic("demo", kind))
                await create_topics(third, "demo")

        await wipe()
        yield LogRig(log, other, wipe)


class TestKafkaLog(LogContract):
    pass
