"""Shelly: notifications, statuses and events of Gen2, plain numbers of Gen1, sleepers, clocks."""

import json
from typing import Any, Final

import pytest

from protocols.mqtt.shapes import Place, ShapeOptions, Update
from protocols.mqtt.shapes.shelly import ShellyShape, make
from shared.errors import OptionsWrong
from shared.model import PointType
from shared.quality import Reason

TS: Final = 1_772_356_500.25
AT_US: Final = 1_772_356_500_250_000


def say(
    to: ShellyShape, topic: str, document: object, *, is_retained: bool = False
) -> list[Update]:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list(to.feed(topic, payload, is_retained=is_retained))


def told(updates: list[Update]) -> dict[str, Any]:
    return {f"{one.device}|{one.property}": one.value for one in updates}


def notification(params: object, method: str = "NotifyStatus") -> dict[str, object]:
    return {"src": "pm", "dst": "pm/events", "method": method, "params": params}


def test_a_notification_tells_what_changed() -> None:
    updates = say(
        make(ShapeOptions()),
        "pm/events/rpc",
        notification(
            {
                "ts": TS,
                "switch:0": {
                    "id": 0,
                    "apower": 8.9,
                    "aenergy": {"total": 6.53, "by_minute": [1, 2]},
                },
            }
        ),
    )

    assert told(updates) == {
        "pm|switch:0.id": 0,
        "pm|switch:0.apower": 8.9,
        "pm|switch:0.aenergy.total": 6.53,
        "pm|switch:0.aenergy.by_minute[0]": 1,
        "pm|switch:0.aenergy.by_minute[1]": 2,
    }
    assert {one.observed_at for one in updates} == {AT_US}


@pytest.mark.parametrize(
    ("ts", "at_us", "is_lost"),
    [(TS, AT_US, False), (None, None, True), (12.5, None, True), ("x", None, True)],
)
def test_before_its_clock_is_set_the_arrival_counts(
    ts: object, at_us: int | None, is_lost: bool
) -> None:
    [update] = say(
        make(ShapeOptions()),
        "ht/events/rpc",
        notification({"ts": ts, "humidity:0": {"rh": 42.2}}, "NotifyFullStatus"),
    )

    assert (update.value, update.observed_at, update.is_time_lost) == (42.2, at_us, is_lost)


def test_a_status_tells_a_component() -> None:
    shape = make(ShapeOptions())

    updates = say(shape, "house/pm/status/temperature:0", {"id": 0, "tC": None, "tF": None})

    assert told(updates) == {
        "house/pm|temperature:0.id": 0,
        "house/pm|temperature:0.tC": None,
        "house/pm|temperature:0.tF": None,
    }
    assert updates[0].observed_at is None
    assert not updates[0].is_time_lost


def test_an_event_tells_its_name() -> None:
    updates = say(
        make(ShapeOptions()),
        "i4/events/rpc",
        notification(
            {"ts": TS, "events": [{"component": "input:0", "event": "single_push"}, 5, {}]},
            "NotifyEvent",
        ),
    )

    assert told(updates) == {"i4|input:0.event": "single_push"}


@pytest.mark.parametrize(
    ("topic", "payload", "name", "value"),
    [
        ("shellies/p1/relay/0", b"on", "relay/0", "on"),
        ("shellies/p1/relay/0/power", b"42.17", "relay/0/power", 42.17),
        ("shellies/p1/relay/0/energy", b"1234", "relay/0/energy", 1234),
        ("shellies/p1/emeter/1/total_returned", b"0.5", "emeter/1/total_returned", 0.5),
        ("shellies/p1/temperature", b"23.45", "temperature", 23.45),
        ("shellies/p1/overtemperature", b"0", "overtemperature", 0),
        ("shellies/p1/sensor/temperature", b"21.5", "sensor/temperature", 21.5),
        ("shellies/p1/sensor/motion", b"true", "sensor/motion", "true"),
        ("shellies/p1/relay/0/power", b"null", "relay/0/power", None),
        ("shellies/p1/input_event/0", b'{"event": "S"}', "input_event/0.event", "S"),
    ],
)
def test_gen1_tells_a_value_a_topic(topic: str, payload: bytes, name: str, value: object) -> None:
    assert told(say(make(ShapeOptions()), topic, payload)) == {f"p1|{name}": value}


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("shellies/p1/relay/0/command", b"on"),
        ("shellies/announce", b"{}"),
        ("shellies/p1/info", b"{}"),
        ("pm/rpc", b"{}"),
        ("pm/events/rpc", b"[]"),
        ("pm/events/rpc", b'{"method": "NotifyStatus", "params": 5}'),
        ("pm/events/rpc", b'{"method": "NotifyEvent", "params": {"events": 5}}'),
        ("pm/events/rpc", b'{"method": "Other", "params": {"switch:0": {"id": 1}}}'),
        ("pm/status/switch:0", b"\xff"),
        ("pm/online", b"perhaps"),
    ],
)
def test_what_is_not_understood_says_nothing(topic: str, payload: bytes) -> None:
    assert say(make(ShapeOptions()), topic, payload) == []


