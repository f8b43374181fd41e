"""paho-mqtt on the running event loop: the only module that knows it.

paho's network code is driven by the loop's own readiness callbacks, without a thread; only the TCP
connect (and its name lookup) runs in one, for paho does it blocking. paho never reconnects here.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from protocols.mqtt import tls
from protocols.mqtt.broker import MqttBroker
from protocols.mqtt.publication import Publication
from shared.errors import DriverError, LinkLost, Refused

QOS: Final = 1
_BURST: Final = 200  # packets read in one turn of the loop, so that others get theirs
_TICK_S: Final = 0.5
_PUBLICATIONS: Final = 10
"""How many of ours may be unacknowledged at most: the least that brokers bear (others bear 20)."""
_FIRST_REFUSAL: Final = 0x80  # a reason code from here on is one (MQTT 5, 2.4)
_LOGIN_REFUSED: Final = frozenset(
    {"Bad user name or password", "Not authorized", "Client identifier not valid", "Banned"}
)
_VERSION_REFUSED: Final = "Unsupported protocol version"


class VersionRefused(LinkLost):
    """The broker refuses this MQTT version, or says nothing to it."""


@dataclass(frozen=True, slots=True)
class Session:
    """Who we are at the broker, and what it keeps for us while we are away."""

    client_id: str
    is_kept: bool = True
    expiry_s: int = 0
    max_in_flight: int = 100
    will: Publication | None = None
    """What the broker publishes for us when we are gone without a word."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came; `packet_id` is 0 where the publisher chose QoS 0."""

    topic: str
    payload: bytes
    packet_id: int
    is_dup: bool
    is_retained: bool


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what happens. All are called in the loop's thread, and must not raise."""

    on_message: Callable[[Received], None]
    on_subscribed: Callable[[int, list[bool]], None]
    """Request id, and for each of its topics whether the broker granted it."""
    on_published: Callable[[int, str], None]
    """Packet id of a publication that was acknowledged; why not, if the broker refuses it."""
    on_lost: Callable[[LinkLost], None]
    on_tick: Callable[[], None]


