"""What the proxy does with each frame: drawn from one seed, apart from any I/O."""

import random
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Fate(StrEnum):
    """What becomes of one frame."""

    PASS = "pass"
    LOSE = "lose"
    DOUBLE = "double"
    SWAP = "swap"


@dataclass(slots=True)
class Fates:
    """Draws fates: of all frames, `share` meets one of `kinds`, each as often as the others.

    `is_calm` lets everything pass. What was drawn is counted.
    """

    share: float
    kinds: tuple[Fate, ...] = (Fate.LOSE, Fate.DOUBLE, Fate.SWAP)
    is_calm: bool = False
    counts: Counter[Fate] = field(default_factory=Counter)

    def draw(self, rng: random.Random) -> Fate:
        """Draw one frame's fate; each direction of a connection has an `rng` of its own."""
        drawn = rng.random()
        fate = Fate.PASS
        if not self.is_calm and drawn < self.share:
            fate = self.kinds[int(drawn / self.share * len(self.kinds))]
        self.counts[fate] += 1
        return fate
