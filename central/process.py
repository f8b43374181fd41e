"""One process of central: doors, database, modules and tasks, from start to stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from central import health
from central.connections import open_log, open_schemas
from central.limits import BodyLimit
from central.local import Database, database
from central.messaging import RecordCodec, TopicKind, topic
from central.modules import DOORS, MODULES, ON_THE_LOG, Part, Platform, Task
from central.serve import Bound, Door, Site, bind, serving
from central.settings import Settings
from central.storage.catalogue import list_projects
from central.storage.database import open_pool
from central.web import human_app
from shared.backoff import Backoff
from shared.clock import SystemClock
from shared.logs import get
from shared.metrics import new_registry

BODY_BYTES: Final = 64 * 1024
MESSAGE_BYTES: Final = 64 * 1024
POOL_SIZE: Final = 16

logger = get("central")


@dataclass(frozen=True, slots=True)
class Running:
    """A process that serves: its ports by door, and what its modules share."""

    ports: Mapping[str, int]
    platform: Platform


@contextlib.asynccontextmanager
async def running(settings: Settings, names: Sequence[str]) -> AsyncIterator[Running]:
    """Run these modules until the context ends.

    Ports are taken first: a busy one ends the start (`SettingsError`) before anything is begun. At
    the stop open requests have `shutdown_s` seconds, then tasks are cancelled, then a database that
    was started here stops.
    """
    with _doors(settings, names) as bound:
        async with (
            open_schemas(settings) as schemas,
            database(settings) as found,
            open_pool(found.dsn, size=POOL_SIZE) as pool,
            open_log(settings, pool) as log,
        ):
            codec, registry = RecordCodec(schemas), new_registry()
            platform = Platform(settings, SystemClock(), pool, log, schemas, codec, registry)
            parts = {name: MODULES[name](platform) for name in names}
            sites = {bound[door]: site for door, site in _sites(platform, parts).items()}
            async with _tasks(_work_of(parts, found)), serving(sites, settings.shutdown_s):
                ports = {door: each.port for door, each in bound.items()}
                logger.info("central is up", modules=list(names), ports=ports)
                yield Running(ports, platform)
                logger.info("central stops")


@contextlib.contextmanager
def _doors(settings: Settings, names: Sequence[str]) -> Iterator[dict[str, Bound]]:
    wanted = {door for name in names for door in DOORS[name]}
    if "human" not in wanted:
        wanted.add("health")
    doors = {
        "human": Door("page and human API", "port", settings.host, settings.port),
        "link": Door("link", "link_port", settings.link_host, settings.link_port),
        "enrol": Door("enrolment", "enrol_port", settings.enrol_host, settings.enrol_port),
        "health": Door("health", "health_port", settings.health_host, settings.health_port),
    }
    with contextlib.ExitStack() as held:
        bound: dict[str, Bound] = {}
        for name in sorted(wanted):
            bound[name] = bind(doors[name])
            held.callback(bound[name].socket.close)
        yield bound


def _sites(platform: Platform, parts: Mapping[str, Part]) -> dict[str, Site]:
    sites = {door: site for part in parts.values() for door, site in part.sites.items()}
    routers = [router for part in parts.values() for router in part.routers]
    health_routes = health.routes(health.Health(_checks(platform, parts), platform.registry))
    app = human_app(platform.pool, platform.settings.names, [health_routes, *routers])
    door = "human" if routers else "health"
    sites[door] = Site(BodyLimit(app, BODY_BYTES), max_message_bytes=MESSAGE_BYTES)
    return sites


def _checks(platform: Platform, parts: Mapping[str, Part]) -> dict[str, health.Check]:
    async def ask_database() -> str:
        await platform.pool.ping()
        return "answers"

    async def ask_log() -> str:
        projects = await list_projects(platform.pool)
        if not projects:
            return "no project yet: python -m central setup"
        await platform.log.log_id(topic(projects[0].slug, TopicKind.READINGS))
        return "answers"

    checks: dict[str, health.Check] = {"database": ask_database}
    if not ON_THE_LOG.isdisjoint(parts):
        checks |= {"log": ask_log, "schemas": platform.schemas.check}
    for part in parts.values():
        checks |= part.checks
    return checks


def _work_of(parts: Mapping[str, Part], found: Database) -> dict[str, Task]:
    work = {
        f"{name}.{task}": run for name, part in parts.items() for task, run in part.tasks.items()
    }
    if found.watch is not None:
        work["database"] = found.watch
    return work


@contextlib.asynccontextmanager
async def _tasks(work: Mapping[str, Task]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_keep_up(name, run), name=name) for name, run in work.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _keep_up(name: str, run: Task) -> None:
    backoff = Backoff()
    while True:
        try:
            await run()
        except Exception:  # the root of a task: one bug must not stop the others
            logger.exception("a task failed and starts again", task=name)
        await asyncio.sleep(backoff.next_s())
