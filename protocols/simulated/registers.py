"""How a Modbus device lays its quantities into registers, and what a client must read back."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_FORMATS: Final = {
    "uint16": "H",
    "int16": "h",
    "uint32": "I",
    "int32": "i",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}


@dataclass(frozen=True, slots=True)
class Register:
    """How one quantity is coded.

    An integer holds value * 10^decimals, kept within its limits; one that `wraps` starts again at
    0. `missing` is the raw value that says "not implemented"; floats say it by NaN.
    """

    name: str
    type: str
    decimals: int = 0
    low_word_first: bool = False
    missing: int | None = None
    wraps: bool = False

    @property
    def words(self) -> int:
        """Count the registers it takes."""
        return struct.calcsize(_FORMATS[self.type]) // 2

    @property
    def is_float(self) -> bool:
        """Tell whether it holds a float."""
        return self.type.startswith("float")

    def encode(self, value: float, *, lost: bool) -> tuple[Sequence[int], float | None]:
        """Code a value; gives the words, and what they mean to a client that reads them right.

        `lost` asks for a missing value; a register that has no way to say so keeps its value.
        """
        form = f">{_FORMATS[self.type]}"
        wanted = math.nan if lost and (self.is_float or self.missing is not None) else value
        packed = struct.pack(form, wanted if self.is_float else self._whole(wanted))
        words = struct.unpack(f">{self.words}H", packed)
        meaning = self._meaning(struct.unpack(form, packed)[0])
        return (words[::-1] if self.low_word_first else words), meaning

    def source(self, table: str, address: int) -> dict[str, Any]:
        """Describe it as the point options of the Modbus driver."""
        options: dict[str, Any] = {"table": table, "register": address, "type": self.type}
        if self.low_word_first:
            options["order"] = "cdab"
        if self.decimals:
            options["scale"] = float(f"1e{-self.decimals}")
        if self.missing is not None:
            options["sentinels"] = [self.missing]
        return options

    def _meaning(self, raw: float) -> float | None:
        if raw == self.missing or math.isnan(raw):
            return None
        if self.decimals < 0:
            return float(raw * 10**-self.decimals)
        return float(raw / 10**self.decimals)

    def _whole(self, value: float) -> int:
        if math.isnan(value):
            if self.missing is None:
                msg = f"{self.name} has no raw value that says 'missing'"
                raise ValueError(msg)
            return self.missing
        whole = round(value * 10.0**self.decimals)
        if self.wraps:
            return int(whole % 2 ** (16 * self.words))
        return self._within_limits(whole)

    def _within_limits(self, whole: int) -> int:
        """Clamp; a value that would read as the missing one becomes its neighbour."""
        span = 2 ** (16 * self.words)
        low = 0 if self.type.startswith("u") else -span // 2
        high = low + span - 1
        if self.missing == high:
            high -= 1
        elif self.missing == low:
            low += 1
        return int(min(max(whole, low), high))


@dataclass(frozen=True, slots=True)
class Layout:
    """One contiguous block of registers, so that one request reads the whole device."""

    table: str
    first: int
    registers: tuple[Register, ...]

    @property
    def words(self) -> int:
        """Count the registers of the block."""
        return sum(register.words for register in self.registers)

    def addresses(self) -> dict[str, int]:
        """Tell where each quantity begins."""
        addresses, address = {}, self.first
        for register in self.registers:
            addresses[register.name] = address
            address += register.words
        return addresses

    def holds(self, name: str, address: int, count: int) -> bool:
        """Tell whether a request for `count` registers from `address` reads a quantity whole."""
        begin = self.addresses()[name]
        words = next(each.words for each in self.registers if each.name == name)
        return address <= begin and begin + words <= address + count

    def encode(
        self, device: str, values: Mapping[str, float], *, lost: bool
    ) -> tuple[list[int], dict[str, float | None]]:
        """Code a sample: the words of the block, and what they mean by point key."""
        block: list[int] = []
        meanings: dict[str, float | None] = {}
        for register in self.registers:
            key = f"{device}/{register.name}"
            words, meanings[key] = register.encode(values[key], lost=lost)
            block += words
        return block, meanings

    def sources(self) -> dict[str, dict[str, Any]]:
        """Describe all quantities as point options of the Modbus driver, by name."""
        addresses = self.addresses()
        return {
            register.name: register.source(self.table, addresses[register.name])
            for register in self.registers
        }
