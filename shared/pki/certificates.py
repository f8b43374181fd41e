"""Reading certificates: who they name, who issued them, their fingerprints and pins."""

import base64
import hashlib
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from shared.errors import SpineError

CLOCK_SKEW: Final = timedelta(hours=1)
"""Certificates begin this long before they are issued: a gateway's clock may be behind."""
PIN_LENGTH: Final = 26


class CertificateRefused(SpineError):
    """A certificate, request, key or proof cannot be used; the text says why."""


def load_certificate(data: bytes) -> x509.Certificate:
    """Read a certificate from PEM (the first of a chain) or DER."""
    try:
        if data.lstrip().startswith(b"-----"):
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise CertificateRefused(f"not a certificate: {error}") from error


def identity(certificate: x509.Certificate) -> tuple[str, str]:
    """Tell (project, gateway) from a gateway certificate's subject; empty where it has none."""
    return (
        _first(certificate.subject, NameOID.ORGANIZATION_NAME),
        _first(certificate.subject, NameOID.COMMON_NAME),
    )


def fingerprint(certificate: bytes) -> bytes:
    """Take the SHA-256 of a certificate's DER, given as DER or PEM; 32 bytes."""
    der = certificate
    if certificate.lstrip().startswith(b"-----"):
        der = load_certificate(certificate).public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(der).digest()


def pin_of(root: x509.Certificate) -> str:
    """Take the pin of a root certificate: 26 characters of base32 of the SHA-256 of its DER."""
    digest = hashlib.sha256(root.public_bytes(serialization.Encoding.DER)).digest()
    return base64.b32encode(digest).decode().lower()[:PIN_LENGTH]


def find_pinned(roots_pem: bytes, pin: str) -> bytes:
    """Find the root with this pin in a PEM of several; raises `CertificateRefused` if none has."""
    try:
        roots = x509.load_pem_x509_certificates(roots_pem)
    except ValueError as error:
        raise CertificateRefused(f"the server sent no PEM certificates: {error}") from error
    for root in roots:
        if pin_of(root) == pin:
            return root.public_bytes(serialization.Encoding.PEM)
    raise CertificateRefused("no root certificate of the server matches the code's pin")


def renew_at(certificate: bytes) -> datetime:
    """Tell when to renew: half of the certificate's life after it was issued."""
    loaded = load_certificate(certificate)
    begins = loaded.not_valid_before_utc + CLOCK_SKEW
    return begins + (loaded.not_valid_after_utc - begins) / 2


def is_issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    """Tell whether a root's key signed a certificate; its dates are not looked at."""
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _first(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    for attribute in name.get_attributes_for_oid(oid):
        return str(attribute.value)
    return ""
