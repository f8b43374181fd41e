"""The decode matrix: one number of a manual, read in every way it may have been meant.

A manual rarely says how it counts addresses and how its bytes lie. So a place is read once, with
its neighbours, and shown under every notation, type and order; a person picks the right row.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np

from protocols.driver import PointSource
from protocols.modbus.driver import ModbusDriver
from protocols.modbus.options import BITS, ModbusPointOptions, Order, Table, ValueType
from protocols.modbus.values import Placed, decoder
from shared.errors import OptionsWrong
from shared.model import Point

NEIGHBOURS: Final = 1
"""Registers before and after the place that are tried as well."""

_WIDEST: Final = 4
_PLAUSIBLE: Final = (1e-3, 1e7)
_OFFSETS: Final[tuple[tuple[str, Table, int], ...]] = (
    ("3xxxx", "input", 30_001),
    ("4xxxx", "holding", 40_001),
    ("3xxxxx", "input", 300_001),
    ("4xxxxx", "holding", 400_001),
)
_SPAN: Final = {"3xxxx": 9_999, "4xxxx": 9_999, "3xxxxx": 65_536, "4xxxxx": 65_536}
_TYPES: Final = tuple(kind for kind in get_args(ValueType) if BITS[kind] >= 16)
_ORDERS: Final[tuple[Order, ...]] = get_args(Order)


@dataclass(frozen=True, slots=True)
class Address:
    """A number of a manual under one notation: the table and the register as sent."""

    notation: str
    table: Table
    register: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to read the place. `shift` is the distance in registers from the address."""

    address: Address
    shift: int
    type: ValueType
    order: Order
    value: float
    is_plausible: bool

    @property
    def source(self) -> dict[str, object]:
        """Give the point options that read it so."""
        register = self.address.register + self.shift
        order = {} if BITS[self.type] == 16 and self.order == "abcd" else {"order": self.order}
        return {"table": self.address.table, "register": register, "type": self.type, **order}


def addresses(number: int, table: Table = "holding") -> list[Address]:
    """Say what a number may mean: as sent, counted from 1, or with the table before it.

    Raises `OptionsWrong` if it can mean nothing.
    """
    meant = [
        Address(name, found, number - first)
        for name, found, first in _OFFSETS
        if 0 <= number - first < _SPAN[name]
    ]
    if table in {"coil", "discrete"}:
        msg = f"the table {table} holds single bits; there is nothing to try"
        raise OptionsWrong(msg)
    if 1 <= number <= 65_536:
        meant.append(Address("from 1", table, number - 1))
    if 0 <= number <= 65_535:
        meant.append(Address("from 0", table, number))
    if not meant:
        msg = f"{number} is no Modbus address: 0 to 65536, 3xxxx or 4xxxx"
        raise OptionsWrong(msg)
    return meant


async def read_matrix(driver: ModbusDriver, number: int, table: Table) -> list[Candidate]:
    """Read a place with its neighbours through an open driver; the plausible ways first.

    Raises `OptionsWrong` for a number that is no address, and `LinkLost`.
    """
    meant = addresses(number, table)
    cells = sorted({(one.table, cell) for one in meant for cell in _cells(one)})
    points = [
        PointSource(
            Point(f"cell/{at}"),
            ModbusPointOptions.model_validate({"table": found, "register": cell}),
        )
        for at, (found, cell) in enumerate(cells)
    ]
    # The first read learns which registers there are not; the second has all there are.
    plan = driver.plan(points)
    await driver.read(plan)
    columns = await driver.read(plan)
    words = {
        cell: int(value)
        for cell, value in zip(cells, columns.value.tolist(), strict=True)
        if math.isfinite(value)
    }
    found = [one for address in meant for one in candidates(address, words)]
    return sorted(found, key=lambda one: (not one.is_plausible, abs(one.shift)))


def candidates(address: Address, words: Mapping[tuple[Table, int], int]) -> Iterator[Candidate]:
    """Decode the words around an address in every way for which they are there."""
    for shift in range(-NEIGHBOURS, NEIGHBOURS + 1):
        for kind in _TYPES:
            first = address.register + shift
            cells = [words.get((address.table, first + at)) for at in range(BITS[kind] // 16)]
            present = [cell for cell in cells if cell is not None]
            if len(present) == len(cells):
                yield from _decoded(address, shift, kind, present)


def _decoded(
    address: Address, shift: int, kind: ValueType, words: Sequence[int]
) -> Iterator[Candidate]:
    image = np.frombuffer(b"".join(word.to_bytes(2, "big") for word in words), np.uint8)
    options = ModbusPointOptions(register=0, type=kind)
    for order in _ORDERS:
        if len(words) == 1 and order in {"cdab", "dcba"}:
            continue  # one word has no order of words
        value = decoder([Placed(0, 0, options, order)]).decode(image, np.zeros(1, np.uint16))
        number = float(value[0])
        if math.isfinite(number):
            yield Candidate(address, shift, kind, order, number, _is_plausible(number))


def _is_plausible(value: float) -> bool:
    """Tell whether a building has such a value: neither noise nor an unread counter."""
    low, high = _PLAUSIBLE
    return low <= abs(value) <= high


def _cells(address: Address) -> Iterator[int]:
    first = address.register - NEIGHBOURS
    for cell in range(first, first + 2 * NEIGHBOURS + _WIDEST):
        if 0 <= cell <= 65_535:
            yield cell
