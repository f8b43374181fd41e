"""Batches of records as Kafka keeps them: the one module that knows aiokafka.

Only its record format is used, which is compiled: a checksum over 1 MiB takes 1 ms.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from central.messaging.log import LogAway, Record, RecordTooLarge

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
"""The largest batch a topic takes (`max.message.bytes`)."""
LARGE_BYTES: Final = 8 * 1024 * 1024
"""Batches from here on are compressed, so that the largest batch of a gateway passes."""
MAGIC: Final = 2
NOT_COMPRESSED: Final = 0
GZIP: Final = 1


def pack(items: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Make a batch of keys and values; raises `RecordTooLarge`."""
    size = sum(len(value) for _, value in items)
    builder = DefaultRecordBatchBuilder(
        magic=MAGIC,
        compression_type=GZIP if size >= LARGE_BYTES else NOT_COMPRESSED,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=2**31 - 1,
    )
    for at, (key, value) in enumerate(items):
        builder.append(at, timestamp=None, key=key, value=value, headers=[])
    packed = bytes(builder.build())
    if len(packed) > MAX_MESSAGE_BYTES:
        raise RecordTooLarge(
            f"a record of {size} bytes, {len(packed)} compressed; the log takes {MAX_MESSAGE_BYTES}"
        )
    return packed


def unpack(
    topic: str, partition: int, packed: bytes, offset: int, limit_bytes: int
) -> list[Record]:
    """Give the records from `offset` on, until their values exceed `limit_bytes` (one may).

    A batch at the end that is cut off is left out. Raises `LogAway` for bytes that are damaged.
    """
    records: list[Record] = []
    size = 0
    for found in _records(topic, packed):
        value = found.value or b""
        size += len(value) if found.offset >= offset else 0
        if records and size > limit_bytes:
            break
        if found.offset >= offset:
            records.append(Record(topic, partition, found.offset, found.key or b"", value))
    return records


def behind(packed: bytes) -> int | None:
    """Tell the offset that follows the last whole batch; None where there is none.

    Batches may have no record to read: marks of transactions, and what compaction took out.
    """
    batches, offset = MemoryRecords(packed), None
    while batches.has_next():
        offset = int(batches.next_batch().next_offset)
    return offset


def _records(topic: str, packed: bytes) -> Iterator[Any]:
    batches = MemoryRecords(packed)
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            raise LogAway(f"{topic}: the batch at offset {batch.base_offset} is damaged")
        if not batch.is_control_batch:
            yield from batch
