"""Whether one Avro schema can read what another wrote, by the resolution rules of Avro 1.12.

The same question a schema registry answers under BACKWARD compatibility. Source: Avro
specification 1.12, "Schema Resolution".
"""

from collections.abc import Mapping
from typing import Any, Final

_WIDENS: Final[Mapping[str, frozenset[str]]] = {
    "long": frozenset({"int"}),
    "float": frozenset({"int", "long"}),
    "double": frozenset({"int", "long", "float"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
_NAMED: Final = frozenset({"record", "enum", "fixed"})


def problems_reading(reader: Any, writer: Any) -> list[str]:
    """List why `reader` cannot read all that `writer` can write; empty where it can.

    Schemas are as `fastavro.schema.parse_schema` gives them: names are full.
    """
    return _Comparison(_named_types(reader, {}), _named_types(writer, {})).compare(
        reader, writer, "value"
    )


class _Comparison:
    def __init__(self, reader_types: dict[str, Any], writer_types: dict[str, Any]) -> None:
        self._reader_types = reader_types
        self._writer_types = writer_types
        self._compared: set[tuple[str, str]] = set()

    def compare(self, reader: Any, writer: Any, where: str) -> list[str]:
        reader, writer = self._resolve(reader, writer)
        if isinstance(writer, list):
            return [problem for branch in writer for problem in self.compare(reader, branch, where)]
        if isinstance(reader, list):
            if any(not self.compare(branch, writer, where) for branch in reader):
                return []
            return [f"{where}: no branch of the union reads {_kind(writer)}"]
        if _kind(reader) != _kind(writer):
            if _kind(writer) in _WIDENS.get(_kind(reader), frozenset()):
                return []
            return [f"{where}: {_kind(writer)} cannot be read as {_kind(reader)}"]
        return self._compare_same(reader, writer, where)

    def _resolve(self, reader: Any, writer: Any) -> tuple[Any, Any]:
        if isinstance(reader, str):
            reader = self._reader_types.get(reader, reader)
        if isinstance(writer, str):
            writer = self._writer_types.get(writer, writer)
        return reader, writer

    def _compare_same(self, reader: Any, writer: Any, where: str) -> list[str]:
        kind = _kind(reader)
        if kind == "array":
            return self.compare(reader["items"], writer["items"], f"{where}[]")
        if kind == "map":
            return self.compare(reader["values"], writer["values"], f"{where}{{}}")
        return self._compare_named(reader, writer, where) if kind in _NAMED else []

    def _compare_named(self, reader: Any, writer: Any, where: str) -> list[str]:
        if _short(reader) != _short(writer) and writer["name"] not in reader.get("aliases", []):
            return [f"{where}: {writer['name']} became {reader['name']}"]
        if _kind(reader) == "fixed":
            same = reader["size"] == writer["size"]
            return [] if same else [f"{where}: the size of {reader['name']} changed"]
        if _kind(reader) == "enum":
            return _compare_enums(reader, writer, where)
        return self._compare_records(reader, writer, where)

    def _compare_records(self, reader: Any, writer: Any, where: str) -> list[str]:
        pair = (reader["name"], writer["name"])
        if pair in self._compared:
            return []
        self._compared.add(pair)
        written = {field["name"]: field for field in writer["fields"]}
        problems: list[str] = []
        for field in reader["fields"]:
            names = [field["name"], *field.get("aliases", [])]
            source = next((written[name] for name in names if name in written), None)
            place = f"{where}.{field['name']}"
            if source is not None:
                problems += self.compare(field["type"], source["type"], place)
            elif "default" not in field:
                problems.append(f"{place}: new without a default")
        return problems


def _compare_enums(reader: Any, writer: Any, where: str) -> list[str]:
    if "default" in reader:
        return []
    unknown = sorted(set(writer["symbols"]) - set(reader["symbols"]))
    return [f"{where}: symbol {symbol} is gone" for symbol in unknown]


def _kind(schema: Any) -> str:
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _short(schema: Any) -> str:
    return str(schema["name"]).rpartition(".")[2]


def _named_types(schema: Any, found: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema, list):
        for branch in schema:
            _named_types(branch, found)
    elif isinstance(schema, dict):
        if schema.get("type") in _NAMED:
            found[schema["name"]] = schema
        for key in ("items", "values", "type"):
            if isinstance(schema.get(key), dict | list):
                _named_types(schema[key], found)
        for field in schema.get("fields", []):
            _named_types(field["type"], found)
    return found
