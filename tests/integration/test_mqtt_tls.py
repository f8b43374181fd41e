"""The MQTT driver over TLS: whom it believes, and what it says where it does not."""

import hashlib
import re
import ssl
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest
from pydantic import SecretStr, ValidationError

from deploy.central.native.certificates import make_identity
from protocols.driver import PointSource
from protocols.mqtt.driver import MqttDriver
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.testing.rig import Inbox, deaf_server
from shared.errors import DriverError, LinkLost, OptionsWrong, Refused
from shared.model import Point
from shared.pki import make_root
from tests.servers.mosquitto import HOST, Mosquitto

pytestmark = pytest.mark.integration

ROOT: Final = make_root("spine-mqtt-test")
OTHERS: Final = make_root("spine-mqtt-others")
BROKER: Final = make_identity(ROOT, "broker")
OURS: Final = make_identity(ROOT, "gateway")
DEADLINE_S: Final = 30.0


def pem(identity: bytes, what: str) -> str:
    """Give the key or the certificate of an identity."""
    text = identity.decode()
    found = re.search(rf"-----BEGIN {what}-----.*-----END {what}-----", text, re.DOTALL)
    assert found is not None
    return found[0]


CERTIFICATE: Final = pem(BROKER, "CERTIFICATE")
FINGERPRINT: Final = hashlib.sha256(ssl.PEM_cert_to_DER_cert(CERTIFICATE)).hexdigest()
OWN: Final = {"tls_certificate": pem(OURS, "CERTIFICATE"), "tls_key": pem(OURS, "PRIVATE KEY")}


