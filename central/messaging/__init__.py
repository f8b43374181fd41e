"""The log between ingress and its consumers: contract, records, schemas and topics."""

from central.messaging.log import (
    PARTITION,
    Log,
    LogAway,
    OffsetOutOfRange,
    Position,
    Record,
    RecordTooLarge,
    TopicUnknown,
)
from central.messaging.postgres_log import PostgresLog
from central.messaging.records import (
    DeadRecord,
    EventRecord,
    LogRecord,
    ReadingRecord,
    RecordCodec,
    RecordInvalid,
    RollupRecord,
    SchemaUnknown,
    resolve_series,
)
from central.messaging.registry import RegistryAway, SchemaIds, SchemaRefused
from central.messaging.schema_registry import open_registry
from central.messaging.topic_reader import TopicReader
from central.messaging.topics import TopicKind, create_topics, topic

__all__ = [
    "PARTITION",
    "DeadRecord",
    "EventRecord",
    "Log",
    "LogAway",
    "LogRecord",
    "OffsetOutOfRange",
    "Position",
    "PostgresLog",
    "ReadingRecord",
    "Record",
    "RecordCodec",
    "RecordInvalid",
    "RecordTooLarge",
    "RegistryAway",
    "RollupRecord",
    "SchemaIds",
    "SchemaRefused",
    "SchemaUnknown",
    "TopicKind",
    "TopicReader",
    "TopicUnknown",
    "create_topics",
    "open_registry",
    "resolve_series",
    "topic",
]
