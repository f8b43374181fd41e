"""What the commands share: the options they all have, how they end, how they print."""

import asyncio
import dataclasses
import json
import sys
from collections.abc import Coroutine
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer
from rich.console import Console

from edge.settings import GatewayConfig, load
from shared.errors import SettingsError, SpineError

CONFIG: Final = Path("gateway.yaml")
INTERRUPTED: Final = 130
"""How a command ends that was stopped with Ctrl-C, as shells have it."""

Config = Annotated[Path, typer.Option(help="The gateway's configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

Result = TypeVar("Result")


def loaded(config: Path) -> GatewayConfig:
    """Read the configuration file, or end with what is wrong in it."""
    try:
        return load(config)
    except SettingsError as error:
        fail(error, 2)


def done(work: Coroutine[Any, Any, Result]) -> Result:
    """Do work to its end, or end with what went wrong, or because of Ctrl-C."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        fail("stopped", INTERRUPTED)
    except (SpineError, OSError) as error:
        fail(error, 1)


def fail(error: object, code: int) -> NoReturn:
    """Say what went wrong, and end."""
    sys.stderr.write(f"{error}\n")
    raise SystemExit(code)


def out() -> Console:
    """Print for people; where no terminal is, lines are not cut to its width."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


def say_json(told: Any) -> None:
    """Print one line of JSON."""
    typer.echo(json.dumps(told, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (one.name for one in dataclasses.fields(value))
        return {name: getattr(value, name) for name in names}
    if isinstance(value, Enum):
        return value.value
    return dict(value) if hasattr(value, "items") else list(value)
