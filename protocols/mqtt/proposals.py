"""What a message shows, as nodes that can become points, with keys made of its topic. Pure."""

import re
from collections.abc import Iterator
from typing import Any, Final

from protocols.driver import Node
from protocols.mqtt.codec import document_in, plain
from protocols.mqtt.options import TopicFilter
from protocols.mqtt.path import Missing, Step, written
from protocols.mqtt.scalar import fitted
from shared.model import KEY_LENGTH, PointType
from shared.quality import Reason

MAX_LEAVES: Final = 2_000
MAX_DEPTH: Final = 20
_SHOWN: Final = 200
_NO_KEY: Final = re.compile(r"[^A-Za-z0-9_\-.:~/]+")
_PLACE: Final = re.compile(r"\{(\d{1,2}|path)\}")


def topic_node(prefix: str, topic: str, payload: bytes, named: TopicFilter) -> Node:
    """Make the node of a topic: one to look into where its message is a document, else a point."""
    if has_leaves(payload):
        return Node(prefix + topic, topic, has_children=True)
    found = plain(payload)
    if found is Missing.MISFIT:
        size = f"{len(payload)} bytes that are no text: set binary"
        return Node(
            prefix + topic, topic, source={"topic": topic}, key=key_of(named, topic, ()), value=size
        )
    return _node(prefix + topic, topic, (), found, named)


def has_leaves(payload: bytes) -> bool:
    """Tell whether a message is a JSON object or list."""
    return isinstance(document_in(payload), dict | list)


def leaves_of(topic: str, payload: bytes, named: TopicFilter) -> list[Node]:
    """List the values in a message, at most `MAX_LEAVES`."""
    nodes: list[Node] = []
    for steps, found in _leaves(document_in(payload), ()):
        if len(nodes) == MAX_LEAVES:
            break
        nodes.append(_node(f"{topic} {written(steps)}", topic, steps, found, named))
    return nodes


def _leaves(document: Any, steps: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Any]]:
    if isinstance(document, dict):
        several: list[tuple[Step, Any]] = [
            (name, one) for name, one in document.items() if name and '"' not in name
        ]
    elif isinstance(document, list):
        several = list(enumerate(document))
    else:
        yield steps, document
        return
    for step, one in several if len(steps) < MAX_DEPTH else ():
        yield from _leaves(one, (*steps, step))


def _node(
    node_id: str, topic: str, steps: tuple[Step, ...], found: Any, named: TopicFilter
) -> Node:
    source = {"topic": topic, "path": written(steps)} if steps else {"topic": topic}
    return Node(
        node_id,
        written(steps) or topic,
        source=source,
        key=key_of(named, topic, steps),
        type=type_of(found),
        value="" if found is None else str(found)[:_SHOWN],
    )


def type_of(found: Any) -> PointType:
    """Propose the type of a point that holds this."""
    if isinstance(found, bool):
        return PointType.BOOLEAN
    if not isinstance(found, str) or fitted(found, PointType.NUMBER)[1] is Reason.NONE:
        return PointType.NUMBER
    is_switch = fitted(found, PointType.BOOLEAN)[1] is Reason.NONE
    return PointType.BOOLEAN if is_switch else PointType.TEXT


def key_of(named: TopicFilter, topic: str, steps: tuple[Step, ...]) -> str:
    """Propose a key, as the filter that found the topic says."""
    path = "/".join(map(str, steps))
    pattern = named.key or "/".join(
        f"{{{nth + 1}}}" for nth in range(len(_stood_for(named, topic)))
    )
    if path and "{path}" not in pattern:
        pattern += "/{path}"
    values = {str(nth + 1): one for nth, one in enumerate(_stood_for(named, topic))}
    values["path"] = path
    made = _PLACE.sub(lambda place: values.get(place[1], ""), pattern)
    parts = (_NO_KEY.sub("_", part) for part in made.split("/"))
    return "/".join(part for part in parts if part)[:KEY_LENGTH].rstrip("/") or "point"


def _stood_for(named: TopicFilter, topic: str) -> list[str]:
    """List what the wildcards of a filter stand for; the topic itself where there are none."""
    levels, parts = named.filter.split("/"), topic.split("/")
    found = [part for level, part in zip(levels, parts, strict=False) if level == "+"]
    if levels[-1] == "#":
        found.append("/".join(parts[len(levels) - 1 :]))
    return found or [topic]
