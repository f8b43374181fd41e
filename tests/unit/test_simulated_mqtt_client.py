"""The publishing client: bounded, and what was not acknowledged is sent again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from protocols.simulated.mqtt_client import (
    MAX_UNACKNOWLEDGED,
    Broker,
    PublishingClient,
    packed,
)

Packet = tuple[int, bytes]


class StubbornBroker:
    """Accepts connections, keeps what it is sent, and acknowledges only when it is told to."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.code = 0
        self._server: asyncio.Server | None = None

    async def open(self) -> Broker:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return Broker("127.0.0.1", self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        for writer in self.writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def acknowledge(self, packet: Packet) -> None:
        self.writers[-1].write(packed(0x40, packet_id(packet)))

    def published(self) -> list[Packet]:
        return [packet for packet in self.packets if packet[0] & 0xF0 == 0x30]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with suppress(asyncio.IncompleteReadError):
            while True:
                kind, length = await reader.readexactly(2)
                self.packets.append((kind, await reader.readexactly(length)))
                if kind == 0x10:
                    writer.write(packed(0x20, b"\0", bytes((self.code,))))


def packet_id(packet: Packet) -> bytes:
    topic_length = int.from_bytes(packet[1][:2], "big")
    return packet[1][2 + topic_length : 4 + topic_length]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- the peer sets no event
            await asyncio.sleep(0.005)


@pytest.fixture
async def broker() -> AsyncIterator[StubbornBroker]:
    broker = StubbornBroker()
    yield broker
    await broker.close()


@pytest.fixture
async def client(broker: StubbornBroker) -> AsyncIterator[PublishingClient]:
    client = PublishingClient(await broker.open(), "sensor")
    running = asyncio.create_task(client.run())
    yield client
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_it_stops_taking_more_when_the_broker_does_not_keep_up(
    broker: StubbornBroker, client: PublishingClient
) -> None:
    await until(lambda: client.is_free)
    for number in range(MAX_UNACKNOWLEDGED):
        assert client.is_free
        client.publish("t", b"%d" % number)
    assert not client.is_free
    await until(lambda: len(broker.published()) == MAX_UNACKNOWLEDGED)
    broker.acknowledge(broker.published()[3])
    await until(lambda: client.is_free)


async def test_what_was_not_acknowledged_is_sent_again_as_a_duplicate(
    broker: StubbornBroker, client: PublishingClient
) -> None:
    await until(lambda: client.is_free)
    for body in (b"one", b"two", b"three"):
        client.publish("t", body)
    await until(lambda: len(broker.published()) == 3)
    broker.acknowledge(broker.published()[0])
    await until(lambda: len(client._waiting) == 2)
    broker.writers[-1].close()
    await until(lambda: len(broker.published()) == 5)
    again = broker.published()[3:]
    assert [packet[0] for packet in again] == [0x3A, 0x3A]
    assert [packet[1] for packet in again] == [packet[1] for packet in broker.published()[1:3]]
    for packet in again:
        broker.acknowledge(packet)
    await asyncio.wait_for(client.drain(10), 10)
    assert not client._waiting


async def test_it_leaves_and_comes_back(broker: StubbornBroker, client: PublishingClient) -> None:
    await until(lambda: client.is_free)
    client.leave()
    assert not client.is_free
    await until(lambda: (0xE0, b"") in broker.packets)
    with pytest.raises(ConnectionError, match="sensor is not connected"):
        client.publish("t", b"")
    client.come_back()
    await until(lambda: client.is_free)
    assert len(broker.writers) == 2


async def test_a_broker_that_refuses_is_tried_again(
    broker: StubbornBroker, client: PublishingClient
) -> None:
    broker.code = 5
    await until(lambda: len(broker.writers) >= 2)
    assert not client.is_free
    broker.code = 0
    await until(lambda: client.is_free)


def test_long_packets_have_a_length_in_groups_of_seven_bits() -> None:
    assert packed(0x32, b"x" * 127)[:2] == b"\x32\x7f"
    assert packed(0x32, b"x" * 321)[:3] == b"\x32\xc1\x02"
