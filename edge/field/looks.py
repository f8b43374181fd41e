"""What bounds a look at a device: how many at once, for a gateway has work, and how long."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from shared.errors import LinkLost, SpineError

MOST: Final = 4


class TooManyLooks(SpineError):
    """As many looks as the gateway has room for are under way."""


class Looks:
    """Counts the looks that are under way."""

    def __init__(self, most: int = MOST) -> None:
        """Allow so many at once."""
        self._most = most
        self.under_way = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Be one of them; raises `TooManyLooks` at once rather than to wait."""
        if self.under_way >= self._most:
            raise TooManyLooks(f"{self._most} looks at devices are under way: wait for one to end")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


@asynccontextmanager
async def within(limit_s: float) -> AsyncIterator[asyncio.Timeout]:
    """Give a device so long; then it counts as lost. Raises `LinkLost`."""
    try:
        async with asyncio.timeout(limit_s) as timeout:
            yield timeout
    except TimeoutError as error:
        raise LinkLost(f"the device was not done within {limit_s:g} s") from error
