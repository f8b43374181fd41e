"""Enrolment and renewal against a real central."""

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from central import admin
from central.ingress.authority import Authority, spki_sha256
from central.storage.catalogue import find_gateway, find_project, register_certificate
from shared import pki
from tests.servers.central_process import Central
from tests.servers.link_peer import Credentials, keep_credentials, link_peer

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration


@asynccontextmanager
async def enroller(central: Central) -> AsyncIterator[httpx2.AsyncClient]:
    roots = Authority.open(central.settings.data).roots_pem
    base = f"https://localhost:{central.enrol_port}"
    async with httpx2.AsyncClient(verify=pki.client_context(roots), base_url=base) as client:
        yield client


def renewal(credentials: Credentials, key: bytes | None = None) -> dict[str, str]:
    _, csr = pki.make_key_and_csr()
    proof = pki.sign_renewal(key or credentials.key, csr)
    return {
        "csr": csr.decode(),
        "certificate": credentials.certificate.decode(),
        "proof": base64.b64encode(proof).decode(),
    }


async def expired(central: Central, days_ago: float) -> tuple[bytes, bytes]:
    """Make a certificate of gw1 that central handed out and that ended some days ago."""
    await central.code("gw1")
    pool = central.database.service
    project = await find_project(pool, "demo")
    assert project is not None
    gateway = await find_gateway(pool, project.project_id, "gw1")
    assert gateway is not None
    root = Authority.open(central.settings.data).root
    key, csr = pki.make_key_and_csr()
    then = datetime.now(UTC) - timedelta(days=7 + days_ago)
    pem = pki.issue_gateway(root, csr, "demo", "gw1", now=then)
    certificate = x509.load_pem_x509_certificate(pem)
    await register_certificate(
        pool,
        gateway.gateway_id,
        pki.fingerprint(pem),
        spki_sha256(certificate),
        certificate.not_valid_after_utc,
    )
    return pem, key


async def test_the_roots_match_the_pin_of_the_code(central: Central) -> None:
    code = await central.code()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with httpx2.AsyncClient(verify=context) as client:
        answer = await client.get(f"https://localhost:{central.enrol_port}/enrol/ca")
    assert pki.find_pinned(answer.content, code.split("-")[2])


async def test_a_code_works_once(central: Central) -> None:
    code = await central.code()
    _, csr = pki.make_key_and_csr()
    asked = {"code": code, "csr": csr.decode()}
    async with enroller(central) as client:
        first = await client.post("/enrol", json=asked)
        second = await client.post("/enrol", json=asked)
    assert first.status_code == 200
    given = first.json()
    assert (given["project"], given["gateway"]) == ("demo", "gw1")
    certificate = x509.load_pem_x509_certificate(given["certificate"].encode())
    assert pki.identity(certificate) == ("demo", "gw1")
    life = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=6.9) < life <= timedelta(days=7)
    assert second.status_code == 403
    assert second.json()["code"] == "bad_code"


@pytest.mark.parametrize("how", ["secret", "pin", "form", "empty"])
async def test_a_wrong_code_is_refused(central: Central, how: str) -> None:
    word, secret, pin = (await central.code()).split("-")
    wrong = {
        "secret": f"{word}-{'a' * len(secret)}-{pin}",
        "pin": f"{word}-{secret}-{'a' * len(pin)}",
        "form": secret,
        "empty": "",
    }[how]
    _, csr = pki.make_key_and_csr()
    async with enroller(central) as client:
        answer = await client.post("/enrol", json={"code": wrong, "csr": csr.decode()})
    assert answer.status_code == 403


async def test_a_bad_request_does_not_use_the_code_up(central: Central) -> None:
    code = await central.code()
    key = rsa.generate_private_key(65_537, 2_048)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    rsa_csr = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    _, good = pki.make_key_and_csr()
    async with enroller(central) as client:
        for bad in ("no request", rsa_csr.decode()):
            answer = await client.post("/enrol", json={"code": code, "csr": bad})
            assert answer.status_code == 400
        answer = await client.post("/enrol", json={"code": code, "csr": good.decode()})
    assert answer.status_code == 200


