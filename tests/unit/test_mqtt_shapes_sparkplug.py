"""Edge nodes of Sparkplug B: births, deaths, aliases, gaps, rebirths, and what points get of it."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.mqtt.shapes import Place, Publication, ShapeOptions, Update
from protocols.mqtt.shapes.sparkplug_b.datatypes import DataType
from protocols.mqtt.shapes.sparkplug_b.payload import Metric, Payload, decode, encode
from protocols.mqtt.shapes.sparkplug_b.rebirth import CONTROL, FIRST_WAIT_S
from protocols.mqtt.shapes.sparkplug_b.shape import SparkplugShape
from protocols.mqtt.shapes.sparkplug_b.topic import MessageType, Topic, parse
from shared.errors import OptionsWrong
from shared.model import PointType
from shared.quality import Reason

AT_MS: Final = 1_700_000_000_000
AT_US: Final = AT_MS * 1_000
PLACES: Final = [Place("n", "load"), Place("n/d", "temperature")]
DOUBLE, INT32, BOOLEAN = DataType.DOUBLE, DataType.INT32, DataType.BOOLEAN


class Hand:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now_us(self) -> int:
        return AT_US + round(self.at_s * 1_000_000)

    def monotonic_s(self) -> float:
        return self.at_s


class Floor:
    """One edge node `n` of the group `g` as it publishes, and the shape that listens to it."""

    def __init__(self, places: Sequence[Place] = PLACES, group: str = "g") -> None:
        self.clock = Hand()
        self.shape = SparkplugShape(ShapeOptions(group=group), self.clock)
        self.filters = self.shape.filters(places)
        self.seq = 0

    def say(
        self, kind: str, *metrics: Metric, device: str = "", seq: int | None = None, **more: Any
    ) -> list[Update]:
        """Publish with the next number, or with the given one."""
        self.seq = self.seq if seq is None else seq
        payload = Payload(AT_MS, None if kind == "NDEATH" else self.seq, metrics)
        self.seq = (self.seq + 1) % 256
        topic = str(Topic("g", MessageType(kind), "n", device))
        return list(self.shape.feed(topic, encode(payload), **({"is_retained": False} | more)))

    def be_born(self, bdseq: int = 0) -> list[Update]:
        self.seq = 0
        told = self.say(
            "NBIRTH",
            Metric.of("bdSeq", DataType.INT64, bdseq),
            Metric.of("load", DOUBLE, 5.0, alias=1),
        )
        return told + self.say(
            "DBIRTH", Metric.of("temperature", DOUBLE, 21.0, alias=2), device="d"
        )

    def die(self, bdseq: int = 0) -> list[Update]:
        return self.say("NDEATH", Metric.of("bdSeq", DataType.INT64, bdseq))

    def asked(self) -> list[str]:
        return [publication.topic for publication in self.shape.answers()]


@pytest.fixture
def floor() -> Floor:
    floor = Floor()
    floor.be_born()
    floor.shape.answers()
    return floor


def by_alias(alias: int, value: float | None) -> Metric:
    return Metric.of(None, DOUBLE, value, alias=alias)


def shown(updates: Sequence[Update]) -> list[tuple[str, str | None, object, Reason]]:
    return [(one.device, one.property, one.value, one.reason) for one in updates]


def test_a_topic_names_group_node_and_device() -> None:
    assert parse("spBv1.0/g/DDATA/n/d") == Topic("g", MessageType.DDATA, "n", "d")
    assert str(Topic("g", MessageType.NCMD, "n")) == "spBv1.0/g/NCMD/n"


@pytest.mark.parametrize(
    "topic",
    [
        "spBv1.0/STATE/host",
        "spBv1.0/g/NDATA",
        "spBv1.0/g/NDATA/n/d",
        "spBv1.0/g/DDATA/n",
        "spBv1.0/g/DDATA/n/",
        "spBv1.0/g/XDATA/n",
        "spAv1.0/g/NDATA/n",
        "spBv1.0/g/DDATA/n/d/e",
    ],
)
def test_other_topics_say_nothing(topic: str) -> None:
    assert parse(topic) is None
    assert list(Floor().shape.feed(topic, b"", is_retained=False)) == []


def test_births_tell_the_values_of_node_and_device() -> None:
    told = Floor().be_born()

    assert told == [
        Update("n", "load", 5.0, observed_at=AT_US),
        Update("n/d", "temperature", 21.0, observed_at=AT_US),
    ]


def test_data_is_read_by_alias(floor: Floor) -> None:
    told = floor.say("DDATA", by_alias(2, 22.5), device="d")

    assert shown(told) == [("n/d", "temperature", 22.5, Reason.NONE)]
    assert floor.asked() == []


def test_devices_may_use_the_same_alias() -> None:
    floor = Floor([*PLACES, Place("n/e", "pressure")])
    floor.be_born()
    floor.say("DBIRTH", Metric.of("pressure", DOUBLE, 1.0, alias=1), device="e")

    assert shown(floor.say("NDATA", by_alias(1, 6.0))) == [("n", "load", 6.0, Reason.NONE)]
    assert shown(floor.say("DDATA", by_alias(1, 2.0), device="e")) == [
        ("n/e", "pressure", 2.0, Reason.NONE)
    ]


def test_data_without_its_type_has_that_of_the_birth(floor: Floor) -> None:
    untyped = Metric(alias=1, raw=Metric.of(None, DOUBLE, 7.5).raw)

    assert shown(floor.say("NDATA", untyped)) == [("n", "load", 7.5, Reason.NONE)]


def test_an_alias_that_no_birth_declared_is_asked_about_and_not_guessed(floor: Floor) -> None:
    floor.clock.at_s = FIRST_WAIT_S

    assert floor.say("NDATA", by_alias(77, 1.0)) == []
    assert floor.asked() == ["spBv1.0/g/NCMD/n"]


def test_a_null_is_not_yet_reported(floor: Floor) -> None:
    assert shown(floor.say("NDATA", by_alias(1, None))) == [
        ("n", "load", None, Reason.NOT_YET_REPORTED)
    ]


def test_a_lost_message_makes_last_values_uncertain_until_the_next_birth(floor: Floor) -> None:
    floor.clock.at_s = FIRST_WAIT_S

    told = floor.say("NDATA", by_alias(1, 6.0), seq=3)

    assert shown(told) == [
        ("n", "load", 5.0, Reason.MESSAGES_LOST),
        ("n/d", "temperature", 21.0, Reason.MESSAGES_LOST),
        ("n", "load", 6.0, Reason.MESSAGES_LOST),
    ]
    assert floor.asked() == ["spBv1.0/g/NCMD/n"]
    assert shown(floor.say("NDATA", by_alias(1, 7.0))) == [("n", "load", 7.0, Reason.MESSAGES_LOST)]
    assert {one.reason for one in floor.be_born()} == {Reason.NONE}
    assert shown(floor.say("NDATA", by_alias(1, 8.0))) == [("n", "load", 8.0, Reason.NONE)]


def test_the_number_after_255_is_0(floor: Floor) -> None:
    for value in range(600):
        assert shown(floor.say("NDATA", by_alias(1, value))) == [("n", "load", value, Reason.NONE)]
    assert floor.asked() == []


def test_a_payload_that_cannot_be_read_leaves_its_node_in_doubt(floor: Floor) -> None:
    told = floor.shape.feed("spBv1.0/g/NDATA/n", b"\x12\x05\x0a", is_retained=False)

    assert {one.reason for one in told} == {Reason.MESSAGES_LOST}


def test_the_death_of_a_node_takes_all_its_devices_down(floor: Floor) -> None:
    assert shown(floor.die()) == [
        ("n", None, None, Reason.LINK_DOWN),
        ("n/d", None, None, Reason.LINK_DOWN),
    ]


def test_the_late_will_of_an_earlier_session_kills_nobody(floor: Floor) -> None:
    floor.be_born(bdseq=1)

    assert floor.die(bdseq=0) == []
    assert len(floor.die(bdseq=1)) == 2


def test_a_node_may_come_back_with_the_number_of_the_session_that_died(floor: Floor) -> None:
    floor.die()

    assert {one.reason for one in floor.be_born()} == {Reason.NONE}


def test_the_death_of_a_device_leaves_the_others(floor: Floor) -> None:
    assert shown(floor.say("DDEATH", device="d")) == [("n/d", None, None, Reason.LINK_DOWN)]
    assert shown(floor.say("NDATA", by_alias(1, 6.0))) == [("n", "load", 6.0, Reason.NONE)]


def test_an_alias_from_before_a_death_means_nothing_after_it(floor: Floor) -> None:
    floor.say("DDEATH", device="d")
    assert floor.say("DDATA", by_alias(2, 9.0), device="d") == []
    floor.die()
    floor.clock.at_s = FIRST_WAIT_S

    assert floor.say("NDATA", by_alias(1, 9.0)) == []
    assert floor.asked() == ["spBv1.0/g/NCMD/n"]


def test_a_lost_message_brings_no_value_of_a_dead_device_back(floor: Floor) -> None:
    floor.say("DDEATH", device="d")

    told = floor.say("NDATA", by_alias(1, 6.0), seq=77)

    assert {one.device for one in told} == {"n"}


def test_a_device_that_is_not_born_again_with_its_node_is_down(floor: Floor) -> None:
    floor.say("NBIRTH", Metric.of("load", DOUBLE, 5.0, alias=1), seq=0)

    assert shown(floor.say("NDATA", by_alias(1, 6.0))) == [
        ("n/d", None, None, Reason.LINK_DOWN),
        ("n", "load", 6.0, Reason.NONE),
    ]


def test_a_rebirth_is_no_gap_in_what_is_read(floor: Floor) -> None:
    assert {one.reason for one in floor.be_born()} == {Reason.NONE}


def test_a_rebirth_is_asked_for_at_the_start_and_then_ever_less_often() -> None:
    floor = Floor()

    [request] = floor.shape.answers()
    assert request.topic == "spBv1.0/g/NCMD/n"
    assert not request.is_retained
    [metric] = decode(request.payload).metrics
    assert (metric.name, metric.datatype, metric.value(BOOLEAN)) == (CONTROL, BOOLEAN, True)
    sent_at = []
    for second in range(400):
        floor.clock.at_s = float(second)
        floor.say("NDATA", by_alias(1, 1.0))
        sent_at += [second] * len(floor.asked())
    assert sent_at == [2, 6, 14, 30, 62, 126, 254]


def test_after_a_birth_nothing_is_asked() -> None:
    floor = Floor()
    floor.be_born()

    assert floor.asked() == []


def test_data_that_names_its_metric_and_type_needs_no_birth() -> None:
    floor = Floor()

    told = floor.say("NDATA", Metric.of("load", DOUBLE, 5.0), seq=9)

    assert shown(told) == [("n", "load", 5.0, Reason.NONE)]
    assert floor.asked() == ["spBv1.0/g/NCMD/n"]


def test_a_retained_birth_only_shows_that_there_is_a_node() -> None:
    floor = Floor(places=[])

    assert floor.say("NBIRTH", Metric.of("load", DOUBLE, 5.0), is_retained=True) == []
    assert floor.asked() == ["spBv1.0/g/NCMD/n"]


def test_what_we_publish_ourselves_says_nothing(floor: Floor) -> None:
    assert floor.say("NCMD", Metric.of("load", DOUBLE, 5.0)) == []


def historical(value: float, at_ms: int) -> Metric:
    return Metric.of(None, DOUBLE, value, alias=1, is_historical=True, timestamp_ms=at_ms)


def test_historical_values_keep_their_time_and_the_last_one_stays_the_last(floor: Floor) -> None:
    old = [historical(1.0, AT_MS - 5_000), historical(2.0, AT_MS - 4_000)]

    told = floor.say("NDATA", *old)

    assert told == [
        Update("n", "load", 1.0, Reason.STALE, AT_US - 5_000_000),
        Update("n", "load", 2.0, Reason.STALE, AT_US - 4_000_000),
        Update("n", "load", 5.0),
    ]


def test_a_historical_value_that_is_newer_than_all_that_was_told_is_good(floor: Floor) -> None:
    assert floor.say("NDATA", historical(7.0, AT_MS + 1_000)) == [
        Update("n", "load", 7.0, observed_at=AT_US + 1_000_000)
    ]
    [again, *_] = floor.say("NDATA", by_alias(1, 9.0), seq=77)
    assert (again.value, again.reason) == (7.0, Reason.MESSAGES_LOST)


def test_the_time_of_a_metric_wins_over_that_of_its_message(floor: Floor) -> None:
    [told] = floor.say("NDATA", Metric.of("load", DOUBLE, 1.0, timestamp_ms=AT_MS + 5))
    [untold] = floor.say("NDATA", Metric.of("load", DOUBLE, 1.0, timestamp_ms=0))

    assert told.observed_at == AT_US + 5_000
    assert untold.observed_at is None


@pytest.mark.parametrize(
    ("quality", "value", "reason"),
    [
        (192, 5.0, Reason.NONE),
        (216, 5.0, Reason.NONE),
        (500, 5.0, Reason.STALE),
        (64, 5.0, Reason.OTHER),
        (0, None, Reason.DEVICE_EXCEPTION),
        (512, None, Reason.DEVICE_EXCEPTION),
    ],
)
def test_the_property_quality_is_heeded(
    floor: Floor, quality: int, value: float | None, reason: Reason
) -> None:
    properties = bytes([0x0A, 7]) + b"Quality" + bytes([0x12, 5, 8, 3, 0x18])
    number = bytes([quality & 0x7F | 0x80, quality >> 7])
    name = bytes([0x0A, 4]) + b"load"
    raw = Metric.of(None, DOUBLE, 5.0).raw
    assert raw is not None
    assert isinstance(raw[1], bytes)
    metric = (
        name + bytes([0x20, 10, 0x4A, len(properties) + 2]) + properties + number + b"\x69" + raw[1]
    )
    payload = bytes([0x12, len(metric)]) + metric

    told = list(floor.shape.feed("spBv1.0/g/NDATA/n", payload, is_retained=False))

    assert shown(told) == [("n", "load", value, reason)]


def test_an_array_is_a_text_and_its_elements_are_points() -> None:
    floor = Floor([Place("n", "phases"), Place("n", "phases[1]"), Place("n", "phases[9]")])

    told = floor.say("NBIRTH", Metric.of("phases", DataType.FLOAT_ARRAY, (1.5, 2.5)))

    assert shown(told) == [
        ("n", "phases", "[1.5, 2.5]", Reason.NONE),
        ("n", "phases[1]", 2.5, Reason.NONE),
        ("n", "phases[9]", None, Reason.BAD_PAYLOAD),
    ]


def test_what_is_not_read_or_does_not_fit_is_bad_and_leaves_the_others() -> None:
    floor = Floor(places=[])

    told = floor.say(
        "NBIRTH",
        Metric("table", datatype=DataType.DATASET, raw=(17, b"")),
        Metric.of("raw", DataType.BYTES, b"x"),
        Metric("wide", datatype=DataType.INT8, raw=(10, 300)),
        Metric.of("load", DOUBLE, 5.0),
    )

    assert shown(told) == [
        ("n", "table", None, Reason.NOT_IMPLEMENTED),
        ("n", "raw", None, Reason.NOT_IMPLEMENTED),
        ("n", "wide", None, Reason.BAD_PAYLOAD),
        ("n", "load", 5.0, Reason.NONE),
    ]


def test_points_choose_what_is_subscribed() -> None:
    assert Floor().filters == ["spBv1.0/g/+/n/#"]
    assert Floor([]).filters == ["spBv1.0/g/#"]
    assert Floor([], group="").filters == ["spBv1.0/+/#"]
    assert Floor([Place("g/n/d", "x"), Place("h/m", "y")], group="").filters == [
        "spBv1.0/g/+/n/#",
        "spBv1.0/h/+/m/#",
    ]


def test_without_a_group_devices_are_named_with_theirs() -> None:
    floor = Floor([Place("g/n", "load"), Place("g/n/d", "temperature")], group="")

    assert {one.device for one in floor.be_born()} == {"g/n", "g/n/d"}


def test_with_points_only_their_metrics_are_read() -> None:
    floor = Floor([Place("n/d", "temperature")])

    assert {one.device for one in floor.be_born()} == {"n/d"}


@pytest.mark.parametrize(
    ("group", "device"), [("g", ""), ("g", "a/b/c"), ("g", "a//"), ("g", "+"), ("", "n")]
)
def test_what_is_no_device_is_refused(group: str, device: str) -> None:
    with pytest.raises(OptionsWrong, match="NODE"):
        Floor([Place(device, "x")], group=group)


@pytest.mark.parametrize(
    ("place", "value", "topic", "datatype"),
    [
        (Place("n", "load"), 7.5, "spBv1.0/g/NCMD/n", DOUBLE),
        (Place("n/d", "setpoint"), 21.0, "spBv1.0/g/DCMD/n/d", INT32),
        (Place("n/d", "fan"), 1.0, "spBv1.0/g/DCMD/n/d", BOOLEAN),
        (Place("n/d", "mode"), "eco", "spBv1.0/g/DCMD/n/d", DataType.STRING),
    ],
)
def test_a_command_has_the_type_of_the_birth(
    floor: Floor, place: Place, value: float | str, topic: str, datatype: DataType
) -> None:
    floor.say("DBIRTH", *writable(), device="d")

    command = floor.shape.command(place, value)

    [metric] = decode(command.payload).metrics
    assert (command.topic, command.is_retained) == (topic, False)
    assert (metric.name, metric.datatype) == (place.property, datatype)
    assert metric.value(datatype) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [("setpoint", 21.5), ("setpoint", "warm"), ("fan", 2.0), ("mode", 5.0), ("unborn", 1.0)],
)
def test_a_command_that_does_not_fit_is_refused(
    floor: Floor, name: str, value: float | str
) -> None:
    floor.say("DBIRTH", *writable(), device="d")

    with pytest.raises(OptionsWrong, match=name):
        floor.shape.command(Place("n/d", name), value)


def writable() -> Iterator[Metric]:
    yield Metric.of("setpoint", INT32, 20)
    yield Metric.of("fan", BOOLEAN, False)
    yield Metric.of("mode", DataType.STRING, "off")


def test_births_propose_points(floor: Floor) -> None:
    floor.say(
        "DBIRTH",
        Metric.of("Inputs/Zone 1", BOOLEAN, True),
        Metric.of("name", DataType.STRING, "x"),
        Metric("table", datatype=DataType.DATASET),
        device="e",
    )

    nodes = {node.key: node for node in floor.shape.proposals()}

    assert set(nodes) == {"n/load", "n/d/temperature", "n/e/Inputs/Zone_1", "n/e/name"}
    assert nodes["n/e/Inputs/Zone_1"].source == {"device": "n/e", "property": "Inputs/Zone 1"}
    assert nodes["n/e/Inputs/Zone_1"].type is PointType.BOOLEAN
    assert nodes["n/e/name"].type is PointType.TEXT
    assert (nodes["n/load"].type, nodes["n/load"].value) == (PointType.NUMBER, "5.0")


def test_a_command_is_a_publication(floor: Floor) -> None:
    assert isinstance(floor.shape.command(Place("n", "load"), 1.0), Publication)


STEPS: Final = st.sampled_from(["birth", "node", "device", "lose", "ddeath", "dbirth", "death"])


@given(st.lists(STEPS, max_size=40))
def test_what_is_good_is_what_the_node_said_last_and_nothing_was_lost_before_it(
    steps: list[str],
) -> None:
    """Whatever is lost, dies and is born again; births themselves are not lost here."""
    floor = Floor()
    floor.be_born()
    is_alive, is_whole, has_device = True, True, True
    for number, step in enumerate(steps):
        if step == "birth":
            floor.be_born()
            is_alive = is_whole = has_device = True
        elif step == "death" and is_alive:
            assert {one.reason for one in floor.die()} == {Reason.LINK_DOWN}
            is_alive = has_device = False
        elif not is_alive:
            continue
        elif step == "lose":
            floor.seq = (floor.seq + 1) % 256
            is_whole = False
        elif step in {"ddeath", "dbirth"}:
            kind, metrics = step.upper(), [Metric.of("temperature", DOUBLE, 21.0, alias=2)]
            floor.say(kind, *metrics[: step == "dbirth"], device="d")
            has_device = step == "dbirth"
        else:
            place = ("n", "load", 1, "") if step == "node" else ("n/d", "temperature", 2, "d")
            device, name, alias, below = place
            told = floor.say(
                "DDATA" if below else "NDATA", by_alias(alias, float(number)), device=below
            )
            reason = Reason.NONE if is_whole else Reason.MESSAGES_LOST
            expected = [(device, name, float(number), reason)] if not below or has_device else []
            assert shown(told)[-1:] == expected or (not expected and not is_whole)
            assert all(is_whole for one in told if one.value is not None and not one.reason)
