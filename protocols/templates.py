"""Device templates: what a kind of device offers, described once and used for every copy of it.

A template is a YAML file in `templates/` of a driver's folder, or in a folder of the gateway's
owner. Each carries sample frames and what they mean, and the tests read every sample through the
driver itself. Written from public register lists; no template is the maker's own.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from protocols import registry
from shared.errors import OptionsWrong, SettingsError
from shared.model import KEY_LENGTH, KEY_PATTERN, PointClass, PointType
from shared.settings import explain, load_yaml

MAX_POINTS: Final = 2_000

_PLACE: Final = re.compile(r"\{([a-z][a-z_]*)\}")
_KEY: Final = re.compile(KEY_PATTERN)

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]{0,79}$")]
Value = float | str | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(_Part):
    """What differs from one copy of the device to the next, such as its MQTT name."""

    description: str = Field(min_length=1, description="What to enter, and where it is found.")
    default: str = Field("", max_length=200, description="Proposal; empty: it must be given.")


class TemplatePoint(_Part):
    """One point; its key is put behind the device's name."""

    key: str = Field(pattern=KEY_PATTERN, max_length=KEY_LENGTH, description="Key in the device.")
    unit: str = Field("", max_length=40, description="Unit of its values.")
    type: PointType = Field(PointType.NUMBER, description="number, boolean or text.")
    klass: PointClass = Field(PointClass.NORMAL, alias="class", description="How much it matters.")
    source: dict[str, Any] = Field(description="The driver's point options.")


class Sample(_Part):
    """Frames of a device and what they mean: a point's key in the device to its value.

    `registers` is table → first address → words in hexadecimal (Modbus); `messages` are topic and
    payload in order (MQTT). None means that the point has no value then: its reading is bad.
    """

    registers: dict[str, dict[int, str]] = Field({}, description="Words of a Modbus device.")
    messages: tuple[tuple[str, str], ...] = Field((), description="Publications of an MQTT device.")
    means: dict[str, Value] = Field(min_length=1, description="What the points must read.")


class Template(_Part):
    """A kind of device."""

    title: str = Field(min_length=1, max_length=120, description="Vendor and model, for people.")
    kind: str = Field(pattern=r"^[a-z_]{1,40}$", description="meter, inverter, room_sensor, …")
    driver: str = Field(description="Which driver reads it.")
    facts: str = Field(min_length=1, description="Where the addresses are published.")
    notes: str = Field("", max_length=2_000, description="What an installer should know.")
    interval_s: float = Field(10.0, ge=0.01, le=86_400, description="Proposed time between polls.")
    parameters: dict[str, Parameter] = Field({}, description="What one copy needs to be told.")
    options: dict[str, Any] = Field({}, description="The driver's device options it wants set.")
    points: tuple[TemplatePoint, ...] = Field(min_length=1, max_length=MAX_POINTS)
    samples: tuple[Sample, ...] = Field(min_length=1, max_length=20)

    def device(
        self, name: str, options: Mapping[str, Any], parameters: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Make the `devices` entry of one copy, its keys below its name.

        `options` are those of the copy (host, unit, …) and win over the template's. Raises
        `OptionsWrong` if a parameter is missing, unknown, or makes options that the driver refuses.
        """
        given = self._given(parameters or {})
        section = {
            "name": name,
            "driver": self.driver,
            "interval_s": self.interval_s,
            "options": {**_filled(self.options, given), **options},
            "points": [self._point(name, point, given) for point in self.points],
        }
        self._accepted(section)
        return section

    def _given(self, parameters: Mapping[str, str]) -> dict[str, str]:
        unknown = sorted(set(parameters) - set(self.parameters))
        if unknown:
            msg = f"{self.title} has no parameter {', '.join(unknown)}"
            raise OptionsWrong(msg)
        given = {key: parameters.get(key, one.default) for key, one in self.parameters.items()}
        for key, value in given.items():
            if not value:
                msg = f"{self.title} needs {key}: {self.parameters[key].description}"
                raise OptionsWrong(msg)
        return given

    def _point(self, name: str, point: TemplatePoint, given: Mapping[str, str]) -> dict[str, Any]:
        key = f"{name}/{point.key}"
        if not _KEY.match(key) or len(key) > KEY_LENGTH:
            msg = f"{key!r} cannot be a point's key: name the device with letters, digits and _-.:~"
            raise OptionsWrong(msg)
        return {
            "key": key,
            "unit": point.unit,
            "type": point.type.value,
            "class": point.klass.value,
            "source": _filled(point.source, given),
        }

    def _accepted(self, section: Mapping[str, Any]) -> None:
        driver = registry.find(self.driver)
        try:
            driver.device_options.model_validate(section["options"])
            for point in section["points"]:
                driver.point_options.model_validate(point["source"])
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "options"
            msg = f"{self.title}: {place}: {first['msg']}"
            raise OptionsWrong(msg) from error


def _filled(value: Any, given: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _PLACE.sub(lambda found: given.get(found[1], found[0]), value)
    if isinstance(value, dict):
        return {key: _filled(one, given) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(one, given) for one in value]
    return value


def load(path: Path) -> Template:
    """Read one template; raises `SettingsError` with every problem and its line."""
    document = load_yaml(path)
    try:
        return Template.model_validate(document)
    except ValidationError as error:
        raise SettingsError(str(path), list(explain(error, path, document))) from error


@cache
def built_in() -> Mapping[str, Template]:
    """Load the templates that come with SPINE, by id: the name of the file without `.yaml`."""
    return {path.stem: load(path) for path in sorted(_files(Path(__file__).parent))}


def fitting(driver: str, vendor: str, model: str) -> list[str]:
    """List the templates of a driver that a device may be of, by what it says of itself.

    The title must name the vendor, and if it names models (words with a digit), one of them must
    begin the device's.
    """
    told = {word for word in _words(vendor) if len(word) > 2}
    models = _words(model)
    return [
        name
        for name, one in built_in().items()
        if one.driver == driver and told & set(_words(one.title)) and _is_of(one.title, models)
    ]


def _is_of(title: str, models: list[str]) -> bool:
    named = [word for word in _words(title) if any(sign.isdigit() for sign in word)]
    return not named or any(model.startswith(word) for word in named for model in models)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _files(folder: Path) -> Iterator[Path]:
    return folder.glob("*/templates/*.yaml")
