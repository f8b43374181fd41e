"""Lists what a server has, a page at a time, with all that a point needs to be made of it.

A page stands on its own: its cursor is a number of nodes to skip, so that it is also good over
another connection. Over the same one the server goes on where it stopped.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from protocols.driver import Node, Page
from protocols.opcua.addresses import AddressWrong, parse_node_name, write_path, write_uri
from protocols.opcua.attributes import EXTENSION_OBJECT, Told, unit_of
from protocols.opcua.faults import ServiceRefused
from protocols.opcua.kinds import NAMES, TEXTS
from protocols.opcua.resolving import ROOT, Resolver
from protocols.opcua.services import (
    HAS_COMPONENT,
    Reference,
    Wanted,
    browse,
    browse_next,
    property_of,
    read_attributes,
    standard,
)
from protocols.opcua.session import NodeId, Session, Target
from shared.errors import OptionsWrong
from shared.model import PointType

OBJECTS: Final = 85
MOST: Final = 1_000
_MOST_ANCESTORS: Final = 32
_CAN_WRITE: Final = 0x02
STANDARD_TYPES: Final = {f"i={number}": number for number in NAMES}
_ATTRIBUTES: Final = ("Value", "UserAccessLevel", "Description", "DataType")


@dataclass(slots=True)
class _Open:
    """Where the server goes on with a list."""

    parent: str
    skip: int
    continuation: bytes


class Browser:
    """Browses over one connection; at most one list is left open at the server."""

    def __init__(self, session: Session, resolver: Resolver) -> None:
        self._session = session
        self._resolver = resolver
        self._open: _Open | None = None

    async def page(self, parent: str, cursor: str, limit: int) -> Page:
        """List what lies below `parent` (empty: the Objects folder), at most `limit` at once."""
        limit = max(1, min(limit, MOST))
        skip = _skipped(cursor)
        node = await self._node(parent)
        try:
            found, continuation = await self._references(parent, node, skip, limit)
        except ServiceRefused as error:
            msg = f"cannot be browsed: {error}"
            raise OptionsWrong(msg) from error
        if len(found) > limit:  # a server that gives more than it was asked for
            if continuation:
                await browse_next(self._session, continuation, is_last=True)
            return Page(await self._shown(node, found[:limit]), str(skip + limit))
        after = skip + len(found)
        if continuation:
            self._open = _Open(parent, after, continuation)
        return Page(await self._shown(node, found), str(after) if continuation else "")

    async def _node(self, parent: str) -> NodeId:
        if not parent:
            return standard(OBJECTS)
        try:
            node = await self._resolver.node(parse_node_name(parent))
        except AddressWrong as error:
            raise OptionsWrong(str(error)) from error
        if node is None:
            msg = f"{parent}: the server has no such namespace"
            raise OptionsWrong(msg)
        return node

    async def _references(
        self, parent: str, node: NodeId, skip: int, limit: int
    ) -> tuple[list[Reference], bytes]:
        opened, self._open = self._open, None
        if opened is not None and (opened.parent, opened.skip) == (parent, skip):
            return await browse_next(self._session, opened.continuation)
        if opened is not None:
            await browse_next(self._session, opened.continuation, is_last=True)
        return await self._skipping(node, skip, limit)

    async def _skipping(self, node: NodeId, skip: int, limit: int) -> tuple[list[Reference], bytes]:
        """Begin a list anew and step over what was shown already."""
        ((found, rest),) = await browse(self._session, [node], Wanted(most=limit))
        seen = len(found)
        while rest and found and seen <= skip:
            found, rest = await browse_next(self._session, rest)
            seen += len(found)
        kept = found[len(found) - max(0, seen - skip) :] if seen > skip else []
        if skip and not kept:
            msg = f"there is nothing after {skip} nodes; begin again"
            raise OptionsWrong(msg)
        return kept, rest

    async def _shown(self, node: NodeId, found: Sequence[Reference]) -> tuple[Node, ...]:
        return await self._nodes(found, await self._way_to(node))

    async def _way_to(self, node: NodeId) -> list[str] | None:
        """Find the browse names from the root to a node; None if the server does not tell."""
        names: list[str] = []
        root = standard(ROOT)
        upwards = Wanted(is_forward=False)
        for _ in range(_MOST_ANCESTORS):
            if node == root:
                return names[::-1]
            try:
                ((parents, rest),) = await browse(self._session, [node], upwards)
            except ServiceRefused:
                return None
            if rest:
                await browse_next(self._session, rest, is_last=True)
            if not parents:
                return None
            told = await read_attributes(self._session, [(Target(node), "BrowseName")])
            names.append(told[0].text or "")
            node = parents[0].node
        return None

    async def _nodes(self, found: Sequence[Reference], way: list[str] | None) -> tuple[Node, ...]:
        uris = await self._resolver.namespaces()
        plain = [self._plain(one, uris, way) for one in found]
        rows = [row for row, one in enumerate(found) if one.is_variable]
        if rows:
            nodes = [found[row].node for row in rows]
            looks = await self._looks(nodes)
            parents = await self._have_components(nodes)
            for row, look, is_parent in zip(rows, looks, parents, strict=True):
                plain[row] = replace(
                    _point(plain[row], look, _source(plain[row], found[row], way)),
                    has_children=is_parent,
                )
        return tuple(plain)

    def _plain(self, one: Reference, uris: Sequence[str], way: list[str] | None) -> Node:
        names = [*(way or [])[1:], one.name]
        key = "/".join(slug for slug in map(_slug, names) if slug)
        return Node(_id(one.node, uris), one.shown, has_children=not one.is_variable, key=key[:200])

    async def _looks(self, nodes: Sequence[NodeId]) -> list["_Look"]:
        units = await self._units(nodes)
        wanted = [(Target(node), name) for node in nodes for name in _ATTRIBUTES]
        told = await read_attributes(self._session, wanted)
        step = len(_ATTRIBUTES)
        return [
            _Look(tuple(told[at * step : (at + 1) * step]), units.get(at, ""))
            for at in range(len(nodes))
        ]

    async def _units(self, nodes: Sequence[NodeId]) -> dict[int, str]:
        try:
            properties = await property_of(self._session, nodes, "EngineeringUnits")
        except ServiceRefused:
            return {}
        rows = [at for at, one in enumerate(properties) if one is not None]
        wanted = [(Target(one), "Value") for one in properties if one is not None]
        told = await read_attributes(self._session, wanted)
        return {at: unit_of(one) for at, one in zip(rows, told, strict=True)}

    async def _have_components(self, nodes: Sequence[NodeId]) -> list[bool]:
        try:
            pages = await browse(self._session, nodes, Wanted(HAS_COMPONENT))
        except ServiceRefused:
            return [False] * len(nodes)
        for _, rest in pages:
            if rest:
                await browse_next(self._session, rest, is_last=True)
        return [bool(found) for found, _ in pages]


@dataclass(frozen=True, slots=True)
class _Look:
    """What a variable says of itself."""

    told: tuple[Told, ...]
    unit: str

    @property
    def value(self) -> Told:
        """What the variable holds."""
        return self.told[0]

    @property
    def is_writable(self) -> bool:
        """Tell whether this session's user may write it."""
        return bool((self.told[1].whole or 0) & _CAN_WRITE)

    @property
    def description(self) -> str:
        """What the server says about it."""
        return self.told[2].text or ""

    @property
    def kind(self) -> int:
        """Tell the built-in type, also of what this user may not read."""
        known = STANDARD_TYPES.get(self.told[3].text or "", 0)
        return self.value.kind or known


