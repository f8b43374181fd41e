"""What may be written to a point: mistakes in it have a path, and limits are kept."""

from typing import Any

import pytest
from pydantic import ValidationError

from edge.document import problems_in
from edge.writable import InterlockSection, WriteSection


def problems(write: Any, driver: str = "modbus", **point: Any) -> list[str]:
    """Give the problems of a document with one point that may be written so."""
    modbus = {"source": {"register": 1}, "key": "a", "write": write, **point}
    other = {"source": {"register": 2}, "key": "fan"}
    options = {"host": "127.0.0.1"}
    device = {"name": "d", "driver": driver, "options": options, "points": [modbus, other]}
    return [
        str(one).removeprefix("devices[0].points[0].") for one in problems_in({"devices": [device]})
    ]


@pytest.mark.parametrize(
    "write",
    [
        {"min": 0, "max": 10},
        {"values": [0, 5, 10]},
        {"min": 0, "max": 10, "max_lease_s": 60, "release_value": 0},
        {"min": 0, "max": 10, "interlock": [{"point": "fan", "equals": 1}]},
    ],
)
def test_limits_make_a_point_writable(write: dict[str, Any]) -> None:
    assert problems(write) == []


@pytest.mark.parametrize(
    ("write", "place", "text"),
    [
        ({}, "write", "nothing is written without limits"),
        ({"min": 0}, "write", "both min and max"),
        ({"min": 5, "max": 1}, "write", "min is above max"),
        ({"values": ["on"]}, "write.values", "is no number"),
        ({"min": 0, "max": 1, "release_value": 2}, "write.release_value", "outside"),
        ({"min": 0, "max": 1, "max_lease_s": 9}, "write.max_lease_s", "needs release_value"),
        ({"min": 0, "max": 1, "central_priority": 8}, "write.central_priority", "greater than 8"),
        ({"min": 0, "max": 1, "local_priority": 9}, "write.local_priority", "less than or equal"),
        ({"min": 0, "max": 1, "interlock": [{"point": "fan"}]}, "write.interlock[0]", "condition"),
        (
            {"min": 0, "max": 1, "interlock": [{"point": "b", "equals": 1}]},
            "write.interlock[0].point",
            "no point of this gateway",
        ),
        (
            {"min": 0, "max": 1, "interlock": [{"point": "a", "equals": 1}]},
            "write.interlock[0].point",
            "cannot interlock itself",
        ),
    ],
)
def test_a_mistake_has_its_path(write: dict[str, Any], place: str, text: str) -> None:
    (problem,) = problems(write)
    assert problem.startswith(f"{place}: ")
    assert text in problem


@pytest.mark.parametrize(
    ("value", "is_good"), [(16, True), (20.5, True), (20.3, False), (24.5, False)]
)
def test_a_value_is_whole_steps_from_the_least(value: float, is_good: bool) -> None:
    assert (WriteSection(min=16, max=24, step=0.5).objection(value) == "") is is_good


@pytest.mark.parametrize(
    ("limits", "written", "read", "is_same"),
    [
        ({}, 21.3, 21.299999237060547, True),
        ({}, 21.3, 21.4, False),
        ({"step": 0.5}, 21.5, 21.6, True),
        ({"tolerance": 0}, 21.5, 21.500001, False),
        ({}, "auto", "auto", True),
        ({}, "auto", 1.0, False),
    ],
)
def test_what_counts_as_read_back(
    limits: dict[str, Any], written: Any, read: Any, is_same: bool
) -> None:
    assert WriteSection(**limits).is_as_written(written, read) is is_same


def test_an_interlock_says_a_condition() -> None:
    with pytest.raises(ValidationError):
        InterlockSection(point="fan")
