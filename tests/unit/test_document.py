"""The configuration document as plain JSON: canonical form, hash, problems with their paths."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.document import MAX_BYTES, NotJson, canonical, devices_in, hash_of, plain, problems_in
from edge.hidden import in_document
from edge.settings import problems_of

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


def meter(name: str, **options: Any) -> dict[str, Any]:
    point = {"key": f"{name}/power", "unit": "kW", "source": {"register": 0}}
    return {
        "name": name,
        "driver": "modbus",
        "options": {"host": f"{name}.test", **options},
        "points": [point],
    }


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=4))
def test_the_order_of_keys_changes_no_hash_and_a_round_trip_nothing(document: Any) -> None:
    turned = dict(reversed(document.items()))
    assert hash_of(document) == hash_of(turned) == hash_of(plain(document))
    assert json.loads(canonical(document)) == plain(document) == document


@pytest.mark.parametrize(
    "document",
    [{"a": float("nan")}, {"a": float("inf")}, {"a": b"bytes"}, {"a": {1, 2}}, {"a": "\ud800"},
     {1: 2, "1": 3}, {"a": "x" * MAX_BYTES}],
    ids=["nan", "inf", "bytes", "set", "surrogate", "mixed keys", "too large"],
)  # fmt: skip
def test_what_is_not_json_is_a_problem_and_no_crash(document: Any) -> None:
    with pytest.raises(NotJson):
        canonical(document)
    assert problems_in(document)


def test_a_document_that_is_nested_too_deep_is_a_problem() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert str(problems_in(deep)[0]).startswith("(whole document): cannot be")


@pytest.mark.parametrize("document", [[], None, "devices", 3, {"devices": 3}, {"device": []}])
def test_what_is_no_document_is_a_problem(document: Any) -> None:
    assert problems_in(document)


def test_every_problem_is_told_at_once_with_its_path() -> None:
    bad = meter("m2", prot=502)
    bad["points"].append({"key": "m1/power", "unit": 7, "source": {"register": -1}})
    document = {
        "devices": [meter("m1"), bad, {**meter("m1"), "driver": "profinet"}],
        "policies": {"lowest": {}},
    }
    assert {one.path for one in problems_in(document)} == {
        "policies.lowest.[key]",
        "devices[1].options.prot",
        "devices[1].points[1].unit",
        "devices[1].points[1].key",
        "devices[1].points[1].source.register",
        "devices[2].name",
        "devices[2].points[0].key",
        "devices[2].driver",
    }


def test_what_only_the_driver_s_plan_sees_is_a_problem() -> None:
    document = {"devices": [meter("m1")]}
    assert problems_in(document) == []
    document["devices"][0]["points"][0]["source"] = {"register": 65535, "type": "float64"}
    assert [one.path.split(".")[0] for one in problems_in(document)] == ["devices[0]"]


def test_of_a_stored_document_what_is_good_is_read_and_the_rest_is_told() -> None:
    gone = {**meter("m2"), "driver": "gone_with_its_package"}
    devices, problems = devices_in({"devices": [meter("m1"), gone, meter("m3")]})
    assert [device.name for device in devices] == ["m1", "m3"]
    assert [one.path for one in problems] == ["devices[1].driver"]
    assert devices_in({"policies": {"lowest": {}}})[0] == ()


WEIRD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1e300, "", "x", "modbus", "mqtt", "opcua", [], {}, [[]]]
)
FIELDS = ["name", "driver", "interval_s", "options", "points", "key", "unit", "type", "class",
          "source", "report", "aggregate", "host", "password", "secret", "register"]  # fmt: skip
LIKELY = st.recursive(
    WEIRD,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6)
    ),
    max_leaves=25,
)


@given(
    st.dictionaries(st.sampled_from(["devices", "policies"]), LIKELY | st.lists(LIKELY)) | LIKELY
)
def test_whatever_comes_is_a_list_of_problems_and_never_a_crash(document: Any) -> None:
    found = problems_in(document)
    assert all(isinstance(one.path, str) and one.text for one in found)
    devices, told = devices_in(document) if isinstance(document, dict) else ((), found)
    assert devices == () or isinstance(document["devices"], list)
    if found and document != {}:
        assert told or not problems_of(document)


@given(LIKELY)
def test_looking_for_secrets_never_crashes_and_changes_nothing_else(devices: Any) -> None:
    document = {"devices": devices}
    assert in_document(document, lambda value, _: value) == document
