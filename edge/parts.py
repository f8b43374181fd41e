"""The running parts of the gateway, and what they tell of themselves at one moment."""

from dataclasses import asdict, dataclass, field
from typing import Any

from edge.collector import Collector, DeviceState
from edge.commands import Commander
from edge.field.log_ring import LogRing
from edge.intake import Intake
from edge.outbox import Outbox
from edge.room import DayRate, Room, days_left, written_bytes
from edge.twin import Twin
from edge.uplink import Uplink
from shared.clock import MICROSECONDS, Clock


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
    twin: Twin
    commands: Commander | None = None
    """None where the record of commands is damaged: then none is carried out."""
    logs: LogRing = field(default_factory=LogRing)
    """The last log entries, for people on site."""
    written: DayRate = field(init=False)

    def __post_init__(self) -> None:
        self.written = DayRate(self.started_s, written_bytes() or 0)

    def note_written(self) -> None:
        """Take note of what was written to disk by now."""
        self.written.note(self.clock.monotonic_s(), written_bytes() or 0)

    def ledger(self) -> dict[str, Any]:
        """Give the ledger, the dues of this process and whether the books balance."""
        ledger = self.outbox.index.ledger()
        dues = asdict(self.intake.dues)
        held = self.outbox.held.readings
        told = {**asdict(ledger), "imbalance": ledger.imbalance(), "held": held}
        return {**told, "since_start": dues}

    def devices(self) -> dict[str, dict[str, str]]:
        """Give the state of each device, and its problem where it has one."""
        return {
            task.device.name: {"state": task.state.value, "problem": task.problem}
            for task in self.collector.tasks
        }

    def configuration(self) -> dict[str, Any]:
        """Tell which revision is in force, what waits for a decision, and what is left out."""
        head = self.twin.current.head
        waiting = [{"number": one.number, "source": one.source} for one in self.twin.proposals()]
        problems = [str(one) for one in self.twin.problems]
        told = {"revision": head.number, "hash": head.hash.hex(), "source": head.source}
        return {**told, "proposals": waiting, "problems": problems}

    def is_ready(self) -> bool:
        """Tell whether every device was tried at least once."""
        return all(task.state is not DeviceState.CONNECTING for task in self.collector.tasks)

    def link(self) -> dict[str, Any]:
        """Give the state of the link to central."""
        uplink = self.uplink
        told = {"connected": uplink.is_connected, "problem": uplink.problem}
        return {**told, "since_us": uplink.since_us}

    async def room(self) -> Room:
        """Look how full the outbox is."""
        used = await self.outbox.used_bytes()
        oldest = await self.outbox.fetch(0, self.outbox.index.next_id, 1)
        age_s = (self.clock.now_us() - oldest[0].t0) / MICROSECONDS if oldest else 0.0
        now_s = self.clock.monotonic_s()
        self.note_written()
        days = days_left(self.max_bytes - used, self.intake.sealed_rate.a_day(now_s))
        wear = self.written.a_day(now_s) if written_bytes() is not None else None
        return Room(used, max(0.0, age_s), days, wear)
