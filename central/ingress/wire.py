"""Frames over one accepted WebSocket: packed, unpacked, and refused when the certificate ended."""

from dataclasses import dataclass
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from central.ingress.sessions import REVOKED, LiveSessions
from central.storage.catalogue import Gateway
from shared.clock import Clock
from shared.link import Frame, pack, unpack

INVALID: Final = 4400


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, by its certificate."""

    gateway: Gateway
    fingerprint: bytes
    valid_until_us: int


class SessionEnd(Exception):
    """The session ends with a close code and a short reason."""

    def __init__(self, code: int, reason: str) -> None:
        """Keep what the close frame will say."""
        self.code = code
        self.reason = reason
        super().__init__(f"{code} {reason}")


class FrameSocket:
    """Sends and receives frames; every frame is taken only while the certificate is good."""

    def __init__(self, websocket: WebSocket, peer: Peer, live: LiveSessions, clock: Clock) -> None:
        self._websocket = websocket
        self._peer = peer
        self._live = live
        self._clock = clock

    async def send(self, frame: Frame) -> None:
        """Send a frame; raises WebSocketDisconnect where the peer is gone."""
        await self._websocket.send_bytes(pack(frame))

    async def receive(self) -> Frame:
        """Wait for a frame.

        Raises `FrameInvalid` for one that is none, `SessionEnd` where the certificate was revoked
        or has expired, WebSocketDisconnect where the peer is gone.
        """
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        self._check_certificate()
        data = message.get("bytes")
        if data is None:
            raise SessionEnd(INVALID, "a frame is a binary message")
        return unpack(data)

    async def close(self, end: SessionEnd) -> bool:
        """Close with the code of a session's end; False where the peer was gone already."""
        try:
            await self._websocket.close(end.code, end.reason[:120])
        except (RuntimeError, OSError, WebSocketDisconnect):
            return False
        return True

    def _check_certificate(self) -> None:
        if self._live.is_denied(self._peer.fingerprint):
            raise SessionEnd(REVOKED, "this gateway's certificate is revoked")
        if self._clock.now_us() > self._peer.valid_until_us:
            raise SessionEnd(REVOKED, "this gateway's certificate has expired")
