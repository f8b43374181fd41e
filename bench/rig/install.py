"""Foreign software of the rig: pinned, installed once, or said to be missing."""

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench.stage import StageCannotRun
from deploy.central.native.cache import Cache
from deploy.central.native.installing import run
from deploy.central.native.mosquitto import Mosquitto
from deploy.central.native.service import StackFailed

MODBUS_SERIAL: Final = "8.0.25"
TELEGRAF: Final = "1.37.2"
THINGSBOARD: Final = "3.8.5"
_TAGS: Final = "custom,inputs.modbus,outputs.mqtt,serializers.influx"
_TELEGRAF: Final = "github.com/influxdata/telegraf"
_WITH_THINGSBOARD: Final = ("pymodbus==3.9.2", "pyserial==3.5", "pyserial-asyncio==0.6")
"""What it would install by itself when it starts."""

TOOLS: Final[Mapping[str, str]] = {
    "node": "Node.js 18 or newer, from your system's packages or nodejs.org",
    "npm": "npm, which comes with Node.js",
    "go": "Go 1.25 or newer, from go.dev",
}


def check(*tools: str) -> None:
    """Raise `StageCannotRun` that names the tools that are not here."""
    lacks = [f"{tool} ({TOOLS[tool]})" for tool in tools if shutil.which(tool) is None]
    lacks += Mosquitto().missing(Cache.of_user())
    if lacks:
        raise StageCannotRun(f"it needs {'; '.join(lacks)}")


def fleet() -> Path:
    """Give the folder of the fleet's packages, to be its NODE_PATH."""
    return _placed("modbus-serial", MODBUS_SERIAL, _fill_fleet) / "node_modules"


def telegraf() -> Path:
    """Give Telegraf, built with no more plug-ins than the rig needs."""
    return _placed("telegraf", TELEGRAF, _fill_telegraf) / "telegraf"


def thingsboard() -> Path:
    """Give the Python of ThingsBoard's gateway, in an environment of its own."""
    return _placed("thingsboard-gateway", THINGSBOARD, _fill_thingsboard) / "bin" / "python"


def _placed(name: str, version: str, fill: Callable[[Path], None]) -> Path:
    cache = Cache.of_user(tell=lambda line: print(f"bench: {line}", file=sys.stderr, flush=True))
    try:
        return cache.place(name, version, fill)
    except StackFailed as error:
        raise StageCannotRun(f"{name} {version} could not be installed: {error}") from error


def _fill_fleet(folder: Path) -> None:
    run(["npm", "install", "--silent", "--prefix", str(folder), f"modbus-serial@{MODBUS_SERIAL}"])


def _fill_telegraf(folder: Path) -> None:
    module = folder / "module"
    module.mkdir()
    required = f"require {_TELEGRAF} v{TELEGRAF}"
    (module / "go.mod").write_text(f"module rig\n\ngo 1.25\n\n{required}\n", "utf-8")
    stamp = f"-s -w -X {_TELEGRAF}/internal.Version={TELEGRAF}"
    options = ["-mod=mod", "-tags", _TAGS, "-ldflags", stamp, "-o", str(folder / "telegraf")]
    run(["go", "-C", str(module), "build", *options, f"{_TELEGRAF}/cmd/telegraf"])


def _fill_thingsboard(folder: Path) -> None:
    run([sys.executable, "-m", "venv", str(folder)])
    wanted = [f"thingsboard-gateway=={THINGSBOARD}", *_WITH_THINGSBOARD]
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q"]
    run([*pip, "--disable-pip-version-check", *wanted])
