"""What no tracked file may say: places outside the project, and secrets."""

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

# Built from parts, for this file is tracked too.
OUTSIDE = re.compile("|".join([r"\.\./" + "shared", "/" + r"work/(main|shared)", "/root" + "/"]))
SECRETS = re.compile("-----BEGIN " + r"(EC |RSA )?PRIVATE KEY-----\n[A-Za-z0-9+/=]{20}")


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    paths = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_tracked_file_names_a_place_outside_the_project() -> None:
    found = [path for path in tracked() if OUTSIDE.search(path.read_text("utf-8", "replace"))]
    assert found == []


def test_no_tracked_file_holds_a_private_key() -> None:
    found = [path for path in tracked() if SECRETS.search(path.read_text("utf-8", "replace"))]
    assert found == []
