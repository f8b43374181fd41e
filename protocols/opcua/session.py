"""One channel and session with an OPC UA server.

What knows asyncua is this module, `security`, `services`, `discovery` and `faults`, nothing else.
It encodes requests, keeps the secure channel and matches answers to requests. Its background tasks
(reconnect, watchdog, publish loop) are not used: they retry and log by themselves, which is the
collector's business, and a notification that they cannot parse is lost as a whole.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.utils import Buffer
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaStatusCodeError

from protocols.opcua import security
from protocols.opcua.binary import Malformed
from protocols.opcua.codec import decode_read
from protocols.opcua.faults import (
    LIBRARY_FAULTS,
    TOO_MUCH_AT_ONCE,
    UNSURE,
    ServiceRefused,
    TooManyRequests,
    TooMuchAtOnce,
    explain,
    explain_channel,
    status_name,
)
from protocols.opcua.options import OpcuaDevice
from protocols.opcua.scalars import NUMBER
from protocols.opcua.trust import Identity, load_identity
from shared.errors import DriverError, LinkLost, OptionsWrong

NodeId = ua.NodeId
Attribute = AttributeIds
APPLICATION_URI: Final = "urn:spine:gateway"
CHANNEL_LIFETIME_S: Final = 3_600.0
SUBSCRIPTION_LIFETIME_S: Final = 60.0
MAX_NOTIFICATIONS: Final = 10_000

_LIMITS: Final = (
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as the server granted it."""

    id: int
    keepalive_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """A node, or one element of the array that it holds."""

    node: NodeId
    index: str | None = None


def parse_node(text: str) -> NodeId:
    """Read a node id whose namespace is a number; raises `OptionsWrong`."""
    try:
        return ua.NodeId.from_string(text)
    except LIBRARY_FAULTS as error:
        msg = f"{text!r} is no node id; write ns=2;s=NAME or ns=2;i=NUMBER"
        raise OptionsWrong(msg) from error


