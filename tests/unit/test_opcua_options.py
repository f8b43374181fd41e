"""Options of the OPC UA driver, and that its README names them all."""

from pathlib import Path

import pytest
from pydantic import ValidationError

import protocols.opcua
from protocols.driver import PointSource
from protocols.opcua.driver import OpcuaDriver
from protocols.opcua.options import OpcuaDevice, OpcuaPoint
from shared.errors import OptionsWrong
from shared.model import Point

README = Path(protocols.opcua.__file__).with_name("README.md").read_text()


@pytest.mark.parametrize("name", [*OpcuaDevice.model_fields, *OpcuaPoint.model_fields])
def test_the_readme_names_every_option(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("opc.tcp://plc", "opc.tcp://plc:4840"),
        ("opc.tcp://plc/path", "opc.tcp://plc:4840/path"),
        ("opc.tcp://10.0.0.1:48010/", "opc.tcp://10.0.0.1:48010/"),
        ("opc.tcp://[fe80::1]/x", "opc.tcp://[fe80::1]:4840/x"),
    ],
)
def test_a_url_without_a_port_gets_the_registered_one(url: str, whole: str) -> None:
    assert OpcuaDevice(url=url).url == whole


def test_a_url_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValidationError, match="must not carry a user name") as refusal:
        OpcuaDevice(url="opc.tcp://operator:sesame@plc")
    messages = [error["msg"] for error in refusal.value.errors(include_input=False)]
    assert "sesame" not in str(messages)


@pytest.mark.parametrize("node", ["nonsense", "ns=a;i=1", "i=", "ns=2;i=x", "ns=1;g=123"])
def test_a_wrong_node_id_names_the_point_and_what_to_write(node: str) -> None:
    driver = OpcuaDriver(OpcuaDevice(url="opc.tcp://plc"))
    with pytest.raises(OptionsWrong, match=r"ahu/temp: .*is no node id; write"):
        driver.plan([PointSource(Point("ahu/temp"), OpcuaPoint(node=node))])


@pytest.mark.parametrize(
    "node",
    [
        "i=2258",
        "ns=2;i=7",
        "ns=2;s=a b;c=d",
        "ns=1;b=aGk=",
        "ns=3;g=00000000-0000-0000-0000-000000000000",
    ],
)
def test_every_form_of_node_id_is_read(node: str) -> None:
    driver = OpcuaDriver(OpcuaDevice(url="opc.tcp://plc"))
    assert len(driver.plan([PointSource(Point("p"), OpcuaPoint(node=node))]).nodes) == 1
