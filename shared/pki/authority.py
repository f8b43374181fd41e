"""The certificate authority: its root, and the server and gateway certificates it issues."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.pki.certificates import (
    CLOCK_SKEW,
    CertificateRefused,
    fingerprint,
    load_certificate,
    pin_of,
)
from shared.pki.files import write_private, write_whole
from shared.pki.keys import key_pem_of, load_key, public_key_of

GATEWAY_DAYS: Final = 7
SERVER_DAYS: Final = 90
ROOT_DAYS: Final = 3650
_AUTHORITY: Final = "SPINE"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, as PEM. Never log the key."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"Issued({fingerprint(self.certificate).hex()})"


@dataclass(frozen=True, slots=True)
class Root:
    """A certificate authority: its certificate and the key that signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The root certificate as PEM, for peers to trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def __repr__(self) -> str:
        return f"Root({root_pin(self)})"


def root_pin(root: Root) -> str:
    """Take the pin by which an enrolment code names this root."""
    return pin_of(root.certificate)


def make_root(name: str, days: int = ROOT_DAYS) -> Root:
    """Make a new root; it signs leaves only, no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(project=_AUTHORITY, name=name)
    builder = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(_authority(key.public_key()), critical=False)
    )
    return Root(builder.sign(key, hashes.SHA256()), key)


def save_root(root: Root, folder: Path) -> None:
    """Write `root.pem` and `root.key` (mode 0600), the key first, each as a whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_private(folder / "root.key", key_pem_of(root.key))
    write_whole(folder / "root.pem", root.pem, 0o644)


def load_root(folder: Path) -> Root:
    """Read what `save_root` wrote; raises `CertificateRefused` if key and certificate differ."""
    certificate = load_certificate((folder / "root.pem").read_bytes())
    key = load_key((folder / "root.key").read_bytes())
    if certificate.public_key() != key.public_key():
        raise CertificateRefused(f"{folder}: root.key is not the key of root.pem")
    return Root(certificate, key)


def issue_server(
    root: Root, names: Sequence[str], days: int = SERVER_DAYS, *, now: datetime | None = None
) -> Issued:
    """Issue a server certificate and its key for host names and IP addresses."""
    if not names:
        raise CertificateRefused("a server certificate needs a host name or an IP address")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(project=_AUTHORITY, name=names[0][:64])
    builder = _for_names(_leaf(root, subject, key.public_key(), days, now), names)
    return Issued(_signed(root, builder), key_pem_of(key))


def issue_self_signed(names: Sequence[str], days: int) -> Issued:
    """Issue a server certificate that no authority vouches for: people compare its fingerprint."""
    if not names:
        raise CertificateRefused("a server certificate needs a host name or an IP address")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(project=_AUTHORITY, name=names[0][:64])
    builder = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
    )
    certificate = _for_names(builder, names).sign(key, hashes.SHA256())
    return Issued(certificate.public_bytes(serialization.Encoding.PEM), key_pem_of(key))


def _for_names(builder: x509.CertificateBuilder, names: Sequence[str]) -> x509.CertificateBuilder:
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    return builder.add_extension(alternatives, critical=False).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
    )


def issue_gateway(
    root: Root,
    csr_pem: bytes,
    project: str,
    gateway: str,
    days: float = GATEWAY_DAYS,
    *,
    now: datetime | None = None,
) -> bytes:
    """Issue a gateway's client certificate as PEM; the request's own subject is ignored.

    Raises `CertificateRefused` unless the request is signed by its own P-256 key.
    """
    key = public_key_of(csr_pem)
    builder = _leaf(root, _name(project=project, name=gateway), key, days, now).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
    )
    return _signed(root, builder)


def _leaf(
    root: Root,
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: float,
    now: datetime | None,
) -> x509.CertificateBuilder:
    return (
        _builder(subject, root.certificate.subject, key, days, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(_authority(root.key.public_key()), critical=False)
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: float,
    now: datetime | None = None,
) -> x509.CertificateBuilder:
    at = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - CLOCK_SKEW)
        .not_valid_after(at + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _signed(root: Root, builder: x509.CertificateBuilder) -> bytes:
    certificate = builder.sign(root.key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(project: str, name: str) -> x509.Name:
    try:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, project),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
    except ValueError as error:
        raise CertificateRefused(f"{project!r}, {name!r} cannot be a subject: {error}") from error


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
