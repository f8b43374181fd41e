"""Central's certificate authority on disk: the root, and the certificates of its own listeners."""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared import pki

FOLDER: Final = "authority"
DAY_S: Final = 86_400.0


class Authority:
    """The root that signs gateways and listeners; it is made at first use, key mode 0600.

    A server certificate is issued anew at each start, for the names central is reached by.
    """

    def __init__(self, root: pki.Root, folder: Path) -> None:
        self.root = root
        self._folder = folder

    @classmethod
    def open(cls, data: Path) -> "Authority":
        """Load the authority of a data folder, or make it."""
        folder = data / FOLDER
        if (folder / "root.pem").exists():
            return cls(pki.load_root(folder), folder)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        root = pki.make_root("SPINE central")
        pki.save_root(root, folder)
        return cls(root, folder)

    @property
    def roots_pem(self) -> bytes:
        """All roots that are trusted, as PEM."""
        return self.root.pem

    @property
    def pin(self) -> str:
        """The root's pin, the last part of an enrolment code."""
        return pki.root_pin(self.root)

    def listener(self, name: str, names: tuple[str, ...], *, asks_clients: bool) -> "ListenerTls":
        """Make the TLS of one of central's listeners; `asks_clients` for their certificates."""
        return ListenerTls(self, self._folder / name, names, asks_clients=asks_clients)


class ListenerTls:
    """A listener's TLS 1.3 context, whose certificate is issued anew at the start and each day."""

    def __init__(
        self, authority: Authority, path: Path, names: tuple[str, ...], *, asks_clients: bool
    ) -> None:
        self._root = authority.root
        self._names = names
        self._certificate = path.with_suffix(".pem")
        self._key = path.with_suffix(".key")
        self._issue()
        clients = authority.roots_pem if asks_clients else None
        self.context: ssl.SSLContext = pki.server_context(self._certificate, self._key, clients)

    def renew(self) -> None:
        """Issue a new certificate; handshakes from now on show it, sessions that live go on."""
        self._issue()
        self.context.load_cert_chain(self._certificate, self._key)

    def _issue(self) -> None:
        issued = pki.issue_server(self._root, self._names)
        pki.write_private(self._key, issued.key)
        pki.write_private(self._certificate, issued.certificate)


async def renew_daily(listeners: Sequence[ListenerTls]) -> None:
    """Renew the certificates of listeners each day, for ever: a central may run for years."""
    while True:
        await asyncio.sleep(DAY_S)
        for listener in listeners:
            await asyncio.to_thread(listener.renew)


def spki_sha256(certificate: x509.Certificate) -> bytes:
    """Take the SHA-256 of a certificate's public key."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    return digest.finalize()
