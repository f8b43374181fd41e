"""What our processes wrote into their logs in a run: errors, and what nobody expected."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.chaos.findings import Findings, Kind

TRACEBACK: Final = "Traceback (most recent call last)"
RIVAL: Final = "rival.log"


@dataclass(slots=True)
class Complaints:
    """What was said: errors by process and text, exceptions in full, what the rival did."""

    errors: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    rival: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """Write them for people."""
        told = [f"said {count} times by {text}" for text, count in self.errors.most_common()]
        if self.rival:
            fought = ", ".join(f"{count} {name}" for name, count in sorted(self.rival.items()))
            told.append(f"a writer without a lease fought the others: {fought}")
        return told


def read_complaints(folder: Path) -> Complaints:
    """Read the logs of all our processes in a run folder."""
    complaints = Complaints()
    for path in sorted(folder.glob("*.log")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            _note(complaints, path.name, line)
    return complaints


def examine_complaints(complaints: Complaints, fought: int, findings: Findings) -> None:
    """Let no exception pass that nobody expected; hold the rival's deeds against the least."""
    for text in complaints.unexpected:
        findings.add(Kind.UNEXPECTED, text)
    for deed in ("records", "fenced"):
        if complaints.rival[deed] < fought:
            text = f"{deed} of the writer without a lease: {complaints.rival[deed]}, needs {fought}"
            findings.add(Kind.TOO_SMALL, text)


def _note(complaints: Complaints, name: str, line: str) -> None:
    said = _fields(line)
    if said is None:
        if line.startswith(TRACEBACK):
            complaints.unexpected.append(f"{name}: {line}")
    elif said.get("event") == "tally":
        deeds = {deed: said[deed] for deed in ("records", "fenced")}
        complaints.rival.update(deeds)
    else:
        _note_said(complaints, name, said)


def _note_said(complaints: Complaints, name: str, said: dict[str, Any]) -> None:
    text = f"{name}: {said.get('event')}"
    if said.get("level") in {"error", "critical"}:
        complaints.errors[text] += 1
    if TRACEBACK in str(said.get("exception", "")):
        complaints.unexpected.append(f"{text}: {_last_lines(said['exception'].splitlines())}")


def _last_lines(lines: Iterable[str]) -> str:
    kept: Iterator[str] = (line.strip() for line in lines if line.strip())
    return " / ".join(list(kept)[-3:])


def _fields(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        said = json.loads(line)
    except ValueError:  # torn by a kill
        return None
    return said if isinstance(said, dict) else None
