"""Secured channels with servers of two other stacks; a side trusts only whom somebody accepted."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from protocols.driver import Found, PointSource
from protocols.opcua import session as session_module
from protocols.opcua.discovery import OpcuaSearch, discover
from protocols.opcua.driver import OpcuaDriver
from protocols.opcua.options import OpcuaDevice, OpcuaPoint
from protocols.opcua.trust import Untrusted, load_identity, load_presented, make_identity
from protocols.testing.rig import closed_port, deaf_server
from shared.errors import LinkLost, OptionsWrong, Refused
from shared.model import Point, PointType
from shared.quality import GOOD, Reason, bad
from tests.servers.milo import Milo
from tests.servers.node_opcua import NAMESPACE, NodeOpcua
from tests.servers.opcua import HOST

pytest_plugins = ["tests.servers.opcua_fixtures"]
pytestmark = pytest.mark.integration

HELLO: Final = "nsu=urn:eclipse:milo:hello-world;s=HelloWorld"
ROOM: Final = f"nsu={NAMESPACE};s=Room0.Temp"
ADMIN_ONLY: Final = f"{HELLO}/OnlyAdminCanRead/String"
OTHER_PIN: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class Secured:
    """A server's address, what it presents, and what a client shows it."""

    url: str
    thumbprint: str
    identity: str

    def device(self, **options: Any) -> OpcuaDevice:
        usual = {
            "url": self.url,
            "timeout_s": 5,
            "security": "Basic256Sha256",
            "server_certificate": self.thumbprint,
            "identity": self.identity,
        }
        return OpcuaDevice.model_validate(usual | options)


async def found_at(url: str) -> list[Found]:
    return [found async for found in discover(OpcuaSearch(url=url), lambda _: None)]


async def secured(url: str, identity: str) -> Secured:
    thumbprints = {found.facts["thumbprint"] for found in await found_at(url)}
    (thumbprint,) = thumbprints
    return Secured(url, thumbprint, identity)


@pytest.fixture
async def strict(milo: Milo, identity: str) -> Secured:
    """Milo, which trusts the identity by now."""
    server = await secured(milo.url, identity)
    try:
        await read(server.device(), HELLO + "/ScalarTypes/Double")
    except Refused:
        milo.trust()
    return server


@pytest.fixture
async def every_policy(node_opcua_server: NodeOpcua, identity: str) -> Secured:
    """node-opcua, which takes every client and serves every policy."""
    return await secured(node_opcua_server.url, identity)


async def read(
    options: OpcuaDevice, *nodes: str, kind: PointType = PointType.NUMBER
) -> Sequence[int]:
    driver = OpcuaDriver(options)
    plan = driver.plan(
        [PointSource(Point(node, type=kind), OpcuaPoint(node=node)) for node in nodes]
    )
    async with driver:
        columns = await driver.read(plan)
    return [int(quality) for quality in columns.quality]


