"""What MQTT messages say of their points, and paths into them."""

import json
import math
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.mqtt.codec import Arrival, Feed, Rows, decode, refuse
from protocols.mqtt.options import TimeUnit
from protocols.mqtt.path import Missing, follow, parse
from shared.columns import Columns
from shared.model import PointType
from shared.quality import GOOD, Flag, QualityClass, Reason, bad, class_of, reason_of, uncertain

NUMBER, BOOLEAN, TEXT = PointType.NUMBER, PointType.BOOLEAN, PointType.TEXT
NOW: Final = Arrival(1_000_000)
TIME_LOST: Final = Flag.TIME_ADJUSTED


def read(
    payload: bytes,
    path: str = "",
    kind: PointType = NUMBER,
    arrival: Arrival = NOW,
    time: tuple[str, TimeUnit] | None = None,
) -> Columns:
    steps = parse(time[0]) if time is not None else None
    unit: TimeUnit = time[1] if time is not None else "ms"
    rows = Rows()
    decode([Feed(0, kind, parse(path), steps, unit)], payload, arrival, rows)
    return rows.columns()


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a.b[0].c", ("a", "b", 0, "c")),
        ("[3]", (3,)),
        ("[1][2]", (1, 2)),
        ("params.temperature:0.tC", ("params", "temperature:0", "tC")),
        ('a["b.c"]', ("a", "b.c")),
        ('["x y"].z', ("x y", "z")),
        ("a b.ü", ("a b", "ü")),
    ],
)
def test_a_path_has_steps(path: str, steps: tuple[str | int, ...]) -> None:
    assert parse(path) == steps


@pytest.mark.parametrize(
    "path", [".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "a]", '["a"', "[]"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is no path"):
        parse(path)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b", 1),
        ("l[1]", 20),
        ("x", Missing.ABSENT),
        ("a.x", Missing.ABSENT),
        ("l[2]", Missing.ABSENT),
        ("a.b.c", Missing.MISFIT),
        ("a[0]", Missing.MISFIT),
        ("l.a", Missing.MISFIT),
        ("n", None),
        ("n.deeper", None),
    ],
)
def test_a_path_is_followed_as_far_as_the_document_goes(path: str, found: object) -> None:
    document = {"a": {"b": 1}, "l": [10, 20], "n": None}
    assert follow(document, parse(path)) == found


@pytest.mark.parametrize(
    ("kind", "payload", "value"),
    [
        (NUMBER, b"21.5", 21.5),
        (NUMBER, b" -1e3\n", -1000.0),
        (NUMBER, b"+7", 7.0),
        (NUMBER, b"inf", math.inf),
        (BOOLEAN, b"ON", 1.0),
        (BOOLEAN, b"false", 0.0),
        (BOOLEAN, b"1", 1.0),
    ],
)
def test_a_plain_payload_is_the_value(kind: PointType, payload: bytes, value: float) -> None:
    columns = read(payload, kind=kind)
    assert columns.value.tolist() == [value]
    assert columns.quality.tolist() == [GOOD]


def test_a_plain_nan_is_passed_for_the_collector_to_clean() -> None:
    columns = read(b"nan")
    assert math.isnan(columns.value[0])
    assert columns.quality[0] == GOOD


def test_a_plain_text_is_the_text() -> None:
    columns = read(" Grüße ".encode(), kind=TEXT)
    assert columns.texts == {0: " Grüße "}
    assert columns.quality[0] == GOOD


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (NUMBER, b"warm"),
        (NUMBER, b"1_000"),
        (NUMBER, b"21.5 C"),
        (NUMBER, b"21,5"),
        (NUMBER, b"\xff"),
        (NUMBER, b'{"a": 1}'),
        (BOOLEAN, b"2"),
        (BOOLEAN, b"maybe"),
        (TEXT, b"\xc3"),
    ],
)
def test_a_plain_payload_that_does_not_fit_is_bad(kind: PointType, payload: bytes) -> None:
    columns = read(payload, kind=kind)
    assert math.isnan(columns.value[0])
    assert columns.quality.tolist() == [bad(Reason.BAD_PAYLOAD)]
    assert columns.texts == {}


@pytest.mark.parametrize(
    ("kind", "json_value", "value"),
    [
        (NUMBER, 3, 3.0),
        (NUMBER, True, 1.0),
        (NUMBER, "4.5", 4.5),
        (BOOLEAN, False, 0.0),
        (BOOLEAN, 1, 1.0),
        (BOOLEAN, "off", 0.0),
    ],
)
def test_a_json_value_is_read(kind: PointType, json_value: object, value: float) -> None:
    columns = read(json.dumps({"v": json_value}).encode(), "v", kind)
    assert columns.value.tolist() == [value]
    assert columns.quality.tolist() == [GOOD]


@pytest.mark.parametrize(("json_value", "text"), [("a", "a"), (1.5, "1.5"), (True, "true")])
def test_a_json_value_of_a_text_point_is_its_text(json_value: object, text: str) -> None:
    assert read(json.dumps({"v": json_value}).encode(), "v", TEXT).texts == {0: text}


@pytest.mark.parametrize(
    ("kind", "json_text"),
    [
        (NUMBER, "{}"),
        (NUMBER, "[1]"),
        (NUMBER, '"warm"'),
        (NUMBER, "1" + "0" * 400),
        (NUMBER, "1" * 5_000),
        (BOOLEAN, "0.5"),
        (TEXT, "{}"),
    ],
)
def test_a_json_value_that_does_not_fit_is_bad(kind: PointType, json_text: str) -> None:
    columns = read(f'{{"v": {json_text}}}'.encode(), "v", kind)
    assert columns.quality.tolist() == [bad(Reason.BAD_PAYLOAD)]


