"""The running gateway: its parts, in the order they start and stop."""

import asyncio
import errno
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, TypeVar

import uvicorn

from edge.clockstate import is_synchronised
from edge.collector import Collector, point_set_of
from edge.commands import CollectorWay, Orders, Times, opened_commands
from edge.config_store import ConfigUnwritable
from edge.desired import Desires
from edge.diagnostics import Diagnostics
from edge.document import NotJson, part_of
from edge.enrolment import Identity
from edge.field.log_ring import LogRing
from edge.health import health_app
from edge.hold import Hold
from edge.holes import GapReason
from edge.intake import Intake
from edge.outbox import Outbox
from edge.parts import Parts
from edge.recovery import open_outbox
from edge.serving import GRACE_S, listener_at, serving
from edge.settings import GatewayConfig, GatewaySection
from edge.sqlite import OutboxFull
from edge.trial import Judge
from edge.twin import Twin
from edge.uplink import Uplink
from edge.vault import Vault
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import SettingsError, SpineError
from shared.link import EPOCH_LIMIT
from shared.logs import get
from shared.model import PointSet
from shared.quality import Flag

CAPS_S = 15.0
"""How often the outbox is held against its caps."""

DRAIN_S = 5.0
"""How long a stop waits for the last commit."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

T = TypeVar("T")

_log = get("gateway")


class GatewayFailed(SpineError):
    """A part of the gateway that runs for ever has ended."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line may change for one run."""

    settle_on_accepted: bool = False
    logs: LogRing = field(default_factory=LogRing)
    """Where the last log entries are kept for people on site."""


async def run(config: GatewayConfig, clock: Clock, options: Options) -> None:
    """Run the gateway until SIGTERM or SIGINT; what was read by then is committed."""
    config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    vault = await _with_room(lambda: asyncio.to_thread(Vault.find, config.data, config.master_key))
    identity = await asyncio.to_thread(Identity.load, config.data, vault)
    document = _document(config)
    twin = await _with_room(lambda: Twin.opened(config.data, document, clock, vault))
    # The twin has all devices from now on: nobody keeps those of the file.
    config, document = config.of_machine(), None
    try:
        await _run(config, clock, options, identity, twin)
    finally:
        await twin.close()


def _document(config: GatewayConfig) -> dict[str, Any] | None:
    try:
        return part_of(config.raw)
    except NotJson as error:
        raise SettingsError("gateway.yaml", [str(error)]) from error


async def _run(
    config: GatewayConfig, clock: Clock, options: Options, identity: Identity, twin: Twin
) -> None:
    diagnostics = Diagnostics(
        config.file.gateway.diagnostics, identity.gateway(), config.data, clock
    )
    devices = diagnostics.beside(twin.devices)
    outbox, reason = await _opened(config, point_set_of(devices), clock)
    try:
        trusted = config.file.gateway.clock == "trusted"
        flags = _clock_flags(trusted=trusted)
        wait_s = 0.0 if trusted else config.file.gateway.clock_wait_s
        hold = Hold(clock, wait_s, int(outbox.tail.last_at.max(initial=0)))
        intake = Intake(outbox, config.file.outbox, clock, flags=flags, hold=hold)
        await _with_room(lambda: intake.repoint(point_set_of(devices)))
        if reason is not None:
            intake.restarted(reason)
        desires = Desires(twin)
        uplink = Uplink(
            config.file.central.link,
            identity,
            outbox,
            clock,
            trusted_clock=trusted,
            configuration=desires,
            settle_on_accepted=options.settle_on_accepted,
        )
        collector = Collector(devices, intake, clock)
        twin.change = lambda devices: collector.change(diagnostics.beside(devices))
        twin.revert_after_s = config.file.central.revert_after_s
        parts = Parts(
            outbox,
            intake,
            collector,
            uplink,
            clock,
            config.file.outbox.max_bytes,
            clock.monotonic_s(),
            twin,
        )
        parts.logs = options.logs
        diagnostics.parts = parts
        times = Times(clock, (lambda: True) if trusted else is_synchronised)
        async with opened_commands(config.data, CollectorWay(collector), times) as commands:
            parts.commands = commands
            async with _serving(parts, config, identity):
                await _until_stopped(parts, identity, config, desires)
    finally:
        await outbox.close()
        _log.info("gateway stopped", **asdict(outbox.index.ledger()))


