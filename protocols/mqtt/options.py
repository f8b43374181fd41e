"""What an installer sets for an MQTT broker and for each point that its messages feed."""

from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from protocols.mqtt.broker import MqttBroker
from protocols.mqtt.filters import problem_of
from protocols.mqtt.path import parse
from protocols.mqtt.scalar import Scale
from protocols.mqtt.shapes import ShapeName
from shared.model import PointType

MAX_IN_FLIGHT: Final = 500
TimeUnit = Literal["s", "ms", "us", "iso"]
BinaryType = Literal[
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"
]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Topic = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]


def _one_topic(topic: str) -> str:
    if any(sign in topic for sign in "+#\0"):
        msg = "must name one topic, without wildcards (+ and #)"
        raise ValueError(msg)
    return topic


def _path(path: str | None) -> str | None:
    parse(path or "")
    return path


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TopicFilter(_Part):
    """A filter with wildcards, and how points that are found under it are called."""

    filter: Topic = Field(description="What is subscribed: building/+/+/temperature, plant/#.")
    key: str = Field(
        default="",
        max_length=1_000,
        description="Key proposed for a point that browsing finds there: {1} is what the first "
        "wildcard stands for, {2} the second, and {path} where the value stands in the message; "
        "all of them if empty.",
    )

    @field_validator("filter")
    @classmethod
    def _is_filter(cls, text: str) -> str:
        problem = problem_of(text)
        if problem:
            raise ValueError(problem)
        return text


class Availability(_Part):
    """Where a device, or its last will, tells whether it is there."""

    topic: Topic = Field(description="The topic, without wildcards.")
    online: Word = Field(default="online", description="What it says while the device is there.")
    offline: Word = Field(default="offline", description="What it says when it is not.")
    path: str = Field(
        default="",
        max_length=1_000,
        description="Where that stands in a JSON message; empty if the message is it.",
    )

    _is_topic = field_validator("topic")(_one_topic)
    _is_path = field_validator("path")(_path)


class Binary(_Part):
    """Which bytes of a payload are the value."""

    type: BinaryType = Field(description="What they are.")
    at: int = Field(default=0, ge=0, le=1_000_000, description="The first of them, from 0.")
    order: Literal["big", "little"] = Field(default="big", description="Their order.")
    encoding: Literal["raw", "hex", "base64"] = Field(
        default="raw",
        description="How the bytes are written: as they are, or as text in hex or base64, which "
        "may stand at a path of a JSON message.",
    )
    bit: int | None = Field(
        default=None, ge=0, le=63, description="One bit of the integer, 0 the lowest."
    )


class Write(_Part):
    """How a value is written: what is published, and where."""

    topic: Topic = Field(description="The command topic.")
    template: str = Field(
        default="{value}",
        max_length=10_000,
        description="What is published: {value} is the value as text, {json} as JSON.",
    )
    on: Word = Field(default="true", description="What {value} is for a boolean that is true.")
    off: Word = Field(default="false", description="What {value} is for one that is false.")
    encoding: Literal["text", "binary"] = Field(
        default="text",
        description="Whether the template is published, or the bytes that the point's binary says.",
    )
    retain: bool = Field(default=False, description="Whether the broker keeps it for newcomers.")

    _is_topic = field_validator("topic")(_one_topic)

    @field_validator("template")
    @classmethod
    def _has_value(cls, template: str) -> str:
        if "{value}" not in template and "{json}" not in template:
            msg = "must hold {value} or {json}, where the value comes"
            raise ValueError(msg)
        return template


class MqttDevice(MqttBroker):
    """One broker, which session there is ours, and what we listen to."""

    client_id: str = Field(
        min_length=1,
        max_length=200,
        description="Names our session at the broker: never change it, never use it twice. The "
        "broker keeps messages under this name while the gateway is away.",
    )
    keep_session: bool = Field(
        default=True,
        description="Whether the broker keeps messages for us while we are away; without it they "
        "are lost.",
    )
    session_expiry_s: int = Field(
        default=604_800,
        ge=60,
        le=0xFFFF_FFFE,
        description="How long the broker keeps the session while we are away (version 5 only; with "
        "3.1.1 the broker's own setting holds).",
    )
    max_in_flight: int = Field(
        default=100,
        ge=1,
        le=MAX_IN_FLIGHT,
        description="How many messages may wait for their acknowledgement; the broker's own limit "
        "(Mosquitto: 20) holds too.",
    )
    max_payload_bytes: int = Field(
        default=262_144,
        ge=1,
        le=16_777_216,
        description="A larger message is not decoded: its points become bad.",
    )
    filters: tuple[TopicFilter, ...] = Field(
        default=(),
        max_length=100,
        description="Filters that are subscribed instead of each topic that they cover, and under "
        "which browsing looks for points.",
    )
    browse_s: float = Field(
        default=5.0, gt=0, le=300, description="How long browsing listens for messages, in seconds."
    )
    availability: Availability | None = Field(
        default=None, description="Where it is told whether what feeds the points is there."
    )
    shape: ShapeName | None = Field(
        default=None, description="What kind of devices publish here, if it is a known one."
    )
    base: str = Field(
        default="", max_length=500, description="The shape's first topic level; its usual if empty."
    )
    group: str = Field(
        default="",
        max_length=500,
        description="What the shape groups its devices by: a Sparkplug group, an application of "
        "ChirpStack.",
    )
    zone: str = Field(
        default="",
        max_length=100,
        description="With a shape: where the clocks of its devices are that tell no zone, as "
        "Europe/Berlin (Tasmota). Their times do not count if left out.",
    )


