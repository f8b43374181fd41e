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


SECURED = {"url": "opc.tcp://plc", "security": "Basic256Sha256", "identity": "PEM"}
PIN = "ab" * 32


@pytest.mark.parametrize("node", ["nonsense", "ns=a;i=1", "i=", "ns=2;i=x", "ns=1;g=123", "b=*"])
def test_a_wrong_node_id_is_told_with_what_to_write(node: str) -> None:
    with pytest.raises(ValidationError, match=r"is no node id; write ns=2;s=NAME"):
        OpcuaPoint(node=node)


@pytest.mark.parametrize(
    "node",
    [
        "i=2258",
        "ns=2;i=7",
        "ns=2;s=a b;c=d",
        "ns=1;b=aGk=",
        "ns=3;g=00000000-0000-0000-0000-000000000000",
        "nsu=urn:plant:ahu;s=AHU1.SupplyTemp",
        "nsu=http://plant/a%3Bb;i=5",
    ],
)
def test_every_form_of_node_id_is_read(node: str) -> None:
    driver = OpcuaDriver(OpcuaDevice(url="opc.tcp://plc"))
    assert len(driver.plan([PointSource(Point("p"), OpcuaPoint(node=node))]).addresses) == 1


@pytest.mark.parametrize(
    ("point", "problem"),
    [
        ({}, "needs node or path"),
        ({"path": "Objects/a"}, "is no path"),
        ({"path": "/Objects//a"}, "is no path"),
        ({"path": "/a" * 65}, "at most 64"),
        ({"node": "i=1", "index": "-1"}, "pattern"),
        ({"node": "i=1", "index": "0:5"}, "pattern"),
    ],
)
def test_a_point_that_is_nowhere_is_refused(point: dict[str, str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        OpcuaPoint.model_validate(point)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"identity": None}, "`spine-edge opcua certificate` makes one"),
        ({"security": "None", "user": "operator"}, "would travel unprotected"),
        ({"password": "secret"}, "password needs user"),
        ({"user": "operator", "user_identity": "PEM"}, "exclude each other"),
        ({"server_certificate": "ab" * 20}, "this is a SHA-1 thumbprint"),
        ({"server_certificate": "zz" * 32}, "64 hexadecimal digits"),
        ({"server_certificate": ",".join([PIN[:-1] + str(n) for n in range(9)])}, "at most 8"),
        ({"poll_interval_s": 300}, "shorter than session_timeout_s"),
    ],
)
def test_options_that_do_not_go_together_say_what_to_set(
    options: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        OpcuaDevice.model_validate(SECURED | options)


@pytest.mark.parametrize("text", [PIN, PIN.upper(), ":".join(["AB"] * 32), f"{PIN}, {PIN}"])
def test_a_thumbprint_is_read_as_tools_show_it(text: str) -> None:
    assert OpcuaDevice.model_validate(SECURED | {"server_certificate": text}).pins == {PIN}


def test_an_identity_that_is_none_is_wrong_before_any_connection() -> None:
    with pytest.raises(OptionsWrong, match="identity: needs a certificate and its private key"):
        OpcuaDriver(OpcuaDevice.model_validate(SECURED))
