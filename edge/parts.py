"""The running parts of the gateway, and what they tell of themselves at one moment."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.collector import Collector, DeviceState
from edge.intake import Intake
from edge.outbox import Outbox
from edge.uplink import Uplink
from shared.clock import MICROSECONDS, Clock

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Room:
    """How full the outbox is: its size, the age of its oldest batch, and how long it will do.

    `days_left` is the room that is left at the rate of this process so far, None before it has one.
    """

    used_bytes: int
    queue_age_s: float
    days_left: float | None


@dataclass(slots=True)
class Parts:
    """The running parts that are asked."""

    outbox: Outbox
    intake: Intake
    collector: Collector
    uplink: Uplink
    clock: Clock
    max_bytes: int
    started_s: float

    def ledger(self) -> dict[str, Any]:
        """Give the ledger, the dues of this process and whether the books balance."""
        ledger = self.outbox.index.ledger()
        dues = asdict(self.intake.dues)
        return {**asdict(ledger), "imbalance": ledger.imbalance(), "since_start": dues}

    def devices(self) -> dict[str, dict[str, str]]:
        """Give the state of each device, and its problem where it has one."""
        return {
            task.device.name: {"state": task.state.value, "problem": task.problem}
            for task in self.collector.tasks
        }

    def is_ready(self) -> bool:
        """Tell whether every device was tried at least once."""
        return all(task.state is not DeviceState.CONNECTING for task in self.collector.tasks)

    def link(self) -> dict[str, Any]:
        """Give the state of the link to central."""
        return {"connected": self.uplink.is_connected, "problem": self.uplink.problem}

    async def room(self) -> Room:
        """Look how full the outbox is."""
        used = await self.outbox.used_bytes()
        oldest = await self.outbox.fetch(0, self.outbox.index.next_id, 1)
        age_s = (self.clock.now_us() - oldest[0].t0) / MICROSECONDS if oldest else 0.0
        running_s = self.clock.monotonic_s() - self.started_s
        sealed = self.intake.dues.sealed_bytes
        days = (self.max_bytes - used) * running_s / sealed / DAY_S if sealed else None
        return Room(used, max(0.0, age_s), None if days is None else max(0.0, days))


def written_bytes() -> int | None:
    """Tell what this process had written to disk, in bytes; None where the system does not say."""
    try:
        lines = Path("/proc/self/io").read_text("ascii").splitlines()
    except OSError:
        return None
    fields = dict(line.split(": ", 1) for line in lines)
    return int(fields["write_bytes"])
