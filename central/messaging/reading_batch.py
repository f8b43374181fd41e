"""`ReadingBatch` in Avro: its readings by whole columns, the few fields around them by fastavro."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import fastavro
import fastavro.schema

from central.messaging import avro_readings, avro_tables
from shared.columns import Columns

_ARRAY: Final = "readings"
_SMALL_BYTES: Final = avro_tables.FEWEST * avro_readings.SHORTEST


@dataclass(frozen=True, slots=True, eq=False)
class ReadingBatchCoding:
    """Writes and reads the fields of a schema that has the array `readings` as it is known here.

    Fields are what fastavro gives and takes, but `readings` is `Columns` without texts. A record's
    fields lie one after the other, so those before and after the array are records of their own.
    """

    before: Any
    after: Any

    @classmethod
    def of(cls, coding: Any) -> Self | None:
        """Prepare for a parsed schema; None for one that only fastavro can write and read."""
        fields = list(coding["fields"])
        names = [field["name"] for field in fields]
        at = names.index(_ARRAY) if _ARRAY in names else len(names)
        if at == len(names) or not avro_readings.is_served(fields[at]["type"]):
            return None
        try:
            return cls(_record(fields[:at]), _record(fields[at + 1 :]))
        except fastavro.schema.UnknownType:  # defined within the array
            return None

    def encode(self, fields: Mapping[str, Any], columns: Columns) -> bytes | None:
        """Write a batch with `columns` for its readings; None where fastavro has to."""
        array = avro_readings.encode(columns)
        if array is None:
            return None
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self.before, fields)
        out.write(array)
        fastavro.schemaless_writer(out, self.after, fields)
        return out.getvalue()

    def decode(self, value: bytes, at: int) -> tuple[dict[str, Any], int] | None:
        """Read a batch that begins at `at`: its fields, and where it ends. None: fastavro has to.

        Raises what fastavro raises for the fields around the readings.
        """
        if len(value) < _SMALL_BYTES:
            return None
        source = io.BytesIO(value)
        source.seek(at)
        before: Any = fastavro.schemaless_reader(source, self.before, None)
        found = avro_readings.decode(value, source.tell())
        if found is None:
            return None
        columns, end = found
        source.seek(end)
        after: Any = fastavro.schemaless_reader(source, self.after, None)
        return {**before, _ARRAY: columns, **after}, source.tell()


def _record(fields: list[Any]) -> Any:
    return fastavro.schema.parse_schema({"type": "record", "name": "Part", "fields": fields})
