"""Texts in registers: two characters each, the rest filled up with NUL or spaces."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.modbus.options import Order
from shared.quality import Reason, bad

NOT_IMPLEMENTED = bad(Reason.NOT_IMPLEMENTED)


@dataclass(frozen=True, slots=True, eq=False)
class TextPlace:
    """A text: its row in the plan, and where its bytes lie in the image, in reading order."""

    row: int
    index: NDArray[np.intp]


def text_place(row: int, at: int, registers: int, order: Order) -> TextPlace:
    """Say where a text lies. Only the order of the bytes of a register means something for it."""
    places = np.arange(at, at + 2 * registers)
    if order in {"badc", "dcba"}:
        places = places.reshape(-1, 2)[:, ::-1].ravel()
    return TextPlace(row, places)


def read_texts(
    texts: Iterable[TextPlace], image: NDArray[np.uint8], quality: NDArray[np.uint16]
) -> dict[int, str]:
    """Give the texts by row; one of which every byte is 0 is marked as not implemented."""
    found: dict[int, str] = {}
    for text in texts:
        if quality[text.row]:
            continue
        data = image[text.index].tobytes()
        if not any(data):
            quality[text.row] = NOT_IMPLEMENTED
            continue
        found[text.row] = _decoded(data.split(b"\0", 1)[0]).rstrip(" ")
    return found


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
