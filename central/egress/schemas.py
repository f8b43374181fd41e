"""What the human API says of readings: JSON shapes, and how columns become them."""

import math
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.quality import Flag, class_of, flags_of, reason_of


class QualityOut(BaseModel):
    """How far a reading can be trusted, and why."""

    model_config = ConfigDict(populate_by_name=True)

    klass: Literal["good", "uncertain", "bad"] = Field(alias="class")
    reason: str | None = Field(
        description="Why it is not simply good; null where nothing is wrong."
    )
    flags: list[str] = Field(description="What else is known: clock_unsynchronised, forced, …")


class ReadingOut(BaseModel):
    """One reading; `value` is null where it has none (see quality) or is a text."""

    observed_at: datetime
    value: float | None
    text: str | None = None
    quality: QualityOut


class PointReadingOut(ReadingOut):
    """One reading with the key of its point."""

    key: str
    unit: str
    received_at: datetime | None = None


class GapOut(BaseModel):
    """A declared hole: no good reading of these points lies strictly between `from` and `to`."""

    model_config = ConfigDict(populate_by_name=True)

    id: str
    gateway: str
    cause: str = Field(description="missed (polls not made) or dropped (readings lost).")
    reason: str
    from_: datetime = Field(alias="from")
    to: datetime
    points: list[str] = Field(description="Keys; at most the first 1,000.")
    point_count: int
    count: int | None = Field(description="Readings lost; null where a damaged file hides it.")
    missed: int | None = Field(description="Polls missed; null where unknown.")
    rollups: int = Field(default=0, description="Rollups of the gateway lost.")


def quality_out(quality: int) -> QualityOut:
    """Write a stored quality out."""
    reason = reason_of(quality)
    flags = flags_of(quality)
    return QualityOut.model_validate(
        {
            "class": class_of(quality).name.lower(),
            "reason": reason.name.lower() if reason else None,
            "flags": [flag.name.lower() for flag in Flag if flag in flags and flag.name],
        }
    )


def finite(value: float | None) -> float | None:
    """Give a value that JSON can carry: NaN and the infinities become null."""
    return value if value is not None and math.isfinite(value) else None


def utc(at: datetime) -> datetime:
    """Give a time in UTC."""
    return at.astimezone(UTC)
