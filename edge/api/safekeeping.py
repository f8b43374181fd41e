"""What is kept safe: secrets, backups, certificates."""

import asyncio
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from edge import backup
from edge.api.access import TECHNICIAN, VIEWER
from edge.api.certificate import own_certificate
from edge.api.context import Context, Here
from edge.api.revisions import Given
from edge.api.words import Moment
from edge.enrolment import IDENTITY_FILE, ROOTS_FILE
from shared import pki

router = APIRouter(prefix="/api/v1", tags=["safekeeping"])

Name = Annotated[str, Path(max_length=200)]


class SecretList(BaseModel):
    """The names of the secrets; what they hold is shown nowhere."""

    secrets: list[str]


class SecretGiven(Given):
    """What a secret holds from now on."""

    value: str = Field(min_length=1, max_length=64 * 1024)


class BackupGiven(Given):
    """How a backup is made."""

    passphrase: str = Field(min_length=1, max_length=1_000, description="What it is sealed under.")
    identity: bool = Field(False, description="Whether the gateway's key is in it.")


class CertificateTold(BaseModel):
    """A certificate: people compare its thumbprint."""

    subject: str
    issuer: str
    begins_at: Moment
    expires_at: Moment
    sha256: str


class CertificatesTold(BaseModel):
    """Who trusts whom."""

    identity: CertificateTold = Field(description="What central knows this gateway by.")
    roots: list[CertificateTold] = Field(description="What this gateway knows central by.")
    api: CertificateTold | None = Field(description="What browsers see; null on loopback.")


@router.get("/secrets", dependencies=[VIEWER])
def list_secrets(here: Here) -> SecretList:
    """List the secrets by name."""
    return SecretList(secrets=here.twin.secrets.names())


@router.put("/secrets/{name:path}", status_code=204, dependencies=[TECHNICIAN])
async def put_secret(name: Name, given: SecretGiven, here: Here) -> None:
    """Keep a secret; the devices that refer to it start anew with it."""
    await here.twin.keep_secret(name, given.value)
    await asyncio.to_thread(here.hide_secrets)


@router.post(
    "/backup",
    dependencies=[TECHNICIAN],
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The backup."}},
)
async def make_backup(given: BackupGiven, here: Here) -> Response:
    """Give the whole configuration as one encrypted file; `spine-edge restore` takes it."""
    data = await asyncio.to_thread(_sealed, here, given)
    headers = {"Content-Disposition": 'attachment; filename="gateway.spine-backup"'}
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.get("/certificates", dependencies=[VIEWER])
def certificates(here: Here) -> CertificatesTold:
    """Give the certificates of the gateway."""
    folder = here.identity.folder
    identity = pki.load_certificate((folder / IDENTITY_FILE).read_bytes())
    roots = x509.load_pem_x509_certificates((folder / ROOTS_FILE).read_bytes())
    own = own_certificate(folder)
    return CertificatesTold(
        identity=_told(identity),
        roots=[_told(one) for one in roots],
        api=None if own is None else _told(pki.load_certificate(own)),
    )


@router.post("/certificates/renew", dependencies=[TECHNICIAN])
async def renew(here: Here) -> CertificatesTold:
    """Get another certificate of central now; it is used at the next connection."""
    await asyncio.to_thread(here.identity.renew, here.config.file.central.enrol)
    return await asyncio.to_thread(certificates, here)


def _sealed(here: Context, given: BackupGiven) -> bytes:
    contents = backup.gathered(
        here.config.path,
        here.config.data,
        here.identity.vault,
        here.parts.clock,
        identity=given.identity,
    )
    return backup.sealed(contents, given.passphrase)


def _told(certificate: x509.Certificate) -> CertificateTold:
    return CertificateTold(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        begins_at=certificate.not_valid_before_utc,
        expires_at=certificate.not_valid_after_utc,
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
    )
