"""The schema registry of the local profile: schemas from files, checked as a registry would.

`schemas/<name>.<version>.avsc`; every version must be able to read what all older ones wrote
(BACKWARD_TRANSITIVE). A schema's id is made of its content, so every process agrees on it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import fastavro.schema

from central.messaging.compatibility import problems_reading
from shared.errors import SpineError

FOLDER: Final = Path(__file__).parent / "schemas"


class SchemaRefused(SpineError):
    """A schema file is broken, or cannot read what an older version of it wrote."""


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """One version of one schema.

    `text` is what a registry is given; `coding` is the same without logical types, because times
    are kept as integers: the bytes are the same.
    """

    name: str
    version: int
    id: int
    text: str
    coding: Any


class FileRegistry:
    """All versions of all schemas, by name and by id."""

    def __init__(self, schemas: Mapping[str, list[Schema]]) -> None:
        self._versions = schemas
        self._by_id = {schema.id: schema for found in schemas.values() for schema in found}

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Self:
        """Read and check every schema; raises `SchemaRefused` with the file and the reason."""
        versions: dict[str, list[Schema]] = {}
        for path in sorted(folder.glob("*.avsc")):
            schema = _read(path)
            versions.setdefault(schema.name, []).append(schema)
        for found in versions.values():
            found.sort(key=lambda schema: schema.version)
            _check(found)
        return cls(versions)

    def newest(self, name: str) -> Schema:
        """Give the version that is written now."""
        return self._versions[name][-1]

    def by_id(self, schema_id: int) -> Schema | None:
        """Find a schema by the id in a record's first bytes."""
        return self._by_id.get(schema_id)


def _read(path: Path) -> Schema:
    name, _, version = path.stem.rpartition(".")
    if not name or not version.isdigit():
        raise SchemaRefused(f"{path.name}: a schema file is called <name>.<version>.avsc")
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text)
        canonical = fastavro.schema.to_parsing_canonical_form(document)
        coding = fastavro.schema.parse_schema(_without_logical_types(document))
    except (ValueError, KeyError, fastavro.schema.SchemaParseException) as error:
        raise SchemaRefused(f"{path.name}: {error}") from error
    return Schema(name, int(version), _id_of(canonical), text, coding)


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_logical_types(part) for part in schema]
    if isinstance(schema, dict):
        return {
            key: _without_logical_types(part)
            for key, part in schema.items()
            if key != "logicalType"
        }
    return schema


def _id_of(canonical: str) -> int:
    """Make a positive 31-bit id of the canonical form; equal schemas have equal ids."""
    return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:4], "big") & 0x7FFF_FFFF


def _check(versions: list[Schema]) -> None:
    for at, newer in enumerate(versions):
        for older in versions[:at]:
            problems = problems_reading(newer.coding, older.coding)
            if problems:
                raise SchemaRefused(
                    f"{newer.name}.{newer.version}.avsc cannot read what version {older.version} "
                    f"wrote: {'; '.join(problems)}. Give new fields a default, and never change "
                    "or remove what older records need."
                )
