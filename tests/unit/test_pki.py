"""Certificates of our own authority open exactly the doors they are for; handshakes are real."""

import asyncio
import re
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from shared import pki
from shared.pki import CertificateRefused


@pytest.fixture(scope="module")
def root() -> pki.Root:
    return pki.make_root("test root")


@dataclass(frozen=True)
class Files:
    certificate: Path
    key: Path


def on_disk(folder: Path, certificate: bytes, key: bytes) -> Files:
    folder.mkdir()
    files = Files(folder / "cert.pem", folder / "key.pem")
    files.certificate.write_bytes(certificate)
    pki.write_private(files.key, key)
    return files


@pytest.fixture
def server_files(root: pki.Root, tmp_path: Path) -> Files:
    issued = pki.issue_server(root, ["localhost", "127.0.0.1", "::1"])
    return on_disk(tmp_path / "server", issued.certificate, issued.key)


def gateway(root: pki.Root, folder: Path, now: datetime | None = None) -> Files:
    key, csr = pki.make_key_and_csr()
    return on_disk(folder, pki.issue_gateway(root, csr, "demo", "gw1", now=now), key)


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server that answers each connection with the fingerprint of the client's certificate."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(pki.fingerprint(der) if der else b"none")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ask(port: int, context: ssl.SSLContext, name: str = "localhost") -> bytes:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=name
        )
        try:
            return await reader.read()
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def answer_or_error(port: int, context: ssl.SSLContext) -> bytes | str:
    """In TLS 1.3 a client may learn only after its own handshake that it was refused."""
    try:
        return await ask(port, context)
    except (ssl.SSLError, ConnectionError):
        return "refused"


async def test_a_gateway_of_ours_is_known_by_its_fingerprint(
    root: pki.Root, server_files: Files, tmp_path: Path
) -> None:
    mine = gateway(root, tmp_path / "gateway")
    context = pki.client_context(root.pem, mine.certificate, mine.key)
    async with serving(
        pki.server_context(server_files.certificate, server_files.key, root.pem)
    ) as port:
        told = await ask(port, context)
        assert told == await ask(port, context, "127.0.0.1")
    assert told == pki.fingerprint(mine.certificate.read_bytes())


AGES = {"expired": -timedelta(days=8), "not_yet": timedelta(hours=2)}


