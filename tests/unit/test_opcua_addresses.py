"""Node ids and paths as people write them, and as browsing proposes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.opcua.addresses import (
    AddressWrong,
    NodeName,
    Step,
    parse_node_name,
    parse_path,
    write_path,
    write_uri,
)


def test_a_namespace_may_be_a_uri_or_a_number() -> None:
    assert parse_node_name("nsu=urn:a%3Bb%25;s=x;y") == NodeName("s=x;y", uri="urn:a;b%")
    assert parse_node_name("ns=7;i=3") == NodeName("i=3", 7)
    assert parse_node_name("s=x").text() == "s=x"
    assert parse_node_name("nsu=urn:a;i=3").text(9) == "ns=9;i=3"


@given(uri=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_every_uri_is_read_back(uri: str) -> None:
    assert parse_node_name(write_uri(uri) + "i=1").uri == uri


@pytest.mark.parametrize("text", ["", "ns=2", "i=4294967296", "ns=70000;i=1", "nsu=;i=1", "x=1"])
def test_what_is_no_node_id_is_refused(text: str) -> None:
    with pytest.raises(AddressWrong):
        parse_node_name(text)


def test_a_step_may_name_its_namespace() -> None:
    assert parse_path("/Objects/2:Building/Room&/1/3&:x") == (
        Step("Objects"),
        Step("Building", 2),
        Step("Room/1"),
        Step("3:x"),
    )
    assert Step("a").fits("a", 5)
    assert Step("a", 5).fits("a", 5)
    assert not Step("a", 4).fits("a", 5)


@given(names=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8))
def test_every_path_is_read_back(names: list[str]) -> None:
    assert [step.name for step in parse_path(write_path(names))] == names
