"""The gateway's configuration file: what it holds, and every mistake in it at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from edge.aggregate import DAY_S, AggregateSection, aggregate_of
from edge.hidden import masked
from edge.report import ReportSection, policy_of
from edge.writable import WriteSection, write_problems
from protocols import registry
from protocols.driver import DriverType, PointSource
from protocols.mqtt.broker import MqttBroker
from shared.clock import MICROSECONDS
from shared.errors import OptionsWrong, SettingsError
from shared.link import MAX_POINTS
from shared.logs import LogFormat
from shared.model import KEY_LENGTH, KEY_PATTERN, SLUG_PATTERN, Point, PointClass, PointType
from shared.settings import Problem, complaint, load_yaml, problems_in

TopicStart = Annotated[
    str, StringConstraints(pattern=r"^[^+#\x00/]+(/[^+#\x00/]+)*$", max_length=200)
]
Slug = Annotated[str, StringConstraints(pattern=SLUG_PATTERN)]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.\-]{1,253}$")]
DIAGNOSTICS_NAME = "_gateway"
"""Name of the gateway's own device."""

OWN_KEYS = ("_gateway/", "_device/")
"""What the keys of the gateway's own points begin with."""

Key = Annotated[str, StringConstraints(pattern=KEY_PATTERN, max_length=KEY_LENGTH)]


HELD_INTERVALS = 3
"""A polled value is known for so many intervals: one poll may fail and one be late."""


class Section(BaseModel):
    """A section of the file: a key that is not known is an error, not a wish."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HealthSettings(Section):
    """Where the gateway tells of itself over HTTP."""

    host: str = Field("127.0.0.1", description="Address that /healthz, /readyz, /metrics bind.")
    port: int = Field(9100, ge=0, le=65_535, description="Their port; 0 takes a free one.")


class ApiSettings(Section):
    """The local API: how people and programs on site set the gateway up and look at it."""

    enabled: bool = Field(False, description="Whether the local API is served.")
    host: str = Field(
        "127.0.0.1",
        max_length=253,
        description="Address it binds; beyond loopback it is always under TLS, with a certificate "
        "that the gateway makes itself.",
    )
    port: int = Field(9180, ge=0, le=65_535, description="Its port; 0 takes a free one.")
    allowed_hosts: tuple[HostName, ...] = Field(
        (),
        max_length=32,
        description="Names that browsers may call it by, beside the machine's own name, localhost "
        "and addresses.",
    )


class LogSettings(Section):
    """How the gateway logs."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least serious level that is written."
    )
    format: LogFormat = Field("auto", description="`auto` is text on a terminal, JSON elsewhere.")


class DiagnosticsSettings(Section):
    """The gateway's own points, such as `_gateway/NAME/cpu`; they count like any other."""

    enabled: bool = Field(True, description="Whether the gateway has points of its own.")
    interval_s: float = Field(
        60.0, ge=1, le=86_400, description="Time between looks at itself and its devices."
    )


class HomeAssistantSection(MqttBroker):
    """A Home Assistant that is told of the points, through its MQTT broker."""

    client_id: str = Field(
        "", max_length=200, description="Our name at the broker; spine-GATEWAY-home-assistant."
    )
    discovery_prefix: TopicStart = Field(
        "homeassistant", description="Where Home Assistant looks for announcements."
    )
    base: TopicStart = Field("spine", description="Where the states of points are published.")
    points: tuple[str, ...] = Field(
        ("*",), max_length=1_000, description="Keys of the points it is told of; * is any text."
    )
    interval_s: float = Field(
        1.0, ge=0.1, le=3_600, description="Time between two states of a point, the newest each."
    )


class GatewaySection(Section):
    """The gateway itself."""

    data: Path = Field(Path("data"), description="Folder of outbox and keys, beside this file.")
    master_key: Path | None = Field(
        None,
        description="File of the key that seals passwords and the identity, beside this file; else "
        "SPINE_MASTER_KEY, the systemd credential spine-master-key, or master.key in `data`.",
    )
    clock: Literal["kernel", "trusted"] = Field(
        "kernel",
        description="Whether readings are flagged until the kernel says the clock is synchronised.",
    )
    clock_wait_s: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="How long after a boot readings wait, on disk, for the first synchronisation, "
        "to be given their right times; 0: never. A clock that is certainly wrong is awaited "
        "for a day.",
    )
    health: HealthSettings = HealthSettings()
    api: ApiSettings = ApiSettings()
    log: LogSettings = LogSettings()
    diagnostics: DiagnosticsSettings = DiagnosticsSettings()
    home_assistant: HomeAssistantSection | None = Field(
        None, description="A Home Assistant that is told of the points; none if left out."
    )


class CentralSection(Section):
    """Where central is."""

    link: str = Field(
        pattern=r"^wss://", description="The link of central, such as wss://central:8081/link."
    )
    enrol: str = Field(
        pattern=r"^https://", description="Enrolment of central, such as https://central:8082."
    )
    revert_after_s: float = Field(
        600.0,
        ge=0,
        le=86_400,
        description="A configuration of central is taken back if the link stays away so long after "
        "it; 0 never.",
    )


