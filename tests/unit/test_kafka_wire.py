"""Connections to brokers that are none, are silent, go away, or answer something else."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kafka.protocol.metadata import ApiVersionsResponse

from central.messaging import LogAway
from central.messaging import kafka_wire as wire
from central.messaging.kafka_brokers import KafkaPlace
from central.messaging.kafka_requests import NotNow, describe, hello
from central.messaging.kafka_wire import Address, Line
from shared.errors import SettingsError

DEADLINE_S = 60
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def broker(answer: Answering) -> AsyncIterator[Address]:
    """Serve what is no Kafka on a free port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address(*server.sockets[0].getsockname())


async def read_question(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def versions(newest_fetch: int = 18) -> bytes:
    """Answer which versions are spoken: all of Kafka 4.4, but for fetch."""
    spoken = {0: (3, 13), 1: (4, newest_fetch), 2: (1, 11), 3: (0, 13), 19: (2, 7), 20: (1, 6)}
    kind = ApiVersionsResponse.ApiVersion
    keys = [
        kind(api_key=key, min_version=low, max_version=high)
        for key, (low, high) in {**spoken, 21: (0, 2)}.items()
    ]
    answer = ApiVersionsResponse(error_code=0, api_keys=keys)
    encoded: bytes = answer.encode(version=3)
    body = struct.pack(">i", 1) + encoded
    return struct.pack(">i", len(body)) + body


async def test_one_that_is_silent_is_told_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "CONNECT_S", 0.2)

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with broker(say_nothing) as address, asyncio.timeout(DEADLINE_S):
        with pytest.raises(NotNow, match=rf"{address} does not answer in time"):
            await Line(address, 1).ask(describe("spine.demo.readings"))


async def test_one_that_goes_away_is_told() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_question(reader)
        writer.write(versions())
        await read_question(reader)

    async with broker(hang_up) as address, asyncio.timeout(DEADLINE_S):
        line = Line(address, 1)
        for _ in range(3):
            with pytest.raises(NotNow, match=rf"{address} is away"):
                await line.ask(describe("spine.demo.readings"))
        assert line.used == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is that Kafka"),
        (b"\x15\x03\x03\x00\x02\x02\x50", "is that Kafka"),
        (struct.pack(">i", 3) + b"abc", "what we do not read"),
        (struct.pack(">i", 20) + b"\xff" * 20, "what we do not read"),
    ],
    ids=["a web server", "a TLS alert", "too short", "garbage"],
)
async def test_one_that_is_not_kafka_is_told(text: bytes, reason: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_question(reader)
        writer.write(text)
        await reader.read()

    async with broker(answer) as address, asyncio.timeout(DEADLINE_S):
        with pytest.raises(LogAway, match=reason):
            await Line(address, 1).ask(hello())


async def test_a_kafka_that_is_too_old_is_told_with_what_is_needed() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_question(reader)
        writer.write(versions(newest_fetch=11))
        await reader.read()

    async with broker(answer) as address, asyncio.timeout(DEADLINE_S):
        with pytest.raises(LogAway, match=r"FetchRequest.*Kafka 4\.1 or newer is needed"):
            await Line(address, 1).ask(describe("spine.demo.readings"))


async def test_no_more_connections_than_the_limit_are_open() -> None:
    opened = most = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened, most
        opened += 1
        most = max(most, opened)
        try:
            while await read_question(reader):
                writer.write(versions())
        finally:
            opened -= 1

    async with broker(count) as address, asyncio.timeout(DEADLINE_S):
        line = Line(address, 3)
        await asyncio.gather(*(line.ask(hello()) for _ in range(50)))
        await line.close()
    assert 1 <= most <= 3


async def test_a_connection_whose_question_was_cancelled_is_not_used_again() -> None:
    connections = 0
    asked = asyncio.Event()

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_question(reader)
        writer.write(versions())
        await read_question(reader)
        asked.set()
        if connections > 1:
            writer.write(versions())
        await reader.read()

    async with broker(answer_late) as address, asyncio.timeout(DEADLINE_S):
        line = Line(address, 1)
        asking = asyncio.create_task(line.ask(hello()))
        await asked.wait()
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()

        await line.ask(hello())
        await line.close()
    assert connections == 2


async def test_missing_files_for_tls_are_named(tmp_path: Path) -> None:
    address = Address("127.0.0.1", 1, tmp_path / "ca.pem", tmp_path / "central.pem")
    with pytest.raises(LogAway, match=r"ca\.pem and .*central\.pem"):
        await Line(address, 1).ask(hello())


def test_a_place_names_its_brokers() -> None:
    place = KafkaPlace("kafka1:9092, [::1]:9093,10.0.0.3:19092")
    assert [str(each) for each in place.addresses()] == [
        "kafka1:9092",
        "::1:9093",
        "10.0.0.3:19092",
    ]


@pytest.mark.parametrize("text", ["", "kafka1", "kafka1:", ":9092", "a:0", "a:70000", "a:1,,b:2"])
def test_a_place_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not host:port"):
        KafkaPlace(text).addresses()
