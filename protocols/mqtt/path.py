"""Paths into a JSON document, as `params.temperature:0.tC`, `values[2]` or `["a.b"].c`."""

import re
from enum import Enum
from typing import Any, Final

Step = str | int
_STEP: Final = re.compile(r"""([^.\[\]"]+)|\[(\d{1,9})\]|\["([^"]+)"\]""")
_PLAIN: Final = re.compile(r"""[^.\[\]"]+""")


class Missing(Enum):
    """What a document can lack."""

    ABSENT = "absent"
    """Its objects and lists go a part of the way: it tells nothing of this point."""
    MISFIT = "misfit"
    """It has a plain value where the path goes on: it is not the document meant."""


def parse(path: str) -> tuple[Step, ...]:
    """Read a path; an empty one is the whole document. Raises ValueError."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        if steps and path[at] == ".":
            at += 1
        elif steps and path[at] != "[":
            at = -1
        found = _STEP.match(path, at) if at >= 0 else None
        if found is None:
            msg = f'{path!r} is no path; write a.b[0].c, or a["x.y"] for a name with a dot'
            raise ValueError(msg)
        name, index, quoted = found.groups()
        steps.append(int(index) if index is not None else name or quoted)
        at = found.end()
    return tuple(steps)


def written(steps: tuple[Step, ...]) -> str:
    """Write a path, so that `parse` reads it; no step may hold a quotation mark."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


def follow(document: Any, steps: tuple[Step, ...]) -> Any:
    """Give the value at a path, or which way it is `Missing`. A null ends the way: it is null."""
    for step in steps:
        if document is None:
            return None
        if isinstance(step, str) and isinstance(document, dict):
            if step not in document:
                return Missing.ABSENT
            document = document[step]
        elif isinstance(step, int) and isinstance(document, list):
            if step >= len(document):
                return Missing.ABSENT
            document = document[step]
        else:
            return Missing.MISFIT
    return document
