"""How fast the building is played and read in a run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the building is played and read; times in seconds."""

    speed: float = 50.0
    poll_s: float = 0.1
    tick_s: float = 0.1
    publishing_s: float = 0.1
    commit_window_s: float = 0.4
    answer_timeout_s: float = 1.0

    def interval_s(self, protocol: str) -> float:
        """Tell how long at most a working gateway hears nothing new from a device."""
        return {
            "modbus": self.poll_s,
            "opcua": self.publishing_s + self.tick_s,
            "mqtt": self.tick_s,
        }[protocol]
