"""Values as integers that differ little from one reading to the next, without losing a bit.

A series is stored the shortest way that gives back every bit of all its values: as decimals, as
decimals that went through float32, or as the bits of float32 or float64.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MAX_EXPONENT: Final = 10
_POWERS: Final = np.array([10.0**exponent for exponent in range(16)])
_INVERSES: Final = np.array([float(f"1e-{exponent}") for exponent in range(16)])
_EXPONENTS: Final = np.arange(MAX_EXPONENT + 2)
_NONE: Final = MAX_EXPONENT + 1
_SLICE: Final = 8192
_EXACT: Final = 2.0**53
_SHORT: Final = 2.0**23
_MANY_DECIMALS: Final = 4


# Forms: how an integer m becomes a value; the low four bits of a kind are the decimal exponent k.
# Plain integers, for numpy takes several times longer to compare with an IntEnum.
DIVIDED: Final = 0x00
"""m / 10**k."""
MULTIPLIED: Final = 0x10
"""m * 10**-k, which is what `raw * 0.1` leaves behind."""
SINGLE_DECIMAL: Final = 0x20
"""m / 10**k, rounded to float32."""
SINGLE: Final = 0x30
"""m is the ordered bits of a float32."""
DOUBLE: Final = 0x40
"""m is the ordered bits of a float64."""
FORM_MASK: Final = 0xF0
EXPONENT_MASK: Final = 0x0F
_KNOWN: Final = frozenset(
    form + exponent
    for form in (DIVIDED, MULTIPLIED, SINGLE_DECIMAL)
    for exponent in range(MAX_EXPONENT + 1)
) | {SINGLE, DOUBLE}


def is_known(kinds: NDArray[np.uint8]) -> bool:
    """Tell whether every kind is one that `to_values` reads."""
    return _KNOWN.issuperset(kinds.tolist())


def choose_kinds(
    values: Floats, owner: NDArray[np.intp], starts: NDArray[np.intp]
) -> NDArray[np.uint8]:
    """Choose for each series the form and exponent that give back all its values to the bit.

    `owner` counts the series of each value from 0, and `starts` tells where each begins; values
    are finite or infinite, not NaN.
    """
    with np.errstate(all="ignore"):
        exponents = _exponents(values, owner, starts, DIVIDED)
        kinds = np.where(exponents < _NONE, exponents, DOUBLE)
        many = exponents > _MANY_DECIMALS
        if many.any():
            single = _are_single(values, owner, many)
            _improve(kinds, np.flatnonzero(single), (values, owner, starts), SINGLE_DECIMAL)
            double = kinds == DOUBLE
            _improve(kinds, np.flatnonzero(double), (values, owner, starts), MULTIPLIED)
    return kinds.astype(np.uint8)


def _are_single(
    values: Floats, owner: NDArray[np.intp], asked: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Tell which of the series asked for are exact in float32."""
    single = asked.copy()
    single[owner[values.astype(np.float32) != values]] = False
    return single


def _improve(
    kinds: NDArray[np.intp],
    series: NDArray[np.intp],
    rows: tuple[Floats, NDArray[np.intp], NDArray[np.intp]],
    form: int,
) -> None:
    """Give some series another decimal form, where it fits."""
    if not len(series):
        return
    values, owner, starts = rows
    asked = np.zeros(len(kinds), bool)
    asked[series] = True
    is_asked = asked[owner]
    among = np.cumsum(asked) - 1
    at = np.cumsum(is_asked) - 1
    exponents = _exponents(values[is_asked], among[owner[is_asked]], at[starts[series]], form)
    plain = SINGLE if form == SINGLE_DECIMAL else DOUBLE
    kinds[series] = np.where(exponents < _NONE, form + exponents, plain)


