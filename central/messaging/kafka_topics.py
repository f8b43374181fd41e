"""Topics in Kafka: made, removed and trimmed."""

import asyncio
from collections.abc import Mapping
from typing import Final

from central.messaging import kafka_requests as requests
from central.messaging.kafka_brokers import PATIENCE_S, Brokers, patience
from central.messaging.kafka_records import MAX_MESSAGE_BYTES
from central.messaging.log import PARTITION, TopicUnknown

SAFE_REPLICAS: Final = 3
LOOK_AGAIN_S: Final = 0.05
RETENTION_MS: Final = 30 * 24 * 3_600_000
RETENTION_BYTES: Final = 16 * 1024**3
"""Both only catch what nobody reads: the writer trims what it is past.

A record that goes unread was never settled, so its gateway sends the batch again.
"""
SEGMENT_BYTES: Final = 64 * 1024**2
"""Disk is given back by whole segments."""


def settings_of(replicas: int) -> Mapping[str, str]:
    """Give the settings of a new topic; an operator may change them later, we never do."""
    return {
        "cleanup.policy": "delete",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": "2" if replicas >= SAFE_REPLICAS else "1",
        "retention.bytes": str(RETENTION_BYTES),
        "retention.ms": str(RETENTION_MS),
        "segment.bytes": str(SEGMENT_BYTES),
        "unclean.leader.election.enable": "false",
    }


async def create_topic(brokers: Brokers, topic: str, replicas: int) -> None:
    """Make a topic and wait until it can be written; one that exists is left as it is."""
    with patience():
        async with asyncio.timeout(PATIENCE_S):
            if await _exists(brokers, topic):
                return
            await brokers.ask(requests.create(topic, replicas, settings_of(replicas)))
            while not await _exists(brokers, topic):  # noqa: ASYNC110 -- another machine's state
                await asyncio.sleep(LOOK_AGAIN_S)
            await earliest(brokers, topic, PARTITION)


async def delete_topic(brokers: Brokers, topic: str) -> None:
    """Remove a topic and wait until it is gone; one that does not exist is left so."""
    with patience():
        async with asyncio.timeout(PATIENCE_S):
            await brokers.ask(requests.delete(topic))
            while await _exists(brokers, topic):  # noqa: ASYNC110 -- another machine's state
                await asyncio.sleep(LOOK_AGAIN_S)


async def trim(brokers: Brokers, topic: str, partition: int, below: int) -> None:
    """Let records below an offset go.

    Does nothing where the topic has another life than when it was last looked at (the offset was
    meant for that one), or ends before the offset.
    """
    meant = brokers.last_seen(topic)

    async def delete_records(found: requests.Topic) -> None:
        if meant is not None and meant.topic_id == found.topic_id:
            question = requests.delete_records(found, partition, below)
            await brokers.ask_leader(found, partition, question)

    await brokers.look_up(topic)
    await brokers.insist(topic, delete_records)


async def earliest(brokers: Brokers, topic: str, partition: int) -> int:
    """Tell the first offset that is there."""
    return await brokers.insist(
        topic,
        lambda found: brokers.ask_leader(found, partition, requests.earliest(found, partition)),
    )


async def _exists(brokers: Brokers, topic: str) -> bool:
    try:
        await brokers.look_up(topic)
    except TopicUnknown:
        return False
    return True
