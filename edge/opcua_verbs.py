"""The command line's OPC UA verb: the certificate by which servers know this gateway."""

import socket
from typing import Annotated, Final

import typer

from edge.config_store import ConfigUnwritable
from edge.first_revision import stored
from edge.secret_store import Secrets
from edge.settings import GatewayConfig
from edge.terminal import CONFIG, Config, fail, loaded
from edge.vault import Vault
from protocols.opcua.trust import Presented, load_identity, make_identity
from shared.errors import SpineError

app = typer.Typer(no_args_is_help=True, help="What OPC UA needs before a device is configured.")

NAME: Final = "opcua"


@app.callback()
def _verbs() -> None:
    """Keep `certificate` a command of its own while it is the only one."""


@app.command()
def certificate(
    config: Config = CONFIG,
    name: Annotated[str, typer.Option(help="Under which name its key is kept.")] = NAME,
    renew: Annotated[
        bool, typer.Option(help="Make another one; every server must be told to trust it.")
    ] = False,
) -> None:
    """Print this gateway's OPC UA certificate, made on first use; its key is kept sealed."""
    try:
        pem, is_new = _kept(loaded(config), name, renew=renew)
        identity = load_identity(pem, name)
    except (SpineError, OSError) as error:
        fail(error, 1)
    typer.echo(pem[: pem.index("-----BEGIN PRIVATE KEY")], nl=False)
    typer.echo("made now" if is_new else "kept here already", err=True)
    typer.echo(f"speaks for {identity.application_uri}", err=True)
    typer.echo(f"{Presented(identity.certificate)}", err=True)
    typer.echo(
        f"In the options of every server: identity: {{secret: {name}}}. "
        "At every server: trust this certificate.",
        err=True,
    )


def _kept(config: GatewayConfig, name: str, *, renew: bool) -> tuple[str, bool]:
    """Find the certificate and its key, or make them; tells whether they are new."""
    found = stored(config.data, Vault.find(config.data, config.master_key))
    if found is None:
        msg = f"{config.data}: start the gateway once before secrets are kept"
        raise ConfigUnwritable(msg)
    secrets: Secrets = found[0]
    with secrets.store:
        pem = secrets.get(name)
        if pem is not None and not renew:
            return pem, False
        host = socket.getfqdn()
        pem = make_identity(host, f"urn:{host}:spine:gateway")
        secrets.put(name, pem)
        return pem, True
