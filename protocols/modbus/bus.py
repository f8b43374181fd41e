"""The one link to an address or a serial line, shared by all units behind it.

One request is in flight; units take turns, a read a turn, and writes go between the requests of a
read. Units that do not answer are asked again so seldom that all of them together take a tenth of
the time: the others keep their interval.
"""

import asyncio
from collections.abc import Sequence
from typing import ClassVar, Final, Self
from weakref import WeakValueDictionary

from protocols.modbus.codec import is_from_gateway
from protocols.modbus.connection import Connection, NoAnswer
from protocols.modbus.options import ModbusDeviceOptions, link_of
from protocols.modbus.turns import Turns
from shared.errors import LinkLost, OptionsWrong

DEAD_SHARE: Final = 0.1
"""The share of the time that all silent units of a bus may cost the others."""

AGAIN_S: Final = 1.0
"""So long after a failed connect the others are told the same without another try."""


class Bus:
    """A link that opens with its first unit and closes with its last."""

    _all: ClassVar[WeakValueDictionary[tuple[int, str], "Bus"]] = WeakValueDictionary()

    def __init__(self, options: ModbusDeviceOptions) -> None:
        """Keep what the link needs; nothing is opened."""
        self.options = options
        self._loop = asyncio.get_running_loop()
        self._turns = Turns()
        self.units = 0
        self._connection: Connection | None = None
        self._failed: tuple[float, str] = (0.0, "")
        self._silent_until: dict[int, float] = {}

    @classmethod
    async def joined(cls, options: ModbusDeviceOptions) -> Self:
        """Join the bus of these options, and connect if it is not connected.

        Raises `LinkLost`, and `OptionsWrong` where another unit set up the same line otherwise.
        """
        name = (id(asyncio.get_running_loop()), options.address)
        bus = cls._all.get(name)
        if bus is None or not bus.units:
            cls._all[name] = bus = cls(options)
        if link_of(bus.options) != link_of(options):
            msg = (
                f"Modbus {options.address}: another unit has other settings of this line:"
                f" {link_of(bus.options)}, here {link_of(options)}; make them the same"
            )
            raise OptionsWrong(msg)
        bus.units += 1
        try:
            await bus.connect()
        except BaseException:
            await bus.leave()
            raise
        assert isinstance(bus, cls)  # noqa: S101 - there is one class
        return bus

    async def leave(self) -> None:
        """Leave the bus; the last unit closes the link. What is under way ends with `LinkLost`."""
        self.units -= 1
        if self._connection is None:
            return
        if self.units == 0:
            connection, self._connection = self._connection, None
            await connection.close()
        else:
            self._connection.units = self.units

    async def ask(
        self, unit: int, pdus: Sequence[bytes], timeout_s: float, *, is_urgent: bool = False
    ) -> list[bytes]:
        """Make the requests of a unit one after the other; see `Connection.ask`."""
        self._refuse_silent(unit)
        answers: list[bytes] = []
        while len(answers) < len(pdus):
            async with self._turns.turn(is_urgent=is_urgent):
                answers += await self._asked(unit, pdus[len(answers) :], timeout_s)
            if is_from_gateway(answers[-1]):
                break
        return answers

    async def sound(self, unit: int, pdu: bytes, timeout_s: float) -> bytes | None:
        """Ask a unit that may not be there; None if it does not answer, which is held against none.

        Raises `LinkLost` if the link is gone.
        """
        async with self._turns.turn():
            if self._connection is None:
                raise LinkLost(f"Modbus {self.options.address}: not connected")
            try:
                (answer,) = await self._connection.ask([pdu], unit, timeout_s, may_be_silent=True)
            except NoAnswer:
                return None
            return answer

    async def _asked(self, unit: int, pdus: Sequence[bytes], timeout_s: float) -> list[bytes]:
        if self._connection is None:
            raise LinkLost(f"Modbus {self.options.address}: not connected")
        begun_s = self._loop.time()
        try:
            answers = await self._connection.ask(
                pdus, unit, timeout_s, self._turns.is_urgent_waiting
            )
        except NoAnswer:
            self._note_silent(unit, self._loop.time() - begun_s)
            raise
        self._silent_until.pop(unit, None)
        return answers

    def _note_silent(self, unit: int, waited_s: float) -> None:
        # Each of n silent units is asked once in n * w / share seconds, and costs w of them.
        self._silent_until[unit] = 0.0
        rest_s = waited_s * len(self._silent_until) * (1 / DEAD_SHARE - 1)
        self._silent_until[unit] = self._loop.time() + rest_s

    def _refuse_silent(self, unit: int) -> None:
        left_s = self._silent_until.get(unit, 0.0) - self._loop.time()
        if left_s > 0 and self.units > 1:
            raise LinkLost(
                f"Modbus {self.options.address} unit {unit}: no answer; asked again in"
                f" {left_s:.0f} s, so that the other units keep their turns"
            )

    async def connect(self) -> None:
        """Connect unless it is connected; raises `LinkLost`."""
        async with self._turns.turn():
            if self._connection is not None and self._connection.is_open:
                self._connection.units = self.units
                return
            failed_s, problem = self._failed
            if problem and self._loop.time() - failed_s < AGAIN_S and self.units > 1:
                raise LinkLost(problem)
            try:
                self._connection = await Connection.open(self.options)
            except LinkLost as error:
                self._failed = (self._loop.time(), str(error))
                raise
            self._connection.units = self.units
            await asyncio.sleep(self.options.pause_after_connect_s)


class Line:
    """A unit's own way onto its bus: what a read and a write ask through."""

    def __init__(self, bus: Bus, options: ModbusDeviceOptions) -> None:
        """Ask the unit of `options` over `bus`."""
        self._bus = bus
        self.options = options

    async def ask(self, pdus: Sequence[bytes], *, is_urgent: bool = False) -> list[bytes]:
        """Make requests one after the other; raises `LinkLost`."""
        options = self.options
        return await self._bus.ask(options.unit, pdus, options.timeout_s, is_urgent=is_urgent)

    async def close(self) -> None:
        """Leave the bus."""
        await self._bus.leave()
