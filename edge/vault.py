"""The gateway's master key, and what is sealed under it: AES-256-GCM, a purpose bound to each text.

Where the key lies decides what this is worth: beside the data it protects copies of single files;
from a systemd credential or the environment it protects the whole disk.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared import pki
from shared.errors import SettingsError, SpineError

KEY_FILE: Final = "master.key"
CREDENTIAL: Final = "spine-master-key"
"""Name of the systemd credential: `LoadCredentialEncrypted=spine-master-key:…`."""

VARIABLE: Final = "SPINE_MASTER_KEY"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class VaultClosed(SpineError):
    """What was sealed cannot be opened: another master key, or damage."""


@dataclass(frozen=True, slots=True, repr=False)
class Vault:
    """Seals and opens; never shows its key."""

    key: bytes

    def __repr__(self) -> str:
        """Say nothing of the key."""
        return "Vault(***)"

    @classmethod
    def find(
        cls, data: Path, path: Path | None = None, environment: Mapping[str, str] = os.environ
    ) -> "Vault":
        """Find the master key; where there is none, make one for its owner alone. Blocks.

        The environment goes first, then the systemd credential, then the file `path`, which is
        `master.key` in the data folder unless told otherwise. Raises `SettingsError`, OSError.
        """
        if VARIABLE in environment:
            return cls(_decoded(environment[VARIABLE], f"the variable {VARIABLE}"))
        folder = environment.get("CREDENTIALS_DIRECTORY")
        credential = Path(folder) / CREDENTIAL if folder else None
        if credential is not None and credential.exists():
            return cls(_read(credential))
        path = path or data / KEY_FILE
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            pki.write_private(path, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        return cls(_read(path))

    def seal(self, text: bytes, purpose: str) -> bytes:
        """Seal a text for one purpose: it opens for no other."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self.key).encrypt(nonce, text, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Open what was sealed. Raises `VaultClosed`."""
        try:
            nonce, body = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
            return AESGCM(self.key).decrypt(nonce, body, purpose.encode())
        except (InvalidTag, ValueError) as error:
            msg = "sealed under another master key, or damaged"
            raise VaultClosed(msg) from error

    def derived(self, purpose: str) -> bytes:
        """Derive a pass phrase for one purpose."""
        return self.mark(purpose, b"").hex().encode()

    def mark(self, purpose: str, text: bytes) -> bytes:
        """Give a mark by which equal texts are known, and nothing else."""
        message = purpose.encode() + b"\0" + text
        return hmac.new(self.key, message, hashlib.sha256).digest()


def _read(path: Path) -> bytes:
    return _decoded(path.read_text("ascii", "replace"), str(path))


def _decoded(text: str, source: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (ValueError, binascii.Error) as error:
        raise SettingsError(source, ["the master key is not base64"]) from error
    if len(key) != KEY_BYTES:
        raise SettingsError(source, [f"the master key has {len(key)} bytes; it is {KEY_BYTES}"])
    return key
