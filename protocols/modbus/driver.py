"""The Modbus TCP driver: connects, reads a plan's points, tells what could not be read and why."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from protocols.driver import DriverType, PointSource
from protocols.modbus.codec import GATEWAY_CODES, ILLEGAL_ADDRESS, Failed, answer_data
from protocols.modbus.connection import Connection
from protocols.modbus.options import ModbusDeviceOptions, ModbusPointOptions
from protocols.modbus.plan import Block, Plan
from protocols.modbus.spans import is_bits
from shared.clock import Clock, SystemClock
from shared.columns import Columns
from shared.errors import LinkLost

MAX_HALVINGS: Final = 32
"""Halvings of refused requests in one read; the next read goes on, so none takes for ever."""


class ModbusDriver:
    """Reads one unit over one connection; satisfies `protocols.driver.Driver`.

    Reads side by side wait for each other: a device gets one request at a time.
    """

    def __init__(self, options: ModbusDeviceOptions, *, clock: Clock | None = None) -> None:
        """Keep the options; nothing is opened before `async with`."""
        self._options = options
        self._clock = clock or SystemClock()
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Connect; raises `LinkLost`."""
        options = self._options
        self._connection = await Connection.open(
            options.host, options.port, options.connect_timeout_s
        )
        if options.pause_after_connect_s:
            try:
                await asyncio.sleep(options.pause_after_connect_s)
            except asyncio.CancelledError:
                await self._disconnect()
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect; a read still under way ends with `LinkLost`."""
        await self._disconnect()

    def plan(self, points: Sequence[PointSource]) -> Plan:
        """Merge the points into requests; raises `OptionsWrong`.

        The plan learns which registers the device does not know. It may be read through any driver
        with the same options, so it outlives a reconnect, but through one at a time.
        """
        return Plan(points, self._options)

    async def read(self, plan: Plan) -> Columns:
        """Read every point once, all of them stamped with the time of the last answer.

        Raises `LinkLost` if the connection is gone or an answer takes longer than `timeout_s`; the
        driver is of no use then. A cancelled read leaves it usable.
        """
        async with self._turn:
            if self._connection is None:
                msg = f"Modbus {self._options.host}:{self._options.port}: not connected"
                raise LinkLost(msg)
            sweep = _Sweep(self._connection, self._options, plan, self._clock)
            await sweep.run()
            observed_at = np.full(plan.size, self._clock.now_us(), np.int64)
        value = plan.decoder.decode(sweep.image, sweep.quality)
        return Columns(plan.series, observed_at, value, sweep.quality)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


class _Sweep:
    """One read of a plan: asks block by block, gathers the image, halves what is refused."""

    def __init__(
        self, connection: Connection, options: ModbusDeviceOptions, plan: Plan, clock: Clock
    ) -> None:
        self.image: NDArray[np.uint8] = np.zeros(plan.image_bytes, np.uint8)
        self.quality = plan.quality()
        self._connection = connection
        self._options = options
        self._plan = plan
        self._clock = clock
        self._halvings = 0

    async def run(self) -> None:
        """Ask for every block, then for one hole that is due."""
        at = 0
        while at < len(self._plan.blocks):
            at = await self._step(at)
        self._plan.tidy()
        await self._retry_hole()

    async def _step(self, at: int) -> int:
        """Ask for block `at`; tell which one is next."""
        block = self._plan.blocks[at]
        failed = await self._ask(block)
        if failed is None:
            return at + 1
        if failed.code == ILLEGAL_ADDRESS and self._halvings < MAX_HALVINGS:
            self._halvings += 1
            if len(block.spans) > 1:
                self._plan.halve(at)
                return at
            self._plan.bury(at, self._clock.monotonic_s())
            self.quality[block.rows] = failed.quality
            return at
        self.quality[block.rows] = failed.quality
        if failed.code not in GATEWAY_CODES:
            return at + 1
        for left in self._plan.blocks[at + 1 :]:  # a gateway would wait as long for each of them
            self.quality[left.rows] = failed.quality
        return len(self._plan.blocks)

    async def _retry_hole(self) -> None:
        hole = self._plan.due_hole(self._clock.monotonic_s())
        if hole is None:
            return
        failed = await self._ask(hole.block)
        if failed is None:
            self.quality[hole.block.rows] = 0
            self._plan.fill(hole)
        else:
            self.quality[hole.block.rows] = failed.quality
            self._plan.keep(hole, self._clock.monotonic_s())

    async def _ask(self, block: Block) -> Failed | None:
        """Read a block into the image; give the reason if the device did not let us."""
        pdu = await self._connection.request(self._options.unit, block.pdu, self._options.timeout_s)
        try:
            data = answer_data(pdu, block.span.table, block.count)
        except Failed as failed:
            return failed
        taken = np.frombuffer(data, np.uint8)
        if is_bits(block.span.table):
            taken = np.unpackbits(taken, count=block.count, bitorder="little")
        self.image[block.at : block.at + len(taken)] = taken
        return None


def driver_type() -> DriverType:
    """Describe the Modbus driver to the registry."""
    return DriverType(
        name="modbus",
        device_options=ModbusDeviceOptions,
        point_options=ModbusPointOptions,
        make=ModbusDriver,
    )
