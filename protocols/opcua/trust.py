"""Certificates of both sides: thumbprints that a person compares, and the gateway's own identity.

A server is trusted by the thumbprint that a person wrote into the device's options after looking at
it, and by nothing else: no authority, no date. Source: OPC UA Part 6, 6.2 (certificates).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.errors import OptionsWrong

KEY_BITS: Final = 2048
"""What every security policy takes; older devices take no more."""
IDENTITY_DAYS: Final = 20 * 365
"""A device on site outlives every year's appointment to renew; who trusts it, trusts this key."""
MOST_PINS: Final = 8
_CLOCK_SKEW: Final = timedelta(days=1)
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_SHA1_DIGITS: Final = 40
_KEY: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL
)


class ThumbprintWrong(ValueError):
    """What was written is no SHA-256 thumbprint."""


class Untrusted(OptionsWrong):
    """A server presents a certificate that nobody accepted yet; `thumbprint` is what to compare."""

    def __init__(self, where: str, presented: "Presented") -> None:
        """Say what was presented and how it is accepted."""
        self.thumbprint = presented.thumbprint
        super().__init__(
            f"{where}: the server presents a certificate that nobody accepted yet: {presented}. "
            f"Compare it at the server; if it is right, set server_certificate to "
            f"{presented.thumbprint}"
        )


@dataclass(frozen=True, slots=True)
class Presented:
    """A certificate that a server shows, read for people."""

    certificate: x509.Certificate

    @property
    def thumbprint(self) -> str:
        """The SHA-256 thumbprint in lower-case hexadecimal digits."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def thumbprint_sha1(self) -> str:
        """The SHA-1 thumbprint, which many servers' tools show."""
        return self.certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - shown, not relied on

    def __str__(self) -> str:
        until = self.certificate.not_valid_after_utc.date().isoformat()
        subject = self.certificate.subject.rfc4514_string()[:200]
        prints = f"SHA-256 {self.thumbprint}, SHA-1 {self.thumbprint_sha1}"
        return f"{subject!r}, {prints}, until {until}"


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def application_uri(self) -> str | None:
        """The application URI that the certificate speaks for."""
        try:
            names = self.certificate.extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            ).value
        except x509.ExtensionNotFound:
            return None
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        return uris[0] if uris else None


def thumbprints_in(text: str) -> frozenset[str]:
    """Read SHA-256 thumbprints separated by commas; raises `ThumbprintWrong`."""
    found = [_plain(part) for part in text.split(",") if part.strip()]
    if len(found) > MOST_PINS:
        msg = f"at most {MOST_PINS} thumbprints"
        raise ThumbprintWrong(msg)
    return frozenset(found)


def _plain(text: str) -> str:
    digits = re.sub(r"[\s:]", "", text).lower().removeprefix("sha-256").removeprefix("sha256")
    if len(digits) == _SHA1_DIGITS:
        msg = "this is a SHA-1 thumbprint; take the SHA-256 one (64 digits)"
        raise ThumbprintWrong(msg)
    if not _HEX.fullmatch(digits):
        msg = "a SHA-256 thumbprint has 64 hexadecimal digits"
        raise ThumbprintWrong(msg)
    return digits


def load_presented(der: bytes) -> Presented | None:
    """Read a server's certificate, the first of a chain; None if it is none."""
    length = int.from_bytes(der[2:4], "big") + 4
    try:
        return Presented(x509.load_der_x509_certificate(der[:length]))
    except (ValueError, UnsupportedAlgorithm):
        return None


def load_identity(pem: str, option: str) -> Identity:
    """Read a certificate and its RSA key from one PEM text; raises `OptionsWrong`."""
    data = pem.encode()
    try:
        certificate = x509.load_pem_x509_certificate(data)
        key = serialization.load_pem_private_key(
            _key_part(pem), None, unsafe_skip_rsa_key_validation=True
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        msg = f"{option}: needs a certificate and its private key as PEM, without a pass phrase"
        raise OptionsWrong(msg) from error
    if not isinstance(key, rsa.RSAPrivateKey) or not KEY_BITS <= key.key_size <= 2 * KEY_BITS:
        msg = f"{option}: OPC UA needs an RSA key of {KEY_BITS} to {2 * KEY_BITS} bits"
        raise OptionsWrong(msg)
    if certificate.public_key() != key.public_key():
        msg = f"{option}: the private key is not the certificate's"
        raise OptionsWrong(msg)
    return Identity(certificate, key)


def _key_part(pem: str) -> bytes:
    found = _KEY.search(pem)
    return found[0].encode() if found else b""


def make_identity(host: str, application_uri: str, days: int = IDENTITY_DAYS) -> str:
    """Make a self-signed application certificate and its key, as one PEM text. Takes a second."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=KEY_BITS)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"SPINE gateway {host}"[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPINE"),
        ]
    )
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )
    for extension, is_critical in _extensions(host, application_uri, key.public_key()):
        certificate = certificate.add_extension(extension, is_critical)
    signed = certificate.sign(key, hashes.SHA256())
    written = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return (signed.public_bytes(serialization.Encoding.PEM) + written).decode()


def _extensions(
    host: str, application_uri: str, key: rsa.RSAPublicKey
) -> list[tuple[x509.ExtensionType, bool]]:
    alternatives = [x509.UniformResourceIdentifier(application_uri), x509.DNSName(host)]
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    # Part 6, table 43: an application certificate that signs itself says so.
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    return [
        (x509.SubjectAlternativeName(alternatives), False),
        (usage, True),
        (x509.ExtendedKeyUsage(uses), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (identifier, False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    ]
