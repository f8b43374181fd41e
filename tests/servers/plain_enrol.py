"""Enrolment and renewal, written from `docs/reference/link.md` alone; imports nothing of ours.

The functions block: call them through `asyncio.to_thread`.
"""

import base64
import hashlib
import http.client
import json
import re
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ANSWER_S = 30.0
Where = tuple[str, int]


class EnrolmentRefused(Exception):
    """Central gave no certificate; `status` is the HTTP status, 0 where the pin does not match."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"enrolment refused ({status}): {detail}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Identity:
    """What enrolment leaves behind: PEM texts and the names central gave."""

    key: ec.EllipticCurvePrivateKey
    certificate: str
    roots: str
    project: str
    gateway: str

    def trust(self) -> ssl.SSLContext:
        """Give the TLS of a session: TLS 1.3 and no other, central's roots and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self.roots)
        return context

    def context(self, folder: Path) -> ssl.SSLContext:
        """Give the same with the client certificate, which `ssl` reads from files only."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{secrets.token_hex(8)}.pem"
        path.touch(mode=0o600)
        path.write_text(pem_of(self.key) + self.certificate)
        context = self.trust()
        context.load_cert_chain(path)
        path.unlink()
        return context


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def new_csr(key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    """Ask for a certificate; central ignores the subject."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(csr: x509.CertificateSigningRequest) -> str:
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def ask(
    where: Where, context: ssl.SSLContext, path: str, body: dict[str, Any] | None = None
) -> str:
    """GET, or POST where there is a body; give the text of the answer."""
    connection = http.client.HTTPSConnection(*where, timeout=ANSWER_S, context=context)
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        content = json.dumps(body) if body else None
        connection.request("POST" if body else "GET", path, content, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status != 200:
        raise EnrolmentRefused(answer.status, text)
    return text


def pinned_root(where: Where, pin: str) -> str:
    """Fetch the roots without trust and give the one that the code's pin names."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    for root in x509.load_pem_x509_certificates(ask(where, anybody, "/enrol/ca").encode()):
        digest = hashlib.sha256(root.public_bytes(serialization.Encoding.DER)).digest()
        if base64.b32encode(digest).decode().lower()[:26] == pin:
            return root.public_bytes(serialization.Encoding.PEM).decode()
    raise EnrolmentRefused(0, "no root of this server has the pin of the code")


def enrol(where: Where, code: str) -> Identity:
    """Turn a one-time code into an identity; blocks."""
    found = re.fullmatch(r"spine1-([a-z2-7]{16})-([a-z2-7]{26})", code)
    if found is None:
        raise EnrolmentRefused(0, "this is not a code")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pinned_root(where, found[2]))
    key = new_key()
    answer = json.loads(ask(where, context, "/enrol", {"code": code, "csr": pem(new_csr(key))}))
    return Identity(key, **answer)


def renew(where: Where, old: Identity) -> Identity:
    """Exchange the last certificate for a new one with a new key; blocks."""
    key = new_key()
    csr = new_csr(key)
    proof = old.key.sign(csr.public_bytes(serialization.Encoding.DER), ec.ECDSA(hashes.SHA256()))
    body = {
        "csr": pem(csr),
        "certificate": old.certificate,
        "proof": base64.b64encode(proof).decode(),
    }
    return Identity(key, **json.loads(ask(where, old.trust(), "/enrol/renew", body)))