def _exponents(
    values: Floats, owner: NDArray[np.intp], starts: NDArray[np.intp], form: int
) -> NDArray[np.intp]:
    """Find an exponent that fits all values of each series: guess by one, check all, repeat."""
    found = _smallest(values[starts], form)
    while True:
        misfits = np.flatnonzero(~_fits(values, found[owner], form) & (found < _NONE)[owner])
        if not len(misfits):
            return found
        whose = owner[misfits]
        is_first = np.ones(len(misfits), bool)
        is_first[1:] = whose[1:] != whose[:-1]
        series = whose[is_first]
        smallest = _smallest(values[misfits[is_first]], form)
        found[series] = np.maximum(found[series] + 1, smallest)


def _smallest(values: Floats, form: int) -> NDArray[np.intp]:
    """Find the smallest exponent that fits each value alone."""
    found = np.full(len(values), _NONE)
    for start in range(0, len(values), _SLICE):
        part = slice(start, start + _SLICE)
        fits = _fits(values[part, None], _EXPONENTS, form)
        fits[:, _NONE] = True
        found[part] = fits.argmax(axis=1)
    return found


def _fits(values: Floats, exponents: NDArray[np.intp], form: int) -> NDArray[np.bool_]:
    whole = np.rint(values * _POWERS[exponents]) + 0.0  # an integer has no -0
    back = _from_decimal(whole, exponents, form)
    limit = _SHORT if form == SINGLE_DECIMAL else _EXACT
    fits: NDArray[np.bool_] = (back.view(np.int64) == values.view(np.int64)) & (
        np.abs(whole) < limit
    )
    return fits


def _from_decimal(whole: Floats, exponents: NDArray[np.integer], form: int) -> Floats:
    if form == MULTIPLIED:
        multiplied: Floats = whole * _INVERSES[exponents]
        return multiplied
    divided: Floats = whole / _POWERS[exponents]
    return divided.astype(np.float32).astype(np.float64) if form == SINGLE_DECIMAL else divided


def to_integers(values: Floats, kinds: NDArray[np.uint8]) -> Integers:
    """Turn values into integers, each by its own kind."""
    with np.errstate(all="ignore"):
        integers: Integers = np.rint(values * _POWERS[kinds & EXPONENT_MASK]).astype(np.int64)
        forms = kinds & FORM_MASK
        if (forms >= SINGLE).any():
            double = forms == DOUBLE
            integers[double] = _ordered(values[double].view(np.int64), 63)
            single = forms == SINGLE
            bits = values[single].astype(np.float32).view(np.int32)
            integers[single] = _ordered(bits.astype(np.int64), 31)
    return integers


def to_values(integers: Integers, kinds: NDArray[np.uint8], lengths: NDArray[np.intp]) -> Floats:
    """Turn integers back into values: `lengths` of them after another are of one kind each.

    Every NaN is the quiet one without payload.
    """
    forms = set((kinds & FORM_MASK).tolist())
    exponents = np.repeat((kinds & EXPONENT_MASK).astype(np.intp), lengths)
    with np.errstate(all="ignore"):
        if len(forms) == 1:
            return _of_form(integers, exponents, forms.pop())
        values = np.empty(len(integers), np.float64)
        form_of = np.repeat(kinds & FORM_MASK, lengths)
        for form in forms:
            rows = np.flatnonzero(form_of == form)
            values[rows] = _of_form(integers[rows], exponents[rows], form)
    return values


def _of_form(integers: Integers, exponents: NDArray[np.intp], form: int) -> Floats:
    if form == DOUBLE:
        return _without_payload(_ordered(integers, 63).view(np.float64))
    if form == SINGLE:
        singles = _ordered(integers, 31).astype(np.int32).view(np.float32)
        return _without_payload(singles.astype(np.float64))
    return _from_decimal(integers.astype(np.float64), exponents, form)


def _without_payload(values: Floats) -> Floats:
    values[np.isnan(values)] = np.nan
    return values


def _ordered(bits: Integers, sign: int) -> Integers:
    """Turn signed float bits into integers in the order of the floats, and back."""
    ordered: Integers = bits ^ ((bits >> sign) & ((1 << sign) - 1))
    return ordered
