"""Whether the devices are there, as their last wills tell: which points are offline. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from protocols.mqtt.codec import document_in, plain
from protocols.mqtt.options import Availability
from protocols.mqtt.path import Step, follow, parse


@dataclass(frozen=True, slots=True)
class Will:
    """What one availability topic tells of points."""

    steps: tuple[Step, ...]
    online: str
    offline: str
    series: tuple[int, ...]

    @classmethod
    def of(cls, options: Availability, series: Sequence[int]) -> "Will":
        """Make it of an installer's options."""
        return cls(parse(options.path), options.online, options.offline, tuple(series))


class Presence:
    """Which points belong to devices that said they are away."""

    def __init__(self) -> None:
        """Begin with everybody there."""
        self._away: set[int] = set()

    @property
    def is_everybody_there(self) -> bool:
        """Tell whether no point is away."""
        return not self._away

    def hear(self, will: Will, payload: bytes) -> Sequence[int]:
        """Take what an availability topic says; tells which points are away from now on."""
        word = _word(will, payload)
        if word == will.online:
            self._away.difference_update(will.series)
        if word != will.offline:
            return ()
        self._away.update(will.series)
        return will.series

    def is_believed(self, series: int, *, is_retained: bool) -> bool:
        """Tell whether a value counts: who sends one is there, but a kept one proves nothing."""
        if is_retained:
            return series not in self._away
        self._away.discard(series)
        return True


def _word(will: Will, payload: bytes) -> str | None:
    found: Any = follow(document_in(payload), will.steps) if will.steps else plain(payload)
    if isinstance(found, bool | int | float):
        return json.dumps(found)
    return found if isinstance(found, str) else None
