"""The profiles on real servers: Kafka, registry and TimescaleDB, and a process for each module."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from central.connections import open_log
from central.messaging import TopicKind, topic
from central.messaging.kafka_brokers import Brokers, KafkaPlace
from central.settings import PREFIX, Settings
from central.storage.database import open_pool
from deploy.central.modules import PORTS, Module, apart
from deploy.central.native.launcher import Launcher
from tests.chaos.mayhem import Fights, Lives, Mayhem
from tests.chaos.pace import Pace
from tests.chaos.profile import PROJECT, Central
from tests.chaos.service import Service, finished, free_row
from tests.chaos.timetable import Thresholds
from tests.chaos.victim import Victim

MODULES: Final = ("ingress", "messaging", "storage", "analytics", "egress", "application")
OTHERS: Final = ("registry", "timescale")
SERVERS: Final = ("kafka", *OTHERS)
WIPE_SHARE: Final = 0.4
LOSS_SHARE: Final = 0.4
SECOND: Final = "storage2"


@dataclass(frozen=True, slots=True)
class StackProfile:
    """Six processes, a second one of storage, and a writer without a lease now and then.

    With one broker the log is wiped once; of several brokers one is lost for good.
    """

    name: Literal["dev", "staging"]
    brokers: Sequence[str]
    kills: int
    pace: Pace = field(
        default_factory=lambda: Pace(
            poll_s=0.25, tick_s=0.25, publishing_s=0.25, answer_timeout_s=3.0
        )
    )

    @property
    def _is_wiped(self) -> bool:
        return len(self.brokers) == 1

    def thresholds(self, kills: int | None = None) -> Thresholds:
        """Ask for kills of the gateway, of every module and of every server."""
        return Thresholds(
            kills=self.kills if kills is None else kills,
            wipes=int(self._is_wiped),
            victims=("gateway", *MODULES, *self.brokers, *OTHERS),
            losses=int(not self._is_wiped),
            fought=1,
        )

    def mayhem(self, lasts_s: float) -> Mayhem:
        """Kill the gateway on its own, and all else in turn."""
        return Mayhem(
            lasts_s,
            {"gateway": Lives(12.0, 30.0)},
            turn_s=(0.5, 3.0),
            line_holds_s=(8.0, 20.0),
            wipe_after_s=lasts_s * WIPE_SHARE if self._is_wiped else None,
            lose_after_s=None if self._is_wiped else lasts_s * LOSS_SHARE,
            fights=Fights((15.0, 40.0), (5.0, 15.0)),
        )

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[Central]:
        """Start the servers."""
        launcher = Launcher(folder / "stack", self.name, tied=True)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, launcher.down)
            env = await asyncio.to_thread(launcher.up, SERVERS)
            pool = await stack.enter_async_context(open_pool(env["SPINE_DSN"], "chaos", size=4))
            settings = _settings(env)
            log = await stack.enter_async_context(open_log(settings, pool))
            built = _Built.make(folder, env)
            for service in (*built.services, built.rival):
                stack.push_async_callback(service.kill)
            brokers = [LaunchedServer(name, launcher) for name in self.brokers]
            yield Central(
                modules=built.services,
                writers=built.writers,
                servers=[*brokers, *(LaunchedServer(name, launcher) for name in OTHERS)],
                log_servers=brokers,
                pool=pool,
                log=log,
                wipe=lambda: _wipe(launcher, brokers),
                leader=lambda: _leader(settings, brokers),
                link_port=built.port + 1,
                enrol_port=built.port + 2,
                env=built.rival.env,
                rival=built.rival,
                ready_urls={each.name: each.ready_url for each in built.services},
                metrics_url=built.metrics_url,
            )

    @asynccontextmanager
    async def database(self, folder: Path) -> AsyncIterator[str]:
        """Start the run's TimescaleDB again for the time of reading."""
        launcher = Launcher(folder / "stack", self.name, tied=True)
        try:
            yield (await asyncio.to_thread(launcher.up, ["timescale"]))["SPINE_DSN"]
        finally:
            await asyncio.to_thread(launcher.down)


@dataclass(frozen=True, slots=True)
class _Built:
    """The processes of central, none of which runs yet."""

    port: int
    services: Sequence[Service]
    rival: Service
    metrics_url: str

    @classmethod
    def make(cls, folder: Path, env: Mapping[str, str]) -> "_Built":
        given = {name: text for name, text in env.items() if name.startswith(PREFIX)}
        port, second = free_row(PORTS), free_row(PORTS)
        modules = apart(port, folder / "central", given)
        again = {module.name: module for module in apart(second, folder / "central", given)}
        services = [_service(module, folder) for module in modules]
        services.insert(1, _service(again["storage"], folder, SECOND))
        words = ["tests.chaos.rival", PROJECT]
        rival = Service("rival", words, folder, "", {**os.environ, **given})
        ingress = next(module for module in modules if module.name == "ingress")
        return cls(port, services, rival, f"{ingress.url}/metrics")

    @property
    def writers(self) -> Sequence[Service]:
        return [each for each in self.services if each.name in {"storage", SECOND}]


def _service(module: Module, folder: Path, name: str = "") -> Service:
    words = module.command.arguments[1:]  # without -m
    url = f"{module.url}/readyz"
    return Service(name or module.name, words, folder, url, module.command.env)


def _settings(env: Mapping[str, str]) -> Settings:
    given = {name: text for name, text in env.items() if name.startswith(PREFIX)}
    return Settings(**{name.removeprefix(PREFIX).lower(): text for name, text in given.items()})  # type: ignore[arg-type]  # pydantic reads texts


async def _leader(settings: Settings, brokers: Sequence[Victim]) -> Victim:
    """Ask Kafka who leads the readings: a broker's number is its place in the list."""
    assert settings.kafka is not None
    asked = Brokers(KafkaPlace(settings.kafka, settings.kafka_ca, settings.kafka_identity))
    try:
        found = await asked.look_up(topic(PROJECT, TopicKind.READINGS))
    finally:
        await asked.close()
    return brokers[found.leaders[0].broker - 1]


async def _wipe(launcher: Launcher, brokers: Sequence[Victim]) -> None:
    for broker in brokers:
        await finished(asyncio.to_thread(launcher.wipe, broker.name))


@dataclass(frozen=True, slots=True)
class LaunchedServer:
    """A server of the launcher; it comes back with its ports and its data."""

    name: str
    launcher: Launcher

    @property
    def is_running(self) -> bool:
        """Tell whether it lives."""
        return self.name in self.launcher.names()

    async def start(self) -> None:
        """Start it and wait until it is healthy."""
        await finished(asyncio.to_thread(self.launcher.start, self.name))

    async def wait_ready(self) -> None:
        """Be content: its start has waited."""

    async def kill(self) -> None:
        """Kill all its processes."""
        await finished(asyncio.to_thread(self.launcher.kill, self.name))
