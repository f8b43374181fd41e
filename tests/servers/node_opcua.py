"""node-opcua, the JavaScript stack, as an OPC UA server; `node_opcua.cjs` says how it is told."""

from pathlib import Path
from typing import Final

from tests.servers.foreign import Foreign, npm

VERSION: Final = "2.182.2"
NAMESPACE: Final = "urn:spine:test:building"

_SERVER: Final = Path(__file__).with_suffix(".cjs")


class NodeOpcua:
    """One server, not started yet; what it keeps of certificates lies in `folder`."""

    def __init__(
        self, port: int, folder: Path, *, nodes: int, first: int = 0, salt: int = 0
    ) -> None:
        self.port = port
        modules = npm("node-opcua", VERSION)
        told = {"PORT": port, "NODES": nodes, "FIRST": first, "SALT": salt}
        self.process = Foreign(
            ["node", _SERVER],
            folder / "node-opcua.log",
            NODE_PATH=str(modules),
            PKI=str(folder / "pki"),
            **{name: str(value) for name, value in told.items()},
        )

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}/UA/spine"
