"""Stage `wire`: bytes and CPU of a sealed batch against JSON and zstd of the same batch."""

import json
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np
import zstandard

from bench.inputs import BATCH_READINGS, Input, inputs
from bench.stage import Round, StageResult, interleave, typical
from shared.batch import decode, encode
from shared.columns import Columns

LEVEL: Final = 3


@dataclass(frozen=True, slots=True)
class Compared:
    """Both sides on one input."""

    name: str
    readings: int
    bytes_per_reading: float
    baseline_bytes_per_reading: float
    ours: Round
    baseline: Round
    decoding: Round

    @property
    def ratio(self) -> float:
        """Ours / baseline, in bytes."""
        return self.bytes_per_reading / self.baseline_bytes_per_reading


def run(rounds: int, quick: bool) -> StageResult:
    """Compare on three inputs; the ratio is the worst of them, all other figures medians."""
    compared = [_compare(one, rounds) for one in inputs(batches=2 if quick else 20)]
    return StageResult(
        stage="wire",
        metric="bytes_per_reading",
        ratio=max(one.ratio for one in compared),
        better="lower",
        rate=median(one.ours.rate for one in compared),
        baseline_rate=median(one.baseline.rate for one in compared),
        cpu_us_per_1000=median(one.ours.cpu_us_per_1000 for one in compared),
        bytes_per_reading=median(one.bytes_per_reading for one in compared),
        rounds=rounds,
        ours={
            "format": "docs/reference/batch.md",
            "zstd_level": LEVEL,
            "batch_readings": f">= {BATCH_READINGS}",
            "inputs": {one.name: _figures(one) for one in compared},
        },
        baseline={
            "format": "JSON array of {key, observed_at, value, quality}, zstd of the whole batch",
            "zstd_level": LEVEL,
            "serializer": "json of the standard library, no blanks",
            "bytes_per_reading": _short(median(one.baseline_bytes_per_reading for one in compared)),
            "cpu_us_per_1000": _short(median(one.baseline.cpu_us_per_1000 for one in compared)),
        },
    )


def _compare(given: Input, rounds: int) -> Compared:
    sealed = [encode(batch, LEVEL) for batch in given.batches]
    for batch, body in zip(given.batches, sealed, strict=True):
        _check(batch, body)
    plain = [baseline(batch, given.keys) for batch in given.batches]
    ours, theirs = interleave(
        lambda: Round.of(lambda: [encode(batch, LEVEL) for batch in given.batches], given.readings),
        lambda: Round.of(
            lambda: [baseline(batch, given.keys) for batch in given.batches], given.readings
        ),
        rounds,
    )
    decoding = [
        Round.of(lambda: [decode(body) for body in sealed], given.readings) for _ in range(rounds)
    ]
    return Compared(
        name=given.name,
        readings=given.readings,
        bytes_per_reading=sum(map(len, sealed)) / given.readings,
        baseline_bytes_per_reading=sum(map(len, plain)) / given.readings,
        ours=typical(ours),
        baseline=typical(theirs),
        decoding=typical(decoding),
    )


def baseline(batch: Columns, keys: tuple[str, ...]) -> bytes:
    """Write a batch as most do: a JSON object a reading, compressed together."""
    rows = zip(
        batch.series.tolist(),
        batch.observed_at.tolist(),
        batch.value.tolist(),
        batch.quality.tolist(),
        strict=True,
    )
    objects = [
        {"key": keys[series], "observed_at": at, "value": value, "quality": quality}
        for series, at, value, quality in rows
    ]
    text = json.dumps(objects, separators=(",", ":"))
    return zstandard.ZstdCompressor(level=LEVEL).compress(text.encode())


def _check(batch: Columns, body: bytes) -> None:
    """A format that loses something may not be compared."""
    ordered = batch.take(np.lexsort((batch.observed_at, batch.series)))
    back = decode(body)
    for name in ("series", "observed_at", "value", "quality"):
        column, again = getattr(ordered, name), getattr(back, name)
        assert column.tobytes() == again.tobytes(), f"{name} came back otherwise"


def _figures(one: Compared) -> dict[str, object]:
    return {
        "readings": one.readings,
        "bytes_per_reading": _short(one.bytes_per_reading),
        "baseline_bytes_per_reading": _short(one.baseline_bytes_per_reading),
        "ratio": _short(one.ratio),
        "encode_us_per_1000": _short(one.ours.cpu_us_per_1000),
        "decode_us_per_1000": _short(one.decoding.cpu_us_per_1000),
        "baseline_us_per_1000": _short(one.baseline.cpu_us_per_1000),
    }


def _short(figure: float) -> float:
    return float(f"{figure:.4g}")
