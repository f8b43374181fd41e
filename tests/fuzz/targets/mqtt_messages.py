"""Messages of MQTT devices: whatever they are, a row for each point or none; nothing is raised."""

import json

from protocols.mqtt.codec import Arrival, Feed, Rows, decode
from protocols.mqtt.path import parse
from shared.model import PointType

_TIME = tuple(parse("time"))
_FEEDS = (
    Feed(0, PointType.NUMBER, tuple(parse("a.b[0]")), _TIME, "iso"),
    Feed(1, PointType.BOOLEAN, tuple(parse("a")), _TIME, "ms"),
    Feed(2, PointType.TEXT, tuple(parse("c")), _TIME, "s"),
)
_PLAIN = tuple(Feed(at, kind, ()) for at, kind in enumerate(PointType))

SEEDS = (
    json.dumps({"a": {"b": [1.5]}, "c": "x", "time": "2026-01-01T00:00:00Z"}).encode(),
    json.dumps({"a": True, "c": 5, "time": 1.7e12}).encode(),
    b"21.5",
    b"ON",
    b"nan",
    b"null",
)


def one(data: bytes) -> None:
    for feeds in (_FEEDS, _PLAIN):
        rows = Rows()
        decode(feeds, data, Arrival(5, is_retained=len(data) % 2 == 0), rows)
        assert len(rows.columns()) <= len(feeds)
