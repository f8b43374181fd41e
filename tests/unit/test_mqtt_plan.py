"""What messages say of a plan's points: last wills, counters, bytes, scales, filters, shapes."""

import json
import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.clean import clean
from edge.tail import Tail
from protocols.driver import Node, PointSource
from protocols.mqtt.binary import number_in, packed
from protocols.mqtt.codec import Arrival, Rows
from protocols.mqtt.filters import covers, generalised, problem_of
from protocols.mqtt.options import Binary, MqttDevice, MqttPoint
from protocols.mqtt.plan import Plan
from protocols.mqtt.scalar import Scale
from protocols.mqtt.shaped import Shaped
from protocols.mqtt.shapes import Place, Publication, Update
from shared.errors import OptionsWrong
from shared.model import Point, PointSet, PointType
from shared.quality import GOOD, Flag, Reason, bad, uncertain

LOST: Final = bad(Reason.MESSAGES_LOST)
AWAY: Final = bad(Reason.LINK_DOWN)
STALE: Final = uncertain(Reason.STALE)


def device(**options: Any) -> MqttDevice:
    return MqttDevice.model_validate({"host": "b", "client_id": "c"} | options)


def source(kind: PointType = PointType.NUMBER, /, **options: Any) -> PointSource:
    return PointSource(Point("p", type=kind), MqttPoint.model_validate(options))


class Ear:
    """A plan and what it heard, a second a message."""

    def __init__(self, *sources: PointSource, **options: Any) -> None:
        self.plan = Plan(sources, device(**options))
        self.second = 0

    def hear(
        self, topic: str, payload: str | bytes, *, retained: bool = False
    ) -> list[tuple[int, float, int]]:
        self.second += 1
        rows = Rows()
        data = payload.encode() if isinstance(payload, str) else payload
        self.plan.hear(topic, data, Arrival(self.second * 1_000_000, retained), rows)
        return list(zip(rows.series, rows.value, rows.quality, strict=True))


def told(rows: list[tuple[int, float, int]]) -> list[tuple[int, float | None, int]]:
    return [(series, None if math.isnan(value) else value, code) for series, value, code in rows]


WILL: Final = {"topic": "lwt", "online": "Online", "offline": "Offline"}


def test_a_last_will_makes_its_points_bad_until_their_next_value() -> None:
    ear = Ear(source(topic="a", availability=WILL), source(topic="b"))
    assert told(ear.hear("lwt", "Online", retained=True)) == []
    assert told(ear.hear("a", "1")) == [(0, 1.0, GOOD)]
    assert told(ear.hear("lwt", "Offline")) == [(0, None, AWAY)]
    assert told(ear.hear("b", "2")) == [(1, 2.0, GOOD)]
    assert told(ear.hear("lwt", "Online")) == []
    assert told(ear.hear("a", "3")) == [(0, 3.0, GOOD)]


def test_a_kept_value_proves_nothing_while_its_device_is_away() -> None:
    ear = Ear(source(topic="a"), availability=WILL)
    assert told(ear.hear("lwt", "Offline", retained=True)) == [(0, None, AWAY)]
    assert told(ear.hear("a", "1", retained=True)) == []
    assert told(ear.hear("a", "2")) == [(0, 2.0, GOOD)]
    assert told(ear.hear("a", "3", retained=True)) == [(0, 3.0, STALE)]


def test_a_points_own_will_wins_and_may_stand_in_json() -> None:
    own = {"topic": "z/availability", "path": "state"}
    ear = Ear(source(topic="a", availability=own), source(topic="b"), availability=WILL)
    assert told(ear.hear("z/availability", '{"state": "offline"}')) == [(0, None, AWAY)]
    assert told(ear.hear("lwt", "Offline")) == [(1, None, AWAY)]
    flag = {"topic": "up", "online": "true", "offline": "false", "path": "up"}
    assert told(Ear(source(topic="a", availability=flag)).hear("up", '{"up": false}')) == [
        (0, None, AWAY)
    ]


