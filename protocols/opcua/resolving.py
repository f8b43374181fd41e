"""Where points are on this connection: namespaces by their numbers of today, paths by browsing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from protocols.opcua.addresses import Address, NodeName, Step
from protocols.opcua.faults import ServiceRefused
from protocols.opcua.services import (
    Reference,
    Wanted,
    browse,
    browse_next,
    read_namespaces,
    standard,
)
from protocols.opcua.session import NodeId, Session, Target, parse_node
from shared.errors import LinkLost

ROOT: Final = 84
MOST_CHILDREN: Final = 100_000
"""More below one node than this are not looked through for a name."""


@dataclass(slots=True)
class Resolver:
    """Resolves addresses over one connection; what was asked once is remembered while it lasts."""

    session: Session
    _namespaces: tuple[str, ...] | None = None
    _children: dict[NodeId, list[Reference]] = field(default_factory=dict)

    async def targets(self, addresses: Sequence[Address]) -> list[Target]:
        """Find the target of each address; one that the server has not is the null node id."""
        found = [await self._named(one) or await self._by_path(one) for one in addresses]
        self._children.clear()
        return [
            target or Target(standard(0), address.index)
            for target, address in zip(found, addresses, strict=True)
        ]

    async def by_path(self, addresses: Sequence[Address]) -> list[Target | None]:
        """Find the targets by the paths alone, for ids that the server does not know any more."""
        found = [await self._by_path(address) for address in addresses]
        self._children.clear()
        return found

    async def namespaces(self) -> tuple[str, ...]:
        """Give the server's namespace URIs in the order of their numbers."""
        if self._namespaces is None:
            self._namespaces = await read_namespaces(self.session)
        return self._namespaces

    async def node(self, name: NodeName) -> NodeId | None:
        """Give a node id its namespace's number of today; None if the server has no such URI."""
        if name.uri is None:
            return parse_node(name.text())
        known = await self.namespaces()
        if name.uri not in known:
            return None
        return parse_node(name.text(known.index(name.uri)))

    async def _named(self, address: Address) -> Target | None:
        node = await self.node(address.node) if address.node is not None else None
        return None if node is None else Target(node, address.index)

    async def _by_path(self, address: Address) -> Target | None:
        node: NodeId | None = standard(ROOT) if address.path else None
        for step in address.path:
            node = await self._child(node, step) if node is not None else None
        return None if node is None else Target(node, address.index)

    async def _child(self, node: NodeId, step: Step) -> NodeId | None:
        if node not in self._children:
            try:
                self._children[node] = await children(self.session, node)
            except ServiceRefused:
                self._children[node] = []
        fitting = [one for one in self._children[node] if step.fits(one.name, one.namespace)]
        return fitting[0].node if fitting else None


async def children(session: Session, node: NodeId) -> list[Reference]:
    """List all that lies below a node, over as many pages as the server makes of it."""
    ((found, rest),) = await browse(session, [node], Wanted())
    while rest:
        more, rest = await browse_next(session, rest)
        found = [*found, *more]
        if len(found) > MOST_CHILDREN or (rest and not more):
            msg = f"{session.options.url}: a node has more than {MOST_CHILDREN} nodes below it"
            raise LinkLost(msg)
    return found
