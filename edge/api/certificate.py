"""The API's own certificate: signed by itself, kept encrypted, known by its thumbprint."""

import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from edge.vault import Vault
from shared import pki
from shared.logs import get

FILE: Final = "api.pem"
PURPOSE: Final = "api"
DAYS: Final = 800
"""Phones refuse certificates that are valid for longer than 825 days."""

RENEW_DAYS: Final = 30

_log = get("api")


def names_of(host: str, allowed_hosts: Sequence[str]) -> list[str]:
    """List the names and addresses that the certificate is for."""
    found = {socket.gethostname(), "localhost", "127.0.0.1", *allowed_hosts}
    return sorted(found | ({host} - {"0.0.0.0", "::"}))  # noqa: S104 - compared, not bound


def ensured(data: Path, names: Sequence[str], vault: Vault) -> Path:
    """Keep the certificate that is there as long as it will do, else make another one. Blocks."""
    path = data / FILE
    try:
        held = path.read_bytes()
        pki.load_key(held, vault.derived(PURPOSE))
        if _will_do(pki.load_certificate(_certificate_in(held)), names):
            return path
    except (FileNotFoundError, ValueError, pki.CertificateRefused):
        pass
    issued = pki.issue_self_signed(names, DAYS)
    key = pki.lock_key(issued.key, vault.derived(PURPOSE))
    pki.write_private(path, key.rstrip() + b"\n" + issued.certificate)
    thumbprint = pki.fingerprint(issued.certificate).hex()
    _log.warning("the local API has a new certificate", thumbprint=thumbprint, names=list(names))
    return path


def own_certificate(data: Path) -> bytes | None:
    """Read the certificate as PEM; None where the API has none. Blocks."""
    path = data / FILE
    return _certificate_in(path.read_bytes()) if path.exists() else None


def server_context(path: Path, vault: Vault) -> ssl.SSLContext:
    """Make the TLS context of the API. Blocks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(path, password=vault.derived(PURPOSE))
    return context


def _certificate_in(held: bytes) -> bytes:
    return held[held.index(b"-----BEGIN CERTIFICATE-----") :]


def _will_do(certificate: x509.Certificate, names: Sequence[str]) -> bool:
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    held = {str(one.value) for one in found.value}
    return left > timedelta(days=RENEW_DAYS) and set(names) <= held
