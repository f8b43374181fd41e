"""The peer's certificate in the ASGI scope: uvicorn does not hand it over by itself."""

from typing import Any, Final

from cryptography import x509
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

EXTENSION: Final = "spine.peer_certificate"


class PeerCertificateProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol that adds the client's certificate (DER) to the scope.

    A resumed TLS session carries the certificate of the session it resumes, so it is there too.
    """

    async def run_asgi(self) -> None:
        """Complete the scope before the application sees it."""
        tls = self.transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        extensions: dict[str, Any] = self.scope["extensions"] or {}
        extensions[EXTENSION] = {"der": certificate}
        await super().run_asgi()


def peer_certificate(scope: Any) -> x509.Certificate | None:
    """Read the client's certificate from a WebSocket scope; None where there is none."""
    der = scope.get("extensions", {}).get(EXTENSION, {}).get("der")
    return x509.load_der_x509_certificate(der) if der else None
