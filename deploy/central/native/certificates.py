"""A stack's own root, and an identity (key and certificate in one PEM file) for each who asks.

The root signs for this stack alone; who has its folder can be anyone in it.
"""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.central.native.service import HOST, Stack
from deploy.central.native.state import StateFile
from shared.pki import Root, load_certificate, load_root, make_root, save_root, write_private

ORGANISATION: Final = "spine-stack"
"""Stands in every subject beside the name; servers take the name of no other for one of theirs."""
_DAYS: Final = 825
_RENEW: Final = timedelta(days=30)


def root_path(stack: Stack) -> Path:
    """Give the root certificate, made where there is none."""
    folder = stack.folder / "pki"
    # Services start beside each other, and each asks: of two roots one would fit no certificate.
    with StateFile(stack.folder).locked("pki"):
        if not (folder / "root.pem").exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            save_root(make_root("stack"), folder)
    return folder / "root.pem"


def identity_path(stack: Stack, name: str) -> Path:
    """Give the identity of a server or client by its name, made where it is missing or old."""
    root = load_root(root_path(stack).parent)
    path = stack.folder / "pki" / f"{name}.pem"
    if not path.exists() or _is_old(path):
        write_private(path, make_identity(root, name))
    return path


def make_identity(root: Root, name: str) -> bytes:
    """Make a key and a certificate that its holder may serve with on loopback, and show to others.

    One for both: a broker is a client of its fellows with the certificate it serves with.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    signed = _builder(root, name, key.public_key()).sign(root.key, hashes.SHA256())
    return secret + signed.public_bytes(serialization.Encoding.PEM)


def _builder(root: Root, name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(root.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_DAYS))
    )
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(issuer, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _is_old(path: Path) -> bool:
    ends = load_certificate(path.read_bytes()).not_valid_after_utc
    return ends - _RENEW < datetime.now(UTC)
