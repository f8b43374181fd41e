"""The conservation checker: holds what central has against what the building served.

    python tests/chaos/checker.py --run FOLDER
    python tests/chaos/checker.py --truth DIR --dsn DSN --project demo --gateway-data DIR

What is checked, and how to read a failure, is in README.md beside this file. The last line reads
`produced N delivered N collapsed N quarantined N pending 0 gaps N lost 0 doubled 0`.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # run as a script: the project's root is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.recovery import FILE_NAME, read_outbox
from shared.errors import SpineError
from tests.chaos.arrived import read_arrived
from tests.chaos.books import Books
from tests.chaos.complaints import read_complaints
from tests.chaos.judgement import Evidence, judge
from tests.chaos.pauses import read_progress
from tests.chaos.profiles import profile_of
from tests.chaos.timetable import read_timetable
from tests.chaos.truth import read_truth


async def gather(
    truth: Path, dsn: str, project: str, gateway_data: Path, run: Path | None = None
) -> Evidence:
    """Read what a run left behind; the gateway must be stopped."""
    ledger, _, _ = await asyncio.to_thread(read_outbox, gateway_data / FILE_NAME)
    fields = {name: getattr(ledger, name) for name in Books.__slots__ if name != "imbalance"}
    books = Books(**fields, imbalance=ledger.imbalance())
    arrived = await read_arrived(dsn, project)
    served = await asyncio.to_thread(read_truth, truth)
    if run is None:
        return Evidence(served, arrived, books)
    complaints, progress = read_complaints(run), read_progress(run)
    return Evidence(served, arrived, books, read_timetable(run), complaints, progress)


async def gather_run(run: Path, project: str = "demo") -> Evidence:
    """Read a run folder of tests/chaos/run.py, starting its database for the time of reading."""
    async with profile_of(run).database(run) as dsn:
        return await gather(run / "truth", dsn, project, run / "gateway" / "data", run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check one run; 0 if it passed, 1 if not, 2 if it cannot be read."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.run is None and None in (options.truth, options.dsn, options.gateway_data):
        parser.error("give --run, or all of --truth, --dsn and --gateway-data")
    try:
        if options.run is not None:
            evidence = asyncio.run(gather_run(options.run, options.project))
        else:
            evidence = asyncio.run(
                gather(options.truth, options.dsn, options.project, options.gateway_data)
            )
    except (SpineError, OSError) as error:
        sys.stderr.write(f"the run cannot be checked: {error}\n")
        return 2
    verdict = judge(evidence)
    sys.stdout.write("\n".join(verdict.lines()) + "\n")
    return 0 if verdict.passed else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Lines)
    parser.add_argument("--run", type=Path, help="a run folder of tests/chaos/run.py")
    parser.add_argument("--truth", type=Path, help="the building's ground-truth folder")
    parser.add_argument("--dsn", help="central's database, as its service role")
    parser.add_argument("--project", default="demo", help="slug of the project (default: demo)")
    parser.add_argument("--gateway-data", type=Path, help="data folder of the stopped gateway")
    return parser


class Lines(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description."""


if __name__ == "__main__":
    sys.exit(main())
