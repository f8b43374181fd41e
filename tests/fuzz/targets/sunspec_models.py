"""Registers of a SunSpec device: any bytes give points within them that the options take."""

from contextlib import suppress

from protocols.modbus import ModbusPointOptions
from protocols.modbus.sunspec import blocks_of, points_page, registers_of

START = 40_000
CURVES = b"\x02\xc1\x00\x1a" + b"\x00\x01" * 26
SEEDS = (
    b"\x00\x01\x00\x42" + b"SPINE\0" * 22 + b"\xff\xff\x00\x00",
    b"\x00\x67\x00\x32" + b"\x00\x10" * 50 + b"\x00\xa0\x00\x1c" + b"\x00\x02" * 28,
    CURVES,
    b"\xff\xff\x00\x00",
)


def one(data: bytes) -> None:
    with suppress(StopIteration):
        _browse(b"SunS" + data[: len(data) & ~1]).send(None)  # it waits for nothing


async def _browse(held: bytes) -> None:
    async def ask(pdu: bytes) -> bytes:
        start, count = int.from_bytes(pdu[1:3], "big") - START, int.from_bytes(pdu[3:5], "big")
        if start < 0 or 2 * (start + count) > len(held):
            return b"\x83\x02"
        return bytes((3, 2 * count)) + held[2 * start : 2 * (start + count)]

    blocks = await blocks_of(ask)
    for block in blocks:
        registers = await registers_of(ask, block, 125)
        page = points_page(blocks, block, registers, "", 10_000)
        end = block.address + len(registers) // 2
        for node in page.nodes:
            if node.source is not None:
                point = ModbusPointOptions.model_validate(node.source)
                assert block.address <= point.register_ <= end - point.width
