"""Where secrets stand in a document: the fields that a driver's options declare as `SecretStr`."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from protocols import registry
from shared.errors import OptionsWrong

Place = tuple[str | int, ...]
Change = Callable[[Any, Place], Any]
"""Gives what shall stand at the place of a secret instead of what does."""

REFERENCE: Final = "secret"
MASK: Final = "***"


def reference_of(value: Any) -> str | None:
    """Read `{"secret": "name"}`; None if this is something else."""
    if isinstance(value, dict) and set(value) == {REFERENCE}:
        name = value[REFERENCE]
        return name if isinstance(name, str) else None
    return None


def masked(model: type[BaseModel], value: Any) -> Any:
    """Put a mask where a secret is only referred to, so that the rest can be validated."""
    return changed(model, value, lambda one, _: one if reference_of(one) is None else MASK)


def in_document(document: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """Copy a document with what stands at the places of secrets changed."""
    devices = document.get("devices")
    if not isinstance(devices, list | tuple):
        return dict(document)
    return {
        **document,
        "devices": [_device(one, change, ("devices", at)) for at, one in enumerate(devices)],
    }


def _device(device: Any, change: Change, place: Place) -> Any:
    if not isinstance(device, dict) or not isinstance(device.get("driver"), str):
        return device
    try:
        driver = registry.find(device["driver"])
    except OptionsWrong:
        return device
    made = dict(device)
    if "options" in made:
        made["options"] = changed(
            driver.device_options, made["options"], change, (*place, "options")
        )
    points = made.get("points")
    if is_hiding(driver.point_options) and isinstance(points, list | tuple):
        made["points"] = [
            _point(one, driver.point_options, change, (*place, "points", at))
            for at, one in enumerate(points)
        ]
    return made


def _point(point: Any, model: type[BaseModel], change: Change, place: Place) -> Any:
    if not isinstance(point, dict) or "source" not in point:
        return point
    source = changed(model, point["source"], change, (*place, "source"))
    return {**point, "source": source}


def changed(model: type[BaseModel], value: Any, change: Change, place: Place = ()) -> Any:
    """Copy the options of a model with its secrets changed; anything else stays as it is."""
    if not isinstance(value, dict) or not is_hiding(model):
        return value
    made = dict(value)
    for name, field in model.model_fields.items():
        for key in {name, field.alias or name} & set(value):
            made[key] = _field(field, value[key], change, (*place, key))
    return made


def _field(field: FieldInfo, value: Any, change: Change, place: Place) -> Any:
    kinds = tuple(_kinds(field.annotation))
    if value is not None and any(issubclass(one, SecretStr | SecretBytes) for one in kinds):
        return change(value, place)
    for model in (one for one in kinds if issubclass(one, BaseModel)):
        if isinstance(value, list | tuple):
            value = [changed(model, one, change, (*place, at)) for at, one in enumerate(value)]
        else:
            value = changed(model, value, change, place)
    return value


@cache
def is_hiding(model: type[BaseModel]) -> bool:
    """Tell whether options of this model can hold a secret."""
    kinds = [kind for field in model.model_fields.values() for kind in _kinds(field.annotation)]
    if any(issubclass(one, SecretStr | SecretBytes) for one in kinds):
        return True
    return any(is_hiding(one) for one in kinds if issubclass(one, BaseModel) and one is not model)


def _kinds(annotation: Any) -> Iterator[type]:
    """Yield the classes that an annotation names at any depth."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for one in get_args(annotation):
        yield from _kinds(one)
