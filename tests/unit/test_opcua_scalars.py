"""Values of every built-in type, encoded by asyncua, as texts and numbers."""

import math
import uuid
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary, variant_to_binary
from hypothesis import given
from hypothesis import strategies as st

from protocols.opcua.attributes import Told, decode_strings, decode_told, unit_of
from protocols.opcua.binary import Malformed, Reader
from protocols.opcua.codec import decode_read, to_columns
from protocols.opcua.scalars import EITHER, read_scalar, time_text
from shared.columns import Columns
from shared.quality import GOOD, Reason, bad

V: Final = ua.VariantType
GUID: Final = uuid.UUID("12345678-1234-5678-1234-567812345678")
AT: Final = datetime(2024, 2, 29, 12, 30, 15, 123_456, UTC)


def node_id(identifier: Any, namespace: Any) -> ua.NodeId:
    return ua.NodeId(identifier, namespace)


def response(*variants: ua.Variant) -> bytes:
    answer = ua.ReadResponse()
    answer.Results = [ua.DataValue(Value=variant) for variant in variants]
    return struct_to_binary(answer)


def read(variant: ua.Variant, *, is_text: bool) -> Columns:
    return to_columns(decode_read(response(variant), 1), np.array([is_text]), 7)


@pytest.mark.parametrize(
    ("variant", "text"),
    [
        (ua.Variant("ä", V.String), "ä"),
        (ua.Variant(AT, V.DateTime), "2024-02-29T12:30:15.123456Z"),
        (ua.Variant(GUID, V.Guid), str(GUID)),
        (ua.Variant(b"\x00\xff", V.ByteString), "AP8="),
        (ua.Variant(ua.XmlElement(ua.String("<a/>")), V.XmlElement), "<a/>"),
        (ua.Variant(node_id("a;b", 3), V.NodeId), "ns=3;s=a;b"),
        (ua.Variant(node_id(5, 0), V.NodeId), "i=5"),
        (ua.Variant(node_id(70_000, 2), V.NodeId), "ns=2;i=70000"),
        (ua.Variant(node_id(GUID, 4), V.NodeId), f"ns=4;g={GUID}"),
        (ua.Variant(node_id(b"hi", 1), V.NodeId), "ns=1;b=aGk="),
        (ua.Variant(ua.StatusCode(ua.UInt32(0x8034_0000)), V.StatusCode), "0x80340000"),
        (ua.Variant(ua.QualifiedName("q", ua.Int16(3)), V.QualifiedName), "q"),
        (ua.Variant(ua.LocalizedText("heat", "en"), V.LocalizedText), "heat"),
    ],
)
def test_a_value_is_written_as_a_text(variant: ua.Variant, text: str) -> None:
    columns = read(variant, is_text=True)
    assert columns.texts == {0: text}
    assert columns.quality.tolist() == [GOOD]
    assert math.isnan(columns.value[0])


@pytest.mark.parametrize(
    ("variant", "number"),
    [
        (ua.Variant(AT, V.DateTime), AT.timestamp()),
        (ua.Variant(ua.StatusCode(ua.UInt32(0x8034_0000)), V.StatusCode), float(0x8034_0000)),
    ],
)
def test_times_and_statuses_are_numbers_too(variant: ua.Variant, number: float) -> None:
    columns = read(variant, is_text=False)
    assert columns.value.tolist() == [number]
    assert columns.texts == {}


def test_a_time_that_says_there_is_none_is_no_value() -> None:
    columns = read(ua.Variant(datetime(1601, 1, 1, tzinfo=UTC), V.DateTime), is_text=False)
    assert columns.quality.tolist() == [bad(Reason.NOT_YET_REPORTED)]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "variant",
    [
        ua.Variant([2.5], V.Double, is_array=True),
        ua.Variant([[2.5]], V.Double, is_array=True),
        ua.Variant([True], V.Boolean, is_array=True),
    ],
)
def test_an_array_of_one_element_is_that_element(variant: ua.Variant, count: int) -> None:
    values = decode_read(response(*[variant] * count), count)
    columns = to_columns(values, np.zeros(count, np.bool_), 7)
    assert columns.quality.tolist() == [GOOD] * count
    assert columns.value.tolist() == [2.5 if variant.VariantType is V.Double else 1.0] * count


def test_arrays_of_different_lengths_beside_each_other_keep_their_rows() -> None:
    variants = [ua.Variant([float(n)] * n, V.Double, is_array=True) for n in (1, 2, 1)]
    columns = to_columns(decode_read(response(*variants), 3), np.zeros(3, np.bool_), 7)
    assert columns.quality.tolist() == [GOOD, bad(Reason.BAD_PAYLOAD), GOOD]
    assert columns.value[[0, 2]].tolist() == [1.0, 1.0]


def test_attributes_are_told_with_type_and_form() -> None:
    unit = ua.EUInformation(DisplayName=ua.LocalizedText("°C"), Description=ua.LocalizedText("x"))
    variants = [
        ua.Variant(21.5, V.Double),
        ua.Variant("a", V.String),
        ua.Variant([1, 2, 3], V.Int16),
        ua.Variant(unit, V.ExtensionObject),
        ua.Variant(),
    ]
    told = decode_told(response(*variants), len(variants))
    assert [one.kind for one in told] == [11, 12, 4, 22, 0]
    assert [one.shown() for one in told] == ["21.5", "a", "3 elements", "", ""]
    assert unit_of(told[3]) == "°C"
    assert unit_of(told[0]) == ""
    assert unit_of(Told(kind=22, body=b"\x05")) == ""


def test_an_array_of_strings_is_read_whole() -> None:
    assert decode_strings(response(ua.Variant(["a", "ü"], V.String))) == ["a", "ü"]
    assert decode_strings(response(ua.Variant(1, V.Int32))) == []


@given(ticks=st.integers(1, 2_650_467_743_989_999_999))
def test_every_time_has_a_text_and_a_number(ticks: int) -> None:
    carried, number, text = read_scalar(Reader(ticks.to_bytes(8, "little")), 13)
    assert carried == EITHER
    assert number is not None
    assert text == time_text(ticks)
    assert text.endswith("Z")


@given(data=st.binary(max_size=40), kind=st.integers(0, 30))
def test_any_bytes_are_a_value_or_malformed(data: bytes, kind: int) -> None:
    reader = Reader(data)
    try:
        read_scalar(reader, kind)
    except Malformed:
        return
    assert reader.at <= len(data)


def test_a_scalar_is_read_exactly() -> None:
    for variant in (ua.Variant(GUID, V.Guid), ua.Variant(node_id(b"hi", 1), V.NodeId)):
        encoded = variant_to_binary(variant)
        reader = Reader(encoded + b"rest", 1)
        read_scalar(reader, encoded[0])
        assert reader.at == len(encoded)
