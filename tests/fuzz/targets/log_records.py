"""Records of the log: `RecordInvalid` or a record."""

from central.messaging.records import ReadingRecord, RecordCodec, RecordInvalid
from shared.columns import Columns

_CODEC = RecordCodec()
_COLUMNS = Columns.of([1, 2, 2], [5, 5, 6], [1.5, float("nan"), 3.0], [0, 8198, 0], {1: "x"})

SEEDS = (_CODEC.encode(ReadingRecord(1, 2, 3, 4, _COLUMNS)),)


def one(data: bytes) -> None:
    try:
        _CODEC.decode(data)
    except RecordInvalid:
        return
