"""The published definitions of SunSpec models: one JSON file each, of the package pysunspec2.

Only the file of the model that is asked for is read, and nothing of the package is imported.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

Group = Mapping[str, Any]
"""A group of a definition: `name`, `points`, `groups`, `count`."""

MAX_MODEL: Final = 65_535


def definition(model: int) -> Group | None:
    """Give the top group of a model; None for one that is not published."""
    folder = _folder()
    if folder is None or not 0 < model < MAX_MODEL:
        return None
    try:
        text = (folder / f"model_{model}.json").read_text("utf-8")
    except FileNotFoundError:
        return None
    group: Group = json.loads(text)["group"]
    return group


@cache
def _folder() -> Path | None:
    found = find_spec("sunspec2")
    places = found.submodule_search_locations if found is not None else None
    return Path(places[0]) / "models" / "json" if places else None
