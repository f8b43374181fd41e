"""ChirpStack: uplinks with and without a codec, ports, repeats, states, missing times."""

import json
from typing import Any, Final

import pytest

from protocols.mqtt.shapes import Place, ShapeOptions, Update
from protocols.mqtt.shapes.chirpstack import make
from protocols.mqtt.shapes.lorawan import REMEMBERED, LoRaWanShape
from shared.errors import OptionsWrong
from shared.quality import Reason

EUI: Final = "24e124136b000001"
AT_US: Final = 1_772_360_100_775_023
UPLINK: Final = {
    "deduplicationId": "3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
    "time": "2026-03-01T10:15:00.775023242+00:00",
    "deviceInfo": {"devEui": EUI, "deviceName": "room"},
    "fCnt": 7,
    "fPort": 85,
    "data": "AXVkA2cQAQRoYQ==",
    "object": {"temperature": 27.2, "nested": {"ok": True}},
    "rxInfo": [{"gatewayId": "0016c001f153a14c", "rssi": -48, "snr": 9.0}],
}


def uplink(shape: LoRaWanShape, event: str = "up", **changed: Any) -> list[Update]:
    said = {name: part for name, part in (UPLINK | changed).items() if part is not ...}
    topic = f"application/17/device/{EUI}/event/{event}"
    return list(shape.feed(topic, json.dumps(said).encode(), is_retained=False))


def by_name(updates: list[Update]) -> dict[str | None, Any]:
    return {update.property: update.value for update in updates}


def test_an_uplink_tells_what_its_codec_made_of_it() -> None:
    told = uplink(make(ShapeOptions()))

    values = by_name(told)
    assert values["object.temperature"] == 27.2
    assert values["object.nested.ok"] is True
    assert values["rxInfo[0].rssi"] == -48
    assert values["fCnt"] == 7
    assert {(one.device, one.observed_at, one.is_time_lost) for one in told} == {
        (EUI, AT_US, False)
    }


@pytest.mark.parametrize("time", [..., None, "soon", "2026-03-01T10:15:00"])
def test_without_its_time_the_arrival_counts(time: object) -> None:
    told = uplink(make(ShapeOptions()), time=time)

    assert {(one.observed_at, one.is_time_lost) for one in told} == {(None, True)}


def test_without_a_codec_points_are_told_that_nothing_was_read() -> None:
    shape = make(ShapeOptions())
    shape.filters([Place(EUI, "object.temperature"), Place(EUI, "rxInfo[0].rssi")])

    told = uplink(shape, object=...)

    assert told[0] == Update(EUI, "object.temperature", None, Reason.NOT_IMPLEMENTED)
    assert by_name(told)["rxInfo[0].rssi"] == -48


def test_an_uplink_without_data_tells_nothing_of_the_object() -> None:
    shape = make(ShapeOptions())
    shape.filters([Place(EUI, "object.temperature")])

    assert "object.temperature" not in by_name(uplink(shape, object=..., data=""))


def test_a_point_may_want_one_port_alone() -> None:
    shape = make(ShapeOptions())
    shape.filters([Place(EUI, "object.temperature@85")])

    assert by_name(uplink(shape))["object.temperature@85"] == 27.2
    other = uplink(shape, fPort=2, deduplicationId="2")
    assert "object.temperature@85" not in by_name(other)
    bare = uplink(shape, fPort=2, deduplicationId="3", object=...)
    assert "object.temperature@85" not in by_name(bare)
    bare = uplink(shape, deduplicationId="4", object=...)
    assert Update(EUI, "object.temperature@85", None, Reason.NOT_IMPLEMENTED) in bare


def test_an_event_that_comes_twice_is_read_once() -> None:
    shape = make(ShapeOptions())

    assert uplink(shape) != []
    assert uplink(shape) == []
    for number in range(REMEMBERED):
        uplink(shape, deduplicationId=str(number))
    assert uplink(shape) != []


def test_events_without_an_id_are_all_read() -> None:
    shape = make(ShapeOptions())

    assert uplink(shape, deduplicationId=...) != []
    assert uplink(shape, deduplicationId=...) != []


def test_a_state_tells_the_battery() -> None:
    told = uplink(make(ShapeOptions()), "status", batteryLevel=99.5, margin=8)

    assert by_name(told) == {"status.batteryLevel": 99.5, "status.margin": 8}


def test_what_is_no_json_makes_its_points_bad() -> None:
    shape = make(ShapeOptions())
    shape.filters([Place(EUI, "object.temperature")])

    told = list(shape.feed(f"application/1/device/{EUI}/event/up", b"\x0a\x24", is_retained=False))

    assert told == [Update(EUI, "object.temperature", None, Reason.BAD_PAYLOAD)]


@pytest.mark.parametrize("event", ["join", "ack", "txack", "log", "location"])
def test_other_events_say_nothing(event: str) -> None:
    assert uplink(make(ShapeOptions()), event) == []


def test_points_choose_what_is_subscribed() -> None:
    assert make(ShapeOptions("eu868", "17")).filters([Place(EUI, "object.temperature")]) == [
        f"eu868/application/17/device/{EUI}/event/up",
        f"eu868/application/17/device/{EUI}/event/status",
    ]
    assert make(ShapeOptions()).filters(())[0] == "application/+/device/+/event/up"


def test_nothing_is_written_for_it_could_arrive_hours_later() -> None:
    with pytest.raises(OptionsWrong, match="hours later"):
        make(ShapeOptions()).command(Place(EUI, "object.on"), 1.0)


def test_proposals_are_the_values_that_were_seen() -> None:
    shape = make(ShapeOptions())
    uplink(shape)

    nodes = {node.name: node for node in shape.proposals()}

    assert nodes["object.temperature"].key == f"{EUI}/object.temperature"
    assert nodes["rxInfo[0].rssi"].unit == "dBm"
    assert not [name for name in nodes if "@" in name]
