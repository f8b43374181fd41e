"""When an edge node is asked to tell all its metrics again."""

from typing import Final

from protocols.mqtt.shapes.sparkplug_b.datatypes import DataType
from protocols.mqtt.shapes.sparkplug_b.payload import Metric, Payload, encode
from shared.clock import Clock

CONTROL: Final = "Node Control/Rebirth"
FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 600.0


class Requests:
    """Lets one request through at once, and more after ever longer waits until a birth came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._not_before_s: float | None = None
        self._wait_s = FIRST_WAIT_S

    def is_due(self) -> bool:
        """Tell whether a request may be sent now; it counts as sent."""
        now_s = self._clock.monotonic_s()
        if self._not_before_s is not None and now_s < self._not_before_s:
            return False
        self._not_before_s = now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        return True

    def answered(self) -> None:
        """Note that a birth came; the wait since the last request still holds."""
        self._wait_s = FIRST_WAIT_S


def request(now_ms: int) -> bytes:
    """Write the command that asks for it."""
    metric = Metric.of(CONTROL, DataType.BOOLEAN, True, timestamp_ms=now_ms)
    return encode(Payload(now_ms, metrics=(metric,)))
