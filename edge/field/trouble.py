"""What is behind an error on the way to a device, and what to try: for people, with a stable code.

The code is for machines and for looking up; the texts may change.
"""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from shared.errors import OptionsWrong, Refused
from shared.quality import Reason


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happened, what is likely behind it, what to try."""

    code: str
    text: str
    cause: str
    remedy: str


_CAUSES: Final[Mapping[str, tuple[str, str]]] = {
    "name_unknown": (
        "the name is misspelt, or no DNS server that the gateway asks knows it",
        "write the IP address instead, or correct the name",
    ),
    "not_on_own_network": (
        "the device is in another network, or the gateway's own address is in the wrong one",
        "compare address and network mask of both; a router must lead from one to the other",
    ),
    "unreachable": (
        "the device is off, has another address, lost its cable, or a firewall is in between",
        "look at its power and link lights; read its address on its display or in its manual",
    ),
    "port_closed": (
        "a machine is at this address, but nobody there listens at this port",
        "check the port; see whether the protocol is switched on in the device",
    ),
    "session_lost": (
        (
            "the connection is taken and then cut: the device speaks another protocol there, or"
            " serves one client alone and has one already"
        ),
        "check protocol and port; end other programs that are connected to the device",
    ),
    "session_refused": (
        (
            "the device answers and says no: it does not trust us yet, the login is wrong, or it"
            " has no session left"
        ),
        (
            "trust the gateway's certificate in the device, correct user and password, or end other"
            " sessions there"
        ),
    ),
    "options_wrong": (
        "what is set for the device cannot work",
        "correct the option that the text names",
    ),
    "identity_silent": (
        (
            "nothing with this unit or instance answers at the address, or it does not know the"
            " question"
        ),
        "check the unit id or instance; test with one point to see whether readings come",
    ),
    "identity_refused": (
        "the device answers, but does not tell this client who it is",
        "nothing, if its readings come; else correct user and password",
    ),
    "read_lost": (
        "the connection was cut, or an answer did not come in time, while points were read",
        "test again with fewer points; raise timeout_s for a slow device",
    ),
    "read_refused": (
        "the device lets this client connect, but not read",
        "give the user of the gateway the right to read",
    ),
    "no_point_readable": (
        "the addresses of the points do not fit this device",
        (
            "check one point by hand: browse the device, or read its number in every way (decode"
            " matrix)"
        ),
    ),
    "too_slow": (
        "the device, or the network before it, takes longer than a test waits",
        "test again; if it stays, look whether somebody else keeps the device busy",
    ),
    "driver_defect": (
        "this is a defect of the driver, not of the device",
        "report it with the text above; other devices are not affected",
    ),
}


def trouble(code: str, text: str) -> Trouble:
    """Give a trouble by its code."""
    cause, remedy = _CAUSES[code]
    return Trouble(code, text, cause, remedy)


def unreached(error: BaseException, *, is_own: bool | None) -> Trouble:
    """Explain why nobody answers at an address; `is_own`: it is on a network of the gateway."""
    causes = list(_chain(error))
    if any(isinstance(one, socket.gaierror) for one in causes):
        return trouble("name_unknown", str(error))
    if isinstance(error, OptionsWrong):
        return trouble("options_wrong", str(error))
    if any(isinstance(one, ConnectionRefusedError) for one in causes):
        return trouble("port_closed", str(error))
    return trouble("not_on_own_network" if is_own is False else "unreachable", str(error))


def refused_or_lost(step: str, error: Exception) -> Trouble:
    """Explain an error of a driver at a later step: `session`, `identity` or `read`."""
    if isinstance(error, OptionsWrong):
        return trouble("options_wrong", str(error))
    if isinstance(error, Refused):
        return trouble(f"{step}_refused", str(error))
    return trouble("identity_silent" if step == "identity" else f"{step}_lost", str(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__


REASONS: Final[Mapping[Reason, str]] = {
    Reason.WRONG_ADDRESS: "the device has nothing at this address: check it in the manual; many"
    " count from 1",
    Reason.DEVICE_EXCEPTION: "the device could not answer this: it may be busy, or not know the"
    " table or type",
    Reason.NOT_IMPLEMENTED: "the device says that it does not have this value",
    Reason.ACCESS_DENIED: "the device does not let this client read it: check its rights",
    Reason.NOT_A_NUMBER: "what came is no number: check type and byte order",
    Reason.OUT_OF_RANGE: "the device says that the value is out of range: check the sensor",
    Reason.SENSOR_FAILURE: "the device says that its sensor failed: check wiring and sensor",
    Reason.BAD_PAYLOAD: "what came could not be understood: check path and type",
    Reason.SHORT_ANSWER: "the device answered less than was asked for: ask for fewer at once",
    Reason.TIMEOUT: "the device did not answer in time",
    Reason.NOT_YET_REPORTED: "the device has not told this value yet: wait for its next report",
}
"""What to try where a point that was read is bad."""