def test_a_null_is_not_yet_reported() -> None:
    assert read(b'{"v": null}', "v").quality.tolist() == [bad(Reason.NOT_YET_REPORTED)]
    assert read(b'{"v": null}', "v.deeper").quality.tolist() == [bad(Reason.NOT_YET_REPORTED)]
    assert read(b"null").quality.tolist() == [bad(Reason.NOT_YET_REPORTED)]
    assert read(b"").quality.tolist() == [bad(Reason.NOT_YET_REPORTED)]


def test_a_partial_update_tells_nothing_of_the_others() -> None:
    assert len(read(b'{"other": 1}', "v")) == 0
    assert len(read(b'{"v": {"other": 1}}', "v.w")) == 0


@pytest.mark.parametrize("payload", [b"5", b"[1]", b"not json", b'"v"', b"", b"[" * 50_000])
def test_a_payload_that_is_no_object_is_bad_for_a_path(payload: bytes) -> None:
    assert read(payload, "v").quality.tolist() == [bad(Reason.BAD_PAYLOAD)]


@pytest.mark.parametrize(
    ("unit", "json_time", "at_us"),
    [
        ("s", "1700000000", 1_700_000_000_000_000),
        ("s", "1700000000.123456", 1_700_000_000_123_456),
        ("ms", "1700000000123", 1_700_000_000_123_000),
        ("us", "1700000000123456", 1_700_000_000_123_456),
        ("iso", '"2023-11-14T22:13:20Z"', 1_700_000_000_000_000),
        ("iso", '"2023-11-14T23:13:20.5+01:00"', 1_700_000_000_500_000),
    ],
)
def test_a_source_time_is_read(unit: TimeUnit, json_time: str, at_us: int) -> None:
    columns = read(f'{{"v": 1, "t": {json_time}}}'.encode(), "v", time=("t", unit))
    assert columns.observed_at.tolist() == [at_us]
    assert columns.quality.tolist() == [GOOD]


@pytest.mark.parametrize(
    ("unit", "json_time"),
    [
        ("s", "null"),
        ("s", "0"),
        ("s", "-5"),
        ("s", "NaN"),
        ("s", "1e999"),
        ("s", "1" + "0" * 400),
        ("us", str(2**63)),
        ("s", "true"),
        ("s", '"1700000000"'),
        ("iso", "1700000000"),
        ("iso", '"2023-11-14T22:13:20"'),
        ("iso", '"yesterday"'),
        ("s", "{}"),
    ],
)
def test_a_source_time_that_cannot_be_trusted_becomes_the_arrival_and_is_flagged(
    unit: TimeUnit, json_time: str
) -> None:
    columns = read(f'{{"v": 1, "t": {json_time}}}'.encode(), "v", time=("t", unit))
    assert columns.observed_at.tolist() == [NOW.at_us]
    assert columns.quality.tolist() == [GOOD | TIME_LOST]


def test_a_retained_message_is_stale_unless_it_tells_its_time() -> None:
    retained = Arrival(NOW.at_us, is_retained=True)
    assert read(b"1", arrival=retained).quality.tolist() == [uncertain(Reason.STALE)]
    timed = read(b'{"v": 1, "t": 1700000000000}', "v", arrival=retained, time=("t", "ms"))
    assert timed.quality.tolist() == [GOOD]
    untimed = read(b'{"v": 1}', "v", arrival=retained, time=("t", "ms"))
    assert untimed.quality.tolist() == [uncertain(Reason.STALE, TIME_LOST)]
    assert read(b"x", arrival=retained).quality.tolist() == [bad(Reason.BAD_PAYLOAD)]


def test_a_refused_message_is_bad_for_every_point_it_feeds() -> None:
    rows = Rows()
    refuse([Feed(4, NUMBER, ()), Feed(2, TEXT, ())], NOW, Reason.TOO_LONG, rows)
    columns = rows.columns()
    assert columns.series.tolist() == [4, 2]
    assert columns.quality.tolist() == [bad(Reason.TOO_LONG)] * 2


@given(payload=st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
def test_no_payload_raises_and_a_bad_row_has_no_value(payload: bytes) -> None:
    check_rows(payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abt"), inner, max_size=3)
    ),
)


@given(document=json_values)
def test_no_json_document_raises_and_a_bad_row_has_no_value(document: object) -> None:
    check_rows(json.dumps(document).encode())


def check_rows(payload: bytes) -> None:
    feeds = [
        Feed(0, NUMBER, ()),
        Feed(1, BOOLEAN, ("a",), ("t",), "s"),
        Feed(2, TEXT, ("a", "b")),
        Feed(3, NUMBER, ("b", 0), ("t",), "iso"),
    ]
    rows = Rows()
    decode(feeds, payload, NOW, rows)
    columns = rows.columns()
    assert set(columns.series.tolist()) >= {0}
    for row, code in enumerate(columns.quality.tolist()):
        is_text = columns.series[row] == 2
        if class_of(code) is QualityClass.BAD:
            assert math.isnan(columns.value[row])
            assert row not in columns.texts
            assert reason_of(code) in {Reason.BAD_PAYLOAD, Reason.NOT_YET_REPORTED}
        else:
            assert is_text == (row in columns.texts)
