"""The shape of Sparkplug B: edge nodes and their devices, as a host that only listens and asks."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from protocols.driver import Node
from protocols.mqtt.shapes.proposal import proposed
from protocols.mqtt.shapes.shape import Place, Publication, ShapeOptions, Update
from protocols.mqtt.shapes.sparkplug_b import payload as codec
from protocols.mqtt.shapes.sparkplug_b.datatypes import DataType, ValueUnfit, is_text
from protocols.mqtt.shapes.sparkplug_b.edge_node import BDSEQ, EdgeNode
from protocols.mqtt.shapes.sparkplug_b.metrics import Known
from protocols.mqtt.shapes.sparkplug_b.payload import Metric, Payload
from protocols.mqtt.shapes.sparkplug_b.protobuf import WireInvalid
from protocols.mqtt.shapes.sparkplug_b.rebirth import request
from protocols.mqtt.shapes.sparkplug_b.topic import NAMESPACE, MessageType, Topic, parse
from protocols.mqtt.shapes.sparkplug_b.watched import Watched
from shared.clock import Clock, SystemClock
from shared.errors import OptionsWrong
from shared.model import PointType

MAX_NODES: Final = 1_000
"""How many edge nodes are followed; those of points come first, more are passed over."""

_COMMANDS: Final = (MessageType.NCMD, MessageType.DCMD)
_NO_POINTS: Final = (DataType.DATASET, DataType.TEMPLATE, DataType.BYTES, DataType.FILE)

Address = tuple[str, str]
"""Group and edge node."""


class SparkplugShape:
    """Follows edge nodes. A point's device is `NODE` or `NODE/DEVICE`, its property a metric.

    Where no group is given, the device begins with it: `GROUP/NODE/DEVICE`.
    """

    def __init__(self, options: ShapeOptions, clock: Clock | None = None) -> None:
        self._group = options.group
        self._clock = clock or SystemClock()
        self._nodes: dict[Address, EdgeNode] = {}

    def filters(self, places: Sequence[Place]) -> Sequence[str]:
        """Subscribe to the edge nodes that have points, else to all of the group."""
        points: dict[Address, list[tuple[str, str]]] = {}
        for place in places:
            address, device = self._address(place)
            points.setdefault(address, []).append((device, place.property))
        if len(points) > MAX_NODES:
            msg = f"points of {len(points):,} edge nodes; {MAX_NODES:,} can be followed"
            raise OptionsWrong(msg)
        for address, names in points.items():
            self._nodes[address] = self._node(address, Watched(names))
        if not points:
            return [f"{NAMESPACE}/{self._group or '+'}/#"]
        return [f"{NAMESPACE}/{group}/+/{node}/#" for group, node in points]

    def feed(self, topic: str, payload: bytes, *, is_retained: bool) -> Iterable[Update]:
        """Tell what a message says.

        Births and data are never retained by the specification: one that is may be of any age, so
        it only shows that there is such a node. One that cannot be read leaves its node in doubt.
        """
        found = parse(topic)
        if found is None or found.type in _COMMANDS:
            return ()
        address = found.group, found.node
        node = self._nodes.get(address)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                return ()
            node = self._nodes[address] = self._node(address, Watched())
        if is_retained:
            node.wants_rebirth = True
            return ()
        try:
            return list(node.take(found.type, found.device, codec.decode(payload)))
        except WireInvalid:
            return list(node.doubt())

    def answers(self) -> Sequence[Publication]:
        """Ask the edge nodes for a rebirth that need one, not too often."""
        return [
            self._request(address)
            for address, node in self._nodes.items()
            if node.wants_rebirth and node.requests.is_due()
        ]

    def command(self, place: Place, value: bool | float | str) -> Publication:
        """Make an NCMD or DCMD; the type of the metric is that of its birth."""
        (group, node_id), device = self._address(place)
        node = self._nodes.get((group, node_id))
        known = node.metrics.named(device, place.property) if node is not None else None
        if known is None:
            msg = f"{place.device}: no birth has declared {place.property!r} yet"
            raise OptionsWrong(msg)
        now_ms = self._clock.now_us() // 1_000
        kind = MessageType.DCMD if device else MessageType.NCMD
        metrics = (_written(known, value, now_ms),)
        return Publication(
            str(Topic(group, kind, node_id, device)), codec.encode(Payload(now_ms, metrics=metrics))
        )

    def proposals(self) -> Iterator[Node]:
        """List the metrics that births declared."""
        for node in self._nodes.values():
            for known in node.metrics:
                is_own = known.name == BDSEQ or known.name.startswith("Node Control/")
                if not is_own and known.datatype not in _NO_POINTS:
                    yield _proposal(node, known)

    def _node(self, address: Address, watched: Watched) -> EdgeNode:
        group, node = address
        return EdgeNode(node if self._group else f"{group}/{node}", watched, self._clock)

    def _address(self, place: Place) -> tuple[Address, str]:
        parts = place.device.split("/")
        if self._group:
            parts.insert(0, self._group)
        if not 2 <= len(parts) <= 3 or not all(parts) or set("+#") & set(place.device):
            form = "NODE or NODE/DEVICE" if self._group else "GROUP/NODE or GROUP/NODE/DEVICE"
            msg = f"{place.device!r} is no device of Sparkplug B; write {form}"
            raise OptionsWrong(msg)
        return (parts[0], parts[1]), parts[2] if len(parts) == 3 else ""

    def _request(self, address: Address) -> Publication:
        group, node = address
        topic = Topic(group, MessageType.NCMD, node)
        return Publication(str(topic), request(self._clock.now_us() // 1_000))


def _written(known: Known, value: bool | float | str, now_ms: int) -> Metric:
    if known.datatype in _NO_POINTS or known.datatype >= DataType.INT8_ARRAY or not known.datatype:
        msg = f"{known.name!r} is of a type that is not written"
        raise OptionsWrong(msg)
    datatype = DataType(known.datatype)
    if datatype is DataType.BOOLEAN and value not in {0, 1}:
        msg = f"{known.name!r} is a boolean: write 0 or 1, not {value!r}"
        raise OptionsWrong(msg)
    try:
        return Metric.of(known.name, datatype, value, timestamp_ms=now_ms)
    except ValueUnfit as error:
        msg = f"{known.name!r}: {error}"
        raise OptionsWrong(msg) from error


def _proposal(node: EdgeNode, known: Known) -> Node:
    kind = PointType.TEXT if is_text(known.datatype) else PointType.NUMBER
    return proposed(
        Place(node.place(known.device), known.name),
        None if isinstance(known.value, bytes | tuple) else known.value,
        unit=known.unit,
        kind=PointType.BOOLEAN if known.datatype == DataType.BOOLEAN else kind,
        is_writable=not known.is_read_only and known.datatype < DataType.INT8_ARRAY,
    )