async def _opened(
    config: GatewayConfig, point_set: PointSet, clock: Clock
) -> tuple[Outbox, GapReason | None]:
    """Open the outbox with an epoch begun; on a full disk wait until there is room."""
    outbox, reason = await _with_room(
        lambda: open_outbox(config.data, point_set, clock, config.file.outbox)
    )
    epoch = secrets.randbelow(EPOCH_LIMIT - 1) + 1
    try:
        await _with_room(lambda: outbox.begin(epoch))
    except BaseException:
        await outbox.close()
        raise
    return outbox, reason


async def _with_room(work: Callable[[], Awaitable[T]]) -> T:
    """Do work that a full disk refuses, again and again until there is room."""
    # A damaged outbox is mended anew at each try: the waits grow to spare the disk.
    backoff = Backoff(base_s=1.0, cap_s=30.0, floor_s=1.0)
    while True:
        try:
            done = await work()
        except (OutboxFull, ConfigUnwritable, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_ROOM:
                raise
            if backoff.failures == 0:
                _log.error("the gateway waits: its disk is full, free some", problem=str(error))
            await asyncio.sleep(backoff.next_s())
        else:
            if backoff.failures:
                _log.info("the disk has room again")
            return done


async def _until_stopped(
    parts: Parts, identity: Identity, config: GatewayConfig, desires: Desires
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    works = {
        "collector": parts.collector.run(lambda: _log.info("collecting")),
        "uplink": parts.uplink.run(),
        "certificate": identity.keep_fresh(config.file.central.enrol),
        "caps": _keep_caps(parts),
        "configuration": desires.run(),
        **_commands(parts),
        "trial": Judge(parts.twin, lambda: parts.uplink.is_connected, parts.clock).run(),
        **_outputs(parts, identity, config.file.gateway),
    }
    async with asyncio.TaskGroup() as always:
        committing = always.create_task(parts.intake.run())
        async with asyncio.TaskGroup() as working:
            tasks = [
                working.create_task(_for_ever(name, work, stop)) for name, work in works.items()
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()
        # Nothing new comes now: what was brought is committed before the file is closed.
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await parts.collector.close_windows()
                await parts.intake.flushed()
        committing.cancel()


def _commands(parts: Parts) -> dict[str, Coroutine[Any, Any, None]]:
    """Make what carries commands out, unless they are off."""
    if parts.commands is None:
        return {}
    orders = parts.uplink.commands = Orders(parts.commands)
    return {"commands": parts.commands.run(), "orders of central": orders.run()}


def _outputs(
    parts: Parts, identity: Identity, settings: GatewaySection
) -> dict[str, Coroutine[Any, Any, None]]:
    """Make what tells others than central of the readings, where it is wanted."""
    if settings.home_assistant is None:
        return {}
    # Imported only where it is used: it brings an MQTT client along.
    told = import_module("edge.home_assistant").HomeAssistant(
        settings.home_assistant,
        identity.gateway(),
        parts.collector.live,
        lambda: [task.device for task in parts.collector.tasks],
        parts.clock,
    )
    return {"home assistant": told.run()}


async def _for_ever(name: str, work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Do what has no end; if it ends all the same, the gateway fails loudly and is started anew."""
    try:
        await work
    except asyncio.CancelledError:
        if stop.is_set():
            raise
    raise GatewayFailed(f"{name} ended by itself: this is a defect of the gateway")


async def _keep_caps(parts: Parts) -> None:
    while True:
        await parts.outbox.keep_caps()
        parts.note_written()
        await asyncio.sleep(CAPS_S)


def _clock_flags(*, trusted: bool) -> Callable[[], int]:
    if trusted:
        return lambda: 0
    return lambda: 0 if is_synchronised() else int(Flag.CLOCK_UNSYNCHRONISED)


@asynccontextmanager
async def _serving(parts: Parts, config: GatewayConfig, identity: Identity) -> AsyncIterator[None]:
    """Tell of the gateway over HTTP, and serve the local API where it is wanted."""
    health = config.file.gateway.health
    served = uvicorn.Config(
        health_app(parts),
        log_config=None,
        lifespan="off",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    async with AsyncExitStack() as stack:
        listener = listener_at(health.host, health.port, "gateway.health")
        await stack.enter_async_context(serving(served, listener))
        if config.file.gateway.api.enabled:
            # Only now: it brings a web framework that a gateway without it has no memory for.
            from edge.api.listener import api_serving  # noqa: PLC0415 - see above

            await stack.enter_async_context(api_serving(parts, config, identity))
        yield
