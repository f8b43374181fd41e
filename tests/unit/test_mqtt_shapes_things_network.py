"""The Things Stack: uplinks with and without a formatter, zeros that are left out, ports."""

import json
from typing import Any, Final

import pytest

from protocols.mqtt.shapes import Place, ShapeOptions, Update
from protocols.mqtt.shapes.lorawan import LoRaWanShape
from protocols.mqtt.shapes.things_network import make
from shared.quality import Reason

TOPIC: Final = "v3/farm@ttn/devices/room-1/up"
AT_US: Final = 1_772_360_100_775_023
UPLINK: Final = {
    "f_port": 85,
    "f_cnt": 7,
    "frm_payload": "AXVkA2cQAQRoYQ==",
    "decoded_payload": {"temperature": 27.2},
    "rx_metadata": [{"rssi": -48, "snr": 9.0}],
    "received_at": "2026-03-01T10:15:00.775023242Z",
}


def uplink(shape: LoRaWanShape, topic: str = TOPIC, **changed: Any) -> list[Update]:
    said = {name: part for name, part in (UPLINK | changed).items() if part is not ...}
    message = {"end_device_ids": {"device_id": "room-1"}, "uplink_message": said}
    return list(shape.feed(topic, json.dumps(message).encode(), is_retained=False))


def by_name(updates: list[Update]) -> dict[str | None, Any]:
    return {update.property: update.value for update in updates}


def test_an_uplink_tells_what_its_formatter_made_of_it() -> None:
    told = uplink(make(ShapeOptions()))

    assert by_name(told)["decoded_payload.temperature"] == 27.2
    assert by_name(told)["decoded_payload.temperature@85"] == 27.2
    assert by_name(told)["rx_metadata[0].rssi"] == -48
    assert {(one.device, one.observed_at) for one in told} == {("room-1", AT_US)}


def test_without_a_formatter_points_are_told_that_nothing_was_read() -> None:
    shape = make(ShapeOptions())
    shape.filters([Place("room-1", "decoded_payload.temperature")])

    told = uplink(shape, decoded_payload=...)

    assert told == [Update("room-1", "decoded_payload.temperature", None, Reason.NOT_IMPLEMENTED)]


def test_a_counter_and_a_port_that_are_left_out_are_zero() -> None:
    told = by_name(uplink(make(ShapeOptions()), f_cnt=..., f_port=...))

    assert (told["f_cnt"], told["f_port"]) == (0, 0)


def test_a_value_that_is_left_out_is_not_told() -> None:
    told = by_name(uplink(make(ShapeOptions()), decoded_payload={}))

    assert "decoded_payload.temperature" not in told


@pytest.mark.parametrize(
    "topic", ["v3/farm@ttn/devices/room-1/join", "v3/farm@ttn/devices/room-1/down/queued", "up"]
)
def test_other_events_say_nothing(topic: str) -> None:
    assert uplink(make(ShapeOptions()), topic) == []


@pytest.mark.parametrize("payload", [b"{}", b'{"uplink_message": 5}'])
def test_an_uplink_without_its_message_says_nothing(payload: bytes) -> None:
    assert list(make(ShapeOptions()).feed(TOPIC, payload, is_retained=False)) == []


def test_points_choose_what_is_subscribed() -> None:
    place = Place("room-1", "decoded_payload.temperature@85")

    assert make(ShapeOptions(group="farm@ttn")).filters([place]) == [TOPIC]
    assert make(ShapeOptions()).filters(()) == ["v3/+/devices/+/up"]
