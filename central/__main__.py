"""The command line of central: run modules, and the few acts of an administrator."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from central import admin
from central import settings as settings_file
from central.modules import MODULES
from central.process import running
from central.settings import Settings
from shared import logs
from shared.errors import SettingsError, SpineError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Data = Annotated[Path | None, typer.Option(help="Folder of central's own files.")]
ProjectName = Annotated[str, typer.Option(help="Short name of the project.")]
Port = Annotated[int | None, typer.Option(min=0, max=65_535)]


def _run_command(name: str, modules: list[str], text: str) -> None:
    @app.command(name, help=text)
    def run(
        data: Data = None,
        host: Annotated[str | None, typer.Option(help="Address of page and API.")] = None,
        port: Port = None,
        link_port: Port = None,
        enrol_port: Port = None,
        health_port: Port = None,
    ) -> None:
        settings = settings_file.read(
            data=data,
            host=host,
            port=port,
            link_port=link_port,
            enrol_port=enrol_port,
            health_port=health_port,
        )
        logs.configure(settings.log_level, settings.log_format)
        _run(lambda: _serve(settings, modules))


_run_command("all", list(MODULES), "Run all modules in this process.")
for _module in MODULES:
    _run_command(_module, [_module], f"Run the module {_module} alone.")


@app.command()
def setup(
    project: ProjectName,
    site: Annotated[str, typer.Option(help="Name of the first site.")] = "main",
    data: Data = None,
) -> None:
    """Make a project with its first site; what is there stays as it is."""
    _act(data, lambda found: admin.setup(found, project, site))


@app.command()
def enrol(
    project: ProjectName,
    gateway: Annotated[str, typer.Option(help="Name of the gateway.")],
    site: Annotated[str, typer.Option(help="Site of a gateway that is new.")] = "main",
    data: Data = None,
) -> None:
    """Print a one-time code for a gateway, valid for 15 minutes."""
    _act(data, lambda found: admin.enrol(found, project, site, gateway))


@app.command()
def key(
    project: ProjectName,
    name: Annotated[str, typer.Option(help="What the key is for.")],
    data: Data = None,
) -> None:
    """Print a new API key; it is shown this once."""
    _act(data, lambda found: admin.key(found, project, name))


@app.command()
def login(
    project: Annotated[str | None, typer.Option(help="Needed where there are several.")] = None,
    data: Data = None,
) -> None:
    """Print a one-time login token, valid for 15 minutes; its link goes to standard error."""
    _act(data, lambda found: admin.login(found, project))


@app.command()
def revoke(
    project: ProjectName,
    gateway: Annotated[str, typer.Option(help="Name of the gateway.")],
    data: Data = None,
) -> None:
    """Revoke a gateway for good: it is cut off within seconds."""
    _act(data, lambda found: admin.revoke(found, project, gateway))


def _act(data: Path | None, act: Callable[[Settings], Awaitable[admin.Said]]) -> None:
    settings = settings_file.read(data=data)
    logs.configure("warning" if settings.log_level == "info" else settings.log_level)

    async def run() -> None:
        said = await act(settings)
        if said.note:
            typer.echo(said.note, err=True)
        typer.echo(said.answer)

    _run(run)


def _run(main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole())


async def _serve(settings: Settings, modules: list[str]) -> None:
    stop, up = asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        async with running(settings, modules):
            up.set()
            await stop.wait()

    serving = asyncio.create_task(serve())

    def ask_to_stop() -> None:
        stop.set()
        if not up.is_set():
            serving.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ask_to_stop)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def main() -> None:
    """Run the command line: exit code 2 for wrong settings, 1 for what could not be done."""
    try:
        app()
    except SettingsError as error:
        typer.echo(str(error), err=True)
        sys.exit(2)
    except SpineError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
