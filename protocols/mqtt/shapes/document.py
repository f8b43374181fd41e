"""JSON documents of devices: every value in one, named by its path.

Paths are those of `protocols.mqtt.path`: `a.b[0]`, `["name.with.dot"]`.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from protocols.mqtt.shapes.shape import Scalar

MAX_DEPTH: Final = 12
MAX_LEAVES: Final = 4_000
"""What lies deeper or comes later in a document is not looked at."""


def read(payload: bytes) -> Any:
    """Read a document; None if it is none."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None


def leaves(document: Any, prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    """Give each value with its path, in order; an empty object or list has none."""
    left = MAX_LEAVES
    for found in _walk(document, prefix, MAX_DEPTH):
        yield found
        left -= 1
        if not left:
            return


def path_of(prefix: str, name: str) -> str:
    """Name a member of the object at `prefix`; empty where no path can."""
    if '"' in name or not name:
        return ""
    if any(sign in name for sign in ".[]"):
        return f'{prefix}["{name}"]'
    return f"{prefix}.{name}" if prefix else name


def _walk(found: Any, path: str, depth: int) -> Iterator[tuple[str, Scalar]]:
    if isinstance(found, dict | list):
        if not depth:
            return
        for name, part in found.items() if isinstance(found, dict) else enumerate(found):
            below = f"{path}[{name}]" if isinstance(name, int) else path_of(path, name)
            if below:
                yield from _walk(part, below, depth - 1)
    elif path:
        yield path, found
