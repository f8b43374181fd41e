"""Readings as the local API writes them."""

import math

from pydantic import BaseModel, Field

from edge.api.words import Moment, moment
from edge.field.shown import words_of
from edge.live import LiveValue


class ReadingTold(BaseModel):
    """The last reading of a point: a value, or why there is none."""

    value: float | str | None
    quality: int = Field(description="Class, flags and reason as one integer.")
    quality_text: str = Field(description="The same in words: `good`, `bad: link down`.")
    observed_at: Moment


def reading(value: LiveValue) -> ReadingTold:
    """Tell of a live value."""
    number = value.value if math.isfinite(value.value) else None
    return ReadingTold(
        value=value.text if value.text is not None else number,
        quality=value.quality,
        quality_text=words_of(value.quality),
        observed_at=moment(value.observed_at),
    )
