"""What a stage of the bench gives back, and how two sides are measured fairly: in turns."""

import importlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final, Literal, Protocol, Self, TypeVar, cast

T = TypeVar("T")
STAGES: Final = (
    "wire",
    "outbox",
    "modbus",
    "ingress",
    "writer",
    "life",
    "drain",
    "peers",
    "gateway",
)


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage's figures.

    `ratio` is ours / baseline of `metric`; `better` tells which way is good. Rates are readings a
    second; `cpu_us_per_1000` and `bytes_per_reading` are ours. `ours` and `baseline` hold the
    settings of both sides and whatever else a reader should know. None is what a stage has not:
    a baseline, or bytes.
    """

    stage: str
    metric: str
    ratio: float | None
    better: Literal["lower", "higher"]
    rate: float
    baseline_rate: float | None
    cpu_us_per_1000: float
    bytes_per_reading: float | None
    rounds: int
    ours: dict[str, object]
    baseline: dict[str, object]

    def to_json(self) -> dict[str, object]:
        """List the figures, rounded to what they mean."""
        fields = asdict(self)
        for name, value in fields.items():
            if isinstance(value, float):
                fields[name] = float(f"{value:.4g}")
        return fields


class Stage(Protocol):
    """What a stage's module offers."""

    def run(self, rounds: int, quick: bool) -> StageResult:
        """Measure; `quick` means a few seconds, for a test that the stage works at all."""
        ...


class StageMissing(Exception):
    """There is no such stage; the text says which there are."""


class StageCannotRun(Exception):
    """This machine cannot run the stage; the text says what is missing, and how to get it."""


def find(name: str) -> Stage:
    """Find a stage by name: the module `bench.<name>` with a function `run`."""
    if name not in STAGES:
        raise StageMissing(f"no stage {name!r}; there are {', '.join(STAGES)}")
    try:
        module = importlib.import_module(f"bench.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"bench.{name}":
            raise
        raise StageMissing(f"stage {name!r} is not here: bench/{name}.py is missing") from error
    if not callable(getattr(module, "run", None)):
        raise StageMissing(f"bench/{name}.py has no function run(rounds, quick)")
    return cast(Stage, module)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of one side took."""

    cpu_us_per_1000: float
    rate: float

    @classmethod
    def of(cls, work: Callable[[], object], readings: int) -> Self:
        """Do the work once and measure CPU of this process and wall time, per reading."""
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return cls(cpu_us_per_1000=cpu * 1e9 / readings, rate=readings / wall)


def interleave(
    ours: Callable[[], T], baseline: Callable[[], T], rounds: int
) -> tuple[list[T], list[T]]:
    """Run both sides in turns, A B A B …, so that a slow minute of the machine hits both."""
    taken: tuple[list[T], list[T]] = ([], [])
    for _ in range(rounds):
        taken[0].append(ours())
        taken[1].append(baseline())
    return taken


def typical(rounds: list[Round]) -> Round:
    """Take the medians."""
    return Round(
        cpu_us_per_1000=median(one.cpu_us_per_1000 for one in rounds),
        rate=median(one.rate for one in rounds),
    )
