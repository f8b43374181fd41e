"""A whole gateway that is killed between a write and its proof never writes that again."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pymodbus.constants import ExcCodes

from edge.commands import CommandStore, State
from edge.commands.store import FILE_NAME
from shared import link
from tests.integration.test_desired_process import gateway
from tests.integration.test_gateway_commands import enrolled
from tests.integration.twin_kit import until
from tests.servers.link_central import LinkCentral, link_central
from tests.servers.link_peer import now_us
from tests.servers.modbus import HOST, RegisterServer

pytestmark = pytest.mark.integration

ID = bytes(range(16))


class WrittenServer(RegisterServer):
    """A Modbus server that keeps what is written to it, and tells of it before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[int] = []
        self.on_write: Callable[[], None] = lambda: None

    def _write(self, table: str, address: int, written: list[int] | list[bool]) -> ExcCodes | None:
        self.writes += [int(one) for one in written]
        answer = super()._write(table, address, written)
        self.on_write()
        return answer


def configured(folder: Path, central: LinkCentral, port: int) -> Path:
    write = {"min": 0, "max": 40, "release_value": 18, "min_interval_s": 0}
    point = {"key": "room/setpoint", "source": {"register": 10, "scale": 0.1}, "write": write}
    device = {
        "name": "room",
        "driver": "modbus",
        "interval_s": 0.2,
        "options": {"host": HOST, "port": port},
        "points": [point],
    }
    own = {"data": "data", "clock": "trusted", "health": {"port": 0}}
    there = {"link": central.url, "enrol": "https://127.0.0.1:1"}
    config = folder / "gateway.yaml"
    config.write_text(json.dumps({"gateway": own, "central": there, "devices": [device]}))
    enrolled(config)
    (folder / "data" / "roots.pem").write_bytes(central.roots)
    return config


async def order(central: LinkCentral, frame: link.Command, sessions: int) -> None:
    await until(lambda: len(central.of(link.Hello)) == sessions)
    assert central.socket is not None
    await central.socket.send(link.pack(frame))


def states(central: LinkCentral) -> list[str]:
    return [one.state for one in central.of(link.Outcome)]


async def test_a_gateway_killed_between_write_and_read_back_writes_once(tmp_path: Path) -> None:
    document = {"point": "room/setpoint", "value": 21.5, "expires_us": now_us() + 600_000_000}
    frame = link.Command(id=ID, document=document)
    async with link_central(tmp_path) as central, WrittenServer() as server:
        config = configured(tmp_path, central, server.port)
        async with gateway(config) as process:
            server.on_write = process.kill
            await order(central, frame, sessions=1)
            async with asyncio.timeout(60):
                await process.wait()
        assert (server.writes, states(central)) == ([215], [])
        server.on_write = lambda: None
        async with gateway(config):
            await until(lambda: states(central)[:1] == ["unknown"])
            await order(central, frame, sessions=2)
            await until(lambda: states(central)[:2] == ["unknown", "unknown"])
            # What the device may have and nobody stands for is taken back.
            await until(lambda: server.writes == [215, 180])
    store = CommandStore(tmp_path / "data" / FILE_NAME)
    known = store.known(ID)
    store.close()
    assert known is not None
    assert known[0].state is State.UNKNOWN


async def test_a_command_of_central_is_written_to_a_modbus_device_and_read_back(
    tmp_path: Path,
) -> None:
    document = {"point": "room/setpoint", "value": 21.5, "expires_us": now_us() + 600_000_000}
    async with link_central(tmp_path) as central, WrittenServer() as server:
        async with gateway(configured(tmp_path, central, server.port)):
            await order(central, link.Command(id=ID, document=document), sessions=1)
            await until(lambda: states(central))
        assert [(one.state, one.detail) for one in central.of(link.Outcome)] == [
            ("done", "reads 21.5")
        ]
        assert server.writes == [215]
