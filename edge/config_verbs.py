"""The commands about the configuration as a whole: dump, backup, restore, secret."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from ruamel.yaml import YAML

from edge import backup as backups
from edge.document import NotJson, part_of, plain
from edge.first_revision import stored
from edge.hidden import MASK, REFERENCE, in_document
from edge.settings import GatewayConfig, load
from edge.vault import Vault
from shared import pki
from shared.clock import SystemClock
from shared.errors import SettingsError, SpineError

VARIABLE = "SPINE_BACKUP_PASSPHRASE"

Config = Annotated[Path, typer.Option(help="The gateway's configuration file.")]
Phrase = Annotated[
    Path | None,
    typer.Option(help=f"File whose first line is the pass phrase; else {VARIABLE}, else asked."),
]
_CONFIG = Path("gateway.yaml")


def register(app: typer.Typer) -> None:
    """Add the commands to the gateway's command line."""
    for command in (dump, backup, restore, secret):
        app.command()(command)


def dump(config: Config = _CONFIG) -> None:
    """Print the configuration in force as YAML, without passwords."""
    loaded = _loaded(config)
    try:
        document = _in_force(loaded)
        machine = {name: part for name, part in plain(loaded.raw).items() if name not in document}
    except (SpineError, NotJson) as error:
        _fail(error, 1)
    text = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 100
    yaml.dump({**machine, **document}, text)
    typer.echo(text.getvalue(), nl=False)


def backup(
    file: Annotated[Path, typer.Argument(help="Where the backup is written; never overwritten.")],
    config: Config = _CONFIG,
    identity: Annotated[
        bool, typer.Option(help="Whether the key and certificate of this gateway are in it.")
    ] = False,
    passphrase: Phrase = None,
) -> None:
    """Write the whole configuration into one encrypted file; the gateway may run."""
    loaded = _loaded(config)
    try:
        if file.exists():
            _fail(backups.BackupFailed(f"{file} is there already: choose another name"), 1)
        vault = Vault.find(loaded.data, loaded.master_key)
        contents = backups.gathered(config, loaded.data, vault, SystemClock(), identity=identity)
        pki.write_private(file, backups.sealed(contents, _phrase(passphrase, confirm=True)))
    except (SpineError, OSError) as error:
        _fail(error, 1)
    held = f"{len(contents.secrets)} secrets" + (", the identity" if identity else "")
    typer.echo(f"{file}: revision {contents.number}, {held}")


def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    config: Config = _CONFIG,
    data: Annotated[
        Path | None, typer.Option(help="The data folder, where it is not `data` beside the file.")
    ] = None,
    replace: Annotated[
        bool, typer.Option(help="Put what is there aside instead of leaving it alone.")
    ] = False,
    passphrase: Phrase = None,
) -> None:
    """Bring a backup back; the gateway must not run."""
    try:
        if file.stat().st_size > backups.MOST_BYTES:
            _fail(backups.BackupFailed(f"{file} is larger than any backup"), 1)
        contents = backups.opened(file.read_bytes(), _phrase(passphrase, confirm=False))
        folder, key = _data_of(contents, config, data)
        place = backups.Place(config, folder, Vault.find(folder, key))
        done = backups.restore(contents, place, SystemClock(), replace=replace)
    except (SpineError, OSError) as error:
        _fail(error, 1)
    typer.echo(f"{config}: revision {done.number} is back; the next start uses it")
    if not done.with_identity:
        typer.echo("the identity was not in the backup: `spine-edge enrol` if there is none here")
    for path in done.kept_at:
        typer.echo(f"kept: {path}")


def secret(
    name: Annotated[str, typer.Argument(help='Name, used as {"secret": "name"} in options.')],
    config: Config = _CONFIG,
) -> None:
    """Keep a password, read from standard input, sealed under a name; used from the next start."""
    loaded = _loaded(config)
    value = sys.stdin.readline().rstrip("\n")
    try:
        found = stored(loaded.data, Vault.find(loaded.data, loaded.master_key))
        if found is None:
            _fail(backups.BackupFailed("start the gateway once before secrets are kept"), 1)
        with found[0].store:
            found[0].put(name, value)
    except (SpineError, OSError) as error:
        _fail(error, 1)
    typer.echo(f"{name}: kept; restart the gateway to use it")


def _in_force(loaded: GatewayConfig) -> dict[str, Any]:
    found = stored(loaded.data, Vault.find(loaded.data, loaded.master_key))
    if found is not None:
        with found[0].store:
            return dict(found[1].document)
    file = part_of(loaded.raw) or {"devices": []}
    return in_document(file, lambda one, _: one if isinstance(one, dict) else {REFERENCE: MASK})


def _data_of(
    contents: backups.Contents, config: Path, data: Path | None
) -> tuple[Path, Path | None]:
    """Find data folder and master key: as the restored file says, else beside it."""
    section = YAML(typ="safe").load(contents.gateway_yaml) or {}
    gateway = section.get("gateway") if isinstance(section, dict) else None
    gateway = gateway if isinstance(gateway, dict) else {}
    folder = data or config.parent / str(gateway.get("data", "data"))
    key = gateway.get("master_key")
    return folder.resolve(), (config.parent / str(key)).resolve() if key else None


def _phrase(path: Path | None, *, confirm: bool) -> str:
    if path is not None:
        with path.open(encoding="utf-8") as file:
            return file.readline(1_024).rstrip("\n")
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    asked: str = typer.prompt("Pass phrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return asked


def _loaded(config: Path) -> GatewayConfig:
    try:
        return load(config)
    except SettingsError as error:
        _fail(error, 2)


def _fail(error: Exception, code: int) -> NoReturn:
    sys.stderr.write(f"{error}\n")
    raise SystemExit(code)
