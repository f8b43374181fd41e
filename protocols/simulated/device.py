"""A simulated device as it is served: it counts its samples, has its faults, and logs the truth."""

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.simulated.fault_board import FaultBoard
from protocols.simulated.faults import Fault
from protocols.simulated.replay import Replay
from protocols.simulated.source import Source, counter_of
from protocols.simulated.truth import DeviceTruth
from shared.model import Point


@dataclass(frozen=True, slots=True)
class Sample:
    """All points of a device at one moment; `lost`: the device lost sight of what it measures."""

    counter: int
    at_us: int
    values: Mapping[str, float]
    lost: bool

    def seen(self) -> dict[str, float | None]:
        """Tell the values as a device serves them that can say "none" of each but its counter."""
        if not self.lost:
            return dict(self.values)
        (counter,) = (key for key in self.values if key.endswith("/counter"))
        return dict.fromkeys(self.values) | {counter: self.values[counter]}


class Device:
    """One device; its server asks for a sample, logs what it makes of it, and only then sends."""

    def __init__(
        self, source: Source, replay: Replay, faults: FaultBoard, truth: DeviceTruth
    ) -> None:
        self.name = source.name
        self.points: tuple[Point, ...] = (*source.points, counter_of(source.name))
        self._source = source
        self._replay = replay
        self._faults = faults
        self._truth = truth
        self._counter = 0
        self._last_us = 0
        self._held: Mapping[str, float] | None = None

    @property
    def fault(self) -> Fault | None:
        """Tell what is wrong with it now."""
        return self._faults.of(self.name)

    def peek(self) -> Sample:
        """Look at the values now, without making a sample of it."""
        return self._sample(self._counter, self._replay.now_us())

    def take(self) -> Sample:
        """Take the next sample: the counter is one more, the time later than the last one's."""
        self._counter += 1
        self._last_us = max(self._last_us + 1, self._replay.now_us())
        return self._sample(self._counter, self._last_us)

    def log(self, sample: Sample, meanings: Mapping[str, float | None]) -> None:
        """Write what is served to the truth; to be called before it is sent."""
        self._truth.write(sample.counter, sample.at_us, meanings)

    def _sample(self, counter: int, at_us: int) -> Sample:
        fault = self.fault
        if fault is not Fault.STUCK or self._held is None:
            self._held = self._source.values(self._replay.replayed_us(at_us))
        values = {**self._held, counter_of(self.name).key: float(counter)}
        return Sample(counter, at_us, values, lost=fault is Fault.NAN)
