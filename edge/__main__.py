"""The gateway's command line: init, service, enrol, check, read, run, ledger, status."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import uvloop

from edge import (
    api_verbs,
    asking,
    config_verbs,
    enrolment,
    field_verbs,
    first_read,
    gateway,
    installation,
    modbus_verbs,
    opcua_verbs,
    site_verbs,
)
from edge.settings import GatewayConfig, load
from edge.sqlite import OutboxError
from edge.vault import Vault
from shared import logs
from shared.clock import SystemClock
from shared.errors import SettingsError, SpineError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(api_verbs.app, name="api")
app.add_typer(modbus_verbs.app, name="modbus")
app.add_typer(opcua_verbs.app, name="opcua")
config_verbs.register(app)
field_verbs.register(app)
site_verbs.register(app)

Config = Annotated[Path, typer.Option(help="The gateway's configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

_CONFIG = Path("gateway.yaml")


@app.command()
def init(
    central: Annotated[str, typer.Option(help="Host of central.")],
    template: Annotated[str, typer.Option(help="Kind of the first device; see `templates`.")],
    name: Annotated[str, typer.Option(help="Name of the first device: main_meter.")],
    config: Config = _CONFIG,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="What the device needs: host=192.0.2.10; may be repeated."),
    ] = None,
    ports: Annotated[
        tuple[int, int], typer.Option(help="Ports of central's link and enrolment.")
    ] = installation.PORTS,
) -> None:
    """Write a first configuration file with one device."""
    try:
        given = installation.parsed(values or [])
        document = installation.first_document((central, *ports), template, name, given)
        installation.write_first(config, document)
    except SpineError as error:
        _fail(error, 2)
    points = len(document["devices"][0]["points"])
    typer.echo(f"{config}: {name} with {points} points; next: `spine-edge enrol --code CODE`")


@app.command()
def templates() -> None:
    """List the kinds of devices that SPINE knows, and what each needs to be told."""
    for line in installation.template_lines():
        typer.echo(line)


@app.command()
def service(config: Config = _CONFIG) -> None:
    """Print a systemd unit that runs this gateway."""
    typer.echo(installation.systemd_unit(_loaded(config), config), nl=False)


@app.command()
def read(
    device: Annotated[str, typer.Argument(help="Name of the device.")], config: Config = _CONFIG
) -> None:
    """Read a device once and print what it says; nothing is kept."""
    try:
        lines = asyncio.run(first_read.told(_loaded(config), device))
    except SpineError as error:
        _fail(error, 1)
    for line in lines:
        typer.echo(line)


@app.command()
def run(
    config: Config = _CONFIG,
    unsafe_settle_on_accepted: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run the gateway until it is told to stop."""
    loaded = _loaded(config)
    settings = loaded.file.gateway.log
    options = gateway.Options(settle_on_accepted=unsafe_settle_on_accepted)
    is_shown = loaded.file.gateway.api.enabled
    logs.configure(settings.level, settings.format, options.logs.note if is_shown else None)
    # Readings and tokens are nobody else's on this machine.
    os.umask(0o077)
    running = gateway.run(loaded, SystemClock(), options)
    del loaded  # it is let go there when it is not needed any more
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(running)
    except* (SettingsError, enrolment.NotEnrolled) as errors:
        _fail(_first(errors), 2)
    except* (OutboxError, gateway.GatewayFailed) as errors:
        _fail(_first(errors), 1)


@app.command()
def enrol(
    code: Annotated[str, typer.Option(help="The one-time code that central showed.")],
    config: Config = _CONFIG,
) -> None:
    """Get this gateway's certificate from central."""
    loaded = _loaded(config)
    try:
        vault = Vault.find(loaded.data, loaded.master_key)
        project, name = enrolment.enrol(loaded.file.central.enrol, code, loaded.data, vault)
    except (SpineError, OSError) as error:
        _fail(error, 1)
    typer.echo(f"enrolled as gateway {name} of project {project}")


@app.command()
def check(config: Config = _CONFIG) -> None:
    """Check the configuration file and print every problem in it."""
    loaded = _loaded(config)
    points = sum(len(device.points) for device in loaded.devices)
    typer.echo(f"{config}: good: {len(loaded.devices)} devices, {points} points")


@app.command()
def ledger(config: Config = _CONFIG, as_json: AsJson = False) -> None:
    """Print what became of every reading: from the running gateway, else from its outbox."""
    answer = _asked(config, "ledger")
    typer.echo(json.dumps(answer) if as_json else asking.ledger_line(answer))


@app.command()
def status(config: Config = _CONFIG, as_json: AsJson = False) -> None:
    """Print how link, devices and outbox are doing."""
    answer = _asked(config, "status")
    typer.echo(json.dumps(answer) if as_json else asking.status_text(answer))


def _asked(config: Path, what: str) -> dict[str, Any]:
    loaded = _loaded(config)
    try:
        return asyncio.run(asking.ask(loaded, what))
    except (SpineError, OSError) as error:
        _fail(error, 1)


def _loaded(config: Path) -> GatewayConfig:
    try:
        return load(config)
    except SettingsError as error:
        _fail(error, 2)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error: Exception | BaseExceptionGroup[Exception] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _fail(error: Exception, code: int) -> NoReturn:
    sys.stderr.write(f"{error}\n")
    raise SystemExit(code)


if __name__ == "__main__":
    app()