@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
@pytest.mark.parametrize(
    "policy", ["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]
)
async def test_every_policy_and_mode_reads(every_policy: Secured, policy: str, mode: str) -> None:
    assert await read(every_policy.device(security=policy, security_mode=mode), ROOM) == [GOOD]


async def test_a_server_nobody_accepted_is_wrong_options_that_show_its_thumbprint(
    every_policy: Secured,
) -> None:
    with pytest.raises(Untrusted, match=every_policy.thumbprint) as error:
        await read(every_policy.device(server_certificate=""), ROOM)
    assert isinstance(error.value, OptionsWrong)
    accepted = every_policy.device(server_certificate=error.value.thumbprint)
    assert await read(accepted, ROOM) == [GOOD]


async def test_another_certificate_than_the_accepted_one_is_refused(every_policy: Secured) -> None:
    with pytest.raises(Refused, match=f"another certificate.*{every_policy.thumbprint}"):
        await read(every_policy.device(server_certificate=OTHER_PIN), ROOM)
    rollover = f"{OTHER_PIN}, {every_policy.thumbprint.upper()}"
    assert await read(every_policy.device(server_certificate=rollover), ROOM) == [GOOD]


async def test_a_server_refuses_a_client_until_somebody_trusts_it_there(milo: Milo) -> None:
    stranger = make_identity("stranger.test", "urn:stranger.test:spine")
    mine = load_identity(stranger, "identity").certificate
    server = await secured(milo.url, stranger)
    node = f"{HELLO}/ScalarTypes/Double"
    with pytest.raises(Refused, match="trust this gateway's certificate at the server") as error:
        await read(server.device(), node)
    (rejected,) = milo.rejected
    presented = load_presented(rejected.read_bytes())
    assert presented is not None
    assert presented.certificate == mine
    assert presented.thumbprint in str(error.value)
    milo.trust()
    assert await read(server.device(), node) == [GOOD]


async def test_users_read_what_they_may(strict: Secured) -> None:
    may_not = bad(Reason.ACCESS_DENIED)
    users = {("admin", "password2"): GOOD, ("user", "password1"): may_not}
    for (user, password), quality in users.items():
        options = strict.device(user=user, password=password)
        assert await read(options, ADMIN_ONLY, kind=PointType.TEXT) == [quality]
    assert await read(strict.device(), ADMIN_ONLY, kind=PointType.TEXT) == [may_not]


@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
async def test_a_user_signs_in_over_node_opcua(every_policy: Secured, mode: str) -> None:
    good = every_policy.device(user="operator", password="sesame", security_mode=mode)
    assert await read(good, ROOM) == [GOOD]
    wrong = every_policy.device(user="operator", password="open", security_mode=mode)
    with pytest.raises(Refused, match=r"sign in user 'operator'.*look at user and password"):
        await read(wrong, ROOM)


async def test_a_wrong_password_is_refused_and_not_repeated(
    strict: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    options = strict.device(user="admin", password="open sesame")
    with caplog.at_level(logging.DEBUG), pytest.raises(Refused, match="admin") as refusal:
        await read(options, ADMIN_ONLY)
    assert "open sesame" not in str(refusal.value) + repr(options) + caplog.text


async def test_a_user_signs_in_with_a_certificate(strict: Secured, identity: str) -> None:
    """Milo's example takes every user's certificate that is shown with its key."""
    options = strict.device(user_identity=identity)
    assert await read(options, f"{HELLO}/ScalarTypes/Double") == [GOOD]


async def test_an_endpoint_that_is_not_offered_is_refused_with_what_is(strict: Secured) -> None:
    for options in ({"security_mode": "Sign"}, {"security": "Aes256_Sha256_RsaPss"}):
        with pytest.raises(Refused, match="it offers Basic256Sha256, SignAndEncrypt; None, None"):
            await read(strict.device(**options), ADMIN_ONLY)


async def test_a_secured_subscription_outlives_the_renewal_of_its_channel(
    every_policy: Secured, node_opcua_server: NodeOpcua, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "CHANNEL_LIFETIME_S", 2.0)
    options = every_policy.device(publishing_interval_ms=50, keepalive_s=0.5)
    driver = OpcuaDriver(options)
    plan = driver.plan([PointSource(Point("room"), OpcuaPoint(node=ROOM))])
    async with driver:
        first = driver._session._renew_at_s
        pushed = driver.subscribe(plan, ())
        value = 0.0
        while driver._session._renew_at_s == first or value < 20:
            value += 1
            await node_opcua_server.process.tell(put={"Room0.Temp": value})
            async with asyncio.timeout(20):
                async for delivery in pushed:
                    if delivery.columns.value[-1] == value:
                        break
        assert driver._session._renew_at_s > first


async def test_discovery_finds_every_endpoint_and_sign_in_once(milo: Milo) -> None:
    found = await found_at(milo.url.removeprefix("opc.tcp://"))
    assert {one.options["url"] for one in found} == {milo.url}
    ways = {
        (one.options.get("security", "None"), one.facts["sign_in"], "not_served" in one.facts)
        for one in found
    }
    secure, plain = "Basic256Sha256", "None"
    assert ways == {
        (plain, "nobody (anonymous)", False),
        (plain, "user and password", True),
        (plain, "user certificate", True),
        (secure, "nobody (anonymous)", False),
        (secure, "user and password", False),
        (secure, "user certificate", False),
    }
    assert len({one.title for one in found}) == len(found)


async def test_nothing_is_found_where_nobody_speaks_opc_ua() -> None:
    assert await found_at(f"opc.tcp://{HOST}:{closed_port()}") == []
    async with deaf_server(slams=True) as port:
        assert await found_at(f"opc.tcp://{HOST}:{port}") == []
    async with deaf_server(slams=False) as port:
        search = OpcuaSearch(url=f"{HOST}:{port}", timeout_s=0.2)
        assert [one async for one in discover(search, lambda _: None)] == []


@pytest.fixture
async def unwilling(every_policy: Secured) -> AsyncIterator[tuple[Secured, list[bool]]]:
    """A server that offers security over a plain channel, and says nothing when it is asked."""
    is_silent = [True]
    port = int(every_policy.url.split(":")[2].split("/")[0])

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back = await asyncio.open_connection(HOST, port)

        async def up() -> None:
            while data := await reader.read(65_536):
                if b"#Basic256Sha256" in data and data.startswith(b"OPN"):
                    if not is_silent[0]:
                        writer.close()
                    continue
                back.write(data)
            back.close()

        async def down() -> None:
            while data := await back_reader.read(65_536):
                writer.write(data)
            writer.close()

        await asyncio.gather(up(), down(), return_exceptions=True)

    async with await asyncio.start_server(accept, HOST, 0) as server:
        url = every_policy.url.replace(str(port), str(server.sockets[0].getsockname()[1]))
        yield Secured(url, every_policy.thumbprint, every_policy.identity), is_silent


@pytest.mark.parametrize("is_silent", [True, False])
async def test_a_policy_that_is_offered_and_not_served_is_a_lost_link_that_says_so(
    unwilling: tuple[Secured, list[bool]],
    is_silent: bool,  # noqa: FBT001, RUF100 - a parameter of the test
) -> None:
    server, how = unwilling
    how[0] = is_silent
    with pytest.raises(LinkLost, match=r"Basic256Sha256, SignAndEncrypt was asked for: .*trust"):
        async with asyncio.timeout(20):
            await read(server.device(timeout_s=0.5), ROOM)
