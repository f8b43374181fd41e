"""A plan and messages of any topic: rows for its own points, or none; nothing is raised.

The first byte chooses a topic; the rest is its message. The same message is looked at as browsing
does: what it proposes can be an option of a point.
"""

import json

from protocols.driver import PointSource
from protocols.mqtt.codec import Arrival, Rows
from protocols.mqtt.options import MqttDevice, MqttPoint, TopicFilter
from protocols.mqtt.plan import Plan
from protocols.mqtt.proposals import has_leaves, leaves_of, topic_node
from shared.model import Point

_WILL = {"topic": "will", "path": "state"}
_OPTIONS = (
    {"topic": "json", "path": "v", "sequence_path": "n", "availability": _WILL},
    {"topic": "json", "path": "b", "binary": {"type": "int16", "encoding": "base64"}},
    {"topic": "bytes", "binary": {"type": "float32", "at": 2, "order": "little"}},
    {"topic": "bytes", "binary": {"type": "uint8", "bit": 3}, "scale": 2, "sentinels": [1]},
    {"topic": "hex", "binary": {"type": "uint64", "encoding": "hex"}, "scale": 1e300},
)
_TOPICS = ("json", "will", "bytes", "hex", "others")
_POINTS = [PointSource(Point("p"), MqttPoint.model_validate(one)) for one in _OPTIONS]
_PLAN = Plan(_POINTS, MqttDevice(host="h", client_id="c", max_payload_bytes=4_096))
_FOUND_BY = TopicFilter(filter="+/#", key="{1}/{2}/{3}")

SEEDS = (
    b"\x00" + json.dumps({"v": 1.5, "n": 7, "b": "APo="}).encode(),
    b"\x00" + json.dumps({"v": None, "n": 2**64, "b": 5}).encode(),
    b'\x01{"state": "offline"}',
    b'\x01{"state": ["online"]}',
    b"\x02\x00\x00\x00\x00\xac\x41",
    b"\x0300000000000000FA",
    b'\x00{"a": [{"b.c": [1, "x", true]}, null], "": 1}',
)


def one(data: bytes) -> None:
    topic, payload = _TOPICS[data[0] % len(_TOPICS) if data else 0], data[1:]
    rows = Rows()
    _PLAN.hear(topic, payload, Arrival(10**15, is_retained=len(data) % 2 == 0), rows)
    columns = rows.columns()
    assert set(columns.series.tolist()) <= set(range(len(_OPTIONS)))
    nodes = [topic_node("", topic, payload, _FOUND_BY)]
    if has_leaves(payload):
        nodes += leaves_of(topic, payload, _FOUND_BY)
    for node in nodes:
        if node.source is not None:
            MqttPoint.model_validate(node.source)
