"""What is asked of Kafka, and what its answers mean: the one module that knows kafka-python.

Only its classes for requests are used. They speak the newest versions, in which records are
written and read by the *id* of a topic: a topic that was made anew cannot be taken for the old one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from kafka.errors import for_code
from kafka.protocol import admin, consumer, metadata, producer

from central.messaging.log import LogAway, OffsetOutOfRange, RecordTooLarge, TopicUnknown

CLIENT: Final = "spine"
ALL_IN_SYNC: Final = -1
EARLIEST: Final = -2
LATEST: Final = -1
CONSUMER: Final = -1
TIMEOUT_MS: Final = 5_000
"""What a broker waits for the others until it says that it cannot do it now."""

_OFFSET_OUT_OF_RANGE: Final = 1
_UNKNOWN_TOPIC: Final = 3
_TOO_LARGE: Final = frozenset({10, 18})
_EXISTS: Final = 36
_FORBIDDEN: Final = frozenset({29, 31})

Answer = TypeVar("Answer")


class NotNow(LogAway):
    """The broker that was asked cannot do it (any more, or yet); another one may, or soon."""


@dataclass(frozen=True, slots=True)
class Leader:
    """The broker that leads a partition (-1: none now), and which of its leaders it is.

    A question that names the epoch is refused by a broker that has stopped to lead; without it a
    follower would answer, and may be behind.
    """

    broker: int = -1
    epoch: int = -1


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic in one life: its id, and the leader of each partition."""

    name: str
    topic_id: UUID
    leaders: Mapping[int, Leader]

    def leader(self, partition: int) -> Leader:
        """Give the leader of a partition, also of one that is not there."""
        return self.leaders.get(partition, Leader())


@dataclass(frozen=True, slots=True)
class Cluster:
    """The brokers by their number, each with host and port, and the topic that was asked for."""

    brokers: Mapping[int, tuple[str, int]]
    topic: Topic


@dataclass(frozen=True, slots=True)
class Question(Generic[Answer]):
    """A request in the version that is spoken, and how its answer is read."""

    request: Any
    response: Any
    version: int
    read: Callable[[Any], Answer]

    def encode(self, correlation_id: int) -> bytes:
        """Write the request as it goes out, its size first."""
        self.request.with_header(correlation_id=correlation_id, client_id=CLIENT)
        return bytes(self.request.encode(version=self.version, header=True, framed=True))

    def decode(self, payload: bytes) -> Answer:
        """Read an answer; raises what the broker's code says."""
        return self.read(self.response.decode(payload, version=self.version, header=True))


def hello() -> Question[None]:
    """Ask which versions a broker speaks; raises `LogAway` where ours are not among them."""
    request = metadata.ApiVersionsRequest(
        client_software_name=CLIENT, client_software_version="1", version=3
    )
    return Question(request, metadata.ApiVersionsResponse, 3, _check_versions)


def describe(topic: str) -> Question[Cluster]:
    """Ask for a topic and all brokers; raises `TopicUnknown`."""
    wanted = metadata.MetadataRequest.MetadataRequestTopic(name=topic)
    request = metadata.MetadataRequest(topics=[wanted], allow_auto_topic_creation=False)
    return Question(request, metadata.MetadataResponse, 12, lambda found: _cluster(topic, found))


def produce(topic: Topic, partition: int, batch: bytes) -> Question[int]:
    """Append a batch of records to a life of a topic; tells the first record's offset."""
    kind = producer.ProduceRequest
    data = kind.TopicProduceData.PartitionProduceData(index=partition, records=batch)
    request = kind(
        transactional_id=None,
        acks=ALL_IN_SYNC,
        timeout_ms=TIMEOUT_MS,
        topic_data=[kind.TopicProduceData(topic_id=topic.topic_id, partition_data=[data])],
    )

    def read(answer: Any) -> int:
        part = answer.responses[0].partition_responses[0]
        _check(part.error_code, "Write", topic.name)
        return int(part.base_offset)

    return Question(request, producer.ProduceResponse, 13, read)


def fetch(
    topic: Topic, partition: int, offset: int, limit_bytes: int, wait_ms: int
) -> Question[bytes]:
    """Read batches of records from a life of a topic; the first comes whole, however large."""
    kind = consumer.FetchRequest
    wanted = kind.FetchTopic.FetchPartition(
        partition=partition,
        current_leader_epoch=topic.leader(partition).epoch,
        fetch_offset=offset,
        partition_max_bytes=limit_bytes,
    )
    request = kind(
        replica_id=CONSUMER,
        max_wait_ms=wait_ms,
        min_bytes=1,
        max_bytes=limit_bytes,
        topics=[kind.FetchTopic(topic_id=topic.topic_id, partitions=[wanted])],
        forgotten_topics_data=[],
    )

    def read(answer: Any) -> bytes:
        _check(answer.error_code, "Read", topic.name)
        part = answer.responses[0].partitions[0]
        if part.error_code == _OFFSET_OUT_OF_RANGE:
            raise OffsetOutOfRange(f"{topic.name}: no record has offset {offset}, any more or yet")
        _check(part.error_code, "Read", topic.name)
        return bytes(part.records or b"")

    return Question(request, consumer.FetchResponse, 13, read)


