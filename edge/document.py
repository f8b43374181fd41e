"""The configuration document as plain JSON: its canonical form, its hash, what is wrong with it.

Two documents are the same revision if their canonical bytes are the same.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from edge.settings import Device, Document, devices_of, problems_of
from shared.errors import OptionsWrong
from shared.settings import Problem

MAX_BYTES: Final = 8 * 1024 * 1024
"""The most that a document may take, canonically written."""

PARTS: Final = ("policies", "devices")
"""What of `gateway.yaml` is the document; the rest belongs to one machine."""

EMPTY: Final[Mapping[str, Any]] = {"devices": []}


class NotJson(ValueError):
    """What was given cannot be written as JSON."""


def part_of(file: Mapping[str, Any]) -> dict[str, Any] | None:
    """Take the document out of what `gateway.yaml` holds; None if it holds none.

    Raises `NotJson`.
    """
    found = {name: file[name] for name in PARTS if name in file}
    return plain(found) if found else None


def plain(document: Any) -> dict[str, Any]:
    """Turn a document into plain maps, lists, texts and numbers of its own. Raises `NotJson`."""
    made = json.loads(canonical(document))
    if not isinstance(made, dict):
        raise NotJson("a document is a map")
    return made


def canonical(document: Any) -> bytes:
    """Write JSON in its one form: sorted keys, no spaces, UTF-8. Raises `NotJson`."""
    try:
        text = json.dumps(
            document, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":")
        )
        data = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(f"cannot be written as JSON: {error}") from error
    if len(data) > MAX_BYTES:
        raise NotJson(f"takes {len(data)} bytes; at most {MAX_BYTES} are kept")
    return data


def hash_of(document: Any) -> bytes:
    """Tell the SHA-256 of the canonical bytes. Raises `NotJson`."""
    return hashlib.sha256(canonical(document)).digest()


def problems_in(document: Any) -> list[Problem]:
    """Find everything that is wrong, also what only the drivers' plans see. Never raises."""
    try:
        document = plain(document)
    except NotJson as error:
        return [Problem((), str(error))]
    found = problems_of(document)
    return found or list(_plan_problems(devices_of(Document.model_validate(document))))


def devices_in(
    document: Any, known: Sequence[Problem] = ()
) -> tuple[tuple[Device, ...], list[Problem]]:
    """Make the devices of a stored document; those that are wrong by now are left out and told.

    `known` are problems that were found before.
    """
    problems = [*known, *problems_of(document)]
    bad = {one.place[1] for one in problems if len(one.place) > 1 and one.place[0] == "devices"}
    if problems and not bad:
        return (), problems
    good = [one for at, one in enumerate(document.get("devices", ())) if at not in bad]
    rest = {**document, "devices": good}
    if bad and problems_of(rest):
        return (), problems
    return devices_of(Document.model_validate(rest)), problems


def _plan_problems(devices: tuple[Device, ...]) -> Iterator[Problem]:
    """Have each driver plan its points: building a driver and planning do no I/O."""
    for at, device in enumerate(devices):
        try:
            device.driver.make(device.options).plan(device.points)
        except OptionsWrong as error:
            yield Problem(("devices", at), str(error))
