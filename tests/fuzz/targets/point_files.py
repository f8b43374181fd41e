"""Files of points that people import: `SheetWrong`, or rows that the dry run judges."""

import contextlib

from edge.exchange import SheetWrong, compare, read_ede, read_sheet, rows_of, write_xlsx

_DOCUMENT = {
    "devices": [
        {"name": "d", "driver": "modbus", "options": {"host": "h"}, "points": []},
        {"name": "b", "driver": "bacnet", "options": {"host": "h"}, "points": []},
    ]
}
SEEDS = (
    b"device;key;unit;source.register;source.type\nd;d/a;W;5;int16\n",
    b'key,register\n"d/a",0x10\n',
    b"#x\n# keyname;object-type;object-instance;unit-code\na;0;1;62\n",
    write_xlsx([["key", "register"], ["d/a", 5]]),
)


def one(data: bytes) -> None:
    try:
        rows = list(rows_of(read_sheet(data), "d"))
    except SheetWrong:
        rows = []
    with contextlib.suppress(SheetWrong):
        rows += read_ede(data, "b")
    result = compare(_DOCUMENT, rows)
    counted = len(result.new) + len(result.changed) + len(result.same) + len(result.invalid)
    assert counted == len(rows)
