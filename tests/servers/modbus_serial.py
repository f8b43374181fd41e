"""modbus-serial, the JavaScript stack, as a server of many units; `modbus_serial.cjs` says how."""

from pathlib import Path
from typing import Final

from tests.servers.foreign import Foreign, npm

VERSION: Final = "8.0.25"

_SERVER: Final = Path(__file__).with_suffix(".cjs")


def modbus_serial(port: int, log: Path) -> Foreign:
    """Make a server that is not started yet."""
    modules = npm("modbus-serial", VERSION)
    return Foreign(["node", _SERVER], log, PORT=str(port), NODE_PATH=str(modules))
