"""What goes wrong, when: the timetable of faults, from a file, the default, or by chance.

All times are real seconds since the building started. For one device faults never overlap: one
that would begin while another lasts is left out.
"""

import random
from collections.abc import Iterator, Sequence
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from shared.errors import SettingsError


class Fault(StrEnum):
    """The ways in which a device misbehaves; docs/reference/building.md tells each per protocol."""

    SILENT = "silent"
    REFUSE = "refuse"
    EXCEPTION = "exception"
    STUCK = "stuck"
    NAN = "nan"
    SHORT = "short"


OPCUA_SERVER: Final = "opcua"
"""The target that stands for the one OPC UA server of all its devices; it can only `refuse`."""

_POSSIBLE: Final = {
    "modbus": frozenset(Fault),
    "opcua": frozenset({Fault.SILENT, Fault.EXCEPTION, Fault.STUCK, Fault.NAN}),
    "mqtt": frozenset({Fault.SILENT, Fault.REFUSE, Fault.STUCK, Fault.NAN, Fault.SHORT}),
}


def possible(protocols: dict[str, str]) -> dict[str, frozenset[Fault]]:
    """Tell which faults each target can have, from the protocol of each device."""
    targets = {name: _POSSIBLE[protocol] for name, protocol in protocols.items()}
    return targets | {OPCUA_SERVER: frozenset({Fault.REFUSE})}


class Strict(BaseModel):
    """Frozen; a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(Strict):
    """A fault of one device: once, or again every `every_s`."""

    device: str
    fault: Fault
    at_s: float = Field(ge=0)
    for_s: float = Field(gt=0)
    every_s: float | None = Field(default=None, gt=0)


class Chance(Strict):
    """Faults at random on every target; the seed decides them all."""

    mean_gap_s: float = Field(default=90, gt=0)
    shortest_s: float = Field(default=1, gt=0)
    longest_s: float = Field(default=12, gt=0)


class Timetable(Strict):
    """The whole of a fault file."""

    faults: tuple[Entry, ...] = ()
    random: Chance | None = None

    def windows(
        self, targets: dict[str, frozenset[Fault]], seed: int
    ) -> dict[str, list[Iterator["Window"]]]:
        """List per target its streams of windows, each in order of time."""
        streams: dict[str, list[Iterator[Window]]] = {target: [] for target in targets}
        for entry in self.faults:
            streams[entry.device].append(_repeat(entry))
        if self.random:
            for target, faults in targets.items():
                streams[target].append(_by_chance(self.random, sorted(faults), f"{seed}/{target}"))
        return streams


class Window(Strict):
    """One fault from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    fault: Fault


def load(source: str, targets: dict[str, frozenset[Fault]]) -> Timetable:
    """Get a timetable: `off`, `default`, `random`, or the path of a YAML or JSON file.

    Raises `SettingsError` with every problem of the file.
    """
    if source == "off":
        return Timetable()
    if source == "random":
        return Timetable(random=Chance())
    if source == "default":
        text = (files(__package__) / "data" / "faults.yaml").read_text(encoding="utf-8")
    else:
        text = _read(Path(source))
    return _parse(source, text, targets)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), [f"cannot be read: {error}"]) from error


def _parse(source: str, text: str, targets: dict[str, frozenset[Fault]]) -> Timetable:
    try:
        table = Timetable.model_validate(YAML(typ="safe").load(text) or {})
    except YAMLError as error:
        raise SettingsError(source, [f"is not YAML: {error}"]) from error
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        ]
        raise SettingsError(source, problems) from error
    if problems := [problem for entry in table.faults for problem in _problems(entry, targets)]:
        raise SettingsError(source, problems)
    return table


def _problems(entry: Entry, targets: dict[str, frozenset[Fault]]) -> Iterator[str]:
    if entry.device not in targets:
        yield f"{entry.device}: no such device; there are {', '.join(targets)}"
    elif entry.fault not in targets[entry.device]:
        can = ", ".join(sorted(targets[entry.device]))
        yield f"{entry.device}: cannot be {entry.fault}; it can be {can}"


def _repeat(entry: Entry) -> Iterator[Window]:
    start_s = entry.at_s
    yield Window(start_s=start_s, end_s=start_s + entry.for_s, fault=entry.fault)
    while entry.every_s:
        start_s += entry.every_s
        yield Window(start_s=start_s, end_s=start_s + entry.for_s, fault=entry.fault)


def _by_chance(chance: Chance, faults: Sequence[Fault], seed: str) -> Iterator[Window]:
    # S311: the seed makes a run repeatable; nothing secret.
    rng = random.Random(f"{seed}/faults")  # noqa: S311 - seeded on purpose
    end_s = 0.0
    while True:
        start_s = end_s + rng.expovariate(1 / chance.mean_gap_s)
        end_s = start_s + rng.uniform(chance.shortest_s, chance.longest_s)
        yield Window(start_s=start_s, end_s=end_s, fault=rng.choice(faults))
