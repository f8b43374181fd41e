"""Answers of OPC UA servers, encoded by asyncua, decoded by us."""

import math
import struct
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary, variant_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.opcua import codec
from protocols.opcua.binary import MAX_DEPTH, Malformed, Reader
from protocols.opcua.codec import Values, decode_publish, decode_read, fell_behind, to_columns
from shared.clock import from_datetime, to_datetime
from shared.columns import Columns
from shared.quality import GOOD, Flag, QualityClass, Reason, bad, class_of, quality

NOW_US: Final = 1_000
SOURCE: Final = datetime(2024, 5, 1, 12, 0, 0, 123_456, UTC)
SERVER: Final = datetime(2024, 5, 1, 12, 0, 1, 654_321, UTC)
V: Final = ua.VariantType


def data_value(variant: ua.Variant, status: int = 0, **times: datetime) -> ua.DataValue:
    stamps: Any = {"SourceTimestamp": times.get("source"), "ServerTimestamp": times.get("server")}
    return ua.DataValue(Value=variant, StatusCode=ua.StatusCode(ua.UInt32(status)), **stamps)


def read_response(values: Sequence[ua.DataValue]) -> bytes:
    response = ua.ReadResponse()
    response.Results = list(values)
    return struct_to_binary(response)


def publish_response(*notifications: Any, sequence: int = 7) -> bytes:
    response = ua.PublishResponse()
    response.Parameters.SubscriptionId = ua.UInt32(5)
    response.Parameters.AvailableSequenceNumbers = [ua.UInt32(6), ua.UInt32(7)]
    response.Parameters.NotificationMessage.SequenceNumber = ua.UInt32(sequence)
    response.Parameters.NotificationMessage.NotificationData = list(notifications)
    return struct_to_binary(response)


def changes(values: Sequence[tuple[int, ua.DataValue]]) -> ua.DataChangeNotification:
    return ua.DataChangeNotification(
        MonitoredItems=[
            ua.MonitoredItemNotification(ClientHandle=ua.UInt32(handle), Value=value)
            for handle, value in values
        ]
    )


def columns_of(*values: ua.DataValue, is_text: bool = False) -> Columns:
    decoded = decode_read(read_response(values), len(values))
    return to_columns(decoded, np.full(len(values), is_text), NOW_US)


@pytest.mark.parametrize(
    ("value", "kind", "read"),
    [
        (True, V.Boolean, 1.0),
        (False, V.Boolean, 0.0),
        (-128, V.SByte, -128.0),
        (255, V.Byte, 255.0),
        (-32_768, V.Int16, -32_768.0),
        (65_535, V.UInt16, 65_535.0),
        (-(2**31), V.Int32, -(2.0**31)),
        (2**32 - 1, V.UInt32, 2.0**32 - 1),
        (-(2**53), V.Int64, -(2.0**53)),
        (2**53, V.UInt64, 2.0**53),
        (0.5, V.Float, 0.5),
        (21.7, V.Double, 21.7),
        (math.inf, V.Double, math.inf),
    ],
)
@pytest.mark.parametrize("neighbours", [[], [ua.Variant("x", V.String)]])
def test_every_number_is_read_alone_and_among_others(
    value: float, kind: ua.VariantType, read: float, neighbours: list[ua.Variant]
) -> None:
    variants = [ua.Variant(value, kind), *neighbours]
    columns = columns_of(*(data_value(variant, source=SOURCE) for variant in variants))
    assert columns.value[0] == read
    assert columns.quality[0] == GOOD
    assert columns.observed_at[0] == from_datetime(SOURCE)


def test_texts_are_read_and_keep_their_rows() -> None:
    columns = columns_of(
        data_value(ua.Variant("ä\n", V.String)),
        data_value(ua.Variant("", V.String)),
        data_value(ua.Variant(ua.LocalizedText("heat", "en"), V.LocalizedText)),
        is_text=True,
    )
    assert columns.texts == {0: "ä\n", 1: "", 2: "heat"}
    assert columns.quality.tolist() == [GOOD] * 3
    assert np.isnan(columns.value).all()


