"""Topic filters with wildcards: what they cover, and which of them could have been subscribed.

MQTT 5, section 4.7: `+` is one level, `#` all levels from there on; neither covers topics whose
first level begins with `$`.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Final

_MAX_LEVELS: Final = 8


def problem_of(text: str) -> str | None:
    """Say why a text is no topic filter; None if it is one."""
    levels = text.split("/")
    if not text or "\0" in text:
        return "must not be empty"
    if any(sign in level and level != sign for level in levels for sign in "+#"):
        return "+ and # each stand for whole levels, as in building/+/temperature"
    return "# comes last: it stands for all levels from there on" if "#" in levels[:-1] else None


def covers(wanted: str, topic: str) -> bool:
    """Tell whether a filter covers a topic."""
    if topic.startswith("$") and wanted[0] in "+#":
        return False
    levels, parts = wanted.split("/"), topic.split("/")
    if levels[-1] == "#":
        levels.pop()
        parts = parts[: len(levels)]
    return len(levels) == len(parts) and all(
        level in {"+", part} for level, part in zip(levels, parts, strict=True)
    )


def uncovered(topics: Iterable[str], filters: Sequence[str]) -> list[str]:
    """Leave out the topics that filters cover."""
    return [topic for topic in topics if not any(covers(one, topic) for one in filters)]


def generalised(topic: str) -> list[str]:
    """List the filters that cover a topic, itself among them; only # below beyond 8 levels."""
    levels = topic.split("/")
    prefixes = [levels[:count] for count in range(len(levels))]
    if len(levels) > _MAX_LEVELS:
        return [topic, *("/".join([*prefix, "#"]) for prefix in prefixes)]
    found = ["/".join(one) for one in _variants(levels)]
    return found + ["/".join([*one, "#"]) for prefix in prefixes for one in _variants(prefix)]


def _variants(levels: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return product(*((level, "+") for level in levels))
