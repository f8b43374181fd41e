"""Central's certificate authority on disk."""

import ssl
import stat
from pathlib import Path

from cryptography import x509

from central.ingress.authority import Authority, ListenerTls
from shared import pki


def shown(listener: ListenerTls, roots: bytes) -> x509.Certificate:
    """Do a handshake in memory; give the certificate the listener showed."""
    into_client, into_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = pki.client_context(roots).wrap_bio(
        into_client, into_server, server_hostname="localhost"
    )
    server = listener.context.wrap_bio(into_server, into_client, server_side=True)
    pending = [client, server]
    while pending:
        for side in list(pending):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(side)
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_the_root_is_made_once_and_only_its_owner_reads_the_key(tmp_path: Path) -> None:
    first = Authority.open(tmp_path)
    second = Authority.open(tmp_path)
    assert (first.pin, first.roots_pem) == (second.pin, second.roots_pem)
    assert stat.S_IMODE((tmp_path / "authority" / "root.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "authority").stat().st_mode) == 0o700


def test_a_renewed_listener_shows_its_new_certificate_without_a_restart(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    listener = authority.listener("enrol", ("localhost",), asks_clients=False)
    before = shown(listener, authority.roots_pem)
    assert shown(listener, authority.roots_pem).serial_number == before.serial_number
    listener.renew()
    assert shown(listener, authority.roots_pem).serial_number != before.serial_number