class MqttPoint(_Part):
    """Which topic feeds a point and where in its messages the value stands, or its shaped place."""

    topic: str = Field(
        default="", max_length=1_000, description="The topic, without wildcards (+ and #)."
    )
    path: str = Field(
        default="",
        max_length=1_000,
        description="Where the value stands in a JSON message, as a.b[0].c; empty if the message "
        "is the value itself.",
    )
    device: str = Field(
        default="",
        max_length=500,
        description="With a shape, instead of a topic: the device that has the point.",
    )
    property: str = Field(
        default="", max_length=500, description="With a shape: which value of that device."
    )
    time_path: str | None = Field(
        default=None,
        max_length=1_000,
        description="Where the time of the value stands in a JSON message; the time of arrival "
        "counts if left out.",
    )
    time_unit: TimeUnit = Field(
        default="ms",
        description="What that time is: seconds, milliseconds or microseconds since 1970, or an "
        "ISO 8601 text with its zone.",
    )
    binary: Binary | None = Field(
        default=None, description="Which bytes are the value, where it is not written as text."
    )
    scale: float = Field(
        default=1.0,
        allow_inf_nan=False,
        description="The value is what is read times scale, plus offset; not 0.",
    )
    offset: float = Field(default=0.0, allow_inf_nan=False, description="Added after scaling.")
    sentinels: tuple[int | float, ...] = Field(
        default=(),
        max_length=8,
        description="Numbers by which the device says that there is no value, before scaling.",
    )
    sequence_path: str | None = Field(
        default=None,
        max_length=1_000,
        description="Where a counter stands that goes up by one with each message: then messages "
        "that a broker lost are seen.",
    )
    availability: Availability | None = Field(
        default=None,
        description="Where it is told whether the device is there; wins over that "
        "of the broker's options.",
    )
    write: Write | None = Field(
        default=None, description="How the point is written; it cannot be if left out."
    )

    @field_validator("topic")
    @classmethod
    def _is_topic(cls, topic: str) -> str:
        return _one_topic(topic)

    _is_path = field_validator("path", "time_path", "sequence_path")(_path)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problem = _misfit(self)
        if problem:
            raise ValueError(problem)
        return self

    def scaling(self) -> Scale | None:
        """Give what its numbers mean; None where they are the values themselves."""
        scale = Scale(self.scale, self.offset, self.sentinels)
        return None if scale == Scale() else scale

    def problem_for(self, kind: PointType) -> str | None:
        """Say why a point of this type cannot have these options; None if it can."""
        if kind is PointType.TEXT and (self.scaling() is not None or self.binary is not None):
            return "a text has no binary, scale, offset or sentinels"
        return None


_SHAPED: Final = frozenset({"device", "property", "scale", "offset", "sentinels"})


def _misfit(point: MqttPoint) -> str | None:
    is_shaped = bool(point.device or point.property)
    if bool(point.topic) == is_shaped or bool(point.device) != bool(point.property):
        return "give a topic, or device and property where the broker has a shape"
    if is_shaped:
        return _shaped_misfit(point)
    if point.scale == 0:
        return "scale must not be 0"
    if point.time_path is not None and not (point.path and point.time_path):
        return "time_path needs a path: both stand in the same JSON message"
    if point.sequence_path == "":
        return "sequence_path must say where in a JSON message the counter stands"
    return None if point.binary is None else _binary_misfit(point, point.binary)


def _shaped_misfit(point: MqttPoint) -> str | None:
    fields = type(point).model_fields
    surplus = sorted(
        name
        for name, field in fields.items()
        if name not in _SHAPED and getattr(point, name) != field.default
    )
    return f"the shape knows {', '.join(surplus)}: leave it out" if surplus else None


def _binary_misfit(point: MqttPoint, binary: Binary) -> str | None:
    if point.path and binary.encoding == "raw":
        return "raw bytes do not stand in a JSON message: encoding is hex or base64 there"
    if binary.bit is None:
        return None
    if binary.type.startswith("float"):
        return "a float has no single bits"
    bits = int(binary.type.lstrip("uint"))
    return None if binary.bit < bits else f"{binary.type} has the bits 0 to {bits - 1}"
