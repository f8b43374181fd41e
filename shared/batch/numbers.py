"""Values as integers that differ little from one reading to the next, without losing a bit.

A series is stored the shortest way that gives back every bit of all its values: as decimals, as
decimals that went through float32, or as the bits of float32 or float64.
"""

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MAX_EXPONENT: Final = 10
_POWERS: Final = np.array([10.0**exponent for exponent in range(16)])
_INVERSES: Final = np.array([float(f"1e-{exponent}") for exponent in range(16)])
_EXPONENTS: Final = np.arange(MAX_EXPONENT + 1)
_NONE: Final = MAX_EXPONENT + 1
_SLICE: Final = 8192
_EXACT: Final = 2.0**53
_SHORT: Final = 2.0**23
_MANY_DECIMALS: Final = 4


class Form(IntEnum):
    """How an integer m becomes a value; the low four bits are the decimal exponent k."""

    DIVIDED = 0x00
    """m / 10**k."""
    MULTIPLIED = 0x10
    """m * 10**-k, which is what `raw * 0.1` leaves behind."""
    SINGLE_DECIMAL = 0x20
    """m / 10**k, rounded to float32."""
    SINGLE = 0x30
    """m is the ordered bits of a float32."""
    DOUBLE = 0x40
    """m is the ordered bits of a float64."""


FORM_MASK: Final = 0xF0
EXPONENT_MASK: Final = 0x0F


def is_known(kinds: NDArray[np.uint8]) -> bool:
    """Tell whether every kind is one that `to_values` reads."""
    decimal = (kinds < Form.SINGLE) & ((kinds & EXPONENT_MASK) <= MAX_EXPONENT)
    return bool((decimal | (kinds == Form.SINGLE) | (kinds == Form.DOUBLE)).all())


def choose_kinds(values: Floats, owner: NDArray[np.intp], series: int) -> NDArray[np.uint8]:
    """Choose for each series the form and exponent that give back all its values to the bit.

    `owner` names the series of each value, ascending; values are finite or infinite, not NaN.
    """
    with np.errstate(all="ignore"):
        single = np.ones(series, bool)
        single[owner[values.astype(np.float32) != values]] = False
        exponents = _exponents(values, owner, np.ones(series, bool), Form.DIVIDED)
        kinds = np.where(exponents < _NONE, Form.DIVIDED + exponents, Form.DOUBLE)
        short = single & (exponents > _MANY_DECIMALS)
        if short.any():
            exponents = _exponents(values, owner, short, Form.SINGLE_DECIMAL)
            decimal = np.where(exponents < _NONE, Form.SINGLE_DECIMAL + exponents, Form.SINGLE)
            kinds = np.where(short, decimal, kinds)
        rest = kinds == Form.DOUBLE
        if rest.any():
            exponents = _exponents(values, owner, rest, Form.MULTIPLIED)
            decimal = np.where(exponents < _NONE, Form.MULTIPLIED + exponents, Form.DOUBLE)
            kinds = np.where(rest, decimal, kinds)
    return kinds.astype(np.uint8)


def _exponents(
    values: Floats, owner: NDArray[np.intp], asked: NDArray[np.bool_], form: Form
) -> NDArray[np.intp]:
    """Find the smallest exponent that fits all values of each series asked for."""
    found = np.where(asked, 0, _NONE)
    rows = np.flatnonzero(asked[owner])
    while len(rows):
        misfits = rows[~_fits(values[rows], found[owner[rows]], form)]
        if not len(misfits):
            break
        firsts = misfits[np.flatnonzero(np.diff(owner[misfits], prepend=-1))]
        series = owner[firsts]
        found[series] = np.maximum(found[series] + 1, _smallest(values[firsts], form))
        again = np.zeros(len(asked), bool)
        again[series] = found[series] < _NONE
        rows = rows[again[owner[rows]]]
    return found


def _smallest(values: Floats, form: Form) -> NDArray[np.intp]:
    """Find the smallest exponent that fits each value alone."""
    parts = []
    for start in range(0, len(values), _SLICE):
        fits = _fits(values[start : start + _SLICE, None], _EXPONENTS, form)
        parts.append(np.where(fits.any(axis=1), fits.argmax(axis=1), _NONE))
    return np.concatenate(parts)


def _fits(values: Floats, exponents: NDArray[np.intp], form: Form) -> NDArray[np.bool_]:
    whole = np.rint(values * _POWERS[exponents]) + 0.0  # an integer has no -0
    back = _from_decimal(whole, exponents, form)
    limit = _SHORT if form is Form.SINGLE_DECIMAL else _EXACT
    fits: NDArray[np.bool_] = (back.view(np.int64) == values.view(np.int64)) & (
        np.abs(whole) < limit
    )
    return fits


def _from_decimal(whole: Floats, exponents: NDArray[np.integer], form: Form) -> Floats:
    if form is Form.MULTIPLIED:
        multiplied: Floats = whole * _INVERSES[exponents]
        return multiplied
    divided: Floats = whole / _POWERS[exponents]
    return divided.astype(np.float32).astype(np.float64) if form is Form.SINGLE_DECIMAL else divided


def to_integers(values: Floats, kinds: NDArray[np.uint8]) -> Integers:
    """Turn values into integers, each by its own kind."""
    with np.errstate(all="ignore"):
        integers: Integers = np.rint(values * _POWERS[kinds & EXPONENT_MASK]).astype(np.int64)
        forms = kinds & FORM_MASK
        if (forms >= Form.SINGLE).any():
            double = forms == Form.DOUBLE
            integers[double] = _ordered(values[double].view(np.int64), 63)
            single = forms == Form.SINGLE
            bits = values[single].astype(np.float32).view(np.int32)
            integers[single] = _ordered(bits.astype(np.int64), 31)
    return integers


def to_values(integers: Integers, kinds: NDArray[np.uint8]) -> Floats:
    """Turn integers back into values, each by its own kind."""
    values = np.empty(len(integers), np.float64)
    forms = kinds & FORM_MASK
    with np.errstate(all="ignore"):
        for form in Form:
            rows = np.flatnonzero(forms == form)
            if len(rows):
                exponents = (kinds[rows] & EXPONENT_MASK).astype(np.intp)
                values[rows] = _of_form(integers[rows], exponents, form)
    return values


def _of_form(integers: Integers, exponents: NDArray[np.intp], form: Form) -> Floats:
    if form is Form.DOUBLE:
        doubles: Floats = _ordered(integers, 63).view(np.float64)
        return doubles
    if form is Form.SINGLE:
        singles = _ordered(integers, 31).astype(np.int32).view(np.float32)
        return singles.astype(np.float64)
    return _from_decimal(integers.astype(np.float64), exponents, form)


def _ordered(bits: Integers, sign: int) -> Integers:
    """Turn signed float bits into integers in the order of the floats, and back."""
    ordered: Integers = bits ^ ((bits >> sign) & ((1 << sign) - 1))
    return ordered
