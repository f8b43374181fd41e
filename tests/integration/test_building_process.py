"""The building as a process: it starts, says where it listens, and stops with nothing left."""

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from protocols.modbus.options import ModbusDeviceOptions, ModbusPointOptions
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.opcua.options import OpcuaDevice, OpcuaPoint
from protocols.simulated import (
    BuildingFailed,
    BuildingSettings,
    command,
    gateway_devices,
    running_building,
    stop,
)

pytestmark = pytest.mark.integration

OPTIONS: dict[str, tuple[Any, Any]] = {
    "modbus": (ModbusDeviceOptions, ModbusPointOptions),
    "opcua": (OpcuaDevice, OpcuaPoint),
    "mqtt": (MqttDevice, MqttPoint),
}


def samples(truth: Path, device: str) -> list[dict[str, Any]]:
    lines = (truth / f"{device}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if "counter" in line]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Await what another process does: there is no event to wait for."""
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def can_connect(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def refuses_a_second(port: int, folder: Path) -> None:
    """Start another building on a port in use: it says so, and ends."""
    other = BuildingSettings(truth=folder / "two", faults="off", modbus_port=port)
    code, complaint = await ended(command(other))
    assert code == 2
    assert f"127.0.0.1:{port} is in use" in complaint
    with pytest.raises(BuildingFailed, match="code 2"):
        async with running_building(other):
            pass


@asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[str]:
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    for port in range(18_900, 18_950):
        if not await can_connect("127.0.0.1", port):
            break
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = await asyncio.create_subprocess_exec(program, "-c", str(config))
    try:
        await until(lambda: can_connect("127.0.0.1", port))
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def test_it_stops_cleanly_and_nothing_listens_any_more(tmp_path: Path) -> None:
    settings = BuildingSettings(
        truth=tmp_path / "truth", modbus_port_each=True, tick=0.1, faults="random"
    )
    async with running_building(settings) as building:
        said = building.description
        modbus = [said["devices"][name]["port"] for name in ("meter1", "meter4", "inverter1")]
        opcua = int(said["opcua"]["url"].rstrip("/").rpartition(":")[2])
        ports = [*modbus, opcua, said["mqtt"]["port"]]
        assert len(set(ports)) == 5
        for port in ports:
            assert await can_connect("127.0.0.1", port)
        assert await stop(building.process) == 0
        for port in ports:
            assert not await can_connect("127.0.0.1", port)


async def test_it_tells_a_gateway_what_the_drivers_accept_and_a_second_that_it_is_there(
    tmp_path: Path,
) -> None:
    config = tmp_path / "gateway.yaml"
    settings = BuildingSettings(truth=tmp_path / "truth", config=config, poll=0.5)
    async with running_building(settings) as building:
        await refuses_a_second(building.description["modbus"]["port"], tmp_path)
        devices = YAML(typ="safe").load(config.read_text(encoding="utf-8"))["devices"]
        assert devices == gateway_devices(settings.truth / "building.json", 0.5)
    assert [device["name"] for device in devices] == [
        *(f"meter{number}" for number in range(1, 5)),
        "inverter1",
        "hvac",
        "rooms",
    ]
    for device in devices:
        device_options, point_options = OPTIONS[device["driver"]]
        device_options.model_validate(device["options"])
        for point in device["points"]:
            point_options.model_validate(point["source"])
    assert {d["name"]: d.get("interval_s") for d in devices}["meter1"] == 0.5


async def test_it_publishes_to_a_broker_it_is_given(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as address:
        settings = BuildingSettings(truth=tmp_path / "truth", mqtt=address, tick=0.1)
        async with running_building(settings) as building:
            assert f"127.0.0.1:{building.description['mqtt']['port']}" == address

            async def has_published() -> bool:
                return len(samples(settings.truth, "room12")) >= 3

            await until(has_published)


async def test_an_interrupt_ends_it_and_a_second_start_begins_a_new_run(tmp_path: Path) -> None:
    settings = BuildingSettings(truth=tmp_path / "truth", faults="off")
    runs = []
    for _ in range(2):
        async with running_building(settings) as building:
            runs.append(building.description["run"])
            building.process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(building.process.wait(), 20) == 0
    text = (settings.truth / "ahu1.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["run"] for line in lines if "run" in line] == runs
    assert [line["counter"] for line in lines if "counter" in line].count(1) == 2


async def test_wrong_options_are_all_told_at_once(tmp_path: Path) -> None:
    words = command(BuildingSettings(truth=tmp_path))
    code, complaint = await ended([*words, "--speed", "-1", "--tick", "soon", "--mqtt", "nowhere"])
    assert code == 2
    assert all(option in complaint for option in ("--speed", "--tick", "--mqtt"))
    code, complaint = await ended([*words, "--faults", str(tmp_path / "none.yaml")])
    assert code == 2
    assert "none.yaml" in complaint


async def ended(words: list[str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    _, complaint = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, complaint.decode()
