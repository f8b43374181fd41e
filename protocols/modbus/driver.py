"""The Modbus driver: reads a plan's points, says what failed and why, writes, identifies."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from protocols.driver import Node, Page, PointSource
from protocols.modbus import identity, sunspec
from protocols.modbus.bus import Bus, Line
from protocols.modbus.options import ModbusDeviceOptions, ModbusPointOptions
from protocols.modbus.plan import Plan, options_of
from protocols.modbus.sweep import Sweep
from protocols.modbus.writing import check_written, write_pdu, write_text_pdu
from shared.clock import Clock, SystemClock
from shared.columns import Columns
from shared.errors import LinkLost, OptionsWrong, Refused
from shared.model import Point


class ModbusDriver:
    """Reads one unit; satisfies `protocols.driver.Driver`.

    Units at one address share a link, on which one request is in flight at a time. Reads side by
    side wait for each other; a write goes between the requests of a read.
    """

    def __init__(self, options: ModbusDeviceOptions, *, clock: Clock | None = None) -> None:
        """Keep the options; nothing is opened before `async with`."""
        self._options = options
        self._clock = clock or SystemClock()
        self._line: Line | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Connect; raises `LinkLost`."""
        self._line = Line(await Bus.joined(self._options), self._options)
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
            sweep = Sweep(self._open(), plan, self._clock)
            await sweep.run()
            now_us = self._clock.now_us()
        observed_at = np.empty(plan.size, np.int64)
        observed_at.fill(now_us)
        image = np.frombuffer(sweep.image, np.uint8)
        value = plan.decoder.decode(image, sweep.quality)
        if not plan.decoder.texts:
            return Columns(plan.series, observed_at, value, sweep.quality)
        texts = plan.decoder.read_texts(image, value, sweep.quality)
        return Columns(plan.series, observed_at, value, sweep.quality, texts)

    async def write(
        self, source: PointSource, value: float | str | None, priority: int = 16
    ) -> None:
        """Write a point in its own byte order, to the nearest step of its scale.

        Modbus has no priorities, and nothing is given back. Raises `OptionsWrong`, `Refused`, or
        `LinkLost` if nobody can say whether it was written.
        """
        point = options_of(source)
        if value is None or isinstance(value, str) != (point.type == "string"):
            kind = "text" if point.type == "string" else "number"
            msg = f"{source.point.key}: Modbus gives nothing back; write a {kind}"
            raise OptionsWrong(msg)
        order = point.order or self._options.order
        if isinstance(value, str):
            pdu = write_text_pdu(point, order, value)
        else:
            pdu = write_pdu(point, order, value)
        (answer,) = await self._open().ask([pdu], is_urgent=True)
        check_written(pdu, answer)

    async def reach(self) -> str:
        """See whether somebody listens at the address; raises `LinkLost`."""
        bus = await Bus.joined(self._options)
        await bus.leave()
        return self._options.address

    async def identify(self) -> Mapping[str, str]:
        """Ask for the device identification; empty if the device does not tell."""
        async with self._turn:
            for level in (identity.REGULAR, identity.BASIC):
                try:
                    return identity.identity(await self._told(level))
                except identity.NotTold:
                    continue
        return {}

    async def _told(self, level: int) -> dict[str, str]:
        objects: dict[str, str] = {}
        following: int | None = 0
        for _ in range(identity.MAX_ANSWERS):
            if following is None:
                break
            answer = await self._asked(identity.request_pdu(level, following))
            told, following = identity.read_answer(answer)
            objects |= told
        return objects

    async def browse(self, parent: str = "", cursor: str = "", limit: int = 200) -> Page:
        """List the SunSpec models of the device, or the points of one with what they hold now.

        Raises `Refused` where the device shows none.
        """
        blocks = await sunspec.blocks_of(self._asked)
        if not blocks:
            msg = (
                f"{unit_of(self._options)} shows no SunSpec models, and Modbus has no other way to"
                " say what a device has: use a template, or the manual"
            )
            raise Refused(msg)
        if not parent:
            return sunspec.models_page(blocks, cursor, limit)
        block = sunspec.block_at(blocks, parent)
        most = self._options.max_registers
        registers = await sunspec.registers_of(self._asked, block, most)
        page = sunspec.points_page(blocks, block, registers, cursor, limit)
        return Page(await self._with_values(page.nodes), page.cursor)

    async def _with_values(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        readable = [node for node in nodes if node.source is not None]
        columns = await self.read(self.plan([_source(node) for node in readable]))
        values = {node.id: _shown(columns, row) for row, node in enumerate(readable)}
        return tuple(replace(node, value=values.get(node.id, "")) for node in nodes)

    async def _asked(self, pdu: bytes) -> bytes:
        (answer,) = await self._open().ask([pdu])
        return answer

    def _open(self) -> Line:
        if self._line is None:
            msg = f"Modbus {self._options.address}: not connected"
            raise LinkLost(msg)
        return self._line

    async def _disconnect(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close()


def unit_of(options: ModbusDeviceOptions) -> str:
    """Name the one device that these options reach."""
    return f"{options.address} unit {options.unit}"


def _source(node: Node) -> PointSource:
    point = Point(node.key, node.unit, node.type)
    return PointSource(point, ModbusPointOptions.model_validate(node.source))


def _shown(columns: Columns, row: int) -> str:
    if columns.quality[row]:
        return ""
    return columns.texts.get(row) or f"{columns.value[row]:.15g}"
