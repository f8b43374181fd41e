"""TLS contexts of both sides: TLS 1.3, strict verification, our own roots alone."""

import ssl
from pathlib import Path


def server_context(certificate: Path, key: Path, client_roots: bytes | None) -> ssl.SSLContext:
    """Make a server's context; with `client_roots` (PEM) it requires a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    if client_roots is not None:
        context.load_verify_locations(cadata=client_roots.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def client_context(
    roots: bytes,
    certificate: Path | None = None,
    key: Path | None = None,
    password: bytes | None = None,
) -> ssl.SSLContext:
    """Make a client's TLS 1.3 context that trusts `roots` (PEM) alone and checks the host name.

    `password` is that of the key; one that is locked and has none raises, and asks nobody.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=roots.decode())
    if certificate is not None:
        context.load_cert_chain(certificate, key, password or b"")
    return context
