"""Points as rows of a sheet: which column is what, and how cells become a point's options."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge.exchange.sheets import Sheet, SheetWrong

OWN: Final = ("device", "key", "unit", "type", "class")
SOURCE: Final = "source."

_ALIASES: Final[Mapping[str, str]] = {
    "point": "key",
    "name": "key",
    "tag": "key",
    "gerät": "device",
    "einheit": "unit",
    "units": "unit",
    "register": "source.register",
    "address": "source.register",
    "table": "source.table",
    "function": "source.table",
    "datatype": "source.type",
    "data type": "source.type",
    "scale": "source.scale",
    "factor": "source.scale",
    "offset": "source.offset",
    "node": "source.node",
    "node id": "source.node",
    "nodeid": "source.node",
    "topic": "source.topic",
    "json path": "source.path",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its line in the file, its device, and the `points` entry it describes."""

    line: int
    device: str
    point: Mapping[str, Any]


def rows_of(
    sheet: Sheet, device: str = "", columns: Mapping[str, str] | None = None
) -> Iterator[Row]:
    """Read each row as a point.

    `columns` maps headings of the file to ours (`key`, `source.register`, …) and wins over the
    headings we know; one mapped to "" is passed over. `device` is for files without that column.
    Raises `SheetWrong` if a column is not understood or two mean the same: nothing is dropped
    unseen.
    """
    names = _names(sheet.heading, columns or {})
    for line, cells in sheet.rows:
        fields = {name: cell for name, cell in zip(names, cells, strict=True) if name and cell}
        yield Row(line, fields.pop("device", device), _point(fields))


def _names(heading: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    names = [columns.get(title, _known(title)) for title in heading]
    strange = [title for title, name in zip(heading, names, strict=True) if name is None]
    if strange:
        raise SheetWrong(
            f"column {', '.join(map(repr, strange))} is not understood: name it key, device, unit,"
            " type, class or source.<option>, or map it to nothing"
        )
    wanted = [name for name in names if name]
    twice = sorted({name for name in wanted if wanted.count(name) > 1})
    if twice:
        raise SheetWrong(f"two columns mean {', '.join(twice)}: map one of them to nothing")
    if "key" not in wanted:
        raise SheetWrong("no column holds the points' keys: name one of them key")
    return [name or "" for name in names]


def _known(title: str) -> str | None:
    if not title:
        return ""
    if title in OWN or title.startswith(SOURCE):
        return title
    return _ALIASES.get(title)


def _point(fields: Mapping[str, str]) -> dict[str, Any]:
    point: dict[str, Any] = {name: fields[name] for name in OWN[1:] if name in fields}
    point["source"] = {
        name.removeprefix(SOURCE): _scalar(cell)
        for name, cell in fields.items()
        if name.startswith(SOURCE)
    }
    return point


def _scalar(cell: str) -> Any:
    """Read a cell as what it spells: a number, a list, true; else it is a text."""
    if cell.lower().startswith("0x"):
        return _hexadecimal(cell)
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return {"true": True, "false": False}.get(cell.lower(), cell)
    return cell if value is None else value


def _hexadecimal(cell: str) -> int | str:
    try:
        return int(cell, 16)
    except ValueError:
        return cell


def table_of(devices: Iterable[Mapping[str, Any]]) -> Iterator[list[str | float | None]]:
    """Write all points of the devices as rows, the heading first; reading gives them back."""
    points = [(device["name"], point) for device in devices for point in device["points"]]
    options = list(dict.fromkeys(name for _, point in points for name in point["source"]))
    yield [*OWN, *(f"{SOURCE}{name}" for name in options)]
    for device, point in points:
        own = (point.get(name) for name in OWN[1:])
        yield [device, *own, *(_cell(point["source"].get(name)) for name in options)]


def _cell(value: Any) -> str | float | None:
    if value is None or isinstance(value, str):
        return None if value is None else _quoted(value)
    if isinstance(value, bool | list | tuple | dict):
        return json.dumps(value)
    return value if isinstance(value, int | float) else str(value)


def _quoted(text: str) -> str:
    # A text that would be read back as something else keeps its quotes.
    return text if _scalar(text) == text else json.dumps(text)
