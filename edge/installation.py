"""A gateway on a new machine: its first configuration file and the service that runs it."""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from edge.settings import GatewayConfig, load
from protocols import registry, templates
from protocols.templates import Template
from shared import pki
from shared.errors import OptionsWrong, SettingsError

PORTS: Final = (8081, 8082)
"""Central's ports for the link and for enrolment, unless an operator chose others."""

_HEAD: Final = """\
# The configuration of this gateway; `spine-edge check` tells every mistake in it, with its line.
# All settings: docs/reference/settings.md.
"""

_UNIT: Final = """\
[Unit]
Description=SPINE gateway
Documentation=file://{config}
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
ExecStart={python} -m edge run --config {config}
User=spine
WorkingDirectory={folder}
Restart=always
RestartSec=2
TimeoutStopSec=30
UMask=0077
ReadWritePaths={data}
SupplementaryGroups=dialout
ProtectSystem=strict
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
PrivateTmp=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""


def parsed(values: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` words, each value as YAML would; raises `OptionsWrong`."""
    given: dict[str, Any] = {}
    for word in values:
        key, equals, text = word.partition("=")
        if not key or not equals:
            msg = f"{word!r} is not key=value, such as host=192.0.2.10"
            raise OptionsWrong(msg)
        try:
            given[key] = YAML(typ="safe").load(text)
        except YAMLError as error:
            msg = f"{key}: {text!r} cannot be read; put it in quotes"
            raise OptionsWrong(msg) from error
    return given


def first_document(
    central: tuple[str, int, int], template: str, name: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Make a configuration with one device; `central` is host, link port and enrolment port.

    `given` holds the template's parameters and the driver's device options. Raises `OptionsWrong`.
    """
    host, link_port, enrol_port = central
    kind = _template(template)
    parameters = {key: str(value) for key, value in given.items() if key in kind.parameters}
    options = {key: value for key, value in given.items() if key not in kind.parameters}
    return {
        "central": {
            "link": f"wss://{host}:{link_port}/link",
            "enrol": f"https://{host}:{enrol_port}",
        },
        "devices": [kind.device(name, options, parameters)],
    }


def _template(name: str) -> Template:
    known = templates.built_in()
    if name not in known:
        msg = f"no template {name!r}; there are {', '.join(known)}"
        raise OptionsWrong(msg)
    return known[name]


def write_first(config: Path, document: Mapping[str, Any]) -> None:
    """Write the file, for its owner alone; raises `SettingsError` if there is one, or it is wrong.

    A file that the gateway would refuse is not left behind.
    """
    if config.exists():
        raise SettingsError(str(config), ["is there already: move it away, or add to it"])
    text = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.representer.ignore_aliases = lambda _: True  # the reader takes none
    yaml.width = 100
    yaml.dump(dict(document), text)
    try:
        config.parent.mkdir(parents=True, exist_ok=True)
        pki.write_private(config, (_HEAD + text.getvalue()).encode())
    except OSError as error:
        raise SettingsError(str(config), [f"cannot be written ({error.strerror})"]) from error
    try:
        load(config)
    except SettingsError:
        config.unlink()
        raise


def template_lines() -> Iterator[str]:
    """Say each template in a line: its name, what it is, and what must be set for it."""
    for name, kind in templates.built_in().items():
        fields = registry.find(kind.driver).device_options.model_fields
        needed = [key for key, one in fields.items() if _is_needed(one) and key not in kind.options]
        needed += [key for key, one in kind.parameters.items() if not one.default]
        wanted = " ".join(f"--set {key}=…" for key in needed)
        yield f"{name:<28} {kind.kind:<14} {kind.title:<44} {wanted}".rstrip()


def _is_needed(field: FieldInfo) -> bool:
    """Tell whether a device is not to be had without this option, as a rule."""
    more = field.json_schema_extra
    return field.is_required() or (isinstance(more, dict) and bool(more.get("usually_set")))


def systemd_unit(config: GatewayConfig, path: Path) -> str:
    """Say a unit that runs the gateway as the user `spine`, who may write its data and no more."""
    place = path.resolve()
    return _UNIT.format(
        python=sys.executable, config=place, folder=place.parent, data=config.data.resolve()
    )
