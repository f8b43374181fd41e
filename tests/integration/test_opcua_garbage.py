"""An OPC UA server whose answers are damaged on the way: an error of ours, never a hang."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import pytest

from protocols.driver import PointSource
from protocols.opcua.driver import OpcuaDriver
from protocols.opcua.options import OpcuaDevice, OpcuaPoint
from shared.errors import LinkLost, OptionsWrong, Refused
from shared.model import Point
from tests.servers.opcua import HOST, OpcuaServer

pytestmark = pytest.mark.integration

ROUNDS: Final = 40
DEADLINE_S: Final = 10.0
NAMES: Final = ("a", "b", "c")


def damage(rng: random.Random, data: bytes, at: int) -> bytes:
    """Flip, blank, push in or cut off bytes."""
    spoiled = bytearray(data)
    kind = rng.randrange(4)
    if kind == 0:
        spoiled[at] ^= rng.randint(1, 255)
    elif kind == 1:
        spoiled[at : at + 8] = bytes(len(spoiled[at : at + 8]))
    elif kind == 2:
        spoiled[at:at] = rng.randbytes(3)
    else:
        del spoiled[at:]
    return bytes(spoiled)


@asynccontextmanager
async def spoiler(rng: random.Random, port: int) -> AsyncIterator[int]:
    """Pass a connection on to a server and damage one place of what it answers."""
    where = rng.randint(0, 2_500)

    async def up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(65_536):
            is_here = passed <= where < passed + len(data)
            writer.write(damage(rng, data, where - passed) if is_here else data)
            passed += len(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection(HOST, port)
        both = up(reader, back_writer), down(back_reader, writer)
        await asyncio.gather(*both, return_exceptions=True)  # either side may just be gone

    proxy = await asyncio.start_server(accept, HOST, 0)
    async with proxy:
        yield proxy.sockets[0].getsockname()[1]


async def change_for_ever(server: OpcuaServer) -> None:
    value = 0.0
    while True:
        value += 1
        for name in NAMES:
            await server.put(name, value)
        await anyio.sleep(0.02)


async def use(port: int) -> str:
    """Connect, read and take some deliveries; tells how it ended."""
    driver = OpcuaDriver(
        OpcuaDevice(
            url=f"opc.tcp://{HOST}:{port}",
            timeout_s=0.2,
            publishing_interval_ms=20,
            keepalive_s=0.5,
        )
    )
    plan = driver.plan(
        [PointSource(Point(name), OpcuaPoint(node=f"ns=2;s={name}")) for name in NAMES]
    )
    try:
        async with driver:
            await driver.read(plan)
            count = 0
            async for _ in driver.subscribe(plan, ()):
                count += 1
                if count == 4:
                    return "fine"
    except (LinkLost, Refused, OptionsWrong) as error:
        return type(error).__name__
    return "ended"


async def test_damaged_answers_end_in_our_errors() -> None:
    rng = random.Random(7)
    noticed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noticed.append(context))
    server = OpcuaServer()
    await server.start()
    await server.add_numbers(NAMES)
    changing = asyncio.ensure_future(change_for_ever(server))
    ends: Counter[str] = Counter()
    for _ in range(ROUNDS):
        async with spoiler(rng, server.port) as port:
            with anyio.fail_after(DEADLINE_S):
                ends[await use(port)] += 1
    changing.cancel()
    await asyncio.wait([changing])
    await server.close()
    assert noticed == []
    assert set(ends) <= {"fine", "LinkLost", "Refused"}
    assert ends["LinkLost"] >= ROUNDS // 4, ends  # else nothing was damaged where it matters
