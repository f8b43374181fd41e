"""The gateway's certificate: how it is got with a one-time code, kept, and renewed in time.

The protocol is the last part of docs/reference/link.md. The key is made here and never leaves.
"""

import asyncio
import base64
import json
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from edge.vault import Vault
from shared import pki
from shared.backoff import Backoff
from shared.errors import SpineError
from shared.logs import get

IDENTITY_FILE: Final = "identity.pem"
"""Key and certificate chain in one file, so that they change together or not at all."""

ROOTS_FILE: Final = "roots.pem"
PURPOSE: Final = "identity"
TIMEOUT_S: Final = 15.0
ANSWER_BYTES: Final = 256 * 1024
CHECK_S: Final = 3_600.0

_CODE: Final = re.compile(r"spine1-[a-z2-7]{16}-([a-z2-7]{26})")

_log = get("enrolment")


class NotEnrolled(SpineError):
    """The gateway has no certificate."""


class EnrolmentRefused(SpineError):
    """Central does not give a certificate, or cannot be reached for one."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The files that say who this gateway is."""

    folder: Path
    vault: Vault

    @classmethod
    def load(cls, folder: Path, vault: Vault | None = None) -> "Identity":
        """Find the identity in the data folder; raises `NotEnrolled` with what to do. Blocks.

        `vault` is that of the folder unless told otherwise. A key that an older version left in the
        clear is encrypted.
        """
        if not all((folder / name).exists() for name in (IDENTITY_FILE, ROOTS_FILE)):
            msg = (
                f"this gateway is not enrolled (no {IDENTITY_FILE} in {folder}): get a code from"
                " central and run `python -m edge enrol --config FILE --code CODE`"
            )
            raise NotEnrolled(msg)
        identity = cls(folder, vault or Vault.find(folder))
        identity._secure()
        return identity

    @property
    def password(self) -> bytes:
        """What the key at rest is encrypted with."""
        return self.vault.derived(PURPOSE)

    def gateway(self) -> str:
        """Tell the name that the certificate gives this gateway."""
        held = (self.folder / IDENTITY_FILE).read_bytes()
        return pki.identity(pki.load_certificate(held))[1]

    def _secure(self) -> None:
        held = (self.folder / IDENTITY_FILE).read_bytes()
        try:
            if pki.is_locked(held):
                pki.load_key(held, self.password)
                return
            locked = _locked(held, self.vault)
        except (pki.CertificateRefused, ValueError) as error:
            msg = (
                f"{self.folder / IDENTITY_FILE} cannot be opened: it was encrypted under another"
                " master key, or is damaged; bring the master key back, or enrol with a new code"
            )
            raise NotEnrolled(msg) from error
        try:
            pki.write_private(self.folder / IDENTITY_FILE, locked)
        except OSError as error:
            _log.warning("the key of this gateway is not encrypted yet", error=str(error))
        else:
            _log.info("the key of this gateway is encrypted from now on")

    def link_context(self) -> ssl.SSLContext:
        """Make a TLS context with the newest certificate."""
        identity = self.folder / IDENTITY_FILE
        return pki.client_context(self._roots(), identity, password=self.password)

    def _roots(self) -> bytes:
        return (self.folder / ROOTS_FILE).read_bytes()

    async def keep_fresh(self, base_url: str) -> None:
        """Renew the certificate from half of its life on, and also after it has expired."""
        backoff = Backoff(base_s=60.0, cap_s=CHECK_S)
        while True:
            pause_s = CHECK_S
            if datetime.now(UTC) >= pki.renew_at((self.folder / IDENTITY_FILE).read_bytes()):
                pause_s = await self._renewed(base_url, backoff)
            await asyncio.sleep(pause_s)

    async def _renewed(self, base_url: str, backoff: Backoff) -> float:
        try:
            await asyncio.to_thread(self.renew, base_url)
        except EnrolmentRefused as error:
            _log.warning("the certificate could not be renewed", error=str(error))
            return backoff.next_s()
        _log.info("the certificate is renewed")
        backoff.reset()
        return CHECK_S

    def renew(self, base_url: str) -> None:
        """Get a certificate for a new key, proving the old one. Blocks."""
        old = (self.folder / IDENTITY_FILE).read_bytes()
        key, csr = pki.make_key_and_csr()
        proof = base64.b64encode(pki.sign_renewal(old, csr, self._password_of(old))).decode()
        request = {"csr": csr.decode(), "certificate": _certificates(old), "proof": proof}
        context = pki.client_context(self._roots())
        answer = _asked(base_url, "/enrol/renew", context, request)
        _save(self.folder, key, answer, self.vault)

    def _password_of(self, held: bytes) -> bytes | None:
        return self.password if pki.is_locked(held) else None


