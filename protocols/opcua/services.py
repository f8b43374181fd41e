"""What is asked of a server beyond reading and subscribing: browse, attributes, write."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from protocols.opcua.attributes import Told, decode_strings, decode_told
from protocols.opcua.binary import LOCALIZED_TEXT, Malformed
from protocols.opcua.faults import LIBRARY_FAULTS, ServiceRefused, TooMuchAtOnce, status_name
from protocols.opcua.scalars import (
    EXPANDED_NODE_ID,
    NODE_ID,
    QUALIFIED_NAME,
    STATUS_CODE,
    XML,
)
from protocols.opcua.session import NodeId, Session, Target, parse_node
from shared.errors import LinkLost, OptionsWrong, Refused

_GOOD_LIMIT: Final = 1 << 30
_BAD_DECODING: Final = 0x8007_0000
ATTRIBUTES: Final[dict[str, int]] = {
    name: int(getattr(AttributeIds, name))
    for name in ("Value", "DataType", "ValueRank", "UserAccessLevel", "Description", "BrowseName")
}
HIERARCHICAL: Final = int(ObjectIds.HierarchicalReferences)
HAS_COMPONENT: Final = int(ObjectIds.HasComponent)
HAS_SUBTYPE: Final = int(ObjectIds.HasSubtype)
_OBJECT, _VARIABLE, _VIEW = 1, 2, 128


@dataclass(frozen=True, slots=True)
class Reference:
    """Something that a node refers to."""

    node: NodeId
    name: str
    namespace: int
    shown: str
    is_variable: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which references of a node are asked for."""

    kind: int = HIERARCHICAL
    is_forward: bool = True
    classes: int = _OBJECT | _VARIABLE | _VIEW
    most: int = 0


def standard(number: int) -> NodeId:
    """Name a node that the specification defines."""
    return ua.NodeId(ua.Int32(number))


async def browse(
    session: Session, nodes: Sequence[NodeId], wanted: Wanted
) -> list[tuple[list[Reference], bytes]]:
    """List what nodes refer to, each with what continues it; an unknown node raises."""
    request = ua.BrowseRequest()
    request.Parameters.RequestedMaxReferencesPerNode = wanted.most
    request.Parameters.NodesToBrowse = [_description(node, wanted) for node in nodes]
    answer = session.parse(ua.BrowseResponse, await session.ask(request, can_refuse=True))
    return [_page(session, result) for result in _as_many(session, answer.Results, nodes)]


async def browse_next(
    session: Session, continuation: bytes, *, is_last: bool = False
) -> tuple[list[Reference], bytes]:
    """Go on with a list, or tell the server that nobody will (`is_last`)."""
    request = ua.BrowseNextRequest()
    request.Parameters.ReleaseContinuationPoints = is_last
    request.Parameters.ContinuationPoints = [continuation]
    answer = session.parse(ua.BrowseNextResponse, await session.ask(request, can_refuse=True))
    (result,) = _as_many(session, answer.Parameters.Results, [continuation])
    return ([], b"") if is_last else _page(session, result)


async def read_attributes(session: Session, wanted: Sequence[tuple[Target, str]]) -> list[Told]:
    """Read attributes by name, in chunks; what cannot be decoded is told as bad alone."""
    told: list[Told] = []
    for start in range(0, len(wanted), session.read_chunk):
        told += await _attributes(session, wanted[start : start + session.read_chunk])
    return told


async def _attributes(session: Session, wanted: Sequence[tuple[Target, str]]) -> list[Told]:
    request = ua.ReadRequest()
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
    request.Parameters.NodesToRead = [
        ua.ReadValueId(NodeId=one.node, AttributeId=ATTRIBUTES[name], IndexRange=one.index)
        for one, name in wanted
    ]
    try:
        return decode_told(await session.ask(request, can_split=True), len(wanted))
    except (Malformed, TooMuchAtOnce) as error:
        if len(wanted) == 1:
            status = error.status if isinstance(error, TooMuchAtOnce) else _BAD_DECODING
            return [Told(status=status)]
    half = len(wanted) // 2
    return [
        *await _attributes(session, wanted[:half]),
        *await _attributes(session, wanted[half:]),
    ]


async def read_namespaces(session: Session) -> tuple[str, ...]:
    """Read the URIs of the server's namespaces, in the order of their numbers."""
    answer = await session.read([Target(standard(int(ObjectIds.Server_NamespaceArray)))])
    try:
        return tuple(decode_strings(answer))
    except Malformed as error:
        msg = f"{session.options.url}: a list of namespaces that cannot be read: {error}"
        raise LinkLost(msg) from error


