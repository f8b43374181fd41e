"""The whole of SPINE under test: building, broker, gateway, proxy and central, each a real one.

All lies in one run folder: truth/, central/, gateway/ and a log of every process.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from edge.enrolment import Identity
from protocols.simulated import (
    BuildingSettings,
    RunningBuilding,
    gateway_devices,
    running_building,
)
from shared import pki
from tests.chaos.fates import Fates
from tests.chaos.journal import Journal
from tests.chaos.local_profile import LocalProfile
from tests.chaos.pace import Pace
from tests.chaos.profile import PROJECT, Central, Profile
from tests.chaos.proxy import Proxy, running_proxy
from tests.chaos.service import LOOPBACK, Service, command, free_port
from tests.chaos.timetable import Thresholds
from tests.chaos.victim import Victim
from tests.servers.mosquitto import Mosquitto

GATEWAY: Final = "gw1"


@dataclass(slots=True)
class Stack:
    """All that runs; made by `running_stack`."""

    folder: Path
    journal: Journal
    building: RunningBuilding
    gateway: Service
    central: Central
    proxy: Proxy
    health_url: str

    @property
    def victims(self) -> Sequence[Victim]:
        """All that can be killed."""
        return (self.gateway, *self.central.modules, *self.central.servers)


@dataclass(frozen=True, slots=True)
class Places:
    """The ports of a run on loopback: those the gateway connects to, and its own."""

    link_port: int
    enrol_port: int
    health_port: int


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run is made of; `share` of the link's frames is lost, doubled or swapped.

    `pace` and `thresholds` are the profile's own where they are None.
    """

    folder: Path
    seed: int
    profile: Profile = field(default_factory=LocalProfile)
    pace: Pace | None = None
    thresholds: Thresholds | None = None
    faults: str = "off"
    share: float = 0.2
    settle_on_accepted: bool = False

    @property
    def played(self) -> Pace:
        """How fast the building is played and read."""
        return self.pace or self.profile.pace


@asynccontextmanager
async def running_stack(setting: Setting) -> AsyncIterator[Stack]:
    """Start building, broker, central and proxy, and enrol the gateway, which does not run yet.

    At the end whatever still runs is killed; servers are stopped.
    """
    folder = setting.folder
    async with AsyncExitStack() as stack:
        central = await stack.enter_async_context(setting.profile.running(folder))
        building = await stack.enter_async_context(_building(setting))
        code = await _prepared(folder, central.env)
        for module in central.modules:
            await module.start()
            await module.wait_ready()
        proxy = await stack.enter_async_context(_proxy(setting, central.link_port))
        places = Places(proxy.port, central.enrol_port, free_port())
        _configure(setting, building, places)
        await command("edge", "enrol", "--config", _config(folder), "--code", code)
        gateway = _gateway(setting, places)
        stack.push_async_callback(gateway.kill)
        journal = Journal(folder / "events.jsonl")
        health = f"http://{LOOPBACK}:{places.health_port}"
        yield Stack(folder, journal, building, gateway, central, proxy, health)


@asynccontextmanager
async def _building(setting: Setting) -> AsyncIterator[RunningBuilding]:
    home = setting.folder / "broker"
    home.mkdir()
    # The broker is never killed: it need not write its sessions at every change, which costs it
    # more than all messages together.
    broker = Mosquitto(
        home, max_queued_messages=0, max_inflight_messages=100, autosave_on_changes="false"
    )
    settings = BuildingSettings(
        truth=setting.folder / "truth",
        seed=setting.seed,
        speed=setting.played.speed,
        tick=setting.played.tick_s,
        mqtt=f"{LOOPBACK}:{broker.port}",
        faults=setting.faults,
    )
    async with broker, running_building(settings) as building:
        yield building


def _gateway(setting: Setting, places: Places) -> Service:
    words = ["edge", "run", "--config", _config(setting.folder)]
    if setting.settle_on_accepted:
        words.append("--unsafe-settle-on-accepted")
    url = f"http://{LOOPBACK}:{places.health_port}/readyz"
    return Service("gateway", words, setting.folder, url)


def _config(folder: Path) -> str:
    return str(folder / "gateway" / "gateway.yaml")


async def _prepared(folder: Path, env: Mapping[str, str] | None) -> str:
    """Make project, site and gateway; give the gateway's one-time code."""
    place = ("--data", str(folder / "central"), "--project", PROJECT, "--site", "main")
    await command("central", "setup", *place, env=env)
    return await command("central", "enrol", *place, "--gateway", GATEWAY, env=env)


@asynccontextmanager
async def _proxy(setting: Setting, link_port: int) -> AsyncIterator[Proxy]:
    folder = setting.folder
    root = pki.load_root(folder / "central" / "authority")
    issued = pki.issue_server(root, [LOOPBACK])
    certificate = folder / "proxy.pem"
    pki.write_private(certificate, issued.key + issued.certificate)
    identity = folder / "gateway" / "data"
    proxy = Proxy(
        f"wss://{LOOPBACK}:{link_port}/link",
        lambda: Identity.load(identity).link_context(),
        Fates(setting.share),
        setting.seed,
    )
    async with running_proxy(proxy, pki.server_context(certificate, certificate, None)):
        yield proxy


def _configure(setting: Setting, building: RunningBuilding, places: Places) -> None:
    """Write gateway.yaml and run.json from what the building says of itself."""
    pace = setting.played
    devices = gateway_devices(building.description, pace.poll_s)
    for device in devices:
        device["options"] |= _options(device["driver"], pace)
    document = {
        "gateway": {
            "clock": "trusted",
            "health": {"port": places.health_port},
            # What is compared are the building's points.
            "diagnostics": {"enabled": False},
        },
        "central": {
            "link": f"wss://{LOOPBACK}:{places.link_port}/link",
            "enrol": f"https://{LOOPBACK}:{places.enrol_port}",
        },
        "outbox": {"commit_window_s": pace.commit_window_s},
        "devices": devices,
    }
    (setting.folder / "gateway").mkdir()
    # JSON is YAML.
    Path(_config(setting.folder)).write_text(json.dumps(document, indent=1), encoding="utf-8")
    about = building.description["devices"].items()
    run = {
        "commit_window_s": pace.commit_window_s,
        "intervals_s": {name: pace.interval_s(device["protocol"]) for name, device in about},
        "profile": setting.profile.name,
        "thresholds": asdict(setting.thresholds or setting.profile.thresholds()),
    }
    (setting.folder / "run.json").write_text(json.dumps(run, indent=1), encoding="utf-8")


def _options(driver: str, pace: Pace) -> dict[str, Any]:
    if driver == "opcua":
        return {"publishing_interval_ms": round(pace.publishing_s * 1000)}
    return {"timeout_s": pace.answer_timeout_s} if driver == "modbus" else {}
