"""What runs in a stack, as rows and as a table for people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from deploy.central.native.processes import family
from deploy.central.native.service import Instance, Service, Stack
from deploy.central.native.state import State

_HEAD: Final = ("INSTANCE", "VERSION", "STATE", "PORT", "PID", "MEMORY", "SINCE")


@dataclass(frozen=True, slots=True)
class Row:
    """One instance; `state` is `ready`, `silent` (it runs and does not serve) or `down`."""

    name: str
    version: str
    state: str
    port: int | None = None
    pid: int | None = None
    memory_bytes: int = 0
    since: datetime | None = None


def rows(stack: Stack, state: State, services: Sequence[Service]) -> Iterator[Row]:
    """Look at every instance of the stack's profile."""
    for service in services:
        for name in service.instances(stack.profile):
            yield _row(service, Instance(name, stack), state)


def table(found: Sequence[Row]) -> str:
    """Lay rows out in columns."""
    lines = [_HEAD, *(_cells(row) for row in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _row(service: Service, instance: Instance, state: State) -> Row:
    process = state.alive(instance.name)
    if process is None:
        return Row(instance.name, service.version, "down")
    return Row(
        instance.name,
        service.version,
        "ready" if serves(service, instance) else "silent",
        instance.ports[service.ports[0]],
        process.pid,
        sum(one.memory_bytes() for one in family([process])),
        state.running[instance.name].since,
    )


def serves(service: Service, instance: Instance) -> bool:
    """Ask a server whether it serves; no answer is no."""
    try:
        return service.is_ready(instance)
    except OSError:
        return False


def _cells(row: Row) -> tuple[str, ...]:
    memory = f"{row.memory_bytes >> 20} MB" if row.pid else "-"
    since = _ago(row.since) if row.since else "-"
    return (
        row.name,
        row.version,
        row.state,
        str(row.port or "-"),
        str(row.pid or "-"),
        memory,
        since,
    )


def _ago(since: datetime) -> str:
    seconds = int((datetime.now(UTC) - since).total_seconds())
    hours, minutes = seconds // 3_600, seconds // 60 % 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds % 60:02d} s"
