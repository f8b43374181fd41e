"""The file registry: every schema version reads what all older ones wrote, or it is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.messaging.compatibility import problems_reading
from central.messaging.records import ReadingRecord, RecordCodec
from central.messaging.registry import FOLDER, FileRegistry, Schema, SchemaRefused
from shared.columns import Columns

RELEASED = {
    "dead_batch.1": 1973204161,
    "event_batch.1": 539824084,
    "reading_batch.1": 286154623,
    "rollup_batch.1": 2072338195,
}
"""The ids that records of released versions carry; a new version is added, none ever changes."""


def record(*fields: dict[str, Any], name: str = "Batch") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def write(folder: Path, name: str, schema: Any) -> None:
    (folder / name).write_text(json.dumps(schema), encoding="utf-8")


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        ("long", "int"),
        ("double", "float"),
        ("string", "bytes"),
        (["null", "long"], "int"),
        (["null", "long"], ["long", "null"]),
        (record(field("a", "int")), record(field("a", "int"), field("b", "int"))),
        (record(field("a", "int"), field("b", "int", default=1)), record(field("a", "int"))),
        (record(field("new", "int", aliases=["old"])), record(field("old", "int"))),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}),
        (
            {"type": "enum", "name": "E", "symbols": ["A", "B"]},
            {"type": "enum", "name": "E", "symbols": ["A"]},
        ),
        (
            {"type": "enum", "name": "E", "symbols": ["A"], "default": "A"},
            {"type": "enum", "name": "E", "symbols": ["A", "B"]},
        ),
    ],
)
def test_what_avro_can_resolve_is_compatible(reader: Any, writer: Any) -> None:
    assert problems_reading(reader, writer) == []


@pytest.mark.parametrize(
    ("reader", "writer", "problem"),
    [
        ("int", "long", "value: long cannot be read as int"),
        ("int", ["int", "string"], "value: string cannot be read as int"),
        (["null", "int"], "string", "value: no branch of the union reads string"),
        (
            record(field("a", "int"), field("b", "int")),
            record(field("a", "int")),
            "value.b: new without a default",
        ),
        (
            record(field("a", {"type": "array", "items": "int"})),
            record(field("a", {"type": "array", "items": "string"})),
            "value.a[]: string cannot be read as int",
        ),
        (
            {"type": "enum", "name": "E", "symbols": ["A"]},
            {"type": "enum", "name": "E", "symbols": ["A", "B"]},
            "value: symbol B is gone",
        ),
        (
            {"type": "fixed", "name": "F", "size": 16},
            {"type": "fixed", "name": "F", "size": 8},
            "value: the size of F changed",
        ),
        (record(name="One"), record(name="Other"), "value: Other became One"),
        (
            {"type": "map", "values": "int"},
            {"type": "map", "values": "string"},
            "value{}: string cannot be read as int",
        ),
    ],
)
def test_what_avro_cannot_resolve_is_told(reader: Any, writer: Any, problem: str) -> None:
    assert problems_reading(reader, writer) == [problem]


def test_types_named_before_and_types_within_themselves_are_followed() -> None:
    def tree(leaf: str) -> dict[str, Any]:
        return record(field("leaf", leaf), field("down", ["null", "Batch"]))

    assert problems_reading(tree("long"), tree("int")) == []
    assert problems_reading(tree("int"), tree("long"))


def test_our_schemas_are_compatible_and_have_ids_of_their_own() -> None:
    registry = FileRegistry.load()

    names = {path.stem.rpartition(".")[0] for path in FOLDER.glob("*.avsc")}
    assert names == {"reading_batch", "event_batch", "dead_batch", "rollup_batch"}
    ids = {registry.newest(name).id for name in names}
    assert len(ids) == len(names)
    assert all(0 < number < 2**31 for number in ids)


def test_released_versions_are_what_they_were_and_new_ones_are_listed() -> None:
    versions = FileRegistry.load().all_versions().values()

    found = {f"{one.name}.{one.version}": one.id for every in versions for one in every}
    assert found == RELEASED


def test_an_incompatible_version_is_refused_with_file_and_reason(tmp_path: Path) -> None:
    write(tmp_path, "batch.1.avsc", record(field("a", "int")))
    write(tmp_path, "batch.2.avsc", record(field("a", "long"), field("b", "int", default=0)))
    write(tmp_path, "batch.3.avsc", record(field("a", "long"), field("b", "int")))

    with pytest.raises(SchemaRefused, match=r"batch\.3\.avsc cannot read .* version 1.*value\.b"):
        FileRegistry.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("batch.avsc", "{}", "is called"),
        ("batch.1.avsc", "{", "batch.1.avsc"),
        ("batch.1.avsc", '{"type": "record", "fields": []}', "batch.1.avsc"),
        ("batch.1.avsc", '{"type": "nonsense"}', "batch.1.avsc"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")

    with pytest.raises(SchemaRefused, match=told):
        FileRegistry.load(tmp_path)


def test_records_of_an_older_version_are_read_under_the_newest(tmp_path: Path) -> None:
    for path in FOLDER.glob("*.avsc"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    old = RecordCodec(FileRegistry.load(tmp_path))
    schema = json.loads((FOLDER / "reading_batch.1.avsc").read_text(encoding="utf-8"))
    schema["fields"].insert(0, field("trace", "string", default="none"))
    write(tmp_path, "reading_batch.2.avsc", schema)
    new = RecordCodec(FileRegistry.load(tmp_path))
    columns = Columns.of([1], [2], [math.pi], [3])

    back = new.decode(old.encode(ReadingRecord(1, 2, 3, 4, columns)))

    assert isinstance(back, ReadingRecord)
    assert back.columns.value.tolist() == [math.pi]


NAMED = ["record", "enum", "fixed", "array", "map", "spine.Batch", "Batch", "value"]
words = st.sampled_from([*NAMED, "null", "int", "long", "string", "bytes"])
SHAPES = ["type", "fields", "items", "values", "symbols", "size"]
keys = st.sampled_from([*SHAPES, "name", "namespace", "default", "aliases", "logicalType"])
texts = st.recursive(
    st.one_of(words, st.integers(-1, 3), st.none(), st.booleans(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(keys, inner, min_size=1, max_size=5)
    ),
    max_leaves=12,
)
records = st.fixed_dictionaries(
    {
        "type": st.just("record"),
        "name": words,
        "fields": st.lists(
            st.fixed_dictionaries({"name": words, "type": texts}, optional={"default": texts}),
            max_size=3,
        ),
    }
)


@given(st.one_of(texts, records))
def test_any_text_is_a_schema_that_can_be_compared_or_is_refused(document: Any) -> None:
    try:
        schema = Schema.parse("theirs", 0, json.dumps(document))
    except SchemaRefused:
        return
    ours = FileRegistry.load().newest("reading_batch")

    assert isinstance(schema.subject, str)
    assert isinstance(problems_reading(ours.coding, schema.coding), list)


def test_a_schema_that_is_too_deep_is_refused() -> None:
    with pytest.raises(SchemaRefused):
        Schema.parse("deep", 0, '{"type":"array","items":' * 50_000 + '"int"' + "}" * 50_000)
