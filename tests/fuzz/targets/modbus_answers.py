"""Answers of a Modbus device: `NotModbus`, `Failed`, or exactly the data that was asked for."""

from protocols.modbus.codec import Failed, NotModbus, answer_data, data_bytes, frame, read_header

SEEDS = (
    frame(1, 1, bytes((3, 4, 0, 1, 0, 2))),
    frame(2, 1, bytes((0x83, 2))),
    frame(3, 255, bytes((1, 1, 0x55))),
    frame(4, 1, bytes((4, 2, 0x80, 0))),
)


def one(data: bytes) -> None:
    if len(data) < 9:
        return
    try:
        _, size = read_header(data)
    except NotModbus:
        return
    assert 8 < size <= 260
    for table, count in (("holding", 2), ("input", 1), ("coil", 5), ("discrete", 16)):
        try:
            found = answer_data(data[7:], table, count)  # type: ignore[arg-type]  # a Literal
        except Failed:
            continue
        assert len(found) == data_bytes(table, count)  # type: ignore[arg-type]  # a Literal
