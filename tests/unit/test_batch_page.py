"""docs/reference/batch.md is enough: a decoder written from the page alone reads every golden file.

It shares no code with `shared.batch`, uses neither numpy nor its order of work, and goes number by
number.
"""

import json
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from shared.batch import decode, encode
from shared.columns import Columns

GOLDEN = Path(__file__).parents[1] / "data" / "batch"
MODULUS = 2**64
Row = list[Any]


class Page:
    """The payload, read from its start."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.at = 0

    def take(self, size: int) -> bytes:
        self.at += size
        assert self.at <= len(self.payload)
        return self.payload[self.at - size : self.at]

    def column(self, size: int) -> list[int]:
        return self.planes(size, self.take(1)[0]) if size else []

    def planes(self, size: int, width: int) -> list[int]:
        octets = self.take(size * width)
        return [
            sum(octets[plane * size + at] << 8 * plane for plane in range(width))
            for at in range(size)
        ]


def signed(number: int) -> int:
    number %= MODULUS
    return number - MODULUS if number >= MODULUS // 2 else number


def unfold(folded: int) -> int:
    return (folded >> 1) ^ -(folded & 1)


def read(body: bytes) -> list[Row]:
    magic, version, kind, _, count, size, length, crc = struct.unpack_from("<4sBBHIIII", body)
    assert (magic, version, kind, length) == (b"SPNB", 1, 1, len(body) - 24)
    assert crc == zlib.crc32(body[:20] + body[24:])
    payload = zstandard.ZstdDecompressor().decompress(body[24:])
    assert len(payload) == size
    page = Page(payload)
    n_series, n_groups, n_runs, n_texts = struct.unpack("<4I", page.take(16))
    series0, time0, unit = struct.unpack("<iqQ", page.take(20))
    names = [series0]
    for gap in page.column(n_series - 1) if n_series else []:
        names.append(names[-1] + gap + 1)
    groups = read_groups(page.column(n_series))
    lengths = [less_one + 1 for less_one in page.column(n_groups)]
    times = read_times(page, lengths, time0, unit)
    rows: list[Row] = [
        [name, at, None, 0, None]
        for name, group in zip(names, groups, strict=False)
        for at in times[group]
    ]
    assert len(rows) == count
    runs = [less_one + 1 for less_one in page.column(n_runs)]
    states = [
        state for run, state in zip(runs, page.column(n_runs), strict=True) for _ in range(run)
    ]
    for row, state in zip(rows, states, strict=True):
        row[3] = state & 0xFFFF
    fill_values(page, [row for row, state in zip(rows, states, strict=True) if not state & 2**16])
    sizes = page.column(n_texts)
    with_text = [row for row, state in zip(rows, states, strict=True) if state & 2**17]
    for row, bytes_long in zip(with_text, sizes, strict=True):
        row[4] = page.take(bytes_long).decode()
    assert page.at == len(payload)
    return rows


def read_groups(codes: list[int]) -> list[int]:
    groups: list[int] = []
    opened = 0
    for code in codes:
        opened += code == 0
        groups.append(opened - 1 if code == 0 else opened - code)
    return groups


def read_times(page: Page, lengths: list[int], time0: int, unit: int) -> list[list[int]]:
    firsts = page.column(len(lengths))
    steps = iter(page.column(sum(lengths) - len(lengths)))
    times = []
    for first, length in zip(firsts, lengths, strict=True):
        own = [time0 + first * unit]
        for _ in range(length - 1):
            own.append(own[-1] + next(steps) * unit)
        times.append([signed(at) for at in own])
    return times


def fill_values(page: Page, rows: list[Row]) -> None:
    series = list(dict.fromkeys(row[0] for row in rows))
    if not series:
        return
    own = {name: [row for row in rows if row[0] == name] for name in series}
    kinds = dict(zip(series, page.take(len(series)), strict=True))
    widths = dict(zip(series, page.take(len(series)), strict=True))
    integers = {
        name: [unfold(first)] for name, first in zip(series, page.column(len(series)), strict=True)
    }
    for width in range(1, 9):
        among = [name for name in series if widths[name] == width]
        steps = iter(page.planes(sum(len(own[name]) - 1 for name in among), width))
        for name in among:
            for _ in own[name][1:]:
                integers[name].append(signed(integers[name][-1] + unfold(next(steps))))
    for name in series:
        integers[name] += integers[name][:1] * (len(own[name]) - len(integers[name]))
        for row, integer in zip(own[name], integers[name], strict=True):
            row[2] = bits_of(kinds[name], integer)


def bits_of(kind: int, integer: int) -> str:
    form, exponent = kind & 0xF0, kind & 0x0F
    if form == 0x40:
        bits = integer if integer >= 0 else integer ^ 0x7FFF_FFFF_FFFF_FFFF
        return f"{bits % MODULUS:016x}"
    if form == 0x30:
        bits = integer if integer >= 0 else integer ^ 0x7FFF_FFFF
        (value,) = struct.unpack("<f", struct.pack("<I", bits % 2**32))
    elif form == 0x10:
        value = float(integer) * float(f"1e-{exponent}")
    else:
        value = float(Fraction(integer, 10**exponent))  # |m| < 2**53: exactly the division's result
        if form == 0x20:
            (value,) = struct.unpack("<f", struct.pack("<f", value))
    return struct.pack(">d", value).hex()


def ours(columns: Columns) -> list[Row]:
    bits = [f"{number:016x}" for number in columns.value.view(np.uint64).tolist()]
    has_value = (~np.isnan(columns.value)).tolist()
    return [
        [series, at, bits[row] if has_value[row] else None, quality, columns.texts.get(row)]
        for row, (series, at, quality) in enumerate(
            zip(
                columns.series.tolist(),
                columns.observed_at.tolist(),
                columns.quality.tolist(),
                strict=True,
            )
        )
    ]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.batch")), ids=lambda path: path.stem)
def test_the_page_reads_every_golden_body(path: Path) -> None:
    assert read(path.read_bytes()) == json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize("seed", range(20))
def test_the_page_reads_what_encode_writes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 200))
    values = rng.normal(0, 100, count)
    series = rng.integers(0, 12, count)
    rounded = np.round(values, 2)
    values = np.where(series % 3 == 0, rounded, values)
    values = np.where(series % 3 == 1, rounded.astype(np.float32), values)
    values[rng.random(count) < 0.1] = np.nan
    columns = Columns.of(
        series.astype(np.int32),
        1_700_000_000_000_000 + rng.integers(0, 50, count) * 7_919,
        values,
        (rng.random(count) < 0.1).astype(np.uint16) * np.uint16(0x2001),
        {int(row): f"t{row}" for row in rng.integers(0, max(count, 1), 3) if count},
    )
    body = encode(columns)
    assert read(body) == ours(decode(body))
