"""Devices of the rig that push: MQTT topics and OPC UA variables that all change every second.

`python -m bench.rig.sources mqtt|opcua PORT COUNT T0 LOG`: each value is the milliseconds from T0,
as in `fleet.js`, and LOG has the same lines. An OPC UA server is started, a broker must be there.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncua
from asyncua.server.server import Server
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from bench.rig.layout import INTERVAL_S, Layout
from bench.rig.ports import HOST
from bench.rig.processes import Running, running
from bench.rig.products import REPOSITORY

UNITS: Final = {"mqtt": 101, "opcua": 102}
"""What stands for a unit in the keys of their points."""
NAMESPACE: Final = 2
ua: Any = asyncua.ua
Tell = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Source:
    """One that runs: what it serves, and where it says so."""

    kind: str
    layout: Layout
    log: Path
    process: Running


def topic(nth: int) -> str:
    """Name the topic of a point."""
    return f"rig/{nth}"


def node(nth: int) -> str:
    """Name the node of a point."""
    return f"ns={NAMESPACE};s=rig/{nth}"


@asynccontextmanager
async def source(
    kind: str, port: int, layout: Layout, began_at: float, folder: Path
) -> AsyncIterator[Source]:
    """Run a source while the context lasts."""
    log = folder / "served.txt"
    given = [kind, str(port), str(layout.points), str(round(began_at * 1_000)), str(log)]
    words = [sys.executable, "-m", "bench.rig.sources", *given]
    async with running(words, folder, {"PYTHONPATH": str(REPOSITORY)}) as process:
        await process.until(log.exists, "it does not start", 30.0)
        yield Source(kind, layout, log, process)


async def _publishing(port: int, count: int) -> Tell:
    client = Client(CallbackAPIVersion.VERSION2, client_id="source")
    client.connect(HOST, port)
    client.loop_start()

    async def tell(now_ms: int) -> None:
        for nth in range(count):
            client.publish(topic(nth), str(now_ms), qos=1)

    return tell


async def _serving(port: int, count: int) -> Tell:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://{HOST}:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.register_namespace("urn:rig")
    nodes = [ua.NodeId(f"rig/{nth}", NAMESPACE) for nth in range(count)]
    for one in nodes:
        await server.nodes.objects.add_variable(one, one.Identifier, 0, ua.VariantType.UInt32)
    await server.start()

    async def tell(now_ms: int) -> None:
        value = ua.DataValue(ua.Variant(now_ms, ua.VariantType.UInt32))
        for one in nodes:
            # Beneath the services, which check what here is always right.
            await server.iserver.aspace.write_attribute_value(one, ua.AttributeIds.Value, value)

    return tell


async def _run(kind: str, port: int, count: int, began_ms: int, log: Path) -> None:
    tell = await (_publishing if kind == "mqtt" else _serving)(port, count)
    with log.open("w", buffering=1) as served:
        while True:
            now_ms = time.time_ns() // 1_000_000 - began_ms
            await tell(now_ms)
            served.write(f"{now_ms} {UNITS[kind]} 0 {2 * count}\n")
            await asyncio.sleep(INTERVAL_S)


if __name__ == "__main__":
    at, size, began = map(int, sys.argv[2:5])
    asyncio.run(_run(sys.argv[1], at, size, began, Path(sys.argv[5])))
