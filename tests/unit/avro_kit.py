"""Readings in Avro as fastavro writes them, which ours are held against."""

import io

import fastavro

from central.messaging import avro_readings
from central.messaging.registry import FileRegistry
from shared.columns import Columns

CODING = FileRegistry.load().newest("reading_batch").coding
ARRAY = next(field["type"] for field in CODING["fields"] if field["name"] == "readings")


def by_fastavro(columns: Columns) -> bytes:
    rows = zip(
        columns.series.tolist(),
        columns.observed_at.tolist(),
        columns.value.tolist(),
        columns.quality.tolist(),
        strict=True,
    )
    out = io.BytesIO()
    names = ("point_id", "observed_at", "value", "quality")
    fastavro.schemaless_writer(out, ARRAY, [dict(zip(names, row, strict=True)) for row in rows])
    return out.getvalue()


def assert_same(left: Columns, right: Columns) -> None:
    for name in ("series", "observed_at", "value", "quality"):
        one, other = getattr(left, name), getattr(right, name)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


def assert_read_between(columns: Columns, before: bytes, after: bytes) -> None:
    """Read what fastavro wrote from between other bytes, to its end and no further."""
    array = by_fastavro(columns)

    found = avro_readings.decode(before + array + after, len(before), fewest=1)

    assert found is not None
    assert_same(found[0], columns)
    assert found[1] == len(before) + len(array)
