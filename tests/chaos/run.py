"""The long proof: the whole stack under kills, cuts and a wiped log, then the checker.

    python tests/chaos/run.py --profile local --minutes 10 --seed 1

Everything of a run lies in its folder, whose path is printed; it is kept if the run fails (or with
--folder). The last line is the checker's; exit code 0 only if the run passed.
"""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx2

if __name__ == "__main__":  # run as a script: the project's root is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from central.storage.database import DatabaseAway, platform_transaction, project_transaction
from protocols.simulated import stop as stop_building
from shared.errors import SpineError
from tests.chaos.chaos import Chaos
from tests.chaos.checker import Lines, gather_run
from tests.chaos.faults import draw_faults
from tests.chaos.judgement import Verdict, judge
from tests.chaos.mayhem import Mayhem
from tests.chaos.pauses import FILE_NAME
from tests.chaos.profile import PROJECT
from tests.chaos.profiles import PROFILES
from tests.chaos.service import ask, until
from tests.chaos.stack import Setting, Stack, running_stack
from tests.chaos.timetable import read_timetable
from tests.chaos.watch import TIMEOUT_S, Watch, appended, ready, settled

FRESH_S: Final = 120.0
"""How long after the calm every device must have been read and stored again."""

DRAIN_S: Final = 180.0
QUIET: Final = 5
"""So many looks in a row find nothing pending before the gateway is stopped."""


async def perform(
    setting: Setting, mayhem: Mayhem, tell: Callable[[str], None] = lambda _: None
) -> Verdict:
    """Run everything in `setting.folder` and judge it; raises `ChaosFailed`.

    `tell` is told how far the run is.
    """
    async with running_stack(setting) as stack:
        await stack.gateway.start()
        await stack.gateway.wait_ready()
        stack.journal.note("gateway_ready")
        async with _watched(stack):
            await Chaos(stack, mayhem, setting.seed, tell).run()
        stack.journal.note("calm")
        tell("calm: every device is read once more, then the outbox is emptied")
        await until(lambda: _is_fresh(stack), "every device read and stored again", FRESH_S)
        await stop_building(stack.building.process)
        await _drained(stack)
        await stack.gateway.stop()
        for module in reversed(stack.central.modules):
            await module.stop()
    return judge(await gather_run(setting.folder, PROJECT))


@asynccontextmanager
async def _watched(stack: Stack) -> AsyncIterator[None]:
    """Watch what must not stand still, where a profile names it."""
    central = stack.central
    if not central.ready_urls:
        yield
        return
    async with httpx2.AsyncClient(timeout=TIMEOUT_S) as client, asyncio.TaskGroup() as group:
        probes = {
            "readings settled": settled(central.pool, PROJECT),
            "readings put into the log": appended(client, central.metrics_url),
        }
        probes |= {f"{name} ready": ready(client, url) for name, url in central.ready_urls.items()}
        watching = group.create_task(Watch(stack.folder / FILE_NAME, probes).run())
        yield
        watching.cancel()


async def _interruptible(setting: Setting, mayhem: Mayhem) -> Verdict:
    """Perform; SIGTERM ends it as Ctrl-C does, so that nothing is left running."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    return await perform(setting, mayhem, lambda text: print(text, flush=True))  # noqa: T201


async def _is_fresh(stack: Stack) -> bool:
    """Tell whether a sample of every device that was served after the calm is stored."""
    calm_us = read_timetable(stack.folder).span.until_us
    try:
        async with platform_transaction(stack.central.pool) as connection:
            counters = await connection.fetch(
                "SELECT point_id FROM platform.points WHERE key LIKE '%/counter'"
            )
        async with project_transaction(stack.central.pool, PROJECT) as connection:
            fresh = await connection.fetch(
                """
                SELECT point_id FROM latest
                WHERE quality = 0 AND observed_at > to_timestamp($1::float8 / 1000000)
                """,
                calm_us,
            )
    except DatabaseAway:
        return False
    return bool(counters) and set(counters) <= set(fresh)


async def _drained(stack: Stack) -> None:
    """Wait until nothing is pending, and stays so: nothing new comes, the building is gone."""
    quiet = 0

    async def is_drained() -> bool:
        nonlocal quiet
        ledger = await ask(f"{stack.health_url}/ledger")
        quiet = quiet + 1 if ledger and ledger["pending"] == 0 else 0
        return quiet >= QUIET

    await until(is_drained, "the gateway's outbox empty", DRAIN_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and judge; 0 if it passed, 1 if not, 2 if the harness could not go on."""
    options = _parser().parse_args(arguments)
    folder: Path = options.folder or Path(tempfile.mkdtemp(prefix="spine-chaos-"))
    sys.stdout.write(f"run folder: {folder}\n")
    sys.stdout.flush()
    profile = PROFILES[options.profile]
    setting = Setting(
        folder,
        options.seed,
        profile,
        thresholds=profile.thresholds(options.least_kills),
        settle_on_accepted=options.settle_on_accepted,
        faults=_faults(folder, options) if options.faults else "off",
    )
    mayhem = replace(profile.mayhem(options.minutes * 60), rounds=options.rounds)
    verdict = None
    try:
        verdict = asyncio.run(_interruptible(setting, mayhem))
    except* SpineError as errors:
        for error in _each(errors):
            sys.stderr.write(f"the run could not be finished: {error}\n")
    except* (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("the run was ended before it was over\n")
    if verdict is None:
        return 2
    sys.stdout.write("\n".join(verdict.lines()) + "\n")
    if verdict.passed and options.folder is None:
        shutil.rmtree(folder)
    return 0 if verdict.passed else 1


def _each(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    return [
        one
        for error in group.exceptions
        for one in (_each(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


def _faults(folder: Path, options: argparse.Namespace) -> str:
    """Write the building's timetable of faults for this run."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "faults.json"
    path.write_text(json.dumps(draw_faults(options.seed, options.minutes * 60)), encoding="utf-8")
    return str(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Lines)
    parser.add_argument(
        "--profile", choices=sorted(PROFILES), default="local", help="what runs behind the link"
    )
    parser.add_argument(
        "--least-kills",
        type=int,
        help="how often each victim must be killed, or the run fails (default: the profile's own)",
    )
    parser.add_argument("--minutes", type=float, default=10, help="how long things go wrong")
    parser.add_argument(
        "--rounds",
        type=int,
        help="end earlier, once all that is killed in turn was killed so often",
    )
    parser.add_argument("--seed", type=int, default=1, help="decides everything that goes wrong")
    parser.add_argument("--folder", type=Path, help="where the run is kept (default: temporary)")
    parser.add_argument(
        "--no-faults", dest="faults", action="store_false", help="leave the devices alone"
    )
    parser.add_argument(
        "--settle-on-accepted",
        action="store_true",
        help="negative control: the gateway deletes what is accepted; the run must fail",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
