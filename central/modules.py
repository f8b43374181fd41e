"""The six modules as parts of a process: what each serves, runs and depends on.

`python -m central all` puts all parts into one process; `python -m central ingress` runs one alone.
A part reaches another only through the log, the database or HTTP.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from central.analytics.flow import Flow
from central.analytics.follower import Source
from central.analytics.metrics import FlowMetrics
from central.application import listing, login
from central.application import page as page_routes
from central.application.forward import Forward
from central.egress import gaps, gateways, history, latest, live, points
from central.egress.feed import LatestFeed
from central.egress.metrics import EgressMetrics
from central.health import Check
from central.ingress.authority import Authority, renew_daily
from central.ingress.enrol import Enrolment, enrol_app
from central.ingress.hand import Services
from central.ingress.intake import Intake
from central.ingress.link import link_app
from central.ingress.metrics import IngressMetrics
from central.ingress.point_sets import PointSets
from central.ingress.receipts import ReceiptPoller
from central.ingress.sessions import LiveSessions
from central.ingress.tls import PeerCertificateProtocol
from central.limits import BodyLimit
from central.messaging import Log, RecordCodec, SchemaIds
from central.messaging.metrics import MessagingMetrics
from central.messaging.upkeep import Upkeep
from central.serve import Site
from central.settings import Settings
from central.storage.database import Pool
from central.storage.writer import run_writers
from central.storage.writer_metrics import WriterMetrics
from shared.clock import Clock

ENROL_BODY_BYTES: Final = 64 * 1024

Task = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Platform:
    """What all parts of a process share."""

    settings: Settings
    clock: Clock
    pool: Pool
    log: Log
    schemas: SchemaIds
    codec: RecordCodec
    registry: CollectorRegistry


@dataclass(frozen=True, slots=True)
class Part:
    """One module in a process: routes of the human API, own sites by door, tasks, health checks."""

    routers: tuple[APIRouter, ...] = ()
    sites: Mapping[str, Site] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    checks: Mapping[str, Check] = field(default_factory=dict)


def ingress(platform: Platform) -> Part:
    """Build ingress: the link over mutual TLS, and enrolment."""
    settings, pool = platform.settings, platform.pool
    authority = Authority.open(Path(settings.data))
    link_tls = authority.listener("link", settings.names, asks_clients=True)
    enrol_tls = authority.listener("enrol", settings.names, asks_clients=False)
    metrics = IngressMetrics(platform.registry)
    point_sets = PointSets(pool)
    sessions = LiveSessions(pool, platform.clock, settings.deny_poll_s)
    receipts = ReceiptPoller(pool, settings.receipt_poll_s)
    intake = Intake(platform.log, platform.codec, point_sets, platform.clock, metrics)
    services = Services(settings, platform.clock, intake, point_sets, receipts, sessions, metrics)
    link = Site(link_app(pool, services), link_tls.context, PeerCertificateProtocol)
    enrolment = Enrolment(pool, authority, platform.clock, metrics)
    enrol = Site(BodyLimit(enrol_app(enrolment), ENROL_BODY_BYTES), enrol_tls.context)

    async def gateways_connected() -> str:
        return f"{len(sessions)} gateways connected"

    return Part(
        sites={"link": link, "enrol": enrol},
        tasks={
            "receipts": receipts.run,
            "revocations": sessions.run,
            "certificates": lambda: renew_daily((link_tls, enrol_tls)),
        },
        checks={"link": gateways_connected},
    )


def messaging(platform: Platform) -> Part:
    """Build messaging: every project's topics are there, and what waits in them is told."""
    upkeep = Upkeep(platform.pool, platform.log, MessagingMetrics(platform.registry))
    return Part(tasks={"upkeep": upkeep.run}, checks={"topics": upkeep.tell})


def storage(platform: Platform) -> Part:
    """Build storage: a writer for every project."""
    metrics = WriterMetrics(platform.registry)

    async def write() -> None:
        await run_writers(platform.pool, platform.log, platform.codec, metrics=metrics)

    return Part(tasks={"writers": write})


def analytics(platform: Platform) -> Part:
    """Build analytics: the live lane of every project, followed and counted."""
    metrics = FlowMetrics(platform.registry)
    source = Source(platform.log, platform.codec, platform.clock)
    flow = Flow(platform.pool, source, metrics)
    return Part(tasks={"flow": flow.run}, checks={"flow": flow.tell})


def egress(platform: Platform) -> Part:
    """Build egress: latest, history, gaps, points, gateways, live values."""
    settings, pool = platform.settings, platform.pool
    limit_s = settings.query_timeout_s
    metrics = EgressMetrics(platform.registry)
    feed = LatestFeed(pool, platform.clock, settings.live_poll_s, settings.live_queue)
    return Part(
        routers=(
            latest.routes(pool, limit_s, metrics),
            history.routes(pool, limit_s, metrics),
            points.routes(pool),
            gateways.routes(pool, limit_s),
            gaps.routes(pool, limit_s),
            live.routes(feed, settings.live_clients, metrics),
        ),
        tasks={"live": feed.run},
    )


def application(platform: Platform) -> Part:
    """Build application: the page, signing in, projects and sites; it hands on what is egress's."""
    own = (page_routes.routes(), login.routes(platform.pool), listing.routes(platform.pool))
    settings = platform.settings
    if settings.egress_url is None:
        return Part(routers=own)
    forward = Forward(settings.egress_url, settings.query_timeout_s, platform.registry)
    return Part(
        routers=(*own, forward.routes()),
        tasks={"forward": forward.upstream.run},
        checks={"egress": forward.upstream.tell},
    )


ON_THE_LOG: Final = frozenset({"ingress", "messaging", "storage", "analytics"})
"""The modules that cannot work without the log and its schemas."""

MODULES: Final[Mapping[str, Callable[[Platform], Part]]] = {
    "ingress": ingress,
    "messaging": messaging,
    "storage": storage,
    "analytics": analytics,
    "egress": egress,
    "application": application,
}

DOORS: Final[Mapping[str, tuple[str, ...]]] = {
    "ingress": ("link", "enrol"),
    "messaging": (),
    "storage": (),
    "analytics": (),
    "egress": ("human",),
    "application": ("human",),
}
"""The doors each module answers at, known before anything is started."""
