"""Tasmota: telemetry, status answers, last will, and local times without their zone."""

import json
from typing import Any, Final

import pytest

from protocols.mqtt.shapes import Place, ShapeOptions, Update
from protocols.mqtt.shapes.tasmota import TasmotaShape, make
from shared.errors import OptionsWrong
from shared.model import PointType
from shared.quality import Reason

SENSOR: Final = {
    "Time": "2026-03-01T10:15:00",
    "ENERGY": {
        "TotalStartTime": "2025-01-01T00:00:00",
        "Total": [1.5, 2.5],
        "Power": 42,
        "Factor": 0.76,
        "Current": 0.238,
    },
    "DS18B20-1": {"Id": "01", "Temperature": 70.7},
    "SDS0X1": {"PM2.5": 4.1, "PM10": None},
    "TempUnit": "F",
}
AT_US: Final = 1_772_356_500_000_000
"""2026-03-01 10:15 in Berlin."""


def say(
    to: TasmotaShape, topic: str, document: object, *, is_retained: bool = False
) -> list[Update]:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list(to.feed(topic, payload, is_retained=is_retained))


def by_name(updates: list[Update]) -> dict[str | None, Any]:
    return {update.property: update.value for update in updates}


def test_every_value_of_the_telemetry_is_told() -> None:
    told = say(make(ShapeOptions()), "tele/plug/SENSOR", SENSOR)

    assert {one.device for one in told} == {"plug"}
    assert by_name(told) == {
        "ENERGY.TotalStartTime": "2025-01-01T00:00:00",
        "ENERGY.Total[0]": 1.5,
        "ENERGY.Total[1]": 2.5,
        "ENERGY.Power": 42,
        "ENERGY.Factor": 0.76,
        "ENERGY.Current": 0.238,
        "DS18B20-1.Id": "01",
        "DS18B20-1.Temperature": 70.7,
        'SDS0X1["PM2.5"]': 4.1,
        "SDS0X1.PM10": None,
    }


@pytest.mark.parametrize(
    ("topic", "document"),
    [
        ("tele/plug/STATE", {"Time": "2026-03-01T10:15:00", "POWER": "ON"}),
        ("stat/plug/RESULT", {"POWER": "ON"}),
        ("stat/plug/POWER", b"ON"),
        ("stat/plug/STATUS8", {"StatusSNS": {"POWER": "ON"}}),
        ("stat/plug/STATUS10", {"StatusSNS": {"POWER": "ON"}}),
        ("stat/plug/STATUS11", {"StatusSTS": {"POWER": "ON"}}),
    ],
)
def test_states_come_in_many_ways(topic: str, document: object) -> None:
    assert by_name(say(make(ShapeOptions()), topic, document)) == {"POWER": "ON"}


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("tele/plug/SENSOR", b"[]"),
        ("tele/plug/SENSOR", b"\xff"),
        ("tele/plug/INFO1", b'{"Info1": {"Module": "x"}}'),
        ("stat/plug/STATUS10", b'{"StatusSNS": 5}'),
        ("stat/plug/LOGGING", b"boot"),
        ("cmnd/plug/POWER", b"ON"),
        ("tele/plug", b"{}"),
    ],
)
def test_what_is_not_understood_says_nothing(topic: str, payload: bytes) -> None:
    assert say(make(ShapeOptions()), topic, payload) == []


@pytest.mark.parametrize(
    ("told", "zone", "at_us", "is_lost"),
    [
        ("2026-03-01T10:15:00", "", None, True),
        ("2026-03-01T10:15:00", "Europe/Berlin", AT_US, False),
        ("2026-03-01T10:15:00+01:00", "", AT_US, False),
        ("1970-01-01T00:00:12", "Europe/Berlin", None, True),
        ("2026-10-25T02:30:00", "Europe/Berlin", None, True),  # it was this time twice
        ("2026-03-29T02:30:00", "Europe/Berlin", None, True),  # it was never this time
        ("0001-01-01T00:00:00", "Asia/Tokyo", None, True),
        (None, "Europe/Berlin", None, False),
        (5, "Europe/Berlin", None, True),
    ],
)
def test_a_local_time_counts_where_the_zone_is_known(
    told: object, zone: str, at_us: int | None, is_lost: bool
) -> None:
    [update] = say(
        make(ShapeOptions(zone=zone)), "tele/plug/SENSOR", {"Time": told, "ANALOG": {"A0": 5}}
    )

    assert (update.observed_at, update.is_time_lost) == (at_us, is_lost)


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(OptionsWrong, match="Europe/Berlin"):
        make(ShapeOptions(zone="Mars/Olympus"))


