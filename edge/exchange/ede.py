"""EDE files of BACnet suppliers as rows (BIG-EU Engineering Data Exchange 2.2 and 2.3)."""

from collections.abc import Iterator, Mapping
from typing import Final

from edge.exchange.rows import Row
from edge.exchange.sheets import Sheet, SheetWrong, read_sheet
from shared.model import PointType

_START: Final = "keyname"
_NEEDED: Final = ("keyname", "object-type", "object-instance")

_OBJECTS: Final[Mapping[int, str]] = {
    0: "analog-input",
    1: "analog-output",
    2: "analog-value",
    3: "binary-input",
    4: "binary-output",
    5: "binary-value",
    12: "loop",
    13: "multi-state-input",
    14: "multi-state-output",
    19: "multi-state-value",
    23: "accumulator",
    40: "characterstring-value",
    45: "integer-value",
    46: "large-analog-value",
    48: "positive-integer-value",
}
"""Object types by number (ASHRAE 135, 21: BACnetObjectType)."""

UNITS: Final[Mapping[int, str]] = {
    3: "A",
    5: "V",
    18: "Wh",
    19: "kWh",
    27: "Hz",
    29: "%",
    37: "lx",
    47: "W",
    48: "kW",
    53: "Pa",
    54: "kPa",
    55: "bar",
    62: "°C",
    63: "K",
    64: "°F",
    71: "h",
    72: "min",
    73: "s",
    80: "m³",
    82: "l",
    85: "m³/s",
    87: "l/s",
    88: "l/min",
    95: "",
    96: "ppm",
    98: "%",
    135: "m³/h",
}
"""Units by code (ASHRAE 135, 21: BACnetEngineeringUnits); others are written as `unit <code>`."""


def read_ede(data: bytes, device: str, prefix: str = "") -> Iterator[Row]:
    """Read the object list of an EDE file as points of one BACnet device.

    A key is the keyname with what a key cannot hold replaced, behind `prefix`. An object that
    cannot be a point is a row all the same, whose options the dry run refuses with the reason.
    Raises `SheetWrong` if it is no EDE file.
    """
    sheet = read_sheet(data, starts_with=_START)
    missing = [name for name in _NEEDED if name not in sheet.heading]
    if missing:
        raise SheetWrong(f"this is no EDE object list: it has no column {', '.join(missing)}")
    return _rows(sheet, device, prefix)


def _rows(sheet: Sheet, device: str, prefix: str) -> Iterator[Row]:
    for line, cells in sheet.rows:
        fields = dict(zip(sheet.heading, cells, strict=True))
        kind = _object(fields["object-type"])
        point = {
            "key": f"{prefix}{_key(fields['keyname'])}",
            "unit": _unit(fields.get("unit-code", ""), kind),
            "type": _type(kind),
            "source": {"object": kind, "instance": _number(fields["object-instance"])},
        }
        yield Row(line, device, point)


def _object(cell: str) -> str:
    number = _number(cell)
    return _OBJECTS.get(number, cell) if isinstance(number, int) else cell


def _number(cell: str) -> int | str:
    return int(cell) if cell.isascii() and cell.isdigit() and len(cell) < 10 else cell


def _unit(cell: str, kind: str) -> str:
    code = _number(cell)
    if not isinstance(code, int) or kind.startswith(("binary", "multi-state", "character")):
        return ""
    return UNITS.get(code, f"unit {code}")


def _type(kind: str) -> str:
    if kind.startswith("binary"):
        return PointType.BOOLEAN.value
    return (PointType.TEXT if kind == "characterstring-value" else PointType.NUMBER).value


def _key(name: str) -> str:
    kept = (
        sign if sign.isascii() and (sign.isalnum() or sign in "_-.:~/") else "_" for sign in name
    )
    return "/".join(part for part in "".join(kept).split("/") if part)
