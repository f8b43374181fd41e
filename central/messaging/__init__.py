"""The log between ingress and its consumers: contract, records, schemas and topics."""

from central.messaging.log import (
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
    resolve_series,
)
from central.messaging.topics import TopicKind, create_topics, topic

__all__ = [
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
    "TopicKind",
    "TopicUnknown",
    "create_topics",
    "resolve_series",
    "topic",
]