async def test_the_eleventh_try_in_a_minute_is_too_many(central: Central) -> None:
    _, csr = pki.make_key_and_csr()
    wrong = {"code": "spine1-aaaa-bbbb", "csr": csr.decode()}
    async with enroller(central) as client:
        statuses = [(await client.post("/enrol", json=wrong)).status_code for _ in range(11)]
        last = await client.post("/enrol", json=wrong)
    assert statuses == [403] * 10 + [429]
    assert 0 < int(last.headers["retry-after"]) <= 60


async def test_a_huge_request_is_refused(central: Central) -> None:
    async with enroller(central) as client:
        told = await client.post("/enrol", content=b"x" * 200_000)

        async def untold() -> AsyncIterator[bytes]:
            for _ in range(200):
                yield b"x" * 1_000

        streamed = await client.post("/enrol", content=untold())
    assert told.status_code == 413
    assert streamed.status_code in (400, 413)


async def test_a_certificate_is_renewed_for_the_owner_of_its_key(central: Central) -> None:
    gateway = await central.gateway()
    async with enroller(central) as client:
        answer = await client.post("/enrol/renew", json=renewal(gateway))
    assert answer.status_code == 200
    assert answer.json()["gateway"] == "gw1"
    assert pki.fingerprint(answer.json()["certificate"].encode()) != pki.fingerprint(
        gateway.certificate
    )


async def test_an_expired_certificate_is_renewed_and_the_new_one_connects(
    central: Central,
) -> None:
    pem, key = await expired(central, 20)
    roots = Authority.open(central.settings.data).roots_pem
    old = keep_credentials(central.folder / "old", pem, key, roots)
    new_key, csr = pki.make_key_and_csr()
    asked = renewal(old) | {
        "csr": csr.decode(),
        "proof": base64.b64encode(pki.sign_renewal(key, csr)).decode(),
    }
    async with enroller(central) as client:
        answer = await client.post("/enrol/renew", json=asked)
    assert answer.status_code == 200
    given = answer.json()["certificate"].encode()
    fresh = keep_credentials(central.folder / "fresh", given, new_key, roots)
    async with link_peer(central.link_port, fresh.context()) as peer:
        await peer.hello()


async def test_a_certificate_that_ended_long_ago_is_not_renewed(central: Central) -> None:
    pem, key = await expired(central, 31)
    old = keep_credentials(central.folder / "old", pem, key, b"")
    async with enroller(central) as client:
        answer = await client.post("/enrol/renew", json=renewal(old))
    assert answer.status_code == 403
    assert "30 days" in answer.json()["detail"]


async def test_renewal_needs_the_key_of_the_certificate(central: Central) -> None:
    gateway = await central.gateway()
    thief, _ = pki.make_key_and_csr()
    async with enroller(central) as client:
        answer = await client.post("/enrol/renew", json=renewal(gateway, thief))
    assert answer.status_code == 403


async def test_a_revoked_gateway_is_not_renewed(central: Central) -> None:
    gateway = await central.gateway()
    await admin.revoke(central.settings, "demo", "gw1")
    async with enroller(central) as client:
        answer = await client.post("/enrol/renew", json=renewal(gateway))
    assert answer.status_code == 403
    assert "revoked" in answer.json()["detail"]


async def test_errors_are_problems_without_secrets(central: Central) -> None:
    async with enroller(central) as client:
        answers = [
            await client.post("/enrol", json={"code": 1}),
            await client.get("/enrol"),
            await client.get("/nothing"),
            await client.post("/enrol", content=b"{"),
        ]
    assert [answer.status_code for answer in answers] == [422, 405, 404, 422]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
