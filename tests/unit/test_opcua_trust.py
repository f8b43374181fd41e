"""Certificates: the gateway's own, and what is said of a server's."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from protocols.opcua.trust import (
    Presented,
    Untrusted,
    load_identity,
    load_presented,
    make_identity,
)
from shared.errors import OptionsWrong


@pytest.fixture(scope="module")
def pem() -> str:
    return make_identity("gateway.local", "urn:gateway.local:spine")


def test_a_made_identity_is_what_servers_ask_of_a_client(pem: str) -> None:
    identity = load_identity(pem, "identity")
    assert identity.application_uri == "urn:gateway.local:spine"
    assert identity.key.key_size == 2_048
    extensions = identity.certificate.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.data_encipherment
    assert usage.key_encipherment
    assert usage.content_commitment
    extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.CLIENT_AUTH in extended
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway.local"]
    identity.certificate.verify_directly_issued_by(identity.certificate)


def test_an_identity_does_not_show_its_key(pem: str) -> None:
    assert "PRIVATE" not in repr(load_identity(pem, "identity"))


def test_the_first_certificate_of_a_chain_is_the_servers(pem: str) -> None:
    certificate = load_identity(pem, "identity").certificate
    der = certificate.public_bytes(serialization.Encoding.DER)
    presented = load_presented(der + b"whatever follows")
    assert presented is not None
    assert presented.thumbprint == certificate.fingerprint(hashes.SHA256()).hex()
    assert presented.thumbprint in str(presented)
    assert load_presented(b"") is None
    assert load_presented(b"nonsense") is None


def test_an_unknown_certificate_is_told_with_how_to_accept_it(pem: str) -> None:
    presented = Presented(load_identity(pem, "identity").certificate)
    error = Untrusted("opc.tcp://plc", presented)
    assert error.thumbprint == presented.thumbprint
    assert f"set server_certificate to {presented.thumbprint}" in str(error)


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def test_an_identity_that_cannot_work_says_why(pem: str) -> None:
    certificate = pem[: pem.index("-----BEGIN PRIVATE KEY")]
    other = _pem(rsa.generate_private_key(65_537, 2_048))
    small = _pem(rsa.generate_private_key(65_537, 1_024))  # noqa: S505 - wrong on purpose
    curve = _pem(ec.generate_private_key(ec.SECP256R1()))
    wrong = {
        "needs a certificate and its private key": ["", "x", certificate, other, "***"],
        "RSA key of 2048 to 4096 bits": [certificate + curve, certificate + small],
        "is not the certificate's": [certificate + other],
    }
    for problem, texts in wrong.items():
        for text in texts:
            with pytest.raises(OptionsWrong, match=problem):
                load_identity(text, "identity")
