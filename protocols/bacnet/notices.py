"""Notices of change that a device sends, confirmed or not, until somebody takes them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bacpypes3.apdu import (
    ConfirmedCOVNotificationRequest,
    SimpleAckPDU,
    UnconfirmedCOVNotificationRequest,
)
from bacpypes3.errors import AbortException, DecodingError, RejectException, ServicesError
from bacpypes3.ipv4.app import NormalApplication
from bacpypes3.pdu import Address
from bacpypes3.vendor import get_vendor_info

ASHRAE_VENDOR = 0

_ODD = (
    AbortException,
    AttributeError,
    DecodingError,
    IndexError,
    KeyError,
    RejectException,
    TypeError,
    ValueError,
)
"""What bacpypes3 raises on values that it cannot read."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a device tells of one object: some of its properties, as the standard spells them."""

    object: str
    instance: int
    values: Mapping[str, Any]


class Notices:
    """The notices of one device for one process id, at most `most` at once.

    When it is full, a confirmed notice is not acknowledged, so that the device sends it again, and
    any other is dropped; `has_lost` tells, until it is reset.
    """

    def __init__(self, source: Address, process: int, most: int) -> None:
        """Take those from `source` alone."""
        self._source = source
        self._process = process
        self._queue: asyncio.Queue[Notice] = asyncio.Queue(most)
        self.has_lost = False

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing waits."""
        return self._queue.empty()

    def is_for(self, notification: Any) -> bool:
        """Tell whether a notification is one of these."""
        told = notification.pduSource, notification.subscriberProcessIdentifier
        return told == (self._source, self._process)

    def put(self, notification: Any) -> bool:
        """Keep a notification; tells whether there was room."""
        try:
            self._queue.put_nowait(notice_of(notification))
        except asyncio.QueueFull:
            self.has_lost = True
            return False
        return True

    async def next(self, wait_s: float) -> Notice | None:
        """Take the oldest; None if none comes in time."""
        try:
            async with asyncio.timeout(max(0.0, wait_s)):
                return await self._queue.get()
        except TimeoutError:
            return None


class NoticingApplication(NormalApplication):  # type: ignore[misc]  # an untyped class
    """A client application that also hears notices."""

    notices: Notices | None = None

    async def do_ConfirmedCOVNotificationRequest(  # noqa: N802 - bacpypes3 finds it by its name
        self, apdu: ConfirmedCOVNotificationRequest
    ) -> None:
        """Acknowledge what is kept; what nobody asked for any more is refused."""
        if self.notices is None or not self.notices.is_for(apdu):
            raise ServicesError(errorCode="unknownSubscription")
        if self.notices.put(apdu):
            await self.response(SimpleAckPDU(context=apdu))

    async def do_UnconfirmedCOVNotificationRequest(  # noqa: N802 - as above
        self, apdu: UnconfirmedCOVNotificationRequest
    ) -> None:
        """Keep it if somebody wants it."""
        if self.notices is not None and self.notices.is_for(apdu):
            self.notices.put(apdu)


def notice_of(notification: Any) -> Notice:
    """Read a notification; a value that cannot be read is left out."""
    kind, instance = notification.monitoredObjectIdentifier
    values: dict[str, Any] = {}
    for told in notification.listOfValues or ():
        if told.propertyArrayIndex is None:
            value = _value(kind, told)
            if value is not None:
                values[str(told.propertyIdentifier)] = value
    return Notice(str(kind), int(instance), values)


def _value(kind: Any, told: Any) -> Any:
    try:
        known = get_vendor_info(ASHRAE_VENDOR).get_object_class(kind)
        as_type = known and known.get_property_type(told.propertyIdentifier)
        return told.value.cast_out(as_type) if as_type else None
    except _ODD:
        return None
