"""What a broker has, found by listening: topics first, then the values in their messages."""

from collections.abc import Callable, Sequence
from typing import Final

from protocols.driver import Node, Page
from protocols.mqtt.connection import Connection
from protocols.mqtt.filters import covers, problem_of
from protocols.mqtt.listening import Heard, listen
from protocols.mqtt.options import MqttDevice, TopicFilter
from protocols.mqtt.proposals import has_leaves, leaves_of, topic_node
from protocols.mqtt.shaped import shape_of
from protocols.mqtt.shapes import Shape
from protocols.mqtt.wire import Received
from shared.errors import OptionsWrong

_TOPIC: Final = "topic:"
_DEVICE: Final = "device:"
_EVERYTHING: Final = TopicFilter(filter="#")


class Browsing:
    """Looks at one broker, and remembers what it heard for the pages that follow."""

    def __init__(self, options: MqttDevice) -> None:
        """Begin with nothing heard."""
        self._options = options
        self._heard = Heard()
        self._nodes: list[Node] = []

    async def page(self, connection: Connection, parent: str, cursor: str, limit: int) -> Page:
        """List what lies below `parent`; raises `OptionsWrong`, `Refused`, `LinkLost`.

        A cursor is the id of the last node that was listed.
        """
        if parent.startswith(_TOPIC):
            topic = parent.removeprefix(_TOPIC)
            nodes = leaves_of(topic, await self._payload(connection, topic), self._named(topic))
        elif parent and not (parent.startswith(_DEVICE) and self._options.shape):
            msg = f"{parent!r} is nothing that was found here"
            raise OptionsWrong(msg)
        else:
            if not self._nodes or not (parent or cursor):
                await self._listen(connection)
            device = parent.removeprefix(_DEVICE)
            nodes = (
                [one for one in self._nodes if _device(one) == device] if parent else self._top()
            )
        after = sorted((one for one in nodes if one.id > cursor), key=lambda one: one.id)
        more = after[limit - 1].id if len(after) > limit else ""
        return Page(tuple(after[:limit]), more)

    async def _listen(self, connection: Connection) -> None:
        shape = shape_of(self._options) if self._options.shape else None
        self._heard = Heard()
        filters = [one.filter for one in self._filters()] if shape is None else shape.filters(())
        take = self._heard.take if shape is None else _showing(shape, connection)
        await listen(connection, filters, self._options.browse_s, take)
        if shape is not None:
            self._nodes = list(shape.proposals())
        else:
            heard = self._heard.payloads.items()
            self._nodes = [topic_node(_TOPIC, one, said, self._named(one)) for one, said in heard]

    def _top(self) -> list[Node]:
        if self._options.shape is None:
            return self._nodes
        devices = dict.fromkeys(map(_device, self._nodes))
        return [Node(_DEVICE + one, one, has_children=True) for one in devices]

    def _filters(self) -> Sequence[TopicFilter]:
        return self._options.filters or (_EVERYTHING,)

    def _named(self, topic: str) -> TopicFilter:
        found = (one for one in self._filters() if covers(one.filter, topic))
        return next(found, _EVERYTHING)

    async def _payload(self, connection: Connection, topic: str) -> bytes:
        if topic not in self._heard.payloads:
            if problem_of(topic) or "+" in topic or "#" in topic:
                msg = f"{topic!r} is no topic"
                raise OptionsWrong(msg)
            await listen(connection, [topic], self._options.browse_s, self._has(topic))
        payload = self._heard.payloads.get(topic)
        if payload is None or not has_leaves(payload):
            within = f"within {self._options.browse_s:g} s"
            msg = (
                f"{topic}: no message {within} that holds several values; listen longer (browse_s)"
            )
            raise OptionsWrong(msg)
        return payload

    def _has(self, topic: str) -> Callable[[Received], bool]:
        return lambda message: self._heard.take(message) or message.topic == topic


def _showing(shape: Shape, connection: Connection) -> Callable[[Received], bool]:
    def take(message: Received) -> bool:
        for _ in shape.feed(message.topic, message.payload, is_retained=message.is_retained):
            pass
        for answer in shape.answers():
            connection.tell(answer)
        return False

    return take


def _device(node: Node) -> str:
    return str((node.source or {}).get("device", ""))
