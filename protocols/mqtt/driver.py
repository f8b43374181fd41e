"""The MQTT driver: a persistent session whose messages are acknowledged when they are committed."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Final, Self

from protocols.driver import Delivery, DriverType, Page, PointSource
from protocols.mqtt import tls
from protocols.mqtt.browsing import Browsing
from protocols.mqtt.connection import Connection, Message
from protocols.mqtt.deliveries import Deliveries
from protocols.mqtt.listening import Heard, listen
from protocols.mqtt.options import MAX_IN_FLIGHT, MqttDevice, MqttPoint
from protocols.mqtt.plan import Plan
from protocols.mqtt.shaped import shape_of
from protocols.mqtt.shapes import Place, Shape
from protocols.mqtt.window import Repeats, Window
from protocols.mqtt.wire import Session
from protocols.mqtt.writing import meant_by, message_for
from shared.clock import Clock, SystemClock
from shared.columns import Columns
from shared.errors import LinkLost, OptionsWrong, Refused

TOKENS_KEPT: Final = 20 * MAX_IN_FLIGHT
_ASIDE_LENGTH: Final = 180
_VERSION_TOPIC: Final = "$SYS/broker/version"
_IDENTIFY_S: Final = 2.0
_ASK_AGAIN_S: Final = 1.0


class MqttDriver:
    """One connection to a broker, with a session that the broker keeps while we are away.

    Every message is QoS 1 and is acknowledged by `Delivery.done`, never before. A message whose
    acknowledgement was lost comes again with the DUP flag; it is recognised by its token (packet
    id, CRC of topic and payload) among `known`, acknowledged and not yielded. So is a message that
    tells its own time and says what an earlier one said, whoever sent it again.

    **What `known` must hold**: the tokens of the last `tokens_kept` messages that were committed,
    *including* all that an earlier driver object of this device yielded. One object is one
    connection, so a caller that opens a new one first commits (or forgets) what the old one
    yielded; else a message that was yielded but not yet committed would be yielded twice.
    """

    def __init__(self, options: MqttDevice, clock: Clock | None = None) -> None:
        """Keep the options; nothing is opened before `async with`."""
        self._options = options
        self._clock = clock or SystemClock()
        self._connection: Connection | None = None
        self._window = Window()
        self._repeats = Repeats(TOKENS_KEPT)
        self._shape: Shape | None = None
        self._browsing = Browsing(options)

    async def __aenter__(self) -> Self:
        """Connect; raises `LinkLost`, `Refused` or `OptionsWrong`."""
        self._connection = await _opened(self._options, self._clock)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Send the acknowledgements that were given, and disconnect. The session stays."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def plan(self, points: Sequence[PointSource]) -> Plan:
        """Sort the points by topic; raises `OptionsWrong`."""
        return Plan(points, self._options)

    async def read(self, plan: Plan) -> Columns:
        """Give the last reading of every point; MQTT cannot ask for one.

        A point that no message of this subscription told is bad with `NOT_YET_REPORTED`.
        """
        self._connected().raise_if_lost()
        return plan.latest.columns(self._clock.now_us())

    async def subscribe(self, plan: Plan, known: Sequence[bytes]) -> AsyncIterator[Delivery]:
        """Yield the messages that came, several in one delivery, until the link is lost.

        Topics that the broker refuses come as bad readings with `ACCESS_DENIED`. Messages that feed
        no point (of an older configuration) and partial updates that tell nothing are acknowledged
        at once.
        """
        connection = self._connected()
        deliveries = Deliveries(connection, plan, self._clock, self._window, self._repeats)
        deliveries.remember(known)
        self._shape = plan.shaped.shape if plan.shaped is not None else None
        connection.subscribe(plan.filters)
        while True:
            for message in self._shape.answers() if self._shape is not None else ():
                connection.tell(message)
            delivery = deliveries.of(await self._received(connection))
            if delivery is not None:
                plan.latest.keep(delivery.columns)
                yield delivery

    async def write(
        self, source: PointSource, value: float | str | None, priority: int = 16
    ) -> None:
        """Publish a value to the command topic of a point, with QoS 1.

        Returns when the broker has it: whether the device obeys, its next message tells. MQTT has
        no priorities, and nothing is given back.
        """
        if value is None:
            msg = f"{source.point.key}: MQTT gives nothing back; write a value"
            raise OptionsWrong(msg)
        options = MqttPoint.model_validate(source.options)
        if options.device:
            place = Place(options.device, options.property)
            shape = self._shape or shape_of(self._options)
            message = shape.command(place, meant_by(source, options, value))
        else:
            message = message_for(source, value)
        await self._connected().publish(message)

    async def browse(self, parent: str = "", cursor: str = "", limit: int = 200) -> Page:
        """Listen for a while, and list the topics that were heard, or the values in one.

        Over a connection of its own where this one has a kept session: looking takes no message
        away from it.
        """
        async with self._aside() as connection:
            return await self._browsing.page(connection, parent, cursor, limit)

    async def reach(self) -> str:
        """See whether somebody listens at the address; with TLS, which certificate is shown."""
        options = self._options
        if options.tls:
            shown = await tls.shown_fingerprint(options)
            return f"{options.address}, certificate SHA-256 {shown}"
        try:
            async with asyncio.timeout(options.timeout_s):
                _, writer = await asyncio.open_connection(options.host, options.port)
        except TimeoutError as error:
            msg = f"{options.address}: no answer within {options.timeout_s:g} s; look at host, port"
            raise LinkLost(msg) from error
        except OSError as error:
            msg = f"{options.address}: {error.strerror or error}; look at host, port and the broker"
            raise LinkLost(msg) from error
        writer.transport.abort()
        return options.address

    async def identify(self) -> Mapping[str, str]:
        """Ask the broker for its version, where it tells ($SYS)."""
        async with self._aside() as connection:
            heard = Heard()
            limit_s = min(_IDENTIFY_S, self._options.timeout_s)
            with suppress(Refused):
                await listen(connection, [_VERSION_TOPIC], limit_s, heard.only)
        told = heard.payloads.get(_VERSION_TOPIC)
        return {} if told is None else {"version": told[:200].decode(errors="replace")}

    async def _received(self, connection: Connection) -> list[Message]:
        """Wait for messages; where a shape may have to ask again, not for long: then empty."""
        if self._shape is None:
            return await connection.receive()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ASK_AGAIN_S):
                return await connection.receive()
        return []

    def _connected(self) -> Connection:
        if self._connection is None:
            msg = f"{self._options.address}: not connected"
            raise LinkLost(msg)
        return self._connection

    @asynccontextmanager
    async def _aside(self) -> AsyncIterator[Connection]:
        """Give a connection whose messages nobody else waits for."""
        here = self._connected()
        if not self._options.keep_session:
            yield here
            return
        connection = await _opened(aside(self._options), self._clock)
        try:
            yield connection
        finally:
            await connection.close()


def aside(options: MqttDevice) -> MqttDevice:
    """Change options to those of another client, of whom the broker keeps nothing."""
    client_id = f"{options.client_id[:_ASIDE_LENGTH]}-{secrets.token_hex(4)}"
    return options.model_copy(update={"client_id": client_id, "keep_session": False})


async def _opened(options: MqttDevice, clock: Clock) -> Connection:
    session = Session(
        options.client_id,
        options.keep_session,
        options.session_expiry_s,
        options.max_in_flight,
    )
    return await Connection.opened(options, session, clock)


def _address(options: MqttDevice) -> str:
    return f"{options.address} as {options.client_id}"


def driver_type() -> DriverType:
    """Describe the driver to the registry."""
    return DriverType(
        name="mqtt",
        title="MQTT",
        device_options=MqttDevice,
        point_options=MqttPoint,
        make=MqttDriver,
        pushes=True,
        tokens_kept=TOKENS_KEPT,
        address=_address,
        aside=aside,
    )
