"""Holding readings back until the clock is set: what time they were read at is known only then.

A machine without a clock that runs on starts in 1970, or where it stopped. What is read before its
first synchronisation is kept on disk unsealed, with the time since the boot, which does not jump.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgpack
import numpy as np

from edge.answers import Answer, Brought, Silence
from edge.clockstate import boot_id, is_synchronised
from edge.holes import GapReason
from shared.batch import decode, encode
from shared.clock import MICROSECONDS, Clock
from shared.columns import Columns
from shared.quality import Flag, Reason

BUILT_US: Final = 1_767_225_600 * MICROSECONDS
"""2026-01-01: a clock that is behind it is wrong."""

LONGEST_S: Final = 86_400.0
"""A clock that is certainly wrong is waited for so long after the boot."""

NEAR_US: Final = 60 * MICROSECONDS
"""A time so near to the gateway's own was stamped by it; any other one is the device's."""

STEP_US: Final = MICROSECONDS
"""By less than this no time is corrected."""


@dataclass(frozen=True, slots=True)
class Held:
    """A row of the file: what one commit held back, in the boot that did; ids rise."""

    id: int
    boot: str
    real_us: int
    readings: int
    body: bytes


@dataclass(slots=True)
class Hold:
    """Whether this boot's clock is yet to be set.

    It is awaited for `wait_s` after the boot, and for a day where it tells a time before
    `newest_us`, which certainly has been. Once it is awaited no more, that is for good.
    """

    clock: Clock
    wait_s: float
    newest_us: int = BUILT_US
    is_synchronised: Callable[[], bool] = is_synchronised
    _is_over: bool = False

    def __post_init__(self) -> None:
        self.newest_us = max(self.newest_us, BUILT_US)
        self._is_over = self.wait_s <= 0

    def is_on(self) -> bool:
        """Ask the kernel, until it says that the clock is synchronised or it took too long."""
        if not self._is_over:
            is_possible = self.clock.now_us() >= self.newest_us
            wait_s = self.wait_s if is_possible else max(self.wait_s, LONGEST_S)
            self._is_over = self.is_synchronised() or self.clock.monotonic_s() >= wait_s
        return not self._is_over

    def stamp(self) -> Brought:
        """Tell the time by the clock that is not set, and that since the boot."""
        return Brought(self.clock.now_us(), int(self.clock.monotonic_s() * MICROSECONDS))


def pack(items: Sequence[Answer | Silence], boot: str) -> Held:
    """Write items for the file; they have been stamped. The file gives the id."""
    body: bytes = msgpack.packb([_row(one) for one in items], use_bin_type=True)
    readings = sum(len(one.columns) for one in items if isinstance(one, Answer))
    stamps = [one.brought.real_us for one in items if one.brought is not None]
    return Held(0, boot, max(stamps), readings, zlib.crc32(body).to_bytes(4, "big") + body)


def held_of(row: tuple[Any, ...]) -> Held | None:
    """Read a row of the file; None where its values or bytes are not those that were written."""
    if [type(value) for value in row] != [int, str, int, int, bytes]:
        return None
    held = Held(*row)
    is_sound = zlib.crc32(held.body[4:]).to_bytes(4, "big") == held.body[:4]
    return held if is_sound else None


def tokens_in(held: Held) -> list[tuple[str, list[bytes], int]]:
    """List the tokens of deliveries that were held back: device, tokens, how many are kept."""
    rows = msgpack.unpackb(held.body[4:], raw=False)
    return [(row["device"], row["tokens"], row["kept"]) for row in rows if "tokens" in row]


def released(
    rows: Sequence[Held], latest: Mapping[str, int], clock: Clock, newest_us: int
) -> tuple[list[Answer | Silence], int]:
    """Read what was held back, each time corrected as far as is known now.

    Of this boot it is known exactly. Of an earlier one whose clock was certainly wrong, only that
    it ended before this one began: its last reading, at `latest`, is put there and the others
    before it, flagged. Also tells by how much this boot's clock was set, 0 where it was right.
    """
    boot_us = int(clock.monotonic_s() * MICROSECONDS)
    began_us = clock.now_us() - boot_us
    items: list[Answer | Silence] = []
    moved_us = 0
    for held in rows:
        for row in msgpack.unpackb(held.body[4:], raw=False):
            stamp = Brought(*row["brought"])
            if held.boot and held.boot == boot_id():
                offset_us, flags = began_us + stamp.boot_us - stamp.real_us, Flag(0)
                moved_us = offset_us if abs(offset_us) >= STEP_US else moved_us
            else:
                is_wrong = latest[held.boot] < newest_us
                offset_us = began_us - latest[held.boot] if is_wrong else 0
                flags = Flag.CLOCK_UNSYNCHRONISED
            items.append(_item(row, stamp, offset_us if abs(offset_us) >= STEP_US else 0, flags))
    return items, moved_us


def _row(item: Answer | Silence) -> dict[str, Any]:
    stamp = item.brought or Brought(0, 0)
    brought = [stamp.real_us, stamp.boot_us]
    if isinstance(item, Answer):
        return {
            "device": item.device,
            "columns": encode(item.columns, level=1),
            "tokens": list(item.tokens),
            "kept": item.tokens_kept,
            "brought": brought,
        }
    return {
        "device": item.device,
        "series": item.series.astype("<i4").tobytes(),
        "reason": item.reason.value,
        "missed": item.missed,
        "told": None if item.told is None else int(item.told),
        "at_us": item.at_us,
        "brought": brought,
    }


def _item(row: Mapping[str, Any], stamp: Brought, offset_us: int, flags: Flag) -> Answer | Silence:
    if "columns" in row:
        columns = _corrected(decode(row["columns"]), stamp, offset_us, flags)
        return Answer(row["device"], columns, tuple(row["tokens"]), row["kept"])
    return Silence(
        row["device"],
        np.frombuffer(row["series"], "<i4").astype(np.int32),
        GapReason(row["reason"]),
        row["missed"],
        None if row["told"] is None else Reason(row["told"]),
        row["at_us"] + offset_us,
    )


def _corrected(columns: Columns, stamp: Brought, offset_us: int, flags: Flag) -> Columns:
    is_ours = np.abs(columns.observed_at - stamp.real_us) <= NEAR_US
    more = int(flags) | (int(Flag.TIME_ADJUSTED) if offset_us else 0)
    return replace(
        columns,
        observed_at=np.where(is_ours, columns.observed_at + offset_us, columns.observed_at),
        quality=np.where(is_ours, columns.quality | np.uint16(more), columns.quality),
    )
