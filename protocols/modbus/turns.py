"""Taking turns on something only one may use: first come, first served, but the urgent before."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Free unless somebody has the turn."""

    def __init__(self) -> None:
        """Start free."""
        self._is_taken = False
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()

    def is_urgent_waiting(self) -> bool:
        """Tell whether somebody urgent waits: who has the turn should give it soon."""
        return bool(self._urgent)

    @asynccontextmanager
    async def turn(self, *, is_urgent: bool = False) -> AsyncIterator[None]:
        """Have the turn."""
        if self._is_taken:
            await self._wait(self._urgent if is_urgent else self._waiting)
        self._is_taken = True
        try:
            yield
        finally:
            self._give()

    async def _wait(self, queue: deque[asyncio.Future[None]]) -> None:
        mine = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.cancelled():
                queue.remove(mine)
            else:
                self._give()  # it was mine already
            raise

    def _give(self) -> None:
        queue = self._urgent or self._waiting
        while queue:
            following = queue.popleft()
            if not following.done():
                following.set_result(None)  # it stays taken, by that one
                return
            queue = self._urgent or self._waiting
        self._is_taken = False
