"""What gateway and central agreed on, what is on trial, and a step from one revision to another."""

from dataclasses import dataclass, replace
from typing import Any, Final

from edge.config_store import Revision, State

NOTED_S: Final = 30.0
"""Time is taken off a trial, on disk, in such portions, each before it begins."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """The newest revision on which gateway and central agreed; 0 where there was none."""

    revision: int = 0
    hash: bytes = b""

    def fact(self) -> list[Any]:
        """Write it for the store."""
        return [self.revision, self.hash.hex()]

    @classmethod
    def of(cls, fact: Any) -> "Agreed":
        """Read what `fact` wrote; nothing is no agreement."""
        return cls(int(fact[0]), bytes.fromhex(fact[1])) if fact else cls()


@dataclass(frozen=True, slots=True)
class Trial:
    """A revision of central that is on trial: if the link stays away, `good` comes back.

    `left_s` is how long the link may still stay away after the portion of time that is running out
    now; `agreed` is what was agreed on before.
    """

    number: int
    good: int
    left_s: float
    agreed: Agreed

    def portion_s(self) -> float:
        """Tell how much time is taken off next."""
        return min(NOTED_S, self.left_s)

    def without_portion(self) -> "Trial":
        """Give what is left then."""
        return replace(self, left_s=self.left_s - self.portion_s())

    def fact(self) -> list[Any]:
        """Write it for the store."""
        return [self.number, self.good, self.left_s, self.agreed.fact()]

    @classmethod
    def of(cls, fact: Any) -> "Trial | None":
        """Read what `fact` wrote."""
        if not fact:
            return None
        number, good, left_s, agreed = fact
        return cls(number, good, left_s, Agreed.of(agreed))


@dataclass(frozen=True, slots=True)
class Step:
    """From the revision in force to another one, and what is true from then on."""

    wanted: Revision
    before: State
    agreed: Agreed
    trial: Trial | None
    refused: Agreed

    def facts(self, number: int) -> dict[str, Any]:
        """Write it for the store, which keeps it in one transaction with the revision."""
        trial = self.trial and replace(self.trial, number=number)
        return {
            "agreed": self.agreed.fact(),
            "refused": self.refused.fact(),
            "trial": trial.fact() if trial else None,
        }
