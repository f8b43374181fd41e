"""Tells a Home Assistant of the gateway's points, through its broker: an output, never a source.

It watches the last values like any other watcher: nobody waits for it, and where the broker is slow
it tells the newest values and leaves out those in between. Nothing is written from there.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Final

from edge.announcement import OFFLINE, ONLINE, Names, announcement, state
from edge.live import LiveValues, TooManyWatch, Watch
from edge.settings import Device, HomeAssistantSection
from protocols.mqtt.connection import Connection
from protocols.mqtt.listening import Heard, listen
from protocols.mqtt.publication import Publication
from protocols.mqtt.wire import Session
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import DriverError, Refused
from shared.logs import get

AT_ONCE: Final = 10
LOOK_S: Final = 5.0
"""How often it is looked whether the connection is there and the devices are the same."""
TIDY_S: Final = 2.0
"""How long is listened for announcements of points that are gone."""

_log = get("home_assistant")


class HomeAssistant:
    """Announces points and publishes their states, over connections that come and go."""

    def __init__(
        self,
        settings: HomeAssistantSection,
        gateway: str,
        live: LiveValues,
        devices: Callable[[], Sequence[Device]],
        clock: Clock,
    ) -> None:
        """Keep what is asked; nothing is opened before `run`."""
        self._settings = settings
        self._names = Names(gateway, settings.discovery_prefix, settings.base)
        self._client_id = settings.client_id or f"spine-{gateway}-home-assistant"
        self._live = live
        self._devices = devices
        self._clock = clock
        self._announced: dict[str, bytes] = {}
        self._told_of: tuple[Device, ...] = ()
        self._keys: frozenset[str] = frozenset()
        self.problem = ""
        """Why nothing is told just now; empty while the broker has it all."""

    async def run(self) -> None:
        """Tell for ever; an outage is logged once, and its end once."""
        backoff = Backoff(base_s=1.0, cap_s=60.0, floor_s=0.5)
        while True:
            try:
                await self._session(backoff)
            except (DriverError, TooManyWatch) as error:
                self._failed(str(error))
            except Exception as error:  # noqa: BLE001 - an output must not stop the gateway
                if not self.problem:
                    _log.exception("the output to Home Assistant failed")
                self._failed(f"{type(error).__name__}: {error}")
            await asyncio.sleep(backoff.next_s())

    def _failed(self, problem: str) -> None:
        if not self.problem:
            _log.warning("Home Assistant is told nothing", problem=problem)
        self.problem = problem

    async def _session(self, backoff: Backoff) -> None:
        self._announced, self._told_of = {}, ()
        will = Publication(self._names.status, OFFLINE, is_retained=True)
        session = Session(self._client_id, is_kept=False, will=will)
        connection = await Connection.opened(self._settings, session, self._clock)
        try:
            await self._announce(connection)
            await self._tidy()
            await connection.publish(Publication(self._names.status, ONLINE, is_retained=True))
            if self.problem:
                _log.info("Home Assistant is told again")
            self.problem = ""
            backoff.reset()
            with self._live.watch() as watch:
                await self._tell(connection, watch)
        finally:
            with suppress(DriverError):
                connection.tell(will)
            await connection.close()

    async def _tell(self, connection: Connection, watch: Watch) -> None:
        while True:
            connection.raise_if_lost()
            await self._announce(connection)
            values = watch.look().values
            wanted = [one for one in values if one.key in self._keys]
            await _publish(connection, [state(self._names, one) for one in wanted])
            await asyncio.sleep(self._settings.interval_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await watch.stirred()

    async def _announce(self, connection: Connection) -> None:
        """Announce what is new or other than before, and take back what is gone."""
        devices = tuple(self._devices())
        if devices == self._told_of:
            return
        several = [
            (one.point.key, announcement(self._names, device, one.point))
            for device in devices
            for one in device.points
            if self._is_wanted(one.point.key)
        ]
        wanted = {one.topic: one for _, one in several}
        gone = [topic for topic in self._announced if topic not in wanted]
        new = [one for one in wanted.values() if self._announced.get(one.topic) != one.payload]
        await _publish(connection, [*_cleared(gone), *new])
        self._announced = {topic: one.payload for topic, one in wanted.items()}
        self._told_of, self._keys = devices, frozenset(key for key, _ in several)

    def _is_wanted(self, key: str) -> bool:
        return any(fnmatchcase(key, pattern) for pattern in self._settings.points)

    async def _tidy(self) -> None:
        """Take back what was announced of points that are gone since, also in an earlier run."""
        session = Session(f"{self._client_id}-tidy", is_kept=False)
        connection = await Connection.opened(self._settings, session, self._clock)
        heard = Heard()
        try:
            with suppress(Refused):
                await listen(connection, [self._names.configs], TIDY_S, heard.take)
            old = [topic for topic, said in heard.payloads.items() if said]
            gone = [topic for topic in old if topic not in self._announced]
            await _publish(connection, _cleared(gone))
        finally:
            await connection.close()


def _cleared(topics: Iterable[str]) -> list[Publication]:
    """Make messages that take back what the broker keeps."""
    return [Publication(topic, b"", is_retained=True) for topic in topics]


async def _publish(connection: Connection, messages: Sequence[Publication]) -> None:
    for start in range(0, len(messages), AT_ONCE):
        part = messages[start : start + AT_ONCE]
        ended = await asyncio.gather(*map(connection.publish, part), return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error
