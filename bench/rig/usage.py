"""What a process takes: CPU to the nanosecond, and memory."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_CPU_OF_PROCESS: Final = 2
"""`CPUCLOCK_SCHED` of the kernel: the clock of all threads of a process."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process and its children, in MB; `peak_rss` is the most that was ever resident."""

    peak_rss: float
    pss: float


def cpu_s(pid: int) -> float:
    """Count the CPU seconds of a process and its living children; 0 when it is gone."""
    return sum(_clock_s(one) for one in _tree(pid))


def has_children(pid: int) -> bool:
    """Tell whether it has children that live."""
    return len(_tree(pid)) > 1


def memory(pid: int) -> Memory:
    """Look at the memory of a process and its living children."""
    tree = _tree(pid)
    return Memory(
        sum(_kilobytes(one, "status", "VmHWM:") for one in tree) / 1_024,
        sum(_kilobytes(one, "smaps_rollup", "Pss:") for one in tree) / 1_024,
    )


def _tree(pid: int) -> list[int]:
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def _clock_s(pid: int) -> float:
    with suppress(OSError):
        return time.clock_gettime((~pid << 3) | _CPU_OF_PROCESS)
    return 0.0


def _kilobytes(pid: int, file: str, name: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text("ascii").splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
