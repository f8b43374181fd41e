"""OPC UA status codes as quality: the class is kept, the code becomes a reason.

Source: OPC UA Part 4, 7.38 (StatusCode) and Part 8, 6.3 (data access codes).
"""

from typing import Final

from shared.quality import Flag, QualityClass, Reason, quality

_GOOD_LOCAL_OVERRIDE: Final = 0x0096
_OVERFLOW: Final = 0x0480  # info type DataValue (bits 10-11 = 01) and its overflow bit (7)

REASONS: Final[dict[int, Reason]] = {
    0x408F: Reason.STALE,  # UncertainNoCommunicationLastUsableValue
    0x4090: Reason.STALE,  # UncertainLastUsableValue
    0x4091: Reason.SUBSTITUTED,  # UncertainSubstituteValue
    0x4092: Reason.NOT_YET_REPORTED,  # UncertainInitialValue
    0x4093: Reason.SENSOR_FAILURE,  # UncertainSensorNotAccurate
    0x4094: Reason.OUT_OF_RANGE,  # UncertainEngineeringUnitsExceeded
    0x8001: Reason.DEVICE_EXCEPTION,  # BadUnexpectedError
    0x8002: Reason.DEVICE_EXCEPTION,  # BadInternalError
    0x8004: Reason.DEVICE_EXCEPTION,  # BadResourceUnavailable
    0x8005: Reason.LINK_DOWN,  # BadCommunicationError
    0x8007: Reason.BAD_PAYLOAD,  # BadDecodingError
    0x800A: Reason.TIMEOUT,  # BadTimeout
    0x800D: Reason.LINK_DOWN,  # BadServerNotConnected
    0x801F: Reason.ACCESS_DENIED,  # BadUserAccessDenied
    0x8031: Reason.LINK_DOWN,  # BadNoCommunication
    0x8032: Reason.NOT_YET_REPORTED,  # BadWaitingForInitialData
    0x8033: Reason.WRONG_ADDRESS,  # BadNodeIdInvalid
    0x8034: Reason.WRONG_ADDRESS,  # BadNodeIdUnknown
    0x8035: Reason.WRONG_ADDRESS,  # BadAttributeIdInvalid
    0x8036: Reason.WRONG_ADDRESS,  # BadIndexRangeInvalid
    0x803A: Reason.ACCESS_DENIED,  # BadNotReadable
    0x803C: Reason.OUT_OF_RANGE,  # BadOutOfRange
    0x803D: Reason.NOT_IMPLEMENTED,  # BadNotSupported
    0x803E: Reason.WRONG_ADDRESS,  # BadNotFound
    0x8040: Reason.NOT_IMPLEMENTED,  # BadNotImplemented
    0x808A: Reason.LINK_DOWN,  # BadNotConnected
    0x808B: Reason.DEVICE_EXCEPTION,  # BadDeviceFailure
    0x808C: Reason.SENSOR_FAILURE,  # BadSensorFailure
    0x808D: Reason.NOT_IMPLEMENTED,  # BadOutOfService
}


def quality_of(status: int) -> int:
    """Map a status code (32 bits) to a quality; codes without a reason of ours become `OTHER`."""
    klass = QualityClass(min(status >> 30, QualityClass.BAD))
    code = status >> 16 & 0xFFFF
    if klass is QualityClass.GOOD:
        return quality(klass, flags=Flag.FORCED if code == _GOOD_LOCAL_OVERRIDE else 0)
    return quality(klass, REASONS.get(code, Reason.OTHER))


def has_overflowed(status: int) -> bool:
    """Tell whether the server lost older values of this point because its queue was full."""
    return status & _OVERFLOW == _OVERFLOW
