"""An IEEE 1547 inverter that pysunspec2 ships for its own tests: registers, and what they mean.

pysunspec2 1.3.7 (Apache-2.0) is the oracle here: it lays the device out and scales its values,
and our driver is not asked.
"""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

START: Final = 40_000
_UNSEEN: Final = frozenset({"pad", "sunssf"})


@dataclass(frozen=True, slots=True)
class Expected:
    """A point: what a reader must show, None where the device says 'not implemented'."""

    model: int
    name: str
    address: int
    type: str
    value: float | str | None
    is_repeated: bool
    is_scale_told: bool = True
    """If not, pysunspec2 shows the raw value, and nobody knows what it means."""


@dataclass(slots=True)
class SunspecDevice:
    """Registers by address, and the points in them."""

    registers: dict[int, int] = field(default_factory=dict)
    points: list[Expected] = field(default_factory=list)
    models: int = 0

    def put(self, address: int, data: bytes) -> int:
        """Put bytes into registers; gives the address behind them."""
        for at in range(0, len(data), 2):
            self.registers[address + at // 2] = int.from_bytes(data[at : at + 2], "big")
        return address + len(data) // 2


@cache
def sunspec_device(start: int = START) -> SunspecDevice:
    """Lay the device out from `start` on."""
    import sunspec2  # noqa: PLC0415 - untyped, and only here
    from sunspec2.file import client  # noqa: PLC0415

    folder = os.path.dirname(sunspec2.__file__)  # noqa: PTH120
    source = client.FileClientDevice(f"{folder}/tests/test_data/device_1547.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its file open
        source.scan()
    device = SunspecDevice()
    at = device.put(start, b"SunS")
    for number in (key for key in source.models if isinstance(key, int)):
        for model in source.models[number]:
            device.models += 1
            device.points += _points(model, number, at, ())
            at = device.put(at, model.get_mb())
    device.put(at, b"\xff\xff\x00\x00")
    return device


def _points(group: Any, model: int, start: int, path: tuple[str, ...]) -> Iterator[Expected]:
    for name, point in group.points.items():
        kind = point.pdef["type"]
        if kind not in _UNSEEN:
            shown = ".".join((*path, name))
            value = point.cvalue if point.is_impl() else None
            address, is_told = start + point.offset, _is_scale_told(point)
            yield Expected(model, shown, address, kind, value, bool(path), is_told)
    for name, inner in group.groups.items():
        several = inner if isinstance(inner, list) else [inner]
        for nth, one in enumerate(several, 1):
            step = f"{name}{nth}" if isinstance(inner, list) else name
            yield from _points(one, model, start, (*path, step))


def _is_scale_told(point: Any) -> bool:
    return not point.sf_required or point.sf_value is not None
