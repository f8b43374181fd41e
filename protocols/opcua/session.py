"""One channel and session with an OPC UA server: the only module that knows asyncua.

asyncua encodes requests, keeps the secure channel and matches answers to requests. Its background
tasks (reconnect, watchdog, publish loop) are not used: they retry and log by themselves, which is
the collector's business, and a notification that they cannot parse is lost as a whole.
"""

import asyncio
import logging
import struct
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
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from protocols.opcua.binary import Malformed
from protocols.opcua.codec import NUMBER, decode_read
from protocols.opcua.options import OpcuaDevice
from shared.errors import DriverError, LinkLost, OptionsWrong, Refused

NodeId = ua.NodeId
CHANNEL_LIFETIME_S: Final = 3_600.0
SUBSCRIPTION_LIFETIME_S: Final = 60.0
MAX_NOTIFICATIONS: Final = 10_000

# What asyncua lets through when a server answers what it does not expect (trap: a bare
# AttributeError where a login policy is missing); each of them means that talking failed.
_LIBRARY_FAULTS: Final = (
    OSError, TimeoutError, UaError, struct.error,
    AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError,
)  # fmt: skip
_REFUSALS: Final = frozenset(
    {
        "BadCertificateInvalid", "BadCertificateUntrusted", "BadIdentityTokenInvalid",
        "BadIdentityTokenRejected", "BadSecurityChecksFailed", "BadSecurityModeRejected",
        "BadSecurityPolicyRejected", "BadTcpNotEnoughResources", "BadTooManySessions",
        "BadTooManySubscriptions", "BadUserAccessDenied", "BadUserSignatureInvalid",
    }
)  # fmt: skip
_TOO_MUCH_AT_ONCE: Final = frozenset(
    {
        "BadTooManyOperations", "BadEncodingLimitsExceeded", "BadResponseTooLarge",
        "BadRequestTooLarge", "BadTcpMessageTooLarge", "BadEncodingError", "BadDecodingError",
        "BadInternalError", "BadUnexpectedError", "BadNodeIdInvalid", "BadNodeIdUnknown",
        "BadUserAccessDenied", "BadTooManyMonitoredItems", "BadOutOfMemory",
    }
)  # fmt: skip
_LIMITS: Final = (
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
)


class TooMuchAtOnce(DriverError):
    """The server refuses a request as a whole: ask for less at once. `status` is its code."""

    def __init__(self, status: int) -> None:
        """Keep the status code."""
        self.status = status
        super().__init__(status_name(status))


class TooManyRequests(DriverError):
    """The server keeps fewer publish requests than were sent, or this one expired there."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as the server granted it."""

    id: int
    keepalive_s: float


def parse_node(text: str) -> NodeId:
    """Read a node id; raises `OptionsWrong`."""
    try:
        return ua.NodeId.from_string(text)
    except _LIBRARY_FAULTS as error:
        msg = f"{text!r} is no node id; write ns=2;s=NAME or ns=2;i=NUMBER"
        raise OptionsWrong(msg) from error


def status_name(status: int) -> str:
    """Name a status code as the specification does."""
    name: str = ua.StatusCode(ua.UInt32(status & 0xFFFF0000)).name
    return name


