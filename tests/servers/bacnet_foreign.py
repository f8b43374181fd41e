"""BACnet/IP devices of two stacks that are not the driver's: rusty-bacnet and node-bacnet."""

import sys
from pathlib import Path
from typing import Final

from tests.servers.foreign import Foreign, npm, pip

RUSTY_VERSION: Final = "0.14.0"
NODE_VERSION: Final = "0.2.4"

_HERE: Final = Path(__file__).parent


def rusty_bacnet(port: int, log: Path) -> Foreign:
    """Make a device of Rust, which tells of changes; not started yet."""
    packages = pip("rusty-bacnet", RUSTY_VERSION)
    command = [sys.executable, _HERE / "rusty_bacnet_server.py", port]
    return Foreign(command, log, PYTHONPATH=str(packages))


def node_bacnet(port: int, log: Path) -> Foreign:
    """Make a device of JavaScript, which does not; not started yet."""
    modules = npm("node-bacnet", NODE_VERSION)
    command = ["node", _HERE / "node_bacnet.cjs"]
    return Foreign(command, log, PORT=str(port), NODE_PATH=str(modules))


def node_client(port: int, kind: int, instance: int, what: int) -> tuple[list[str], dict[str, str]]:
    """Give the command, and its environment, that prints a property as JSON."""
    modules = npm("node-bacnet", NODE_VERSION)
    place = {"TYPE": kind, "INSTANCE": instance, "PROPERTY": what, "PORT": port}
    environment = {name: str(value) for name, value in place.items()}
    command = ["node", str(_HERE / "node_bacnet_read.cjs")]
    return command, environment | {"NODE_PATH": str(modules)}