def enrol(base_url: str, code: str, folder: Path, vault: Vault | None = None) -> tuple[str, str]:
    """Get the gateway's first certificate with a one-time code.

    Blocks. Returns project and gateway; raises `EnrolmentRefused`.
    """
    matched = _CODE.fullmatch(code.strip())
    if matched is None:
        raise EnrolmentRefused("the code is not complete: it reads spine1-<secret>-<pin>")
    root = _pinned_root(base_url, matched[1])
    key, csr = pki.make_key_and_csr()
    request = {"code": code.strip(), "csr": csr.decode()}
    answer = _asked(base_url, "/enrol", pki.client_context(root), request)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _save(folder, key, answer, vault or Vault.find(folder))
    return str(answer["project"]), str(answer["gateway"])


def _pinned_root(base_url: str, pin: str) -> bytes:
    # Nothing is believed here but what matches the pin, and nothing secret is sent.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    roots = _exchange(base_url, "GET", "/enrol/ca", context, None)
    try:
        return pki.find_pinned(roots, pin)
    except pki.CertificateRefused as error:
        msg = f"{base_url} is not the central that made the code: {error}"
        raise EnrolmentRefused(msg) from error


def _save(folder: Path, key: bytes, answer: dict[str, Any], vault: Vault) -> None:
    chain = str(answer["certificate"]).encode()
    try:
        issued = pki.load_certificate(chain).public_key()
        pki.load_certificate(str(answer["roots"]).encode())
    except pki.CertificateRefused as error:
        raise EnrolmentRefused(f"central's answer holds no certificate: {error}") from error
    if issued != pki.load_key(key).public_key():
        raise EnrolmentRefused("central's certificate is for another key: nothing was changed")
    pki.write_private(folder / ROOTS_FILE, str(answer["roots"]).encode())
    pki.write_private(folder / IDENTITY_FILE, _locked(key.rstrip() + b"\n" + chain, vault))


def _locked(held: bytes, vault: Vault) -> bytes:
    """Encrypt the key of key and chain. Raises `CertificateRefused`, ValueError."""
    chain = _certificates(held).encode()
    return pki.lock_key(held, vault.derived(PURPOSE)).rstrip() + b"\n" + chain


def _certificates(identity: bytes) -> str:
    at = identity.index(b"-----BEGIN CERTIFICATE-----")
    return identity[at:].decode()


def _asked(
    base_url: str, path: str, context: ssl.SSLContext, request: dict[str, Any]
) -> dict[str, Any]:
    body = _exchange(base_url, "POST", path, context, json.dumps(request).encode())
    try:
        answer = json.loads(body)
        wanted = {"certificate", "roots"} - set(answer)
    except (ValueError, TypeError) as error:
        raise EnrolmentRefused(f"{base_url} does not answer as central does") from error
    if wanted:
        raise EnrolmentRefused(f"{base_url} does not answer as central does")
    return dict(answer)


def _exchange(
    base_url: str, method: str, path: str, context: ssl.SSLContext, body: bytes | None
) -> bytes:
    place = urlsplit(base_url)
    port = place.port or 443
    connection = HTTPSConnection(place.hostname or "", port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read(ANSWER_BYTES)
    except (OSError, HTTPException) as error:
        raise EnrolmentRefused(f"{base_url} cannot be reached: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise EnrolmentRefused(f"central refuses (HTTP {response.status}): {_detail(answer)}")
    return answer


def _detail(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["detail"])[:500]
    except (ValueError, TypeError, KeyError):
        return "no reason given"
