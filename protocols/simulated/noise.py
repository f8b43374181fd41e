"""Small repeatable variation: the same for the same seed and moment, on every machine."""

import hashlib
import math
from typing import Final

_MASK: Final = 2**64 - 1


def seed_of(*parts: object) -> int:
    """Make a 64-bit seed from names and numbers."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def noise(seed: int, step: int) -> float:
    """Tell a number in [-1, 1) for a step; neighbours are independent (splitmix64)."""
    mixed = (seed + step * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return (mixed ^ (mixed >> 31)) / 2**63 - 1.0


def wave(seed: int, replayed_us: int, period_s: float) -> float:
    """Tell a slow swing in [-1, 1] with a phase of its own."""
    phase = (seed % 1_000) / 1_000
    return math.sin(2 * math.pi * (replayed_us / (period_s * 1e6) + phase))