class OutboxSection(Section):
    """How readings are kept until central has them."""

    commit_window_s: float = Field(
        1.0, ge=0.02, le=60, description="A reading is on disk after this time at the latest."
    )
    commit_readings: int = Field(
        5_000, ge=1, le=50_000, description="A commit is made early when so many wait."
    )
    max_bytes: int = Field(
        512 * 1024 * 1024, ge=1024 * 1024, description="The most that pending batches may take."
    )
    max_age_s: float = Field(
        90 * 86_400, ge=60, description="A pending batch older than this is dropped and declared."
    )


class PointSection(Section):
    """One point of a device."""

    key: Key = Field(description="Name of the point, unique in the project: ahu1/supply_temp.")
    unit: str = Field("", max_length=40, description="Unit of its values, as text.")
    type: PointType = Field(PointType.NUMBER, description="number, boolean or text.")
    klass: PointClass = Field(
        PointClass.NORMAL,
        alias="class",
        description="low, normal, high or alert: a full outbox loses low first, alert never.",
    )
    source: dict[str, Any] = Field(description="Where the driver reads it; see the driver.")
    report: ReportSection | None = Field(
        None, description="When it is reported; wins over the policy of its class as a whole."
    )
    aggregate: AggregateSection | None = Field(
        None, description="Which rollups are made of it; wins over the policy of its class."
    )
    write: WriteSection | None = Field(
        None, description="What may be written to it; without this, nothing ever is."
    )


class DeviceSection(Section):
    """One device: one connection of one driver."""

    name: str = Field(pattern=r"^[A-Za-z0-9_\-.]{1,80}$", description="Name, unique in this file.")
    driver: str = Field(description="bacnet, modbus, mqtt, opcua, or one of another package.")
    interval_s: float = Field(
        10.0, ge=0.01, le=86_400, description="Time between polls; unused where a device pushes."
    )
    options: dict[str, Any] = Field(description="The driver's device options.")
    points: tuple[PointSection, ...] = Field(
        min_length=1, max_length=20_000, description="What is read of it."
    )


class PolicySection(Section):
    """What holds for all points of a class that do not say otherwise."""

    report: ReportSection = Field(ReportSection(), description="When its points are reported.")
    aggregate: AggregateSection | None = Field(
        None, description="Which rollups are made of its points; none if it is not there."
    )


class Document(Section):
    """What a gateway reads and how it reports: the part that revisions and central know."""

    policies: dict[PointClass, PolicySection] = Field(
        {}, description="Policies by class of points: low, normal, high, alert."
    )
    devices: tuple[DeviceSection, ...] = Field(
        (), max_length=1_000, description="What the gateway reads."
    )


class GatewayFile(Document):
    """The whole file: the document, and what belongs to this machine alone."""

    gateway: GatewaySection = GatewaySection()
    central: CentralSection
    outbox: OutboxSection = OutboxSection()


@dataclass(frozen=True, slots=True)
class Device:
    """One configured device with its options already in the driver's own models."""

    name: str
    driver: DriverType
    interval_s: float
    options: BaseModel
    points: tuple[PointSource, ...]
    reports: tuple[ReportSection, ...] = ()
    """When each point is reported; empty where every reading is."""
    aggregates: tuple[AggregateSection | None, ...] = ()
    """Which rollups are made of each point; empty where of none."""
    writes: tuple[WriteSection | None, ...] = ()
    """What may be written to each point; empty where nothing."""

    @property
    def is_pushing(self) -> bool:
        """Tell whether the device pushes, and is not polled."""
        return self.driver.is_pushing(self.options)

    def holds_us(self) -> list[int]:
        """Tell how long each point's value is taken for known after it was read."""
        usual_s = DAY_S if self.is_pushing else HELD_INTERVALS * self.interval_s
        stale = [one.stale_s for one in self.reports] or [None] * len(self.points)
        return [int((one or usual_s) * MICROSECONDS) for one in stale]


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """A valid configuration: the plain sections, and the devices ready to be read."""

    file: GatewayFile
    data: Path
    devices: tuple[Device, ...]
    raw: Mapping[str, Any]
    """The file as it was read."""
    master_key: Path | None = None
    path: Path = Path("gateway.yaml")
    """Where the file is."""

    def of_machine(self) -> "GatewayConfig":
        """Give what belongs to this machine: the devices, which take most memory, are let go."""
        file = self.file.model_copy(update={"devices": (), "policies": {}})
        return replace(self, file=file, devices=(), raw={})


def load(path: Path) -> GatewayConfig:
    """Read `gateway.yaml`; raises `SettingsError` with every problem and its line."""
    document = load_yaml(path)
    found = list(_semantic_problems(document))
    try:
        file = GatewayFile.model_validate(document)
    except ValidationError as error:
        found = [*problems_in(error), *found]
        raise _settings_error(path, document, found) from error
    if found:
        raise _settings_error(path, document, found)
    devices = devices_of(file)
    beyond = [*_same_devices(devices), *write_problems(devices)]
    if beyond:
        raise _settings_error(path, document, beyond)
    data, key = file.gateway.data, file.gateway.master_key
    key = (path.parent / key).resolve() if key else None
    return GatewayConfig(file, (path.parent / data).resolve(), devices, document, key, path)


