"""What goes wrong while talking to a server, as errors of ours that say which side must do what.

Of asyncua only its exceptions are known here; see `session`.
"""

import struct
from collections.abc import Iterable
from typing import Final

from asyncua import ua
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from protocols.opcua.options import OpcuaDevice
from protocols.opcua.trust import Identity, Presented
from shared.errors import DriverError, LinkLost, Refused

# What asyncua lets through when a server answers what it does not expect (a bare AttributeError
# where a login policy is missing, ConnectionError where it hangs up); each means: talking failed.
LIBRARY_FAULTS: Final = (
    OSError, TimeoutError, UaError, struct.error,
    AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError,
)  # fmt: skip

_LOGIN: Final = frozenset(
    {
        "BadIdentityTokenInvalid", "BadIdentityTokenRejected", "BadUserAccessDenied",
        "BadUserSignatureInvalid",
    }
)  # fmt: skip
_REFUSALS: Final = _LOGIN | {
    "BadSecurityModeInsufficient", "BadSecurityModeRejected", "BadSecurityPolicyRejected",
    "BadTcpNotEnoughResources", "BadTooManySessions", "BadTooManySubscriptions",
}  # fmt: skip
_TRUST: Final = frozenset(
    {"BadSecurityChecksFailed", "BadApplicationSignatureInvalid", "BadNonceInvalid"}
)
TOO_MUCH_AT_ONCE: Final = frozenset(
    {
        "BadTooManyOperations", "BadEncodingLimitsExceeded", "BadResponseTooLarge",
        "BadRequestTooLarge", "BadTcpMessageTooLarge", "BadEncodingError", "BadDecodingError",
        "BadInternalError", "BadUnexpectedError", "BadNodeIdInvalid", "BadNodeIdUnknown",
        "BadUserAccessDenied", "BadTooManyMonitoredItems", "BadOutOfMemory",
    }
)  # fmt: skip
UNSURE: Final = frozenset(
    {
        "BadTimeout", "BadUnexpectedError", "BadInternalError", "BadCommunicationError",
        "BadResponseTooLarge", "BadEncodingLimitsExceeded", "BadSecureChannelClosed",
        "BadSecureChannelIdInvalid", "BadSessionClosed", "BadSessionIdInvalid",
        "BadSessionNotActivated", "BadConnectionClosed", "BadServerHalted", "BadShutdown",
        "BadRequestTimeout", "BadOutOfMemory",
    }
)  # fmt: skip
"""Statuses of a request after which nobody can say what became of it, or that end the link."""
_SIGN_INS: Final = {
    ua.UserTokenType.Anonymous: "nobody (anonymous)",
    ua.UserTokenType.UserName: "user and password",
    ua.UserTokenType.Certificate: "user certificate",
    ua.UserTokenType.IssuedToken: "issued token",
}


class TooMuchAtOnce(DriverError):
    """The server refuses a request as a whole: ask for less at once. `status` is its code."""

    def __init__(self, status: int) -> None:
        """Keep the status code."""
        self.status = status
        super().__init__(status_name(status))


class TooManyRequests(DriverError):
    """The server keeps fewer publish requests than were sent, or this one expired there."""


class ServiceRefused(Refused):
    """The server answers a request as a whole with a status: nothing of it was done."""

    def __init__(self, where: str, status: int) -> None:
        """Keep the status code."""
        self.status = status
        super().__init__(f"{where}: the server answers {status_name(status)}")


def status_name(status: int) -> str:
    """Name a status code as the specification does."""
    name: str = ua.StatusCode(ua.UInt32(status & 0xFFFF0000)).name
    return name


def sign_in_name(kind: ua.UserTokenType) -> str:
    """Name a way to sign in for people."""
    return _SIGN_INS.get(kind, str(kind))


def sign_in_names(kinds: Iterable[ua.UserTokenType]) -> str:
    """Name ways to sign in for people."""
    return ", ".join(dict.fromkeys(sign_in_name(kind) for kind in kinds)) or "none"


def explain(error: BaseException, options: OpcuaDevice, identity: Identity | None) -> DriverError:
    """Say what an error means and, where a side must be put right, which."""
    where = options.url
    if isinstance(error, UaStatusCodeError):
        return _status(error.code, options, identity)
    if isinstance(error, TimeoutError):
        return LinkLost(f"{where}: no answer within {options.timeout_s:g} s")
    if isinstance(error, OSError):
        return LinkLost(f"{where}: {error or type(error).__name__}")
    return LinkLost(f"{where}: answers what is not OPC UA ({type(error).__name__}: {error})")


def explain_channel(
    error: BaseException, options: OpcuaDevice, identity: Identity | None
) -> DriverError:
    """Say why a secured channel was not opened; many servers only hang up or say nothing."""
    told = explain(error, options, identity)
    if identity is None or isinstance(told, Refused):
        return told
    return LinkLost(
        f"{told}, when a channel with {options.security}, {options.security_mode} was asked for: "
        f"the server serves no such channel, or does not trust the gateway; {_accept(identity)}"
    )


def _status(code: int, options: OpcuaDevice, identity: Identity | None) -> DriverError:
    name = status_name(code)
    if identity is not None and (name in _TRUST or name.startswith("BadCertificate")):
        return Refused(f"{options.url}: the server refuses ({name}): {_accept(identity)}")
    if name in _LOGIN:
        return Refused(f"{options.url}: the server refuses to sign in {_who(options)} ({name})")
    if name in _REFUSALS or name in _TRUST or name.startswith("BadCertificate"):
        return Refused(f"{options.url}: the server refuses ({name}); allow this gateway there")
    return LinkLost(f"{options.url}: the server answers {name}")


def _accept(identity: Identity) -> str:
    mine = Presented(identity.certificate)
    return f"trust this gateway's certificate at the server: {mine}"


def _who(options: OpcuaDevice) -> str:
    if options.user is not None:
        return f"user {options.user!r}: look at user and password"
    if options.user_identity is not None:
        return "the user of user_identity: trust that certificate at the server"
    return "without a user: set user and password"
