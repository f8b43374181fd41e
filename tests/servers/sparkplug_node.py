"""An edge node by the Tahu project's own client; `sparkplug_node.cjs` says what it does."""

from pathlib import Path
from typing import Final

from tests.servers.foreign import Foreign, npm

VERSION: Final = "3.2.4"
GROUP: Final = "plant"
NODE: Final = "gateway7"

_NODE: Final = Path(__file__).with_suffix(".cjs")


def sparkplug_node(port: int, log: Path) -> Foreign:
    """Make an edge node that is not started yet."""
    modules = npm("sparkplug-client", VERSION)
    places = {"BROKER": f"mqtt://127.0.0.1:{port}", "GROUP": GROUP, "NODE": NODE}
    return Foreign(["node", _NODE], log, NODE_PATH=str(modules), **places)