def _settings_error(path: Path, document: Any, problems: Sequence[Problem]) -> SettingsError:
    lines = [complaint(path, document, one.place, one.text) for one in problems]
    return SettingsError(str(path), lines)


def problems_of(document: Any) -> list[Problem]:
    """Find everything that is wrong with a document (see `Document`)."""
    found = list(_semantic_problems(document))
    try:
        valid = Document.model_validate(document)
    except ValidationError as error:
        return [*problems_in(error), *found]
    devices = () if found else devices_of(valid)
    return found or [*_same_devices(devices), *write_problems(devices)]


def devices_of(document: Document) -> tuple[Device, ...]:
    """Put the devices of a valid document into the models of their drivers."""
    return tuple(_device(section, document.policies) for section in document.devices)


def _device(
    section: DeviceSection, policies: Mapping[PointClass, PolicySection] | None = None
) -> Device:
    driver = registry.find(section.driver)
    points = tuple(
        PointSource(
            Point(point.key, point.unit, point.type, point.klass),
            driver.point_options.model_validate(masked(driver.point_options, point.source)),
        )
        for point in section.points
    )
    given_options = masked(driver.device_options, section.options)
    options = driver.device_options.model_validate(given_options)
    by_class = {klass: one.report for klass, one in (policies or {}).items()}
    reports = tuple(policy_of(point.report, point.klass, by_class) for point in section.points)
    rolled = {klass: one.aggregate for klass, one in (policies or {}).items()}
    aggregates = tuple(
        aggregate_of(given.aggregate, point.point, rolled)
        for given, point in zip(section.points, points, strict=True)
    )
    writes = tuple(point.write for point in section.points)
    return Device(
        section.name,
        driver,
        section.interval_s,
        options,
        points,
        reports,
        aggregates,
        writes if any(writes) else (),
    )


def _same_devices(devices: Sequence[Device]) -> Iterator[Problem]:
    """Find what is configured twice: two connections to one device would disturb each other."""
    seen: dict[tuple[str, str], str] = {}
    for at, device in enumerate(devices):
        if device.driver.address is None:
            continue
        address = device.driver.address(device.options)
        first = seen.setdefault((device.driver.name, address), device.name)
        if first != device.name:
            text = f"{address} is the device {first!r} already: put these points there"
            yield Problem(("devices", at, "options"), text)


def _semantic_problems(document: Any) -> Iterator[Problem]:
    """Find what the models cannot see: names used twice, options of drivers, too many points."""
    devices = document.get("devices") if isinstance(document, dict) else None
    yield from _repeats(devices)
    for at, device in _maps(devices):
        if isinstance(device.get("driver"), str):
            yield from _options_problems(at, device)
    points = sum(_count(device.get("points")) for _, device in _maps(devices))
    if points > MAX_POINTS:
        text = f"{points} points; one gateway takes {MAX_POINTS}: use another gateway"
        yield Problem(("devices",), text)


def _repeats(devices: Any) -> Iterator[Problem]:
    names: set[str] = set()
    keys: set[str] = set()
    for at, device in _maps(devices):
        name = device.get("name")
        yield from _repeat(("devices", at, "name"), name, names)
        if name == DIAGNOSTICS_NAME:
            yield Problem(("devices", at, "name"), f"{name!r} is the gateway itself")
        for nth, point in _maps(device.get("points")):
            place, key = ("devices", at, "points", nth, "key"), point.get("key")
            yield from _repeat(place, key, keys)
            if isinstance(key, str) and key.startswith(OWN_KEYS):
                yield Problem(place, f"keys that begin with {key.split('/')[0]}/ are the gateway's")


def _repeat(place: tuple[str | int, ...], value: Any, seen: set[str]) -> Iterator[Problem]:
    if not isinstance(value, str):
        return
    if value in seen:
        yield Problem(place, f"{value!r} is used twice")
    seen.add(value)


def _maps(several: Any) -> Iterator[tuple[int, Any]]:
    """Number the maps of what should be a list of maps."""
    for at, one in enumerate(several if isinstance(several, list | tuple) else []):
        if isinstance(one, dict):
            yield at, one


def _count(several: Any) -> int:
    return len(several) if isinstance(several, list | tuple) else 0


def _options_problems(at: int, device: Any) -> Iterator[Problem]:
    try:
        driver = registry.find(device["driver"])
    except OptionsWrong as error:
        yield Problem(("devices", at, "driver"), str(error))
        return
    options = device.get("options")
    if isinstance(options, dict):
        yield from _check(driver.device_options, options, ("devices", at, "options"))
    for nth, point in _maps(device.get("points")):
        if isinstance(point.get("source"), dict):
            place = ("devices", at, "points", nth, "source")
            yield from _check(driver.point_options, point["source"], place)


def _check(model: type[BaseModel], value: Any, place: tuple[str | int, ...]) -> Iterator[Problem]:
    try:
        model.model_validate(masked(model, value))
    except ValidationError as error:
        yield from problems_in(error, place)
