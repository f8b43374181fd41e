"""The models of a device: found by a marker, each with its number, its length and its registers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from protocols.modbus.codec import Failed, answer_data, request_pdu

MARKER: Final = b"SunS"
PLACES: Final = (40_000, 50_000, 0, 39_999, 40_001, 49_999, 50_001, 1)
"""Where the marker may lie; those beside are of devices that count from the other end."""

MAX_BLOCKS: Final = 100
COMMON: Final = 1
"""The model that says who made the device."""

_END: Final = 0xFFFF
_HEADER: Final = 2
_LAST: Final = 65_536

Ask = Callable[[bytes], Awaitable[bytes]]
"""Makes one request and gives its answer; raises `LinkLost`."""


@dataclass(frozen=True, slots=True)
class Block:
    """One model in a device: where its header lies, and how many registers it has with it."""

    address: int
    model: int
    size: int


async def blocks_of(ask: Ask) -> list[Block]:
    """List the models; none where there is no marker. Raises `LinkLost`.

    A chain that breaks off, for its registers are refused or lead nowhere, ends there.
    """
    start = await _marked(ask)
    return [] if start is None else await _followed(ask, start)


async def _marked(ask: Ask) -> int | None:
    for place in PLACES:
        if await read(ask, place, 2) == MARKER:
            return place + 2
    return None


async def _followed(ask: Ask, at: int) -> list[Block]:
    found: list[Block] = []
    while at + _HEADER <= _LAST and len(found) < MAX_BLOCKS:
        header = await read(ask, at, _HEADER)
        if header is None:
            break
        model = int.from_bytes(header[:2], "big")
        size = _HEADER + int.from_bytes(header[2:], "big")
        if model in {0, _END} or at + size > _LAST:
            break
        found.append(Block(at, model, size))
        at += size
    return found


async def registers_of(ask: Ask, block: Block, most: int) -> bytes:
    """Read a whole model in requests of at most `most` registers, as far as the device answers."""
    read_so_far = b""
    while len(read_so_far) < 2 * block.size:
        at = len(read_so_far) // 2
        part = await read(ask, block.address + at, min(most, block.size - at))
        if part is None:
            break
        read_so_far += part
    return read_so_far


async def read(ask: Ask, start: int, count: int) -> bytes | None:
    """Read holding registers; None if the device refuses. Raises `LinkLost`."""
    answer = await ask(request_pdu("holding", start, count))
    try:
        return answer_data(answer, "holding", count)
    except Failed:
        return None
