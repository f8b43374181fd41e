"""What passes a check-out, what fails, and what a person may say against the numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.field.checkout import CheckOutRefused, Finding, Item, Record, Verdict, judged
from edge.field.shown import Shown, words_of
from edge.field.tolerance import BY_UNIT, OTHERWISE, is_within, usual
from shared.model import PointType
from shared.quality import Flag, QualityClass, Reason, bad, quality

TEMP = Item("ahu/t", "ahu", "°C", PointType.NUMBER)
FAN = Item("ahu/fan", "ahu", "", PointType.BOOLEAN)
MODE = Item("ahu/mode", "ahu", "", PointType.TEXT)


def shows(value: float | None, text: str | None = None, how: int = 0) -> Shown:
    return Shown("ahu/t", "°C", value, text, how, 5)


def found(item: Item, shown: Shown | None, **finding: Any) -> Record:
    return judged(item, Finding("Ada", **finding), shown, 9)


@pytest.mark.parametrize(
    ("shown", "expected", "verdict"),
    [
        (21.5, 21.0, Verdict.PASS),
        (20.5, 21.0, Verdict.PASS),
        (21.51, 21.0, Verdict.FAIL),
        (21.0, "21", Verdict.PASS),
        (21.0, "21,0", Verdict.PASS),
        (-40.0, 21.0, Verdict.FAIL),
    ],
)
def test_a_number_passes_within_the_tolerance_of_its_unit(
    shown: float, expected: float | str, verdict: Verdict
) -> None:
    record = found(TEMP, shows(shown), expected=expected)
    assert (record.verdict, record.tolerance) == (verdict, 0.5)
    assert record.deviation == shown - 21.0


def test_a_tolerance_that_is_given_wins_and_is_recorded() -> None:
    assert found(TEMP, shows(23.0), expected=21.0, tolerance=2.0).verdict is Verdict.PASS
    assert found(TEMP, shows(21.1), expected=21.0, tolerance=0.0).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("expected", "value", "verdict"),
    [
        ("on", 1.0, Verdict.PASS),
        (True, 1.0, Verdict.PASS),
        ("OFF", 1.0, Verdict.FAIL),
        (0.0, 0.0, Verdict.PASS),
    ],
)
def test_a_switch_is_on_or_off(expected: Any, value: float, verdict: Verdict) -> None:
    assert found(FAN, shows(value), expected=expected).verdict is verdict


def test_no_number_is_so_large_that_everything_is_within_its_tolerance() -> None:
    flow = Item("ahu/flow", "ahu", "kW", PointType.NUMBER)
    record = found(flow, shows(200.0), expected=-1e308)
    assert record.verdict is Verdict.FAIL
    assert record.tolerance == pytest.approx(5e306)


def test_a_text_is_the_expected_one_or_not() -> None:
    assert found(MODE, shows(None, "heating"), expected=" heating").verdict is Verdict.PASS
    assert found(MODE, shows(None, "cooling"), expected="heating").verdict is Verdict.FAIL


def test_a_bad_value_fails_and_keeps_its_reason() -> None:
    record = found(TEMP, shows(None, how=bad(Reason.LINK_DOWN)), expected=21.0)
    assert record.verdict is Verdict.FAIL
    assert record.quality == bad(Reason.LINK_DOWN)
    assert record.deviation is None


def test_a_person_may_look_alone_and_may_fail_what_shows_the_right_value() -> None:
    assert found(TEMP, shows(21.0), verdict=Verdict.PASS).verdict is Verdict.PASS
    failed = found(TEMP, shows(21.0), expected=21.0, verdict=Verdict.FAIL, note="wrong sensor")
    assert (failed.verdict, failed.note) == (Verdict.FAIL, "wrong sensor")
    assert found(TEMP, None, verdict=Verdict.NA).verdict is Verdict.NA
    assert found(TEMP, None, verdict=Verdict.FAIL).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("item", "shown", "finding", "code"),
    [
        (TEMP, shows(30.0), {"expected": 21.0, "verdict": Verdict.PASS}, "verdict_contradicts"),
        (TEMP, shows(None, how=bad(Reason.TIMEOUT)), {"verdict": Verdict.PASS}, "no_value"),
        (TEMP, None, {"expected": 21.0}, "no_value"),
        (TEMP, shows(21.0), {}, "expected_missing"),
        (TEMP, shows(21.0), {"expected": "warm"}, "expected_wrong"),
        (TEMP, shows(21.0), {"expected": "nan"}, "expected_wrong"),
        (TEMP, shows(21.0), {"expected": "inf"}, "expected_wrong"),
        (FAN, shows(1.0), {"expected": "perhaps"}, "expected_wrong"),
    ],
)
def test_what_cannot_be_recorded_is_told_with_its_code(
    item: Item, shown: Shown | None, finding: dict[str, Any], code: str
) -> None:
    with pytest.raises(CheckOutRefused) as refused:
        found(item, shown, **finding)
    assert refused.value.code == code


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(sorted(BY_UNIT)))
def test_a_pass_is_always_within_the_tolerance_that_is_recorded(
    shown: float, expected: float, unit: str
) -> None:
    item = Item("k", "d", unit, PointType.NUMBER)
    record = found(item, shows(shown), expected=expected)
    assert record.tolerance is not None
    is_near = is_within(shown, expected, record.tolerance)
    assert (record.verdict is Verdict.PASS) == is_near


def test_units_have_the_usual_tolerances() -> None:
    assert usual("°C").at(21.0) == 0.5
    assert usual("%RH").at(45.0) == 3.0
    assert usual("degrees-celsius").at(21.0) == 0.5
    assert usual(" PPM ").at(400.0) == 75.0
    assert usual("l/s").at(200.0) == 20.0
    assert usual("kWh") is OTHERWISE
    assert is_within(0.1 + 0.2, 0.3, 0.0)
    assert not is_within(0.31, 0.3, 0.0)


def test_qualities_are_said_in_words() -> None:
    assert words_of(0) == "good"
    assert words_of(bad(Reason.WRONG_ADDRESS)) == "bad: wrong address"
    forced = quality(QualityClass.UNCERTAIN, Reason.SUBSTITUTED, Flag.FORCED)
    assert words_of(forced) == "uncertain: substituted, forced by hand"
