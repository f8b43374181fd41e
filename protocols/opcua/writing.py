"""Writes one value in the server's own data type, or refuses it before anything is sent."""

from typing import Final

from protocols.opcua.attributes import Told
from protocols.opcua.kinds import NAMES, ValueUnfit, fitted
from protocols.opcua.services import (
    HAS_SUBTYPE,
    Wanted,
    browse,
    parsed_type,
    read_attributes,
    variant_of,
    write_value,
)
from protocols.opcua.session import NodeId, Session, Target
from shared.errors import OptionsWrong, Refused

_CAN_WRITE: Final = 0x02
_ABSTRACT: Final = frozenset({24, 26, 27, 28})
"""BaseDataType, Number, Integer, UInteger: the value itself says what it is."""
_ENUMERATION, _INT32 = 29, 6
_DATA_TYPES: Final = 64
_MOST_ANCESTORS: Final = 20


async def write(session: Session, target: Target, value: float | str) -> None:
    """Write a value or one element of an array.

    Raises `OptionsWrong` if the value does not fit or the point cannot be written, `Refused` if the
    server says no, `LinkLost` if nobody can say whether it was written.
    """
    wanted = [(target, "UserAccessLevel"), (Target(target.node), "DataType"), (target, "Value")]
    access, data_type, now = await read_attributes(session, wanted)
    if access.whole is not None and not access.whole & _CAN_WRITE:
        msg = f"{session.options.url}: the server lets this user only read the point"
        raise Refused(msg)
    _check_form(target, now)
    kind = await _kind(session, data_type, now)
    try:
        made = fitted(kind, value)
    except ValueUnfit as error:
        raise OptionsWrong(str(error)) from error
    is_element = target.index is not None
    await write_value(session, target, variant_of(kind, made, is_element=is_element))


def _check_form(target: Target, now: Told) -> None:
    """See that an element is written as one, and an array never as one value.

    A server that does not heed the index would take the element for the whole array.
    """
    if target.index is None and now.length is not None:
        msg = f"the point is an array of {now.length}: set index"
        raise OptionsWrong(msg)
    if target.index is not None and (now.length is None or now.length != 1):
        msg = f"the server gives no single element for index {target.index}"
        raise OptionsWrong(msg)


async def _kind(session: Session, data_type: Told, now: Told) -> int:
    """Find the built-in type that a node holds, by its data type and else by its value."""
    node = parsed_type(data_type)
    for _ in range(_MOST_ANCESTORS):
        if node is None:
            break
        number = _standard_number(node)
        if number in NAMES:
            return number
        if number == _ENUMERATION:
            return _INT32
        if number in _ABSTRACT:
            break
        node = await _ancestor(session, node)
    if now.is_good and now.kind in NAMES:
        return now.kind
    msg = f"{session.options.url}: the server does not say what type the point has"
    raise Refused(msg)


def _standard_number(node: NodeId) -> int:
    is_standard = node.NamespaceIndex == 0 and isinstance(node.Identifier, int)
    return int(node.Identifier) if is_standard else 0


async def _ancestor(session: Session, node: NodeId) -> NodeId | None:
    wanted = Wanted(HAS_SUBTYPE, is_forward=False, classes=_DATA_TYPES)
    ((found, _),) = await browse(session, [node], wanted)
    return found[0].node if found else None
