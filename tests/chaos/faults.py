"""The building's timetable of faults of a run, drawn from its seed."""

import random
from typing import Any, Final

QUIET_END_S: Final = 15.0
"""No device fault begins so shortly before the end."""

FAULTS: Final = {
    "meter1": ("silent", "exception", "stuck"),
    "meter3": ("refuse", "nan", "short"),
    "inverter1": ("refuse", "silent", "exception"),
    "vav1": ("silent", "exception", "nan"),
    "room2": ("refuse", "stuck", "nan"),
    "room7": ("silent", "nan"),
}
"""What can go wrong with which device."""


def draw_faults(seed: int, lasts_s: float) -> dict[str, Any]:
    """Draw short faults, the last over well before the end."""
    rng = random.Random(f"{seed}/faults")
    faults = []
    for device, kinds in FAULTS.items():
        at_s = rng.uniform(5.0, 40.0)
        while at_s < lasts_s - QUIET_END_S:
            for_s = rng.uniform(1.0, 3.0)
            fault = rng.choice(kinds)
            faults.append({"device": device, "fault": fault, "at_s": at_s, "for_s": for_s})
            at_s += for_s + rng.uniform(20.0, 60.0)
    return {"faults": faults}