async def broker_with(home: Path, **settings: object) -> Mosquitto:
    identity, roots = home / "broker.pem", home / "roots.pem"
    identity.write_bytes(BROKER)
    roots.write_bytes(ROOT.pem)
    tls = {"cafile": roots, "certfile": identity, "keyfile": identity}
    broker = Mosquitto(home, **tls, **settings)
    await broker.start()
    return broker


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    async with await broker_with(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    home = tmp_path_factory.mktemp("strict")
    async with await broker_with(home, require_certificate="true") as broker:
        yield broker


def options(port: int, **more: Any) -> MqttDevice:
    given = {
        "host": HOST,
        "port": port,
        "client_id": uuid.uuid4().hex,
        "tls": True,
        "timeout_s": 3.0,
    }
    return MqttDevice.model_validate(given | more)


async def refusal(device: MqttDevice) -> DriverError:
    with anyio.fail_after(DEADLINE_S), pytest.raises(DriverError) as error:
        async with MqttDriver(device):
            pass
    assert "PRIVATE KEY" not in str(error.value)
    return error.value


BELIEVED: Final[tuple[dict[str, Any], ...]] = (
    {"tls_ca": ROOT.pem.decode()},
    {"tls_ca": ROOT.pem.decode(), "tls_server_name": "localhost"},
    {"tls_ca": ROOT.pem.decode(), "version": "5"},
    {"tls_fingerprint": FINGERPRINT},
    {"tls_fingerprint": FINGERPRINT, "max_in_flight": 1},  # reading stops after each message
    {"tls_fingerprint": ":".join(re.findall("..", FINGERPRINT.upper()))},
)


@pytest.mark.parametrize("believed", BELIEVED)
async def test_values_travel_both_ways_over_tls(
    broker: Mosquitto, believed: dict[str, Any]
) -> None:
    # Larger than what TLS holds at once: the rest must be read without a new network event.
    several = [float(value) for value in range(30)]
    write = {"topic": "room/t", "template": '{"v": {value}, "pad": "' + "x" * 6_000 + '"}'}
    source = PointSource(
        Point("t"), MqttPoint.model_validate({"topic": "room/t", "path": "v", "write": write})
    )
    inbox = Inbox(done=True)
    with anyio.fail_after(DEADLINE_S):
        async with (
            MqttDriver(options(broker.port, **believed)) as driver,
            anyio.create_task_group() as group,
        ):
            group.start_soon(inbox.consume, driver.subscribe(driver.plan([source]), ()))
            await anyio.lowlevel.checkpoint()  # now the subscription goes out, before any write
            for value in several:
                await driver.write(source, value)
            await inbox.until_seen(0, several[-1])
            group.cancel_scope.cancel()
    assert inbox.values(0) == several


async def test_a_broker_of_another_authority_is_refused(broker: Mosquitto) -> None:
    error = await refusal(options(broker.port, tls_ca=OTHERS.pem.decode()))
    assert isinstance(error, Refused)
    assert "not trusted" in str(error)
    assert "tls_ca" in str(error)


async def test_without_an_authority_those_of_the_machine_count(broker: Mosquitto) -> None:
    assert isinstance(await refusal(options(broker.port)), Refused)


async def test_a_certificate_with_another_name_is_refused(broker: Mosquitto) -> None:
    device = options(broker.port, tls_ca=ROOT.pem.decode(), tls_server_name="other.example")
    error = await refusal(device)
    assert isinstance(error, Refused)
    assert "other.example" in str(error)


async def test_another_certificate_than_the_pinned_one_is_refused_and_named(
    broker: Mosquitto,
) -> None:
    error = await refusal(options(broker.port, tls_fingerprint="0" * 64))
    assert isinstance(error, Refused)
    assert FINGERPRINT in str(error)


async def test_a_broker_that_wants_our_certificate_gets_it(strict: Mosquitto) -> None:
    async with MqttDriver(options(strict.port, tls_ca=ROOT.pem.decode(), **OWN)) as driver:
        assert len(await driver.read(driver.plan([]))) == 0


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_without_our_certificate_the_error_says_what_is_missing(
    strict: Mosquitto, version: str
) -> None:
    error = await refusal(options(strict.port, tls_ca=ROOT.pem.decode(), version=version))
    assert "tls_certificate" in str(error)


async def test_a_key_that_does_not_fit_is_wrong_options(strict: Mosquitto) -> None:
    mixed = OWN | {"tls_key": pem(make_identity(ROOT, "x"), "PRIVATE KEY")}
    error = await refusal(options(strict.port, tls_ca=ROOT.pem.decode(), **mixed))
    assert isinstance(error, OptionsWrong)


async def test_a_broker_without_tls_is_told_from_a_dead_one(
    tmp_path: Path,
) -> None:
    async with Mosquitto(tmp_path) as plain:
        error = await refusal(options(plain.port, tls_ca=ROOT.pem.decode()))
    assert isinstance(error, LinkLost)


async def test_a_handshake_that_hangs_is_given_up() -> None:
    async with deaf_server(slams=False) as port:
        device = options(port, tls_ca=ROOT.pem.decode(), timeout_s=0.5)
        assert isinstance(await refusal(device), LinkLost)
        with pytest.raises(LinkLost):
            await MqttDriver(device).reach()


async def test_the_connection_test_shows_the_certificate_to_pin(broker: Mosquitto) -> None:
    told = await MqttDriver(options(broker.port)).reach()
    assert told == f"{HOST}:{broker.port}, certificate SHA-256 {FINGERPRINT}"
    with pytest.raises(LinkLost):
        await MqttDriver(options(1)).reach()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tls_ca": "no certificate"}, "PEM"),
        ({"tls_fingerprint": "12:34"}, "64 hex digits"),
        ({"tls_certificate": CERTIFICATE}, "come together"),
        ({"tls": False, "tls_ca": CERTIFICATE}, "set tls: true"),
        ({"tls_fingerprint": "0" * 64, "tls_ca": CERTIFICATE}, "leave out"),
    ],
)
def test_options_that_would_not_protect_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        options(1, **wrong)


def test_the_port_follows_tls_and_the_key_is_never_shown() -> None:
    device = MqttDevice(
        host="b", client_id="c", tls=True, tls_certificate=CERTIFICATE, tls_key=SecretStr("sesame")
    )
    assert device.port == 8883
    assert "sesame" not in repr(device) + device.model_dump_json()
