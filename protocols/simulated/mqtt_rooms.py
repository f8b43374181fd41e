"""The MQTT side: twelve room sensors, each a client of its own.

A sensor that has no broker, or whose last messages the broker has not acknowledged, takes no
sample: what the truth names was handed to a connection, and is sent again if that breaks.
"""

import asyncio
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from protocols.simulated.device import Device, Sample
from protocols.simulated.faults import Fault
from protocols.simulated.mqtt_client import Broker, PublishingClient

_PAUSED: Final = frozenset({Fault.SILENT, Fault.REFUSE})
_DRAIN_S: Final = 2.0


def topic_of(room: str) -> str:
    """Name the topic of a room's messages."""
    return f"building/{room}/state"


def message_of(sample: Sample) -> bytes:
    """Make the JSON message of a sample: its counter, its time, and its values by name."""
    named = {key.rpartition("/")[2]: value for key, value in sample.seen().items()}
    message = {**named, "counter": sample.counter, "at": sample.at_us}
    return json.dumps(message, separators=(",", ":")).encode()


class Sensor:
    """One room sensor and its connection to the broker."""

    def __init__(self, device: Device, client: PublishingClient) -> None:
        self.device = device
        self.client = client

    def tick(self) -> None:
        """Publish one sample, as far as the device's fault and the connection let it."""
        fault = self.device.fault
        if fault in _PAUSED or not self.client.is_free:
            return
        topic = topic_of(self.device.name)
        if fault is Fault.SHORT:
            message = message_of(self.device.peek())
            self.client.publish(topic, message[: len(message) // 2])
            return
        sample = self.device.take()
        self.device.log(sample, sample.seen())
        self.client.publish(topic, message_of(sample))

    async def refuse(self, begins: bool) -> None:
        """Leave the broker, or come back."""
        if begins:
            self.client.leave()
        else:
            self.client.come_back()


class MqttSide:
    """All rooms; entered, their connections are kept up."""

    def __init__(self, devices: Sequence[Device], broker: Broker, client_prefix: str) -> None:
        self.broker = broker
        self.sensors = tuple(
            Sensor(device, PublishingClient(broker, f"{client_prefix}-{device.name}"))
            for device in devices
        )
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin to connect; a broker that is away is waited for."""
        self._running = [asyncio.create_task(sensor.client.run()) for sensor in self.sensors]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the broker acknowledge what is under way, then disconnect."""
        await asyncio.gather(*(sensor.client.drain(_DRAIN_S) for sensor in self.sensors))
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def tick(self) -> None:
        """Publish one sample of every room."""
        for sensor in self.sensors:
            sensor.tick()
