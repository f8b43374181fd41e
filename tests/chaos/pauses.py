"""How long anything stood still in a run: from `progress.jsonl`, which `watch.py` writes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.chaos.findings import Findings, Kind
from tests.chaos.timetable import KILLED, Timetable

FILE_NAME: Final = "progress.jsonl"
WORTH_TELLING_S: Final = 1.0
SEVERAL: Final = "several at once"
NONE: Final = "nothing in particular"
AFTER_US: Final = 1_000_000
"""So long after its end a trouble may still be the cause of a pause."""
_ENDS: Final = {"line_cut": "line_up", "server_lost": "loss_watched"}


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """When each thing that was watched was seen to go on, in µs, ascending."""

    times: Mapping[str, NDArray[np.int64]]

    def longest_s(self, name: str, from_us: int, until_us: int) -> float:
        """Tell the longest time within a span in which a thing was not seen to go on."""
        at = self.times[name]
        inside = at[(at > from_us) & (at < until_us)]
        return float(np.diff(np.concatenate([[from_us], inside, [until_us]])).max()) / 1e6

    def pauses(self, name: str) -> Sequence[tuple[int, int]]:
        """List the spans of at least a second in which a thing was not seen to go on."""
        at = self.times[name]
        long = np.flatnonzero(np.diff(at) >= WORTH_TELLING_S * 1e6)
        return [(int(at[row]), int(at[row + 1])) for row in long]


def read_progress(folder: Path) -> Progress | None:
    """Read what was watched in a run; None if nothing was."""
    path = folder / FILE_NAME
    if not path.exists():
        return None
    times: dict[str, list[int]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        seen = json.loads(line)
        times.setdefault(seen["of"], []).append(seen["at_us"])
    return Progress({name: np.array(at, np.int64) for name, at in times.items()})


def examine_stops(progress: Progress, timetable: Timetable, findings: Findings) -> list[str]:
    """Hold the time after each loss of a server against the longest stop allowed; tell all."""
    lines = []
    least_s = timetable.thresholds.longest_stop_s
    for from_us, until_us in _losses(timetable):
        stops = {name: progress.longest_s(name, from_us, until_us) for name in progress.times}
        for name, seconds in stops.items():
            if seconds > least_s:
                text = f"{name} stood still for {seconds:.1f} s after a server was lost for good"
                findings.add(Kind.STOPPED, text)
        told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stops.items())
        lines.append(f"a server was lost for good; longest stops: {told}")
    return [*lines, *_alone(progress, timetable)]


def _losses(timetable: Timetable) -> list[tuple[int, int]]:
    ends = [at for at, name in timetable.events if name == "loss_watched"]
    return [
        (at, min((end for end in ends if end > at), default=timetable.events[-1][0]))
        for at, name in timetable.events
        if name == "server_lost"
    ]


def _alone(progress: Progress, timetable: Timetable) -> list[str]:
    """Tell the longest pause of each thing by the only trouble that can have caused it."""
    longest: dict[str, dict[str, float]] = {}
    troubles = list(_troubles(timetable))
    for name in sorted(progress.times):
        for from_us, until_us in progress.pauses(name):
            causes = {cause for cause, start, end in troubles if start < until_us and from_us < end}
            cause = causes.pop() if len(causes) == 1 else SEVERAL if causes else NONE
            known = longest.setdefault(cause, {})
            known[name] = max(known.get(name, 0.0), (until_us - from_us) / 1e6)
    return [
        f"longest pauses, {cause}: "
        + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.items())
        for cause, found in sorted(longest.items())
    ]


def _troubles(timetable: Timetable) -> Iterator[tuple[str, int, int]]:
    """Give each kill and cut with its beginning, and when all was well again if that was noted."""
    for row, (at_us, name) in enumerate(timetable.events):
        if name.endswith(KILLED):
            text, end = name.replace(KILLED, " killed"), name.replace(KILLED, "_ready")
        elif name in _ENDS:
            text, end = name.replace("_", " "), _ENDS[name]
        else:
            continue
        later = (at for at, other in timetable.events[row:] if other == end)
        yield text, at_us, next(later, at_us) + AFTER_US