@pytest.mark.parametrize(
    "payload", ["", "{", "null", b"\xff", "Offline ", '{"state": ["Offline"]}']
)
def test_a_will_that_says_something_else_changes_nothing(payload: str | bytes) -> None:
    assert Ear(source(topic="a", availability=WILL)).hear("lwt", payload) == []


def counted(number: object, value: float = 1.0, **more: object) -> str:
    return json.dumps({"v": value, "n": number, **more})


def numbers(*shown: object) -> list[bool]:
    """Tell before which of the messages with these numbers some were lost."""
    ear = Ear(source(topic="a", path="v", sequence_path="n"))
    return [LOST in [code for _, _, code in ear.hear("a", counted(one))] for one in shown]


@pytest.mark.parametrize(
    ("shown", "lost"),
    [
        ((5, 6, 7), [False, False, False]),
        ((5, 7), [False, True]),
        ((5, 7, 8), [False, True, False]),
        ((5, 6, 5, 6, 7), [False] * 5),  # came again
        ((254, 255, 0, 1), [False] * 4),
        ((70_000, 4, 5), [False] * 3),  # began anew
        ((5, None, "x", True, -1, 6), [False] * 6),
        ((5, 2**70, 6), [False] * 3),
    ],
)
def test_a_counter_shows_where_messages_were_lost(
    shown: tuple[object, ...], lost: list[bool]
) -> None:
    assert numbers(*shown) == lost


def test_a_loss_is_told_between_the_last_value_and_the_next() -> None:
    timed: dict[str, Any] = {"path": "v", "sequence_path": "n", "time_path": "t", "time_unit": "s"}
    ear = Ear(source(topic="a", **timed), source(topic="a", path="w"))
    ear.hear("a", counted(1, t=100, w=1))
    rows = Rows()
    ear.plan.hear("a", counted(4, t=200, w=2).encode(), Arrival(900_000_000), rows)
    assert rows.series == [0, 0, 1]
    assert rows.quality == [LOST, GOOD, GOOD]
    assert rows.observed_at[1] == 200_000_000
    assert 100_000_000 < rows.observed_at[0] < 200_000_000


def test_a_device_clock_that_fails_costs_no_reading_and_is_flagged() -> None:
    timed = source(topic="a", path="v", time_path="t", time_unit="iso")
    plan, rows = Plan([timed], device()), Rows()
    now_us = 1_790_000_000_000_000
    told = ["2026-09-21T14:13:00Z", "2026-09-21T14:12:00Z", None, "2026-09-21T14:13:30"]
    for value, at in enumerate(told):  # right, back by a minute, not set yet, without a zone
        payload = json.dumps({"v": value, "t": at}).encode()
        plan.hear("a", payload, Arrival(now_us + value), rows)
    cleaned = clean(rows.columns(), Tail.fresh(PointSet((timed.point,)), now_us), now_us).columns
    assert cleaned.value.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert (np.diff(cleaned.observed_at) > 0).all()
    adjusted = cleaned.quality & Flag.TIME_ADJUSTED
    assert adjusted.astype(bool).tolist() == [False, True, True, True]


def test_two_counters_in_one_topic_are_refused() -> None:
    with pytest.raises(OptionsWrong, match="several counters"):
        Ear(
            source(topic="a", path="v", sequence_path="n"),
            source(topic="a", path="v", sequence_path="m"),
        )


