"""Enrolment: a one-time code or the last certificate's key becomes a certificate of seven days."""

import base64
import binascii
import math
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel, Field

from central.access import open_to_all
from central.ingress.authority import Authority, spki_sha256
from central.ingress.metrics import IngressMetrics
from central.ingress.rate import RateLimit
from central.problems import ApiProblem, install
from central.storage.catalogue import (
    Certificate,
    Gateway,
    find_certificate,
    redeem_code,
    register_certificate,
)
from central.storage.database import Pool
from shared import pki
from shared.clock import Clock
from shared.logs import get
from shared.pki.keys import public_key_of

TRIES: Final = 10
WINDOW_S: Final = 60.0
RENEWABLE: Final = timedelta(days=30)

logger = get("ingress.enrol")


class EnrolIn(BaseModel):
    """A one-time code and a certificate signing request."""

    code: str = Field(max_length=200)
    csr: str = Field(max_length=8_000)


class RenewIn(BaseModel):
    """A new signing request, the last certificate, and the proof that its key asks."""

    csr: str = Field(max_length=8_000)
    certificate: str = Field(max_length=16_000)
    proof: str = Field(max_length=400)


class EnrolOut(BaseModel):
    """A certificate, the roots to trust, and who the gateway is."""

    certificate: str
    roots: str
    project: str
    gateway: str


class Enrolment:
    """Hands out certificates; counts tries by address before anything is looked up."""

    def __init__(
        self, pool: Pool, authority: Authority, clock: Clock, metrics: IngressMetrics
    ) -> None:
        self._pool = pool
        self._authority = authority
        self._metrics = metrics
        self._limit = RateLimit(clock, TRIES, WINDOW_S)

    @property
    def roots(self) -> str:
        """The roots as PEM."""
        return self._authority.roots_pem.decode()

    def count(self, address: str, verb: str) -> None:
        """Count a try of an address. Raises `ApiProblem` 429 where it tries too often."""
        wait_s = self._limit.wait_s(address)
        if wait_s > 0:
            self._metrics.enrolments.labels(verb, "too_often").inc()
            raise ApiProblem(
                429,
                "too_often",
                f"More than {TRIES} tries a minute from this address. Wait and try again.",
                {"Retry-After": str(math.ceil(wait_s))},
            )

    async def enrol(self, asked: EnrolIn) -> EnrolOut:
        """Use a code up. Raises `ApiProblem` 403 for a wrong code, 400 for a bad request.

        The request is checked first, so that a bad one does not use the code up.
        """
        csr = _checked(asked.csr)
        secret = _secret_of(asked.code, self._authority.pin)
        gateway = await redeem_code(self._pool, secret) if secret else None
        if gateway is None:
            self._metrics.enrolments.labels("enrol", "refused").inc()
            raise ApiProblem(
                403,
                "bad_code",
                "The code is wrong, was used or has expired. Make a new one: "
                "python -m central enrol --project … --gateway …",
            )
        return await self._issue("enrol", csr, gateway)

    async def renew(self, asked: RenewIn) -> EnrolOut:
        """Renew for the owner of the last certificate's key, also up to 30 days after its end.

        Raises `ApiProblem` 403 with the reason, 400 for a bad request.
        """
        csr = _checked(asked.csr)
        last = asked.certificate.encode()
        try:
            proof = base64.b64decode(asked.proof, validate=True)
            pki.verify_renewal_proof(last, csr, proof, [self._authority.root.certificate])
            fingerprint = pki.fingerprint(last)
        except (binascii.Error, pki.CertificateRefused) as error:
            raise self._refuse(str(error)) from error
        known = await find_certificate(self._pool, fingerprint)
        problem = renewal_problem(known, datetime.now(UTC))
        if known is None or problem:
            raise self._refuse(problem or "unknown")
        return await self._issue("renew", csr, known.gateway)

    def _refuse(self, reason: str) -> ApiProblem:
        self._metrics.enrolments.labels("renew", "refused").inc()
        detail = f"Not renewed: {reason}. Enrol the gateway with a new code."
        return ApiProblem(403, "not_renewed", detail)

    async def _issue(self, verb: str, csr: bytes, gateway: Gateway) -> EnrolOut:
        issued = pki.issue_gateway(self._authority.root, csr, gateway.project, gateway.name)
        certificate = x509.load_pem_x509_certificate(issued)
        await register_certificate(
            self._pool,
            gateway.gateway_id,
            pki.fingerprint(issued),
            spki_sha256(certificate),
            certificate.not_valid_after_utc,
        )
        self._metrics.enrolments.labels(verb, "issued").inc()
        logger.info("certificate issued", verb=verb, project=gateway.project, gateway=gateway.name)
        return EnrolOut(
            certificate=issued.decode(),
            roots=self.roots,
            project=gateway.project,
            gateway=gateway.name,
        )


def renewal_problem(known: Certificate | None, now: datetime) -> str:
    """Tell why a certificate is not renewed; nothing where it is."""
    if known is None:
        return "the certificate is not known here"
    if known.revoked:
        return "the gateway or its certificate is revoked"
    if now - known.not_after > RENEWABLE:
        return f"the certificate expired more than {RENEWABLE.days} days ago"
    return ""


def enrol_app(enrolment: Enrolment) -> FastAPI:
    """Make the application of the enrolment listener."""
    app = FastAPI(title="SPINE enrolment", openapi_url=None, docs_url=None, redoc_url=None)
    install(app)
    router = APIRouter(prefix="/enrol", dependencies=[open_to_all])

    @router.get("/ca")
    async def authorities(request: Request) -> Response:
        """Give the roots; a client goes on only if one matches its pin."""
        return Response(enrolment.roots, media_type="application/x-pem-file")

    @router.post("")
    async def enrol(request: Request, asked: EnrolIn) -> EnrolOut:
        """Turn a code and a signing request into a certificate."""
        enrolment.count(_address(request), "enrol")
        return await enrolment.enrol(asked)

    @router.post("/renew")
    async def renew(request: Request, asked: RenewIn) -> EnrolOut:
        """Turn the last certificate and a proof of its key into a new certificate."""
        enrolment.count(_address(request), "renew")
        return await enrolment.renew(asked)

    app.include_router(router)
    return app


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _checked(csr: str) -> bytes:
    pem = csr.encode()
    try:
        public_key_of(pem)
    except pki.CertificateRefused as error:
        raise ApiProblem(400, "bad_request", str(error)) from error
    return pem


def _secret_of(code: str, pin: str) -> str | None:
    parts = code.strip().lower().split("-")
    if len(parts) != 3 or parts[0] != "spine1" or parts[2] != pin:
        return None
    return parts[1]
