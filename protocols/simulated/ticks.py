"""Doing something at even intervals of real time, without drifting and without catching up."""

import asyncio
from collections.abc import Awaitable, Callable


async def every(interval_s: float, action: Callable[[], Awaitable[None]]) -> None:
    """Run `action` every interval until cancelled; a tick that comes too late is left out."""
    loop = asyncio.get_running_loop()
    due_s = loop.time() + interval_s
    while True:
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        await action()
        due_s += interval_s
        due_s = max(due_s, loop.time())
