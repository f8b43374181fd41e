"""A broker that answers nonsense: an error of ours, never a hang."""

import asyncio
import random
from typing import Any, Final

import anyio
import pytest

from protocols.driver import PointSource
from protocols.mqtt.driver import MqttDriver
from protocols.mqtt.options import MqttDevice, MqttPoint
from shared.errors import LinkLost, Refused
from shared.model import Point
from tests.servers.mosquitto import HOST

ROUNDS: Final = 60
DEADLINE_S: Final = 10.0
CONNECTED: Final = {"3.1.1": b"\x20\x02\x00\x00", "5": b"\x20\x03\x00\x00\x00"}
PACKETS: Final = bytes.fromhex("20303234 3d405062 7090b0d0 e0f0")


def nonsense(rng: random.Random, version: str) -> bytes:
    """Answer the connect, mostly rightly, and go on with a packet of any kind."""
    first = CONNECTED[version] if rng.random() < 0.7 else rng.randbytes(rng.randint(1, 40))
    body = rng.randbytes(rng.randint(0, 30))
    if rng.random() < 0.5:
        body = b"\x00\x01t" + body
    return first + bytes([rng.choice(PACKETS), len(body)]) + body


async def converse(version: str, answer: bytes) -> None:
    """Connect to a broker that says this and leaves, and take what it delivers."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(accept, HOST, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        options = MqttDevice(host=HOST, port=port, client_id="x", version=version, timeout_s=0.3)
        async with MqttDriver(options) as driver:
            plan = driver.plan([PointSource(Point("p"), MqttPoint(topic="t"))])
            async for delivery in driver.subscribe(plan, ()):
                delivery.done()


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_nonsense_ends_in_our_errors(version: str) -> None:
    rng = random.Random(11)
    noticed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noticed.append(context))
    for _ in range(ROUNDS):
        with anyio.fail_after(DEADLINE_S), pytest.raises((LinkLost, Refused)):
            await converse(version, nonsense(rng, version))
    assert noticed == []
