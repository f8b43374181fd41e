"""The servers central stands on in each profile, for as long as a context lasts."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from deploy.central.processes import RunFailed, stop_on_signals
from deploy.central.supervise import Supervisor

NEEDED: Final = ("kafka", "registry", "timescale")
PREFIX: Final = "SPINE_"
Profile = Literal["dev", "staging"]


@dataclass(frozen=True, slots=True)
class Servers:
    """Servers that run: the settings that lead central to them.

    `look` starts those again that ended by themselves; to be called about once a second.
    """

    settings: Mapping[str, str]
    look: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class _Launch:
    profile: Profile
    folder: Path
    is_own: bool


@contextlib.contextmanager
def servers(
    profile: str, folder: Path | None, stop: threading.Event, *, is_own: bool = False
) -> Iterator[Servers]:
    """Start the profile's servers.

    Servers that ran already go on running afterwards, unless the folder `is_own`; others are ended.
    `folder` keeps them (None: the stack of `make stack`). Raises `RunFailed` that says what the
    machine lacks and what to do.
    """
    if profile == "local":
        yield Servers({})
    elif profile == "given":
        yield Servers(_given())
    else:
        launch = _Launch(cast(Profile, profile), folder or _home() / profile, is_own)
        with _launched(launch, stop) as running:
            yield running


def forget_servers(folder: Path) -> None:
    """End the servers of a folder, should some run, and throw them away with their data."""
    if folder.exists():
        # As below: a demo of the local profile has no such folder.
        from deploy.central.native.launcher import Launcher  # noqa: PLC0415 - see above

        Launcher(folder).reset()


def _given() -> Mapping[str, str]:
    given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    if f"{PREFIX}DSN" not in given:
        raise RunFailed("SPINE_DSN must name the database; SPINE_KAFKA and SPINE_REGISTRY may")
    return given


@contextlib.contextmanager
def _launched(launch: _Launch, stop: threading.Event) -> Iterator[Servers]:
    # Its libraries take a moment to import, and the local profile needs none of it.
    from deploy.central.native.launcher import Launcher, missing  # noqa: PLC0415 - see above
    from deploy.central.native.service import StackFailed  # noqa: PLC0415 - see above
    from deploy.central.stack_charges import StackCharges  # noqa: PLC0415 - see above

    _refuse_missing({name: missing(name) for name in NEEDED})
    ran_before = not launch.is_own and bool(Launcher(launch.folder, launch.profile).names())
    stack = Launcher(launch.folder, launch.profile, tied=not ran_before, tell=_say)
    _say("starting Kafka, the registry and TimescaleDB (the first time they are installed) …")
    try:
        env = stack.up(NEEDED)
        charges = Supervisor(StackCharges(stack, _say), stack.names(), _say)
        settings = {name: value for name, value in env.items() if name.startswith(PREFIX)}
        yield Servers(settings, charges.look)
    except StackFailed as error:
        raise RunFailed(f"the servers: {error}") from error
    finally:
        stop_on_signals(stop)
        if ran_before:
            _say("the servers ran before and go on; make stack-down ends them")
        else:
            stack.down()


def _home() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "spine" / "stack"


def _say(text: str) -> None:
    print(text, flush=True)


def _refuse_missing(lacks: Mapping[str, list[str]]) -> None:
    lines = [f"  {name}: {', '.join(missing)}" for name, missing in lacks.items() if missing]
    if lines:
        told = "\n".join(["this machine cannot run all servers of the profile:", *lines])
        raise RunFailed(f"{told}\nWithout them: make demo, or make up PROFILE=local")
