"""What a check finds wrong: how many readings by kind, with a few examples of each."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

EXAMPLES: Final = 5


class Kind(StrEnum):
    """Everything that fails a run; README.md tells how to read each."""

    LOST = "lost: served, not delivered and in no declared gap"
    SHORT = "lost: committed to the outbox, and neither stored, collapsed, quarantined nor dropped"
    DOUBLED = "doubled: one sample delivered at two times"
    UNEXPLAINED = "unexplained: a good reading that no served sample explains"
    DIFFERENT = "different: the value or quality is not what was served"
    WRONG_TIME = "wrong time: observed_at is not when the sample was served"
    IN_GAP = "in gap: delivered, and inside a gap that says it was not"
    BOOKS = "books: the ledger and central's tables disagree"
    PENDING = "pending: readings wait in the outbox"
    GAP_SECONDS = "gap seconds: more than planned down time explains"
    STOPPED = "stopped: something stood still too long after a server was lost for good"
    UNEXPECTED = "unexpected: a process logged an exception that nobody foresaw"
    TOO_SMALL = "run too small: it proves nothing"


@dataclass(slots=True)
class Findings:
    """Collected by all checks of one run; empty if it passed."""

    counts: Counter[Kind] = field(default_factory=Counter)
    examples: dict[Kind, list[str]] = field(default_factory=dict)

    def add(self, kind: Kind, text: str, count: int = 1) -> None:
        """Note that `count` readings are wrong; a count of 0 notes nothing."""
        if count <= 0:
            return
        self.counts[kind] += count
        known = self.examples.setdefault(kind, [])
        if len(known) < EXAMPLES:
            known.append(text)

    def lines(self) -> list[str]:
        """Write them for people."""
        return [
            line
            for kind, count in self.counts.items()
            for line in (f"FAILED {kind} ({count})", *(f"    {it}" for it in self.examples[kind]))
        ]
