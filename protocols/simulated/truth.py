"""The ground truth: every sample that the building serves, written before it leaves.

One file of JSON lines per device, unbuffered: a line is with the kernel when `write` returns.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

FAULTS_FILE: Final = "faults.jsonl"
BUILDING_FILE: Final = "building.json"


class Lines:
    """A file to which JSON lines are appended, each in one write."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line; after the close nothing leaves the building, and nothing is logged."""
        if self._file.closed:
            return
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class DeviceTruth:
    """What one device served; begins with the line that names the run."""

    def __init__(self, lines: Lines, device: str) -> None:
        self._lines = lines
        self._device = device

    def write(self, counter: int, at_us: int, values: Mapping[str, float | None]) -> None:
        """Log one sample."""
        self._lines.write(
            {"device": self._device, "counter": counter, "at_us": at_us, "values": values}
        )


class Truth:
    """The directory of the truth of one run of the building."""

    def __init__(self, folder: Path, run: str, at_us: int) -> None:
        self.folder = folder
        self.run = run
        self._at_us = at_us
        self._open: list[Lines] = []

    def __enter__(self) -> Self:
        """Make the folder; what an earlier run said of its ports is gone from here on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / BUILDING_FILE).unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all files."""
        for lines in self._open:
            lines.close()

    def device(self, name: str) -> DeviceTruth:
        """Open a device's file and begin its section."""
        lines = self._append(f"{name}.jsonl")
        lines.write({"run": self.run, "at_us": self._at_us})
        return DeviceTruth(lines, name)

    def faults(self) -> Lines:
        """Open the file of faults."""
        return self._append(FAULTS_FILE)

    def ready(self, building: Mapping[str, Any]) -> None:
        """Write `building.json` in one step: who sees it can connect."""
        part = self.folder / f".{BUILDING_FILE}.{os.getpid()}"
        part.write_text(json.dumps(building, indent=1) + "\n", encoding="utf-8")
        part.replace(self.folder / BUILDING_FILE)

    def _append(self, name: str) -> Lines:
        lines = Lines(self.folder / name)
        self._open.append(lines)
        return lines