@pytest.mark.parametrize(
    "variant",
    [
        ua.Variant([1.0, 2.0], V.Double),
        ua.Variant([], V.Double, is_array=True),
        ua.Variant(b"\x00\x01", V.ByteString),
        ua.Variant(ua.NodeId(ua.String("n"), ua.Int16(3)), V.NodeId),
        ua.Variant(ua.QualifiedName("q", ua.Int16(1)), V.QualifiedName),
        ua.Variant(ua.EUInformation(), V.ExtensionObject),
        ua.Variant([ua.Variant(1, V.Int16), ua.Variant("x", V.String)], V.Variant),
        ua.Variant([[1, 2], [3, 4]], V.Int32),
    ],
)
def test_a_value_that_is_no_number_is_bad_and_its_neighbours_live(variant: ua.Variant) -> None:
    good = data_value(ua.Variant(7.5, V.Double), source=SOURCE)
    columns = columns_of(good, data_value(variant, source=SOURCE), good)
    assert columns.quality.tolist() == [GOOD, bad(Reason.BAD_PAYLOAD), GOOD]
    assert columns.value[[0, 2]].tolist() == [7.5, 7.5]
    assert math.isnan(columns.value[1])


def test_a_number_for_a_text_point_and_a_text_for_a_number_point_are_bad() -> None:
    number, text = data_value(ua.Variant(1.0, V.Double)), data_value(ua.Variant("x", V.String))
    assert columns_of(number, is_text=True).quality.tolist() == [bad(Reason.BAD_PAYLOAD)]
    columns = columns_of(text, is_text=False)
    assert columns.quality.tolist() == [bad(Reason.BAD_PAYLOAD)]
    assert columns.texts == {}


def test_no_value_with_a_good_status_is_not_yet_reported() -> None:
    columns = columns_of(data_value(ua.Variant()), data_value(ua.Variant(None, V.String)))
    assert columns.quality.tolist() == [bad(Reason.NOT_YET_REPORTED)] * 2


def test_source_time_counts_before_server_time_before_now() -> None:
    variant = ua.Variant(1.0, V.Double)
    columns = columns_of(
        data_value(variant, source=SOURCE, server=SERVER),
        data_value(variant, server=SERVER),
        data_value(variant),
    )
    wanted = [from_datetime(SOURCE), from_datetime(SERVER), NOW_US]
    assert columns.observed_at.tolist() == wanted


def test_a_bad_status_takes_the_value_and_an_uncertain_one_keeps_it() -> None:
    variant = ua.Variant(1.0, V.Double)
    statuses = (0, 0x4090_0000, 0x808C_0000, 0x0096_0000, 0x8111_0000, 0xC000_0000)
    columns = columns_of(*(data_value(variant, status) for status in statuses))
    assert columns.quality.tolist() == [
        GOOD,
        quality(QualityClass.UNCERTAIN, Reason.STALE),
        bad(Reason.SENSOR_FAILURE),
        quality(QualityClass.GOOD, flags=Flag.FORCED),
        bad(Reason.OTHER),
        bad(Reason.OTHER),
    ]
    assert columns.value[:2].tolist() == [1.0, 1.0]
    assert np.isnan(columns.value[[2, 4, 5]]).all()


def test_values_of_one_layout_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Values:
        pytest.fail("decoded one by one")

    monkeypatch.setattr(codec, "_one_by_one", refuse)
    for kind in (V.Double, V.Float, V.Boolean, V.UInt16):
        values = [
            data_value(ua.Variant(n % 2, kind), source=SOURCE, server=SERVER) for n in range(50)
        ]
        assert columns_of(*values).value.tolist() == [n % 2 for n in range(50)]


def test_a_publication_names_its_subscription_sequence_and_changes() -> None:
    value = data_value(ua.Variant(2.5, V.Double), source=SOURCE)
    publication = decode_publish(publish_response(changes([(3, value), (0, value)])))
    assert (publication.subscription_id, publication.sequence) == (5, 7)
    assert not publication.is_keep_alive
    assert not publication.damaged
    (values,) = publication.changes
    assert values.handle.tolist() == [3, 0]
    assert values.value.tolist() == [2.5, 2.5]


def test_an_answer_without_notifications_is_a_keep_alive() -> None:
    publication = decode_publish(publish_response(sequence=9))
    assert publication.is_keep_alive
    assert publication.sequence == 9


def test_a_status_change_ends_the_subscription_with_its_status() -> None:
    ended = ua.StatusChangeNotification(Status=ua.StatusCode(ua.UInt32(0x800A_0000)))
    assert decode_publish(publish_response(ended)).ended == 0x800A_0000


