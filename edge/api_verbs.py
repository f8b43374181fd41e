"""The command about the local API: a one-time link for signing in, from the running gateway."""

import socket
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from edge.local_api import LocalApi, NotAnswered
from edge.settings import load
from shared.errors import SettingsError

app = typer.Typer(no_args_is_help=True, help="The local API of the running gateway.")


@app.callback()
def api() -> None:
    """Ask the local API of the running gateway."""


@app.command()
def link(
    config: Annotated[Path, typer.Option(help="The gateway's configuration file.")] = Path(
        "gateway.yaml"
    ),
    viewer: Annotated[bool, typer.Option(help="Whether it is for looking alone.")] = False,
) -> None:
    """Print a one-time link for signing in; it is good for a quarter of an hour."""
    try:
        loaded = load(config)
    except SettingsError as error:
        _fail(str(error), 2)
    try:
        role = "viewer" if viewer else "technician"
        path = str(LocalApi(loaded.data).post("/links", {"role": role})["path"])
    except NotAnswered as error:
        _fail(str(error), 1)
    settings = loaded.file.gateway.api
    scheme = "http" if settings.host in {"127.0.0.1", "::1", "localhost"} else "https"
    name = socket.gethostname() if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - compared, not bound
    place = f"[{name}]" if ":" in name else name
    typer.echo(f"{scheme}://{place}:{settings.port}{path}")


def _fail(text: str, code: int) -> NoReturn:
    sys.stderr.write(f"{text}\n")
    raise SystemExit(code)
