"""The gateway installs from wheels alone on a 64-bit Raspberry Pi: nothing is compiled on site."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

LOCK = Path(__file__).parents[2] / "requirements/gateway.lock"
GLIBC = ("2_34", "2_28", "2_26", "2_17")


def tried(machine: str, python: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Let pip work out, without installing, what it would install on that machine."""
    platforms = [f"--platform=manylinux_{glibc}_{machine}" for glibc in GLIBC]
    return subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"),
            *("--dry-run", "--ignore-installed", "--no-deps", "--require-hashes"),
            *("--only-binary=:all:", "--implementation=cp", f"--python-version={python}"),
            *platforms,
            *("--target", str(folder), "--requirement", str(LOCK)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_every_package_of_the_gateway_has_a_wheel_for_aarch64(python: str, tmp_path: Path) -> None:
    done = tried("aarch64", python, tmp_path)

    assert done.returncode == 0, done.stderr


def test_the_check_finds_what_has_no_wheel(tmp_path: Path) -> None:
    done = tried("armv7l", "3.11", tmp_path)

    assert done.returncode != 0
    assert "No matching distribution found" in done.stderr