def test_the_last_will_takes_a_device_down() -> None:
    plug = make(ShapeOptions())

    assert say(plug, "tele/plug/LWT", b"Offline", is_retained=True) == [
        Update("plug", None, reason=Reason.LINK_DOWN)
    ]
    assert say(plug, "tele/plug/SENSOR", SENSOR, is_retained=True) == []
    assert say(plug, "tele/plug/LWT", b"Online") == []
    assert say(plug, "tele/plug/SENSOR", SENSOR, is_retained=True) != []


@pytest.mark.parametrize(
    ("base", "device", "topic"),
    [
        ("", "floor1/plug", "tele/floor1/plug/SENSOR"),
        ("%topic%/%prefix%", "plug", "plug/tele/SENSOR"),
        ("home/%prefix%/%topic%", "plug", "home/tele/plug/SENSOR"),
    ],
)
def test_topics_may_be_in_another_order(base: str, device: str, topic: str) -> None:
    shape = make(ShapeOptions(base))

    assert {one.device for one in say(shape, topic, SENSOR)} == {device}
    first = shape.filters([Place(device, "ENERGY.Power")])[0]
    assert first == topic.removesuffix("SENSOR") + "#"


def test_an_order_without_its_parts_is_refused() -> None:
    with pytest.raises(OptionsWrong, match="%prefix%"):
        make(ShapeOptions("tele"))


def test_without_points_all_devices_are_listened_to() -> None:
    assert make(ShapeOptions()).filters(()) == ["tele/+/#", "stat/+/#"]


@pytest.mark.parametrize(
    ("name", "value", "topic", "payload"),
    [
        ("POWER", True, "cmnd/plug/POWER", b"ON"),
        ("POWER2", False, "cmnd/plug/POWER2", b"OFF"),
        ("Dimmer", 40.0, "cmnd/plug/Dimmer", b"40"),
        ("TelePeriod", "60", "cmnd/plug/TelePeriod", b"60"),
    ],
)
def test_a_command_has_the_name_of_its_value(
    name: str, value: bool | float | str, topic: str, payload: bytes
) -> None:
    command = make(ShapeOptions()).command(Place("plug", name), value)

    assert (command.topic, command.payload) == (topic, payload)


@pytest.mark.parametrize("name", ["ENERGY.Power", "a/b", "", "POWER ON"])
def test_what_is_no_command_is_not_sent(name: str) -> None:
    with pytest.raises(OptionsWrong, match="no command"):
        make(ShapeOptions()).command(Place("plug", name), 1.0)


def test_proposals_have_units_that_are_usual_or_told() -> None:
    plug = make(ShapeOptions())
    say(plug, "tele/plug/SENSOR", SENSOR)
    say(plug, "tele/plug/STATE", {"POWER": "ON", "Wifi": {"RSSI": 80, "Signal": -60}})

    units = {node.name: node.unit for node in plug.proposals()}
    nodes = {node.name: node for node in plug.proposals()}

    assert units["ENERGY.Power"] == "W"
    assert units["ENERGY.Total[1]"] == "kWh"
    assert units["DS18B20-1.Temperature"] == "°F"
    assert units['SDS0X1["PM2.5"]'] == "µg/m³"
    assert units["Wifi.Signal"] == "dBm"
    assert units["ENERGY.Factor"] == ""
    assert nodes["POWER"].is_writable
    assert nodes["POWER"].type is PointType.BOOLEAN
    assert nodes['SDS0X1["PM2.5"]'].key == "plug/SDS0X1_PM2.5"
