"""One edge node: which of its messages can be believed, and what they say.

Source: Sparkplug 3.0.0, chapters 5 and 6. Messages are published with QoS 0, so any can be
missing; the sequence number tells, and then nothing is sure until the node is born again.
"""

import json
from collections.abc import Iterator
from typing import Final

from protocols.mqtt.shapes.shape import Scalar, Update
from protocols.mqtt.shapes.sparkplug_b.datatypes import Value, ValueUnfit
from protocols.mqtt.shapes.sparkplug_b.metrics import Known, Metrics
from protocols.mqtt.shapes.sparkplug_b.payload import Metric, Payload
from protocols.mqtt.shapes.sparkplug_b.rebirth import Requests
from protocols.mqtt.shapes.sparkplug_b.topic import MessageType
from protocols.mqtt.shapes.sparkplug_b.watched import Watched
from shared.clock import Clock
from shared.quality import Reason

BDSEQ: Final = "bdSeq"

_SEQS: Final = 256
_TIME_LIMIT_MS: Final = 2**62 // 1_000
_OPC_CLASS: Final = 0xC0
_STALE: Final = 500


class EdgeNode:
    """What one edge node told since its last birth; `name` is what its points call it.

    `wants_rebirth` says that something is missing which only a birth can tell; `requests` says how
    often to ask for one.
    """

    def __init__(self, name: str, watched: Watched, clock: Clock) -> None:
        self.metrics = Metrics()
        self.requests = Requests(clock)
        self.wants_rebirth = True
        self._name = name
        self._watched = watched
        self._clock = clock
        self._seq: int | None = None
        self._bdseq: Value | None = None
        self._is_in_doubt = False
        self._born: set[str] = set()
        self._awaited: set[str] = set()

    def place(self, device: str) -> str:
        """Name the node, or one of its devices, as points do."""
        return f"{self._name}/{device}" if device else self._name

    def take(self, kind: MessageType, device: str, payload: Payload) -> Iterator[Update]:
        """Tell what a message says."""
        if kind is MessageType.NBIRTH:
            yield from self._be_born(payload)
        elif kind is MessageType.NDEATH:
            yield from self._die(payload)
        else:
            yield from self._count(payload)
            yield from self._hear(kind, device, payload)

    def doubt(self) -> Iterator[Update]:
        """Call the last values of all points uncertain: something that was told is missing."""
        self.wants_rebirth = True
        if self._is_in_doubt:
            return
        self._is_in_doubt = True
        for device, name in sorted(self._watched.names):
            known = self.metrics.named(device, name)
            if known is not None and known.value is not None:
                yield from self._tell(known, known.value, Reason.MESSAGES_LOST, None)

    def _be_born(self, payload: Payload) -> Iterator[Update]:
        self._awaited = self._born | self._watched.devices
        self._born = {""}
        self._bdseq, self._seq = _bdseq(payload), payload.seq
        self._is_in_doubt = self.wants_rebirth = False
        self.requests.answered()
        self.metrics.clear()
        self.metrics.declare("", payload.metrics)
        yield from self._read("", payload)

    def _die(self, payload: Payload) -> Iterator[Update]:
        bdseq = _bdseq(payload)
        if None not in {bdseq, self._bdseq} and bdseq != self._bdseq:
            return  # the will of an earlier session
        self._seq = self._bdseq = None
        for device in sorted({""} | self._born | self._watched.devices):
            yield Update(self.place(device), None, reason=Reason.LINK_DOWN)
        self._born.clear()
        self._awaited.clear()
        self.metrics.clear()  # what a later session means by an alias is its own affair

    def _count(self, payload: Payload) -> Iterator[Update]:
        expected = None if self._seq is None else (self._seq + 1) % _SEQS
        self._seq = payload.seq
        if None not in {expected, payload.seq} and payload.seq != expected:
            yield from self.doubt()

    def _hear(self, kind: MessageType, device: str, payload: Payload) -> Iterator[Update]:
        if kind is MessageType.DDEATH:
            self._born.discard(device)
            self._awaited.discard(device)
            self.metrics.declare(device, ())
            yield Update(self.place(device), None, reason=Reason.LINK_DOWN)
            return
        if kind is MessageType.DBIRTH:
            self._born.add(device)
            self._awaited.discard(device)
            self.metrics.declare(device, payload.metrics)
        else:
            yield from self._give_up()
        if not {"", device} <= self._born:
            self.wants_rebirth = True
        yield from self._read(device, payload)

    def _give_up(self) -> Iterator[Update]:
        """Devices are born right after their node: one that was not by now is down."""
        awaited, self._awaited = self._awaited - {""}, set()
        for device in sorted(awaited):
            yield Update(self.place(device), None, reason=Reason.LINK_DOWN)

    def _read(self, device: str, payload: Payload) -> Iterator[Update]:
        outdated: dict[str, Known] = {}
        for metric in payload.metrics:
            if metric.name == BDSEQ and not device:
                continue
            known = self.metrics.find(device, metric)
            if known is None:
                self.wants_rebirth = True
                continue
            if not self._watched.wants(device, known.name):
                continue
            value, reason = _value(known, metric)
            at_us = _time(metric, payload)
            if metric.is_historical and at_us is not None and at_us <= known.at_us:
                outdated[known.name] = known
                yield from self._tell(known, value, reason or Reason.STALE, at_us)
                continue
            known.value, known.at_us = value, at_us or self._clock.now_us()
            yield from self._tell(known, value, reason or self._doubted(), at_us)
        for known in outdated.values():  # so that the last value is the last one again
            yield from self._tell(known, known.value, self._doubted(), None)

    def _doubted(self) -> Reason:
        return Reason.MESSAGES_LOST if self._is_in_doubt else Reason.NONE

    def _tell(
        self, known: Known, value: Value | None, reason: Reason, at_us: int | None
    ) -> Iterator[Update]:
        place = self.place(known.device)
        yield Update(place, known.name, _scalar(value), reason, at_us)
        for index in self._watched.elements(known.device, known.name):
            element = value[index] if isinstance(value, tuple) and index < len(value) else None
            missing = Reason.BAD_PAYLOAD if value is not None else reason
            name = f"{known.name}[{index}]"
            yield Update(place, name, element, missing if element is None else reason, at_us)


