"""Who a device says it is: read device identification.

Source: "MODBUS Application Protocol Specification" V1.1b3, 6.21 (function 43, MEI type 14).
"""

from collections.abc import Mapping
from typing import Final

FUNCTION: Final = 43
MEI_TYPE: Final = 14
REGULAR: Final = 2
BASIC: Final = 1

MAX_ANSWERS: Final = 8
"""A device that always has more to tell is not listened to for ever."""

_HEAD_BYTES: Final = 7
_NAMES: Final = {0: "vendor", 1: "code", 2: "version", 4: "name", 5: "model"}


class NotTold(Exception):
    """The device does not tell who it is, or not in a way that can be read."""


def request_pdu(level: int, first: int) -> bytes:
    """Ask for the objects of a level, from object `first` on."""
    return bytes((FUNCTION, MEI_TYPE, level, first))


def read_answer(answer: bytes) -> tuple[dict[str, str], int | None]:
    """Read the known objects of an answer, and which to ask for next; raises `NotTold`."""
    if len(answer) < _HEAD_BYTES or answer[:2] != bytes((FUNCTION, MEI_TYPE)):
        raise NotTold
    more, following, count = answer[4], answer[5], answer[6]
    found: dict[str, str] = {}
    at = _HEAD_BYTES
    for _ in range(count):
        if at + 2 > len(answer) or at + 2 + answer[at + 1] > len(answer):
            raise NotTold
        number, size = answer[at], answer[at + 1]
        text = answer[at + 2 : at + 2 + size].decode("latin-1").strip("\0 ")
        if number in _NAMES and text.isprintable() and text:
            found[_NAMES[number]] = text
        at += 2 + size
    return found, following if more == 0xFF else None


def answer_bytes(answer: bytes | bytearray | memoryview) -> int | None:
    """Tell how long an answer is that may not be complete; None while that is not known."""
    if len(answer) < _HEAD_BYTES:
        return None
    at = _HEAD_BYTES
    for _ in range(answer[6]):
        if at + 2 > len(answer):
            return None
        at += 2 + answer[at + 1]
    return at


def identity(objects: Mapping[str, str]) -> dict[str, str]:
    """Give what was told under the contract's keys: a product code stands in for a model."""
    told = dict(objects)
    code = told.pop("code", "")
    model = told.get("model") or told.get("name") or code
    return told | ({"model": model} if model else {})
