import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.quality import (
    GOOD,
    Flag,
    QualityClass,
    Reason,
    bad,
    class_of,
    flags_of,
    quality,
    reason_of,
    uncertain,
)

FLAGS = st.integers(0, 15).map(lambda bits: bits << 8)


@given(st.sampled_from(QualityClass), st.sampled_from(Reason), FLAGS)
def test_class_reason_and_flags_come_back(klass: QualityClass, reason: Reason, flags: int) -> None:
    composed = quality(klass, reason, flags)
    assert (class_of(composed), reason_of(composed), flags_of(composed)) == (klass, reason, flags)
    assert 0 <= composed < 2**15


@given(st.integers(0, 65_535))
def test_any_stored_number_can_be_told(stored: int) -> None:
    assert class_of(stored) in QualityClass
    assert reason_of(stored) in Reason
    assert flags_of(stored) == stored & 0x0F00


def test_good_is_zero() -> None:
    assert quality(QualityClass.GOOD) == GOOD == 0


def test_the_layout_is_the_one_documented() -> None:
    assert bad(Reason.TIMEOUT, Flag.FORCED) == 0x2407
    assert uncertain(Reason.STALE) == 0x1005


def test_a_class_of_a_later_version_counts_as_bad() -> None:
    assert class_of(0x3000) is QualityClass.BAD


def test_a_reason_of_a_later_version_is_other() -> None:
    assert reason_of(0x20FF) is Reason.OTHER


@pytest.mark.parametrize(
    ("reason", "number"), [(Reason.LINK_DOWN, 1), (Reason.NOT_A_NUMBER, 6), (Reason.OTHER, 16)]
)
def test_reasons_keep_their_stored_numbers(reason: Reason, number: int) -> None:
    assert reason == number