@pytest.mark.parametrize("who", ["nobody", "foreign", "expired", "not_yet", "server"])
async def test_any_other_client_is_refused_by_the_handshake(
    who: str, root: pki.Root, server_files: Files, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    files: Files | None = None
    if who == "foreign":
        files = gateway(pki.make_root("test root"), tmp_path / "g")
    elif who == "server":
        files = server_files
    elif who != "nobody":
        files = gateway(root, tmp_path / "g", now + AGES[who])
    context = pki.client_context(root.pem)
    if files:
        context.load_cert_chain(files.certificate, files.key)
    async with serving(
        pki.server_context(server_files.certificate, server_files.key, root.pem)
    ) as port:
        assert await answer_or_error(port, context) in {b"", "refused"}


async def test_a_gateway_whose_clock_is_behind_can_use_its_new_certificate(
    root: pki.Root, server_files: Files, tmp_path: Path
) -> None:
    ahead = gateway(root, tmp_path / "g", datetime.now(UTC) + timedelta(minutes=50))
    context = pki.client_context(root.pem, ahead.certificate, ahead.key)
    async with serving(
        pki.server_context(server_files.certificate, server_files.key, root.pem)
    ) as port:
        assert len(await ask(port, context)) == 32


async def test_two_roots_are_trusted_while_one_replaces_the_other(
    root: pki.Root, server_files: Files, tmp_path: Path
) -> None:
    newer = pki.make_root("newer")
    both = root.pem + newer.pem
    async with serving(
        pki.server_context(server_files.certificate, server_files.key, both)
    ) as port:
        for name, issuer in (("a", root), ("b", newer)):
            files = gateway(issuer, tmp_path / name)
            context = pki.client_context(both, files.certificate, files.key)
            assert len(await ask(port, context)) == 32


async def test_a_listener_without_client_roots_asks_for_no_certificate(
    root: pki.Root, server_files: Files
) -> None:
    async with serving(
        pki.server_context(server_files.certificate, server_files.key, None)
    ) as port:
        assert await ask(port, pki.client_context(root.pem)) == b"none"


async def test_a_server_of_another_root_or_name_is_refused(
    root: pki.Root, server_files: Files
) -> None:
    async with serving(
        pki.server_context(server_files.certificate, server_files.key, None)
    ) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(port, pki.client_context(pki.make_root("other").pem))
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(port, pki.client_context(root.pem), "central.example")


async def test_tls_1_2_is_refused(root: pki.Root, server_files: Files) -> None:
    context = ssl.create_default_context(cadata=root.pem.decode())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(
        pki.server_context(server_files.certificate, server_files.key, None)
    ) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(port, context)


def test_identity_is_the_subject_that_central_wrote(root: pki.Root) -> None:
    _, csr = pki.make_key_and_csr()
    issued = pki.load_certificate(pki.issue_gateway(root, csr, "demo", "gw1"))
    assert pki.identity(issued) == ("demo", "gw1")


def test_a_gateway_certificate_lasts_a_week_and_is_renewed_from_half(root: pki.Root) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    _, csr = pki.make_key_and_csr()
    pem = pki.issue_gateway(root, csr, "demo", "gw1", now=now)
    issued = pki.load_certificate(pem)
    assert issued.not_valid_after_utc == now + timedelta(days=7)
    assert issued.not_valid_before_utc == now - pki.CLOCK_SKEW
    assert pki.renew_at(pem) == now + timedelta(days=3.5)


def test_serial_numbers_are_random(root: pki.Root) -> None:
    _, csr = pki.make_key_and_csr()
    serials = {
        pki.load_certificate(pki.issue_gateway(root, csr, "demo", "gw1")).serial_number
        for _ in range(20)
    }
    assert len(serials) == 20
    assert min(serials) > 2**64


def test_a_fingerprint_is_that_of_the_der_in_any_clothes(root: pki.Root) -> None:
    der = root.certificate.public_bytes(serialization.Encoding.DER)
    assert (
        pki.fingerprint(der)
        == pki.fingerprint(root.pem)
        == root.certificate.fingerprint(hashes.SHA256())
    )


def test_a_pin_finds_its_root_among_others(root: pki.Root) -> None:
    other = pki.make_root("other")
    pin = pki.root_pin(root)
    assert re.fullmatch(r"[a-z2-7]{26}", pin)
    assert pki.find_pinned(other.pem + root.pem, pin) == root.pem
    with pytest.raises(CertificateRefused, match="no root certificate"):
        pki.find_pinned(other.pem, pin)
    with pytest.raises(CertificateRefused, match="no PEM certificates"):
        pki.find_pinned(b"<html>", pin)


def test_a_root_comes_back_from_its_folder(root: pki.Root, tmp_path: Path) -> None:
    pki.save_root(root, tmp_path / "ca")
    again = pki.load_root(tmp_path / "ca")
    assert again.pem == root.pem
    assert again.key.private_numbers() == root.key.private_numbers()
    assert stat.S_IMODE((tmp_path / "ca" / "root.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "ca").iterdir()) == ["root.key", "root.pem"]


def test_a_root_with_the_key_of_another_is_refused(root: pki.Root, tmp_path: Path) -> None:
    pki.save_root(root, tmp_path)
    (tmp_path / "root.pem").write_bytes(pki.make_root("other").pem)
    with pytest.raises(CertificateRefused, match="not the key of"):
        pki.load_root(tmp_path)


def test_a_secret_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    pki.write_private(path, b"old")
    with pytest.raises(TypeError):
        pki.write_private(path, "text")  # type: ignore[arg-type]  # makes the write fail
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["secret"]


def test_keys_do_not_show_in_reprs(root: pki.Root) -> None:
    issued = pki.issue_server(root, ["localhost"])
    assert b"PRIVATE" in issued.key
    assert "PRIVATE" not in repr(issued)
    assert "PrivateKey" not in repr(root)


def test_the_owner_of_the_last_certificate_can_renew_it_even_expired(root: pki.Root) -> None:
    key, csr = pki.make_key_and_csr()
    past = datetime.now(UTC) - timedelta(days=20)
    last = pki.issue_gateway(root, csr, "demo", "gw1", now=past)
    newer = pki.make_csr(key)
    pki.verify_renewal_proof(
        last,
        newer,
        pki.sign_renewal(key, newer),
        [pki.make_root("x").certificate, root.certificate],
    )


def test_a_renewal_with_a_new_key_is_proved_by_the_old_one(root: pki.Root) -> None:
    key, csr = pki.make_key_and_csr()
    last = pki.issue_gateway(root, csr, "demo", "gw1")
    _, newer = pki.make_key_and_csr()
    pki.verify_renewal_proof(last, newer, pki.sign_renewal(key, newer), [root.certificate])


def test_a_proof_by_another_key_or_for_another_request_is_refused(root: pki.Root) -> None:
    key, csr = pki.make_key_and_csr()
    last = pki.issue_gateway(root, csr, "demo", "gw1")
    thief, newer = pki.make_key_and_csr()
    for proof in (pki.sign_renewal(thief, newer), pki.sign_renewal(key, csr), b"", bytes(72)):
        with pytest.raises(CertificateRefused, match="proof"):
            pki.verify_renewal_proof(last, newer, proof, [root.certificate])


def test_a_certificate_of_another_authority_is_not_renewed(root: pki.Root) -> None:
    key, csr = pki.make_key_and_csr()
    last = pki.issue_gateway(pki.make_root("test root"), csr, "demo", "gw1")
    with pytest.raises(CertificateRefused, match="not issued by this authority"):
        pki.verify_renewal_proof(last, csr, pki.sign_renewal(key, csr), [root.certificate])


def csr_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_only_p_256_keys_get_certificates(root: pki.Root) -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65_537, 2_048)):
        with pytest.raises(CertificateRefused, match="not ECDSA P-256"):
            pki.issue_gateway(root, csr_of(key), "demo", "gw1")


def test_a_request_that_was_changed_is_refused(root: pki.Root) -> None:
    _, csr = pki.make_key_and_csr()
    der = bytearray(x509.load_pem_x509_csr(csr).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    changed = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CertificateRefused, match="not signed by its own key"):
        pki.issue_gateway(root, changed, "demo", "gw1")


@pytest.mark.parametrize("junk", [b"", b"junk", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_junk_is_refused_with_our_error(root: pki.Root, junk: bytes) -> None:
    with pytest.raises(CertificateRefused):
        pki.issue_gateway(root, junk, "demo", "gw1")
    with pytest.raises(CertificateRefused):
        pki.load_certificate(junk)
    with pytest.raises(CertificateRefused):
        pki.load_key(junk)


def test_names_that_no_certificate_can_carry_are_refused(root: pki.Root) -> None:
    _, csr = pki.make_key_and_csr()
    with pytest.raises(CertificateRefused, match="cannot be a subject"):
        pki.issue_gateway(root, csr, "demo", "g" * 65)
    with pytest.raises(CertificateRefused, match="needs a host name"):
        pki.issue_server(root, [])