def earliest(topic: Topic, partition: int) -> Question[int]:
    """Ask for the first offset that is still there."""
    return _list_offset(topic, partition, EARLIEST)


def latest(topic: Topic, partition: int) -> Question[int]:
    """Ask for the offset of the next record."""
    return _list_offset(topic, partition, LATEST)


def _list_offset(topic: Topic, partition: int, which: int) -> Question[int]:
    kind = consumer.ListOffsetsRequest
    wanted = kind.ListOffsetsTopic.ListOffsetsPartition(
        partition_index=partition,
        current_leader_epoch=topic.leader(partition).epoch,
        timestamp=which,
    )
    topics = [kind.ListOffsetsTopic(name=topic.name, partitions=[wanted])]
    request = kind(replica_id=CONSUMER, isolation_level=0, topics=topics)

    def read(answer: Any) -> int:
        part = answer.topics[0].partitions[0]
        _check(part.error_code, "Describe", topic.name)
        return int(part.offset)

    return Question(request, consumer.ListOffsetsResponse, 7, read)


def create(topic: str, replicas: int, settings: Mapping[str, str]) -> Question[None]:
    """Make a topic with one partition; one that exists is left as it is."""
    kind = admin.CreateTopicsRequest.CreatableTopic
    configs = [kind.CreatableTopicConfig(name=name, value=text) for name, text in settings.items()]
    wanted = kind(
        name=topic, num_partitions=1, replication_factor=replicas, assignments=[], configs=configs
    )
    request = admin.CreateTopicsRequest(topics=[wanted], timeout_ms=TIMEOUT_MS, validate_only=False)

    def read(answer: Any) -> None:
        made = answer.topics[0]
        if made.error_code != _EXISTS:
            _check(made.error_code, "Create", topic, made.error_message)

    return Question(request, admin.CreateTopicsResponse, 7, read)


def delete(topic: str) -> Question[None]:
    """Remove a topic; one that does not exist is left so."""
    wanted = admin.DeleteTopicsRequest.DeleteTopicState(name=topic)
    request = admin.DeleteTopicsRequest(topics=[wanted], timeout_ms=TIMEOUT_MS)

    def read(answer: Any) -> None:
        gone = answer.responses[0]
        if gone.error_code != _UNKNOWN_TOPIC:
            _check(gone.error_code, "Delete", topic, gone.error_message)

    return Question(request, admin.DeleteTopicsResponse, 6, read)


def delete_records(topic: Topic, partition: int, below: int) -> Question[None]:
    """Let records below an offset go; nothing goes where the log ends before it."""
    kind = admin.DeleteRecordsRequest.DeleteRecordsTopic
    wanted = kind.DeleteRecordsPartition(partition_index=partition, offset=below)
    topics = [kind(name=topic.name, partitions=[wanted])]
    request = admin.DeleteRecordsRequest(topics=topics, timeout_ms=TIMEOUT_MS)

    def read(answer: Any) -> None:
        part = answer.topics[0].partitions[0]
        if part.error_code != _OFFSET_OUT_OF_RANGE:
            _check(part.error_code, "Delete", topic.name)

    return Question(request, admin.DeleteRecordsResponse, 2, read)


_SPOKEN: Final = {
    kind.API_KEY: (kind.__name__, version)
    for kind, version in (
        (metadata.MetadataRequest, 12),
        (producer.ProduceRequest, 13),
        (consumer.FetchRequest, 13),
        (consumer.ListOffsetsRequest, 7),
        (admin.CreateTopicsRequest, 7),
        (admin.DeleteTopicsRequest, 6),
        (admin.DeleteRecordsRequest, 2),
    )
}


def _check_versions(answer: Any) -> None:
    spoken = {each.api_key: (each.min_version, each.max_version) for each in answer.api_keys}
    for key, (name, version) in _SPOKEN.items():
        low, high = spoken.get(key, (0, -1))
        if not low <= version <= high:
            raise LogAway(
                f"it does not speak {name} version {version} ({low} to {high}): "
                "Kafka 4.1 or newer is needed"
            )


def _cluster(name: str, answer: Any) -> Cluster:
    found = answer.topics[0]
    if found.error_code == _UNKNOWN_TOPIC:
        raise TopicUnknown(f"Kafka has no topic {name}; create_topics makes it")
    _check(found.error_code, "Describe", name)
    leaders = {
        part.partition_index: Leader(part.leader_id, part.leader_epoch) for part in found.partitions
    }
    brokers = {each.node_id: (each.host, each.port) for each in answer.brokers}
    return Cluster(brokers, Topic(name, found.topic_id, leaders))


def _check(code: int, operation: str, topic: str, detail: str | None = None) -> None:
    if code == 0:
        return
    kind = for_code(code)
    reason = f"{kind.__name__} ({code}){f': {detail}' if detail else ''}"
    if code in _FORBIDDEN:
        raise LogAway(
            f"Kafka does not let us do {operation} on topic {topic}: {reason}. Give the subject of "
            f"our certificate the ACL {operation} on topics with the prefix spine."
        )
    if code in _TOO_LARGE:
        raise RecordTooLarge(f"{topic}: {reason}; the topic's max.message.bytes is too small")
    if kind.retriable:
        raise NotNow(f"Kafka cannot do {operation} on topic {topic} now: {reason}")
    raise LogAway(f"Kafka refuses {operation} on topic {topic}: {reason}")
