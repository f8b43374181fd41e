"""Notices of a BACnet device: what bacpypes3 can read of them becomes readings."""

import math
from typing import Any

from bacpypes3.apdu import APDU, UnconfirmedCOVNotificationRequest
from bacpypes3.errors import AbortException, DecodingError, RejectException
from bacpypes3.pdu import PDU

from protocols.bacnet import codec
from protocols.bacnet.changes import PRESENT_VALUE
from protocols.bacnet.notices import notice_of
from shared.model import PointType
from shared.quality import QualityClass, class_of

SERVICE = bytes.fromhex("1002")
"""An unconfirmed notification of a change: all input is what follows."""
HEAD = bytes.fromhex("09011c020003e92c00000001391e4e")
REAL = bytes.fromhex("09552e44428200002f")
FLAGS = bytes.fromhex("096f2e8204002f")
SEEDS = (
    HEAD + REAL + FLAGS + b"\x4f",
    bytes.fromhex("09011c020003e92c01400001391e4e09552e91012f4f"),
    bytes.fromhex("09011c020003e92c0a000001391e4e09552e75080068656174696e672f") + FLAGS + b"\x4f",
    HEAD + FLAGS + b"\x4f",
)
UNREADABLE = (
    AbortException,
    AttributeError,
    DecodingError,
    IndexError,
    RejectException,
    RuntimeError,
    TypeError,
    ValueError,
)
"""The stack drops a notification of which it raises one of these, before it is ours."""


def one(data: bytes) -> None:
    try:
        notification: Any = UnconfirmedCOVNotificationRequest.decode(
            APDU.decode(PDU(SERVICE + data))
        )
        assert notification.monitoredObjectIdentifier is not None
    except (*UNREADABLE, AssertionError):
        return
    notice = notice_of(notification)
    for kind in PointType:
        value, flags = notice.values.get(PRESENT_VALUE), notice.values.get("status-flags")
        number, text, quality = codec.reading(value, flags, kind)
        is_bad = class_of(quality) is QualityClass.BAD
        assert is_bad == (math.isnan(number) and text is None)
