"""What a status means: which side must be put right, what is retried soon, what is not known."""

from typing import Any

import pytest
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from protocols.opcua.faults import explain, explain_channel, status_name
from protocols.opcua.options import OpcuaDevice
from protocols.opcua.trust import Identity, Presented, load_identity, make_identity
from shared.errors import LinkLost, Refused

URL = "opc.tcp://plc:4840"
PLAIN = OpcuaDevice(url=URL)


@pytest.fixture(scope="module")
def identity() -> Identity:
    return load_identity(make_identity("host", "urn:host:spine"), "identity")


def secured(**options: str) -> OpcuaDevice:
    usual = {"url": URL, "security": "Basic256Sha256", "identity": "PEM"}
    return OpcuaDevice.model_validate(usual | options)


def fault(name: str) -> UaStatusCodeError:
    make: Any = UaStatusCodeError
    error: UaStatusCodeError = make(getattr(StatusCodes, name))
    return error


@pytest.mark.parametrize(
    "name",
    [
        "BadSecurityChecksFailed",
        "BadCertificateUntrusted",
        "BadCertificateUriInvalid",
        "BadCertificateTimeInvalid",
        "BadCertificateUseNotAllowed",
    ],
)
def test_a_refused_certificate_names_what_to_trust_at_the_server(
    name: str, identity: Identity
) -> None:
    told = explain(fault(name), secured(), identity)
    assert isinstance(told, Refused)
    assert "trust this gateway's certificate at the server" in str(told)
    assert Presented(identity.certificate).thumbprint in str(told)
    assert name in str(told)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "set user and password"),
        ({"user": "operator"}, "user 'operator': look at user and password"),
        ({"user_identity": "PEM"}, "trust that certificate at the server"),
    ],
)
def test_a_refused_sign_in_says_what_was_tried(options: dict[str, str], says: str) -> None:
    told = explain(fault("BadIdentityTokenRejected"), secured(**options), None)
    assert isinstance(told, Refused)
    assert says in str(told)


@pytest.mark.parametrize("name", ["BadTooManySessions", "BadSecurityPolicyRejected"])
def test_a_refusal_is_put_right_at_the_server(name: str) -> None:
    assert isinstance(explain(fault(name), PLAIN, None), Refused)


@pytest.mark.parametrize(
    "error",
    [
        fault("BadTimeout"),
        fault("BadServerHalted"),
        TimeoutError(),
        ConnectionResetError(104, "Connection reset by peer"),
        AttributeError("no such policy"),
        UaError("what is this"),
    ],
)
def test_everything_else_is_a_lost_link_that_names_the_server(error: Exception) -> None:
    told = explain(error, PLAIN, None)
    assert isinstance(told, LinkLost)
    assert str(told).startswith(URL)


def test_silence_on_a_secured_channel_names_both_reasons(identity: Identity) -> None:
    told = explain_channel(TimeoutError(), secured(), identity)
    assert isinstance(told, LinkLost)
    assert "serves no such channel, or does not trust the gateway" in str(told)
    assert str(explain_channel(TimeoutError(), PLAIN, None)) == str(
        explain(TimeoutError(), PLAIN, None)
    )


def test_a_status_is_named_without_its_flags() -> None:
    assert status_name(0x8034_0480) == "BadNodeIdUnknown"
