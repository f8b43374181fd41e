"""The link listener: who connects is known by certificate alone, before a frame is read."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from central.ingress.hand import Services
from central.ingress.session import LinkSession
from central.ingress.tls import peer_certificate
from central.ingress.wire import Peer
from central.storage.catalogue import identify
from central.storage.database import DatabaseAway, Pool
from shared.clock import from_datetime
from shared.link import SUBPROTOCOL

PATH = "/link"


class _Refusal(Exception):
    """The upgrade is refused with an HTTP status."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        self.status = status
        self.reason = reason
        self.text = text
        super().__init__(text)


class LinkEndpoint:
    """Accepts gateways: certificate to identity, then a session."""

    def __init__(self, pool: Pool, services: Services) -> None:
        self._pool = pool
        self._services = services

    async def __call__(self, websocket: WebSocket) -> None:
        """Refuse the upgrade or serve the session."""
        metrics = self._services.metrics
        try:
            peer = await self._identify(websocket)
        except _Refusal as refusal:
            metrics.refused_upgrades.labels(refusal.reason).inc()
            response = PlainTextResponse(refusal.text + "\n", refusal.status)
            await websocket.send_denial_response(response)
            return
        await websocket.accept(subprotocol=SUBPROTOCOL)
        with metrics.sessions.track_inprogress():
            await LinkSession(websocket, peer, self._services, self._pool).run()

    async def _identify(self, websocket: WebSocket) -> Peer:
        certificate = peer_certificate(websocket.scope)
        if certificate is None:
            raise _Refusal(403, "no_certificate", "a client certificate is required")
        fingerprint = fingerprint_of(certificate)
        if self._services.live.is_denied(fingerprint):
            raise _Refusal(403, "revoked", "this certificate is revoked; enrol the gateway anew")
        try:
            gateway = await identify(self._pool, fingerprint)
        except DatabaseAway as error:
            raise _Refusal(503, "database_away", "the database is away; try later") from error
        if gateway is None:
            text = "this certificate is unknown, revoked or expired; renew it or enrol anew"
            raise _Refusal(403, "unknown", text)
        if SUBPROTOCOL not in websocket.scope.get("subprotocols", []):
            raise _Refusal(400, "subprotocol", f"the WebSocket subprotocol is {SUBPROTOCOL}")
        return Peer(gateway, fingerprint, from_datetime(certificate.not_valid_after_utc))


def fingerprint_of(certificate: x509.Certificate) -> bytes:
    """Give the SHA-256 of a certificate's DER."""
    return certificate.fingerprint(hashes.SHA256())


def link_app(pool: Pool, services: Services) -> Starlette:
    """Make the application of the link listener."""
    endpoint = LinkEndpoint(pool, services)

    async def serve(websocket: WebSocket) -> None:
        await endpoint(websocket)

    return Starlette(routes=[WebSocketRoute(PATH, serve)])