class Session:
    """Raises only our errors, each naming the server."""

    def __init__(self, options: OpcuaDevice) -> None:
        self._options = options
        self._client: Client | None = None
        self._renew_at_s = 0.0
        self._renewing = asyncio.Lock()
        self.read_chunk = self.monitor_chunk = options.chunk

    async def open(self) -> None:
        """Connect, open the channel, create and activate the session, read its limits."""
        _quieten()
        options = self._options
        client = self._client = Client(options.url, timeout=options.timeout_s)
        client.name = client.description = "SPINE gateway"
        client.application_uri = "urn:spine:gateway"
        client.session_timeout = int(options.session_timeout_s * 1000)
        client.secure_channel_timeout = int(CHANNEL_LIFETIME_S * 1000)
        try:
            async with asyncio.timeout(3 * options.timeout_s):
                await client.connect_socket()
                await client.send_hello()
                await client.open_secure_channel()
                await client.create_session()
                await client.activate_session()
                self._plan_renewal(client)
                await self._ask_limits()
        except _LIBRARY_FAULTS as error:
            await self.drop()
            raise _explain(error, self._options) from error
        except BaseException:
            await self.drop()
            raise

    async def close(self) -> None:
        """Say goodbye within the timeout and disconnect; never raises for a lost link."""
        client = self._client
        if client is not None and client.uaclient.protocol is not None:
            with suppress(*_LIBRARY_FAULTS):
                async with asyncio.timeout(self._options.timeout_s):
                    await client.uaclient.session.close_session(delete_subscriptions=True)
                    await client.uaclient.protocol.close_secure_channel()
        await self.drop()

    async def drop(self) -> None:
        """Cut the connection."""
        client, self._client = self._client, None
        protocol = client.uaclient.protocol if client is not None else None
        if protocol is not None and protocol.transport is not None:
            if protocol.transport.get_write_buffer_size():
                protocol.transport.abort()  # a peer that reads nothing would hold it open
            else:
                protocol.transport.close()
            await asyncio.sleep(0)  # lets the transport close its socket

    async def read(self, nodes: Sequence[NodeId]) -> bytes:
        """Read the value attribute of nodes; gives the encoded ReadResponse."""
        request = ua.ReadRequest()
        request.Parameters.MaxAge = 0
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value) for node in nodes
        ]
        return await self._ask(request, can_split=True)

    async def create_subscription(self) -> Subscription:
        """Create a subscription as the options ask."""
        options = self._options
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
        granted = self._parse(ua.CreateSubscriptionResponse, await self._ask(request)).Parameters
        revised_s = granted.RevisedPublishingInterval / 1000
        return Subscription(
            int(granted.SubscriptionId),
            max(options.keepalive_s, revised_s * granted.RevisedMaxKeepAliveCount),
        )

    async def monitor(self, subscription_id: int, items: Sequence[tuple[int, NodeId]]) -> list[int]:
        """Monitor (handle, node) items; gives each one's status code."""
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = subscription_id
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ItemsToCreate = [
            _monitored(handle, node, self._options) for handle, node in items
        ]
        results = self._parse(
            ua.CreateMonitoredItemsResponse, await self._ask(request, can_split=True)
        ).Results
        if len(results) != len(items):
            msg = f"{self._options.url}: answered {len(results)} of {len(items)} monitored items"
            raise LinkLost(msg)
        return [int(result.StatusCode.value) for result in results]

    async def publish(self, acknowledged: Sequence[tuple[int, int]]) -> bytes:
        """Wait for a notification, acknowledging (subscription, sequence) pairs received."""
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [
            ua.SubscriptionAcknowledgement(SubscriptionId=which, SequenceNumber=sequence)
            for which, sequence in acknowledged
        ]
        return await self._ask(request, waits=True)

    async def delete_subscription(self, subscription_id: int) -> None:
        """Delete a subscription, as far as the link still allows."""
        request = ua.DeleteSubscriptionsRequest()
        request.Parameters.SubscriptionIds = [subscription_id]
        with suppress(DriverError):
            await self._ask(request)

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
            except _LIBRARY_FAULTS as error:
                raise _explain(error, self._options) from error
            client.uaclient.revolve_security_token()
            self._plan_renewal(client)

    def _plan_renewal(self, client: Client) -> None:
        self._renew_at_s = time.monotonic() + client.secure_channel_timeout * 0.75 / 1000

    async def _ask(self, request: Any, *, waits: bool = False, can_split: bool = False) -> bytes:
        protocol = self._client.uaclient.protocol if self._client is not None else None
        if protocol is None:
            msg = f"{self._options.url}: not connected"
            raise LinkLost(msg)
        await self.renew()
        try:
            return bytes(await protocol.send_request(request, timeout=0 if waits else None))
        except UaStatusCodeError as error:
            name = status_name(error.code)
            if waits and name in {"BadTooManyPublishRequests", "BadTimeout"}:
                raise TooManyRequests(name) from error
            if can_split and name in _TOO_MUCH_AT_ONCE:
                raise TooMuchAtOnce(error.code) from error
            raise _explain(error, self._options) from error
        except _LIBRARY_FAULTS as error:
            raise _explain(error, self._options) from error

    def _parse(self, kind: Any, data: bytes) -> Any:
        try:
            return struct_from_binary(kind, Buffer(data))
        except _LIBRARY_FAULTS as error:
            raise _explain(error, self._options) from error

    async def _ask_limits(self) -> None:
        """Keep to the server's own limits; one that does not tell them is taken at our word."""
        try:
            data = await self.read([ua.NodeId(ua.Int32(number)) for number in _LIMITS])
            told = decode_read(data, len(_LIMITS))
        except (TooMuchAtOnce, Malformed):
            return
        known = (told.carried == NUMBER) & (told.status < 1 << 30) & (told.value >= 1)
        chunk = self._options.chunk
        limits = [min(chunk, int(told.value[row])) if known[row] else chunk for row in (0, 1)]
        self.read_chunk, self.monitor_chunk = limits


def _monitored(handle: int, node: NodeId, options: OpcuaDevice) -> ua.MonitoredItemCreateRequest:
    item = ua.MonitoredItemCreateRequest()
    item.ItemToMonitor = ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value)
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


def _explain(error: BaseException, options: OpcuaDevice) -> DriverError:
    where = options.url
    if isinstance(error, UaStatusCodeError):
        name = status_name(error.code)
        if name in _REFUSALS:
            return Refused(f"{where}: the server refuses ({name}); allow this gateway there")
        return LinkLost(f"{where}: the server answers {name}")
    if isinstance(error, TimeoutError):
        return LinkLost(f"{where}: no answer within {options.timeout_s:g} s")
    if isinstance(error, OSError):
        return LinkLost(f"{where}: {error or type(error).__name__}")
    if "No matching endpoints" in str(error):
        return Refused(f"{where}: the server offers no endpoint without encryption")
    return LinkLost(f"{where}: answers what is not OPC UA ({type(error).__name__}: {error})")


def _quieten() -> None:
    """Keep asyncua from logging what we raise, unless somebody set its level on purpose."""
    logger = logging.getLogger("asyncua")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL + 1)
