"""The schemas of the log, from files, and the contract of whoever gives them their ids.

`schemas/<name>.<version>.avsc`; every version must be able to read what all older ones wrote
(BACKWARD_TRANSITIVE). In the local profile a schema's id is made of its content, so every process
agrees on it; with a schema registry it is the registry's (`schema_registry.py`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

import fastavro.schema

from central.messaging.compatibility import problems_reading
from shared.errors import SpineError

FOLDER: Final = Path(__file__).parent / "schemas"
_SCHEMA_ERRORS: Final = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    fastavro.schema.SchemaParseException,
)


class SchemaRefused(SpineError):
    """A schema is broken, or cannot read what another version of it wrote."""


class RegistryAway(SpineError):
    """The schema registry cannot be asked now; the caller keeps what it has and tries again."""


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """One version of one schema.

    `id` is made of its content: equal schemas have equal ids. `text` is what a registry is given;
    `coding` is the same without logical types, because times are kept as integers: the bytes are
    the same.
    """

    name: str
    version: int
    id: int
    text: str
    coding: Any

    @classmethod
    def parse(cls, name: str, version: int, text: str) -> Self:
        """Make a schema of its Avro text; raises `SchemaRefused` with what is wrong in it."""
        try:
            document = json.loads(text)
            canonical = fastavro.schema.to_parsing_canonical_form(document)
            coding = fastavro.schema.parse_schema(_without_logical_types(document))
        except _SCHEMA_ERRORS as error:
            raise SchemaRefused(str(error)) from error
        return cls(name, version, _id_of(canonical), text, coding)

    @property
    def subject(self) -> str:
        """Under which name a registry keeps all versions: the full name of the record."""
        found = self.coding.get("name") if isinstance(self.coding, dict) else None
        return self.name if found is None else str(found)


class SchemaIds(Protocol):
    """Which id stands in front of a record, and what an id found there means."""

    def newest(self, name: str) -> Schema:
        """Give the version that is written now."""
        ...

    def id_of(self, schema: Schema) -> int:
        """Tell the id a schema is written under; raises `RegistryAway` until it is known."""
        ...

    def meanings(self, schema_id: int) -> Sequence[Schema]:
        """Tell what was written under an id: one schema, none, or several if a registry was wiped.

        Never asks anybody, so it may be called from any thread.
        """
        ...

    async def learn(self, schema_id: int) -> None:
        """Ask what an id means; `meanings` knows it afterwards, if anybody does.

        Raises `RegistryAway`, and `SchemaRefused` for a newer version of a schema of ours that our
        own cannot read.
        """
        ...

    async def check(self) -> str:
        """Tell the state in a few words; raises `RegistryAway` while nothing can be written."""
        ...


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

    def all_versions(self) -> Mapping[str, Sequence[Schema]]:
        """Give every version of every schema, oldest first."""
        return self._versions

    def newest(self, name: str) -> Schema:
        """Give the version that is written now."""
        return self._versions[name][-1]

    def by_id(self, schema_id: int) -> Schema | None:
        """Find a schema by the id that its content makes."""
        return self._by_id.get(schema_id)

    def id_of(self, schema: Schema) -> int:
        """Tell the id of a schema: the one its content makes."""
        return schema.id

    def meanings(self, schema_id: int) -> Sequence[Schema]:
        """Tell the schema of an id, if there is one."""
        found = self._by_id.get(schema_id)
        return () if found is None else (found,)

    async def learn(self, schema_id: int) -> None:
        """Learn nothing: there is nobody to ask."""

    async def check(self) -> str:
        """Tell how many schemas there are."""
        return f"{len(self._by_id)} schemas from files"


def _read(path: Path) -> Schema:
    name, _, version = path.stem.rpartition(".")
    if not name or not version.isdigit():
        raise SchemaRefused(f"{path.name}: a schema file is called <name>.<version>.avsc")
    try:
        return Schema.parse(name, int(version), path.read_text(encoding="utf-8"))
    except (SchemaRefused, OSError, UnicodeError) as error:
        raise SchemaRefused(f"{path.name}: {error}") from error


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_logical_types(part) for part in schema]
    if isinstance(schema, dict):
        kept = {
            key: _without_logical_types(part)
            for key, part in schema.items()
            if key != "logicalType"
        }
        return kept["type"] if kept.keys() == {"type"} else kept
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
