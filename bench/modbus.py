"""Stage `modbus`: CPU of polling ten devices of 120 float32, our driver against pymodbus.

Both sides make the same requests over ten connections at once, a gateway of 1,200 points, and end
with the same `Columns`. The server runs in a process of its own (`python -m bench.modbus`), so its
cost is not counted. A blocking socket makes the same requests and throws the answers away: what the
kernel alone costs (`socket_us_per_1000`), on both sides.
"""

import asyncio
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Final, cast

import numpy as np
import uvloop
from pymodbus.client import AsyncModbusTcpClient

from bench.stage import StageResult
from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusDriver, ModbusPointOptions
from shared.columns import Columns
from shared.model import Point

DEVICES: Final = 10
HOSTS: Final = [f"127.0.0.{nth}" for nth in range(1, DEVICES + 1)]
"""Each device has an address of its own: units at one address would share a link."""

HOST: Final = HOSTS[0]
POINTS: Final = 120
REQUESTS: Final = ((0, 124), (124, 116))
WIRE_BYTES: Final = len(REQUESTS) * (12 + 9) + 4 * POINTS
IMAGE: Final = struct.pack(f">{POINTS}f", *(row * 1.1 for row in range(POINTS)))
WANTED: Final = np.frombuffer(IMAGE, ">f4").astype(np.float64)
SERIES: Final = np.arange(POINTS, dtype=np.int32)
SLICE: Final = 20
"""Polls of one device before it is the other side's turn."""

Poll = Callable[[], Awaitable[Columns]]


@dataclass(slots=True)
class Side:
    """One way to poll: what each round took."""

    polls: list[Poll]
    cpu_us_per_1000: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0

    async def turn(self) -> None:
        """Poll every device `SLICE` times, all devices at once."""
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*(_repeat(poll) for poll in self.polls))
        self.cpu_s += time.process_time() - cpu
        self.wall_s += time.perf_counter() - wall

    def close_round(self, turns: int) -> None:
        """Write down what a round of `turns` took."""
        readings = turns * SLICE * len(self.polls) * POINTS
        self.cpu_us_per_1000.append(self.cpu_s * 1e9 / readings)
        self.rate.append(readings / self.wall_s)
        self.cpu_s = self.wall_s = 0.0


def run(rounds: int, quick: bool) -> StageResult:
    """Let both sides take turns, and compare the medians of the rounds."""
    turns = 3 if quick else 20
    with _server() as port:
        # The loop the gateway runs on, for both sides.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            ours, baseline = runner.run(_measure(port, rounds, turns))
        floor = median(_socket_us_per_1000(port, turns) for _ in range(rounds))
    cpu, cpu_baseline = median(ours.cpu_us_per_1000), median(baseline.cpu_us_per_1000)
    return StageResult(
        stage="modbus",
        metric="cpu_us_per_1000",
        ratio=cpu / cpu_baseline,
        better="lower",
        rate=median(ours.rate),
        baseline_rate=median(baseline.rate),
        cpu_us_per_1000=cpu,
        bytes_per_reading=WIRE_BYTES / POINTS,
        rounds=rounds,
        ours=_settings("protocols.modbus", cpu, floor),
        baseline=_settings("pymodbus AsyncModbusTcpClient", cpu_baseline, floor),
    )


async def _measure(port: int, rounds: int, turns: int) -> tuple[Side, Side]:
    async with AsyncExitStack() as stack:
        ours = Side([await _our_poll(host, port, stack) for host in HOSTS])
        baseline = Side([await _pymodbus_poll(host, port, stack) for host in HOSTS])
        for _ in range(rounds):
            for _ in range(turns):
                await ours.turn()
                await baseline.turn()
            ours.close_round(turns)
            baseline.close_round(turns)
        return ours, baseline


async def _repeat(poll: Poll) -> None:
    for _ in range(SLICE):
        columns = await poll()
    assert np.array_equal(columns.value, WANTED), "the poll gave other values"
    assert not columns.quality.any(), "the poll gave bad quality"


async def _our_poll(host: str, port: int, stack: AsyncExitStack) -> Poll:
    driver = ModbusDriver(ModbusDeviceOptions(host=host, port=port, max_registers=124))
    plan = driver.plan(
        [
            PointSource(Point(f"p{row}"), ModbusPointOptions(register=2 * row, type="float32"))
            for row in range(POINTS)
        ]
    )
    await stack.enter_async_context(driver)
    return lambda: driver.read(plan)


async def _pymodbus_poll(host: str, port: int, stack: AsyncExitStack) -> Poll:
    client = AsyncModbusTcpClient(host, port=port)
    await client.connect()
    stack.callback(client.close)

    async def poll() -> Columns:
        values = await _poll_pymodbus(client)
        observed_at = np.full(POINTS, time.time_ns() // 1_000, np.int64)
        return Columns(SERIES, observed_at, np.array(values), np.zeros(POINTS, np.uint16))

    return poll


def _socket_us_per_1000(port: int, turns: int) -> float:
    polls = turns * SLICE * DEVICES
    requests = [struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, *request) for request in REQUESTS]
    with socket.create_connection((HOST, port)) as link:
        cpu = time.process_time()
        for _ in range(polls):
            for request in requests:
                link.sendall(request)
                link.recv(512)
        return (time.process_time() - cpu) * 1e9 / (polls * POINTS)


async def _poll_pymodbus(client: AsyncModbusTcpClient) -> list[float]:
    values: list[float] = []
    for start, count in REQUESTS:
        answer = await client.read_holding_registers(start, count=count)
        decoded = client.convert_from_registers(answer.registers, client.DATATYPE.FLOAT32)
        values += cast(list[float], decoded)
    return values


def _settings(reader: str, cpu_us_per_1000: float, floor: float) -> dict[str, object]:
    return {
        "reader": reader,
        "connections": DEVICES,
        "points": POINTS,
        "type": "float32",
        "registers_per_request": [count for _, count in REQUESTS],
        "loop": "uvloop",
        "cpu_us_per_1000": cpu_us_per_1000,
        "socket_us_per_1000": floor,
    }


@contextmanager
def _server() -> Iterator[int]:
    """Run this module as the server; gives its port."""
    command = [sys.executable, "-m", "bench.modbus"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


class _Device(asyncio.Protocol):
    """Answers any read of holding registers out of the image; takes well-formed requests only."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        transaction, _, _, unit, function, start, count = struct.unpack(">HHHBBHH", data)
        taken = IMAGE[2 * start : 2 * (start + count)]
        head = struct.pack(">HHHBBB", transaction, 0, len(taken) + 3, unit, function, len(taken))
        self._transport.write(head + taken)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Device, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.get_running_loop().create_server(_Device, HOSTS[1:], port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