async def property_of(session: Session, nodes: Sequence[NodeId], name: str) -> list[NodeId | None]:
    """Find a property of each node by its standard name; None where there is none."""
    request = ua.TranslateBrowsePathsToNodeIdsRequest()
    request.Parameters.BrowsePaths = [_way(node, name) for node in nodes]
    kind = ua.TranslateBrowsePathsToNodeIdsResponse
    answer = session.parse(kind, await session.ask(request, can_refuse=True))
    results = _as_many(session, answer.Results, nodes)
    return [_plain(one.Targets[0].TargetId) if one.Targets else None for one in results]


async def write_value(session: Session, target: Target, variant: ua.Variant) -> None:
    """Write one value, without status and time, which many servers do not let be written.

    Raises `Refused` if the server says no, `LinkLost` if nobody can say whether it was written.
    """
    request = ua.WriteRequest()
    item = ua.WriteValue(
        NodeId=target.node, AttributeId=ATTRIBUTES["Value"], IndexRange=target.index
    )
    item.Value = ua.DataValue(Value=variant)
    request.Parameters.NodesToWrite = [item]
    answer = session.parse(ua.WriteResponse, await session.ask(request, can_refuse=True))
    (result,) = _as_many(session, answer.Results, [target])
    status = int(result.value)
    if status >= _GOOD_LIMIT:
        msg = f"{session.options.url}: the server does not write ({status_name(status)})"
        raise Refused(msg)


def parsed_type(told: Told) -> NodeId | None:
    """Read the node id that an attribute holds; None if it holds none."""
    if not told.is_good or told.kind != NODE_ID or told.text is None:
        return None
    return parse_node(told.text)


def variant_of(kind: int, value: Any, *, is_element: bool) -> ua.Variant:
    """Make a variant of what `kinds.fitted` gave; raises `OptionsWrong` if it is none."""
    try:
        made = _MAKERS.get(kind, _as_it_is)(value)
        whole = [made] if is_element else made
        return ua.Variant(whole, ua.VariantType(kind), is_array=is_element)
    except LIBRARY_FAULTS as error:
        msg = f"{value!r} does not fit the type {ua.VariantType(kind).name}"
        raise OptionsWrong(msg) from error


def _as_it_is(value: Any) -> Any:
    return value


_MAKERS: Final[dict[int, Callable[[Any], Any]]] = {
    XML: ua.XmlElement,
    LOCALIZED_TEXT: ua.LocalizedText,
    QUALIFIED_NAME: ua.QualifiedName.from_string,
    NODE_ID: parse_node,
    EXPANDED_NODE_ID: parse_node,
    STATUS_CODE: lambda code: ua.StatusCode(ua.UInt32(code)),
}


def _description(node: NodeId, wanted: Wanted) -> ua.BrowseDescription:
    direction = ua.BrowseDirection.Forward if wanted.is_forward else ua.BrowseDirection.Inverse
    return ua.BrowseDescription(
        NodeId=node,
        BrowseDirection=direction,
        ReferenceTypeId=standard(wanted.kind),
        IncludeSubtypes=True,
        NodeClassMask=ua.UInt32(wanted.classes),
        ResultMask=ua.UInt32(0x3F),
    )


def _way(node: NodeId, name: str) -> ua.BrowsePath:
    step: Any = ua.RelativePathElement()
    step.ReferenceTypeId = standard(int(ObjectIds.HasProperty))
    step.IsInverse = False
    step.TargetName = ua.QualifiedName(name, 0)
    return ua.BrowsePath(StartingNode=node, RelativePath=ua.RelativePath(Elements=[step]))


def _page(session: Session, result: ua.BrowseResult) -> tuple[list[Reference], bytes]:
    status = int(result.StatusCode.value)
    if status >= _GOOD_LIMIT:
        raise ServiceRefused(session.options.url, status)
    found = [
        _reference(one)
        for one in result.References or []
        if not getattr(one.NodeId, "ServerIndex", 0)  # it is of another server
    ]
    return found, result.ContinuationPoint or b""


def _reference(one: ua.ReferenceDescription) -> Reference:
    name = one.BrowseName.Name or ""
    return Reference(
        _plain(one.NodeId),
        name,
        int(one.BrowseName.NamespaceIndex),
        one.DisplayName.Text or name,
        is_variable=int(one.NodeClass) == _VARIABLE,
    )


def _plain(expanded: ua.ExpandedNodeId) -> NodeId:
    return ua.NodeId(expanded.Identifier, expanded.NamespaceIndex, expanded.NodeIdType)


def _as_many(session: Session, results: list[Any] | None, asked: Sequence[object]) -> list[Any]:
    found = results or []
    if len(found) != len(asked):
        msg = f"{session.options.url}: answered {len(found)} of {len(asked)}"
        raise LinkLost(msg)
    return found
