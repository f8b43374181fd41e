"""`python -m deploy.central.native up|down|status|reset`: the stack for people."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Final

from deploy.central.native.launcher import Launcher
from deploy.central.native.service import Profile
from deploy.central.native.services import SERVICES
from deploy.central.native.status import table
from shared.errors import SpineError

_STEPS: Final = {
    "up": "install what is not there yet, start the servers, wait until they serve",
    "down": "end the servers; their data stays",
    "status": "show what runs",
    "reset": "end the servers and throw their data away",
}


def main() -> int:
    """Do the step that the command line names."""
    chosen = _parser().parse_args()
    profile: Profile = chosen.profile
    folder: Path = chosen.folder or _home() / profile
    launcher = Launcher(folder, profile, tell=_say)
    try:
        _run(chosen, launcher, folder)
    except (SpineError, OSError) as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stack: interrupted; `down` ends what was started", file=sys.stderr)
        return 130
    return 0


def _run(chosen: argparse.Namespace, launcher: Launcher, folder: Path) -> None:
    if chosen.step == "up":
        _up(launcher, folder, [name for name in chosen.only.split(",") if name])
    elif chosen.step == "status":
        print(table(launcher.status()))
    elif chosen.step == "reset" or chosen.wipe:
        launcher.reset()
        _say(f"nothing runs, and the data is gone: {folder}")
    else:
        launcher.down()
        _say(f"nothing runs; the data stays in {folder}")


def _up(launcher: Launcher, folder: Path, only: list[str]) -> None:
    started_s = time.monotonic()
    launcher.up(only or None)
    _say(f"up after {time.monotonic() - started_s:.1f} s; logs and data in {folder}")
    print(f"env: {folder / 'env'}", flush=True)


def _say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.central.native",
        description="Real servers for SPINE on this machine, without Docker: "
        + ", ".join(service.name for service in SERVICES),
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    for name, text in _STEPS.items():
        step = steps.add_parser(name, help=text, description=text)
        step.add_argument("--profile", choices=("dev", "staging"), default="dev")
        step.add_argument("--folder", type=Path, help="where the stack lives")
        if name == "up":
            step.add_argument("--only", default="", help="some services alone: kafka,registry")
        if name == "down":
            step.add_argument("--wipe", action="store_true", help="throw the data away too")
    return parser


def _home() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "spine" / "stack"


if __name__ == "__main__":
    raise SystemExit(main())
