"""How the local API writes times and configuration changes."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from shared.clock import to_datetime

Moment = Annotated[datetime, Field(description="UTC, ISO 8601.")]


def moment(at_us: int) -> datetime:
    """Give a stored time as one that is written as ISO 8601."""
    return to_datetime(at_us)
