"""Reading the ground truth: what the simulated building served, by device, as numpy columns.

The format is described in docs/reference/building.md. One run of the building is read: the one
that `building.json` names.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import SpineError

POLLED: Final = frozenset({"modbus"})
"""Protocols whose samples get their time when the answer arrives, not when they are served."""


class TruthBroken(SpineError):
    """The ground truth cannot be what the building served."""


@dataclass(frozen=True, slots=True, eq=False)
class DeviceTruth:
    """All samples that one device served, in the order of their counters 1…n.

    `values` is n rows by the device's points, in the order of `points`, NaN where a point had no
    value; the counter itself is one of the points.
    """

    name: str
    protocol: str
    points: tuple[str, ...]
    at_us: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def is_polled(self) -> bool:
        """Tell whether the gateway stamps the time of the answer."""
        return self.protocol in POLLED

    @property
    def counter(self) -> str:
        """The key of the sample counter."""
        return f"{self.name}/counter"

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.at_us)


@dataclass(frozen=True, slots=True)
class Fault:
    """A time in which a device misbehaved on purpose."""

    device: str
    fault: str
    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class Truth:
    """What one run of the building served."""

    devices: tuple[DeviceTruth, ...]
    faults: tuple[Fault, ...]


def read_truth(folder: Path) -> Truth:
    """Read the run that `building.json` names; raises `TruthBroken` with file and line."""
    building = json.loads((folder / "building.json").read_text(encoding="utf-8"))
    devices = tuple(
        _device(folder / f"{name}.jsonl", name, about, building["run"])
        for name, about in building["devices"].items()
    )
    return Truth(devices, tuple(_faults(folder / "faults.jsonl")))


def _device(path: Path, name: str, about: dict[str, Any], run: str) -> DeviceTruth:
    points = tuple(about["points"])
    at_us: list[int] = []
    rows: list[list[float]] = []
    for number, line in _lines_of_run(path, run):
        values = line["values"]
        if line["counter"] != len(rows) + 1 or set(values) != set(points):
            raise TruthBroken(f"{path}:{number}: not sample {len(rows) + 1} of all points")
        at_us.append(line["at_us"])
        rows.append([np.nan if values[key] is None else values[key] for key in points])
    times = np.array(at_us, np.int64)
    if (np.diff(times) <= 0).any():
        raise TruthBroken(f"{path}: the times do not go strictly upwards")
    table = np.array(rows, np.float64).reshape(len(rows), len(points))
    return DeviceTruth(name, about["protocol"], points, times, table)


def _lines_of_run(path: Path, run: str) -> Iterator[tuple[int, dict[str, Any]]]:
    is_this_run = False
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = json.loads(raw)
            except ValueError as error:
                raise TruthBroken(f"{path}:{number}: {error}") from error
            if "run" in line:
                is_this_run = line["run"] == run
            elif is_this_run:
                yield number, line


def _faults(path: Path) -> Iterator[Fault]:
    if not path.exists():
        return
    for raw in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(raw)
        yield Fault(line["device"], line["fault"], line["from_us"], line["to_us"])
