"""What is published."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to publish."""

    topic: str
    payload: bytes
    is_retained: bool = False