def _point(node: Node, look: _Look, source: dict[str, Any]) -> Node:
    is_array = look.value.length is not None
    if look.kind == EXTENSION_OBJECT:
        return replace(node, description=look.description)
    return replace(
        node,
        source=source | {"index": "0"} if is_array else source,
        unit=look.unit,
        type=PointType.TEXT if look.kind in TEXTS else PointType.NUMBER,
        is_writable=look.is_writable,
        value=look.value.shown(),
        description=look.description,
    )


def _source(node: Node, one: Reference, way: list[str] | None) -> dict[str, Any]:
    """Name the node; where the id is no name of its own, the way to it as well."""
    if way is None or isinstance(one.node.Identifier, str):
        return {"node": node.id}
    return {"node": node.id, "path": write_path([*way, one.name])}


def _id(node: NodeId, uris: Sequence[str]) -> str:
    text: str = node.to_string()
    number = int(node.NamespaceIndex)
    if not 0 < number < len(uris) or not uris[number]:
        return text
    return write_uri(uris[number]) + text.partition(";")[2]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9_.\-]+", "_", name.lower()).strip("_")


def _skipped(cursor: str) -> int:
    if not cursor:
        return 0
    if not re.fullmatch(r"\d{1,7}", cursor):
        msg = f"{cursor!r} is no cursor of a page"
        raise OptionsWrong(msg)
    return int(cursor)
