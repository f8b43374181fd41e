"""Points 3 and 4 of the proof: gaps are no longer than planned, and the run was large enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tests.chaos.arrived import Gap
from tests.chaos.delivery import Delivery
from tests.chaos.findings import Findings, Kind
from tests.chaos.intervals import Intervals
from tests.chaos.timetable import KILLED, Timetable
from tests.chaos.truth import DeviceTruth, Fault


@dataclass(frozen=True, slots=True)
class Silence:
    """How long one device was silent, in seconds, and how long it was allowed to be."""

    device: str
    gap_s: float
    allowed_s: float
    unplanned_s: float
    by_reason_s: Mapping[str, float]

    def line(self) -> str:
        """Write it for people."""
        reasons = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.by_reason_s.items())
        return (
            f"{self.device}: gaps {self.gap_s:.1f} s of {self.allowed_s:.1f} s allowed"
            f" ({self.unplanned_s:.1f} s away from any outage; {reasons or 'none'})"
        )


def examine_silence(
    device: DeviceTruth,
    gaps: Sequence[Gap],
    timetable: Timetable,
    faults: Sequence[Fault],
    findings: Findings,
) -> Silence:
    """Hold a device's gaps against planned down time + (commit window + poll interval) an outage.

    An outage is a kill of the gateway or a fault of the device.
    """
    own = [gap for gap in gaps if not gap.keys.isdisjoint(device.points)]
    union = Intervals.union((gap.from_us, gap.to_us) for gap in own)
    planned = timetable.down(device.name, faults)
    slack_s = timetable.commit_window_s + timetable.intervals_s[device.name]
    outages = timetable.counts["gateway_killed"] + _outages(device, timetable, faults)
    allowed_s = planned.seconds() + outages * slack_s
    widened = Intervals.union(
        (start - round(slack_s * 1e6), end + round(slack_s * 1e6)) for start, end in planned.pairs()
    )
    silence = Silence(
        device.name,
        union.seconds(),
        allowed_s,
        union.without(widened).seconds(),
        _by_reason(own),
    )
    if silence.gap_s > allowed_s:
        findings.add(Kind.GAP_SECONDS, silence.line())
    return silence


def _outages(device: DeviceTruth, timetable: Timetable, faults: Sequence[Fault]) -> int:
    """Count the device's own outages that are more than a part of the gateway's."""
    return len(timetable.down(device.name, faults).without(timetable.gateway_down()))


def _by_reason(gaps: Sequence[Gap]) -> dict[str, float]:
    pairs: dict[str, list[tuple[int, int]]] = {}
    for gap in gaps:
        pairs.setdefault(gap.reason, []).append((gap.from_us, gap.to_us))
    return {reason: Intervals.union(pairs[reason]).seconds() for reason in sorted(pairs)}


def examine_size(
    produced: int,
    deliveries: Sequence[Delivery],
    timetable: Timetable,
    faults: Sequence[Fault],
    findings: Findings,
) -> float:
    """Hold the run against its thresholds; tell the share delivered of what could be.

    That share counts the readings that were served while nothing was planned to be down.
    """
    served = delivered = 0
    for delivery in deliveries:
        device = delivery.device
        down = timetable.down(device.name, faults).hold(device.at_us)
        rows = np.flatnonzero(delivery.judged & ~down)
        served += len(rows) * len(device.points)
        delivered += int(delivery.delivered[rows].sum())
    share = delivered / served if served else 0.0
    least, counts = timetable.thresholds, timetable.counts
    reached = {
        "readings produced": (produced, least.produced),
        **{
            f"kills of {name}": (counts[f"{name}{KILLED}"], least.kills)
            for name in least.victims
            if name not in timetable.lost  # it was not there to be killed more often
        },
        "wipes of a log that had what nobody else had": (counts["log_wiped"], least.wipes),
        "share delivered of what was served outside planned down time": (
            share,
            least.delivered_share,
        ),
        "servers lost for good": (counts["server_lost"], least.losses),
    }
    for what, (found, wanted) in reached.items():
        if found < wanted:
            findings.add(Kind.TOO_SMALL, f"{what}: {found:.6g}, needs {wanted:.6g}")
    return share
