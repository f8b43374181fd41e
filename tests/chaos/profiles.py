"""The profiles a run can have, by name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.chaos.local_profile import LocalProfile
from tests.chaos.profile import Profile
from tests.chaos.stack_profile import StackProfile

PROFILES: Final[Mapping[str, Profile]] = {
    profile.name: profile
    for profile in (
        LocalProfile(),
        StackProfile("dev", ("kafka",), kills=20),
        StackProfile("staging", ("kafka1", "kafka2", "kafka3"), kills=5),
    )
}


def profile_of(folder: Path) -> Profile:
    """Tell the profile of a run from its folder."""
    settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return PROFILES[settings["profile"]]
