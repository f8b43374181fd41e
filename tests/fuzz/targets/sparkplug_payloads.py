"""Messages of Sparkplug B edge nodes: whatever they are, readings or none; nothing is raised."""

from protocols.mqtt.shapes import Place, ShapeOptions
from protocols.mqtt.shapes.sparkplug_b import make
from protocols.mqtt.shapes.sparkplug_b.datatypes import DataType
from protocols.mqtt.shapes.sparkplug_b.payload import Metric, Payload, encode

_PLACES = [Place("n", "a"), Place("n/d", "list[1]"), Place("n/d", "text")]
_TYPES = ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH", "NDEATH")

_METRICS = [
    Metric.of("bdSeq", DataType.INT64, 3),
    Metric.of("a", DataType.DOUBLE, 1.5, alias=1, timestamp_ms=1_700_000_000_000),
    Metric.of("list", DataType.INT16_ARRAY, (1, -2, 3), alias=2),
    Metric.of("flags", DataType.BOOLEAN_ARRAY, (True, False)),
    Metric.of("texts", DataType.STRING_ARRAY, ("x", "")),
    Metric.of("text", DataType.STRING, "x", is_historical=True),
    Metric.of(None, DataType.INT8, None, alias=1),
]

SEEDS = (
    encode(Payload(1_700_000_000_000, 0, _METRICS)),
    *(encode(Payload(seq=1, metrics=[metric])) for metric in _METRICS),
    # a property set: Quality 192
    bytes.fromhex("12170a0161 2005 4a0f 0a075175616c697479 1204 0803 1864 5001".replace(" ", "")),
)


def one(data: bytes) -> None:
    shape = make(ShapeOptions(group="g"))
    shape.filters(_PLACES)
    first, second = (data[:1] or b"\0")[0] % 6, (data[-1:] or b"\0")[0] % 6
    for kind in (_TYPES[0], _TYPES[1], _TYPES[first], _TYPES[second]):
        topic = f"spBv1.0/g/{kind}/n" + ("/d" if kind.startswith("D") else "")
        for update in shape.feed(topic, data, is_retained=False):
            assert update.device in {"n", "n/d"}
        shape.answers()
    list(shape.proposals())
