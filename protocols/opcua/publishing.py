"""Keeps a few publish requests waiting at the server and hands out its answers as they come.

That is not the order of the requests: a server may answer any of those that wait.
"""

import asyncio
from collections import deque
from typing import Final

from protocols.opcua.binary import Malformed
from protocols.opcua.codec import Publication, decode_publish
from protocols.opcua.faults import TooManyRequests, status_name
from protocols.opcua.session import Session, Subscription
from shared.errors import LinkLost

REQUESTS: Final = 3
"""So many answers can wait here unread; then the server keeps what follows in its own queues."""
_SEQUENCE_LIMIT: Final = 2**32


class Publishing:
    """The publish requests of one subscription. Nothing is lost unnoticed.

    A notification that was skipped, a server that is silent for longer than its keep-alive and a
    subscription that the server ended are all `LinkLost`.
    """

    def __init__(self, session: Session, subscription: Subscription, where: str) -> None:
        self._session = session
        self._subscription = subscription
        self._where = where
        self._requests: set[asyncio.Task[bytes]] = set()
        self._arrived: deque[asyncio.Task[bytes]] = deque(maxlen=REQUESTS)
        self._news = asyncio.Event()
        self._wanted = REQUESTS
        self._received: list[tuple[int, int]] = []
        self._next: tuple[int, ...] = ()

    async def next(self, patience_s: float) -> Publication:
        """Wait for the next answer, at most `patience_s` longer than the keep-alive."""
        self._ask()
        answer = await self._answer(1.5 * self._subscription.keepalive_s + patience_s)
        try:
            publication = decode_publish(answer.result())
        except TooManyRequests as error:
            if self._wanted == 1:
                msg = f"{self._where}: the server keeps no publish request ({error})"
                raise LinkLost(msg) from error
            self._wanted -= 1
            return Publication(self._subscription.id, 0, is_keep_alive=True)
        except Malformed as error:
            msg = f"{self._where}: a publication that cannot be read: {error}"
            raise LinkLost(msg) from error
        return self._checked(publication)

    async def close(self) -> None:
        """Give up the waiting requests."""
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        self._requests.clear()
        self._arrived.clear()

    def _ask(self) -> None:
        while len(self._requests) < self._wanted:
            received, self._received = self._received, []
            asking = asyncio.ensure_future(self._session.publish(received))
            self._requests.add(asking)
            asking.add_done_callback(self._note)

    def _note(self, answered: asyncio.Task[bytes]) -> None:
        self._arrived.append(answered)
        self._news.set()

    async def _answer(self, limit_s: float) -> asyncio.Task[bytes]:
        """Take the answer that came first; it stays a request that waits until it is taken."""
        try:
            async with asyncio.timeout(limit_s):
                while not self._arrived:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            msg = f"{self._where}: not even a keep-alive for {limit_s:.1f} s"
            raise LinkLost(msg) from error
        answered = self._arrived.popleft()
        self._requests.discard(answered)
        return answered

    def _checked(self, publication: Publication) -> Publication:
        if publication.ended is not None:
            name = status_name(publication.ended)
            msg = f"{self._where}: the server ended the subscription ({name})"
            raise LinkLost(msg)
        if publication.subscription_id == self._subscription.id:
            self._follow(publication)
        return publication

    def _follow(self, publication: Publication) -> None:
        """Check that no notification is missing.

        A keep-alive names the next notification (Part 4, 5.14.1.1); some servers count it as one,
        name the last one again, or name none.
        """
        sequence = publication.sequence
        after = sequence % (_SEQUENCE_LIMIT - 1) + 1
        if publication.is_keep_alive and (sequence == 0 or after in self._next):
            return
        if self._next and sequence not in self._next:
            msg = f"{self._where}: notification {self._next[0]} is missing, {sequence} came"
            raise LinkLost(msg)
        if publication.is_keep_alive:
            self._next = (sequence, after)
        else:
            self._next = (after,)
            self._received.append((publication.subscription_id, sequence))
