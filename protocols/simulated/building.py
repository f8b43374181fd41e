"""The whole building in one process: its devices, their servers, the ticks, faults and truth."""

import asyncio
import secrets
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from protocols.simulated import faults, gateway, sections
from protocols.simulated.device import Device
from protocols.simulated.electricity import meters
from protocols.simulated.fault_board import FaultBoard
from protocols.simulated.hvac import hvac
from protocols.simulated.inverter import inverter
from protocols.simulated.layouts import UNITS
from protocols.simulated.modbus_server import ModbusSide
from protocols.simulated.mqtt_broker import broker
from protocols.simulated.mqtt_client import Broker
from protocols.simulated.mqtt_rooms import MqttSide
from protocols.simulated.opcua_server import OpcuaSide
from protocols.simulated.recording import Recording
from protocols.simulated.replay import Replay
from protocols.simulated.rooms import room_sensors
from protocols.simulated.settings import BuildingSettings
from protocols.simulated.source import Source
from protocols.simulated.ticks import every
from protocols.simulated.truth import Truth
from shared.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class Sources:
    """What is measured in the building, by the protocol it is served over."""

    modbus: tuple[Source, ...]
    opcua: tuple[Source, ...]
    mqtt: tuple[Source, ...]

    def protocols(self) -> dict[str, str]:
        """Tell the protocol of each device."""
        sides = {"modbus": self.modbus, "opcua": self.opcua, "mqtt": self.mqtt}
        return {source.name: side for side, sources in sides.items() for source in sources}


def sources_of(seed: int) -> Sources:
    """Make all devices' values, which depend on the seed and replayed time alone."""
    recording = Recording.load(seed)
    return Sources(
        modbus=(*meters(recording, seed), inverter(recording, seed)),
        opcua=hvac(recording, seed),
        mqtt=room_sensors(recording),
    )


@dataclass(frozen=True, slots=True)
class Sides:
    """The servers of the three protocols, with the devices behind them."""

    modbus: ModbusSide
    opcua: OpcuaSide
    mqtt: MqttSide
    devices: Mapping[str, Sequence[Device]]


async def run(settings: BuildingSettings, stop: asyncio.Event, clock: Clock | None = None) -> None:
    """Run the building until `stop` is set; raises `SettingsError` if it cannot start."""
    clock = clock or SystemClock()
    sources = sources_of(settings.seed)
    targets = faults.possible(sources.protocols())
    windows = faults.load(settings.faults, targets).windows(targets, settings.seed)
    with Truth(settings.truth, secrets.token_hex(8), clock.now_us()) as truth:
        members = {faults.OPCUA_SERVER: tuple(source.name for source in sources.opcua)}
        board = FaultBoard(truth.faults(), clock, members)
        replay = Replay(clock, settings.speed)
        devices = {
            side: [Device(source, replay, board, truth.device(source.name)) for source in group]
            for side, group in (
                ("modbus", sources.modbus),
                ("opcua", sources.opcua),
                ("mqtt", sources.mqtt),
            )
        }
        async with AsyncExitStack() as stack:
            sides = await _open(stack, settings, devices)
            _listen(board, sides)
            _announce(truth, settings, sides)
            await _play(settings, sides, board.run(windows), stop)


async def _open(
    stack: AsyncExitStack, settings: BuildingSettings, devices: Mapping[str, Sequence[Device]]
) -> Sides:
    """Open all servers; what publishes comes last and so goes first."""
    modbus = ModbusSide(
        devices["modbus"],
        settings.host,
        settings.modbus_port,
        port_each=settings.modbus_port_each,
    )
    opcua = OpcuaSide(devices["opcua"], settings.host, settings.opcua_port)
    await stack.enter_async_context(modbus)
    await stack.enter_async_context(opcua)
    if settings.mqtt:
        host, _, port = settings.mqtt.rpartition(":")
        address = Broker(host, int(port))
    else:
        address = await stack.enter_async_context(broker(settings.host, settings.mqtt_port))
    mqtt = MqttSide(devices["mqtt"], address, f"building{settings.seed}")
    await stack.enter_async_context(mqtt)
    return Sides(modbus, opcua, mqtt, devices)


def _listen(board: FaultBoard, sides: Sides) -> None:
    board.listen(faults.OPCUA_SERVER, sides.opcua.refuse)
    for sensor in sides.mqtt.sensors:
        board.listen(sensor.device.name, sensor.refuse)


async def _play(
    settings: BuildingSettings,
    sides: Sides,
    faults_running: Coroutine[Any, Any, None],
    stop: asyncio.Event,
) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(faults_running),
            group.create_task(every(settings.tick, sides.opcua.tick)),
            group.create_task(every(settings.tick, sides.mqtt.tick)),
        ]
        await stop.wait()
        for task in tasks:
            task.cancel()


def _announce(truth: Truth, settings: BuildingSettings, sides: Sides) -> None:
    """Tell where everything listens, in the truth folder and as a gateway's configuration."""
    building = describe(truth.run, settings.seed, sides)
    if settings.config:
        gateway.write_config(settings.config, gateway.gateway_devices(building, settings.poll))
    truth.ready(building)


def describe(run_id: str, seed: int, sides: Sides) -> dict[str, Any]:
    """Make the content of `building.json`."""
    modbus, opcua, mqtt = sides.modbus, sides.opcua, sides.mqtt
    devices: dict[str, Any] = {
        device.name: {"protocol": side, "points": [point.key for point in device.points]}
        for side, group in sides.devices.items()
        for device in group
    }
    for name, port in modbus.ports.items():
        devices[name] |= {"port": port, "unit": UNITS[name]}
    return {
        "run": run_id,
        "seed": seed,
        "modbus": {"host": modbus.host, "port": min(modbus.ports.values())},
        "opcua": {"url": opcua.url},
        "mqtt": {"host": mqtt.broker.host, "port": mqtt.broker.port},
        "devices": devices,
        "gateway": [
            *(
                sections.modbus_section(device, modbus.host, modbus.ports[device.name])
                for device in sides.devices["modbus"]
            ),
            sections.opcua_section(sides.devices["opcua"], opcua.url),
            sections.mqtt_section(sides.devices["mqtt"], mqtt.broker),
        ],
    }
