"""The models of a device as folders, and their points as nodes with the options that read them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from protocols.driver import Node, Page
from protocols.modbus.sunspec.chain import Block
from protocols.modbus.sunspec.definitions import definition
from protocols.modbus.sunspec.layout import UNKNOWN_SCALE, Field, Layout
from protocols.modbus.sunspec.names import model_key, point_key, unit
from shared.errors import OptionsWrong
from shared.model import PointType

_LONGEST_TEXT: Final = 125
_LONGEST_DESCRIPTION: Final = 400

_TYPES: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    "int16": ("int16", (0x8000,)),
    "int32": ("int32", (0x8000_0000,)),
    "int64": ("int64", (0x8000_0000_0000_0000,)),
    "uint16": ("uint16", (0xFFFF,)),
    "uint32": ("uint32", (0xFFFF_FFFF,)),
    "uint64": ("uint64", (0xFFFF_FFFF_FFFF_FFFF,)),
    "count": ("uint16", (0xFFFF,)),
    "enum16": ("uint16", (0xFFFF,)),
    "enum32": ("uint32", (0xFFFF_FFFF,)),
    "bitfield16": ("uint16", (0xFFFF, 0x8000)),
    "bitfield32": ("uint32", (0xFFFF_FFFF, 0x8000_0000)),
    "bitfield64": ("uint64", (0xFFFF_FFFF_FFFF_FFFF,)),
    "acc16": ("uint16", (0,)),
    "acc32": ("uint32", (0,)),
    "acc64": ("uint64", (0,)),
    "float32": ("float32", ()),
    "float64": ("float64", ()),
}
"""How a type is read, and what of it means 'not implemented'; of a float that is NaN anyway."""

_UNSEEN: Final = frozenset({"pad", "sunssf"})


def models_page(blocks: Sequence[Block], cursor: str, limit: int) -> Page:
    """List the models; the id of a folder is the address of its header."""
    nodes = [_folder(block) for block in blocks]
    return _page(nodes, cursor, limit)


def points_page(
    blocks: Sequence[Block], block: Block, registers: bytes, cursor: str, limit: int
) -> Page:
    """List the points of a model with the options that read them."""
    group = definition(block.model)
    if group is None:
        return Page(())
    kind = model_key(block.model, str(group["name"]))
    fields = Layout(group, block.address, registers).fields()
    shown = [field for field in fields if field.point["type"] not in _UNSEEN]
    return _page(_nodes(kind, _numbered(kind, blocks, block), shown), cursor, limit)


def block_at(blocks: Sequence[Block], node: str) -> Block:
    """Find the model that a folder's id names; raises `OptionsWrong`."""
    for block in blocks:
        if str(block.address) == node:
            return block
    msg = f"Modbus: {node[:40]!r} is no SunSpec model of this device; take it from its list"
    raise OptionsWrong(msg)


def _page(nodes: Sequence[Node], cursor: str, limit: int) -> Page:
    if cursor and not (cursor.isascii() and cursor.isdigit()):
        msg = f"Modbus: {cursor[:40]!r} is no cursor; take it from the page before"
        raise OptionsWrong(msg)
    start = int(cursor or 0)
    upto = start + limit
    return Page(tuple(nodes[start:upto]), str(upto) if upto < len(nodes) else "")


def _folder(block: Block) -> Node:
    group = definition(block.model)
    what = f"{block.size} registers at {block.address}"
    if group is None:
        return Node(
            str(block.address),
            f"{block.model}",
            description=f"not published; {what}",
        )
    name = str(group.get("label") or group["name"])
    about = str(group.get("desc", ""))[:_LONGEST_DESCRIPTION]
    return Node(
        str(block.address),
        f"{block.model} {name}",
        has_children=True,
        description=f"{about} ({what})".strip(),
    )


def _numbered(kind: str, blocks: Sequence[Block], block: Block) -> str:
    """Give the first part of a model's keys, with a number where the device has several of it."""
    alike = [one for one in blocks if one.model == block.model]
    return kind if len(alike) == 1 else f"{kind}{alike.index(block) + 1}"


def _nodes(kind: str, first: str, fields: Sequence[Field]) -> list[Node]:
    nodes: list[Node] = []
    taken: set[str] = set()
    for field in fields:
        point = field.point
        name = point_key(kind, point["name"], point.get("label", ""))
        key = "/".join((first, *(part.lower() for part in field.path), name))
        if key in taken:  # two points with one label
            key = f"{key}_{point['name'].lower()}"
        taken.add(key)
        nodes.append(_node(key, field))
    return nodes


def _node(key: str, field: Field) -> Node:
    point = field.point
    source = source_of(field)
    return Node(
        id=f"{field.address}:{field.name}",
        name=field.name,
        source=source,
        key=key,
        unit=unit(str(point.get("units", ""))),
        type=PointType.TEXT if point["type"] == "string" else PointType.NUMBER,
        is_writable=_is_writable(field, source),
        description=_described(point),
    )


def _is_writable(field: Field, source: Mapping[str, Any] | None) -> bool:
    """Tell whether the driver can write it: not where the device tells the scale."""
    is_told = field.point.get("access") == "RW"
    return is_told and source is not None and field.scale_at is None


def source_of(field: Field) -> dict[str, Any] | None:
    """Give the point options that read a field; None where no type of ours does."""
    point = field.point
    source: dict[str, Any] = {"register": field.address, "order": "abcd"}
    if point["type"] == "string":
        is_short = int(point["size"]) <= _LONGEST_TEXT
        return source | {"type": "string", "length": int(point["size"])} if is_short else None
    if point["type"] not in _TYPES or field.scale_at == UNKNOWN_SCALE:
        return None
    source["type"], sentinels = _TYPES[point["type"]]
    if sentinels:
        source["sentinels"] = sentinels
    if field.scale_at is not None:
        source["scale_register"] = field.scale_at
    if field.power:
        source["scale"] = float(f"1e{field.power}")
    return source


def _described(point: Mapping[str, Any]) -> str:
    text = str(point.get("desc") or point.get("label") or "")
    symbols = ", ".join(f"{one['value']} {one['name']}" for one in point.get("symbols", ()))
    if symbols:
        is_bits = point["type"].startswith("bitfield")
        text = f"{text} ({'bits' if is_bits else 'values'}: {symbols})"
    return text[:_LONGEST_DESCRIPTION]
