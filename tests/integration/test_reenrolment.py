"""A gateway whose certificate has ended comes back by itself, or says what it needs."""

import asyncio
import json
from pathlib import Path

import pytest

from central.ingress.authority import Authority
from edge import enrolment
from edge.enrolment import EnrolmentRefused, Identity, enrol
from edge.uplink import Uplink
from edge.vault import Vault
from shared import pki
from shared.clock import SystemClock
from tests.integration.outbox_kit import opened
from tests.integration.test_enrol import expired
from tests.integration.test_uplink import enrol_url, url
from tests.servers.central_process import Central, until

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration

CLOCK = SystemClock()


async def ended(central: Central, folder: Path, days_ago: float) -> Identity:
    """Give a gateway a certificate that ended some days ago."""
    certificate, key = await expired(central, days_ago)
    root = Authority.open(central.settings.data).root
    return await asyncio.to_thread(held_in, folder, key.rstrip() + b"\n" + certificate, root.pem)


def held_in(folder: Path, identity: bytes, roots: bytes) -> Identity:
    folder.mkdir(exist_ok=True)
    pki.write_private(folder / "identity.pem", identity)
    pki.write_private(folder / "roots.pem", roots)
    return Identity.load(folder, Vault.find(folder))


async def test_an_expired_gateway_renews_with_its_old_key_and_connects(
    central: Central, tmp_path: Path
) -> None:
    identity = await ended(central, tmp_path / "gw", 20)
    outbox = await opened(tmp_path / "gw", 1, CLOCK)
    uplink = Uplink(url(central), identity, outbox, CLOCK, trusted_clock=True)
    tasks = [
        asyncio.create_task(uplink.run()),
        asyncio.create_task(identity.keep_fresh(enrol_url(central))),
    ]

    async def is_up() -> bool:
        return uplink.is_connected

    try:
        await until(is_up, "the link is up")
        held = await asyncio.to_thread((identity.folder / "identity.pem").read_bytes)
        assert pki.is_locked(held)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await outbox.close()


async def test_a_gateway_that_was_away_too_long_says_that_it_needs_a_code_and_takes_one(
    central: Central, tmp_path: Path
) -> None:
    identity = await ended(central, tmp_path / "gw", 31)
    before = await asyncio.to_thread((identity.folder / "identity.pem").read_bytes)
    with pytest.raises(EnrolmentRefused, match="Enrol the gateway with a new code"):
        await asyncio.to_thread(identity.renew, enrol_url(central))
    assert await asyncio.to_thread((identity.folder / "identity.pem").read_bytes) == before
    code = await central.code()
    await asyncio.to_thread(enrol, enrol_url(central), code, tmp_path / "gw")
    await asyncio.to_thread(identity.renew, enrol_url(central))


@pytest.mark.parametrize("certificate", ["of another key", "none"])
def test_an_answer_that_does_not_fit_leaves_the_old_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: str
) -> None:
    root = pki.make_root("test")
    key, csr = pki.make_key_and_csr()
    held = key + pki.issue_gateway(root, csr, "demo", "gw")
    identity = held_in(tmp_path, held, root.pem)
    before = (tmp_path / "identity.pem").read_bytes()
    other = pki.issue_gateway(root, pki.make_key_and_csr()[1], "demo", "gw").decode()
    given = other if certificate == "of another key" else "no certificate"
    answer = json.dumps({"certificate": given, "roots": root.pem.decode()}).encode()
    monkeypatch.setattr(enrolment, "_exchange", lambda *_: answer)
    with pytest.raises(EnrolmentRefused):
        identity.renew("https://central.test")
    assert (tmp_path / "identity.pem").read_bytes() == before
