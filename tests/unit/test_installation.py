"""The first file of a new gateway, and its service."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from edge import installation
from edge.settings import load
from shared.errors import OptionsWrong, SettingsError

CENTRAL = ("central.example", 8081, 8082)


def first(folder: Path, **given: object) -> Path:
    path = folder / "gateway.yaml"
    options = {"host": "192.0.2.10"} | given
    document = installation.first_document(CENTRAL, "eastron_sdm630", "main_meter", options)
    installation.write_first(path, document)
    return path


def test_the_first_file_is_good_and_its_owners_alone(tmp_path: Path) -> None:
    path = first(tmp_path, port=1502)
    loaded = load(path)
    assert loaded.file.central.link == "wss://central.example:8081/link"
    assert loaded.devices[0].points[0].point.key == "main_meter/voltage_l1"
    assert loaded.devices[0].options.model_dump()["port"] == 1502
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = first(tmp_path)
    before = path.read_bytes()
    with pytest.raises(SettingsError, match="is there already"):
        first(tmp_path)
    assert path.read_bytes() == before


def test_a_file_that_would_be_refused_is_not_left_behind(tmp_path: Path) -> None:
    document = installation.first_document(
        CENTRAL, "eastron_sdm630", "main_meter", {"host": "192.0.2.10"}
    )
    document["devices"].append(dict(document["devices"][0], points=[]))
    with pytest.raises(SettingsError, match="used twice"):
        installation.write_first(tmp_path / "gateway.yaml", document)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(OptionsWrong, match="host"):
        installation.first_document(CENTRAL, "eastron_sdm630", "main_meter", {})
    with pytest.raises(OptionsWrong, match="eastron_sdm630"):
        installation.first_document(CENTRAL, "no_such_meter", "main_meter", {})


@pytest.mark.parametrize("word", ["host", "=1", "", "host=[1"])
def test_a_word_that_is_no_setting_is_refused(word: str) -> None:
    with pytest.raises(OptionsWrong):
        installation.parsed([word])


def test_values_are_read_as_yaml_reads_them() -> None:
    assert installation.parsed(["unit=3", "host=10.0.0.1", "topic=a=b"]) == {
        "unit": 3,
        "host": "10.0.0.1",
        "topic": "a=b",
    }


def test_every_template_is_listed_with_what_it_needs() -> None:
    lines = {line.split()[0]: line for line in installation.template_lines()}
    assert "--set host=…" in lines["eastron_sdm630"]
    assert len(lines) >= 12


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    path = first(tmp_path)
    text = installation.systemd_unit(load(path), path)
    assert f"-m edge run --config {path}\n" in text
    assert "NoNewPrivileges=yes" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "spine-edge.service"
    unit.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert str(unit) not in done.stderr, done.stderr
    assert "spine-edge.service:" not in done.stderr, done.stderr
