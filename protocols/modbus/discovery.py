"""Looks for Modbus devices: which units answer at addresses or on a serial line, and who they are.

A unit is asked for one holding register: any answer, also an exception, says that it is there. A
link that the gateway uses already is shared, and its units keep their turns.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from protocols import templates
from protocols.driver import Found, Node
from protocols.modbus.bus import Bus
from protocols.modbus.codec import is_from_gateway, request_pdu
from protocols.modbus.driver import ModbusDriver
from protocols.modbus.options import ModbusDeviceOptions
from protocols.modbus.search import ModbusSearch, lanes_of
from shared.errors import DriverError, LinkLost

_PROBE: Final = request_pdu("holding", 0, 1)
_NOBODY: Final = (247, 246, 248)
"""Unit ids that are hardly ever given: who answers to one of them answers to every one."""

_COMMON: Final = {"Mn": "vendor", "Md": "model", "Vr": "version", "SN": "serial"}
"""What SunSpec's common model tells, under the names of the contract."""

_ADDRESS: Final = ("host", "port", "unit", "transport", "serial", "baudrate", "parity")


async def discover(
    search: ModbusSearch, progress: Callable[[float], None]
) -> AsyncGenerator[Found]:
    """Ask every unit at every place, and tell of those that answer.

    Raises `OptionsWrong` for a search that cannot be. Places where nobody listens are passed over.
    """
    lanes = await lanes_of(search)
    await asyncio.to_thread(templates.built_in)  # read from disk before anything waits for them
    total = len(search.units) * sum(map(len, lanes))
    hunt = _Hunt(search, iter(lanes), _Progress(progress, total), asyncio.Queue(2 * total))
    workers = [asyncio.create_task(hunt.work()) for _ in lanes[: search.at_once]]
    left = len(workers)
    try:
        while left:
            found = await hunt.found.get()
            if found is None:
                left -= 1
            else:
                yield found
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


@dataclass(slots=True)
class _Progress:
    """Tells the share of the units that were asked."""

    tell: Callable[[float], None]
    total: int
    done: int = 0

    def add(self, count: int) -> None:
        self.done += count
        self.tell(self.done / self.total)


@dataclass(slots=True)
class _Hunt:
    """What the workers of one search share; `found` has room for all there can be."""

    search: ModbusSearch
    lanes: Iterator[Sequence[ModbusDeviceOptions]]
    progress: _Progress
    found: asyncio.Queue[Found | None]
    _free_s: float = field(default=0.0)

    async def work(self) -> None:
        """Look at one place after the other until none is left, and say so by None."""
        try:
            for lane in self.lanes:
                for place in lane:
                    await self._look_at(place)
        finally:
            self.found.put_nowait(None)

    async def _look_at(self, place: ModbusDeviceOptions) -> None:
        asked = 0
        with suppress(DriverError):  # nobody listens, or the line is set up otherwise
            bus = await Bus.joined(place)
            try:
                for unit in await self._answering(bus, place):
                    self.found.put_nowait(await _told(place.model_copy(update={"unit": unit})))
            finally:
                await bus.leave()
            asked = len(self.search.units)
        self.progress.add(len(self.search.units) - asked)

    async def _answering(self, bus: Bus, place: ModbusDeviceOptions) -> list[int]:
        """List the units that answer; the first alone where every one does."""
        there = []
        for unit in self.search.units:
            if await self._is_there(bus, unit, place):
                there.append(unit)
            self.progress.add(1)
        if len(there) > 1:
            decoy = next(unit for unit in _NOBODY if unit not in there or unit == _NOBODY[-1])
            if decoy not in self.search.units and await self._is_there(bus, decoy, place):
                return there[:1]
        return there

    async def _is_there(self, bus: Bus, unit: int, place: ModbusDeviceOptions) -> bool:
        await self._turn()
        try:
            await bus.connect()  # a device may close the connection over a unit it does not know
            answer = await bus.sound(unit, _PROBE, place.timeout_s)
        except LinkLost:
            return False
        return answer is not None and not is_from_gateway(answer)

    async def _turn(self) -> None:
        """Space the requests of all workers."""
        now_s = asyncio.get_running_loop().time()
        self._free_s = max(now_s, self._free_s) + 1 / self.search.requests_per_s
        await asyncio.sleep(self._free_s - now_s)


async def _told(options: ModbusDeviceOptions) -> Found:
    """Ask a unit that answers who it is."""
    facts: dict[str, str] = {}
    with suppress(DriverError):
        async with ModbusDriver(options) as driver:
            facts |= await driver.identify()
            facts |= await _sunspec_facts(driver)
    fitting = templates.fitting("modbus", facts.get("vendor", ""), facts.get("model", ""))
    if fitting:
        facts["templates"] = ", ".join(fitting)
    who = " ".join(facts[key] for key in ("vendor", "model") if facts.get(key)) or "Modbus device"
    return Found(f"{who} ({options.address} unit {options.unit})", _address(options), facts)


async def _sunspec_facts(driver: ModbusDriver) -> dict[str, str]:
    models = (await driver.browse()).nodes
    facts = {"sunspec": ", ".join(model.name for model in models)}
    common = (await driver.browse(models[0].id)).nodes
    return facts | {_COMMON[node.name]: node.value for node in common if _is_common(node)}


def _is_common(node: Node) -> bool:
    return node.name in _COMMON and bool(node.value)


def _address(options: ModbusDeviceOptions) -> dict[str, Any]:
    given = options.model_dump(exclude_unset=True)
    return {name: given[name] for name in _ADDRESS if name in given}
