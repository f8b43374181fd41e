"""The words of the domain that gateway and central share: points, point sets, kinds, lanes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import msgpack
import numpy as np
from numpy.typing import NDArray

KEY_PATTERN: Final = r"^[A-Za-z0-9_\-.:~]+(/[A-Za-z0-9_\-.:~]+)*$"
SLUG_PATTERN: Final = r"^[a-z][a-z0-9_]{0,39}$"
KEY_LENGTH: Final = 200


class PointType(StrEnum):
    """What a point's readings carry."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXT = "text"


class PointClass(StrEnum):
    """How much a point matters when the outbox is full: low goes first, alert never."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    ALERT = "alert"


class Kind(StrEnum):
    """What a batch holds; a batch holds one kind."""

    READINGS = "readings"
    ROLLUPS = "rollups"
    EVENTS = "events"


class Lane(StrEnum):
    """The way a whole batch takes in central, by the age of its readings."""

    LIVE = "live"
    BACKFILL = "backfill"


@dataclass(frozen=True, slots=True)
class Point:
    """A point as a gateway knows it; `key` is unique in its project."""

    key: str
    unit: str = ""
    type: PointType = PointType.NUMBER
    klass: PointClass = PointClass.NORMAL


@dataclass(frozen=True)
class PointSet:
    """The ordered points a batch speaks of, known by its content hash: series i is `points[i]`."""

    points: tuple[Point, ...]

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 over the canonical msgpack of `rows()`; 32 bytes."""
        packed: bytes = msgpack.packb(self.rows(), use_bin_type=True)
        return hashlib.sha256(packed).digest()

    def rows(self) -> tuple[tuple[str, str, str, str], ...]:
        """List the points as `[key, unit, type, class]`, the form that is hashed and sent."""
        return tuple(
            (point.key, point.unit, point.type.value, point.klass.value) for point in self.points
        )

    def places(self, other: "PointSet") -> NDArray[np.int32]:
        """Tell which series each point of another set is here, by key; -1 where it is none."""
        at_by_key = {point.key: at for at, point in enumerate(self.points)}
        return np.array([at_by_key.get(one.key, -1) for one in other.points], np.int32)

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[str]]) -> "PointSet":
        """Make a point set from `rows()`; raises ValueError on an unknown type or class."""
        return cls(
            tuple(
                Point(key, unit, PointType(kind), PointClass(klass))
                for key, unit, kind, klass in rows
            )
        )
