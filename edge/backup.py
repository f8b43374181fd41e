"""Backups of a gateway's configuration: one file, encrypted under a pass phrase.

A backup holds the document, its secrets, `gateway.yaml` and, if wanted, the identity; never
readings: those are the outbox's. Bringing one back touches nothing that is there unless it is told
to, and what it replaces is kept beside it.
"""

import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.agreement import Agreed
from edge.config_store import FILE_NAME, ConfigStore, Head, Revision
from edge.document import hash_of
from edge.enrolment import IDENTITY_FILE, PURPOSE, ROOTS_FILE
from edge.first_revision import stored
from edge.recovery import FILE_NAME as OUTBOX_NAME
from edge.secret_store import Secrets
from edge.segments import SegmentFile
from edge.sqlite import OutboxDamaged, OutboxHeld
from edge.vault import Vault
from shared import pki
from shared.clock import Clock
from shared.errors import SpineError

MAGIC: Final = b"SPINE-BACKUP-1\n"
MOST_BYTES: Final = 64 * 1024 * 1024
LEAST_PHRASE: Final = 8
_SALT, _NONCE = 16, 12
_COST: Final = {"length": 32, "n": 2**15, "r": 8, "p": 1}


class BackupFailed(SpineError):
    """A backup could not be made, read or brought back; nothing was changed."""


class Contents(BaseModel):
    """What a backup holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(1, ge=1, le=1)
    made_at_us: int
    number: int = Field(ge=1)
    reason: str
    document: dict[str, Any]
    secrets: dict[str, str]
    agreed: list[Any] | None
    gateway_yaml: str
    identity: str = ""
    """Key, in the clear here, and certificates; empty where the backup leaves them out."""
    roots: str = ""


def gathered(config: Path, data: Path, vault: Vault, clock: Clock, *, identity: bool) -> Contents:
    """Gather what a backup holds. Blocks; raises `BackupFailed` or `VaultClosed`."""
    found = stored(data, vault)
    if found is None:
        raise BackupFailed(f"nothing to back up: the gateway has never run on {data}")
    kept, current = found
    with kept.store:
        held = _identity(data, vault) if identity else ("", "")
        return Contents(
            made_at_us=clock.now_us(),
            number=current.number,
            reason=current.reason,
            document=dict(current.document),
            secrets=kept.everything(),
            agreed=kept.store.fact("agreed"),
            gateway_yaml=config.read_text("utf-8"),
            identity=held[0],
            roots=held[1],
        )


def _identity(data: Path, vault: Vault) -> tuple[str, str]:
    path = data / IDENTITY_FILE
    if not path.exists():
        raise BackupFailed("this gateway has no identity yet: enrol it, or leave the identity out")
    held = path.read_bytes()
    if pki.is_locked(held):
        key = pki.unlock_key(held, vault.derived(PURPOSE))
        held = key + held[held.index(b"-----BEGIN CERTIFICATE-----") :]
    return held.decode(), (data / ROOTS_FILE).read_text("ascii")


def sealed(contents: Contents, phrase: str) -> bytes:
    """Encrypt a backup: scrypt makes the key, AES-256-GCM binds the header to the body."""
    if len(phrase) < LEAST_PHRASE:
        raise BackupFailed(f"the pass phrase has at least {LEAST_PHRASE} characters")
    salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
    header = MAGIC + salt + nonce
    packed = zlib.compress(contents.model_dump_json().encode())
    return header + AESGCM(_key(phrase, salt)).encrypt(nonce, packed, header)


def opened(data: bytes, phrase: str) -> Contents:
    """Decrypt a backup. Raises `BackupFailed` saying what is wrong as far as can be known."""
    start = len(MAGIC)
    if not data.startswith(MAGIC):
        raise BackupFailed("this is no backup of a SPINE gateway")
    header, body = data[: start + _SALT + _NONCE], data[start + _SALT + _NONCE :]
    salt, nonce = header[start : start + _SALT], header[start + _SALT :]
    try:
        packed = AESGCM(_key(phrase, salt)).decrypt(nonce, body, header)
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(packed, MOST_BYTES)
        if unpacking.unconsumed_tail:
            raise BackupFailed("the backup is larger than any that a gateway makes")
        return Contents.model_validate_json(text)
    except (InvalidTag, ValueError) as error:
        if isinstance(error, ValidationError):
            raise BackupFailed("the backup is of another version: use that one") from error
        msg = "the pass phrase is wrong, or the backup is damaged: nothing was changed"
        raise BackupFailed(msg) from error


def _key(phrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, **_COST).derive(phrase.encode())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway lives: its file, its data folder, and its master key."""

    config: Path
    data: Path
    vault: Vault


