"""The gateway's own clock: whether the kernel holds it synchronised, and which boot it is."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Final

from shared.clock import Clock
from shared.link import ClockState

_ERROR: Final = 5
"""TIME_ERROR of adjtimex(2): the clock is not synchronised."""


class _Timex(ctypes.Structure):
    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 512))


def is_synchronised() -> bool:
    """Ask the kernel whether a time service keeps the clock; False where it cannot be asked."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except AttributeError:
        return False
    state: int = adjtimex(ctypes.byref(_Timex()))
    return 0 <= state < _ERROR


@cache
def boot_id() -> str:
    """Tell which boot of the machine this is; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def clock_state(clock: Clock, *, trusted: bool) -> ClockState:
    """Describe the clock for `hello`."""
    return ClockState(
        utc_us=clock.now_us(), synchronised=trusted or is_synchronised(), boot_id=boot_id()
    )
