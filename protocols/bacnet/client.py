"""One BACnet/IP client over one UDP socket; with `notices.py` the only file that knows bacpypes3.

Its errors become ours here: no answer is `LinkLost`; what a device says no to is a `Rejection`,
which names the reason.
"""

import asyncio
import socket
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from bacpypes3.apdu import AbortPDU, AbortReason, ErrorRejectAbortNack, SubscribeCOVRequest
from bacpypes3.basetypes import ErrorType, PropertyIdentifier, PropertyReference
from bacpypes3.errors import DecodingError
from bacpypes3.local.device import DeviceObject
from bacpypes3.pdu import Address, IPv4Address
from bacpypes3.primitivedata import Null, ObjectIdentifier

from protocols.bacnet.notices import Notices, NoticingApplication
from shared.errors import LinkLost, OptionsWrong, Refused

OUR_INSTANCE: Final = 4_194_302
ASHRAE: Final = 0

ANY_DEVICE: Final = 4_194_303
"""The device at the address, whatever its instance is (ASHRAE 135, 15.5.2)."""

BIND_S: Final = 5.0
CLOSING_TURNS: Final = 5

_NO_ANSWER: Final = frozenset({AbortReason.noResponse, AbortReason.tsmTimeout})
_TOO_MUCH: Final = frozenset(
    {
        AbortReason.bufferOverflow,
        AbortReason.segmentationNotSupported,
        AbortReason.outOfResources,
        AbortReason.apduTooLong,
    }
)
_ODD: Final = (AttributeError, DecodingError, IndexError, KeyError, TypeError, ValueError)
"""What bacpypes3 raises on an answer that it cannot read."""

Result = TypeVar("Result")


class Rejection(Refused):
    """The device says no to one request: a standard word such as `unknown-object`.

    `is_too_much` says that a smaller request may be answered.
    """

    def __init__(self, word: str, *, is_too_much: bool = False) -> None:
        """Keep the word."""
        self.word = word
        self.is_too_much = is_too_much
        super().__init__(f"the device answers {word}")


@dataclass(frozen=True, slots=True)
class Property:
    """One property of one object, as the standard spells them."""

    object: str
    instance: int
    name: str = "present-value"
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Announced:
    """A device that answered Who-Is."""

    host: str
    port: int
    instance: int
    vendor_id: int


