"""The live sessions of this process: one a gateway, cut off when its certificate is revoked."""

import asyncio
from typing import Final, Protocol

from central.storage.catalogue import note_seen, refused_fingerprints
from central.storage.database import DatabaseAway, Pool, TransactionClash
from shared.clock import Clock, to_datetime
from shared.logs import get

FENCED: Final = 4409
REVOKED: Final = 4403
SEEN_S: Final = 5.0

logger = get("ingress.sessions")


class Session(Protocol):
    """What the register needs of a session."""

    fingerprint: bytes

    def end(self, code: int, reason: str) -> None:
        """Have the session closed with a code."""
        ...


class LiveSessions:
    """Sessions by gateway, and the certificates that are refused from now on."""

    def __init__(self, pool: Pool, clock: Clock, poll_s: float) -> None:
        self._pool = pool
        self._clock = clock
        self._poll_s = poll_s
        self._sessions: dict[int, Session] = {}
        self._denied: frozenset[bytes] = frozenset()
        self._noted_s = -SEEN_S
        self._away = False

    def __len__(self) -> int:
        """Count the gateways that are connected."""
        return len(self._sessions)

    def enter(self, gateway_id: int, session: Session) -> None:
        """Register a session; an older one of the same gateway is fenced off."""
        older = self._sessions.get(gateway_id)
        self._sessions[gateway_id] = session
        if older is not None:
            logger.warning("a second session of one gateway: clone?", gateway_id=gateway_id)
            older.end(FENCED, "a newer session of this gateway took over")

    def leave(self, gateway_id: int, session: Session) -> None:
        """Forget a session that ended."""
        if self._sessions.get(gateway_id) is session:
            del self._sessions[gateway_id]

    def is_denied(self, fingerprint: bytes) -> bool:
        """Tell whether a certificate is revoked, as far as the last look knows."""
        return fingerprint in self._denied

    async def look(self) -> None:
        """Read the revoked certificates and cut off who uses one. Raises `DatabaseAway`."""
        self._denied = frozenset(await refused_fingerprints(self._pool))
        for session in list(self._sessions.values()):
            if session.fingerprint in self._denied:
                session.end(REVOKED, "this gateway's certificate is revoked")

    async def run(self) -> None:
        """Look for ever; while the database is away the last list stands."""
        while True:
            try:
                await self.look()
                await self._note_seen()
            except (DatabaseAway, TransactionClash) as error:
                if not self._away:
                    logger.warning("revocations not read: database away", error=str(error))
                self._away = True
            else:
                if self._away:
                    logger.info("revocations are read again")
                self._away = False
            await asyncio.sleep(self._poll_s)

    async def _note_seen(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._sessions and now_s - self._noted_s >= SEEN_S:
            self._noted_s = now_s
            await note_seen(self._pool, list(self._sessions), to_datetime(self._clock.now_us()))
