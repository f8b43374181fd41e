"""The sink of the peers: Mosquitto, and a subscriber that notes when each message came.

The subscriber's session and what waits for it outlive a restart of the broker, so that nothing is
lost behind the products. It also stands in for the platform that ThingsBoard's gateway asks for its
limits: there are none.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from bench.rig.ports import HOST, accepts, free_port
from bench.rig.processes import Running, running
from bench.rig.readings import Arrival, Name
from deploy.central.native.cache import Cache
from deploy.central.native.mosquitto import Mosquitto, program

START_S: Final = 30.0
_ASKED: Final = "v1/devices/me/rpc/request/"
_LIMITS: Final = json.dumps(
    {
        "maxPayloadSize": 65_536,
        "maxInflightMessages": 100,
        "rateLimits": {},
        "gatewayRateLimits": {},
    }
)
Parse = Callable[[bytes], Iterator[Name]]
"""Reads one message of a product."""


@dataclass(slots=True)
class BrokerSink:
    """A broker that can go away, and what was published on it."""

    process: Running
    port: int
    messages: list[tuple[float, bytes]] = field(default_factory=list)
    """With the time of `time.time` at which each came."""

    async def start(self) -> None:
        """Serve."""
        await self.process.start()
        await self.process.until(lambda: accepts(self.port), "it does not listen", START_S)

    async def stop(self) -> None:
        """Go away: connections end, and nobody listens."""
        await self.process.end()

    def arrivals(self, began_at: float, parse: Parse) -> Iterator[Arrival]:
        """List the readings that came."""
        for came_at, payload in self.messages:
            for name in parse(payload):
                yield Arrival(name, (came_at - began_at) * 1_000)

    def take(self, client: Client, _: Any, message: MQTTMessage) -> None:
        """Note a message, or answer the question for limits (paho calls this)."""
        if not message.topic.startswith(_ASKED):
            self.messages.append((time.time(), bytes(message.payload)))
        elif b"getSessionLimits" in message.payload:
            client.publish(message.topic.replace("request", "response"), _LIMITS, qos=1)


@asynccontextmanager
async def broker_sink(folder: Path, topics: list[str]) -> AsyncIterator[BrokerSink]:
    """Run a broker and subscribe to topics while the context lasts."""
    cache = Cache.of_user()
    Mosquitto().install(cache)
    port = free_port()
    await asyncio.to_thread(folder.mkdir, parents=True)
    (folder / "mosquitto.conf").write_text(
        f"listener {port} {HOST}\nallow_anonymous true\nuser root\nmax_queued_messages 0\n"
        f"persistence true\npersistence_location {folder}/\n"
    )
    command = [*program(cache, "mosquitto"), "-c", str(folder / "mosquitto.conf")]
    async with running(command, folder) as process:
        sink = BrokerSink(process, port)
        await process.until(lambda: accepts(port), "it does not listen", START_S)
        client = Client(CallbackAPIVersion.VERSION2, client_id="sink", clean_session=False)
        client.on_message = sink.take
        client.reconnect_delay_set(1, 1)
        client.connect(HOST, port)
        client.subscribe([(topic, 1) for topic in (*topics, f"{_ASKED}+")])
        client.loop_start()
        try:
            yield sink
        finally:
            client.loop_stop()
