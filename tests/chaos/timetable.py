"""The harness's own log of a run: what it killed and cut, and when all was up again.

`events.jsonl`: one line an event, `{"at_us": …, "event": "gateway_killed"}`. `run.json`: what the
checker must know of the settings.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.delivery import Span
from tests.chaos.intervals import Intervals, Pair
from tests.chaos.truth import Fault

DOWN_FAULTS = frozenset({"silent", "refuse", "exception", "short"})
"""Faults in which a device serves no sample."""


KILLED = "_killed"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Below these a run proves nothing."""

    produced: int = 100_000
    kills: int = 20
    wipes: int = 1
    delivered_share: float = 0.95
    victims: tuple[str, ...] = ("gateway", "central")
    """Who must be killed so often."""
    losses: int = 0
    """How many servers must be lost for good."""
    fought: int = 0
    """How many records a writer without a lease must have written, and how often been fenced."""
    longest_stop_s: float = 15.0
    """How long nothing may stand still after a server was lost for good."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """What was planned to go wrong in a run, and how large the run had to be."""

    events: tuple[tuple[int, str], ...]
    commit_window_s: float
    intervals_s: dict[str, float]
    thresholds: Thresholds = field(default_factory=Thresholds)
    lost: frozenset[str] = frozenset()
    """The servers that were killed for good."""

    @property
    def counts(self) -> Counter[str]:
        """Count the events by name."""
        return Counter(name for _, name in self.events)

    @property
    def span(self) -> Span:
        """From the gateway's first readiness to the calm at the end."""
        ready = [at for at, name in self.events if name == "gateway_ready"]
        calm = [at for at, name in self.events if name == "calm"]
        return Span(ready[0] if ready else None, calm[-1] if calm else None)

    def kills(self) -> Mapping[str, int]:
        """Count the kills by victim."""
        counts = self.counts
        killed = sorted(name for name in counts if name.endswith(KILLED))
        return {name.removesuffix(KILLED): counts[name] for name in killed}

    def gateway_down(self) -> Intervals:
        """When the gateway was down: from a kill until it was ready again."""
        return Intervals.union(_down(self.events))

    def down(self, device: str, faults: Iterable[Fault]) -> Intervals:
        """When nothing could be read from a device as planned."""
        broken = [
            (fault.from_us, fault.to_us)
            for fault in faults
            if fault.device == device and fault.fault in DOWN_FAULTS
        ]
        return Intervals.union([*self.gateway_down().pairs(), *broken])


def _down(events: Iterable[tuple[int, str]]) -> Iterable[Pair]:
    since: int | None = None
    last = 0
    for at_us, name in events:
        last = at_us
        if name == "gateway_killed" and since is None:
            since = at_us
        elif name == "gateway_ready" and since is not None:
            yield since, at_us
            since = None
    if since is not None:
        yield since, last


def read_timetable(folder: Path) -> Timetable:
    """Read `events.jsonl` and `run.json` of a run folder."""
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    thresholds = settings["thresholds"]
    victims = tuple(thresholds.get("victims", Thresholds().victims))
    return Timetable(
        tuple((event["at_us"], event["event"]) for event in events),
        settings["commit_window_s"],
        settings["intervals_s"],
        Thresholds(**{**thresholds, "victims": victims}),
        frozenset(event["name"] for event in events if event["event"] == "server_lost"),
    )