@dataclass(slots=True)
class Restored:
    """What was brought back, for a person."""

    number: int
    made_at_us: int
    with_identity: bool
    kept_at: list[Path] = field(default_factory=list)


def restore(contents: Contents, place: Place, clock: Clock, *, replace: bool) -> Restored:
    """Bring a backup back while no gateway runs there. Blocks.

    The outbox stays as it is; each start begins a new epoch, so no batch is named twice. Raises
    `BackupFailed` with nothing changed if a gateway runs, or there is something that `replace` does
    not allow to replace.
    """
    _check_stopped(place.data)
    targets = [place.config, place.data / FILE_NAME]
    if contents.identity:
        targets += [place.data / IDENTITY_FILE, place.data / ROOTS_FILE]
    there = [path for path in targets if path.exists()]
    # The file names the data folder, so it is mostly there already, and often the very same.
    same = place.config.exists() and place.config.read_text("utf-8") == contents.gateway_yaml
    if same:
        there.remove(place.config)
    if there and not replace:
        names = ", ".join(str(path) for path in there)
        raise BackupFailed(f"{names} would be replaced: nothing was changed; see --replace")
    place.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = place.data / f"config-restoring-{clock.now_us()}.db"
    try:
        _write_store(fresh, contents, place.vault, clock)
        files = _files(contents, place)
        restored = Restored(contents.number, contents.made_at_us, bool(contents.identity))
        restored.kept_at += [_put_aside(path, clock) for path in there]
        for path, text in files.items():
            pki.write_private(path, text)
        fresh.rename(place.data / FILE_NAME)
    except OSError as error:
        raise BackupFailed(f"the backup cannot be written: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)
    return restored


def _files(contents: Contents, place: Place) -> dict[Path, bytes]:
    files = {place.config: contents.gateway_yaml.encode()}
    if contents.identity:
        held = contents.identity.encode()
        chain = held[held.index(b"-----BEGIN CERTIFICATE-----") :]
        key = pki.lock_key(held, place.vault.derived(PURPOSE))
        files[place.data / ROOTS_FILE] = contents.roots.encode()
        files[place.data / IDENTITY_FILE] = key.rstrip() + b"\n" + chain
    return files


def _check_stopped(data: Path) -> None:
    path = data / OUTBOX_NAME
    if not path.exists():
        return
    try:
        SegmentFile(path).close()
    except OutboxHeld as error:
        raise BackupFailed("the gateway runs: stop it first; nothing was changed") from error
    except OutboxDamaged:
        return  # its next start mends it


def _write_store(path: Path, contents: Contents, vault: Vault, clock: Clock) -> None:
    with ConfigStore(path) as store:
        kept = Secrets(store, vault)
        for name, value in contents.secrets.items():
            kept.put(name, value)
        # The marks in the names are of the other master key: the values stay under them.
        document = contents.document
        reason = f"backup of revision {contents.number}"
        agreed = Agreed.of(contents.agreed)
        head = Head(0, hash_of(document), "restore", reason, clock.now_us())
        with store.writing() as db:
            db.execute("UPDATE counters SET seq = ? WHERE name = 'revisions'", [contents.number])
        revision = store.add(Revision(head, document))
        facts: Mapping[str, Any] = {"agreed": agreed.fact()}
        store.promote(revision.number, facts=facts)


def _put_aside(path: Path, clock: Clock) -> Path:
    aside = path.with_name(f"{path.name}.before-restore-{clock.now_us()}")
    return path.rename(aside)
