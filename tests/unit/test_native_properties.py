"""What the launcher writes for Java is read by Java as it was meant."""

import re
from pathlib import Path

import pytest

from deploy.central.native.properties import write_properties

VALUES = ["plain", "/a b/it's", "c:\\d", "größe", "ключ", "𝄞 clef", "a=b:c#d!e"]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_plain_ascii_and_stands_for_itself(tmp_path: Path, value: str) -> None:
    path = tmp_path / "properties"
    write_properties(path, {"name": value})
    text = path.read_bytes().decode("ascii")
    assert read(text) == {"name": value}


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    write_properties(tmp_path / "properties", {"password": "secret"})
    assert (tmp_path / "properties").stat().st_mode & 0o777 == 0o600


def read(text: str) -> dict[str, str]:
    """Read properties as `java.util.Properties` says: UTF-16 units by number, `\\\\` for one."""
    lines = (line.split("=", 1) for line in text.splitlines())
    return {name: _meant(value) for name, value in lines}


def _meant(value: str) -> str:
    units = re.sub(
        r"\\(?:u([0-9a-f]{4})|(.))",
        lambda found: chr(int(found[1], 16)) if found[1] else found[2],
        value,
    )
    return units.encode("utf-16-be", "surrogatepass").decode("utf-16-be")