class Wire:
    """One TCP connection that speaks MQTT."""

    def __init__(
        self, broker: MqttBroker, session: Session, version: str, listener: Listener
    ) -> None:
        self.where = broker.address
        self.is_session_present = False
        self.receive_maximum = _PUBLICATIONS
        """How many publications of ours may wait for their acknowledgement."""
        self._broker = broker
        self._session = session
        self._version = version
        self._listener = listener
        self._client = _new_client(broker, session, version)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.is_reading = False
        """Whether messages are taken; changed by `set_reading`."""
        self._has_received = False
        self._closed = asyncio.Event()
        self._ticking: asyncio.TimerHandle | None = None

    async def connect(self) -> None:
        """Connect and log in; each within the timeout."""
        is_connected = self._loop.create_future()
        self._attach(is_connected)
        try:
            await _dial(self._client, self._broker, self._session, self._version)
            tls.check_pinned(self._broker, self._client.socket())
            self.set_reading(True)
            if self._client.want_write():
                self._watch_writing(self._client.socket())
            async with asyncio.timeout(self._broker.timeout_s):
                await is_connected
        except TimeoutError as error:
            self.cut()
            msg = f"{self.where}: no answer within {self._broker.timeout_s:g} s"
            raise _unanswered(msg, self._version) from error
        except BaseException:
            self.cut()
            raise
        self._tick()

    async def close(self) -> None:
        """Send what is still to be said and disconnect; a broker that reads nothing is cut off."""
        sock = self._client.socket()
        if sock is not None and sock.fileno() >= 0 and self._client.is_connected():
            self._client.disconnect()
            try:
                async with asyncio.timeout(min(2.0, self._broker.timeout_s)):
                    await self._closed.wait()
            except TimeoutError:
                pass  # cut off below
        self.cut()

    def cut(self) -> None:
        """Close the socket."""
        if self._ticking is not None:
            self._ticking.cancel()
        sock = self._client.socket()
        if sock is not None:
            self._forget(sock)
            sock.close()

    def set_reading(self, wanted: bool) -> None:  # noqa: FBT001, RUF100 - a setter
        """Read from the network, or leave what comes there."""
        sock: Any = self._client.socket()
        if sock is None or wanted == self.is_reading:
            return
        if wanted:
            self._loop.add_reader(sock, self._read)
            if _holds_more(sock):
                self._loop.call_soon(self._read)
        else:
            self._loop.remove_reader(sock)
        self.is_reading = wanted

    def subscribe(self, topics: Sequence[str]) -> int:
        """Ask for topics; gives the request's id. Raises `LinkLost`."""
        result, request_id = self._client.subscribe([(topic, QOS) for topic in topics])
        if request_id is None:
            msg = f"{self.where}: {error_string(result)}"
            raise LinkLost(msg)
        return request_id

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Ask for no more messages of topics."""
        self._client.unsubscribe(list(topics))

    def publish(self, message: Publication, qos: int = QOS) -> int:
        """Publish; gives the packet id. Raises `LinkLost`, or ValueError for what cannot be."""
        sent = self._client.publish(message.topic, message.payload, qos, message.is_retained)
        if sent.rc:
            msg = f"{self.where}: {error_string(sent.rc)}"
            raise LinkLost(msg)
        return sent.mid

    def acknowledge(self, packet_id: int) -> None:
        """Acknowledge a message; nothing happens if the link is gone."""
        self._client.ack(packet_id, QOS)

    def _attach(self, is_connected: asyncio.Future[None]) -> None:
        client, listener = self._client, self._listener

        def on_connect(_: Client, __: Any, flags: Any, reason: Any, told: Any) -> None:
            if is_connected.done():
                return
            if reason.is_failure:
                is_connected.set_exception(_refusal(str(reason), self.where, self._version))
            else:
                self.is_session_present = bool(flags.session_present)
                most = getattr(told, "ReceiveMaximum", _PUBLICATIONS)
                self.receive_maximum = min(self.receive_maximum, most)
                is_connected.set_result(None)

        def on_disconnect(_: Client, __: Any, flags: Any, reason: Any, ___: Any) -> None:
            msg = f"{self.where}: lost the connection"
            if not is_connected.done() and self._broker.tls:
                msg += " at the login: it may want a certificate of ours (tls_certificate)"
            if flags.is_disconnect_packet_from_server:
                msg = f"{self.where}: the broker ended the connection: {reason}"
            if not is_connected.done():
                is_connected.set_exception(_unanswered(msg, self._version))
            listener.on_lost(LinkLost(msg))

        client.on_connect = on_connect
        client.on_disconnect = on_disconnect
        _hand_on(client, listener)
        client.on_message = self._on_message
        client.on_socket_close = lambda _, __, sock: self._forget(sock)
        client.on_socket_register_write = lambda _, __, sock: self._watch_writing(sock)
        client.on_socket_unregister_write = lambda _, __, sock: _unwatch(self._loop, sock)

    def _on_message(self, _: Client, __: Any, message: MQTTMessage) -> None:
        self._has_received = True
        self._listener.on_message(_received(message))

    def _watch_writing(self, sock: Any) -> None:
        # In the thread that connects, the first packet only waits: an abandoned connect stays mute
        # and so cannot take the session over from a later one.
        if threading.get_ident() == self._thread and sock.fileno() >= 0:
            self._loop.add_writer(sock, self._client.loop_write)

    def _forget(self, sock: Any) -> None:
        self.is_reading = False
        if threading.get_ident() == self._thread:
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock)
            _unwatch(self._loop, sock)
            self._closed.set()

    def _read(self) -> None:
        sock: Any = None
        for _ in range(_BURST):
            if not self.is_reading:
                return
            self._has_received = False
            self._client.loop_read()
            sock = self._client.socket()
            if not (self._has_received or _holds_more(sock)):
                return
        if _holds_more(sock):  # the loop sees only what is still in the network
            self._loop.call_soon(self._read)

    def _tick(self) -> None:
        self._client.loop_misc()
        self._listener.on_tick()
        self._ticking = self._loop.call_later(_TICK_S, self._tick)


def _hand_on(client: Client, listener: Listener) -> None:
    """Tell the listener of what the broker answers to subscriptions and publications."""

    def on_subscribe(_: Client, __: Any, request_id: int, reasons: Any, ___: Any) -> None:
        listener.on_subscribed(request_id, [one.value < _FIRST_REFUSAL for one in reasons])

    def on_publish(_: Client, __: Any, packet_id: int, reason: Any, ___: Any) -> None:
        listener.on_published(packet_id, str(reason) if reason.is_failure else "")

    client.on_subscribe = on_subscribe
    client.on_publish = on_publish


def _refusal(reason: str, where: str, version: str) -> DriverError:
    if reason == _VERSION_REFUSED:
        return VersionRefused(f"{where}: does not speak MQTT {version}")
    if reason in _LOGIN_REFUSED:
        return Refused(f"{where}: the broker refuses the login: {reason}")
    return LinkLost(f"{where}: the broker refuses the connection: {reason}")


def _unanswered(msg: str, version: str) -> LinkLost:
    return VersionRefused(msg) if version == "5" else LinkLost(msg)


def _new_client(broker: MqttBroker, session: Session, version: str) -> Client:
    is_5 = version == "5"
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=session.client_id,
        clean_session=None if is_5 else not session.is_kept,
        protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = broker.timeout_s
    if broker.username is not None:
        password = broker.password.get_secret_value() if broker.password is not None else None
        client.username_pw_set(broker.username, password)
    if session.will is not None:
        will = session.will
        client.will_set(will.topic, will.payload, QOS, will.is_retained)
    return client


async def _dial(client: Client, broker: MqttBroker, session: Session, version: str) -> None:
    is_abandoned = threading.Event()
    try:
        async with asyncio.timeout(2 * broker.timeout_s):
            await asyncio.to_thread(_connect, client, broker, session, version, is_abandoned)
    except TimeoutError as error:
        msg = f"{broker.address}: no connection within {broker.timeout_s:g} s"
        raise LinkLost(msg) from error
    except ssl.SSLError as error:
        raise tls.explained(broker, error) from error
    except (OSError, ValueError) as error:
        msg = f"{broker.address}: {error or type(error).__name__}"
        raise LinkLost(msg) from error
    finally:
        is_abandoned.set()


def _connect(
    client: Client,
    broker: MqttBroker,
    session: Session,
    version: str,
    is_abandoned: threading.Event,
) -> None:
    """Connect TCP and TLS, blocking; leaves no socket open if nobody waits for it any more."""
    if broker.tls:
        client.tls_set_context(tls.trust_in(broker))
    host, port, keepalive_s = broker.host, broker.port, broker.keepalive_s
    if version == "5":
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's
        properties.SessionExpiryInterval = session.expiry_s if session.is_kept else 0
        properties.ReceiveMaximum = session.max_in_flight
        client.connect(
            host, port, keepalive_s, clean_start=not session.is_kept, properties=properties
        )
    else:
        client.connect(host, port, keepalive_s)
    sock = client.socket()
    if is_abandoned.is_set() and sock is not None:
        sock.close()


def _holds_more(sock: Any) -> bool:
    """Tell whether TLS has decrypted more than was read: no network event will tell of it."""
    return isinstance(sock, ssl.SSLSocket) and sock.fileno() >= 0 and sock.pending() > 0


def _received(message: MQTTMessage) -> Received:
    try:
        topic = message.topic
    except UnicodeDecodeError:
        topic = ""  # no topic of ours
    packet_id = message.mid if message.qos else 0
    return Received(topic, bytes(message.payload), packet_id, message.dup, message.retain)


def _unwatch(loop: asyncio.AbstractEventLoop, sock: Any) -> None:
    if sock.fileno() >= 0:
        loop.remove_writer(sock)