def _value(known: Known, metric: Metric) -> tuple[Value | None, Reason]:
    try:
        value = metric.value(known.datatype or metric.datatype or 0)
    except ValueUnfit as error:
        return None, error.reason
    if value is None:
        return None, Reason.NOT_YET_REPORTED
    if isinstance(value, bytes):
        return None, Reason.NOT_IMPLEMENTED
    return _judged(value, metric.properties.get("Quality"))


def _judged(value: Value, quality: Value | None) -> tuple[Value | None, Reason]:
    """Heed the property Quality: 0 bad, 192 good, 500 stale, others by the classes of OPC."""
    if not isinstance(quality, int) or isinstance(quality, bool):
        return value, Reason.NONE
    if quality == _STALE:
        return value, Reason.STALE
    if quality > 0xFF or not quality & _OPC_CLASS:
        return None, Reason.DEVICE_EXCEPTION
    return value, Reason.NONE if quality & _OPC_CLASS == _OPC_CLASS else Reason.OTHER


def _time(metric: Metric, payload: Payload) -> int | None:
    at_ms = payload.timestamp_ms if metric.timestamp_ms is None else metric.timestamp_ms
    return at_ms * 1_000 if at_ms is not None and 0 < at_ms < _TIME_LIMIT_MS else None


def _scalar(value: Value | None) -> Scalar:
    if isinstance(value, bytes):
        return None
    return json.dumps(value) if isinstance(value, tuple) else value


def _bdseq(payload: Payload) -> Value | None:
    for metric in payload.metrics:
        if metric.name == BDSEQ:
            try:
                return metric.value(metric.datatype or 0)
            except ValueUnfit:
                return None
    return None
