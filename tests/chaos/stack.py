"""The whole of SPINE under test: building, broker, gateway, proxy and central, each a real one.

All lies in one run folder: truth/, central/, gateway/ and a log of every process.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from central.storage.database import Pool, open_pool
from central.storage.embedded import embedded_postgres
from protocols.simulated import (
    BuildingSettings,
    RunningBuilding,
    gateway_devices,
    running_building,
)
from shared import pki
from shared.clock import SystemClock
from tests.chaos.fates import Fates
from tests.chaos.proxy import Proxy, running_proxy
from tests.chaos.service import Service, command, free_port
from tests.chaos.timetable import Thresholds
from tests.servers.mosquitto import Mosquitto

PROJECT: Final = "demo"
GATEWAY: Final = "gw1"
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the building is played and read; times in seconds."""

    speed: float = 50.0
    poll_s: float = 0.1
    tick_s: float = 0.1
    publishing_s: float = 0.1
    commit_window_s: float = 0.4
    answer_timeout_s: float = 1.0

    def interval_s(self, protocol: str) -> float:
        """Tell how long at most a working gateway hears nothing new from a device."""
        return {
            "modbus": self.poll_s,
            "opcua": self.publishing_s + self.tick_s,
            "mqtt": self.tick_s,
        }[protocol]


@dataclass(slots=True)
class Journal:
    """The run's own log: `events.jsonl`, which the checker reads as the timetable."""

    path: Path
    clock: SystemClock = field(default_factory=SystemClock)
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, event: str, **more: object) -> None:
        """Write an event with the time of now."""
        self.counts[event] += 1
        line = {"at_us": self.clock.now_us(), "event": event, **more}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@dataclass(slots=True)
class Stack:
    """All that runs; made by `running_stack`."""

    folder: Path
    journal: Journal
    building: RunningBuilding
    gateway: Service
    central: Service
    proxy: Proxy
    pool: Pool
    """Connections to central's database as its service role, past all doors."""
    health_url: str

    @property
    def postgres_folder(self) -> Path:
        """Where central's Postgres works."""
        return self.folder / "central" / "postgres" / "data"


@dataclass(frozen=True, slots=True)
class Places:
    """The ports of a run on loopback: central's own, and the proxy's for the link."""

    page_port: int
    central_link_port: int
    enrol_port: int
    health_port: int
    link_port: int = 0

    @classmethod
    def free(cls) -> "Places":
        """Choose ports that nobody uses now."""
        return cls(*(free_port() for _ in range(4)))


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run is made of; `share` of the link's frames is lost, doubled or swapped."""

    folder: Path
    seed: int
    pace: Pace = field(default_factory=Pace)
    thresholds: Thresholds = field(default_factory=Thresholds)
    faults: str = "off"
    share: float = 0.2
    settle_on_accepted: bool = False


@asynccontextmanager
async def running_stack(setting: Setting) -> AsyncIterator[Stack]:
    """Start building, broker, central and proxy, and enrol the gateway, which does not run yet.

    At the end whatever still runs is killed; Postgres is stopped.
    """
    folder = setting.folder
    places = Places.free()
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(embedded_postgres(folder / "central/postgres"))
        pool = await stack.enter_async_context(open_pool(postgres.service_dsn(), "chaos", size=3))
        building = await stack.enter_async_context(_building(stack, setting))
        code = await _prepared(folder)
        central = _central(folder, places)
        stack.push_async_callback(central.kill)
        await central.start()
        await central.wait_ready()
        proxy = await stack.enter_async_context(_proxy(setting, places))
        places = replace(places, link_port=proxy.port)
        _configure(setting, building, places)
        await command("edge", "enrol", "--config", _config(folder), "--code", code)
        gateway = _gateway(setting, places)
        stack.push_async_callback(gateway.kill)
        journal = Journal(folder / "events.jsonl")
        health = f"http://{LOOPBACK}:{places.health_port}"
        yield Stack(folder, journal, building, gateway, central, proxy, pool, health)


@asynccontextmanager
async def _building(stack: AsyncExitStack, setting: Setting) -> AsyncIterator[RunningBuilding]:
    home = setting.folder / "broker"
    home.mkdir()
    # The broker is never killed: it need not write its sessions at every change, which costs it
    # more than all messages together.
    broker = Mosquitto(
        home, max_queued_messages=0, max_inflight_messages=100, autosave_on_changes="false"
    )
    await stack.enter_async_context(broker)
    settings = BuildingSettings(
        truth=setting.folder / "truth",
        seed=setting.seed,
        speed=setting.pace.speed,
        tick=setting.pace.tick_s,
        mqtt=f"{LOOPBACK}:{broker.port}",
        faults=setting.faults,
    )
    async with running_building(settings) as building:
        yield building


def _central(folder: Path, places: Places) -> Service:
    words = ["central", "all", "--data", str(folder / "central")]
    words += ["--port", str(places.page_port), "--link-port", str(places.central_link_port)]
    words += ["--enrol-port", str(places.enrol_port)]
    return Service("central", words, folder, f"http://{LOOPBACK}:{places.page_port}/readyz")


def _gateway(setting: Setting, places: Places) -> Service:
    words = ["edge", "run", "--config", _config(setting.folder)]
    if setting.settle_on_accepted:
        words.append("--unsafe-settle-on-accepted")
    url = f"http://{LOOPBACK}:{places.health_port}/readyz"
    return Service("gateway", words, setting.folder, url)


def _config(folder: Path) -> str:
    return str(folder / "gateway" / "gateway.yaml")


async def _prepared(folder: Path) -> str:
    """Make project, site and gateway; give the gateway's one-time code."""
    place = ("--data", str(folder / "central"), "--project", PROJECT, "--site", "main")
    await command("central", "setup", *place)
    return await command("central", "enrol", *place, "--gateway", GATEWAY)


@asynccontextmanager
async def _proxy(setting: Setting, places: Places) -> AsyncIterator[Proxy]:
    folder = setting.folder
    root = pki.load_root(folder / "central" / "authority")
    issued = pki.issue_server(root, [LOOPBACK])
    certificate = folder / "proxy.pem"
    pki.write_private(certificate, issued.key + issued.certificate)
    identity = folder / "gateway" / "data" / "identity.pem"
    proxy = Proxy(
        f"wss://{LOOPBACK}:{places.central_link_port}/link",
        lambda: pki.client_context(root.pem, identity),
        Fates(setting.share),
        setting.seed,
    )
    async with running_proxy(proxy, pki.server_context(certificate, certificate, None)):
        yield proxy


def _configure(setting: Setting, building: RunningBuilding, places: Places) -> None:
    """Write gateway.yaml and run.json from what the building says of itself."""
    pace = setting.pace
    devices = gateway_devices(building.description, pace.poll_s)
    for device in devices:
        device["options"] |= _options(device["driver"], pace)
    document = {
        "gateway": {"clock": "trusted", "health": {"port": places.health_port}},
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
        "thresholds": asdict(setting.thresholds),
    }
    (setting.folder / "run.json").write_text(json.dumps(run, indent=1), encoding="utf-8")


def _options(driver: str, pace: Pace) -> dict[str, Any]:
    if driver == "opcua":
        return {"publishing_interval_ms": round(pace.publishing_s * 1000)}
    return {"timeout_s": pace.answer_timeout_s} if driver == "modbus" else {}
