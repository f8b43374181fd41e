"""The Modbus TCP driver: connects, reads a plan's points, tells what could not be read and why."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np

from protocols.driver import DriverType, PointSource
from protocols.modbus.connection import Connection
from protocols.modbus.options import ModbusDeviceOptions, ModbusPointOptions
from protocols.modbus.plan import Plan
from protocols.modbus.sweep import Sweep
from shared.clock import Clock, SystemClock
from shared.columns import Columns
from shared.errors import LinkLost


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
        self._connection = await Connection.open(options)
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
            sweep = Sweep(self._connection, plan, self._clock)
            await sweep.run()
            now_us = self._clock.now_us()
        observed_at = np.empty(plan.size, np.int64)
        observed_at.fill(now_us)
        value = plan.decoder.decode(np.frombuffer(sweep.image, np.uint8), sweep.quality)
        return Columns(plan.series, observed_at, value, sweep.quality)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def driver_type() -> DriverType:
    """Describe the Modbus driver to the registry."""
    return DriverType(
        name="modbus",
        device_options=ModbusDeviceOptions,
        point_options=ModbusPointOptions,
        make=ModbusDriver,
    )
