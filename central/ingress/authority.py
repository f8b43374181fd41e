"""Central's certificate authority on disk: the root, and the certificates of its own listeners."""

import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared import pki

FOLDER: Final = "authority"


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

    def listener_context(self, names: tuple[str, ...], *, with_clients: bool) -> ssl.SSLContext:
        """Issue a server certificate and make a TLS 1.3 context; `with_clients` asks for theirs."""
        name = "link" if with_clients else "enrol"
        issued = pki.issue_server(self.root, names)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        pki.write_private(key, issued.key)
        pki.write_private(certificate, issued.certificate)
        return pki.server_context(certificate, key, self.roots_pem if with_clients else None)


def spki_sha256(certificate: x509.Certificate) -> bytes:
    """Take the SHA-256 of a certificate's public key."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    return digest.finalize()
