"""The fleet of Modbus units; see `fleet.js` for what they answer."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.rig import install
from bench.rig.layout import UNITS, Layout
from bench.rig.ports import free_port
from bench.rig.processes import Running, running
from bench.rig.readings import Name, served

_PROGRAM = Path(__file__).with_name("fleet.js")


@dataclass(frozen=True, slots=True)
class Fleet:
    """Units that are served at one port."""

    layout: Layout
    port: int
    began_at: float
    """When the clock of the values began, on the clock of `time.time`."""
    log: Path
    process: Running

    def now_ms(self) -> float:
        """Tell the time on the clock of the values."""
        return (time.time() - self.began_at) * 1_000

    def say(self, line: str) -> None:
        """Let a unit fall silent (`silent 3`), refuse (`refuse 4`), or all answer (`heal`)."""
        self.process.tell(line)

    def served(self) -> Iterator[Name]:
        """List what was read of it."""
        return served(self.log, self.layout)


@asynccontextmanager
async def fleet(layout: Layout, folder: Path) -> AsyncIterator[Fleet]:
    """Serve units while the context lasts."""
    port, log, began_ms = free_port(), folder / "served.txt", time.time_ns() // 1_000_000
    env = {
        "NODE_PATH": str(install.fleet()),
        "PORT": str(port),
        "UNITS": str(UNITS),
        "POINTS": str(layout.points),
        "T0": str(began_ms),
        "LOG": str(log),
    }
    async with running(["node", str(_PROGRAM)], folder, env) as process:
        await process.until(lambda: "ready" in process.log.read_text(), "it does not start", 20.0)
        yield Fleet(layout, port, began_ms / 1_000, log, process)
