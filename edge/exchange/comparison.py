"""The dry run: what importing rows would do to the document, point by point, before it is done."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from edge.exchange.rows import Row
from edge.settings import PointSection
from protocols import registry
from shared.errors import OptionsWrong


@dataclass(frozen=True, slots=True)
class Invalid:
    """A row that cannot be taken, and every reason."""

    line: int
    key: str
    reasons: tuple[str, ...]


@dataclass(slots=True)
class Comparison:
    """Keys by what an import would do to them; each row is in exactly one of the first four.

    `gone` are points of the devices in the file that the file does not name. `before` is the
    document that was compared, `taken` the valid rows by device and key.
    """

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    invalid: list[Invalid] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    taken: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def document(self, *, remove_gone: bool = False) -> dict[str, Any]:
        """Make the document as it would be: valid rows taken over, the others as they are.

        What a row does not speak of (policies, limits of commands) stays as it was.
        """
        made = deepcopy(self.before)
        gone = frozenset(self.gone) if remove_gone else frozenset()
        for device in made["devices"]:
            rows = dict(self.taken.get(device["name"], {}))
            kept = [
                {**point, **rows.pop(point["key"], {})}
                for point in device["points"]
                if point["key"] not in gone
            ]
            device["points"] = [*kept, *rows.values()]
        return made


def compare(document: Mapping[str, Any], rows: Iterable[Row]) -> Comparison:
    """Hold rows against the document; nothing is changed and nothing is dropped unseen."""
    result = Comparison(before=deepcopy(dict(document)))
    devices = {device["name"]: device for device in document["devices"]}
    owners = {point["key"]: name for name, device in devices.items() for point in device["points"]}
    seen: dict[str, int] = {}
    for row in rows:
        reasons = _reasons(row, devices, owners, seen)
        key = str(row.point.get("key", ""))
        seen.setdefault(key, row.line)
        if reasons:
            result.invalid.append(Invalid(row.line, key, tuple(reasons)))
        else:
            _take(result, row, key, devices[row.device], known=key in owners)
    named = {row.key for row in result.invalid}
    for name, taken in result.taken.items():
        left = (point["key"] for point in devices[name]["points"] if point["key"] not in taken)
        result.gone += [key for key in left if key not in named]
    return result


def _take(
    result: Comparison, row: Row, key: str, device: Mapping[str, Any], *, known: bool
) -> None:
    result.taken.setdefault(row.device, {})[key] = dict(row.point)
    if not known:
        result.new.append(key)
        return
    before = next(point for point in device["points"] if point["key"] == key)
    is_same = _meaning(device, {**before, **row.point}) == _meaning(device, before)
    (result.same if is_same else result.changed).append(key)


def _meaning(device: Mapping[str, Any], point: Mapping[str, Any]) -> tuple[BaseModel, Any]:
    """Give a point as it is understood: a default that is spelled out changes nothing."""
    model = registry.find(device["driver"]).point_options
    section = PointSection.model_validate(point)
    return section.model_copy(update={"source": {}}), model.model_validate(section.source)


def _reasons(
    row: Row,
    devices: Mapping[str, Mapping[str, Any]],
    owners: Mapping[str, str],
    seen: Mapping[str, int],
) -> list[str]:
    key = str(row.point.get("key", ""))
    if key and key in seen:
        return [f"{key} is in line {seen[key]} already"]
    device = devices.get(row.device)
    if device is None:
        named = f"there is no device {row.device!r}" if row.device else "no device is named"
        return [f"{named}: add it first, or choose one for the whole file"]
    owner = owners.get(key)
    if owner not in {None, row.device}:
        return [f"{key} is a point of device {owner}: a key is unique"]
    return [*_problems(PointSection, row.point, ""), *_options_problems(device, row.point)]


def _options_problems(device: Mapping[str, Any], point: Mapping[str, Any]) -> Sequence[str]:
    try:
        model = registry.find(device["driver"]).point_options
    except OptionsWrong as error:
        return [str(error)]
    return _problems(model, point["source"], "source.")


def _problems(model: type[BaseModel], value: Any, prefix: str) -> list[str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        return [
            f"{prefix}{'.'.join(map(str, one['loc']))}: {one['msg']}".removeprefix(": ")
            for one in error.errors(include_input=False, include_url=False)
        ]
    return []
