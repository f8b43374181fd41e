"""A gate that many pass at once, and that one can close for a moment to have the way to itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Open unless somebody holds it closed; one at a time may."""

    def __init__(self) -> None:
        """Start open, with nobody inside."""
        self._inside = 0
        self._open = asyncio.Event()
        self._open.set()
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Be inside; waits while the gate is closed."""
        while not self._open.is_set():
            await self._open.wait()
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Hold new ones off, and wait until those inside have passed."""
        self._open.clear()
        try:
            await self._empty.wait()
            yield
        finally:
            self._open.set()