@pytest.mark.parametrize("topic", ["pm/online", "shellies/pm/online"])
def test_a_device_that_is_not_online_is_down(topic: str) -> None:
    shape = make(ShapeOptions())

    assert say(shape, topic, b"false", is_retained=True) == [
        Update("pm", None, reason=Reason.LINK_DOWN)
    ]
    assert say(shape, topic, b"true") == []


def test_a_device_that_sleeps_is_not_down_when_it_is_away() -> None:
    shape = make(ShapeOptions())
    say(shape, "ht/events/rpc", notification({"ts": TS, "sys": {"wakeup_period": 600}}))
    say(shape, "shellies/old/sensor/battery", b"88")

    assert say(shape, "ht/online", b"false") == []
    assert say(shape, "shellies/old/online", b"false") == []


def test_points_choose_what_is_subscribed() -> None:
    place = Place("pm", "switch:0.apower")

    assert make(ShapeOptions()).filters([place]) == [
        "shellies/pm/#",
        "pm/online",
        "pm/events/rpc",
        "pm/status/+",
    ]
    assert make(ShapeOptions("house")).filters([place]) == [
        "house/pm/online",
        "house/pm/events/rpc",
        "house/pm/status/+",
    ]
    assert "shellies/#" in make(ShapeOptions()).filters(())


def test_a_device_is_named_without_the_prefix_of_gen1() -> None:
    with pytest.raises(OptionsWrong, match="without shellies"):
        make(ShapeOptions()).filters([Place("shellies/p1", "relay/0")])


def test_a_gen2_device_below_the_prefix_of_gen1_is_found() -> None:
    shape = make(ShapeOptions())

    assert told(say(shape, "shellies/pm/status/switch:0", {"output": True})) == {
        "pm|switch:0.output": True
    }
    command = shape.command(Place("pm", "switch:0.output"), True)
    assert command.topic == "shellies/pm/command/switch:0"


@pytest.mark.parametrize(
    ("base", "name", "value", "topic", "payload"),
    [
        ("", "switch:0.output", True, "p1/command/switch:0", b"on"),
        ("house", "light:1.output", 0.0, "house/p1/command/light:1", b"off"),
        ("", "relay/0", False, "shellies/p1/relay/0/command", b"off"),
    ],
)
def test_switches_and_lights_are_written(
    base: str, name: str, value: bool | float, topic: str, payload: bytes
) -> None:
    command = make(ShapeOptions(base)).command(Place("p1", name), value)

    assert (command.topic, command.payload) == (topic, payload)


@pytest.mark.parametrize(("name", "value"), [("switch:0.apower", 1.0), ("relay/0", 5.0)])
def test_nothing_else_is_written(name: str, value: float) -> None:
    with pytest.raises(OptionsWrong, match="only switches"):
        make(ShapeOptions()).command(Place("p1", name), value)


def test_proposals_have_the_units_of_their_names() -> None:
    shape = make(ShapeOptions())
    em = {
        "id": 0,
        "a_act_power": 951.2,
        "a_aprt_power": 960.1,
        "a_voltage": 236.1,
        "a_current": 4.0,
        "a_pf": 0.9,
        "a_freq": 50.0,
        "total_act_power": 1224.1,
    }
    switch = {"output": True, "apower": 1.5, "aenergy": {"total": 5.5, "minute_ts": 1}}
    say(shape, "pm/status/em:0", em)
    say(shape, "pm/status/switch:0", switch)
    say(shape, "pm/status/emdata:0", {"total_act": 5.0, "total_act_ret": 1.0})
    say(shape, "pm/status/temperature:0", {"tC": 21.5, "tF": 70.7})
    say(shape, "pm/status/devicepower:0", {"battery": {"V": 5.6, "percent": 88}})
    say(shape, "shellies/p1/relay/0/energy", b"12")
    say(shape, "shellies/p1/emeter/0/total", b"12")
    say(shape, "shellies/p1/emeter/0/reactive_power", b"12")
    say(shape, "shellies/p1/sensor/humidity", b"50")

    nodes = {node.name: node for node in shape.proposals()}
    units = {name: node.unit for name, node in nodes.items() if node.unit}

    assert units == {
        "em:0.a_act_power": "W",
        "em:0.a_aprt_power": "VA",
        "em:0.a_voltage": "V",
        "em:0.a_current": "A",
        "em:0.a_freq": "Hz",
        "em:0.total_act_power": "W",
        "switch:0.apower": "W",
        "switch:0.aenergy.total": "Wh",
        "emdata:0.total_act": "Wh",
        "emdata:0.total_act_ret": "Wh",
        "temperature:0.tC": "°C",
        "temperature:0.tF": "°F",
        "devicepower:0.battery.V": "V",
        "devicepower:0.battery.percent": "%",
        "relay/0/energy": "W·min",
        "emeter/0/total": "Wh",
        "emeter/0/reactive_power": "var",
        "sensor/humidity": "%",
    }
    assert nodes["switch:0.output"].type is PointType.BOOLEAN
    assert nodes["switch:0.output"].is_writable
