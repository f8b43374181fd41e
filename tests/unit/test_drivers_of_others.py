"""Drivers of other packages: found by entry point, and no harm to the rest if they are broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = '''
from pydantic import BaseModel, ConfigDict, Field

from protocols.driver import DriverType


class Options(BaseModel):
    """Options of a weather station."""

    model_config = ConfigDict(extra="forbid")
    station: str = Field(description="Which station.")


def driver_type() -> DriverType:
    return DriverType(name="weather", device_options=Options, point_options=Options, make=print)
'''

ASK = """
import sys
from protocols import registry
from shared.errors import OptionsWrong
print(*registry.names())
for name in sys.argv[1:]:
    try:
        print(registry.find(name).device_options.__doc__)
    except OptionsWrong as error:
        print(error)
"""


def install(folder: Path, package: str, source: str, *entries: str) -> None:
    (folder / f"{package}.py").write_text(source)
    info = folder / f"{package}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("\n".join(["[spine.drivers]", *entries]))


def ask(folder: Path, *names: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", ASK, *names],
        env={"PYTHONPATH": os.pathsep.join([str(folder), str(Path.cwd())])},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_package_brings_a_driver(tmp_path: Path) -> None:
    install(tmp_path, "skies", DRIVER, "weather = skies:driver_type")

    listed, doc = ask(tmp_path, "weather")

    assert listed.split()[-1] == "weather"
    assert doc == "Options of a weather station."


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import missing_library", "No module named 'missing_library'"),
        ("driver_type = 7", "TypeError"),
        ("def driver_type(): return 7", "does not describe itself"),
        (DRIVER.replace('"weather"', '"other"'), "does not describe itself"),
        ("raise SystemError('broken')", "SystemError: broken"),
    ],
)
def test_a_broken_package_is_named_and_stops_no_other_driver(
    tmp_path: Path, source: str, told: str
) -> None:
    install(tmp_path, "skies", source, "weather = skies:driver_type")

    _, problem, modbus = ask(tmp_path, "weather", "modbus")

    assert problem.startswith("driver 'weather' of skies 1.2 ")
    assert told in problem
    assert "Modbus" in modbus


def test_two_packages_with_one_driver_are_both_named(tmp_path: Path) -> None:
    install(tmp_path, "skies", DRIVER, "weather = skies:driver_type")
    install(tmp_path, "clouds", DRIVER, "weather = clouds:driver_type")

    _, problem = ask(tmp_path, "weather")

    assert "clouds 1.2 and skies 1.2: remove all but one" in problem


def test_a_package_cannot_take_the_place_of_a_driver_of_ours(tmp_path: Path) -> None:
    install(tmp_path, "skies", DRIVER, "modbus = skies:driver_type")

    listed, doc = ask(tmp_path, "modbus")

    assert listed.split().count("modbus") == 1
    assert "Modbus" in doc