async def resolve(host: str, port: int) -> str:
    """Find the IPv4 address of a host; raises `LinkLost`."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_DGRAM)
    except OSError as error:
        msg = f"BACnet {host}: this name is not known here ({error.strerror or error})"
        raise LinkLost(msg) from error
    return str(found[0][4][0])


class Client:
    """Asks one device, or all by Who-Is. Opening it binds a socket; nothing is sent before."""

    def __init__(self, application: NoticingApplication, place: str) -> None:
        """Use an open application; `place` is the device's `address:port`."""
        self._application = application
        self._place = place
        # bacpypes3 forgets these tasks at the first request; their end is the open transport.
        self._binding: list[asyncio.Task[Any]] = list(
            application.normal.server._transport_tasks  # noqa: SLF001 - nothing public tells when the transport is there
        )

    @classmethod
    async def open(
        cls, place: str, *, local: str, timeout_s: float = 3.0, retries: int = 2
    ) -> "Client":
        """Bind `local` (`address:port`); raises `LinkLost` if it is in use."""
        device = DeviceObject(
            objectIdentifier=("device", OUR_INSTANCE),
            objectName="SPINE gateway",
            vendorIdentifier=ASHRAE,
            apduTimeout=round(timeout_s * 1_000),
            numberOfApduRetries=retries,
        )
        try:
            address = IPv4Address(local)
        except ValueError as error:
            msg = f"BACnet: {local} is no address of this gateway"
            raise OptionsWrong(msg) from error
        _try_to_bind(address.addrTuple)
        client = cls(NoticingApplication(device, address), place)
        try:
            await asyncio.wait(client._binding, timeout=BIND_S)
        except asyncio.CancelledError:
            await client.close()
            raise
        return client

    async def close(self) -> None:
        """Give the socket back."""
        for task in self._binding:
            task.add_done_callback(_close_transport)
        # The transport is made and closed in the next turns of the loop, never later.
        for _ in range(CLOSING_TURNS):
            await asyncio.sleep(0)

    async def read(self, wanted: Property) -> Any:
        """Read one property; raises `Rejection` or `LinkLost`."""
        return await self._asked(
            self._application.read_property(
                Address(self._place), _object(wanted), _name(wanted.name), wanted.index
            )
        )

    async def read_many(self, wanted: Sequence[Property]) -> list[Any]:
        """Read several at once, in their order; one that failed is a `Rejection` in its place.

        Raises `Rejection` if the device cannot answer this request as a whole, or `LinkLost`.
        """
        parameters: list[Any] = []
        for one in wanted:
            reference = PropertyReference(
                propertyIdentifier=_name(one.name), propertyArrayIndex=one.index
            )
            parameters += [_object(one), [reference]]
        answer = await self._asked(
            self._application.read_property_multiple(Address(self._place), parameters)
        )
        if not isinstance(answer, list) or len(answer) != len(wanted):
            raise Rejection("another number of values than asked for", is_too_much=True)
        return [_failure(value) or value for *_, value in answer]

    async def write(self, wanted: Property, value: Any, priority: int) -> None:
        """Write one property at a priority; None relinquishes it."""
        answer = await self._asked(
            self._application.write_property(
                Address(self._place),
                _object(wanted),
                _name(wanted.name),
                Null(()) if value is None else value,
                wanted.index,
                priority,
            )
        )
        if isinstance(answer, str):
            raise Rejection(answer.strip("-"))

    async def subscribe(
        self, kind: str, instance: int, process: int, lifetime_s: int, *, is_confirmed: bool
    ) -> None:
        """Ask the device to tell of changes of an object, or go on with it.

        Raises `Rejection` or `LinkLost`.
        """
        await self._asked(
            self._application.request(
                SubscribeCOVRequest(
                    subscriberProcessIdentifier=process,
                    monitoredObjectIdentifier=ObjectIdentifier((kind, instance)),
                    issueConfirmedNotifications=is_confirmed,
                    lifetime=lifetime_s,
                    destination=Address(self._place),
                )
            )
        )

    async def unsubscribe(self, kind: str, instance: int, process: int) -> None:
        """Ask the device to tell no more of an object; raises `Rejection` or `LinkLost`."""
        await self._asked(
            self._application.request(
                SubscribeCOVRequest(
                    subscriberProcessIdentifier=process,
                    monitoredObjectIdentifier=ObjectIdentifier((kind, instance)),
                    destination=Address(self._place),
                )
            )
        )

    def listen(self, process: int, most: int) -> Notices:
        """Collect what the device tells under a process id from now on, at most so much at once."""
        notices = self._application.notices = Notices(Address(self._place), process, most)
        return notices

    async def instance(self, wait_s: float) -> int | None:
        """Ask the device for its instance; None if it answers, but not to that question.

        Some devices do not know the wildcard instance; those are asked by
        Who-Is. Raises `LinkLost`.
        """
        try:
            return int((await self.read(Property("device", ANY_DEVICE, "object-identifier")))[1])
        except Rejection:
            answers = await self.who_is(0, OUR_INSTANCE, wait_s)
            return answers[0].instance if answers else None

    async def who_is(self, low: int, high: int, wait_s: float) -> list[Announced]:
        """Ask who is there, and give those that answered in time."""
        found = await self._application.who_is(low, high, Address(self._place), timeout=wait_s)
        return [_announced(one) for one in found]

    async def _asked(self, request: Awaitable[Result]) -> Result:
        try:
            answer = await request
        except ErrorRejectAbortNack as error:
            raise self._lost_or_rejected(error) from None
        except _ODD as error:
            msg = f"an answer that cannot be read ({type(error).__name__}: {error})"
            raise Rejection(msg, is_too_much=True) from error
        if isinstance(answer, ErrorRejectAbortNack):
            raise self._lost_or_rejected(answer)
        return answer

    def _lost_or_rejected(self, error: ErrorRejectAbortNack) -> LinkLost | Rejection:
        reason = error.reason
        if isinstance(error, AbortPDU) and int(reason) in _NO_ANSWER:
            return LinkLost(f"BACnet {self._place}: no answer")
        too_much = isinstance(error, AbortPDU) and int(reason) in _TOO_MUCH
        return Rejection(str(reason), is_too_much=too_much)


def _close_transport(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result()[0].close()


def _try_to_bind(place: tuple[str, int]) -> None:
    # bacpypes3 binds in a task of its own, where a busy port is told to nobody.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(place)
        except OSError as error:
            msg = f"BACnet: {place[0]}:{place[1]} cannot be bound here ({error.strerror})"
            raise LinkLost(msg) from error


def _object(wanted: Property) -> ObjectIdentifier:
    return ObjectIdentifier((wanted.object, wanted.instance))


def _name(name: str) -> PropertyIdentifier:
    try:
        return PropertyIdentifier(name)
    except ValueError as error:
        msg = f"BACnet knows no property {name!r}"
        raise OptionsWrong(msg) from error


def _failure(value: Any) -> Rejection | None:
    return Rejection(str(value.errorCode)) if isinstance(value, ErrorType) else None


def _announced(answer: Any) -> Announced:
    host, port = answer.pduSource.addrTuple
    return Announced(str(host), int(port), answer.iAmDeviceIdentifier[1], int(answer.vendorID))
