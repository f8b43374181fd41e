"""Zigbee2MQTT: states, availability, what devices expose, and hundreds of real device models."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pytest

from protocols.driver import Node
from protocols.mqtt.shapes import Place, ShapeOptions, Update
from protocols.mqtt.shapes.units import unit_of
from protocols.mqtt.shapes.zigbee2mqtt import Zigbee2MqttShape, make
from shared.errors import OptionsWrong
from shared.model import PointType
from shared.quality import Reason
from tests.servers import zigbee_models

LAMP: Final = {
    "friendly_name": "hall/lamp",
    "definition": {
        "exposes": [
            {
                "type": "light",
                "features": [
                    {
                        "type": "binary",
                        "property": "state",
                        "value_on": "ON",
                        "value_off": "OFF",
                        "access": 7,
                    },
                    {
                        "type": "composite",
                        "property": "color",
                        "features": [{"type": "numeric", "property": "hue", "access": 7}],
                    },
                ],
            },
            {
                "type": "binary",
                "property": "child_lock",
                "value_on": "LOCK",
                "value_off": "UNLOCK",
                "access": 3,
            },
            {"type": "numeric", "property": "device_temperature", "unit": "ºC", "access": 1},
            {"type": "list", "property": "schedule", "access": 1},
        ]
    },
}


def shape(*places: Place, base: str = "") -> Zigbee2MqttShape:
    made = make(ShapeOptions(base))
    made.filters(places)
    return made


def say(
    to: Zigbee2MqttShape, topic: str, document: object, *, is_retained: bool = False
) -> list[Update]:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list(to.feed(f"zigbee2mqtt/{topic}", payload, is_retained=is_retained))


def by_name(updates: Iterable[Update]) -> dict[str | None, Any]:
    return {update.property: update.value for update in updates}


def test_every_value_of_a_state_is_told_with_its_path() -> None:
    told = say(
        shape(),
        "hall/lamp",
        {"state": "ON", "color": {"hue": 12, "x": 0.3}, "a.b": [1, None], "update": {}},
    )

    assert {one.device for one in told} == {"hall/lamp"}
    assert by_name(told) == {
        "state": "ON",
        "color.hue": 12,
        "color.x": 0.3,
        '["a.b"][0]': 1,
        '["a.b"][1]': None,
    }


def test_with_points_only_their_values_are_told() -> None:
    lamp = shape(Place("lamp", "state"))

    assert by_name(say(lamp, "lamp", {"state": "ON", "power": 5})) == {"state": "ON"}
    assert say(lamp, "other", {"state": "ON"}) == []


def test_a_null_is_one_of_all_that_could_stand_below_it() -> None:
    lamp = shape(Place("lamp", "color.hue"), Place("lamp", "colors"))

    assert by_name(say(lamp, "lamp", {"color": None})) == {"color": None, "color.hue": None}


@pytest.mark.parametrize("payload", [b"", b"on", b"5", b"[1]", b'{"a":', b"\xff"])
def test_what_is_no_object_says_nothing(payload: bytes) -> None:
    assert say(shape(), "lamp", payload) == []


@pytest.mark.parametrize("payload", [b"offline", b'{"state": "offline"}'])
def test_a_device_that_is_away_is_down(payload: bytes) -> None:
    assert say(shape(), "hall/lamp/availability", payload) == [
        Update("hall/lamp", None, reason=Reason.LINK_DOWN)
    ]


@pytest.mark.parametrize(
    "payload", [b"online", b'{"state": "online"}', b"", b"{}", b'{"state": 5}']
)
def test_a_device_that_is_there_tells_its_values_later(payload: bytes) -> None:
    assert say(shape(), "lamp/availability", payload) == []


def test_what_the_broker_kept_of_a_device_that_is_away_says_nothing() -> None:
    lamp = shape()
    say(lamp, "lamp/availability", b"offline", is_retained=True)

    assert say(lamp, "lamp", {"state": "ON"}, is_retained=True) == []
    assert by_name(say(lamp, "lamp", {"state": "ON"})) == {"state": "ON"}
    assert by_name(say(lamp, "lamp", {"state": "ON"}, is_retained=True)) == {"state": "ON"}


def test_without_its_bridge_every_device_is_down() -> None:
    both = shape(Place("a", "x"), Place("b", "x"))

    told = say(both, "bridge/state", {"state": "offline"})

    assert [(one.device, one.reason) for one in told] == [
        ("a", Reason.LINK_DOWN),
        ("b", Reason.LINK_DOWN),
    ]
    assert say(both, "bridge/state", {"state": "online"}) == []


@pytest.mark.parametrize("topic", ["lamp/set", "lamp/get", "bridge/logging", "bridge/devices/x"])
def test_other_topics_say_nothing(topic: str) -> None:
    assert say(shape(), topic, {"state": "ON"}) == []
    assert list(shape().feed("other/lamp", b'{"state": 1}', is_retained=False)) == []


@pytest.mark.parametrize(
    ("seen", "at_us", "is_lost"),
    [
        ("2026-03-01T10:15:00+01:00", 1_772_356_500_000_000, False),
        ("2026-03-01T09:15:00.250Z", 1_772_356_500_250_000, False),
        (1_772_356_500_000, 1_772_356_500_000_000, False),
        ("2026-03-01T10:15:00", None, True),
        (5_000, None, True),
        ("never", None, True),
        (None, None, False),
    ],
)
def test_last_seen_is_the_time_of_a_state(seen: object, at_us: int | None, is_lost: bool) -> None:
    told = say(shape(), "lamp", {"power": 5, "last_seen": seen})

    assert (told[0].observed_at, told[0].is_time_lost) == (at_us, is_lost)


def test_points_choose_what_is_subscribed() -> None:
    assert make(ShapeOptions()).filters(()) == ["zigbee2mqtt/#"]
    assert make(ShapeOptions("z")).filters([Place("hall/lamp", "state")]) == [
        "z/hall/lamp",
        "z/hall/lamp/availability",
        "z/bridge/state",
        "z/bridge/devices",
    ]


@pytest.mark.parametrize("device", ["", "a/+", "#", "a//b", "/a"])
def test_what_can_be_in_no_topic_is_no_device(device: str) -> None:
    with pytest.raises(OptionsWrong, match="no device"):
        make(ShapeOptions()).filters([Place(device, "x")])


@pytest.mark.parametrize(
    ("name", "value", "document"),
    [
        ("state", True, {"state": "ON"}),
        ("child_lock", False, {"child_lock": "UNLOCK"}),
        ("color.hue", 40.0, {"color": {"hue": 40.0}}),
        ("unheard", True, {"unheard": True}),
        ("mode", "eco", {"mode": "eco"}),
    ],
)
def test_a_value_is_set_as_the_device_says_it(
    name: str, value: bool | float | str, document: object
) -> None:
    lamp = shape()
    say(lamp, "bridge/devices", [LAMP])

    command = lamp.command(Place("hall/lamp", name), value)

    assert command.topic == "zigbee2mqtt/hall/lamp/set"
    assert json.loads(command.payload) == document


def test_a_word_that_was_seen_is_answered_by_a_word() -> None:
    plug = shape()
    say(plug, "plug", {"state": "OFF"})

    assert json.loads(plug.command(Place("plug", "state"), True).payload) == {"state": "ON"}


@pytest.mark.parametrize("name", ["a.b.c", "list[0]"])
def test_what_is_deeper_is_not_written(name: str) -> None:
    with pytest.raises(OptionsWrong, match="cannot be written"):
        shape().command(Place("lamp", name), 1.0)


def test_proposals_have_the_units_and_types_that_are_exposed() -> None:
    lamp = shape()
    say(lamp, "bridge/devices", [LAMP, {"friendly_name": "Coordinator", "definition": None}, 5])
    say(
        lamp,
        "hall/lamp",
        {"state": "ON", "child_lock": "LOCK", "color": {"hue": 5}, "device_temperature": None},
    )

    nodes = {node.name: node for node in lamp.proposals()}

    assert nodes["device_temperature"].unit == "°C"
    assert nodes["device_temperature"].type is PointType.NUMBER
    assert nodes["state"].type is PointType.BOOLEAN
    assert nodes["child_lock"].type is PointType.TEXT
    assert nodes["color.hue"].key == "hall/lamp/color.hue"
    assert nodes["color.hue"].source == {"device": "hall/lamp", "property": "color.hue"}
    assert [name for name, node in nodes.items() if not node.is_writable] == ["device_temperature"]


def check(devices: Iterable[Mapping[str, Any]]) -> int:
    """Hold what is read of devices against what they were made to say; counts the values."""
    zigbee = shape()
    listed = [
        {"friendly_name": one["name"], "definition": {"exposes": one["exposes"]}} for one in devices
    ]
    say(zigbee, "bridge/devices", listed)
    expected: dict[Place, Any] = {}
    for one in devices:
        told = say(zigbee, one["name"], one["state"])
        assert {update.device for update in told} <= {one["name"]}
        values = {name: value["value"] for name, value in one["values"].items()}
        assert by_name(told) == values, one["model"]
        expected |= {Place(one["name"], name): value for name, value in one["values"].items()}
    nodes = {source_of(node): node for node in zigbee.proposals()}
    assert set(nodes) == set(expected)
    for place, value in expected.items():
        assert nodes[place].unit == unit_of(value["unit"])
        assert nodes[place].type is kind_of(value), (place, value)
    return len(expected)


def source_of(node: Node) -> Place:
    assert node.source is not None
    return Place(node.source["device"], node.source["property"])


def kind_of(value: Mapping[str, Any]) -> PointType:
    if value["type"] == "numeric":
        return PointType.NUMBER
    ends = {str(value.get(end)).upper() for end in ("on", "off")}
    is_switched = ends in ({"ON", "OFF"}, {"TRUE", "FALSE"})
    return PointType.BOOLEAN if value["type"] == "binary" and is_switched else PointType.TEXT


def test_sixty_real_models_are_read_as_they_say() -> None:
    assert check(zigbee_models.kept()) > 300


@pytest.mark.integration
def test_three_hundred_more_real_models_are_read_as_they_say() -> None:
    assert check(zigbee_models.made(count=300, seed=11)) > 1_500


@pytest.mark.parametrize(
    ("told", "unit"),
    [("lux", "lx"), ("C", "°C"), ("Sec", "s"), ("raw unit", ""), (None, ""), ("kWh", "kWh")],
)
def test_units_have_one_spelling(told: object, unit: str) -> None:
    assert unit_of(told) == unit
