"""What the gateway knows of each point beyond its pending batches: the last reading.

It is what makes a restart exact: a repeated reading is recognised, time goes on strictly upwards,
and the hole between the last committed answer and the next one can be declared.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack
import numpy as np
import zstandard
from numpy.typing import NDArray

from edge.tokens import Tokens
from shared.columns import Columns
from shared.model import PointSet
from shared.quality import GATEWAY_MADE, REASON_MASK
from shared.rollups import Rollups

Times = NDArray[np.int64]


@dataclass(slots=True)
class Tail:
    """The last reading of each series of a point set, as columns.

    `known_since` is when the gateway first knew of the point; `last_at` the last committed reading
    that the device itself gave, 0 where there was none. UTC in microseconds. What the gateway says
    of a silent device is no answer and leaves no trace here.
    """

    point_set: PointSet
    known_since: Times
    last_at: Times
    last_value: NDArray[np.float64]
    last_quality: NDArray[np.uint16]
    last_text: dict[int, str] = field(default_factory=dict)
    tokens: dict[str, Tokens] = field(default_factory=dict)

    @classmethod
    def fresh(cls, point_set: PointSet, now_us: int) -> "Tail":
        """Make the tail of points that were never read, known since now."""
        count = len(point_set.points)
        return cls(
            point_set,
            np.full(count, now_us, np.int64),
            np.zeros(count, np.int64),
            np.full(count, np.nan),
            np.zeros(count, np.uint16),
        )

    def hole_from(self) -> Times:
        """Tell, per series, the moment after which nothing is known yet."""
        return np.where(self.last_at > 0, self.last_at, self.known_since)

    def move_known(self, before_us: int, by_us: int) -> None:
        """Correct since when points are known where a clock that was not set has stamped it."""
        self.known_since[self.known_since < before_us] += by_us

    def restart(self, series: Sequence[int]) -> None:
        """Forget the last times of series whose clock was ahead and has been set right."""
        self.last_at[list(series)] = 0

    def absorb(self, columns: Columns) -> None:
        """Take committed readings in; within a series they must be in ascending time."""
        answers = np.flatnonzero(answered(columns.quality))
        if len(answers) < len(columns):
            columns = columns.take(answers)
        if not len(columns):
            return
        _keep_latest(self.last_at, columns.series, columns.observed_at)
        newest = columns.observed_at == self.last_at[columns.series]
        rows = np.flatnonzero(newest)
        series = columns.series[rows]
        self.last_value[series] = columns.value[rows]
        self.last_quality[series] = columns.quality[rows]
        for row in rows.tolist() if columns.texts or self.last_text else ():
            at = int(columns.series[row])
            self.last_text.pop(at, None)
            if row in columns.texts:
                self.last_text[at] = columns.texts[row]

    def absorb_rollups(self, rollups: Rollups) -> None:
        """Take committed rollups in: up to its last good reading nothing of a point is missing."""
        good = rollups[rollups["good_count"] > 0]
        _keep_latest(self.last_at, good["series"], good["last_at"])

    def copy(self) -> "Tail":
        """Make a tail that can be changed and thrown away without touching this one."""
        arrays: dict[str, Any] = {name: getattr(self, name).copy() for name in _ARRAYS}
        tokens = {name: known.copy() for name, known in self.tokens.items()}
        return replace(self, **arrays, last_text=dict(self.last_text), tokens=tokens)

    def remember(self, device: str, tokens: Sequence[bytes], at_us: int, kept: int) -> None:
        """Keep the tokens of deliveries committed at `at_us` (monotonic), at most `kept`."""
        self.tokens.setdefault(device, Tokens()).add(tokens, at_us, kept)

    def renew_tokens(self, at_us: int) -> None:
        """Count the age of all tokens from `at_us` (monotonic): the gateway has started."""
        for known in self.tokens.values():
            known.renew(at_us)

    def moved_to(self, point_set: PointSet, now_us: int) -> "Tail":
        """Carry what is known over to another point set, by key; new points are known since now."""
        if point_set == self.point_set:
            return self
        moved = Tail.fresh(point_set, now_us)
        moved.tokens = self.tokens
        at_by_key = {point.key: at for at, point in enumerate(self.point_set.points)}
        pairs = [
            (new, at_by_key[point.key])
            for new, point in enumerate(point_set.points)
            if point.key in at_by_key
        ]
        if pairs:
            new, old = (np.array(side) for side in zip(*pairs, strict=True))
            for name in _ARRAYS:
                getattr(moved, name)[new] = getattr(self, name)[old]
            moved.last_text = {n: self.last_text[o] for n, o in pairs if o in self.last_text}
        return moved

    def pack(self, more: Mapping[str, Any]) -> bytes:
        """Write the tail, and what else the outbox wants to find again, compressed."""
        document = {
            **more,
            "point_set": self.point_set.rows(),
            "texts": self.last_text,
            "tokens": {name: known.pack() for name, known in self.tokens.items()},
            **{name: getattr(self, name).tobytes() for name in _ARRAYS},
        }
        packed: bytes = msgpack.packb(document, use_bin_type=True)
        body: bytes = zstandard.ZstdCompressor(level=1).compress(packed)
        return zlib.crc32(body).to_bytes(4, "big") + body

    @classmethod
    def unpack(cls, body: bytes) -> tuple["Tail", dict[str, Any]]:
        """Read what `pack` wrote: the tail and the rest. Raises ValueError on damage."""
        if zlib.crc32(body[4:]).to_bytes(4, "big") != body[:4]:
            msg = "damaged tail: wrong checksum"
            raise ValueError(msg)
        try:
            packed = zstandard.ZstdDecompressor().decompress(body[4:], max_output_size=2**28)
            document = msgpack.unpackb(packed, raw=False, strict_map_key=False)
            arrays: dict[str, Any] = {
                name: np.frombuffer(document.pop(name), dtype).copy()
                for name, dtype in _ARRAYS.items()
            }
            point_set = PointSet.from_rows(document.pop("point_set"))
            texts, tokens = document.pop("texts"), document.pop("tokens")
        except (zstandard.ZstdError, KeyError, TypeError, msgpack.UnpackException) as error:
            raise ValueError(f"damaged tail: {error}") from error
        tail = cls(point_set, **arrays)
        tail.last_text = {int(at): str(text) for at, text in texts.items()}
        tail.tokens = {name: Tokens.unpack(known) for name, known in tokens.items()}
        return tail, document


_ARRAYS = {
    "known_since": np.int64,
    "last_at": np.int64,
    "last_value": np.float64,
    "last_quality": np.uint16,
}


def answered(quality: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Tell which readings the device made itself."""
    return ~np.isin(quality & REASON_MASK, GATEWAY_MADE)


def _keep_latest(latest: Times, series: NDArray[np.int32], at: Times) -> None:
    np.maximum.at(latest, series, at)