@pytest.mark.parametrize(
    ("options", "payload", "value"),
    [
        ({"binary": {"type": "int16", "at": 1}}, b"\x00\xff\xfe", -2.0),
        ({"binary": {"type": "uint32", "order": "little"}}, b"\x01\x00\x00\x00", 1.0),
        ({"binary": {"type": "float32"}}, struct.pack(">f", 21.5), 21.5),
        ({"binary": {"type": "uint8", "bit": 3}}, b"\x08", 1.0),
        ({"binary": {"type": "uint16", "encoding": "hex"}}, b"00FA", 250.0),
        (
            {"binary": {"type": "uint16", "encoding": "base64"}, "path": "d"},
            b'{"d": "APo="}',
            250.0,
        ),
        ({"binary": {"type": "int16"}, "scale": 0.1, "offset": -10}, b"\x00\xfa", 15.0),
        ({"scale": 1 / 60}, b"120", 2.0),
    ],
)
def test_bytes_and_scales_are_read(options: dict[str, Any], payload: bytes, value: float) -> None:
    assert told(Ear(source(topic="a", **options)).hear("a", payload)) == [(0, value, GOOD)]


@pytest.mark.parametrize(
    ("options", "payload", "reason"),
    [
        ({"binary": {"type": "int32"}}, b"\x00\x01", Reason.BAD_PAYLOAD),
        ({"binary": {"type": "uint8", "encoding": "hex"}}, b"xyz", Reason.BAD_PAYLOAD),
        (
            {"binary": {"type": "uint8", "encoding": "base64"}, "path": "d"},
            b'{"d": 5}',
            Reason.BAD_PAYLOAD,
        ),
        (
            {"binary": {"type": "uint8", "encoding": "base64"}, "path": "d"},
            b'{"d": null}',
            Reason.NOT_YET_REPORTED,
        ),
        (
            {"binary": {"type": "uint16"}, "sentinels": [65535], "scale": 0.1},
            b"\xff\xff",
            Reason.NOT_IMPLEMENTED,
        ),
        ({"sentinels": [-127]}, b"-127.0", Reason.NOT_IMPLEMENTED),
    ],
)
def test_bytes_that_hold_no_value_are_bad(
    options: dict[str, Any], payload: bytes, reason: Reason
) -> None:
    assert told(Ear(source(topic="a", **options)).hear("a", payload)) == [(0, None, bad(reason))]


BINARY_TYPES: Final = Binary.model_json_schema()["properties"]["type"]["enum"]


