"""Web servers that share an event loop: none leaves anything in it."""

import asyncio
from typing import Any

import pytest

from central.serve import Bound, Door, Site, bind, serving


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer nobody."""


def door() -> Bound:
    return bind(Door("test", "port", "127.0.0.1", 0))


def is_heard(number: int) -> bool:
    """Tell whether the loop listens to a file of this number, and end it."""
    return asyncio.get_running_loop().remove_reader(number)


async def test_a_door_is_open_within_the_context() -> None:
    bound = door()
    async with serving({bound: Site(app)}, 1.0):
        _, writer = await asyncio.open_connection("127.0.0.1", bound.port)
        writer.close()
    assert bound.socket.fileno() == -1


async def test_an_error_leaves_no_listener_in_the_loop() -> None:
    bound = door()
    number = bound.socket.fileno()
    with pytest.raises(ExceptionGroup):
        async with serving({bound: Site(app)}, 1.0):
            raise ValueError("for the test")
    assert not is_heard(number)
    bound.socket.close()


@pytest.mark.parametrize("turns", range(8))
async def test_a_start_that_is_cancelled_leaves_no_listener_in_the_loop(turns: int) -> None:
    bound = door()
    number = bound.socket.fileno()

    async def serve() -> None:
        async with serving({bound: Site(app)}, 1.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_heard(number)
    bound.socket.close()
