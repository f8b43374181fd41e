"""Which requests read a plan's points, and what was learned of the device's holes.

Points that lie near each other share a request. A device that does not know one register of a
request refuses all of it (exception 2): the request is then halved until the unknown one is alone;
that *hole* is asked for again only now and then, so the living points keep arriving.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.driver import PointSource
from protocols.modbus.codec import request_pdu
from protocols.modbus.options import ModbusDeviceOptions, ModbusPointOptions
from protocols.modbus.spans import (
    Span,
    hull,
    is_bits,
    limited,
    merge,
    middle_of,
    narrowed,
    scale_span_of,
    span_of,
)
from protocols.modbus.values import Placed, decoder
from shared.errors import OptionsWrong
from shared.quality import Reason, bad

WRONG_ADDRESS: Final = bad(Reason.WRONG_ADDRESS)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One request: its spans in ascending order, the rows they feed, where its data goes."""

    spans: tuple[Span, ...]
    span: Span
    count: int
    rows: NDArray[np.intp]
    pdu: bytes
    at: int


@dataclass(slots=True, eq=False)
class Hole:
    """What the device does not know, and when to ask for it again (monotonic seconds)."""

    block: Block
    retry_at: float


class Plan:
    """How the points of one device are read; keeps what reads learn, over reconnects too."""

    def __init__(self, points: Sequence[PointSource], device: ModbusDeviceOptions) -> None:
        """Merge the points into requests; raises `OptionsWrong` for options of another driver."""
        options = [options_of(source) for source in points]
        self.size = len(points)
        self.series = np.arange(self.size, dtype=np.int32)
        self.series.flags.writeable = False  # every read hands out the same one
        self.holes: list[Hole] = []
        self._options = options
        self._device = device
        self._is_untidy = False
        self._refused: list[Span] = []
        self._rows: dict[Span, list[int]] = {}
        for row, option in enumerate(options):
            self._rows.setdefault(span_of(option), []).append(row)
            scale = scale_span_of(option)
            if scale is not None:
                self._rows.setdefault(scale, []).append(row)
        self._lay_out(self._rows)

    def _lay_out(self, living: Iterable[Span]) -> None:
        """Merge spans into requests, and give everything its place in the image."""
        self.image_bytes = 0
        self._places: dict[Span, int] = {}
        self.blocks = [
            self._placed_block(run) for run in merge(living, self._device, self._refused)
        ]
        for hole in self.holes:
            hole.block = self._placed_block(hole.block.spans)
        self.decoder = decoder(
            [self._placed(row, option) for row, option in enumerate(self._options)]
        )

    def _placed(self, row: int, option: ModbusPointOptions) -> Placed:
        scale, order = scale_span_of(option), option.order or self._device.order
        scale_at = None if scale is None else self._places[scale]
        return Placed(row, self._places[span_of(option)], option, order, scale_at)

    def quality(self) -> NDArray[np.uint16]:
        """Give the quality column a read starts from: good, but for the holes."""
        column = np.zeros(self.size, np.uint16)
        for hole in self.holes:
            column[hole.block.rows] = WRONG_ADDRESS
        return column

    def halve(self, block: Block) -> tuple[Block, Block]:
        """Replace a block that the device refused by two blocks of half its spans."""
        self._refuse(block.span)
        middle = middle_of(block.spans)
        halves = self._block(block.spans[:middle]), self._block(block.spans[middle:])
        at = self.blocks.index(block)
        self.blocks[at : at + 1] = halves
        return halves

    def bury(self, block: Block, now_s: float) -> None:
        """Take a block of one span out of the reads: it is a hole."""
        self.blocks.remove(block)
        self._refuse(block.span)
        self.holes.append(Hole(block, now_s + self._device.retry_holes_s))

    def due_hole(self, now_s: float) -> Hole | None:
        """Give a hole that is due for a retry, or any one if there is nothing else to ask."""
        if not self.holes:
            return None
        first = min(self.holes, key=lambda hole: hole.retry_at)
        return first if first.retry_at <= now_s or not self.blocks else None

    def keep(self, hole: Hole, now_s: float) -> None:
        """Put a hole off: it is still one."""
        hole.retry_at = now_s + self._device.retry_holes_s

    def fill(self, hole: Hole) -> None:
        """Read a hole with the others again: the device knows it now."""
        self.holes.remove(hole)
        self._refused = [span for span in self._refused if not span.covers(hole.block.span)]
        self.blocks.append(hole.block)
        self._is_untidy = True

    def learn(self, answered: Sequence[Span]) -> None:
        """Narrow down what was refused by what was answered in the same read.

        Where every register of a refused span was answered in parts, the device takes fewer at
        once, and is asked for no more from then on.
        """
        if not self._is_untidy:
            return
        narrower = [(span, narrowed(span, answered)) for span in self._refused]
        self._refused = [rest for _, rest in narrower if rest is not None]
        for span, rest in narrower:
            if rest is None:
                most = max(one.end - one.start for one in answered if span.covers(one))
                self._device = limited(self._device, span.table, most)

    def tidy(self) -> None:
        """Merge anew after something was learned, around what was refused.

        The image of a read that is under way has its old places: this goes before a read.
        """
        if self._is_untidy:
            self._is_untidy = False
            self._lay_out([span for block in self.blocks for span in block.spans])

    def _placed_block(self, spans: tuple[Span, ...]) -> Block:
        """Give every span of a merged run its place in the image, the gaps between included."""
        for span in spans:
            self._places[span] = self.image_bytes + _image_bytes(spans[0], span.start)
        self.image_bytes += _image_bytes(spans[0], hull(spans).end)
        return self._block(spans)

    def _block(self, spans: tuple[Span, ...]) -> Block:
        whole = hull(spans)
        rows = np.array([row for span in spans for row in self._rows[span]], np.intp)
        count = whole.end - whole.start
        pdu = request_pdu(whole.table, whole.start, count)
        return Block(spans, whole, count, rows, pdu, self._places[spans[0]])

    def _refuse(self, span: Span) -> None:
        """Remember the smallest refused spans: what holds one of them is refused as well."""
        self._is_untidy = True
        if not any(span.covers(known) for known in self._refused):
            self._refused = [known for known in self._refused if not known.covers(span)]
            self._refused.append(span)


def _image_bytes(first: Span, to: int) -> int:
    """Tell the image bytes from the start of `first` up to `to`: a byte for each bit."""
    return (to - first.start) * (1 if is_bits(first.table) else 2)


def options_of(source: PointSource) -> ModbusPointOptions:
    """Give a point's options; raises `OptionsWrong` if they are another driver's."""
    if not isinstance(source.options, ModbusPointOptions):
        msg = f"{source.point.key}: options are {type(source.options).__name__}, not Modbus's"
        raise OptionsWrong(msg)
    return source.options
