"""Values become the messages that write them. Pure."""

import json
import math
from typing import Any

from protocols.driver import PointSource
from protocols.mqtt.binary import packed
from protocols.mqtt.options import MqttPoint, Write
from protocols.mqtt.publication import Publication
from shared.errors import OptionsWrong
from shared.model import PointType


def message_for(source: PointSource, value: float | str) -> Publication:
    """Make the message that writes a value; raises `OptionsWrong` if there is none."""
    options = MqttPoint.model_validate(source.options)
    write = options.write
    if write is None:
        msg = f"{source.point.key}: cannot be written; set write.topic to where commands go"
        raise OptionsWrong(msg)
    meant = meant_by(source, options, value)
    return Publication(write.topic, _payload(source, options, write, meant), write.retain)


def meant_by(source: PointSource, options: MqttPoint, value: float | str) -> Any:
    """Give the value as the device means it: a text, True or False, or its own number."""
    key = source.point.key
    if source.point.type is PointType.TEXT:
        return value if isinstance(value, str) else _number_text(value)
    if isinstance(value, str) or not math.isfinite(value):
        msg = f"{key}: write a number"
        raise OptionsWrong(msg)
    if source.point.type is PointType.BOOLEAN:
        if value not in {0.0, 1.0}:
            msg = f"{key}: write 0 or 1"
            raise OptionsWrong(msg)
        return value == 1.0
    scale = options.scaling()
    return value if scale is None else scale.written(value)


def _payload(source: PointSource, options: MqttPoint, write: Write, meant: Any) -> bytes:
    binary = options.binary
    if write.encoding == "binary":
        if binary is None or binary.bit is not None or isinstance(meant, str):
            msg = f"{source.point.key}: only a whole number is written as bytes; set binary"
            raise OptionsWrong(msg)
        try:
            return packed(float(meant), binary)
        except ValueError as error:
            msg = f"{source.point.key}: {error}"
            raise OptionsWrong(msg) from error
    if isinstance(meant, bool):
        text = write.on if meant else write.off
    else:
        text = meant if isinstance(meant, str) else _number_text(meant)
    as_json = json.dumps(meant) if isinstance(meant, bool | str) else _number_text(meant)
    # One pass: what a text holds is no place for another value.
    parts = write.template.split("{json}")
    return as_json.join(part.replace("{value}", text) for part in parts).encode()


def _number_text(number: float) -> str:
    """Write a number as devices take it: 21.5, 21, 1000000."""
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(float(number))
