"""gateway.yaml: what it holds, and every mistake in it at once with its line."""

from pathlib import Path

import pytest

from edge.settings import GatewayConfig, load
from protocols.modbus import ModbusDeviceOptions, ModbusPointOptions
from shared.errors import SettingsError
from shared.model import Point, PointClass, PointType

GOOD = """\
gateway:
  data: keep
  health: {port: 0}
central:
  link: wss://central.test:8081/link
  enrol: https://central.test:8082
outbox:
  commit_window_s: 0.5
devices:
  - name: meter-1
    driver: modbus
    interval_s: 2
    options: {host: 192.0.2.7}
    points:
      - key: meter1/power
        unit: kW
        source: {register: 0, type: float32}
      - key: meter1/on
        type: boolean
        class: high
        source: {register: 5, table: coil, type: bool}
"""


def read(tmp_path: Path, text: str) -> GatewayConfig:
    path = tmp_path / "gateway.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    prefix = f"{tmp_path / 'gateway.yaml'}:"
    assert all(problem.startswith(prefix) for problem in caught.value.problems)
    return [problem.removeprefix(prefix) for problem in caught.value.problems]


def test_a_good_file_becomes_devices_in_the_models_of_their_driver(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    (device,) = config.devices
    assert device.options == ModbusDeviceOptions(host="192.0.2.7")
    assert [source.point for source in device.points] == [
        Point("meter1/power", "kW"),
        Point("meter1/on", "", PointType.BOOLEAN, PointClass.HIGH),
    ]
    assert isinstance(device.points[0].options, ModbusPointOptions)
    assert (device.driver.name, device.interval_s) == ("modbus", 2)
    assert config.file.outbox.commit_window_s == 0.5
    assert config.file.outbox.max_age_s == 90 * 86_400


def test_the_data_folder_lies_beside_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).data == tmp_path / "keep"
    elsewhere = GOOD.replace("data: keep", f"data: {tmp_path / 'far' / 'away'}")
    assert read(tmp_path, elsewhere).data == tmp_path / "far" / "away"


def test_every_mistake_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    other = GOOD[GOOD.index("  - name") :].replace("meter1/", "meter2/").replace("-1", "-2")
    text = other.join(
        (
            GOOD.replace("wss://central", "http://central")
            .replace("commit_window_s: 0.5", "commit_windows_s: 0.5")
            .replace("interval_s: 2", "interval_s: 0")
            .replace("{host: 192.0.2.7}", "{host: 192.0.2.7, prot: 502}")
            .replace("key: meter1/on", "key: meter1/power")
            .replace("register: 5, table", "register: -5, table"),
            "",
        )
    )
    found = problems(tmp_path, text)
    places = sorted(tuple(problem.split(": ")[:2]) for problem in found)
    assert places == [
        ("12", "devices.0.interval_s"),
        ("13", "devices.0.options.prot"),
        ("18", "devices.0.points.1.key"),
        ("21", "devices.0.points.1.source.register"),
        ("5", "central.link"),
        ("8", "outbox.commit_windows_s"),
    ]


def test_an_unknown_driver_is_told_with_those_there_are(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, GOOD.replace("driver: modbus", "driver: modbuss"))
    assert problem.startswith("11: devices.0.driver: ")
    assert "modbus, mqtt, opcua" in problem


def test_a_device_name_is_used_once(tmp_path: Path) -> None:
    device = GOOD[GOOD.index("  - name") :].replace("meter1/", "meter2/")
    assert problems(tmp_path, GOOD + device) == ["22: devices.1.name: 'meter-1' is used twice"]


def test_a_section_that_is_missing_is_told(tmp_path: Path) -> None:
    found = problems(tmp_path, "gateway: {}\n")
    assert {problem.split(": ")[1] for problem in found} == {"central"}


@pytest.mark.parametrize(
    "text", ["", "- a list\n", "gateway: [\n", "a: &x 1\nb: *x\n", "devices: 3\n"]
)
def test_what_is_no_map_of_settings_is_refused(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)


def test_one_device_is_not_configured_twice(tmp_path: Path) -> None:
    again = """\
  - name: meter-2
    driver: modbus
    options: {host: 192.0.2.7, timeout_s: 1}
    points: [{key: meter2/power, source: {register: 0}}]
"""
    (problem,) = problems(tmp_path, GOOD + again)
    assert problem.startswith("24:")
    assert "192.0.2.7:502 unit 1" in problem
    assert "'meter-1'" in problem
    other = again.replace("timeout_s: 1", "unit: 2")
    assert len(read(tmp_path, GOOD + other).devices) == 2


def test_a_secret_that_was_given_is_not_repeated(tmp_path: Path) -> None:
    secret = "correct-horse-battery"
    text = GOOD.replace("{host: 192.0.2.7}", "{host: 192.0.2.7, password: " + secret + "}")
    assert secret not in "\n".join(problems(tmp_path, text))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot be read"):
        load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("text", ["{a: 1}: 2\n", "a: {[1]: {b: 2}: 3}\n", "a: 2026-13-45\n"])
def test_keys_and_values_that_yaml_cannot_hold_are_problems(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)

    with pytest.raises(SettingsError) as raised:
        load(path)

    assert raised.value.problems


def test_a_points_own_report_policy_wins_over_that_of_its_class(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("""
central: {link: wss://c:1/link, enrol: https://c:2}
policies:
  low: {report: {deadband: 0.5, max_silence_s: 600}}
devices:
  - name: m
    driver: modbus
    options: {host: h}
    points:
      - {key: a, class: low, source: {register: 1}}
      - {key: b, class: low, source: {register: 2}, report: {on_change: true}}
      - {key: c, source: {register: 3}}
""")

    low, own, plain = load(path).devices[0].reports

    assert (low.deadband, low.max_silence_s) == (0.5, 600)
    assert (own.on_change, own.deadband) == (True, 0)
    assert plain.is_plain


def test_a_tagged_list_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("central: l\ndevices:\n !devices:\n  - none:\n  -  name: m\nn: m\n", "utf-8")
    with pytest.raises(SettingsError, match="devices"):
        load(path)
