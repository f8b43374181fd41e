"""Runs of registers (or bits) and how they are merged into requests, pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from protocols.modbus.options import ModbusDeviceOptions, ModbusPointOptions, Table

_BITS_PER_REGISTER: Final = 16
_MAX_BITS: Final = 2_000


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Registers (bits in a bit table) of one table: start up to end, end not included."""

    table: Table
    start: int
    end: int

    def covers(self, other: "Span") -> bool:
        """Tell whether all of `other` lies within."""
        return self.table == other.table and self.start <= other.start and other.end <= self.end


def span_of(options: ModbusPointOptions) -> Span:
    """Tell which registers (bits) a point takes."""
    return Span(options.table, options.register_, options.register_ + options.width)


def scale_span_of(options: ModbusPointOptions) -> Span | None:
    """Tell which register holds a point's power of ten, if one does."""
    register = options.scale_register
    return None if register is None else Span(options.table, register, register + 1)


def hull(spans: Sequence[Span]) -> Span:
    """Give the one span from the first of sorted spans to the furthest end."""
    return Span(spans[0].table, spans[0].start, max(span.end for span in spans))


def is_bits(table: Table) -> bool:
    """Tell whether a table holds single bits."""
    return table in {"coil", "discrete"}


def limit_of(table: Table, device: ModbusDeviceOptions) -> int:
    """Tell how many registers (bits) one request of a table may ask for."""
    if is_bits(table):
        return min(_MAX_BITS, device.max_registers * _BITS_PER_REGISTER)
    return device.max_registers


def limited(device: ModbusDeviceOptions, table: Table, count: int) -> ModbusDeviceOptions:
    """Give options of a device that takes at most `count` registers (bits) of a table at once."""
    registers = -(-count // _BITS_PER_REGISTER) if is_bits(table) else count
    return device.model_copy(update={"max_registers": min(device.max_registers, registers)})


def merge(
    spans: Iterable[Span], device: ModbusDeviceOptions, refused: Sequence[Span] = ()
) -> list[tuple[Span, ...]]:
    """Merge spans into runs of one request each: sorted once, then one pass.

    No run of several spans covers one that was `refused`. As every part of a run is one too, there
    are no fewer runs to be had.
    """
    runs: list[list[Span]] = []
    end = 0
    for span in sorted(spans):
        if runs and _fits(runs[-1][0], end, span, device, refused):
            runs[-1].append(span)
            end = max(end, span.end)
        else:
            runs.append([span])
            end = span.end
    return [tuple(run) for run in runs]


def narrowed(refused: Span, answered: Iterable[Span]) -> Span | None:
    """Cut off from a refused span what was answered at its ends: the rest holds the unknown.

    None where nothing is left: the device did not refuse a register, but so many at once.
    """
    start, end = refused.start, refused.end
    parts = sorted(one for one in answered if one.table == refused.table)
    for part in parts:
        if part.start <= start < part.end:
            start = part.end
    for part in reversed(parts):
        if part.start < end <= part.end:
            end = part.start
    return Span(refused.table, start, end) if start < end else None


def middle_of(spans: Sequence[Span]) -> int:
    """Choose where to halve: at the widest gap of the middle half, else in the middle.

    A register that a device does not know lies most often in a gap; keeping to the middle half
    finds it in a number of steps that grows with the logarithm only.
    """
    count = len(spans)
    gaps = [later.start - earlier.end for earlier, later in pairwise(spans)]
    choices = range(max(1, count // 4), count - count // 4)
    return max(choices, key=lambda at: (max(0, gaps[at - 1]), -abs(2 * at - count)))


def _fits(
    first: Span, end: int, span: Span, device: ModbusDeviceOptions, refused: Sequence[Span]
) -> bool:
    gap = device.max_gap * (_BITS_PER_REGISTER if is_bits(span.table) else 1)
    both = Span(span.table, first.start, max(end, span.end))
    return (
        first.table == span.table
        and span.start - end <= gap
        and both.end - both.start <= limit_of(span.table, device)
        and not any(both.covers(one) for one in refused)
    )