@given(
    st.sampled_from(BINARY_TYPES),
    st.sampled_from(["big", "little"]),
    st.integers(0, 9),
    st.floats(-1e30, 1e30),
)
def test_what_is_written_as_bytes_is_read_the_same(
    kind: str, order: str, at: int, value: float
) -> None:
    binary = Binary.model_validate({"type": kind, "order": order, "at": at})
    try:
        payload = packed(value, binary)
    except ValueError:
        return
    read = number_in(payload, binary)
    assert read is not None
    wanted = value if kind.startswith("float") else round(value)
    assert read == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give a topic"),
        ({"topic": "a", "device": "d", "property": "p"}, "give a topic"),
        ({"device": "d"}, "give a topic"),
        ({"device": "d", "property": "p", "path": "x"}, "the shape knows path"),
        ({"topic": "a", "scale": 0}, "scale must not be 0"),
        ({"topic": "a", "path": "x", "binary": {"type": "int8"}}, "raw bytes"),
        ({"topic": "a", "binary": {"type": "float32", "bit": 1}}, "no single bits"),
        ({"topic": "a", "binary": {"type": "uint16", "bit": 16}}, "bits 0 to 15"),
        ({"topic": "a", "sequence_path": ""}, "where in a JSON message"),
        ({"topic": "a", "write": {"topic": "a/+"}}, "must name one topic"),
        ({"topic": "a", "write": {"topic": "a", "template": "on"}}, "must hold"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MqttPoint.model_validate(options)


def test_a_text_point_has_no_numbers_options() -> None:
    with pytest.raises(OptionsWrong, match="a text has no"):
        Ear(source(PointType.TEXT, topic="a", scale=2))


# -- filters


@pytest.mark.parametrize(
    ("wanted", "topic", "does"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("+/b", "a/b", True),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("a//+", "a//b", True),
        ("+", "", True),
    ],
)
def test_a_filter_covers_what_mqtt_says(wanted: str, topic: str, does: bool) -> None:
    assert covers(wanted, topic) is does


@pytest.mark.parametrize("text", ["", "a/b+", "a/#/b", "a#", "a/\0"])
def test_what_is_no_filter_is_said_to_be_none(text: str) -> None:
    assert problem_of(text)


LEVELS: Final = st.lists(st.sampled_from(["a", "b", "", "ü"]), min_size=1, max_size=5)


@given(LEVELS, st.data())
def test_all_filters_that_cover_a_topic_are_known(levels: list[str], data: st.DataObject) -> None:
    topic = "/".join(levels)
    if not topic:
        return
    several = generalised(topic)
    assert all(covers(one, topic) and not problem_of(one) for one in several)
    cut = data.draw(st.integers(0, len(levels)))
    made = ["+" if data.draw(st.booleans()) else level for level in levels[:cut]]
    wanted = "/".join(made if cut == len(levels) else [*made, "#"])
    assert wanted in several


def test_a_filter_is_subscribed_instead_of_the_topics_it_covers() -> None:
    filters = [{"filter": "room/+/t"}, {"filter": "unused/#"}]
    ear = Ear(
        source(topic="room/1/t"), source(topic="room/2/t"), source(topic="x"), filters=filters
    )
    assert ear.plan.filters == ("room/+/t", "x")
    assert told(ear.hear("room/2/t", "5")) == [(1, 5.0, GOOD)]
    assert ear.hear("room/3/t", "5") == []
    assert ear.plan.is_wanted("room/3/t")
    assert not ear.plan.is_wanted("old/topic")


def test_a_refused_filter_makes_its_points_bad() -> None:
    ear = Ear(source(topic="room/1/t"), source(topic="x"), filters=[{"filter": "room/#"}])
    rows = Rows()
    ear.plan.deny({"room/#"}, Arrival(1), rows)
    assert (rows.series, rows.quality) == ([0], [bad(Reason.ACCESS_DENIED)])


# -- shapes


class Thermometers:
    """A shape of our own: `t/DEVICE` says DEVICE's temperature, or that it is gone."""

    def filters(self, places: Sequence[Place]) -> Sequence[str]:
        return ("t/#",)

    def feed(self, topic: str, payload: bytes, *, is_retained: bool) -> Iterable[Update]:
        name = topic.removeprefix("t/")
        if payload == b"gone":
            yield Update(name, None, reason=Reason.LINK_DOWN)
        else:
            yield Update(name, "temperature", payload.decode(), observed_at=7_000_000)
            yield Update(name, "unheard", 1)

    def answers(self) -> Sequence[Publication]:
        return ()

    def command(self, place: Place, value: bool | float | str) -> Publication:
        return Publication(f"t/{place.device}/set", str(value).encode())

    def proposals(self) -> Iterable[Node]:
        return ()


def test_a_shape_feeds_its_points() -> None:
    takers: dict[Place, list[tuple[int, PointType, Scale | None]]] = {
        Place("one", "temperature"): [(0, PointType.NUMBER, None), (2, PointType.TEXT, None)]
    }
    shaped = Shaped(Thermometers(), takers)
    rows = Rows()
    shaped.hear("t/one", b"21.5", Arrival(9_000_000, is_retained=True), rows)
    shaped.hear("t/one", b"gone", Arrival(9_500_000), rows)
    shaped.hear("t/two", b"20", Arrival(9_600_000), rows)
    shaped.deny(Arrival(9_700_000), rows)
    assert rows.series == [0, 2] * 3
    denied = bad(Reason.ACCESS_DENIED)
    assert rows.quality == [GOOD, GOOD, AWAY, AWAY, denied, denied]
    assert rows.observed_at[:3] == [7_000_000, 7_000_000, 9_500_000]
    assert rows.texts == {1: "21.5"}
    assert shaped.filters == ("t/#",)


def test_a_shaped_point_needs_a_shape() -> None:
    with pytest.raises(OptionsWrong, match="need the broker's option shape"):
        Ear(source(device="d", property="t"))
