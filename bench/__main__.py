"""Runs stages of the bench: `python -m bench [stage …] [--rounds 5] [--quick]`.

Writes bench/out/latest.json and prints a small table. Exit 2 if a stage is not there, 3 if this
machine cannot run one of them; the others are measured all the same.
"""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench.stage import STAGES, StageCannotRun, StageMissing, StageResult, find

OUT: Final = Path(__file__).parent / "out" / "latest.json"
_PACKAGES: Final = ("numpy", "zstandard")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages asked for, one after another; all of them if none is named."""
    asked = _parser().parse_args(arguments)
    try:
        stages = {name: find(name) for name in asked.stages or STAGES}
    except StageMissing as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    results: dict[str, StageResult] = {}
    for name, stage in stages.items():
        print(f"bench: {name}, {asked.rounds} rounds …", file=sys.stderr, flush=True)
        try:
            results[name] = stage.run(asked.rounds, asked.quick)
        except StageCannotRun as error:
            print(f"bench: {name} was not run: {error}", file=sys.stderr)
    _write(asked.out, results, quick=asked.quick)
    if results:
        print(_table(list(results.values())))
    print(f"written: {asked.out}")
    return 0 if len(results) == len(stages) else 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds a side (5)")
    parser.add_argument("--quick", action="store_true", help="a few seconds; figures are rough")
    parser.add_argument("--out", type=Path, default=OUT, help="where the figures go")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        msg = f"{number} is not at least 1"
        raise argparse.ArgumentTypeError(msg)
    return number


def _write(path: Path, results: dict[str, StageResult], *, quick: bool) -> None:
    """Write the figures; stages that were not run now keep none, so that a file is one run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": _machine(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "stages": {name: result.to_json() for name, result in results.items()},
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _machine() -> dict[str, object]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _table(results: list[StageResult]) -> str:
    rows = [
        ("stage", "metric", "ratio", "better", "readings/s", "baseline", "µs/1000", "B/reading")
    ]
    rows += [
        (
            result.stage,
            result.metric,
            _cell(result.ratio, ".3f"),
            result.better,
            _cell(result.rate, ",.0f"),
            _cell(result.baseline_rate, ",.0f"),
            _cell(result.cpu_us_per_1000, ",.0f"),
            _cell(result.bytes_per_reading, ".2f"),
        )
        for result in results
    ]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cell(figure: float | None, form: str) -> str:
    return "-" if figure is None else format(figure, form)


if __name__ == "__main__":
    # Ended as by Ctrl-C: what a stage has started ends with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
