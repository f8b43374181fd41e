"""Connections to one broker: a question goes out, its answer comes back, one at a time on each."""

import asyncio
import ssl
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from central.messaging.kafka_requests import Answer, NotNow, Question, hello
from central.messaging.log import LogAway

CONNECT_S: Final = 3.0
ANSWER_S: Final = 8.0
"""How long a broker has for an answer, beyond what the question itself lets it wait."""
MAX_ANSWER_BYTES: Final = 128 * 1024 * 1024
READ_AHEAD_BYTES: Final = 1024 * 1024
_SIZE: Final = struct.Struct(">i")
_NOT_READABLE: Final = (ValueError, LookupError, TypeError, AttributeError, struct.error)
_NOT_KAFKA: Final = "is that Kafka, and with the TLS that was set?"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker listens, and the PEM files for TLS (None: no TLS)."""

    host: str
    port: int
    ca: Path | None = None
    identity: Path | None = None

    def __str__(self) -> str:
        """Tell host and port."""
        return f"{self.host}:{self.port}"

    def tls(self) -> ssl.SSLContext | None:
        """Read the files as they are now, for certificates are renewed while we run."""
        if self.ca is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.identity is not None:
                context.load_cert_chain(self.identity)
        except OSError as error:
            files = f"{self.ca} and {self.identity}"
            raise LogAway(f"no TLS to Kafka: {files} cannot be used: {error}") from error
        return context


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._asked = 0

    @property
    def is_open(self) -> bool:
        return not (self._reader.at_eof() or self._writer.is_closing())

    async def ask(self, question: Question[Any]) -> bytes:
        self._asked += 1
        self._writer.write(question.encode(self._asked))
        await self._writer.drain()
        (size,) = _SIZE.unpack(await self._reader.readexactly(_SIZE.size))
        if not 0 < size <= MAX_ANSWER_BYTES:
            raise OSError(f"an answer of {size} bytes: {_NOT_KAFKA}")
        return await self._reader.readexactly(size)

    def close(self) -> None:
        # Not gently: nobody waits for an answer any more, and TLS would wait for the peer.
        self._writer.transport.abort()

    async def wait_closed(self) -> None:
        with suppress(OSError):
            await self._writer.wait_closed()


@dataclass(slots=True, eq=False)
class Line:
    """Up to `limit` connections to one broker; who comes when all are in use waits for one.

    A connection whose question failed or was cancelled is closed and never used again, so no
    answer can reach the wrong asker.
    """

    address: Address
    limit: int
    used: int = field(init=False, default=0)
    """How many connections have a question under way."""
    _free: asyncio.Semaphore = field(init=False)
    _idle: deque[_Connection] = field(init=False)

    def __post_init__(self) -> None:
        """Open nothing yet."""
        self._free = asyncio.Semaphore(self.limit)
        self._idle = deque(maxlen=self.limit)

    async def ask(self, question: Question[Answer], wait_s: float = 0.0) -> Answer:
        """Ask once; `wait_s` is what the question lets the broker wait.

        Raises `NotNow` where there is no connection or no answer, else what the answer says.
        """
        async with self._free:
            payload = await self._exchange(question, ANSWER_S + wait_s)
        with _broken(self.address):
            return question.decode(payload)

    async def close(self) -> None:
        """Close what is not in use."""
        while self._idle:
            connection = self._idle.pop()
            connection.close()
            await connection.wait_closed()

    async def _exchange(self, question: Question[Any], limit_s: float) -> bytes:
        connection = self._pop() or await _connect(self.address)
        self.used += 1
        try:
            with _broken(self.address):
                async with asyncio.timeout(limit_s):
                    payload = await connection.ask(question)
        except BaseException:
            connection.close()
            raise
        finally:
            self.used -= 1
        self._idle.append(connection)
        return payload

    def _pop(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            connection.close()
        return None


async def _connect(address: Address) -> _Connection:
    tls = address.tls()
    with _broken(address):
        async with asyncio.timeout(CONNECT_S):
            opened = await asyncio.open_connection(
                address.host, address.port, ssl=tls, limit=READ_AHEAD_BYTES
            )
    connection = _Connection(*opened)
    question = hello()
    try:
        with _broken(address):
            async with asyncio.timeout(CONNECT_S):
                payload = await connection.ask(question)
            question.decode(payload)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _broken(address: Address) -> Iterator[None]:
    """Say where it broke."""
    try:
        yield
    except TimeoutError as error:
        raise NotNow(f"Kafka broker {address} does not answer in time") from error
    except (OSError, EOFError) as error:
        raise NotNow(f"Kafka broker {address} is away: {error}") from error
    except _NOT_READABLE as error:
        raise LogAway(f"Kafka broker {address} answers what we do not read: {error}") from error
