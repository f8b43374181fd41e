"""ESPHome: plain states, nan, status, units from discovery messages."""

import json
from typing import Final

import pytest

from protocols.mqtt.shapes import Place, ShapeOptions, Update
from protocols.mqtt.shapes.esphome import make
from shared.errors import OptionsWrong
from shared.model import PointType
from shared.quality import Reason

DISCOVERY: Final = {
    "unit_of_meas": "ppm",
    "stat_cla": "measurement",
    "name": "CO2",
    "stat_t": "room/sensor/co2/state",
    "avty_t": "room/status",
}


@pytest.mark.parametrize(
    ("topic", "payload", "update"),
    [
        ("room/sensor/t/state", b"21.3", Update("room", "sensor/t", "21.3")),
        ("h/room/switch/fan/state", b"ON", Update("h/room", "switch/fan", "ON")),
        (
            "room/sensor/t/state",
            b"nan",
            Update("room", "sensor/t", None, Reason.NOT_A_NUMBER),
        ),
        ("room/text_sensor/n/state", b"nan", Update("room", "text_sensor/n", "nan")),
        ("room/sensor/t/state", b"", Update("room", "sensor/t", None)),
        (
            "room/light/desk/state",
            b'{"brightness": 128}',
            Update("room", "light/desk.brightness", 128),
        ),
        ("room/climate/heat/mode/state", b"off", Update("room", "climate/heat/mode", "off")),
    ],
)
def test_a_state_is_a_value(topic: str, payload: bytes, update: Update) -> None:
    assert list(make(ShapeOptions()).feed(topic, payload, is_retained=False)) == [update]


@pytest.mark.parametrize(
    "topic", ["room/sensor/t/command", "room/debug", "room/x/t/state", "state", "room/status/x"]
)
def test_other_topics_say_nothing(topic: str) -> None:
    assert list(make(ShapeOptions()).feed(topic, b"1", is_retained=False)) == []


def test_a_node_that_is_offline_is_down_whatever_the_broker_kept_of_it() -> None:
    shape = make(ShapeOptions())

    down = list(shape.feed("room/status", b"offline", is_retained=True))

    assert down == [Update("room", None, reason=Reason.LINK_DOWN)]
    assert list(shape.feed("room/sensor/t/state", b"21", is_retained=True)) == []
    assert list(shape.feed("room/status", b"online", is_retained=False)) == []
    assert len(list(shape.feed("room/sensor/t/state", b"21", is_retained=True))) == 1


def test_points_choose_what_is_subscribed() -> None:
    places = [Place("room", "sensor/t")]

    assert make(ShapeOptions("h")).filters(places) == [
        "h/room/status",
        "h/room/+/+/state",
        "h/room/+/+/+/state",
    ]
    assert make(ShapeOptions()).filters(())[-1] == "homeassistant/#"


def test_a_base_stands_before_the_node() -> None:
    shape = make(ShapeOptions("h"))

    assert list(shape.feed("h/room/sensor/t/state", b"1", is_retained=False)) == [
        Update("room", "sensor/t", "1")
    ]
    assert list(shape.feed("room/sensor/t/state", b"1", is_retained=False)) == []


@pytest.mark.parametrize(
    "config", [DISCOVERY, DISCOVERY | {"~": "room", "stat_t": "~/sensor/co2/state"}]
)
def test_units_come_from_discovery(config: object) -> None:
    shape = make(ShapeOptions())
    for payload in (json.dumps(config).encode(), b"5", b'{"stat_t": 5, "unit_of_meas": "W"}'):
        shape.feed("homeassistant/sensor/room/co2/config", payload, is_retained=True)
    for topic in ("room/sensor/co2/state", "room/switch/fan/state", "room/light/d/state"):
        list(shape.feed(topic, b"612", is_retained=False))

    nodes = {node.name: node for node in shape.proposals()}

    assert (nodes["sensor/co2"].unit, nodes["sensor/co2"].type) == ("ppm", PointType.NUMBER)
    assert nodes["switch/fan"].type is PointType.BOOLEAN
    assert nodes["switch/fan"].is_writable
    assert nodes["sensor/co2"].key == "room/sensor/co2"


@pytest.mark.parametrize(
    ("name", "value", "payload"),
    [
        ("switch/fan", True, b"ON"),
        ("number/target", 21.5, b"21.5"),
        ("select/mode", "eco", b"eco"),
        ("light/desk", False, b'{"state": "OFF"}'),
        ("light/desk", 1.0, b'{"state": "ON"}'),
    ],
)
def test_a_command_stands_beside_the_state(
    name: str, value: bool | float | str, payload: bytes
) -> None:
    command = make(ShapeOptions()).command(Place("room", name), value)

    assert (command.topic, command.payload) == (f"room/{name}/command", payload)


@pytest.mark.parametrize("name", ["sensor/t", "light/desk.brightness", "climate/heat/mode"])
def test_what_is_only_told_is_not_written(name: str) -> None:
    with pytest.raises(OptionsWrong, match="cannot be written"):
        make(ShapeOptions()).command(Place("room", name), 1.0)
