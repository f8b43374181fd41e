"""How long to wait before the next try: exponential with full jitter, capped.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog.
"""

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays in seconds that grow to `cap_s` and start over on `reset`; never below `floor_s`."""

    base_s: float = 0.5
    cap_s: float = 30.0
    floor_s: float = 0.1
    rng: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def next_s(self) -> float:
        """Tell how long to wait after one more failure."""
        top = min(self.cap_s, self.base_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return max(self.floor_s, self.rng.uniform(0, top))

    def reset(self) -> None:
        """Forget the failures: something worked."""
        self.failures = 0
