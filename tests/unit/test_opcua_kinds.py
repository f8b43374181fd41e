"""What fits each built-in type, and what is refused before it is sent."""

import math
from datetime import UTC, datetime
from uuid import UUID

import pytest

from protocols.opcua.kinds import INTEGERS, NAMES, ValueUnfit, fitted
from protocols.opcua.services import variant_of


@pytest.mark.parametrize("kind", INTEGERS)
def test_an_integer_fits_from_its_least_to_its_largest(kind: int) -> None:
    low, high = INTEGERS[kind]
    assert fitted(kind, str(low)) == low
    assert fitted(kind, str(high)) == high
    for value in (str(low - 1), str(high + 1), 0.5, math.nan, math.inf, "x", ""):
        with pytest.raises(ValueUnfit, match=NAMES[kind]):
            fitted(kind, value)


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (1, 1.0, True),
        (1, 0, False),
        (10, 0.5, 0.5),
        (11, 1e300, 1e300),
        (12, "x", "x"),
        (13, "2024-02-29T12:00:00Z", datetime(2024, 2, 29, 12, tzinfo=UTC)),
        (13, "2024-02-29T12:00:00+02:00", datetime(2024, 2, 29, 10, tzinfo=UTC)),
        (13, 0.5, datetime(1970, 1, 1, 0, 0, 0, 500_000, UTC)),
        (14, str(UUID(int=7)), UUID(int=7)),
        (15, "aGk=", b"hi"),
        (16, "<a/>", "<a/>"),
        (17, "ns=2;s=x", "ns=2;s=x"),
        (19, "0x80340000", 0x8034_0000),
        (19, 5.0, 5),
        (20, "2:q", "2:q"),
        (21, "warm", "warm"),
    ],
)
def test_a_value_that_fits_is_made_what_the_type_holds(
    kind: int, value: float | str, made: object
) -> None:
    assert fitted(kind, value) == made
    assert variant_of(kind, made, is_element=False).VariantType == kind
    assert variant_of(kind, made, is_element=True).is_array


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (1, 2.0),
        (1, "true"),
        (10, 1e39),
        (10, math.nan),
        (11, math.inf),
        (11, "1.5"),
        (12, 1.0),
        (13, "yesterday"),
        (13, 1e30),
        (14, "no-guid"),
        (15, "***"),
        (19, "0xzz"),
        (19, 2.0**32),
        (22, "x"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(kind: int, value: float | str) -> None:
    with pytest.raises(ValueUnfit):
        fitted(kind, value)