class Session:
    """Raises only our errors, each naming the server."""

    def __init__(self, options: OpcuaDevice) -> None:
        self.options = options
        self.read_chunk = self.monitor_chunk = options.chunk
        self._identity = _identity(options)
        self._client: Client | None = None
        self._renew_at_s = 0.0
        self._renewing = asyncio.Lock()

    async def open(self) -> None:
        """Connect, open the channel, create and activate the session, read its limits.

        Where security is asked for, the server's certificate is looked at first, over a channel
        without any, and nothing is said to a server whose certificate nobody accepted.
        """
        _quieten()
        client = self._client = self._made()
        try:
            async with asyncio.timeout(4 * self.options.timeout_s):
                if self._identity is not None:
                    await security.secure(client, self.options, self._identity)
                await self._open_channel(client)
                created = await client.create_session()
                await security.sign_in(client, self.options, created)
                self._plan_renewal(client)
                await self._ask_limits()
        except LIBRARY_FAULTS as error:
            await self.drop()
            raise explain(error, self.options, self._identity) from error
        except BaseException:
            await self.drop()
            raise

    def _made(self) -> Client:
        options = self.options
        client = Client(options.url, timeout=options.timeout_s)
        client.name = client.description = "SPINE gateway"
        uri = self._identity.application_uri if self._identity is not None else None
        client.application_uri = uri or APPLICATION_URI
        client.session_timeout = int(options.session_timeout_s * 1000)
        client.secure_channel_timeout = int(CHANNEL_LIFETIME_S * 1000)
        return client

    async def _open_channel(self, client: Client) -> None:
        await client.connect_socket()
        await client.send_hello()
        try:
            await client.open_secure_channel()
        except LIBRARY_FAULTS as error:
            raise explain_channel(error, self.options, self._identity) from error

    async def close(self) -> None:
        """Say goodbye within the timeout and disconnect; never raises for a lost link."""
        client = self._client
        if client is not None and client.uaclient.protocol is not None:
            with suppress(*LIBRARY_FAULTS):
                async with asyncio.timeout(self.options.timeout_s):
                    await client.uaclient.session.close_session(delete_subscriptions=True)
                    await client.uaclient.protocol.close_secure_channel()
        await self.drop()

    async def drop(self) -> None:
        """Cut the connection."""
        client, self._client = self._client, None
        if client is not None:
            await security.drop(client)

    async def read(self, targets: Sequence[Target]) -> bytes:
        """Read the value attribute of nodes; gives the encoded ReadResponse."""
        request = ua.ReadRequest()
        request.Parameters.MaxAge = 0
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.NodesToRead = [_value_of(target) for target in targets]
        return await self.ask(request, can_split=True)

    async def create_subscription(self) -> Subscription:
        """Create a subscription as the options ask; raises `Refused` if the server has none."""
        options = self.options
        interval_ms = options.publishing_interval_ms
        keepalive = max(1, round(options.keepalive_s * 1000 / interval_ms))
        request = ua.CreateSubscriptionRequest()
        request.Parameters.RequestedPublishingInterval = interval_ms
        request.Parameters.RequestedMaxKeepAliveCount = keepalive
        request.Parameters.RequestedLifetimeCount = max(
            3 * keepalive, round(SUBSCRIPTION_LIFETIME_S * 1000 / interval_ms)
        )
        request.Parameters.MaxNotificationsPerPublish = MAX_NOTIFICATIONS
        request.Parameters.PublishingEnabled = True
        answer = await self.ask(request, can_refuse=True)
        granted = self.parse(ua.CreateSubscriptionResponse, answer).Parameters
        revised_s = granted.RevisedPublishingInterval / 1000
        return Subscription(
            int(granted.SubscriptionId),
            max(options.keepalive_s, revised_s * granted.RevisedMaxKeepAliveCount),
        )

    async def monitor(self, subscription_id: int, items: Sequence[tuple[int, Target]]) -> list[int]:
        """Monitor (handle, target) items; gives each one's status code."""
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = subscription_id
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ItemsToCreate = [
            _monitored(handle, target, self.options) for handle, target in items
        ]
        results = self.parse(
            ua.CreateMonitoredItemsResponse, await self.ask(request, can_split=True)
        ).Results
        if len(results) != len(items):
            msg = f"{self.options.url}: answered {len(results)} of {len(items)} monitored items"
            raise LinkLost(msg)
        return [int(result.StatusCode.value) for result in results]

    async def publish(self, acknowledged: Sequence[tuple[int, int]]) -> bytes:
        """Wait for a notification, acknowledging (subscription, sequence) pairs received."""
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [
            ua.SubscriptionAcknowledgement(SubscriptionId=which, SequenceNumber=sequence)
            for which, sequence in acknowledged
        ]
        return await self.ask(request, waits=True)

    async def delete_subscription(self, subscription_id: int) -> None:
        """Delete a subscription, as far as the link still allows."""
        request = ua.DeleteSubscriptionsRequest()
        request.Parameters.SubscriptionIds = [subscription_id]
        with suppress(DriverError):
            await self.ask(request)

    async def renew(self) -> None:
        """Renew the channel's token when three quarters of its life are over."""
        client = self._client
        if client is None or time.monotonic() < self._renew_at_s:
            return
        async with self._renewing:
            if time.monotonic() < self._renew_at_s:
                return
            try:
                await client.open_secure_channel(renew=True)
            except LIBRARY_FAULTS as error:
                raise explain(error, self.options, self._identity) from error
            client.uaclient.revolve_security_token()
            self._plan_renewal(client)

    def _plan_renewal(self, client: Client) -> None:
        self._renew_at_s = time.monotonic() + client.secure_channel_timeout * 0.75 / 1000

    async def ask(
        self,
        request: Any,
        *,
        waits: bool = False,
        can_split: bool = False,
        can_refuse: bool = False,
    ) -> bytes:
        """Send a request; gives the encoded answer.

        `waits`: the answer may take as long as the server likes. A status for the request as a
        whole is `TooMuchAtOnce` where it `can_split` and `ServiceRefused` where it `can_refuse`,
        as far as the status speaks of the request and not of the link.
        """
        protocol = self._client.uaclient.protocol if self._client is not None else None
        if protocol is None:
            msg = f"{self.options.url}: not connected"
            raise LinkLost(msg)
        await self.renew()
        try:
            return bytes(await protocol.send_request(request, timeout=0 if waits else None))
        except UaStatusCodeError as error:
            name = status_name(error.code)
            if waits and name in {"BadTooManyPublishRequests", "BadTimeout"}:
                raise TooManyRequests(name) from error
            if can_split and name in TOO_MUCH_AT_ONCE:
                raise TooMuchAtOnce(error.code) from error
            if can_refuse and name not in UNSURE:
                raise ServiceRefused(self.options.url, error.code) from error
            raise explain(error, self.options, self._identity) from error
        except LIBRARY_FAULTS as error:
            raise explain(error, self.options, self._identity) from error

    def parse(self, kind: Any, data: bytes) -> Any:
        """Decode an answer; one that cannot be decoded is `LinkLost`."""
        try:
            return struct_from_binary(kind, Buffer(data))
        except LIBRARY_FAULTS as error:
            raise explain(error, self.options, self._identity) from error

    async def _ask_limits(self) -> None:
        """Keep to the server's own limits; one that does not tell them is taken at our word."""
        try:
            data = await self.read([Target(ua.NodeId(ua.Int32(number))) for number in _LIMITS])
            told = decode_read(data, len(_LIMITS))
        except (TooMuchAtOnce, Malformed):
            return
        known = (told.carried == NUMBER) & (told.status < 1 << 30) & (told.value >= 1)
        chunk = self.options.chunk
        limits = [min(chunk, int(told.value[row])) if known[row] else chunk for row in (0, 1)]
        self.read_chunk, self.monitor_chunk = limits


def _identity(options: OpcuaDevice) -> Identity | None:
    if not options.is_secured or options.identity is None:
        return None
    return load_identity(options.identity.get_secret_value(), "identity")


def _value_of(target: Target) -> ua.ReadValueId:
    return ua.ReadValueId(
        NodeId=target.node, AttributeId=AttributeIds.Value, IndexRange=target.index
    )


def _monitored(handle: int, target: Target, options: OpcuaDevice) -> ua.MonitoredItemCreateRequest:
    item = ua.MonitoredItemCreateRequest()
    item.ItemToMonitor = _value_of(target)
    item.MonitoringMode = ua.MonitoringMode.Reporting
    item.RequestedParameters.ClientHandle = handle
    item.RequestedParameters.SamplingInterval = (
        options.publishing_interval_ms
        if options.sampling_interval_ms is None
        else options.sampling_interval_ms
    )
    item.RequestedParameters.QueueSize = options.queue_size
    item.RequestedParameters.DiscardOldest = True
    if options.trigger == "timestamp":
        item.RequestedParameters.Filter = ua.DataChangeFilter(
            Trigger=ua.DataChangeTrigger.StatusValueTimestamp
        )
    return item


def _quieten() -> None:
    """Keep asyncua from logging what we raise, unless somebody set its level on purpose."""
    logger = logging.getLogger("asyncua")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL + 1)