def test_a_notification_that_cannot_be_decoded_is_damaged_and_its_neighbour_lives() -> None:
    value = data_value(ua.Variant(2.5, V.Double))
    raw = struct_to_binary(changes([(1, value)]))
    lies = ua.ExtensionObject(TypeId=ua.FourByteNodeId(ua.Int32(811)), Body=ua.ByteString(raw[:-6]))
    publication = decode_publish(publish_response(lies, changes([(1, value)])))
    assert publication.damaged
    assert [values.handle.tolist() for values in publication.changes] == [[1]]


def test_an_overflow_of_the_servers_queue_is_noticed() -> None:
    variant = ua.Variant(1.0, V.Double)
    for status, wanted in ((0, False), (0x0000_0480, True), (0x0000_0080, False)):
        values = decode_read(read_response([data_value(variant, status)]), 1)
        assert fell_behind(values) is wanted
        assert class_of(int(columns_of(data_value(variant, status)).quality[0])) == 0


def test_a_short_answer_is_malformed() -> None:
    answer = read_response([data_value(ua.Variant(1.0, V.Double))])
    with pytest.raises(Malformed, match="1 values answered where 2 were asked"):
        decode_read(answer, 2)


def test_an_array_that_claims_more_than_there_is_is_malformed_at_once() -> None:
    with pytest.raises(Malformed, match="do not fit"):
        Reader(struct.pack("<i", 2**31 - 1) + b"\x00" * 8).count()


def test_nesting_is_bounded() -> None:
    one = b"\x98" + struct.pack("<i", 1)  # an array of one variant
    with pytest.raises(Malformed, match="deep"):
        Reader(one * (MAX_DEPTH + 2)).skip_variant()
    Reader(one * (MAX_DEPTH - 1) + b"\x00").skip_variant()


variants = st.one_of(
    st.floats(allow_nan=False).map(lambda value: ua.Variant(value, V.Double)),
    st.integers(-(2**31), 2**31 - 1).map(lambda value: ua.Variant(value, V.Int32)),
    st.booleans().map(lambda value: ua.Variant(value, V.Boolean)),
    st.text(max_size=20).map(lambda value: ua.Variant(value, V.String)),
    st.binary(max_size=20).map(lambda value: ua.Variant(value, V.ByteString)),
    st.lists(st.floats(allow_nan=False), max_size=4).map(
        lambda v: ua.Variant(v, V.Double, is_array=True)
    ),
    st.just(ua.Variant()),
)
stamps = st.none() | st.integers(from_datetime(datetime(1970, 1, 2, tzinfo=UTC)), 2**52).map(
    to_datetime
)


@given(
    items=st.lists(
        st.tuples(variants, st.sampled_from([0, 0x4090_0000, 0x808C_0000]), stamps, stamps),
        max_size=12,
    )
)
def test_whatever_asyncua_encodes_we_decode(
    items: list[tuple[ua.Variant, int, datetime | None, datetime | None]],
) -> None:
    values = [
        ua.DataValue(
            Value=variant,
            StatusCode=ua.StatusCode(ua.UInt32(status)),
            SourceTimestamp=source,  # type: ignore[arg-type] # is a datetime
            ServerTimestamp=server,  # type: ignore[arg-type] # is a datetime
        )
        for variant, status, source, server in items
    ]
    decoded = decode_read(read_response(values), len(values))
    columns = to_columns(decoded, np.zeros(len(values), np.bool_), NOW_US)
    for row, (variant, status, source, server) in enumerate(items):
        value = variant.Value[0] if variant.is_array and len(variant.Value) == 1 else variant.Value
        is_number = isinstance(value, float | int) and status < 0x8000_0000
        at = source or server
        assert columns.observed_at[row] == (from_datetime(at) if at else NOW_US)
        assert class_of(int(columns.quality[row])) >= status >> 30
        assert math.isnan(columns.value[row]) != is_number
        if is_number:
            assert columns.value[row] == float(value)


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_bytes_are_malformed_and_nothing_else(data: st.DataObject) -> None:
    value = data_value(ua.Variant("text", V.String), source=SOURCE)
    number = data_value(ua.Variant([1.5], V.Double), source=SOURCE)
    whole = bytearray(publish_response(changes([(0, value), (1, number)])))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    answer = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for decode in (lambda: decode_publish(answer), lambda: decode_read(answer, 2)):
        with suppress(Malformed):
            decode()


@given(variant=variants, tail=st.binary(max_size=5))
def test_a_variant_is_stepped_over_exactly(variant: ua.Variant, tail: bytes) -> None:
    encoded = variant_to_binary(variant)
    reader = Reader(encoded + tail)
    reader.skip_variant()
    assert reader.at == len(encoded)
