"""OPC UA status codes as quality."""

import re
from pathlib import Path

import pytest
from asyncua.ua.status_codes import StatusCodes
from hypothesis import given
from hypothesis import strategies as st

from protocols.opcua import status
from protocols.opcua.status import REASONS, has_overflowed, quality_of
from shared.quality import Flag, QualityClass, Reason, class_of, flags_of, reason_of


def test_every_code_is_the_one_its_comment_names() -> None:
    source = Path(status.__file__).read_text()
    named = re.findall(r"0x([0-9A-F]{4}): Reason\.\w+,  # (\w+)", source)
    assert len(named) == len(REASONS)
    for code, name in named:
        assert getattr(StatusCodes, name) == int(code, 16) << 16, name


@given(code=st.integers(0, 2**32 - 1))
def test_the_class_is_kept(code: int) -> None:
    assert class_of(quality_of(code)) == min(code >> 30, QualityClass.BAD)


@given(code=st.integers(0, 2**32 - 1))
def test_only_what_is_not_good_has_a_reason(code: int) -> None:
    mapped = quality_of(code)
    assert (reason_of(mapped) is Reason.NONE) == (class_of(mapped) is QualityClass.GOOD)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (StatusCodes.BadNodeIdUnknown, Reason.WRONG_ADDRESS),
        (StatusCodes.BadUserAccessDenied, Reason.ACCESS_DENIED),
        (StatusCodes.BadNoCommunication, Reason.LINK_DOWN),
        (StatusCodes.UncertainSubstituteValue, Reason.SUBSTITUTED),
        (StatusCodes.BadTypeMismatch, Reason.OTHER),
    ],
)
def test_a_code_has_its_reason_whatever_its_info_bits(code: int, reason: Reason) -> None:
    assert reason_of(quality_of(code)) is reason
    assert reason_of(quality_of(code | 0x0480)) is reason


def test_a_local_override_is_good_and_forced() -> None:
    mapped = quality_of(StatusCodes.GoodLocalOverride)
    assert class_of(mapped) is QualityClass.GOOD
    assert flags_of(mapped) == Flag.FORCED


def test_overflow_needs_the_info_type_and_the_bit() -> None:
    assert has_overflowed(0x0480)
    assert not has_overflowed(0x0080)
    assert not has_overflowed(0x0400)
