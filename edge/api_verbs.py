"""The command about the local API: a one-time link for signing in, from the running gateway."""

import json
import socket
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from edge.settings import load
from shared.errors import SettingsError

SOCKET_FILE: Final = "api.sock"
TIMEOUT_S: Final = 10.0
ANSWER_BYTES: Final = 64 * 1024

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
        made = _made(loaded.data / SOCKET_FILE, "viewer" if viewer else "technician")
        path = str(made["path"])
    except (OSError, HTTPException, ValueError, KeyError) as error:
        _fail(f"no gateway with gateway.api.enabled answers on {loaded.data}: {error}", 1)
    settings = loaded.file.gateway.api
    scheme = "http" if settings.host in {"127.0.0.1", "::1", "localhost"} else "https"
    name = socket.gethostname() if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - compared, not bound
    place = f"[{name}]" if ":" in name else name
    typer.echo(f"{scheme}://{place}:{settings.port}{path}")


def _made(path: Path, role: str) -> dict[str, Any]:
    connection = _Local(path)
    try:
        body = json.dumps({"role": role})
        connection.request("POST", "/api/v1/links", body, {"Content-Type": "application/json"})
        return dict(json.loads(connection.getresponse().read(ANSWER_BYTES)))
    finally:
        connection.close()


class _Local(HTTPConnection):
    """HTTP over the Unix socket that only the gateway's user can open."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


def _fail(text: str, code: int) -> NoReturn:
    sys.stderr.write(f"{text}\n")
    raise SystemExit(code)
